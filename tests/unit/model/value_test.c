#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tw/model/pb.h"
#include "tw/model/value.h"

#define S(text) tw_slice(text, sizeof(text) - 1)

static void each_type(void **state)
{
	struct tw_value v;

	(void)state;
	assert_true(tw_value_decode(S(""), &v));
	assert_int_equal(v.type, TW_VALUE_NONE);
	assert_true(tw_value_decode(tw_slice(NULL, 0), &v));
	assert_int_equal(v.type, TW_VALUE_NONE);
	assert_true(tw_value_decode(S("\x0a\x03"
	                              "abc"),
	                            &v));
	assert_int_equal(v.type, TW_VALUE_STRING);
	assert_int_equal(v.n, 3);
	assert_memory_equal(v.p, "abc", 3);
	assert_true(tw_value_decode(S("\x10\x01"), &v));
	assert_int_equal(v.type, TW_VALUE_BOOL);
	assert_int_equal(v.i, 1);
	assert_true(tw_value_decode(S("\x10\x02"), &v));
	assert_int_equal(v.i, 1);
	assert_true(tw_value_decode(S("\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), &v));
	assert_int_equal(v.type, TW_VALUE_INT);
	assert_int_equal(v.i, -1);
	assert_true(tw_value_decode(S("\x21\0\0\0\0\0\0\xf0\x3f"), &v));
	assert_int_equal(v.type, TW_VALUE_DOUBLE);
	assert_true(v.d == 1.0);
	assert_true(tw_value_decode(S("\x2a\x02\x0a\x00"), &v));
	assert_int_equal(v.type, TW_VALUE_ARRAY);
	assert_int_equal(v.n, 2);
	assert_true(tw_value_decode(S("\x32\x00"), &v));
	assert_int_equal(v.type, TW_VALUE_KVLIST);
	assert_true(tw_value_decode(S("\x3a\x01\xff"), &v));
	assert_int_equal(v.type, TW_VALUE_BYTES);
	assert_int_equal(v.n, 1);
}

static void last_member_wins_and_unknown_is_skipped(void **state)
{
	struct tw_value v;

	(void)state;
	assert_true(tw_value_decode(S("\x0a\x01"
	                              "a"
	                              "\x18\x07"
	                              "\x40\x05"),
	                            &v));
	assert_int_equal(v.type, TW_VALUE_INT);
	assert_int_equal(v.i, 7);
	assert_true(tw_value_merge(S(""), &v));
	assert_int_equal(v.i, 7);
	assert_true(tw_value_merge(S("\x0a\x01"
	                             "b"),
	                           &v));
	assert_int_equal(v.type, TW_VALUE_STRING);
}

static void malformed(void **state)
{
	static const struct tw_slice bad[] = {
	    {(const uint8_t *)"\x0a\x03"
	                      "ab",
	     4}, /* past the end */
	    {(const uint8_t *)"\x0a", 1},
	    {(const uint8_t *)"\x18", 1},
	    {(const uint8_t *)"\x18\x80", 2},
	    {(const uint8_t *)"\x21\0\0\0", 4},
	    {(const uint8_t *)"\x00\x00", 2}, /* field 0 */
	    {(const uint8_t *)"\x0b", 1},     /* a group */
	    {(const uint8_t *)"\x08\x01", 2}, /* string_value as a varint */
	    {(const uint8_t *)"\x46", 1},     /* wire type 6 */
	};
	struct tw_value v;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(tw_value_decode(bad[i], &v));
}

static void elements_of_an_array(void **state)
{
	struct tw_slice rest = S("\x0a\x02\x18\x05\x78\x01\x0a\x00\x0a\x03\x0a\x01z");
	struct tw_value v;

	(void)state;
	assert_true(tw_value_next(&rest, &v));
	assert_int_equal(v.type, TW_VALUE_INT);
	assert_int_equal(v.i, 5);
	assert_true(tw_value_next(&rest, &v));
	assert_int_equal(v.type, TW_VALUE_NONE);
	assert_true(tw_value_next(&rest, &v));
	assert_int_equal(v.type, TW_VALUE_STRING);
	assert_false(tw_value_next(&rest, &v));
	assert_false(tw_value_next(&rest, &v));
	rest = S("\x0a\x09\x18");
	assert_false(tw_value_next(&rest, &v));
	rest = S("\x08\x01");
	assert_false(tw_value_next(&rest, &v));
	rest = tw_slice(NULL, 0);
	assert_false(tw_value_next(&rest, &v));
}

static void varints(void **state)
{
	const uint8_t max[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01};
	const uint8_t tenth[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02};
	const uint8_t eleven[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00};
	const uint8_t five[] = {0xff, 0xff, 0xff, 0xff, 0x0f},
	              six[] = {0xff, 0xff, 0xff, 0xff, 0x1f};
	uint64_t v;
	uint32_t u;

	(void)state;
	assert_ptr_equal(tw_pb_varint(max, max + 10, &v), max + 10);
	assert_true(v == UINT64_MAX);
	for (int n = 0; n < 10; n++)
		assert_null(tw_pb_varint(max, max + n, &v));
	assert_null(tw_pb_varint(tenth, tenth + 10, &v));
	assert_null(tw_pb_varint(eleven, eleven + 11, &v));
	assert_ptr_equal(tw_pb_u32(five, five + 5, &u), five + 5);
	assert_int_equal(u, UINT32_MAX);
	for (int n = 0; n < 5; n++)
		assert_null(tw_pb_u32(five, five + n, &u));
	assert_null(tw_pb_u32(six, six + 5, &u));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(each_type), cmocka_unit_test(last_member_wins_and_unknown_is_skipped),
	    cmocka_unit_test(malformed), cmocka_unit_test(elements_of_an_array),
	    cmocka_unit_test(varints),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
