/* The table of label sets: finds or makes the id of one.
 *
 * Records are append-only and never move; the table holds references to them under a tag of 32 hash
 * bits. Look-ups take no lock: a slot is published with release after its record is whole. A table
 * that gets half full is replaced by one twice as large, and each series that is made from then on
 * takes two of the old ones along, so that nobody waits for all of them; until all are there, what
 * is not found is looked up in the older table, too. That one stays until the end, so a reader that
 * still probes it only misses what is newer, and asks again under the lock. Once the cap is reached
 * nothing is added any more, and misses need no lock either.
 *
 * Memory: series_max x 4 bytes, 8 to 16 bytes of table a series in use (as much again for outgrown
 * ones), and the records: 24 bytes, 2 a label, and the values. Values of all series together take
 * at most TW_SERIES_VALUE_BYTES a series of series_max (1 MiB at least): beyond that the table
 * counts as full. */
#ifndef TW_METRICS_SERIES_H
#define TW_METRICS_SERIES_H

#include <stdatomic.h>

#include "tw/base/error.h"
#include "tw/base/hash.h"
#include "tw/base/slice.h"

#define TW_SERIES_OVERFLOW    0u /* the id that all share past the cap; others are 1, 2, … */
#define TW_SERIES_VALUE_BYTES 512u
#define TW_SERIES_PARTS_MAX   18u /* service, name, dimensions */

struct tw_series_key { /* a label set as it is looked up; values clipped as label.h says */
	uint64_t hash;
	uint32_t parts;
	uint8_t kind, status;
	struct tw_slice service, name;
	const struct tw_slice *dims; /* parts - 2 */
};

struct tw_series { /* a record; followed by the lengths, then the values */
	uint64_t hash;
	uint32_t id;
	uint8_t kind, status;
	uint16_t parts;
	uint16_t len[];
};
static inline const uint8_t *tw_series_values(const struct tw_series *s)
{
	return (const uint8_t *)(s->len + s->parts);
}

struct tw_series_slots {
	uint64_t mask;
	struct tw_series_slots *older;
	uint32_t moved, moves;   /* ids up to `moved` of the older one's `moves` are here [lock] */
	_Atomic bool whole;      /* all of them; release after the last */
	_Atomic uint64_t slot[]; /* tag << 32 | reference; 0: free */
};

#define TW_SERIES_CHUNK_BITS 18u /* 256 KiB */
#define TW_SERIES_UNIT_BITS  4u  /* a reference counts 16 bytes; unit 0 of chunk 0 is not used */

struct tw_series_table {
	_Atomic(struct tw_series_slots *) slots;
	_Atomic uint32_t
	    count; /* series made, the overflow series not among them; release after the record */
	_Atomic bool full; /* nothing is added any more; release after the last slot */
	uint8_t **chunks;  /* records; entries are written before the slots that refer to them */
	uint32_t *refs;    /* by id */
	uint32_t chunk_count, chunk_max, chunk_used;
	uint32_t series_max;
	_Atomic uint64_t bytes;
	struct tw_series_lock *lock;
};

int tw_series_init(struct tw_series_table *t, uint32_t series_max); /* 0 or TW_ENOMEM */
void tw_series_deinit(struct tw_series_table *t);

static inline const struct tw_series *tw_series_at(const struct tw_series_table *t, uint32_t ref)
{
	const uint32_t bits = TW_SERIES_CHUNK_BITS - TW_SERIES_UNIT_BITS;
	return (const struct tw_series *)(const void *)(t->chunks[ref >> bits] +
	                                                ((size_t)(ref & ((1u << bits) - 1))
	                                                 << TW_SERIES_UNIT_BITS));
}
/* id: below 1 + a count that was read before. [any] */
static inline const struct tw_series *tw_series_by_id(const struct tw_series_table *t, uint32_t id)
{
	return tw_series_at(t, t->refs[id]);
}

bool tw_series_same(const struct tw_series *s,
                    const struct tw_series_key *k); /* hashes are not compared */
/* The record of k in these slots or, while they are not whole, the older ones; or NULL. Lock-free.
 * [any] */
const struct tw_series *tw_series_find(const struct tw_series_table *t,
                                       const struct tw_series_slots *slots,
                                       const struct tw_series_key *k);
/* Finds k or makes it: its id, or TW_SERIES_OVERFLOW past the cap or without memory. [any] */
uint32_t tw_series_intern(struct tw_series_table *t, const struct tw_series_key *k);

#endif
