/* Rules that change while traces are open, and the way out. */
#include "scenario_test.h"

#define RULES(name, cond)                                                                          \
	WAIT "rules:\n"                                                                            \
	     "  - { name: " name ", when: '" cond "', keep: all }\n"                               \
	     "  - { name: rest, keep: none }\n"

static struct sim_span span(uint64_t trace, uint64_t id, const char *attr)
{
	return (struct sim_span){
	    .trace = trace, .span = id, .parent = id == 1 ? 0 : 1, .attr = attr};
}

static void an_open_trace_keeps_its_rules(void **state)
{
	struct sim_config c = {.workers = 2, .rules = RULES("red", "{ span.shape = \"red\" }")};
	struct sim *s = sim_create(&c);
	struct sim_span old_a = span(1, 2, "blue"), old_b = span(1, 1, "red");
	struct sim_span new_a = span(2, 1, "red"), new_b = span(3, 1, "blue");

	(void)state;
	sim_send(s, 0, &old_a, 1);
	sim_reload(s, RULES("blue", "{ span.shape = \"blue\" }"));
	sim_send(s, 1, &old_b, 1); /* matched with the new rules, decided by the old ones */
	sim_send(s, 0, &new_a, 1);
	sim_send(s, 0, &new_b, 1);
	sim_run(s, 2 * SIM_S);
	assert_int_equal(sim_seen_spans(s, 0, 1), 2);
	assert_string_equal(sim_seen(s, 0, 1, 1)->rule, "red");
	assert_int_equal(sim_seen_spans(s, 0, 2), 0);
	assert_int_equal(sim_seen_spans(s, 0, 3), 1);
	assert_string_equal(sim_seen(s, 0, 3, 1)->rule, "blue");
	assert_true(sim_books(s).shard.rematched > 0);
	sim_destroy(s);
}

static void two_reloads_match_again(void **state)
{
	struct sim_config c = {.workers = 2, .rules = RULES("red", "{ span.shape = \"red\" }")};
	struct sim *s = sim_create(&c);
	struct sim_span a = span(1, 2, "green"), b = span(1, 1, "grey"), d = span(2, 1, "red");

	(void)state;
	sim_send(s, 0, &a, 1);
	sim_send(s, 0, &d, 1);
	sim_reload(s, RULES("blue", "{ span.shape = \"blue\" }"));
	sim_settle(s);
	/* The third generation: the first one's traces move to it, with their bytes matched again.
	 */
	sim_reload(s, RULES("green", "{ span.shape = \"green\" }"));
	sim_settle(s);
	sim_send(s, 1, &b, 1);
	sim_run(s, 2 * SIM_S);
	assert_int_equal(sim_seen_spans(s, 0, 1), 2);
	assert_string_equal(sim_seen(s, 0, 1, 2)->rule, "green");
	assert_int_equal(sim_seen_spans(s, 0, 2), 0);
	sim_destroy(s);
}

/* Batches of three generations meet in one ring. */
static void reloads_overtake_a_batch(void **state)
{
	struct sim_config c = {.workers = 2, .rules = RULES("red", "{ span.shape = \"red\" }")};
	struct sim *s = sim_create(&c);

	(void)state;
	for (uint64_t i = 1; i <= 64; i++) {
		struct sim_span a = span(i, 1, "green");

		sim_send(s, 0, &a, 1); /* about half lie in the ring to core 1 now */
	}
	sim_reload(s, RULES("blue", "{ span.shape = \"blue\" }"));
	sim_reload(s, RULES("green", "{ span.shape = \"green\" }"));
	sim_run(s, 2 * SIM_S);
	assert_int_equal(s->dest[0].seen_count, 64);
	sim_destroy(s);
}

/* Its first span is held when its second one, overtaken by two reloads, is matched again by itself:
 * the trace's own rematch must not disturb that. Every span arrives, once, in its own service. */
