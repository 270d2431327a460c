/* As SDKs write OTLP/JSON: no white space, 64-bit numbers in quotes, enums as numbers. */
#include <stdio.h>

#include "body_form.h"

static void text(struct pb *s, const char *t)
{
	pb_raw(s, t, strlen(t));
}

static void attribute(struct pb *s, const char *key, const char *type, const char *value)
{
	text(s, "{\"key\":\"");
	text(s, key);
	text(s, "\",\"value\":{\"");
	text(s, type);
	text(s, "\":\"");
	text(s, value);
	text(s, "\"}}");
}

/* Writes t, which ends in what is patched and `behind` bytes more; returns where that begins. */
static uint32_t text_at(struct pb *s, const char *t, uint32_t width, uint32_t behind)
{
	text(s, t);
	return (uint32_t)s->n - width - behind;
}

/* Into an empty s; the layout's offsets are of s. */
static void encode_span(struct pb *s, struct tw_load_layout *l, const struct tw_load_shape *shape)
{
	char query[TW_LOAD_PAD_MIN + TW_LOAD_PAD_COUNT], kind[32];

	memset(query, 'q', sizeof(query));
	query[shape->pad] = '\0';
	snprintf(kind, sizeof(kind), "\"kind\":%u,", shape->kind);
	pb_clear(s);
	l->trace_id = text_at(s, "{\"traceId\":\"00000000000000000000000000000000\",", 32, 2);
	l->span_id = text_at(s, "\"spanId\":\"0000000000000000\",", 16, 2);
	if (shape->tracestate)
		l->randomness = text_at(s, "\"traceState\":\"" TW_LOAD_TRACESTATE "\",", 14, 2);
	l->parent_id =
	    shape->root ? 0 : text_at(s, "\"parentSpanId\":\"0000000000000000\",", 16, 2);
	l->name_digits = text_at(s, "\"name\":\"GET /api/orders/op-0000\",", 4, 2);
	text(s, kind);
	l->start = text_at(s, "\"startTimeUnixNano\":\"0000000000000000000\",", 19, 2);
	l->end = text_at(s, "\"endTimeUnixNano\":\"0000000000000000000\",", 19, 2);
	text(s, "\"attributes\":[");
	attribute(s, "http.request.method", "stringValue", "GET");
	text(s, ",");
	attribute(s, "http.route", "stringValue", "/api/orders/op-0000");
	l->route_digits = (uint32_t)s->n - 4 - 3;
	text(s, ",");
	attribute(s, "http.response.status_code", "intValue", "200");
	l->status_code = (uint32_t)s->n - 3 - 3;
	text(s, ",");
	attribute(s, "server.address", "stringValue", "10.24.7.1");
	text(s, ",");
	attribute(s, "request.id", "stringValue", "0123456789abcdef");
	l->request_id = (uint32_t)s->n - 16 - 3;
	text(s, ",");
	attribute(s, "url.query", "stringValue", query);
	text(s, "],\"status\":{\"code\":0},\"flags\":257}");
	l->status_from_end = (uint32_t)strlen("0},\"flags\":257}");
}

static void encode_head(struct pb *s)
{
	text(s, ",{\"resource\":{\"attributes\":[");
	attribute(s, "service.name", "stringValue", "service-0000");
	text(s, ",");
	attribute(s, "tenant.id", "stringValue", "tenant-0000");
	text(s, ",");
	attribute(s, "service.version", "stringValue", "1.4.2");
	text(s, ",");
	attribute(s, "k8s.namespace.name", "stringValue", "shop");
	text(s, ",");
	attribute(s, "telemetry.sdk.language", "stringValue", "go");
	text(s, "]},\"scopeSpans\":[{\"scope\":{\"name\":"
	        "\"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp\","
	        "\"version\":\"0.49.0\"},\"spans\":[");
}

void tw_load_json_segment(struct pb *out, struct tw_load_body *b, struct tw_load_segment *seg,
                          const struct tw_load_shape *shapes, uint32_t spans)
{
	struct pb span = {0};

	encode_head(out);
	for (uint32_t i = 0; i < spans; i++) {
		encode_span(&span, shapes[i].root ? &b->root : &b->child, &shapes[i]);
		if (i > 0)
			text(out, ",");
		seg->at[i] = (uint32_t)out->n;
		seg->len[i] = (uint32_t)span.n;
		pb_raw(out, span.p, span.n);
	}
	text(out, "]}]}");
	pb_free(&span);
}

/* Nineteen digits, four at a time. */
static void put_time(uint8_t *p, const struct tw_load_names *names, uint64_t v)
{
	for (int at = 15; at > 0; at -= 4, v /= 10000)
		memcpy(p + at, &names->digits[v % 10000], 4);
	memcpy(p, (const char *)&names->digits[v % 1000] + 1, 3);
}

void tw_load_json_patch(uint8_t *p, uint32_t n, const struct tw_load_layout *l,
                        const struct tw_load_names *names, const struct tw_load_span *s)
{
	tw_load_put_hex(p + l->trace_id, s->trace.hi);
	tw_load_put_hex(p + l->trace_id + 16, s->trace.lo);
	tw_load_put_hex(p + l->span_id, s->id);
	if (l->randomness != 0)
		tw_load_put_randomness(p + l->randomness, s->trace.lo);
	if (l->parent_id != 0)
		tw_load_put_hex(p + l->parent_id, s->parent);
	memcpy(p + l->name_digits, &s->operation, 4);
	put_time(p + l->start, names, s->begin_ns);
	put_time(p + l->end, names, s->end_ns);
	memcpy(p + l->route_digits, &s->operation, 4);
	p[l->status_code] = s->error ? '5' : '2';
	tw_load_put_hex(p + l->request_id, s->number);
	p[n - l->status_from_end] = s->error ? '2' : '0';
}
