/* Are these bytes ASCII? Sixteen at a time; and UTF-8, one sequence at a time. */
#ifndef TW_WIRE_ASCII_H
#define TW_WIRE_ASCII_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* The length of the UTF-8 sequence at p, 0 if it is none; n ≥ 1. */
size_t utf8_sequence(const uint8_t *p, size_t n);

#ifdef __SSE2__
#include <emmintrin.h>

/* How many of the bytes [p, end) are not ASCII; 32 bytes behind end must be readable, end − p ≤
 * 4,000. */
static inline uint32_t ascii_count_high(const uint8_t *p, const uint8_t *end)
{
	static const uint8_t window[64] = {
	    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
	    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
	};
	const __m128i zero = _mm_setzero_si128();
	__m128i a = zero, b = zero, x, y;
	const uint8_t *mask;

	for (; end - p >= 32; p += 32) {
		x = _mm_loadu_si128((const __m128i *)(const void *)p);
		y = _mm_loadu_si128((const __m128i *)(const void *)(p + 16));
		a = _mm_sub_epi8(a, _mm_cmpgt_epi8(zero, x));
		b = _mm_sub_epi8(b, _mm_cmpgt_epi8(zero, y));
	}
	mask = window + 32 - (end - p);
	x = _mm_loadu_si128((const __m128i *)(const void *)p);
	y = _mm_loadu_si128((const __m128i *)(const void *)(p + 16));
	x = _mm_and_si128(x, _mm_loadu_si128((const __m128i *)(const void *)mask));
	y = _mm_and_si128(y, _mm_loadu_si128((const __m128i *)(const void *)(mask + 16)));
	a = _mm_sub_epi8(a, _mm_cmpgt_epi8(zero, x));
	b = _mm_sub_epi8(b, _mm_cmpgt_epi8(zero, y));
	a = _mm_add_epi64(_mm_sad_epu8(a, zero), _mm_sad_epu8(b, zero));
	return (uint32_t)_mm_cvtsi128_si32(a) + (uint32_t)_mm_cvtsi128_si32(_mm_srli_si128(a, 8));
}

/* A bit per byte of p[0 … 15] that is not ASCII. */
static inline uint32_t ascii_high16(const uint8_t *p)
{
	return (uint32_t)_mm_movemask_epi8(_mm_loadu_si128((const __m128i *)(const void *)p));
}
#else
static inline uint32_t ascii_count_high(const uint8_t *p, const uint8_t *end)
{
	uint32_t count = 0;

	while (p < end)
		count += *p++ >> 7;
	return count;
}

static inline uint32_t ascii_high16(const uint8_t *p)
{
	uint64_t a, b;
	uint32_t bits = 0;

	memcpy(&a, p, 8);
	memcpy(&b, p + 8, 8);
	if (!((a | b) & UINT64_C(0x8080808080808080)))
		return 0;
	for (int i = 0; i < 16; i++)
		bits |= (uint32_t)(p[i] >> 7) << i;
	return bits;
}
#endif

/* True when p[0 … n−1] are ASCII, n ≤ 64; 64 bytes from p on must be readable. Without a branch on
 * n up to 32. */
static inline bool ascii_short(const uint8_t *p, uint32_t n)
{
	uint64_t high = ascii_high16(p) | (uint64_t)ascii_high16(p + 16) << 16;

	if (__builtin_expect(n > 32, 0)) {
		uint64_t more = ascii_high16(p + 32) | (uint64_t)ascii_high16(p + 48) << 16;

		high |= more << 32;
	}
	return n >= 64 ? high == 0 : (high & ((UINT64_C(1) << n) - 1)) == 0;
}

#endif
