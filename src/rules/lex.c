#include "ast.h"

#include "tw/base/clock.h"

#include <errno.h>
#include <stdlib.h>

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

static bool is_word(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || is_digit(c);
}

static bool is_space(uint8_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* What may stand in an attribute's name without quotes: as in Tempo, also + - * / % . and : */
static bool is_attribute(uint8_t c)
{
	return c > ' ' && c != 0x7F && !strchr("{}()=~!<>&|^,\"`", c);
}

static uint8_t peek(const struct tw_lexer *l, uint32_t ahead)
{
	struct tw_slice t = l->expr->text;

	return l->at + ahead < t.n ? t.p[l->at + ahead] : 0;
}

static struct tw_token token(struct tw_lexer *l, enum tw_token_kind kind, uint32_t width)
{
	struct tw_token t = {.kind = kind, .at = l->at, .width = width};

	t.text = tw_slice(l->expr->text.p + l->at, width);
	l->at += width;
	return t;
}

static struct tw_token bad(struct tw_lexer *l, uint32_t at, uint32_t width, const char *text)
{
	tw_expr_error(l->expr, at, width, "%s", text);
	return (struct tw_token){.kind = TW_TOK_BAD, .at = at, .width = width};
}

static struct tw_token bad_nomem(struct tw_lexer *l)
{
	l->expr->nomem = true;
	return (struct tw_token){.kind = TW_TOK_BAD, .at = l->at, .width = 1};
}

static int hex(uint8_t c)
{
	if (is_digit(c))
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static size_t utf8_put(uint8_t *out, uint32_t c)
{
	if (c < 0x80) {
		out[0] = (uint8_t)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (uint8_t)(0xC0 | c >> 6);
		out[1] = (uint8_t)(0x80 | (c & 0x3F));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (uint8_t)(0xE0 | c >> 12);
		out[1] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
		out[2] = (uint8_t)(0x80 | (c & 0x3F));
		return 3;
	}
	out[0] = (uint8_t)(0xF0 | c >> 18);
	out[1] = (uint8_t)(0x80 | (c >> 12 & 0x3F));
	out[2] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
	out[3] = (uint8_t)(0x80 | (c & 0x3F));
	return 4;
}

/* \xNN is a byte, \uNNNN and \UNNNNNNNN are characters. Returns bytes read behind the backslash, 0:
 * malformed. */
static uint32_t escape_numeric(const struct tw_lexer *l, uint32_t at, uint8_t *out, size_t *n)
{
	struct tw_slice t = l->expr->text;
	uint32_t digits = t.p[at] == 'x' ? 2 : t.p[at] == 'u' ? 4 : 8, value = 0;

	for (uint32_t i = 1; i <= digits; i++) {
		int h = at + i < t.n ? hex(t.p[at + i]) : -1;

		if (h < 0)
			return 0;
		value = value << 4 | (uint32_t)h;
	}
	if (digits == 2) {
		out[(*n)++] = (uint8_t)value;
		return 3;
	}
	if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000))
		return 0;
	*n += utf8_put(out + *n, value);
	return digits + 1;
}

/* Reads one escape at the backslash. Returns its bytes; 0: reported. */
static uint32_t escape(struct tw_lexer *l, uint32_t at, uint8_t *out, size_t *n)
{
	static const char names[] = "abfnrtv\\\"'", values[] = "\a\b\f\n\r\t\v\\\"'";
	struct tw_slice t = l->expr->text;
	uint8_t c = at + 1 < t.n ? t.p[at + 1] : 0;
	const char *known = c ? strchr(names, c) : NULL;
	uint32_t used;

	if (known) {
		out[(*n)++] = (uint8_t)values[known - names];
		return 2;
	}
	if (c == 'x' || c == 'u' || c == 'U') {
		used = escape_numeric(l, at + 1, out, n);
		if (used)
			return used + 1;
		tw_expr_error(l->expr, at, 2, "\\%c needs %d hexadecimal digits of a character", c,
		              c == 'x'   ? 2
		              : c == 'u' ? 4
		                         : 8);
		return 0;
	}
	if (c > ' ' && c < 0x7F)
		tw_expr_error(l->expr, at, 2,
		              "unknown escape \\%c in a string: write \\\\%c, or put the text in "
		              "`backquotes`",
		              c, c);
	else
		tw_expr_error(l->expr, at, 1, "a lone backslash in a string: write \\\\");
	return 0;
}

