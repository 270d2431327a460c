/* A program that is broken in any one place is refused: the evaluator trusts the verifier. */
#include "rules_case.h"

#include "program.h"

static const char yaml[] =
    "rules:\n"
    "  - {name: a, when: '{ .x =~ \"a.*\" && span.y + 1 > 2 && duration > 1s || trace:rootService "
    "= \"s\" }', keep: all}\n"
    "  - {name: b, when: '{ resource.z != nil && status = error } && { name =~ \"n.\" || .x =~ "
    "\"a.*\" }', keep: 5 per 1s}\n"
    "  - {name: c, when: '{ trace:duration * 2 > 1s || trace:bytes > 5 }', keep: all}\n"
    "  - {name: d, keep: 1%}\n";

static struct rules_case c;

/* Changes one field, asks, and puts it back. */
#define BREAKS(field, value)                                                                       \
	do {                                                                                       \
		__typeof__(field) *place = &(field), kept = *place;                                \
		*place = (value);                                                                  \
		if (tw_verify(c.r))                                                                \
			fail_msg("%s = %s was accepted", #field, #value);                          \
		*place = kept;                                                                     \
		assert_true(tw_verify(c.r));                                                       \
	} while (0)

static struct tw_insn *find_op(enum tw_op op)
{
	for (uint32_t i = 0; i < c.r->code_count; i++) {
		if (c.r->code[i].op == op)
			return &c.r->code[i];
	}
	fail_msg("the program has no instruction %d", op);
	return NULL;
}

static struct tw_leaf *find_leaf(enum tw_leaf_kind kind)
{
	for (uint32_t i = 0; i < c.r->leaf_count; i++) {
		if (c.r->leaf[i].kind == kind)
			return &c.r->leaf[i];
	}
	fail_msg("the program has no leaf of kind %d", kind);
	return NULL;
}

static void instructions(void **state)
{
	(void)state;
	BREAKS(find_op(TW_OP_SET)->a, (uint16_t)c.r->bit_count);
	BREAKS(find_op(TW_OP_MEMO)->a, (uint16_t)c.r->memo_count);
	BREAKS(find_op(TW_OP_STORE)->a, (uint16_t)c.r->memo_count);
	BREAKS(find_op(TW_OP_STORE)->b, 2);
	BREAKS(find_op(TW_OP_RESOURCE)->a, (uint16_t)c.r->resource_bit_count);
	BREAKS(find_op(TW_OP_LEAF)->a, (uint16_t)c.r->leaf_count);
	BREAKS(find_op(TW_OP_DURATION)->a, (uint16_t)c.r->leaf_count);
	BREAKS(find_op(TW_OP_FILTER)->a, (uint16_t)c.r->filter_count);
	BREAKS(find_op(TW_OP_RETURN)->a, 2);
	BREAKS(find_op(TW_OP_STATUS)->op, TW_OP_COUNT);
	BREAKS(find_op(TW_OP_STATUS)->op, TW_OP_FILTER);
	BREAKS(find_op(TW_OP_STATUS)->op, TW_OP_RETURN);
	BREAKS(find_op(TW_OP_FILTER)->op, TW_OP_STATUS);
	BREAKS(c.r->code[c.r->span_end - 1].op, TW_OP_STATUS);
	BREAKS(c.r->code[c.r->resource_begin].op, TW_OP_STATUS); /* a resource has no status */
}

/* No loop, no way out of a segment. */
static void jumps(void **state)
{
	struct tw_insn *in = &c.r->code[c.r->span_begin];

	(void)state;
	BREAKS(in->t, c.r->span_begin);
	BREAKS(in->f, c.r->span_begin);
	BREAKS(in->t, c.r->span_end);
	BREAKS(in->f, UINT32_MAX);
	BREAKS(c.r->code[c.r->rule[0].when].t, c.r->rule[0].when);
	BREAKS(c.r->code[c.r->rule[0].when].f, c.r->rule[0].when_end);
	BREAKS(c.r->rule[0].when, c.r->rule[0].when_end);
	BREAKS(c.r->rule[0].when_end, c.r->code_count + 1);
	BREAKS(c.r->span_end, c.r->code_count + 1);
	BREAKS(c.r->resource_begin, c.r->resource_end);
}

static void leaves(void **state)
{
	struct tw_leaf *calc = find_leaf(TW_LEAF_CALC), *attribute = find_leaf(TW_LEAF_ATTRIBUTE);

	(void)state;
	BREAKS(attribute->slot, TW_KEYS_MAX);
	BREAKS(attribute->regex, (uint16_t)c.r->regex_count);
	BREAKS(attribute->src, TW_SRC_ANY);
	BREAKS(attribute->kind, TW_LEAF_KIND_COUNT);
	BREAKS(attribute->kind, TW_LEAF_TRACE_ID); /* used where spans are matched */
	BREAKS(find_leaf(TW_LEAF_TEXT)->field, TW_FIELD_DURATION);
	BREAKS(find_leaf(TW_LEAF_TRACE_NUMBER)->field, TW_FIELD_COUNT);
	BREAKS(find_leaf(TW_LEAF_TRACE_BIT)->lo, c.r->bit_count);
	BREAKS(calc->code, c.r->calc_count);
	BREAKS(calc->code_a, 0);
	BREAKS(calc->code_a, UINT32_MAX);
	BREAKS(calc->cmp, TW_CMP_RE);
	BREAKS(c.r->calc[calc->code].op, TW_CALC_ADD); /* an empty stack */
	BREAKS(c.r->calc[calc->code].op, TW_CALC_COUNT);
	BREAKS(c.r->calc[calc->code].a, TW_KEYS_MAX);
	BREAKS(c.r->calc[calc->code].b, TW_SRC_ANY + 1);
	BREAKS(c.r->calc[calc->code + 1].a, (uint16_t)c.r->const_count);
	BREAKS(find_leaf(TW_LEAF_TRACE_CALC)->kind, TW_LEAF_CALC);
}

static void filters_and_rules(void **state)
{
	struct tw_filter *f = &c.r->filter[0];

	(void)state;
	BREAKS(f->leaves, TW_FILTER_LEAVES_MAX + 1);
	BREAKS(f->leaf[0], (uint16_t)c.r->leaf_count);
	BREAKS(f->bit[0], (uint16_t)c.r->bit_count);
	BREAKS(c.r->rule[0].keep, TW_KEEP_BUDGET + 1);
	BREAKS(c.r->rule[0].name, NULL);
	BREAKS(c.r->rule[1].budget, 1);
	BREAKS(c.r->budget[0].amount, 0);
	BREAKS(c.r->budget[0].window_ns, 0);
	BREAKS(c.r->rule[3].keep, TW_KEEP_BUDGET); /* the last one decides */
	BREAKS(c.r->rule_count, 3);
	BREAKS(c.r->rule_count, 0);
	BREAKS(c.r->bit_count, TW_BITS_MAX + 1);
	BREAKS(c.r->bit_count, 0);
	BREAKS(c.r->memo_count, TW_MEMO_MAX + 1);
	BREAKS(c.r->resource_bit_count, TW_RESOURCE_BITS_MAX + 1);
}

/* As many operands as the stack has places are accepted, one more is not. */
static void deep_stack(void **state)
{
	struct tw_leaf *l = find_leaf(TW_LEAF_CALC), *trace = find_leaf(TW_LEAF_TRACE_CALC);
	struct tw_leaf l_before = *l, trace_before = *trace;
	struct tw_calc code[2 * TW_CALC_STACK_MAX + 2], *before = c.r->calc;
	uint32_t count = c.r->calc_count;

	(void)state;
	c.r->calc = code;
	for (uint32_t n = TW_CALC_STACK_MAX; n <= TW_CALC_STACK_MAX + 1; n++) {
		for (uint32_t i = 0; i < 2 * n; i++)
			code[i] = (struct tw_calc){
			    i >= n && i + 1 < 2 * n ? TW_CALC_ADD : TW_CALC_CONST, 0, 0};
		c.r->calc_count = 2 * n;
		l->code = 0;
		l->code_a = 2 * n - 1;
		l->code_b = 1;
		trace->code = 0;
		trace->code_a = trace->code_b = 1;
		assert_int_equal(tw_verify(c.r), n == TW_CALC_STACK_MAX);
	}
	c.r->calc = before;
	c.r->calc_count = count;
	*l = l_before;
	*trace = trace_before;
	assert_true(tw_verify(c.r));
}

static int setup(void **state)
{
	(void)state;
	rules_case_open(&c, yaml);
	assert_true(tw_verify(c.r));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rules_case_close(&c);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(instructions), cmocka_unit_test(jumps),
	    cmocka_unit_test(leaves),       cmocka_unit_test(filters_and_rules),
	    cmocka_unit_test(deep_stack),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
