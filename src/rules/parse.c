#include "ast.h"

#include "tw/model/span.h"

#include <stdarg.h>
#include <stdio.h>

/* Precedence, loosest first:
 *   spansets:  ||   &&
 *   in { }:    ||   &&   comparisons   + -   !   * / %   ^ (right to left)   unary -
 * Recursive descent; each function leaves `t` on the first token that is not its own. */
struct parser {
	struct tw_expr *e;
	struct tw_lexer lexer;
	struct tw_token t;
	uint32_t nest;
};

void tw_expr_error(struct tw_expr *e, uint32_t at, uint32_t width, const char *fmt, ...)
{
	char text[sizeof(e->source->diags->item[0].text)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	tw_diag_scalar(e->source, TW_DIAG_ERROR, e->scalar, at, width, "%s", text);
}

struct tw_ast *tw_ast_new(struct tw_expr *e, enum tw_ast_kind kind, uint32_t at, uint32_t width)
{
	struct tw_ast *n;

	if (e->nodes == TW_AST_NODES_MAX) {
		tw_expr_error(e, at, width,
		              "this condition is too large: it has more than %u parts",
		              TW_AST_NODES_MAX);
		return NULL;
	}
	n = tw_arena_alloc(e->arena, sizeof(*n));
	if (!n) {
		e->nomem = true;
		return NULL;
	}
	e->nodes++;
	memset(n, 0, sizeof(*n));
	n->kind = kind;
	n->at = at;
	n->width = width;
	return n;
}

static void advance(struct parser *p)
{
	p->t = tw_lex_next(&p->lexer);
}

static const char *token_text(const struct tw_token *t, char *buf, size_t cap)
{
	if (t->kind == TW_TOK_END)
		snprintf(buf, cap, "the end");
	else if (t->kind == TW_TOK_STRING)
		snprintf(buf, cap, "a string");
	else
		snprintf(buf, cap, "`%.*s`", (int)(t->text.n > 40 ? 40 : t->text.n),
		         (const char *)t->text.p);
	return buf;
}

static struct tw_ast *expected_so(struct parser *p, const char *what, const char *hint)
{
	char got[64];

	if (p->t.kind != TW_TOK_BAD)
		tw_expr_error(p->e, p->t.at, p->t.width, "expected %s, found %s%s", what,
		              token_text(&p->t, got, sizeof(got)), hint);
	return NULL;
}

static struct tw_ast *expected(struct parser *p, const char *what)
{
	return expected_so(p, what, "");
}

static struct tw_ast *unsupported(struct parser *p, const char *what)
{
	tw_expr_error(p->e, p->t.at, p->t.width, "%s is not supported yet", what);
	return NULL;
}

static bool enter(struct parser *p)
{
	if (p->nest++ < TW_AST_NEST_MAX)
		return true;
	tw_expr_error(p->e, p->t.at, p->t.width, "nested deeper than %u levels", TW_AST_NEST_MAX);
	return false;
}

static void leave(struct parser *p)
{
	p->nest--;
}

static struct tw_ast *binary(struct parser *p, enum tw_ast_kind kind, struct tw_token op,
                             struct tw_ast *a, struct tw_ast *b)
{
	struct tw_ast *n;

	if (!a || !b)
		return NULL;
	n = tw_ast_new(p->e, kind, a->at, b->at + b->width - a->at);
	if (!n)
		return NULL;
	n->op_at = op.at;
	n->op_width = op.width;
	n->a = a;
	n->b = b;
	return n;
}

static struct tw_ast *literal(struct parser *p, enum tw_type type)
{
	struct tw_ast *n = tw_ast_new(p->e, TW_AST_LITERAL, p->t.at, p->t.width);

	if (!n)
		return NULL;
	n->type = type;
	n->s = p->t.text;
	n->i = p->t.i;
	n->d = p->t.d;
	advance(p);
	return n;
}

struct word {
	const char *name;
	enum tw_type type; /* a literal's type, or COUNT: an intrinsic */
	int value;
};

static const struct word words[] = {
    {"nil", TW_TYPE_NIL, 0},
    {"true", TW_TYPE_BOOL, 1},
    {"false", TW_TYPE_BOOL, 0},
    {"unset", TW_TYPE_STATUS, TW_STATUS_UNSET},
    {"ok", TW_TYPE_STATUS, TW_STATUS_OK},
    {"error", TW_TYPE_STATUS, TW_STATUS_ERROR},
    {"unspecified", TW_TYPE_KIND, TW_KIND_UNSPECIFIED},
    {"internal", TW_TYPE_KIND, TW_KIND_INTERNAL},
    {"server", TW_TYPE_KIND, TW_KIND_SERVER},
    {"client", TW_TYPE_KIND, TW_KIND_CLIENT},
    {"producer", TW_TYPE_KIND, TW_KIND_PRODUCER},
    {"consumer", TW_TYPE_KIND, TW_KIND_CONSUMER},
    {"name", TW_TYPE_COUNT, TW_IN_NAME},
    {"status", TW_TYPE_COUNT, TW_IN_STATUS},
    {"statusMessage", TW_TYPE_COUNT, TW_IN_STATUS_MESSAGE},
    {"kind", TW_TYPE_COUNT, TW_IN_KIND},
    {"duration", TW_TYPE_COUNT, TW_IN_DURATION},
    {"span:name", TW_TYPE_COUNT, TW_IN_NAME},
    {"span:status", TW_TYPE_COUNT, TW_IN_STATUS},
    {"span:statusMessage", TW_TYPE_COUNT, TW_IN_STATUS_MESSAGE},
    {"span:kind", TW_TYPE_COUNT, TW_IN_KIND},
    {"span:duration", TW_TYPE_COUNT, TW_IN_DURATION},
    {"span:id", TW_TYPE_COUNT, TW_IN_SPAN_ID},
    {"span:parentID", TW_TYPE_COUNT, TW_IN_PARENT_ID},
    {"instrumentation:name", TW_TYPE_COUNT, TW_IN_SCOPE_NAME},
    {"instrumentation:version", TW_TYPE_COUNT, TW_IN_SCOPE_VERSION},
    {"trace:duration", TW_TYPE_COUNT, TW_IN_TRACE_DURATION},
    {"traceDuration", TW_TYPE_COUNT, TW_IN_TRACE_DURATION},
    {"trace:id", TW_TYPE_COUNT, TW_IN_TRACE_ID},
    {"trace:rootName", TW_TYPE_COUNT, TW_IN_ROOT_NAME},
    {"rootName", TW_TYPE_COUNT, TW_IN_ROOT_NAME},
    {"trace:rootService", TW_TYPE_COUNT, TW_IN_ROOT_SERVICE},
    {"rootServiceName", TW_TYPE_COUNT, TW_IN_ROOT_SERVICE},
    {"trace:spanCount", TW_TYPE_COUNT, TW_IN_SPAN_COUNT},
    {"trace:errorCount", TW_TYPE_COUNT, TW_IN_ERROR_COUNT},
    {"trace:bytes", TW_TYPE_COUNT, TW_IN_TRACE_BYTES},
    {"trace:hasRoot", TW_TYPE_COUNT, TW_IN_HAS_ROOT},
};
#define WORD_COUNT (sizeof(words) / sizeof(words[0]))

/* Words of TraceQL, or of DESIGN's extension of it, that have no meaning here yet. */
static const char *const later[] = {
    "span:childCount",
    "childCount",
    "span:selfDuration",
    "trace:serviceCount",
    "trace:newEdge",
    "event:name",
    "event:timeSinceStart",
    "link:traceID",
    "link:spanID",
    "nestedSetLeft",
    "nestedSetRight",
    "nestedSetParent",
    "parent",
    "p50",
    "p90",
    "p95",
    "p99",
    "p999",
    "minInt",
    "maxInt",
    "count",
    "min",
    "max",
    "avg",
    "sum",
    "by",
    "coalesce",
    "select",
};
#define LATER_COUNT (sizeof(later) / sizeof(later[0]))

static bool is_bare(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '.' || c == '_' || c == '-';
}

static struct tw_ast *unknown_word(struct parser *p)
{
	const char *names[WORD_COUNT];
	const char *near;
	const char *word = (const char *)p->t.text.p;
	struct tw_slice text = p->e->text;
	int n = (int)(p->t.text.n > 60 ? 60 : p->t.text.n), all = n;

	for (size_t i = 0; i < LATER_COUNT; i++) {
		if (tw_slice_eq(p->t.text, tw_slice_str(later[i]))) {
			char what[48];

			snprintf(what, sizeof(what), "`%s`", later[i]);
			return unsupported(p, what);
		}
	}
	for (size_t i = 0; i < WORD_COUNT; i++)
		names[i] = words[i].name;
	near = tw_nearest(p->t.text, names, WORD_COUNT);
	if (near) {
		tw_expr_error(p->e, p->t.at, p->t.width, "unknown name `%.*s`: did you mean `%s`?",
		              n, word, near);
		return NULL;
	}
	/* An attribute without its scope: http.route */
	while (all < 60 && (size_t)p->t.at + all < text.n && is_bare(text.p[p->t.at + all]))
		all++;
	tw_expr_error(
	    p->e, p->t.at, (uint32_t)all,
	    "unknown name `%.*s`: an attribute is written span.%.*s, resource.%.*s or .%.*s", all,
	    word, all, word, all, word, all, word);
	return NULL;
}

static struct tw_ast *word(struct parser *p)
{
	for (size_t i = 0; i < WORD_COUNT; i++) {
		struct tw_ast *n;

		if (!tw_slice_eq(p->t.text, tw_slice_str(words[i].name)))
			continue;
		if (words[i].type != TW_TYPE_COUNT) {
			n = literal(p, words[i].type);
			if (n)
				n->i = words[i].value;
			return n;
		}
		n = tw_ast_new(p->e, TW_AST_INTRINSIC, p->t.at, p->t.width);
		if (!n)
			return NULL;
		n->intrinsic = (enum tw_intrinsic)words[i].value;
		n->s = p->t.text;
		advance(p);
		return n;
	}
	return unknown_word(p);
}

static struct tw_ast *attribute(struct parser *p)
{
	struct tw_ast *n;

	switch (p->t.scope) {
	case TW_SCOPE_EVENT:
		return unsupported(p, "the scope `event.`");
	case TW_SCOPE_LINK:
		return unsupported(p, "the scope `link.`");
	case TW_SCOPE_PARENT:
		return unsupported(p, "the scope `parent.`");
	case TW_SCOPE_INSTRUMENTATION:
		return unsupported(p, "an attribute of the instrumentation scope");
	default:
		break;
	}
	n = tw_ast_new(p->e, TW_AST_ATTRIBUTE, p->t.at, p->t.width);
	if (!n)
		return NULL;
	n->scope = p->t.scope;
	n->s = p->t.text;
	advance(p);
	return n;
}

static struct tw_ast *field(struct parser *p);

static struct tw_ast *parenthesised(struct parser *p)
{
	struct tw_token open = p->t;
	struct tw_ast *n;

	if (!enter(p))
		return NULL;
	advance(p);
	n = field(p);
	leave(p);
	if (!n)
		return NULL;
	if (p->t.kind != TW_TOK_RPAREN)
		return expected(p, "`)` or an operator");
	n->width = p->t.at + p->t.width - open.at;
	n->at = open.at;
	advance(p);
	return n;
}

static struct tw_ast *operand(struct parser *p)
{
	switch (p->t.kind) {
	case TW_TOK_STRING:
		return literal(p, TW_TYPE_STRING);
	case TW_TOK_INT:
		return literal(p, TW_TYPE_INT);
	case TW_TOK_FLOAT:
		return literal(p, TW_TYPE_FLOAT);
	case TW_TOK_DURATION:
		return literal(p, TW_TYPE_DURATION);
	case TW_TOK_WORD:
		return word(p);
	case TW_TOK_ATTRIBUTE:
		return attribute(p);
	case TW_TOK_LPAREN:
		return parenthesised(p);
	default:
		return expected(p, "an attribute, an intrinsic such as `duration`, or a value");
	}
}

static struct tw_ast *prefix(struct parser *p, enum tw_ast_kind kind,
                             struct tw_ast *(*inner)(struct parser *))
{
	struct tw_token op = p->t;
	struct tw_ast *a, *n;

	if (!enter(p))
		return NULL;
	advance(p);
	a = inner(p);
	leave(p);
	if (!a)
		return NULL;
	n = tw_ast_new(p->e, kind, op.at, a->at + a->width - op.at);
	if (n) {
		n->a = a;
		n->op_at = op.at;
		n->op_width = op.width;
	}
	return n;
}

static struct tw_ast *minus(struct parser *p)
{
	if (p->t.kind == TW_TOK_MINUS)
		return prefix(p, TW_AST_NEGATE, minus);
	return operand(p);
}

static struct tw_ast *power(struct parser *p)
{
	struct tw_ast *a = minus(p), *b;
	struct tw_token op = p->t;

	if (!a || op.kind != TW_TOK_CARET)
		return a;
	if (!enter(p))
		return NULL;
	advance(p);
	b = power(p);
	leave(p);
	return binary(p, TW_AST_POW, op, a, b);
}

static struct tw_ast *product(struct parser *p)
{
	struct tw_ast *a = power(p);

	while (a && (p->t.kind == TW_TOK_STAR || p->t.kind == TW_TOK_SLASH ||
	             p->t.kind == TW_TOK_PERCENT)) {
		struct tw_token op = p->t;
		enum tw_ast_kind kind = op.kind == TW_TOK_STAR    ? TW_AST_MUL
		                        : op.kind == TW_TOK_SLASH ? TW_AST_DIV
		                                                  : TW_AST_MOD;

		advance(p);
		a = binary(p, kind, op, a, power(p));
	}
	return a;
}

static struct tw_ast *negation(struct parser *p)
{
	if (p->t.kind == TW_TOK_NOT)
		return prefix(p, TW_AST_NOT, negation);
	return product(p);
}

static struct tw_ast *sum(struct parser *p)
{
	struct tw_ast *a = negation(p);

	while (a && (p->t.kind == TW_TOK_PLUS || p->t.kind == TW_TOK_MINUS)) {
		struct tw_token op = p->t;

		advance(p);
		a = binary(p, op.kind == TW_TOK_PLUS ? TW_AST_ADD : TW_AST_SUB, op, a, negation(p));
	}
	return a;
}

static struct tw_ast *comparison(struct parser *p)
{
	struct tw_ast *a = sum(p);

	while (a && p->t.kind >= TW_TOK_EQ && p->t.kind <= TW_TOK_NRE) {
		struct tw_token op = p->t;

		advance(p);
		a = binary(p, (enum tw_ast_kind)(TW_AST_EQ + (op.kind - TW_TOK_EQ)), op, a, sum(p));
	}
	return a;
}

static struct tw_ast *conjunction(struct parser *p)
{
	struct tw_ast *a = comparison(p);

	while (a && p->t.kind == TW_TOK_AND) {
		struct tw_token op = p->t;

		advance(p);
		a = binary(p, TW_AST_AND, op, a, comparison(p));
	}
	return a;
}

static struct tw_ast *field(struct parser *p)
{
	struct tw_ast *a = conjunction(p);

	while (a && p->t.kind == TW_TOK_OR) {
		struct tw_token op = p->t;

		advance(p);
		a = binary(p, TW_AST_OR, op, a, conjunction(p));
	}
	return a;
}

static struct tw_ast *filter(struct parser *p)
{
	struct tw_token open = p->t;
	struct tw_ast *inside = NULL, *n;

	advance(p);
	if (p->t.kind != TW_TOK_RBRACE) {
		inside = field(p);
		if (!inside)
			return NULL;
		if (p->t.kind == TW_TOK_STRUCTURAL)
			return expected_so(p, "`}` or an operator",
			                   ": it stands between { } and { }");
		if (p->t.kind != TW_TOK_RBRACE)
			return expected(p, "`}` or an operator");
	}
	n = tw_ast_new(p->e, TW_AST_FILTER, open.at, p->t.at + p->t.width - open.at);
	if (!n)
		return NULL;
	n->a = inside;
	advance(p);
	return n;
}

static struct tw_ast *spansets(struct parser *p);

static struct tw_ast *spanset(struct parser *p)
{
	struct tw_ast *n;

	if (p->t.kind == TW_TOK_LBRACE)
		return filter(p);
	if (p->t.kind == TW_TOK_LPAREN) {
		if (!enter(p))
			return NULL;
		advance(p);
		n = spansets(p);
		leave(p);
		if (!n)
			return NULL;
		if (p->t.kind != TW_TOK_RPAREN)
			return expected(p, "`)`, `&&` or `||`");
		advance(p);
		return n;
	}
	if (p->t.kind == TW_TOK_NOT)
		return unsupported(p, "a negated spanset");
	if (p->t.kind == TW_TOK_WORD && p->lexer.at < p->e->text.n &&
	    p->e->text.p[p->lexer.at] == '(') {
		char what[64];

		snprintf(what, sizeof(what), "`%.*s(…)`",
		         (int)(p->t.text.n > 40 ? 40 : p->t.text.n), (const char *)p->t.text.p);
		return unsupported(p, what);
	}
	return expected_so(p, "`{`",
	                   ": a condition is written in braces, as in { status = error }");
}

static struct tw_ast *related(struct parser *p)
{
	struct tw_ast *a = spanset(p);
	char what[64];

	if (!a)
		return NULL;
	switch (p->t.kind) {
	case TW_TOK_STRUCTURAL:
	case TW_TOK_NRE:
	case TW_TOK_GT:
	case TW_TOK_LT:
		snprintf(what, sizeof(what), "the structural operator `%.*s` between spansets",
		         (int)p->t.text.n, (const char *)p->t.text.p);
		return unsupported(p, what);
	default:
		return a;
	}
}

static struct tw_ast *both(struct parser *p)
{
	struct tw_ast *a = related(p);

	while (a && p->t.kind == TW_TOK_AND) {
		struct tw_token op = p->t;

		advance(p);
		a = binary(p, TW_AST_BOTH, op, a, related(p));
	}
	return a;
}

static struct tw_ast *piped(struct parser *p)
{
	char what[64];

	advance(p);
	if (p->t.kind != TW_TOK_WORD && p->t.kind != TW_TOK_LBRACE)
		return expected(p, "a pipeline stage behind `|`");
	snprintf(what, sizeof(what), "the pipeline stage `| %.*s`",
	         (int)(p->t.text.n > 40 ? 40 : p->t.text.n), (const char *)p->t.text.p);
	return unsupported(p, what);
}

static struct tw_ast *spansets(struct parser *p)
{
	struct tw_ast *a = both(p);

	while (a && p->t.kind == TW_TOK_OR) {
		struct tw_token op = p->t;

		advance(p);
		a = binary(p, TW_AST_EITHER, op, a, both(p));
	}
	if (a && p->t.kind == TW_TOK_PIPE)
		return piped(p);
	return a;
}

struct tw_ast *tw_parse(struct tw_expr *e)
{
	struct parser p = {.e = e, .lexer = {.expr = e}};
	struct tw_ast *n;

	advance(&p);
	n = spansets(&p);
	if (!n)
		return NULL;
	if (p.t.kind != TW_TOK_END)
		return expected(&p, "`&&`, `||` or the end");
	return n;
}
