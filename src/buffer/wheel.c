#include "wheel.h"

#include "pool.h"
#include "tw/base/error.h"
#include "tw/base/mem.h"

#define PER_CHUNK        15u
#define CHUNKS_PER_BLOCK 256u
#define CHUNKS_MAX       (1u << 28)
#define SLOT_MASK        (TW_WHEEL_SLOTS - 1)
#define WORDS            (TW_WHEEL_SLOTS / 64)
#define MS_BITS          3u
#define MS_MASK          7u

struct tw_wheel_chunk {
	uint32_t next : 28;
	uint32_t count : 4;
	uint32_t e[PER_CHUNK]; /* record << 3 | millisecond in the slot */
};
_Static_assert(sizeof(struct tw_wheel_chunk) == 64, "a cache line");

static struct tw_wheel_chunk *chunk_at(const struct tw_wheel *w, uint32_t i)
{
	return &w->blocks[i / CHUNKS_PER_BLOCK][i % CHUNKS_PER_BLOCK];
}

static bool grow(struct tw_wheel *w)
{
	const uint64_t bytes = CHUNKS_PER_BLOCK * sizeof(struct tw_wheel_chunk);
	struct tw_wheel_chunk *block;

	if (w->block_count == CHUNKS_MAX / CHUNKS_PER_BLOCK)
		return false;
	if (w->block_count == w->block_cap) {
		uint32_t cap = w->block_cap ? w->block_cap * 2 : 64;
		struct tw_wheel_chunk **blocks = tw_realloc(w->blocks, cap * sizeof(*blocks));

		if (!blocks)
			return false;
		w->blocks = blocks;
		w->block_cap = cap;
	}
	/* The wheel is small beside what it times: past the budget rather than blind. */
	(void)tw_pool_reserve_overhead(w->pool, bytes, true);
	block = tw_alloc_aligned(64, bytes);
	if (!block) {
		tw_pool_release_overhead(w->pool, bytes);
		return false;
	}
	w->blocks[w->block_count] = block;
	for (uint32_t i = CHUNKS_PER_BLOCK; i-- > 0;) {
		uint32_t chunk = w->block_count * CHUNKS_PER_BLOCK + i;

		block[i].next = w->free & (CHUNKS_MAX - 1);
		if (chunk != 0)
			w->free = chunk;
	}
	w->block_count++;
	return true;
}

/* The slots. */
static uint64_t fixed_bytes(const struct tw_wheel *w)
{
	return TW_WHEEL_SLOTS * sizeof(*w->heads) + WORDS * sizeof(*w->filled);
}

int tw_wheel_init(struct tw_wheel *w, struct tw_pool *pool)
{
	*w = (struct tw_wheel){.pool = pool, .next_ms = UINT64_MAX};
	(void)tw_pool_reserve_overhead(pool, fixed_bytes(w), true);
	w->heads = tw_calloc(TW_WHEEL_SLOTS, sizeof(*w->heads));
	w->filled = tw_calloc(WORDS, sizeof(*w->filled));
	if (!w->heads || !w->filled || !grow(w)) {
		tw_wheel_deinit(w);
		return TW_ENOMEM;
	}
	return 0;
}

void tw_wheel_deinit(struct tw_wheel *w)
{
	for (uint32_t i = 0; i < w->block_count; i++) {
		tw_free(w->blocks[i]);
		tw_pool_release_overhead(w->pool, CHUNKS_PER_BLOCK * sizeof(struct tw_wheel_chunk));
	}
	if (w->pool)
		tw_pool_release_overhead(w->pool, fixed_bytes(w));
	tw_free(w->blocks);
	tw_free(w->heads);
	tw_free(w->filled);
	*w = (struct tw_wheel){0};
}

/* An entry as a chunk holds it; the caller has seen that the slot's first chunk has a place, or
 * that one is free. */
static void slot_put(struct tw_wheel *w, uint32_t slot, uint32_t e)
{
	uint32_t i = w->heads[slot];
	struct tw_wheel_chunk *c = chunk_at(w, i);

	if (i == 0 || c->count == PER_CHUNK) {
		i = w->free;
		c = chunk_at(w, i);
		w->free = c->next;
		c->next = w->heads[slot] & (CHUNKS_MAX - 1);
		c->count = 0;
		w->heads[slot] = i;
		w->filled[slot / 64] |= UINT64_C(1) << (slot % 64);
	}
	c->e[c->count] = e;
	c->count++;
}

uint64_t tw_wheel_put(struct tw_wheel *w, uint32_t record, uint64_t due_ms)
{
	const uint64_t first = w->cursor << MS_BITS;
	const uint64_t last = ((w->cursor + TW_WHEEL_SLOTS) << MS_BITS) - 1;
	uint32_t slot, i;

	due_ms = due_ms < first ? first : due_ms > last ? last : due_ms;
	slot = (uint32_t)(due_ms >> MS_BITS) & SLOT_MASK;
	i = w->heads[slot];
	if ((i == 0 || chunk_at(w, i)->count == PER_CHUNK) && w->free == 0 && !grow(w))
		return UINT64_MAX;
	slot_put(w, slot, record << MS_BITS | ((uint32_t)due_ms & MS_MASK));
	w->entries++;
	if (due_ms < w->next_ms)
		w->next_ms = due_ms;
	return due_ms;
}

/* Takes entries of the slot of that time whose millisecond is ≤ limit; *least: of those that stay,
 * unless cap ended it. A chunk gives its last entry for a hole, an empty one goes to the free list;
 * only the first chunk of a slot need be full for tw_wheel_put, so order does not matter. */
