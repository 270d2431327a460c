#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "tw/base/buf.h"
#include "tw/base/mem.h"

static void appends_in_order_and_grows(void **state)
{
	struct tw_buf b;
	char want[4000];

	(void)state;
	tw_buf_init(&b, 0);
	for (int i = 0; i < 4000; i++) {
		want[i] = (char)('a' + i % 26);
		tw_buf_putc(&b, want[i]);
	}
	assert_false(b.failed);
	assert_int_equal(b.n, sizeof(want));
	assert_memory_equal(b.p, want, sizeof(want));
	assert_true(tw_slice_eq(tw_buf_slice(&b), tw_slice(want, sizeof(want))));
	tw_buf_clear(&b);
	tw_buf_puts(&b, "head ");
	tw_buf_printf(&b, "%d-%s", 42, "tail");
	tw_buf_put(&b, NULL, 0);
	assert_int_equal(b.n, 12);
	assert_memory_equal(b.p, "head 42-tail", 12);
	tw_buf_deinit(&b);
	assert_null(b.p);
}

static void printf_at_every_fill_of_the_buffer(void **state)
{
	(void)state;
	for (size_t fill = 0; fill < 140; fill++) {
		struct tw_buf b;

		tw_buf_init(&b, 0);
		for (size_t i = 0; i < fill; i++)
			tw_buf_putc(&b, 'x');
		tw_buf_printf(&b, "%s=%d", "key", 1234);
		assert_int_equal(b.n, fill + 8);
		assert_memory_equal(b.p + fill, "key=1234", 8);
		tw_buf_deinit(&b);
	}
}

static void bound_is_exact(void **state)
{
	struct tw_buf b;

	(void)state;
	tw_buf_init(&b, 100);
	for (int i = 0; i < 92; i++)
		tw_buf_putc(&b, '.');
	tw_buf_printf(&b, "%s", "12345678"); /* ends at the bound, its NUL would not fit */
	assert_false(b.failed);
	assert_int_equal(b.n, 100);
	assert_memory_equal(b.p + 92, "12345678", 8);
	assert_true(b.cap <= 100);
	tw_buf_putc(&b, 'z');
	assert_true(b.failed);
	assert_int_equal(b.n, 100);
	tw_buf_deinit(&b);
}

static void failure_sticks_until_clear(void **state)
{
	struct tw_buf b;

	(void)state;
	tw_buf_init(&b, 4);
	tw_buf_puts(&b, "12345");
	assert_true(b.failed);
	tw_buf_puts(&b, "1");
	tw_buf_printf(&b, "%d", 1);
	assert_int_equal(b.n, 0);
	assert_false(tw_buf_grow(&b, 1));
	tw_buf_clear(&b);
	tw_buf_puts(&b, "1234");
	assert_false(b.failed);
	assert_int_equal(b.n, 4);
	tw_buf_deinit(&b);
}

static void huge_request_does_not_wrap(void **state)
{
	struct tw_buf b;

	(void)state;
	tw_buf_init(&b, 0);
	tw_buf_puts(&b, "abc");
	assert_false(tw_buf_grow(&b, SIZE_MAX - 1));
	assert_true(b.failed);
	assert_int_equal(b.n, 3);
	tw_buf_deinit(&b);
}

static void refused_memory_fails_and_keeps_bytes(void **state)
{
	struct tw_buf b;

	(void)state;
	tw_buf_init(&b, 0);
	tw_buf_puts(&b, "kept");
	tw_mem_fail_at(1, true);
	assert_false(tw_buf_grow(&b, 1000));
	tw_mem_fail_at(0, false);
	assert_true(b.failed);
	assert_memory_equal(b.p, "kept", 4);
	tw_buf_deinit(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(appends_in_order_and_grows),
	    cmocka_unit_test(printf_at_every_fill_of_the_buffer),
	    cmocka_unit_test(bound_is_exact),
	    cmocka_unit_test(failure_sticks_until_clear),
	    cmocka_unit_test(huge_request_does_not_wrap),
	    cmocka_unit_test(refused_memory_fails_and_keeps_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
