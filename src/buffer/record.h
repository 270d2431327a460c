/* Trace records: 96 bytes a trace, in chunks that never move.
 *
 * A record is FREE → OPEN (in the table and the wheel) → KEPT (handed to ops->keep) → FREE; or
 * FREE → LATE (late spans of one request, never in the table) → KEPT. One that was freed last is
 * used first, while it is in the cache. Threads: one owner. Memory: chunks of 48 KiB reserved from
 * the pool's budget, and 4 KiB more for a chunk with a trace that brought randomness of its own;
 * not given back. */
#ifndef TW_BUFFER_RECORD_H
#define TW_BUFFER_RECORD_H

#include "tw/model/trace.h"

struct tw_pool;

#define TW_RECORD_NONE       0u
#define TW_RECORDS_PER_CHUNK 512u
#define TW_RECORDS_MAX       (1u << 29) /* a wheel entry has so many bits for the number */

/* What a record can count; a trace is decided before. */
#define TW_RECORD_SPANS_MAX 10000000u
#define TW_RECORD_BYTES_MAX (UINT64_C(2) << 30)
#define TW_RECORDS_REST_MAX 256u
#define TW_RECORD_WHOLE_MAX 255u

enum tw_record_state { TW_RECORD_FREE, TW_RECORD_OPEN, TW_RECORD_LATE, TW_RECORD_KEPT };

struct tw_record {
	struct tw_id128 id;
	uint64_t mask[TW_MASK_WORDS];
	uint64_t start_ns, end_ns;
	uint64_t head : 51; /* link to the newest span */
	uint64_t state : 2;
	uint64_t has_rv : 1;
	uint64_t has_root : 1;
	uint64_t unfiled : 1; /* the wheel had no memory for it */
	uint64_t whole : 8;   /* spans that lie in the log as they came; 255: at least */
	/* second line */
	uint64_t service_hash : 40;
	uint64_t begin : 24;                 /* number of the segment that was open, modulo 2^24 */
	uint32_t bytes;                      /* of its spans as they came */
	uint32_t stored;                     /* of its entries in the log */
	uint32_t first_ms, last_ms, root_ms; /* since the shard was made, modulo 2^32 */
	union {
		uint32_t filed_ms; /* when the wheel looks; entries of another time are stale */
		uint32_t next;     /* FREE: the list */
	};
	uint64_t counts; /* spans: 24 bits; those with an error: 24; generation modulo 2^16 */
};
_Static_assert(TW_MASK_WORDS != 2 || sizeof(struct tw_record) == 96, "never in three cache lines");

static inline uint32_t tw_record_spans(const struct tw_record *rec)
{
	return rec->counts & 0xffffff;
}
static inline uint32_t tw_record_errors(const struct tw_record *rec)
{
	return rec->counts >> 24 & 0xffffff;
}
static inline void tw_record_count(struct tw_record *rec, bool error)
{
	rec->counts += 1 + ((uint64_t)error << 24);
}
static inline uint16_t tw_record_generation(const struct tw_record *rec)
{
	return (uint16_t)(rec->counts >> 48);
}
static inline void tw_record_set_generation(struct tw_record *rec, uint32_t generation)
{
	rec->counts = (rec->counts & (UINT64_MAX >> 16)) | (uint64_t)generation << 48;
}

#define TW_BEGIN_MASK        ((UINT64_C(1) << 24) - 1)
#define TW_SERVICE_HASH_MASK ((UINT64_C(1) << 40) - 1)

struct tw_records {
	struct tw_pool *pool;
	struct tw_record **chunks;
	uint64_t **rv; /* [chunk]: explicit randomness; NULL: none of its records has one */
	uint32_t chunk_count, chunk_cap, rv_count;
	uint32_t free; /* list */
	/* A queue of free ones that rest until another segment is open, at most so many: then an
	 * entry of a trace that is gone hardly ever names a trace that began in its segment. */
	uint32_t rest_first, rest_last, rest_count;
	uint64_t rest_number; /* of the segment that was open */
	uint32_t held;
};

int tw_records_init(struct tw_records *r,
                    struct tw_pool *pool); /* 0 or TW_ENOMEM; makes a first chunk */
void tw_records_deinit(struct tw_records *r);
/* One more chunk; false: the budget (unless force) or the allocator refuses. */
bool tw_records_grow(struct tw_records *r, bool force);
/* TW_RECORD_NONE: none is free. All fields are zero. */
uint32_t tw_records_get(struct tw_records *r);
/* As tw_records_put, of one with entries in the open segment, which is the number-th; and before a
 * get. */
void tw_records_rest(struct tw_records *r, uint32_t i, uint64_t number);
static inline bool tw_records_may_wake(const struct tw_records *r, uint64_t number)
{
	return r->rest_count > 0 && r->rest_number != number;
}
void tw_records_wake(struct tw_records *r);

/* Remembers the trace's explicit randomness, if there is memory. */
void tw_records_set_rv(struct tw_records *r, uint32_t i, uint64_t rv);
uint64_t tw_records_rv(const struct tw_records *r, uint32_t i); /* has_rv */

/* Numbers are below. */
static inline uint32_t tw_records_end(const struct tw_records *r)
{
	return r->chunk_count * TW_RECORDS_PER_CHUNK;
}

static inline uint64_t tw_records_bytes(const struct tw_records *r) /* of the budget */
{
	return (r->chunk_count * sizeof(struct tw_record) + r->rv_count * sizeof(uint64_t)) *
	       TW_RECORDS_PER_CHUNK;
}
static inline struct tw_record *tw_record_at(const struct tw_records *r, uint32_t i)
{
	return &r->chunks[i / TW_RECORDS_PER_CHUNK][i % TW_RECORDS_PER_CHUNK];
}
static inline void tw_records_put(struct tw_records *r, uint32_t i)
{
	struct tw_record *rec = tw_record_at(r, i);

	rec->state = TW_RECORD_FREE;
	rec->next = r->free;
	r->free = i;
	r->held--;
}

#endif
