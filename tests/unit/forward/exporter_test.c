/* The exporter in virtual time, against backends that misbehave. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "sim.h"

#define QUEUE       (1u << 20)
#define BATCH_SPANS 48u /* two traces of 24 spans close a batch of 4096 bytes */

static uint64_t count(const tw_counter *c)
{
	return tw_counter_get(c);
}

static void offer_all(struct sim *s, uint32_t traces, uint32_t spans, uint32_t bytes)
{
	for (uint32_t i = 0; i < traces; i++)
		assert_true(sim_offer(s, spans, bytes));
}

static void offer_batches(struct sim *s, uint32_t batches)
{
	offer_all(s, 2 * batches, BATCH_SPANS / 2, 100);
}

/* Traces whose way to the backend took up to bound_ns and more than the bound before it. */
static uint64_t delayed(const struct sim *s, uint64_t bound_ns)
{
	uint32_t i = 0;

	while (tw_delay_bound_ns[i] != bound_ns)
		i++;
	return count(&tw_exporter_stats(s->x)->delay[i]);
}

static void expect_delivered(struct sim *s)
{
	assert_int_equal(sim_forwarded(s), s->taken);
	assert_int_equal(s->got, s->taken);
	assert_int_equal(sim_queued(s), 0);
}

/* ---- the good path ---- */

static void test_batch_closes_by_age(void **state)
{
	struct sim s;

	(void)state;
	sim_init(&s);
	sim_start(&s, QUEUE, 4, 1);
	assert_int_equal(tw_exporter_next_ns(s.x), TW_NEVER);
	offer_all(&s, 3, 2, 100);
	tw_exporter_tick(s.x, s.now_ns + 50 * SIM_MS - 1);
	assert_int_equal(s.attempts, 0);
	assert_int_equal(tw_exporter_next_ns(s.x), s.now_ns + 50 * SIM_MS);
	sim_run(&s, s.now_ns + 50 * SIM_MS);
	assert_int_equal(s.attempts, 1);
	assert_int_equal(sim_queued(&s), 6);
	sim_run(&s, s.now_ns + 10 * SIM_MS);
	expect_delivered(&s);
	assert_int_equal(count(&tw_exporter_stats(s.x)->batches_sent), 1);
	assert_int_equal(delayed(&s, 75 * SIM_MS), 3);
	assert_int_equal(count(&tw_exporter_stats(s.x)->delay_ns_sum), 3 * 51 * SIM_MS);
	assert_int_equal(tw_exporter_next_ns(s.x), TW_NEVER);
	sim_end(&s);
}

static void test_batch_closes_by_size(void **state)
{
	struct sim s;

	(void)state;
	sim_init(&s);
	sim_start(&s, QUEUE, 4, 1);
	offer_all(&s, 2, 10, 100);
	assert_true(tw_exporter_next_ns(s.x) > s.now_ns);
	offer_all(&s, 2, 10, 100);
	assert_true(tw_exporter_next_ns(s.x) <= s.now_ns);
	assert_int_equal(s.attempts, 0); /* offer does not send */
	tw_exporter_tick(s.x, s.now_ns);
	assert_int_equal(s.attempts, 1);
	sim_run(&s, s.now_ns + SIM_S);
	expect_delivered(&s);
	sim_end(&s);
}

static void test_compressed(void **state, enum tw_coding coding)
{
	struct sim s;

	(void)state;
	sim_init(&s);
	s.opts.compression = coding;
	sim_start(&s, QUEUE, 4, 1);
	for (int i = 0; i < 300; i++) {
		offer_all(&s, 1, 10, 200);
		sim_run(&s, s.now_ns + SIM_MS);
	}
	sim_run(&s, s.now_ns + SIM_S);
	expect_delivered(&s);
	sim_end(&s);
}
static void test_gzip(void **state)
{
	test_compressed(state, TW_CODING_GZIP);
}
static void test_zstd(void **state)
{
	test_compressed(state, TW_CODING_ZSTD);
}

