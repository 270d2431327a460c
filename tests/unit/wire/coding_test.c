#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tw/wire.h"

static const struct {
	const char *plain, *coded, *padded;
} vectors[] = {
    /* RFC 4648, section 10 */
    {"", "", ""},
    {"f", "Zg", "Zg=="},
    {"fo", "Zm8", "Zm8="},
    {"foo", "Zm9v", "Zm9v"},
    {"foob", "Zm9vYg", "Zm9vYg=="},
    {"fooba", "Zm9vYmE", "Zm9vYmE="},
    {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
};

static void base64(void **state)
{
	uint8_t bytes[64];
	char text[64];
	size_t n;

	(void)state;
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		n = tw_base64_encode((const uint8_t *)vectors[i].plain, strlen(vectors[i].plain),
		                     text, sizeof(text));
		assert_true(tw_slice_eq(tw_slice(text, n), tw_slice_str(vectors[i].coded)));
		for (int padded = 0; padded < 2; padded++) {
			const char *in = padded ? vectors[i].padded : vectors[i].coded;

			assert_int_equal(
			    tw_base64_decode(tw_slice_str(in), bytes, sizeof(bytes), &n), 0);
			assert_true(
			    tw_slice_eq(tw_slice(bytes, n), tw_slice_str(vectors[i].plain)));
		}
	}
	assert_int_equal(tw_base64_encode((const uint8_t *)"foobar", 6, text, 7), 0);
	assert_int_equal(tw_base64_decode(tw_slice_str("Zm9vYmFy"), bytes, 5, &n), TW_ELIMIT);
	assert_int_equal(tw_base64_decode(tw_slice_str("-_8"), bytes, sizeof(bytes), &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(bytes[0], 0xfb);
	assert_int_equal(bytes[1], 0xff);
}

static void base64_garbage(void **state)
{
	static const char *const bad[] = {
	    "A", "AAAAA", "AA=A", "AA===", "A=", "AAA==", "A A=", "AA\nA", "====", "@@@@"};
	uint8_t bytes[64];
	size_t n;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(tw_base64_decode(tw_slice_str(bad[i]), bytes, sizeof(bytes), &n),
		                 TW_EINVAL);
}

static void percent(void **state)
{
	char out[64];
	size_t n;

	(void)state;
	n = tw_percent_encode(tw_slice_str("a b%c\n\xc3\xbc"), out, sizeof(out));
	assert_true(tw_slice_eq(tw_slice(out, n), tw_slice_str("a b%25c%0A%C3%BC")));
	n = tw_percent_decode(tw_slice_str("a b%25c%0a%C3%bc"), out, sizeof(out));
	assert_true(tw_slice_eq(tw_slice(out, n), tw_slice_str("a b%c\n\xc3\xbc")));
	/* bad escapes pass through, also cut-off ones */
	n = tw_percent_decode(tw_slice_str("%zz%1%"), out, sizeof(out));
	assert_true(tw_slice_eq(tw_slice(out, n), tw_slice_str("%zz%1%")));
	n = tw_percent_decode(tw_slice_str("%4"), out, sizeof(out));
	assert_int_equal(n, 2);
	/* never past cap, never half an escape */
	assert_int_equal(tw_percent_encode(tw_slice_str("a\n"), out, 3), 1);
	assert_int_equal(tw_percent_decode(tw_slice_str("abcdef"), out, 3), 3);
}

/* Every sequence of one to three bytes, and the edges of four, against the definition. */
static bool by_definition(const uint8_t *p, size_t n)
{
	while (n) {
		uint32_t r, k, least;

		if (p[0] < 0x80) {
			p++;
			n--;
			continue;
		}
		k = p[0] >= 0xf0 && p[0] < 0xf8   ? 4
		    : p[0] >= 0xe0 && p[0] < 0xf0 ? 3
		    : p[0] >= 0xc0 && p[0] < 0xe0 ? 2
		                                  : 0;
		if (!k || n < k)
			return false;
		r = p[0] & (0xffu >> (k + 1));
		for (uint32_t i = 1; i < k; i++) {
			if ((p[i] & 0xc0) != 0x80)
				return false;
			r = r << 6 | (p[i] & 63);
		}
		least = k == 2 ? 0x80 : k == 3 ? 0x800 : 0x10000;
		if (r < least || r > 0x10ffff || (r >= 0xd800 && r <= 0xdfff))
			return false;
		p += k;
		n -= k;
	}
	return true;
}

static void utf8_against_the_definition(void **state)
{
	static const uint8_t edge[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff};
	uint8_t p[48];

	(void)state;
	for (uint32_t v = 0; v < 1u << 24; v += v < 0x10000 ? 1 : 7) {
		p[0] = (uint8_t)v;
		p[1] = (uint8_t)(v >> 8);
		p[2] = (uint8_t)(v >> 16);
		for (size_t n = 1; n <= 3; n++)
			if (tw_utf8_valid(p, n) != by_definition(p, n))
				fail_msg("%02x %02x %02x", p[0], p[1], p[2]);
	}
	for (int lead = 0xf0; lead < 0x100; lead++)
		for (int i = 0; i < 1000; i++) {
			memset(p, 'a', sizeof(p));
			/* at every offset of the block loop */
			p[i % 40] = (uint8_t)lead;
			p[i % 40 + 1] = edge[i % 10];
			p[i % 40 + 2] = edge[i / 10 % 10];
			p[i % 40 + 3] = edge[i / 100];
			for (size_t n = 0; n <= sizeof(p); n++)
				if (tw_utf8_valid(p, n) != by_definition(p, n))
					fail_msg("lead %02x i %d n %zu", lead, i, n);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(base64),
	    cmocka_unit_test(base64_garbage),
	    cmocka_unit_test(percent),
	    cmocka_unit_test(utf8_against_the_definition),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
