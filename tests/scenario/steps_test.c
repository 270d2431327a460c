/* Work that is longer than a turn of a worker's loop is done in steps, and what it comes to is the
 * same. */
#include "scenario_test.h"

#include "tw/base/mem.h"

#define EVERYTHING                                                                                 \
	"wait: { root: 10ms, idle: 1s, most: 2s }\n"                                               \
	"rules: [ { name: everything, keep: all } ]\n"
#define SMALL      1000u
#define LARGE      5000u
#define HUGE_SPANS 12000u /* not even scanned at once */

/* `n` spans of traces of 10, or of one trace. */
static struct sim_span *spans(uint64_t trace, uint32_t n, bool one)
{
	struct sim_span *a = tw_calloc(n, sizeof(*a));

	assert_non_null(a);
	for (uint32_t i = 0; i < n; i++) {
		a[i].trace = one ? trace : trace + i / 10;
		a[i].span = i + 1;
		a[i].parent = one ? (i == 0 ? 0 : 1) : (i % 10 == 0 ? 0 : i - i % 10 + 1);
	}
	return a;
}

static void a_large_request(uint32_t workers)
{
	struct sim_config c = {.workers = workers, .rules = EVERYTHING};
	struct sim_span small = {.trace = 90001, .span = 1};
	struct sim_span *a = spans(1, LARGE, false);
	struct sim *s = sim_create(&c);
	struct tw_core *core = s->shared.cores[0];

	assert_false(sim_send(s, 0, a, LARGE));
	assert_true(tw_core_busy(core));
	assert_int_equal(sim_books(s).accepted, LARGE);
	assert_int_equal(sim_books(s).shard.added, 0);
	/* A step at a time; other requests go on meanwhile. */
	assert_true(tw_core_poll(core));
	assert_true(sim_books(s).shard.added < LARGE);
	sim_send(s, 0, &small, 1);
	assert_true(sim_books(s).shard.added < LARGE);
	sim_check_books(s);
	sim_reload(s, EVERYTHING);
	sim_settle(s);
	assert_false(tw_core_busy(core));
	assert_int_equal(s->answer.ok, 2);
	assert_int_equal(s->answer.open, 0);
	assert_int_equal(sim_books(s).shard.added, LARGE + 1);
	sim_run(s, 10 * SIM_S);
	assert_int_equal(s->dest[0].seen_count, LARGE + 1);
	sim_check_books(s);
	tw_free(a);
	sim_destroy(s);
}

static void a_large_request_with_one_worker(void **state)
{
	(void)state;
	a_large_request(1);
}

static void a_large_request_with_three_workers(void **state)
{
	(void)state;
	a_large_request(3);
}

/* Every span of a trace of older rules is matched again, so a small request is as much work as a
 * large one: from the first one on, and until nothing is matched again. */
static void a_request_behind_a_reload(uint32_t workers)
{
	struct sim_config c = {.workers = workers, .rules = EVERYTHING};
	struct sim_span *first = spans(1, SMALL, false), *second = spans(1, SMALL, false);
	struct sim_span *third = spans(1001, SMALL, false), *fourth = spans(2001, SMALL, false);
	struct sim *s = sim_create(&c);
	struct tw_core *core = s->shared.cores[0];

	for (uint32_t i = 0; i < SMALL; i++) {
		first[i].parent = first[i].parent == 0 ? 1 : first[i].parent; /* not yet whole */
		second[i].span += SMALL;
	}
	(void)sim_send(s, 0, first, SMALL);
	sim_settle(s);
	assert_int_equal(sim_books(s).shard.added, SMALL);
	sim_reload(s, EVERYTHING);
	assert_false(sim_send(s, 0, second, SMALL));
	assert_true(tw_core_busy(core));
	assert_int_equal(sim_books(s).shard.rematched, 0);
	for (uint32_t polls = 0; sim_books(s).shard.added < 2 * SMALL; polls++) {
		uint64_t before = sim_books(s).shard.added;

		assert_true(polls < 64);
		for (uint32_t i = 0; i < workers; i++)
			tw_core_poll(s->shared.cores[i]);
		if (workers == 1 && polls == 0)
			assert_true(sim_books(s).shard.added < before + SMALL / 4);
		sim_check_books(s);
	}
	assert_int_equal(sim_books(s).shard.rematched, SMALL);
	sim_settle(s);
	(void)sim_send(s, 0, third, SMALL); /* nobody knows yet that it is over */
	sim_settle(s);
	assert_true(sim_send(s, 0, fourth, SMALL) || workers > 1);
	sim_settle(s);
	assert_false(tw_core_busy(core));
	assert_int_equal(sim_books(s).shard.rematched, SMALL);
	sim_run(s, 10 * SIM_S);
	assert_int_equal(s->dest[0].seen_count, 4 * SMALL);
	sim_check_books(s);
	tw_free(first);
	tw_free(second);
	tw_free(third);
	tw_free(fourth);
	sim_destroy(s);
}

