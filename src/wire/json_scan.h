/* JSON many bytes at a time: where a string's plain text ends, hexadecimal and decimal digits. */
#ifndef TW_WIRE_JSON_SCAN_H
#define TW_WIRE_JSON_SCAN_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>

/* A bit per byte of x that is a quote, a backslash or a control character. */
static inline uint32_t json_special_bits(__m128i x)
{
	const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\');
	const __m128i low = _mm_set1_epi8(0x1f);
	__m128i hit = _mm_or_si128(_mm_cmpeq_epi8(x, quote), _mm_cmpeq_epi8(x, slash));

	hit = _mm_or_si128(hit, _mm_cmpeq_epi8(_mm_min_epu8(x, low), x));
	return (uint32_t)_mm_movemask_epi8(hit);
}

static inline uint32_t json_special16(const uint8_t *p)
{
	return json_special_bits(_mm_loadu_si128((const __m128i *)(const void *)p));
}

/* The same, and copies all sixteen. */
static inline uint32_t json_copy16(uint8_t *to, const uint8_t *p)
{
	__m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);

	_mm_storeu_si128((__m128i *)(void *)to, x);
	return json_special_bits(x);
}

/* Sixteen digits become eight bytes; false: not all are digits, and out holds anything. */
static inline bool json_hex16(uint8_t *out, const uint8_t *p)
{
	const __m128i nine = _mm_set1_epi8(9), five = _mm_set1_epi8(5);
	__m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
	__m128i digit = _mm_sub_epi8(x, _mm_set1_epi8('0'));
	__m128i letter = _mm_sub_epi8(_mm_or_si128(x, _mm_set1_epi8(0x20)), _mm_set1_epi8('a'));
	__m128i is_digit = _mm_cmpeq_epi8(_mm_min_epu8(digit, nine), digit);
	__m128i is_letter = _mm_cmpeq_epi8(_mm_min_epu8(letter, five), letter);
	__m128i high, low;

	x = _mm_or_si128(_mm_and_si128(is_digit, digit),
	                 _mm_and_si128(is_letter, _mm_add_epi8(letter, _mm_set1_epi8(10))));
	high = _mm_and_si128(_mm_slli_epi16(x, 4), _mm_set1_epi16(0xf0));
	low = _mm_srli_epi16(x, 8);
	x = _mm_or_si128(high, low);
	_mm_storel_epi64((__m128i *)(void *)out, _mm_packus_epi16(x, x));
	return _mm_movemask_epi8(_mm_or_si128(is_digit, is_letter)) == 0xffff;
}
#else
static inline uint32_t json_special16(const uint8_t *p)
{
	uint32_t bits = 0;

	for (int i = 0; i < 16; i++)
		bits |= (uint32_t)(p[i] == '"' || p[i] == '\\' || p[i] < 0x20) << i;
	return bits;
}

static inline uint32_t json_copy16(uint8_t *to, const uint8_t *p)
{
	memcpy(to, p, 16);
	return json_special16(p);
}

static inline bool json_hex16(uint8_t *out, const uint8_t *p)
{
	(void)out;
	(void)p;
	return false; /* the caller goes on digit by digit */
}
#endif

/* Eight digits as a number; false: not all are digits. */
static inline bool json_digits8(const uint8_t *p, uint64_t *v)
{
	const uint64_t zeros = UINT64_C(0x3030303030303030), high = UINT64_C(0xf0f0f0f0f0f0f0f0);
	uint64_t x;

	memcpy(&x, p, 8);
	if ((x & high) != zeros || ((x + UINT64_C(0x0606060606060606)) & high) != zeros)
		return false;
	x -= zeros;
	x = x * 10 + (x >> 8); /* pairs, then fours, then all */
	x = (((x & UINT64_C(0x000000ff000000ff)) * UINT64_C(0x000f424000000064)) +
	     (((x >> 16) & UINT64_C(0x000000ff000000ff)) * UINT64_C(0x0000271000000001))) >>
	    32;
	*v = x;
	return true;
}

#endif
