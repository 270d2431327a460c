/* The two forms of a body, protobuf and JSON: encoded once, and what is written anew in it.
 *
 * Both say the same. Everything that differs between two sendings has a fixed width, so that a span
 * keeps its length and its place. */
#ifndef TW_LOAD_BODY_FORM_H
#define TW_LOAD_BODY_FORM_H

#include <string.h>

#include "body.h"
#include "pb_build.h"

#define TW_LOAD_PAD_MIN   2u
#define TW_LOAD_PAD_COUNT 61u

struct tw_load_span { /* what a span says */
	struct tw_load_trace_id trace;
	uint64_t number, id, parent, begin_ns, end_ns;
	uint32_t operation; /* its four digits */
	bool error;
};

struct tw_load_shape { /* what one span differs in from another, and never changes */
	bool root, tracestate;
	uint32_t kind, pad;
};

/* A whole segment of `spans` spans into out; at[] and len[] are told. */
void tw_load_protobuf_segment(struct pb *out, struct tw_load_body *b, struct tw_load_segment *seg,
                              const struct tw_load_shape *shapes, uint32_t spans);
void tw_load_json_segment(struct pb *out, struct tw_load_body *b, struct tw_load_segment *seg,
                          const struct tw_load_shape *shapes, uint32_t spans);

/* Writes s over the span at p, n bytes. */
void tw_load_protobuf_patch(uint8_t *p, uint32_t n, const struct tw_load_layout *l,
                            const struct tw_load_span *s);
void tw_load_json_patch(uint8_t *p, uint32_t n, const struct tw_load_layout *l,
                        const struct tw_load_names *names, const struct tw_load_span *s);

static inline void tw_load_put_be64(uint8_t *p, uint64_t v)
{
	v = __builtin_bswap64(v);
	memcpy(p, &v, 8);
}

static inline void tw_load_put_hex(uint8_t *p, uint64_t v)
{
	/* Eight digits at once: nibbles into bytes, then + '0', and + 39 more where over 9. */
	for (int half = 0; half < 2; half++) {
		uint64_t x = half == 0 ? v >> 32 : v & UINT32_MAX, over;

		x = ((x << 16) | x) & UINT64_C(0x0000FFFF0000FFFF);
		x = ((x << 8) | x) & UINT64_C(0x00FF00FF00FF00FF);
		x = ((x << 4) | x) & UINT64_C(0x0F0F0F0F0F0F0F0F);
		over = ((x + UINT64_C(0x0606060606060606)) >> 4) & UINT64_C(0x0101010101010101);
		tw_load_put_be64(p + 8 * half, x + UINT64_C(0x3030303030303030) + over * 39);
	}
}

#define TW_LOAD_TRACESTATE "ot=rv:00000000000000" /* fourteen digits are written anew */
static inline void tw_load_put_randomness(uint8_t *p, uint64_t v)
{
	uint8_t hex[16];

	tw_load_put_hex(hex, v);
	memcpy(p, hex + 2, 14);
}

#endif
