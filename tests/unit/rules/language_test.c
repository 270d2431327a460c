/* What conditions mean: each row is tried on two traces. */
#include "rules_case.h"

/* One child span with everything, no root. */
static void add_child(struct rules_case *c)
{
	static const uint8_t letters[] = "\x0a\x03\x0a\x01"
	                                 "a"
	                                 "\x0a\x03\x0a\x01"
	                                 "b";
	static const uint8_t numbers[] = "\x0a\x02\x18\x01\x0a\x02\x18\x02\x0a\x02\x18\x03";

	rules_case_span(c, "GET /cart");
	c->span.kind = TW_KIND_SERVER;
	c->span.status = TW_STATUS_ERROR;
	c->rest.status_message = (const uint8_t *)"boom";
	c->rest.status_message_n = 4;
	c->span.duration_ns = 250 * TW_NS_PER_MS;
	c->span.span_id = UINT64_C(0x00f067aa0ba902b7);
	c->span.parent_id = UINT64_C(0x53995c3f42cd8ad8);
	c->scope.name = tw_slice_str("lib");
	c->scope.version = tw_slice_str("1.2.3");
	rules_case_set(c, false, "code", int_value(500));
	rules_case_set(c, false, "neg", int_value(-3));
	rules_case_set(c, false, "big", int_value(INT64_C(9007199254740993)));
	rules_case_set(c, false, "ratio", (struct tw_value){.type = TW_VALUE_DOUBLE, .d = 0.5});
	rules_case_set(c, false, "yes", (struct tw_value){.type = TW_VALUE_BOOL, .i = 1});
	rules_case_set(c, false, "no", (struct tw_value){.type = TW_VALUE_BOOL, .i = 0});
	rules_case_set(c, false, "text", text_value("banana"));
	rules_case_set(c, false, "empty", text_value(""));
	rules_case_set(c, false, "both", text_value("span"));
	rules_case_set(c, false, "a b", int_value(1));
	rules_case_set(c, false, "void", (struct tw_value){.type = TW_VALUE_NONE});
	rules_case_set(
	    c, false, "letters",
	    (struct tw_value){.type = TW_VALUE_ARRAY, .n = sizeof(letters) - 1, .p = letters});
	rules_case_set(
	    c, false, "numbers",
	    (struct tw_value){.type = TW_VALUE_ARRAY, .n = sizeof(numbers) - 1, .p = numbers});
	rules_case_set(c, false, "nothing", (struct tw_value){.type = TW_VALUE_ARRAY});
	rules_case_set(c, true, "service.name", text_value("checkout"));
	rules_case_set(c, true, "both", text_value("resource"));
	rules_case_set(c, true, "limit", int_value(400));
	rules_case_set(c, true, "void", text_value("filled"));
	rules_case_add(c);
}

static void add_root(struct rules_case *c)
{
	rules_case_span(c, "start");
	rules_case_root(c);
	c->span.kind = TW_KIND_CLIENT;
	c->span.status = TW_STATUS_OK;
	c->span.start_ns = 500;
	c->span.duration_ns = TW_NS_PER_S;
	rules_case_set(c, true, "service.name", text_value("front"));
	rules_case_add(c);
}

struct row {
	const char *when;
	bool child; /* the child alone */
	bool whole; /* the child and its root */
};

static void try_rows(const struct row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct rules_case c;

		rules_case_when(&c, rows[i].when);
		for (int whole = 0; whole < 2; whole++) {
			bool expected = whole ? rows[i].whole : rows[i].child;

			rules_case_trace(&c);
			add_child(&c);
			if (whole)
				add_root(&c);
			if ((strcmp(rules_case_decide(&c, 1), "yes") == 0) != expected)
				fail_msg("%s: expected %d for the %s", rows[i].when, expected,
				         whole ? "whole trace" : "child alone");
		}
		assert_int_equal(tw_matcher_errors(c.m), 0);
		rules_case_close(&c);
	}
}
#define TRY(rows) try_rows(rows, sizeof(rows) / sizeof((rows)[0]))

