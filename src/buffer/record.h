/* Trace records: 128 bytes a trace, in chunks that never move.
 *
 * A record is FREE → OPEN (in the table, the FIFO and the wheel) → KEPT (handed to ops->keep) →
 * FREE; or FREE → LATE (late spans of one request, never in the table) → KEPT. One that was freed
 * last is used first, while it is in the cache. Threads: one owner. Memory: chunks of 64 KiB
 * reserved from the pool's budget; not given back. */
#ifndef TW_BUFFER_RECORD_H
#define TW_BUFFER_RECORD_H

#include "tw/model/trace.h"

struct tw_pool;

#define TW_RECORD_NONE       0u
#define TW_RECORDS_PER_CHUNK 512u

enum tw_record_state { TW_RECORD_FREE, TW_RECORD_OPEN, TW_RECORD_LATE, TW_RECORD_KEPT };

struct tw_record {
	struct tw_id128 id;
	uint64_t mask[TW_MASK_WORDS];
	uint64_t start_ns, end_ns;
	uint64_t bytes;
	uint64_t head; /* link to the newest span */
	/* second line */
	uint64_t hash;
	uint64_t service_hash;
	uint64_t rv : 56;
	uint64_t state : 2;
	uint64_t has_rv : 1;
	uint64_t has_root : 1;
	uint64_t unfiled : 1; /* the wheel had no memory for it */
	uint32_t span_count, error_count;
	uint32_t first_ms, last_ms, root_ms; /* since the shard was made, modulo 2^32 */
	uint32_t filed_ms;                   /* when the wheel looks */
	uint32_t tag;                        /* wheel entries of another tag are stale */
	uint32_t generation;
	uint32_t prev, next; /* FIFO by first span; next: also the free list */
};
_Static_assert(TW_MASK_WORDS != 2 || sizeof(struct tw_record) == 128, "two cache lines");

struct tw_records {
	struct tw_pool *pool;
	struct tw_record **chunks;
	uint32_t chunk_count, chunk_cap;
	uint32_t free; /* list */
	uint32_t held;
};

int tw_records_init(struct tw_records *r,
                    struct tw_pool *pool); /* 0 or TW_ENOMEM; makes a first chunk */
void tw_records_deinit(struct tw_records *r);
/* One more chunk; false: the budget (unless force) or the allocator refuses. */
bool tw_records_grow(struct tw_records *r, bool force);
uint32_t
tw_records_get(struct tw_records *r); /* TW_RECORD_NONE: none is free. Fields but tag are zero */
void tw_records_put(struct tw_records *r, uint32_t i); /* makes its wheel entries stale */

static inline uint64_t tw_records_bytes(const struct tw_records *r) /* of the budget */
{
	return (uint64_t)r->chunk_count * TW_RECORDS_PER_CHUNK * sizeof(struct tw_record);
}
static inline struct tw_record *tw_record_at(const struct tw_records *r, uint32_t i)
{
	return &r->chunks[i / TW_RECORDS_PER_CHUNK][i % TW_RECORDS_PER_CHUNK];
}

#endif
