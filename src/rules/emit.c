#include "compiler.h"

#include "vec.h"

#define MEMO_COST_MIN 4u /* what is cheaper than this is tested again rather than remembered */

/* Labels are numbers until the segment is complete; then t and f become addresses. Every label is
 * placed after the jumps to it, so all jumps go forward. */
static uint32_t label_new(struct tw_compiler *c)
{
	if (!tw_vec_room(&c->label, c->label_count, &c->label_cap, sizeof(*c->label))) {
		c->nomem = true;
		return 0;
	}
	c->label[c->label_count] = UINT32_MAX;
	return c->label_count++;
}

static void label_place(struct tw_compiler *c, uint32_t label)
{
	if (!c->nomem)
		c->label[label] = c->r->code_count;
}

static void put(struct tw_compiler *c, struct tw_insn in)
{
	if (c->r->code_count >= TW_CODE_MAX || c->nomem)
		return; /* compile.c reports the first */
	if (!tw_vec_room(&c->r->code, c->r->code_count, &c->code_cap, sizeof(in))) {
		c->nomem = true;
		return;
	}
	c->r->code[c->r->code_count++] = in;
}

static void resolve(struct tw_compiler *c, uint32_t begin)
{
	for (uint32_t i = begin; i < c->r->code_count && !c->nomem; i++) {
		struct tw_insn *in = &c->r->code[i];

		if (in->op == TW_OP_END || in->op == TW_OP_RETURN) {
			in->t = in->f = 0;
			continue;
		}
		in->t = c->label[in->t];
		in->f = c->label[in->f];
	}
	c->label_count = 0;
}

/* ---- matching: the span's and the resource's segment ---- */

struct segment {
	struct tw_compiler *c;
	bool resource;
};

static uint32_t resource_bit(struct tw_compiler *c, uint32_t node)
{
	struct tw_gnode *n = &c->graph.node[node];

	if (n->resource_bit != TW_G_NONE)
		return n->resource_bit;
	if (!tw_vec_room(&c->resource_node, c->resource_count, &c->resource_cap,
	                 sizeof(*c->resource_node))) {
		c->nomem = true;
		return 0;
	}
	c->resource_node[c->resource_count] = node;
	n->resource_bit = c->resource_count;
	return c->resource_count++;
}

static bool by_bit(const struct segment *s, uint32_t node)
{
	return !s->resource && s->c->graph.node[node].where == TW_G_RESOURCE;
}

static void count_uses(const struct segment *s, uint32_t node)
{
	struct tw_gnode *n = &s->c->graph.node[node];

	if (node < 2 || by_bit(s, node) || n->uses++)
		return;
	for (uint32_t i = 0; i < n->count; i++)
		count_uses(s, s->c->graph.kids[n->first + i]);
}

static void emit_leaf(const struct segment *s, uint32_t number, uint32_t t, uint32_t f)
{
	const struct tw_leaf *l = &s->c->graph.leaf[number];
	struct tw_insn in = {.op = TW_OP_LEAF, .a = (uint16_t)number, .t = t, .f = f};

	switch (l->kind) {
	case TW_LEAF_STATUS:
		in.op = TW_OP_STATUS;
		in.a = (uint16_t)l->lo;
		break;
	case TW_LEAF_KIND:
		in.op = TW_OP_KIND;
		in.a = (uint16_t)l->lo;
		break;
	case TW_LEAF_ROOT:
		in.op = TW_OP_ROOT;
		break;
	case TW_LEAF_DURATION:
		in.op = TW_OP_DURATION;
		break;
	default:
		break;
	}
	put(s->c, in);
}

static void emit(const struct segment *s, uint32_t node, uint32_t t, uint32_t f);

/* The operands in turn: the first that decides jumps out. */
static void emit_operands(const struct segment *s, const struct tw_gnode *n, uint32_t t, uint32_t f)
{
	for (uint32_t i = 0; i < n->count; i++) {
		uint32_t kid = s->c->graph.kids[n->first + i];
		uint32_t next;

		if (i + 1 == n->count) {
			emit(s, kid, t, f);
			return;
		}
		next = label_new(s->c);
		if (n->kind == TW_G_AND)
			emit(s, kid, next, f);
		else
			emit(s, kid, t, next);
		label_place(s->c, next);
	}
}

static void emit_plain(const struct segment *s, const struct tw_gnode *n, uint32_t t, uint32_t f)
{
	if (n->kind == TW_G_LEAF)
		emit_leaf(s, n->first, t, f);
	else if (n->kind == TW_G_NOT)
		emit(s, s->c->graph.kids[n->first], f, t);
	else
		emit_operands(s, n, t, f);
}

static uint32_t memo_slot(struct tw_compiler *c, struct tw_gnode *n)
{
	if (n->memo == TW_G_NONE && c->r->memo_count < TW_MEMO_MAX)
		n->memo = c->r->memo_count++;
	return n->memo;
}

