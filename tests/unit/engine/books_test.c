/* Readers copy a core's books while its worker publishes new ones: what they see is one state. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "sim.h"
#include "tw/base/mem.h"

#define RULES                                                                                      \
	"wait: { root: 10ms, idle: 50ms, most: 1s }\n"                                             \
	"rules:\n"                                                                                 \
	"  - { name: errors, when: '{ status = error }', keep: all }\n"                            \
	"  - { name: rest, keep: none }\n"
#define READERS  2
#define REQUESTS 3000u
#define READS    2000u /* at least */

struct reader {
	pthread_t thread;
	struct sim *sim;
	_Atomic bool *stop;
	uint64_t reads, changes, tearings, steps_back;
	struct tw_core_books last;
	struct tw_rule_row last_rows[2];
};

/* Everything that a core's books must agree on among themselves. */
static bool agree(const struct tw_core_books *b, const struct tw_rule_row *rows)
{
	const struct tw_dest_books *d = &b->dest[0];
	uint64_t rejected = 0, refused = 0, lost = 0, traces = 0;

	for (int i = 0; i < TW_REJECT_COUNT; i++)
		rejected += b->rejected[i];
	for (int i = 0; i < TW_REFUSE_COUNT; i++)
		refused += b->refused[i];
	for (int i = 0; i < TW_LOST_COUNT; i++)
		lost += d->lost[i];
	for (int i = 0; i < TW_REASON_LATE; i++)
		for (int k = 0; k < 2; k++)
			traces += rows[0].traces[i][k] + rows[1].traces[i][k];
	return b->received == b->accepted + rejected + refused && b->accepted == b->handed &&
	       b->shard.added == b->shard.kept + b->shard.let_go + b->shard.in_flight &&
	       d->kept == b->shard.kept && d->kept == d->taken + d->pending &&
	       d->taken == d->forwarded + lost + d->queued &&
	       rows[0].spans_kept + rows[1].spans_kept == b->shard.kept &&
	       rows[0].spans_let_go + rows[1].spans_let_go == b->shard.let_go &&
	       traces == b->shard.traces_decided;
}

static void *read_on(void *arg)
{
	struct reader *r = arg;
	struct tw_core *core = r->sim->shared.cores[0];
	struct tw_core_books b;
	struct tw_rule_row rows[2];

	while (!atomic_load(r->stop) || r->reads < READS) {
		tw_core_books_read(core, &b, rows, 2);
		r->reads++;
		r->tearings += !agree(&b, rows);
		r->changes += b.received != r->last.received;
		r->steps_back += b.received < r->last.received ||
		                 b.shard.traces_decided < r->last.shard.traces_decided ||
		                 rows[0].spans_kept < r->last_rows[0].spans_kept ||
		                 rows[1].spans_let_go < r->last_rows[1].spans_let_go;
		r->last = b;
		memcpy(r->last_rows, rows, sizeof(rows));
	}
	return NULL;
}

static void work(struct sim *s)
{
	for (uint32_t i = 1; i <= REQUESTS; i++) {
		struct sim_span spans[2] = {
		    {.trace = i, .span = 1, .status = i % 3 == 0 ? TW_STATUS_ERROR : 0},
		    {.trace = i, .span = 2, .parent = 1},
		};

		sim_send(s, 0, spans, 2);
		if (i % 100 == 0)
			sim_send_bytes(s, 0, "\xFF", 1);
		if (i % 8 == 0)
			sim_run(s, 20 * SIM_MS);
	}
	sim_run(s, 2 * SIM_S);
}

/* One word of the state changes at a time under the reader's eyes, were it not for the sequence. */
static void a_read_is_one_state(void **state)
{
	struct sim_config c = {.workers = 1, .rules = RULES};
	struct sim *s = sim_create(&c);
	struct reader readers[READERS];
	_Atomic bool stop = false;
	uint64_t changes = 0;

	(void)state;
	memset(readers, 0, sizeof(readers));
	for (int i = 0; i < READERS; i++) {
		readers[i].sim = s;
		readers[i].stop = &stop;
		assert_int_equal(pthread_create(&readers[i].thread, NULL, read_on, &readers[i]), 0);
	}
	work(s);
	atomic_store(&stop, true);
	for (int i = 0; i < READERS; i++) {
		pthread_join(readers[i].thread, NULL);
		assert_true(readers[i].reads >= READS);
		assert_int_equal(readers[i].tearings, 0);
		assert_int_equal(readers[i].steps_back, 0);
		changes += readers[i].changes;
	}
	assert_true(changes > 0); /* they did read while the worker wrote */
	sim_destroy(s);
}

/* At rest the books are exact. */
static void books_at_rest(void **state)
{
	struct sim_config c = {.workers = 1, .rules = RULES};
	struct sim *s = sim_create(&c);
	struct tw_core_books b;
	struct tw_rule_row rows[2];

	(void)state;
	work(s);
	tw_core_books_read(s->shared.cores[0], &b, rows, 2);
	assert_true(agree(&b, rows));
	assert_int_equal(b.received, 2 * REQUESTS);
	assert_int_equal(b.malformed_requests, REQUESTS / 100);
	assert_int_equal(b.shard.in_flight, 0);
	assert_int_equal(b.tickets, 0);
	assert_int_equal(rows[0].traces[TW_REASON_ROOT][1], REQUESTS / 3);
	assert_int_equal(rows[0].spans_kept, 2 * (REQUESTS / 3));
	assert_int_equal(rows[1].traces[TW_REASON_ROOT][0], REQUESTS - REQUESTS / 3);
	assert_int_equal(rows[1].spans_let_go, 2 * (REQUESTS - REQUESTS / 3));
	assert_int_equal(b.dest[0].forwarded, 2 * (REQUESTS / 3));
	sim_destroy(s);
}

/* rules = 0: the rows are not asked for, and not written. */
static void books_without_rows(void **state)
{
	struct sim_config c = {.workers = 1, .rules = RULES};
	struct sim *s = sim_create(&c);
	struct sim_span span = {.trace = 1, .span = 1};
	struct tw_core_books b;

	(void)state;
	sim_send(s, 0, &span, 1);
	memset(&b, 0xA5, sizeof(b));
	tw_core_books_read(s->shared.cores[0], &b, NULL, 0);
	assert_int_equal(b.received, 1);
	assert_int_equal(b.dest[TW_DESTINATIONS_MAX - 1].kept, 0);
	sim_destroy(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_read_is_one_state),
	    cmocka_unit_test(books_at_rest),
	    cmocka_unit_test(books_without_rows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
