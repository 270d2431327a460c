#include "workload.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "tw/base/clock.h"
#include "tw/base/error.h"

enum kind { COUNT, NUMBER, SHARE, REAL, DURATION };

static const struct row {
	const char *name;
	enum kind kind;
	size_t offset;
	const char *fallback;
	const char *help;
} rows[] = {
#define AT(field) offsetof(struct tw_workload, field)
    {"seed", NUMBER, AT(seed), "1", "1 to 32767; ids of different seeds never meet"},
    {"first-trace", NUMBER, AT(first_trace), "0", "number of the first trace"},
    {"trace-spans", COUNT, AT(trace_spans), "8", "spans of a trace; a multiple of visits"},
    {"visits", COUNT, AT(visits), "4", "requests, and services, of a trace"},
    {"request-spans", COUNT, AT(request_spans), "1000",
     "spans of a request; a multiple of trace-spans"},
    {"stride", COUNT, AT(stride), "60", "requests between two visits of a trace"},
    {"services", COUNT, AT(services), "4", "services in all; a multiple of visits"},
    {"tenants", COUNT, AT(tenants), "1", "tenants in all"},
    {"operations", COUNT, AT(operations), "64", "span names in all"},
    {"tracestate", NUMBER, AT(tracestate), "0", "1: spans say their trace's randomness, ot=rv:…"},
    {"zipf", REAL, AT(zipf), "0", "skew of services and tenants: 0 is even, 1 is a city's"},
    {"error-share", SHARE, AT(error_share), "0.01", "of the traces"},
    {"slow-share", SHARE, AT(slow_share), "0.01", "of the traces"},
    {"late-share", SHARE, AT(late_share), "0", "of the traces: their deepest spans come late"},
    {"late-delay", DURATION, AT(late_delay_ns), "15s", "how late"},
#undef AT
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

static int read_value(const struct row *r, struct tw_workload *w, const char *value)
{
	void *at = (char *)w + r->offset;
	char *end;
	double d;
	uint64_t v;

	if (r->kind == DURATION)
		return tw_duration_parse(value, strlen(value), at) == 0 ? 0 : -2;
	if (r->kind == SHARE || r->kind == REAL) {
		d = strtod(value, &end);
		if (end == value || *end || !(d >= 0) || d > (r->kind == SHARE ? 1 : 10))
			return -2;
		*(double *)at = d;
		return 0;
	}
	v = strtoull(value, &end, 10);
	if (*value < '0' || *value > '9' || *end || (r->kind == COUNT && (v < 1 || v > 10000000)))
		return -2;
	if (r->kind == COUNT)
		*(uint32_t *)at = (uint32_t)v;
	else
		*(uint64_t *)at = v;
	return 0;
}

int tw_workload_set(struct tw_workload *w, const char *name, const char *value)
{
	for (size_t i = 0; i < ROWS; i++)
		if (strcmp(rows[i].name, name) == 0)
			return read_value(&rows[i], w, value);
	return -1;
}

void tw_workload_defaults(struct tw_workload *w)
{
	for (size_t i = 0; i < ROWS; i++)
		TW_ASSERT(read_value(&rows[i], w, rows[i].fallback) == 0);
}

const char *tw_workload_check(struct tw_workload *w)
{
	if (w->seed < 1 || w->seed > 32767)
		return "seed is 1 to 32767";
	if (w->first_trace >> 36)
		return "first-trace is less than 2^36";
	if (w->trace_spans % w->visits)
		return "trace-spans is a multiple of visits";
	if (w->request_spans % w->trace_spans)
		return "request-spans is a multiple of trace-spans";
	if (w->services % w->visits || w->services > 10000)
		return "services is a multiple of visits, and 10000 at most";
	if (w->tenants > 10000 || w->operations > 10000)
		return "10000 tenants and operations at most";
	if (w->visits > 16)
		return "16 visits at most";
	if (w->tracestate > 1)
		return "tracestate is 0 or 1";
	if (w->late_share > 0 && w->visits < 2)
		return "late spans need two visits";
	w->error_below = (uint64_t)(w->error_share * 4294967296.0);
	w->slow_below = (uint64_t)(w->slow_share * 4294967296.0);
	return NULL;
}

void tw_workload_help(FILE *f)
{
	for (size_t i = 0; i < ROWS; i++)
		fprintf(f, "  --%-16s %s (%s)\n", rows[i].name, rows[i].help, rows[i].fallback);
}

void tw_workload_print(const struct tw_workload *w, FILE *f)
{
	for (size_t i = 0; i < ROWS; i++) {
		const void *at = (const char *)w + rows[i].offset;

		fprintf(f, "%s=", rows[i].name);
		switch (rows[i].kind) {
		case COUNT:
			fprintf(f, "%u\n", *(const uint32_t *)at);
			break;
		case NUMBER:
			fprintf(f, "%llu\n", (unsigned long long)*(const uint64_t *)at);
			break;
		case DURATION:
			fprintf(f, "%lluns\n", (unsigned long long)*(const uint64_t *)at);
			break;
		default:
			fprintf(f, "%.17g\n", *(const double *)at);
		}
	}
}

uint64_t tw_load_unmix(uint64_t x)
{
	/* The multipliers' inverses modulo 2^64; a shift by s is undone by repeating it. */
	x ^= (x >> 31) ^ (x >> 62);
	x *= UINT64_C(0x319642B2D24D8EC3);
	x ^= (x >> 27) ^ (x >> 54);
	x *= UINT64_C(0x96DE1B173F119089);
	return x ^ (x >> 30) ^ (x >> 60);
}

uint64_t tw_load_span_number(const struct tw_workload *w, uint64_t span_id)
{
	uint64_t x = tw_load_unmix(span_id);

	if (x >> 48 != w->seed || (x & ((UINT64_C(1) << 48) - 1)) == 0)
		return UINT64_MAX;
	return (x & ((UINT64_C(1) << 48) - 1)) - 1;
}
