/* The configuration: defaults, every kind of value, every kind of mistake. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tw/base/mem.h"
#include "tw/base/limits.h"
#include "tw/config.h"

static const char *get(void *ctx, const char *name)
{
	(void)ctx;
	if (strcmp(name, "TOKEN") == 0)
		return "s3cret";
	if (strcmp(name, "PORT") == 0)
		return "14317";
	return NULL;
}

static const struct tw_config_env env = {.get = get, .memory_limit = UINT64_C(10) << 30, .cpus = 4};

struct loaded {
	struct tw_config *c;
	struct tw_buf report;
	int rc;
};

static struct loaded load_sets(const char *text, const char *const *sets, uint32_t n)
{
	struct loaded l = {.c = NULL};

	tw_buf_init(&l.report, 0);
	l.rc = tw_config_load(tw_slice_str(text), "t.yaml", sets, n, &env, &l.c, &l.report);
	tw_buf_putc(&l.report, '\0');
	return l;
}

static struct loaded load(const char *text)
{
	return load_sets(text, NULL, 0);
}

static void done(struct loaded *l)
{
	tw_config_destroy(&l->c);
	tw_buf_deinit(&l->report);
}

static void good(const char *text)
{
	struct loaded l = load(text);

	if (l.rc != 0)
		fail_msg("%s\n%s", text, (const char *)l.report.p);
	done(&l);
}

/* The report must hold each of the words. */
static void bad(const char *text, const char *where, const char *what)
{
	struct loaded l = load(text);
	const char *report = (const char *)l.report.p;

	assert_int_equal(l.rc, TW_EINVAL);
	assert_null(l.c);
	if (strstr(report, where) == NULL || strstr(report, what) == NULL)
		fail_msg("%s\nwanted '%s' and '%s' in:\n%s", text, where, what, report);
	assert_non_null(strchr(report, '^'));
	done(&l);
}

static void test_defaults(void **state)
{
	struct loaded l = load("");

	(void)state;
	assert_int_equal(l.rc, 0);
	assert_null(l.c->rules_path);
	assert_int_equal(l.c->workers, 4);
	assert_int_equal(l.c->memory_max, env.memory_limit / 10 * 8);
	assert_string_equal(l.c->receive.otlp_grpc, "127.0.0.1:4317");
	assert_string_equal(l.c->receive.otlp_http, "127.0.0.1:4318");
	assert_string_equal(l.c->admin.listen, "127.0.0.1:9464");
	assert_int_equal(l.c->forward_count, 1);
	assert_int_equal(l.c->forward[0].kind, TW_DEST_FILE);
	assert_string_equal(l.c->forward[0].target, "kept.jsonl");
	assert_int_equal(l.c->forward[0].compression, TW_CODING_IDENTITY);
	assert_int_equal(l.c->buffer.trace_spans_max, 32000);
	assert_int_equal(l.c->metrics.bucket_count, 16);
	assert_int_equal(l.c->metrics.bucket_ns[15], 15 * TW_NS_PER_S);
	assert_int_equal(l.c->drain.most_ns, 20 * TW_NS_PER_S);
	/* The parts fit into the whole. */
	assert_true(l.c->buffer.bytes_max + l.c->receive.bodies_bytes_max +
	                l.c->buffer.verdict_bytes_max + l.c->forward[0].queue_bytes_max +
	                2 * l.c->workers * l.c->templates_bytes_max <=
	            l.c->memory_max);
	done(&l);
}

static void test_templates_are_a_part_of_the_memory(void **state)
{
	struct loaded l = load("workers: 1\nmemory_max: 1GiB\n");

	(void)state;
	assert_int_equal(l.c->templates_bytes_max, TW_TEMPLATES_BYTES_MAX);
	done(&l);
	l = load("workers: 4\nmemory_max: 1GiB\n");
	assert_int_equal(l.c->templates_bytes_max, (1u << 30) / 40 / 4);
	done(&l);
	l = load("workers: 200\nmemory_max: 1GiB\n");
	assert_int_equal(l.c->templates_bytes_max, TW_TEMPLATES_BYTES_MIN);
	done(&l);
}

