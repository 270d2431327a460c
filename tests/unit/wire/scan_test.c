#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "scan_fixture.h"
#include "tw/base/mem.h"

static bool is(const uint8_t *p, uint32_t n, const char *text)
{
	return tw_slice_eq(tw_slice(p, n), tw_slice_str(text));
}

static void check_full(const struct tw_request *r, const struct tw_span *s)
{
	assert_true(s->trace_id.hi == UINT64_C(0x0102030405060708));
	assert_true(s->trace_id.lo == UINT64_C(0x090a0b0c0d0e0f10));
	assert_true(s->span_id == UINT64_C(0xa1a2a3a4a5a6a7a8));
	assert_int_equal(s->parent_id, 9);
	assert_int_equal(s->start_ns, 1000);
	assert_int_equal(s->duration_ns, 500);
	assert_true(is(s->rest->name, s->rest->name_n, "GET /cart"));
	assert_true(is(s->rest->tracestate, s->rest->tracestate_n, "ot=th:8"));
	assert_true(is(s->rest->status_message, s->rest->status_message_n, "boom"));
	assert_int_equal(s->kind, TW_KIND_SERVER);
	assert_int_equal(s->status, TW_STATUS_ERROR);
	assert_int_equal(s->flags, TW_SPAN_RANDOM | TW_SPAN_TRACESTATE);
	assert_int_equal(s->rest->w3c_flags, 0x103);
	assert_int_equal(s->rest->slots_set, 1 << KEY_ROUTE | 1 << KEY_STATUS);
	assert_int_equal(s->rest->slots[KEY_ROUTE].type, TW_VALUE_STRING);
	assert_true(is(s->rest->slots[KEY_ROUTE].p, s->rest->slots[KEY_ROUTE].n, "/cart"));
	assert_int_equal(s->rest->slots[KEY_STATUS].type, TW_VALUE_INT);
	assert_int_equal(s->rest->slots[KEY_STATUS].i, 500);
	assert_true(s->scope < r->scope_count);
	assert_true(r->scopes[s->scope].resource < r->resource_count);
	assert_true(s->hash ==
	            tw_hash_u64x2((struct tw_hash_key){11, 22}, s->trace_id.hi, s->trace_id.lo));
}

static void a_whole_span(void **state)
{
	struct fixture x;
	const struct tw_resource *res;
	const struct tw_scope *scope;

	(void)state;
	fixture_init(&x);
	open_scope(&x.b);
	put_span_full(&x.b);
	put_span_full(&x.b);
	close_scope(&x.b);
	assert_int_equal(fixture_scan(&x), 0);
	assert_int_equal(x.r.span_count, 2);
	assert_int_equal(x.r.resource_count, 1);
	assert_int_equal(x.r.scope_count, 1);
	check_full(&x.r, &x.r.spans[0]);
	check_full(&x.r, &x.r.spans[1]);
	res = &x.r.resources[0];
	assert_int_equal(res->slots_set, 1 << KEY_SERVICE);
	assert_true(is(res->slots[KEY_SERVICE].p, res->slots[KEY_SERVICE].n, "shop"));
	scope = &x.r.scopes[0];
	assert_true(tw_slice_eq(scope->name, tw_slice_str("lib")));
	assert_true(tw_slice_eq(scope->version, tw_slice_str("1.0")));
	/* borrowed, not copied */
	assert_true(res->head.p > x.b.p && res->head.p < x.b.p + x.b.n);
	assert_true(scope->head.p > x.b.p && scope->head.p < x.b.p + x.b.n);
	assert_int_equal(x.r.arena.used, 0);
	fixture_deinit(&x);
}

/* The same fields, last first: the generic loop, at the end of the body as well as in the middle.
 */
