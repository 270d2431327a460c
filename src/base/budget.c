#include "tw/base/budget.h"

#include <stdatomic.h>

#include "tw/base/error.h"

/* Relaxed throughout: the number guards no memory, only how much of it there may be. */

void tw_budget_init(struct tw_budget *b, uint64_t max)
{
	atomic_init(&b->used, 0);
	b->max = max;
}

/* Compare and swap instead of add and undo: an add that is undone would make another thread's
 * smaller reservation fail although there was room for it. */
bool tw_budget_reserve(struct tw_budget *b, uint64_t n)
{
	uint64_t used = atomic_load_explicit(&b->used, memory_order_relaxed);

	do {
		if (used > b->max || n > b->max - used)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(
	    &b->used, &used, used + n, memory_order_relaxed, memory_order_relaxed));
	return true;
}

void tw_budget_force(struct tw_budget *b, uint64_t n)
{
	atomic_fetch_add_explicit(&b->used, n, memory_order_relaxed);
}

void tw_budget_release(struct tw_budget *b, uint64_t n)
{
	uint64_t before = atomic_fetch_sub_explicit(&b->used, n, memory_order_relaxed);

	TW_ASSERT(before >= n);
}

uint64_t tw_budget_used(const struct tw_budget *b)
{
	return atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)&b->used, memory_order_relaxed);
}