static void intrinsics(void **state)
{
	static const struct row rows[] = {
	    {"{ }", true, true},
	    {"{ true }", true, true},
	    {"{ false }", false, false},
	    {"{ status = error }", true, true},
	    {"{ status != error }", false, true},
	    {"{ status = ok }", false, true},
	    {"{ status = unset }", false, false},
	    {"{ error = status }", true, true},
	    {"{ kind = server }", true, true},
	    {"{ kind != server }", false, true},
	    {"{ kind = consumer }", false, false},
	    {"{ name = \"GET /cart\" }", true, true},
	    {"{ name != \"GET /cart\" }", false, true},
	    {"{ span:name = `GET /cart` }", true, true},
	    {"{ name < \"H\" && name > \"G\" }", true, true},
	    {"{ name >= \"start\" }", false, true},
	    {"{ name =~ \"GET /.*\" }", true, true},
	    {"{ name =~ \"GET\" }", false, false},
	    {"{ name =~ \"start\" }", false, true},
	    {"{ name !~ \"GET /.*\" }", false, true},
	    {"{ name =~ `(?i)get /\\w+` }", true, true},
	    {"{ statusMessage = \"boom\" }", true, true},
	    {"{ statusMessage = \"\" }", false, true},
	    {"{ duration = 250ms }", true, true},
	    {"{ duration != 250ms }", false, true},
	    {"{ duration > 250ms }", false, true},
	    {"{ duration >= 250ms && duration <= 0.25s }", true, true},
	    {"{ duration < 250ms }", false, false},
	    {"{ 1s <= duration }", false, true},
	    {"{ duration > 249999999.5 }", true, true},
	    {"{ duration < 250000000.5 && duration > 250000000 - 1 }", true, true},
	    {"{ duration > -1s }", true, true},
	    {"{ duration < -1s }", false, false},
	    {"{ duration = 0.5 }", false, false},
	    {"{ span:duration < 1h30m }", true, true},
	    {"{ span:id = \"00f067aa0ba902b7\" }", true, true},
	    {"{ span:id != \"00F067AA0BA902B7\" }", false, true},
	    {"{ span:parentID = \"53995c3f42cd8ad8\" }", true, true},
	    {"{ span:parentID != \"53995c3f42cd8ad8\" }", false, false},
	    {"{ span:parentID = nil }", false, true},
	    {"{ span:parentID != nil }", true, true},
	    {"{ instrumentation:name = \"lib\" }", true, true},
	    {"{ instrumentation:version =~ \"1\\\\..*\" }", true, true},
	};

	(void)state;
	TRY(rows);
}

static void attributes(void **state)
{
	static const struct row rows[] = {
	    {"{ span.code = 500 }", true, true},
	    {"{ span.code != 500 }", false, false},
	    {"{ span.code >= 500.0 }", true, true},
	    {"{ span.code > 499.5 && span.code < 500.5 }", true, true},
	    {"{ span.code = \"500\" }", false, false},
	    {"{ span.code != \"500\" }", false, false},
	    {"{ span.code = true }", false, false},
	    {"{ span.code != true }", false, false},
	    {"{ span.code =~ \"500\" }", false, false},
	    {"{ span.code !~ \"4..\" }", false, false},
	    {"{ span.code > 499ns }", true, true},
	    {"{ span.neg < 0 && span.neg = -3 }", true, true},
	    {"{ span.big > 9007199254740992.0 }", true, true},
	    {"{ span.big = 9007199254740992.0 }", false, false},
	    {"{ span.ratio = 0.5 && span.ratio < 1 }", true, true},
	    {"{ span.ratio > 0 && span.ratio != 1 }", true, true},
	    {"{ span.yes }", true, true},
	    {"{ span.yes = true }", true, true},
	    {"{ span.yes != true }", false, false},
	    {"{ !span.yes }", false, false},
	    {"{ !span.no }", true, true},
	    {"{ !span.missing }", false, false},
	    {"{ !(span.missing = true) }", true, true},
	    {"{ span.text }", false, false},
	    {"{ span.text = \"banana\" }", true, true},
	    {"{ span.text > \"apple\" && span.text <= \"banana\" }", true, true},
	    {"{ span.text < \"banan\" }", false, false},
	    {"{ span.text =~ \"ban(an)*a\" }", true, true},
	    {"{ span.text =~ \"anan\" }", false, false},
	    {"{ span.text !~ \"anan\" }", true, true},
	    {"{ span.empty = \"\" }", true, true},
	    {"{ span.empty =~ \".*\" }", true, true},
	    {"{ span.\"a b\" = 1 }", true, true},
	    {"{ .\"a b\" = 1 }", true, true},
	    {"{ 500 = span.code }", true, true},
	    {"{ 499 < span.code }", true, true},
	    {"{ resource.service.name = \"checkout\" }", true, true},
	    {"{ resource.service.name = \"front\" }", false, true},
	    {"{ resource.service.name != \"front\" }", true, true},
	    {"{ resource.code = 500 }", false, false},
	    {"{ .both = \"span\" }", true, true},
	    {"{ .both = \"resource\" }", false, false},
	    {"{ .both != \"resource\" }", true, true},
	    {"{ resource.both = \"resource\" }", true, true},
	    {"{ .limit = 400 }", true, true},
	    {"{ span.limit = 400 }", false, false},
	    {"{ .service.name =~ \"ch.*|nobody\" }", true, true},
	};

	(void)state;
	TRY(rows);
}

