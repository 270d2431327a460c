/* Operations stay where they are while a request has them, and templates live as long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tw/base/mem.h"
#include "tw/model/operations.h"

#define PLACES 16u

struct fixture {
	struct tw_operations *o;
	struct tw_request r[3];
};

static void init(struct fixture *x)
{
	x->o = tw_operations_create(PLACES);
	assert_non_null(x->o);
	for (int i = 0; i < 3; i++)
		tw_request_init(&x->r[i]);
}

static void deinit(struct fixture *x)
{
	for (int i = 0; i < 3; i++)
		tw_request_deinit(&x->r[i]);
	tw_operations_destroy(&x->o);
	assert_null(x->o);
}

static struct tw_template *template(struct fixture *x)
{
	struct tw_template *t = tw_alloc_aligned(64, sizeof(*t));

	assert_non_null(t);
	memset(t, 0, sizeof(*t));
	t->id = tw_operations_id(x->o);
	t->hash = t->id * 3;
	t->fixed = true;
	t->bytes = 10;
	return t;
}

/* As the scanner does; 0: there is no place. */
static uint32_t use(struct fixture *x, int request, struct tw_template *t, uint64_t scope)
{
	struct tw_operation *op = tw_operations_at(x->o, t->id, scope);

	if (!tw_operation_is(op, t->id, scope))
		op = tw_operations_add(x->o, t, scope);
	return op ? tw_operations_use(x->o, &x->r[request], op) : 0;
}

static void so_many_later(struct fixture *x)
{
	struct tw_request r;

	tw_request_init(&r);
	for (uint32_t i = 0; i < TW_OPERATIONS_LAG; i++) {
		tw_operations_begin(x->o, &r);
		tw_request_reset(&r);
	}
	tw_request_deinit(&r);
}

static struct tw_operation *at(struct fixture *x, uint32_t number)
{
	return &x->o->place[number - 1];
}

static void what_was_found_is_known_to_the_next_request(void **state)
{
	struct fixture x;
	struct tw_template *t, *other;
	uint32_t n;

	(void)state;
	init(&x);
	t = template(&x);
	other = template(&x);
	tw_operations_begin(x.o, &x.r[0]);
	n = use(&x, 0, t, 7);
	assert_true(n != 0 && x.r[0].unmatched);
	assert_ptr_equal(&x.r[0].operations[n - 1], at(&x, n));
	assert_ptr_equal(at(&x, n)->template, t);
	assert_int_equal(at(&x, n)->hash, t->hash);
	assert_int_equal(at(&x, n)->scope, 7);
	assert_true(at(&x, n)->fixed && !at(&x, n)->matched && !at(&x, n)->counted);
	at(&x, n)->matched = true;
	at(&x, n)->series = 5;
	assert_int_not_equal(use(&x, 0, t, 8), n);
	assert_int_not_equal(use(&x, 0, other, 7), n);
	tw_request_reset(&x.r[0]);
	assert_null(x.r[0].operations);
	tw_operations_begin(x.o, &x.r[0]);
	assert_int_equal(use(&x, 0, t, 7), n);
	assert_int_equal(at(&x, n)->series, 5);
	assert_false(x.r[0].unmatched);
	at(&x, n)->differs = true;
	assert_int_equal(use(&x, 0, t, 7), n);
	assert_true(x.r[0].unmatched);
	tw_operations_drop(x.o, t);
	tw_operations_drop(x.o, other);
	deinit(&x);
}

/* As many operations as there are places where they may be, and one more. */
static void a_place_is_anothers_when_no_request_has_it(void **state)
{
	struct tw_template *t[TW_OPERATIONS_PROBES + 1];
	struct fixture x;
	uint32_t n[TW_OPERATIONS_PROBES + 1];

	(void)state;
	init(&x);
	tw_operations_begin(x.o, &x.r[0]);
	for (uint32_t i = 0; i <= TW_OPERATIONS_PROBES; i++) {
		t[i] = template(&x);
		/* So that all have the same first place, near the table's end. */
		n[i] = use(&x, 0, t[i], t[i]->id ^ (PLACES - 2));
		assert_int_equal(n[i] == 0, i == TW_OPERATIONS_PROBES);
		for (uint32_t k = 0; k < i; k++)
			assert_int_not_equal(n[i], n[k]);
	}
	/* Later requests have the first of them, and one that is older than they has all. */
	so_many_later(&x);
	tw_operations_begin(x.o, &x.r[1]);
	assert_int_equal(use(&x, 1, t[0], t[0]->id ^ (PLACES - 2)), n[0]);
	so_many_later(&x);
	tw_operations_begin(x.o, &x.r[2]);
	assert_int_equal(use(&x, 2, t[8], t[8]->id ^ (PLACES - 2)), 0);
	tw_request_reset(&x.r[0]);
	assert_int_equal(use(&x, 2, t[8], t[8]->id ^ (PLACES - 2)), n[1]);
	assert_ptr_equal(at(&x, n[1])->template, t[8]);
	assert_ptr_equal(at(&x, n[0])->template, t[0]);
	assert_int_equal(use(&x, 2, t[0], t[0]->id ^ (PLACES - 2)), n[0]);
	for (uint32_t i = 0; i <= TW_OPERATIONS_PROBES; i++)
		tw_operations_drop(x.o, t[i]);
	deinit(&x);
}

