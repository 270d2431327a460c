/* Values as every SDK writes them: short, without white space, escapes or exponents, and an
 * attribute's members in this order.
 *
 * Text is copied while its end is looked for, and every length takes one byte, so nothing is
 * measured first and nothing moves. Whatever is different is left to the long way, which begins
 * again at the value: this file refuses nothing. */
#include <endian.h>

#include "json_scan.h"
#include "json_text.h"
#include "put.h"

#define TEXT_MAX   112u /* in whole blocks; 128 bytes are read and written */
#define DIGITS_MAX 18u  /* always in an int64 */

/* Enough for an attribute whose texts are no longer than TEXT_MAX, and for the blocks beyond them,
 * in what is read and in what is written. */
#define ROOM 384u

static inline bool has_room(const struct json *j, const struct tw_buf *out)
{
	return j->end - j->p >= (ptrdiff_t)ROOM && out->cap - out->n >= ROOM;
}

/* Copies a string's text up to its quote; its length, or more than TEXT_MAX when it is longer or
 * not plain. */
static inline uint32_t copy_text(uint8_t *to, const uint8_t *p)
{
	for (uint32_t i = 0; i <= TEXT_MAX; i += 16) {
		uint32_t bits = json_copy16(to + i, p + i);

		if (bits) {
			i += (uint32_t)__builtin_ctz(bits);
			return p[i] == '"' ? i : TEXT_MAX + 1;
		}
	}
	return TEXT_MAX + 1;
}

static inline bool starts(const uint8_t *p, const char *what)
{
	return memcmp(p, what, strlen(what)) == 0;
}

/* A whole number of up to 18 digits, in quotes or not. Returns where it ends, NULL: it is
 * something else. */
static const uint8_t *short_integer(const uint8_t *p, uint64_t *v)
{
	bool quoted = *p == '"';
	const uint8_t *begin = p += quoted;

	*v = 0;
	while (*p >= '0' && *p <= '9' && p - begin <= (ptrdiff_t)DIGITS_MAX)
		*v = *v * 10 + (*p++ - '0');
	if (p == begin || p - begin > (ptrdiff_t)DIGITS_MAX || (*begin == '0' && p - begin > 1))
		return NULL;
	if (quoted)
		return *p == '"' ? p + 1 : NULL;
	return *p == '}' ? p : NULL; /* no fraction, no exponent */
}

/* AnyValue at p, behind its opening brace, as KeyValue.value at q. Returns where its object ends,
 * and *n how many bytes it has become; NULL: the long way. */
static inline const uint8_t *short_value(const uint8_t *p, uint8_t *q, uint32_t *n)
{
	uint64_t v;

	q[0] = TW_PB_TAG(2, TW_PB_LEN);
	if (starts(p, "\"stringValue\":\"")) {
		uint32_t text = copy_text(q + 4, p + 15);

		if (text > TEXT_MAX)
			return NULL;
		q[1] = (uint8_t)(text + 2);
		q[2] = TW_PB_TAG(1, TW_PB_LEN);
		q[3] = (uint8_t)text;
		*n = text + 4;
		return p + 15 + text + 1;
	}
	if (starts(p, "\"intValue\":")) {
		p = short_integer(p + 11, &v);
		if (p == NULL)
			return NULL;
		q[2] = TW_PB_TAG(3, TW_PB_VARINT);
		*n = (uint32_t)(put_varint_at(q + 3, v) - q);
		q[1] = (uint8_t)(*n - 2);
		return p;
	}
	if (starts(p, "\"boolValue\":")) {
		bool yes = starts(p + 12, "true");

		if (!yes && !starts(p + 12, "false"))
			return NULL;
		q[1] = 2;
		q[2] = TW_PB_TAG(2, TW_PB_VARINT);
		q[3] = yes;
		*n = 4;
		return p + 12 + (yes ? 4 : 5);
	}
	return NULL;
}

