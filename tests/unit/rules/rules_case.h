/* A compiled rule file with a trace to try it on: spans are described by hand, matched, and folded
 * into a trace view as the buffer would. Header only, so that each test binary needs nothing else.
 */
#ifndef TW_TEST_RULES_CASE_H
#define TW_TEST_RULES_CASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "tw/rules.h"

struct rules_case {
	struct tw_keytab *keys;
	struct tw_rules *r;
	struct tw_matcher *m;
	struct tw_rates *rates;
	struct tw_diags diags;
	struct tw_value on_span[TW_KEYS_MAX], on_resource[TW_KEYS_MAX];
	struct tw_resource resource;
	struct tw_scope scope;
	struct tw_span span;
	struct tw_span_rest rest; /* the span's */
	uint64_t mask[TW_MASK_WORDS];
	struct tw_trace_view trace;
	struct tw_verdict v;
};

static inline int rules_case_try(struct rules_case *c, const char *yaml)
{
	int rc;

	memset(c, 0, sizeof(*c));
	c->keys = tw_keytab_create();
	assert_non_null(c->keys);
	rc = tw_rules_compile(tw_slice_str(yaml), c->keys, &c->diags, &c->r);
	return rc;
}

static inline void rules_case_print(const struct rules_case *c, const char *yaml)
{
	struct tw_buf b;

	tw_buf_init(&b, 0);
	tw_diags_render(&c->diags, "test", tw_slice_str(yaml), &b);
	print_error("%.*s\n", (int)b.n, (const char *)b.p);
	tw_buf_deinit(&b);
}

static inline void rules_case_trace(struct rules_case *c)
{
	memset(&c->trace, 0, sizeof(c->trace));
	c->trace.id = (struct tw_id128){UINT64_C(0x0123456789abcdef), UINT64_C(0x0f1e2d3c4b5a6978)};
	c->trace.randomness = c->trace.id.lo & ((UINT64_C(1) << 56) - 1);
	c->trace.start_ns = UINT64_MAX;
	c->trace.reason = TW_REASON_ROOT;
	c->trace.generation = 7;
}

static inline void rules_case_open(struct rules_case *c, const char *yaml)
{
	if (rules_case_try(c, yaml) != 0) {
		rules_case_print(c, yaml);
		fail_msg("does not compile");
	}
	assert_int_equal(tw_keytab_seal(c->keys), 0);
	c->m = tw_matcher_create(c->r);
	c->rates = tw_rates_create(c->r, NULL, NULL, 0);
	assert_non_null(c->m);
	assert_non_null(c->rates);
	rules_case_trace(c);
}

static inline void rules_case_close(struct rules_case *c)
{
	tw_rates_destroy(&c->rates);
	tw_matcher_destroy(&c->m);
	tw_rules_destroy(&c->r);
	tw_keytab_destroy(&c->keys);
}

/* A new span: a child, 10 ms, kind internal, on a resource of its own. */
static inline void rules_case_span(struct rules_case *c, const char *name)
{
	memset(&c->span, 0, sizeof(c->span));
	memset(&c->rest, 0, sizeof(c->rest));
	c->span.rest = &c->rest;
	memset(&c->scope, 0, sizeof(c->scope));
	c->resource.slots_set = 0;
	c->resource.slots = c->on_resource;
	c->rest.slots = c->on_span;
	/* What is not set must not be read: make it something that would match. */
	for (uint32_t i = 0; i < TW_KEYS_MAX; i++)
		c->on_span[i] = c->on_resource[i] =
		    (struct tw_value){.type = TW_VALUE_BOOL, .i = 1};
	c->rest.name = (const uint8_t *)name;
	c->rest.name_n = (uint32_t)strlen(name);
	c->span.kind = TW_KIND_INTERNAL;
	c->span.trace_id = c->trace.id;
	c->span.span_id = 1;
	c->span.parent_id = 2;
	c->span.start_ns = 1000;
	c->span.duration_ns = 10 * TW_NS_PER_MS;
	c->span.bytes_n = 100;
}

static inline void rules_case_root(struct rules_case *c)
{
	c->span.parent_id = 0;
	c->span.flags |= TW_SPAN_ROOT;
}

static inline void rules_case_set(struct rules_case *c, bool resource, const char *key,
                                  struct tw_value v)
{
	int slot = tw_keytab_find(c->keys, (const uint8_t *)key, strlen(key));

	if (slot < 0)
		return; /* the rules do not read it */
	(resource ? c->on_resource : c->on_span)[slot] = v;
	*(resource ? &c->resource.slots_set : &c->rest.slots_set) |= UINT64_C(1) << slot;
}

static inline struct tw_value text_value(const char *s)
{
	return (struct tw_value){
	    .type = TW_VALUE_STRING, .n = (uint32_t)strlen(s), .p = (const uint8_t *)s};
}

static inline struct tw_value int_value(int64_t i)
{
	return (struct tw_value){.type = TW_VALUE_INT, .i = i};
}

/* Matches the span as it is now and adds it to the trace. */
static inline void rules_case_add(struct rules_case *c)
{
	uint64_t end = c->span.start_ns + c->span.duration_ns;

	tw_rules_match_resource(c->r, c->m, &c->resource);
	tw_rules_match(c->r, c->m, &c->resource, &c->scope, &c->span, c->mask);
	for (uint32_t i = 0; i < TW_MASK_WORDS; i++)
		c->trace.mask[i] |= c->mask[i];
	if (c->span.start_ns < c->trace.start_ns)
		c->trace.start_ns = c->span.start_ns;
	if (end > c->trace.end_ns)
		c->trace.end_ns = end;
	c->trace.span_count++;
	c->trace.error_count += c->span.status == TW_STATUS_ERROR;
	c->trace.bytes += c->span.bytes_n;
	c->trace.has_root |= c->span.flags & TW_SPAN_ROOT;
}

static inline const char *rules_case_decide(struct rules_case *c, uint64_t now_ns)
{
	memset(&c->v, 0xA5, sizeof(c->v));
	tw_rules_decide(c->r, c->rates, &c->trace, now_ns, &c->v);
	return tw_rules_name(c->r, c->v.rule);
}

/* A rule file with one condition: "yes" keeps all, "no" the rest. */
static inline void rules_case_when(struct rules_case *c, const char *when)
{
	char yaml[2048];

	snprintf(yaml, sizeof(yaml),
	         "rules:\n  - name: yes\n    when: |-\n      %s\n    keep: all\n  - name: no\n    "
	         "keep: none\n",
	         when);
	rules_case_open(c, yaml);
}

#endif
