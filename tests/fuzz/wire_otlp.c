/* Any bytes as an OTLP request: scanned, encoded as JSON, emitted and scanned again.
 *
 * Holds: every view lies within the body or the arena; what was scanned can be emitted, and what is
 * emitted scans to the same spans; JSON of it reads back; scanned again and again with a cache of
 * templates, which learns it, it gives the same views; and so it does in steps. */
#include <stdio.h>
#include <stdlib.h>

#include "same_views.h"
#include "scan_steps.h"
#include "tw/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static struct tw_keytab *make_keys(void)
{
	static const char *const keys[] = {"http.route", "db.system", "k", "",
	                                   "http.response.status_code"};
	struct tw_keytab *kt = tw_keytab_create();

	CHECK(kt);
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		CHECK(tw_keytab_add(kt, tw_slice_str(keys[i])) > 0);
	CHECK(tw_keytab_seal(kt) == 0);
	return kt;
}

static void within(const uint8_t *p, size_t n, const uint8_t *data, size_t size)
{
	CHECK(n == 0 || (p >= data && n <= size && (size_t)(p - data) <= size - n));
}

static void check_slots(uint64_t set, const struct tw_value *slots, uint32_t keys)
{
	CHECK(set >> keys == 0);
	CHECK(!set == !slots);
	for (uint32_t k = 0; k < keys; k++) {
		struct tw_slice rest;
		struct tw_value v;

		if (!(set >> k & 1))
			continue;
		CHECK(slots[k].type <= TW_VALUE_KVLIST);
		/* Elements are walked by the rules: they end, and each byte can be read. */
		rest = tw_slice(slots[k].p, slots[k].n);
		if (slots[k].type == TW_VALUE_ARRAY)
			while (tw_value_next(&rest, &v))
				CHECK(v.type <= TW_VALUE_KVLIST);
	}
}

static void check_views(const struct tw_request *r, const uint8_t *data, size_t size, uint32_t keys)
{
	for (uint32_t i = 0; i < r->span_count; i++) {
		const struct tw_span *s = &r->spans[i];

		within(s->bytes, s->bytes_n, data, size);
		within(s->rest->name, s->rest->name_n, s->bytes, s->bytes_n);
		within(s->rest->tracestate, s->rest->tracestate_n, s->bytes, s->bytes_n);
		within(s->rest->status_message, s->rest->status_message_n, s->bytes, s->bytes_n);
		CHECK(tw_utf8_valid(s->rest->name, s->rest->name_n));
		CHECK((s->trace_id.hi | s->trace_id.lo) && s->span_id);
		CHECK(s->scope < r->scope_count &&
		      r->scopes[s->scope].resource < r->resource_count);
		CHECK(s->kind < TW_KIND_COUNT && s->status < TW_STATUS_COUNT);
		check_slots(s->rest->slots_set, s->rest->slots, keys);
	}
	for (uint32_t i = 0; i < r->resource_count; i++)
		check_slots(r->resources[i].slots_set, r->resources[i].slots, keys);
}

