#include "ast.h"
#include "arith.h"

/* Each check_ function returns the node to put in place of the one it was given (the same, or a
 * folded constant), NULL when it was reported. Afterwards: literals stand on the right of
 * comparisons, truth values are comparisons, and no comparison mixes a trace with a span. */

enum { USES_SPAN = 1, USES_TRACE = 2 };

static const struct {
	const char *name;
	enum tw_type type;
} intrinsics[TW_IN_COUNT] = {
    [TW_IN_NAME] = {"name", TW_TYPE_STRING},
    [TW_IN_STATUS] = {"status", TW_TYPE_STATUS},
    [TW_IN_STATUS_MESSAGE] = {"statusMessage", TW_TYPE_STRING},
    [TW_IN_KIND] = {"kind", TW_TYPE_KIND},
    [TW_IN_DURATION] = {"duration", TW_TYPE_DURATION},
    [TW_IN_SPAN_ID] = {"span:id", TW_TYPE_ID},
    [TW_IN_PARENT_ID] = {"span:parentID", TW_TYPE_ID},
    [TW_IN_SCOPE_NAME] = {"instrumentation:name", TW_TYPE_STRING},
    [TW_IN_SCOPE_VERSION] = {"instrumentation:version", TW_TYPE_STRING},
    [TW_IN_TRACE_DURATION] = {"trace:duration", TW_TYPE_DURATION},
    [TW_IN_TRACE_ID] = {"trace:id", TW_TYPE_ID},
    [TW_IN_ROOT_NAME] = {"trace:rootName", TW_TYPE_STRING},
    [TW_IN_ROOT_SERVICE] = {"trace:rootService", TW_TYPE_STRING},
    [TW_IN_SPAN_COUNT] = {"trace:spanCount", TW_TYPE_INT},
    [TW_IN_ERROR_COUNT] = {"trace:errorCount", TW_TYPE_INT},
    [TW_IN_TRACE_BYTES] = {"trace:bytes", TW_TYPE_INT},
    [TW_IN_HAS_ROOT] = {"trace:hasRoot", TW_TYPE_BOOL},
};

static const char *const type_names[TW_TYPE_COUNT] = {
    "nil",           "a string", "a number", "a number", "a duration",
    "true or false", "a status", "a kind",   "an id",    "an attribute",
};

static bool is_numeric(enum tw_type t)
{
	return t == TW_TYPE_INT || t == TW_TYPE_FLOAT || t == TW_TYPE_DURATION;
}

static bool is_comparison(const struct tw_ast *n)
{
	return n->kind >= TW_AST_EQ && n->kind <= TW_AST_NRE;
}

static bool is_truth(const struct tw_ast *n)
{
	return is_comparison(n) || n->kind == TW_AST_NOT || n->kind == TW_AST_AND ||
	       n->kind == TW_AST_OR;
}

static uint32_t uses(const struct tw_ast *n)
{
	if (!n)
		return 0;
	if (n->kind == TW_AST_ATTRIBUTE)
		return USES_SPAN;
	if (n->kind == TW_AST_INTRINSIC)
		return tw_intrinsic_of_trace(n->intrinsic) ? USES_TRACE : USES_SPAN;
	return uses(n->a) | uses(n->b);
}

static struct tw_ast *error_at(struct tw_expr *e, const struct tw_ast *n, const char *text)
{
	tw_expr_error(e, n->at, n->width, "%s", text);
	return NULL;
}

static struct tw_value as_value(const struct tw_ast *n)
{
	if (n->type == TW_TYPE_STRING)
		return (struct tw_value){
		    .type = TW_VALUE_STRING, .n = (uint32_t)n->s.n, .p = n->s.p};
	if (n->type == TW_TYPE_FLOAT)
		return (struct tw_value){.type = TW_VALUE_DOUBLE, .d = n->d};
	if (is_numeric(n->type))
		return (struct tw_value){.type = TW_VALUE_INT, .i = n->i};
	if (n->type == TW_TYPE_BOOL)
		return (struct tw_value){.type = TW_VALUE_BOOL, .i = n->i};
	return (struct tw_value){.type = TW_VALUE_NONE};
}

static struct tw_ast *to_bool(struct tw_ast *n, bool value)
{
	n->kind = TW_AST_LITERAL;
	n->type = TW_TYPE_BOOL;
	n->i = value;
	n->a = n->b = NULL;
	return n;
}

static struct tw_ast *check_value(struct tw_expr *e, struct tw_ast *n);

static enum tw_calc_op calc_op(enum tw_ast_kind k)
{
	return (enum tw_calc_op)(TW_CALC_NEGATE + (k - TW_AST_NEGATE));
}

