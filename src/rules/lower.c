#include "compiler.h"

#include <math.h>
#include <stdio.h>

#include "arith.h"
#include "vec.h"

struct lower {
	struct tw_compiler *c;
	struct tw_graph *g;
	struct tw_expr *e;
	bool bad; /* reported */
};

static struct tw_leaf leaf_of(enum tw_leaf_kind kind)
{
	struct tw_leaf l;

	memset(&l, 0, sizeof(l)); /* leaves are compared as bytes */
	l.kind = (uint8_t)kind;
	l.regex = UINT16_MAX;
	return l;
}

static uint32_t fail(struct lower *w, const struct tw_ast *n, const char *text)
{
	tw_expr_error(w->e, n->at, n->width, "%s", text);
	w->bad = true;
	return 0;
}

static uint32_t nomem(struct lower *w)
{
	w->c->nomem = true;
	return 0;
}

static uint32_t not_if(struct lower *w, bool negate, uint32_t node)
{
	return negate ? tw_graph_not(w->g, node) : node;
}

/* A copy of s that lives as long as the program. */
static bool keep_text(struct lower *w, struct tw_slice s, struct tw_value *out)
{
	uint8_t *p = tw_arena_alloc(&w->c->r->arena, s.n + 1);

	if (!p) {
		nomem(w);
		return false;
	}
	memcpy(p, s.p, s.n);
	p[s.n] = '\0';
	memset(out, 0, sizeof(*out));
	out->type = TW_VALUE_STRING;
	out->n = (uint32_t)s.n;
	out->p = p;
	return true;
}

static bool literal_value(struct lower *w, const struct tw_ast *n, struct tw_value *out)
{
	memset(out, 0, sizeof(*out));
	switch (n->type) {
	case TW_TYPE_STRING:
		return keep_text(w, n->s, out);
	case TW_TYPE_FLOAT:
		out->type = TW_VALUE_DOUBLE;
		out->d = n->d;
		return true;
	case TW_TYPE_BOOL:
		out->type = TW_VALUE_BOOL;
		out->i = n->i;
		return true;
	default:
		out->type = TW_VALUE_INT;
		out->i = n->i;
		return true;
	}
}

static int slot_of(struct lower *w, const struct tw_ast *n)
{
	int slot = tw_keytab_add(w->c->keys, n->s);

	if (slot == TW_ENOMEM)
		nomem(w);
	else if (slot < 0)
		fail(w, n,
		     "too many different attributes: rules and metrics together read at most 64 "
		     "keys");
	return slot;
}

/* ---- regular expressions ---- */

static bool is_plain(struct tw_slice pattern)
{
	for (size_t i = 0; i < pattern.n; i++) {
		if (strchr("\\^$.|?*+()[]{}", pattern.p[i])) /* also NUL */
			return false;
	}
	return true;
}

static pcre2_code *compile_pattern(struct lower *w, const struct tw_ast *n)
{
	uint32_t options = PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_DOTALL |
	                   PCRE2_DOLLAR_ENDONLY | PCRE2_UTF | PCRE2_MATCH_INVALID_UTF |
	                   PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_AUTO_CAPTURE;
	pcre2_code *code;
	char text[120];
	PCRE2_SIZE at;
	int error;

	code = pcre2_compile(n->s.p, n->s.n, options, &error, &at, NULL);
	if (code) {
		/* Where the machine forbids writable code the interpreter serves. */
		(void)pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
		return code;
	}
	if (error == PCRE2_ERROR_NOMEMORY || error == PCRE2_ERROR_HEAP_FAILED) {
		nomem(w);
		return NULL;
	}
	pcre2_get_error_message(error, (PCRE2_UCHAR *)text, sizeof(text));
	if (n->width == n->s.n + 2) /* no escapes: the offset is exact */
		tw_expr_error(w->e, n->at + 1 + (uint32_t)(at < n->s.n ? at : n->s.n), 1,
		              "this regular expression is wrong here: %s", text);
	else
		tw_expr_error(w->e, n->at, n->width,
		              "this regular expression is wrong at its character %zu: %s",
		              (size_t)at + 1, text);
	w->bad = true;
	return NULL;
}

