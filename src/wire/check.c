/* Checks messages by their tables. */
#include <stdarg.h>
#include <stdio.h>

#include "check.h"
#include "tw/base/limits.h"
#include "tw/wire.h"

__attribute__((cold, format(printf, 3, 4))) static bool
fail(struct wire_check *c, const uint8_t *at, const char *fmt, ...)
{
	va_list ap;

	c->bad_at = at;
	va_start(ap, fmt);
	vsnprintf(c->why, sizeof(c->why), fmt, ap);
	va_end(ap);
	return false;
}

/* Why the value behind a tag can't be skipped. */
__attribute__((cold)) static bool fail_value(struct wire_check *c, const uint8_t *at,
                                             const uint8_t *p, const uint8_t *end, uint32_t tag)
{
	uint32_t n;

	switch (tag & 7) {
	case TW_PB_VARINT:
		if (end - p < 10)
			return fail(c, at, "the varint is cut off or longer than ten bytes");
		return fail(c, at, "the varint is longer than ten bytes or 64 bits");
	case TW_PB_LEN:
		if (tw_pb_u32(p, end, &n))
			return fail(c, at, "length %u runs past the parent's end", n);
		return fail(c, at, "the length is cut off or longer than five bytes");
	case TW_PB_I64:
	case TW_PB_I32:
		return fail(c, at, "the fixed-size value runs past the parent's end");
	case 3:
	case 4:
		return fail(c, at, "wire type %u, a group, is not OTLP", tag & 7);
	default:
		return fail(c, at, "wire type %u does not exist", tag & 7);
	}
}

__attribute__((cold)) static bool fail_tag(struct wire_check *c, const uint8_t *p,
                                           const uint8_t *end)
{
	uint32_t tag;

	if (tw_pb_u32(p, end, &tag))
		return fail(c, p, "field number 0");
	return fail(c, p, "the tag is cut off, longer than five bytes, or past field 2^29-1");
}

bool wire_check(struct wire_check *c, enum wire_message_id m, const uint8_t *p, const uint8_t *end,
                unsigned values)
{
	if (m == WIRE_ANY_VALUE)
		values++;
	while (p < end) {
		const uint8_t *at = p, *q;
		const struct wire_field *f;
		uint32_t tag, n;

		p = tw_pb_tag(p, end, &tag);
		if (!p)
			return fail_tag(c, at, end);
		q = tw_pb_skip(p, end, tag);
		if (!q)
			return fail_value(c, at, p, end, tag);
		f = wire_field(m, tag >> 3);
		if (f && wire_pb_type(f) != (tag & 7))
			return fail(c, at, "%s has wire type %u where %u is due", f->name, tag & 7,
			            wire_pb_type(f));
		if (f && f->type == WIRE_STRING && !c->utf8_at) {
			p = tw_pb_len(p, end, &n);
			if (!tw_utf8_valid(p, n))
				c->utf8_at = at;
		} else if (f && f->type == WIRE_MESSAGE) {
			p = tw_pb_len(p, end, &n);
			if (f->child == WIRE_ANY_VALUE && values >= TW_NEST_MAX)
				return fail(c, at, "values nest deeper than %u levels",
				            TW_NEST_MAX);
			if (!wire_check(c, f->child, p, q, values))
				return false;
		}
		p = q;
	}
	return true;
}

struct path {
	char *out;
	size_t n, cap;
};

static void path_add(struct path *o, const struct wire_field *f, uint32_t index)
{
	int n;

	if (o->n >= o->cap)
		return;
	if (f->flags & WIRE_REPEATED)
		n = snprintf(o->out + o->n, o->cap - o->n, "%s%s[%u]", o->n ? "." : "", f->name,
		             index);
	else
		n = snprintf(o->out + o->n, o->cap - o->n, "%s%s", o->n ? "." : "", f->name);
	o->n += (size_t)n;
}

/* Finds the field of [p, end) in which `at` lies. Returns its payload if it is a message that holds
 * `at` behind its own tag. */
static bool path_step(struct path *o, enum wire_message_id *m, const uint8_t **begin,
                      const uint8_t **end, const uint8_t *at)
{
	uint32_t seen[WIRE_NUMBER_MAX + 1] = {0}, tag, n;
	const uint8_t *p = *begin;

	while (p < *end) {
		const uint8_t *q = tw_pb_tag(p, *end, &tag), *next;
		const struct wire_field *f = q ? wire_field(*m, tag >> 3) : NULL;

		next = q ? tw_pb_skip(q, *end, tag) : NULL;
		if (!next || at < next) {
			if (!f)
				return false;
			path_add(o, f, seen[f->number]);
			if (!next || at == p || f->type != WIRE_MESSAGE || (tag & 7) != TW_PB_LEN)
				return false;
			*begin = tw_pb_len(q, *end, &n);
			*end = next;
			*m = f->child;
			return true;
		}
		if (f)
			seen[f->number]++;
		p = next;
	}
	return false;
}

void wire_path(enum wire_message_id m, const uint8_t *p, const uint8_t *end, const uint8_t *at,
               unsigned levels, char *out, size_t cap)
{
	struct path o = {out, 0, cap};

	out[0] = '\0';
	while (levels-- && path_step(&o, &m, &p, &end, at))
		;
	if (o.n >= cap)
		memcpy(out + cap - 4, "...", 4);
}