/* Emits all spans as one trace and scans that. */
static void check_emit(const struct tw_scan_opts *o, const struct tw_request *r)
{
	struct tw_emit_patch patch = {tw_slice_str("rule"), tw_slice_str("root"),
	                              UINT64_C(1) << 55};
	struct tw_emit_span *e = calloc(r->span_count + 1u, sizeof(*e));
	struct tw_request again;
	struct tw_error err;
	struct tw_buf out;
	uint64_t sum = 0;

	CHECK(e);
	for (uint32_t i = 0; i < r->span_count; i++) {
		const struct tw_span *s = &r->spans[i];
		const struct tw_scope *sc = &r->scopes[s->scope];

		e[i].bytes = tw_slice(s->bytes, s->bytes_n);
		e[i].tracestate = tw_slice(s->rest->tracestate, s->rest->tracestate_n);
		e[i].scope_head = sc->head;
		e[i].scope_key = sc->hash;
		e[i].resource_head = r->resources[sc->resource].head;
		e[i].resource_key = r->resources[sc->resource].hash;
		sum += s->trace_id.lo ^ s->span_id ^ s->duration_ns;
	}
	tw_buf_init(&out, 0);
	CHECK(tw_emit_trace(&out, e, r->span_count, &patch) == 0);
	CHECK(out.n <= tw_emit_bound(e, r->span_count, &patch));
	tw_request_init(&again);
	CHECK(tw_otlp_scan(o, tw_buf_slice(&out), &again, &err) == 0);
	/* The decision's two attributes may be the ones too many. */
	CHECK(again.span_count + again.rejected[TW_REJECT_CHILDREN] +
	          again.rejected[TW_REJECT_SIZE] ==
	      r->span_count);
	if (again.span_count == r->span_count)
		for (uint32_t i = 0; i < again.span_count; i++)
			sum -= again.spans[i].trace_id.lo ^ again.spans[i].span_id ^
			       again.spans[i].duration_ns;
	CHECK(sum == 0 || again.span_count < r->span_count);
	tw_request_deinit(&again);
	tw_buf_deinit(&out);
	free(e);
}

static void check_json(struct tw_slice body)
{
	struct tw_buf text, back;
	struct tw_error err;

	tw_buf_init(&text, 0);
	tw_buf_init(&back, 0);
	CHECK(tw_otlp_json_encode(body, &text, &err) == 0);
	CHECK(tw_otlp_json_decode(tw_buf_slice(&text), &back, &err) == 0);
	tw_buf_deinit(&text);
	tw_buf_deinit(&back);
}

/* The same bytes four times: a name is learnt when it comes again, and recognised after that. */
static void check_templates(struct tw_scan_opts o, struct tw_slice body,
                            const struct tw_request *generic)
{
	struct tw_request r;
	struct tw_error err;

	o.templates = tw_templates_create(o.key, 1 << 20);
	CHECK(o.templates);
	tw_request_init(&r);
	for (int i = 0; i < 4; i++) {
		tw_request_reset(&r);
		CHECK(tw_otlp_scan(&o, body, &r, &err) == 0);
		CHECK(differing_view(generic, &r) == -1);
	}
	tw_request_deinit(&r);
	tw_templates_destroy(&o.templates);
}

/* In steps of a length that the bytes choose, the same again in between. */
static void check_steps(struct tw_scan_opts o, struct tw_slice body,
                        const struct tw_request *generic)
{
	size_t bytes = 1 + (body.n ? body.p[body.n - 1] : 0);
	struct tw_request r, other;
	struct tw_error err;

	o.templates = tw_templates_create(o.key, 1 << 20);
	CHECK(o.templates);
	tw_request_init(&r);
	tw_request_init(&other);
	for (int i = 0; i < 3; i++) {
		tw_request_reset(&r);
		CHECK(scan_in_steps(&o, body, bytes, i == 2 ? 2 : 0, &other, &r, &err) == 0);
		CHECK(differing_view(generic, &r) == -1);
	}
	tw_request_deinit(&r);
	tw_request_deinit(&other);
	tw_templates_destroy(&o.templates);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tw_keytab *keys = make_keys();
	struct tw_scan_opts o = {.key = {3, 4}, .keys = keys, .spans_max = 100000};
	struct tw_error err = {0};
	struct tw_request r;

	tw_request_init(&r);
	if (tw_otlp_scan(&o, tw_slice(data, size), &r, &err) == 0) {
		check_views(&r, data, size, tw_keytab_count(keys));
		check_emit(&o, &r);
		check_json(tw_slice(data, size));
		check_templates(o, tw_slice(data, size), &r);
		check_steps(o, tw_slice(data, size), &r);
	} else {
		CHECK(err.code < 0 && err.text[0] && err.offset <= size);
		CHECK(!strstr(err.text, "not an OTLP trace request"));
	}
	tw_request_deinit(&r);
	tw_keytab_destroy(&keys);
	return 0;
}
