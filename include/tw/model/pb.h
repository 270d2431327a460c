/* Reading the protobuf wire format: the few primitives that every reader of spans shares.
 *
 * Every call takes the position and the parent's end, and returns the position behind what it read,
 * or NULL when the bytes do not hold it. Stricter than the format's loosest readers, as strict as
 * its C++ one: a tag and a length have at most five bytes, a varint at most ten, and their value
 * fits its type. [any] */
#ifndef TW_MODEL_PB_H
#define TW_MODEL_PB_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "tw/base/error.h"

enum tw_pb_type { TW_PB_VARINT = 0, TW_PB_I64 = 1, TW_PB_LEN = 2, TW_PB_I32 = 5 };

#define TW_PB_TAG(number, type) (((uint32_t)(number) << 3) | (uint32_t)(type))

/* The long forms; use the inline ones. */
const uint8_t *tw_pb_varint_long(const uint8_t *p, const uint8_t *end, uint64_t *v);
const uint8_t *tw_pb_u32_long(const uint8_t *p, const uint8_t *end, uint32_t *v);

static inline const uint8_t *tw_pb_varint(const uint8_t *p, const uint8_t *end, uint64_t *v)
{
	if (TW_LIKELY(p < end && *p < 0x80)) {
		*v = *p;
		return p + 1;
	}
	return tw_pb_varint_long(p, end, v);
}

/* A tag or a length: at most five bytes and 32 bits. */
static inline const uint8_t *tw_pb_u32(const uint8_t *p, const uint8_t *end, uint32_t *v)
{
	if (TW_LIKELY(p < end && *p < 0x80)) {
		*v = *p;
		return p + 1;
	}
	if (TW_LIKELY(end - p >= 2 && p[1] < 0x80)) {
		*v = (uint32_t)(p[0] & 0x7f) | (uint32_t)p[1] << 7;
		return p + 2;
	}
	return tw_pb_u32_long(p, end, v);
}

/* A length and its payload: returns the payload's begin; the payload lies within the parent. */
static inline const uint8_t *tw_pb_len(const uint8_t *p, const uint8_t *end, uint32_t *n)
{
	p = tw_pb_u32(p, end, n);
	if (TW_UNLIKELY(!p || *n > (size_t)(end - p)))
		return NULL;
	return p;
}

/* A tag: false for field 0 and for what is not a wire type of proto3. */
static inline const uint8_t *tw_pb_tag(const uint8_t *p, const uint8_t *end, uint32_t *tag)
{
	p = tw_pb_u32(p, end, tag);
	if (TW_UNLIKELY(!p || *tag < 8))
		return NULL;
	return p;
}

/* Skips the value behind `tag`; groups and the wire types 6 and 7 are malformed. */
static inline const uint8_t *tw_pb_skip(const uint8_t *p, const uint8_t *end, uint32_t tag)
{
	uint64_t v;
	uint32_t n;

	switch (tag & 7) {
	case TW_PB_VARINT:
		return tw_pb_varint(p, end, &v);
	case TW_PB_I64:
		return end - p >= 8 ? p + 8 : NULL;
	case TW_PB_LEN:
		p = tw_pb_len(p, end, &n);
		return p ? p + n : NULL;
	case TW_PB_I32:
		return end - p >= 4 ? p + 4 : NULL;
	default:
		return NULL;
	}
}

static inline uint64_t tw_pb_le64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	v = __builtin_bswap64(v);
#endif
	return v;
}

static inline uint32_t tw_pb_le32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	v = __builtin_bswap32(v);
#endif
	return v;
}

static inline uint64_t tw_pb_be64(const uint8_t *p)
{
	return __builtin_bswap64(tw_pb_le64(p));
}

#endif
