#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "page.h"
#include "spans.h"
#include "tw/base/mem.h"

#define CALLS  "traces_span_metrics_calls_total"
#define BUCKET "traces_span_metrics_duration_milliseconds_bucket"
#define SUM    "traces_span_metrics_duration_milliseconds_sum"
#define COUNT  "traces_span_metrics_duration_milliseconds_count"
#define CART                                                                                       \
	"service_name=\"cart\",span_name=\"GET /\",span_kind=\"SPAN_KIND_SERVER\","                \
	"status_code=\"STATUS_CODE_UNSET\""

static const struct tw_hash_key hash_key = {0x1234567887654321, 0xfeedfacecafebeef};
static const uint64_t ms = TW_NS_PER_MS;

struct bed {
	struct tw_metrics_opts opts;
	struct tw_red *red;
	struct tw_red_worker *worker;
	struct spans spans;
	uint8_t slot[TW_DIMENSIONS_MAX];
};

static void bed_open(struct bed *b, uint32_t cap)
{
	struct tw_keytab *keys = tw_keytab_create();

	b->red = tw_red_create(&b->opts, 1, hash_key);
	assert_non_null(b->red);
	b->worker = tw_red_worker(b->red, 0);
	assert_int_equal(tw_red_keys(b->red, keys, b->slot), 0);
	tw_keytab_destroy(&keys);
	spans_init(&b->spans, cap);
}

static void bed_close(struct bed *b)
{
	tw_red_destroy(&b->red);
	assert_null(b->red);
	spans_deinit(&b->spans);
}

static void bed_count(struct bed *b)
{
	tw_red_count(b->worker, &b->spans.req, b->slot);
	spans_clear(&b->spans);
}

/* The page once new series have had their zero. */
static struct page bed_page(struct bed *b)
{
	struct page first = page_collect(tw_red_collect, b->red, TW_EXPO_TEXT);

	page_free(&first);
	return page_collect(tw_red_collect, b->red, TW_EXPO_TEXT);
}

static void assert_value(const struct page *p, const char *series, const char *want)
{
	const char *value = page_get(p, series);

	if (value == NULL || strcmp(value, want) != 0)
		fail_msg("%s: %s instead of %s", series, value == NULL ? "none" : value, want);
}

static void a_span_is_counted_under_its_labels(void **state)
{
	struct bed b = {.opts = default_opts(TW_NAMES_OTEL)};

	(void)state;
	bed_open(&b, 16);
	spans_resource(&b.spans, "cart");
	spans_add(&b.spans, "GET /", TW_KIND_SERVER, TW_STATUS_UNSET, 2 * ms);
	spans_add(&b.spans, "GET /", TW_KIND_SERVER, TW_STATUS_UNSET, 2 * ms + 1);
	spans_add(&b.spans, "GET /", TW_KIND_SERVER, TW_STATUS_ERROR, 20000 * ms);
	spans_resource(&b.spans, NULL);
	spans_add(&b.spans, "job", TW_KIND_INTERNAL, TW_STATUS_OK, 0);
	bed_count(&b);
	struct page p = bed_page(&b);

	assert_value(&p, CALLS "{" CART "}", "2");
	assert_value(&p, BUCKET "{" CART ",le=\"2\"}", "1");
	assert_value(&p, BUCKET "{" CART ",le=\"4\"}", "2");
	assert_value(&p, BUCKET "{" CART ",le=\"15000\"}", "2");
	assert_value(&p, BUCKET "{" CART ",le=\"+Inf\"}", "2");
	assert_value(&p, SUM "{" CART "}", "4.000001");
	assert_value(&p, COUNT "{" CART "}", "2");
	assert_value(&p,
	             BUCKET
	             "{service_name=\"cart\",span_name=\"GET /\",span_kind=\"SPAN_KIND_SERVER\","
	             "status_code=\"STATUS_CODE_ERROR\",le=\"15000\"}",
	             "0");
	assert_value(&p,
	             CALLS "{service_name=\"unknown_service\",span_name=\"job\","
	                   "span_kind=\"SPAN_KIND_INTERNAL\",status_code=\"STATUS_CODE_OK\"}",
	             "1");
	assert_value(&p, "traceweir_series", "3");
	assert_value(&p, "traceweir_series_max", "1000");
	assert_value(&p, "traceweir_series_overflow_spans_total", "0");
	assert_int_equal(tw_red_series_count(b.red), 3);
	page_free(&p);
	bed_close(&b);
}

