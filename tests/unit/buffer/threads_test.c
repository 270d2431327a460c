/* Two shards with a thread each on one tight pool, and a reader of their books. For TSan, and for
 * the pool's fairness. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "tw/base/limits.h"
#include "tw/buffer.h"

#define SHARDS   2u
#define REQUESTS 1500u
#define SPANS    100u
#define BYTES_N  600u
#define POOL_MIB 16u

struct owner {
	pthread_t thread;
	struct tw_pool *pool;
	struct tw_shard *shard;
	uint32_t index;
	uint64_t refused, sent;
	struct tw_kept *held[64];
	uint32_t held_count;
	uint64_t segments_most;
	_Atomic bool done;
};

static void decide(void *ctx, const struct tw_trace_view *t, struct tw_verdict *v)
{
	(void)ctx;
	v->keep = t->id.lo % 7 == 0;
	v->destinations = v->keep ? 1 : 0;
}
static void let_go(void *ctx, const struct tw_trace_view *t, const struct tw_verdict *v)
{
	(void)ctx;
	(void)t;
	(void)v;
}
/* Holds the last 64, releases the one before: from within, and out of order of deciding. */
static void keep(void *ctx, struct tw_kept *k, const struct tw_trace_view *t,
                 const struct tw_verdict *v)
{
	struct owner *o = ctx;
	uint32_t at = o->held_count++ % 64;
	struct tw_kept *old = o->held[at];

	(void)t;
	(void)v;
	o->held[at] = k;
	if (old)
		tw_kept_release(old, 0);
}
static void late(void *ctx, const struct tw_span *s, struct tw_verdict *v)
{
	(void)ctx;
	(void)s;
	(void)v;
}
static void rematch(void *ctx, uint32_t g, struct tw_slice r, struct tw_slice sc, struct tw_slice s,
                    uint64_t mask[TW_MASK_WORDS])
{
	(void)ctx;
	(void)g;
	(void)r;
	(void)sc;
	(void)s;
	memset(mask, 0, TW_MASK_WORDS * sizeof(*mask));
}
static const struct tw_shard_ops ops = {decide, let_go, keep, late, rematch};
static const struct tw_hash_key key = {77, 99};

struct request {
	struct tw_request req;
	struct tw_span spans[SPANS];
	uint64_t masks[SPANS][TW_MASK_WORDS];
	struct tw_scope scope;
	struct tw_resource resource;
	uint32_t idx[SPANS];
	uint8_t bytes[BYTES_N];
};

static void make(struct request *q, uint32_t shard, uint64_t r)
{
	memset(q, 0, sizeof(*q));
	q->req.spans = q->spans;
	q->req.masks = q->masks;
	q->req.scopes = &q->scope;
	q->req.resources = &q->resource;
	q->req.span_count = SPANS;
	q->req.scope_count = q->req.resource_count = 1;
	q->req.heads_max = 8 + 5;
	q->resource.head = tw_slice("resource", 8);
	q->resource.hash = 11;
	q->scope.head = tw_slice("scope", 5);
	q->scope.hash = 12;
	for (uint32_t i = 0; i < SPANS; i++) {
		struct tw_span *sp = &q->spans[i];
		uint64_t trace = r * (SPANS / 4) + i % (SPANS / 2);

		q->idx[i] = i;
		sp->trace_id = (struct tw_id128){shard + 1, trace + 1};
		sp->hash = tw_hash_u64x2(key, sp->trace_id.hi, sp->trace_id.lo);
		sp->span_id = i + 1;
		sp->bytes = q->bytes;
		sp->bytes_n = BYTES_N;
	}
}

static void *own(void *arg)
{
	struct owner *o = arg;
	struct request q;
	struct tw_shard_stats st;
	uint64_t now = 0;

	for (uint32_t r = 0; r < REQUESTS; r++) {
		make(&q, o->index, r);
		now += TW_NS_PER_MS;
		if (tw_pool_admit(o->pool, SPANS * BYTES_N, SPANS)) {
			tw_shard_add(o->shard, &q.req, q.idx, SPANS, 1, now);
			o->sent += SPANS;
		} else {
			o->refused++;
		}
		(void)tw_shard_tick(o->shard, now, 1000);
		tw_shard_stats_read(o->shard, &st);
		if (st.segments > o->segments_most)
			o->segments_most = st.segments;
	}
	while (tw_shard_drain(o->shard, now, 1000)) {
	}
	for (uint32_t i = 0; i < 64; i++)
		if (o->held[i])
			tw_kept_release(o->held[i], 0);
	atomic_store(&o->done, true);
	return NULL;
}

static void books_hold_in_every_reading(void **state)
{
	struct tw_buffer_opts opts = {.bytes_max = POOL_MIB << 20,
	                              .trace_spans_max = 32000,
	                              .trace_bytes_max = 64 << 20,
	                              .verdict_bytes_max = 1 << 20,
	                              .verdict_keep_ns = 3600 * TW_NS_PER_S};
	struct tw_pool *pool = tw_pool_create(&opts, SHARDS);
	struct owner owners[SHARDS] = {0};
	uint64_t readings = 0;
	bool done = false;

	(void)state;
	assert_non_null(pool);
	for (uint32_t i = 0; i < SHARDS; i++) {
		struct tw_shard_config c = {.pool = pool,
		                            .opts = opts,
		                            .index = i,
		                            .shards = SHARDS,
		                            .key = key,
		                            .ops = &ops,
		                            .ctx = &owners[i]};

		owners[i].pool = pool;
		owners[i].index = i;
		owners[i].shard = tw_shard_create(&c);
		assert_non_null(owners[i].shard);
		tw_shard_set_wait(owners[i].shard, 1, TW_NEVER, TW_NEVER, 1000 * TW_NS_PER_MS);
	}
	for (uint32_t i = 0; i < SHARDS; i++)
		assert_int_equal(pthread_create(&owners[i].thread, NULL, own, &owners[i]), 0);
	while (!done) {
		done = true;
		for (uint32_t i = 0; i < SHARDS; i++) {
			struct tw_shard_stats st;

			done = done && atomic_load(&owners[i].done);
			tw_shard_stats_read(owners[i].shard, &st);
			assert_int_equal(st.added, st.kept + st.let_go + st.in_flight);
			assert_int_equal(st.traces_begun, st.traces_open + st.traces_decided);
			readings++;
		}
		assert_true(tw_pool_segments(pool) <= POOL_MIB + POOL_MIB / 32 + 2 * SHARDS);
	}
	assert_true(readings > 0);
	for (uint32_t i = 0; i < SHARDS; i++) {
		struct tw_shard_stats st;

		assert_int_equal(pthread_join(owners[i].thread, NULL), 0);
		tw_shard_stats_read(owners[i].shard, &st);
		assert_int_equal(st.added, owners[i].sent);
		assert_int_equal(st.in_flight, 0);
		assert_int_equal(st.span_bytes, 0);
		assert_int_equal(st.unstored, 0);
		assert_true(st.early_decisions > 0);
		assert_true(owners[i].segments_most >= POOL_MIB / SHARDS / 2);
		tw_shard_destroy(&owners[i].shard);
	}
	assert_int_equal(tw_pool_pinned(pool), 0);
	tw_pool_destroy(&pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(books_hold_in_every_reading),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