/* The number of the pattern's code; UINT16_MAX: reported or nomem. */
static uint16_t regex_of(struct lower *w, const struct tw_ast *n)
{
	struct tw_rules *r = w->c->r;
	struct tw_value text;
	pcre2_code *code;

	for (uint32_t i = 0; i < r->regex_count; i++) {
		if (tw_slice_eq(w->c->pattern[i], n->s))
			return (uint16_t)i;
	}
	if (r->regex_count == TW_REGEX_MAX) {
		fail(w, n, "more than 1024 regular expressions");
		return UINT16_MAX;
	}
	if (n->s.n > 4096) {
		fail(w, n, "a regular expression has at most 4096 bytes");
		return UINT16_MAX;
	}
	if (!tw_vec_room(&r->regex, r->regex_count, &w->c->regex_cap, sizeof(*r->regex)) ||
	    !tw_vec_room(&w->c->pattern, r->regex_count, &w->c->pattern_cap,
	                 sizeof(*w->c->pattern)) ||
	    !keep_text(w, n->s, &text)) {
		nomem(w);
		return UINT16_MAX;
	}
	code = compile_pattern(w, n);
	if (!code)
		return UINT16_MAX;
	w->c->pattern[r->regex_count] = tw_slice(text.p, text.n);
	r->regex[r->regex_count] = code;
	return (uint16_t)r->regex_count++;
}

/* Fills cmp, lit and regex from the literal on the right. */
static bool fill_operand(struct lower *w, const struct tw_ast *n, struct tw_leaf *l)
{
	l->cmp = (uint8_t)(n->kind - TW_AST_EQ);
	if (l->cmp == TW_CMP_RE || l->cmp == TW_CMP_NRE) {
		if (!is_plain(n->b->s)) {
			l->regex = regex_of(w, n->b);
			return l->regex != UINT16_MAX;
		}
		l->cmp = l->cmp == TW_CMP_RE ? TW_CMP_EQ : TW_CMP_NE;
	}
	return literal_value(w, n->b, &l->lit);
}

/* ---- numbers that are never negative: a comparison is a range ---- */

struct range {
	uint64_t lo, hi;
	bool empty;
};

static struct range range_int(enum tw_cmp cmp, int64_t v)
{
	struct range all = {0, UINT64_MAX, false}, none = {1, 0, true};
	uint64_t u = (uint64_t)v;

	if (v < 0)
		return cmp == TW_CMP_GT || cmp == TW_CMP_GE ? all : none;
	switch (cmp) {
	case TW_CMP_EQ:
	case TW_CMP_NE: /* the caller negates */
		return (struct range){u, u, false};
	case TW_CMP_LT:
		return u == 0 ? none : (struct range){0, u - 1, false};
	case TW_CMP_LE:
		return (struct range){0, u, false};
	case TW_CMP_GT:
		return (struct range){u + 1, UINT64_MAX, false};
	default:
		return (struct range){u, UINT64_MAX, false};
	}
}

static struct range range_double(enum tw_cmp cmp, double d)
{
	struct range all = {0, UINT64_MAX, false}, none = {1, 0, true};
	bool upper = cmp == TW_CMP_LT || cmp == TW_CMP_LE,
	     lower = cmp == TW_CMP_GT || cmp == TW_CMP_GE;
	double below;

	if (isnan(d))
		return none;
	if (d < 0)
		return lower ? all : none;
	if (d >= 9223372036854775808.0)
		return upper ? all : none;
	below = floor(d);
	if (below == d)
		return range_int(cmp, (int64_t)d);
	if (upper)
		return (struct range){0, (uint64_t)below, false};
	if (lower)
		return (struct range){(uint64_t)below + 1, UINT64_MAX, false};
	return none;
}

static uint32_t lower_range(struct lower *w, const struct tw_ast *n, struct tw_leaf l)
{
	enum tw_cmp cmp = (enum tw_cmp)(n->kind - TW_AST_EQ);
	struct range r =
	    n->b->type == TW_TYPE_FLOAT ? range_double(cmp, n->b->d) : range_int(cmp, n->b->i);
	uint32_t node;

	if (r.empty) {
		node = 0;
	} else if (r.lo == 0 && r.hi == UINT64_MAX) {
		node = 1;
	} else {
		l.lo = r.lo;
		l.hi = r.hi;
		node = tw_graph_leaf(w->g, &l);
	}
	return not_if(w, cmp == TW_CMP_NE, node);
}

