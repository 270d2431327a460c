/* A shard under test beside a naive model of it.
 *
 * The model keeps every span of every trace in plain arrays. Each callback of the shard is checked
 * against it: what is decided is what was put in, what is kept comes back byte for byte in order of
 * arrival, a late span meets the verdict that was given. The books and gauges are compared after
 * every call. Span bytes are generated from a number, so that the model need not hold them. */
#ifndef BUFFER_HARNESS_H
#define BUFFER_HARNESS_H

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tw/buffer.h"

#define H_RESOURCES 10u /* the last but one has a head of 300 KiB, the last of 1.5 MiB */
#define H_SCOPES    (H_RESOURCES * 2)

struct h_span {
	uint64_t uid; /* its bytes are made from it */
	uint32_t trace;
	uint32_t bytes_n; /* at least 80 */
	uint32_t scope;
	uint64_t span_id, parent_id;
	uint64_t start_ns, duration_ns;
	bool root, error, rv;
};

enum h_state { H_NEW, H_OPEN, H_DECIDED };

struct h_trace {
	enum h_state state;
	struct h_span *spans; /* of the open trace */
	uint32_t count, cap;
	uint64_t bytes;
	uint64_t first_ms, last_ms, root_ms;
	uint32_t generation;
	struct tw_verdict verdict;
};

struct h_kept {
	struct tw_kept *kept;
	struct h_span *spans;
	uint32_t count;
};

struct h_wait {
	uint32_t generation;
	uint64_t root, idle, most; /* ms, or TW_NEVER */
};

struct harness {
	struct tw_pool *pool;
	struct tw_shard *shard;
	struct tw_buffer_opts opts;
	struct tw_hash_key key;
	uint64_t now_ns;
	struct h_trace *traces;
	uint32_t trace_max;
	struct h_wait waits[2]; /* newest, previous */
	/* what a decision is; NULL: keep one in four */
	bool (*keep)(struct harness *h, const struct tw_trace_view *t);
	bool (*upgrade)(struct harness *h, const struct tw_span *s); /* late; NULL: never */
	uint8_t destinations;
	bool release_at_once;
	bool lossy; /* allocations fail: spans may be unstored; only books are compared */
	struct h_kept *kept;
	uint32_t kept_count, kept_cap;
	/* the request being added, in order, to follow late runs */
	const struct h_span *adding;
	uint32_t adding_n, adding_at;
	struct h_span *late; /* late spans awaiting ops->keep */
	uint32_t late_count, late_cap;
	/* counts by the model */
	uint64_t added, kept_spans, let_go, in_flight, held_bytes;
	uint64_t decided[TW_REASON_COUNT];
	uint64_t lates, rematches;
	uint64_t uid, random;
	uint64_t held_max;
	/* tw_shard_add and tw_shard_tick run with failing allocations: from the fail_at-th on if
	 * sticky, else that one */
	uint32_t fail_at;
	bool fail_sticky, failing;
	uint64_t fail_left; /* allocations until the failing one */
};

void h_init(struct harness *h, uint64_t bytes_max, uint32_t trace_max);
void h_create(struct harness *h); /* pool and shard from h->opts */
void h_deinit(struct harness *h); /* releases what is kept and asserts that nothing is left */
void h_wait(struct harness *h, uint32_t generation, uint64_t root_ms, uint64_t idle_ms,
            uint64_t most_ms);
struct h_span h_span(struct harness *h, uint32_t trace);
void h_add(struct harness *h, const struct h_span *spans, uint32_t n, uint32_t generation);
void h_add_one(struct harness *h, struct h_span sp);
bool h_tick(struct harness *h);
void h_advance(struct harness *h, uint64_t ms);
void h_settle(struct harness *h); /* ticks until nothing more is due */
void h_drain(struct harness *h);
void h_check(struct harness *h); /* books and gauges */
void h_check_kept(struct harness *h, uint32_t i);
void h_release(struct harness *h, uint32_t i); /* all destinations */
void h_release_all(struct harness *h);
uint64_t h_random(struct harness *h);
uint32_t h_below(struct harness *h, uint32_t n);
struct tw_shard_stats h_stats(struct harness *h);
uint64_t h_held(struct harness *h); /* bytes of the pool's budget */
struct tw_id128 h_id(uint32_t trace);
uint64_t h_mask(uint32_t generation, uint64_t uid);

#endif
