/* JSON tokens (RFC 8259), without building anything. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "json_scan.h"
#include "json_text.h"
#include "tw/base/limits.h"

#define NUMBER_BYTES_MAX 400u

/* The first byte of [p, end) that is a quote, a backslash or a control character; end if there is
 * none. */
static inline const uint8_t *find_special(const uint8_t *p, const uint8_t *end)
{
	for (; end - p >= 16; p += 16) {
		uint32_t bits = json_special16(p);

		if (bits)
			return p + __builtin_ctz(bits);
	}
	while (p < end && *p != '"' && *p != '\\' && *p >= 0x20)
		p++;
	return p;
}

bool json_string(struct json *j, struct json_str *s)
{
	const uint8_t *begin;

	json_space(j);
	if (j->p == j->end || *j->p != '"')
		return json_fail(j, "a string is due");
	begin = ++j->p;
	s->escaped = false;
	for (;;) {
		j->p = find_special(j->p, j->end);
		if (j->p == j->end)
			return json_fail(j, "the string does not end");
		if (*j->p == '"')
			break;
		if (*j->p < 0x20)
			return json_fail(j, "a control character in a string");
		if (j->end - j->p < 2)
			return json_fail(j, "the string does not end");
		s->escaped = true;
		j->p += 2;
	}
	s->raw = tw_slice(begin, (size_t)(j->p - begin));
	j->p++;
	return true;
}

static const uint8_t *digits(const uint8_t *p, const uint8_t *end)
{
	while (p < end && *p >= '0' && *p <= '9')
		p++;
	return p;
}

/* The end of the number at p, NULL: it is none. */
static const uint8_t *number_end(const uint8_t *p, const uint8_t *end)
{
	const uint8_t *q;

	if (p < end && *p == '-')
		p++;
	q = digits(p, end);
	if (q == p || (*p == '0' && q != p + 1))
		return NULL;
	p = q;
	if (p < end && *p == '.') {
		q = digits(p + 1, end);
		if (q == p + 1)
			return NULL;
		p = q;
	}
	if (p < end && (*p | 0x20) == 'e') {
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		q = digits(p, end);
		if (q == p)
			return NULL;
		p = q;
	}
	return p;
}

bool json_number(struct json *j, struct tw_slice *token)
{
	const uint8_t *q;

	json_space(j);
	q = number_end(j->p, j->end);
	if (!q)
		return json_fail(j, "a number is due");
	*token = tw_slice(j->p, (size_t)(q - j->p));
	j->p = q;
	return true;
}

/* A value that is neither an object nor a list. */
static bool skip_scalar(struct json *j)
{
	struct json_str s;
	struct tw_slice token;

	if (j->p < j->end && *j->p == '"')
		return json_string(j, &s);
	if (json_word(j, "true") || json_word(j, "false") || json_word(j, "null"))
		return true;
	if (json_number(j, &token))
		return true;
	j->why = "a value is due";
	return false;
}

bool json_skip(struct json *j)
{
	uint64_t objects = 0; /* bit d: level d is an object, not a list */
	unsigned depth = 0;
	struct json_str key;

	for (;;) {
		bool open_object = json_take(j, '{'), open_list = !open_object && json_take(j, '[');

		if (open_object || open_list) {
			if (depth == TW_JSON_NEST_MAX)
				return json_fail(j, "nested deeper than 64 levels");
			objects = objects << 1 | open_object;
			depth++;
			if (!json_take(j, open_object ? '}' : ']')) {
				if (open_object && (!json_string(j, &key) || !json_take(j, ':')))
					return json_fail(j, "a colon is due");
				continue;
			}
			objects >>= 1;
			depth--;
		} else if (!skip_scalar(j)) {
			return false;
		}
		/* Behind a value: close what ends here, or go on to the next one. */
		while (depth && !json_take(j, ',')) {
			if (!json_take(j, objects & 1 ? '}' : ']'))
				return json_fail(j, "a comma or the end is due");
			objects >>= 1;
			depth--;
		}
		if (!depth)
			return true;
		if ((objects & 1) && (!json_string(j, &key) || !json_take(j, ':')))
			return json_fail(j, "a colon is due");
	}
}

static int hex4(const uint8_t *p, const uint8_t *end)
{
	int v = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		uint8_t c = p[i];

		if (c >= '0' && c <= '9')
			v = v << 4 | (c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			v = v << 4 | ((c | 0x20) - 'a' + 10);
		else
			return -1;
	}
	return v;
}

