/* A shard's behaviour, scenario by scenario, in virtual time; the harness's model checks each
 * callback besides. */
#include "harness.h"

#include <stdlib.h>
#include <string.h>

#include "tw/base/limits.h"

static bool keep_all(struct harness *h, const struct tw_trace_view *t)
{
	(void)h;
	(void)t;
	return true;
}
static bool keep_none(struct harness *h, const struct tw_trace_view *t)
{
	(void)h;
	(void)t;
	return false;
}
static bool keep_errors(struct harness *h, const struct tw_trace_view *t)
{
	(void)h;
	return t->error_count > 0;
}

static void start(struct harness *h, uint32_t trace_max)
{
	h_init(h, 64 << 20, trace_max);
	h_create(h);
}

static void add_root(struct harness *h, uint32_t trace)
{
	struct h_span sp = h_span(h, trace);

	sp.root = true;
	h_add_one(h, sp);
}

/* ---- deadlines ---- */

static void completes_by_root(void **state)
{
	struct harness h;

	(void)state;
	start(&h, 1);
	h_add_one(&h, h_span(&h, 0));
	h_advance(&h, 500);
	add_root(&h, 0); /* shortens the deadline from 30 s to 6.5 s */
	h_advance(&h, 3000);
	h_settle(&h);
	h_add_one(&h, h_span(&h, 0)); /* a later span does not lengthen it */
	h_advance(&h, 2999);
	h_settle(&h);
	assert_int_equal(h_stats(&h).traces_open, 1);
	assert_true(tw_shard_next_ns(h.shard) <= h.now_ns + TW_NS_PER_MS);
	h_advance(&h, 1);
	h_settle(&h);
	assert_int_equal(h_stats(&h).traces_open, 0);
	assert_int_equal(h.decided[TW_REASON_ROOT], 1);
	h_deinit(&h);
}

static void completes_by_idle(void **state)
{
	struct harness h;

	(void)state;
	start(&h, 1);
	for (uint32_t i = 0; i < 5; i++) {
		h_add_one(&h, h_span(&h, 0));
		h_advance(&h, 20000); /* each span lengthens it */
		h_settle(&h);
	}
	h_advance(&h, 9999);
	h_settle(&h);
	assert_int_equal(h_stats(&h).traces_open, 1);
	h_advance(&h, 1);
	h_settle(&h);
	assert_int_equal(h.decided[TW_REASON_IDLE], 1);
	assert_true(tw_shard_next_ns(h.shard) == TW_NEVER);
	h_deinit(&h);
}

static void completes_by_most(void **state)
{
	struct harness h;

	(void)state;
	start(&h, 1);
	h_wait(&h, 1, TW_NEVER, TW_NEVER, 600000); /* past the wheel's horizon */
	add_root(&h, 0);
	for (uint32_t i = 0; i < 599; i++) {
		h_advance(&h, 1000);
		h_add_one(&h, h_span(&h, 0));
		h_settle(&h);
	}
	assert_int_equal(h_stats(&h).traces_open, 1);
	h_advance(&h, 1000);
	h_settle(&h);
	assert_int_equal(h.decided[TW_REASON_MOST], 1);
	h_deinit(&h);
}

/* An engine that sleeps until tw_shard_next_ns decides on time, and is not woken for nothing all
 * the time. */
static void next_ns_leads_to_the_deadline(void **state)
{
	struct harness h;
	uint32_t wakes = 0;

	(void)state;
	start(&h, 1);
	h_advance(&h, 3);
	h_add_one(&h, h_span(&h, 0));
	while (h_stats(&h).traces_open > 0) {
		uint64_t at = tw_shard_next_ns(h.shard);

		assert_true(at > h.now_ns && at != TW_NEVER);
		h.now_ns = at;
		(void)h_tick(&h);
		assert_true(++wakes < 10);
	}
	assert_true(h.now_ns == 30003 * TW_NS_PER_MS);
	h_deinit(&h);
}

