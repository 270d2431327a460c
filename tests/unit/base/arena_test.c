#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "tw/base/arena.h"
#include "tw/base/mem.h"

static void pieces_are_aligned_and_apart(void **state)
{
	struct tw_arena a;
	unsigned char *pieces[600];

	(void)state;
	tw_arena_init(&a, 0);
	for (size_t i = 0; i < 600; i++) {
		pieces[i] = tw_arena_alloc(&a, i);
		assert_non_null(pieces[i]);
		assert_int_equal((uintptr_t)pieces[i] % 8, 0);
		memset(pieces[i], (int)(i & 0xFF), i);
	}
	for (size_t i = 0; i < 600; i++) {
		for (size_t k = 0; k < i; k++)
			assert_int_equal(pieces[i][k], i & 0xFF);
	}
	tw_arena_deinit(&a);
	assert_int_equal(a.used, 0);
}

static void bound_counts_rounded_bytes(void **state)
{
	struct tw_arena a;

	(void)state;
	tw_arena_init(&a, 64);
	assert_non_null(tw_arena_alloc(&a, 33)); /* 40 */
	assert_null(tw_arena_alloc(&a, 25));     /* 32: would be 72 */
	assert_non_null(tw_arena_alloc(&a, 24));
	assert_int_equal(a.used, 64);
	assert_null(tw_arena_alloc(&a, 1));
	assert_null(tw_arena_alloc(&a, SIZE_MAX));
	tw_arena_reset(&a);
	assert_non_null(tw_arena_alloc(&a, 64));
	tw_arena_deinit(&a);
}

static uint64_t allocations_of(struct tw_arena *a, size_t n)
{
	tw_mem_fail_at(UINT64_MAX, false);
	assert_non_null(tw_arena_alloc(a, n));
	return tw_mem_fail_at(0, false);
}

static void reset_keeps_one_small_chunk(void **state)
{
	struct tw_arena a;

	(void)state;
	tw_arena_init(&a, 0);
	assert_int_equal(allocations_of(&a, 1000), 1);
	assert_int_equal(allocations_of(&a, 1 << 20), 1); /* a chunk of its own */
	tw_arena_reset(&a);
	assert_int_equal(a.used, 0);
	assert_int_equal(allocations_of(&a, 1000), 0);    /* the small one was kept */
	assert_int_equal(allocations_of(&a, 1 << 20), 1); /* the large one was not */
	tw_arena_deinit(&a);
}

static void refused_memory_is_null_and_arena_stays_usable(void **state)
{
	struct tw_arena a;

	(void)state;
	tw_arena_init(&a, 0);
	tw_mem_fail_at(1, false);
	assert_null(tw_arena_alloc(&a, 10));
	assert_int_equal(a.used, 0);
	assert_non_null(tw_arena_alloc(&a, 10));
	tw_mem_fail_at(0, false);
	tw_arena_deinit(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(pieces_are_aligned_and_apart),
	    cmocka_unit_test(bound_counts_rounded_bytes),
	    cmocka_unit_test(reset_keeps_one_small_chunk),
	    cmocka_unit_test(refused_memory_is_null_and_arena_stays_usable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