/* Reads a string that begins at `at` with its quote. Returns the byte behind it; 0: reported. */
static uint32_t quoted(struct tw_lexer *l, uint32_t at, uint8_t *out, size_t *n)
{
	struct tw_slice t = l->expr->text;
	uint8_t quote = t.p[at];
	uint32_t begin = at++;

	while (at < t.n && t.p[at] != quote) {
		if (t.p[at] == '\\' && quote == '"') {
			uint32_t used = escape(l, at, out, n);

			if (!used)
				return 0;
			at += used;
		} else {
			out[(*n)++] = t.p[at++];
		}
	}
	if (at >= t.n) {
		tw_expr_error(l->expr, begin, 1, "this string has no end: expected a closing %c",
		              quote);
		return 0;
	}
	return at + 1;
}

static struct tw_token lex_string(struct tw_lexer *l)
{
	size_t n = 0;
	uint8_t *out = tw_arena_alloc(l->expr->arena, l->expr->text.n - l->at + 4);
	uint32_t end;
	struct tw_token t;

	if (!out)
		return bad_nomem(l);
	end = quoted(l, l->at, out, &n);
	if (!end)
		return (struct tw_token){.kind = TW_TOK_BAD, .at = l->at, .width = 1};
	t = token(l, TW_TOK_STRING, end - l->at);
	t.text = tw_slice(out, n);
	return t;
}

/* The name behind `span.`: words and quoted pieces in any order. */
static struct tw_token lex_attribute(struct tw_lexer *l, enum tw_scope_kind scope, uint32_t prefix)
{
	struct tw_slice text = l->expr->text;
	uint32_t end = l->at + prefix;
	uint8_t *out = tw_arena_alloc(l->expr->arena, text.n - l->at + 4);
	size_t n = 0;
	struct tw_token t;

	if (!out)
		return bad_nomem(l);
	while (end < text.n && (is_attribute(text.p[end]) || text.p[end] == '"')) {
		if (text.p[end] == '"') {
			end = quoted(l, end, out, &n);
			if (!end)
				return (struct tw_token){
				    .kind = TW_TOK_BAD, .at = l->at, .width = 1};
		} else {
			out[n++] = text.p[end++];
		}
	}
	if (n == 0)
		return bad(l, l->at, prefix, "expected an attribute's name behind the dot");
	t = token(l, TW_TOK_ATTRIBUTE, end - l->at);
	t.scope = scope;
	t.text = tw_slice(out, n);
	return t;
}

static struct tw_token lex_word(struct tw_lexer *l)
{
	static const struct {
		const char *name;
		enum tw_scope_kind scope;
	} scopes[] = {{"span", TW_SCOPE_SPAN},     {"resource", TW_SCOPE_RESOURCE},
	              {"event", TW_SCOPE_EVENT},   {"link", TW_SCOPE_LINK},
	              {"parent", TW_SCOPE_PARENT}, {"instrumentation", TW_SCOPE_INSTRUMENTATION}};
	uint32_t n = 0;

	while (is_word(peek(l, n)))
		n++;
	if (peek(l, n) == '.') {
		struct tw_slice word = tw_slice(l->expr->text.p + l->at, n);

		for (size_t i = 0; i < sizeof(scopes) / sizeof(scopes[0]); i++) {
			if (tw_slice_eq(word, tw_slice_str(scopes[i].name)))
				return lex_attribute(l, scopes[i].scope, n + 1);
		}
	}
	if (peek(l, n) == ':' && is_word(peek(l, n + 1))) {
		n++;
		while (is_word(peek(l, n)))
			n++;
	}
	return token(l, TW_TOK_WORD, n);
}

/* 1h30m, 1.5s, 250us: tw_duration_parse knows u for the micro sign. */
static struct tw_token lex_duration(struct tw_lexer *l, uint32_t width)
{
	char plain[64];
	size_t n = 0;
	uint64_t ns;
	struct tw_token t = token(l, TW_TOK_DURATION, width);

	if (width >= sizeof(plain))
		return bad(l, t.at, width, "this duration is too long");
	for (uint32_t i = 0; i < width; i++) {
		uint8_t c = t.text.p[i];

		if ((c == 0xC2 || c == 0xCE) && i + 1 < width) { /* U+00B5, U+03BC */
			c = 'u';
			i++;
		}
		plain[n++] = (char)c;
	}
	if (tw_duration_parse(plain, n, &ns) != 0 || ns > INT64_MAX)
		return bad(l, t.at, width,
		           "not a duration: expected for instance 250ms, 2s or 1m30s (ns us ms s m "
		           "h d w)");
	t.i = (int64_t)ns;
	return t;
}

static struct tw_token lex_number(struct tw_lexer *l)
{
	char plain[64];
	uint32_t n = 0;
	bool fraction = false, unit = false;
	struct tw_token t;