/* PROC-04 in small: the process stood still; everything is due at once, in portions. */
static void all_due_at_once(void **state)
{
	struct harness h;
	uint32_t ticks = 1;

	(void)state;
	start(&h, 1000);
	for (uint32_t i = 0; i < 1000; i++) {
		h_add_one(&h, h_span(&h, i));
		h_advance(&h, 7);
	}
	h_advance(&h, 3600000);
	while (h_tick(&h))
		ticks++;
	assert_int_equal(h_stats(&h).traces_open, 0);
	assert_int_equal(h.decided[TW_REASON_IDLE], 1000);
	assert_in_range(ticks, 10, 20);
	h_deinit(&h);
}

/* LOAD-11: a span each second for a day. */
static void LOAD_11_never_ending_trace(void **state)
{
	struct harness h;

	(void)state;
	start(&h, 1);
	h.keep = keep_none;
	for (uint32_t i = 0; i < 86400; i++) {
		h_add_one(&h, h_span(&h, 0));
		h_advance(&h, 1000);
		while (tw_shard_tick(h.shard, h.now_ns, 100)) {
		}
	}
	assert_int_equal(h.decided[TW_REASON_MOST], 1); /* then late spans refresh the verdict */
	assert_int_equal(h.added, 86400);
	assert_int_equal(h.lates, 86400 - 120);
	assert_true(h_stats(&h).segments <= 2);
	h_deinit(&h);
}

/* ---- size ---- */

static void add_many(struct harness *h, uint32_t trace, uint32_t n, uint32_t bytes_n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct h_span sp = h_span(h, trace);

		sp.bytes_n = bytes_n;
		h_add_one(h, sp);
	}
}

/* LOAD-02: one id, a million spans: decided at the cap, the rest follows the verdict. */
static void LOAD_02_giant_trace(void **state)
{
	struct harness h;
	struct h_span *spans;
	const uint32_t per = 1000;

	(void)state;
	for (uint32_t kept = 0; kept < 2; kept++) {
		start(&h, 1);
		h.lossy = true; /* a model of a million spans is not needed: books only */
		h.keep = kept ? keep_all : keep_none;
		h.release_at_once = true;
		spans = calloc(per, sizeof(*spans));
		for (uint32_t r = 0; r < 1000; r++) {
			for (uint32_t i = 0; i < per; i++) {
				spans[i] = h_span(&h, 0);
				spans[i].bytes_n = 100;
			}
			h_add(&h, spans, per, 1);
		}
		assert_int_equal(h.decided[TW_REASON_SIZE], 1);
		assert_int_equal(h_stats(&h).in_flight, 0);
		assert_int_equal(kept ? h_stats(&h).kept : h_stats(&h).let_go, 1000000);
		assert_int_equal(kept ? h_stats(&h).late_kept : h_stats(&h).late_let_go,
		                 1000000 - 32000);
		assert_int_equal(h_stats(&h).unstored, 0);
		assert_true(tw_pool_segments(h.pool) < 16);
		free(spans);
		h_deinit(&h);
	}
}

static void decides_by_bytes(void **state)
{
	struct harness h;

	(void)state;
	h_init(&h, 64 << 20, 1);
	h.opts.trace_bytes_max = 1 << 20;
	h.keep = keep_all;
	h_create(&h);
	add_many(&h, 0, 12, 100000);
	assert_int_equal(h.decided[TW_REASON_SIZE], 1);
	assert_int_equal(h_stats(&h).late_kept, 1);
	h_deinit(&h);
}

/* A span of the largest size, with and without large heads. */
static void largest_spans(void **state)
{
	struct harness h;

	(void)state;
	start(&h, 4);
	h.keep = keep_all;
	for (uint32_t i = 0; i < 8; i++) {
		struct h_span sp = h_span(&h, i % 4);

		sp.bytes_n = (1 << 20) - i % 3;
		sp.scope = i < 4 ? i : H_SCOPES - 1 - i % 4;
		h_add_one(&h, sp);
	}
	h_drain(&h);
	assert_int_equal(h_stats(&h).kept, 8);
	for (uint32_t i = 0; i < h.kept_count; i++)
		h_check_kept(&h, i);
	h_deinit(&h);
}

