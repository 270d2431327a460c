/* Trace id hash → record number. Open addressing, linear probing, backward-shift deletion.
 *
 * A slot is 8 bytes: 32 mixed bits of the keyed hash and the record number; the full id is compared
 * in the record, by the caller. Eight slots share a cache line, so that probes hardly touch a
 * second one. Growing is in steps: from a load of two thirds on the next array is cleared, eight
 * lines an insert, then slots move, a few an insert; meanwhile a look-up asks both. No call touches
 * more than one new page of it. Threads: one owner. Memory: reserved from the pool's budget. When
 * that refuses, the load may rise to 0.85; then inserting fails until something was removed. */
#ifndef TW_BUFFER_TABLE_H
#define TW_BUFFER_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "tw/base/error.h"

struct tw_pool;

#define TW_TABLE_LINE 8u /* slots of a cache line */

struct tw_table_array {
	uint64_t *slots; /* 0: empty; else bits << 32 | record, which is never 0 */
	uint32_t mask;
};

struct tw_table {
	struct tw_pool *pool;
	struct tw_table_array now, next; /* next.slots: being cleared, then being filled */
	uint32_t count;                  /* entries in both */
	uint32_t cursor;                 /* clearing: next's slots done; moving: now's slots done */
	bool moving;
	uint32_t refused_at; /* count when growing was refused; asks again further on */
};

int tw_table_init(struct tw_table *t, struct tw_pool *pool,
                  uint32_t slots); /* slots: a power of two, at least TW_TABLE_LINE */
void tw_table_deinit(struct tw_table *t);
bool tw_table_insert(struct tw_table *t, uint64_t hash, uint32_t record); /* false: full */
void tw_table_remove(struct tw_table *t, uint64_t hash, uint32_t record); /* must be there */
uint64_t tw_table_bytes(const struct tw_table *t);

/* The owner of a trace is chosen by bits of the same hash: mixing keeps that from emptying a part
 * of the table. */
static inline uint32_t tw_table_bits(uint64_t hash)
{
	return (uint32_t)((hash * UINT64_C(0x9E3779B97F4A7C15)) >> 32);
}

/* always_inline: gcc takes a function that does nothing but prefetch for one without any effect,
 * and leaves out its calls. */
static inline __attribute__((always_inline)) void tw_table_prefetch(const struct tw_table *t,
                                                                    uint32_t bits)
{
	__builtin_prefetch(&t->now.slots[bits & t->now.mask]);
	if (t->moving)
		__builtin_prefetch(&t->next.slots[bits & t->next.mask]);
}

/* Of the eight slots of a line: bit k: slot k has these bits, bit 8 + k: it is empty. All at once,
 * because which one it is can't be foreseen. */
#ifdef __SSE2__
static inline __m128i tw_table_load(const uint64_t *slots)
{
	return _mm_load_si128((const __m128i *)(const void *)slots);
}
/* Of four slots the upper or lower halves. */
static inline __m128i tw_table_upper(__m128i a, __m128i b)
{
	return _mm_castps_si128(
	    _mm_shuffle_ps(_mm_castsi128_ps(a), _mm_castsi128_ps(b), _MM_SHUFFLE(3, 1, 3, 1)));
}
static inline __m128i tw_table_lower(__m128i a, __m128i b)
{
	return _mm_castps_si128(
	    _mm_shuffle_ps(_mm_castsi128_ps(a), _mm_castsi128_ps(b), _MM_SHUFFLE(2, 0, 2, 0)));
}
static inline uint32_t tw_table_line(const uint64_t *slots, uint32_t bits)
{
	const __m128i want = _mm_set1_epi32((int)bits), none = _mm_setzero_si128();
	__m128i a = tw_table_load(slots), b = tw_table_load(slots + 2),
	        c = tw_table_load(slots + 4), d = tw_table_load(slots + 6);
	__m128i same = _mm_packs_epi32(_mm_cmpeq_epi32(tw_table_upper(a, b), want),
	                               _mm_cmpeq_epi32(tw_table_upper(c, d), want));
	__m128i empty = _mm_packs_epi32(_mm_cmpeq_epi32(tw_table_lower(a, b), none),
	                                _mm_cmpeq_epi32(tw_table_lower(c, d), none));

	return (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(same, empty));
}
#else
static inline uint32_t tw_table_line(const uint64_t *slots, uint32_t bits)
{
	uint32_t line = 0;

	for (uint32_t k = 0; k < TW_TABLE_LINE; k++)
		line |= (uint32_t)((uint32_t)(slots[k] >> 32) == bits) << k |
		        (uint32_t)(slots[k] == 0) << (TW_TABLE_LINE + k);
	return line;
}
#endif

struct tw_table_probe {
	uint32_t bits, at;
	bool in_next;
};
static inline struct tw_table_probe tw_table_probe_bits(const struct tw_table *t, uint32_t bits)
{
	return (struct tw_table_probe){bits, bits & (t->moving ? t->next.mask : t->now.mask),
	                               t->moving};
}
static inline struct tw_table_probe tw_table_probe(const struct tw_table *t, uint64_t hash)
{
	return tw_table_probe_bits(t, tw_table_bits(hash));
}
/* The next record whose slot has these bits; 0: no more. The table must not change in between. */
static inline uint32_t tw_table_next(const struct tw_table *t, struct tw_table_probe *p)
{
	for (;;) {
		const struct tw_table_array *a = p->in_next ? &t->next : &t->now;
		uint64_t slot = a->slots[p->at & a->mask];

		if (slot == 0) {
			if (!p->in_next)
				return 0;
			p->in_next = false;
			p->at = p->bits;
			continue;
		}
		p->at++;
		if ((uint32_t)(slot >> 32) == p->bits)
			return (uint32_t)slot;
	}
}
/* The first record whose slot has these bits; 0: there is none. */
static inline __attribute__((always_inline)) uint32_t tw_table_first(const struct tw_table *t,
                                                                     uint32_t bits)
{
	struct tw_table_probe p = tw_table_probe_bits(t, bits);
	uint32_t at = p.at, here = 0xffu >> at % TW_TABLE_LINE;

	if (TW_UNLIKELY(t->moving))
		return tw_table_next(t, &p);
	for (;;) {
		const uint64_t *slots = &t->now.slots[at & ~(TW_TABLE_LINE - 1)];
		uint32_t line = tw_table_line(slots, bits) >> at % TW_TABLE_LINE;
		uint32_t empty = line >> TW_TABLE_LINE & here;
		uint32_t same = line & here & ((empty & -empty) - 1);

		if (TW_LIKELY((same | empty) != 0)) {
			/* Read in any case: without a branch. */
			uint32_t record = (uint32_t)
			    slots[(at + (uint32_t)__builtin_ctz(same | 1u << 31)) % TW_TABLE_LINE];

			return same ? record : 0;
		}
		at = ((at | (TW_TABLE_LINE - 1)) + 1) & t->now.mask;
		here = 0xff;
	}
}

#endif