static void test_a_long_turn_does_not_compress(void **state)
{
	struct sim s;

	(void)state;
	sim_init(&s);
	s.opts.compression = TW_CODING_GZIP;
	sim_start(&s, QUEUE, 4, 1);
	assert_false(tw_exporter_is_to_code(s.x));
	offer_batches(&s, 2);
	tw_exporter_tick_briefly(s.x, s.now_ns);
	assert_int_equal(s.attempts, 0);
	assert_true(tw_exporter_is_to_code(s.x));
	assert_true(tw_exporter_next_ns(s.x) <= s.now_ns);
	tw_exporter_tick(s.x, s.now_ns);
	assert_int_equal(s.attempts, 1); /* one a tick */
	assert_true(tw_exporter_is_to_code(s.x));
	sim_run(&s, s.now_ns + SIM_S);
	assert_false(tw_exporter_is_to_code(s.x));
	expect_delivered(&s);
	sim_end(&s);
}

static void test_a_long_turn_sends_what_needs_no_compressing(void **state)
{
	struct sim s;

	(void)state;
	sim_init(&s);
	sim_start(&s, QUEUE, 4, 1);
	offer_batches(&s, 1);
	tw_exporter_tick_briefly(s.x, s.now_ns);
	assert_int_equal(s.attempts, 1);
	sim_run(&s, s.now_ns + SIM_S);
	expect_delivered(&s);
	sim_end(&s);
}

static void answer_from_within(struct sim *s, const struct tw_batch *b, struct sim_answer *a)
{
	(void)b;
	a->after_ns = 0;
	if (s->n++ % 3 == 1)
		*a =
		    (struct sim_answer){.outcome = TW_SEND_PERMANENT, .retry_after_ms = UINT64_MAX};
}

static void test_answer_from_within_send(void **state)
{
	struct sim s;

	(void)state;
	sim_init(&s);
	s.answer = answer_from_within;
	s.at_once = true;
	sim_start(&s, QUEUE, 2, 1);
	offer_all(&s, 100, 10, 200);
	tw_exporter_tick(s.x, s.now_ns);
	sim_drain(&s, SIM_S);
	assert_true(sim_lost(&s, TW_LOST_PERMANENT) > 0);
	assert_int_equal(sim_forwarded(&s) + sim_lost(&s, TW_LOST_PERMANENT), s.taken);
	sim_end(&s);
}

/* With a clock in hand the next batch goes out at the answer, not at the next tick. */
static void test_answers_at_once(void **state)
{
	struct sim s;

	(void)state;
	sim_init(&s);
	s.at_once = true;
	sim_start(&s, QUEUE, 1, 1);
	offer_batches(&s, 2);
	tw_exporter_tick(s.x, s.now_ns);
	assert_int_equal(s.attempts, 1);
	s.now_ns += SIM_MS;
	s.sends[0].used = false;
	s.in_flight--;
	s.got += BATCH_SPANS;
	s.sends[0].done(s.sends[0].ctx,
	                &(struct tw_send_result){.outcome = TW_SENT, .retry_after_ms = UINT64_MAX});
	assert_int_equal(s.attempts, 2);
	sim_run(&s, s.now_ns + SIM_S);
	assert_int_equal(sim_forwarded(&s), 2 * BATCH_SPANS);
	sim_end(&s);
}

static void answer_busy(struct sim *s, const struct tw_batch *b, struct sim_answer *a)
{
	(void)b;
	a->busy = s->n++ < 20;
}

static void test_busy_transport_is_asked_again(void **state)
{
	struct sim s;

	(void)state;
	sim_init(&s);
	s.answer = answer_busy;
	sim_start(&s, QUEUE, 4, 1);
	offer_all(&s, 1, 10, 100);
	sim_run(&s, s.now_ns + SIM_S);
	expect_delivered(&s);
	assert_int_equal(s.n, 21);
	assert_int_equal(s.attempts, 1);
	sim_end(&s);
}

/* ---- room ---- */

static void answer_down(struct sim *s, const struct tw_batch *b, struct sim_answer *a)
{
	(void)s;
	(void)b;
	a->outcome = TW_SEND_RETRY;
	a->delivered = false;
}

