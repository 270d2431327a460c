/* micro_match [RULES.yaml [SECONDS]]: nanoseconds a span of tw_rules_match_request, and of
 * tw_rules_decide a trace, on a synthetic request: 1,000 spans in 4 resources, 1 % errors, 1 %
 * slow. Best and median of the runs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tw/rules.h"

#define SPANS     1000u
#define RESOURCES 4u

struct bench {
	struct tw_keytab *keys;
	struct tw_rules *r;
	struct tw_matcher *m;
	struct tw_rates *rates;
	struct tw_request q;
};

static const char *const services[RESOURCES] = {"front", "cart", "checkout", "payment"};
static const char *const names[8] = {"GET /",         "GET /cart", "POST /checkout",
                                     "SELECT orders", "charge",    "GET /product/{id}",
                                     "publish",       "send mail"};

static int load(const char *path, struct tw_buf *out)
{
	FILE *f = fopen(path, "rb");
	char chunk[4096];
	size_t n;

	if (!f) {
		perror(path);
		return -1;
	}
	while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0)
		tw_buf_put(out, chunk, n);
	fclose(f);
	return out->failed ? -1 : 0;
}

static struct tw_value text(const char *s)
{
	return (struct tw_value){
	    .type = TW_VALUE_STRING, .n = (uint32_t)strlen(s), .p = (const uint8_t *)s};
}

/* Every key that the rules read is there on every other span. */
static void fill(struct bench *b)
{
	uint32_t slots = tw_keytab_count(b->keys);

	b->q.spans = calloc(SPANS, sizeof(*b->q.spans));
	b->q.rests = calloc(SPANS, sizeof(*b->q.rests));
	b->q.masks = calloc(SPANS, sizeof(*b->q.masks));
	b->q.resources = calloc(RESOURCES, sizeof(*b->q.resources));
	b->q.scopes = calloc(RESOURCES, sizeof(*b->q.scopes));
	b->q.values = calloc((SPANS + RESOURCES) * slots, sizeof(*b->q.values));
	if (!b->q.spans || !b->q.rests || !b->q.masks || !b->q.resources || !b->q.scopes ||
	    !b->q.values)
		exit(3);
	b->q.span_count = SPANS;
	b->q.plain_count = SPANS;
	b->q.resource_count = b->q.scope_count = RESOURCES;
	for (uint32_t i = 0; i < RESOURCES; i++) {
		b->q.scopes[i].resource = i;
		b->q.resources[i].slots = b->q.values + (SPANS + i) * slots;
		b->q.resources[i].slots[TW_KEY_SERVICE_NAME] = text(services[i]);
		b->q.resources[i].slots_set = 1;
	}
	for (uint32_t i = 0; i < SPANS; i++) {
		struct tw_span_rest *rest = &b->q.rests[i];
		struct tw_span *s = &b->q.spans[i];

		s->rest = rest;
		s->scope = i % RESOURCES;
		rest->name = (const uint8_t *)names[i % 8];
		rest->name_n = (uint32_t)strlen(names[i % 8]);
		s->kind = (uint8_t)(1 + i % 5);
		s->status = i % 100 == 7 ? TW_STATUS_ERROR : TW_STATUS_UNSET;
		s->duration_ns = i % 100 == 13 ? 3000000000u : 20000000u + i;
		s->parent_id = i % 8 ? i : 0;
		s->flags = i % 8 ? 0 : TW_SPAN_ROOT;
		rest->slots = b->q.values + i * slots;
		for (uint32_t k = 1; k < slots && i % 2; k++) {
			rest->slots[k] = text("value");
			rest->slots_set |= UINT64_C(1) << k;
		}
	}
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double match_round(struct bench *b, uint32_t times)
{
	uint64_t begin = tw_now(&tw_clock_real);

	for (uint32_t i = 0; i < times; i++) {
		tw_rules_match_request(b->r, b->m, &b->q);
		__asm__ volatile("" ::"r"(b->q.spans) : "memory");
	}
	return (double)(tw_now(&tw_clock_real) - begin) / times / SPANS;
}

static double decide_round(struct bench *b, uint32_t times)
{
	struct tw_trace_view t = {
	    .end_ns = 20000000, .bytes = 2400, .span_count = 8, .has_root = true};
	uint64_t begin = tw_now(&tw_clock_real), x = 88172645463325252u;
	struct tw_verdict v;

	for (uint32_t i = 0; i < times; i++) {
		for (uint32_t k = 0; k < SPANS; k++) {
			memcpy(t.mask, b->q.masks[k], sizeof(t.mask));
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			t.randomness = x >> 8;
			t.service_hash = k % RESOURCES + 1;
			tw_rules_decide(b->r, b->rates, &t, begin, &v);
			__asm__ volatile("" ::"r"(&v) : "memory");
		}
	}
	return (double)(tw_now(&tw_clock_real) - begin) / times / SPANS;
}

static void report(const char *what, struct bench *b, double (*round)(struct bench *, uint32_t),
                   double seconds)
{
	double ns[101];
	uint32_t times = 200;
	double one = round(b, times) * SPANS * times / 1e9; /* also warms up */

	if (one > 0)
		times = (uint32_t)(times * seconds / 101 / one) + 1;
	for (uint32_t i = 0; i < 101; i++)
		ns[i] = round(b, times);
	qsort(ns, 101, sizeof(ns[0]), by_value);
	printf("%-24s best %7.2f ns   median %7.2f ns\n", what, ns[0], ns[50]);
}

int main(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : "rules/default.yaml";
	double seconds = argc > 2 ? atof(argv[2]) : 1.0;
	struct bench b = {.keys = tw_keytab_create()};
	struct tw_diags diags;
	struct tw_buf file;

	tw_buf_init(&file, 0);
	if (!b.keys || load(path, &file))
		return 1;
	if (tw_rules_compile(tw_buf_slice(&file), b.keys, &diags, &b.r) || tw_keytab_seal(b.keys)) {
		fprintf(stderr, "%s: does not compile\n", path);
		return 1;
	}
	b.m = tw_matcher_create(b.r);
	b.rates = tw_rates_create(b.r, NULL, NULL, tw_now(&tw_clock_real));
	if (!b.m || !b.rates)
		return 3;
	fill(&b);
	report("match, a span", &b, match_round, seconds);
	report("decide, a trace", &b, decide_round, seconds);
	tw_rates_destroy(&b.rates);
	tw_matcher_destroy(&b.m);
	tw_rules_destroy(&b.r);
	tw_keytab_destroy(&b.keys);
	free(b.q.spans);
	free(b.q.rests);
	free(b.q.masks);
	free(b.q.resources);
	free(b.q.scopes);
	free(b.q.values);
	tw_buf_deinit(&file);
	return 0;
}
