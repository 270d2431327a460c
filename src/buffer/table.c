#include "table.h"

#include <string.h>
#include <sys/mman.h>

#include "pool.h"
#include "tw/base/error.h"
#include "tw/base/mem.h"

#define CLEAR_STEP 64u /* slots: each page that is new may cost the worker 50 µs */
#define MOVE_STEP  16u
#define HUGE_PAGE  (UINT64_C(2) << 20)

static uint64_t array_bytes(uint32_t mask)
{
	return ((uint64_t)mask + 1) * sizeof(uint64_t);
}

static bool array_make(struct tw_table *t, struct tw_table_array *a, uint64_t slots, bool force)
{
	const uint64_t bytes = slots * sizeof(uint64_t);

	if (!tw_pool_reserve_overhead(t->pool, bytes, force))
		return false;
	a->slots = tw_alloc_aligned(bytes >= HUGE_PAGE ? HUGE_PAGE : 64, bytes);
	if (!a->slots) {
		tw_pool_release_overhead(t->pool, bytes);
		return false;
	}
	a->mask = (uint32_t)(slots - 1);
	return true;
}

/* Every probe of a large table misses the TLB unless its pages are huge. Asked for when all of them
 * are there: the kernel puts them together in its own time. Asked for before, a fault would be for
 * two megabytes at once, which takes the worker up to 15 ms where a guest's memory is its host's. A
 * hint: refused, it costs time only. */
static void array_huge(const struct tw_table_array *a, bool on)
{
	uint64_t bytes = array_bytes(a->mask);

	if (bytes >= HUGE_PAGE)
		(void)madvise(a->slots, bytes, on ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

static void array_drop(struct tw_table *t, struct tw_table_array *a)
{
	if (!a->slots)
		return;
	array_huge(a, false); /* whoever has the memory next */
	tw_free(a->slots);
	tw_pool_release_overhead(t->pool, array_bytes(a->mask));
	a->slots = NULL;
}

static void array_put(struct tw_table_array *a, uint64_t slot)
{
	uint32_t at = (uint32_t)(slot >> 32) & a->mask, in = at % TW_TABLE_LINE;
	uint32_t empty = tw_table_line(&a->slots[at - in], 0) >> TW_TABLE_LINE >> in;

	if (TW_LIKELY(empty != 0))
		at += (uint32_t)__builtin_ctz(empty);
	else
		while (a->slots[at] != 0)
			at = (at + 1) & a->mask;
	a->slots[at] = slot;
}

/* Empties slot `hole`, and moves those back that were displaced past it. */
static void array_erase(struct tw_table_array *a, uint32_t hole)
{
	uint64_t *slots = a->slots;
	uint32_t mask = a->mask, at = hole, gap = 0;

	for (;;) {
		uint64_t slot;

		at = (at + 1) & mask;
		gap++;
		slot = slots[at];
		if (slot == 0)
			break;
		/* It may move when its home is not inside (hole, at]. */
		if (((at - (uint32_t)(slot >> 32)) & mask) < gap)
			continue;
		slots[hole] = slot;
		hole = at;
		gap = 0;
	}
	slots[hole] = 0;
}

static bool array_take(struct tw_table_array *a, uint64_t slot)
{
	uint32_t at = (uint32_t)(slot >> 32) & a->mask;

	for (; a->slots[at] != 0; at = (at + 1) & a->mask) {
		if (a->slots[at] == slot) {
			array_erase(a, at);
			return true;
		}
	}
	return false;
}

int tw_table_init(struct tw_table *t, struct tw_pool *pool, uint32_t slots)
{
	*t = (struct tw_table){.pool = pool};
	if (!array_make(t, &t->now, slots, true))
		return TW_ENOMEM;
	memset(t->now.slots, 0, array_bytes(t->now.mask));
	return 0;
}

void tw_table_deinit(struct tw_table *t)
{
	array_drop(t, &t->now);
	array_drop(t, &t->next);
}

static void clear_some(struct tw_table *t)
{
	uint64_t left = (uint64_t)t->next.mask + 1 - t->cursor;
	uint32_t n = left < CLEAR_STEP ? (uint32_t)left : CLEAR_STEP;

	memset(t->next.slots + t->cursor, 0, n * sizeof(uint64_t));
	t->cursor += n;
	if (t->cursor == (uint64_t)t->next.mask + 1) {
		t->cursor = 0;
		t->moving = true;
		array_huge(&t->next, true);
	}
}

/* Moves what lies in a few slots. Erasing by backward shift keeps the old array whole for look-ups
 * at every step; nothing is ever shifted below the cursor, since there all slots are empty. */
static void move_some(struct tw_table *t)
{
	for (uint32_t n = 0; n < MOVE_STEP; n++) {
		uint64_t slot = t->now.slots[t->cursor];

		if (slot != 0) {
			array_put(&t->next, slot);
			array_erase(&t->now, t->cursor);
		} else if (t->cursor++ == t->now.mask) {
			array_drop(t, &t->now);
			t->now = t->next;
			t->next.slots = NULL;
			t->moving = false;
			return;
		}
	}
}

static void grow_some(struct tw_table *t)
{
	uint64_t slots = (uint64_t)t->now.mask + 1;

	if (t->moving) {
		move_some(t);
	} else if (t->next.slots) {
		clear_some(t);
	} else if (t->count >= slots / 3 * 2 && t->count >= t->refused_at &&
	           slots < (UINT64_C(1) << 31)) {
		t->refused_at = 0;
		t->cursor = 0;
		if (!array_make(t, &t->next, slots * 2, false))
			t->refused_at = t->count + (uint32_t)(slots / 64) + 1;
	}
}

bool tw_table_insert(struct tw_table *t, uint64_t hash, uint32_t record)
{
	uint64_t slot = ((uint64_t)tw_table_bits(hash) << 32) | record;

	grow_some(t);
	if (t->moving) {
		array_put(&t->next, slot);
	} else {
		if (t->count >= ((uint64_t)t->now.mask + 1) * 85 / 100)
			return false;
		array_put(&t->now, slot);
	}
	t->count++;
	return true;
}

void tw_table_remove(struct tw_table *t, uint64_t hash, uint32_t record)
{
	uint64_t slot = ((uint64_t)tw_table_bits(hash) << 32) | record;
	bool found = (t->moving && array_take(&t->next, slot)) || array_take(&t->now, slot);

	TW_ASSERT(found);
	t->count--;
}

uint64_t tw_table_bytes(const struct tw_table *t)
{
	return array_bytes(t->now.mask) + (t->next.slots ? array_bytes(t->next.mask) : 0);
}
