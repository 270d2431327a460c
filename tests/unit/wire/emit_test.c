#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "scan_fixture.h"
#include "tw/base/mem.h"

#define UNKNOWN TW_THRESHOLD_UNKNOWN

/* Scans what was emitted, with keys for the decision's attributes. */
struct read {
	struct tw_keytab *keys;
	struct tw_request r;
};

static void read_back(struct read *x, const struct tw_buf *out)
{
	struct tw_scan_opts o = {.key = {1, 2}, .spans_max = TW_REQUEST_SPANS_MAX};
	struct tw_error err;

	x->keys = tw_keytab_create();
	assert_non_null(x->keys);
	assert_int_equal(tw_keytab_add(x->keys, tw_slice_str("traceweir.rule")), 1);
	assert_int_equal(tw_keytab_add(x->keys, tw_slice_str("traceweir.reason")), 2);
	assert_int_equal(tw_keytab_add(x->keys, tw_slice_str("n")), 3);
	assert_int_equal(tw_keytab_seal(x->keys), 0);
	o.keys = x->keys;
	tw_request_init(&x->r);
	assert_int_equal(tw_otlp_scan(&o, tw_buf_slice(out), &x->r, &err), 0);
	assert_int_equal(tw_request_rejected(&x->r), 0);
}

static void read_done(struct read *x)
{
	tw_request_deinit(&x->r);
	tw_keytab_destroy(&x->keys);
}

/* The payload of a span that carries n, and tracestate ts if there is one. */
static struct tw_emit_span make_span(struct pb *b, int64_t n, const char *ts)
{
	struct tw_emit_span s = {0};
	size_t begin = b->n;

	put_ids(b);
	if (ts)
		pb_str(b, 3, ts);
	pb_attr_int(b, 9, "n", n);
	s.bytes.n = b->n - begin;
	s.bytes.p = (const uint8_t *)(uintptr_t)begin; /* made a pointer when all are there */
	s.tracestate = ts ? tw_slice_str(ts) : tw_slice(NULL, 0);
	return s;
}

static void settle(struct tw_emit_span *s, size_t count, const struct pb *b)
{
	for (size_t i = 0; i < count; i++)
		s[i].bytes.p = b->p + (uintptr_t)s[i].bytes.p;
}