/* A missing attribute makes every comparison false; only nil asks for it. */
static void nil(void **state)
{
	static const struct row rows[] = {
	    {"{ span.missing = \"x\" }", false, false},
	    {"{ span.missing != \"x\" }", false, false},
	    {"{ span.missing !~ \"x.*\" }", false, false},
	    {"{ span.missing < 1 }", false, false},
	    {"{ span.missing >= 1 }", false, false},
	    {"{ span.missing = nil }", true, true},
	    {"{ nil = span.missing }", true, true},
	    {"{ span.missing != nil }", false, false},
	    {"{ span.code != nil }", true, true},
	    {"{ span.code = nil }", false, true},
	    {"{ resource.limit != nil }", true, true},
	    {"{ .limit = nil }", false, true},
	    {"{ .both != nil }", true, true},
	    {"{ span.void = nil && span.void != \"x\" }", false, false},
	    {"{ span.void = nil }", true, true},
	    {"{ .void = \"filled\" }", true, true},
	    {"{ !(span.missing = 1) && !(span.missing != 1) }", true, true},
	};

	(void)state;
	TRY(rows);
}

static void arrays(void **state)
{
	static const struct row rows[] = {
	    {"{ span.letters = \"a\" }", true, true},
	    {"{ span.letters = \"b\" }", true, true},
	    {"{ span.letters = \"c\" }", false, false},
	    {"{ span.letters != \"c\" }", true, true},
	    {"{ span.letters != \"a\" }", false, false},
	    {"{ span.letters =~ \"[b-z]\" }", true, true},
	    {"{ span.letters !~ \"[b-z]\" }", false, false},
	    {"{ span.letters !~ \"[c-z]\" }", true, true},
	    {"{ span.letters = 1 }", false, false},
	    {"{ span.letters != 1 }", false, false},
	    {"{ span.numbers > 2 }", true, true},
	    {"{ span.numbers > 3 }", false, false},
	    {"{ span.numbers = 1 && span.numbers = 3 }", true, true},
	    {"{ span.numbers != 4 }", true, true},
	    {"{ span.nothing = 1 }", false, false},
	    {"{ span.numbers > span.ratio * 5 }", true, true},
	    {"{ span.numbers > span.ratio * 6 }", false, false},
	    {"{ span.numbers != nil }", true, true},
	};

	(void)state;
	TRY(rows);
}

static void arithmetic(void **state)
{
	static const struct row rows[] = {
	    {"{ 1 + 2 * 3 = 7 }", true, true},
	    {"{ (1 + 2) * 3 = 9 }", true, true},
	    {"{ 2 ^ 3 = 8 }", true, true},
	    {"{ 2 ^ 3 ^ 2 = 512 }", true, true},
	    {"{ -2 ^ 2 = 4 }", true, true},
	    {"{ 7 / 2 = 3 }", true, true},
	    {"{ 7.0 / 2 = 3.5 }", true, true},
	    {"{ 7 % 4 = 3 }", true, true},
	    {"{ 10 - 2 - 3 = 5 }", true, true},
	    {"{ --3 = 3 }", true, true},
	    {"{ 9223372036854775807 + 1 > 9223372036854775807 }", true, true},
	    {"{ duration > 2 * 100ms + 49ms }", true, true},
	    {"{ duration / 2 = 125ms }", true, true},
	    {"{ duration * 2 > 1s }", false, true},
	    {"{ span.code / 100 = 5 }", true, true},
	    {"{ span.code % 100 = 0 }", true, true},
	    {"{ span.code > resource.limit }", true, true},
	    {"{ span.code - .limit = 100 }", true, true},
	    {"{ -span.code < 0 }", true, true},
	    {"{ span.code / 0 = 1 }", false, false},
	    {"{ span.code / 0 != 1 }", false, false},
	    {"{ span.code % 0 != 1 }", false, false},
	    {"{ span.missing + 1 != 1 }", false, false},
	    {"{ span.text + 1 != 1 }", false, false},
	    {"{ span.ratio ^ 2 = 0.25 }", true, true},
	    {"{ span.both != resource.both }", true, true},
	    {"{ .both != resource.both }", true, true},
	    {"{ .limit = resource.limit }", true, true},
	    {"{ span.text = name }", false, false},
	    {"{ name != statusMessage }", true, true},
	    {"{ 1 = 2 }", false, false},
	    {"{ \"a\" < \"b\" }", true, true},
	};

	(void)state;
	TRY(rows);
}

