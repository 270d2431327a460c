/* The named faults of decoding. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "scan_fixture.h"

/* A request of one span whose payload is `span`. */
static void one_span_request(struct pb *b, const void *span, size_t n)
{
	pb_clear(b);
	pb_begin(b, 1);
	pb_begin(b, 2);
	pb_begin(b, 2);
	pb_raw(b, span, n);
	pb_end(b);
	pb_end(b);
	pb_end(b);
}

static void expect_error(struct fixture *x, const char *path, const char *why)
{
	assert_int_equal(fixture_scan(x), TW_EINVAL);
	assert_int_equal(x->err.code, TW_EINVAL);
	if (!strstr(x->err.text, path) || !strstr(x->err.text, why))
		fail_msg("\"%s\" names neither %s nor %s", x->err.text, path, why);
}

static void IN_06_truncated_protobuf(void **state)
{
	struct fixture x;
	struct pb whole = {0};

	(void)state;
	fixture_init(&x);
	open_scope(&whole);
	put_span_full(&whole);
	put_span_full(&whole);
	close_scope(&whole);
	for (size_t n = 1; n < whole.n; n++) {
		struct pb copy = {0};
		int e;

		/* a heap block of its own size: a read past it is seen */
		copy.p = malloc(n);
		assert_non_null(copy.p);
		memcpy(copy.p, whole.p, n);
		tw_request_reset(&x.r);
		e = tw_otlp_scan(&x.o, tw_slice(copy.p, n), &x.r, &x.err);
		assert_int_equal(e, TW_EINVAL);
		assert_non_null(strstr(x.err.text, "resource_spans[0]"));
		free(copy.p);
	}
	pb_free(&whole);
	fixture_deinit(&x);
}

static void IN_07_overlong_varint(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
		const char *why;
	} rows[] = {
#define ROW(s, why) {s, sizeof(s) - 1, why}
	    ROW("\x30\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", "ten bytes"),
	    ROW("\x30\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02", "ten bytes"),
	    ROW("\x00\x00", "field number 0"),
	    ROW("\x80\x00\x00", "field number 0"),
	    ROW("\x80\x80\x80\x80\x10\x00", "2^29-1"),
	    ROW("\x80\x80\x80\x80\x80\x01\x00", "tag"),
	    ROW("\x2b\x2c", "wire type 3"),
	    ROW("\x2c", "wire type 4"),
	    ROW("\x2e\x00", "wire type 6"),
	    ROW("\xf7\x01\x00", "wire type 7"),
	    ROW("\x2d\x00\x00\x00\x00", "wire type 5 where 2 is due"),
	    ROW("\x4a\x80\x80\x80\x80\x80\x01\x00", "five bytes"),
#undef ROW
	};
	struct fixture x;

	(void)state;
	fixture_init(&x);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		one_span_request(&x.b, rows[i].bytes, rows[i].n);
		expect_error(&x, "resource_spans[0].scope_spans[0].spans[0]", rows[i].why);
		/* the same as an attribute's value, and in the request itself */
		pb_clear(&x.b);
		pb_raw(&x.b, rows[i].bytes, rows[i].n);
		if (rows[i].bytes[0] != 0x30 && strncmp(rows[i].why, "wire type 5", 11) != 0 &&
		    strcmp(rows[i].why, "five bytes") != 0)
			expect_error(&x, "", rows[i].why);
	}
	/* The longest legal ones: ten bytes of varint, five of tag (an unknown field). */
	one_span_request(
	    &x.b, "\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\xf8\xff\xff\xff\x0f\x00", 17);
	assert_int_equal(fixture_scan(&x), 0);
	fixture_deinit(&x);
}

