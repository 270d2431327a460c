/* Which rule takes a trace, with which threshold; late spans; what is known of the rules
 * themselves. */
#include "rules_case.h"

#define FULL (UINT64_C(1) << 56)

static void decide_with(struct rules_case *c, uint64_t randomness, const char *rule, bool keep,
                        uint64_t threshold)
{
	c->trace.randomness = randomness;
	assert_string_equal(rules_case_decide(c, 1), rule);
	assert_int_equal(c->v.keep, keep);
	assert_true(c->v.threshold == (threshold < FULL ? threshold : TW_THRESHOLD_UNKNOWN));
	assert_int_equal(c->v.reason, TW_REASON_ROOT);
	assert_int_equal(c->v.generation, 7);
	assert_int_equal(c->v.destinations, 0xFF);
}

static void one_share(const char *keep, uint64_t threshold)
{
	struct rules_case c;
	char yaml[128];

	snprintf(yaml, sizeof(yaml), "rules: [{name: r, keep: %s}]", keep);
	rules_case_open(&c, yaml);
	rules_case_span(&c, "s");
	rules_case_add(&c);
	if (threshold > 0)
		decide_with(&c, threshold - 1, "r", false, threshold);
	if (threshold < FULL)
		decide_with(&c, threshold, "r", true, threshold);
	decide_with(&c, FULL - 1, "r", threshold < FULL, threshold);
	rules_case_close(&c);
}

/* The thresholds of the specification's table. */
static void percentages(void **state)
{
	(void)state;
	one_share("100%", 0);
	one_share("75%", UINT64_C(0x40000000000000));
	one_share("50%", UINT64_C(0x80000000000000));
	one_share("25%", UINT64_C(0xc0000000000000));
	one_share("10%", UINT64_C(0xe6666666666666));
	one_share("1%", UINT64_C(0xfd70a3d70a3d71));
	one_share("0.1%", UINT64_C(0xffbe76c8b43958));
	one_share("0.100%", UINT64_C(0xffbe76c8b43958));
	one_share("0.000000000001%", FULL - 721);
	one_share("0%", FULL);
}

static void first_match_decides(void **state)
{
	struct rules_case c;

	(void)state;
	rules_case_open(&c, "rules:\n"
	                    "  - {name: none, when: '{ name = \"probe\" }', keep: none}\n"
	                    "  - {name: all, when: '{ status = error }', keep: all}\n"
	                    "  - {name: half, when: '{ kind = server }', keep: 50%}\n"
	                    "  - {name: rest, keep: 1%}\n");
	rules_case_span(&c, "x");
	rules_case_add(&c);
	decide_with(&c, 0, "rest", false, UINT64_C(0xfd70a3d70a3d71));
	decide_with(&c, FULL - 1, "rest", true, UINT64_C(0xfd70a3d70a3d71));
	c.span.kind = TW_KIND_SERVER;
	rules_case_add(&c);
	decide_with(&c, FULL - 1, "half", true, FULL / 2);
	decide_with(&c, FULL / 2 - 1, "half", false, FULL / 2); /* P% decides: it does not go on */
	c.span.status = TW_STATUS_ERROR;
	rules_case_add(&c);
	decide_with(&c, 0, "all", true, 0);
	rules_case_span(&c, "probe");
	rules_case_add(&c);
	decide_with(&c, FULL - 1, "none", false, FULL);
	rules_case_close(&c);
}

static void what_a_file_says(void **state)
{
	struct rules_case c;

	(void)state;
	rules_case_open(&c, "wait: {root: 1500ms, idle: never, most: 1m30s}\n"
	                    "rules:\n"
	                    "  - name: a\n"
	                    "    when: |\n"
	                    "      { status = error }\n"
	                    "        ||   { kind = server }\n"
	                    "    keep: 20  spans per 1s\n"
	                    "  - {name: b, keep: all}\n");
	assert_int_equal(tw_rules_count(c.r), 2);
	assert_string_equal(tw_rules_name(c.r, 0), "a");
	assert_string_equal(tw_rules_text(c.r, 0),
	                    "keep: 20 spans per 1s when { status = error } || { kind = server }");
	assert_string_equal(tw_rules_text(c.r, 1), "keep: all");
	assert_string_equal(tw_rules_name(c.r, 2), "");
	assert_true(tw_rules_wait(c.r).root_ns == 1500 * TW_NS_PER_MS);
	assert_true(tw_rules_wait(c.r).idle_ns == TW_NEVER);
	assert_true(tw_rules_wait(c.r).most_ns == 90 * TW_NS_PER_S);
	rules_case_close(&c);
	rules_case_open(&c, "rules: [{name: b, keep: all}]\nwait: {idle: 5s}\n");
	assert_true(tw_rules_wait(c.r).root_ns == 6 * TW_NS_PER_S);
	assert_true(tw_rules_wait(c.r).idle_ns == 5 * TW_NS_PER_S);
	assert_true(tw_rules_wait(c.r).most_ns == 120 * TW_NS_PER_S);
	rules_case_close(&c);
}

