#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "tw/base/mem.h"
#include "tw/base/ring.h"

#define PRODUCERS 3
#define MESSAGES  30000

struct message {
	unsigned producer;
	unsigned number;
};

static void holds_size_minus_one_in_order(void **state)
{
	struct tw_ring *r = tw_ring_create(8);
	int things[8];

	(void)state;
	assert_non_null(r);
	for (int round = 0; round < 20; round++) { /* past the wrap */
		assert_int_equal(tw_ring_room(r), 7);
		for (unsigned i = 0; i < 7; i++) {
			assert_true(tw_ring_put_spsc(r, &things[i]));
			assert_int_equal(tw_ring_count(r), i + 1);
			assert_int_equal(tw_ring_room(r), 6 - i);
		}
		assert_false(tw_ring_put_spsc(r, &things[7]));
		for (int i = 0; i < 7; i++)
			assert_ptr_equal(tw_ring_take_spsc(r), &things[i]);
		assert_null(tw_ring_take_spsc(r));
	}
	tw_ring_destroy(&r);
	assert_null(r);
}

static void mpsc_alone_behaves_alike(void **state)
{
	struct tw_ring *r = tw_ring_create(4);
	int things[4];

	(void)state;
	for (int round = 0; round < 9; round++) {
		for (int i = 0; i < 3; i++)
			assert_true(tw_ring_put_mpsc(r, &things[i]));
		assert_false(tw_ring_put_mpsc(r, &things[3]));
		for (int i = 0; i < 3; i++)
			assert_ptr_equal(tw_ring_take_mpsc(r), &things[i]);
		assert_null(tw_ring_take_mpsc(r));
	}
	tw_ring_destroy(&r);
}

static void refused_memory_is_null(void **state)
{
	(void)state;
	tw_mem_fail_at(1, false);
	assert_null(tw_ring_create(4));
	tw_mem_fail_at(0, false);
}

struct producer {
	struct tw_ring *ring;
	bool (*put)(struct tw_ring *, void *);
	unsigned id;
	unsigned room_lied; /* a look said there was room and the put failed; spsc only */
};

/* Fields are written before the put and never again: what the sanitizer checks is that the consumer
 * may read them. */
static void *produce(void *arg)
{
	struct producer *p = arg;

	for (unsigned i = 0; i < MESSAGES; i++) {
		struct message *m = malloc(sizeof(*m));

		*m = (struct message){p->id, i};
		for (;;) {
			bool room = tw_ring_room(p->ring) > 0;

			if (p->put(p->ring, m))
				break;
			if (room)
				p->room_lied++;
			sched_yield();
		}
	}
	return NULL;
}

static void consume(struct tw_ring *r, void *(*take)(struct tw_ring *), unsigned producers)
{
	unsigned next[PRODUCERS] = {0};

	for (unsigned left = producers * MESSAGES; left;) {
		struct message *m = take(r);

		if (!m) {
			sched_yield();
			continue;
		}
		assert_in_range(m->producer, 0, producers - 1);
		assert_int_equal(m->number,
		                 next[m->producer]); /* none lost, doubled or overtaken */
		next[m->producer]++;
		free(m);
		left--;
	}
	assert_null(take(r));
}

static void spsc_between_threads(void **state)
{
	struct producer p = {.ring = tw_ring_create(16), .put = tw_ring_put_spsc};
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, produce, &p), 0);
	consume(p.ring, tw_ring_take_spsc, 1);
	pthread_join(thread, NULL);
	assert_int_equal(p.room_lied, 0);
	tw_ring_destroy(&p.ring);
}

static void mpsc_between_threads(void **state)
{
	struct tw_ring *r = tw_ring_create(16);
	struct producer p[PRODUCERS];
	pthread_t threads[PRODUCERS];

	(void)state;
	for (unsigned i = 0; i < PRODUCERS; i++) {
		p[i] = (struct producer){.ring = r, .put = tw_ring_put_mpsc, .id = i};
		assert_int_equal(pthread_create(&threads[i], NULL, produce, &p[i]), 0);
	}
	consume(r, tw_ring_take_mpsc, PRODUCERS);
	for (unsigned i = 0; i < PRODUCERS; i++)
		pthread_join(threads[i], NULL);
	tw_ring_destroy(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(holds_size_minus_one_in_order),
	    cmocka_unit_test(mpsc_alone_behaves_alike),
	    cmocka_unit_test(refused_memory_is_null),
	    cmocka_unit_test(spsc_between_threads),
	    cmocka_unit_test(mpsc_between_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
