#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>

#include "tw/base/budget.h"

#define THREADS 4
#define ROUNDS  20000

static void all_or_nothing(void **state)
{
	struct tw_budget b;

	(void)state;
	tw_budget_init(&b, 100);
	assert_true(tw_budget_reserve(&b, 60));
	assert_false(tw_budget_reserve(&b, 41));
	assert_int_equal(tw_budget_used(&b), 60);
	assert_true(tw_budget_reserve(&b, 40));
	assert_false(tw_budget_reserve(&b, 1));
	assert_true(tw_budget_reserve(&b, 0));
	assert_false(tw_budget_reserve(&b, UINT64_MAX));
	tw_budget_release(&b, 100);
	assert_int_equal(tw_budget_used(&b), 0);
}

static void force_passes_the_bound(void **state)
{
	struct tw_budget b;

	(void)state;
	tw_budget_init(&b, 10);
	tw_budget_force(&b, 25);
	assert_int_equal(tw_budget_used(&b), 25);
	assert_false(tw_budget_reserve(&b, 1));
	assert_false(tw_budget_reserve(&b, UINT64_MAX));
	tw_budget_release(&b, 20);
	assert_true(tw_budget_reserve(&b, 5));
	tw_budget_release(&b, 10);
	assert_int_equal(tw_budget_used(&b), 0);
}

struct taker {
	struct tw_budget *b;
	uint64_t passed_max;
	uint64_t refused_small;
};

/* Every thread holds 10 of 40 at most, so 10 must always be there for each. */
static void *take_and_give(void *arg)
{
	struct taker *t = arg;

	for (int i = 0; i < ROUNDS; i++) {
		if (!tw_budget_reserve(t->b, 10)) {
			t->refused_small++;
			continue;
		}
		if (tw_budget_used(t->b) > 40)
			t->passed_max++;
		if (tw_budget_reserve(t->b, 41)) /* never fits, and must disturb nobody */
			t->passed_max++;
		tw_budget_release(t->b, 10);
	}
	return NULL;
}

static void failed_reservation_disturbs_nobody(void **state)
{
	struct tw_budget b;
	struct taker takers[THREADS];
	pthread_t threads[THREADS];

	(void)state;
	tw_budget_init(&b, 10 * THREADS);
	for (int i = 0; i < THREADS; i++) {
		takers[i] = (struct taker){.b = &b};
		assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, &takers[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(takers[i].passed_max, 0);
		assert_int_equal(takers[i].refused_small, 0);
	}
	assert_int_equal(tw_budget_used(&b), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(all_or_nothing),
	    cmocka_unit_test(force_passes_the_bound),
	    cmocka_unit_test(failed_reservation_disturbs_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
