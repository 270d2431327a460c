#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tw/model/memo.h"

#define PLACES 8u

static struct tw_template template[16];
static struct tw_scope scope[2];

/* A request of one operation; what is known of it. */
static struct tw_operation ask(struct tw_memo *m, uint32_t t, uint32_t s)
{
	struct tw_operation op = {.template = &template[t], .hash = template[t].hash, .scope = s};
	struct tw_request r = {
	    .operations = &op, .operation_count = 1, .scopes = scope, .scope_count = 2};

	tw_memo_recall(m, &r);
	return op;
}

static void tell(struct tw_memo *m, uint32_t t, uint32_t s, uint32_t series, bool counted)
{
	struct tw_operation op = {.template = &template[t],
	                          .hash = template[t].hash,
	                          .scope = s,
	                          .series = series,
	                          .mask = {series + 1},
	                          .counted = counted,
	                          .matched = true};
	struct tw_request r = {
	    .operations = &op, .operation_count = 1, .scopes = scope, .scope_count = 2};

	tw_memo_store(m, &r);
}

static struct tw_memo *memo(void)
{
	struct tw_memo *m = tw_memo_create(PLACES);

	assert_non_null(m);
	/* All in the same two places but for the scope. */
	for (uint32_t i = 0; i < 16; i++)
		template[i].hash = (i + 1) * PLACES;
	scope[0].hash = 0x10000;
	scope[1].hash = 0x20002;
	return m;
}

static void what_was_told_is_known(void **state)
{
	struct tw_memo *m = memo();
	struct tw_operation op;

	(void)state;
	assert_false(ask(m, 0, 0).recalled);
	tell(m, 0, 0, 5, true);
	op = ask(m, 0, 0);
	assert_true(op.recalled && op.counted && op.matched);
	assert_int_equal(op.series, 5);
	assert_int_equal(op.mask[0], 6);
	assert_false(ask(m, 0, 1).recalled);
	assert_false(ask(m, 1, 0).recalled);
	tw_memo_clear(m);
	assert_false(ask(m, 0, 0).recalled);
	tw_memo_destroy(&m);
}

/* What was known before is neither found nor in the way of what is told since. */
static void nothing_is_known_of_what_was_cleared(void **state)
{
	struct tw_memo *m = memo();

	(void)state;
	for (uint32_t lap = 0; lap < 3; lap++) {
		tell(m, 2 * lap, 0, 1, true);
		tell(m, 2 * lap + 1, 0, 2, true);
		assert_int_equal(ask(m, 2 * lap, 0).series, 1);
		assert_int_equal(ask(m, 2 * lap + 1, 0).series, 2);
		tw_memo_clear(m);
		assert_false(ask(m, 2 * lap, 0).recalled);
		assert_false(ask(m, 2 * lap + 1, 0).recalled);
	}
	tw_memo_destroy(&m);
}

static void half_of_it_is_not_all_of_it(void **state)
{
	struct tw_memo *m = memo();
	struct tw_operation op;

	(void)state;
	tell(m, 0, 0, 5, false);
	op = ask(m, 0, 0);
	assert_true(op.matched && !op.counted && !op.recalled);
	tell(m, 0, 0, 7, true);
	assert_int_equal(ask(m, 0, 0).series, 7);
	assert_true(ask(m, 0, 0).recalled);
	tw_memo_destroy(&m);
}

static void two_of_one_hash_have_room(void **state)
{
	struct tw_memo *m = memo();
	uint32_t known = 0;

	(void)state;
	tell(m, 0, 0, 1, true);
	tell(m, 1, 0, 2, true);
	assert_int_equal(ask(m, 0, 0).series, 1);
	assert_int_equal(ask(m, 1, 0).series, 2);
	for (uint32_t i = 0; i < 16; i++)
		tell(m, i, 0, i, true);
	for (uint32_t i = 0; i < 16; i++) {
		struct tw_operation op = ask(m, i, 0);

		assert_true(!op.recalled || op.series == i);
		known += op.recalled;
	}
	assert_int_equal(known, 2);
	tw_memo_destroy(&m);
}

/* Its scope was left out of the request. */
static void an_operation_without_a_scope_is_left_alone(void **state)
{
	struct tw_memo *m = memo();

	(void)state;
	tell(m, 0, 2, 5, true);
	assert_false(ask(m, 0, 2).recalled);
	tw_memo_destroy(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_was_told_is_known),
	    cmocka_unit_test(nothing_is_known_of_what_was_cleared),
	    cmocka_unit_test(half_of_it_is_not_all_of_it),
	    cmocka_unit_test(two_of_one_hash_have_room),
	    cmocka_unit_test(an_operation_without_a_scope_is_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