static void fields_in_reverse_order(void **state)
{
	struct fixture x;
	uint8_t parent[8] = {0, 0, 0, 0, 0, 0, 0, 9};

	(void)state;
	fixture_init(&x);
	for (int i = 0; i < 2; i++) {
		struct pb *b = &x.b;

		open_scope(b);
		pb_begin(b, 2);
		pb_fixed32(b, 16, 0x103);
		pb_begin(b, 15);
		pb_varint(b, 3, TW_STATUS_ERROR);
		pb_end(b);
		pb_begin(b, 15); /* merges with the one before */
		pb_str(b, 2, "boom");
		pb_end(b);
		pb_varint(b, 77, 5); /* unknown */
		pb_str(b, 1000, "unknown");
		pb_attr_int(b, 9, "http.response.status_code", 500);
		pb_attr(b, 9, "http.route", "/cart");
		pb_attr(b, 9, "http.route", "/second");
		pb_fixed64(b, 8, 1500);
		pb_fixed64(b, 7, 1000);
		pb_varint(b, 6, TW_KIND_CLIENT);
		pb_varint(b, 6, TW_KIND_SERVER); /* the last one counts */
		pb_str(b, 5, "first name");
		pb_str(b, 5, "GET /cart");
		pb_bytes(b, 4, parent, 8);
		pb_str(b, 3, "ot=th:8");
		pb_bytes(b, 2, fixture_span_id, 8);
		pb_bytes(b, 1, "short", 5);
		pb_bytes(b, 1, fixture_trace_id, 16);
		pb_end(b);
		close_scope(b);
	}
	assert_int_equal(fixture_scan(&x), 0);
	assert_int_equal(x.r.span_count, 2);
	assert_int_equal(x.r.resource_count, 2);
	check_full(&x.r, &x.r.spans[0]);
	check_full(&x.r, &x.r.spans[1]);
	assert_true(x.r.resources[0].hash == x.r.resources[1].hash);
	assert_true(x.r.scopes[0].hash == x.r.scopes[1].hash);
	fixture_deinit(&x);
}

/* Every value type in a slot, in and out of the usual form. */
static void attribute_values(void **state)
{
	struct fixture x;
	char url[301];

	(void)state;
	fixture_init(&x);
	memset(url, 'u', 300);
	url[300] = '\0';
	for (int form = 0; form < 9; form++) {
		struct pb *b = &x.b;
		const struct tw_value *v;

		pb_clear(b);
		open_scope(b);
		pb_begin(b, 2);
		put_ids(b);
		pb_str(b, 5, "n");
		pb_fixed64(b, 7, 1);
		pb_fixed64(b, 8, 2);
		pb_begin(b, 9);
		pb_str(b, 1, "db.system");
		pb_begin(b, 2);
		switch (form) {
		case 0:
			pb_varint(b, 2, 1);
			break;
		case 1:
			pb_varint(b, 3, (uint64_t)-5);
			break;
		case 2:
			pb_double(b, 4, -2.5);
			break;
		case 3:
			pb_bytes(b, 7, "\xff\x00", 2);
			break;
		case 4: /* array of one int */
			pb_begin(b, 5);
			pb_begin(b, 1);
			pb_varint(b, 3, 1);
			pb_end(b);
			pb_end(b);
			break;
		case 5:
			pb_begin(b, 6);
			pb_attr(b, 1, "k", "v");
			pb_end(b);
			break;
		case 6:
			break;
		case 7:
			pb_str(b, 1, url);
			break;
		case 8:
			pb_str(b, 1, "gr\xc3\xbc\xc3\x9f");
			break;
		}
		pb_end(b);
		pb_end(b);
		pb_attr(b, 9, "http.route", "/after");
		pb_fixed32(b, 16, 1);
		pb_end(b);
		pb_str(
		    b, 3,
		    "https://schema.example/a/long/enough/text/to/have/64/bytes/behind/the/span");
		close_scope(b);
		assert_int_equal(fixture_scan(&x), 0);
		assert_int_equal(x.r.span_count, 1);
		assert_int_equal(x.r.spans[0].rest->slots_set, 1 << KEY_DB | 1 << KEY_ROUTE);
		assert_int_equal(x.r.spans[0].rest->w3c_flags, 1);
		v = &x.r.spans[0].rest->slots[KEY_DB];
		switch (form) {
		case 0:
			assert_int_equal(v->type, TW_VALUE_BOOL);
			assert_int_equal(v->i, 1);
			break;
		case 1:
			assert_int_equal(v->type, TW_VALUE_INT);
			assert_int_equal(v->i, -5);
			break;
		case 2:
			assert_int_equal(v->type, TW_VALUE_DOUBLE);
			assert_true(v->d == -2.5);
			break;
		case 3:
			assert_int_equal(v->type, TW_VALUE_BYTES);
			assert_int_equal(v->n, 2);
			break;
		case 4:
			assert_int_equal(v->type, TW_VALUE_ARRAY);
			break;
		case 5:
			assert_int_equal(v->type, TW_VALUE_KVLIST);
			break;
		case 6:
			assert_int_equal(v->type, TW_VALUE_NONE);
			break;
		case 7:
			assert_true(is(v->p, v->n, url));
			break;
		case 8:
			assert_true(is(v->p, v->n, "gr\xc3\xbc\xc3\x9f"));
			break;
		}
	}
	fixture_deinit(&x);
}