/* && binds tighter than ||, in braces and between them; ! tighter than comparisons. */
static void combination(void **state)
{
	static const struct row rows[] = {
	    {"{ status = error && kind = server }", true, true},
	    {"{ status = error && kind = client }", false, false},
	    {"{ status = error } && { kind = client }", false, true},
	    {"{ status = ok && kind = client } || { name = \"none\" }", false, true},
	    {"{ true || false && false }", true, true},
	    {"{ false && false || true }", true, true},
	    {"{ (true || false) && false }", false, false},
	    {"{ status = error || name = \"x\" && name = \"y\" }", true, true},
	    {"{ (status = error || name = \"x\") && name = \"y\" }", false, false},
	    {"{ status = error } || { name = \"x\" } && { name = \"y\" }", true, true},
	    {"({ status = error } || { name = \"x\" }) && { name = \"y\" }", false, false},
	    {"{ name = \"y\" } && { name = \"x\" } || { status = error }", true, true},
	    {"{ !(status = error) }", false, true},
	    {"{ !(status = error && kind = server) }", false, true},
	    {"{ !(!(status = error)) }", true, true},
	    {"{ !(status = error || kind = client) }", false, false},
	    {"{ status = error && !(name = \"x\" || duration > 1s) }", true, true},
	    {"(({ status = error }))", true, true},
	    {"{ status = error && status != error }", false, false},
	    {"{ } && { status = ok }", false, true},
	    {"{ false } || { status = ok }", false, true},
	};

	(void)state;
	TRY(rows);
}

static void of_the_trace(void **state)
{
	static const struct row rows[] = {
	    {"{ trace:spanCount = 1 }", true, false},
	    {"{ trace:spanCount > 1 }", false, true},
	    {"{ trace:errorCount >= 1 }", true, true},
	    {"{ trace:errorCount = 0 }", false, false},
	    {"{ trace:bytes < 150 }", true, false},
	    {"{ trace:duration > 500ms }", false, true},
	    {"{ traceDuration = 250ms }", true, false},
	    {"{ trace:duration / 2 < 200ms }", true, false},
	    {"{ trace:bytes / trace:spanCount = 100 }", true, true},
	    {"{ trace:hasRoot }", false, true},
	    {"{ !trace:hasRoot }", true, false},
	    {"{ trace:hasRoot = false }", true, false},
	    {"{ trace:rootName = \"start\" }", false, true},
	    {"{ rootName != \"start\" }", false, false},
	    {"{ trace:rootName != \"other\" }", false, true},
	    {"{ trace:rootName =~ \"st.*\" }", false, true},
	    {"{ trace:rootName !~ \"x.*\" }", false, true},
	    {"{ trace:rootName = nil }", true, false},
	    {"{ trace:rootName != nil }", false, true},
	    {"{ trace:rootService = \"front\" }", false, true},
	    {"{ rootServiceName = \"checkout\" }", false, false},
	    {"{ trace:rootService != \"checkout\" }", false, true},
	    {"{ trace:rootService = nil }", true, false},
	    {"{ trace:id = \"0123456789abcdef0f1e2d3c4b5a6978\" }", true, true},
	    {"{ trace:id != \"0123456789abcdef0f1e2d3c4b5a6978\" }", false, false},
	    {"{ trace:id = \"0f1e2d3c4b5a69780123456789abcdef\" }", false, false},
	    /* Residues: what is left of the expression for each outcome of the trace's side. */
	    {"{ trace:spanCount > 1 && status = error }", false, true},
	    {"{ trace:spanCount > 1 || status = ok }", false, true},
	    {"{ trace:spanCount = 1 || kind = client }", true, true},
	    {"{ !(trace:spanCount = 1 && status = error) }", false, true},
	    {"{ trace:spanCount = 1 && kind = server || trace:spanCount = 2 && kind = client }",
	     true, true},
	    {"{ trace:spanCount = 1 && kind = client || trace:spanCount = 2 && kind = consumer }",
	     false, false},
	    {"{ trace:rootService = \"front\" && status = error }", false, true},
	    {"{ trace:rootService = \"front\" && trace:rootName = \"start\" && trace:errorCount = "
	     "1 && "
	     "trace:hasRoot && kind = server }",
	     false, true},
	    {"{ trace:spanCount > 1 && trace:spanCount > 1 && status = error }", false, true},
	};

	(void)state;
	TRY(rows);
}

