/* Requests put together by hand, as the scanner would leave them. */
#ifndef TEST_SPANS_H
#define TEST_SPANS_H

#include "tw/metrics.h"

#define SLOTS 8u

struct spans {
	struct tw_request req;
	struct tw_span_rest *rests; /* of each span */
	struct tw_value *values;    /* SLOTS for each resource, then for each span */
	uint32_t cap;
};

void spans_init(struct spans *s, uint32_t cap);
void spans_deinit(struct spans *s);
void spans_clear(struct spans *s);
/* A resource with one scope; the next spans belong to it. service NULL: without service.name. */
struct tw_resource *spans_resource(struct spans *s, const char *service);
struct tw_span *spans_add(struct spans *s, const char *name, enum tw_kind kind,
                          enum tw_status status, uint64_t duration_ns);
void spans_attribute(struct spans *s, const struct tw_span *span, uint32_t slot, struct tw_value v);
void resource_attribute(struct tw_resource *r, uint32_t slot, struct tw_value v);
struct tw_value text_value(const char *s);
struct tw_value int_value(int64_t i);

/* DESIGN's buckets, series_max 1000, no dimensions. */
struct tw_metrics_opts default_opts(enum tw_metric_names names);

#endif