/* ---- attributes ---- */

static uint32_t attribute_from(struct lower *w, struct tw_leaf l, enum tw_src src)
{
	l.src = (uint8_t)src;
	return tw_graph_leaf(w->g, &l);
}

/* An attribute without a scope is the span's if the span has it, else the resource's. */
static uint32_t lower_scoped(struct lower *w, const struct tw_ast *attribute, struct tw_leaf l)
{
	struct tw_leaf has = leaf_of(TW_LEAF_HAS);
	uint32_t there, on_span, on_resource;
	int slot = slot_of(w, attribute);

	if (slot < 0)
		return 0;
	l.slot = has.slot = (uint16_t)slot;
	if (attribute->scope == TW_SCOPE_SPAN)
		return attribute_from(w, l, TW_SRC_SPAN);
	if (attribute->scope == TW_SCOPE_RESOURCE)
		return attribute_from(w, l, TW_SRC_RESOURCE);
	there = attribute_from(w, has, TW_SRC_SPAN);
	if (l.kind == TW_LEAF_HAS)
		return tw_graph_pair(w->g, TW_G_OR, there, attribute_from(w, l, TW_SRC_RESOURCE));
	/* The comparison with a missing attribute is false, so the span's side needs no guard. */
	on_span = attribute_from(w, l, TW_SRC_SPAN);
	on_resource = tw_graph_pair(w->g, TW_G_AND, tw_graph_not(w->g, there),
	                            attribute_from(w, l, TW_SRC_RESOURCE));
	return tw_graph_pair(w->g, TW_G_OR, on_span, on_resource);
}

static uint32_t lower_attribute(struct lower *w, const struct tw_ast *n)
{
	struct tw_leaf l = leaf_of(TW_LEAF_ATTRIBUTE);

	return fill_operand(w, n, &l) ? lower_scoped(w, n->a, l) : 0;
}

static uint32_t lower_text(struct lower *w, const struct tw_ast *n, enum tw_field field)
{
	struct tw_leaf l = leaf_of(TW_LEAF_TEXT);
	bool negate;

	l.field = (uint8_t)field;
	if (!fill_operand(w, n, &l))
		return 0;
	negate = l.cmp == TW_CMP_NE; /* never missing, so != is the opposite of = */
	if (negate)
		l.cmp = TW_CMP_EQ;
	return not_if(w, negate, tw_graph_leaf(w->g, &l));
}

/* ---- the root's name and service: a bit that only a root can set ---- */

static uint32_t root_leaf(struct lower *w)
{
	struct tw_leaf l = leaf_of(TW_LEAF_ROOT);

	return tw_graph_leaf(w->g, &l);
}

static uint32_t trace_bit(struct lower *w, uint32_t span_side)
{
	struct tw_leaf l = leaf_of(TW_LEAF_TRACE_BIT);
	uint32_t node = tw_graph_pair(w->g, TW_G_AND, root_leaf(w), span_side);

	if (node == 0)
		return 0;
	l.lo = tw_compiler_bit(w->c, node);
	return tw_graph_leaf(w->g, &l);
}

static uint32_t has_root(struct lower *w)
{
	struct tw_leaf l = leaf_of(TW_LEAF_TRACE_HAS_ROOT);

	return tw_graph_leaf(w->g, &l);
}

static uint32_t lower_root_service(struct lower *w, const struct tw_ast *n, bool nil)
{
	struct tw_ast service = {.kind = TW_AST_ATTRIBUTE,
	                         .scope = TW_SCOPE_RESOURCE,
	                         .at = n->a->at,
	                         .width = n->a->width,
	                         .s = tw_slice_str("service.name")};
	struct tw_ast compare = *n;
	uint32_t node;

	if (nil) {
		node = trace_bit(w, lower_scoped(w, &service, leaf_of(TW_LEAF_HAS)));
		return not_if(w, n->kind == TW_AST_EQ, node);
	}
	compare.a = &service;
	return trace_bit(w, lower_attribute(w, &compare));
}