bool json_short_attribute(struct json *j, struct tw_buf *out, uint8_t tag)
{
	const uint8_t *p = j->p;
	uint8_t *q = out->p + out->n;
	uint32_t key, value;

	if (!has_room(j, out) || !starts(p, "{\"key\":\""))
		return false;
	p += 8;
	key = copy_text(q + 4, p);
	if (key > TEXT_MAX || !starts(p + key, "\",\"value\":{"))
		return false;
	p = short_value(p + key + 11, q + 4 + key, &value);
	if (p == NULL || !starts(p, "}}") || 2 + key + value > 127)
		return false;
	q[0] = tag;
	q[1] = (uint8_t)(2 + key + value);
	q[2] = TW_PB_TAG(1, TW_PB_LEN);
	q[3] = (uint8_t)key;
	out->n += 4 + key + value;
	j->p = p + 2;
	return true;
}

/* ---- a field of a message ---- */

/* Each takes the value at p and writes it at q, behind its tag. They return where it ends, NULL:
 * the long way; *n is how many bytes it has become. */

static inline const uint8_t *short_text(const uint8_t *p, uint8_t *q, uint32_t *n)
{
	uint32_t text;

	if (*p != '"')
		return NULL;
	text = copy_text(q + 1, p + 1);
	if (text > TEXT_MAX)
		return NULL;
	q[0] = (uint8_t)text;
	*n = text + 1;
	return p + text + 2;
}

static inline const uint8_t *short_id(const uint8_t *p, uint8_t *q, uint32_t *n)
{
	uint32_t digits;

	if (*p != '"' || !json_hex16(q + 1, p + 1))
		return NULL;
	digits = p[17] == '"' ? 16 : 32;
	if (digits == 32 && (p[33] != '"' || !json_hex16(q + 9, p + 17)))
		return NULL;
	q[0] = (uint8_t)(digits / 2);
	*n = digits / 2 + 1;
	return p + digits + 2;
}

/* Nineteen digits in quotes: nanoseconds since 1970, for all times since 2001. */
static inline const uint8_t *short_time(const uint8_t *p, uint8_t *q, uint32_t *n)
{
	uint64_t high, low, v;

	if (*p != '"' || p[1] == '0' || p[20] != '"' || !json_digits8(p + 1, &high) ||
	    !json_digits8(p + 9, &low))
		return NULL;
	v = high * 100000000 + low;
	for (int i = 17; i < 20; i++) {
		if (p[i] < '0' || p[i] > '9')
			return NULL;
		v = v * 10 + (p[i] - '0');
	}
	v = htole64(v);
	memcpy(q, &v, 8);
	*n = 8;
	return p + 21;
}

/* One to three digits without quotes: kinds, codes, flags and counts. */
static inline const uint8_t *short_number(const uint8_t *p, uint8_t *q, bool fixed, uint32_t *n)
{
	const uint8_t *begin = p;
	uint32_t v = 0;

	while (*p >= '0' && *p <= '9' && p - begin <= 3)
		v = v * 10 + (*p++ - '0');
	if (p == begin || p - begin > 3 || (*begin == '0' && p - begin > 1) ||
	    (*p != ',' && *p != '}'))
		return NULL;
	*n = 4;
	if (!fixed)
		*n = (uint32_t)(put_varint_at(q, v) - q);
	else
		memcpy(q, (const uint8_t[4]){(uint8_t)v, (uint8_t)(v >> 8), 0, 0}, 4);
	return p;
}

bool json_short_scalar(struct json *j, struct tw_buf *out, const struct wire_field *f)
{
	const uint8_t *p = j->p;
	uint8_t *q;
	uint32_t n;

	if (!has_room(j, out))
		return false;
	q = put_varint_at(out->p + out->n, TW_PB_TAG(f->number, wire_pb_type(f)));
	switch ((enum wire_type)f->type) {
	case WIRE_STRING:
		p = short_text(p, q, &n);
		break;
	case WIRE_HEX:
		p = short_id(p, q, &n);
		break;
	case WIRE_FIXED64:
		p = short_time(p, q, &n);
		break;
	case WIRE_INT32:
	case WIRE_UINT32:
		p = short_number(p, q, false, &n);
		break;
	case WIRE_FIXED32:
		p = short_number(p, q, true, &n);
		break;
	default:
		return false;
	}
	if (p == NULL)
		return false;
	out->n = (size_t)(q - out->p) + n;
	j->p = p;
	return true;
}