static void every_kind_and_status_has_its_word(void **state)
{
	static const char *const kinds[] = {"UNSPECIFIED", "INTERNAL", "SERVER",
	                                    "CLIENT",      "PRODUCER", "CONSUMER"};
	static const char *const statuses[] = {"UNSET", "OK", "ERROR"};
	struct bed b = {.opts = default_opts(TW_NAMES_OTEL)};
	char series[256];

	(void)state;
	bed_open(&b, 18);
	spans_resource(&b.spans, "s");
	for (int i = 0; i < 18; i++)
		spans_add(&b.spans, "n", (enum tw_kind)(i / 3), (enum tw_status)(i % 3), 0);
	bed_count(&b);
	struct page p = bed_page(&b);
	for (int i = 0; i < 18; i++) {
		snprintf(series, sizeof(series),
		         CALLS "{service_name=\"s\",span_name=\"n\",span_kind=\"SPAN_KIND_%s\","
		               "status_code=\"STATUS_CODE_%s\"}",
		         kinds[i / 3], statuses[i % 3]);
		assert_value(&p, series, "1");
	}
	page_free(&p);
	bed_close(&b);
}

static void le_is_printed_as_the_collector_prints_it(void **state)
{
	static const char *const le_ms[] = {"2",    "4",    "6",     "8",     "10",   "50",
	                                    "100",  "200",  "400",   "800",   "1000", "1400",
	                                    "2000", "5000", "10000", "15000", "+Inf"};
	static const char *const le_s[] = {"0.002", "0.004", "0.006", "0.008", "0.01", "0.05",
	                                   "0.1",   "0.2",   "0.4",   "0.8",   "1",    "1.4",
	                                   "2",     "5",     "10",    "15",    "+Inf"};
	struct bed b = {.opts = default_opts(TW_NAMES_BOTH)};
	char series[256];

	(void)state;
	bed_open(&b, 4);
	spans_resource(&b.spans, "cart");
	spans_add(&b.spans, "GET /", TW_KIND_SERVER, TW_STATUS_UNSET, 1);
	bed_count(&b);
	struct page p = bed_page(&b);
	for (size_t i = 0; i < 17; i++) {
		snprintf(series, sizeof(series), BUCKET "{" CART ",le=\"%s\"}", le_ms[i]);
		assert_value(&p, series, "1");
		snprintf(
		    series, sizeof(series),
		    "traces_spanmetrics_latency_bucket{service=\"cart\",span_name=\"GET /\","
		    "span_kind=\"SPAN_KIND_SERVER\",status_code=\"STATUS_CODE_UNSET\",le=\"%s\"}",
		    le_s[i]);
		assert_value(&p, series, "1");
	}
	assert_value(&p, SUM "{" CART "}", "0.000001");
	assert_true(fabs(page_sum(&p, "traces_spanmetrics_latency_sum") - 1e-9) < 1e-20);
	assert_int_equal((int)page_sum(&p, "traces_spanmetrics_calls_total"), 1);
	assert_int_equal((int)page_sum(&p, "traces_spanmetrics_latency_count"), 1);
	page_free(&p);
	bed_close(&b);
}

static void only_the_names_asked_for_are_there(void **state)
{
	struct bed b = {.opts = default_opts(TW_NAMES_TEMPO)};

	(void)state;
	bed_open(&b, 4);
	spans_resource(&b.spans, "cart");
	spans_add(&b.spans, "GET /", TW_KIND_SERVER, TW_STATUS_UNSET, 1);
	bed_count(&b);
	struct page p = bed_page(&b);
	assert_null(strstr(p.text, "traces_span_metrics_"));
	assert_null(strstr(p.text, "service_name"));
	assert_non_null(strstr(p.text, "traces_spanmetrics_calls_total{service=\"cart\""));
	page_free(&p);
	bed_close(&b);
}