/* ---- comparisons ---- */

/* != is written as the opposite of =, so that a contradiction of the two is seen as one. */
static uint32_t lower_set(struct lower *w, const struct tw_ast *n, enum tw_leaf_kind kind)
{
	struct tw_leaf l = leaf_of(kind);

	l.lo = UINT64_C(1) << n->b->i;
	return not_if(w, n->kind == TW_AST_NE, tw_graph_leaf(w->g, &l));
}

static uint64_t hex64(const uint8_t *p)
{
	uint64_t v = 0;

	for (int i = 0; i < 16; i++) {
		uint8_t c = p[i];

		v = v << 4 | (uint64_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
	}
	return v;
}

static uint32_t lower_id(struct lower *w, const struct tw_ast *n, enum tw_leaf_kind kind)
{
	struct tw_leaf l = leaf_of(kind);

	l.lo = hex64(n->b->s.p);
	if (kind == TW_LEAF_TRACE_ID)
		l.hi = hex64(n->b->s.p + 16); /* lo: bytes 0–7, hi: bytes 8–15 */
	return not_if(w, n->kind == TW_AST_NE, tw_graph_leaf(w->g, &l));
}

static uint32_t lower_nil(struct lower *w, const struct tw_ast *n)
{
	bool missing = n->kind == TW_AST_EQ;

	if (n->a->kind == TW_AST_ATTRIBUTE)
		return not_if(w, missing, lower_scoped(w, n->a, leaf_of(TW_LEAF_HAS)));
	switch (n->a->intrinsic) {
	case TW_IN_PARENT_ID:
		return not_if(w, !missing, root_leaf(w));
	case TW_IN_ROOT_NAME:
		return not_if(w, missing, has_root(w));
	default:
		return lower_root_service(w, n, true);
	}
}

static uint32_t lower_number_of_trace(struct lower *w, const struct tw_ast *n, enum tw_field field)
{
	struct tw_leaf l = leaf_of(TW_LEAF_TRACE_NUMBER);

	l.field = (uint8_t)field;
	return lower_range(w, n, l);
}

static uint32_t lower_intrinsic(struct lower *w, const struct tw_ast *n)
{
	switch (n->a->intrinsic) {
	case TW_IN_NAME:
		return lower_text(w, n, TW_FIELD_NAME);
	case TW_IN_STATUS_MESSAGE:
		return lower_text(w, n, TW_FIELD_STATUS_MESSAGE);
	case TW_IN_SCOPE_NAME:
		return lower_text(w, n, TW_FIELD_SCOPE_NAME);
	case TW_IN_SCOPE_VERSION:
		return lower_text(w, n, TW_FIELD_SCOPE_VERSION);
	case TW_IN_STATUS:
		return lower_set(w, n, TW_LEAF_STATUS);
	case TW_IN_KIND:
		return lower_set(w, n, TW_LEAF_KIND);
	case TW_IN_DURATION:
		return lower_range(w, n, leaf_of(TW_LEAF_DURATION));
	case TW_IN_SPAN_ID:
		return lower_id(w, n, TW_LEAF_SPAN_ID);
	case TW_IN_PARENT_ID: /* nil for a root, so neither = nor != holds there */
		return tw_graph_pair(w->g, TW_G_AND, tw_graph_not(w->g, root_leaf(w)),
		                     lower_id(w, n, TW_LEAF_PARENT_ID));
	case TW_IN_TRACE_ID:
		return lower_id(w, n, TW_LEAF_TRACE_ID);
	case TW_IN_TRACE_DURATION:
		return lower_number_of_trace(w, n, TW_FIELD_TRACE_DURATION);
	case TW_IN_SPAN_COUNT:
		return lower_number_of_trace(w, n, TW_FIELD_SPAN_COUNT);
	case TW_IN_ERROR_COUNT:
		return lower_number_of_trace(w, n, TW_FIELD_ERROR_COUNT);
	case TW_IN_TRACE_BYTES:
		return lower_number_of_trace(w, n, TW_FIELD_TRACE_BYTES);
	case TW_IN_HAS_ROOT:
		return not_if(w, (n->b->i != 0) != (n->kind == TW_AST_EQ), has_root(w));
	case TW_IN_ROOT_NAME:
		return trace_bit(w, lower_text(w, n, TW_FIELD_NAME));
	case TW_IN_ROOT_SERVICE:
		return lower_root_service(w, n, false);
	default:
		return fail(w, n, "this comparison is not supported yet");
	}
}

/* ---- comparisons that need arithmetic ---- */

static bool put_calc(struct lower *w, enum tw_calc_op op, uint32_t a, uint32_t b)
{
	struct tw_rules *r = w->c->r;

	if (!tw_vec_room(&r->calc, r->calc_count, &w->c->calc_cap, sizeof(*r->calc))) {
		nomem(w);
		return false;
	}
	r->calc[r->calc_count++] = (struct tw_calc){(uint16_t)op, (uint16_t)a, (uint16_t)b};
	return true;
}

static bool calc_const(struct lower *w, const struct tw_ast *n)
{
	struct tw_rules *r = w->c->r;

	if (r->const_count == UINT16_MAX) {
		fail(w, n, "too many constants");
		return false;
	}
	if (!tw_vec_room(&r->consts, r->const_count, &w->c->const_cap, sizeof(*r->consts))) {
		nomem(w);
		return false;
	}
	if (!literal_value(w, n, &r->consts[r->const_count]))
		return false;
	return put_calc(w, TW_CALC_CONST, r->const_count++, 0);
}

static int calc_field(enum tw_intrinsic in)
{
	switch (in) {
	case TW_IN_NAME:
		return TW_FIELD_NAME;
	case TW_IN_STATUS_MESSAGE:
		return TW_FIELD_STATUS_MESSAGE;
	case TW_IN_SCOPE_NAME:
		return TW_FIELD_SCOPE_NAME;
	case TW_IN_SCOPE_VERSION:
		return TW_FIELD_SCOPE_VERSION;
	case TW_IN_DURATION:
		return TW_FIELD_DURATION;
	case TW_IN_TRACE_DURATION:
		return TW_FIELD_TRACE_DURATION;
	case TW_IN_SPAN_COUNT:
		return TW_FIELD_SPAN_COUNT;
	case TW_IN_ERROR_COUNT:
		return TW_FIELD_ERROR_COUNT;
	case TW_IN_TRACE_BYTES:
		return TW_FIELD_TRACE_BYTES;
	default:
		return -1;
	}
}

static bool calc(struct lower *w, const struct tw_ast *n, uint32_t depth, uint32_t *where)
{
	int slot, field;

	if (depth == TW_CALC_STACK_MAX) {
		fail(w, n, "this arithmetic is nested too deeply");
		return false;
	}
	switch (n->kind) {
	case TW_AST_LITERAL:
		return calc_const(w, n);
	case TW_AST_ATTRIBUTE:
		slot = slot_of(w, n);
		if (slot < 0)
			return false;
		*where |= n->scope == TW_SCOPE_RESOURCE ? TW_G_RESOURCE : TW_G_SPAN;
		return put_calc(w, TW_CALC_ATTRIBUTE, (uint32_t)slot,
		                n->scope == TW_SCOPE_SPAN       ? TW_SRC_SPAN
		                : n->scope == TW_SCOPE_RESOURCE ? TW_SRC_RESOURCE
		                                                : TW_SRC_ANY);
	case TW_AST_INTRINSIC:
		field = calc_field(n->intrinsic);
		if (field < 0) {
			fail(w, n, "this cannot be used here");
			return false;
		}
		*where |= tw_intrinsic_of_trace(n->intrinsic) ? TW_G_TRACE : TW_G_SPAN;
		return put_calc(w, TW_CALC_FIELD, (uint32_t)field, 0);
	default:
		if (!calc(w, n->a, depth, where) || (n->b && !calc(w, n->b, depth + 1, where)))
			return false;
		return put_calc(w, (enum tw_calc_op)(TW_CALC_NEGATE + (n->kind - TW_AST_NEGATE)), 0,
		                0);
	}
}

static bool same_code(const struct tw_rules *r, uint32_t a, uint32_t b, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct tw_calc *x = &r->calc[a + i], *y = &r->calc[b + i];

		if (x->op != y->op || x->b != y->b)
			return false;
		if (x->op == TW_CALC_CONST) {
			if (!tw_compare(TW_CMP_EQ, &r->consts[x->a], &r->consts[y->a]) ||
			    r->consts[x->a].type != r->consts[y->a].type)
				return false;
		} else if (x->a != y->a) {
			return false;
		}
	}
	return true;
}

