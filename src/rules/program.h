/* The contract between compile.c, verify.c and eval.c: what a compiled rule file is. Immutable once
 * verified.
 *
 * Code is one array of instructions in segments: the resource segment, the span segment, and one
 * condition for each rule. Every jump goes forward and stays in its segment, so each run ends;
 * verify.c proves that and every index. */
#ifndef TW_RULES_PROGRAM_H
#define TW_RULES_PROGRAM_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "tw/base/arena.h"
#include "tw/base/counter.h"
#include "tw/base/mem.h"
#include "tw/rules.h"

#define TW_BITS_MAX          (TW_MASK_WORDS * 64u) /* spanset bits of a span */
#define TW_RESOURCE_BITS_MAX (TW_LEAF_WORDS * 64u) /* predicate bits of a resource */
#define TW_MEMO_MAX          512u                  /* results that one span's run remembers */
#define TW_FILTER_LEAVES_MAX 4u                    /* distinct trace-level comparisons in one { } */
#define TW_CALC_STACK_MAX    16u
#define TW_LEAVES_MAX        16384u
#define TW_CODE_MAX          (1u << 20)
#define TW_RULES_MAX         10000u
#define TW_REGEX_MAX         1024u
#define TW_CERTAIN                                                                                 \
	(UINT64_C(1) << TW_THRESHOLD_BITS) /* a threshold that no randomness reaches: never kept   \
	                                    */

enum tw_cmp {
	TW_CMP_EQ,
	TW_CMP_NE,
	TW_CMP_LT,
	TW_CMP_LE,
	TW_CMP_GT,
	TW_CMP_GE,
	TW_CMP_RE,
	TW_CMP_NRE
};

enum tw_op {
	TW_OP_END,    /* the segment's end */
	TW_OP_SET,    /* bit a of the result; on at t */
	TW_OP_MEMO,   /* memo a: true → t, false → f, not known yet → the next instruction */
	TW_OP_STORE,  /* memo a := b; on at t */
	TW_OP_STATUS, /* is the status in the set a? as all tests: yes → t, no → f */
	TW_OP_KIND,   /* is the kind in the set a? */
	TW_OP_ROOT,   /* has the span no parent? */
	TW_OP_DURATION, /* leaf a: lo ≤ duration ≤ hi */
	TW_OP_RESOURCE, /* bit a of the resource */
	TW_OP_LEAF,     /* leaf a */
	TW_OP_FILTER,   /* filter a; in conditions only */
	TW_OP_RETURN,   /* the condition is a (0 or 1) */
	TW_OP_COUNT
};

struct tw_insn {
	uint16_t op, a, b, pad;
	uint32_t t, f;
};

enum tw_leaf_kind {
	/* of a span */
	TW_LEAF_STATUS,
	TW_LEAF_KIND, /* lo: the set */
	TW_LEAF_ROOT,
	TW_LEAF_DURATION, /* lo ≤ duration ≤ hi */
	TW_LEAF_SPAN_ID,
	TW_LEAF_PARENT_ID, /* lo */
	TW_LEAF_TEXT,      /* field cmp lit */
	TW_LEAF_HAS,       /* src has slot */
	TW_LEAF_ATTRIBUTE, /* src slot cmp lit */
	TW_LEAF_CALC,      /* calc[code …] cmp calc[code + code_a …] */
	/* of a trace */
	TW_LEAF_TRACE_NUMBER, /* lo ≤ field ≤ hi */
	TW_LEAF_TRACE_ID,     /* lo, hi: the id */
	TW_LEAF_TRACE_HAS_ROOT,
	TW_LEAF_TRACE_BIT, /* lo: a bit of its mask */
	TW_LEAF_TRACE_CALC,
	TW_LEAF_KIND_COUNT
};
static inline bool tw_leaf_of_trace(uint8_t kind)
{
	return kind >= TW_LEAF_TRACE_NUMBER;
}

enum tw_src { TW_SRC_SPAN, TW_SRC_RESOURCE, TW_SRC_ANY /* the span's, else the resource's */ };
enum tw_field { /* what code can read besides attributes */
	        TW_FIELD_NAME,
	        TW_FIELD_STATUS_MESSAGE,
	        TW_FIELD_SCOPE_NAME,
	        TW_FIELD_SCOPE_VERSION,
	        TW_FIELD_DURATION,
	        TW_FIELD_TRACE_DURATION,
	        TW_FIELD_SPAN_COUNT,
	        TW_FIELD_ERROR_COUNT,
	        TW_FIELD_TRACE_BYTES,
	        TW_FIELD_COUNT
};

