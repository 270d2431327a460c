/* 100,000 requests, half of them broken, through the scanner and through protobuf-c: they must
 * agree on every field where both accept, and may differ in what they accept by the reasons of
 * README.md only. Of what was not broken, JSON must give the same views.
 *
 * oracle_test [COUNT [SEED]]; a failure prints the seed of its case: `oracle_test 1 SEED` repeats
 * it. */
#include <stdarg.h>
#include <stdio.h>

#include "generate.h"
#include "otlp.pb-c.h"
#include "same_views.h"
#include "scan_steps.h"
#include "tw/base/limits.h"
#include "tw/wire.h"

#define REASONS 5

struct state {
	struct tw_keytab *keys;
	struct tw_scan_opts o;
	struct tw_templates *templates; /* of all cases */
	struct tw_request r, again, templated, other;
	uint64_t seed;
	uint64_t both, neither, spans, rejected, json; /* how many */
	uint64_t stricter[REASONS];                    /* accepted by protobuf-c alone, by reason */
};

/* Why we may refuse what protobuf-c accepts. */
static const char *const reasons[REASONS] = {
    "nest deeper than 32 levels", "longer than ten bytes or 64 bits", "field number 0",
    "past field 2^29-1",          "bool_value has wire type",
};

static void __attribute__((noreturn, format(printf, 2, 3)))
die(const struct state *s, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "seed %llu: ", (unsigned long long)s->seed);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	exit(1);
}

#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x))                                                                          \
			die(s, "%s:%d: %s", __FILE__, __LINE__, #x);                               \
	} while (0)

/* ---- what protobuf-c understood ---- */

struct verdict { /* of a subtree */
	bool malformed, deep, bad_utf8;
};

static bool utf8(ProtobufCBinaryData d)
{
	/* The definition, not our validator. */
	const uint8_t *p = d.data;
	size_t n = d.len;

	while (n) {
		uint32_t c = *p,
		         k = c < 0x80       ? 1
		             : c >> 5 == 6  ? 2
		             : c >> 4 == 14 ? 3
		             : c >> 3 == 30 ? 4
		                            : 0,
		         r;

		if (!k || k > n)
			return false;
		r = k == 1 ? c : c & (0x7fu >> k);
		for (uint32_t i = 1; i < k; i++) {
			if (p[i] >> 6 != 2)
				return false;
			r = r << 6 | (p[i] & 63u);
		}
		if ((k == 2 && r < 0x80) || (k == 3 && r < 0x800) || (k == 4 && r < 0x10000) ||
		    r > 0x10ffff || (r >= 0xd800 && r <= 0xdfff))
			return false;
		p += k;
		n -= k;
	}
	return true;
}

static void texts(struct verdict *v, size_t n, const ProtobufCBinaryData *t)
{
	for (size_t i = 0; i < n; i++)
		v->bad_utf8 |= !utf8(t[i]);
}

static void look_key_value(struct verdict *v, const Oracle__KeyValue *kv, unsigned depth);

static ProtobufCMessage *unpack(const ProtobufCMessageDescriptor *d, ProtobufCBinaryData b)
{
	static const uint8_t nothing[1];

	return protobuf_c_message_unpack(d, NULL, b.len, b.len ? b.data : nothing);
}

static void look_any(struct verdict *v, ProtobufCBinaryData b, unsigned depth)
{
	Oracle__AnyValue *any = (Oracle__AnyValue *)unpack(&oracle__any_value__descriptor, b);
	Oracle__AnyValueAll *all =
	    (Oracle__AnyValueAll *)unpack(&oracle__any_value_all__descriptor, b);

	if (depth > TW_NEST_MAX)
		v->deep = true;
	if (any && all) {
		texts(v, all->n_string_value, all->string_value);
		for (size_t i = 0; i < all->n_array_value; i++) {
			Oracle__ValueList *l = (Oracle__ValueList *)unpack(
			    &oracle__value_list__descriptor, all->array_value[i]);

			v->malformed |= !l;
			for (size_t k = 0; l && k < l->n_values; k++)
				look_any(v, l->values[k], depth + 1);
			if (l)
				oracle__value_list__free_unpacked(l, NULL);
		}
		for (size_t i = 0; i < all->n_kvlist_value; i++) {
			Oracle__KeyValueList *l = (Oracle__KeyValueList *)unpack(
			    &oracle__key_value_list__descriptor, all->kvlist_value[i]);

			v->malformed |= !l;
			for (size_t k = 0; l && k < l->n_values; k++)
				look_key_value(v, l->values[k], depth + 1);
			if (l)
				oracle__key_value_list__free_unpacked(l, NULL);
		}
	} else {
		v->malformed = true;
	}
	if (any)
		oracle__any_value__free_unpacked(any, NULL);
	if (all)
		oracle__any_value_all__free_unpacked(all, NULL);
}

