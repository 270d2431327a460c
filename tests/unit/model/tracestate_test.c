#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "tw/model/trace.h"

static const char *written(const char *in, uint64_t threshold)
{
	static char out[8192];
	size_t n =
	    tw_tracestate_write(tw_slice_str(in), threshold, (uint8_t *)out, sizeof(out) - 1);

	assert_true(n <= strlen(in) + 24);
	out[n] = '\0';
	return out;
}

static struct tw_ot parsed(const char *in)
{
	struct tw_ot ot;

	tw_tracestate_parse(tw_slice_str(in), &ot);
	return ot;
}

/* The table of the specification, p → th at full precision. */
static void thresholds_of_ratios(void **state)
{
	static const struct {
		double p;
		const char *ot;
	} rows[] = {
	    {1, "ot=th:0"},
	    {0.75, "ot=th:4"},
	    {0.5, "ot=th:8"},
	    {0.25, "ot=th:c"},
	    {0.1, "ot=th:e6666666666666"},
	    {0.01, "ot=th:fd70a3d70a3d71"},
	    {0.001, "ot=th:ffbe76c8b43958"},
	    {1.0 / (1 << 20), "ot=th:fffff"},
	    {1.0 / (UINT64_C(1) << 56), "ot=th:ffffffffffffff"},
	    {1 - 1.0 / 4096, "ot=th:001"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t t = tw_threshold_from_ratio(rows[i].p);
		struct tw_ot ot;

		assert_string_equal(written("", t), rows[i].ot);
		ot = parsed(rows[i].ot);
		assert_true(ot.has_th && !ot.malformed);
		assert_true(ot.th == t);
	}
	/* 1/3 itself is aaaaaaaaaaaaab; the double nearest to it lies below. */
	assert_string_equal(written("", tw_threshold_from_ratio(1.0 / 3)), "ot=th:aaaaaaaaaaaaac");
	assert_string_equal(written("", UINT64_C(0xaaaaaaaaaaaaab)), "ot=th:aaaaaaaaaaaaab");
	assert_true(tw_threshold_from_ratio(0) == TW_THRESHOLD_NEVER);
	assert_true(tw_threshold_from_ratio(-1) == TW_THRESHOLD_NEVER);
	assert_true(tw_threshold_from_ratio(1e-20) == TW_THRESHOLD_NEVER);
	assert_true(tw_threshold_from_ratio(2) == 0);
}

static void reads_ot(void **state)
{
	struct tw_ot ot = parsed("vendor=x, ot=th:c;rv:0123456789abcd;x:Y.-_ ,other=1");

	(void)state;
	assert_true(ot.has_th && ot.has_rv && !ot.malformed);
	assert_true(ot.th == UINT64_C(0xc0000000000000));
	assert_true(ot.rv == UINT64_C(0x0123456789abcd));
	ot = parsed("");
	assert_true(!ot.has_th && !ot.has_rv && !ot.malformed);
	ot = parsed("a=b,,\t,c=d");
	assert_true(!ot.has_th && !ot.has_rv && !ot.malformed);
}

static void writes_ot_in_front_and_keeps_the_rest(void **state)
{
	(void)state;
	assert_string_equal(written("a=1,ot=rv:0123456789abcd;th:4;zz:9, b=2", UINT64_C(8) << 52),
	                    "ot=th:8;rv:0123456789abcd;zz:9,a=1,b=2");
	assert_string_equal(written("a=1,b=2", 0), "ot=th:0,a=1,b=2");
	assert_string_equal(written("a=1,ot=th:8,b=2", TW_THRESHOLD_UNKNOWN), "a=1,b=2");
	assert_string_equal(written("ot=th:8", TW_THRESHOLD_UNKNOWN), "");
	assert_string_equal(written("", TW_THRESHOLD_UNKNOWN), "");
	assert_string_equal(written("ot=th:8;rv:0123456789abcd", TW_THRESHOLD_UNKNOWN),
	                    "ot=rv:0123456789abcd");
	assert_string_equal(written("ot=th:8", UINT64_C(1)), "ot=th:00000000000001");
}

/* 33 members, 257 characters, upper case, 15 digits, nothing, twice: reported, and written as they
 * came. */
static void IN_19_tracestate_garbage(void **state)
{
	static const char *const bad[] = {
	    "ot=th:E666",      "ot=th:123456789abcdef",
	    "ot=th:",          "ot=",
	    "ot=th:8,ot=th:4", "ot=th:8;th:4",
	    "ot=rv:123",       "ot=rv:0123456789ABCD",
	    "ot=th",           "ot=TH:8",
	    "ot=th:8;",        "ot=th:8;x:a b",
	    "ot=;;",
	};
	char many[33 * 8], longest[300];
	size_t n = 0;
	struct tw_ot ot;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_true(parsed(bad[i]).malformed);
		assert_string_equal(written(bad[i], 0), bad[i]);
		assert_string_equal(written(bad[i], TW_THRESHOLD_UNKNOWN), bad[i]);
	}
	for (int i = 0; i < 33; i++)
		n += (size_t)snprintf(many + n, sizeof(many) - n, "%sk%d=1", i ? "," : "", i);
	assert_true(parsed(many).malformed);
	assert_string_equal(written(many, 0), many);
	*strrchr(many, ',') = '\0'; /* 32: well-formed, and no room for one more */
	assert_false(parsed(many).malformed);
	assert_string_equal(written(many, 0), many);

	memset(longest, 0, sizeof(longest));
	memcpy(longest, "ot=x:", 5);
	memset(longest + 5, 'y', 254); /* a value of 256 */
	assert_false(parsed(longest).malformed);
	assert_string_equal(written(longest, 0), longest); /* th would make it too long */
	longest[5 + 254] = 'y';                            /* 257 */
	assert_true(parsed(longest).malformed);
	assert_string_equal(written(longest, 0), longest);

	/* R < T: both are reported; whether to erase is the decision's. */
	ot = parsed("ot=th:8;rv:00000000000001");
	assert_true(ot.has_th && ot.has_rv && !ot.malformed && ot.rv < ot.th);
	/* what is readable is read */
	ot = parsed("ot=th:8;rv:zz");
	assert_true(ot.malformed && ot.has_th && !ot.has_rv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(thresholds_of_ratios),
	    cmocka_unit_test(reads_ot),
	    cmocka_unit_test(writes_ot_in_front_and_keeps_the_rest),
	    cmocka_unit_test(IN_19_tracestate_garbage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