static void attribute_oddities(void **state)
{
	struct fixture x;
	struct pb *b = &x.b;
	const struct tw_span *s;

	(void)state;
	fixture_init(&x);
	open_scope(b);
	pb_begin(b, 2);
	put_ids(b);
	pb_begin(b, 9); /* value before key, value twice: merged, the last of the oneof counts */
	pb_begin(b, 2);
	pb_str(b, 1, "old");
	pb_end(b);
	pb_begin(b, 2);
	pb_varint(b, 3, 7);
	pb_end(b);
	pb_begin(b, 2);
	pb_end(b);
	pb_str(b, 1, "zzz");
	pb_str(b, 1, "db.system");
	pb_varint(b, 3, 1); /* key_strindex: of profiles, ignored */
	pb_end(b);
	pb_begin(b, 9); /* no key, no value */
	pb_end(b);
	pb_attr(b, 9, "", "x");
	pb_end(b);
	close_scope(b);
	assert_int_equal(fixture_scan(&x), 0);
	assert_int_equal(x.r.span_count, 1);
	s = &x.r.spans[0];
	assert_int_equal(s->rest->slots_set, 1 << KEY_DB | 1 << KEY_EMPTY);
	assert_int_equal(s->rest->slots[KEY_DB].type, TW_VALUE_INT);
	assert_int_equal(s->rest->slots[KEY_DB].i, 7);
	assert_int_equal(s->rest->slots[KEY_EMPTY].type, TW_VALUE_NONE);
	fixture_deinit(&x);
}

/* schema_url and a second part of the resource come after the spans: heads in two pieces are
 * joined, in order. */
static void heads_in_pieces(void **state)
{
	struct fixture x;
	struct pb *b = &x.b, want = {0};

	(void)state;
	fixture_init(&x);
	pb_begin(b, 1);
	pb_begin(b, 1);
	pb_varint(b, 2, 4);
	pb_end(b);
	pb_begin(b, 2);
	pb_begin(b, 1);
	pb_str(b, 1, "old");
	pb_end(b);
	put_span_full(b);
	pb_begin(b, 1);
	pb_str(b, 1, "new");
	pb_end(b);
	put_span_full(b);
	pb_str(b, 3, "scope-schema");
	pb_end(b);
	pb_begin(b, 1);
	pb_attr(b, 1, "service.name", "late");
	pb_attr(b, 1, "service.name", "later");
	pb_end(b);
	pb_str(b, 3, "resource-schema");
	pb_end(b);
	assert_int_equal(fixture_scan(&x), 0);
	assert_int_equal(x.r.span_count, 2);
	assert_true(tw_slice_eq(x.r.scopes[0].name, tw_slice_str("new")));
	assert_int_equal(x.r.resources[0].slots_set, 1);
	assert_true(is(x.r.resources[0].slots[0].p, x.r.resources[0].slots[0].n, "late"));
	pb_begin(&want, 1);
	pb_varint(&want, 2, 4);
	pb_end(&want);
	pb_begin(&want, 1);
	pb_attr(&want, 1, "service.name", "late");
	pb_attr(&want, 1, "service.name", "later");
	pb_end(&want);
	pb_str(&want, 3, "resource-schema");
	assert_int_equal(x.r.resources[0].head.n, want.n);
	assert_memory_equal(x.r.resources[0].head.p, want.p, want.n);
	pb_free(&want);
	fixture_deinit(&x);
}