static void put_rune(struct tw_buf *out, uint32_t r)
{
	if (r < 0x80) {
		tw_buf_putc(out, (char)r);
	} else if (r < 0x800) {
		tw_buf_putc(out, (char)(0xc0 | r >> 6));
		tw_buf_putc(out, (char)(0x80 | (r & 63)));
	} else if (r < 0x10000) {
		tw_buf_putc(out, (char)(0xe0 | r >> 12));
		tw_buf_putc(out, (char)(0x80 | (r >> 6 & 63)));
		tw_buf_putc(out, (char)(0x80 | (r & 63)));
	} else {
		tw_buf_putc(out, (char)(0xf0 | r >> 18));
		tw_buf_putc(out, (char)(0x80 | (r >> 12 & 63)));
		tw_buf_putc(out, (char)(0x80 | (r >> 6 & 63)));
		tw_buf_putc(out, (char)(0x80 | (r & 63)));
	}
}

/* \uXXXX at p (the four digits), a pair if it is one. Returns the end, NULL: bad. */
static const uint8_t *unescape_rune(struct json *j, const uint8_t *p, const uint8_t *end,
                                    struct tw_buf *out)
{
	int high = hex4(p, end), low;

	if (high < 0) {
		json_fail(j, "a bad \\u escape");
		return NULL;
	}
	p += 4;
	if (high < 0xd800 || high > 0xdfff) {
		put_rune(out, (uint32_t)high);
		return p;
	}
	low = high < 0xdc00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u' ? hex4(p + 2, end) : -1;
	if (low < 0xdc00 || low > 0xdfff) {
		json_fail(j, "a lone surrogate");
		return NULL;
	}
	put_rune(out, 0x10000 + (((uint32_t)high - 0xd800) << 10 | ((uint32_t)low - 0xdc00)));
	return p + 6;
}

bool json_unescape(struct json *j, struct json_str s, struct tw_buf *out)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const uint8_t *p = s.raw.p, *end = p + s.raw.n, *slash;
	const char *at;

	while (p < end && (slash = memchr(p, '\\', (size_t)(end - p)))) {
		tw_buf_put(out, p, (size_t)(slash - p));
		p = slash + 2;
		if (slash[1] == 'u') {
			p = unescape_rune(j, p, end, out);
			if (!p)
				return false;
			continue;
		}
		at = slash[1] ? strchr(from, slash[1]) : NULL;
		if (!at)
			return json_fail(j, "a bad escape");
		tw_buf_putc(out, to[at - from]);
	}
	tw_buf_put(out, p, (size_t)(end - p));
	return true;
}

/* *v = *v × 10^k + d; false: past 64 bits. */
static bool append_digit(uint64_t *v, uint64_t k, unsigned d)
{
	if (*v == 0)
		k = 0;
	if (k > 19)
		return false;
	while (k--)
		if (__builtin_mul_overflow(*v, 10, v))
			return false;
	return !__builtin_add_overflow(*v, d, v);
}

/* Nothing but digits, at most nineteen, as times are. */
static bool plain_digits(struct tw_slice token, uint64_t *magnitude)
{
	const uint8_t *p = token.p, *end = p + token.n;
	uint64_t v = 0, part;

	if (!token.n || token.n > 19 || (*p == '0' && token.n > 1))
		return false;
	for (; end - p >= 8; p += 8) {
		if (!json_digits8(p, &part))
			return false;
		v = v * 100000000 + part;
	}
	for (; p < end; p++) {
		if (*p < '0' || *p > '9')
			return false;
		v = v * 10 + (*p - '0');
	}
	*magnitude = v;
	return true;
}

bool json_integer(struct tw_slice token, bool *negative, uint64_t *magnitude)
{
	const uint8_t *p = token.p, *end = p + token.n;
	int64_t zeros = 0, scale = 0, exponent = 0;
	uint64_t v = 0;
	bool fraction = false, minus = false;

	*negative = false;
	if (plain_digits(token, magnitude))
		return true;
	if (!token.n || number_end(p, end) != end)
		return false;
	*negative = *p == '-';
	p += *negative;
	for (; p < end && (*p | 0x20) != 'e'; p++) {
		if (*p == '.') {
			fraction = true;
			continue;
		}
		scale -= fraction;
		if (*p == '0') {
			zeros++;
			continue;
		}
		if (!append_digit(&v, (uint64_t)zeros + 1, *p - '0'))
			return false;
		zeros = 0;
	}
	if (p < end) {
		p++;
		minus = *p == '-';
		p += *p == '-' || *p == '+';
		for (; p < end; p++)
			if (exponent < 1000000000)
				exponent = exponent * 10 + (*p - '0');
	}
	scale += zeros + (minus ? -exponent : exponent);
	if (v && (scale < 0 || !append_digit(&v, (uint64_t)scale, 0)))
		return false;
	*magnitude = v;
	return true;
}

bool json_double(struct tw_slice token, double *d)
{
	char text[NUMBER_BYTES_MAX + 1];

	if (!token.n || token.n > NUMBER_BYTES_MAX ||
	    number_end(token.p, token.p + token.n) != token.p + token.n)
		return false;
	memcpy(text, token.p, token.n);
	text[token.n] = '\0';
	*d = strtod(text, NULL);
	return isfinite(*d);
}
