/* The trace buffer: one shard per worker, one pool of segments for all.
 *
 * States of a trace: OPEN (spans arrive) → DUE (a deadline passed, or memory, size, drain) →
 * DECIDED (ops->decide was asked; the verdict is remembered) → GONE (let go at once; or kept, and
 * released by every destination). tw_shard_add makes OPEN, tw_shard_tick makes DUE and DECIDED,
 * tw_kept_release makes GONE.
 *
 * Threads: a shard belongs to one worker; every call is [owner] unless it says [any]. The pool and
 * the gauges are shared. Nothing is allocated, zeroed or locked per span. Time and hashing keys are
 * passed in.
 *
 * Memory: segments of 1 MiB, kept for reuse, records, tables and wheels are reserved from one
 * budget of bytes_max (at least 4 MiB a shard). Past it there may be, for a while,
 *   bytes_max / 32 and 2 MiB a shard: fairness between shards, and what the wheel takes unasked;
 *   where kept traces pin all the rest: what was admitted and not yet appended, at most twice its
 *   bytes and, for spans whose heads don't fit beside them into 1 MiB, a segment that does;
 *   a chunk of 48 KiB of records a shard.
 * The verdict memory is apart, fixed at boot. */
#ifndef TW_BUFFER_H
#define TW_BUFFER_H

#include "tw/base/clock.h"
#include "tw/base/counter.h"
#include "tw/model/trace.h"

struct tw_pool;
struct tw_shard;
struct tw_kept; /* a kept trace: lives in the log until all its destinations released it */

struct tw_buffer_opts {
	uint64_t bytes_max;         /* in-flight spans, all shards together */
	uint32_t trace_spans_max;   /* spans of one trace before it is decided by size; at most 10
	                               million */
	uint64_t trace_bytes_max;   /* bytes, likewise; at most 2 GiB */
	uint64_t verdict_bytes_max; /* all shards together */
	uint64_t verdict_keep_ns;
};

/* NULL: no memory. [boot] */
struct tw_pool *tw_pool_create(const struct tw_buffer_opts *o, uint32_t shards);
void tw_pool_destroy(struct tw_pool **p); /* after its shards [boot] */

/* Admission: may spans of `bytes` in all (the sum of their bytes_n) enter now? True reserves; the
 * reservation is consumed as the spans are appended (tw_shard_add) or given back (tw_pool_unadmit).
 * False: what kept traces pin, plus what is reserved, leaves no room that deciding early could
 * make, or holes between what they pin have taken the memory past its budget; the request is to be
 * refused retryably. Always true while nothing is pinned or reserved. Lock-free. [any] */
bool tw_pool_admit(struct tw_pool *p, uint64_t bytes, uint32_t spans);
void tw_pool_unadmit(struct tw_pool *p, uint64_t bytes, uint32_t spans);
/* Less than a sixteenth of the room is left, so that the next large request may be refused. [any]
 */
bool tw_pool_full(const struct tw_pool *p);

struct tw_shard_ops {
	/* A trace is due: fill *v. */
	void (*decide)(void *ctx, const struct tw_trace_view *t, struct tw_verdict *v);
	/* It was let go; its bytes are dead on return. */
	void (*let_go)(void *ctx, const struct tw_trace_view *t, const struct tw_verdict *v);
	/* It is kept: v->destinations says for whom; each of them ends with tw_kept_release (also
	 * from within). */
	void (*keep)(void *ctx, struct tw_kept *k, const struct tw_trace_view *t,
	             const struct tw_verdict *v);
	/* A span after the decision. *v is the remembered verdict; for one that was let go, may
	 * upgrade *v to keep (then this span and its later siblings are kept). */
	void (*late)(void *ctx, const struct tw_span *s, struct tw_verdict *v);
	/* The span was matched with another generation than its trace's: fill mask with
	 * `generation`'s bits. */
	void (*rematch)(void *ctx, uint32_t generation, struct tw_slice resource_head,
	                struct tw_slice scope_head, struct tw_slice span,
	                uint64_t mask[TW_MASK_WORDS]);
};

struct tw_shard_config {
	struct tw_pool *pool;
	struct tw_buffer_opts opts;
	uint32_t index, shards;
	struct tw_hash_key key; /* the one that filled tw_span.hash: tw_hash_u64x2(key, id) */
	const struct tw_shard_ops *ops;
	void *ctx;
	uint64_t now_ns; /* monotonic */
};
struct tw_shard *tw_shard_create(const struct tw_shard_config *c); /* NULL: no memory [boot] */
void tw_shard_destroy(struct tw_shard **s);

