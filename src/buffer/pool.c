#include "pool.h"

#include "tw/base/error.h"
#include "tw/base/mem.h"

/* A stack's head: a tag that grows with each change in the upper half, the slot number in the
 * lower. A slot's `below` may be read while another thread pushes that slot again; the tag makes
 * the exchange fail then. */
static void push(struct tw_pool *p, _Atomic uint64_t *head, uint32_t slot)
{
	uint64_t old = atomic_load_explicit(head, memory_order_relaxed), new;

	do {
		atomic_store_explicit(&p->slots[slot].below, (uint32_t)old, memory_order_relaxed);
		new = (((old >> 32) + 1) << 32) | slot;
	} while (!atomic_compare_exchange_weak_explicit(head, &old, new, memory_order_release,
	                                                memory_order_relaxed));
}

static uint32_t pop(struct tw_pool *p, _Atomic uint64_t *head)
{
	uint64_t old = atomic_load_explicit(head, memory_order_acquire), new;

	do {
		uint32_t slot = (uint32_t)old;

		if (slot == TW_SLOT_NONE)
			return TW_SLOT_NONE;
		new = (((old >> 32) + 1) << 32) |
		      atomic_load_explicit(&p->slots[slot].below, memory_order_relaxed);
	} while (!atomic_compare_exchange_weak_explicit(head, &old, new, memory_order_acquire,
	                                                memory_order_acquire));
	return (uint32_t)old;
}

struct tw_pool *tw_pool_create(const struct tw_buffer_opts *o, uint32_t shards)
{
	struct tw_pool *p;
	uint64_t segments = o->bytes_max / TW_SEGMENT_BYTES, slots;

	TW_ASSERT(shards > 0);
	if (segments < TW_POOL_SEGMENTS_MIN * (uint64_t)shards)
		segments = TW_POOL_SEGMENTS_MIN * (uint64_t)shards;
	slots = 2 * segments + 64 * (uint64_t)shards + 1;
	if (slots > TW_SLOTS_MAX)
		slots = TW_SLOTS_MAX;
	p = tw_alloc_aligned(64, sizeof(*p));
	if (!p)
		return NULL;
	memset(p, 0, sizeof(*p));
	p->slots = tw_calloc(slots, sizeof(*p->slots));
	if (!p->slots) {
		tw_free(p);
		return NULL;
	}
	p->shards = shards;
	p->slot_count = (uint32_t)slots;
	p->bytes_max = segments * TW_SEGMENT_BYTES;
	p->fair_bytes = p->bytes_max / shards;
	p->overdraft_max = p->bytes_max / 32 + shards * (uint64_t)TW_SEGMENT_BYTES;
	p->held_max = p->bytes_max + p->overdraft_max + shards * (uint64_t)TW_SEGMENT_BYTES;
	p->admit_max = p->bytes_max - 2 * shards * (uint64_t)TW_SEGMENT_BYTES;
	tw_budget_init(&p->held, p->bytes_max);
	for (uint32_t i = p->slot_count - 1; i > 0; i--)
		push(p, &p->blank_head, i);
	return p;
}

void tw_pool_destroy(struct tw_pool **pp)
{
	struct tw_pool *p = *pp;

	if (!p)
		return;
	for (uint32_t i = 0; i < p->slot_count; i++)
		tw_free(p->slots[i].mem);
	tw_free(p->slots);
	tw_free(p);
	*pp = NULL;
}

/* The slot's memory goes back to the allocator. */
static void blank(struct tw_pool *p, uint32_t slot)
{
	struct tw_segment *s = &p->slots[slot];
	uint32_t capacity = s->capacity;

	tw_free(s->mem);
	s->mem = NULL;
	s->capacity = 0;
	push(p, &p->blank_head, slot);
	atomic_fetch_sub_explicit(&p->segments, 1, memory_order_relaxed);
	tw_budget_release(&p->held, capacity);
}

static bool reserve(struct tw_pool *p, uint64_t bytes, bool force)
{
	uint32_t slot;

	while (!tw_budget_reserve(&p->held, bytes)) {
		/* Free segments are worth less than what is asked for now. */
		slot = pop(p, &p->free_head);
		if (slot != TW_SLOT_NONE) {
			blank(p, slot);
			continue;
		}
		if (!force)
			return false;
		tw_budget_force(&p->held, bytes);
		return true;
	}
	return true;
}

static uint32_t allocate(struct tw_pool *p, uint32_t capacity)
{
	uint32_t slot = pop(p, &p->blank_head);

	if (slot == TW_SLOT_NONE)
		return TW_SLOT_NONE;
	p->slots[slot].mem = tw_alloc_aligned(4096, capacity);
	if (!p->slots[slot].mem) {
		push(p, &p->blank_head, slot);
		return TW_SLOT_NONE;
	}
	p->slots[slot].capacity = capacity;
	atomic_fetch_add_explicit(&p->segments, 1, memory_order_relaxed);
	return slot;
}

