/* Short memory: early decisions, compaction, refusals, and that nothing is lost by them. */
#include "scenario_test.h"

/* A value that makes a span about n bytes long. */
static char *filler(size_t n)
{
	static char text[2048];

	memset(text, 'x', n);
	text[n] = '\0';
	return text;
}

static void early_decisions_make_room(void **state)
{
	struct sim_config c = {.workers = 1, .rules = ERRORS_ONLY, .buffer_bytes = 8u << 20};
	struct sim *s = sim_create(&c);

	(void)state;
	for (uint64_t i = 1; i <= 20000; i++) {
		struct sim_span a = {.trace = i,
		                     .span = 1,
		                     .parent = 9,
		                     .attr = filler(1000),
		                     .status = i % 100 == 0 ? TW_STATUS_ERROR : 0};

		sim_send(s, 0, &a, 1);
		if (i % 50 == 0)
			sim_run(s, 10 * SIM_MS);
	}
	assert_int_equal(s->answer.refused, 0);
	assert_true(sim_books(s).shard.early_decisions > 0);
	assert_true(sim_books(s).shard.segments <= 9);
	sim_run(s, 30 * SIM_S);
	assert_int_equal(s->dest[0].seen_count, 200); /* every error trace, early or not */
	assert_int_equal(sim_books(s).accepted, 20000);
	sim_check_books(s);
	sim_destroy(s);
}

static void compaction_under_mixed_waits(void **state)
{
	struct sim_config c = {.workers = 1,
	                       .rules =
	                           "wait: { root: 1s, idle: 60s, most: 60s }\n"
	                           "rules:\n"
	                           "  - { name: errors, when: '{ status = error }', keep: all }\n"
	                           "  - { name: rest, keep: none }\n",
	                       .buffer_bytes = 32u << 20};
	struct sim *s = sim_create(&c);
	uint32_t long_ones = 0;

	(void)state;
	/* One trace in fifty waits for a minute, the others a second: segments would be pinned by
	 * the few. */
	for (uint64_t i = 1; i <= 50000; i++) {
		bool slow = i % 50 == 0;
		struct sim_span a = {.trace = i,
		                     .span = 1,
		                     .parent = slow ? 9 : 0,
		                     .attr = filler(900),
		                     .status = slow ? TW_STATUS_ERROR : 0};

		long_ones += slow;
		sim_send(s, 0, &a, 1);
		if (i % 20 == 0)
			sim_run(s, 10 * SIM_MS);
	}
	assert_true(sim_books(s).shard.compactions > 0);
	assert_int_equal(sim_books(s).shard.early_decisions, 0);
	assert_int_equal(s->answer.refused, 0);
	sim_run(s, 70 * SIM_S);
	assert_int_equal(s->dest[0].seen_count, long_ones);
	sim_destroy(s);
}

static void a_full_buffer_refuses_and_recovers(void **state)
{
	struct sim_config c = {.workers = 1,
	                       .rules = "wait: { root: 10ms, idle: 1s, most: 2s }\n"
	                                "rules: [ { name: everything, keep: all } ]\n",
	                       .buffer_bytes = 8u << 20,
	                       .queue_bytes = 1u << 20};
	struct sim *s = sim_create(&c);
	uint32_t accepted = 0;

	(void)state;
	s->dest[0].mode = SIM_DOWN;
	for (uint64_t i = 1; i <= 20000; i++) {
		struct sim_span a = {.trace = i, .span = 1, .attr = filler(1000)};

		accepted += sim_send(s, 0, &a, 1);
		if (i % 100 == 0)
			sim_run(s, 20 * SIM_MS);
	}
	assert_true(s->answer.refused > 0);
	assert_true(accepted > 5000);
	assert_true(sim_books(s).shard.segments <= 10);
	sim_check_books(s);
	s->dest[0].mode = SIM_OK;
	sim_run(s, 60 * SIM_S);
	/* Everything that was acknowledged has arrived, once. */
	assert_int_equal(s->dest[0].seen_count, accepted);
	{
		struct sim_span a = {.trace = 77777, .span = 1};

		assert_true(sim_send(s, 0, &a, 1));
	}
	sim_destroy(s);
}

/* Refused it would come again for ever; so alone it passes, and beside others it waits. */
static void views_larger_than_their_budget(void **state)
{
	struct sim_config c = {.workers = 2, .rules = ERRORS_ONLY};
	struct sim *s = sim_create(&c);
	struct sim_span a[2] = {{.trace = 1, .span = 2, .parent = 1}, {.trace = 1, .span = 1}};

	(void)state;
	tw_budget_init(&s->views, 100);
	assert_true(tw_budget_reserve(&s->views, 1));
	assert_false(sim_send(s, 0, a, 2));
	assert_int_equal(sim_books(s).refused[TW_REFUSE_MEMORY], 2);
	tw_budget_release(&s->views, 1);
	sim_send(s, 0, a, 2);
	sim_settle(s);
	assert_int_equal(s->answer.ok, 1);
	assert_int_equal(sim_books(s).accepted, 2);
	sim_destroy(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(early_decisions_make_room),
	    cmocka_unit_test(compaction_under_mixed_waits),
	    cmocka_unit_test(a_full_buffer_refuses_and_recovers),
	    cmocka_unit_test(views_larger_than_their_budget),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
