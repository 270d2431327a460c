#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "scan_fixture.h"
#include "tw/base/mem.h"

#define IDS "\"traceId\":\"0102030405060708090a0b0c0d0e0f10\",\"spanId\":\"a1a2a3a4a5a6a7a8\""

/* Decodes the text and scans what comes out. */
static int load(struct fixture *x, const char *text, size_t n)
{
	struct tw_buf out;
	int e;

	tw_buf_init(&out, 0);
	memset(&x->err, 0, sizeof(x->err));
	e = tw_otlp_json_decode(tw_slice(text, n), &out, &x->err);
	pb_clear(&x->b);
	pb_raw(&x->b, out.p, out.n);
	tw_buf_deinit(&out);
	return e ? e : fixture_scan(x);
}

/* A request with one span that has these further members. */
static int load_span(struct fixture *x, const char *members)
{
	static char text[4096];
	int n = snprintf(text, sizeof(text),
	                 "{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"key\":\"service."
	                 "name\",\"value\":"
	                 "{\"stringValue\":\"shop\"}}]},\"scopeSpans\":[{\"scope\":{\"name\":"
	                 "\"lib\"},\"spans\":[{" IDS "%s%s}]}]}]}",
	                 *members ? "," : "", members);

	return load(x, text, (size_t)n);
}

static void expect_error(struct fixture *x, const char *members, const char *path, const char *why)
{
	assert_int_equal(load_span(x, members), TW_EINVAL);
	if (!strstr(x->err.text, path) || !strstr(x->err.text, why))
		fail_msg("%s: \"%s\" names neither %s nor %s", members, x->err.text, path, why);
}

static const char whole[] =
    "{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"key\":\"service.name\",\"value\":{"
    "\"stringValue\":"
    "\"shop\"}}],\"droppedAttributesCount\":1,\"entityRefs\":[{\"schemaUrl\":\"s\",\"type\":"
    "\"service\",\"idKeys\":"
    "[\"service.name\",\"x\"],\"descriptionKeys\":[\"d\"]}]},\"scopeSpans\":[{\"scope\":{\"name\":"
    "\"lib\","
    "\"version\":\"1.0\",\"attributes\":[{\"key\":\"a\",\"value\":{\"boolValue\":true}}],"
    "\"droppedAttributesCount\":2},\"spans\":[{" IDS ",\"traceState\":\"ot=th:8\",\"parentSpanId\":"
    "\"0000000000000009\",\"name\":\"GET "
    "\\\"/cart\\\"\",\"kind\":2,\"startTimeUnixNano\":\"1700000000000000001\","
    "\"endTimeUnixNano\":\"1700000000000000501\",\"attributes\":["
    "{\"key\":\"http.route\",\"value\":{\"stringValue\":\"/gr\xc3\xbc\xc3\x9f\"}},"
    "{\"key\":\"http.response.status_code\",\"value\":{\"intValue\":\"-9223372036854775808\"}},"
    "{\"key\":\"db.system\",\"value\":{\"doubleValue\":0.1}},"
    "{\"key\":\"b\",\"value\":{\"bytesValue\":\"/+8=\"}},"
    "{\"key\":\"l\",\"value\":{\"arrayValue\":{\"values\":[{\"intValue\":\"1\"},{},{"
    "\"doubleValue\":\"NaN\"}]}}},"
    "{\"key\":\"m\",\"value\":{\"kvlistValue\":{\"values\":[{\"key\":\"k\",\"value\":{"
    "\"doubleValue\":"
    "\"-Infinity\"}}]}}},{\"key\":\"e\",\"value\":{}},{\"key\":\"z\",\"value\":{\"intValue\":\"0\"}"
    "}],"
    "\"droppedAttributesCount\":3,\"events\":[{\"timeUnixNano\":\"5\",\"name\":\"exception\","
    "\"attributes\":"
    "[{\"key\":\"t\",\"value\":{\"stringValue\":\"\"}}],\"droppedAttributesCount\":4}],"
    "\"droppedEventsCount\":5,"
    "\"links\":[{" IDS
    ",\"traceState\":\"a=b\",\"attributes\":[{\"key\":\"t\",\"value\":{\"boolValue\":false}}],"
    "\"droppedAttributesCount\":6,\"flags\":257}],\"droppedLinksCount\":7,\"status\":{\"message\":"
    "\"boom\","
    "\"code\":2},\"flags\":259}],\"schemaUrl\":\"scope-url\"}],\"schemaUrl\":\"resource-url\"}]}";

