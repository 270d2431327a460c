#include <stdlib.h>
#include <string.h>

#include "spans.h"

void spans_init(struct spans *s, uint32_t cap)
{
	memset(s, 0, sizeof(*s));
	s->cap = cap;
	s->req.spans = calloc(cap, sizeof(struct tw_span));
	s->req.resources = calloc(cap, sizeof(struct tw_resource));
	s->req.scopes = calloc(cap, sizeof(struct tw_scope));
	s->rests = calloc(cap, sizeof(struct tw_span_rest));
	s->values = calloc((size_t)2 * cap * SLOTS, sizeof(struct tw_value));
}

void spans_deinit(struct spans *s)
{
	free(s->req.spans);
	free(s->req.resources);
	free(s->req.scopes);
	free(s->rests);
	free(s->values);
}

void spans_clear(struct spans *s)
{
	s->req.span_count = s->req.resource_count = s->req.scope_count = 0;
}

struct tw_resource *spans_resource(struct spans *s, const char *service)
{
	uint32_t i = s->req.resource_count++;
	struct tw_resource *r = &s->req.resources[i];

	memset(r, 0, sizeof(*r));
	r->slots = s->values + (size_t)i * SLOTS;
	s->req.scopes[s->req.scope_count++] = (struct tw_scope){.resource = i};
	if (service != NULL)
		resource_attribute(r, TW_KEY_SERVICE_NAME, text_value(service));
	return r;
}

struct tw_span *spans_add(struct spans *s, const char *name, enum tw_kind kind,
                          enum tw_status status, uint64_t duration_ns)
{
	uint32_t i = s->req.span_count++;
	struct tw_span *span = &s->req.spans[i];

	memset(span, 0, sizeof(*span));
	s->rests[i] = (struct tw_span_rest){.name = (const uint8_t *)name,
	                                    .name_n = (uint32_t)strlen(name),
	                                    .slots = s->values + (size_t)(s->cap + i) * SLOTS};
	span->rest = &s->rests[i];
	span->kind = (uint8_t)kind;
	span->status = (uint8_t)status;
	span->start_ns = UINT64_C(1700000000) * TW_NS_PER_S;
	span->duration_ns = duration_ns;
	span->scope = s->req.scope_count - 1;
	return span;
}

void spans_attribute(struct spans *s, const struct tw_span *span, uint32_t slot, struct tw_value v)
{
	struct tw_span_rest *rest = &s->rests[span - s->req.spans];

	rest->slots[slot] = v;
	rest->slots_set |= UINT64_C(1) << slot;
}

void resource_attribute(struct tw_resource *r, uint32_t slot, struct tw_value v)
{
	r->slots[slot] = v;
	r->slots_set |= UINT64_C(1) << slot;
}

struct tw_value text_value(const char *s)
{
	return (struct tw_value){
	    .type = TW_VALUE_STRING, .n = (uint32_t)strlen(s), .p = (const uint8_t *)s};
}

struct tw_value int_value(int64_t i)
{
	return (struct tw_value){.type = TW_VALUE_INT, .i = i};
}

struct tw_metrics_opts default_opts(enum tw_metric_names names)
{
	static const uint32_t ms[] = {2,   4,   6,    8,    10,   50,   100,   200,
	                              400, 800, 1000, 1400, 2000, 5000, 10000, 15000};
	struct tw_metrics_opts o = {.names = names, .series_max = 1000};

	for (size_t i = 0; i < sizeof(ms) / sizeof(ms[0]); i++)
		o.bucket_ns[o.bucket_count++] = ms[i] * TW_NS_PER_MS;
	return o;
}
