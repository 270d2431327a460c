/* What the scanner learns, and what it must not. That the views are the same is the oracle's part.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <inttypes.h>
#include <stdio.h>

#include <cmocka.h>

#include "scan_fixture.h"

static uint64_t number; /* so that no id comes twice */

static void put_span(struct pb *b, const char *name, const char *user, int64_t status)
{
	uint64_t id[2] = {++number, 1}, span = number, parent = 7;

	pb_begin(b, 2);
	pb_bytes(b, 1, id, 16);
	pb_bytes(b, 2, &span, 8);
	pb_bytes(b, 4, &parent, 8);
	pb_str(b, 5, name);
	pb_varint(b, 6, 2);
	pb_fixed64(b, 7, 1000 + number);
	pb_fixed64(b, 8, 2000 + 2 * number);
	pb_attr(b, 9, "http.request.method", "GET");
	pb_attr(b, 9, "user.id", user);
	pb_attr_int(b, 9, "http.response.status_code", status);
	pb_attr(b, 9, "net.transport", "a value that is always the same, and some more of it");
	pb_fixed32(b, 16, 0x101);
	pb_end(b);
}

/* Room behind the last span, as a body of many has. */
static void put_tail(struct pb *b)
{
	uint8_t nothing[400] = {0};

	pb_bytes(b, 100, nothing, sizeof(nothing));
}

/* What was written is one span; its view. */
static const struct tw_span *scan_it(struct fixture *x)
{
	put_tail(&x->b);
	assert_int_equal(fixture_scan(x), 0);
	assert_int_equal(x->r.span_count, 1);
	return &x->r.spans[0];
}

/* One request with one span. */
static const struct tw_span *scan_one(struct fixture *x, const char *name, const char *user,
                                      int64_t status)
{
	pb_clear(&x->b);
	pb_begin(&x->b, 1);
	pb_begin(&x->b, 2);
	put_span(&x->b, name, user, status);
	pb_end(&x->b);
	pb_end(&x->b);
	return scan_it(x);
}

/* One of the two spans written is not UTF-8. */
static void scan_one_of_two(struct fixture *x)
{
	put_tail(&x->b);
	assert_int_equal(fixture_scan(x), 0);
	assert_int_equal(x->r.span_count, 1);
	assert_int_equal(x->r.rejected[TW_REJECT_UTF8], 1);
}

static const struct tw_template *template_of(const struct fixture *x)
{
	uint32_t operation = x->r.spans[0].operation;

	return operation ? x->r.operations[operation - 1].template : NULL;
}

static void init(struct fixture *x, size_t bytes_max)
{
	fixture_init(x);
	x->o.templates = tw_templates_create(x->o.key, bytes_max);
	assert_non_null(x->o.templates);
	(void)tw_templates_generation(x->o.templates, 1);
}

static void deinit(struct fixture *x)
{
	tw_request_reset(&x->r);
	tw_templates_destroy(&x->o.templates);
	fixture_deinit(x);
}

static void a_name_is_learnt_when_it_comes_again(void **state)
{
	struct fixture x;

	(void)state;
	init(&x, 1 << 20);
	assert_int_equal(scan_one(&x, "GET /", "ada", 200)->operation, 0);
	assert_int_equal(tw_templates_stats(x.o.templates).shapes, 0);
	assert_int_equal(scan_one(&x, "GET /", "ada", 200)->operation, 0);
	assert_int_equal(tw_templates_stats(x.o.templates).shapes, 1);
	assert_true(scan_one(&x, "GET /", "ada", 200)->operation != 0);
	assert_int_equal(x.r.plain_count, 0);
	assert_int_equal(template_of(&x)->layout.value_count, 0);
	assert_true(template_of(&x)->fixed);
	deinit(&x);
}

static void a_value_that_nobody_reads_may_differ(void **state)
{
	struct fixture x;
	const struct tw_place *place;

	(void)state;
	init(&x, 1 << 20);
	for (int i = 0; i < 3; i++)
		(void)scan_one(&x, "GET /", i % 2 ? "ada" : "grace", 200);
	assert_true(scan_one(&x, "GET /", "margaret", 200)->operation != 0);
	assert_int_equal(template_of(&x)->layout.value_count, 1);
	assert_true(template_of(&x)->fixed);
	place = &x.r.places[x.r.spans[0].places];
	assert_int_equal(place->n, 8);
	assert_memory_equal(x.r.spans[0].bytes + place->at, "margaret", 8);
	deinit(&x);
}

