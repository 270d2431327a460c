/* Exporters: what is kept goes out to the destinations, in batches, with retry.
 *
 * One tw_exporter per worker and destination, owned by that worker; the file destination has one
 * writer thread for all. A kept trace is offered; the exporter copies its spans into the open batch
 * (the only copy of a kept span) and says TAKEN, or FULL when its queue has no room. A batch closes
 * by size or age, waits in the queue, is sent, and ends as forwarded or lost. The life of a batch:
 * OPEN → QUEUED → SENDING → (BACKING_OFF → SENDING)* → DONE.
 *
 * The exporter knows no socket: a tw_transport sends (OTLP/gRPC, OTLP/HTTP, file, or a test's
 * script) and answers. Time is passed in with tw_exporter_tick. Memory: queue_bytes_max a
 * destination, divided by the workers; open, queued and sending batches count, as compressed. A
 * batch that waits has at most a quarter of slack behind its bytes.
 *
 * Only one thing tells the exporter that a backend is well: an answer. From a retryable failure to
 * the next answer one batch at a time is tried, at the pace of the back-off, whatever the queue
 * holds. */
#ifndef TW_FORWARD_H
#define TW_FORWARD_H

#include <uv.h>

#include "tw/base/budget.h"
#include "tw/base/buf.h"
#include "tw/base/clock.h"
#include "tw/base/counter.h"
#include "tw/net.h"
#include "tw/wire.h"

enum tw_dest_kind { TW_DEST_FILE, TW_DEST_OTLP_GRPC, TW_DEST_OTLP_HTTP };
enum tw_when_full { TW_FULL_DEFAULT, TW_FULL_REFUSE, TW_FULL_DROP };
#define TW_DEST_HEADERS_MAX 16u

struct tw_dest_opts {
	char *name;
	enum tw_dest_kind kind;
	char *target; /* path, HOST:PORT or URL, as written */
	char *header_names[TW_DEST_HEADERS_MAX],
	    *header_values[TW_DEST_HEADERS_MAX]; /* values are secrets */
	uint32_t header_count;
	struct tw_tls_opts tls;
	enum tw_coding
	    compression; /* identity, gzip, zstd; default gzip for network, identity for file */
	uint64_t queue_bytes_max;    /* all workers together; 0: auto */
	enum tw_when_full when_full; /* default: refuse for the only destination, drop for others */
	uint64_t retry_for_ns;       /* TW_NEVER: until drained */
	uint64_t batch_bytes;        /* close a batch at this size: 512 KiB */
	uint64_t batch_age_ns;       /* or at this age: 50 ms */
	uint64_t timeout_ns;         /* one request: 10 s */
	uint64_t backoff_first_ns, backoff_most_ns; /* 1 s × 1.5 → 30 s, ± 50 % jitter */
};

/* ---- transport ---- */
enum tw_send_outcome {
	TW_SENT,           /* taken; see rejected */
	TW_SEND_RETRY,     /* try again, after retry_after_ms where it is not UINT64_MAX */
	TW_SEND_PERMANENT, /* the backend will never take it */
	TW_SEND_STOPPED,   /* the transport was stopped first */
};
struct tw_send_result {
	enum tw_send_outcome outcome;
	uint64_t retry_after_ms;
	uint64_t rejected; /* spans of a partial success */
	const char *text;  /* why, for the log, or NULL; with TW_SENT: what the backend warns of;
	                      valid during the call */
	bool unreadable;   /* TW_SENT, with an answer that makes no sense */
};
struct tw_batch { /* what a transport is given */
	struct tw_slice
	    request; /* an ExportTraceServiceRequest in `coding`; lives until done is called */
	uint64_t spans;
	enum tw_coding coding;
};
typedef void (*tw_send_done)(void *ctx, const struct tw_send_result *r);
struct tw_transport {
	/* Begins to send; done comes exactly once, possibly from within. false: busy, ask again at
	 * the next tick. */
	bool (*send)(void *self, const struct tw_batch *b, tw_send_done done, void *ctx);
	void (*stop)(void *self); /* open sends end with TW_SEND_STOPPED */
	bool (*stopped)(void *self);
	void (*destroy)(void *self);
	void *self;
	enum tw_coding
	    coding; /* what it wants its requests in; identity where compressing failed */
};
/* Network transports, on the worker's loop. headers, tls etc. from o, which must outlive it.
 * target: HOST:PORT or http[s]://HOST:PORT for gRPC; a URL for HTTP, to which /v1/traces is
 * appended unless it ends so. tls is used for https and when o->tls.enabled. TW_EINVAL: a target or
 * header that cannot be; TW_ENOMEM. After stop, turn the loop until stopped, then destroy. */
int tw_transport_otlp_create(uv_loop_t *loop, const struct tw_dest_opts *o, struct tw_tls *tls,
                             const struct tw_clock *clock, struct tw_transport *out,
                             struct tw_error *err);

