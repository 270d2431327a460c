/* OTLP/JSON → protobuf, in one pass by the tables of the schema.
 *
 * Each value is written as its protobuf field the moment it is read; a message's length is mended
 * when it ends. A key that comes twice is therefore a field that comes twice: of a scalar the last
 * one counts, objects merge, lists grow. Unknown keys are skipped with whatever they hold. Ids of a
 * wrong length are passed on as they are: the scanner rejects that span, not the request. */
#include <stdarg.h>
#include <stdio.h>

#include "json_scan.h"
#include "json_text.h"
#include "put.h"
#include "tw/base/limits.h"
#include "tw/wire.h"

/* Six fields down to an attribute's value, then at most four for each level of nesting. */
#define PATH_MAX_STEPS (8u + 4u * TW_NEST_MAX)

struct step {
	const struct wire_field *field;
	uint32_t index;
};

struct decoder {
	struct json j;
	struct tw_buf *out;
	unsigned values; /* AnyValue messages we are in */
	unsigned depth;
	/* Which row came last time behind each row (one more than its number; 0: the beginning) of
	 * each message: writers keep to an order of their own. */
	uint8_t after[WIRE_MESSAGE_COUNT][WIRE_ROWS_MAX + 1];
	struct step path[PATH_MAX_STEPS];
};

static bool decode_message(struct decoder *d, enum wire_message_id m);

static void put_field(struct decoder *d, const struct wire_field *f, struct tw_slice bytes)
{
	put_slice(d->out, TW_PB_TAG(f->number, TW_PB_LEN), bytes);
}

static bool read_string(struct decoder *d, const struct wire_field *f)
{
	uint32_t tag = TW_PB_TAG(f->number, TW_PB_LEN);
	struct json_str s;
	size_t begin;

	if (!json_string(&d->j, &s))
		return false;
	if (!s.escaped) {
		put_field(d, f, s.raw);
		return true;
	}
	begin = put_begin(d->out, tag, s.raw.n);
	if (!json_unescape(&d->j, s, d->out))
		return false;
	put_end(d->out, begin, s.raw.n);
	return true;
}

