/* A trace as the rules see it, and what they answer. Plain values; no ownership. */
#ifndef TW_MODEL_TRACE_H
#define TW_MODEL_TRACE_H

#include "tw/model/span.h"

enum tw_reason {                   /* why a trace was decided now; label `reason` */
	         TW_REASON_ROOT,   /* wait.root after its root arrived */
	         TW_REASON_IDLE,   /* wait.idle after its last span */
	         TW_REASON_MOST,   /* wait.most after its first span */
	         TW_REASON_MEMORY, /* the buffer was short */
	         TW_REASON_SIZE,   /* trace_spans_max or trace_bytes_max */
	         TW_REASON_DRAIN,  /* the process is leaving */
	         TW_REASON_LATE,   /* a span after the decision */
	         TW_REASON_COUNT
};
extern const char *const tw_reason_names[TW_REASON_COUNT];

#define TW_RULE_NONE         UINT16_MAX
#define TW_THRESHOLD_UNKNOWN UINT64_MAX /* `th` is erased */
#define TW_THRESHOLD_BITS    56
#define TW_THRESHOLD_NEVER   (UINT64_C(1) << TW_THRESHOLD_BITS) /* no randomness reaches it */

/* What the trace's spans said of their sampling so far (W3C tracestate member `ot`). */
struct tw_ot {
	bool has_rv, has_th, malformed;
	uint64_t rv; /* 0 … 2^56−1 */
	uint64_t th; /* rejection threshold, 0 … 2^56−1 */
};

struct tw_trace_view {
	struct tw_id128 id;
	uint64_t mask[TW_MASK_WORDS]; /* OR of the spans' */
	uint64_t start_ns, end_ns;    /* min start, max end, unix time */
	uint64_t bytes;               /* wire size of its spans */
	uint32_t span_count, error_count;
	uint64_t randomness;   /* explicit rv, else the low 56 bits of the id */
	uint64_t service_hash; /* 40 bits, of service.name of the root span, else of the first span
	                          seen; 0: unknown */
	bool has_root;
	uint8_t reason;      /* enum tw_reason */
	uint32_t generation; /* of the rules that the record began with */
};

struct tw_verdict {
	bool keep;
	uint8_t reason;       /* enum tw_reason */
	uint16_t rule;        /* index in its program */
	uint32_t generation;  /* the program's */
	uint64_t threshold;   /* of 2^56, or TW_THRESHOLD_UNKNOWN */
	uint8_t destinations; /* bit d: still to be delivered to destination d; all ones from the
	                         rules */
};

/* The rejection threshold that keeps the share p (0 < p ≤ 1): 2^56 − round(p × 2^56). p ≤ 0, also
 * when it rounds to nothing, gives 2^56: no randomness reaches it. [any] */
uint64_t tw_threshold_from_ratio(double p);

/* Parses the `ot` member of a tracestate. Never fails: what cannot be read is left out and
 * `malformed` set. A second `ot`, upper-case or over-long digits, > 256 characters, > 32 members:
 * malformed. [any] */
void tw_tracestate_parse(struct tw_slice tracestate, struct tw_ot *out);

/* Writes the tracestate with `th` set (threshold) or erased (TW_THRESHOLD_UNKNOWN), `ot` moved to
 * the front, all other members and sub-keys kept. Returns its length, 0 if none is left to write;
 * never more than tracestate.n + 24. A malformed one is returned as it was. cap ≥ tracestate.n
 * + 24. [any] */
size_t tw_tracestate_write(struct tw_slice tracestate, uint64_t threshold, uint8_t *out,
                           size_t cap);

#endif
