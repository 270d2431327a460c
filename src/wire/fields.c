/* What a template may make of a span's field. */
#include "shape.h"

/* A length in its shortest form, below 2^14. */
static const uint8_t *length(const uint8_t *p, const uint8_t *end, uint32_t *n)
{
	if (p < end && p[0] < 0x80) {
		*n = p[0];
		return p + 1;
	}
	if (end - p < 2 || p[1] == 0 || p[1] >= 0x80)
		return NULL;
	*n = (uint32_t)(p[0] & 0x7f) | (uint32_t)p[1] << 7;
	return p + 2;
}

/* A string, an integer, a double or a bool by itself in its AnyValue. */
static void classify_value(struct field *f, const uint8_t *v, const uint8_t *end)
{
	uint32_t n;
	uint64_t u;
	const uint8_t *q;

	if (v == end)
		return;
	switch (*v++) {
	case TW_PB_TAG(1, TW_PB_LEN):
		q = length(v, end, &n);
		if (q && q + n == end)
			f->class = FIELD_TEXT;
		return;
	case TW_PB_TAG(3, TW_PB_VARINT):
		if (tw_pb_varint(v, end, &u) == end)
			f->class = FIELD_INT;
		return;
	case TW_PB_TAG(2, TW_PB_VARINT):
		f->raw = 1;
		break;
	case TW_PB_TAG(4, TW_PB_I64):
		f->raw = 8;
		break;
	default:
		return;
	}
	if (end - v == f->raw && (f->raw > 1 || *v < 0x80))
		f->class = FIELD_RAW;
}

/* A key and a value, in this order, each with its length in the shortest form. */
static void classify_attribute(struct field *f, const uint8_t *end)
{
	const uint8_t *p = length(f->at + 1, end, &f->key_n), *value;
	uint32_t n;

	if (!p || end - p < 3 || p[0] != TW_PB_TAG(1, TW_PB_LEN) || p[1] > 127)
		return;
	value = p + 2 + p[1];
	if (value >= end || *value != TW_PB_TAG(2, TW_PB_LEN))
		return;
	f->key = p;
	f->key_n = 3u + p[1];
	value = length(value + 1, end, &n);
	if (value && value + n == end)
		classify_value(f, value, end);
}

/* The slot of an attribute's key, however it is written. */
static int slot_of(const struct tw_keytab *keys, const uint8_t *p, const uint8_t *end)
{
	struct tw_slice key = {NULL, 0};
	uint32_t tag, n;

	while (p < end) {
		p = tw_pb_tag(p, end, &tag);
		if (p && tag == TW_PB_TAG(1, TW_PB_LEN)) {
			p = tw_pb_len(p, end, &n);
			key = tw_slice(p, p ? n : 0);
			p = p ? p + n : NULL;
		} else if (p) {
			p = tw_pb_skip(p, end, tag);
		}
		if (!p)
			return -1;
	}
	return tw_keytab_probe(keys, key.p, key.n);
}

const uint8_t *field_read(const struct tw_keytab *keys, const uint8_t *p, const uint8_t *end,
                          struct field *f)
{
	const uint8_t *payload, *q;
	uint32_t tag, n = 0;

	*f = (struct field){.at = p, .class = FIELD_SAME, .slot = -1};
	payload = tw_pb_tag(p, end, &tag);
	if (!payload || tag >> 3 < 9)
		return NULL; /* ids, name, kind and times have their place in the prefix */
	q = tw_pb_skip(payload, end, tag);
	if (!q)
		return NULL;
	f->n = (uint32_t)(q - p);
	if ((tag & 7) == TW_PB_LEN)
		payload = tw_pb_len(payload, end, &n);
	switch (tag) {
	case TW_PB_TAG(9, TW_PB_LEN):
		f->slot = (int8_t)slot_of(keys, payload, q);
		classify_attribute(f, q);
		break;
	case TW_PB_TAG(11, TW_PB_LEN):
	case TW_PB_TAG(13, TW_PB_LEN):
		if (length(p + 1, end, &n) != payload)
			return NULL;
		f->class = FIELD_CHILD;
		break;
	case TW_PB_TAG(15, TW_PB_LEN):
		f->status = payload;
		f->status_n = n;
		break;
	default:
		break;
	}
	return q;
}