struct tw_leaf { /* compared as bytes: no padding but the named one */
	uint8_t kind, cmp, src, field;
	uint16_t slot, regex;
	uint32_t code, code_a, code_b, pad;
	uint64_t lo, hi;
	struct tw_value lit; /* strings lie in the program's arena */
};

enum tw_calc_op {
	TW_CALC_CONST,     /* a: of consts */
	TW_CALC_ATTRIBUTE, /* src b, slot a */
	TW_CALC_FIELD,     /* a */
	TW_CALC_NEGATE,
	TW_CALC_ADD,
	TW_CALC_SUB,
	TW_CALC_MUL,
	TW_CALC_DIV,
	TW_CALC_MOD,
	TW_CALC_POW,
	TW_CALC_COUNT
};
struct tw_calc {
	uint16_t op, a, b;
};

/* One { }: its trace-level comparisons give an index into its table, which names the bit of what is
 * left. */
#define TW_FILTER_FALSE UINT16_MAX
#define TW_FILTER_TRUE  (UINT16_MAX - 1)
struct tw_filter {
	uint16_t leaf[TW_FILTER_LEAVES_MAX];
	uint16_t bit[1u << TW_FILTER_LEAVES_MAX]; /* a mask bit, or one of the two above */
	uint8_t leaves;
	bool alone; /* one span can show it: no trace-level comparison in it could become false by a
	               later span */
};

enum tw_keep { TW_KEEP_ALL, TW_KEEP_NONE, TW_KEEP_SHARE, TW_KEEP_BUDGET };
enum tw_unit { TW_UNIT_TRACES, TW_UNIT_SPANS, TW_UNIT_BYTES };

struct tw_budget_spec {
	uint64_t amount;    /* units per window, ≥ 1, < 2^40 */
	uint64_t window_ns; /* ≥ 1 ms */
	uint8_t unit;       /* enum tw_unit */
	bool by_service;
};

struct tw_rule {
	char *name, *text; /* in the arena */
	uint32_t when;     /* code; a condition's begin */
	uint32_t when_end; /* behind it */
	uint8_t keep;
	bool alone;         /* its condition can hold for good from one span alone */
	uint16_t budget;    /* index, for TW_KEEP_BUDGET */
	uint64_t threshold; /* for TW_KEEP_SHARE: 0 … 2^56 */
};

struct tw_rules {
	struct tw_arena arena; /* every string */
	struct tw_wait wait;
	struct tw_insn *code;
	struct tw_leaf *leaf;
	struct tw_calc *calc;
	struct tw_value *consts;
	struct tw_filter *filter;
	struct tw_rule *rule;
	struct tw_budget_spec *budget;
	pcre2_code **regex;
	uint32_t code_count, leaf_count, calc_count, const_count, filter_count, rule_count,
	    budget_count, regex_count;
	uint32_t resource_begin, resource_end; /* segments of code; an END is their last */
	uint32_t span_begin, span_end;
	uint32_t bit_count, resource_bit_count, memo_count, slot_count;
	/* What a trace of these bits may match, a bit a rule: those that need none of the trace's
	 * bits, then for each bit those that need it; rule_words words each. */
	uint64_t *candidates;
	uint32_t rule_words;
};

/* candidates.c: makes r->candidates once all else is there; false: no memory. */
bool tw_candidates_make(struct tw_rules *r);

/* True when every index, jump, size and stack depth of r is in range, so that eval.c needs no
 * checks. */
bool tw_verify(const struct tw_rules *r);

/* rates.c: what a budget says to a trace. */
enum tw_take {
	TW_TAKE_KEPT,
	TW_TAKE_THRESHOLD, /* its randomness is below the threshold in force */
	TW_TAKE_CAP,       /* the window's budget is spent */
};
/* Counts the trace as seen and takes its cost if it may; *threshold: the one in force. [any] */
enum tw_take tw_rates_take(struct tw_rates *rates, uint16_t budget, const struct tw_trace_view *t,
                           uint64_t now_ns, uint64_t *threshold);
/* The threshold in force for this trace, or TW_CERTAIN when the window is spent; changes nothing.
 * [any] */
uint64_t tw_rates_threshold(const struct tw_rates *rates, uint16_t budget,
                            const struct tw_trace_view *t);

#endif