static void look_key_value(struct verdict *v, const Oracle__KeyValue *kv, unsigned depth)
{
	texts(v, kv->n_key, kv->key);
	for (size_t i = 0; i < kv->n_value; i++)
		look_any(v, kv->value[i], depth);
}

static void look_attributes(struct verdict *v, size_t n, Oracle__KeyValue **kv)
{
	for (size_t i = 0; i < n; i++)
		look_key_value(v, kv[i], 1);
}

static void look_span(struct verdict *v, const Oracle__Span *p)
{
	texts(v, p->n_trace_state, p->trace_state);
	texts(v, p->n_name, p->name);
	look_attributes(v, p->n_attributes, p->attributes);
	for (size_t i = 0; i < p->n_events; i++) {
		texts(v, p->events[i]->n_name, p->events[i]->name);
		look_attributes(v, p->events[i]->n_attributes, p->events[i]->attributes);
	}
	for (size_t i = 0; i < p->n_links; i++) {
		texts(v, p->links[i]->n_trace_state, p->links[i]->trace_state);
		look_attributes(v, p->links[i]->n_attributes, p->links[i]->attributes);
	}
	if (p->status)
		texts(v, p->status->n_message, p->status->message);
}

static void look_scope_head(struct verdict *v, const Oracle__ScopeSpans *p)
{
	texts(v, p->n_schema_url, p->schema_url);
	if (!p->scope)
		return;
	texts(v, p->scope->n_name, p->scope->name);
	texts(v, p->scope->n_version, p->scope->version);
	look_attributes(v, p->scope->n_attributes, p->scope->attributes);
}

static void look_resource_head(struct verdict *v, const Oracle__ResourceSpans *p)
{
	texts(v, p->n_schema_url, p->schema_url);
	if (!p->resource)
		return;
	look_attributes(v, p->resource->n_attributes, p->resource->attributes);
	for (size_t i = 0; i < p->resource->n_entity_refs; i++) {
		const Oracle__EntityRef *e = p->resource->entity_refs[i];

		texts(v, e->n_schema_url, e->schema_url);
		texts(v, e->n_type, e->type);
		texts(v, e->n_id_keys, e->id_keys);
		texts(v, e->n_description_keys, e->description_keys);
	}
}

static void look_all(struct verdict *v, const Oracle__Request *q)
{
	for (size_t i = 0; i < q->n_resource_spans; i++) {
		const Oracle__ResourceSpans *rs = q->resource_spans[i];

		look_resource_head(v, rs);
		for (size_t k = 0; k < rs->n_scope_spans; k++) {
			look_scope_head(v, rs->scope_spans[k]);
			for (size_t m = 0; m < rs->scope_spans[k]->n_spans; m++)
				look_span(v, rs->scope_spans[k]->spans[m]);
		}
	}
}

/* ---- comparing ---- */

static bool same(const uint8_t *p, size_t n, ProtobufCBinaryData d)
{
	return n == d.len && (n == 0 || memcmp(p, d.data, n) == 0);
}

static ProtobufCBinaryData last(size_t n, const ProtobufCBinaryData *t)
{
	return n ? t[n - 1] : (ProtobufCBinaryData){0, NULL};
}

