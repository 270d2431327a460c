/* Delays are noted in steps, and never understated. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "delay.h"

#define MS TW_NS_PER_MS

static uint64_t traces(const struct tw_exporter_stats *s)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i <= TW_DELAY_BOUNDS; i++)
		n += tw_counter_get(&s->delay[i]);
	return n;
}

static void test_each_trace_has_its_own_delay(void **state)
{
	struct tw_exporter_stats s;
	struct tw_delay d = {.count = 0};

	(void)state;
	memset(&s, 0, sizeof(s));
	tw_delay_note(&d, 0, 3 * MS);
	tw_delay_note(&d, 2 * MS, 3 * MS); /* within the step of the first */
	tw_delay_note(&d, 45 * MS, 3 * MS);
	tw_delay_settle(&d, &s, 50 * MS);
	assert_int_equal(traces(&s), 3);
	assert_int_equal(tw_counter_get(&s.delay[2]), 2); /* 50 ms, inclusive */
	assert_int_equal(tw_counter_get(&s.delay[0]), 1);
	assert_int_equal(tw_counter_get(&s.delay_ns_sum), 2 * 50 * MS + 5 * MS);
}

static void test_an_open_batch_that_waits_overstates(void **state)
{
	struct tw_exporter_stats s;
	struct tw_delay d = {.count = 0};

	(void)state;
	memset(&s, 0, sizeof(s));
	for (uint64_t i = 0; i < 1000; i++)
		tw_delay_note(&d, i * 10 * MS, 3 * MS);
	assert_int_equal(d.count, TW_DELAY_MARKS);
	tw_delay_settle(&d, &s, 10000 * MS);
	assert_int_equal(traces(&s), 1000);
	/* All of them waited for at least as long as they would have been said to by themselves. */
	assert_true(tw_counter_get(&s.delay_ns_sum) >= 1000 * 5005 * MS);
	assert_int_equal(tw_counter_get(&s.delay[TW_DELAY_BOUNDS]), 0);
}

static void test_longer_than_all_bounds(void **state)
{
	struct tw_exporter_stats s;
	struct tw_delay d = {.count = 0};

	(void)state;
	memset(&s, 0, sizeof(s));
	tw_delay_note(&d, 0, MS);
	tw_delay_settle(&d, &s, 301 * TW_NS_PER_S);
	assert_int_equal(tw_counter_get(&s.delay[TW_DELAY_BOUNDS]), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_each_trace_has_its_own_delay),
	    cmocka_unit_test(test_an_open_batch_that_waits_overstates),
	    cmocka_unit_test(test_longer_than_all_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