/* Every field: the text is what the encoder writes, so decode and encode give it back byte for
 * byte. */
static void every_field_both_ways(void **state)
{
	struct tw_buf bytes, text;
	struct fixture x;
	const struct tw_span *s;
	double d = 0.1;

	(void)state;
	fixture_init(&x);
	tw_buf_init(&bytes, 0);
	tw_buf_init(&text, 0);
	assert_int_equal(tw_otlp_json_decode(tw_slice_str(whole), &bytes, &x.err), 0);
	assert_int_equal(tw_otlp_json_encode(tw_buf_slice(&bytes), &text, &x.err), 0);
	tw_buf_putc(&text, '\0');
	assert_string_equal((char *)text.p, whole);
	assert_int_equal(load(&x, whole, sizeof(whole) - 1), 0);
	assert_int_equal(x.r.span_count, 1);
	s = &x.r.spans[0];
	assert_true(s->trace_id.hi == UINT64_C(0x0102030405060708));
	assert_true(s->span_id == UINT64_C(0xa1a2a3a4a5a6a7a8));
	assert_int_equal(s->parent_id, 9);
	assert_true(s->start_ns == UINT64_C(1700000000000000001));
	assert_int_equal(s->duration_ns, 500);
	assert_int_equal(s->kind, 2);
	assert_int_equal(s->status, 2);
	assert_int_equal(s->rest->w3c_flags, 259);
	assert_int_equal(s->rest->name_n, 11);
	assert_memory_equal(s->rest->name, "GET \"/cart\"", 11);
	assert_int_equal(s->rest->slots_set, 1 << KEY_ROUTE | 1 << KEY_STATUS | 1 << KEY_DB);
	assert_true(s->rest->slots[KEY_STATUS].i == INT64_MIN);
	assert_memory_equal(&s->rest->slots[KEY_DB].d, &d, 8);
	tw_buf_deinit(&bytes);
	tw_buf_deinit(&text);
	fixture_deinit(&x);
}

static void the_specification_says(void **state)
{
	struct fixture x;

	(void)state;
	fixture_init(&x);
	/* white space everywhere; an empty request is a success */
	assert_int_equal(load(&x, " \n{ } \t", 7), 0);
	assert_int_equal(x.r.span_count, 0);
	assert_int_equal(load(&x, "{ \"resourceSpans\" : [ ] }", 25), 0);
	/* null is absent */
	assert_int_equal(
	    load_span(&x, "\"name\":null,\"attributes\":null,\"status\":null,\"kind\":null"), 0);
	assert_int_equal(x.r.span_count, 1);
	/* numbers as strings, strings as numbers, exponents */
	assert_int_equal(
	    load_span(&x, "\"startTimeUnixNano\":10,\"endTimeUnixNano\":1.5e1,\"kind\":\"3\""), 0);
	assert_int_equal(x.r.spans[0].start_ns, 10);
	assert_int_equal(x.r.spans[0].duration_ns, 5);
	assert_int_equal(x.r.spans[0].kind, 3);
	assert_int_equal(load_span(&x, "\"startTimeUnixNano\":\"18446744073709551615\""), 0);
	assert_true(x.r.spans[0].start_ns == UINT64_MAX);
	assert_int_equal(load_span(&x, "\"endTimeUnixNano\":12300e-2,\"flags\":4294967295"), 0);
	assert_int_equal(x.r.spans[0].duration_ns, 123);
	assert_true(x.r.spans[0].rest->w3c_flags == UINT32_MAX);
	/* escapes */
	assert_int_equal(load_span(&x, "\"n\\u0061me\":\"\\u00e9\\ud83d\\ude00\\/\\b\\n\""), 0);
	assert_int_equal(x.r.spans[0].rest->name_n, 9);
	assert_memory_equal(x.r.spans[0].rest->name, "\xc3\xa9\xf0\x9f\x98\x80/\b\n", 9);
	/* both alphabets of base64, padded or not */
	assert_int_equal(
	    load_span(
	        &x, "\"attributes\":[{\"key\":\"db.system\",\"value\":{\"bytesValue\":\"-_8\"}}]"),
	    0);
	assert_int_equal(x.r.spans[0].rest->slots[KEY_DB].n, 2);
	fixture_deinit(&x);
}