/* Equal code that is there already is used instead of the one just made, so that equal leaves are
 * one. */
static void reuse_code(struct lower *w, struct tw_leaf *l)
{
	struct tw_rules *r = w->c->r;

	for (uint32_t i = 0; i < w->g->leaf_count; i++) {
		const struct tw_leaf *o = &w->g->leaf[i];

		if (o->kind == l->kind && o->code_a == l->code_a && o->code_b == l->code_b &&
		    same_code(r, o->code, l->code, l->code_a + l->code_b)) {
			r->calc_count = l->code;
			l->code = o->code;
			return;
		}
	}
}

static uint32_t lower_calc(struct lower *w, const struct tw_ast *n)
{
	struct tw_leaf l = leaf_of(TW_LEAF_CALC);
	uint32_t where = 0;

	l.cmp = (uint8_t)(n->kind - TW_AST_EQ);
	l.code = w->c->r->calc_count;
	if (!calc(w, n->a, 0, &where))
		return 0;
	l.code_a = w->c->r->calc_count - l.code;
	if (!calc(w, n->b, 0, &where))
		return 0;
	l.code_b = w->c->r->calc_count - l.code - l.code_a;
	if (where & TW_G_TRACE)
		l.kind = TW_LEAF_TRACE_CALC;
	l.src = where == TW_G_RESOURCE ? TW_SRC_RESOURCE : TW_SRC_ANY;
	reuse_code(w, &l);
	return tw_graph_leaf(w->g, &l);
}