static void IN_08_length_overflow(void **state)
{
	struct fixture x;
	struct pb *b = &x.b;

	(void)state;
	fixture_init(&x);
	/* the header's example: a name that runs past its span */
	open_scope(b);
	for (int i = 0; i < 3; i++)
		put_span_full(b);
	pb_begin(b, 2);
	put_ids(b);
	pb_raw(b,
	       "\x2a\x5a"
	       "abc",
	       5);
	pb_end(b);
	put_span_full(b);
	close_scope(b);
	expect_error(&x, "resource_spans[0].scope_spans[0].spans[3].name",
	             "length 90 runs past the parent's end at offset ");
	assert_int_equal(x.b.p[x.err.offset], 0x2a);
	/* within the body, but past the parent: a key in an attribute */
	one_span_request(b,
	                 "\x4a\x04\x0a\x05"
	                 "ab\x22\x00",
	                 8);
	expect_error(&x, "spans[0].attributes[0].key", "length 5 runs past");
	/* 2^31 − 1, 2^32 − 1 and 2^63 as lengths, −1 as an int32's ten bytes */
	one_span_request(b, "\x2a\xff\xff\xff\xff\x07", 6);
	expect_error(&x, ".name", "length 2147483647");
	one_span_request(b, "\x2a\xff\xff\xff\xff\x0f", 6);
	expect_error(&x, ".name", "length 4294967295");
	one_span_request(b, "\x2a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 11);
	expect_error(&x, ".name", "five bytes");
	one_span_request(b, "\x2a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11);
	expect_error(&x, ".name", "five bytes");
	fixture_deinit(&x);
}

/* `levels` AnyValues in one another, through lists or through maps. */
static void deep_attribute(struct pb *b, unsigned levels, bool maps)
{
	struct pb in = {0}, out = {0};

	pb_varint(&in, 3, 1);
	for (unsigned i = 1; i < levels; i++) {
		/* in = AnyValue{list{in}} */
		pb_clear(&out);
		if (maps) {
			struct pb kv = {0};

			pb_str(&kv, 1, "k");
			pb_bytes(&kv, 2, in.p, in.n);
			pb_bytes(&out, 1, kv.p, kv.n);
			pb_free(&kv);
		} else {
			pb_bytes(&out, 1, in.p, in.n);
		}
		pb_clear(&in);
		pb_bytes(&in, maps ? 6 : 5, out.p, out.n);
	}
	pb_begin(b, 9);
	pb_str(b, 1, "deep");
	pb_bytes(b, 2, in.p, in.n);
	pb_end(b);
	pb_free(&in);
	pb_free(&out);
}

static void IN_09_deep_anyvalue(void **state)
{
	struct fixture x;
	struct pb span = {0};

	(void)state;
	fixture_init(&x);
	for (int maps = 0; maps < 2; maps++) {
		pb_clear(&span);
		put_ids(&span);
		deep_attribute(&span, TW_NEST_MAX, maps);
		one_span_request(&x.b, span.p, span.n);
		assert_int_equal(fixture_scan(&x), 0);
		assert_int_equal(x.r.span_count, 1);
		pb_clear(&span);
		put_ids(&span);
		deep_attribute(&span, TW_NEST_MAX + 1, maps);
		one_span_request(&x.b, span.p, span.n);
		expect_error(&x, "spans[0].attributes[0].value.", "deeper than 32 levels");
		pb_clear(&span);
		put_ids(&span);
		deep_attribute(&span, 10000, maps);
		one_span_request(&x.b, span.p, span.n);
		expect_error(&x, "spans[0].attributes[0].value.", "deeper than 32 levels");
	}
	pb_free(&span);
	fixture_deinit(&x);
}

static size_t held(const struct tw_request *r)
{
	return r->span_cap * sizeof(*r->spans) + r->resource_cap * sizeof(*r->resources) +
	       r->scope_cap * sizeof(*r->scopes) + r->rest_cap * sizeof(*r->rests) +
	       r->value_cap * sizeof(*r->values) + r->mask_cap * sizeof(*r->masks) + r->arena.used;
}

static void IN_10_million_empty_children(void **state)
{
	static const uint8_t tags[] = {0x4a, 0x5a, 0x6a}; /* attributes, events, links */
	struct fixture x;
	struct pb span = {0};
	uint32_t million = 10000000;

	(void)state;
	fixture_init(&x);
	/* ten million spans without a byte: past the cap of a request */
	pb_clear(&span);
	for (uint32_t i = 0; i < million; i++)
		pb_raw(&span, "\x12\x00", 2);
	pb_begin(&x.b, 1);
	pb_bytes(&x.b, 2, span.p, span.n);
	pb_end(&x.b);
	assert_int_equal(fixture_scan(&x), TW_ELIMIT);
	assert_non_null(strstr(x.err.text, "1000000 spans"));
	assert_true(held(&x.r) <= 4 * x.b.n);
	/* a million of them: each rejected, none kept */
	pb_clear(&x.b);
	pb_begin(&x.b, 1);
	pb_bytes(&x.b, 2, span.p, 2000000);
	pb_end(&x.b);
	assert_int_equal(fixture_scan(&x), 0);
	assert_int_equal(x.r.rejected[TW_REJECT_TRACE_ID], 1000000);
	assert_int_equal(x.r.span_count, 0);
	assert_true(held(&x.r) <= 4 * x.b.n);
	/* ten million attributes, events, links of one span, next to a good span */
	for (size_t t = 0; t < sizeof(tags); t++) {
		pb_clear(&span);
		put_ids(&span);
		for (uint32_t i = 0; i < (t ? million / 50 : million); i++) {
			pb_byte(&span, tags[t]);
			pb_byte(&span, 0);
		}
		pb_clear(&x.b);
		open_scope(&x.b);
		pb_bytes(&x.b, 2, span.p, span.n);
		put_span_full(&x.b);
		close_scope(&x.b);
		assert_int_equal(fixture_scan(&x), 0);
		assert_int_equal(x.r.span_count, 1);
		assert_int_equal(x.r.rejected[t ? TW_REJECT_CHILDREN : TW_REJECT_SIZE], 1);
		assert_true(held(&x.r) <= 4 * x.b.n);
	}
	/* 1024 are allowed, 1025 are not */
	for (int more = 0; more < 2; more++) {
		pb_clear(&span);
		put_ids(&span);
		for (uint32_t i = 0; i < TW_SPAN_CHILDREN_MAX + (uint32_t)more; i++)
			pb_attr(&span, 9, "k", "v");
		one_span_request(&x.b, span.p, span.n);
		assert_int_equal(fixture_scan(&x), 0);
		assert_int_equal(x.r.span_count, !more);
		assert_int_equal(x.r.rejected[TW_REJECT_CHILDREN], more);
	}
	/* empty groups */
	pb_clear(&x.b);
	for (uint32_t i = 0; i < million; i++)
		pb_raw(&x.b, "\x0a\x00", 2);
	assert_int_equal(fixture_scan(&x), TW_ELIMIT);
	assert_non_null(strstr(x.err.text, "groups"));
	assert_true(held(&x.r) <= 4 * x.b.n);
	pb_free(&span);
	fixture_deinit(&x);
}

/* A million `resource` fields in one ResourceSpans, in one piece and between scopes. They merge;
 * the work grows with the bytes: the arena holds the head once. */
static void IN_11_repeated_singular(void **state)
{
	struct fixture x;
	struct pb *b = &x.b;

	(void)state;
	fixture_init(&x);
	for (int split = 0; split < 2; split++) {
		pb_clear(b);
		pb_begin(b, 1);
		for (int i = 0; i < 1000000; i++) {
			pb_begin(b, 1);
			if (i == 999999)
				pb_attr(b, 1, "service.name", "last");
			pb_end(b);
			if (split && i % 10 == 0) {
				pb_begin(b, 2);
				pb_end(b);
			}
		}
		pb_begin(b, 2);
		put_span_full(b);
		pb_end(b);
		pb_end(b);
		assert_int_equal(fixture_scan(&x), 0);
		assert_int_equal(x.r.span_count, 1);
		assert_int_equal(x.r.resources[0].slots_set, 1);
		assert_memory_equal(x.r.resources[0].slots[0].p, "last", 4);
		assert_true(x.r.resources[0].head.n >= 2000000);
		assert_true(x.r.arena.used <= x.b.n + 16);
	}
	fixture_deinit(&x);
}

static void IN_12_bad_ids(void **state)
{
	static const uint8_t zero[17],
	    some[17] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8};
	static const char hex[] = "0102030405060708090a0b0c0d0e0f10";
	static const struct {
		const void *trace, *span, *parent;
		size_t trace_n, span_n, parent_n;
		int reject; /* −1: accepted */
	} rows[] = {
	    {some, some, some, 16, 8, 8, -1},
	    {some, some, zero, 16, 8, 8, -1},
	    {some, some, zero, 16, 8, 0, -1},
	    {zero, some, some, 16, 8, 8, TW_REJECT_TRACE_ID},
	    {some, some, some, 15, 8, 8, TW_REJECT_TRACE_ID},
	    {some, some, some, 17, 8, 8, TW_REJECT_TRACE_ID},
	    {some, some, some, 0, 8, 8, TW_REJECT_TRACE_ID},
	    {hex, some, some, 32, 8, 8, TW_REJECT_TRACE_ID},
	    {some, zero, some, 16, 8, 8, TW_REJECT_SPAN_ID},
	    {some, some, some, 16, 7, 8, TW_REJECT_SPAN_ID},
	    {some, some, some, 16, 9, 8, TW_REJECT_SPAN_ID},
	    {some, some, some, 16, 0, 8, TW_REJECT_SPAN_ID},
	    {some, hex, some, 16, 16, 8, TW_REJECT_SPAN_ID},
	    {some, some, some, 16, 8, 7, TW_REJECT_SPAN_ID},
	    {some, some, hex, 16, 8, 16, TW_REJECT_SPAN_ID},
	};
	struct fixture x;
	uint32_t want[TW_REJECT_COUNT] = {0}, good = 0;

	(void)state;
	fixture_init(&x);
	open_scope(&x.b);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		pb_begin(&x.b, 2);
		pb_bytes(&x.b, 1, rows[i].trace, rows[i].trace_n);
		pb_bytes(&x.b, 2, rows[i].span, rows[i].span_n);
		pb_bytes(&x.b, 4, rows[i].parent, rows[i].parent_n);
		pb_end(&x.b);
		if (rows[i].reject < 0)
			good++;
		else
			want[rows[i].reject]++;
	}
	pb_begin(&x.b, 2); /* no ids at all */
	pb_end(&x.b);
	want[TW_REJECT_TRACE_ID]++;
	close_scope(&x.b);
	assert_int_equal(fixture_scan(&x), 0);
	assert_int_equal(x.r.span_count, good);
	for (int i = 0; i < TW_REJECT_COUNT; i++)
		assert_int_equal(x.r.rejected[i], want[i]);
	assert_int_equal(tw_request_rejected(&x.r), sizeof(rows) / sizeof(rows[0]) + 1 - good);
	assert_non_null(strstr(x.r.reject_text, "spans[3]: trace_id"));
	assert_int_equal(x.r.spans[0].flags, 0);
	assert_int_equal(x.r.spans[1].flags, TW_SPAN_ROOT);
	assert_int_equal(x.r.spans[2].flags, TW_SPAN_ROOT);
	fixture_deinit(&x);
}

