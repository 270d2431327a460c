#include "body_form.h"

/* Into an empty s; the layout's offsets are of s. */
static void encode_span(struct pb *s, struct tw_load_layout *l, const struct tw_load_shape *shape)
{
	static const uint8_t zero[16];
	char query[TW_LOAD_PAD_MIN + TW_LOAD_PAD_COUNT];

	memset(query, 'q', sizeof(query));
	query[shape->pad] = '\0';
	pb_clear(s);
	l->trace_id = 2;
	pb_bytes(s, 1, zero, 16);
	l->span_id = (uint32_t)s->n + 2;
	pb_bytes(s, 2, zero, 8);
	if (shape->tracestate) {
		pb_str(s, 3, TW_LOAD_TRACESTATE);
		l->randomness = (uint32_t)s->n - 14;
	}
	l->parent_id = shape->root ? 0 : (uint32_t)s->n + 2;
	if (!shape->root)
		pb_bytes(s, 4, zero, 8);
	pb_str(s, 5, "GET /api/orders/op-0000");
	l->name_digits = (uint32_t)s->n - 4;
	pb_varint(s, 6, shape->kind);
	l->start = (uint32_t)s->n + 1;
	pb_fixed64(s, 7, 0);
	l->end = (uint32_t)s->n + 1;
	pb_fixed64(s, 8, 0);
	pb_attr(s, 9, "http.request.method", "GET");
	pb_attr(s, 9, "http.route", "/api/orders/op-0000");
	l->route_digits = (uint32_t)s->n - 4;
	pb_attr_int(s, 9, "http.response.status_code", 200);
	l->status_code = (uint32_t)s->n - 2;
	pb_attr(s, 9, "server.address", "10.24.7.1");
	pb_attr(s, 9, "request.id", "0123456789abcdef");
	l->request_id = (uint32_t)s->n - 16;
	pb_attr(s, 9, "url.query", query);
	pb_begin(s, 15);
	pb_varint(s, 3, 1); /* patched; a default would not be written */
	pb_end(s);
	pb_fixed32(s, 16, 0x101);
	l->status_from_end = 7;
}

static void encode_head(struct pb *rs)
{
	pb_begin(rs, 1);
	pb_attr(rs, 1, "service.name", "service-0000");
	pb_attr(rs, 1, "tenant.id", "tenant-0000");
	pb_attr(rs, 1, "service.version", "1.4.2");
	pb_attr(rs, 1, "k8s.namespace.name", "shop");
	pb_attr(rs, 1, "telemetry.sdk.language", "go");
	pb_end(rs);
}

static void encode_scope(struct pb *ss)
{
	pb_begin(ss, 1);
	pb_str(ss, 1, "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp");
	pb_str(ss, 2, "0.49.0");
	pb_end(ss);
}

void tw_load_protobuf_segment(struct pb *out, struct tw_load_body *b, struct tw_load_segment *seg,
                              const struct tw_load_shape *shapes, uint32_t spans)
{
	struct pb span = {0}, ss = {0}, rs = {0};

	encode_scope(&ss);
	for (uint32_t i = 0; i < spans; i++) {
		encode_span(&span, shapes[i].root ? &b->root : &b->child, &shapes[i]);
		pb_bytes(&ss, 2, span.p, span.n);
		seg->at[i] = (uint32_t)(ss.n - span.n);
		seg->len[i] = (uint32_t)span.n;
	}
	encode_head(&rs);
	pb_bytes(&rs, 2, ss.p, ss.n);
	pb_bytes(out, 1, rs.p, rs.n);
	for (uint32_t i = 0; i < spans; i++)
		seg->at[i] += (uint32_t)(out->n - ss.n);
	pb_free(&span);
	pb_free(&ss);
	pb_free(&rs);
}

void tw_load_protobuf_patch(uint8_t *p, uint32_t n, const struct tw_load_layout *l,
                            const struct tw_load_span *s)
{
	static const uint8_t code[2][2] = {{0xC8, 0x01}, {0xF4, 0x03}}; /* 200 and 500 */

	tw_load_put_be64(p + l->trace_id, s->trace.hi);
	tw_load_put_be64(p + l->trace_id + 8, s->trace.lo);
	tw_load_put_be64(p + l->span_id, s->id);
	if (l->randomness != 0)
		tw_load_put_randomness(p + l->randomness, s->trace.lo);
	if (l->parent_id != 0)
		tw_load_put_be64(p + l->parent_id, s->parent);
	memcpy(p + l->name_digits, &s->operation, 4);
	memcpy(p + l->start, &s->begin_ns, 8);
	memcpy(p + l->end, &s->end_ns, 8);
	memcpy(p + l->route_digits, &s->operation, 4);
	memcpy(p + l->status_code, code[s->error], 2);
	tw_load_put_hex(p + l->request_id, s->number);
	p[n - l->status_from_end] = s->error ? 2 : 0;
}
