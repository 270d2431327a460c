#include "program.h"

static bool segment_op(uint16_t op)
{
	return op <= TW_OP_LEAF;
}

static bool operand_ok(const struct tw_rules *r, const struct tw_insn *in, uint32_t bits,
                       bool resource)
{
	switch (in->op) {
	case TW_OP_SET:
		return in->a < bits;
	case TW_OP_MEMO:
		return in->a < r->memo_count;
	case TW_OP_STORE:
		return in->a < r->memo_count && in->b <= 1;
	case TW_OP_STATUS:
	case TW_OP_KIND:
	case TW_OP_ROOT:
		return !resource;
	case TW_OP_DURATION:
		return !resource && in->a < r->leaf_count &&
		       r->leaf[in->a].kind == TW_LEAF_DURATION;
	case TW_OP_RESOURCE:
		return !resource && in->a < r->resource_bit_count;
	case TW_OP_LEAF:
		if (in->a >= r->leaf_count || tw_leaf_of_trace(r->leaf[in->a].kind))
			return false;
		/* Evaluated for a resource, a leaf must not look at a span. */
		return !resource || r->leaf[in->a].src == TW_SRC_RESOURCE;
	case TW_OP_FILTER:
		return in->a < r->filter_count;
	case TW_OP_RETURN:
		return in->a <= 1;
	default:
		return in->op == TW_OP_END;
	}
}

/* Jumps go forward and stay inside, and what they cannot pass is an end: so every run ends in one.
 */
static bool jumps_ok(const struct tw_rules *r, uint32_t begin, uint32_t end)
{
	for (uint32_t i = begin; i < end; i++) {
		const struct tw_insn *in = &r->code[i];

		if (in->op == TW_OP_END || in->op == TW_OP_RETURN)
			continue;
		if (in->t <= i || in->t >= end || in->f <= i || in->f >= end)
			return false;
		if (in->op == TW_OP_MEMO && i + 1 >= end)
			return false;
	}
	return true;
}

static bool segment_ok(const struct tw_rules *r, uint32_t begin, uint32_t end, uint32_t bits,
                       bool resource)
{
	if (begin >= end || end > r->code_count || r->code[end - 1].op != TW_OP_END)
		return false;
	for (uint32_t i = begin; i < end; i++) {
		if (!segment_op(r->code[i].op) || !operand_ok(r, &r->code[i], bits, resource))
			return false;
	}
	return jumps_ok(r, begin, end);
}

static bool condition_ok(const struct tw_rules *r, const struct tw_rule *rule)
{
	if (rule->when >= rule->when_end || rule->when_end > r->code_count ||
	    r->code[rule->when_end - 1].op != TW_OP_RETURN)
		return false;
	for (uint32_t i = rule->when; i < rule->when_end; i++) {
		uint16_t op = r->code[i].op;

		if ((op != TW_OP_FILTER && op != TW_OP_RETURN) ||
		    !operand_ok(r, &r->code[i], 0, false))
			return false;
	}
	return jumps_ok(r, rule->when, rule->when_end);
}

static bool calc_op_ok(const struct tw_rules *r, const struct tw_calc *op, const struct tw_leaf *l,
                       uint32_t *depth)
{
	bool trace = tw_leaf_of_trace(l->kind);

	switch (op->op) {
	case TW_CALC_CONST:
		++*depth;
		return op->a < r->const_count;
	case TW_CALC_ATTRIBUTE:
		++*depth;
		return !trace && op->a < TW_KEYS_MAX && op->b <= TW_SRC_ANY &&
		       (l->src != TW_SRC_RESOURCE || op->b == TW_SRC_RESOURCE);
	case TW_CALC_FIELD:
		++*depth;
		return op->a < TW_FIELD_COUNT && (op->a >= TW_FIELD_TRACE_DURATION) == trace &&
		       l->src != TW_SRC_RESOURCE;
	case TW_CALC_NEGATE:
		return *depth >= 1;
	default:
		if (op->op >= TW_CALC_COUNT || *depth < 2)
			return false;
		--*depth;
		return true;
	}
}

/* One value stays on the stack, which never holds more than TW_CALC_STACK_MAX. */
static bool calc_ok(const struct tw_rules *r, const struct tw_leaf *l, uint32_t begin,
                    uint32_t count)
{
	uint32_t depth = 0;

	if (count == 0 || begin > r->calc_count || count > r->calc_count - begin)
		return false;
	for (uint32_t i = begin; i < begin + count; i++) {
		if (!calc_op_ok(r, &r->calc[i], l, &depth) || depth > TW_CALC_STACK_MAX)
			return false;
	}
	return depth == 1;
}

