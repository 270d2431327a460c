/* Budgets in virtual time: the cap, the spread over the window, the threshold, fairness, reload,
 * threads. */
#include "rules_case.h"

#include <pthread.h>
#include <stdlib.h>

#define FULL (UINT64_C(1) << 56)
#define S    TW_NS_PER_S

struct flow {
	struct rules_case c;
	uint64_t random;
};

static void flow_open(struct flow *f, const char *keep)
{
	char yaml[160];

	snprintf(yaml, sizeof(yaml), "rules: [{name: budget, keep: %s}, {name: rest, keep: none}]",
	         keep);
	rules_case_open(&f->c, yaml);
	f->random = UINT64_C(88172645463325252);
	rules_case_span(&f->c, "s");
	rules_case_add(&f->c);
}

static bool offer(struct flow *f, uint64_t now_ns)
{
	f->random ^= f->random << 13;
	f->random ^= f->random >> 7;
	f->random ^= f->random << 17;
	f->c.trace.randomness = f->random >> 8;
	return strcmp(rules_case_decide(&f->c, now_ns), "budget") == 0;
}

/* A steady load ten times the budget: no window ever has more than the budget, nearly all of it is
 * used once the rate is known, and each half of a window gets its part. */
static void steady_load(void **state)
{
	struct flow f;
	uint32_t halves[2] = {0, 0}, total = 0;

	(void)state;
	flow_open(&f, "100 per 1s");
	for (uint32_t w = 0; w < 50; w++) {
		uint32_t kept = 0;

		for (uint32_t i = 0; i < 1000; i++) {
			if (!offer(&f, w * S + i * (S / 1000)))
				continue;
			kept++;
			if (w > 0) {
				halves[i / 500]++;
				assert_true(f.c.v.keep);
				assert_true(f.c.v.threshold <= f.c.trace.randomness);
			}
		}
		assert_in_range(kept, 1, 100);
		if (w > 0)
			total += kept;
	}
	assert_in_range(total, 49 * 85, 49 * 100);
	assert_in_range(halves[0], total * 4 / 10, total * 6 / 10);
	rules_case_close(&f.c);
}

static void below_the_budget_all_is_kept(void **state)
{
	struct flow f;

	(void)state;
	flow_open(&f, "100 per 1s");
	for (uint32_t w = 0; w < 20; w++) {
		for (uint32_t i = 0; i < 40; i++) {
			assert_true(offer(&f, w * S + i * (S / 40)));
			assert_true(f.c.v.threshold == 0);
		}
	}
	rules_case_close(&f.c);
}

/* A burst from nothing is cut by the cap, exactly, and the next window begins anew; so does one
 * after a long silence. */
static void cap_is_hard(void **state)
{
	struct flow f;
	uint32_t kept;

	(void)state;
	flow_open(&f, "7 per 10s");
	for (uint32_t round = 0; round < 3; round++) {
		kept = 0;
		for (uint32_t i = 0; i < 500; i++)
			kept += offer(&f, round * 1000 * S + i);
		assert_int_equal(kept, 7);
	}
	rules_case_close(&f.c);
}

static void spans_and_bytes_cost(void **state)
{
	struct flow f;
	uint64_t spans = 0, bytes = 0;

	(void)state;
	flow_open(&f, "100 spans per 1s");
	f.c.trace.span_count = 30;
	for (uint32_t i = 0; i < 10; i++)
		spans += offer(&f, i) ? 30 : 0;
	assert_int_equal(spans, 90);
	f.c.trace.span_count = 10; /* what is left over goes to one that fits */
	assert_true(offer(&f, 10));
	assert_false(offer(&f, 11));
	rules_case_close(&f.c);
	flow_open(&f, "2 KiB per 1s");
	f.c.trace.bytes = 500;
	for (uint32_t i = 0; i < 10; i++)
		bytes += offer(&f, i) ? 500 : 0;
	assert_int_equal(bytes, 2000);
	rules_case_close(&f.c);
}

/* The verdict's threshold: the loosest of the budget's and the next rule's; unknown where the cap
 * sent the trace on. */
static void thresholds(void **state)
{
	struct rules_case c;

	(void)state;
	rules_case_open(&c, "rules: [{name: budget, keep: 2 per 1s}, {name: half, keep: 50%}]");
	rules_case_span(&c, "s");
	rules_case_add(&c);
	c.trace.randomness = FULL - 1;
	for (int i = 0; i < 2; i++) {
		assert_string_equal(rules_case_decide(&c, 1), "budget");
		assert_true(c.v.threshold == 0);
	}
	assert_string_equal(rules_case_decide(&c, 2), "half"); /* the cap */
	assert_true(c.v.keep);
	assert_true(c.v.threshold == TW_THRESHOLD_UNKNOWN);
	for (int i = 0; i < 997; i++)
		rules_case_decide(&c, 2);
	/* 1,000 in the first eighth: the next window's threshold is strict, so the 50 % are the
	 * looser ones. */
	assert_string_equal(rules_case_decide(&c, S + 1), "budget");
	assert_true(c.v.threshold == FULL / 2);
	c.trace.randomness = FULL / 2; /* passed over by the threshold, not by the cap */
	assert_string_equal(rules_case_decide(&c, S + 1), "half");
	assert_true(c.v.keep);
	assert_true(c.v.threshold == FULL / 2);
	rules_case_close(&c);
}

/* A loud service does not take a quiet one's share; what the quiet ones leave over goes to the loud
 * one. */