static void test_full_changes_nothing_and_room_follows(void **state)
{
	const struct tw_exporter_stats *st;
	struct sim s;
	uint64_t bytes;

	(void)state;
	sim_init(&s);
	s.answer = answer_down;
	sim_start(&s, 20000, 4, 1);
	st = tw_exporter_stats(s.x);
	while (sim_offer(&s, 10, 100))
		sim_run(&s, s.now_ns + SIM_MS);
	bytes = count(&st->queued_bytes);
	assert_true(bytes > 15000 && bytes <= 20000);
	for (int i = 0; i < 100; i++)
		assert_false(sim_offer(&s, 10, 100));
	assert_int_equal(count(&st->queued_bytes), bytes);
	assert_int_equal(count(&st->taken), s.taken);
	sim_run(&s, s.now_ns + 60 * SIM_S);
	assert_int_equal(s.rooms, 0);
	s.answer = NULL;
	sim_run(&s, s.now_ns + 60 * SIM_S);
	assert_int_equal(s.rooms, 1);
	assert_true(sim_offer(&s, 10, 100));
	sim_run(&s, s.now_ns + SIM_S);
	expect_delivered(&s);
	sim_end(&s);
}

static void test_trace_larger_than_the_queue_is_taken_alone(void **state)
{
	struct sim s;

	(void)state;
	sim_init(&s);
	sim_start(&s, 3000, 4, 1);
	assert_true(sim_offer(&s, 1, 100));
	assert_false(sim_offer(&s, 100, 100));
	sim_run(&s, s.now_ns + SIM_S);
	assert_int_equal(s.rooms, 1);
	assert_true(sim_offer(&s, 100, 100));
	assert_false(sim_offer(&s, 1, 100));
	sim_run(&s, s.now_ns + SIM_S);
	expect_delivered(&s);
	sim_end(&s);
}

static void answer_sizes(struct sim *s, const struct tw_batch *b, struct sim_answer *a)
{
	(void)a;
	if (b->request.n > s->n)
		s->n = b->request.n;
}

static void test_large_trace_goes_in_pieces(void **state)
{
	struct sim s;

	(void)state;
	sim_init(&s);
	s.answer = answer_sizes;
	sim_start(&s, QUEUE, 4, 1);
	assert_true(sim_offer(&s, 1000, 300));
	sim_run(&s, s.now_ns + SIM_S);
	expect_delivered(&s);
	assert_true(s.attempts >= 1000 * 300 / 4096);
	assert_true(s.n < 2 * 4096);
	assert_true(sim_offer(&s, 1, 20000)); /* one span cannot be cut */
	sim_run(&s, s.now_ns + SIM_S);
	expect_delivered(&s);
	sim_end(&s);
}

static void test_lose_counts_as_taken(void **state)
{
	struct sim s;

	(void)state;
	sim_init(&s);
	sim_start(&s, QUEUE, 4, 1);
	tw_exporter_lose(s.x, 7, TW_LOST_QUEUE_FULL);
	sim_check(&s);
	assert_int_equal(count(&tw_exporter_stats(s.x)->taken), 7);
	assert_int_equal(sim_lost(&s, TW_LOST_QUEUE_FULL), 7);
	assert_true(tw_exporter_empty(s.x));
	sim_end(&s);
}

/* ---- backends ---- */

/* Nobody listens for ten minutes. One batch at a time is tried, at the pace of the back-off, and
 * nothing is lost. */
