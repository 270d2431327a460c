/* Turns of a worker's loop: their length, without sleep, by wall and by CPU time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "turns.h"

#define MS TW_NS_PER_MS

static void test_sleep_is_no_part_of_a_turn(void **state)
{
	struct tw_turns t = {.wall_ns = 0};

	(void)state;
	tw_turns_end(&t, 1000 * MS, 0, 0); /* begins the first */
	assert_int_equal(tw_counter_get(&t.bucket[0]), 0);
	tw_turns_end(&t, 1100 * MS, 97 * MS, 2 * MS);
	assert_int_equal(tw_counter_get(&t.bucket[3]), 1); /* over 2, up to 5 ms */
	assert_int_equal(tw_counter_get(&t.wall_sum_ns), 3 * MS);
	assert_int_equal(tw_counter_get(&t.cpu_sum_ns), 2 * MS);
	/* It seems to have slept for longer than it turned: nothing is negative. */
	tw_turns_end(&t, 1101 * MS, 98 * MS + 1, 2 * MS);
	assert_int_equal(tw_counter_get(&t.bucket[0]), 1);
	assert_int_equal(tw_counter_get(&t.wall_sum_ns), 3 * MS);
}

static void test_how_long_it_has_been_so_far(void **state)
{
	struct tw_turns t = {.wall_ns = 0};

	(void)state;
	tw_turns_end(&t, 1000 * MS, 10 * MS, 0);
	assert_int_equal(tw_turns_so_far(&t, 1100 * MS, 107 * MS), 3 * MS);
	assert_int_equal(tw_turns_so_far(&t, 1101 * MS, 107 * MS), 4 * MS);
	assert_int_equal(tw_turns_so_far(&t, 1001 * MS, 12 * MS), 0); /* as in its end */
}

/* What the kernel did in its name while it slept. */
static void test_no_more_cpu_time_than_the_turn_took(void **state)
{
	struct tw_turns t = {.wall_ns = 0};

	(void)state;
	tw_turns_end(&t, 1000 * MS, 0, 0);
	tw_turns_end(&t, 1100 * MS, 99 * MS, 5 * MS);
	assert_int_equal(tw_turns_longest(&t.cpu_longest_ns, false), 1 * MS);
	tw_turns_end(&t, 1102 * MS, 99 * MS, 6 * MS); /* the next one begins anew */
	assert_int_equal(tw_turns_longest(&t.cpu_longest_ns, false), 1 * MS);
	assert_int_equal(tw_counter_get(&t.cpu_sum_ns), 2 * MS);
}

static void test_longest_since_the_last_look(void **state)
{
	struct tw_turns t = {.wall_ns = 0};

	(void)state;
	tw_turns_end(&t, 1 * MS, 0, 0);
	tw_turns_end(&t, 8 * MS, 0, 4 * MS);
	tw_turns_end(&t, 9 * MS, 0, 5 * MS);
	assert_int_equal(tw_turns_longest(&t.wall_longest_ns, true), 7 * MS);
	assert_int_equal(tw_turns_longest(&t.wall_longest_ns, false), 7 * MS);
	assert_int_equal(tw_turns_longest(&t.cpu_longest_ns, false), 4 * MS);
	tw_turns_end(&t, 11 * MS, 0, 6 * MS);
	assert_int_equal(tw_turns_longest(&t.wall_longest_ns, false), 2 * MS);
	assert_int_equal(tw_turns_longest(&t.wall_longest_ns, false), 0);
}

static void test_longer_than_all_bounds(void **state)
{
	struct tw_turns t = {.wall_ns = 0};

	(void)state;
	tw_turns_end(&t, 1, 0, 0);
	tw_turns_end(&t, 2 * TW_NS_PER_S, 0, 0);
	assert_int_equal(tw_counter_get(&t.bucket[TW_TURN_BOUNDS]), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_sleep_is_no_part_of_a_turn),
	    cmocka_unit_test(test_how_long_it_has_been_so_far),
	    cmocka_unit_test(test_no_more_cpu_time_than_the_turn_took),
	    cmocka_unit_test(test_longest_since_the_last_look),
	    cmocka_unit_test(test_longer_than_all_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
