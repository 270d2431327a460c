/* The back-off's bounds, and the gate. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "retry.h"
#include "tw/base/clock.h"

static void test_delays(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 200; seed++) {
		double base = 1e9;
		struct tw_backoff b;

		tw_backoff_init(&b, TW_NS_PER_S, 30 * TW_NS_PER_S, seed);
		for (uint32_t tries = 1; tries < 20; tries++) {
			uint64_t d = tw_backoff_delay_ns(&b, tries, TW_RETRY_AFTER_NONE);

			assert_true((double)d >= base * 0.499 && (double)d <= base * 1.501);
			base = base * 1.5 > 30e9 ? 30e9 : base * 1.5;
		}
		assert_true(tw_backoff_delay_ns(&b, UINT32_MAX, 0) <= 45 * TW_NS_PER_S);
	}
}

/* ± 50 % is used: the mean is the base, and both ends are reached. */
static void test_jitter_spreads(void **state)
{
	uint64_t low = UINT64_MAX, high = 0;
	struct tw_backoff b;
	double sum = 0;

	(void)state;
	tw_backoff_init(&b, TW_NS_PER_S, TW_NS_PER_S, 42);
	for (int i = 0; i < 10000; i++) {
		uint64_t d = tw_backoff_delay_ns(&b, 1, TW_RETRY_AFTER_NONE);

		low = d < low ? d : low;
		high = d > high ? d : high;
		sum += (double)d;
	}
	assert_in_range(low, 500000000, 510000000);
	assert_in_range(high, 1490000000, 1500000000);
	assert_true(sum / 10000 > 0.98e9 && sum / 10000 < 1.02e9);
}

static void test_a_seed_repeats(void **state)
{
	struct tw_backoff a, b, c;
	int same = 0;

	(void)state;
	tw_backoff_init(&a, TW_NS_PER_S, 30 * TW_NS_PER_S, 5);
	tw_backoff_init(&b, TW_NS_PER_S, 30 * TW_NS_PER_S, 5);
	tw_backoff_init(&c, TW_NS_PER_S, 30 * TW_NS_PER_S, 6);
	for (uint32_t i = 1; i < 50; i++) {
		uint64_t d = tw_backoff_delay_ns(&a, i, TW_RETRY_AFTER_NONE);

		assert_int_equal(d, tw_backoff_delay_ns(&b, i, TW_RETRY_AFTER_NONE));
		same += d == tw_backoff_delay_ns(&c, i, TW_RETRY_AFTER_NONE);
	}
	assert_int_equal(same, 0);
}

static void BK_03_retry_after_is_a_minimum(void **state)
{
	struct tw_backoff b;

	(void)state;
	tw_backoff_init(&b, TW_NS_PER_S, 30 * TW_NS_PER_S, 5);
	assert_int_equal(tw_backoff_delay_ns(&b, 1, 60000), 60 * TW_NS_PER_S);
	assert_true(tw_backoff_delay_ns(&b, 1, 1) >= TW_NS_PER_S / 2);
	assert_int_equal(tw_backoff_delay_ns(&b, 1, UINT64_C(31536000000)),
	                 TW_RETRY_AFTER_MS_MAX * TW_NS_PER_MS);
	assert_int_equal(tw_backoff_delay_ns(&b, 1, UINT64_MAX - 1),
	                 TW_RETRY_AFTER_MS_MAX * TW_NS_PER_MS);
}

static void test_gate(void **state)
{
	struct tw_gate g = {0};
	struct tw_backoff b;
	uint32_t r1, r2;

	(void)state;
	tw_backoff_init(&b, 1000, 1000, 5);
	assert_true(tw_gate_passes(&g, 0));
	assert_int_equal(tw_gate_sent(&g), 0);
	assert_int_equal(tw_gate_sent(&g), 0);
	assert_true(tw_gate_failed(&g, &b, 0, TW_RETRY_AFTER_NONE, 0));
	assert_false(tw_gate_failed(&g, &b, 0, TW_RETRY_AFTER_NONE, 0)); /* its companion */
	assert_int_equal(g.tries, 1);
	assert_false(tw_gate_passes(&g, 0));
	assert_true(tw_gate_passes(&g, 1500));
	r1 = tw_gate_sent(&g);
	assert_true(r1 != 0);
	assert_false(tw_gate_passes(&g, 10000));          /* one probe */
	assert_false(tw_gate_failed(&g, &b, 0, 1, 2000)); /* a straggler that was told to wait */
	assert_false(tw_gate_passes(&g, 10000));
	assert_true(tw_gate_answered(&g)); /* another straggler was taken */
	assert_true(tw_gate_passes(&g, 2000));
	assert_false(tw_gate_answered(&g));
	assert_true(tw_gate_failed(&g, &b, 0, TW_RETRY_AFTER_NONE, 3000));
	r2 = tw_gate_sent(&g);
	assert_true(r2 != r1);
	assert_false(
	    tw_gate_failed(&g, &b, r1, TW_RETRY_AFTER_NONE, 3000)); /* the old round's probe */
	assert_true(g.probing);
	assert_false(tw_gate_failed(&g, &b, r2, TW_RETRY_AFTER_NONE, 3000));
	assert_false(g.probing);
	assert_int_equal(g.tries, 2);
	tw_gate_hurry(&g);
	assert_true(tw_gate_passes(&g, 3000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_delays),         cmocka_unit_test(test_jitter_spreads),
	    cmocka_unit_test(test_a_seed_repeats), cmocka_unit_test(BK_03_retry_after_is_a_minimum),
	    cmocka_unit_test(test_gate),
	};
	return cmocka_run_group_tests_name("forward_retry", tests, NULL, NULL);
}