/* The value of a KeyValue: the last of its oneof over all its AnyValues. */
static void check_value(const struct state *s, const struct tw_value *v, const Oracle__KeyValue *kv)
{
	Oracle__AnyValue *any = NULL;
	double d;

	for (size_t i = 0; i < kv->n_value; i++) {
		Oracle__AnyValue *a =
		    (Oracle__AnyValue *)unpack(&oracle__any_value__descriptor, kv->value[i]);

		CHECK(a);
		if (a->value_case == ORACLE__ANY_VALUE__VALUE__NOT_SET) {
			oracle__any_value__free_unpacked(a, NULL);
			continue;
		}
		if (any)
			oracle__any_value__free_unpacked(any, NULL);
		any = a;
	}
	switch (any ? any->value_case : ORACLE__ANY_VALUE__VALUE__NOT_SET) {
	case ORACLE__ANY_VALUE__VALUE_STRING_VALUE:
		CHECK(v->type == TW_VALUE_STRING && same(v->p, v->n, any->string_value));
		break;
	case ORACLE__ANY_VALUE__VALUE_BOOL_VALUE:
		CHECK(v->type == TW_VALUE_BOOL && v->i == any->bool_value);
		break;
	case ORACLE__ANY_VALUE__VALUE_INT_VALUE:
		CHECK(v->type == TW_VALUE_INT && v->i == any->int_value);
		break;
	case ORACLE__ANY_VALUE__VALUE_DOUBLE_VALUE:
		d = any->double_value;
		CHECK(v->type == TW_VALUE_DOUBLE && memcmp(&v->d, &d, 8) == 0);
		break;
	case ORACLE__ANY_VALUE__VALUE_ARRAY_VALUE:
		CHECK(v->type == TW_VALUE_ARRAY && same(v->p, v->n, any->array_value));
		break;
	case ORACLE__ANY_VALUE__VALUE_KVLIST_VALUE:
		CHECK(v->type == TW_VALUE_KVLIST && same(v->p, v->n, any->kvlist_value));
		break;
	case ORACLE__ANY_VALUE__VALUE_BYTES_VALUE:
		CHECK(v->type == TW_VALUE_BYTES && same(v->p, v->n, any->bytes_value));
		break;
	default:
		CHECK(v->type == TW_VALUE_NONE);
	}
	if (any)
		oracle__any_value__free_unpacked(any, NULL);
}

/* The first attribute of each key that was asked for. */
static void check_slots(const struct state *s, uint64_t set, const struct tw_value *slots, size_t n,
                        Oracle__KeyValue **kv)
{
	uint64_t want = 0;

	for (size_t i = 0; i < n; i++) {
		ProtobufCBinaryData key = last(kv[i]->n_key, kv[i]->key);

		for (uint32_t k = 0; k < KEYS_ASKED; k++) {
			if ((want >> k & 1) ||
			    !same((const uint8_t *)generate_keys[k], strlen(generate_keys[k]), key))
				continue;
			want |= UINT64_C(1) << k;
			CHECK(set >> k & 1);
			check_value(s, &slots[k], kv[i]);
		}
	}
	CHECK(set == want);
}

static bool zero(ProtobufCBinaryData d)
{
	for (size_t i = 0; i < d.len; i++)
		if (d.data[i])
			return false;
	return true;
}

/* The rule that a span breaks, or TW_REJECT_COUNT. */
static enum tw_reject judge(const Oracle__Span *p, bool head_utf8)
{
	struct verdict v = {0};

	look_span(&v, p);
	if (v.bad_utf8)
		return TW_REJECT_UTF8;
	if (p->n_attributes > TW_SPAN_CHILDREN_MAX || p->n_events > TW_SPAN_CHILDREN_MAX ||
	    p->n_links > TW_SPAN_CHILDREN_MAX)
		return TW_REJECT_CHILDREN;
	if (p->trace_id.len != 16 || zero(p->trace_id))
		return TW_REJECT_TRACE_ID;
	if (p->span_id.len != 8 || zero(p->span_id))
		return TW_REJECT_SPAN_ID;
	if (p->parent_span_id.len != 8 && p->parent_span_id.len != 0)
		return TW_REJECT_SPAN_ID;
	return head_utf8 ? TW_REJECT_UTF8 : TW_REJECT_COUNT;
}