static void a_new_series_begins_with_a_zero(void **state)
{
	struct bed b = {.opts = default_opts(TW_NAMES_OTEL)};
	static const struct {
		const char *old, *fresh;
	} want[] = {{"0", NULL}, {"1", "0"}, {"1", "1"}};

	(void)state;
	bed_open(&b, 4);
	for (int i = 0; i < 3; i++) {
		if (i < 2) {
			spans_resource(&b.spans, i == 0 ? "cart" : "cart2");
			spans_add(&b.spans, "GET /", TW_KIND_SERVER, TW_STATUS_UNSET, 5 * ms);
			bed_count(&b);
		}
		struct page p = page_collect(tw_red_collect, b.red, TW_EXPO_OPENMETRICS);
		assert_value(&p, CALLS "{" CART "}", want[i].old);
		assert_value(&p, COUNT "{" CART "}", want[i].old);
		assert_value(&p, SUM "{" CART "}", i == 0 ? "0" : "5");
		const char *fresh =
		    page_get(&p, CALLS "{service_name=\"cart2\",span_name=\"GET /\","
		                       "span_kind=\"SPAN_KIND_SERVER\","
		                       "status_code=\"STATUS_CODE_UNSET\"}");
		if (want[i].fresh == NULL)
			assert_null(fresh);
		else
			assert_string_equal(fresh, want[i].fresh);
		page_free(&p);
	}
	bed_close(&b);
}

static void a_page_that_nobody_read_was_not_the_first(void **state)
{
	struct bed b = {.opts = default_opts(TW_NAMES_OTEL)};
	struct tw_buf small;
	struct tw_expo e = {.out = &small};

	(void)state;
	bed_open(&b, 4);
	spans_resource(&b.spans, "cart");
	spans_add(&b.spans, "GET /", TW_KIND_SERVER, TW_STATUS_UNSET, 5 * ms);
	bed_count(&b);
	tw_buf_init(&small, 500);
	tw_red_collect(b.red, &e);
	assert_true(small.failed);
	tw_buf_deinit(&small);
	tw_buf_init(&small, 0);
	e.peek = true;
	tw_red_collect(b.red, &e);
	assert_false(small.failed);
	tw_buf_deinit(&small);
	struct page p = page_collect(tw_red_collect, b.red, TW_EXPO_TEXT);
	assert_value(&p, CALLS "{" CART "}", "0");
	page_free(&p);
	bed_close(&b);
}

static void dimensions_are_the_spans_else_the_resources_else_absent(void **state)
{
	struct bed b = {.opts = default_opts(TW_NAMES_OTEL)};
	struct tw_resource *r;
	struct tw_span *s;

	(void)state;
	b.opts.dimension_count = 2;
	b.opts.dimensions[0] = (char *)(uintptr_t) "http.method";
	b.opts.dimensions[1] = (char *)(uintptr_t) "http.status_code";
	bed_open(&b, 64);
	for (int round = 0; round < 2; round++) {
		r = spans_resource(&b.spans, "cart");
		resource_attribute(r, b.slot[0], text_value("FROM-RESOURCE"));
		s = spans_add(&b.spans, "GET /", TW_KIND_SERVER, TW_STATUS_UNSET, 0);
		spans_attribute(&b.spans, s, b.slot[0], text_value("GET"));
		spans_attribute(&b.spans, s, b.slot[1], int_value(-200));
		spans_add(&b.spans, "GET /", TW_KIND_SERVER, TW_STATUS_UNSET, 0);
		s = spans_add(&b.spans, "GET /", TW_KIND_SERVER, TW_STATUS_UNSET, 0);
		spans_attribute(&b.spans, s, b.slot[0], text_value("")); /* as good as absent */
		spans_resource(&b.spans, "cart");
		spans_add(&b.spans, "GET /", TW_KIND_SERVER, TW_STATUS_UNSET, 0);
		s = spans_add(&b.spans, "GET /", TW_KIND_SERVER, TW_STATUS_UNSET, 0);
		spans_attribute(&b.spans, s, b.slot[0], text_value("")); /* no label, one series */
		bed_count(&b);
	}
	struct page p = bed_page(&b);
	assert_value(&p, CALLS "{" CART ",http_method=\"GET\",http_status_code=\"-200\"}", "2");
	assert_value(&p, CALLS "{" CART ",http_method=\"FROM-RESOURCE\"}", "4");
	assert_value(&p, CALLS "{" CART "}", "4");
	assert_int_equal(tw_red_series_count(b.red), 3);
	page_free(&p);
	bed_close(&b);
}

