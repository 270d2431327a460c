/* Not instrumented by the thread sanitizer (see CMakeLists.txt): ck orders its accesses by fences,
 * which the sanitizer does not know. In its build the pair below says what the fences do:
 * everything before a put happens before everything after the take. It is said of the whole ring
 * and not of one place, so a race between two producers' later writes could hide behind it; none
 * may share what they put. */
#include "tw/base/ring.h"

#include <ck_ring.h>

#include "tw/base/error.h"
#include "tw/base/mem.h"

#ifdef TW_TSAN
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
#else
static inline void __tsan_acquire(void *addr)
{
	(void)addr;
}
static inline void __tsan_release(void *addr)
{
	(void)addr;
}
#endif

struct tw_ring {
	_Alignas(64) ck_ring_t ring;
	ck_ring_buffer_t places[];
};

struct tw_ring *tw_ring_create(uint32_t size)
{
	struct tw_ring *r;

	TW_ASSERT(size >= 4 && (size & (size - 1)) == 0);
	r = tw_alloc_aligned(64, sizeof(*r) + (size_t)size * sizeof(r->places[0]));
	if (r)
		ck_ring_init(&r->ring, size);
	return r;
}

void tw_ring_destroy(struct tw_ring **r)
{
	tw_free(*r);
	*r = NULL;
}

bool tw_ring_put_spsc(struct tw_ring *r, void *p)
{
	__tsan_release(r);
	return ck_ring_enqueue_spsc(&r->ring, r->places, p);
}

static void *ring_taken(struct tw_ring *r, bool taken, void *p)
{
	if (!taken)
		return NULL;
	__tsan_acquire(r);
	return p;
}

void *tw_ring_take_spsc(struct tw_ring *r)
{
	void *p = NULL;
	bool taken = ck_ring_dequeue_spsc(&r->ring, r->places, &p);

	return ring_taken(r, taken, p);
}

bool tw_ring_put_mpsc(struct tw_ring *r, void *p)
{
	__tsan_release(r);
	return ck_ring_enqueue_mpsc(&r->ring, r->places, p);
}

void *tw_ring_take_mpsc(struct tw_ring *r)
{
	void *p = NULL;
	bool taken = ck_ring_dequeue_mpsc(&r->ring, r->places, &p);

	return ring_taken(r, taken, p);
}

uint32_t tw_ring_count(const struct tw_ring *r)
{
	return ck_ring_size(&r->ring);
}

/* A consumer at work can only make the true number larger than the one returned. */
uint32_t tw_ring_room(const struct tw_ring *r)
{
	return ck_ring_capacity(&r->ring) - 1 - ck_ring_size(&r->ring);
}
