/* What is said to wrong rule files, and what the rule files that ship keep, against files of the
 * wanted text. */
#include "rules_case.h"

#include <dirent.h>
#include <stdlib.h>

#define FOLDER "tests/golden/rules/"

static void read_file(const char *path, struct tw_buf *out)
{
	FILE *f = fopen(path, "rb");
	char chunk[4096];
	size_t n;

	if (!f)
		fail_msg("%s: cannot be read", path);
	while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0)
		tw_buf_put(out, chunk, n);
	fclose(f);
	assert_false(out->failed);
}

static void compare(const char *path, const struct tw_buf *got)
{
	struct tw_buf wanted;

	if (getenv("TW_GOLDEN_WRITE")) {
		FILE *f = fopen(path, "wb");

		assert_non_null(f);
		assert_int_equal(fwrite(got->p, 1, got->n, f), got->n);
		fclose(f);
	}
	tw_buf_init(&wanted, 0);
	read_file(path, &wanted);
	if (!tw_slice_eq(tw_buf_slice(got), tw_buf_slice(&wanted)))
		fail_msg("%s differs; got:\n%.*s", path, (int)got->n, (const char *)got->p);
	tw_buf_deinit(&wanted);
}

static void try_file(const char *name)
{
	char path[256], expected[256];
	struct tw_keytab *keys = tw_keytab_create();
	struct tw_diags diags;
	struct tw_rules *r;
	struct tw_buf text, report;
	int rc;

	snprintf(path, sizeof(path), FOLDER "%s", name);
	snprintf(expected, sizeof(expected), FOLDER "%.*s.expected", (int)(strlen(name) - 5), name);
	tw_buf_init(&text, 0);
	tw_buf_init(&report, 0);
	read_file(path, &text);
	assert_non_null(keys);
	rc = tw_rules_compile(tw_buf_slice(&text), keys, &diags, &r);
	assert_int_equal(rc, diags.errors ? TW_EINVAL : 0);
	tw_diags_render(&diags, name, tw_buf_slice(&text), &report);
	assert_true(report.n > 0); /* each file here has something to say about it */
	compare(expected, &report);
	tw_rules_destroy(&r);
	tw_keytab_destroy(&keys);
	tw_buf_deinit(&text);
	tw_buf_deinit(&report);
}

static void messages(void **state)
{
	DIR *dir = opendir(FOLDER);
	uint32_t files = 0;

	(void)state;
	assert_non_null(dir);
	for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
		size_t n = strlen(e->d_name);

		if (n < 6 || strcmp(e->d_name + n - 5, ".yaml") != 0)
			continue;
		try_file(e->d_name);
		files++;
	}
	closedir(dir);
	assert_true(files >= 10);
}

/* ---- the files that ship ---- */

static void add(struct rules_case *c, const char *service, const char *name, enum tw_kind kind,
                uint64_t ms)
{
	rules_case_span(c, name);
	c->span.kind = (uint8_t)kind;
	c->span.duration_ns = ms * TW_NS_PER_MS;
	rules_case_set(c, true, "service.name", text_value(service));
}

static void root(struct rules_case *c, const char *name, uint64_t ms)
{
	add(c, "front", name, TW_KIND_SERVER, ms);
	rules_case_root(c);
}

static void quick(struct rules_case *c)
{
	root(c, "GET /", 40);
	rules_case_add(c);
	add(c, "cart", "get", TW_KIND_SERVER, 10);
	rules_case_add(c);
}

static void probe(struct rules_case *c)
{
	root(c, "GET /healthz", 2);
	rules_case_add(c);
}

static void failing_probe(struct rules_case *c)
{
	root(c, "GET /healthz", 2);
	c->span.status = TW_STATUS_ERROR;
	rules_case_add(c);
}

static void probe_with_a_child(struct rules_case *c)
{
	failing_probe(c);
	add(c, "db", "ping", TW_KIND_CLIENT, 1);
	rules_case_add(c);
}

static void failed_child(struct rules_case *c)
{
	quick(c);
	add(c, "payment", "charge", TW_KIND_CLIENT, 15);
	c->span.status = TW_STATUS_ERROR;
	rules_case_add(c);
}

static void status_500(struct rules_case *c)
{
	root(c, "GET /", 40);
	rules_case_set(c, false, "http.response.status_code", int_value(503));
	rules_case_add(c);
}

static void slow_request(struct rules_case *c)
{
	root(c, "GET /search", 1500);
	rules_case_add(c);
}

static void slow_consumer(struct rules_case *c)
{
	add(c, "mailer", "send", TW_KIND_CONSUMER, 31000);
	rules_case_add(c);
}

static void long_trace(struct rules_case *c)
{
	root(c, "GET /report", 100);
	rules_case_add(c);
	add(c, "report", "render", TW_KIND_INTERNAL, 6000);
	rules_case_add(c);
}

static void tenant_of_a_span(struct rules_case *c)
{
	root(c, "GET /", 40);
	rules_case_set(c, false, "tenant.id", text_value("acme"));
	rules_case_add(c);
}