static uint64_t big_endian(const uint8_t *p)
{
	uint64_t v = 0;

	for (int i = 0; i < 8; i++)
		v = v << 8 | p[i];
	return v;
}

static void check_span(const struct state *s, const struct tw_span *v, const Oracle__Span *p)
{
	uint64_t start = p->start_time_unix_nano, end = p->end_time_unix_nano;
	ProtobufCBinaryData message = {0, NULL};
	Oracle__Span *own;
	int32_t kind = p->kind, code = p->status ? p->status->code : 0;

	CHECK(v->trace_id.hi == big_endian(p->trace_id.data));
	CHECK(v->trace_id.lo == big_endian(p->trace_id.data + 8));
	CHECK(v->hash == tw_hash_u64x2(s->o.key, v->trace_id.hi, v->trace_id.lo));
	CHECK(v->span_id == big_endian(p->span_id.data));
	CHECK(v->parent_id == (p->parent_span_id.len ? big_endian(p->parent_span_id.data) : 0));
	CHECK(!(v->flags & TW_SPAN_ROOT) == (v->parent_id != 0));
	CHECK(!(v->flags & TW_SPAN_RANDOM) == !(p->flags & 2));
	CHECK(!(v->flags & TW_SPAN_TRACESTATE) == (v->rest->tracestate_n == 0));
	CHECK(v->rest->w3c_flags == p->flags);
	CHECK(v->start_ns == start);
	CHECK(v->duration_ns == (end > start ? end - start : 0));
	CHECK(same(v->rest->name, v->rest->name_n, last(p->n_name, p->name)));
	CHECK(same(v->rest->tracestate, v->rest->tracestate_n,
	           last(p->n_trace_state, p->trace_state)));
	CHECK(v->kind == (kind >= 0 && kind < TW_KIND_COUNT ? kind : 0));
	CHECK(v->status == (code >= 0 && code < TW_STATUS_COUNT ? code : 0));
	if (p->status)
		message = last(p->status->n_message, p->status->message);
	CHECK(same(v->rest->status_message, v->rest->status_message_n, message));
	check_slots(s, v->rest->slots_set, v->rest->slots, p->n_attributes, p->attributes);
	/* The span's bytes are this span's. */
	own = (Oracle__Span *)unpack(
	    &oracle__span__descriptor,
	    (ProtobufCBinaryData){v->bytes_n, (uint8_t *)(uintptr_t)v->bytes});
	CHECK(own);
	CHECK(same(own->trace_id.data, own->trace_id.len, p->trace_id));
	CHECK(own->n_attributes == p->n_attributes && own->n_events == p->n_events);
	oracle__span__free_unpacked(own, NULL);
}

static void check_resource(const struct state *s, const struct tw_resource *v,
                           const Oracle__ResourceSpans *p)
{
	Oracle__ResourceSpans *own = (Oracle__ResourceSpans *)unpack(
	    &oracle__resource_spans__descriptor,
	    (ProtobufCBinaryData){v->head.n, (uint8_t *)(uintptr_t)v->head.p});

	/* The head has all but the scopes. */
	CHECK(own);
	CHECK(own->n_scope_spans == 0 && !own->resource == !p->resource);
	CHECK(own->n_schema_url == p->n_schema_url);
	check_slots(s, v->slots_set, v->slots, p->resource ? p->resource->n_attributes : 0,
	            p->resource ? p->resource->attributes : NULL);
	check_slots(s, v->slots_set, v->slots, own->resource ? own->resource->n_attributes : 0,
	            own->resource ? own->resource->attributes : NULL);
	oracle__resource_spans__free_unpacked(own, NULL);
}

static void check_scope(const struct state *s, const struct tw_scope *v,
                        const Oracle__ScopeSpans *p)
{
	Oracle__ScopeSpans *own = (Oracle__ScopeSpans *)unpack(
	    &oracle__scope_spans__descriptor,
	    (ProtobufCBinaryData){v->head.n, (uint8_t *)(uintptr_t)v->head.p});

	CHECK(own);
	CHECK(own->n_spans == 0 && !own->scope == !p->scope &&
	      own->n_schema_url == p->n_schema_url);
	oracle__scope_spans__free_unpacked(own, NULL);
	if (!p->scope) {
		CHECK(v->name.n == 0 && v->version.n == 0);
		return;
	}
	CHECK(same(v->name.p, v->name.n, last(p->scope->n_name, p->scope->name)));
	CHECK(same(v->version.p, v->version.n, last(p->scope->n_version, p->scope->version)));
}