static void test_values(void **state)
{
	struct loaded l =
	    load("workers: 2\nmemory_max: 1GiB\n"
	         "receive: { otlp_http: off, body_bytes_max: 8MiB }\n"
	         "forward:\n"
	         "  - name: a\n"
	         "    otlp_grpc: 127.0.0.1:${env:PORT}\n"
	         "    headers: { Authorization: 'Bearer ${env:TOKEN}' }\n"
	         "    compression: zstd\n"
	         "    retry_for: 5m\n"
	         "  - { name: b, otlp_http: 'https://h:1/x', when_full: refuse }\n"
	         "metrics: { names: both, dimensions: [http.request.method], buckets: [1ms, 1s] }\n"
	         "drain: { most: 5s }\nlog: { level: warn }\n");
	const struct tw_dest_opts *d;

	(void)state;
	if (l.rc != 0)
		fail_msg("%s", (const char *)l.report.p);
	d = l.c->forward;
	assert_null(l.c->receive.otlp_http);
	assert_string_equal(d[0].target, "127.0.0.1:14317");
	assert_string_equal(d[0].header_names[0], "authorization");
	assert_string_equal(d[0].header_values[0], "Bearer s3cret");
	assert_int_equal(d[0].compression, TW_CODING_ZSTD);
	assert_int_equal(d[0].retry_for_ns, 300 * TW_NS_PER_S);
	assert_int_equal(d[0].kind, TW_DEST_OTLP_GRPC);
	assert_int_equal(d[1].kind, TW_DEST_OTLP_HTTP);
	assert_true(d[1].tls.enabled);
	assert_int_equal(d[1].when_full, TW_FULL_REFUSE);
	assert_int_equal(d[1].compression, TW_CODING_GZIP);
	assert_int_equal(l.c->metrics.names, TW_NAMES_BOTH);
	assert_string_equal(l.c->metrics.dimensions[0], "http.request.method");
	assert_int_equal(l.c->metrics.bucket_count, 2);
	done(&l);
}

static void CFG_04_unknown_key(void **state)
{
	(void)state;
	bad("worker: 2\n", "t.yaml:1:1", "did you mean 'workers'?");
	bad("receive:\n  otlp_grcp: 1:2\n", "t.yaml:2:3", "did you mean 'otlp_grpc'?");
	bad("forward: [ { name: a, file: f, comprssion: gzip } ]\n", "t.yaml:1:", "compression");
	bad("zzz: 1\n", "t.yaml:1:1", "unknown key 'zzz'");
}