static void tenant_of_a_resource(struct rules_case *c)
{
	quick(c);
	add(c, "cart", "get", TW_KIND_SERVER, 10);
	rules_case_set(c, true, "tenant.id", text_value("acme"));
	rules_case_add(c);
}

static void another_tenant(struct rules_case *c)
{
	root(c, "GET /", 40);
	rules_case_set(c, false, "tenant.id", text_value("other"));
	rules_case_set(c, true, "tenant.id", text_value("acme")); /* the span's own goes first */
	rules_case_add(c);
}

static const struct {
	const char *name;
	void (*build)(struct rules_case *c);
} traces[] = {
    {"quick", quick},
    {"probe", probe},
    {"failing probe", failing_probe},
    {"failing probe with a child", probe_with_a_child},
    {"failed child", failed_child},
    {"status 503, no error", status_500},
    {"request of 1.5 s", slow_request},
    {"consumer of 31 s, no root", slow_consumer},
    {"root of 100 ms, child of 6 s", long_trace},
    {"tenant acme on a span", tenant_of_a_span},
    {"tenant acme on a resource", tenant_of_a_resource},
    {"tenant other on acme's resource", another_tenant},
};

#define STEP_NS (TW_NS_PER_S / 200)

/* Each trace once with the lowest and once with the highest randomness; then, where there are
 * budgets, 20 s of the same failing, slow and quick traces from a loud and a quiet service. */
static void put_traces(struct rules_case *c, struct tw_buf *out)
{
	for (size_t i = 0; i < sizeof(traces) / sizeof(traces[0]); i++) {
		for (int high = 0; high < 2; high++) {
			const char *rule;

			rules_case_trace(c);
			traces[i].build(c);
			c->trace.service_hash = 1;
			c->trace.randomness = high ? (UINT64_C(1) << 56) - 1 : 0;
			rule = rules_case_decide(c, 1);
			tw_buf_printf(out,
			              "{\"trace\": \"%s\", \"randomness\": \"%s\", \"rule\": "
			              "\"%s\", \"keep\": %s, ",
			              traces[i].name, high ? "highest" : "lowest", rule,
			              c->v.keep ? "true" : "false");
			if (c->v.threshold == TW_THRESHOLD_UNKNOWN)
				tw_buf_puts(out, "\"th\": null}\n");
			else
				tw_buf_printf(out, "\"th\": \"%014llx\"}\n",
				              (unsigned long long)c->v.threshold);
		}
	}
}

static void put_load(struct rules_case *c, struct tw_buf *out)
{
	static void (*const builds[])(struct rules_case *) = {failed_child, long_trace, quick};
	static const char *const names[] = {"failed child", "root of 100 ms, child of 6 s",
	                                    "quick"};

	for (uint32_t b = 0; b < 3; b++) {
		uint64_t x = 88172645463325252u;
		uint32_t kept[2] = {0, 0};

		rules_case_trace(c);
		builds[b](c);
		for (uint32_t i = 0; i < 4000; i++) {
			bool quiet = i % 100 == 0;

			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			c->trace.randomness = x >> 8;
			c->trace.service_hash = quiet ? 1 : 2;
			rules_case_decide(c, (b + 1) * 1000 * TW_NS_PER_S + i * STEP_NS);
			kept[quiet] += c->v.keep;
		}
		tw_buf_printf(out,
		              "{\"load\": \"%s\", \"seconds\": 20, \"loud offered\": 3960, \"loud "
		              "kept\": %u, "
		              "\"quiet offered\": 40, \"quiet kept\": %u}\n",
		              names[b], kept[0], kept[1]);
	}
}

static void shipped(const char *name)
{
	char path[128], expected[128];
	struct tw_buf text, out;
	struct rules_case c;

	snprintf(path, sizeof(path), "rules/%s.yaml", name);
	snprintf(expected, sizeof(expected), FOLDER "%s.decisions", name);
	tw_buf_init(&text, 0);
	tw_buf_init(&out, 0);
	read_file(path, &text);
	tw_buf_putc(&text, '\0');
	rules_case_open(&c, (const char *)text.p);
	assert_int_equal(c.diags.count, 0);
	put_traces(&c, &out);
	put_load(&c, &out);
	compare(expected, &out);
	rules_case_close(&c);
	tw_buf_deinit(&text);
	tw_buf_deinit(&out);
}

static void ships_default(void **state)
{
	struct tw_buf text;

	(void)state;
	shipped("default");
	tw_buf_init(&text, 0); /* and the program carries the same bytes */
	read_file("rules/default.yaml", &text);
	assert_true(
	    tw_slice_eq(tw_buf_slice(&text), tw_slice(tw_rules_default, tw_rules_default_n)));
	tw_buf_deinit(&text);
}

static void ships_errors_and_slow(void **state)
{
	(void)state;
	shipped("errors-and-slow");
}

static void ships_service_budget(void **state)
{
	(void)state;
	shipped("service-budget");
}

static void ships_tenant(void **state)
{
	(void)state;
	shipped("tenant");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(messages),
	    cmocka_unit_test(ships_default),
	    cmocka_unit_test(ships_errors_and_slow),
	    cmocka_unit_test(ships_service_budget),
	    cmocka_unit_test(ships_tenant),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