static struct tw_ast *fold_number(struct tw_expr *e, struct tw_ast *n)
{
	struct tw_value none = {.type = TW_VALUE_NONE};
	struct tw_value v =
	    tw_arith(calc_op(n->kind), as_value(n->a), n->b ? as_value(n->b) : none);

	if (v.type == TW_VALUE_NONE) {
		tw_expr_error(e, n->op_at, n->op_width, "division by zero");
		return NULL;
	}
	n->kind = TW_AST_LITERAL;
	if (v.type == TW_VALUE_DOUBLE) {
		n->type = TW_TYPE_FLOAT;
		n->d = v.d;
	} else {
		n->i = v.i;
	}
	n->a = n->b = NULL;
	return n;
}

static struct tw_ast *operand_of_arithmetic(struct tw_expr *e, struct tw_ast *n)
{
	n = check_value(e, n);
	if (!n)
		return NULL;
	if (n->type != TW_TYPE_ATTRIBUTE && !is_numeric(n->type)) {
		tw_expr_error(e, n->at, n->width, "expected a number or a duration, found %s",
		              type_names[n->type]);
		return NULL;
	}
	return n;
}

static enum tw_type wider(enum tw_type a, enum tw_type b)
{
	if (a == TW_TYPE_DURATION || b == TW_TYPE_DURATION)
		return TW_TYPE_DURATION;
	if (a == TW_TYPE_FLOAT || b == TW_TYPE_FLOAT)
		return TW_TYPE_FLOAT;
	return TW_TYPE_INT;
}

static struct tw_ast *check_arithmetic(struct tw_expr *e, struct tw_ast *n)
{
	n->a = operand_of_arithmetic(e, n->a);
	if (!n->a)
		return NULL;
	if (n->b) {
		n->b = operand_of_arithmetic(e, n->b);
		if (!n->b)
			return NULL;
	}
	n->type = wider(n->a->type, n->b ? n->b->type : n->a->type);
	if (n->a->kind == TW_AST_LITERAL && (!n->b || n->b->kind == TW_AST_LITERAL))
		return fold_number(e, n);
	if (uses(n) == (USES_SPAN | USES_TRACE)) {
		tw_expr_error(
		    e, n->op_at, n->op_width,
		    "arithmetic that mixes a trace's value with a span's is not supported yet");
		return NULL;
	}
	return n;
}

static struct tw_ast *check_value(struct tw_expr *e, struct tw_ast *n)
{
	switch (n->kind) {
	case TW_AST_LITERAL:
		return n;
	case TW_AST_ATTRIBUTE:
		n->type = TW_TYPE_ATTRIBUTE;
		return n;
	case TW_AST_INTRINSIC:
		n->type = intrinsics[n->intrinsic].type;
		return n;
	default:
		if (is_truth(n))
			return error_at(
			    e, n,
			    "expected a value, found a condition: combine conditions with && || !");
		return check_arithmetic(e, n);
	}
}

static enum tw_ast_kind mirrored(enum tw_ast_kind k)
{
	switch (k) {
	case TW_AST_LT:
		return TW_AST_GT;
	case TW_AST_LE:
		return TW_AST_GE;
	case TW_AST_GT:
		return TW_AST_LT;
	case TW_AST_GE:
		return TW_AST_LE;
	default:
		return k;
	}
}

static bool may_be_nil(const struct tw_ast *n)
{
	if (n->kind == TW_AST_ATTRIBUTE)
		return true;
	return n->kind == TW_AST_INTRINSIC &&
	       (n->intrinsic == TW_IN_PARENT_ID || n->intrinsic == TW_IN_ROOT_NAME ||
	        n->intrinsic == TW_IN_ROOT_SERVICE);
}

static struct tw_ast *check_nil(struct tw_expr *e, struct tw_ast *n)
{
	if (n->kind != TW_AST_EQ && n->kind != TW_AST_NE) {
		tw_expr_error(e, n->op_at, n->op_width, "nil can be compared with = and != only");
		return NULL;
	}
	if (n->a->type == TW_TYPE_NIL)
		return error_at(e, n, "nil compared with nil");
	if (may_be_nil(n->a))
		return n;
	if (n->a->kind == TW_AST_INTRINSIC) {
		tw_expr_error(e, n->at, n->width, "`%s` is never nil",
		              intrinsics[n->a->intrinsic].name);
		return NULL;
	}
	return error_at(
	    e, n,
	    "only attributes, span:parentID, trace:rootName and trace:rootService can be nil");
}