/* A scan in steps uses places after requests that began later than it. */
static void a_later_step_keeps_what_it_uses(void **state)
{
	struct tw_template *t[TW_OPERATIONS_PROBES], *more;
	struct fixture x;

	(void)state;
	init(&x);
	tw_operations_begin(x.o, &x.r[0]);
	tw_operations_begin(x.o, &x.r[1]);
	for (uint32_t i = 0; i < TW_OPERATIONS_PROBES; i++) {
		t[i] = template(&x);
		assert_true(use(&x, 0, t[i], t[i]->id) != 0);
	}
	more = template(&x);
	so_many_later(&x);
	tw_request_reset(&x.r[1]);
	tw_operations_begin(x.o, &x.r[1]);
	assert_int_equal(use(&x, 1, more, more->id), 0);
	tw_request_reset(&x.r[0]);
	assert_true(use(&x, 1, more, more->id) != 0);
	for (uint32_t i = 0; i < TW_OPERATIONS_PROBES; i++)
		tw_operations_drop(x.o, t[i]);
	tw_operations_drop(x.o, more);
	deinit(&x);
}

static uint32_t dropped(const struct tw_operations *o)
{
	uint32_t n = 0;

	for (const struct tw_template *t = o->dropped; t; t = t->next_dropped)
		n++;
	assert_int_equal(o->dropped_bytes, n * 10);
	return n;
}

/* One scope each, again and again: more places come into use, and then each has its own. */
static void a_tight_table_uses_more_places(void **state)
{
	const uint32_t count = TW_OPERATIONS_MIN * 2;
	struct tw_operations *o = tw_operations_create(TW_OPERATIONS_MIN * 8);
	struct tw_template *t = tw_alloc_aligned(64, sizeof(*t));
	struct tw_request r;
	uint32_t found = 0;

	(void)state;
	assert_non_null(o);
	assert_non_null(t);
	memset(t, 0, sizeof(*t));
	t->id = tw_operations_id(o);
	tw_request_init(&r);
	assert_int_equal(o->mask + 1, TW_OPERATIONS_MIN);
	for (uint32_t i = 0; i < 5 * count; i++) {
		uint64_t scope = (i % count + 1) * UINT64_C(0xA0761D6478BD642F);
		struct tw_operation *op;

		tw_operations_begin(o, &r);
		op = tw_operations_at(o, t->id, scope);
		found += i >= 4 * count && tw_operation_is(op, t->id, scope);
		if (!tw_operation_is(op, t->id, scope))
			op = tw_operations_add(o, t, scope);
		if (op)
			(void)tw_operations_use(o, &r, op);
		tw_request_reset(&r);
	}
	assert_true(o->mask + 1 > TW_OPERATIONS_MIN);
	assert_int_equal(o->displaced, 0);
	/* In their first place, that is; some are in the next ones. */
	assert_true(found > count / 2);
	tw_operations_drop(o, t);
	tw_operations_destroy(&o);
	tw_request_deinit(&r);
}

static void a_template_lives_until_no_request_may_have_it(void **state)
{
	struct fixture x;

	(void)state;
	init(&x);
	tw_operations_drop(x.o, template(&x));
	assert_int_equal(dropped(x.o), 0);
	tw_operations_begin(x.o, &x.r[0]);
	tw_operations_drop(x.o, template(&x));
	tw_operations_begin(x.o, &x.r[1]);
	tw_operations_drop(x.o, template(&x));
	tw_operations_begin(x.o, &x.r[2]);
	assert_int_equal(dropped(x.o), 2);
	tw_request_reset(&x.r[1]); /* not the oldest */
	assert_int_equal(dropped(x.o), 2);
	tw_operations_drop(x.o, template(&x));
	assert_int_equal(dropped(x.o), 3);
	tw_request_reset(&x.r[0]);
	assert_int_equal(dropped(x.o), 1);
	tw_operations_begin(x.o, &x.r[0]);
	tw_request_reset(&x.r[2]);
	assert_int_equal(dropped(x.o), 0);
	tw_operations_drop(x.o, template(&x));
	assert_int_equal(dropped(x.o), 1);
	deinit(&x);
}

static void a_request_may_outlive_the_table(void **state)
{
	struct fixture x;
	struct tw_template *t;

	(void)state;
	init(&x);
	t = template(&x);
	tw_operations_begin(x.o, &x.r[0]);
	tw_operations_begin(x.o, &x.r[1]);
	assert_true(use(&x, 0, t, 7) != 0);
	tw_operations_drop(x.o, t);
	assert_int_equal(dropped(x.o), 1);
	tw_operations_destroy(&x.o);
	assert_null(x.r[0].operations);
	assert_null(x.r[1].table);
	deinit(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_was_found_is_known_to_the_next_request),
	    cmocka_unit_test(a_place_is_anothers_when_no_request_has_it),
	    cmocka_unit_test(a_later_step_keeps_what_it_uses),
	    cmocka_unit_test(a_tight_table_uses_more_places),
	    cmocka_unit_test(a_template_lives_until_no_request_may_have_it),
	    cmocka_unit_test(a_request_may_outlive_the_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