static void emit(const struct segment *s, uint32_t node, uint32_t t, uint32_t f)
{
	struct tw_compiler *c = s->c;
	struct tw_gnode *n = &c->graph.node[node];
	uint32_t yes, no, memo;

	if (c->nomem || c->r->code_count >= TW_CODE_MAX)
		return;
	if (by_bit(s, node)) {
		put(c, (struct tw_insn){.op = TW_OP_RESOURCE,
		                        .a = (uint16_t)resource_bit(c, node),
		                        .t = t,
		                        .f = f});
		return;
	}
	memo = n->uses > 1 && n->cost >= MEMO_COST_MIN && n->kind != TW_G_NOT ? memo_slot(c, n)
	                                                                      : TW_G_NONE;
	if (memo == TW_G_NONE) {
		emit_plain(s, n, t, f);
		return;
	}
	put(c, (struct tw_insn){.op = TW_OP_MEMO, .a = (uint16_t)memo, .t = t, .f = f});
	yes = label_new(c);
	no = label_new(c);
	emit_plain(s, n, yes, no);
	label_place(c, yes);
	put(c, (struct tw_insn){.op = TW_OP_STORE, .a = (uint16_t)memo, .b = 1, .t = t, .f = t});
	label_place(c, no);
	put(c, (struct tw_insn){.op = TW_OP_STORE, .a = (uint16_t)memo, .b = 0, .t = f, .f = f});
}

static void emit_segment(const struct segment *s, const uint32_t *nodes, uint32_t count)
{
	struct tw_compiler *c = s->c;
	uint32_t begin = c->r->code_count;

	for (uint32_t i = 0; i < c->graph.node_count; i++) {
		c->graph.node[i].uses = 0;
		c->graph.node[i].memo = TW_G_NONE;
	}
	for (uint32_t i = 0; i < count; i++)
		count_uses(s, nodes[i]);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t yes = label_new(c), next = label_new(c);

		emit(s, nodes[i], yes, next);
		label_place(c, yes);
		put(c, (struct tw_insn){.op = TW_OP_SET, .a = (uint16_t)i, .t = next, .f = next});
		label_place(c, next);
	}
	put(c, (struct tw_insn){.op = TW_OP_END});
	resolve(c, begin);
}

void tw_emit_matching(struct tw_compiler *c)
{
	struct segment span = {c, false}, resource = {c, true};

	c->r->span_begin = c->r->code_count;
	emit_segment(&span, c->bit_node, c->bit_count);
	c->r->span_end = c->r->resource_begin = c->r->code_count;
	emit_segment(&resource, c->resource_node, c->resource_count);
	c->r->resource_end = c->r->code_count;
	c->r->bit_count = c->bit_count;
	c->r->resource_bit_count = c->resource_count;
}

/* ---- conditions ---- */

struct when {
	struct tw_compiler *c;
	const uint16_t *filters; /* in the text's order */
	uint32_t next;
};

static void emit_spanset(struct when *w, const struct tw_ast *n, uint32_t t, uint32_t f)
{
	uint32_t next;

	if (n->kind == TW_AST_FILTER) {
		put(w->c, (struct tw_insn){
		              .op = TW_OP_FILTER, .a = w->filters[w->next++], .t = t, .f = f});
		return;
	}
	next = label_new(w->c);
	if (n->kind == TW_AST_BOTH)
		emit_spanset(w, n->a, next, f);
	else
		emit_spanset(w, n->a, t, next);
	label_place(w->c, next);
	emit_spanset(w, n->b, t, f);
}

static int known(const struct when *w, const struct tw_ast *n, uint32_t *at)
{
	int a, b, stops;

	if (n->kind == TW_AST_FILTER) {
		const struct tw_filter *f = &w->c->r->filter[w->filters[(*at)++]];

		if (f->leaves)
			return 2;
		return f->bit[0] == TW_FILTER_TRUE ? 1 : f->bit[0] == TW_FILTER_FALSE ? 0 : 2;
	}
	a = known(w, n->a, at);
	b = known(w, n->b, at);
	stops = n->kind == TW_AST_BOTH ? 0 : 1;
	if (a == stops || b == stops)
		return stops;
	return a == 2 || b == 2 ? 2 : !stops;
}

int tw_emit_when(struct tw_compiler *c, const struct tw_ast *spanset, struct tw_rule *rule,
                 const uint16_t *filters, uint32_t filter_count)
{
	struct when w = {.c = c, .filters = filters};
	uint32_t yes = label_new(c), no = label_new(c), at = 0;
	int answer = spanset ? known(&w, spanset, &at) : 1;

	rule->when = c->r->code_count;
	rule->alone = true;
	for (uint32_t i = 0; i < filter_count; i++)
		rule->alone &= c->r->filter[filters[i]].alone;
	if (answer == 2)
		emit_spanset(&w, spanset, yes, no);
	label_place(c, yes);
	if (answer != 0)
		put(c, (struct tw_insn){.op = TW_OP_RETURN, .a = 1});
	label_place(c, no);
	if (answer != 1)
		put(c, (struct tw_insn){.op = TW_OP_RETURN, .a = 0});
	resolve(c, rule->when);
	rule->when_end = c->r->code_count;
	return answer;
}
