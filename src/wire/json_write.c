/* JSON tokens out. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "ascii.h"
#include "json_text.h"
#include "put.h"
#include "tw/wire.h"

static void put_escape(struct tw_buf *out, uint8_t c)
{
	switch (c) {
	case '"':
		tw_buf_put(out, "\\\"", 2);
		break;
	case '\\':
		tw_buf_put(out, "\\\\", 2);
		break;
	case '\n':
		tw_buf_put(out, "\\n", 2);
		break;
	case '\r':
		tw_buf_put(out, "\\r", 2);
		break;
	case '\t':
		tw_buf_put(out, "\\t", 2);
		break;
	default:
		tw_buf_printf(out, "\\u%04x", c);
	}
}

void json_put_string(struct tw_buf *out, struct tw_slice s)
{
	const uint8_t *p = s.p, *end = s.n ? p + s.n : p, *run = p;

	put_char(out, '"');
	while (p < end) {
		size_t k = 1;

		if (*p < 0x20 || *p == '"' || *p == '\\' || *p == 0x7f) {
			put_bytes(out, run, (size_t)(p - run));
			put_escape(out, *p);
			run = p + 1;
		} else if (*p >= 0x80) {
			k = utf8_sequence(p, (size_t)(end - p));
			if (!k) {
				put_bytes(out, run, (size_t)(p - run));
				tw_buf_puts(out, "\xef\xbf\xbd");
				k = 1;
				run = p + 1;
			}
		}
		p += k;
	}
	if (end > run)
		put_bytes(out, run, (size_t)(end - run));
	put_char(out, '"');
}

void json_put_u64(struct tw_buf *out, uint64_t v)
{
	char text[20];
	size_t n = sizeof(text);

	do {
		text[--n] = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	put_bytes(out, text + n, sizeof(text) - n);
}

void json_put_i64(struct tw_buf *out, int64_t v)
{
	if (v < 0)
		put_char(out, '-');
	json_put_u64(out, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

void json_put_hex(struct tw_buf *out, struct tw_slice s)
{
	static const char hex[] = "0123456789abcdef";

	if (!put_room(out, 2 * s.n + 2))
		return;
	out->p[out->n++] = '"';
	for (size_t i = 0; i < s.n; i++) {
		out->p[out->n++] = (uint8_t)hex[s.p[i] >> 4];
		out->p[out->n++] = (uint8_t)hex[s.p[i] & 15];
	}
	out->p[out->n++] = '"';
}

void json_put_base64(struct tw_buf *out, struct tw_slice s)
{
	size_t n = (s.n + 2) / 3 * 4;

	if (!put_room(out, n + 2))
		return;
	out->p[out->n++] = '"';
	n = tw_base64_encode(s.p, s.n, (char *)out->p + out->n, n);
	out->n += n;
	for (; n % 4; n++)
		out->p[out->n++] = '=';
	out->p[out->n++] = '"';
}

void json_put_double(struct tw_buf *out, double d)
{
	char text[40];

	if (isnan(d)) {
		tw_buf_puts(out, "\"NaN\"");
		return;
	}
	if (isinf(d)) {
		tw_buf_puts(out, d < 0 ? "\"-Infinity\"" : "\"Infinity\"");
		return;
	}
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, d);
		if (strtod(text, NULL) == d)
			break;
	}
	tw_buf_puts(out, text);
}