static void IN_13_json_edge(void **state)
{
	struct fixture x;
	char *big;
	size_t n;

	(void)state;
	fixture_init(&x);
	expect_error(&x, "\"kind\":\"SPAN_KIND_SERVER\"",
	             "resourceSpans[0].scopeSpans[0].spans[0].kind", "names for enum values");
	expect_error(&x, "\"status\":{\"code\":\"STATUS_CODE_ERROR\"}", "spans[0].status.code",
	             "names for enum");
	/* snake_case is unknown, and unknown is ignored with whatever it holds */
	assert_int_equal(
	    load_span(
	        &x, "\"start_time_unix_nano\":\"5\",\"weird\":{\"a\":[1,-2.5e+3,\"\\ud800\",{},[],"
	            "[[]],true,false,null],\"b\":{\"c\":{}}}"),
	    0);
	assert_int_equal(x.r.spans[0].start_ns, 0);
	/* duplicates: scalars: the last; objects merge; lists grow */
	assert_int_equal(
	    load_span(&x,
	              "\"name\":\"a\",\"name\":\"b\",\"kind\":2,\"kind\":0,\"status\":{\"code\":2},"
	              "\"status\":{\"message\":\"m\"},\"attributes\":[{\"key\":\"http.route\"}],"
	              "\"attributes\":[{\"key\":\"db.system\"}]"),
	    0);
	assert_int_equal(x.r.spans[0].rest->name_n, 1);
	assert_int_equal(x.r.spans[0].rest->name[0], 'b');
	assert_int_equal(x.r.spans[0].kind, 0);
	assert_int_equal(x.r.spans[0].status, 2);
	assert_int_equal(x.r.spans[0].rest->status_message_n, 1);
	assert_int_equal(x.r.spans[0].rest->slots_set, 1 << KEY_ROUTE | 1 << KEY_DB);
	/* numbers out of range, not whole, not numbers */
	expect_error(&x, "\"startTimeUnixNano\":\"18446744073709551616\"", "startTimeUnixNano",
	             "2^64-1");
	expect_error(&x, "\"startTimeUnixNano\":-1", "startTimeUnixNano", "2^64-1");
	expect_error(&x, "\"startTimeUnixNano\":1.5", "startTimeUnixNano", "whole");
	expect_error(&x, "\"startTimeUnixNano\":1e999999999999", "startTimeUnixNano", "whole");
	expect_error(&x, "\"startTimeUnixNano\":\"\"", "startTimeUnixNano", "whole");
	expect_error(&x, "\"startTimeUnixNano\":\"0x10\"", "startTimeUnixNano", "whole");
	expect_error(&x, "\"startTimeUnixNano\":\" 1\"", "startTimeUnixNano", "whole");
	expect_error(&x, "\"flags\":4294967296", "flags", "2^32-1");
	expect_error(&x, "\"kind\":2147483648", "kind", "number");
	expect_error(&x, "\"attributes\":[{\"value\":{\"intValue\":\"9223372036854775808\"}}]",
	             "attributes[0].value.intValue", "64 bits");
	expect_error(&x, "\"attributes\":[{\"value\":{\"doubleValue\":1e999}}]", "doubleValue",
	             "double");
	expect_error(&x, "\"attributes\":[{\"value\":{\"doubleValue\":NaN}}]", "doubleValue",
	             "number");
	expect_error(&x, "\"attributes\":[{\"value\":{\"doubleValue\":\"nan\"}}]", "doubleValue",
	             "double");
	expect_error(&x, "\"attributes\":[{\"value\":{\"boolValue\":1}}]", "boolValue",
	             "true or false");
	expect_error(&x, "\"attributes\":[{\"value\":{\"bytesValue\":\"@\"}}]", "bytesValue",
	             "base64");
	expect_error(&x, "\"attributes\":[null]", "attributes[0]", "object");
	expect_error(&x, "\"attributes\":{}", "attributes", "list");
	expect_error(&x, "\"name\":[]", "name", "string");
	/* text */
	expect_error(&x, "\"name\":\"\\ud800\"", "name", "surrogate");
	expect_error(&x, "\"name\":\"\\ud800\\u0041\"", "name", "surrogate");
	expect_error(&x, "\"name\":\"\\udc00\"", "name", "surrogate");
	expect_error(&x, "\"name\":\"\\x\"", "name", "escape");
	expect_error(&x, "\"name\":\"\\u12g4\"", "name", "escape");
	expect_error(&x, "\"name\":\"a\nb\"", "", "control");
	/* numbers that are not JSON */
	expect_error(&x, "\"kind\":01", "kind", "number");
	expect_error(&x, "\"kind\":+1", "kind", "number");
	expect_error(&x, "\"kind\":1.", "kind", "number");
	expect_error(&x, "\"kind\":.5", "kind", "number");
	expect_error(&x, "\"weird\":-", "spans[0]", "value");
	expect_error(&x, "\"weird\":[1 2]", "spans[0]", "comma");
	expect_error(&x, "\"weird\":{\"a\" 1}", "spans[0]", "colon");
	expect_error(&x, "\"name\" \"a\"", "spans[0]", "colon");
	expect_error(&x, "\"name\":\"a\",", "spans[0]", "string");
	/* around the request */
	assert_int_equal(load(&x, "\xef\xbb\xbf{}", 5), TW_EINVAL);
	assert_non_null(strstr(x.err.text, "byte order mark"));
	assert_int_equal(load(&x, "{}{}", 4), TW_EINVAL);
	assert_non_null(strstr(x.err.text, "follows"));
	assert_int_equal(load(&x, "[]", 2), TW_EINVAL);
	assert_int_equal(load(&x, "", 0), TW_EINVAL);
	/* ids: any case; a wrong length is the span's fault, letters that are no digits are the
	 * request's */
	{
		static const char ids[] = "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":["
		                          "{\"traceId\":\"0102030405060708090A0b0C0d0E0f10\","
		                          "\"spanId\":\"A1a2a3a4a5a6a7a8\",\"parentSpanId\":\"\"},"
		                          "{\"traceId\":\"0102\",\"spanId\":\"a1a2a3a4a5a6a7a8\"},"
		                          "{\"traceId\":\"0102030405060708090A0b0C0d0E0f1\","
		                          "\"spanId\":\"a1a2a3a4a5a6a7a8\"},"
		                          "{\"traceId\":\"0102030405060708090A0b0C0d0E0f10\","
		                          "\"spanId\":\"a1a2a3a4a5a6a7a\"},"
		                          "{\"traceId\":\"00000000000000000000000000000000\","
		                          "\"spanId\":\"a1a2a3a4a5a6a7a8\"},"
		                          "{\"traceId\":\"\",\"spanId\":\"\"}]}]}]}";

		assert_int_equal(load(&x, ids, sizeof(ids) - 1), 0);
	}
	assert_int_equal(x.r.span_count, 1);
	assert_int_equal(x.r.spans[0].flags, TW_SPAN_ROOT);
	assert_int_equal(x.r.rejected[TW_REJECT_TRACE_ID], 4);
	assert_int_equal(x.r.rejected[TW_REJECT_SPAN_ID], 1);
	expect_error(&x, "\"parentSpanId\":\"xyzxyzxyzxyzxyzx\"", "parentSpanId", "hexadecimal");
	/* not UTF-8: the span's fault */
	assert_int_equal(load_span(&x, "\"name\":\"\xff\""), 0);
	assert_int_equal(x.r.rejected[TW_REJECT_UTF8], 1);
	/* 10 MB of string; depth 100,000, known and unknown */
	n = 10000000;
	big = malloc(n + 1000);
	assert_non_null(big);
	{
		int k = snprintf(big, 1000,
		                 "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{" IDS
		                 ",\"name\":\"");

		memset(big + k, 'x', n);
		memcpy(big + k + n, "\"}]}]}]}", 8);
		assert_int_equal(load(&x, big, (size_t)k + n + 8), 0);
		assert_int_equal(x.r.rejected[TW_REJECT_SIZE], 1);
	}
	for (int kind = 0; kind < 4; kind++) {
		static const char *const open[] = {"[", "{\"a\":", "{\"arrayValue\":{\"values\":[",
		                                   "{\"kvlistValue\":{\"values\":[{\"value\":"};
		int k = snprintf(
		    big, 1000,
		    kind < 2 ? "{\"x\":"
		             : "{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"value\":");
		size_t one = strlen(open[kind]), at = (size_t)k;

		for (int i = 0; i < 100000 && at + one < n; i++, at += one)
			memcpy(big + at, open[kind], one);
		assert_int_equal(load(&x, big, at), TW_EINVAL);
		assert_non_null(strstr(x.err.text, "deeper than"));
	}
	free(big);
	fixture_deinit(&x);
}

/* Every prefix of a request is an error, never a crash; so is every single byte replaced by a quote
 * or a brace, or fine. */
static void truncated_and_broken_text(void **state)
{
	struct fixture x;
	char copy[sizeof(whole)];

	(void)state;
	fixture_init(&x);
	for (size_t n = 0; n < sizeof(whole) - 1; n++) {
		char *p = malloc(n ? n : 1);

		assert_non_null(p);
		memcpy(p, whole, n);
		assert_int_equal(load(&x, p, n), TW_EINVAL);
		free(p);
		for (const char *c = "\"{]\\0,\xc3"; *c; c++) {
			int e;

			memcpy(copy, whole, sizeof(whole));
			copy[n] = *c;
			e = load(&x, copy, sizeof(whole) - 1);
			assert_true(e == 0 || e == TW_EINVAL);
		}
	}
	fixture_deinit(&x);
}

static void doubles_read_back(void **state)
{
	static const double some[] = {0.0,
	                              -0.0,
	                              1,
	                              -1.5,
	                              0.1,
	                              1e21,
	                              1e-7,
	                              5e-324,
	                              1.7976931348623157e308,
	                              123456789.123456789,
	                              1.0 / 3,
	                              2.2250738585072014e-308,
	                              9007199254740993.0};
	struct fixture x;

	(void)state;
	fixture_init(&x);
	for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++) {
		struct tw_buf text, again;
		struct pb b = {0};

		tw_buf_init(&text, 0);
		tw_buf_init(&again, 0);
		open_scope(&b);
		pb_begin(&b, 2);
		put_ids(&b);
		pb_begin(&b, 9);
		pb_str(&b, 1, "db.system");
		pb_begin(&b, 2);
		pb_double(&b, 4, some[i]);
		pb_end(&b);
		pb_end(&b);
		pb_end(&b);
		close_scope(&b);
		assert_int_equal(tw_otlp_json_encode(tw_slice(b.p, b.n), &text, &x.err), 0);
		assert_int_equal(tw_otlp_json_decode(tw_buf_slice(&text), &again, &x.err), 0);
		assert_int_equal(again.n, b.n);
		assert_memory_equal(again.p, b.p, b.n);
		pb_free(&b);
		tw_buf_deinit(&text);
		tw_buf_deinit(&again);
	}
	fixture_deinit(&x);
}

