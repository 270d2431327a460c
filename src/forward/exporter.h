/* The exporter's inside, shared by exporter.c (what happens to closed batches), exporter_offer.c
 * (what comes in) and exporter_life.c (create, stop, destroy). */
#ifndef TW_FORWARD_EXPORTER_H
#define TW_FORWARD_EXPORTER_H

#include "batch.h"
#include "retry.h"

struct tw_exporter {
	const struct tw_dest_opts *opts;
	char name[64]; /* for the log, escaped */
	struct tw_transport transport;
	const struct tw_clock *clock;
	void (*on_room)(void *ctx);
	void *ctx;
	uint64_t queue_bytes_max;
	uint64_t batch_bytes, batch_age_ns;
	uint32_t in_flight_max;

	struct tw_out_batch *open;    /* NULL, or with spans in it */
	struct tw_batch_list queued;  /* QUEUED, oldest first; those that are coded come first */
	struct tw_out_batch *uncoded; /* the first of queued that is not */
	struct tw_batch_list backing_off, answered;
	uint32_t sending;
	struct tw_buf spare;
	struct tw_backoff backoff;
	struct tw_gate gate;

	uint64_t now_ns;       /* the latest that was passed in */
	uint64_t held_bytes;   /* of all batches */
	uint64_t wanted_bytes; /* the smallest offer refused since the last on_room; 0: none */
	bool advancing, transport_busy, stopping;
	bool hurried; /* a flush has cut the back-offs short, and nobody has answered since */

	struct tw_exporter_stats stats;
};

size_t tw_exporter_spare_max(const struct tw_exporter *x);
void tw_exporter_hold(struct tw_exporter *x, int64_t bytes); /* more, or less */
void tw_exporter_enqueue(struct tw_exporter *x, struct tw_out_batch *b, uint64_t now_ns);
void tw_exporter_close_open(struct tw_exporter *x, uint64_t now_ns);
/* Its spans are lost, or it is delivered: the batch ends here, off all lists. */
void tw_exporter_end_lost(struct tw_exporter *x, struct tw_out_batch *b, enum tw_lost why);
void tw_exporter_settle_all(struct tw_exporter *x, uint64_t now_ns); /* what was answered */
bool tw_exporter_has_room(const struct tw_exporter *x, uint64_t bytes);

#endif