static void BK_01_connection_refused(void **state)
{
	uint64_t begin, attempts;
	struct sim s;

	(void)state;
	sim_init(&s);
	s.answer = answer_down;
	sim_start(&s, QUEUE, 4, 7);
	begin = s.now_ns;
	offer_batches(&s, 20);
	sim_run(&s, begin + SIM_S / 4);
	attempts = s.attempts;
	assert_true(attempts <= 4); /* those that were on their way together */
	s.in_flight_most = 0;
	sim_run(&s, begin + 600 * SIM_S);
	assert_int_equal(s.in_flight_most, 1);
	/* 600 s at 0.5 × 30 s and more between two, and some sooner ones at the beginning. */
	assert_true(s.attempts - attempts <= 10 + 600 / 15);
	assert_true(s.attempts - attempts >= 600 / 45);
	assert_int_equal(sim_queued(&s), s.taken);
	assert_int_equal(s.got, 0);
	s.answer = NULL;
	sim_run(&s, s.now_ns + 60 * SIM_S);
	expect_delivered(&s);
	assert_int_equal(s.doubled, 0);
	sim_end(&s);
}

static void answer_black_hole(struct sim *s, const struct tw_batch *b, struct sim_answer *a)
{
	(void)s;
	(void)b;
	*a = (struct sim_answer){
	    .outcome = TW_SEND_RETRY, .after_ns = 10 * SIM_S, .retry_after_ms = UINT64_MAX};
}

static void BK_02_black_hole(void **state)
{
	uint64_t begin;
	struct sim s;

	(void)state;
	sim_init(&s);
	s.answer = answer_black_hole;
	sim_start(&s, QUEUE, 4, 7);
	begin = s.now_ns;
	while (s.now_ns < begin + 300 * SIM_S) {
		sim_offer(&s, 10, 100);
		sim_run(&s, s.now_ns + SIM_S);
	}
	assert_int_equal(s.in_flight_most, 4);
	assert_int_equal(s.got, 0);
	s.answer = NULL;
	sim_run(&s, s.now_ns + 60 * SIM_S);
	expect_delivered(&s);
	assert_int_equal(s.doubled, 0);
	sim_end(&s);
}

static void answer_retry_after(struct sim *s, const struct tw_batch *b, struct sim_answer *a)
{
	(void)b;
	if (s->attempts > 0)
		return;
	a->outcome = TW_SEND_RETRY;
	a->delivered = false;
	a->retry_after_ms = s->n;
}

static uint64_t wait_after(uint64_t retry_after_ms, uint64_t seed)
{
	uint64_t failed, waited;
	struct sim s;

	sim_init(&s);
	s.answer = answer_retry_after;
	s.n = retry_after_ms;
	sim_start(&s, QUEUE, 4, seed);
	offer_all(&s, 1, 10, 100);
	sim_run(&s, s.now_ns + 60 * SIM_MS);
	assert_int_equal(s.attempts, 1);
	failed = s.last_attempt_ns + SIM_MS;
	/* What comes meanwhile waits as well. */
	offer_all(&s, 3, 100, 100);
	sim_run(&s, s.now_ns + 400 * SIM_S);
	expect_delivered(&s);
	waited = s.last_attempt_ns - failed;
	sim_end(&s);
	return waited;
}

static void BK_03_retry_after(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 20; seed++) {
		uint64_t w = wait_after(UINT64_MAX, seed);

		assert_in_range(w, SIM_S / 2, 3 * SIM_S / 2 + 50 * SIM_MS);
		assert_in_range(wait_after(0, seed), SIM_S / 2, 3 * SIM_S / 2 + 50 * SIM_MS);
		assert_in_range(wait_after(7000, seed), 7 * SIM_S, 7 * SIM_S + 50 * SIM_MS);
		/* A year, and whatever else a backend can say, is five minutes. */
		assert_in_range(wait_after(UINT64_C(31536000000), seed), 300 * SIM_S, 301 * SIM_S);
		assert_in_range(wait_after(UINT64_MAX - 1, seed), 300 * SIM_S, 301 * SIM_S);
	}
}

static void answer_throttle(struct sim *s, const struct tw_batch *b, struct sim_answer *a)
{
	(void)b;
	/* Four requests in every ten seconds; the others are told to come back in three. */
	if (s->now_ns / (10 * SIM_S) != s->n / 100) {
		s->n = s->now_ns / (10 * SIM_S) * 100;
	}
	if (s->n % 100 < 4) {
		s->n++;
		return;
	}
	a->outcome = TW_SEND_RETRY;
	a->delivered = false;
	a->retry_after_ms = 3000;
}

