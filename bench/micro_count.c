/* Nanoseconds per span of tw_red_count, and what a scrape takes, with few and with many series:
 * requests of 1,000 spans of one service, series drawn at random, durations spread over all
 * buckets. Prints the median and the best of many rounds. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tw/metrics.h"

#define SPANS    1000u
#define REQUESTS 100u
#define ROUNDS   31u
#define SERVICES 4u

static uint64_t seed = 0x9E3779B97F4A7C15u;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

struct load {
	struct tw_request req;
	struct tw_resource resource;
	struct tw_scope scope;
	struct tw_value service;
	struct tw_span spans[SPANS];
	struct tw_span_rest rests[SPANS];
	char (*names)[40];
	uint32_t name_count;
};

static void load_open(struct load *l, uint32_t series)
{
	l->name_count = series / SERVICES;
	l->names = calloc(l->name_count, sizeof(*l->names));
	if (l->names == NULL)
		exit(3);
	for (uint32_t i = 0; i < l->name_count; i++)
		snprintf(l->names[i], sizeof(l->names[i]), "GET /api/products/%06u/{id}", i);
	l->resource = (struct tw_resource){.slots_set = 1, .slots = &l->service};
	l->req = (struct tw_request){.spans = l->spans,
	                             .span_count = SPANS,
	                             .resources = &l->resource,
	                             .resource_count = 1,
	                             .scopes = &l->scope,
	                             .scope_count = 1};
}

/* The next request, as the scanner leaves it: its views are in the cache. first: of the names in
 * turn, or −1: at random. */
static void load_fill(struct load *l, uint32_t service, int64_t first)
{
	static const char *const services[SERVICES] = {"frontend", "checkout", "cart",
	                                               "productcatalog"};

	l->service = (struct tw_value){.type = TW_VALUE_STRING,
	                               .n = (uint32_t)strlen(services[service]),
	                               .p = (const uint8_t *)services[service]};
	for (uint32_t i = 0; i < SPANS; i++) {
		struct tw_span *s = &l->spans[i];
		uint64_t k = first < 0 ? rnd() : (uint64_t)first + i;

		l->rests[i].name = (const uint8_t *)l->names[k % l->name_count];
		l->rests[i].name_n = (uint32_t)strlen(l->names[k % l->name_count]);
		s->rest = &l->rests[i];
		s->kind = TW_KIND_SERVER;
		s->start_ns = 1700000000000000000u;
		s->duration_ns = UINT64_C(1) << (18 + rnd() % 17);
		s->duration_ns += rnd() % s->duration_ns;
	}
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void scrape(struct tw_red *red)
{
	struct tw_buf page;
	struct tw_expo e = {.out = &page};
	double took = now_ns();

	tw_buf_init(&page, 0);
	tw_red_collect(red, &e);
	took = now_ns() - took;
	printf("  a scrape: %.0f ms, %.1f MB of text\n", took / 1e6, (double)page.n / 1e6);
	tw_buf_deinit(&page);
}

static void run(uint32_t series)
{
	static const uint32_t ms[] = {2,   4,   6,    8,    10,   50,   100,   200,
	                              400, 800, 1000, 1400, 2000, 5000, 10000, 15000};
	struct tw_metrics_opts o = {.names = TW_NAMES_OTEL, .series_max = 100000};
	struct load *l = calloc(1, sizeof(*l));
	uint8_t slot[TW_DIMENSIONS_MAX] = {0};
	double took[ROUNDS];

	for (size_t i = 0; i < sizeof(ms) / sizeof(ms[0]); i++)
		o.bucket_ns[o.bucket_count++] = ms[i] * TW_NS_PER_MS;
	struct tw_red *red = tw_red_create(&o, 1, tw_hash_key_random());
	if (l == NULL || red == NULL)
		exit(3);
	load_open(l, series);
	/* All series are made before the clock runs. */
	for (uint32_t r = 0; r < SERVICES; r++)
		for (uint32_t n = 0; n < l->name_count; n += SPANS) {
			load_fill(l, r, n);
			tw_red_count(tw_red_worker(red, 0), &l->req, slot);
		}
	for (uint32_t k = 0; k < ROUNDS; k++) {
		double sum = 0;
		for (uint32_t r = 0; r < REQUESTS; r++) {
			load_fill(l, r % SERVICES, -1);
			double t = now_ns();
			tw_red_count(tw_red_worker(red, 0), &l->req, slot);
			sum += now_ns() - t;
		}
		took[k] = sum / ((double)REQUESTS * SPANS);
	}
	qsort(took, ROUNDS, sizeof(took[0]), by_value);
	printf("%6u series: median %.1f ns a span, best %.1f; %.1f MB of series and cells\n",
	       tw_red_series_count(red), took[ROUNDS / 2], took[0],
	       (double)tw_red_bytes(red) / 1e6);
	scrape(red);
	tw_red_destroy(&red);
	free(l->names);
	free(l);
}

int main(void)
{
	run(200);
	run(10000);
	run(100000);
	return 0;
}
