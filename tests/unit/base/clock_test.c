#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <inttypes.h>
#include <string.h>

#include "tw/base/clock.h"
#include "tw/base/error.h"

struct row {
	const char *text;
	int rc;
	uint64_t value;
};

static void rows_check(const struct row *rows, int (*parse)(const char *, size_t, uint64_t *))
{
	for (; rows->text; rows++) {
		uint64_t v = 77;
		int rc = parse(rows->text, strlen(rows->text), &v);

		if (rc != rows->rc || v != (rc ? 77 : rows->value))
			fail_msg("\"%s\": rc %d, value %" PRIu64, rows->text, rc, v);
	}
}

static void durations(void **state)
{
	static const struct row rows[] = {
	    {"0", 0, 0},
	    {"0s", 0, 0},
	    {"10ns", 0, 10},
	    {"100us", 0, 100000},
	    {"100\xC2\xB5s", 0, 100000},
	    {"1500ms", 0, 1500 * TW_NS_PER_MS},
	    {"2s", 0, 2 * TW_NS_PER_S},
	    {"1.5s", 0, 1500 * TW_NS_PER_MS},
	    {"0.1s", 0, 100 * TW_NS_PER_MS},
	    {"0.000000001s", 0, 1},
	    {"1m30s", 0, 90 * TW_NS_PER_S},
	    {"2h", 0, 7200 * TW_NS_PER_S},
	    {"1d", 0, 86400 * TW_NS_PER_S},
	    {"1w", 0, 7 * 86400 * TW_NS_PER_S},
	    {"1w1d1h1m1s1ms1us1ns", 0, UINT64_C(694861001001001)},
	    {"9223372036854775807ns", 0, INT64_MAX},
	    {"9223372036854775808ns", TW_ELIMIT, 0},
	    {"99999999999999999999ns", TW_ELIMIT, 0},
	    {"9223372036s854775807ns", 0, INT64_MAX},
	    {"9223372036s854775808ns", TW_ELIMIT, 0},
	    {"99999w", TW_ELIMIT, 0},
	    {"", TW_EINVAL, 0},
	    {"1", TW_EINVAL, 0},
	    {"00", TW_EINVAL, 0},
	    {"s", TW_EINVAL, 0},
	    {"-1s", TW_EINVAL, 0},
	    {"+1s", TW_EINVAL, 0},
	    {".5s", TW_EINVAL, 0},
	    {"1.s", TW_EINVAL, 0},
	    {"1.5.5s", TW_EINVAL, 0},
	    {"0.5ns", TW_EINVAL, 0},
	    {"1s ", TW_EINVAL, 0},
	    {" 1s", TW_EINVAL, 0},
	    {"1 s", TW_EINVAL, 0},
	    {"1s5", TW_EINVAL, 0},
	    {"1S", TW_EINVAL, 0},
	    {"1sec", TW_EINVAL, 0},
	    {"1e3s", TW_EINVAL, 0},
	    {"0.0000000000000000001s", TW_EINVAL, 0},
	    {0},
	};

	(void)state;
	rows_check(rows, tw_duration_parse);
}

static void sizes(void **state)
{
	static const struct row rows[] = {
	    {"0", 0, 0},
	    {"123", 0, 123},
	    {"123B", 0, 123},
	    {"1KiB", 0, 1024},
	    {"10 KiB", 0, 10240},
	    {"64MiB", 0, 64 << 20},
	    {"5GiB", 0, UINT64_C(5) << 30},
	    {"1.5GiB", 0, UINT64_C(3) << 29},
	    {"2TiB", 0, UINT64_C(2) << 40},
	    {"1kB", 0, 1000},
	    {"1MB", 0, 1000000},
	    {"1GB", 0, 1000000000},
	    {"1TB", 0, UINT64_C(1000000000000)},
	    {"8388607TiB", 0, UINT64_C(8388607) << 40},
	    {"8388608TiB", TW_ELIMIT, 0},
	    {"9223372036854775807", 0, INT64_MAX},
	    {"9223372036854775808", TW_ELIMIT, 0},
	    {"99999999999999999999", TW_ELIMIT, 0},
	    {"", TW_EINVAL, 0},
	    {"1.5", TW_EINVAL, 0},
	    {"0.3B", TW_EINVAL, 0},
	    {"1 ", TW_EINVAL, 0},
	    {"1  KiB", TW_EINVAL, 0},
	    {"1KiB1KiB", TW_EINVAL, 0},
	    {"1KiB ", TW_EINVAL, 0},
	    {"1kb", TW_EINVAL, 0},
	    {"1K", TW_EINVAL, 0},
	    {"KiB", TW_EINVAL, 0},
	    {"-1", TW_EINVAL, 0},
	    {0},
	};

	(void)state;
	rows_check(rows, tw_bytes_parse);
}

static void virtual_clock_moves_by_hand_only(void **state)
{
	struct tw_clock_virtual v = {.mono_ns = 5, .wall_ns = 1000};
	struct tw_clock c = tw_clock_virtual(&v);

	(void)state;
	assert_int_equal(tw_now(&c), 5);
	assert_int_equal(tw_now(&c), 5);
	tw_clock_advance(&v, 7);
	assert_int_equal(tw_now(&c), 12);
	assert_int_equal(tw_wall(&c), 1007);
}

static void real_clock_does_not_go_back(void **state)
{
	uint64_t before = tw_now(&tw_clock_real);

	(void)state;
	for (int i = 0; i < 1000; i++) {
		uint64_t now = tw_now(&tw_clock_real);

		assert_true(now >= before);
		before = now;
	}
	assert_true(tw_wall(&tw_clock_real) > UINT64_C(1577836800) * TW_NS_PER_S); /* 2020 */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(durations),
	    cmocka_unit_test(sizes),
	    cmocka_unit_test(virtual_clock_moves_by_hand_only),
	    cmocka_unit_test(real_clock_does_not_go_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
