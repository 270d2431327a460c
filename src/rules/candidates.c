/* Which rules a trace can match at all, told by its bits: of a thousand rules a decision looks at
 * the few that need a bit which is set, and at those that need none. */
#include "program.h"

#define NEEDS_NONE UINT32_MAX

/* The one bit without which the filter holds for no trace. */
static uint32_t needed_by(const struct tw_filter *f)
{
	uint32_t bit = NEEDS_NONE;

	for (uint32_t i = 0; i < 1u << f->leaves; i++) {
		if (f->bit[i] == TW_FILTER_FALSE)
			continue;
		if (f->bit[i] == TW_FILTER_TRUE || (bit != NEEDS_NONE && bit != f->bit[i]))
			return NEEDS_NONE;
		bit = f->bit[i];
	}
	return bit;
}

/* The condition is false as soon as its first filter is. */
static uint32_t needed(const struct tw_rules *r, const struct tw_rule *rule)
{
	const struct tw_insn *first = &r->code[rule->when], *no;

	if (first->op != TW_OP_FILTER)
		return NEEDS_NONE;
	no = &r->code[first->f];
	if (no->op != TW_OP_RETURN || no->a != 0)
		return NEEDS_NONE;
	return needed_by(&r->filter[first->a]);
}

bool tw_candidates_make(struct tw_rules *r)
{
	r->rule_words = (r->rule_count + 63) / 64;
	r->candidates = tw_calloc((size_t)r->bit_count + 1, r->rule_words * sizeof(uint64_t));
	if (!r->candidates)
		return false;
	for (uint32_t i = 0; i < r->rule_count; i++) {
		uint32_t bit = needed(r, &r->rule[i]), row = bit == NEEDS_NONE ? 0 : bit + 1;

		r->candidates[(size_t)row * r->rule_words + i / 64] |= UINT64_C(1) << i % 64;
	}
	return true;
}
