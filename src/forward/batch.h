/* A batch: one export request on its way to one destination, and the lists that it goes through.
 * Owned by its exporter. */
#ifndef TW_FORWARD_BATCH_H
#define TW_FORWARD_BATCH_H

#include "delay.h"

enum tw_batch_state {
	TW_BATCH_OPEN,
	TW_BATCH_QUEUED,
	TW_BATCH_SENDING,
	TW_BATCH_ANSWERED,
	TW_BATCH_BACKING_OFF
};

struct tw_out_batch {
	struct tw_out_batch *next;
	struct tw_exporter *exporter;
	enum tw_batch_state state;
	struct tw_buf request; /* in `coding` */
	enum tw_coding coding;
	bool coded; /* compressed, or found not to need it */
	uint64_t spans;
	struct tw_delay delay; /* of the traces that are whole with this batch */
	uint64_t opened_ns, closed_ns;
	uint64_t first_sent_ns;       /* valid when tries > 0 */
	uint64_t due_ns;              /* BACKING_OFF: not before */
	uint32_t tries;               /* retryable failures */
	uint32_t round;               /* of the gate, when it is a probe */
	enum tw_send_outcome outcome; /* ANSWERED */
	uint64_t retry_after_ms, rejected;
	bool unreadable, has_text;
	char text[160]; /* escaped for the log */
};

/* `spare` is a buffer to be used again, its n 0; it is taken. NULL: no memory, and spare is
 * untouched. */
struct tw_out_batch *tw_batch_create(struct tw_exporter *x, struct tw_buf *spare, uint64_t now_ns);
/* Frees; an uncompressed buffer of up to spare_max bytes becomes the spare if there is none. */
void tw_batch_destroy(struct tw_out_batch *b, struct tw_buf *spare, size_t spare_max);
/* Appends a trace's spans, or nothing: TW_ENOMEM leaves the batch as it was. */
int tw_batch_append(struct tw_out_batch *b, struct tw_emit_span *spans, size_t count,
                    const struct tw_emit_patch *patch);
/* Compresses; where that fails the batch goes out as it is. The old buffer becomes the spare. */
void tw_batch_code(struct tw_out_batch *b, enum tw_coding coding, struct tw_buf *spare,
                   size_t spare_max);
/* Gives memory behind the bytes back when it is over a quarter of them. */
void tw_batch_trim(struct tw_out_batch *b);

struct tw_batch_list {
	struct tw_out_batch *first, **end;
};
void tw_batch_list_init(struct tw_batch_list *l);
void tw_batch_list_put(struct tw_batch_list *l, struct tw_out_batch *b);   /* at the end */
void tw_batch_list_unget(struct tw_batch_list *l, struct tw_out_batch *b); /* at the front */
struct tw_out_batch *tw_batch_list_take(struct tw_batch_list *l); /* the first; NULL: empty */
void tw_batch_list_remove(struct tw_batch_list *l,
                          struct tw_out_batch **at); /* at: the link that points to it */

#endif