static void check_request(struct state *s, const Oracle__Request *q)
{
	const struct tw_request *r = &s->r;
	uint32_t rejected[TW_REJECT_COUNT] = {0}, n = 0, resources = 0, scopes = 0;

	for (size_t i = 0; i < q->n_resource_spans; i++) {
		const Oracle__ResourceSpans *rs = q->resource_spans[i];
		struct verdict rv = {0};
		uint32_t scopes_before = scopes;

		look_resource_head(&rv, rs);
		for (size_t k = 0; k < rs->n_scope_spans; k++) {
			const Oracle__ScopeSpans *ss = rs->scope_spans[k];
			struct verdict sv = rv;
			uint32_t before = n;

			look_scope_head(&sv, ss);
			for (size_t m = 0; m < ss->n_spans; m++) {
				enum tw_reject why = judge(ss->spans[m], sv.bad_utf8);

				if (why < TW_REJECT_COUNT) {
					rejected[why]++;
					continue;
				}
				CHECK(n < r->span_count);
				CHECK(r->spans[n].scope == scopes);
				check_span(s, &r->spans[n], ss->spans[m]);
				n++;
			}
			if (n == before)
				continue;
			CHECK(scopes < r->scope_count && r->scopes[scopes].resource == resources);
			check_scope(s, &r->scopes[scopes], ss);
			scopes++;
		}
		if (scopes == scopes_before)
			continue;
		CHECK(resources < r->resource_count);
		check_resource(s, &r->resources[resources], rs);
		resources++;
	}
	CHECK(n == r->span_count && scopes == r->scope_count && resources == r->resource_count);
	for (int i = 0; i < TW_REJECT_COUNT; i++)
		CHECK(rejected[i] == r->rejected[i]);
	s->spans += n;
	s->rejected += tw_request_rejected(r);
}

/* ---- JSON ---- */

static void check_same_slots(const struct state *s, uint64_t set, const struct tw_value *a,
                             uint64_t set_b, const struct tw_value *b)
{
	CHECK(set == set_b);
	for (uint32_t k = 0; k < KEYS_ASKED; k++) {
		if (!(set >> k & 1))
			continue;
		CHECK(a[k].type == b[k].type);
		switch (a[k].type) {
		case TW_VALUE_STRING:
		case TW_VALUE_BYTES:
			CHECK(tw_slice_eq(tw_slice(a[k].p, a[k].n), tw_slice(b[k].p, b[k].n)));
			break;
		case TW_VALUE_INT:
		case TW_VALUE_BOOL:
			CHECK(a[k].i == b[k].i);
			break;
		case TW_VALUE_DOUBLE: /* a NaN's other bits are not said in JSON */
			CHECK(memcmp(&a[k].d, &b[k].d, 8) == 0 ||
			      (a[k].d != a[k].d && b[k].d != b[k].d));
			break;
		default: /* lists and maps: the texts are compared */
			break;
		}
	}
}