/* One span with a bad byte in text field number `where`, a good one behind it. Returns how many
 * such fields there are. */
static int bad_text(struct pb *b, int where, const char *bad)
{
	int k = 0;
#define TEXT (k++ == where ? bad : "good")

	pb_clear(b);
	pb_begin(b, 1);
	pb_begin(b, 2);
	pb_begin(b, 2);
	put_ids(b);
	pb_str(b, 3, TEXT);
	pb_str(b, 5, TEXT);
	pb_fixed64(b, 7, 1);
	pb_fixed64(b, 8, 2);
	pb_attr(b, 9, "key", TEXT);
	pb_attr(b, 9, TEXT, "value");
	pb_begin(b, 9); /* in a list in a map */
	pb_begin(b, 2);
	pb_begin(b, 6);
	pb_begin(b, 1);
	pb_str(b, 1, TEXT);
	pb_begin(b, 2);
	pb_begin(b, 5);
	pb_begin(b, 1);
	pb_str(b, 1, TEXT);
	pb_end(b);
	pb_end(b);
	pb_end(b);
	pb_end(b);
	pb_end(b);
	pb_end(b);
	pb_end(b);
	pb_begin(b, 11);
	pb_str(b, 2, TEXT);
	pb_attr(b, 3, TEXT, "value");
	pb_attr(b, 3, "key", TEXT);
	pb_end(b);
	pb_begin(b, 13);
	pb_str(b, 3, TEXT);
	pb_attr(b, 4, "key", TEXT);
	pb_end(b);
	pb_begin(b, 15);
	pb_str(b, 2, TEXT);
	pb_end(b);
	pb_end(b);
	put_span_full(b);
	pb_end(b);
	pb_begin(b, 2);
	put_span_full(b);
	pb_end(b);
	pb_end(b);
	return k;
#undef TEXT
}