/* ---- trace states ---- */

/* One request with one span, whose trace state is n bytes, and which has as many values that
 * differ, all of one length. */
static const struct tw_span *scan_state(struct fixture *x, const char *text, size_t n,
                                        uint32_t values)
{
	uint64_t id[2] = {++number, 1}, span = number;

	pb_clear(&x->b);
	pb_begin(&x->b, 1);
	pb_begin(&x->b, 2);
	pb_begin(&x->b, 2);
	pb_bytes(&x->b, 1, id, 16);
	pb_bytes(&x->b, 2, &span, 8);
	pb_bytes(&x->b, 3, text, n);
	pb_str(&x->b, 5, "GET /");
	pb_fixed64(&x->b, 7, 1000 + number);
	pb_fixed64(&x->b, 8, 2000 + number);
	pb_attr(&x->b, 9, "http.route", "/");
	for (uint32_t i = 0; i < values; i++) {
		char key[16], value[16];

		snprintf(key, sizeof(key), "key.%u", i);
		snprintf(value, sizeof(value), "%08" PRIu64, number);
		pb_attr(&x->b, 9, key, value);
	}
	pb_end(&x->b);
	pb_end(&x->b);
	pb_end(&x->b);
	return scan_it(x);
}

/* A new text, a known one, one of another length, one that is not ASCII, the longest. */
static void a_trace_state_may_differ(void **state)
{
	char longest[TW_TEMPLATE_NAME_MAX + 1];
	const char *const texts[] = {
	    "ot=th:8", "ot=th:8", "ot=th:c", "congo=t61rcWkgMzE", "x=gr\xc3\xbc\xc3\x9f",
	    longest,   "a"};
	struct fixture x;

	(void)state;
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	init(&x, 1 << 20);
	for (int i = 0; i < 3; i++)
		(void)scan_state(&x, "ot=th:8", 7, 0);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		const struct tw_span *s = scan_state(&x, texts[i], strlen(texts[i]), 0);

		assert_true(s->operation != 0);
		assert_int_equal(s->flags, TW_SPAN_ROOT | TW_SPAN_TRACESTATE);
		assert_int_equal(s->rest->tracestate_n, strlen(texts[i]));
		assert_memory_equal(s->rest->tracestate, texts[i], strlen(texts[i]));
		assert_ptr_equal(s->rest->tracestate, s->bytes + 30);
		assert_int_equal(s->rest->name_n, 5);
		assert_int_equal(s->rest->slots_set, 1u << KEY_ROUTE);
		assert_memory_equal(s->rest->slots[KEY_ROUTE].p, "/", 1);
		assert_int_equal(s->start_ns, 1000 + number);
		assert_int_equal(s->duration_ns, 1000);
		assert_int_equal(x.r.places[s->places].at, 30);
		assert_int_equal(x.r.places[s->places].n, strlen(texts[i]));
	}
	assert_true(template_of(&x)->layout.has_state);
	assert_true(template_of(&x)->fixed);
	assert_int_equal(template_of(&x)->layout.value_count, 1);
	assert_int_equal(tw_templates_stats(x.o.templates).templates, 1);
	deinit(&x);
}

static void an_odd_trace_state_is_read_without_a_template(void **state)
{
	char text[TW_TEMPLATE_NAME_MAX + 1];
	const struct tw_span *s;
	struct fixture x;

	(void)state;
	memset(text, 'x', sizeof(text));
	init(&x, 1 << 20);
	for (int i = 0; i < 4; i++) {
		s = scan_state(&x, text, sizeof(text), 0);
		assert_int_equal(s->operation, 0);
		assert_int_equal(s->rest->tracestate_n, sizeof(text));
		s = scan_state(&x, "", 0, 0);
		assert_int_equal(s->operation, 0);
		assert_int_equal(s->flags, TW_SPAN_ROOT);
	}
	assert_int_equal(tw_templates_stats(x.o.templates).shapes, 0);
	deinit(&x);
}

