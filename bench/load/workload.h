/* What the generator sends and the sink expects: both compute it from the same few numbers.
 *
 * A trace has a number n, counted from first_trace; a span has the number n × trace_spans + its
 * index. Ids are bijective mixes of these numbers, so they look random, never repeat, and can be
 * turned back into the numbers. Whether a trace is an error or slow follows from n and the seed.
 *
 * The spans of a trace are a chain: span i is the child of i − 1. They fall into `visits` groups of
 * one service each; the deepest group is sent first, the root's last, `stride` requests apart. A
 * block is the traces that travel together: request r carries group visits − 1 of block r, group
 * visits − 2 of block r − stride, and so on. It is
 * sent when request r − stride has been acknowledged, so the root does come last, however slow the
 * server is. */
#ifndef TW_LOAD_WORKLOAD_H
#define TW_LOAD_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define TW_LOAD_GOLDEN UINT64_C(0x9E3779B97F4A7C15)

struct tw_workload {
	uint64_t seed; /* 1 to 32767 */
	uint64_t first_trace;
	uint32_t trace_spans; /* a multiple of visits */
	uint32_t visits; /* requests that a trace's spans arrive in, and services that it crosses */
	uint32_t request_spans; /* a multiple of trace_spans */
	uint32_t stride;        /* requests between two visits */
	uint32_t services;      /* a multiple of visits */
	uint32_t tenants;
	uint32_t operations;
	uint64_t tracestate; /* 1: spans have one, which says the low 56 bits of their trace's id */
	double zipf;         /* skew of services and tenants; 0: even */
	double error_share, slow_share;
	double late_share; /* of the traces: their deepest group is sent late_delay_ns later */
	uint64_t late_delay_ns;
	uint64_t error_below, slow_below; /* derived: of 2^32 */
};

struct tw_load_trace_id {
	uint64_t hi, lo; /* big-endian on the wire */
};

void tw_workload_defaults(struct tw_workload *w);
/* One option by its name without dashes. 0; −1: no such option; −2: a wrong value. */
int tw_workload_set(struct tw_workload *w, const char *name, const char *value);
/* Derives; NULL, or what does not fit together. */
const char *tw_workload_check(struct tw_workload *w);
void tw_workload_help(FILE *f);
/* As key=value lines, which tw_workload_set understands again. */
void tw_workload_print(const struct tw_workload *w, FILE *f);

/* splitmix64's finalizer, and back. */
static inline uint64_t tw_load_mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
	return x ^ (x >> 31);
}
uint64_t tw_load_unmix(uint64_t x);

static inline struct tw_load_trace_id tw_load_trace_id(const struct tw_workload *w, uint64_t n)
{
	uint64_t x = n + 1 + (w->seed << 48);

	return (struct tw_load_trace_id){tw_load_mix(x), tw_load_mix(x ^ TW_LOAD_GOLDEN)};
}

/* Never 0: the argument of the mix is not. */
static inline uint64_t tw_load_span_id(const struct tw_workload *w, uint64_t span)
{
	return tw_load_mix(span + 1 + (w->seed << 48));
}

/* The span's number, or UINT64_MAX when this workload has no such id. */
uint64_t tw_load_span_number(const struct tw_workload *w, uint64_t span_id);

enum tw_load_kind { TW_LOAD_REST, TW_LOAD_ERROR, TW_LOAD_SLOW };
static inline uint64_t tw_load_hash(const struct tw_workload *w, uint64_t n)
{
	return tw_load_mix((n * TW_LOAD_GOLDEN) ^ w->seed);
}
static inline enum tw_load_kind tw_load_kind(const struct tw_workload *w, uint64_t hash)
{
	if ((hash & UINT32_MAX) < w->error_below)
		return TW_LOAD_ERROR;
	return (hash >> 32) < w->slow_below ? TW_LOAD_SLOW : TW_LOAD_REST;
}

/* The one span of an error trace whose status is error: never one that is sent late. */
static inline uint32_t tw_load_error_index(const struct tw_workload *w)
{
	return w->visits > 2 ? w->trace_spans / w->visits : 0;
}

#endif
