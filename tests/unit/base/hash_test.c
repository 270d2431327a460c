#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "tw/base/hash.h"

static const struct tw_hash_key key = {UINT64_C(0x0123456789ABCDEF), UINT64_C(0xFEDCBA9876543211)};

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void same_input_same_hash_other_key_other_hash(void **state)
{
	struct tw_hash_key other = {key.k0 + 1, key.k1};

	(void)state;
	assert_true(tw_hash_bytes(key, "checkout", 8) == tw_hash_bytes(key, "checkout", 8));
	assert_true(tw_hash_bytes(key, "checkout", 8) != tw_hash_bytes(other, "checkout", 8));
	assert_true(tw_hash_u64x2(key, 1, 2) != tw_hash_u64x2(key, 2, 1));
	assert_true(tw_hash_u64x2(key, 1, 2) != tw_hash_u64x2(other, 1, 2));
}

/* Also a prefix, and the same bytes with a zero behind them, are other values. */
static void every_length_and_every_byte_counts(void **state)
{
	unsigned char bytes[80] = {0};
	uint64_t seen[80 + 80 * 81 / 2 + 1];
	size_t n = 0;

	(void)state;
	for (size_t len = 0; len < sizeof(bytes); len++) {
		seen[n++] = tw_hash_bytes(key, bytes, len);
		for (size_t i = 0; i < len; i++) {
			bytes[i] = 1;
			seen[n++] = tw_hash_bytes(key, bytes, len);
			bytes[i] = 0;
		}
	}
	qsort(seen, n, sizeof(seen[0]), by_value);
	for (size_t i = 1; i < n; i++)
		assert_true(seen[i] != seen[i - 1]);
}

/* One changed input bit turns over about half of the output bits. */
static void one_bit_changes_half(void **state)
{
	unsigned flipped = 0, tries = 0;

	(void)state;
	for (uint64_t id = 1; id <= 64; id++) {
		uint64_t h = tw_hash_u64x2(key, id, id * 3);

		for (unsigned bit = 0; bit < 64; bit++, tries++)
			flipped += (unsigned)__builtin_popcountll(
			    h ^ tw_hash_u64x2(key, id ^ (UINT64_C(1) << bit), id * 3));
	}
	assert_in_range(flipped, tries * 31, tries * 33);
}

static void random_keys_differ(void **state)
{
	struct tw_hash_key a = tw_hash_key_random(), b = tw_hash_key_random();

	(void)state;
	assert_true(a.k0 != b.k0);
	assert_true(a.k1 != b.k1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(same_input_same_hash_other_key_other_hash),
	    cmocka_unit_test(every_length_and_every_byte_counts),
	    cmocka_unit_test(one_bit_changes_half),
	    cmocka_unit_test(random_keys_differ),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
