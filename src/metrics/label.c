#include "label.h"

#include <string.h>

#include "number.h"

#define ARRAY_NEST_MAX 4

size_t tw_utf8_step(const uint8_t *p, size_t n)
{
	uint8_t c = p[0], low = 0x80, high = 0xBF;
	size_t need;

	if (c < 0x80)
		return c != 0;
	if (c < 0xC2 || c > 0xF4)
		return 0;
	need = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
	if (c == 0xE0)
		low = 0xA0; /* no over-long forms, */
	else if (c == 0xED)
		high = 0x9F; /* no surrogates, */
	else if (c == 0xF0)
		low = 0x90;
	else if (c == 0xF4)
		high = 0x8F; /* nothing past U+10FFFF (RFC 3629) */
	if (n < need || p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < need; i++)
		if ((p[i] & 0xC0) != 0x80)
			return 0;
	return need;
}

/* A bounded writer: what does not fit is left out. */
struct text {
	uint8_t *p;
	size_t n, cap;
};

static void put(struct text *t, const void *p, size_t n)
{
	if (n > t->cap - t->n)
		n = t->cap - t->n;
	if (n > 0)
		memcpy(t->p + t->n, p, n);
	t->n += n;
}

static void put_base64(struct text *t, const uint8_t *p, size_t n)
{
	static const char alphabet[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < n && t->n < t->cap; i += 3) {
		size_t left = n - i;
		uint32_t v = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
		             (left > 2 ? p[i + 2] : 0);
		char four[4] = {alphabet[v >> 18], alphabet[(v >> 12) & 63],
		                left > 1 ? alphabet[(v >> 6) & 63] : '=',
		                left > 2 ? alphabet[v & 63] : '='};
		put(t, four, 4);
	}
}

static void put_json_string(struct text *t, const uint8_t *p, size_t n)
{
	put(t, "\"", 1);
	for (size_t i = 0; i < n && t->n < t->cap; i++) {
		static const char hex[] = "0123456789abcdef";
		char u[6] = {'\\', 'u', '0', '0', hex[p[i] >> 4], hex[p[i] & 15]};

		if (p[i] == '"' || p[i] == '\\')
			put(t, "\\", 1);
		if (p[i] < 0x20)
			put(t, u, 6);
		else
			put(t, p + i, 1);
	}
	put(t, "\"", 1);
}

static void put_value(struct text *t, const struct tw_value *v, int nest)
{
	char number[TW_NUMBER_CHARS];
	struct tw_slice rest;
	struct tw_value elem;

	switch ((enum tw_value_type)v->type) {
	case TW_VALUE_STRING:
		if (nest > 0)
			put_json_string(t, v->p, v->n);
		else
			put(t, v->p, v->n);
		break;
	case TW_VALUE_BOOL:
		put(t, v->i != 0 ? "true" : "false", v->i != 0 ? 4 : 5);
		break;
	case TW_VALUE_INT:
		if (v->i < 0)
			put(t, "-", 1);
		put(t, number, tw_number_u64(number, v->i < 0 ? -(uint64_t)v->i : (uint64_t)v->i));
		break;
	case TW_VALUE_DOUBLE:
		put(t, number, tw_number_f64(number, v->d, -6, 21));
		break;
	case TW_VALUE_BYTES:
		put_base64(t, v->p, v->n);
		break;
	case TW_VALUE_ARRAY:
		rest = tw_slice(v->p, v->n);
		put(t, "[", 1);
		for (bool first = true;
		     nest < ARRAY_NEST_MAX && t->n < t->cap && tw_value_next(&rest, &elem);
		     first = false) {
			if (!first)
				put(t, ",", 1);
			put_value(t, &elem, nest + 1);
		}
		put(t, "]", 1);
		break;
	case TW_VALUE_NONE:
	case TW_VALUE_KVLIST:
		if (nest > 0)
			put(t, "null", 4);
		break;
	}
}

/* Room for v as text; a small one for what is small, so that an arena lasts. */
static size_t room(const struct tw_value *v)
{
	if (v->type == TW_VALUE_INT || v->type == TW_VALUE_DOUBLE || v->type == TW_VALUE_BOOL)
		return TW_NUMBER_CHARS;
	/* One character more than a label may have, so that the clip sees where the last one ends.
	 */
	return TW_LABEL_BYTES_MAX + 4;
}

bool tw_label_of(const struct tw_value *v, struct tw_arena *arena, struct tw_slice *out)
{
	if (v->type == TW_VALUE_STRING) {
		*out = tw_label_clip(tw_slice(v->p, v->n));
		return true;
	}
	if (v->type == TW_VALUE_NONE || v->type == TW_VALUE_KVLIST) {
		*out = tw_slice(NULL, 0);
		return true;
	}
	struct text t = {tw_arena_alloc(arena, room(v)), 0, room(v)};
	if (t.p == NULL)
		return false;
	put_value(&t, v, 0);
	*out = tw_label_clip(tw_slice(t.p, t.n));
	return true;
}

static bool clean(struct tw_slice s)
{
	for (size_t i = 0, step; i < s.n; i += step) {
		step = tw_utf8_step(s.p + i, s.n - i);
		if (step == 0)
			return false;
	}
	return true;
}

bool tw_label_sanitise(struct tw_slice s, struct tw_arena *arena, struct tw_slice *out)
{
	*out = s;
	if (clean(s))
		return true;
	struct text t = {tw_arena_alloc(arena, TW_LABEL_BYTES_MAX + 4), 0, TW_LABEL_BYTES_MAX + 4};
	if (t.p == NULL)
		return false;
	for (size_t i = 0; i < s.n && t.n <= TW_LABEL_BYTES_MAX;) {
		size_t step = tw_utf8_step(s.p + i, s.n - i);
		if (step == 0)
			put(&t, TW_UTF8_REPLACEMENT, 3);
		else
			put(&t, s.p + i, step);
		i += step > 0 ? step : 1;
	}
	*out = tw_label_clip(tw_slice(t.p, t.n));
	return true;
}

void tw_label_name(struct tw_slice key, char *out)
{
	if (key.n == 0 || (key.p[0] >= '0' && key.p[0] <= '9'))
		*out++ = '_';
	for (size_t i = 0; i < key.n; i++) {
		uint8_t c = key.p[i];
		bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		            (c >= '0' && c <= '9') || c == '_';
		*out++ = fine ? (char)c : '_';
	}
	*out = '\0';
}
