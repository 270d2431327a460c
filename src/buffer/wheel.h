/* Who is to be looked at when: a timing wheel of 16,384 slots of 8 ms, exact to the millisecond.
 *
 * An entry names a record and the millisecond; the owner skips it when the record was filed for
 * another time since. Entries are not removed: a later deadline is found when the wheel fires and
 * files again, an earlier one is filed once more. What lies beyond the horizon of 131 s is filed at
 * the horizon, looked at, and filed again. Where many are stale before their time (traces decided
 * early), the owner sweeps before the wheel grows. Threads: one owner. Memory: chunks of 64 bytes
 * with 15 entries, in blocks of 16 KiB reserved from the pool's budget, reused and not given back.
 */
#ifndef TW_BUFFER_WHEEL_H
#define TW_BUFFER_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

struct tw_pool;
struct tw_wheel_chunk;

#define TW_WHEEL_SLOTS       16384u
#define TW_WHEEL_RECORD_BITS 29u

struct tw_wheel_entry {
	uint32_t record; /* of 29 bits, not 0 */
	uint32_t at_ms;  /* modulo 2^32 */
};

struct tw_wheel {
	struct tw_pool *pool;
	uint32_t *heads;  /* chunk of each slot, 0: none */
	uint64_t *filled; /* bit: the slot has entries */
	struct tw_wheel_chunk **blocks;
	uint32_t block_count, block_cap;
	uint32_t free;    /* list of chunks */
	uint32_t swept;   /* the slot that is swept next */
	uint64_t entries; /* stale ones among them */
	uint64_t cursor;  /* slot time; everything before it was taken */
	uint64_t next_ms; /* the earliest entry, or before it; UINT64_MAX: none */
};

int tw_wheel_init(struct tw_wheel *w, struct tw_pool *pool); /* 0 or TW_ENOMEM; time starts at 0 */
void tw_wheel_deinit(struct tw_wheel *w);
/* Files a record. Returns when it will fire: at due_ms, or before that at the horizon; UINT64_MAX:
 * no memory. */
uint64_t tw_wheel_put(struct tw_wheel *w, uint32_t record, uint64_t due_ms);
/* Takes up to cap entries that are due at now_ms. When it returns fewer, next_ms is exact. */
uint32_t tw_wheel_take(struct tw_wheel *w, uint64_t now_ms, struct tw_wheel_entry *out,
                       uint32_t cap);
/* The next entry may need another block. */
static inline bool tw_wheel_full(const struct tw_wheel *w)
{
	return w->free == 0;
}
/* Looks at some `most` entries, those of the next slots in turn, and drops the ones that are stale.
 */
void tw_wheel_sweep(struct tw_wheel *w, uint32_t most,
                    bool (*stale)(const void *ctx, const struct tw_wheel_entry *e),
                    const void *ctx);
uint64_t tw_wheel_bytes(const struct tw_wheel *w);

#endif