static void a_trace_state_is_one_of_the_values(void **state)
{
	struct fixture x;

	(void)state;
	init(&x, 1 << 20);
	for (int i = 0; i < 4; i++)
		(void)scan_state(&x, "ot=th:8", 7, TW_TEMPLATE_VALUES_MAX - 1);
	assert_true(scan_state(&x, "a=b", 3, TW_TEMPLATE_VALUES_MAX - 1)->operation != 0);
	assert_int_equal(template_of(&x)->layout.value_count, TW_TEMPLATE_VALUES_MAX);
	deinit(&x);
	init(&x, 1 << 20);
	for (int i = 0; i < 8; i++)
		assert_int_equal(scan_state(&x, "ot=th:8", 7, TW_TEMPLATE_VALUES_MAX)->operation,
		                 0);
	deinit(&x);
}

/* What is recognised at sight must be what is recognised otherwise: lengths that were not there
 * before, text that is not ASCII, and what is no text at all. */
static void a_value_may_have_any_length_and_be_any_text(void **state)
{
	static const char *const users[] = {"ada", "ida",  "\xc5\xbdofie", "grace",
	                                    "",    "emmy", "ada"};
	struct fixture x;

	(void)state;
	init(&x, 1 << 20);
	for (int i = 0; i < 4; i++)
		(void)scan_one(&x, "GET /", i % 2 ? "ada" : "eve", 200);
	for (size_t i = 0; i < sizeof(users) / sizeof(users[0]); i++) {
		const struct tw_span *s = scan_one(&x, "GET /", users[i], 200);
		struct tw_place at = x.r.places[s->places];

		assert_true(s->operation != 0);
		assert_int_equal(at.n, strlen(users[i]));
		assert_memory_equal(s->bytes + at.at, users[i], at.n);
	}
	pb_clear(&x.b);
	pb_begin(&x.b, 1);
	pb_begin(&x.b, 2);
	put_span(&x.b, "GET /", "\xff", 200);
	put_span(&x.b, "GET /", "eva", 200);
	pb_end(&x.b);
	pb_end(&x.b);
	scan_one_of_two(&x);
	assert_true(x.r.spans[0].operation != 0);
	deinit(&x);
}

static void values_that_are_read_are_branches_as_long_as_they_are_few(void **state)
{
	struct fixture x;
	const struct tw_span *s;

	(void)state;
	init(&x, 1 << 20);
	for (int i = 0; i < 12; i++)
		s = scan_one(&x, "GET /", "ada", 200 + i % 3);
	assert_true(s->operation != 0);
	assert_true(template_of(&x)->fixed);
	assert_ptr_equal(s->rest, &template_of(&x)->rest);
	assert_int_equal(s->rest->slots[KEY_STATUS].i, 202);
	for (int i = 0; i < 60; i++)
		s = scan_one(&x, "GET /", "ada", 300 + i);
	s = scan_one(&x, "GET /", "ada", 599);
	assert_true(s->operation != 0);
	assert_false(template_of(&x)->fixed);
	assert_ptr_equal(s->rest, &x.r.rests[0]); /* its own */
	assert_int_equal(s->rest->slots[KEY_STATUS].i, 599);
	assert_int_equal(x.r.rest_count, 1);
	deinit(&x);
}

static void another_generation_forgets(void **state)
{
	struct fixture x;

	(void)state;
	init(&x, 1 << 20);
	for (int i = 0; i < 4; i++)
		(void)scan_one(&x, "GET /", "ada", 200);
	assert_non_null(template_of(&x));
	tw_templates_generation(x.o.templates, 1);
	assert_int_equal(tw_templates_stats(x.o.templates).templates, 1);
	tw_templates_generation(x.o.templates, 2);
	/* The request still has its template. */
	assert_true(template_of(&x)->fixed);
	assert_int_equal(tw_templates_stats(x.o.templates).templates, 0);
	assert_int_equal(scan_one(&x, "GET /", "ada", 200)->operation, 0);
	deinit(&x);
}