static void a_request_behind_a_reload_with_one_worker(void **state)
{
	(void)state;
	a_request_behind_a_reload(1);
}

static void a_request_behind_a_reload_with_three_workers(void **state)
{
	(void)state;
	a_request_behind_a_reload(3);
}

/* Nothing is counted while it is scanned, matched and grouped; others go on meanwhile, two reloads
 * come, and all of it is there in the end. */
static void a_huge_request(uint32_t workers)
{
	struct sim_config c = {.workers = workers, .rules = EVERYTHING};
	struct sim_span small = {.trace = 90001, .span = 1};
	struct sim_span *a = spans(1, HUGE_SPANS, false);
	struct sim *s = sim_create(&c);
	struct tw_core *core = s->shared.cores[0];
	uint64_t polls = 0;

	assert_false(sim_send(s, 0, a, HUGE_SPANS));
	assert_false(sim_send(s, 0, a, HUGE_SPANS));
	while (sim_books(s).accepted < HUGE_SPANS) {
		struct tw_core_books b = sim_books(s);

		assert_int_equal(b.received, b.accepted);
		assert_true(b.accepted == polls); /* the small ones */
		assert_true(tw_core_tickets(core) >= 2);
		assert_true(tw_core_busy(core));
		if (polls % 4 == 1 && polls < 8)
			sim_reload(s, EVERYTHING);
		sim_check_books(s);
		assert_true(tw_core_poll(core));
		if (sim_books(s).accepted < HUGE_SPANS) {
			sim_send(s, 0, &small, 1);
			small.span++;
			polls++;
		}
	}
	assert_true(polls > 8);
	sim_settle(s);
	assert_false(tw_core_busy(core));
	assert_int_equal(s->answer.ok, 2 + polls);
	assert_int_equal(s->answer.open, 0);
	assert_int_equal(sim_books(s).shard.added, 2 * HUGE_SPANS + polls);
	sim_run(s, 10 * SIM_S);
	assert_int_equal(s->dest[0].seen_count, 2 * HUGE_SPANS + polls);
	sim_check_books(s);
	tw_free(a);
	sim_destroy(s);
}

static void a_huge_request_with_one_worker(void **state)
{
	(void)state;
	a_huge_request(1);
}

static void a_huge_request_with_three_workers(void **state)
{
	(void)state;
	a_huge_request(3);
}