static uint32_t take_slot(struct tw_wheel *w, uint64_t at, uint32_t limit,
                          struct tw_wheel_entry *out, uint32_t cap, uint32_t *least)
{
	const uint32_t slot = (uint32_t)at & SLOT_MASK, first_ms = (uint32_t)(at << MS_BITS);
	uint32_t i = w->heads[slot], before = 0, n = 0;

	while (i != 0 && n < cap) {
		struct tw_wheel_chunk *c = chunk_at(w, i);
		uint32_t next = c->next, count = c->count;

		for (uint32_t k = 0; k < count && n < cap;) {
			uint32_t e = c->e[k];

			if ((e & MS_MASK) > limit) {
				*least = (e & MS_MASK) < *least ? e & MS_MASK : *least;
				k++;
				continue;
			}
			out[n++] = (struct tw_wheel_entry){e >> MS_BITS, first_ms | (e & MS_MASK)};
			c->e[k] = c->e[--count];
		}
		c->count = count & PER_CHUNK;
		if (count == 0) {
			if (before != 0)
				chunk_at(w, before)->next = next & (CHUNKS_MAX - 1);
			else
				w->heads[slot] = next;
			c->next = w->free & (CHUNKS_MAX - 1);
			w->free = i;
		} else {
			before = i;
		}
		i = next;
	}
	if (w->heads[slot] == 0)
		w->filled[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
	return n;
}

/* The first filled slot time at or after the cursor; UINT64_MAX: none. */
static uint64_t first_filled(const struct tw_wheel *w)
{
	uint32_t start = (uint32_t)w->cursor & SLOT_MASK;

	for (uint32_t n = 0; n <= WORDS; n++) {
		uint32_t word = (start / 64 + n) % WORDS;
		uint64_t bits = w->filled[word];

		if (n == 0)
			bits &= UINT64_MAX << (start % 64);
		else if (n == WORDS)
			bits &= ~(UINT64_MAX << (start % 64));
		if (bits != 0) {
			uint32_t slot = word * 64 + (uint32_t)__builtin_ctzll(bits);

			return w->cursor + ((slot - start) & SLOT_MASK);
		}
	}
	return UINT64_MAX;
}

static uint64_t earliest_ms(const struct tw_wheel *w)
{
	uint64_t at = first_filled(w);
	uint32_t least = MS_MASK;

	if (at == UINT64_MAX)
		return UINT64_MAX;
	for (uint32_t i = w->heads[at & SLOT_MASK]; i != 0; i = chunk_at(w, i)->next)
		for (uint32_t k = 0; k < chunk_at(w, i)->count; k++)
			if ((chunk_at(w, i)->e[k] & MS_MASK) < least)
				least = chunk_at(w, i)->e[k] & MS_MASK;
	return (at << MS_BITS) + least;
}

uint32_t tw_wheel_take(struct tw_wheel *w, uint64_t now_ms, struct tw_wheel_entry *out,
                       uint32_t cap)
{
	const uint64_t now = now_ms >> MS_BITS;
	uint32_t n = 0;

	if (now_ms < w->next_ms) {
		w->cursor = now > w->cursor ? now : w->cursor;
		return 0;
	}
	while (n < cap) {
		uint64_t at = first_filled(w);
		uint32_t least = UINT32_MAX;

		if (at > now) {
			w->cursor = now > w->cursor ? now : w->cursor;
			w->next_ms = earliest_ms(w);
			break;
		}
		w->cursor = at;
		n += take_slot(w, at, at < now ? MS_MASK : (uint32_t)now_ms & MS_MASK, out + n,
		               cap - n, &least);
		if (n < cap && least != UINT32_MAX) {
			w->next_ms = (at << MS_BITS) + least;
			break; /* the rest of this slot is later */
		}
	}
	/* Where cap was reached, next_ms is over: the next call finds out. */
	w->entries -= n;
	return n;
}

static bool is_filled(const struct tw_wheel *w, uint32_t slot)
{
	return w->filled[slot / 64] >> (slot % 64) & 1;
}

/* Each chunk is freed before what stays of it is put again, so there is always one for that. */
static uint32_t sweep_slot(struct tw_wheel *w, uint32_t slot,
                           bool (*stale)(const void *ctx, const struct tw_wheel_entry *e),
                           const void *ctx)
{
	const uint64_t at = w->cursor + ((slot - (uint32_t)w->cursor) & SLOT_MASK);
	uint32_t i = w->heads[slot], n = 0;

	w->heads[slot] = 0;
	w->filled[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
	while (i != 0) {
		const struct tw_wheel_chunk c = *chunk_at(w, i);

		chunk_at(w, i)->next = w->free & (CHUNKS_MAX - 1);
		w->free = i;
		for (uint32_t k = 0; k < c.count; k++) {
			struct tw_wheel_entry e = {c.e[k] >> MS_BITS,
			                           (uint32_t)(at << MS_BITS) | (c.e[k] & MS_MASK)};

			if (stale(ctx, &e))
				w->entries--;
			else
				slot_put(w, slot, c.e[k]);
		}
		n += c.count;
		i = c.next;
	}
	return n;
}

/* next_ms may be too early afterwards; the look at that time finds out. */
void tw_wheel_sweep(struct tw_wheel *w, uint32_t most,
                    bool (*stale)(const void *ctx, const struct tw_wheel_entry *e), const void *ctx)
{
	for (uint32_t n = 0, k = 0; k < TW_WHEEL_SLOTS && n < most; k++) {
		if (is_filled(w, w->swept))
			n += sweep_slot(w, w->swept, stale, ctx);
		w->swept = (w->swept + 1) & SLOT_MASK;
	}
}

uint64_t tw_wheel_bytes(const struct tw_wheel *w)
{
	return fixed_bytes(w) +
	       (uint64_t)w->block_count * CHUNKS_PER_BLOCK * sizeof(struct tw_wheel_chunk);
}