static void names_that_never_repeat_take_no_memory(void **state)
{
	struct fixture x;
	char name[32];

	(void)state;
	init(&x, 1 << 20);
	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "GET /orders/%08x", (unsigned)i * 2654435761u);
		(void)scan_one(&x, name, "ada", 200);
	}
	/* But for those that a tag of 15 bits took for another. */
	assert_true(tw_templates_stats(x.o.templates).shapes < 10);
	deinit(&x);
}

static void memory_is_bounded_and_what_is_used_stays(void **state)
{
	struct fixture x;
	struct tw_template_stats st;
	char name[32];

	(void)state;
	init(&x, 100000);
	for (int i = 0; i < 6000; i++) {
		snprintf(name, sizeof(name), "GET /orders/%08x", (unsigned)(i / 2) * 2654435761u);
		(void)scan_one(&x, name, "ada", 200);
		if (i % 8 == 0)
			(void)scan_one(&x, "GET /busy", "ada", 200);
	}
	st = tw_templates_stats(x.o.templates);
	assert_true(st.evicted > 100);
	assert_true(st.bytes < 100000 + 330000); /* and the cache's own tables */
	assert_true(scan_one(&x, "GET /busy", "ada", 200)->operation != 0);
	deinit(&x);
}

/* Spans of one name that have an attribute of their own each fill their shape, and then it is left
 * alone. */
static void a_shape_has_a_bounded_size(void **state)
{
	struct fixture x;
	char user[300];

	(void)state;
	init(&x, 1 << 20);
	for (int i = 0; i < 2000; i++) {
		pb_clear(&x.b);
		pb_begin(&x.b, 1);
		pb_begin(&x.b, 2);
		snprintf(user, sizeof(user), "key.%d", i);
		put_span(&x.b, "GET /", "ada", 200);
		pb_begin(&x.b, 2);
		pb_bytes(&x.b, 1, (uint64_t[2]){i + 1u, 2}, 16);
		pb_bytes(&x.b, 2, (uint64_t[1]){i + 1u}, 8);
		pb_str(&x.b, 5, "POST /");
		pb_fixed64(&x.b, 7, 1);
		pb_fixed64(&x.b, 8, 2);
		pb_attr(&x.b, 9, user, "a value");
		pb_end(&x.b);
		pb_end(&x.b);
		pb_end(&x.b);
		put_tail(&x.b);
		assert_int_equal(fixture_scan(&x), 0);
		assert_int_equal(x.r.span_count, 2);
	}
	assert_true(tw_templates_stats(x.o.templates).bytes < 450000);
	assert_true(tw_templates_stats(x.o.templates).learned < 200);
	assert_true(x.r.spans[0].operation != 0);
	deinit(&x);
}

/* Its scope takes no number, so the next group's spans may share the operation. */
static void a_group_that_is_left_out_leaves_its_operations_unused(void **state)
{
	struct fixture x;

	(void)state;
	init(&x, 1 << 20);
	for (int i = 0; i < 4; i++)
		(void)scan_one(&x, "GET /", "ada", 200);
	pb_clear(&x.b);
	pb_begin(&x.b, 1);
	pb_begin(&x.b, 2);
	pb_begin(&x.b, 1);
	pb_str(&x.b, 1, "not \xff UTF-8");
	pb_end(&x.b);
	put_span(&x.b, "GET /", "ada", 200);
	pb_end(&x.b);
	pb_begin(&x.b, 2);
	put_span(&x.b, "GET /", "ada", 200);
	pb_end(&x.b);
	pb_end(&x.b);
	scan_one_of_two(&x);
	assert_int_equal(x.r.scope_count, 1);
	assert_true(x.r.spans[0].operation != 0);
	assert_int_equal(x.r.operations[x.r.spans[0].operation - 1].scope, x.r.scopes[0].hash);
	deinit(&x);
}

/* What follows behind a group's spans is a part of its head, too: a schema's URL is, and fields in
 * an order of their own. */
static void put_group(struct pb *b, const char *version, const char *schema)
{
	pb_begin(b, 1);
	pb_begin(b, 2);
	for (int i = 0; i < 3; i++)
		put_span(b, "GET /", "ada", 200);
	pb_begin(b, 1);
	pb_str(b, 2, version);
	pb_end(b);
	pb_end(b);
	pb_str(b, 3, schema);
	pb_end(b);
}