/* Many small spans of one resource with a head of 1.5 MiB share its segment. */
static void giant_head_is_shared(void **state)
{
	struct harness h;

	(void)state;
	start(&h, 200);
	for (uint32_t i = 0; i < 200; i++) {
		struct h_span sp = h_span(&h, i);

		sp.scope = H_SCOPES - 1;
		h_add_one(&h, sp);
	}
	assert_true(h_stats(&h).segments <= 3);
	assert_int_equal(h_stats(&h).in_flight, 200);
	h_deinit(&h);
}

/* ---- memory ---- */

/* LOAD-03: ids that never repeat, one span each. Traces are decided early, memory stays in its
 * bounds. */
static void LOAD_03_one_span_traces(void **state)
{
	struct harness h;
	struct h_span *spans = calloc(1000, sizeof(*spans));

	(void)state;
	h_init(&h, 16 << 20, 1);
	h.lossy = true;
	h.release_at_once = true;
	h.opts.verdict_bytes_max = 1 << 20;
	h_create(&h);
	for (uint32_t r = 0; r < 400; r++) {
		for (uint32_t i = 0; i < 1000; i++) {
			spans[i] = h_span(&h, r * 1000 + i);
			spans[i].bytes_n = 120;
		}
		h_add(&h, spans, 1000, 1);
		assert_true(h_held(&h) <= h.held_max - (4 << 20)); /* no large spans */
		h_advance(&h, 1);
	}
	assert_int_equal(h_stats(&h).added, 400000);
	assert_int_equal(h_stats(&h).traces_begun, 400000);
	assert_int_equal(h_stats(&h).unstored, 0);
	assert_true(h_stats(&h).early_decisions > 100000);
	assert_true(h_stats(&h).decided_reason[TW_REASON_MEMORY] == h_stats(&h).early_decisions);
	assert_true(h_stats(&h).in_flight > 10000); /* and it was used */
	/* The wheel does not keep those decided: two entries a trace held, and some. */
	assert_true(h_stats(&h).table_bytes < 3 << 20);
	free(spans);
	h_deinit(&h);
}

static void decides_the_oldest_early(void **state)
{
	struct harness h;
	struct tw_shard_stats st;

	(void)state;
	h_init(&h, 8 << 20, 400);
	h.keep = keep_none;
	h_create(&h);
	for (uint32_t i = 0; i < 400; i++)
		add_many(&h, i, 4, 10000);
	st = h_stats(&h);
	assert_true(st.early_decisions > 100 && st.early_decisions < 300);
	/* Those decided are the first ones. */
	for (uint32_t i = 0; i < 400; i++)
		assert_int_equal(h.traces[i].state, i < st.early_decisions ? H_DECIDED : H_OPEN);
	h_deinit(&h);
}

/* Kept traces that nobody takes: admission refuses before the buffer bursts; and lets in again
 * after release. */
static void pinned_memory_refuses(void **state)
{
	struct harness h;
	uint64_t taken = 0;

	(void)state;
	h_init(&h, 16 << 20, 2000);
	h.keep = keep_all;
	h_create(&h);
	while (tw_pool_admit(h.pool, 10000, 1)) {
		tw_pool_unadmit(h.pool, 10000, 1);
		add_many(&h, (uint32_t)taken++, 1, 10000);
		h_drain(&h);
		assert_true(taken < 2000);
	}
	assert_true(taken > 1200); /* of some 1,600 that would fill it */
	assert_true(tw_pool_segments(h.pool) <= 16);
	assert_true(tw_pool_pinned(h.pool) > 12 << 20);
	h_release(&h, 5);
	h_release(&h, 9);
	assert_true(tw_pool_admit(h.pool, 10000, 1));
	tw_pool_unadmit(h.pool, 10000, 1);
	h_deinit(&h);
}

/* Two traces to a segment and a third of it empty: what is held reaches its bound before what is
 * pinned does. Once half of them are gone, ticks move the others together and admission lets in
 * again. */
