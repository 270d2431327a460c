/* When a trace is complete, and what is decided then. */
#include "scenario_test.h"

static void completion_by_root(void **state)
{
	struct sim_config c = {.workers = 2, .rules = ERRORS_ONLY};
	struct sim *s = sim_create(&c);
	struct sim_span child = {.trace = 7, .span = 2, .parent = 1, .status = TW_STATUS_ERROR};
	struct sim_span root = {.trace = 7, .span = 1};

	(void)state;
	sim_send(s, 0, &child, 1);
	sim_run(s, 4 * SIM_S);
	assert_int_equal(sim_books(s).shard.traces_decided, 0);
	sim_send(s, 1, &root, 1); /* through the other worker */
	sim_run(s, 900 * SIM_MS);
	assert_int_equal(sim_books(s).shard.traces_decided, 0);
	sim_run(s, 300 * SIM_MS);
	assert_int_equal(sim_seen_spans(s, 0, 7), 2);
	assert_string_equal(sim_seen(s, 0, 7, 1)->rule, "errors");
	assert_string_equal(sim_seen(s, 0, 7, 2)->reason, "root");
	assert_int_equal(sim_rule_traces(s, "errors", TW_REASON_ROOT, true), 1);
	sim_destroy(s);
}

static void completion_by_idle(void **state)
{
	struct sim_config c = {.workers = 1, .rules = ERRORS_ONLY};
	struct sim *s = sim_create(&c);
	struct sim_span a = {.trace = 8, .span = 2, .parent = 1, .status = TW_STATUS_ERROR};
	struct sim_span b = {.trace = 8, .span = 3, .parent = 1};

	(void)state;
	sim_send(s, 0, &a, 1);
	sim_run(s, 4 * SIM_S);
	sim_send(s, 0, &b, 1); /* idle begins anew */
	sim_run(s, 4 * SIM_S);
	assert_int_equal(sim_books(s).shard.traces_decided, 0);
	sim_run(s, 1200 * SIM_MS);
	assert_int_equal(sim_seen_spans(s, 0, 8), 2);
	assert_string_equal(sim_seen(s, 0, 8, 3)->reason, "idle");
	sim_destroy(s);
}

static void completion_by_most(void **state)
{
	struct sim_config c = {.workers = 1, .rules = ERRORS_ONLY};
	struct sim *s = sim_create(&c);

	(void)state;
	for (uint64_t i = 0; i < 10; i++) { /* a span each 2 s never lets it be idle */
		struct sim_span a = {
		    .trace = 9, .span = 2 + i, .parent = 1, .status = TW_STATUS_ERROR};

		sim_send(s, 0, &a, 1);
		sim_run(s, 1990 * SIM_MS);
	}
	assert_int_equal(sim_books(s).shard.traces_decided, 0);
	sim_run(s, 300 * SIM_MS);
	assert_int_equal(sim_seen_spans(s, 0, 9), 10);
	assert_string_equal(sim_seen(s, 0, 9, 2)->reason, "most");
	sim_destroy(s);
}

/* The root moves the deadline from idle's 5 s to 1 s after it; nothing else about the trace
 * changes. */
static void a_root_shortens_the_deadline(void **state)
{
	struct sim_config c = {.workers = 1, .rules = ERRORS_ONLY};
	struct sim *s = sim_create(&c);
	struct sim_span with[2] = {{.trace = 1, .span = 1}, {.trace = 1, .span = 2, .parent = 1}};
	struct sim_span without = {.trace = 2, .span = 2, .parent = 1};

	(void)state;
	sim_send(s, 0, &without, 1);
	sim_send(s, 0, &with[1], 1);
	sim_run(s, 2 * SIM_S);
	sim_send(s, 0, &with[0], 1);
	sim_run(s, 1100 * SIM_MS);
	assert_int_equal(sim_rule_traces(s, "rest", TW_REASON_ROOT, false), 1);
	assert_int_equal(sim_books(s).shard.traces_open, 1);
	sim_run(s, 2 * SIM_S);
	assert_int_equal(sim_rule_traces(s, "rest", TW_REASON_IDLE, false), 1);
	sim_destroy(s);
}

