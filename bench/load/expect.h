/* What a backend has got, against what the workload says that it must get.
 *
 * One bit a span. Every span is turned back into its number; its trace id, its parent and its
 * attribute request.id must agree with the number. One thread. */
#ifndef TW_LOAD_EXPECT_H
#define TW_LOAD_EXPECT_H

#include <stddef.h>

#include "workload.h"

struct tw_expect_totals { /* while spans come */
	uint64_t requests, spans;
	uint64_t unique;     /* spans */
	uint64_t duplicates; /* spans that came before */
	uint64_t unknown;    /* no such id in this workload */
	uint64_t wrong;      /* known, but not as it was sent */
	uint64_t malformed;  /* requests */
	uint64_t patched;    /* spans with the attribute traceweir.rule */
};

struct tw_expect_result { /* of the traces that were sent */
	uint64_t error_traces, error_whole;
	uint64_t slow_traces, slow_whole;
	uint64_t rest_traces; /* that came, or, where the share is known, had to come */
	uint64_t rest_whole;
	uint64_t missing; /* spans of all these */
	uint64_t partial; /* traces of which some spans came */
	uint64_t
	    unexpected; /* traces that came and should not have; only where the share is known */
};

struct tw_expect;
struct tw_expect *tw_expect_create(const struct tw_workload *w);
void tw_expect_destroy(struct tw_expect **e);
/* An ExportTraceServiceRequest. False: malformed; what came before the fault is counted. */
bool tw_expect_request(struct tw_expect *e, const void *p, size_t n);
const struct tw_expect_totals *tw_expect_totals(const struct tw_expect *e);
/* Adds the traces first to first + count. rest_share < 0: which others are kept is not known; else
 * those whose randomness says so, by the low 56 bits of the trace id. */
void tw_expect_judge(const struct tw_expect *e, uint64_t first, uint64_t count, double rest_share,
                     struct tw_expect_result *r);

#endif