/* What protobuf allows and JSON can't say twice: any order, merged messages, the last of a oneof,
 * unknown fields. */
static void encodes_merged_messages(void **state)
{
	struct fixture x;
	struct tw_buf text;
	struct pb b = {0};

	(void)state;
	fixture_init(&x);
	tw_buf_init(&text, 0);
	pb_begin(&b, 1);
	pb_begin(&b, 2);
	pb_begin(&b, 2);
	pb_begin(&b, 15);
	pb_varint(&b, 3, 2);
	pb_end(&b);
	pb_str(&b, 99, "unknown");
	pb_attr(&b, 9, "a", "1\x01\xff");
	pb_begin(&b, 15);
	pb_str(&b, 2, "m");
	pb_end(&b);
	pb_begin(&b, 9);
	pb_begin(&b, 2);
	pb_str(&b, 1, "s");
	pb_varint(&b, 3, 5);
	pb_end(&b);
	pb_begin(&b, 2);
	pb_end(&b);
	pb_end(&b);
	pb_bytes(&b, 1, "\x01\x02", 2);
	pb_end(&b);
	pb_end(&b);
	pb_end(&b);
	assert_int_equal(tw_otlp_json_encode(tw_slice(b.p, b.n), &text, &x.err), 0);
	tw_buf_putc(&text, '\0');
	assert_string_equal(
	    (char *)text.p,
	    "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"traceId\":\"0102\",\"attributes\":"
	    "[{\"key\":\"a\",\"value\":{\"stringValue\":\"1\\u0001\xef\xbf\xbd\"}},{\"value\":{"
	    "\"intValue\":"
	    "\"5\"}}],\"status\":{\"message\":\"m\",\"code\":2}}]}]}]}");
	/* malformed: an error, and nothing appended */
	tw_buf_clear(&text);
	tw_buf_puts(&text, "x");
	for (size_t n = 1; n < b.n; n++) {
		assert_int_equal(tw_otlp_json_encode(tw_slice(b.p, n), &text, &x.err), TW_EINVAL);
		assert_int_equal(text.n, 1);
	}
	pb_free(&b);
	tw_buf_deinit(&text);
	fixture_deinit(&x);
}

