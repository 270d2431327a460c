/* The table of label sets as it grows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "series.h"

#define SERIES 5000u

struct text {
	char p[16];
};

static struct tw_series_key key_of(uint32_t n, struct text *name)
{
	int len = snprintf(name->p, sizeof(name->p), "op-%u", n);

	return (struct tw_series_key){.hash = (n + 1) * UINT64_C(0x9E3779B97F4A7C15),
	                              .parts = 2,
	                              .service = tw_slice_str("cart"),
	                              .name = tw_slice(name->p, (size_t)len)};
}

/* Before, while and after the slots are doubled; the ids stay, and no series is made twice. */
static void what_was_made_is_found_while_the_table_grows(void **state)
{
	struct tw_series_table t;
	uint32_t between = 0;

	(void)state;
	assert_int_equal(tw_series_init(&t, SERIES), 0);
	for (uint32_t n = 0; n < SERIES; n++) {
		const struct tw_series_slots *slots;
		struct text name;
		struct tw_series_key k = key_of(n, &name);

		assert_null(tw_series_find(&t, atomic_load(&t.slots), &k));
		assert_int_equal(tw_series_intern(&t, &k), n + 1);
		slots = atomic_load(&t.slots);
		between += !atomic_load(&slots->whole);
		for (uint32_t i = 0; i <= n; i += n < 1200 ? 1 : 97) {
			k = key_of(i, &name);
			assert_int_equal(tw_series_find(&t, slots, &k)->id, i + 1);
			assert_int_equal(tw_series_intern(&t, &k), i + 1);
		}
		assert_int_equal(atomic_load(&t.count), n + 1);
	}
	/* As many series as were there are made until all of those are there, two at a time. */
	assert_int_equal(between, (512 + 1024 + 2048) / 2 + SERIES - 4096);
	tw_series_deinit(&t);
}

/* The cap is reached while some are in the older slots only. */
static void a_full_table_knows_them_all(void **state)
{
	struct tw_series_table t;
	struct tw_series_key k;
	struct text name;

	(void)state;
	assert_int_equal(tw_series_init(&t, 600), 0);
	for (uint32_t n = 0; n < 600; n++) {
		k = key_of(n, &name);
		assert_int_equal(tw_series_intern(&t, &k), n + 1);
	}
	k = key_of(600, &name);
	assert_int_equal(tw_series_intern(&t, &k), TW_SERIES_OVERFLOW);
	assert_true(atomic_load(&t.full));
	assert_false(atomic_load(&atomic_load(&t.slots)->whole));
	for (uint32_t n = 0; n < 600; n++) {
		k = key_of(n, &name);
		assert_int_equal(tw_series_intern(&t, &k), n + 1);
	}
	tw_series_deinit(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_was_made_is_found_while_the_table_grows),
	    cmocka_unit_test(a_full_table_knows_them_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