static void IN_14_invalid_utf8(void **state)
{
	static const char *const bad[] = {
	    "\x80",
	    "\xc0\xaf",
	    "\xe0\x80\xaf",
	    "\xed\xa0\x80",
	    "\xf4\x90\x80\x80",
	    "\xf8\x88\x80\x80\x80",
	    "\xc3",
	    "\xe2\x82",
	    "\xf0\x9f\x98",
	    "good until here, then \xff, then good again",
	};
	static const char *const good[] = {
	    "\xc2\x80",
	    "\xed\x9f\xbf",
	    "\xee\x80\x80",
	    "\xf4\x8f\xbf\xbf",
	    "\xf0\x9f\x98\x80 and a longer ASCII text behind it \xe2\x82\xac",
	};
	struct fixture x;
	int fields;

	(void)state;
	fixture_init(&x);
	fields = bad_text(&x.b, 0, "");
	assert_true(fields >= 12);
	for (int where = 0; where < fields; where++) {
		for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
			bad_text(&x.b, where, bad[i]);
			assert_int_equal(fixture_scan(&x), 0);
			assert_int_equal(x.r.span_count, 2);
			assert_int_equal(x.r.rejected[TW_REJECT_UTF8], 1);
			assert_non_null(strstr(x.r.reject_text, "spans[0]."));
			assert_non_null(strstr(x.r.reject_text, "not UTF-8 at offset"));
		}
		for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
			bad_text(&x.b, where, good[i]);
			assert_int_equal(fixture_scan(&x), 0);
			assert_int_equal(x.r.span_count, 3);
			assert_int_equal(tw_request_rejected(&x.r), 0);
		}
	}
	/* of a scope: its spans; of a resource: all of its spans; another resource's stay */
	for (int where = 0; where < 4; where++) {
		struct pb *b = &x.b;

		pb_clear(b);
		pb_begin(b, 1);
		if (where == 0) {
			pb_begin(b, 1);
			pb_attr(b, 1, "k", "\xff");
			pb_end(b);
		}
		for (int scope = 0; scope < 2; scope++) {
			pb_begin(b, 2);
			if (where == 1 && scope == 0) {
				pb_begin(b, 1);
				pb_str(b, 1, "\xff");
				pb_end(b);
			}
			put_span_full(b);
			put_span_full(b);
			if (where == 2 && scope == 0)
				pb_str(b, 3, "\xff");
			pb_end(b);
		}
		if (where == 3)
			pb_str(b, 3, "\xff");
		pb_end(b);
		open_scope(b);
		put_span_full(b);
		close_scope(b);
		assert_int_equal(fixture_scan(&x), 0);
		assert_int_equal(x.r.rejected[TW_REJECT_UTF8], where == 0 || where == 3 ? 4 : 2);
		assert_int_equal(x.r.span_count + tw_request_rejected(&x.r), 5);
		assert_int_equal(x.r.resource_count, where == 0 || where == 3 ? 1 : 2);
		for (uint32_t i = 0; i < x.r.span_count; i++)
			assert_true(x.r.scopes[x.r.spans[i].scope].resource < x.r.resource_count);
	}
	fixture_deinit(&x);
}