static void bounds_and_refused_memory(void **state)
{
	struct tw_error err;
	struct tw_buf out, text;
	int e = TW_ENOMEM;

	(void)state;
	tw_buf_init(&out, 200);
	assert_int_equal(tw_otlp_json_decode(tw_slice_str(whole), &out, &err), TW_ELIMIT);
	tw_buf_deinit(&out);
	for (uint64_t n = 1; e; n++) {
		assert_true(n < 100);
		tw_buf_init(&out, 0);
		tw_mem_fail_at(n, true);
		e = tw_otlp_json_decode(tw_slice_str(whole), &out, &err);
		tw_mem_fail_at(0, false);
		assert_true(e == 0 || e == TW_ENOMEM);
		if (e)
			tw_buf_deinit(&out);
	}
	e = TW_ENOMEM;
	for (uint64_t n = 1; e; n++) {
		assert_true(n < 100);
		tw_buf_init(&text, 0);
		tw_mem_fail_at(n, true);
		e = tw_otlp_json_encode(tw_buf_slice(&out), &text, &err);
		tw_mem_fail_at(0, false);
		assert_true(e == 0 || e == TW_ENOMEM);
		tw_buf_deinit(&text);
	}
	tw_buf_deinit(&out);
}

/* ---- the short way ---- */