static uint32_t lower_comparison(struct lower *w, const struct tw_ast *n)
{
	if (n->b->kind == TW_AST_LITERAL && n->b->type == TW_TYPE_NIL)
		return lower_nil(w, n);
	if (n->b->kind == TW_AST_LITERAL && n->a->kind == TW_AST_ATTRIBUTE)
		return lower_attribute(w, n);
	if (n->b->kind == TW_AST_LITERAL && n->a->kind == TW_AST_INTRINSIC)
		return lower_intrinsic(w, n);
	return lower_calc(w, n);
}

static uint32_t lower_node(struct lower *w, const struct tw_ast *n);

/* a && b && c: one node with three operands. */
static void gather(struct lower *w, const struct tw_ast *n, enum tw_ast_kind kind, uint32_t *out,
                   uint32_t *count)
{
	if (n->kind == kind) {
		gather(w, n->a, kind, out, count);
		gather(w, n->b, kind, out, count);
	} else {
		out[(*count)++] = lower_node(w, n);
	}
}

static uint32_t width_of(const struct tw_ast *n, enum tw_ast_kind kind)
{
	return n->kind == kind ? width_of(n->a, kind) + width_of(n->b, kind) : 1;
}

static uint32_t lower_node(struct lower *w, const struct tw_ast *n)
{
	uint32_t count = 0, *operands, node;

	switch (n->kind) {
	case TW_AST_LITERAL:
		return n->i != 0;
	case TW_AST_NOT:
		return tw_graph_not(w->g, lower_node(w, n->a));
	case TW_AST_AND:
	case TW_AST_OR:
		operands = tw_alloc(width_of(n, n->kind) * sizeof(*operands));
		if (!operands)
			return nomem(w);
		gather(w, n, n->kind, operands, &count);
		node = tw_graph_join(w->g, n->kind == TW_AST_AND ? TW_G_AND : TW_G_OR, operands,
		                     count);
		tw_free(operands);
		return node;
	default:
		return lower_comparison(w, n);
	}
}

uint32_t tw_lower(struct tw_compiler *c, struct tw_expr *e, const struct tw_ast *n, bool *bad)
{
	struct lower w = {.c = c, .g = &c->graph, .e = e};
	uint32_t node = n ? lower_node(&w, n) : 1;

	if (c->graph.nomem)
		c->nomem = true;
	*bad = w.bad;
	return w.bad || c->nomem ? 0 : node;
}
