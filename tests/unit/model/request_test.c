#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tw/base/mem.h"
#include "tw/model/trace.h"

static void rests_and_slots_survive_growth(void **state)
{
	struct tw_span_rest shared = {.name_n = 7};
	struct tw_request r;

	(void)state;
	tw_request_init(&r);
	for (uint32_t i = 0; i < 1000; i++) {
		assert_true(tw_request_room(&r, 1, 1, 1));
		assert_true(tw_request_room_rests(&r, 1));
		assert_true(tw_request_room_values(&r, 3));
		r.spans[i].rest = i % 3 ? &r.rests[r.rest_count] : &shared;
		r.rests[r.rest_count].slots = i % 5 ? r.values + r.value_count : NULL;
		r.values[r.value_count + 2].i = i;
		r.resources[i].slots = r.rests[r.rest_count].slots;
		r.rests[r.rest_count].name_n = i;
		r.rest_count += i % 3 != 0;
		r.value_count += 3;
		r.span_count++;
		r.resource_count++;
		r.scope_count++;
	}
	for (uint32_t i = 0; i < 1000; i++) {
		const struct tw_span_rest *rest = r.spans[i].rest;

		if (i % 3 == 0) {
			assert_ptr_equal(rest, &shared);
			continue;
		}
		assert_int_equal(rest->name_n, i);
		assert_ptr_equal(r.resources[i].slots, rest->slots);
		if (i % 5 == 0)
			assert_null(rest->slots);
		else
			assert_int_equal(rest->slots[2].i, i);
	}
	tw_request_deinit(&r);
}

static void each_span_has_a_mask(void **state)
{
	struct tw_request r;

	(void)state;
	tw_request_init(&r);
	for (uint32_t n = 1; n < 1000; n *= 3) {
		assert_true(tw_request_room(&r, n, 0, 0));
		r.span_count = n;
		assert_true(tw_request_room_masks(&r));
		assert_true(r.mask_cap >= n);
		for (uint32_t i = 0; i < n; i++)
			memset(tw_span_own_mask(&r, &r.spans[i]), (int)i, sizeof(r.masks[0]));
		for (uint32_t i = 0; i < n; i++) {
			r.spans[i].operation = 0;
			assert_int_equal(tw_span_mask(&r, &r.spans[i])[1] & 0xff, i & 0xff);
		}
		tw_request_reset(&r);
	}
	tw_request_deinit(&r);
}

static void reset_keeps_a_little_and_gives_back_much(void **state)
{
	struct tw_request r;

	(void)state;
	tw_request_init(&r);
	assert_true(tw_request_room(&r, 1000, 10, 10));
	r.span_count = 7;
	r.rejected[TW_REJECT_UTF8] = 2;
	r.rejected[TW_REJECT_SIZE] = 3;
	assert_int_equal(tw_request_rejected(&r), 5);
	tw_request_reset(&r);
	assert_int_equal(r.span_count, 0);
	assert_int_equal(tw_request_rejected(&r), 0);
	assert_true(r.span_cap >= 1000);
	assert_true(tw_request_room_values(&r, 300000)); /* over 4 MiB */
	tw_request_reset(&r);
	assert_int_equal(r.value_cap, 0);
	assert_int_equal(r.span_cap, 0);
	assert_true(tw_request_room_rests(&r, 100000));
	tw_request_reset(&r);
	assert_int_equal(r.rest_cap, 0);
	tw_request_deinit(&r);
}

static void what_is_not_needed_goes_in_pieces(void **state)
{
	struct tw_request r;
	uint32_t steps = 0;

	(void)state;
	tw_request_init(&r);
	assert_true(tw_request_room(&r, 100000, 10, 10));
	assert_true(tw_request_room_rests(&r, 100000));
	assert_true(tw_request_room_values(&r, 300000));
	assert_true(tw_request_room_places(&r, 1000000));
	r.span_count = 100000;
	assert_true(tw_request_room_masks(&r));
	r.rest_count = 100000;
	r.value_count = 300000;
	r.place_count = 500000;
	while (tw_request_shrink(&r, 1 << 20)) {
		assert_true(r.span_count <= r.span_cap && r.rest_count <= r.rest_cap &&
		            r.value_count <= r.value_cap && r.place_count <= r.place_cap);
		steps++;
	}
	assert_true(steps > 15 && steps < 30 + (100000 * sizeof(*r.masks) >> 20));
	assert_true(r.span_cap * sizeof(*r.spans) <= 1 << 20);
	assert_true(r.rest_cap * sizeof(*r.rests) <= 1 << 20);
	assert_true(r.mask_cap * sizeof(*r.masks) <= 1 << 20);
	assert_true(r.value_cap * sizeof(*r.values) <= 1 << 20);
	assert_true(r.place_cap * sizeof(*r.places) <= 1 << 20);
	tw_request_reset(&r);
	assert_true(tw_request_room(&r, 100, 1, 1)); /* it is as good as before */
	assert_false(tw_request_shrink(&r, 1 << 20));
	tw_request_deinit(&r);
}

static void refused_memory_changes_nothing(void **state)
{
	struct tw_request r;

	(void)state;
	tw_request_init(&r);
	tw_mem_fail_at(1, true);
	assert_false(tw_request_room(&r, 1, 0, 0));
	assert_false(tw_request_room_rests(&r, 1));
	assert_false(tw_request_room_values(&r, 1));
	tw_mem_fail_at(0, false);
	assert_int_equal(r.span_cap, 0);
	assert_true(tw_request_room(&r, 1, 1, 1));
	tw_request_deinit(&r);
}

static void every_name_is_there(void **state)
{
	(void)state;
	for (int i = 0; i < TW_REJECT_COUNT; i++)
		assert_non_null(tw_reject_names[i]);
	for (int i = 0; i < TW_REASON_COUNT; i++)
		assert_non_null(tw_reason_names[i]);
	assert_string_equal(tw_reject_names[TW_REJECT_TRACE_ID], "invalid_trace_id");
	assert_string_equal(tw_reason_names[TW_REASON_LATE], "late");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(rests_and_slots_survive_growth),
	    cmocka_unit_test(each_span_has_a_mask),
	    cmocka_unit_test(reset_keeps_a_little_and_gives_back_much),
	    cmocka_unit_test(what_is_not_needed_goes_in_pieces),
	    cmocka_unit_test(refused_memory_changes_nothing),
	    cmocka_unit_test(every_name_is_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