static void test_wrong_values(void **state)
{
	(void)state;
	bad("workers: many\n", "t.yaml:1:10", "whole number");
	bad("workers: 0\n", "t.yaml:1:10", "from 1 to");
	bad("workers: -1\n", "t.yaml:1:10", "whole number");
	bad("memory_max: 5\n", "t.yaml:1:13", "memory_max");
	bad("memory_max: big\n", "t.yaml:1:13", "64MiB");
	bad("drain: { most: 20 }\n", "t.yaml:1:16", "duration");
	bad("drain: 20s\n", "t.yaml:1:8", "keys and values");
	bad("receive: { otlp_grpc: 4317 }\n", "t.yaml:1:23", "HOST:PORT");
	bad("metrics: { names: prom }\n", "t.yaml:1:19", "otel, tempo or both");
	bad("metrics: { buckets: [1s, 1ms] }\n", "t.yaml:1:26", "rise");
	bad("metrics: { buckets: [] }\n", "t.yaml:1:21", "at least one");
	bad("metrics: { dimensions: x }\n", "t.yaml:1:24", "list");
	bad("forward: { name: a }\n", "t.yaml:1:10", "list");
	bad("forward: [ { file: f } ]\n", "t.yaml:1:12", "name");
	bad("forward: [ { name: a } ]\n", "t.yaml:1:12", "file, otlp_grpc or otlp_http");
	bad("forward: [ { name: a, file: f, otlp_grpc: 'h:1' } ]\n", "t.yaml:1:", "one of");
	bad("forward: [ { name: a, file: f }, { name: a, file: g } ]\n", "t.yaml:1:34", "two");
	bad("forward: [ { name: a, otlp_grpc: nowhere } ]\n", "t.yaml:1:34", "");
	bad("forward: [ { name: a, file: f, when_full: wait } ]\n", "t.yaml:1:", "refuse or drop");
	bad("forward: [ { name: a, file: f, headers: { 'a b': c } } ]\n", "t.yaml:1:", "header");
	bad("forward: [ { name: a, otlp_grpc: 'h:1', tls: { cert: c } } ]\n",
	    "t.yaml:1:", "belong together");
	bad("workers: 1\nworkers: 2\n", "t.yaml:2:1", "twice");
	bad("log: { level: loud }\n", "t.yaml:1:15", "debug");
	bad("rules: [a]\n", "t.yaml:1:8", "single value");
	bad("- a\n", "t.yaml:1:1", "keys and values");
}

static void CFG_02_undefined_env(void **state)
{
	struct loaded l;

	(void)state;
	bad("rules: '${env:NOWHERE}'\n", "t.yaml:1:8", "NOWHERE");
	bad("rules: '${env:NOWHERE'\n", "t.yaml:1:8", "brace");
	bad("rules: '${env:}'\n", "t.yaml:1:8", "name");
	l = load("rules: '${env:NOWHERE:-a.yaml}'\n");
	assert_int_equal(l.rc, 0);
	assert_string_equal(l.c->rules_path, "a.yaml");
	done(&l);
}

static void CFG_03_alias_bomb_and_depth(void **state)
{
	char deep[1024];
	size_t n = 0;

	(void)state;
	bad("a: &a [1]\nb: *a\n", "t.yaml:", "");
	n += (size_t)snprintf(deep, sizeof(deep), "rules: ");
	for (int i = 0; i < 200; i++)
		deep[n++] = '[';
	for (int i = 0; i < 200; i++)
		deep[n++] = ']';
	deep[n++] = '\n';
	deep[n] = '\0';
	bad(deep, "t.yaml:1:", "");
}

static void CFG_07_secrets_are_not_printed(void **state)
{
	struct loaded l =
	    load("forward: [ { name: a, file: f, headers: { k: '${env:TOKEN}' } } ]\n");
	struct tw_buf out;

	(void)state;
	tw_buf_init(&out, 0);
	tw_config_print(l.c, &out);
	tw_buf_putc(&out, '\0');
	assert_null(strstr((char *)out.p, "s3cret"));
	assert_non_null(strstr((char *)out.p, "***"));
	tw_buf_deinit(&out);
	done(&l);
	/* Nor in a message about the value. */
	l = load("forward: [ { name: a, file: f, headers: { 'b ad': '${env:TOKEN}' } } ]\n");
	assert_int_equal(l.rc, TW_EINVAL);
	assert_null(strstr((char *)l.report.p, "s3cret"));
	done(&l);
}

static void CFG_08_odd_files(void **state)
{
	char *large = malloc((2u << 20) + 1);
	struct loaded l;

	(void)state;
	good("");
	good("# nothing\n");
	good("workers: 2\r\ndrain:\r\n  most: 1s\r\n");
	good("\xEF\xBB\xBFworkers: 2\n");
	bad("receive:\n\totlp_grpc: off\n", "t.yaml:2:1", "tab");
	bad("workers: 1\n---\nworkers: 2\n", "t.yaml:2", "");
	memset(large, '#', 2u << 20);
	large[2u << 20] = '\0';
	l = load(large);
	assert_int_equal(l.rc, TW_EINVAL);
	done(&l);
	free(large);
	bad("workers: \xff\xfe\n", "t.yaml:1:", "");
}