uint32_t tw_pool_get(struct tw_pool *p, uint32_t capacity, bool force)
{
	uint32_t slot = TW_SLOT_NONE;

	if (capacity == TW_SEGMENT_BYTES)
		slot = pop(p, &p->free_head);
	if (slot == TW_SLOT_NONE) {
		if (!reserve(p, capacity, force))
			return TW_SLOT_NONE;
		slot = allocate(p, capacity);
		if (slot == TW_SLOT_NONE) {
			tw_budget_release(&p->held, capacity);
			return TW_SLOT_NONE;
		}
	}
	p->slots[slot].used = p->slots[slot].live = p->slots[slot].heads = 0;
	return slot;
}

void tw_pool_put(struct tw_pool *p, uint32_t slot)
{
	if (p->slots[slot].capacity != TW_SEGMENT_BYTES || tw_pool_over(p))
		blank(p, slot);
	else
		push(p, &p->free_head, slot);
}

bool tw_pool_reserve_overhead(struct tw_pool *p, uint64_t bytes, bool force)
{
	if (!reserve(p, bytes, force))
		return false;
	atomic_fetch_add_explicit(&p->overhead, bytes, memory_order_relaxed);
	return true;
}

void tw_pool_release_overhead(struct tw_pool *p, uint64_t bytes)
{
	atomic_fetch_sub_explicit(&p->overhead, bytes, memory_order_relaxed);
	tw_budget_release(&p->held, bytes);
}

bool tw_pool_over(const struct tw_pool *p)
{
	return tw_budget_used(&p->held) > p->bytes_max;
}

bool tw_pool_may_overdraw(const struct tw_pool *p, uint64_t bytes)
{
	return p->shards > 1 && bytes + TW_SEGMENT_BYTES <= p->fair_bytes &&
	       tw_budget_used(&p->held) + TW_SEGMENT_BYTES <= p->bytes_max + p->overdraft_max;
}

/* What kept traces pin is counted, but not the holes between their spans, which larger spans don't
 * fit into, nor their heads. Deciding early makes no room there. */
static bool burst(const struct tw_pool *p)
{
	return tw_budget_used(&p->held) > p->held_max;
}

bool tw_pool_admit(struct tw_pool *p, uint64_t bytes, uint32_t spans)
{
	uint64_t need = bytes + (uint64_t)spans * TW_ADMIT_PER_SPAN;
	uint64_t reserved = atomic_load_explicit(&p->reserved, memory_order_relaxed);

	for (;;) {
		uint64_t pinned = atomic_load_explicit(&p->pinned, memory_order_relaxed);
		uint64_t overhead = atomic_load_explicit(&p->overhead, memory_order_relaxed);

		/* A stale `pinned` admits or refuses one request early or late, no more. A request
		 * larger than the whole buffer passes when it is alone, or its sender would try for
		 * ever. */
		if ((reserved + pinned + overhead + need > p->admit_max || burst(p)) &&
		    reserved + pinned > 0)
			return false;
		if (atomic_compare_exchange_weak_explicit(&p->reserved, &reserved, reserved + need,
		                                          memory_order_relaxed,
		                                          memory_order_relaxed))
			return true;
	}
}

bool tw_pool_full(const struct tw_pool *p)
{
	struct tw_pool *q =
	    (struct tw_pool *)(uintptr_t)p; /* C11 atomics take no pointer to const */
	uint64_t held = atomic_load_explicit(&q->reserved, memory_order_relaxed) +
	                atomic_load_explicit(&q->pinned, memory_order_relaxed);

	return held > 0 &&
	       (burst(p) || held + atomic_load_explicit(&q->overhead, memory_order_relaxed) >
	                        p->admit_max - p->admit_max / 16);
}

void tw_pool_unadmit(struct tw_pool *p, uint64_t bytes, uint32_t spans)
{
	uint64_t need = bytes + (uint64_t)spans * TW_ADMIT_PER_SPAN;
	uint64_t before = atomic_fetch_sub_explicit(&p->reserved, need, memory_order_relaxed);

	TW_ASSERT(before >= need);
}

void tw_pool_pin(struct tw_pool *p, uint64_t bytes)
{
	atomic_fetch_add_explicit(&p->pinned, bytes, memory_order_relaxed);
}

void tw_pool_unpin(struct tw_pool *p, uint64_t bytes)
{
	atomic_fetch_sub_explicit(&p->pinned, bytes, memory_order_relaxed);
}

uint64_t tw_pool_pinned(const struct tw_pool *p)
{
	return atomic_load_explicit(&p->pinned, memory_order_relaxed);
}

uint64_t tw_pool_segments(const struct tw_pool *p)
{
	return atomic_load_explicit(&p->segments, memory_order_relaxed);
}
