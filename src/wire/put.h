/* Writing the protobuf wire format into a tw_buf. Lengths that are not known yet are guessed and
 * mended. */
#ifndef TW_WIRE_PUT_H
#define TW_WIRE_PUT_H

#include "tw/base/buf.h"
#include "tw/model/pb.h"

/* Room for n more bytes, without a call where it is there. */
static inline bool put_room(struct tw_buf *b, size_t n)
{
	return TW_LIKELY(b->cap - b->n >= n && !b->failed) || tw_buf_grow(b, n);
}

static inline void put_bytes(struct tw_buf *b, const void *p, size_t n)
{
	if (n && put_room(b, n)) {
		memcpy(b->p + b->n, p, n);
		b->n += n;
	}
}

static inline void put_char(struct tw_buf *b, char c)
{
	if (put_room(b, 1))
		b->p[b->n++] = (uint8_t)c;
}

static inline unsigned put_varint_size(uint64_t v)
{
	return (unsigned)(63 - __builtin_clzll(v | 1)) / 7 + 1;
}

static inline uint8_t *put_varint_at(uint8_t *p, uint64_t v)
{
	while (v >= 0x80) {
		*p++ = (uint8_t)(v | 0x80);
		v >>= 7;
	}
	*p++ = (uint8_t)v;
	return p;
}

static inline void put_varint(struct tw_buf *b, uint64_t v)
{
	if (put_room(b, 10))
		b->n = (size_t)(put_varint_at(b->p + b->n, v) - b->p);
}

static inline void put_slice(struct tw_buf *b, uint32_t tag, struct tw_slice s)
{
	put_varint(b, tag);
	put_varint(b, s.n);
	put_bytes(b, s.p, s.n);
}

static inline void put_i64(struct tw_buf *b, uint64_t v)
{
	uint8_t bytes[8];

	for (int i = 0; i < 8; i++)
		bytes[i] = (uint8_t)(v >> (8 * i));
	put_bytes(b, bytes, 8);
}

static inline void put_i32(struct tw_buf *b, uint32_t v)
{
	uint8_t bytes[4];

	for (int i = 0; i < 4; i++)
		bytes[i] = (uint8_t)(v >> (8 * i));
	put_bytes(b, bytes, 4);
}

/* put_end where the guess was of another size; there is room for it. */
void put_end_moved(struct tw_buf *b, size_t begin, size_t guess);

/* A message of a length yet unknown, about `guess` bytes: its tag and room for the length. Returns
 * where its payload begins. */
static inline size_t put_begin(struct tw_buf *b, uint32_t tag, size_t guess)
{
	put_varint(b, tag);
	if (put_room(b, 10))
		b->n += put_varint_size(guess);
	return b->n;
}

/* Its end: writes the length; moves the payload if the guess was of another size. guess: as for
 * put_begin. */
static inline void put_end(struct tw_buf *b, size_t begin, size_t guess)
{
	size_t n = b->n - begin, room = put_varint_size(guess);

	if (TW_LIKELY(put_room(b, 10) && put_varint_size(n) == room))
		put_varint_at(b->p + begin - room, n);
	else
		put_end_moved(b, begin, guess);
}

#endif
