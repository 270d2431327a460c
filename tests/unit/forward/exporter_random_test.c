/* Random scripts, and memory that fails: whatever happens, the books balance and no span is lost
 * uncounted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "sim.h"
#include "tw/base/mem.h"

#define SEEDS 200

static uint64_t roll(uint64_t *state, uint64_t sides)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (*state >> 11) % sides;
}

static void answer_random(struct sim *s, const struct tw_batch *b, struct sim_answer *a)
{
	static const uint64_t after[] = {0, 1, 20, 1000, 10000};

	a->after_ns = after[roll(&s->n, 5)] * SIM_MS;
	switch (roll(&s->n, 10)) {
	case 0:
		a->outcome = TW_SEND_RETRY;
		break; /* the answer is lost */
	case 1:
	case 2:
		a->outcome = TW_SEND_RETRY;
		a->delivered = false;
		if (roll(&s->n, 2) == 0)
			a->retry_after_ms = roll(&s->n, 20000);
		break;
	case 3:
		a->outcome = TW_SEND_PERMANENT;
		a->delivered = false;
		break;
	case 4:
		a->rejected = roll(&s->n, b->spans + 1);
		break;
	case 5:
		a->busy = true;
		break;
	default:
		break;
	}
}

static uint64_t lose_some(struct sim *s, uint64_t *dice)
{
	uint64_t n = roll(dice, 100);

	tw_exporter_lose(s->x, n, (enum tw_lost)roll(dice, TW_LOST_COUNT));
	return n;
}

static void script(uint64_t seed)
{
	uint64_t dice = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
	uint64_t made_up = 0, lost = 0;
	struct sim s;

	sim_init(&s);
	s.answer = answer_random;
	s.n = dice ^ 0x5555;
	s.at_once = seed % 2;
	s.opts.compression = seed % 3 == 0   ? TW_CODING_GZIP
	                     : seed % 3 == 1 ? TW_CODING_ZSTD
	                                     : TW_CODING_IDENTITY;
	s.opts.retry_for_ns = seed % 4 ? TW_NEVER : (1 + roll(&dice, 100)) * SIM_S;
	s.opts.batch_bytes = 200 + roll(&dice, 8000);
	sim_start(&s, 1000 + roll(&dice, 100000), 1 + (uint32_t)roll(&dice, 8), seed);
	for (int i = 0; i < 300; i++) {
		switch (roll(&dice, 12)) {
		case 0:
			sim_run(&s, s.now_ns + roll(&dice, 30 * SIM_S));
			break;
		case 1:
			made_up += lose_some(&s, &dice);
			break;
		case 2:
			if (roll(&dice, 10) == 0)
				tw_exporter_flush(s.x, s.now_ns);
			break;
		case 3:
			sim_offer(&s, 1 + (uint32_t)roll(&dice, 300),
			          50 + (uint32_t)roll(&dice, 500));
			break;
		default:
			sim_offer(&s, 1 + (uint32_t)roll(&dice, 20),
			          20 + (uint32_t)roll(&dice, 300));
			sim_run(&s, s.now_ns + roll(&dice, 100 * SIM_MS));
		}
		sim_check(&s);
	}
	if (seed % 5 == 0) {
		sim_end(&s); /* in the middle of it */
		return;
	}
	s.answer = NULL;
	sim_drain(&s, 400 * SIM_S);
	assert_int_equal(sim_queued(&s), 0);
	for (int i = 0; i < TW_LOST_COUNT; i++)
		lost += sim_lost(&s, (enum tw_lost)i);
	assert_int_equal(sim_forwarded(&s) + lost, s.taken + made_up);
	/* What the backend does not have was counted as lost. */
	assert_true(s.got >= sim_forwarded(&s));
	assert_true(s.taken - s.got <= lost - made_up);
	sim_end(&s);
}

static void test_random_scripts(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++)
		script(seed);
}

/* The n-th allocation of a busy stretch fails, once or from then on. What was not taken stays not
 * taken; afterwards all that was taken arrives. */
static void starve(uint64_t n, bool sticky, enum tw_coding coding)
{
	struct sim s;

	sim_init(&s);
	s.answer = NULL;
	s.opts.compression = coding;
	sim_start(&s, 1 << 20, 2, n);
	tw_mem_fail_at(n, sticky);
	for (int i = 0; i < 30; i++) {
		sim_offer(&s, 10, 300);
		if (i % 10 == 9)
			sim_offer(&s, 60, 300);
		tw_exporter_tick(s.x, s.now_ns);
		sim_check(&s);
	}
	tw_mem_fail_at(0, false);
	if (s.taken < s.offered) {
		uint64_t rooms = s.rooms;

		sim_run(&s, s.now_ns + SIM_S);
		assert_true(s.rooms > rooms ||
		            rooms > 0); /* a refusal for want of memory is told to be over, too */
	}
	sim_drain(&s, 100 * SIM_S);
	assert_int_equal(s.got, s.taken);
	assert_int_equal(sim_forwarded(&s), s.taken);
	assert_int_equal(s.doubled, 0);
	if (sticky && n == 1)
		assert_int_equal(s.taken, 0);
	sim_end(&s);
}

static void MEM_01_allocation_fails(void **state)
{
	static const enum tw_coding codings[] = {TW_CODING_IDENTITY, TW_CODING_GZIP,
	                                         TW_CODING_ZSTD};

	(void)state;
	for (uint64_t n = 1; n <= 200; n++) {
		for (int i = 0; i < 3; i++) {
			starve(n, false, codings[i]);
			starve(n, true, codings[i]);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_random_scripts),
	    cmocka_unit_test(MEM_01_allocation_fails),
	};
	return cmocka_run_group_tests_name("forward_random", tests, NULL, NULL);
}
