/* A condition between its text and its program: tokens, then a tree.
 *
 * lex.c makes the tokens, parse.c the tree, check.c gives every node its type and folds constants.
 * A tree lives in the arena that it was parsed into. */
#ifndef TW_RULES_AST_H
#define TW_RULES_AST_H

#include "tw/base/yaml.h"

#define TW_AST_NODES_MAX 2000u /* of one condition; bounds every recursion over it */
#define TW_AST_NEST_MAX  100u  /* parentheses, ! and - inside one another */

enum tw_token_kind {
	TW_TOK_END,
	TW_TOK_BAD,
	TW_TOK_LBRACE,
	TW_TOK_RBRACE,
	TW_TOK_LPAREN,
	TW_TOK_RPAREN,
	TW_TOK_COMMA,
	TW_TOK_PIPE,
	TW_TOK_AND,
	TW_TOK_OR,
	TW_TOK_NOT,
	TW_TOK_EQ,
	TW_TOK_NE,
	TW_TOK_LT,
	TW_TOK_LE,
	TW_TOK_GT,
	TW_TOK_GE,
	TW_TOK_RE,
	TW_TOK_NRE,
	TW_TOK_PLUS,
	TW_TOK_MINUS,
	TW_TOK_STAR,
	TW_TOK_SLASH,
	TW_TOK_PERCENT,
	TW_TOK_CARET,
	TW_TOK_STRUCTURAL, /* >> << ~ !> &>> … : the ones that have no other meaning */
	TW_TOK_STRING,
	TW_TOK_INT,
	TW_TOK_FLOAT,
	TW_TOK_DURATION,
	TW_TOK_WORD,      /* name, span:duration, true, p99 … */
	TW_TOK_ATTRIBUTE, /* .x span.x resource.x … */
};

enum tw_scope_kind {
	TW_SCOPE_ANY,
	TW_SCOPE_SPAN,
	TW_SCOPE_RESOURCE,
	TW_SCOPE_INSTRUMENTATION,
	TW_SCOPE_EVENT,
	TW_SCOPE_LINK,
	TW_SCOPE_PARENT
};

struct tw_token {
	enum tw_token_kind kind;
	enum tw_scope_kind scope; /* of an attribute */
	uint32_t at, width;       /* bytes of the condition's text */
	struct tw_slice text;     /* STRING, ATTRIBUTE: unescaped; WORD: as written */
	int64_t i;                /* INT; DURATION in ns */
	double d;                 /* FLOAT */
};

/* One condition being read. */
struct tw_expr {
	struct tw_source *source;
	const struct tw_node *scalar; /* the YAML scalar that holds it */
	struct tw_slice text;         /* the scalar's value */
	struct tw_arena *arena;
	uint32_t nodes; /* made so far */
	bool nomem;
};

struct tw_lexer {
	struct tw_expr *expr;
	uint32_t at;
};

/* The next token. TW_TOK_BAD: it was reported, or there was no memory. */
struct tw_token tw_lex_next(struct tw_lexer *l);

enum tw_type {
	TW_TYPE_NIL,
	TW_TYPE_STRING,
	TW_TYPE_INT,
	TW_TYPE_FLOAT,
	TW_TYPE_DURATION,
	TW_TYPE_BOOL,
	TW_TYPE_STATUS,
	TW_TYPE_KIND,
	TW_TYPE_ID,
	TW_TYPE_ATTRIBUTE, /* known when a span is there */
	TW_TYPE_COUNT
};

enum tw_intrinsic {
	TW_IN_NAME,
	TW_IN_STATUS,
	TW_IN_STATUS_MESSAGE,
	TW_IN_KIND,
	TW_IN_DURATION,
	TW_IN_SPAN_ID,
	TW_IN_PARENT_ID,
	TW_IN_SCOPE_NAME,
	TW_IN_SCOPE_VERSION,
	TW_IN_TRACE_DURATION,
	TW_IN_TRACE_ID,
	TW_IN_ROOT_NAME,
	TW_IN_ROOT_SERVICE,
	TW_IN_SPAN_COUNT,
	TW_IN_ERROR_COUNT,
	TW_IN_TRACE_BYTES,
	TW_IN_HAS_ROOT,
	TW_IN_COUNT
};
static inline bool tw_intrinsic_of_trace(enum tw_intrinsic in)
{
	return in >= TW_IN_TRACE_DURATION;
}

enum tw_ast_kind {
	/* values */
	TW_AST_LITERAL,
	TW_AST_ATTRIBUTE,
	TW_AST_INTRINSIC,
	TW_AST_NEGATE,
	TW_AST_ADD,
	TW_AST_SUB,
	TW_AST_MUL,
	TW_AST_DIV,
	TW_AST_MOD,
	TW_AST_POW,
	/* truth values */
	TW_AST_EQ,
	TW_AST_NE,
	TW_AST_LT,
	TW_AST_LE,
	TW_AST_GT,
	TW_AST_GE,
	TW_AST_RE,
	TW_AST_NRE,
	TW_AST_NOT,
	TW_AST_AND,
	TW_AST_OR,
	/* spansets */
	TW_AST_FILTER, /* { a }, or { } when a is NULL */
	TW_AST_BOTH,
	TW_AST_EITHER,
};

struct tw_ast {
	enum tw_ast_kind kind;
	enum tw_type type; /* literals: from the parser; the rest: check.c */
	enum tw_intrinsic intrinsic;
	enum tw_scope_kind scope;
	uint32_t at, width; /* the whole node's text */
	uint32_t op_at, op_width;
	struct tw_ast *a, *b;
	struct tw_slice s; /* string literal; attribute name */
	int64_t i;         /* INT, DURATION (ns), BOOL, STATUS, KIND */
	double d;          /* FLOAT */
};

/* NULL: reported, or expr->nomem. */
struct tw_ast *tw_parse(struct tw_expr *e);
/* Types, folded constants, what is not supported. false: reported, or expr->nomem. */
bool tw_check(struct tw_expr *e, struct tw_ast *spanset);

struct tw_ast *tw_ast_new(struct tw_expr *e, enum tw_ast_kind kind, uint32_t at, uint32_t width);
void tw_expr_error(struct tw_expr *e, uint32_t at, uint32_t width, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