static struct tw_ast *check_regex(struct tw_expr *e, struct tw_ast *n)
{
	if (n->b->kind != TW_AST_LITERAL || n->b->type != TW_TYPE_STRING)
		return error_at(e, n->b, "expected a regular expression in quotes");
	if (n->a->kind == TW_AST_LITERAL)
		return error_at(
		    e, n->a,
		    "expected an attribute or an intrinsic on the left of a regular expression");
	if (n->a->type != TW_TYPE_STRING && n->a->type != TW_TYPE_ATTRIBUTE) {
		tw_expr_error(e, n->a->at, n->a->width,
		              "a regular expression matches strings, this is %s",
		              type_names[n->a->type]);
		return NULL;
	}
	if (n->a->kind != TW_AST_ATTRIBUTE && n->a->kind != TW_AST_INTRINSIC)
		return error_at(e, n->a, "a regular expression matches strings, this is a number");
	return n;
}

static bool is_hex(struct tw_slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = s.p[i] | 0x20;

		if (!((s.p[i] >= '0' && s.p[i] <= '9') || (c >= 'a' && c <= 'f')))
			return false;
	}
	return true;
}

static struct tw_ast *check_id(struct tw_expr *e, struct tw_ast *n)
{
	uint32_t digits = n->a->intrinsic == TW_IN_TRACE_ID ? 32 : 16;

	if (n->kind != TW_AST_EQ && n->kind != TW_AST_NE) {
		tw_expr_error(e, n->op_at, n->op_width, "ids can be compared with = and != only");
		return NULL;
	}
	if (n->b->kind != TW_AST_LITERAL || n->b->type != TW_TYPE_STRING || n->b->s.n != digits ||
	    !is_hex(n->b->s)) {
		tw_expr_error(e, n->b->at, n->b->width,
		              "expected an id: %u hexadecimal digits in quotes", digits);
		return NULL;
	}
	return n;
}

static bool only_equality(enum tw_type t)
{
	return t == TW_TYPE_BOOL || t == TW_TYPE_STATUS || t == TW_TYPE_KIND;
}

static const char *type_hint(enum tw_type t)
{
	switch (t) {
	case TW_TYPE_STATUS:
		return " (ok, error or unset)";
	case TW_TYPE_KIND:
		return " (unspecified, internal, server, client, producer or consumer)";
	case TW_TYPE_DURATION:
		return " (such as 250ms)";
	case TW_TYPE_STRING:
		return " (in quotes)";
	default:
		return "";
	}
}

static struct tw_ast *check_types(struct tw_expr *e, struct tw_ast *n)
{
	enum tw_type a = n->a->type, b = n->b->type;
	bool match = a == b || (is_numeric(a) && is_numeric(b)) || a == TW_TYPE_ATTRIBUTE ||
	             b == TW_TYPE_ATTRIBUTE;

	if ((a == TW_TYPE_ATTRIBUTE &&
	     (b == TW_TYPE_STATUS || b == TW_TYPE_KIND || b == TW_TYPE_ID)) ||
	    (b == TW_TYPE_ATTRIBUTE &&
	     (a == TW_TYPE_STATUS || a == TW_TYPE_KIND || a == TW_TYPE_ID)))
		match = false;
	if (!match) {
		tw_expr_error(e, n->b->at, n->b->width, "expected %s%s, found %s",
		              a == TW_TYPE_ATTRIBUTE ? "a string, a number or true or false"
		                                     : type_names[a],
		              type_hint(a), type_names[b]);
		return NULL;
	}
	if ((only_equality(a) || only_equality(b)) && n->kind != TW_AST_EQ &&
	    n->kind != TW_AST_NE) {
		tw_expr_error(e, n->op_at, n->op_width, "%s can be compared with = and != only",
		              type_names[only_equality(a) ? a : b]);
		return NULL;
	}
	return n;
}

static struct tw_ast *check_mixture(struct tw_expr *e, struct tw_ast *n)
{
	bool root_text = n->a->kind == TW_AST_INTRINSIC && (n->a->intrinsic == TW_IN_ROOT_NAME ||
	                                                    n->a->intrinsic == TW_IN_ROOT_SERVICE);

	if (uses(n) == (USES_SPAN | USES_TRACE)) {
		tw_expr_error(e, n->op_at, n->op_width,
		              "a comparison of a trace's value with a span's is not supported yet");
		return NULL;
	}
	if (n->b->kind != TW_AST_LITERAL) {
		if (root_text ||
		    (n->b->kind == TW_AST_INTRINSIC && (n->b->intrinsic == TW_IN_ROOT_NAME ||
		                                        n->b->intrinsic == TW_IN_ROOT_SERVICE))) {
			tw_expr_error(
			    e, n->op_at, n->op_width,
			    "a comparison of trace:rootName or trace:rootService with anything but "
			    "a constant is not supported yet");
			return NULL;
		}
		if (only_equality(n->a->type) || only_equality(n->b->type))
			return error_at(e, n->b, "expected a constant here");
	}
	return n;
}

