/* Not instrumented by the thread sanitizer (see CMakeLists.txt), which does not know fences. */
#include "tw/base/counter.h"

#include <sched.h>

#define SPINS_BEFORE_YIELD 64

/* The fence keeps the counters' stores behind the odd number: a reader that sees one of them will,
 * at its second look, see the odd number or a later one. */
void tw_seq_write_begin(struct tw_seq *s)
{
	uint32_t n = atomic_load_explicit(&s->n, memory_order_relaxed);

	atomic_store_explicit(&s->n, n + 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
}

void tw_seq_write_end(struct tw_seq *s)
{
	uint32_t n = atomic_load_explicit(&s->n, memory_order_relaxed);

	atomic_store_explicit(&s->n, n + 1, memory_order_release);
}

static bool seq_try_read(struct tw_seq *s, const tw_counter *src, uint64_t *dst, uint32_t count)
{
	uint32_t n = atomic_load_explicit(&s->n, memory_order_acquire);

	if (n & 1)
		return false;
	for (uint32_t i = 0; i < count; i++)
		dst[i] = tw_counter_get(&src[i]);
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(&s->n, memory_order_relaxed) == n;
}

/* The writer never waits for readers, so a reader may have to wait for a writer that was preempted
 * inside its bracket: it gives the processor away. */
void tw_seq_read(struct tw_seq *s, const tw_counter *src, uint64_t *dst, uint32_t count)
{
	for (uint32_t spins = 1; !seq_try_read(s, src, dst, count); spins++) {
		if (spins % SPINS_BEFORE_YIELD == 0)
			sched_yield();
	}
}