static void BK_04_too_many_requests(void **state)
{
	struct sim s;

	(void)state;
	sim_init(&s);
	s.answer = answer_throttle;
	sim_start(&s, QUEUE, 4, 3);
	offer_batches(&s, 40);
	sim_drain(&s, 600 * SIM_S);
	expect_delivered(&s);
	assert_int_equal(s.doubled, 0);
	/* Backing off: few requests more than the backend would take. */
	assert_true(s.attempts < 3 * 40);
	assert_int_equal(count(&tw_exporter_stats(s.x)->sends_failed),
	                 s.attempts - count(&tw_exporter_stats(s.x)->batches_sent));
	assert_int_equal(count(&tw_exporter_stats(s.x)->retries),
	                 count(&tw_exporter_stats(s.x)->sends_failed));
	sim_end(&s);
}

static void answer_permanent(struct sim *s, const struct tw_batch *b, struct sim_answer *a)
{
	(void)s;
	(void)b;
	a->outcome = TW_SEND_PERMANENT;
	a->delivered = false;
}

static void BK_05_permanent_error_is_not_retried(void **state)
{
	struct sim s;

	(void)state;
	sim_init(&s);
	s.answer = answer_permanent;
	sim_start(&s, QUEUE, 4, 3);
	offer_batches(&s, 10);
	sim_run(&s, s.now_ns + 100 * SIM_S);
	assert_int_equal(s.attempts, 10);
	assert_int_equal(sim_lost(&s, TW_LOST_PERMANENT), 10 * BATCH_SPANS);
	assert_int_equal(sim_forwarded(&s), 0);
	assert_int_equal(sim_queued(&s), 0);
	sim_end(&s);
}

/* What a RetryInfo asks for delays the batch, and an answer from elsewhere does not shorten it. */
static void BK_06_retry_info(void **state)
{
	struct sim s;
	uint64_t begin;

	(void)state;
	sim_init(&s);
	s.answer = answer_retry_after;
	s.n = 20000;
	sim_start(&s, QUEUE, 4, 3);
	offer_batches(&s, 2);
	begin = s.now_ns;
	tw_exporter_tick(s.x, s.now_ns);
	assert_int_equal(s.attempts, 2); /* one is told to wait, the other is taken */
	sim_run(&s, begin + 19 * SIM_S);
	assert_int_equal(sim_forwarded(&s), BATCH_SPANS);
	assert_int_equal(s.attempts, 2);
	sim_run(&s, begin + 21 * SIM_S);
	assert_int_equal(s.attempts, 3);
	expect_delivered(&s);
	sim_end(&s);
}

static void answer_partial(struct sim *s, const struct tw_batch *b, struct sim_answer *a)
{
	(void)b;
	a->rejected = s->n;
}

static void BK_07_partial_success(void **state)
{
	static const uint64_t rejected[] = {
	    0, 1, BATCH_SPANS - 1, BATCH_SPANS, BATCH_SPANS + 1, UINT64_MAX};

	(void)state;
	for (size_t i = 0; i < sizeof(rejected) / sizeof(*rejected); i++) {
		uint64_t lost = rejected[i] < BATCH_SPANS ? rejected[i] : BATCH_SPANS;
		struct sim s;

		sim_init(&s);
		s.answer = answer_partial;
		s.n = rejected[i];
		sim_start(&s, QUEUE, 4, 3);
		offer_batches(&s, 1);
		sim_run(&s, s.now_ns + 100 * SIM_S);
		assert_int_equal(s.attempts, 1); /* never retried */
		assert_int_equal(sim_lost(&s, TW_LOST_REJECTED), lost);
		assert_int_equal(sim_forwarded(&s), BATCH_SPANS - lost);
		assert_int_equal(sim_queued(&s), 0);
		sim_end(&s);
	}
}

static void answer_ack_lost(struct sim *s, const struct tw_batch *b, struct sim_answer *a)
{
	(void)b;
	if (s->n++ % 4 == 1)
		a->outcome = TW_SEND_RETRY; /* and delivered */
}