static void IN_15_time_nonsense(void **state)
{
	static const struct {
		uint64_t start, end, duration;
	} rows[] = {
	    {2000, 1000, 0},
	    {0, 0, 0},
	    {0, UINT64_MAX, UINT64_MAX},
	    {UINT64_MAX, 0, 0},
	    {UINT64_MAX, UINT64_MAX, 0},
	    {UINT64_C(9214646400000000000), UINT64_C(9214646400000000005), 5}, /* year 2262 */
	    {UINT64_C(3600000000000), 0, 0},
	};
	struct fixture x;

	(void)state;
	fixture_init(&x);
	open_scope(&x.b);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		pb_begin(&x.b, 2);
		put_ids(&x.b);
		pb_fixed64(&x.b, 7, rows[i].start);
		pb_fixed64(&x.b, 8, rows[i].end);
		pb_end(&x.b);
	}
	close_scope(&x.b);
	assert_int_equal(fixture_scan(&x), 0);
	assert_int_equal(x.r.span_count, sizeof(rows) / sizeof(rows[0]));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_true(x.r.spans[i].start_ns == rows[i].start);
		assert_true(x.r.spans[i].duration_ns == rows[i].duration);
	}
	fixture_deinit(&x);
}

/* Two spans of one id, an attribute twice (the first counts), a span that is its own parent: all
 * are views. */