static int nibble(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_hex(struct decoder *d, const struct wire_field *f)
{
	struct json_str s;
	size_t i = 0;

	if (!json_string(&d->j, &s))
		return false;
	/* An odd number of digits is never an id: passed on as text, it is not of an id's length
	 * either. */
	if (s.raw.n % 2) {
		put_field(d, f, s.raw);
		return true;
	}
	put_varint(d->out, TW_PB_TAG(f->number, TW_PB_LEN));
	put_varint(d->out, s.raw.n / 2);
	if (!put_room(d->out, s.raw.n / 2 + 1))
		return true;
	for (; i + 16 <= s.raw.n && json_hex16(d->out->p + d->out->n, s.raw.p + i); i += 16)
		d->out->n += 8;
	for (; i < s.raw.n; i += 2) {
		int high = nibble(s.raw.p[i]), low = nibble(s.raw.p[i + 1]);

		if (high < 0 || low < 0)
			return json_fail(&d->j, "an id is not hexadecimal");
		d->out->p[d->out->n++] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static bool read_base64(struct decoder *d, const struct wire_field *f)
{
	struct json_str s;
	struct tw_buf plain; /* escapes are allowed in it, "\/" for one */
	size_t begin, guess, n = 0;
	int e = TW_EINVAL;

	if (!json_string(&d->j, &s))
		return false;
	tw_buf_init(&plain, 0);
	if (s.escaped) {
		if (!json_unescape(&d->j, s, &plain)) {
			tw_buf_deinit(&plain);
			return false;
		}
		d->out->failed |= plain.failed;
		s.raw = tw_buf_slice(&plain);
	}
	guess = s.raw.n / 4 * 3;
	begin = put_begin(d->out, TW_PB_TAG(f->number, TW_PB_LEN), guess);
	if (tw_buf_grow(d->out, guess + 4)) {
		e = tw_base64_decode(s.raw, d->out->p + d->out->n, guess + 4, &n);
		d->out->n += n;
		put_end(d->out, begin, guess);
	}
	tw_buf_deinit(&plain);
	return e && !d->out->failed ? json_fail(&d->j, "not base64") : true;
}

/* A number, or a string that holds one. */
static bool read_number(struct decoder *d, struct tw_slice *token, bool *quoted)
{
	struct json_str s;

	json_space(&d->j);
	*quoted = d->j.p < d->j.end && *d->j.p == '"';
	if (!*quoted)
		return json_number(&d->j, token);
	if (!json_string(&d->j, &s))
		return false;
	*token = s.raw;
	return true;
}

/* A whole number of low … high. */
static bool read_integer(struct decoder *d, int64_t low, uint64_t high, const char *why,
                         uint64_t *v)
{
	struct tw_slice token;
	bool quoted, negative;

	if (!read_number(d, &token, &quoted))
		return false;
	if (!json_integer(token, &negative, v))
		return json_fail(&d->j, why);
	if (!negative)
		return *v <= high || json_fail(&d->j, why);
	if (*v > 0 - (uint64_t)low)
		return json_fail(&d->j, why);
	*v = 0 - *v;
	return true;
}

static bool read_double(struct decoder *d, double *v)
{
	struct tw_slice token;
	bool quoted;

	if (!read_number(d, &token, &quoted))
		return false;
	if (quoted && tw_slice_eq(token, tw_slice_str("NaN")))
		*v = __builtin_nan("");
	else if (quoted && tw_slice_eq(token, tw_slice_str("Infinity")))
		*v = __builtin_inf();
	else if (quoted && tw_slice_eq(token, tw_slice_str("-Infinity")))
		*v = -__builtin_inf();
	else if (!json_double(token, v))
		return json_fail(&d->j, "not a number that a double holds");
	return true;
}

static bool read_scalar(struct decoder *d, const struct wire_field *f)
{
	uint64_t v;
	double real;

	switch ((enum wire_type)f->type) {
	case WIRE_BOOL:
		v = json_word(&d->j, "true");
		if (!v && !json_word(&d->j, "false"))
			return json_fail(&d->j, "true or false is due");
		break;
	case WIRE_INT32:
		if (!read_integer(d, INT32_MIN, INT32_MAX,
		                  "a number is due (OTLP/JSON has no names for enum values)", &v))
			return false;
		break;
	case WIRE_UINT32:
	case WIRE_FIXED32:
		if (!read_integer(d, 0, UINT32_MAX, "a whole number of 0 to 2^32-1 is due", &v))
			return false;
		break;
	case WIRE_INT64:
		if (!read_integer(d, INT64_MIN, INT64_MAX, "a whole number of 64 bits is due", &v))
			return false;
		break;
	case WIRE_FIXED64:
		if (!read_integer(d, 0, UINT64_MAX, "a whole number of 0 to 2^64-1 is due", &v))
			return false;
		break;
	default:
		if (!read_double(d, &real))
			return false;
		memcpy(&v, &real, 8);
	}
	put_varint(d->out, TW_PB_TAG(f->number, wire_pb_type(f)));
	if (wire_pb_type(f) == TW_PB_VARINT)
		put_varint(d->out, v);
	else if (wire_pb_type(f) == TW_PB_I64)
		put_i64(d->out, v);
	else
		put_i32(d->out, (uint32_t)v);
	return true;
}

/* About how long a message will be: only the number of bytes of its length matters. */
static size_t guess_size(const struct decoder *d, const struct wire_field *f)
{
	switch (f->child) {
	case WIRE_RESOURCE_SPANS:
	case WIRE_SCOPE_SPANS:
		return (size_t)(d->j.end - d->j.p) / 3;
	case WIRE_SPAN:
	case WIRE_RESOURCE:
		return 256;
	default:
		return 32;
	}
}

static bool read_child(struct decoder *d, const struct wire_field *f)
{
	bool value = f->child == WIRE_ANY_VALUE;
	size_t guess = guess_size(d, f), begin;

	if (value && d->values == TW_NEST_MAX)
		return json_fail(&d->j, "values nest deeper than 32 levels");
	d->values += value;
	begin = put_begin(d->out, TW_PB_TAG(f->number, TW_PB_LEN), guess);
	if (!decode_message(d, f->child))
		return false;
	put_end(d->out, begin, guess);
	d->values -= value;
	return true;
}

static bool read_value(struct decoder *d, const struct wire_field *f)
{
	if (f->type != WIRE_MESSAGE && json_short_scalar(&d->j, d->out, f))
		return true;
	switch ((enum wire_type)f->type) {
	case WIRE_STRING:
		return read_string(d, f);
	case WIRE_HEX:
		return read_hex(d, f);
	case WIRE_BYTES:
		return read_base64(d, f);
	case WIRE_MESSAGE:
		return read_child(d, f);
	default:
		return read_scalar(d, f);
	}
}

/* The short way for attributes; false: the long way decides. */
static bool read_attribute(struct decoder *d, const struct wire_field *f)
{
	return f->child == WIRE_KEY_VALUE && d->values < TW_NEST_MAX &&
	       json_short_attribute(&d->j, d->out, TW_PB_TAG(f->number, TW_PB_LEN));
}

static bool read_list(struct decoder *d, const struct wire_field *f)
{
	struct step *step = &d->path[d->depth - 1];

	if (!json_take(&d->j, '['))
		return json_fail(&d->j, "a list is due");
	if (json_take(&d->j, ']'))
		return true;
	do {
		if (!read_attribute(d, f) && !read_value(d, f))
			return false;
		step->index++;
	} while (json_take(&d->j, ','));
	return json_take(&d->j, ']') || json_fail(&d->j, "a comma or the end of a list is due");
}

static bool read_field(struct decoder *d, const struct wire_field *f)
{
	bool ok;

	if (json_word(&d->j, "null"))
		return true;
	TW_ASSERT(d->depth < PATH_MAX_STEPS);
	d->path[d->depth++] = (struct step){f, 0};
	ok = f->flags & WIRE_REPEATED ? read_list(d, f) : read_value(d, f);
	if (ok && d->out->failed)
		ok = json_fail(&d->j, "no room");
	if (ok)
		d->depth--; /* else it stays, to be told */
	return ok;
}

static bool same_text(const char *a, const uint8_t *b, size_t n)
{
	uint64_t x, y;
	size_t i = 0;

	/* Names are short: no call for them. */
	for (; n - i >= 8; i += 8) {
		memcpy(&x, a + i, 8);
		memcpy(&y, b + i, 8);
		if (x != y)
			return false;
	}
	for (; i < n; i++)
		if ((uint8_t)a[i] != b[i])
			return false;
	return true;
}

/* The field of this name; looks from row *hint on, as names come in the order of the table. */
static const struct wire_field *find_field(const struct wire_message *m, struct tw_slice name,
                                           uint32_t *hint)
{
	for (uint32_t i = 0; i < m->count; i++) {
		uint32_t k = *hint + i < m->count ? *hint + i : *hint + i - m->count;

		if (m->fields[k].json_n == name.n && same_text(m->fields[k].json, name.p, name.n)) {
			*hint = k + 1;
			return &m->fields[k];
		}
	}
	return NULL;
}

static inline uint64_t eight_bytes(const void *p)
{
	uint64_t x;

	memcpy(&x, p, 8);
	return x;
}

/* Whether the key at p is the field's, its colon behind it. */
static inline bool is_key(const struct wire_field *f, const uint8_t *p)
{
	size_t n = f->json_n + 3u, i;
	uint64_t differ = eight_bytes(p) ^ eight_bytes(f->key);

	if (n < 8)
		return differ << (64 - 8 * n) == 0;
	if (differ)
		return false;
	for (i = 8; i + 8 <= n; i += 8)
		if (eight_bytes(p + i) != eight_bytes(f->key + i))
			return false;
	return eight_bytes(p + n - 8) == eight_bytes(f->key + n - 8);
}

/* The short way to a field: its key is there as it is in the table. NULL: nothing was taken. */
static const struct wire_field *next_key(struct decoder *d, enum wire_message_id m, uint32_t *hint)
{
	const struct wire_message *msg = &wire_messages[m];
	uint8_t *guess = &d->after[m][*hint];

	json_space(&d->j);
	if (d->j.end - d->j.p < (ptrdiff_t)WIRE_KEY_ROOM)
		return NULL;
	for (uint32_t i = 0, k = *guess; i <= msg->count; k = i++) {
		const struct wire_field *f = &msg->fields[k];

		if (is_key(f, d->j.p)) {
			d->j.p += f->json_n + 3u;
			*guess = (uint8_t)k;
			*hint = k + 1;
			return f;
		}
	}
	return NULL;
}

/* A key with escapes in it: the same name in other letters. */
static bool find_escaped(struct decoder *d, const struct wire_message *m, struct json_str key,
                         uint32_t *hint, const struct wire_field **f)
{
	struct tw_buf plain;
	bool ok;

	tw_buf_init(&plain, 0);
	ok = json_unescape(&d->j, key, &plain);
	if (ok)
		*f = find_field(m, tw_buf_slice(&plain), hint);
	d->out->failed |= plain.failed;
	tw_buf_deinit(&plain);
	return ok;
}

/* The long way: any string, then a colon. *f is NULL when it names no field. */
static bool read_key(struct decoder *d, const struct wire_message *m, uint32_t *hint,
                     const struct wire_field **f)
{
	struct json_str key;

	if (!json_string(&d->j, &key))
		return false;
	if (!json_take(&d->j, ':'))
		return json_fail(&d->j, "a colon is due");
	if (key.escaped)
		return find_escaped(d, m, key, hint, f);
	*f = find_field(m, key.raw, hint);
	return true;
}

static bool decode_message(struct decoder *d, enum wire_message_id m)
{
	const struct wire_message *msg = &wire_messages[m];
	uint32_t hint = 0;

	if (!json_take(&d->j, '{'))
		return json_fail(&d->j, "an object is due");
	if (json_take(&d->j, '}'))
		return true;
	do {
		const struct wire_field *f = next_key(d, m, &hint);

		if (!f && !read_key(d, msg, &hint, &f))
			return false;
		if (!(f ? read_field(d, f) : json_skip(&d->j)))
			return false;
	} while (json_take(&d->j, ','));
	return json_take(&d->j, '}') || json_fail(&d->j, "a comma or the end of an object is due");
}

/* Where we are, as "resourceSpans[0].scopeSpans[1].spans[2].kind: ". */
static void write_path(const struct decoder *d, char *out, size_t cap)
{
	size_t n = 0;

	out[0] = '\0';
	for (unsigned i = 0; i < d->depth && n < cap; i++) {
		const struct step *s = &d->path[i];
		const char *dot = i ? "." : "";

		if (s->field->flags & WIRE_REPEATED)
			n += (size_t)snprintf(out + n, cap - n, "%s%s[%u]", dot, s->field->json,
			                      s->index);
		else
			n += (size_t)snprintf(out + n, cap - n, "%s%s", dot, s->field->json);
	}
	if (n >= cap)
		memcpy(out + cap - 4, "...", 4);
}

static int report(const struct decoder *d, const uint8_t *begin, struct tw_error *err)
{
	uint64_t offset = (uint64_t)(d->j.p - begin);
	char path[112];

	if (d->out->failed && d->out->max && d->out->n + 64 > d->out->max)
		return tw_error_set(err, TW_ELIMIT, offset, "the request is larger than %zu bytes",
		                    d->out->max);
	if (d->out->failed)
		return tw_error_set(err, TW_ENOMEM, offset, "no memory for the request");
	write_path(d, path, sizeof(path));
	return tw_error_set(err, TW_EINVAL, offset, "%s%s%s at offset %llu", path,
	                    *path ? ": " : "", d->j.why, (unsigned long long)offset);
}

/* Room for what a text usually becomes, so that the output does not move as it grows. */
static void make_room(struct tw_buf *out, size_t json_n)
{
	size_t left = out->max ? out->max - out->n : SIZE_MAX, want = json_n / 2;

	if (want > 0)
		tw_buf_grow(out, want < left ? want : left);
}

int json_decode(enum wire_message_id m, struct tw_slice json, struct tw_buf *out,
                struct tw_error *err)
{
	static const uint8_t nothing[1];
	const uint8_t *begin = json.n ? json.p : nothing;
	struct decoder d;

	d.j = (struct json){begin, begin + json.n, NULL};
	d.out = out;
	d.values = d.depth = 0;
	memset(d.after, 0, sizeof(d.after));
	if (json.n >= 3 && memcmp(json.p, "\xef\xbb\xbf", 3) == 0) {
		json_fail(&d.j, "a byte order mark");
		return report(&d, begin, err);
	}
	make_room(out, json.n);
	if (!decode_message(&d, m) || out->failed)
		return report(&d, begin, err);
	json_space(&d.j);
	if (d.j.p != d.j.end) {
		json_fail(&d.j, "something follows the request");
		return report(&d, begin, err);
	}
	return 0;
}

int tw_otlp_json_decode(struct tw_slice json, struct tw_buf *out, struct tw_error *err)
{
	return json_decode(WIRE_REQUEST, json, out, err);
}