static void fair_by_service(void **state)
{
	struct flow f;
	uint32_t loud = 0, quiet = 0, middle = 0;

	(void)state;
	flow_open(&f, "100 per 1s by resource.service.name");
	for (uint32_t w = 0; w < 30; w++) {
		uint32_t kept = 0;

		for (uint32_t i = 0; i < 2000; i++) {
			uint64_t now = w * S + i * (S / 2000);
			bool took;

			f.c.trace.service_hash = i % 200 == 0 ? 11 : i % 20 == 1 ? 22 : 33;
			took = offer(&f, now);
			kept += took;
			if (w < 2)
				continue;
			loud += took && f.c.trace.service_hash == 33;
			quiet += took && f.c.trace.service_hash == 11;
			middle += took && f.c.trace.service_hash == 22;
		}
		assert_in_range(kept, 1, 100);
	}
	/* 10, 100 and 1,890 a second want 100 places: 10, 45 and 45. */
	assert_in_range(quiet, 28 * 9, 28 * 10);
	assert_in_range(middle, 28 * 36, 28 * 46);
	assert_in_range(loud, 28 * 36, 28 * 46);
	rules_case_close(&f.c);
}

/* More services than there are places: still no more than the budget, nothing grows, and the known
 * are served. */
static void many_services(void **state)
{
	struct flow f;

	(void)state;
	flow_open(&f, "50 per 1s by resource.service.name");
	for (uint32_t w = 0; w < 6; w++) {
		uint32_t kept = 0;

		for (uint32_t i = 0; i < 5000; i++) {
			f.c.trace.service_hash = (i + w * 977) * UINT64_C(0x9E3779B97F4A7C15) | 1;
			kept += offer(&f, w * S + i * (S / 5000));
		}
		assert_in_range(kept, 1, 50);
	}
	f.c.trace.service_hash = 0; /* unknown: shares with the rest */
	offer(&f, 6 * S);
	rules_case_close(&f.c);
}

/* After a reload the rule of the same name goes on with what it has; with another budget it begins
 * anew. */
static void reload(void **state)
{
	struct flow f;
	struct rules_case same, other;

	(void)state;
	flow_open(&f, "3 per 1s");
	assert_true(offer(&f, 1));
	assert_true(offer(&f, 2));
	rules_case_open(
	    &same,
	    "rules: [{name: x, when: '{ false }', keep: 9 per 1s}, {name: budget, keep: 3 per 1s}, "
	    "{name: rest, keep: none}]");
	rules_case_open(&other,
	                "rules: [{name: budget, keep: 4 per 1s}, {name: rest, keep: none}]");
	tw_rates_destroy(&same.rates);
	tw_rates_destroy(&other.rates);
	same.rates = tw_rates_create(same.r, f.c.rates, f.c.r, 3);
	other.rates = tw_rates_create(other.r, f.c.rates, f.c.r, 3);
	assert_non_null(same.rates);
	assert_non_null(other.rates);
	rules_case_span(&same, "s");
	rules_case_add(&same);
	rules_case_span(&other, "s");
	rules_case_add(&other);
	assert_string_equal(rules_case_decide(&same, 4), "budget");
	assert_string_equal(rules_case_decide(&same, 5), "rest");
	assert_false(offer(&f, 6)); /* both draw on the same */
	for (int i = 0; i < 4; i++)
		assert_string_equal(rules_case_decide(&other, 6), "budget");
	assert_string_equal(rules_case_decide(&other, 6), "rest");
	rules_case_close(&f.c); /* the old ones go first */
	assert_string_equal(rules_case_decide(&same, 7), "rest");
	rules_case_close(&same);
	rules_case_close(&other);
}

#define THREADS 4
#define WINDOWS 40

struct worker {
	const struct rules_case *c;
	struct tw_trace_view trace;
	uint32_t kept[WINDOWS], seed;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	struct tw_verdict v;
	uint64_t x = w->seed;

	for (uint32_t window = 0; window < WINDOWS; window++) {
		for (uint32_t i = 0; i < 500; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			w->trace.randomness = x >> 8;
			w->trace.service_hash = x % 5 + 1;
			tw_rules_decide(w->c->r, w->c->rates, &w->trace, window * S + i * (S / 500),
			                &v);
			w->kept[window] += v.keep;
		}
	}
	return NULL;
}

/* Threads that are not in step share budgets: together they never take more than there were windows
 * times the budget (a thread that lags behind draws on the window that is running then). */
static void threads_share(const char *keep)
{
	struct worker w[THREADS];
	pthread_t id[THREADS];
	struct flow f;
	uint64_t total = 0;

	flow_open(&f, keep);
	for (uint32_t i = 0; i < THREADS; i++) {
		memset(&w[i], 0, sizeof(w[i]));
		w[i].c = &f.c;
		w[i].trace = f.c.trace;
		w[i].seed = 77 + i;
		assert_int_equal(pthread_create(&id[i], NULL, work, &w[i]), 0);
	}
	for (uint32_t i = 0; i < THREADS; i++) {
		pthread_join(id[i], NULL);
		for (uint32_t k = 0; k < WINDOWS; k++)
			total += w[i].kept[k];
	}
	assert_in_range(total, WINDOWS, WINDOWS * 20);
	rules_case_close(&f.c);
}

static void threads(void **state)
{
	(void)state;
	threads_share("20 per 1s");
	threads_share("20 per 1s by resource.service.name");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(steady_load),   cmocka_unit_test(below_the_budget_all_is_kept),
	    cmocka_unit_test(cap_is_hard),   cmocka_unit_test(spans_and_bytes_cost),
	    cmocka_unit_test(thresholds),    cmocka_unit_test(fair_by_service),
	    cmocka_unit_test(many_services), cmocka_unit_test(reload),
	    cmocka_unit_test(threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
