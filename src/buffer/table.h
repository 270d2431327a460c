/* Trace id hash → record number. Open addressing, linear probing, backward-shift deletion.
 *
 * A slot is 8 bytes: 32 mixed bits of the keyed hash and the record number; the full id is compared
 * in the record, by the caller. Eight slots share a cache line, so that probes hardly touch a
 * second one. Growing is in steps: from a load of two thirds on the next array is cleared, a page
 * an insert, then slots move, a few an insert; meanwhile a look-up asks both. No call moves more
 * than a page. Threads: one owner. Memory: reserved from the pool's budget. When that refuses, the
 * load may rise to 0.85; then inserting fails until something was removed. */
#ifndef TW_BUFFER_TABLE_H
#define TW_BUFFER_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tw_pool;

struct tw_table_array {
	uint64_t *slots; /* 0: empty; else bits << 32 | record */
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
                  uint32_t slots); /* slots: a power of two */
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
                                                                    uint64_t hash)
{
	__builtin_prefetch(&t->now.slots[tw_table_bits(hash) & t->now.mask]);
	if (t->moving)
		__builtin_prefetch(&t->next.slots[tw_table_bits(hash) & t->next.mask]);
}

struct tw_table_probe {
	uint32_t bits, at;
	bool in_next;
};
static inline struct tw_table_probe tw_table_probe(const struct tw_table *t, uint64_t hash)
{
	uint32_t bits = tw_table_bits(hash);

	return (struct tw_table_probe){bits, bits & (t->moving ? t->next.mask : t->now.mask),
	                               t->moving};
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

#endif