/* What ends a huge request before its commit: nothing of it has happened. */
static void a_huge_request_that_comes_to_nothing(void **state)
{
	struct sim_span *a = spans(1, HUGE_SPANS, false);
	struct tw_buf bytes;

	(void)state;
	tw_buf_init(&bytes, 0);
	sim_encode(&bytes, a, HUGE_SPANS);
	for (uint32_t way = 0; way < 5; way++) {
		struct sim_config c = {.workers = 2, .rules = EVERYTHING};
		struct sim *s = sim_create(&c);
		struct tw_core *core = s->shared.cores[0];
		struct tw_core_books b;

		if (way == 4)
			s->shared.spans_max = HUGE_SPANS - 1;
		assert_false(sim_send_bytes(s, 0, bytes.p, bytes.n - (way == 0)));
		if (way == 3) { /* the process leaves at once: a sanitizer sees what is lost */
			tw_core_poll(core);
			sim_destroy(s);
			continue;
		}
		for (int i = 0; i < 3; i++)
			assert_true(tw_core_poll(core));
		if (way == 1)
			atomic_store(&s->shared.draining, true);
		if (way == 2)
			tw_budget_force(s->shared.views, UINT64_C(1) << 40);
		sim_settle(s);
		b = sim_books(s);
		assert_int_equal(s->answer.malformed, way == 0);
		assert_int_equal(s->answer.refused, way == 1 || way == 2);
		assert_int_equal(s->answer.too_large, way == 4);
		assert_int_equal(b.refused[TW_REFUSE_DRAIN], way == 1 ? HUGE_SPANS : 0);
		assert_int_equal(b.refused[TW_REFUSE_MEMORY], way == 2 ? HUGE_SPANS : 0);
		assert_int_equal(b.malformed_requests, way == 0 || way == 4);
		assert_int_equal(b.accepted, 0);
		assert_int_equal(tw_core_tickets(core), 0);
		if (way == 2)
			tw_budget_release(s->shared.views, UINT64_C(1) << 40);
		assert_int_equal(tw_budget_used(s->shared.views), 0);
		sim_check_books(s);
		sim_destroy(s);
	}
	tw_buf_deinit(&bytes);
	tw_free(a);
}

/* A turn that is long already leaves compressing to the next one, which does nothing else. */
static void compressing_is_a_turn_of_its_own(void **state)
{
	struct sim_config c = {.workers = 1, .rules = EVERYTHING, .coding = TW_CODING_GZIP};
	struct sim_span small = {.trace = 90001, .span = 1};
	struct sim_span *a = spans(1, LARGE, false);
	struct sim *s = sim_create(&c);
	struct tw_core *core = s->shared.cores[0];
	uint64_t added;

	(void)state;
	sim_send(s, 0, &small, 1);
	tw_clock_advance(&s->time, 20 * SIM_MS);
	assert_false(tw_core_tick(core, SIM_S));
	tw_clock_advance(&s->time, 60 * SIM_MS); /* the batch is old enough */
	assert_false(sim_send(s, 0, a, LARGE));
	while (sim_books(s).shard.added == 1)
		assert_true(tw_core_poll(core));
	assert_true(tw_core_tick(core, 2 * SIM_MS));
	assert_int_equal(s->dest[0].sends, 0);
	added = sim_books(s).shard.added;
	assert_true(tw_core_poll(core));
	assert_true(tw_core_tick(core, 2 * SIM_MS));
	assert_int_equal(s->dest[0].sends, 1);
	assert_int_equal(sim_books(s).shard.added, added);
	assert_true(tw_core_poll(core));
	assert_true(sim_books(s).shard.added > added);
	sim_run(s, 10 * SIM_S);
	assert_int_equal(s->dest[0].seen_count, LARGE + 1);
	sim_check_books(s);
	tw_free(a);
	sim_destroy(s);
}

static void a_large_kept_trace_goes_out_in_parts(void **state)
{
	struct sim_config c = {.workers = 1, .rules = EVERYTHING, .queue_bytes = 16u << 20};
	struct sim_span *a = spans(1, LARGE, true);
	struct sim *s = sim_create(&c);
	struct tw_core *core = s->shared.cores[0];
	uint64_t taken = 0, ticks = 0;

	(void)state;
	sim_send(s, 0, a, LARGE);
	sim_settle(s);
	tw_clock_advance(&s->time, 100 * SIM_MS);
	while (tw_core_tick(core, 0)) {
		struct tw_core_books b = sim_books(s);

		assert_true(b.dest[0].taken - taken < LARGE / 2);
		taken = b.dest[0].taken;
		assert_int_equal(b.dest[0].kept, taken + b.dest[0].pending);
		ticks++;
	}
	assert_true(ticks >= 3);
	sim_run(s, SIM_S);
	assert_int_equal(sim_seen_spans(s, 0, 1), LARGE);
	sim_check_books(s);
	tw_free(a);
	sim_destroy(s);
}