static void test_sets(void **state)
{
	const char *sets[] = {"workers=3", "forward.0.otlp_grpc=127.0.0.1:1", "forward.0.name=x",
	                      "metrics.dimensions=[a, b]", "receive.otlp_http=off"};
	const char *wrong[] = {"forward.0.when_full=never"};
	const char *nowhere[] = {"workers.x=1"};
	struct loaded l = load_sets("workers: 8\n", sets, 5);

	(void)state;
	if (l.rc != 0)
		fail_msg("%s", (const char *)l.report.p);
	assert_int_equal(l.c->workers, 3);
	assert_int_equal(l.c->forward_count, 1);
	assert_string_equal(l.c->forward[0].name, "x");
	assert_int_equal(l.c->metrics.dimension_count, 2);
	assert_null(l.c->receive.otlp_http);
	done(&l);
	l = load_sets("forward: [ { name: a, file: f } ]\n", wrong, 1);
	assert_int_equal(l.rc, TW_EINVAL);
	assert_non_null(strstr((char *)l.report.p, "--set forward.0.when_full:1:1"));
	done(&l);
	l = load_sets("workers: 8\n", nowhere, 1);
	assert_int_equal(l.rc, TW_EINVAL);
	done(&l);
}

/* What is printed is a configuration that means the same. */
static void test_print_round_trip(void **state)
{
	struct loaded a =
	    load("workers: 2\nforward: [ { name: it's, otlp_http: 'http://h:1/p', tls: {} } ]\n"
	         "metrics: { dimensions: [a] }\nreceive: { otlp_http: off }\n");
	struct loaded b;
	struct tw_buf one, two;

	(void)state;
	tw_buf_init(&one, 0);
	tw_buf_init(&two, 0);
	tw_config_print(a.c, &one);
	tw_buf_putc(&one, '\0');
	b = load((char *)one.p);
	if (b.rc != 0)
		fail_msg("%s\n%s", (char *)one.p, (const char *)b.report.p);
	tw_config_print(b.c, &two);
	tw_buf_putc(&two, '\0');
	assert_string_equal((char *)one.p, (char *)two.p);
	tw_buf_deinit(&one);
	tw_buf_deinit(&two);
	done(&a);
	done(&b);
}

static void MEM_01_every_allocation_fails_once(void **state)
{
	const char *text = "forward: [ { name: a, file: f, headers: { a: b } } ]\nrules: x\n";
	const char *sets[] = {"workers=3"};
	uint32_t good_ones = 0;

	(void)state;
	for (uint64_t n = 1; n <= 200; n++) {
		struct loaded l = {.c = NULL};

		tw_buf_init(&l.report, 0);
		tw_mem_fail_at(n, false);
		l.rc = tw_config_load(tw_slice_str(text), "t.yaml", sets, 1, &env, &l.c, &l.report);
		tw_mem_fail_at(0, false);
		assert_true((l.rc == 0) == (l.c != NULL));
		good_ones += l.rc == 0;
		done(&l);
	}
	assert_true(good_ones > 0 && good_ones < 200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_defaults),
	    cmocka_unit_test(test_templates_are_a_part_of_the_memory),
	    cmocka_unit_test(test_values),
	    cmocka_unit_test(CFG_04_unknown_key),
	    cmocka_unit_test(test_wrong_values),
	    cmocka_unit_test(CFG_02_undefined_env),
	    cmocka_unit_test(CFG_03_alias_bomb_and_depth),
	    cmocka_unit_test(CFG_07_secrets_are_not_printed),
	    cmocka_unit_test(CFG_08_odd_files),
	    cmocka_unit_test(test_sets),
	    cmocka_unit_test(test_print_round_trip),
	    cmocka_unit_test(MEM_01_every_allocation_fails_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