static struct tw_ast *fold_comparison(struct tw_ast *n)
{
	struct tw_value a = as_value(n->a), b = as_value(n->b);

	if (n->a->type == TW_TYPE_STATUS || n->a->type == TW_TYPE_KIND)
		return to_bool(n, (n->a->i == n->b->i) == (n->kind == TW_AST_EQ));
	return to_bool(n, tw_compare((enum tw_cmp)(n->kind - TW_AST_EQ), &a, &b));
}

static struct tw_ast *check_comparison(struct tw_expr *e, struct tw_ast *n)
{
	n->a = check_value(e, n->a);
	n->b = n->a ? check_value(e, n->b) : NULL;
	if (!n->b)
		return NULL;
	n->type = TW_TYPE_BOOL;
	if (n->kind == TW_AST_RE || n->kind == TW_AST_NRE)
		return check_regex(e, n);
	if (n->a->kind == TW_AST_LITERAL && n->b->kind != TW_AST_LITERAL) {
		struct tw_ast *t = n->a;

		n->a = n->b;
		n->b = t;
		n->kind = mirrored(n->kind);
	}
	if (n->b->type == TW_TYPE_NIL)
		return check_nil(e, n);
	if (n->a->type == TW_TYPE_NIL)
		return error_at(e, n->a, "nil can be compared with attributes only");
	if (n->a->type == TW_TYPE_ID)
		return check_id(e, n);
	if (!check_types(e, n))
		return NULL;
	if (n->a->kind == TW_AST_LITERAL && n->b->kind == TW_AST_LITERAL)
		return fold_comparison(n);
	return check_mixture(e, n);
}

/* An attribute or trace:hasRoot that stands for its own truth becomes `= true`. */
static struct tw_ast *equals_bool(struct tw_expr *e, struct tw_ast *n, bool value)
{
	struct tw_ast *eq = tw_ast_new(e, TW_AST_EQ, n->at, n->width);
	struct tw_ast *lit = eq ? tw_ast_new(e, TW_AST_LITERAL, n->at, n->width) : NULL;

	if (!lit)
		return NULL;
	to_bool(lit, value);
	eq->type = TW_TYPE_BOOL;
	eq->a = n;
	eq->b = lit;
	return eq;
}

static struct tw_ast *check_truth(struct tw_expr *e, struct tw_ast *n);

/* !.x holds when .x is false; when it is missing it does not. */
static struct tw_ast *check_not(struct tw_expr *e, struct tw_ast *n)
{
	if (n->a->kind == TW_AST_ATTRIBUTE) {
		n->a->type = TW_TYPE_ATTRIBUTE;
		return equals_bool(e, n->a, false);
	}
	n->a = check_truth(e, n->a);
	if (!n->a)
		return NULL;
	n->type = TW_TYPE_BOOL;
	return n;
}

static struct tw_ast *check_truth(struct tw_expr *e, struct tw_ast *n)
{
	if (is_comparison(n))
		return check_comparison(e, n);
	switch (n->kind) {
	case TW_AST_NOT:
		return check_not(e, n);
	case TW_AST_AND:
	case TW_AST_OR:
		n->a = check_truth(e, n->a);
		n->b = n->a ? check_truth(e, n->b) : NULL;
		n->type = TW_TYPE_BOOL;
		return n->b ? n : NULL;
	case TW_AST_ATTRIBUTE:
		n->type = TW_TYPE_ATTRIBUTE;
		return equals_bool(e, n, true);
	default:
		n = check_value(e, n);
		if (!n)
			return NULL;
		if (n->type != TW_TYPE_BOOL) {
			tw_expr_error(e, n->at, n->width,
			              "expected a condition that is true or false, found %s",
			              type_names[n->type]);
			return NULL;
		}
		return n->kind == TW_AST_LITERAL ? n : equals_bool(e, n, true);
	}
}

bool tw_check(struct tw_expr *e, struct tw_ast *n)
{
	if (n->kind == TW_AST_FILTER) {
		if (!n->a)
			return true;
		n->a = check_truth(e, n->a);
		return n->a != NULL;
	}
	/* Both sides, so that one run shows as much as it can. */
	bool a = tw_check(e, n->a), b = tw_check(e, n->b);

	return a && b;
}