static void late_spans_follow_the_verdict(void **state)
{
	struct sim_config c = {.workers = 2, .rules = ERRORS_ONLY};
	struct sim *s = sim_create(&c);
	struct sim_span kept = {.trace = 21, .span = 1, .status = TW_STATUS_ERROR};
	struct sim_span gone = {.trace = 22, .span = 1};
	struct sim_span late_kept = {.trace = 21, .span = 5, .parent = 1};
	struct sim_span late_gone = {.trace = 22, .span = 5, .parent = 1};
	struct sim_span late_error = {
	    .trace = 22, .span = 6, .parent = 1, .status = TW_STATUS_ERROR};
	struct sim_span sibling = {.trace = 22, .span = 7, .parent = 1};

	(void)state;
	sim_send(s, 0, &kept, 1);
	sim_send(s, 0, &gone, 1);
	sim_run(s, 1500 * SIM_MS);
	assert_int_equal(sim_books(s).shard.traces_decided, 2);

	sim_send(s, 1, &late_kept, 1);
	sim_send(s, 1, &late_gone, 1);
	sim_run(s, 200 * SIM_MS);
	assert_int_equal(sim_seen_spans(s, 0, 21), 2);
	assert_string_equal(sim_seen(s, 0, 21, 5)->reason, "late");
	assert_string_equal(sim_seen(s, 0, 21, 5)->rule, "errors");
	assert_int_equal(sim_seen_spans(s, 0, 22), 0);
	assert_int_equal(sim_books(s).shard.late_let_go, 1);

	/* An error of a trace that was let go: it and what comes after it are kept. */
	sim_send(s, 0, &late_error, 1);
	sim_send(s, 0, &sibling, 1);
	sim_run(s, 200 * SIM_MS);
	assert_int_equal(sim_seen_spans(s, 0, 22), 2);
	assert_string_equal(sim_seen(s, 0, 22, 7)->reason, "late");
	/* Not decided twice. */
	assert_int_equal(sim_books(s).shard.traces_decided, 2);
	sim_destroy(s);
}

static void a_forgotten_trace_is_a_new_one(void **state)
{
	struct sim_config c = {.workers = 1, .rules = ERRORS_ONLY, .verdict_keep_ns = 60 * SIM_S};
	struct sim *s = sim_create(&c);
	struct sim_span a = {.trace = 31, .span = 1, .status = TW_STATUS_ERROR};
	struct sim_span b = {.trace = 31, .span = 2, .parent = 1};

	(void)state;
	sim_send(s, 0, &a, 1);
	sim_run(s, 2 * SIM_S);
	sim_run(s, 120 * SIM_S);
	sim_send(s, 0, &b, 1);
	sim_run(s, 6 * SIM_S);
	assert_int_equal(sim_books(s).shard.traces_decided, 2);
	assert_int_equal(sim_seen_spans(s, 0, 31), 1);
	sim_destroy(s);
}

static void one_trace_too_large(void **state)
{
	struct sim_config c = {.workers = 1, .rules = ERRORS_ONLY, .trace_spans_max = 10};
	struct sim *s = sim_create(&c);

	(void)state;
	for (uint64_t i = 0; i < 25; i++) {
		struct sim_span a = {
		    .trace = 41, .span = 1 + i, .parent = 99, .status = TW_STATUS_ERROR};

		sim_send(s, 0, &a, 1);
	}
	sim_run(s, 200 * SIM_MS);
	assert_int_equal(sim_seen_spans(s, 0, 41), 25);
	assert_string_equal(sim_seen(s, 0, 41, 1)->reason, "size");
	assert_string_equal(sim_seen(s, 0, 41, 25)->reason, "late");
	sim_destroy(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(completion_by_root),
	    cmocka_unit_test(completion_by_idle),
	    cmocka_unit_test(completion_by_most),
	    cmocka_unit_test(a_root_shortens_the_deadline),
	    cmocka_unit_test(late_spans_follow_the_verdict),
	    cmocka_unit_test(a_forgotten_trace_is_a_new_one),
	    cmocka_unit_test(one_trace_too_large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