static void BK_12_ack_lost(void **state)
{
	struct sim s;

	(void)state;
	sim_init(&s);
	s.answer = answer_ack_lost;
	sim_start(&s, QUEUE, 4, 3);
	offer_batches(&s, 20);
	sim_drain(&s, 200 * SIM_S);
	expect_delivered(&s);
	assert_int_equal(s.doubled, BATCH_SPANS * count(&tw_exporter_stats(s.x)->sends_failed));
	assert_true(s.doubled > 0);
	sim_end(&s);
}

static void BK_14_one_destination_down(void **state)
{
	struct sim up, down;

	(void)state;
	sim_init(&up);
	sim_init(&down);
	down.answer = answer_down;
	sim_start(&up, 20000, 4, 3);
	sim_start(&down, 20000, 4, 4);
	for (int i = 0; i < 200; i++) {
		assert_true(sim_offer(&up, 10, 100));
		if (!sim_offer(&down, 10, 100))
			tw_exporter_lose(down.x, 10, TW_LOST_QUEUE_FULL);
		sim_run(&up, up.now_ns + 100 * SIM_MS);
		sim_run(&down, down.now_ns + 100 * SIM_MS);
	}
	sim_run(&up, up.now_ns + SIM_S);
	expect_delivered(&up);
	assert_int_equal(sim_forwarded(&down), 0);
	assert_true(sim_lost(&down, TW_LOST_QUEUE_FULL) > 0);
	assert_int_equal(sim_queued(&down) + sim_lost(&down, TW_LOST_QUEUE_FULL), 2000);
	down.answer = NULL;
	sim_run(&down, down.now_ns + 60 * SIM_S);
	expect_delivered(&down);
	sim_end(&up);
	sim_end(&down);
}

static void answer_slow(struct sim *s, const struct tw_batch *b, struct sim_answer *a)
{
	/* 10,000 bytes a second, one request after the other. */
	uint64_t takes = b->request.n * (SIM_S / 10000);

	s->n = (s->n > s->now_ns ? s->n : s->now_ns) + takes;
	a->after_ns = s->n - s->now_ns;
}

/* A tenth of what comes in can go out, for an hour; then nothing comes any more. */
static void BK_15_slow_drain(void **state)
{
	uint64_t begin, refused = 0;
	struct sim s;

	(void)state;
	sim_init(&s);
	s.answer = answer_slow;
	s.at_once = true;
	sim_start(&s, 100000, 4, 3);
	begin = s.now_ns;
	while (s.now_ns < begin + 3600 * SIM_S) {
		for (int i = 0; i < 10; i++)
			refused += !sim_offer(&s, 10, 1000);
		sim_run(&s, s.now_ns + SIM_S);
	}
	assert_true(refused > 20000);
	assert_true(s.rooms > 1000);
	assert_true(s.taken * 1000 >
	            9 * 1000 * 3600); /* the wire was never idle: 10 kB/s, less 10 % */
	sim_drain(&s, 100 * SIM_S);
	expect_delivered(&s);
	assert_int_equal(s.doubled, 0);
	sim_end(&s);
}

static void answer_flapping(struct sim *s, const struct tw_batch *b, struct sim_answer *a)
{
	if (s->now_ns / (3 * SIM_S) % 2 == 0)
		answer_down(s, b, a);
}

static void BK_16_flapping(void **state)
{
	uint64_t begin;
	struct sim s;

	(void)state;
	sim_init(&s);
	s.answer = answer_flapping;
	sim_start(&s, QUEUE, 4, 3);
	begin = s.now_ns;
	while (s.now_ns < begin + 300 * SIM_S) {
		assert_true(sim_offer(&s, 10, 100));
		sim_run(&s, s.now_ns + 20 * SIM_MS);
	}
	s.answer = NULL;
	sim_run(&s, s.now_ns + 60 * SIM_S);
	expect_delivered(&s);
	assert_int_equal(s.doubled, 0);
	/* 50 outages, each closes the gate anew. */
	assert_true(count(&tw_exporter_stats(s.x)->sends_failed) <= 50 * 8);
	sim_end(&s);
}