static void operations_are_told_apart_by_what_follows_their_spans(void **state)
{
	struct fixture x;
	uint32_t first = 0, second = 0;

	(void)state;
	init(&x, 1 << 20);
	for (int i = 0; i < 4; i++)
		(void)scan_one(&x, "GET /", "ada", 200);
	for (int lap = 0; lap < 3; lap++) {
		pb_clear(&x.b);
		put_group(&x.b, "1", "a");
		put_group(&x.b, "1", "b");
		put_group(&x.b, "2", "a");
		put_group(&x.b, "1", "a");
		put_tail(&x.b);
		assert_int_equal(fixture_scan(&x), 0);
		assert_int_equal(x.r.span_count, 12);
		for (uint32_t i = 0; i < 12; i++) {
			const struct tw_span *v = &x.r.spans[i];

			assert_true(v->operation != 0);
			assert_int_equal(x.r.operations[v->operation - 1].scope,
			                 x.r.scopes[v->scope].hash);
			assert_int_equal(v->operation, x.r.spans[i / 3 * 3].operation);
		}
		assert_int_equal(x.r.spans[0].operation, x.r.spans[9].operation);
		assert_int_not_equal(x.r.spans[0].operation, x.r.spans[3].operation);
		assert_int_not_equal(x.r.spans[0].operation, x.r.spans[6].operation);
		assert_int_not_equal(x.r.spans[3].operation, x.r.spans[6].operation);
		/* The same from request to request. */
		assert_true(lap == 0 ||
		            (first == x.r.spans[0].operation && second == x.r.spans[3].operation));
		first = x.r.spans[0].operation;
		second = x.r.spans[3].operation;
	}
	deinit(&x);
}

/* One request with one span of a resource of its own. */
static const struct tw_span *scan_of_resource(struct fixture *x, const char *service)
{
	pb_clear(&x->b);
	pb_begin(&x->b, 1);
	pb_begin(&x->b, 1);
	pb_attr(&x->b, 1, "service.name", service);
	pb_end(&x->b);
	pb_begin(&x->b, 2);
	put_span(&x->b, "GET /", "ada", 200);
	pb_end(&x->b);
	pb_end(&x->b);
	return scan_it(x);
}

/* Then looking for them costs more than reading the spans. */
static void where_each_span_begins_an_operation_templates_rest(void **state)
{
	struct fixture x;
	uint64_t bytes = 0, spans = 0;
	char service[32];

	(void)state;
	init(&x, 1 << 20);
	/* Few operations, however many spans. */
	for (int i = 0; i < 40000; i++)
		assert_true(scan_of_resource(&x, i % 2 ? "a" : "b")->operation != 0 || i < 3);
	do {
		snprintf(service, sizeof(service), "service-%" PRIu64, ++spans);
	} while (scan_of_resource(&x, service)->operation != 0);
	assert_true(spans > 2000 && spans < 20000);
	/* It is tried again after a while, and goes on where that was all. */
	while (scan_of_resource(&x, "a")->operation == 0)
		bytes += x.b.n;
	assert_true(bytes > 100 << 20 && bytes < 200 << 20);
	for (int i = 0; i < 40000; i++)
		assert_true(scan_of_resource(&x, "a")->operation != 0);
	deinit(&x);
}

/* Each has a place; after a reload they are all new once more. */
static void many_new_operations_are_no_crowd(void **state)
{
	struct fixture x;

	(void)state;
	init(&x, 1 << 20);
	for (uint32_t generation = 1; generation < 4; generation++) {
		(void)tw_templates_generation(x.o.templates, generation);
		for (int i = 0; i < 9000; i++) {
			char service[32];

			snprintf(service, sizeof(service), "service-%d", i % 3000);
			assert_true(scan_of_resource(&x, service)->operation != 0 || i < 3);
		}
	}
	deinit(&x);
}

/* A body of one scope with 20 spans of one operation, and a scan of its first few. */
static struct tw_scan *scan_some(struct fixture *x)
{
	struct tw_scan *s;