/* Both must accept, to the same bytes, or refuse with the same words. A text's last few hundred
 * bytes always go the long way; with white space behind it none does. */
static void expect_same_both_ways(const char *text)
{
	static char padded[8192];
	size_t n = strlen(text);
	struct tw_error err_long = {0}, err_short = {0};
	struct tw_buf by_long, by_short;
	int a, b;

	assert_true(n + 2048 < sizeof(padded));
	memset(padded, ' ', sizeof(padded));
	memcpy(padded, text, n);
	tw_buf_init(&by_long, 0);
	tw_buf_init(&by_short, 0);
	a = tw_otlp_json_decode(tw_slice(text, n), &by_long, &err_long);
	b = tw_otlp_json_decode(tw_slice(padded, n + 2048), &by_short, &err_short);
	if (a != b || strcmp(err_long.text, err_short.text) != 0)
		fail_msg("%s: %d \"%s\", but with white space behind it %d \"%s\"", text, a,
		         err_long.text, b, err_short.text);
	if (!a) {
		assert_int_equal(by_long.n, by_short.n);
		assert_memory_equal(by_long.p, by_short.p, by_long.n);
	}
	tw_buf_deinit(&by_long);
	tw_buf_deinit(&by_short);
}

static void expect_same(const char *members)
{
	char text[600];

	snprintf(text, sizeof(text), "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{%s}]}]}]}",
	         members);
	expect_same_both_ways(text);
}