static void a_trace_is_matched_again_within_an_add(void **state)
{
	struct sim_config c = {.workers = 2, .rules = RULES("red", "{ span.shape = \"red\" }")};
	struct sim *s = sim_create(&c);

	(void)state;
	for (uint64_t i = 1; i <= 64; i++) {
		struct sim_span a = span(i, 2, "green");

		a.service = "first";
		sim_send(s, 0, &a, 1);
	}
	sim_settle(s);
	for (uint64_t i = 1; i <= 64; i++) {
		struct sim_span b = span(i, 1, "grey");

		b.service = "second";
		sim_send(s, 0, &b, 1);
	}
	sim_reload(s, RULES("blue", "{ span.shape = \"blue\" }"));
	sim_reload(s, RULES("green", "{ span.shape = \"green\" }"));
	sim_run(s, 2 * SIM_S);
	assert_int_equal(s->dest[0].seen_count, 128);
	for (uint64_t i = 1; i <= 64; i++) {
		assert_non_null(sim_seen(s, 0, i, 1));
		assert_non_null(sim_seen(s, 0, i, 2));
	}
	sim_destroy(s);
}

static void many_reloads(void **state)
{
	struct sim_config c = {.workers = 3, .rules = ERRORS_ONLY};
	struct sim *s = sim_create(&c);

	(void)state;
	for (uint64_t i = 1; i <= 200; i++) {
		struct sim_span a = {.trace = i, .span = 1, .status = i % 2 ? TW_STATUS_ERROR : 0};

		sim_send(s, (uint32_t)(i % 3), &a, 1);
		sim_reload(s, ERRORS_ONLY);
		sim_run(s, 10 * SIM_MS);
	}
	sim_run(s, 3 * SIM_S);
	assert_int_equal(s->dest[0].seen_count, 100);
	sim_destroy(s);
}

static void drain_with_batches_in_rings(void **state)
{
	struct sim_config c = {.workers = 4, .rules = ERRORS_ONLY};
	struct sim *s = sim_create(&c);

	(void)state;
	for (uint64_t i = 1; i <= 400; i++) {
		struct sim_span a[2] = {{.trace = i, .span = 2, .parent = 1},
		                        {.trace = i, .span = 1, .status = TW_STATUS_ERROR}};

		/* Its halves come in by two workers and lie in rings when the drain begins. */
		sim_send(s, (uint32_t)(i % 4), &a[0], 1);
		sim_send(s, (uint32_t)((i + 1) % 4), &a[1], 1);
	}
	assert_int_equal(sim_drain(s, 20 * SIM_S), 0);
	assert_int_equal(s->dest[0].seen_count, 800);
	assert_string_equal(sim_seen(s, 0, 5, 1)->reason, "drain");
	sim_destroy(s);
}

static void drain_with_a_dead_backend(void **state)
{
	struct sim_config c = {.workers = 2, .rules = ERRORS_ONLY};
	struct sim *s = sim_create(&c);

	(void)state;
	s->dest[0].mode = SIM_DOWN;
	for (uint64_t i = 1; i <= 50; i++) {
		struct sim_span a = {.trace = i, .span = 1, .status = TW_STATUS_ERROR};

		sim_send(s, 0, &a, 1);
	}
	assert_int_equal(sim_drain(s, 5 * SIM_S), 50);
	assert_int_equal(sim_books(s).dest[0].lost[TW_LOST_SHUTDOWN], 50);
	sim_destroy(s);
}

static void refused_leaves_nothing(void **state)
{
	struct sim_config c = {.workers = 2, .rules = ERRORS_ONLY};
	struct sim *s = sim_create(&c);
	struct sim_span a = {.trace = 1, .span = 1};
	struct tw_core_books b;

	(void)state;
	atomic_store(&s->shared.draining, true);
	assert_false(sim_send(s, 0, &a, 1));
	b = sim_books(s);
	assert_int_equal(s->answer.refused, 1);
	assert_int_equal(b.accepted, 0);
	assert_int_equal(b.refused[TW_REFUSE_DRAIN], 1);
	assert_int_equal(tw_red_series_count(s->shared.red), 0);
	assert_int_equal(b.shard.traces_begun, 0);
	assert_false(sim_send_bytes(s, 0, "\x0a\xff", 2));
	assert_int_equal(s->answer.malformed, 1);
	assert_int_equal(tw_red_series_count(s->shared.red), 0);
	sim_destroy(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(an_open_trace_keeps_its_rules),
	    cmocka_unit_test(two_reloads_match_again),
	    cmocka_unit_test(reloads_overtake_a_batch),
	    cmocka_unit_test(a_trace_is_matched_again_within_an_add),
	    cmocka_unit_test(many_reloads),
	    cmocka_unit_test(drain_with_batches_in_rings),
	    cmocka_unit_test(drain_with_a_dead_backend),
	    cmocka_unit_test(refused_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