/* What each trace_state becomes: own, threshold → written. NULL as written: nothing is. */
static void IN_19_thresholds_on_the_way_out(void **state)
{
	static const struct {
		const char *own;
		uint64_t threshold;
		const char *want;
	} rows[] = {
	    {NULL, 0, "ot=th:0"},
	    {NULL, UINT64_C(0xc) << 52, "ot=th:c"},
	    {NULL, UNKNOWN, ""},
	    {"", UNKNOWN, ""},
	    {"ot=th:8", 0, "ot=th:8"},
	    {"ot=th:8", UINT64_C(0xc) << 52, "ot=th:c"},
	    {"ot=th:c", UINT64_C(0x8) << 52, "ot=th:c"},
	    {"ot=th:8", UINT64_C(0x8) << 52, "ot=th:8"},
	    {"ot=th:8", UNKNOWN, ""},
	    {"ot=th:8,a=b", UNKNOWN, "a=b"},
	    {"a=b,ot=rv:0123456789abcd", UINT64_C(1) << 55, "ot=th:8;rv:0123456789abcd,a=b"},
	    {"a=b", UNKNOWN, "a=b"},
	    {"ot=th:XX,a=b", 0, "ot=th:XX,a=b"},
	    {"ot=th:XX,a=b", UNKNOWN, "ot=th:XX,a=b"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct tw_emit_patch patch = {tw_slice_str("errors"), tw_slice_str("root"),
		                              rows[i].threshold};
		struct tw_emit_span s[1];
		struct pb b = {0};
		struct tw_buf out;
		struct read x;
		const struct tw_span *v;

		s[0] = make_span(&b, 7, rows[i].own);
		settle(s, 1, &b);
		tw_buf_init(&out, 0);
		assert_true(tw_emit_bound(s, 1, &patch) > 0);
		assert_int_equal(tw_emit_trace(&out, s, 1, &patch), 0);
		assert_true(out.n <= tw_emit_bound(s, 1, &patch));
		read_back(&x, &out);
		assert_int_equal(x.r.span_count, 1);
		v = &x.r.spans[0];
		assert_true(tw_slice_eq(tw_slice(v->rest->tracestate, v->rest->tracestate_n),
		                        tw_slice_str(rows[i].want)));
		assert_int_equal(v->rest->slots_set, 2 | 4 | 8);
		assert_true(
		    tw_slice_eq(tw_slice(v->rest->slots[1].p, v->rest->slots[1].n), patch.rule));
		assert_true(
		    tw_slice_eq(tw_slice(v->rest->slots[2].p, v->rest->slots[2].n), patch.reason));
		assert_int_equal(v->rest->slots[3].i, 7);
		assert_memory_equal(v->bytes, s[0].bytes.p, s[0].bytes.n); /* spliced */
		read_done(&x);
		tw_buf_deinit(&out);
		pb_free(&b);
	}
}

static void no_patch_no_change(void **state)
{
	struct tw_emit_patch patch = {{NULL, 0}, {NULL, 0}, UNKNOWN};
	struct tw_emit_span s[1];
	struct pb b = {0};
	struct tw_buf out;

	(void)state;
	s[0] = make_span(&b, 1, "a=b");
	settle(s, 1, &b);
	tw_buf_init(&out, 0);
	assert_int_equal(tw_emit_trace(&out, s, 1, &patch), 0);
	assert_int_equal(out.n, b.n + 6);
	assert_memory_equal(out.p + 6, b.p, b.n);
	assert_int_equal(tw_emit_trace(&out, s, 0, &patch), 0);
	assert_int_equal(out.n, b.n + 6);
	tw_buf_deinit(&out);
	pb_free(&b);
}

/* `count` spans over `resources` resources of two scopes each: grouped in order of first sight, in
 * order within a group. */
static void check_grouping(size_t count, uint32_t resources)
{
	struct tw_emit_patch patch = {tw_slice_str("r"), {NULL, 0}, 0};
	struct tw_emit_span *s = malloc(count * sizeof(*s));
	char(*head)[16] = calloc(resources, sizeof(*head));
	struct pb b = {0};
	struct tw_buf out;
	struct read x;
	uint64_t seed = count;
	uint32_t next = 0;
	int64_t last[2] = {-1, -1};
	uint32_t scope = UINT32_MAX;

	assert_non_null(s);
	assert_non_null(head);
	for (size_t i = 0; i < count; i++) {
		uint32_t res;

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		res = (uint32_t)(seed >> 33) % resources;
		s[i] = make_span(&b, (int64_t)i, i % 3 ? "ot=th:8" : NULL);
		s[i].resource_key = res * 77777;
		s[i].scope_key = res * 2 + (seed >> 60 & 1);
		snprintf(head[res], sizeof(head[res]), "\x1a\x06r%05u", res);
		s[i].resource_head = tw_slice(head[res], 8);
		s[i].scope_head = tw_slice(s[i].scope_key & 1 ? "\x1a\x01"
		                                                "a"
		                                              : "\x1a\x01"
		                                                "b",
		                           3);
	}
	settle(s, count, &b);
	tw_buf_init(&out, 0);
	assert_int_equal(tw_emit_trace(&out, s, count, &patch), 0);
	assert_true(out.n <= tw_emit_bound(s, count, &patch));
	read_back(&x, &out);
	assert_int_equal(x.r.span_count, count);
	assert_true(x.r.resource_count <= resources);
	assert_true(x.r.scope_count <= 2 * resources);
	for (uint32_t i = 0; i < x.r.span_count; i++) {
		const struct tw_span *v = &x.r.spans[i];
		int64_t n = v->rest->slots[3].i;

		/* In a scope ascending; the first of each resource ascending. */
		if (v->scope == scope)
			assert_true(n > last[1]);
		if (i == 0 || x.r.scopes[v->scope].resource != x.r.scopes[v[-1].scope].resource) {
			assert_true(n > last[0]);
			last[0] = n;
		}
		last[1] = n;
		scope = v->scope;
		next++;
		assert_memory_equal(x.r.resources[x.r.scopes[scope].resource].head.p, "\x1a\x06r",
		                    3);
	}
	assert_int_equal(next, count);
	for (uint32_t i = 0; i < x.r.resource_count; i++)
		for (uint32_t k = 0; k < i; k++)
			assert_true(x.r.resources[i].hash != x.r.resources[k].hash);
	read_done(&x);
	tw_buf_deinit(&out);
	pb_free(&b);
	free(head);
	free(s);
}

static void grouped_by_resource_and_scope(void **state)
{
	(void)state;
	check_grouping(1, 1);
	check_grouping(7, 3);
	check_grouping(48, 5);
	check_grouping(49, 5);
	check_grouping(1000, 60);
	check_grouping(3000, 1);
}

static void refused_memory_leaves_the_buffer(void **state)
{
	struct tw_emit_patch patch = {tw_slice_str("r"), {NULL, 0}, 0};
	struct tw_emit_span s[100];
	struct pb b = {0};
	struct tw_buf out;
	int e = TW_ENOMEM;

	(void)state;
	for (int i = 0; i < 100; i++)
		s[i] = make_span(&b, i, NULL);
	settle(s, 100, &b);
	for (uint64_t n = 1; e; n++) {
		assert_true(n < 50);
		tw_buf_init(&out, 0);
		tw_buf_puts(&out, "xyz");
		tw_mem_fail_at(n, true);
		e = tw_emit_trace(&out, s, 100, &patch);
		tw_mem_fail_at(0, false);
		assert_true(e == 0 || (e == TW_ENOMEM && out.n == 3));
		tw_buf_deinit(&out);
	}
	pb_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(IN_19_thresholds_on_the_way_out),
	    cmocka_unit_test(no_patch_no_change),
	    cmocka_unit_test(grouped_by_resource_and_scope),
	    cmocka_unit_test(refused_memory_leaves_the_buffer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
