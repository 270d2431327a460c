#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "page.h"

static struct tw_buf page;

static int setup(void **state)
{
	(void)state;
	tw_buf_init(&page, 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tw_buf_deinit(&page);
	return 0;
}

static void assert_page(const char *want)
{
	tw_buf_putc(&page, '\0');
	assert_false(page.failed);
	assert_string_equal((const char *)page.p, want);
}

static void write_all_types(enum tw_expo_format format)
{
	struct tw_expo e = {.out = &page, .format = format};
	struct tw_label label = {"rule", tw_slice_str("slow")};
	struct tw_label le = {"le", tw_slice_str("+Inf")};

	tw_expo_family(&e, "a", TW_TYPE_COUNTER, "First.");
	tw_expo_u64(&e, "a", "", &label, 1, 7);
	tw_expo_family(&e, "b", TW_TYPE_GAUGE, "A \\ \"q\"\nline.");
	tw_expo_f64(&e, "b", "", NULL, 0, -0.25);
	tw_expo_family(&e, "c", TW_TYPE_HISTOGRAM, "Third.");
	tw_expo_u64(&e, "c", "_bucket", &le, 1, UINT64_MAX);
	tw_expo_family(&e, "d", TW_TYPE_INFO, "Fourth.");
	tw_expo_u64(&e, "d", "", NULL, 0, 1);
	tw_expo_end(&e);
}

static void text_format_is_as_0_0_4_says(void **state)
{
	(void)state;
	write_all_types(TW_EXPO_TEXT);
	assert_page("# HELP a_total First.\n# TYPE a_total counter\na_total{rule=\"slow\"} 7\n"
	            "# HELP b A \\\\ \"q\"\\nline.\n# TYPE b gauge\nb -0.25\n"
	            "# HELP c Third.\n# TYPE c histogram\n"
	            "c_bucket{le=\"+Inf\"} 18446744073709551615\n"
	            "# HELP d_info Fourth.\n# TYPE d_info gauge\nd_info 1\n");
}

static void openmetrics_is_as_1_0_0_says(void **state)
{
	(void)state;
	write_all_types(TW_EXPO_OPENMETRICS);
	assert_page("# HELP a First.\n# TYPE a counter\na_total{rule=\"slow\"} 7\n"
	            "# HELP b A \\\\ \\\"q\\\"\\nline.\n# TYPE b gauge\nb -0.25\n"
	            "# HELP c Third.\n# TYPE c histogram\n"
	            "c_bucket{le=\"+Inf\"} 18446744073709551615\n"
	            "# HELP d Fourth.\n# TYPE d info\nd_info 1\n# EOF\n");
}

static void an_explicit_suffix_is_not_doubled(void **state)
{
	struct tw_expo e = {.out = &page};

	(void)state;
	tw_expo_family(&e, "a", TW_TYPE_COUNTER, "A.");
	tw_expo_u64(&e, "a", "_total", NULL, 0, 1);
	assert_page("# HELP a_total A.\n# TYPE a_total counter\na_total 1\n");
}

static void label_values_are_escaped(void **state)
{
	static const struct {
		const char *raw;
		size_t n;
		const char *want;
	} cases[] = {
	    {"plain", 5, "plain"},
	    {"a\nb\"c\\d", 7, "a\\nb\\\"c\\\\d"},
	    {"\\n", 2, "\\\\n"},
	    {"grün €😀", 13, "grün €😀"},
	    {"x\0y", 3, "x\xEF\xBF\xBDy"},
	    {"\xC3", 1, "\xEF\xBF\xBD"},
	    {"\xC0\xAF", 2, "\xEF\xBF\xBD\xEF\xBF\xBD"},                 /* over-long */
	    {"\xED\xA0\x80", 3, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"}, /* surrogate */
	    {"\xF4\x90\x80\x80", 4, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
	    {"\"", 1, "\\\""},
	    {"", 0, ""},
	};
	struct tw_expo e = {.out = &page, .type = TW_TYPE_GAUGE};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct tw_label l = {"v", tw_slice(cases[i].raw, cases[i].n)};
		char want[256];
		snprintf(want, sizeof(want), "m{v=\"%s\"} 0\n", cases[i].want);
		tw_buf_clear(&page);
		tw_expo_u64(&e, "m", "", &l, 1, 0);
		assert_page(want);
	}
}

static void doubles_read_back_as_they_were(void **state)
{
	static const struct {
		double v;
		const char *want;
	} cases[] = {
	    {0, "0"},
	    {1, "1"},
	    {-1.5, "-1.5"},
	    {0.1, "0.1"},
	    {0.001, "0.001"},
	    {0.0001, "0.0001"},
	    {0.00001, "1e-05"},
	    {15000, "15000"},
	    {123456789.25, "123456789.25"},
	    {1e300, "1e+300"},
	    {1.0 / 3, "0.3333333333333333"},
	    {INFINITY, "+Inf"},
	    {-INFINITY, "-Inf"},
	    {NAN, "NaN"},
	    {5e-324, "5e-324"},
	    {1.7976931348623157e308, "1.7976931348623157e+308"},
	};
	struct tw_expo e = {.out = &page, .type = TW_TYPE_GAUGE};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char want[64];
		snprintf(want, sizeof(want), "m %s\n", cases[i].want);
		tw_buf_clear(&page);
		tw_expo_f64(&e, "m", "", NULL, 0, cases[i].v);
		assert_page(want);
	}
}

static void accept_header_picks_the_format(void **state)
{
	static const char *const text = "text/plain; version=0.0.4; charset=utf-8";
	static const char *const om = "application/openmetrics-text; version=1.0.0; charset=utf-8";
	static const char *const om_old =
	    "application/openmetrics-text; version=0.0.1; charset=utf-8";
	const struct {
		const char *accept, *type;
	} cases[] = {
	    {"", text},
	    {"*/*", text},
	    {"text/plain", text},
	    {"application/json", text},
	    {"application/openmetrics-text", om},
	    {"APPLICATION/OpenMetrics-Text ; Version=\"1.0.0\"", om},
	    {"application/openmetrics-text;version=0.0.1", om_old},
	    {"application/openmetrics-text;version=2.0.0, text/plain;q=0.1", text},
	    {"application/openmetrics-text;q=0.4,text/plain;q=0.5", text},
	    {"application/openmetrics-text;q=0", text},
	    {"application/openmetrics-text;q=x,text/plain;q=0.001", text},
	    {"text/plain;version=1.0.0;q=0.9,application/openmetrics-text;q=0.1", om},
	    {",;=,; q=1,application/openmetrics-text;q=1.000", om},
	    {"application/openmetrics-text;q=1.001", text},
	    /* Prometheus 2.42, then 3 with native histograms, then 3 cut short by the 256 bytes net
	       keeps */
	    {"application/openmetrics-text;version=1.0.0,application/"
	     "openmetrics-text;version=0.0.1;"
	     "q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
	     om},
	    {"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding="
	     "delimited;q=0.6,application/"
	     "openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
	     "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3",
	     om},
	    {"application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;versi",
	     om},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *type = NULL;
		enum tw_expo_format f = tw_expo_negotiate(tw_slice_str(cases[i].accept), &type);
		if (strcmp(type, cases[i].type) != 0)
			fail_msg("%s: %s", cases[i].accept, type);
		assert_int_equal(f, cases[i].type == text ? TW_EXPO_TEXT : TW_EXPO_OPENMETRICS);
	}
}

static void one(void *ctx, struct tw_expo *e)
{
	tw_expo_family(e, ctx, TW_TYPE_GAUGE, "One.");
	tw_expo_u64(e, ctx, "", NULL, 0, 1);
}

static void registry_asks_all_in_order_and_ends_the_page(void **state)
{
	struct tw_registry *r = tw_registry_create();
	struct tw_expo e = {.out = &page, .format = TW_EXPO_OPENMETRICS};
	char names[20][4];

	(void)state;
	for (int i = 0; i < 20; i++) {
		snprintf(names[i], sizeof(names[i]), "m%c", 'a' + i);
		assert_int_equal(tw_registry_add(r, one, names[i]), 0);
	}
	tw_registry_expose(r, &e);
	struct page p = page_parse(&page, e.format);
	assert_int_equal(p.count, 20);
	assert_true(strstr(p.text, "ma 1") < strstr(p.text, "mt 1"));
	page_free(&p);
	tw_registry_destroy(&r);
	assert_null(r);
}

static void process_families_are_real(void **state)
{
	struct page p = page_collect(tw_collect_process, NULL, TW_EXPO_TEXT);

	(void)state;
	assert_non_null(page_get(&p, "process_cpu_seconds_total"));
	assert_true(page_sum(&p, "process_resident_memory_bytes") > 100000);
	assert_true(page_sum(&p, "process_open_fds") >= 3);
	assert_true(page_sum(&p, "process_max_fds") >= page_sum(&p, "process_open_fds"));
	/* After 2023, and not later than a day from any test machine's clock. */
	assert_true(page_sum(&p, "process_start_time_seconds") > 1.67e9);
	page_free(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(text_format_is_as_0_0_4_says, setup, teardown),
	    cmocka_unit_test_setup_teardown(openmetrics_is_as_1_0_0_says, setup, teardown),
	    cmocka_unit_test_setup_teardown(an_explicit_suffix_is_not_doubled, setup, teardown),
	    cmocka_unit_test_setup_teardown(label_values_are_escaped, setup, teardown),
	    cmocka_unit_test_setup_teardown(doubles_read_back_as_they_were, setup, teardown),
	    cmocka_unit_test(accept_header_picks_the_format),
	    cmocka_unit_test_setup_teardown(registry_asks_all_in_order_and_ends_the_page, setup,
	                                    teardown),
	    cmocka_unit_test(process_families_are_real),
	};
	return cmocka_run_group_tests_name("metrics_expo", tests, NULL, NULL);
}