static void values_of_every_type_become_text(void **state)
{
	/* An ArrayValue of "a" and 7, and a KeyValueList. */
	static const uint8_t array[] = {0x0a, 3, 0x0a, 1, 'a', 0x0a, 2, 0x18, 7};
	static const uint8_t map[] = {0x0a, 3, 0x0a, 1, 'k'};
	static const uint8_t bytes[] = {0, 1, 0xff, 0x80};
	const struct {
		struct tw_value v;
		const char *want;
	} cases[] = {
	    {{.type = TW_VALUE_BOOL, .i = 1}, "true"},
	    {{.type = TW_VALUE_BOOL, .i = 0}, "false"},
	    {{.type = TW_VALUE_INT, .i = INT64_MIN}, "-9223372036854775808"},
	    {{.type = TW_VALUE_DOUBLE, .d = 1.5}, "1.5"},
	    {{.type = TW_VALUE_DOUBLE, .d = 1000000}, "1000000"},
	    {{.type = TW_VALUE_BYTES, .p = bytes, .n = 4}, "AAH/gA=="},
	    {{.type = TW_VALUE_ARRAY, .p = array, .n = sizeof(array)}, "[\"a\",7]"},
	    {{.type = TW_VALUE_KVLIST, .p = map, .n = sizeof(map)}, NULL},
	    {{.type = TW_VALUE_NONE}, NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bed b = {.opts = default_opts(TW_NAMES_OTEL)};
		char series[256];

		b.opts.dimension_count = 1;
		b.opts.dimensions[0] = (char *)(uintptr_t) "d";
		bed_open(&b, 4);
		spans_resource(&b.spans, "cart");
		struct tw_span *s =
		    spans_add(&b.spans, "GET /", TW_KIND_SERVER, TW_STATUS_UNSET, 0);
		spans_attribute(&b.spans, s, b.slot[0], cases[i].v);
		bed_count(&b);
		struct page p = bed_page(&b);
		if (cases[i].want != NULL) {
			bool found = false;
			for (size_t k = 0; k < p.count; k++) {
				const char *d = sample_label(&p.samples[k], "d");
				found |= d != NULL && strcmp(d, cases[i].want) == 0;
			}
			if (!found)
				fail_msg("%s is not in\n%s", cases[i].want, p.text);
		} else {
			snprintf(series, sizeof(series), CALLS "{" CART "}");
			assert_value(&p, series, "1");
		}
		page_free(&p);
		bed_close(&b);
	}
}

static void the_same_text_of_another_type_is_the_same_series(void **state)
{
	struct bed b = {.opts = default_opts(TW_NAMES_OTEL)};

	(void)state;
	b.opts.dimension_count = 1;
	b.opts.dimensions[0] = (char *)(uintptr_t) "d";
	bed_open(&b, 4);
	spans_resource(&b.spans, "cart");
	for (int i = 0; i < 2; i++)
		spans_attribute(&b.spans,
		                spans_add(&b.spans, "GET /", TW_KIND_SERVER, TW_STATUS_UNSET, 0),
		                b.slot[0], i == 0 ? text_value("5") : int_value(5));
	bed_count(&b);
	struct page p = bed_page(&b);
	assert_value(&p, CALLS "{" CART ",d=\"5\"}", "2");
	page_free(&p);
	bed_close(&b);
}

static void label_names_are_made_fit_and_unique(void **state)
{
	static const char *const keys[] = {"service.name", "service", "span.name", "a.b", "a_b",
	                                   "a-b",          "9x",      "le",        "ü"};
	static const char *const labels[] = {
	    "__service_name", "__service", "__span_name", "a_b", "__a_b",
	    "____a_b",        "_9x",       "__le",        "__"};
	struct bed b = {.opts = default_opts(TW_NAMES_BOTH)};
	char want[512] = CALLS "{" CART;

	(void)state;
	for (uint32_t i = 0; i < 9; i++)
		b.opts.dimensions[b.opts.dimension_count++] = (char *)(uintptr_t)keys[i];
	bed_open(&b, 4);
	/* The table of slots in spans.c is smaller than nine: resource slot 0 is service.name's. */
	assert_int_equal(b.slot[0], TW_KEY_SERVICE_NAME);
	struct tw_value values[16];
	spans_resource(&b.spans, "cart");
	struct tw_span *s = spans_add(&b.spans, "GET /", TW_KIND_SERVER, TW_STATUS_UNSET, 0);
	b.spans.rests[0].slots = values;
	for (uint32_t i = 0; i < 9; i++) {
		spans_attribute(&b.spans, s, b.slot[i], text_value("v"));
		strcat(strcat(strcat(want, ","), labels[i]), "=\"v\"");
	}
	strcat(want, "}");
	bed_count(&b);
	struct page p = bed_page(&b);
	assert_value(&p, want, "1");
	page_free(&p);
	bed_close(&b);
}

/* Past the cap on series all new label sets are one series; what was there before goes on. */
static void LOAD_06_cardinality_explosion(void **state)
{
	enum { LOTS = 20000, CAP = 100 };
	struct bed b = {.opts = default_opts(TW_NAMES_OTEL)};
	static char names[LOTS][24];
	uint64_t bytes = 0;

	(void)state;
	b.opts.series_max = CAP;
	bed_open(&b, 1000);
	for (int i = 0; i < LOTS; i++) {
		if (b.spans.req.span_count == 0)
			spans_resource(&b.spans, "cart");
		snprintf(names[i], sizeof(names[i]), "GET /user/%d", i);
		spans_add(&b.spans, names[i], TW_KIND_SERVER, TW_STATUS_UNSET, 3 * ms);
		if (b.spans.req.span_count == 1000)
			bed_count(&b);
		if (i == LOTS / 2)
			bytes = tw_red_bytes(b.red);
	}
	assert_int_equal(tw_red_bytes(b.red), bytes);
	assert_int_equal(tw_red_series_count(b.red), CAP);
	assert_int_equal(tw_red_overflow_spans(b.red), LOTS - CAP);

	/* A known series is still found, and an unknown one says so in its view. */
	spans_resource(&b.spans, "cart");
	spans_add(&b.spans, names[7], TW_KIND_SERVER, TW_STATUS_UNSET, 3 * ms);
	spans_add(&b.spans, names[777], TW_KIND_SERVER, TW_STATUS_UNSET, 3 * ms);
	tw_red_count(b.worker, &b.spans.req, b.slot);
	assert_int_not_equal(b.spans.req.spans[0].series, 0);
	assert_int_equal(b.spans.req.spans[1].series, 0);

	struct page p = page_collect(tw_red_collect, b.red, TW_EXPO_TEXT);
	assert_value(&p, CALLS "{otel_metric_overflow=\"true\"}", "0");
	page_free(&p);
	p = page_collect(tw_red_collect, b.red, TW_EXPO_OPENMETRICS);
	assert_value(&p, CALLS "{otel_metric_overflow=\"true\"}", "19901");
	assert_value(&p, BUCKET "{otel_metric_overflow=\"true\",le=\"4\"}", "19901");
	assert_value(&p, "traceweir_series_overflow_spans_total", "19901");
	assert_int_equal((int)page_sum(&p, CALLS), LOTS + 2);
	page_free(&p);
	bed_close(&b);
}

/* Long values are bounded each, and all together. */
static void LOAD_06_huge_values_cannot_take_the_memory(void **state)
{
	enum { LOTS = 4000 };
	struct bed b = {.opts = default_opts(TW_NAMES_OTEL)};
	char *name = malloc(4000);

	(void)state;
	b.opts.series_max = LOTS;
	bed_open(&b, 4);
	memset(name, 'x', 4000);
	for (int i = 0; i < LOTS; i++) {
		char digits[16];
		snprintf(digits, sizeof(digits), "%08d", i);
		memcpy(name, digits, 8);
		name[3999] = '\0';
		spans_resource(&b.spans, "cart");
		spans_add(&b.spans, name, TW_KIND_SERVER, TW_STATUS_UNSET, 3 * ms);
		bed_count(&b);
	}
	uint32_t series = tw_red_series_count(b.red);
	assert_in_range(series, LOTS / 8, LOTS / 2);
	assert_int_equal(tw_red_overflow_spans(b.red), LOTS - series);
	assert_in_range(tw_red_bytes(b.red), 1, LOTS * 512 + LOTS * 200 + (1 << 20));
	free(name);
	bed_close(&b);
}

/* A clock that is wrong cannot poison a histogram. */
static void IN_15_time_nonsense(void **state)
{
	struct bed b = {.opts = default_opts(TW_NAMES_OTEL)};
	struct tw_span *s;

	(void)state;
	bed_open(&b, 8);
	spans_resource(&b.spans, "cart");
	spans_add(&b.spans, "GET /", TW_KIND_SERVER, TW_STATUS_UNSET, 0);
	spans_add(&b.spans, "GET /", TW_KIND_SERVER, TW_STATUS_UNSET, UINT64_MAX);
	spans_add(&b.spans, "GET /", TW_KIND_SERVER, TW_STATUS_UNSET, (uint64_t)1 << 62);
	s = spans_add(&b.spans, "GET /", TW_KIND_SERVER, TW_STATUS_UNSET,
	              UINT64_C(1700000000) * TW_NS_PER_S);
	s->start_ns = 0;
	/* A year is still believed. */
	spans_add(&b.spans, "GET /", TW_KIND_SERVER, TW_STATUS_UNSET,
	          UINT64_C(365) * 86400 * TW_NS_PER_S);
	bed_count(&b);
	struct page p = bed_page(&b);
	assert_value(&p, CALLS "{" CART "}", "5");
	assert_value(&p, BUCKET "{" CART ",le=\"2\"}", "4");
	assert_value(&p, BUCKET "{" CART ",le=\"15000\"}", "4");
	assert_value(&p, SUM "{" CART "}", "31536000000");
	page_free(&p);
	bed_close(&b);
}

static void a_sum_past_64_bits_stays_exact(void **state)
{
	enum { N = 1200 };
	struct bed b = {.opts = default_opts(TW_NAMES_BOTH)};

	(void)state;
	bed_open(&b, N);
	spans_resource(&b.spans, "cart");
	for (int i = 0; i < N; i++)
		spans_add(&b.spans, "GET /", TW_KIND_SERVER, TW_STATUS_UNSET,
		          UINT64_C(365) * 86400 * TW_NS_PER_S - 1);
	bed_count(&b);
	struct page p = bed_page(&b);
	/* 1200 years are 3.8e19 ns: past 2^64. */
	assert_value(&p, SUM "{" CART "}", "37843199999999.9988");
	assert_value(&p,
	             "traces_spanmetrics_latency_sum{service=\"cart\",span_name=\"GET /\","
	             "span_kind=\"SPAN_KIND_SERVER\",status_code=\"STATUS_CODE_UNSET\"}",
	             "37843199999.9999988");
	page_free(&p);
	bed_close(&b);
}

/* Hostile label values leave a page that a parser takes, and come back as they were. */
static void IN_21_label_injection(void **state)
{
	static const char evil[] = "x\"} 1\nfake_total{a=\"\\";
	struct bed b = {.opts = default_opts(TW_NAMES_OTEL)};
	char *huge = malloc((1 << 20) + 1);
	struct tw_span *s;

	(void)state;
	for (int i = 0; i < 1 << 20; i += 2)
		memcpy(huge + i, "\xC3\xBC", 2);
	huge[1 << 20] = '\0';
	memmove(huge + 1, huge, (1 << 20) - 1); /* so that 2048 falls into a character */
	huge[0] = '<';
	huge[(1 << 20) - 1] = '>';
	b.opts.dimension_count = 1;
	b.opts.dimensions[0] = (char *)(uintptr_t) "d";
	bed_open(&b, 8);
	for (int round = 0; round < 2; round++) {
		spans_resource(&b.spans, evil);
		s = spans_add(&b.spans, evil, TW_KIND_SERVER, TW_STATUS_UNSET, 0);
		spans_attribute(&b.spans, s, b.slot[0], text_value(evil));
		spans_resource(&b.spans, huge);
		spans_add(&b.spans, "h", TW_KIND_SERVER, TW_STATUS_UNSET, 0);
		spans_resource(&b.spans, "bad");
		s = spans_add(&b.spans, "a\xFF", TW_KIND_SERVER, TW_STATUS_UNSET, 0);
		s = spans_add(&b.spans, "a\xFE", TW_KIND_SERVER, TW_STATUS_UNSET, 0);
		bed_count(&b);
	}
	assert_in_range(tw_red_bytes(b.red), 1, 1 << 20);
	for (int f = 0; f < 2; f++) {
		struct page p = page_collect(tw_red_collect, b.red, (enum tw_expo_format)f);
		unsigned seen = 0;

		assert_null(strstr(p.text, "\nfake_total"));
		for (size_t i = 0; i < p.count; i++) {
			const struct sample *x = &p.samples[i];
			const char *service = sample_label(x, "service_name");
			if (service == NULL || strcmp(x->name, CALLS) != 0)
				continue;
			seen++;
			if (strcmp(service, evil) == 0) {
				assert_string_equal(sample_label(x, "span_name"), evil);
				assert_string_equal(sample_label(x, "d"), evil);
			} else if (strcmp(service, "bad") == 0) {
				/* Two names that print alike are one series, or no scraper took it.
				 */
				assert_string_equal(sample_label(x, "span_name"), "a\xEF\xBF\xBD");
				assert_string_equal(x->value, f == 0 ? "0" : "4");
			} else {
				assert_int_equal(strlen(service), 2047);
			}
		}
		assert_int_equal(seen, 3);
		page_free(&p);
	}
	free(huge);
	bed_close(&b);
}

static void a_request_of_many_resources_is_counted_exactly(void **state)
{
	enum { N = 5000 };
	struct bed b = {.opts = default_opts(TW_NAMES_OTEL)};
	static char services[97][16];
	uint32_t want[97] = {0};
	uint64_t x = 88172645463325252u;

	(void)state;
	b.opts.dimension_count = 1;
	b.opts.dimensions[0] = (char *)(uintptr_t) "n";
	bed_open(&b, N);
	for (int i = 0; i < 97; i++)
		snprintf(services[i], sizeof(services[i]), "s%d", i);
	for (int i = 0; i < N; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		uint32_t k = (uint32_t)(x % 97);
		/* Resources without a span, with one, with many, and with values that need the
		 * arena. */
		if (i == 0 || x % 5 < 3) {
			struct tw_resource *r = spans_resource(&b.spans, services[k]);
			if (x % 2 == 0)
				resource_attribute(r, b.slot[0], int_value(k));
		}
		k = (uint32_t)atoi(
		    (const char *)b.spans.req.resources[b.spans.req.resource_count - 1].slots[0].p +
		    1);
		spans_add(&b.spans, "op", TW_KIND_CLIENT, TW_STATUS_OK, i);
		want[k]++;
	}
	bed_count(&b);
	struct page p = bed_page(&b);
	for (int i = 0; i < 97; i++) {
		double got = 0;
		for (size_t k = 0; k < p.count; k++)
			if (strcmp(p.samples[k].name, CALLS) == 0 &&
			    strcmp(sample_label(&p.samples[k], "service_name"), services[i]) == 0)
				got += strtod(p.samples[k].value, NULL);
		assert_int_equal((int)got, want[i]);
	}
	page_free(&p);
	bed_close(&b);
}

static void no_buckets_and_the_most_buckets_work(void **state)
{
	static const uint32_t counts[] = {0, 1, TW_BUCKETS_MAX};

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct bed b = {.opts = default_opts(TW_NAMES_OTEL)};
		b.opts.bucket_count = counts[i];
		for (uint32_t k = 0; k < counts[i]; k++)
			b.opts.bucket_ns[k] = 1000 + k * 3; /* many within one power of two */
		bed_open(&b, 2000);
		spans_resource(&b.spans, "cart");
		for (uint32_t k = 0; k < 1500; k++)
			spans_add(&b.spans, "GET /", TW_KIND_SERVER, TW_STATUS_UNSET, k);
		bed_count(&b);
		struct page p = bed_page(&b);
		for (uint32_t k = 0; k < counts[i]; k++) {
			char series[256], value[16];
			snprintf(series, sizeof(series), BUCKET "{" CART ",le=\"0.00%u\"}",
			         1000 + k * 3);
			while (series[strlen(series) - 3] == '0') /* le has no trailing zeros */
				strcpy(series + strlen(series) - 3, "\"}");
			snprintf(value, sizeof(value), "%u", 1001 + k * 3);
			assert_value(&p, series, value);
		}
		assert_value(&p, BUCKET "{" CART ",le=\"+Inf\"}", "1500");
		page_free(&p);
		bed_close(&b);
	}
}