/* What is left of a trace that is half-way out when the process leaves is lost, and counted. */
static void a_stop_between_the_parts(void **state)
{
	struct sim_config c = {.workers = 1, .rules = EVERYTHING};
	struct sim_span *a = spans(1, LARGE, true);
	struct sim *s = sim_create(&c);
	struct tw_core *core = s->shared.cores[0];
	struct tw_core_books b;

	(void)state;
	s->dest[0].mode = SIM_DOWN;
	sim_send(s, 0, a, LARGE);
	sim_settle(s);
	tw_clock_advance(&s->time, 100 * SIM_MS);
	tw_core_tick(core, 0);
	tw_core_tick(core, 0);
	b = sim_books(s);
	assert_true(b.dest[0].taken > 0 && b.dest[0].pending > 0);
	tw_core_stop(core);
	b = sim_books(s);
	assert_int_equal(b.dest[0].pending, 0);
	assert_int_equal(b.dest[0].lost[TW_LOST_SHUTDOWN], LARGE);
	assert_int_equal(tw_core_lost_at_stop(core), LARGE);
	tw_free(a);
	sim_destroy(s);
}

/* A queue that takes a part only: one destination waits for room, of two each gives the rest up. */
static void the_queue_is_full_between_the_parts(void **state)
{
	for (uint32_t dests = 1; dests <= 2; dests++) {
		struct sim_config c = {.workers = 1,
		                       .rules = EVERYTHING,
		                       .dest_count = dests,
		                       .queue_bytes = 300u << 10};
		struct sim_span *a = spans(1, LARGE, true);
		struct sim *s = sim_create(&c);
		struct tw_dest_books b;

		(void)state;
		s->dest[0].mode = SIM_DOWN;
		sim_send(s, 0, a, LARGE);
		sim_run(s, SIM_S);
		b = sim_books(s).dest[0];
		assert_true(b.taken > 0);
		assert_int_equal(b.kept, LARGE);
		if (dests == 1)
			assert_true(b.pending > 0 && b.lost[TW_LOST_QUEUE_FULL] == 0);
		else
			assert_true(b.pending == 0 && b.lost[TW_LOST_QUEUE_FULL] > 0);
		assert_false(tw_core_busy(s->shared.cores[0]));
		s->dest[0].mode = SIM_OK;
		sim_run(s, 120 * SIM_S);
		b = sim_books(s).dest[0];
		assert_int_equal(b.forwarded + b.lost[TW_LOST_QUEUE_FULL], LARGE);
		assert_int_equal(sim_seen_spans(s, 0, 1), b.forwarded);
		tw_free(a);
		sim_destroy(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_large_request_with_one_worker),
	    cmocka_unit_test(a_large_request_with_three_workers),
	    cmocka_unit_test(a_request_behind_a_reload_with_one_worker),
	    cmocka_unit_test(a_request_behind_a_reload_with_three_workers),
	    cmocka_unit_test(a_huge_request_with_one_worker),
	    cmocka_unit_test(a_huge_request_with_three_workers),
	    cmocka_unit_test(a_huge_request_that_comes_to_nothing),
	    cmocka_unit_test(compressing_is_a_turn_of_its_own),
	    cmocka_unit_test(a_large_kept_trace_goes_out_in_parts),
	    cmocka_unit_test(a_stop_between_the_parts),
	    cmocka_unit_test(the_queue_is_full_between_the_parts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