static void IN_16_dup_span_ids_dup_attributes_self_parent(void **state)
{
	struct fixture x;

	(void)state;
	fixture_init(&x);
	open_scope(&x.b);
	for (int i = 0; i < 2; i++) {
		pb_begin(&x.b, 2);
		put_ids(&x.b);
		pb_bytes(&x.b, 4, fixture_span_id, 8);
		pb_str(&x.b, 5, "n");
		pb_fixed64(&x.b, 7, 1);
		pb_fixed64(&x.b, 8, 2);
		pb_attr(&x.b, 9, "http.route", "first");
		pb_attr(&x.b, 9, "http.route", "second");
		pb_attr_int(&x.b, 9, "http.route", 3);
		pb_end(&x.b);
	}
	close_scope(&x.b);
	assert_int_equal(fixture_scan(&x), 0);
	assert_int_equal(x.r.span_count, 2);
	for (int i = 0; i < 2; i++) {
		const struct tw_span *s = &x.r.spans[i];

		assert_true(s->parent_id == s->span_id);
		assert_int_equal(s->flags & TW_SPAN_ROOT, 0);
		assert_int_equal(s->rest->slots[KEY_ROUTE].type, TW_VALUE_STRING);
		assert_memory_equal(s->rest->slots[KEY_ROUTE].p, "first", 5);
	}
	fixture_deinit(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(IN_06_truncated_protobuf),
	    cmocka_unit_test(IN_07_overlong_varint),
	    cmocka_unit_test(IN_08_length_overflow),
	    cmocka_unit_test(IN_09_deep_anyvalue),
	    cmocka_unit_test(IN_10_million_empty_children),
	    cmocka_unit_test(IN_11_repeated_singular),
	    cmocka_unit_test(IN_12_bad_ids),
	    cmocka_unit_test(IN_14_invalid_utf8),
	    cmocka_unit_test(IN_15_time_nonsense),
	    cmocka_unit_test(IN_16_dup_span_ids_dup_attributes_self_parent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