/* The file writer: one thread; lines of OTLP/JSON, appended; reopened on request. */
struct tw_file;
struct tw_file_ops { /* the disk, passed in; NULL members: the system's */
	int (*open)(void *ctx, const char *path);
	int64_t (*write)(void *ctx, int fd, const void *p, size_t n);
	int (*close)(void *ctx, int fd);
	void *ctx;
	int64_t (*size)(void *ctx, int fd); /* −1: not a regular file */
	int (*truncate)(void *ctx, int fd, uint64_t size);
}; /* each returns −1 and sets errno, as the system calls do; called on the writer's thread, open
      also at creation */
struct tw_file *tw_file_create(const char *path, const struct tw_file_ops *ops,
                               struct tw_error *err); /* opens at once: TW_EIO */
void tw_file_reopen(struct tw_file *f);               /* asynchronously [any] */
void tw_file_destroy(
    struct tw_file **f); /* writes what is queued; after its transports were stopped [boot] */
/* A transport for one worker; done is called on that worker's loop (uv_async), retryable while the
 * disk refuses (ENOSPC, EIO, EACCES); a line that was written in part is completed or taken back
 * (truncated) so that the file always holds whole lines. */
int tw_transport_file_create(struct tw_file *f, uv_loop_t *loop, struct tw_transport *out);

/* ---- exporter ---- */
enum tw_lost {
	TW_LOST_QUEUE_FULL,
	TW_LOST_PERMANENT,
	TW_LOST_RETRY_EXHAUSTED,
	TW_LOST_REJECTED,
	TW_LOST_SHUTDOWN,
	TW_LOST_COUNT
};
extern const char
    *const tw_lost_names[TW_LOST_COUNT]; /* "queue_full", "permanent_error", "retry_exhausted",
                                            "rejected", "shutdown" */

#define TW_DELAY_BOUNDS 12u
extern const uint64_t tw_delay_bound_ns[TW_DELAY_BOUNDS];           /* inclusive, rising */
extern const char *const tw_delay_bound_names[TW_DELAY_BOUNDS + 1]; /* in seconds; "+Inf" last */

struct tw_exporter_stats { /* one writer; spans unless said; taken = forwarded + sum(lost) + queued
	                    */
	tw_counter taken, forwarded, lost[TW_LOST_COUNT], queued;
	tw_counter queued_bytes;
	tw_counter batches_sent;       /* batches that ended as taken by the backend */
	tw_counter retries;            /* sends of a batch that had failed before */
	tw_counter sends_failed;       /* sends that ended otherwise, retryable or not */
	tw_counter answers_unreadable; /* successes with an answer that makes no sense */
	/* traces that were taken and acknowledged, by the time between: a histogram */
	tw_counter delay[TW_DELAY_BOUNDS + 1], delay_ns_sum;
};
enum tw_offer { TW_OFFER_TAKEN, TW_OFFER_FULL };

struct tw_exporter;
struct tw_exporter_config {
	const struct tw_dest_opts *opts;
	struct tw_transport transport; /* owned from now on */
	uint64_t queue_bytes_max;      /* this worker's part */
	uint64_t seed;                 /* of the jitter */
	uint32_t in_flight_max;        /* batches being sent at once: 4 */
	void (*on_room)(void *ctx); /* after FULL there is room again; from within tick, flush, or
	                               done where clock is set */
	void *ctx;
	const struct tw_clock *clock; /* answers are then acted on as they come; NULL: at the next
	                                 tick (next_ns says: now) */
};
struct tw_exporter *tw_exporter_create(
    const struct tw_exporter_config *c); /* NULL: no memory; the transport stays the caller's */
/* Copies one kept trace's spans, or a part of them, into the open batch, or, where they are more
 * than a batch, into several of their own. spans is reordered. decided_ns: since when the trace is
 * on its way. FULL (no room, or no memory) changes nothing. Never sends: tick does. A trace larger
 * than the queue is taken by an empty one. [owner] */
enum tw_offer tw_exporter_offer(struct tw_exporter *x, struct tw_emit_span *spans, size_t count,
                                const struct tw_emit_patch *patch, uint64_t decided_ns,
                                uint64_t now_ns);
/* Counts spans as lost without taking them (when_full: drop). They count as taken, too. [owner] */
void tw_exporter_lose(struct tw_exporter *x, uint64_t spans, enum tw_lost why);
void tw_exporter_tick(struct tw_exporter *x,
                      uint64_t now_ns); /* closes, sends, retries what is due [owner] */
/* The same, but compresses nothing. [owner] */
void tw_exporter_tick_briefly(struct tw_exporter *x, uint64_t now_ns);
bool tw_exporter_is_to_code(const struct tw_exporter *x); /* the next tick compresses a batch */
uint64_t tw_exporter_next_ns(
    const struct tw_exporter *x); /* when tick has something to do; may lie in the past */
void tw_exporter_flush(struct tw_exporter *x,
                       uint64_t now_ns); /* closes the open batch; back-offs are cut short, once
                                            until the next answer */
bool tw_exporter_empty(const struct tw_exporter *x);
/* Ends everything: what is not delivered is lost{shutdown}. Then destroy once tw_exporter_stopped.
 * [owner] */
void tw_exporter_stop(struct tw_exporter *x);
bool tw_exporter_stopped(const struct tw_exporter *x);
void tw_exporter_destroy(struct tw_exporter **x);
const struct tw_exporter_stats *tw_exporter_stats(const struct tw_exporter *x); /* [any] */

#endif