static void answer_poison(struct sim *s, const struct tw_batch *b, struct sim_answer *a)
{
	if (sim_batch_has(b, s->n))
		answer_permanent(s, b, a);
}

static void BK_19_poison_batch(void **state)
{
	struct sim s;

	(void)state;
	sim_init(&s);
	s.answer = answer_poison;
	s.n = 517;
	sim_start(&s, QUEUE, 1, 3);
	offer_batches(&s, 20);
	sim_run(&s, s.now_ns + SIM_S);
	assert_int_equal(sim_lost(&s, TW_LOST_PERMANENT), BATCH_SPANS);
	assert_int_equal(sim_forwarded(&s), 19 * BATCH_SPANS);
	assert_int_equal(s.attempts, 20);
	assert_int_equal(s.seen[517], 0);
	sim_end(&s);
}

static void answer_sticky(struct sim *s, const struct tw_batch *b, struct sim_answer *a)
{
	if (sim_batch_has(b, s->n))
		answer_black_hole(s, b, a);
}

/* One batch runs into its time-out whenever it is tried. The others get past it, also with one in
 * flight. */
static void BK_19_batch_that_always_times_out(void **state)
{
	uint64_t begin;
	struct sim s;

	(void)state;
	sim_init(&s);
	s.answer = answer_sticky;
	s.opts.retry_for_ns = 120 * SIM_S;
	sim_start(&s, QUEUE, 1, 3);
	begin = s.now_ns;
	s.n = 0;
	offer_batches(&s, 20);
	sim_run(&s, begin + 13 * SIM_S); /* its first time-out, and a back-off */
	assert_int_equal(sim_forwarded(&s), 19 * BATCH_SPANS);
	sim_run(&s, begin + 200 * SIM_S);
	assert_int_equal(sim_lost(&s, TW_LOST_RETRY_EXHAUSTED), BATCH_SPANS);
	assert_int_equal(sim_queued(&s), 0);
	sim_end(&s);
}

/* ---- retry_for, flush, stop ---- */

static void test_retry_exhausted(void **state)
{
	struct sim s;

	(void)state;
	sim_init(&s);
	s.answer = answer_down;
	s.opts.retry_for_ns = 100 * SIM_S;
	sim_start(&s, QUEUE, 4, 3);
	offer_batches(&s, 20);
	sim_run(&s, s.now_ns + 99 * SIM_S);
	assert_int_equal(sim_queued(&s), 20 * BATCH_SPANS);
	/* Also those that were never tried are gone then: spans of an hour ago are in nobody's way.
	 */
	sim_run(&s, s.now_ns + 50 * SIM_S);
	assert_true(sim_lost(&s, TW_LOST_RETRY_EXHAUSTED) >= 19 * BATCH_SPANS);
	sim_run(&s, s.now_ns + 200 * SIM_S);
	assert_int_equal(sim_lost(&s, TW_LOST_RETRY_EXHAUSTED), 20 * BATCH_SPANS);
	assert_true(tw_exporter_empty(s.x));
	sim_end(&s);
}

static void test_no_retries_at_all(void **state)
{
	struct sim s;

	(void)state;
	sim_init(&s);
	s.answer = answer_down;
	s.opts.retry_for_ns = 0;
	sim_start(&s, QUEUE, 1, 3);
	offer_batches(&s, 2);
	sim_run(&s, s.now_ns + 100 * SIM_MS);
	assert_int_equal(sim_lost(&s, TW_LOST_RETRY_EXHAUSTED), BATCH_SPANS);
	s.answer = NULL;
	sim_run(&s, s.now_ns + 2 * SIM_S);
	assert_int_equal(sim_forwarded(&s), BATCH_SPANS); /* the gate opened by itself */
	sim_end(&s);
}