static void groups_without_spans_leave_nothing(void **state)
{
	struct fixture x;
	struct pb *b = &x.b;

	(void)state;
	fixture_init(&x);
	assert_int_equal(fixture_scan(&x), 0); /* empty request: success */
	pb_begin(b, 1);
	pb_end(b);
	open_scope(b);
	close_scope(b);
	open_scope(b);
	put_span_full(b);
	pb_end(b);
	pb_begin(b, 2);
	pb_end(b);
	pb_begin(b, 2);
	put_span_full(b);
	pb_end(b);
	pb_end(b);
	assert_int_equal(fixture_scan(&x), 0);
	assert_int_equal(x.r.span_count, 2);
	assert_int_equal(x.r.resource_count, 1);
	assert_int_equal(x.r.scope_count, 2);
	assert_int_equal(x.r.spans[1].scope, 1);
	assert_int_equal(x.r.scopes[1].resource, 0);
	assert_true(x.r.scopes[0].hash != x.r.scopes[1].hash);
	fixture_deinit(&x);
}

static void one_span_on_its_own(void **state)
{
	struct fixture x, y;
	const struct tw_span *s;
	int e;

	(void)state;
	fixture_init(&x);
	fixture_init(&y);
	open_scope(&x.b);
	put_span_full(&x.b);
	close_scope(&x.b);
	assert_int_equal(fixture_scan(&x), 0);
	s = &x.r.spans[0];
	e = tw_otlp_scan_one(&y.o, x.r.resources[0].head, x.r.scopes[0].head,
	                     tw_slice(s->bytes, s->bytes_n), &y.r, &y.err);
	assert_int_equal(e, 0);
	assert_int_equal(y.r.span_count, 1);
	check_full(&y.r, &y.r.spans[0]);
	assert_true(y.r.resources[0].hash == x.r.resources[0].hash);
	assert_true(y.r.scopes[0].hash == x.r.scopes[0].hash);
	assert_int_equal(y.r.resources[0].slots_set, 1);
	tw_request_reset(&y.r);
	e = tw_otlp_scan_one(&y.o, x.r.resources[0].head, x.r.scopes[0].head,
	                     tw_slice(s->bytes, s->bytes_n - 1), &y.r, &y.err);
	assert_int_equal(e, TW_EINVAL);
	tw_request_reset(&y.r);
	e = tw_otlp_scan_one(&y.o, tw_slice(NULL, 0), tw_slice(NULL, 0), tw_slice(NULL, 0), &y.r,
	                     &y.err);
	assert_int_equal(e, 0);
	assert_int_equal(y.r.span_count, 0);
	assert_int_equal(tw_request_rejected(&y.r), 1);
	fixture_deinit(&x);
	fixture_deinit(&y);
}

/* The n-th allocation fails, for every n: an answer, and nothing leaks. */
static void refused_memory(void **state)
{
	struct fixture x;
	int e = TW_ENOMEM;

	(void)state;
	fixture_init(&x);
	for (int i = 0; i < 200; i++) {
		pb_begin(&x.b, 1);
		pb_begin(&x.b, 2);
		put_span_full(&x.b);
		pb_end(&x.b);
		pb_str(&x.b, 3, "u");
		pb_begin(&x.b, 2);
		put_span_full(&x.b);
		pb_end(&x.b);
		pb_str(&x.b, 3, "u");
		pb_end(&x.b);
	}
	for (uint64_t n = 1; e; n++) {
		assert_true(n < 100);
		tw_request_deinit(&x.r);
		tw_request_init(&x.r);
		tw_mem_fail_at(n, true);
		e = fixture_scan(&x);
		tw_mem_fail_at(0, false);
		assert_true(e == 0 || e == TW_ENOMEM);
	}
	assert_int_equal(x.r.span_count, 400);
	fixture_deinit(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_whole_span),
	    cmocka_unit_test(fields_in_reverse_order),
	    cmocka_unit_test(attribute_values),
	    cmocka_unit_test(attribute_oddities),
	    cmocka_unit_test(heads_in_pieces),
	    cmocka_unit_test(groups_without_spans_leave_nothing),
	    cmocka_unit_test(one_span_on_its_own),
	    cmocka_unit_test(refused_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