	for (int i = 0; i < 4; i++)
		(void)scan_one(x, "GET /", "ada", 200);
	pb_clear(&x->b);
	pb_begin(&x->b, 1);
	pb_begin(&x->b, 2);
	for (int i = 0; i < 20; i++)
		put_span(&x->b, "GET /", "ada", 200);
	pb_end(&x->b);
	pb_end(&x->b);
	put_tail(&x->b);
	tw_request_reset(&x->r);
	s = tw_scan_begin(&x->o, tw_slice(x->b.p, x->b.n), &x->r);
	assert_non_null(s);
	assert_int_equal(tw_scan_step(s, 1000, &x->err), TW_SCAN_MORE);
	assert_true(x->r.span_count > 1 && x->r.span_count < 10);
	return s;
}

static void steps_of_two_scans_in_turns_share_templates(void **state)
{
	struct tw_request other;
	struct tw_scan *a, *b;
	struct fixture x;
	int ea = TW_SCAN_MORE, eb = TW_SCAN_MORE;

	(void)state;
	init(&x, 1 << 20);
	a = scan_some(&x);
	tw_request_init(&other);
	b = tw_scan_begin(&x.o, tw_slice(x.b.p, x.b.n), &other);
	assert_non_null(b);
	while (ea || eb) {
		if (eb)
			eb = tw_scan_step(b, 500, &x.err);
		if (ea)
			ea = tw_scan_step(a, 1000, &x.err);
		assert_true(ea >= 0 && eb >= 0);
	}
	tw_scan_end(&a);
	tw_scan_end(&b);
	/* Each goes on with the operation that it had. */
	for (int i = 0; i < 2; i++) {
		struct tw_request *r = i == 0 ? &x.r : &other;

		assert_int_equal(r->span_count, 20);
		assert_true(r->spans[0].operation != 0);
		for (uint32_t k = 0; k < 20; k++)
			assert_int_equal(r->spans[k].operation, x.r.spans[0].operation);
	}
	tw_request_deinit(&other);
	deinit(&x);
}

static void after_a_reload_the_steps_go_on_without_templates(void **state)
{
	struct tw_template_stats before, after;
	struct fixture x;
	struct tw_scan *s;
	uint32_t done;
	int e;

	(void)state;
	init(&x, 1 << 20);
	s = scan_some(&x);
	done = x.r.span_count;
	tw_templates_generation(x.o.templates, 99);
	before = tw_templates_stats(x.o.templates);
	while ((e = tw_scan_step(s, 1000, &x.err)) == TW_SCAN_MORE)
		;
	tw_scan_end(&s);
	assert_int_equal(e, 0);
	after = tw_templates_stats(x.o.templates);
	assert_int_equal(after.learned, before.learned);
	assert_int_equal(after.recognised, before.recognised);
	assert_int_equal(x.r.span_count, 20);
	for (uint32_t k = 0; k < 20; k++)
		assert_int_equal(x.r.spans[k].operation != 0, k < done);
	deinit(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_name_is_learnt_when_it_comes_again),
	    cmocka_unit_test(a_value_that_nobody_reads_may_differ),
	    cmocka_unit_test(a_value_may_have_any_length_and_be_any_text),
	    cmocka_unit_test(a_trace_state_may_differ),
	    cmocka_unit_test(an_odd_trace_state_is_read_without_a_template),
	    cmocka_unit_test(a_trace_state_is_one_of_the_values),
	    cmocka_unit_test(values_that_are_read_are_branches_as_long_as_they_are_few),
	    cmocka_unit_test(another_generation_forgets),
	    cmocka_unit_test(names_that_never_repeat_take_no_memory),
	    cmocka_unit_test(memory_is_bounded_and_what_is_used_stays),
	    cmocka_unit_test(a_shape_has_a_bounded_size),
	    cmocka_unit_test(operations_are_told_apart_by_what_follows_their_spans),
	    cmocka_unit_test(where_each_span_begins_an_operation_templates_rest),
	    cmocka_unit_test(many_new_operations_are_no_crowd),
	    cmocka_unit_test(a_group_that_is_left_out_leaves_its_operations_unused),
	    cmocka_unit_test(steps_of_two_scans_in_turns_share_templates),
	    cmocka_unit_test(after_a_reload_the_steps_go_on_without_templates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
