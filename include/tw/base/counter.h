/* Counters with one writer and any number of readers: relaxed stores, never a locked instruction.
 *
 * A group of counters that must be read as one state is guarded by a tw_seq: the writer brackets
 * its changes, a reader copies between two looks and tries again when they differ. */
#ifndef TW_BASE_COUNTER_H
#define TW_BASE_COUNTER_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdbool.h>

typedef _Atomic uint64_t tw_counter;

static inline void tw_counter_add(tw_counter *c, uint64_t n) /* [owner] */
{
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
	                      memory_order_relaxed);
}
static inline uint64_t tw_counter_get(const tw_counter *c) /* [any] */
{
	return atomic_load_explicit((tw_counter *)(uintptr_t)c, memory_order_relaxed);
}
static inline void tw_counter_set(tw_counter *c, uint64_t v) /* [owner] */
{
	atomic_store_explicit(c, v, memory_order_relaxed);
}

struct tw_seq {
	_Atomic uint32_t n; /* odd while the writer is inside */
};
void tw_seq_write_begin(struct tw_seq *s); /* [owner] */
void tw_seq_write_end(struct tw_seq *s);   /* [owner] */
/* Copies `count` counters from src to dst as one state. [any] */
void tw_seq_read(struct tw_seq *s, const tw_counter *src, uint64_t *dst, uint32_t count);

#endif