/* How long traces of a generation wait. Must be set for a generation before its first span; two
 * generations live. When a third begins, traces of the oldest are re-matched (ops->rematch) to the
 * newest. */
void tw_shard_set_wait(struct tw_shard *s, uint32_t generation, uint64_t root_ns, uint64_t idle_ns,
                       uint64_t most_ns);

/* Takes spans idx[0 … n−1] of req (admitted). Everything is copied into the log; req may go after
 * the return. Never fails: short of memory it decides its oldest traces now. generation: of the
 * masks in req. */
void tw_shard_add(struct tw_shard *s, const struct tw_request *req, const uint32_t *idx, uint32_t n,
                  uint32_t generation, uint64_t now_ns);

/* Decides what is due, at most about `most` traces; true: more are due (call again). Compacts a
 * little. */
bool tw_shard_tick(struct tw_shard *s, uint64_t now_ns, uint32_t most);
uint64_t tw_shard_next_ns(
    const struct tw_shard *s); /* when something may be due; TW_NEVER: nothing is held */
/* Decides every open trace, reason drain, at most about `most` of them; true: more are left. */
bool tw_shard_drain(struct tw_shard *s, uint64_t now_ns, uint32_t most);

/* ---- kept traces ---- */
struct tw_kept_span {
	struct tw_slice resource_head, scope_head, bytes;
	uint64_t resource_key, scope_key; /* equal within this trace ⇔ same head */
	uint32_t tracestate_off; /* where its trace_state text lies in bytes; see tracestate_n */
	uint32_t tracestate_n;   /* 0: none */
	uint64_t start_ns, duration_ns, span_id;
	uint32_t series;
	uint8_t kind, status;
};
const struct tw_trace_view *tw_kept_view(const struct tw_kept *k);
const struct tw_verdict *tw_kept_verdict(const struct tw_kept *k);
uint32_t tw_kept_span_count(const struct tw_kept *k);
uint64_t tw_kept_bytes(const struct tw_kept *k);
/* Copies the descriptions of spans at … at + n − 1, in order of arrival, into out. Pointers hold
 * until the next call on the shard. They are a list, the newest first, so a span after them costs a
 * look, too; but for the part before one that was asked for, which is found at once: a large trace
 * is best taken from its end to its begin. false: no memory for spans that are stored packed. */
bool tw_kept_spans(struct tw_kept *k, uint32_t at, uint32_t n, struct tw_kept_span *out);
/* Destination d is done with it (took the bytes, or lost them). At the last one the trace is GONE.
 */
void tw_kept_release(struct tw_kept *k, uint32_t destination);

/* ---- gauges and books ---- */
struct tw_shard_stats { /* one writer; readers copy with tw_shard_stats_read */
	/* counters, spans unless said */
	uint64_t added;     /* spans taken by tw_shard_add */
	uint64_t kept;      /* spans handed to ops->keep */
	uint64_t let_go;    /* spans let go, late ones among them */
	uint64_t in_flight; /* gauge: spans of OPEN traces; added = kept + let_go + in_flight */
	uint64_t traces_begun, traces_decided;
	uint64_t decided_reason[TW_REASON_COUNT]; /* traces */
	uint64_t late_kept, late_let_go;          /* late spans */
	uint64_t compactions, compacted_bytes, early_decisions, rematched;
	uint64_t unstored; /* of let_go: spans for which the allocator had no memory and deciding
	                      made none */
	/* gauges, bytes unless said */
	uint64_t traces_open, traces_kept; /* traces held */
	uint64_t span_bytes;               /* wire bytes of spans held */
	uint64_t stored_bytes;             /* what they take in the log: whole or packed */
	uint64_t digest_bytes; /* what the log adds per span, padding and the spans' share of heads
	                          included */
	uint64_t record_bytes; /* records of held traces */
	uint64_t table_bytes;  /* the trace table and the wheel */
	uint64_t slack_bytes;  /* segments and record chunks held less what lives in them */
	uint64_t verdict_bytes, verdicts; /* memory; entries */
	uint64_t segments;
};
void tw_shard_stats_read(struct tw_shard *s, struct tw_shard_stats *out); /* one state [any] */
uint64_t tw_pool_pinned(const struct tw_pool *p);   /* bytes held by kept traces [any] */
uint64_t tw_pool_segments(const struct tw_pool *p); /* allocated [any] */

#endif