/* Whatever allocation fails, every span is counted: in its own series or in the overflow series. */
static void MEM_01_no_span_is_lost_without_memory(void **state)
{
	static char names[700][16];

	(void)state;
	for (uint64_t n = 1; n <= 12; n++) {
		struct bed b = {.opts = default_opts(TW_NAMES_OTEL)};
		b.opts.series_max = 650;
		b.opts.bucket_count = 1;
		b.opts.dimension_count = 1;
		b.opts.dimensions[0] = (char *)(uintptr_t) "d";
		bed_open(&b, 700);
		tw_mem_fail_at(n, n % 2 == 0);
		for (uint32_t i = 0; i < 700; i++) {
			if (i % 100 == 0)
				spans_resource(&b.spans, "cart");
			snprintf(names[i], sizeof(names[i]), "n%u", i);
			spans_attribute(
			    &b.spans,
			    spans_add(&b.spans, names[i], TW_KIND_SERVER, TW_STATUS_UNSET, 3 * ms),
			    b.slot[0], int_value(i));
		}
		bed_count(&b);
		tw_mem_fail_at(0, false);
		struct page p = bed_page(&b);
		assert_int_equal((int)page_sum(&p, CALLS), 700);
		assert_int_equal((int)page_sum(&p, COUNT), 700);
		page_free(&p);
		bed_close(&b);
	}
}