static void check_same_views(const struct state *s)
{
	const struct tw_request *a = &s->r, *b = &s->again;

	CHECK(a->span_count == b->span_count && a->scope_count == b->scope_count &&
	      a->resource_count == b->resource_count);
	for (int i = 0; i < TW_REJECT_COUNT; i++)
		CHECK(a->rejected[i] == b->rejected[i]);
	for (uint32_t i = 0; i < a->span_count; i++) {
		const struct tw_span *x = &a->spans[i], *y = &b->spans[i];

		CHECK(tw_id_eq(x->trace_id, y->trace_id) && x->span_id == y->span_id &&
		      x->parent_id == y->parent_id);
		CHECK(x->start_ns == y->start_ns && x->duration_ns == y->duration_ns);
		CHECK(x->kind == y->kind && x->status == y->status && x->flags == y->flags &&
		      x->rest->w3c_flags == y->rest->w3c_flags);
		CHECK(tw_slice_eq(tw_slice(x->rest->name, x->rest->name_n),
		                  tw_slice(y->rest->name, y->rest->name_n)));
		CHECK(tw_slice_eq(tw_slice(x->rest->tracestate, x->rest->tracestate_n),
		                  tw_slice(y->rest->tracestate, y->rest->tracestate_n)));
		CHECK(tw_slice_eq(tw_slice(x->rest->status_message, x->rest->status_message_n),
		                  tw_slice(y->rest->status_message, y->rest->status_message_n)));
		CHECK(x->scope == y->scope && x->hash == y->hash);
		check_same_slots(s, x->rest->slots_set, x->rest->slots, y->rest->slots_set,
		                 y->rest->slots);
	}
	for (uint32_t i = 0; i < a->scope_count; i++)
		CHECK(tw_slice_eq(a->scopes[i].name, b->scopes[i].name) &&
		      tw_slice_eq(a->scopes[i].version, b->scopes[i].version) &&
		      a->scopes[i].resource == b->scopes[i].resource);
	for (uint32_t i = 0; i < a->resource_count; i++)
		check_same_slots(s, a->resources[i].slots_set, a->resources[i].slots,
		                 b->resources[i].slots_set, b->resources[i].slots);
}

/* Through JSON and back: the same views, and the same text once more. */
static void check_json(struct state *s, const struct pb *b)
{
	struct tw_buf text, bytes, text2;
	struct tw_error err = {0};

	tw_buf_init(&text, 0);
	tw_buf_init(&bytes, 0);
	tw_buf_init(&text2, 0);
	CHECK(tw_otlp_json_encode(tw_slice(b->p, b->n), &text, &err) == 0);
	if (tw_otlp_json_decode(tw_buf_slice(&text), &bytes, &err))
		die(s, "the JSON is not read: %s", err.text);
	tw_request_reset(&s->again);
	if (tw_otlp_scan(&s->o, tw_buf_slice(&bytes), &s->again, &err))
		die(s, "what JSON gave does not scan: %s", err.text);
	check_same_views(s);
	CHECK(tw_otlp_json_encode(tw_buf_slice(&bytes), &text2, &err) == 0);
	CHECK(tw_slice_eq(tw_buf_slice(&text), tw_buf_slice(&text2)));
	tw_buf_deinit(&text);
	tw_buf_deinit(&bytes);
	tw_buf_deinit(&text2);
	s->json++;
}

/* ---- one case ---- */

/* A reason to refuse what protobuf-c accepts. */
static void check_stricter(struct state *s, const char *text)
{
	for (int i = 0; i < REASONS; i++) {
		if (strstr(text, reasons[i])) {
			s->stricter[i]++;
			return;
		}
	}
	die(s, "protobuf-c accepts, we say: %s", text);
}

/* With what the cases before have taught; twice, so that some of it is learnt now. */
static void check_templates(struct state *s, struct tw_slice body, int e,
                            const struct tw_error *generic)
{
	struct tw_scan_opts o = s->o;
	struct tw_error err = {0};

	o.templates = s->templates;
	for (int i = 0; i < 2; i++) {
		tw_request_reset(&s->templated);
		if (tw_otlp_scan(&o, body, &s->templated, &err) != e)
			die(s, "with templates the scan says %d", err.code);
		if (e ? strcmp(err.text, generic->text) != 0
		      : differing_view(&s->r, &s->templated) != -1)
			die(s, "with templates there are other views");
	}
}

/* In steps, with and without templates, and with another scan in between. */
static void check_steps(struct state *s, struct tw_slice body, int e,
                        const struct tw_error *generic)
{
	struct tw_scan_opts o = s->o;
	struct tw_error err = {0};

	for (int i = 0; i < 2; i++) {
		tw_request_reset(&s->templated);
		if (scan_in_steps(&o, body, 1 + s->seed % 97, 0, &s->other, &s->templated, &err) !=
		    e)
			die(s, "in steps the scan says %d", err.code);
		if (e ? strcmp(err.text, generic->text) != 0
		      : differing_view(&s->r, &s->templated) != -1)
			die(s, "in steps there are other views");
		o.templates = s->templates;
	}
}

