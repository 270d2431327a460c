/* What a span costs in the buffer: record and append, and its end, with many traces in flight.
 *
 * Requests of 1,000 spans are built in memory before the clock runs: spans of 275 bytes, traces of
 * 8 whose spans arrive in 4 requests over 4 services, ids that never repeat. Each trace waits for
 * its `most`, so that a steady number is in flight.
 *
 *   micro_append [TRACES_IN_FLIGHT] [SPANS]
 *
 * Prints ns of CPU a span for tw_shard_add and for tw_shard_tick, and the bytes beyond the wire
 * size that the gauges show. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tw/base/error.h"
#include "tw/base/mem.h"
#include "tw/buffer.h"

#define SPAN_BYTES    275u
#define REQUEST_SPANS 1000u
#define TRACE_SPANS   8u
#define VISITS        4u /* requests that a trace's spans arrive in */
#define SERVICES      4u
#define STRIDE        60u /* requests between two visits of a trace */
#define BODIES        8u  /* a body was scanned just now, so it is in the cache */

struct sink {
	uint64_t decided, kept;
};

static void decide(void *ctx, const struct tw_trace_view *t, struct tw_verdict *v)
{
	struct sink *sink = ctx;

	sink->decided++;
	v->keep = t->id.lo % 100 == 0;
	v->destinations = v->keep ? 1 : 0;
	v->generation = t->generation;
}
static void let_go(void *ctx, const struct tw_trace_view *t, const struct tw_verdict *v)
{
	(void)ctx;
	(void)t;
	(void)v;
}
static void keep(void *ctx, struct tw_kept *k, const struct tw_trace_view *t,
                 const struct tw_verdict *v)
{
	struct sink *sink = ctx;

	(void)t;
	(void)v;
	sink->kept++;
	tw_kept_release(k, 0);
}
static void late(void *ctx, const struct tw_span *s, struct tw_verdict *v)
{
	(void)ctx;
	(void)s;
	(void)v;
}
static void rematch(void *ctx, uint32_t generation, struct tw_slice resource_head,
                    struct tw_slice scope_head, struct tw_slice span, uint64_t mask[TW_MASK_WORDS])
{
	(void)ctx;
	(void)generation;
	(void)resource_head;
	(void)scope_head;
	(void)span;
	memset(mask, 0, TW_MASK_WORDS * sizeof(*mask));
}
static const struct tw_shard_ops ops = {decide, let_go, keep, late, rematch};

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * TW_NS_PER_S + (uint64_t)t.tv_nsec;
}

struct body { /* as a receiver would have it: the spans' bytes, one behind another */
	uint8_t *bytes;
	struct tw_request req;
	uint8_t heads[SERVICES][64];
	struct tw_value service[SERVICES];
};

static const char *const names[SERVICES] = {"frontend", "checkout", "payment", "shipping"};

static void build(struct body *b, struct tw_hash_key key)
{
	b->bytes = tw_alloc(REQUEST_SPANS * SPAN_BYTES);
	memset(&b->req, 0, sizeof(b->req));
	b->req.spans = tw_calloc(REQUEST_SPANS, sizeof(struct tw_span));
	b->req.masks = tw_calloc(REQUEST_SPANS, sizeof(*b->req.masks));
	b->req.scopes = tw_calloc(SERVICES, sizeof(struct tw_scope));
	b->req.resources = tw_calloc(SERVICES, sizeof(struct tw_resource));
	if (!b->bytes || !b->req.spans || !b->req.masks || !b->req.scopes || !b->req.resources)
		exit(3);
	b->req.span_count = REQUEST_SPANS;
	b->req.scope_count = b->req.resource_count = SERVICES;
	b->req.heads_max = 20 + 64;
	for (uint32_t i = 0; i < SERVICES; i++) {
		memset(b->heads[i], (int)('a' + i), sizeof(b->heads[i]));
		b->service[i] = (struct tw_value){.type = TW_VALUE_STRING,
		                                  .n = (uint32_t)strlen(names[i]),
		                                  .p = (const uint8_t *)names[i]};
		b->req.resources[i].head = tw_slice(b->heads[i], 64);
		b->req.resources[i].hash = tw_hash_bytes(key, b->heads[i], 64);
		b->req.resources[i].slots_set = 1;
		b->req.resources[i].slots = &b->service[i];
		b->req.scopes[i].head = tw_slice(b->heads[i], 20);
		b->req.scopes[i].hash = tw_hash_bytes(key, b->heads[i], 20) + 1;
		b->req.scopes[i].resource = i;
	}
	for (uint32_t i = 0; i < REQUEST_SPANS; i++) {
		uint8_t *p = b->bytes + i * SPAN_BYTES;

		/* One bytes field (15) that fills the span: valid protobuf. */
		p[0] = 15 << 3 | 2;
		p[1] = (uint8_t)((SPAN_BYTES - 3) & 0x7f) | 0x80;
		p[2] = (uint8_t)((SPAN_BYTES - 3) >> 7);
		memset(p + 3, (int)i, SPAN_BYTES - 3);
		b->req.spans[i].bytes = p;
		b->req.spans[i].bytes_n = SPAN_BYTES;
		b->req.spans[i].scope = i * SERVICES / REQUEST_SPANS;
		b->req.spans[i].kind = TW_KIND_SERVER;
	}
}