static void short_and_long_way_agree_on_fields(void **state)
{
	static const char *const texts[] = {"",        "a",    "caf\xc3\xa9",   "\xff",
	                                    "a\\tb",   "a\tb", "a\\u00e9\\\"b", "a\\",
	                                    "\\ud800", "x\\q", "{\"",           "'"};
	static const char *const numbers[] = {
	    "0",    "1", "007", "12", "123", "1234", "-1", "1.0",  "1.5", "1e2",        "\"1\"",
	    "\"\"", "",  "x",   "1 ", " 1",  "null", "9x", "999}", "[1]", "99999999999"};
	static const char *const times[] = {"\"1700000000000000001\"",
	                                    "1700000000000000001",
	                                    "\"0700000000000000001\"",
	                                    "\"17000000000000000x1\"",
	                                    "\"170000000000000000.\"",
	                                    "\"99999999999999999999\"",
	                                    "\"18446744073709551615\"",
	                                    "\"18446744073709551616\"",
	                                    "\"9999999999999999999\"",
	                                    "\"-700000000000000001\"",
	                                    "\"5\"",
	                                    "\"\"",
	                                    "\"170000000000000000\"",
	                                    "\"1700000000000000001",
	                                    "\"17e17\"",
	                                    "\"1:00000000000000001\"",
	                                    "\"1/00000000000000001\"",
	                                    "\"1700000000000000001\"x"};
	static const char *const ids[] = {"0102030405060708090a0b0c0d0e0f10",
	                                  "0102030405060708090A0B0C0D0E0FAF",
	                                  "0102030405060708",
	                                  "010203040506070g",
	                                  "0102030405060708090a0b0c0d0e0f1g",
	                                  "0102030405060708090a0b0c0d0e0f1",
	                                  "01020304050607080",
	                                  "0102030405060708090a0b0c0d0e0f1011",
	                                  "01",
	                                  "",
	                                  "@102030405060708",
	                                  "`102030405060708",
	                                  "/102030405060708",
	                                  ":102030405060708",
	                                  "G102030405060708",
	                                  "\x90\x91\x92\x93\x94\x95\x96\x97"};
	char members[400];

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		snprintf(members, sizeof(members), "\"name\":\"%s\",\"traceState\":\"a=%s\"",
		         texts[i], texts[i]);
		expect_same(members);
	}
	for (size_t n = 0; n < 200; n++) { /* also longer than the short way goes */
		snprintf(members, sizeof(members), "\"name\":\"%0*d\",\"kind\":1", (int)n + 1, 0);
		expect_same(members);
	}
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		snprintf(members, sizeof(members), "\"kind\":%s,\"flags\":2", numbers[i]);
		expect_same(members);
		snprintf(members, sizeof(members), "\"flags\":%s", numbers[i]);
		expect_same(members);
		snprintf(members, sizeof(members), "\"droppedEventsCount\":%s", numbers[i]);
		expect_same(members);
	}
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		snprintf(members, sizeof(members), "\"startTimeUnixNano\":%s,\"kind\":3", times[i]);
		expect_same(members);
	}
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		snprintf(members, sizeof(members), "\"traceId\":\"%s\",\"parentSpanId\":\"%s\"",
		         ids[i], ids[i]);
		expect_same(members);
	}
}

static void short_and_long_way_agree_on_keys(void **state)
{
	static const char *const members[] = {"\"kind\":1,\"name\":\"n\",\"kind\":2",
	                                      "\"kind\" :1",
	                                      "\"kind\": 1",
	                                      " \"kind\":1 ",
	                                      "\"kin\":1",
	                                      "\"kinds\":1",

	                                      "\"Kind\":1",
	                                      "\"k\\u0069nd\":1",
	                                      "\"status\":{\"code\":2,\"message\":\"m\"}",
	                                      "\"status\":{}",
	                                      "\"status\":[]",
	                                      "\"droppedAttributesCount\":4",
	                                      "\"droppedAttributesCounx\":4",
	                                      "\"droppedAttributesCount:\":4",
	                                      "\"unknown\":{\"a\":[1,2]},\"kind\":1",
	                                      "\"kind\":1,",
	                                      "\"kind\"",
	                                      ",",
	                                      "\"name\":null,\"kind\":null"};

	(void)state;
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
		expect_same(members[i]);
}