static void test_flush_cuts_the_back_off_once(void **state)
{
	uint64_t attempts;
	struct sim s;

	(void)state;
	sim_init(&s);
	s.answer = answer_down;
	sim_start(&s, QUEUE, 4, 3);
	offer_batches(&s, 8);
	sim_run(&s, s.now_ns + 300 * SIM_S);
	attempts = s.attempts;
	offer_all(&s, 1, 1, 100);
	tw_exporter_flush(s.x, s.now_ns);
	assert_int_equal(s.attempts, attempts + 1);
	for (int i = 0; i < 400; i++) { /* flushing at every turn is no excuse to hammer */
		sim_run(&s, s.now_ns + SIM_MS);
		tw_exporter_flush(s.x, s.now_ns);
	}
	assert_int_equal(s.attempts, attempts + 1);
	sim_run(&s, s.now_ns + 1200 * SIM_MS);
	assert_int_equal(s.attempts, attempts + 2); /* and begins anew with a second */
	s.answer = NULL;
	sim_run(&s, s.now_ns + 3 * SIM_S); /* it answers again */
	sim_drain(&s, SIM_S);              /* and what still backs off goes at once */
	expect_delivered(&s);
	sim_end(&s);
}

static void test_stop_loses_what_is_left(void **state)
{
	struct sim s;

	(void)state;
	for (int queued = 0; queued < 2; queued++) {
		sim_init(&s);
		s.answer = queued ? answer_down : answer_black_hole;
		sim_start(&s, QUEUE, 2, 3);
		offer_batches(&s, 8);
		offer_all(&s, 1, 1, 100);
		sim_run(&s, s.now_ns + 2 * SIM_S);
		assert_int_equal(sim_queued(&s), 8 * BATCH_SPANS + 1);
		tw_exporter_stop(s.x);
		assert_int_equal(sim_lost(&s, TW_LOST_SHUTDOWN), 8 * BATCH_SPANS + 1);
		assert_false(sim_offer(&s, 1, 100));
		assert_int_equal(tw_exporter_next_ns(s.x), TW_NEVER);
		tw_exporter_tick(s.x, s.now_ns + SIM_S);
		sim_end(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_batch_closes_by_age),
	    cmocka_unit_test(test_batch_closes_by_size),
	    cmocka_unit_test(test_gzip),
	    cmocka_unit_test(test_zstd),
	    cmocka_unit_test(test_a_long_turn_does_not_compress),
	    cmocka_unit_test(test_a_long_turn_sends_what_needs_no_compressing),
	    cmocka_unit_test(test_answer_from_within_send),
	    cmocka_unit_test(test_answers_at_once),
	    cmocka_unit_test(test_busy_transport_is_asked_again),
	    cmocka_unit_test(test_full_changes_nothing_and_room_follows),
	    cmocka_unit_test(test_trace_larger_than_the_queue_is_taken_alone),
	    cmocka_unit_test(test_large_trace_goes_in_pieces),
	    cmocka_unit_test(test_lose_counts_as_taken),
	    cmocka_unit_test(BK_01_connection_refused),
	    cmocka_unit_test(BK_02_black_hole),
	    cmocka_unit_test(BK_03_retry_after),
	    cmocka_unit_test(BK_04_too_many_requests),
	    cmocka_unit_test(BK_05_permanent_error_is_not_retried),
	    cmocka_unit_test(BK_06_retry_info),
	    cmocka_unit_test(BK_07_partial_success),
	    cmocka_unit_test(BK_12_ack_lost),
	    cmocka_unit_test(BK_14_one_destination_down),
	    cmocka_unit_test(BK_15_slow_drain),
	    cmocka_unit_test(BK_16_flapping),
	    cmocka_unit_test(BK_19_poison_batch),
	    cmocka_unit_test(BK_19_batch_that_always_times_out),
	    cmocka_unit_test(test_retry_exhausted),
	    cmocka_unit_test(test_no_retries_at_all),
	    cmocka_unit_test(test_flush_cuts_the_back_off_once),
	    cmocka_unit_test(test_stop_loses_what_is_left),
	};
	return cmocka_run_group_tests_name("forward_exporter", tests, NULL, NULL);
}
