/* A worker without its sockets: scan, match, admit, count, route, buffer, decide, hand out.
 *
 * Everything here is deterministic: time, keys and transports are passed in, so that a scenario
 * runs several cores in one thread and in virtual time, and gets the same decisions as the process
 * does.
 *
 * Threads: a core belongs to its worker; calls are [owner] unless they say [any]. Cores talk
 * through rings: in[from] brings batches from the core `from`, back[from] brings its own batches
 * back from the owner `from`. The argument for the hand-over: a batch and its ticket are written by
 * the receiver before the put, only read by the owner until it puts the batch back, and touched
 * again by the receiver after that take. So the ticket needs neither lock nor reference counter:
 * `pending` is the receiver's own.
 *
 * Books are published before a request's batches are handed out and at the end of every batch and
 * tick, as one state (a sequence lock). */
#ifndef TW_ENGINE_CORE_H
#define TW_ENGINE_CORE_H

#include "generation.h"
#include "tw/base/limits.h"
#include "tw/base/ring.h"
#include "tw/buffer.h"
#include "tw/forward.h"
#include "tw/receive.h"
#include "tw/wire.h"

#define TW_RING_SIZE 1024u

enum tw_refusal {
	TW_REFUSE_BUFFER,
	TW_REFUSE_RING,
	TW_REFUSE_MEMORY,
	TW_REFUSE_DRAIN,
	TW_REFUSE_COUNT
};
extern const char *const tw_refusal_names[TW_REFUSE_COUNT];

/* Per rule: decisions and spans. */
struct tw_rule_row {
	uint64_t traces[TW_REASON_COUNT]
	               [2]; /* [reason][kept]; late: spans, not traces, are in spans_* only */
	uint64_t spans_kept, spans_let_go;
};
#define TW_RULE_ROW_WORDS (sizeof(struct tw_rule_row) / sizeof(uint64_t))

struct tw_dest_books {
	uint64_t kept;    /* spans that are this destination's */
	uint64_t pending; /* of them, still in the log only */
	uint64_t taken, forwarded, queued, lost[TW_LOST_COUNT];
	uint64_t queued_bytes, batches, retries, failed;
};

/* One worker's books: 64-bit words only, published as one state. Spans unless said. */
struct tw_core_books {
	uint64_t received, accepted;
	uint64_t rejected[TW_REJECT_COUNT];
	uint64_t refused[TW_REFUSE_COUNT];
	uint64_t malformed_requests;
	uint64_t handed;         /* put into rings or given to itself */
	uint64_t received_bytes; /* of bodies that were admitted */
	uint64_t tickets;        /* gauge: requests not answered yet */
	struct tw_template_stats templates;
	struct tw_shard_stats shard;
	struct tw_dest_books dest[TW_DESTINATIONS_MAX];
};
#define TW_BOOK_WORDS (sizeof(struct tw_core_books) / sizeof(uint64_t))

struct tw_core;
struct tw_ticket;

struct tw_batch_ref { /* the spans of one request that belong to one owner */
	struct tw_ticket *ticket;
	const uint32_t *idx;
	uint32_t n;
	uint32_t from; /* the receiving core */
};

struct tw_core_shared { /* what all cores share; outlives them */
	uint32_t workers;
	struct tw_hash_key key;
	const struct tw_clock *clock;
	struct tw_pool *pool;
	struct tw_red *red;
	struct tw_rulebook *book;
	struct tw_budget
	    *views; /* bytes of the requests' views in flight: part of the bodies' budget */
	struct tw_buffer_opts buffer;
	uint64_t templates_bytes_max;               /* of a core */
	_Atomic(struct tw_generation *) generation; /* the newest */
	struct tw_generation *_Atomic live[4]; /* by number & 3: the ones that may still be met */
	struct tw_core *cores[TW_WORKERS_MAX];
	const struct tw_dest_opts *dests;
	uint32_t dest_count;
	uint32_t spans_max;
	_Atomic bool draining;
	void (*wake)(void *ctx, uint32_t core); /* something lies in a ring of that core [any] */
	void *wake_ctx;
};

struct tw_core_waiting {
	struct tw_kept *kept;
	uint64_t decided_ns;
};

struct tw_core_dest {
	struct tw_exporter *exporter;
	struct tw_core_waiting
	    *fifo; /* kept traces that wait in the log, oldest at head; power-of-two ring */
	uint32_t head, count, cap;
	uint32_t head_done;     /* spans of the first that the exporter has already */
	bool full;              /* it took no more when it was last asked */
	bool refuse;            /* when_full */
	uint64_t kept, pending; /* spans */
};