static void pinned_memory_with_holes_refuses(void **state)
{
	struct harness h;
	uint32_t taken = 0;

	(void)state;
	h_init(&h, 16 << 20, 100);
	h.keep = keep_all;
	h_create(&h);
	while (tw_pool_admit(h.pool, 350000, 1)) {
		tw_pool_unadmit(h.pool, 350000, 1);
		assert_true(taken < 100);
		add_many(&h, taken++, 1, 350000);
		h_drain(&h);
		assert_true(h_held(&h) <= h.held_max - (3 << 20)); /* a usual segment */
	}
	assert_true(taken > 30);
	assert_true(tw_pool_pinned(h.pool) < 13 << 20);
	for (uint32_t i = taken / 2; i-- > 0;)
		h_release(&h, 2 * i);
	assert_false(tw_pool_admit(h.pool, 350000, 1));
	for (uint32_t i = 0; i < 10; i++)
		(void)h_tick(&h);
	assert_true(tw_pool_segments(h.pool) <= 16);
	assert_true(tw_pool_admit(h.pool, 350000, 1));
	tw_pool_unadmit(h.pool, 350000, 1);
	for (uint32_t i = 0; i < h.kept_count; i++)
		h_check_kept(&h, i); /* what was moved is whole */
	h_deinit(&h);
}

/* A few long traces among many short ones must not hold the segments of all. */
static void compacts_under_mixed_waits(void **state)
{
	struct harness h;
	const uint32_t n = 6000;
	uint32_t longs = 0;

	(void)state;
	h_init(&h, 64 << 20, n);
	h.keep = keep_none;
	h_create(&h);
	h_wait(&h, 1, 1000, TW_NEVER, 3600000);
	for (uint32_t i = 0; i < n; i++) {
		struct h_span sp = h_span(&h, i);

		sp.bytes_n = 2000;
		sp.root = i % 20 != 0; /* the others wait an hour */
		longs += !sp.root;
		h_add_one(&h, sp);
	}
	assert_true(h_stats(&h).segments >= 12);
	h_advance(&h, 2000);
	h_settle(&h);
	for (uint32_t i = 0; i < 20; i++)
		(void)h_tick(&h);
	assert_int_equal(h_stats(&h).traces_open, longs);
	assert_true(h_stats(&h).compactions >= 6);
	assert_true(h_stats(&h).segments <= 4);
	h.keep = keep_all;
	h_drain(&h); /* what was moved is whole */
	for (uint32_t i = 0; i < h.kept_count; i++)
		h_check_kept(&h, i);
	h_deinit(&h);
}

static bool keep_the_first(struct harness *h, const struct tw_trace_view *t)
{
	(void)h;
	return tw_id_eq(t->id, h_id(0));
}

/* 1,500 spans of 2,000 bytes, each 15th of the trace 0 if it is still open. */
static void add_among_others(struct harness *h, uint32_t first, bool open)
{
	for (uint32_t i = 0; i < 1500; i++) {
		struct h_span sp = h_span(h, open && i % 15 == 0 ? 0 : first + i);

		sp.bytes_n = 2000;
		sp.root = i == 0 || sp.trace != 0;
		h_add_one(h, sp);
	}
}

/* Where a part ended, the next one is found, also when its spans were moved and other things lie
 * where they were. */
static void parts_of_a_kept_trace_are_followed_when_they_move(void **state)
{
	struct harness h;

	(void)state;
	h_init(&h, 64 << 20, 16000);
	h.keep = keep_the_first;
	h.opts.trace_spans_max = 300;
	h_create(&h);
	h_wait(&h, 1, 1000, TW_NEVER, 3600000);
	for (uint32_t i = 0; i < 3; i++)
		add_among_others(&h, 1 + 1500 * i, true);
	/* Kept, and looked at in parts. Then the others are let go. */
	assert_int_equal(h.kept_count, 1);
	assert_int_equal(h.kept[0].count, 300);
	h_advance(&h, 2000);
	h_settle(&h);
	for (uint32_t i = 0; i < 20; i++)
		(void)h_tick(&h);
	assert_true(h_stats(&h).compactions >= 6);
	for (uint32_t i = 3; i < 8; i++)
		add_among_others(&h, 1 + 1500 * i, false);
	h_check_kept(&h, 0);
	h_deinit(&h);
}

/* ---- late spans ---- */

static bool upgrade_errors(struct harness *h, const struct tw_span *s)
{
	(void)h;
	return s->status == TW_STATUS_ERROR;
}