	for (;; n++) {
		uint8_t c = peek(l, n);

		if (c == '.') {
			fraction = true;
		} else if ((c == 'e' || c == 'E') && !unit &&
		           (is_digit(peek(l, n + 1)) ||
		            ((peek(l, n + 1) == '-' || peek(l, n + 1) == '+') &&
		             is_digit(peek(l, n + 2))))) {
			fraction = true;
			n++;
		} else if (is_word(c) && !is_digit(c)) {
			unit = true;
		} else if (c >= 0x80) {
			unit = true;
		} else if (!is_digit(c)) {
			break;
		}
	}
	if (unit)
		return lex_duration(l, n);
	t = token(l, fraction ? TW_TOK_FLOAT : TW_TOK_INT, n);
	if (n >= sizeof(plain))
		return bad(l, t.at, n, "this number is too long");
	memcpy(plain, t.text.p, n);
	plain[n] = '\0';
	char *end;

	errno = 0;
	if (fraction)
		t.d = strtod(plain, &end);
	else
		t.i = strtoll(plain, &end, 10);
	if (*end || errno)
		return bad(l, t.at, n,
		           "not a number that fits: integers have 64 bits, others are doubles");
	return t;
}

struct symbol {
	char text[4];
	enum tw_token_kind kind;
};

/* Longest first. */
static const struct symbol symbols[] = {
    {"!>>", TW_TOK_STRUCTURAL}, {"!<<", TW_TOK_STRUCTURAL}, {"&>>", TW_TOK_STRUCTURAL},
    {"&<<", TW_TOK_STRUCTURAL}, {"&&", TW_TOK_AND},         {"||", TW_TOK_OR},
    {"!=", TW_TOK_NE},          {"!~", TW_TOK_NRE},         {"=~", TW_TOK_RE},
    {"<=", TW_TOK_LE},          {">=", TW_TOK_GE},          {">>", TW_TOK_STRUCTURAL},
    {"<<", TW_TOK_STRUCTURAL},  {"!>", TW_TOK_STRUCTURAL},  {"!<", TW_TOK_STRUCTURAL},
    {"&>", TW_TOK_STRUCTURAL},  {"&<", TW_TOK_STRUCTURAL},  {"&~", TW_TOK_STRUCTURAL},
    {"{", TW_TOK_LBRACE},       {"}", TW_TOK_RBRACE},       {"(", TW_TOK_LPAREN},
    {")", TW_TOK_RPAREN},       {",", TW_TOK_COMMA},        {"|", TW_TOK_PIPE},
    {"!", TW_TOK_NOT},          {"=", TW_TOK_EQ},           {"<", TW_TOK_LT},
    {">", TW_TOK_GT},           {"~", TW_TOK_STRUCTURAL},   {"+", TW_TOK_PLUS},
    {"-", TW_TOK_MINUS},        {"*", TW_TOK_STAR},         {"/", TW_TOK_SLASH},
    {"%", TW_TOK_PERCENT},      {"^", TW_TOK_CARET},
};

static struct tw_token lex_symbol(struct tw_lexer *l)
{
	struct tw_slice rest = tw_slice(l->expr->text.p + l->at, l->expr->text.n - l->at);
	uint32_t width = 1;

	for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		size_t n = strlen(symbols[i].text);

		if (rest.n >= n && memcmp(rest.p, symbols[i].text, n) == 0)
			return token(l, symbols[i].kind, (uint32_t)n);
	}
	if (rest.p[0] == '\'')
		return bad(l, l->at, 1, "strings are written in \"double quotes\" or `backquotes`");
	if (rest.p[0] == '&')
		return bad(l, l->at, 1, "unknown operator &: did you mean &&?");
	while (width < rest.n && (rest.p[width] & 0xC0) == 0x80)
		width++;
	return bad(l, l->at, width, "this character has no meaning here");
}

struct tw_token tw_lex_next(struct tw_lexer *l)
{
	uint8_t c;

	while (l->at < l->expr->text.n && is_space(peek(l, 0)))
		l->at++;
	if (l->at >= l->expr->text.n)
		return token(l, TW_TOK_END, 0);
	c = peek(l, 0);
	if (c == '"' || c == '`')
		return lex_string(l);
	if (is_digit(c) || (c == '.' && is_digit(peek(l, 1))))
		return lex_number(l);
	if (c == '.')
		return lex_attribute(l, TW_SCOPE_ANY, 1);
	if (is_word(c))
		return lex_word(l);
	return lex_symbol(l);
}