static void short_and_long_way_agree_on_attributes(void **state)
{
	static const char *const one[] = {
	    "{\"key\":\"k\",\"value\":{\"stringValue\":\"v\"}}",
	    "{\"key\":\"\",\"value\":{\"stringValue\":\"\"}}",
	    "{\"key\":\"k\\n\",\"value\":{\"stringValue\":\"v\"}}",
	    "{\"key\":\"k\",\"value\":{\"stringValue\":\"v\\n\"}}",
	    "{\"key\":\"k\",\"value\":{\"stringValue\":\"v\"},\"key\":\"l\"}",
	    "{\"key\":\"k\",\"value\":{\"stringValue\":\"v\",\"intValue\":1}}",
	    "{\"key\":\"k\",\"value\":{\"stringValue\":null}}",
	    "{\"key\":\"k\",\"value\":{\"stringValue\":1}}",
	    "{\"key\":\"k\",\"value\":{\"stringValue\":\"v\"}",
	    "{\"key\":\"k\",\"value\":{}}",
	    "{\"key\":\"k\",\"value\":null}",
	    "{\"key\":\"k\"}",
	    "{\"value\":{\"intValue\":\"5\"},\"key\":\"k\"}",
	    "{\"key\":\"k\",\"value\":{\"intValue\":5}}",
	    "{\"key\":\"k\",\"value\":{\"intValue\":\"5\"}}",
	    "{\"key\":\"k\",\"value\":{\"intValue\":\"5}}",
	    "{\"key\":\"k\",\"value\":{\"intValue\":5\"}}",
	    "{\"key\":\"k\",\"value\":{\"intValue\":\"\"}}",
	    "{\"key\":\"k\",\"value\":{\"intValue\":05}}",
	    "{\"key\":\"k\",\"value\":{\"intValue\":-5}}",
	    "{\"key\":\"k\",\"value\":{\"intValue\":5.0}}",
	    "{\"key\":\"k\",\"value\":{\"intValue\":5e1}}",
	    "{\"key\":\"k\",\"value\":{\"intValue\":\"999999999999999999\"}}",
	    "{\"key\":\"k\",\"value\":{\"intValue\":\"9223372036854775807\"}}",
	    "{\"key\":\"k\",\"value\":{\"intValue\":\"9223372036854775808\"}}",
	    "{\"key\":\"k\",\"value\":{\"boolValue\":true}}",
	    "{\"key\":\"k\",\"value\":{\"boolValue\":false}}",
	    "{\"key\":\"k\",\"value\":{\"boolValue\":truex}}",
	    "{\"key\":\"k\",\"value\":{\"boolValue\":fals}}",
	    "{\"key\":\"k\",\"value\":{\"doubleValue\":1.5}}",
	    "{\"key\":\"k\", \"value\":{\"stringValue\":\"v\"}}",
	    "{ \"key\":\"k\",\"value\":{\"stringValue\":\"v\"}}",
	    "{\"key\":\"k\",\"value\":{\"stringValue\":\"v\" }}",
	};
	char members[500];

	(void)state;
	for (size_t i = 0; i < sizeof(one) / sizeof(one[0]); i++) {
		snprintf(members, sizeof(members), "\"attributes\":[%s,%s]", one[i], one[i]);
		expect_same(members);
	}
	/* Lengths around what one byte says, of the key, the value and both. */
	for (int key = 1; key < 160; key += key < 100 ? 33 : 1)
		for (int value = 1; value < 160; value += value < 100 ? 11 : 1) {
			snprintf(members, sizeof(members),
			         "\"attributes\":[{\"key\":\"%0*d\",\"value\":{\"stringValue\":\"%"
			         "0*d\"}}]",
			         key, 0, value, 0);
			expect_same(members);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_field_both_ways),
	    cmocka_unit_test(the_specification_says),
	    cmocka_unit_test(IN_13_json_edge),
	    cmocka_unit_test(truncated_and_broken_text),
	    cmocka_unit_test(doubles_read_back),
	    cmocka_unit_test(encodes_merged_messages),
	    cmocka_unit_test(short_and_long_way_agree_on_fields),
	    cmocka_unit_test(short_and_long_way_agree_on_keys),
	    cmocka_unit_test(short_and_long_way_agree_on_attributes),
	    cmocka_unit_test(bounds_and_refused_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