/* LOAD-05: spans after the decision, and after the decision was forgotten. */
static void LOAD_05_late_spans(void **state)
{
	struct harness h;
	struct h_span sp;

	(void)state;
	h_init(&h, 64 << 20, 3);
	h.keep = keep_errors;
	h.upgrade = upgrade_errors;
	h.opts.verdict_keep_ns = 100 * TW_NS_PER_S;
	h_create(&h);
	sp = h_span(&h, 0);
	sp.error = true;
	h_add_one(&h, sp);
	h_add_one(&h, h_span(&h, 1));
	h_advance(&h, 30000);
	h_settle(&h);
	assert_int_equal(h_stats(&h).traces_decided, 2);
	/* of the kept trace: forwarded; its verdict says for whom */
	h_add_one(&h, h_span(&h, 0));
	assert_int_equal(h_stats(&h).late_kept, 1);
	assert_int_equal(tw_kept_view(h.kept[h.kept_count - 1].kept)->reason, TW_REASON_LATE);
	assert_int_equal(tw_kept_verdict(h.kept[h.kept_count - 1].kept)->destinations,
	                 h.destinations);
	/* of the one let go: counted */
	h_add_one(&h, h_span(&h, 1));
	assert_int_equal(h_stats(&h).late_let_go, 1);
	/* an error among them is kept, and its later siblings are */
	sp = h_span(&h, 1);
	sp.error = true;
	h_add_one(&h, sp);
	h_add_one(&h, h_span(&h, 1));
	assert_int_equal(h_stats(&h).late_let_go, 1);
	assert_int_equal(h_stats(&h).late_kept, 3);
	assert_int_equal(h.traces[1].verdict.rule, 0x7777);
	assert_int_equal(h_stats(&h).traces_begun, 2);
	/* a late span refreshes the memory */
	h_advance(&h, 90000);
	h_add_one(&h, h_span(&h, 0));
	h_advance(&h, 90000);
	h_add_one(&h, h_span(&h, 0));
	assert_int_equal(h_stats(&h).traces_begun, 2);
	/* after it has forgotten, the id begins a trace */
	h_advance(&h, 102000);
	h.traces[0] = (struct h_trace){.state = H_NEW};
	h_add_one(&h, h_span(&h, 0));
	assert_int_equal(h_stats(&h).traces_begun, 3);
	assert_int_equal(h_stats(&h).in_flight, 1);
	h_deinit(&h);
}

/* Late spans of one trace in one request come as one kept trace. */
static void late_runs_are_one(void **state)
{
	struct harness h;
	struct h_span spans[40];

	(void)state;
	start(&h, 2);
	h.keep = keep_all;
	h_add_one(&h, h_span(&h, 0));
	h_add_one(&h, h_span(&h, 1));
	h_drain(&h);
	h_release_all(&h);
	for (uint32_t i = 0; i < 40; i++)
		spans[i] = h_span(&h, i / 20);
	h_add(&h, spans, 40, 1);
	assert_int_equal(h.kept_count, 2);
	assert_int_equal(h.kept[0].count, 20);
	assert_int_equal(h_stats(&h).late_kept, 40);
	h_deinit(&h);
}

/* ---- shapes ---- */

/* IN-16: the same span id twice, a span that is its own parent, a cycle, two roots, none. The
 * buffer takes them as they are. */
static void IN_16_odd_shapes(void **state)
{
	struct harness h;
	struct h_span sp;

	(void)state;
	start(&h, 4);
	h.keep = keep_all;
	for (uint32_t i = 0; i < 3; i++) { /* duplicate ids and self-parents */
		sp = h_span(&h, 0);
		sp.span_id = sp.parent_id = 7;
		h_add_one(&h, sp);
	}
	for (uint32_t i = 0; i < 3; i++) { /* a cycle, and no root */
		sp = h_span(&h, 1);
		sp.span_id = 1 + i;
		sp.parent_id = 1 + (i + 1) % 3;
		h_add_one(&h, sp);
	}
	for (uint32_t i = 0; i < 2; i++) { /* two roots: the first one counts */
		sp = h_span(&h, 2);
		sp.parent_id = 0;
		sp.root = true;
		h_add_one(&h, sp);
		h_advance(&h, 1000);
	}
	h_advance(&h, 4999);
	h_settle(&h);
	assert_int_equal(h_stats(&h).traces_open, 2); /* 6 s after the first root */
	assert_int_equal(h.decided[TW_REASON_ROOT], 1);
	h_advance(&h, 30000);
	h_settle(&h);
	assert_int_equal(h.decided[TW_REASON_IDLE], 2);
	assert_int_equal(h_stats(&h).kept, 8);
	for (uint32_t i = 0; i < h.kept_count; i++)
		h_check_kept(&h, i);
	h_deinit(&h);
}

