/* Segments, shared by all shards of a process.
 *
 * A segment slot is BLANK (no memory) → HELD by one shard → FREE (memory kept for the next one) or
 * BLANK again. Slots never move, so a slot number and an offset are an address that lasts. A held
 * slot's fields belong to its holder.
 *
 * Threads: get and put are lock-free (two stacks of slot numbers with a tag against ABA). Memory:
 * everything that a shard holds (segments, records, tables, the wheel) is reserved from one budget
 * of bytes_max; `force` may pass it. */
#ifndef TW_BUFFER_POOL_H
#define TW_BUFFER_POOL_H

#include <stdatomic.h>

#include "tw/base/budget.h"
#include "tw/base/limits.h"
#include "tw/buffer.h"

#define TW_SLOT_NONE    0u
#define TW_SLOTS_MAX    (1u << 23)
#define TW_CAPACITY_MAX (1u << 30)
#define TW_POOL_SEGMENTS_MIN                                                                       \
	4u /* a shard: one open, one in reserve, the rest for records and old ones */
#define TW_ADMIT_PER_SPAN 64u /* digest and padding */

struct tw_segment {
	uint8_t *mem;
	uint32_t capacity;   /* bytes; TW_SEGMENT_BYTES unless one span and its heads need more */
	uint32_t used;       /* bytes, the segment's header among them */
	uint32_t live;       /* closed: bytes of entries whose trace is held, or more; see log.h */
	uint32_t heads;      /* bytes of resource and scope heads */
	uint32_t next, prev; /* the holder's list of closed ones */
	uint32_t begun;      /* traces that began in it */
	uint64_t number;     /* among the holder's, in the order of opening */
	uint64_t looked;     /* the holder's dropped bytes when it was opened, or `live` found */
	_Atomic uint32_t below; /* in a stack of the pool */
};

struct tw_pool {
	uint64_t bytes_max;
	uint64_t fair_bytes;    /* a shard's equal part */
	uint64_t overdraft_max; /* what shards under their part may take past bytes_max */
	uint64_t admit_max;
	uint64_t held_max; /* past it nothing is admitted while something is pinned */
	uint32_t shards, slot_count;
	struct tw_segment *slots;
	struct tw_budget held;
	_Alignas(64) _Atomic uint64_t free_head;
	_Atomic uint64_t blank_head;
	_Alignas(64) _Atomic uint64_t reserved; /* admitted, not appended yet */
	_Alignas(64) _Atomic uint64_t pinned;   /* log bytes of kept traces */
	_Atomic uint64_t overhead;              /* records, tables, wheels */
	_Atomic uint64_t segments;              /* with memory */
};

/* A segment of `capacity` bytes, or TW_SLOT_NONE. Without force never past bytes_max. [any] */
uint32_t tw_pool_get(struct tw_pool *p, uint32_t capacity, bool force);
/* Gives one back; its memory is freed when the pool is over its budget. [holder] */
void tw_pool_put(struct tw_pool *p, uint32_t slot);

/* Records, tables and wheels reserve here before they allocate. [any] */
bool tw_pool_reserve_overhead(struct tw_pool *p, uint64_t bytes, bool force);
void tw_pool_release_overhead(struct tw_pool *p, uint64_t bytes);

bool tw_pool_over(const struct tw_pool *p); /* more is held than bytes_max [any] */
/* May a shard that holds `bytes` take a segment past bytes_max? Others give back what they have
 * above their part at their next tick. [any] */
bool tw_pool_may_overdraw(const struct tw_pool *p, uint64_t bytes);

void tw_pool_pin(struct tw_pool *p, uint64_t bytes);
void tw_pool_unpin(struct tw_pool *p, uint64_t bytes);

#endif