/* One span must satisfy all of one { }. */
static void one_span_or_several(void **state)
{
	struct rules_case c;

	(void)state;
	rules_case_when(&c, "{ name = \"a\" && span.k = 1 }");
	rules_case_span(&c, "a");
	rules_case_add(&c);
	rules_case_span(&c, "b");
	rules_case_set(&c, false, "k", int_value(1));
	rules_case_add(&c);
	assert_string_equal(rules_case_decide(&c, 1), "no");
	rules_case_span(&c, "a");
	rules_case_set(&c, false, "k", int_value(1));
	rules_case_add(&c);
	assert_string_equal(rules_case_decide(&c, 1), "yes");
	rules_case_close(&c);
}

/* The whole request at once gives the same bits as span by span. */
static void request_equals_single(void **state)
{
	struct rules_case c;
	struct tw_request q = {
	    .resource_count = 2, .scope_count = 2, .span_count = 4, .plain_count = 4};
	struct tw_resource resources[2] = {0};
	struct tw_scope scopes[2] = {{.resource = 1}, {.resource = 0}};
	struct tw_span spans[4];
	struct tw_span_rest rests[4];
	uint64_t masks[4][TW_MASK_WORDS], alone[TW_MASK_WORDS];
	struct tw_value names[2] = {text_value("front"), text_value("back")};

	(void)state;
	rules_case_open(&c,
	                "rules:\n"
	                "  - {name: a, when: '{ resource.service.name = \"front\" }', keep: all}\n"
	                "  - {name: b, when: '{ kind = server && name = \"x\" }', keep: all}\n"
	                "  - {name: c, keep: none}\n");
	for (int i = 0; i < 2; i++) {
		resources[i].slots = &names[i];
		resources[i].slots_set = 1;
	}
	for (int i = 0; i < 4; i++) {
		rules_case_span(&c, i & 1 ? "x" : "y");
		spans[i] = c.span;
		rests[i] = c.rest;
		spans[i].rest = &rests[i];
		spans[i].kind = TW_KIND_SERVER;
		spans[i].scope = (uint32_t)i / 2;
		memset(masks[i], 0xFF, sizeof(masks[i]));
	}
	q.spans = spans;
	q.masks = masks;
	q.resources = resources;
	q.scopes = scopes;
	tw_rules_match_request(c.r, c.m, &q);
	assert_int_equal(masks[0][0], 0);
	assert_int_equal(masks[1][0], 2);
	assert_int_equal(masks[2][0], 1);
	assert_int_equal(masks[3][0], 3);
	for (int i = 0; i < 4; i++) {
		tw_rules_match(c.r, c.m, &resources[scopes[spans[i].scope].resource],
		               &scopes[spans[i].scope], &spans[i], alone);
		assert_memory_equal(alone, masks[i], sizeof(alone));
	}
	rules_case_close(&c);
}

/* LOAD-09: a regex that would take for ever ends in bounded time, compiled or interpreted; it is
 * counted, and holds neither way. */
static void load_09_regex_catastrophe(void **state)
{
	static const char *const whens[] = {
	    "{ span.x =~ `(?:(?:a+)+)+[bc]` }",
	    "{ span.x !~ `(?:a|aa|a+)+[bc]` }",
	    "{ span.x =~ `(*NO_JIT)(?:(?:a+)+)+[bc]` }",
	    "{ span.x !~ `(*NO_JIT)(?:a|aa|a+)+[bc]` }",
	};
	static char subject[60001];

	(void)state;
	memset(subject, 'a', sizeof(subject) - 1);
	for (size_t i = 0; i < sizeof(whens) / sizeof(whens[0]); i++) {
		struct rules_case c;

		rules_case_when(&c, whens[i]);
		rules_case_span(&c, "s");
		rules_case_set(&c, false, "x", text_value(subject));
		rules_case_add(&c);
		assert_string_equal(rules_case_decide(&c, 1), "no");
		assert_int_equal(tw_matcher_errors(c.m), 1);
		rules_case_close(&c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(intrinsics),
	    cmocka_unit_test(attributes),
	    cmocka_unit_test(nil),
	    cmocka_unit_test(arrays),
	    cmocka_unit_test(arithmetic),
	    cmocka_unit_test(combination),
	    cmocka_unit_test(of_the_trace),
	    cmocka_unit_test(one_span_or_several),
	    cmocka_unit_test(request_equals_single),
	    cmocka_unit_test(load_09_regex_catastrophe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
