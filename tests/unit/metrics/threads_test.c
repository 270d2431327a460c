/* Workers count while a scraper reads: a page never shows more than was counted, never goes back,
 * agrees with itself, and is exact at rest. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "page.h"
#include "spans.h"

#define WORKERS  2
#define NAMES    3000
#define REQUESTS 400
#define PER      200

#define CALLS "traces_span_metrics_calls_total"
#define COUNT "traces_span_metrics_duration_milliseconds_count"
#define SUM   "traces_span_metrics_duration_milliseconds_sum"
#define INF   "traces_span_metrics_duration_milliseconds_bucket"

static const struct tw_hash_key hash_key = {3, 5};

struct counter {
	struct tw_red *red;
	uint32_t index;
	char (*names)[16];
	uint64_t counts[NAMES]; /* the model */
	uint64_t sums_us[NAMES];
	_Atomic uint32_t *running;
};

static void *count_all(void *arg)
{
	struct counter *c = arg;
	struct tw_red_worker *w = tw_red_worker(c->red, c->index);
	uint8_t slot[TW_DIMENSIONS_MAX] = {0};
	uint64_t x = 0x9E3779B97F4A7C15u * (c->index + 1);
	struct spans s;

	spans_init(&s, PER);
	for (int r = 0; r < REQUESTS; r++) {
		spans_clear(&s);
		spans_resource(&s, "svc");
		for (int i = 0; i < PER; i++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			/* The names in use grow, so that both threads meet new ones all the time.
			 */
			uint32_t name = (uint32_t)(x % ((uint64_t)NAMES * (r + 1) / REQUESTS));
			uint64_t us = (x >> 32) % 20000000;
			spans_add(&s, c->names[name], TW_KIND_SERVER, TW_STATUS_UNSET, us * 1000);
			c->counts[name]++;
			c->sums_us[name] += us;
		}
		tw_red_count(w, &s.req, slot);
	}
	spans_deinit(&s);
	atomic_fetch_sub(c->running, 1);
	return NULL;
}

/* Within one page calls, count and the +Inf bucket are the same number. */
static double check_page(const struct page *p)
{
	double calls = page_sum(p, CALLS), inf = 0;

	for (size_t i = 0; i < p->count; i++)
		if (strcmp(p->samples[i].name, INF) == 0 &&
		    strcmp(sample_label(&p->samples[i], "le"), "+Inf") == 0)
			inf += strtod(p->samples[i].value, NULL);
	assert_true(calls == page_sum(p, COUNT));
	assert_true(calls == inf);
	return calls;
}

static void workers_and_a_scraper_agree(void **state)
{
	static char names[NAMES][16];
	static struct counter c[WORKERS];
	struct tw_metrics_opts o = default_opts(TW_NAMES_OTEL);
	_Atomic uint32_t running = WORKERS;
	pthread_t thread[WORKERS];
	double last = 0;

	(void)state;
	o.series_max = NAMES;
	struct tw_red *red = tw_red_create(&o, WORKERS, hash_key);
	assert_non_null(red);
	for (int i = 0; i < NAMES; i++)
		snprintf(names[i], sizeof(names[i]), "op%d", i);
	for (uint32_t i = 0; i < WORKERS; i++) {
		c[i] =
		    (struct counter){.red = red, .index = i, .names = names, .running = &running};
		assert_int_equal(pthread_create(&thread[i], NULL, count_all, &c[i]), 0);
	}
	while (atomic_load(&running) > 0) {
		struct page p = page_collect(tw_red_collect, red, TW_EXPO_OPENMETRICS);
		double calls = check_page(&p);
		assert_true(calls >= last && calls <= (double)WORKERS * REQUESTS * PER);
		last = calls;
		page_free(&p);
	}
	for (int i = 0; i < WORKERS; i++)
		pthread_join(thread[i], NULL);

	struct page p = page_collect(tw_red_collect, red, TW_EXPO_TEXT);
	page_free(&p); /* the zeros of the last ones */
	p = page_collect(tw_red_collect, red, TW_EXPO_TEXT);
	assert_true(check_page(&p) == (double)WORKERS * REQUESTS * PER);
	for (int i = 0; i < NAMES; i++) {
		char series[160], want[32];
		uint64_t n = c[0].counts[i] + c[1].counts[i];
		uint64_t us = c[0].sums_us[i] + c[1].sums_us[i];

		snprintf(series, sizeof(series),
		         SUM
		         "{service_name=\"svc\",span_name=\"op%d\",span_kind=\"SPAN_KIND_SERVER\","
		         "status_code=\"STATUS_CODE_UNSET\"}",
		         i);
		if (n == 0) {
			assert_null(page_get(&p, series));
			continue;
		}
		assert_true(strtod(page_get(&p, series), NULL) == (double)us / 1000);
		snprintf(series, sizeof(series),
		         CALLS
		         "{service_name=\"svc\",span_name=\"op%d\",span_kind=\"SPAN_KIND_SERVER\","
		         "status_code=\"STATUS_CODE_UNSET\"}",
		         i);
		snprintf(want, sizeof(want), "%llu", (unsigned long long)n);
		assert_string_equal(page_get(&p, series), want);
	}
	page_free(&p);
	tw_red_destroy(&red);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(workers_and_a_scraper_agree),
	};
	return cmocka_run_group_tests_name("metrics_threads", tests, NULL, NULL);
}