static void MEM_01_create_and_collect_fail_cleanly(void **state)
{
	struct tw_metrics_opts o = default_opts(TW_NAMES_BOTH);
	uint64_t failures = 0;

	(void)state;
	o.dimension_count = 2;
	o.dimensions[0] = (char *)(uintptr_t) "a.b";
	o.dimensions[1] = (char *)(uintptr_t) "a_b";
	for (uint64_t n = 1; n <= 40; n++) {
		tw_mem_fail_at(n, true);
		struct tw_red *r = tw_red_create(&o, 2, hash_key);
		tw_mem_fail_at(0, false);
		failures += r == NULL;
		tw_red_destroy(&r);
	}
	assert_in_range(failures, 10, 39);

	struct bed b = {.opts = o};
	bed_open(&b, 4);
	spans_resource(&b.spans, "cart");
	spans_add(&b.spans, "GET /", TW_KIND_SERVER, TW_STATUS_UNSET, 0);
	bed_count(&b);
	for (uint64_t n = 1; n <= 6; n++) {
		struct tw_buf page;
		struct tw_expo e = {.out = &page};
		tw_buf_init(&page, 0);
		tw_mem_fail_at(n, true);
		tw_red_collect(b.red, &e);
		tw_mem_fail_at(0, false);
		/* Never a page that is short without saying so. */
		assert_true(page.failed);
		tw_buf_deinit(&page);
	}
	bed_close(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_span_is_counted_under_its_labels),
	    cmocka_unit_test(every_kind_and_status_has_its_word),
	    cmocka_unit_test(le_is_printed_as_the_collector_prints_it),
	    cmocka_unit_test(only_the_names_asked_for_are_there),
	    cmocka_unit_test(a_new_series_begins_with_a_zero),
	    cmocka_unit_test(a_page_that_nobody_read_was_not_the_first),
	    cmocka_unit_test(dimensions_are_the_spans_else_the_resources_else_absent),
	    cmocka_unit_test(values_of_every_type_become_text),
	    cmocka_unit_test(the_same_text_of_another_type_is_the_same_series),
	    cmocka_unit_test(label_names_are_made_fit_and_unique),
	    cmocka_unit_test(LOAD_06_cardinality_explosion),
	    cmocka_unit_test(LOAD_06_huge_values_cannot_take_the_memory),
	    cmocka_unit_test(IN_15_time_nonsense),
	    cmocka_unit_test(a_sum_past_64_bits_stays_exact),
	    cmocka_unit_test(IN_21_label_injection),
	    cmocka_unit_test(a_request_of_many_resources_is_counted_exactly),
	    cmocka_unit_test(no_buckets_and_the_most_buckets_work),
	    cmocka_unit_test(MEM_01_no_span_is_lost_without_memory),
	    cmocka_unit_test(MEM_01_create_and_collect_fail_cleanly),
	};
	return cmocka_run_group_tests_name("metrics_red", tests, NULL, NULL);
}