struct tw_core {
	struct tw_core_shared *s;
	uint32_t index;
	struct tw_shard *shard;
	struct tw_red_worker *red;
	struct tw_templates *templates;
	struct tw_ring **in, **back; /* [from] */
	uint32_t *out;               /* [owner]: batches that are not back yet */
	struct tw_core_taken {       /* [from]: a batch of which a part is in the shard */
		struct tw_batch_ref *batch;
		uint32_t done;
	} * taken;
	struct tw_ticket *work, **work_end; /* large requests, committed in steps */
	uint64_t rematches, rematches_seen; /* spans matched again; when a batch was last added */
	bool rematching; /* some were with that batch, or the rules have changed since */
	bool coding; /* this turn's poll and tick only compress; the one before was long already */
	uint32_t feed_left; /* spans that may yet be copied for destinations in this turn */
	struct tw_ticket *free_tickets;
	uint32_t free_count;
	struct tw_generation *gen;             /* adopted */
	const struct tw_generation *batch_gen; /* while tw_shard_add runs */
	const struct tw_request *batch_req;    /* likewise */
	_Atomic uint32_t adopted;              /* its number, for engine.c */
	_Atomic uint32_t tickets_of[4];        /* tickets in flight by generation & 3 */
	uint64_t now_ns;
	struct tw_core_dest dest[TW_DESTINATIONS_MAX];
	struct tw_request one,
	    again; /* scratch: a span scanned by itself; the same from within an add */
	struct tw_kept_span *kept_spans;
	struct tw_emit_span *emit_spans;
	uint32_t kept_cap;
	struct tw_core_books books; /* working copy, plain */
	struct tw_rule_row *rows;   /* working copy */
	uint64_t dirty[TW_RULE_IDS_MAX / 64];
	/* Which cores have put something into in[] or back[] since they were last looked into: so a
	 * look costs what lies there, not a cache line of every other core's. Others write. */
	_Alignas(64) _Atomic uint64_t mail[TW_WORKERS_MAX / 64];
	/* published; other threads read from here on */
	_Alignas(64) struct tw_seq seq;
	tw_counter pub[TW_BOOK_WORDS];
	tw_counter *pub_rows;
};

/* transports: one per destination; *taken of them, from the first on, belong to the core on return.
 * 0 or TW_ENOMEM: then *out may be a half-made core, to be stopped and destroyed like a whole one.
 * [boot] */
int tw_core_create(struct tw_core_shared *s, uint32_t index, const struct tw_transport *transports,
                   uint64_t seed, uint32_t *taken, struct tw_core **out);
void tw_core_destroy(struct tw_core **c); /* exporters must be stopped; transports, too */

/* A request: scan, match, admit, count, route. The body is taken. done as in struct tw_sink. */
void tw_core_submit(struct tw_core *c, struct tw_body *body, tw_sink_done done, void *ctx);
/* Takes a bite of what lies in the rings and a step of a large request; true: there was something.
 */
bool tw_core_poll(struct tw_core *c);
/* Decides what is due, feeds and ticks the exporters, a bounded piece of each. true: more is due at
 * once. so_far_ns: how long this turn has been; a long one leaves compressing to the next. */
bool tw_core_tick(struct tw_core *c, uint64_t so_far_ns);
/* Work is left that waits for neither time nor anybody else: poll and tick in the next turn. */
bool tw_core_busy(const struct tw_core *c);
uint64_t tw_core_next_ns(const struct tw_core *c); /* when a tick is needed */
/* Drain, after every core's tickets are at zero: decides a quantum; true: more to decide. */
bool tw_core_drain(struct tw_core *c);
void tw_core_flush(struct tw_core *c);       /* exporters: close batches, cut back-offs short */
bool tw_core_empty(const struct tw_core *c); /* nothing open, kept or queued */
void tw_core_stop(struct tw_core *c);        /* what is not delivered is lost{shutdown} */
bool tw_core_stopped(const struct tw_core *c);
uint64_t tw_core_lost_at_stop(const struct tw_core *c); /* spans; once stopped and empty */
uint64_t tw_core_tickets(const struct tw_core *c);      /* in flight */
/* Copies the published books; rows has room for `rules` rows. [any] */
void tw_core_books_read(struct tw_core *c, struct tw_core_books *books, struct tw_rule_row *rows,
                        uint32_t rules);

#endif