/* TIME-04: clocks that lie by ten minutes, and durations that run past the end of time. */
static void odd_times(void **state)
{
	struct harness h;
	struct h_span sp;

	(void)state;
	start(&h, 1);
	for (uint32_t i = 0; i < 3; i++) {
		sp = h_span(&h, 0);
		sp.start_ns = i * 600 * TW_NS_PER_S;
		sp.duration_ns = 5;
		h_add_one(&h, sp);
	}
	h_deinit(&h);
}

static void let_go_or_kept_by_request_of_many(void **state)
{
	struct harness h;
	struct h_span spans[200];

	(void)state;
	start(&h, 25);
	for (uint32_t i = 0; i < 200; i++) {
		spans[i] = h_span(&h, i % 2 ? i % 25 : i / 8);
		spans[i].root = i > 180;
		spans[i].error = i % 9 == 0;
		spans[i].rv = i % 11 == 0;
	}
	h_add(&h, spans, 200, 1);
	assert_int_equal(h_stats(&h).traces_begun, 25);
	h_advance(&h, 200000);
	h_settle(&h);
	assert_true(h.kept_count > 0 && h.kept_count < 25);
	h_deinit(&h);
}

/* ---- generations ---- */

static void reload_twice_in_flight(void **state)
{
	struct harness h;

	(void)state;
	start(&h, 3);
	h_add_one(&h, h_span(&h, 0));
	h_add_one(&h, h_span(&h, 0));
	h_wait(&h, 2, 6000, 30000, 120000);
	h_add_one(&h, h_span(&h, 0)); /* matched by 2, wanted by 1 */
	assert_int_equal(h.rematches, 1);
	h_add_one(&h, h_span(&h, 1));
	h_wait(&h, 3, 6000, 30000, 10000);
	assert_int_equal(h.rematches, 1);
	(void)h_tick(&h); /* the trace of 1 goes over to 3: three spans */
	assert_int_equal(h.rematches, 4);
	h_advance(&h, 10000);
	h_settle(&h); /* and has 3's shorter wait */
	assert_int_equal(h.decided[TW_REASON_MOST], 1);
	assert_int_equal(h_stats(&h).traces_open, 1);
	h_advance(&h, 20000);
	h_settle(&h);
	assert_int_equal(h.decided[TW_REASON_IDLE], 1);
	assert_int_equal(h_stats(&h).rematched, 4);
	h_deinit(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(completes_by_root),
	    cmocka_unit_test(completes_by_idle),
	    cmocka_unit_test(completes_by_most),
	    cmocka_unit_test(next_ns_leads_to_the_deadline),
	    cmocka_unit_test(all_due_at_once),
	    cmocka_unit_test(LOAD_11_never_ending_trace),
	    cmocka_unit_test(LOAD_02_giant_trace),
	    cmocka_unit_test(decides_by_bytes),
	    cmocka_unit_test(largest_spans),
	    cmocka_unit_test(giant_head_is_shared),
	    cmocka_unit_test(LOAD_03_one_span_traces),
	    cmocka_unit_test(decides_the_oldest_early),
	    cmocka_unit_test(pinned_memory_refuses),
	    cmocka_unit_test(pinned_memory_with_holes_refuses),
	    cmocka_unit_test(compacts_under_mixed_waits),
	    cmocka_unit_test(parts_of_a_kept_trace_are_followed_when_they_move),
	    cmocka_unit_test(LOAD_05_late_spans),
	    cmocka_unit_test(late_runs_are_one),
	    cmocka_unit_test(IN_16_odd_shapes),
	    cmocka_unit_test(odd_times),
	    cmocka_unit_test(let_go_or_kept_by_request_of_many),
	    cmocka_unit_test(reload_twice_in_flight),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
