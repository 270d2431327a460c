#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>

#include "tw/base/counter.h"

#define COUNTERS 8
#define ROUNDS   200000

struct group {
	struct tw_seq seq;
	tw_counter counters[COUNTERS];
	_Atomic bool read_once;
};

static void counters_add_and_set(void **state)
{
	tw_counter c = 0;

	(void)state;
	tw_counter_add(&c, 3);
	tw_counter_add(&c, 4);
	assert_int_equal(tw_counter_get(&c), 7);
	tw_counter_set(&c, 2);
	assert_int_equal(tw_counter_get(&c), 2);
}

/* Goes on until the reader has been at work, so that the two always overlap. */
static void *write_group(void *arg)
{
	struct group *g = arg;

	for (uint64_t i = 0; i < ROUNDS || !atomic_load(&g->read_once); i++) {
		tw_seq_write_begin(&g->seq);
		for (unsigned k = 0; k < COUNTERS; k++)
			tw_counter_add(&g->counters[k], 1);
		tw_seq_write_end(&g->seq);
	}
	return NULL;
}

static void reader_sees_one_state(void **state)
{
	static struct group g;
	uint64_t seen[COUNTERS], last = 0;
	pthread_t writer;

	(void)state;
	assert_int_equal(pthread_create(&writer, NULL, write_group, &g), 0);
	do {
		tw_seq_read(&g.seq, g.counters, seen, COUNTERS);
		for (unsigned k = 1; k < COUNTERS; k++)
			assert_true(seen[k] == seen[0]);
		assert_true(seen[0] >= last);
		last = seen[0];
		if (last)
			atomic_store(&g.read_once, true);
	} while (last < ROUNDS);
	pthread_join(writer, NULL);
	tw_seq_read(&g.seq, g.counters, seen, COUNTERS);
	assert_true(seen[0] >= ROUNDS);
	assert_int_equal(g.seq.n & 1, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(counters_add_and_set),
	    cmocka_unit_test(reader_sees_one_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