static bool operand_of_leaf_ok(const struct tw_rules *r, const struct tw_leaf *l)
{
	if (l->cmp == TW_CMP_RE || l->cmp == TW_CMP_NRE)
		return l->regex < r->regex_count && r->regex[l->regex];
	return l->cmp <= TW_CMP_GE && (l->lit.type != TW_VALUE_STRING || l->lit.p);
}

static bool leaf_ok(const struct tw_rules *r, const struct tw_leaf *l)
{
	switch (l->kind) {
	case TW_LEAF_TEXT:
		return l->field <= TW_FIELD_SCOPE_VERSION && l->src != TW_SRC_RESOURCE &&
		       operand_of_leaf_ok(r, l);
	case TW_LEAF_HAS:
		return l->slot < TW_KEYS_MAX && l->src <= TW_SRC_RESOURCE;
	case TW_LEAF_ATTRIBUTE:
		return l->slot < TW_KEYS_MAX && l->src <= TW_SRC_RESOURCE &&
		       operand_of_leaf_ok(r, l);
	case TW_LEAF_CALC:
	case TW_LEAF_TRACE_CALC:
		return l->cmp <= TW_CMP_GE && calc_ok(r, l, l->code, l->code_a) &&
		       calc_ok(r, l, l->code + l->code_a, l->code_b);
	case TW_LEAF_TRACE_NUMBER:
		return l->field >= TW_FIELD_TRACE_DURATION && l->field < TW_FIELD_COUNT;
	case TW_LEAF_TRACE_BIT:
		return l->lo < r->bit_count;
	default:
		return l->kind < TW_LEAF_KIND_COUNT && l->src != TW_SRC_RESOURCE;
	}
}

static bool filter_ok(const struct tw_rules *r, const struct tw_filter *f)
{
	if (f->leaves > TW_FILTER_LEAVES_MAX)
		return false;
	for (uint32_t i = 0; i < f->leaves; i++) {
		if (f->leaf[i] >= r->leaf_count || !tw_leaf_of_trace(r->leaf[f->leaf[i]].kind))
			return false;
	}
	for (uint32_t i = 0; i < 1u << f->leaves; i++) {
		if (f->bit[i] >= r->bit_count && f->bit[i] != TW_FILTER_FALSE &&
		    f->bit[i] != TW_FILTER_TRUE)
			return false;
	}
	return true;
}

static bool budget_ok(const struct tw_budget_spec *b)
{
	return b->amount >= 1 && b->amount < UINT64_C(1) << 40 && b->window_ns >= TW_NS_PER_MS &&
	       b->unit <= TW_UNIT_BYTES;
}

static bool rule_ok(const struct tw_rules *r, const struct tw_rule *rule)
{
	if (!rule->name || !rule->text || !condition_ok(r, rule) || rule->keep > TW_KEEP_BUDGET)
		return false;
	if (rule->keep == TW_KEEP_BUDGET)
		return rule->budget < r->budget_count && budget_ok(&r->budget[rule->budget]);
	return rule->threshold <= TW_CERTAIN;
}

/* The last rule's condition is the constant true, so that a decision is always found. */
static bool end_ok(const struct tw_rules *r)
{
	const struct tw_rule *last = &r->rule[r->rule_count - 1];

	return r->code[last->when].op == TW_OP_RETURN && r->code[last->when].a == 1 &&
	       last->keep != TW_KEEP_BUDGET;
}

bool tw_verify(const struct tw_rules *r)
{
	if (r->bit_count > TW_BITS_MAX || r->resource_bit_count > TW_RESOURCE_BITS_MAX ||
	    r->memo_count > TW_MEMO_MAX || r->rule_count == 0 || r->rule_count > TW_RULES_MAX ||
	    r->slot_count > TW_KEYS_MAX)
		return false;
	for (uint32_t i = 0; i < r->leaf_count; i++) {
		if (!leaf_ok(r, &r->leaf[i]))
			return false;
	}
	for (uint32_t i = 0; i < r->filter_count; i++) {
		if (!filter_ok(r, &r->filter[i]))
			return false;
	}
	for (uint32_t i = 0; i < r->rule_count; i++) {
		if (!rule_ok(r, &r->rule[i]))
			return false;
	}
	return segment_ok(r, r->span_begin, r->span_end, r->bit_count, false) &&
	       segment_ok(r, r->resource_begin, r->resource_end, r->resource_bit_count, true) &&
	       end_ok(r);
}