/* Request r carries 2 spans each of 125 new traces, and of 3 × 125 that began STRIDE, 2 STRIDE and
 * 3 STRIDE requests ago: the scan would have written these fields just now. */
static void set_ids(struct body *b, uint64_t r, struct tw_hash_key key)
{
	const uint32_t per_visit = REQUEST_SPANS / VISITS;

	for (uint32_t i = 0; i < REQUEST_SPANS; i++) {
		struct tw_span *sp = &b->req.spans[i];
		uint32_t visit = i / per_visit;
		uint64_t trace = (r + (uint64_t)(VISITS - visit) * STRIDE) * (per_visit / 2) +
		                 i % (per_visit / 2);
		uint64_t x = trace * UINT64_C(0x9E3779B97F4A7C15);

		sp->trace_id =
		    (struct tw_id128){x ^ (x >> 29), (x * UINT64_C(0xBF58476D1CE4E5B9)) ^ trace};
		sp->hash = tw_hash_u64x2(key, sp->trace_id.hi, sp->trace_id.lo);
		sp->span_id = r * REQUEST_SPANS + i + 1;
		sp->parent_id = visit == VISITS - 1 && i % 2 ? 0 : 1;
		sp->flags = sp->parent_id == 0 ? TW_SPAN_ROOT : 0;
		sp->start_ns = r;
		sp->duration_ns = 1000;
		b->req.masks[i][0] = 1;
	}
}

int main(int argc, char **argv)
{
	const uint64_t traces = argc > 1 ? strtoull(argv[1], NULL, 10) : 600000;
	const uint64_t spans = argc > 2 ? strtoull(argv[2], NULL, 10) : 20000000;
	const uint64_t rate = 500000; /* spans a second of virtual time */
	const uint64_t wait_ns = traces * TRACE_SPANS * TW_NS_PER_S / rate;
	struct tw_hash_key key = {0x1234567, 0x89abcdef12345};
	struct tw_buffer_opts o = {.bytes_max = UINT64_C(4) << 30,
	                           .trace_spans_max = 32000,
	                           .trace_bytes_max = 64 << 20,
	                           .verdict_bytes_max = 64 << 20,
	                           .verdict_keep_ns = 3600 * TW_NS_PER_S};
	struct sink sink = {0};
	struct tw_pool *pool = tw_pool_create(&o, 1);
	struct tw_shard_config c = {
	    .pool = pool, .opts = o, .shards = 1, .key = key, .ops = &ops, .ctx = &sink};
	struct tw_shard *s = tw_shard_create(&c);
	static struct body bodies[BODIES];
	static uint32_t idx[REQUEST_SPANS];
	uint64_t add_ns = 0, tick_ns = 0, measured = 0, now = 0;
	struct tw_shard_stats st = {0};

	if (!pool || !s)
		return 3;
	for (uint32_t i = 0; i < REQUEST_SPANS; i++)
		idx[i] = i;
	for (uint32_t i = 0; i < BODIES; i++)
		build(&bodies[i], key);
	tw_shard_set_wait(s, 1, TW_NEVER, TW_NEVER, wait_ns);
	for (uint64_t r = 0; measured < spans; r++) {
		struct body *b = &bodies[r % BODIES];
		bool warm = now > wait_ns + wait_ns / 4;
		uint64_t t0, t1, t2;

		set_ids(b, r, key);
		now = r * REQUEST_SPANS * TW_NS_PER_S / rate;
		if (!tw_pool_admit(pool, (uint64_t)REQUEST_SPANS * SPAN_BYTES, REQUEST_SPANS))
			return 4;
		t0 = cpu_ns();
		tw_shard_add(s, &b->req, idx, REQUEST_SPANS, 1, now);
		t1 = cpu_ns();
		(void)tw_shard_tick(s, now, UINT32_MAX);
		t2 = cpu_ns();
		if (warm) {
			add_ns += t1 - t0;
			tick_ns += t2 - t1;
			measured += REQUEST_SPANS;
		}
	}
	tw_shard_stats_read(s, &st);
	printf("traces in flight           %10llu\n", (unsigned long long)st.traces_open);
	printf("add, ns a span             %10.1f\n", (double)add_ns / (double)measured);
	printf("decide and let go, ns      %10.1f\n", (double)tick_ns / (double)measured);
	printf("beyond wire, bytes a span  %10.1f\n",
	       (double)st.digest_bytes / (double)st.in_flight);
	printf("records+tables, a trace    %10.1f\n",
	       (double)(st.record_bytes + st.table_bytes) / (double)st.traces_open);
	printf("slack, bytes a span        %10.1f\n",
	       (double)st.slack_bytes / (double)st.in_flight);
	printf("early decisions            %10llu\n", (unsigned long long)st.early_decisions);
	printf("compactions                %10llu\n", (unsigned long long)st.compactions);
	tw_shard_destroy(&s);
	tw_pool_destroy(&pool);
	return 0;
}
