/* Are the views of two scans of the same bytes the same? A view may lie in the body or elsewhere;
 * its content counts. */
#ifndef TW_TESTS_SAME_VIEWS_H
#define TW_TESTS_SAME_VIEWS_H

#include "tw/model/span.h"

static inline bool same_bytes(const uint8_t *a, size_t an, const uint8_t *b, size_t bn)
{
	return an == bn && (an == 0 || memcmp(a, b, an) == 0);
}

static inline bool same_value(const struct tw_value *a, const struct tw_value *b)
{
	if (a->type != b->type)
		return false;
	switch (a->type) {
	case TW_VALUE_NONE:
		return true;
	case TW_VALUE_BOOL:
	case TW_VALUE_INT:
		return a->i == b->i;
	case TW_VALUE_DOUBLE:
		return memcmp(&a->d, &b->d, sizeof(a->d)) == 0;
	default:
		return same_bytes(a->p, a->n, b->p, b->n);
	}
}

static inline bool same_slots(uint64_t set, const struct tw_value *a, const struct tw_value *b)
{
	for (; set; set &= set - 1) {
		int k = __builtin_ctzll(set);

		if (!same_value(&a[k], &b[k]))
			return false;
	}
	return true;
}

static inline bool same_span(const struct tw_span *a, const struct tw_span *b)
{
	return tw_id_eq(a->trace_id, b->trace_id) && a->span_id == b->span_id &&
	       a->parent_id == b->parent_id && a->start_ns == b->start_ns &&
	       a->duration_ns == b->duration_ns && a->bytes == b->bytes &&
	       a->bytes_n == b->bytes_n &&
	       same_bytes(a->rest->name, a->rest->name_n, b->rest->name, b->rest->name_n) &&
	       a->scope == b->scope && a->hash == b->hash &&
	       a->rest->slots_set == b->rest->slots_set &&
	       same_slots(a->rest->slots_set, a->rest->slots, b->rest->slots) &&
	       same_bytes(a->rest->tracestate, a->rest->tracestate_n, b->rest->tracestate,
	                  b->rest->tracestate_n) &&
	       a->rest->w3c_flags == b->rest->w3c_flags &&
	       same_bytes(a->rest->status_message, a->rest->status_message_n,
	                  b->rest->status_message, b->rest->status_message_n) &&
	       a->kind == b->kind && a->status == b->status && a->flags == b->flags;
}

/* The number of the first span that is not the same; −1: all are, and all else is. −2: something
 * else is not. */
static inline int64_t differing_view(const struct tw_request *a, const struct tw_request *b)
{
	if (a->span_count != b->span_count || a->scope_count != b->scope_count ||
	    a->resource_count != b->resource_count ||
	    memcmp(a->rejected, b->rejected, sizeof(a->rejected)) != 0 ||
	    strcmp(a->reject_text, b->reject_text) != 0)
		return -2;
	for (uint32_t i = 0; i < a->scope_count; i++)
		if (a->scopes[i].hash != b->scopes[i].hash ||
		    a->scopes[i].resource != b->scopes[i].resource)
			return -2;
	for (uint32_t i = 0; i < a->span_count; i++)
		if (!same_span(&a->spans[i], &b->spans[i]))
			return i;
	return -1;
}

#endif
