/* Builds protobuf bytes, also wrong ones, for tests and benchmarks. Aborts when memory is short. */
#ifndef TW_SUPPORT_PB_BUILD_H
#define TW_SUPPORT_PB_BUILD_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct pb {
	uint8_t *p;
	size_t n, cap;
	size_t open[128]; /* where the messages that are open began */
	unsigned depth;
};

static inline void pb_raw(struct pb *b, const void *p, size_t n)
{
	if (b->n + n > b->cap) {
		b->cap = (b->n + n) * 2 + 64;
		b->p = (uint8_t *)realloc(b->p, b->cap);
		if (!b->p)
			abort();
	}
	if (n)
		memcpy(b->p + b->n, p, n);
	b->n += n;
}

static inline void pb_byte(struct pb *b, uint8_t c)
{
	pb_raw(b, &c, 1);
}

static inline void pb_vint(struct pb *b, uint64_t v)
{
	while (v >= 0x80) {
		pb_byte(b, (uint8_t)(v | 0x80));
		v >>= 7;
	}
	pb_byte(b, (uint8_t)v);
}

static inline void pb_tag(struct pb *b, uint32_t field, uint32_t type)
{
	pb_vint(b, (uint64_t)field << 3 | type);
}

static inline void pb_varint(struct pb *b, uint32_t field, uint64_t v)
{
	pb_tag(b, field, 0);
	pb_vint(b, v);
}

static inline void pb_fixed64(struct pb *b, uint32_t field, uint64_t v)
{
	pb_tag(b, field, 1);
	for (int i = 0; i < 8; i++)
		pb_byte(b, (uint8_t)(v >> (8 * i)));
}

static inline void pb_fixed32(struct pb *b, uint32_t field, uint32_t v)
{
	pb_tag(b, field, 5);
	for (int i = 0; i < 4; i++)
		pb_byte(b, (uint8_t)(v >> (8 * i)));
}

static inline void pb_double(struct pb *b, uint32_t field, double d)
{
	uint64_t v;

	memcpy(&v, &d, 8);
	pb_fixed64(b, field, v);
}

static inline void pb_bytes(struct pb *b, uint32_t field, const void *p, size_t n)
{
	pb_tag(b, field, 2);
	pb_vint(b, n);
	pb_raw(b, p, n);
}

static inline void pb_str(struct pb *b, uint32_t field, const char *s)
{
	pb_bytes(b, field, s, strlen(s));
}

static inline void pb_begin(struct pb *b, uint32_t field)
{
	pb_tag(b, field, 2);
	b->open[b->depth++] = b->n;
}

static inline void pb_end(struct pb *b)
{
	size_t begin = b->open[--b->depth], n = b->n - begin, len = 0;
	uint8_t v[10];

	for (size_t x = n; x >= 0x80; x >>= 7)
		v[len++] = (uint8_t)(x | 0x80);
	v[len] = (uint8_t)(n >> (7 * len));
	len++;
	pb_raw(b, v, len);
	memmove(b->p + begin + len, b->p + begin, n);
	memcpy(b->p + begin, v, len);
}

/* KeyValue of a string, under `field`. */
static inline void pb_attr(struct pb *b, uint32_t field, const char *key, const char *value)
{
	pb_begin(b, field);
	pb_str(b, 1, key);
	pb_begin(b, 2);
	pb_str(b, 1, value);
	pb_end(b);
	pb_end(b);
}

static inline void pb_attr_int(struct pb *b, uint32_t field, const char *key, int64_t value)
{
	pb_begin(b, field);
	pb_str(b, 1, key);
	pb_begin(b, 2);
	pb_varint(b, 3, (uint64_t)value);
	pb_end(b);
	pb_end(b);
}

static inline void pb_clear(struct pb *b)
{
	b->n = 0;
	b->depth = 0;
}

static inline void pb_free(struct pb *b)
{
	free(b->p);
	memset(b, 0, sizeof(*b));
}

#endif