static bool late(struct rules_case *c, const char *name, uint8_t status, uint64_t duration_ns)
{
	rules_case_trace(c);
	rules_case_span(c, name);
	c->span.status = status;
	c->span.duration_ns = duration_ns;
	rules_case_add(c);
	memset(&c->v, 0xA5, sizeof(c->v));
	return tw_rules_late(c->r, &c->trace, &c->v);
}

static void late_spans(void **state)
{
	struct rules_case c;

	(void)state;
	rules_case_open(
	    &c,
	    "rules:\n"
	    "  - {name: probes, when: '{ name = \"probe\" }', keep: none}\n"
	    "  - {name: short, when: '{ trace:spanCount = 1 && name = \"short\" }', keep: all}\n"
	    "  - {name: rootless, when: '{ !trace:hasRoot && name = \"short\" }', keep: all}\n"
	    "  - {name: budget, when: '{ name = \"budget\" }', keep: 5 per 1s}\n"
	    "  - {name: errors, when: '{ status = error }', keep: all}\n"
	    "  - {name: slow, when: '{ trace:duration > 2s }', keep: all}\n"
	    "  - {name: rest, keep: 1%}\n");
	assert_true(late(&c, "x", TW_STATUS_ERROR, 1));
	assert_string_equal(tw_rules_name(c.r, c.v.rule), "errors");
	assert_true(c.v.keep);
	assert_int_equal(c.v.reason, TW_REASON_LATE);
	assert_int_equal(c.v.threshold, 0);
	assert_int_equal(c.v.generation, 7);
	assert_false(late(&c, "x", TW_STATUS_OK, 1));
	/* This span alone makes the trace longer than 2 s, however much of it there was. */
	assert_true(late(&c, "x", TW_STATUS_OK, 3 * TW_NS_PER_S));
	assert_string_equal(tw_rules_name(c.r, c.v.rule), "slow");
	/* Its trace may have had other spans, and a root. */
	assert_false(late(&c, "short", TW_STATUS_OK, 1));
	/* The rule that stands before still does. */
	assert_false(late(&c, "probe", TW_STATUS_ERROR, 1));
	assert_true(late(&c, "budget", TW_STATUS_ERROR, 1));
	rules_case_close(&c);
}

/* Many rules that ask the same things need few bits, and each its own answer. */
static void thousand_rules(void **state)
{
	struct rules_case c;
	struct tw_buf b;
	char expected[16];

	(void)state;
	tw_buf_init(&b, 0);
	tw_buf_puts(&b, "rules:\n");
	for (int i = 0; i < 1000; i++)
		tw_buf_printf(
		    &b,
		    "  - {name: r%d, when: '{ span.tenant =~ \"t%d|[x]%d\" && name = \"op%d\" } && "
		    "{ trace:spanCount = %d }', keep: all}\n",
		    i, i % 10, i % 10, i % 12, i + 1);
	tw_buf_puts(&b, "  - {name: rest, keep: none}\n");
	tw_buf_putc(&b, '\0');
	rules_case_open(&c, (const char *)b.p);
	for (int i = 0; i < 1000; i += 7) {
		char name[8], tenant[8];

		rules_case_trace(&c);
		snprintf(name, sizeof(name), "op%d", i % 12);
		snprintf(tenant, sizeof(tenant), "t%d", i % 10);
		rules_case_span(&c, name);
		rules_case_set(&c, false, "tenant", text_value(tenant));
		rules_case_add(&c);
		c.trace.span_count = (uint32_t)i + 1;
		snprintf(expected, sizeof(expected), "r%d", i);
		assert_string_equal(rules_case_decide(&c, 1), expected);
		c.trace.span_count = (uint32_t)i + 2;
		assert_string_equal(rules_case_decide(&c, 1), "rest");
	}
	rules_case_close(&c);
	tw_buf_deinit(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(percentages),      cmocka_unit_test(first_match_decides),
	    cmocka_unit_test(what_a_file_says), cmocka_unit_test(late_spans),
	    cmocka_unit_test(thousand_rules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