static void one_case(struct state *s)
{
	struct rng r = {s->seed};
	struct pb b = {0};
	struct tw_error err = {0};
	struct verdict v = {0};
	Oracle__Request *q;
	bool mutated = rng_below(&r, 2);
	uint8_t *exact;
	int e;

	generate_request(&r, &b);
	if (mutated)
		generate_mutate(&r, &b);
	exact = malloc(b.n ? b.n : 1); /* so that a sanitizer sees a read past it */
	if (!exact)
		exit(3);
	if (b.n)
		memcpy(exact, b.p, b.n);
	tw_request_reset(&s->r);
	e = tw_otlp_scan(&s->o, tw_slice(exact, b.n), &s->r, &err);
	check_templates(s, tw_slice(exact, b.n), e, &err);
	check_steps(s, tw_slice(exact, b.n), e, &err);
	q = (Oracle__Request *)unpack(&oracle__request__descriptor,
	                              (ProtobufCBinaryData){b.n, exact});
	if (q)
		look_all(&v, q);
	if (e && e != TW_EINVAL)
		die(s, "the scan says %d", e);
	if (e && (strstr(err.text, "not an OTLP trace request") || !*err.text))
		die(s, "the scanner refuses what the checker accepts");
	if (!q || v.malformed) {
		if (!e)
			die(s, "we accept what protobuf-c refuses");
		s->neither++;
	} else if (e) {
		check_stricter(s, err.text);
		if (strstr(err.text, reasons[0]))
			CHECK(v.deep);
	} else {
		CHECK(!v.deep);
		check_request(s, q);
		if (s->r.rejected[TW_REJECT_UTF8] == 0)
			check_json(s, &b);
		s->both++;
	}
	if (q)
		oracle__request__free_unpacked(q, NULL);
	free(exact);
	pb_free(&b);
}

int main(int argc, char **argv)
{
	uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 100000;
	uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	struct state state = {0}, *s = &state;

	s->keys = tw_keytab_create();
	CHECK(s->keys);
	for (uint32_t k = 0; k < KEYS_ASKED; k++)
		CHECK(tw_keytab_add(s->keys, tw_slice_str(generate_keys[k])) == (int)k);
	CHECK(tw_keytab_seal(s->keys) == 0);
	s->o = (struct tw_scan_opts){
	    .key = {5, 6}, .keys = s->keys, .spans_max = TW_REQUEST_SPANS_MAX};
	tw_request_init(&s->r);
	tw_request_init(&s->again);
	tw_request_init(&s->templated);
	tw_request_init(&s->other);
	s->templates = tw_templates_create(s->o.key, 1 << 20);
	CHECK(s->templates);
	for (uint64_t i = 0; i < count; i++) {
		s->seed = first + i;
		one_case(s);
	}
	printf("%llu requests: %llu agreed on with %llu spans and %llu rejected ones, %llu through "
	       "JSON; "
	       "%llu refused by both; refused by us alone: %llu deep, %llu varints, %llu fields 0, "
	       "%llu tags, %llu bools\n",
	       (unsigned long long)count, (unsigned long long)s->both, (unsigned long long)s->spans,
	       (unsigned long long)s->rejected, (unsigned long long)s->json,
	       (unsigned long long)s->neither, (unsigned long long)s->stricter[0],
	       (unsigned long long)s->stricter[1], (unsigned long long)s->stricter[2],
	       (unsigned long long)s->stricter[3], (unsigned long long)s->stricter[4]);
	/* A generator that breaks everything, or nothing, would show nothing. */
	if (count >= 10000)
		CHECK(s->both > count / 3 && s->neither > count / 10 && s->spans > count &&
		      s->rejected > count / 100);
	tw_request_deinit(&s->r);
	tw_request_deinit(&s->again);
	tw_request_deinit(&s->templated);
	tw_request_deinit(&s->other);
	tw_templates_destroy(&s->templates);
	tw_keytab_destroy(&s->keys);
	return 0;
}
