/* Bounded rings of pointers between threads, over ck_ring.
 *
 * `_spsc`: one thread puts, one takes. `_mpsc`: any thread puts, one takes. What the producer wrote
 * before a put is visible to the consumer after the take. The functions live in a file of their own
 * that the thread sanitizer does not instrument; there they carry __tsan_release / __tsan_acquire,
 * because TSan does not understand ck's fences. */
#ifndef TW_BASE_RING_H
#define TW_BASE_RING_H

#include <stdbool.h>
#include <stdint.h>

struct tw_ring;

/* size: a power of two ≥ 4; holds size − 1 pointers. NULL when memory is refused. [boot] */
struct tw_ring *tw_ring_create(uint32_t size);
void tw_ring_destroy(struct tw_ring **r); /* must be empty, or its pointers are forgotten [boot] */

bool tw_ring_put_spsc(struct tw_ring *r, void *p); /* false: full [the producer] */
void *tw_ring_take_spsc(struct tw_ring *r);        /* NULL: empty [the consumer] */
bool tw_ring_put_mpsc(struct tw_ring *r, void *p); /* false: full [any] */
void *tw_ring_take_mpsc(struct tw_ring *r);        /* NULL: empty [the consumer] */

/* Free places. To the single producer the number can only grow, so a look is a reservation. */
uint32_t tw_ring_room(const struct tw_ring *r);
uint32_t tw_ring_count(const struct tw_ring *r); /* a stale value at worst [any] */

#endif
