#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "tw/base/mem.h"
#include "tw/model/value.h"

static int find(const struct tw_keytab *kt, const char *key)
{
	return tw_keytab_find(kt, (const uint8_t *)key, strlen(key));
}

static void service_name_is_slot_0(void **state)
{
	struct tw_keytab *kt = tw_keytab_create();

	(void)state;
	assert_non_null(kt);
	assert_int_equal(tw_keytab_count(kt), 1);
	assert_int_equal(tw_keytab_add(kt, tw_slice_str("service.name")), 0);
	assert_int_equal(tw_keytab_seal(kt), 0);
	assert_int_equal(find(kt, "service.name"), 0);
	assert_int_equal(find(kt, "service.namf"), -1);
	assert_int_equal(find(kt, "service.nam"), -1);
	assert_int_equal(find(kt, ""), -1);
	tw_keytab_destroy(&kt);
	assert_null(kt);
}

static void same_key_same_slot(void **state)
{
	struct tw_keytab *kt = tw_keytab_create();

	(void)state;
	assert_int_equal(tw_keytab_add(kt, tw_slice_str("http.route")), 1);
	assert_int_equal(tw_keytab_add(kt, tw_slice_str("db.system")), 2);
	assert_int_equal(tw_keytab_add(kt, tw_slice_str("http.route")), 1);
	assert_int_equal(tw_keytab_count(kt), 3);
	assert_true(tw_slice_eq(tw_keytab_key(kt, 2), tw_slice_str("db.system")));
	tw_keytab_destroy(&kt);
}

/* Keys of every length 0 … 62: each form of the summary is met, and every one is found again. */
static void full_table_of_all_lengths(void **state)
{
	struct tw_keytab *kt = tw_keytab_create();
	char key[64];

	(void)state;
	memset(key, 'k', sizeof(key));
	for (int n = 0; n < 63; n++)
		assert_int_equal(tw_keytab_add(kt, tw_slice(key, (size_t)n)), n + 1);
	assert_int_equal(tw_keytab_count(kt), TW_KEYS_MAX);
	assert_int_equal(tw_keytab_add(kt, tw_slice_str("one more")), TW_ELIMIT);
	assert_int_equal(tw_keytab_seal(kt), 0);
	for (int n = 0; n < 63; n++)
		assert_int_equal(tw_keytab_find(kt, (uint8_t *)key, (size_t)n), n + 1);
	key[0] = 'x';
	for (int n = 1; n < 63; n++)
		assert_int_equal(tw_keytab_find(kt, (uint8_t *)key, (size_t)n), -1);
	tw_keytab_destroy(&kt);
}

/* Equal length, equal first and last eight bytes: only the middle tells them apart. */
static void keys_that_differ_in_the_middle(void **state)
{
	struct tw_keytab *kt = tw_keytab_create();
	char key[64];

	(void)state;
	for (int i = 0; i < 60; i++) {
		snprintf(key, sizeof(key), "http.request.header.x-%02d-tenant-id", i);
		assert_int_equal(tw_keytab_add(kt, tw_slice_str(key)), i + 1);
	}
	assert_int_equal(tw_keytab_seal(kt), 0);
	for (int i = 0; i < 60; i++) {
		snprintf(key, sizeof(key), "http.request.header.x-%02d-tenant-id", i);
		assert_int_equal(find(kt, key), i + 1);
	}
	assert_int_equal(find(kt, "http.request.header.x-60-tenant-id"), -1);
	assert_int_equal(find(kt, "http.request.header.x-0-tenant-id"), -1);
	tw_keytab_destroy(&kt);
}

/* 20 tables of 63 pseudo-random short keys each. */
static void random_tables(void **state)
{
	uint64_t x = 88172645463325252u;

	(void)state;
	for (int t = 0; t < 20; t++) {
		struct tw_keytab *kt = tw_keytab_create();
		char key[63][24];

		for (int i = 0; i < 63; i++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			snprintf(key[i], sizeof(key[i]), "%llx",
			         (unsigned long long)(x >> (x & 31)));
			assert_int_equal(tw_keytab_add(kt, tw_slice_str(key[i])), i + 1);
		}
		assert_int_equal(tw_keytab_seal(kt), 0);
		for (int i = 0; i < 63; i++)
			assert_int_equal(find(kt, key[i]), i + 1);
		assert_int_equal(find(kt, "service.name"), 0);
		assert_int_equal(find(kt, "zz"), -1);
		tw_keytab_destroy(&kt);
	}
}

/* Keys that count: "k1" and "k10" differ in little more than their length. */
static void numbered_keys(void **state)
{
	static const char *const forms[] = {"%d",    "k%d",      "ab%d",
	                                    "key%d", "my.key%d", "a.long.key.%d"};

	(void)state;
	for (size_t f = 0; f < sizeof(forms) / sizeof(forms[0]); f++) {
		struct tw_keytab *kt = tw_keytab_create();
		char key[64];

		for (int i = 0; i < 63; i++) {
			snprintf(key, sizeof(key), forms[f], i);
			assert_int_equal(tw_keytab_add(kt, tw_slice_str(key)), i + 1);
		}
		assert_int_equal(tw_keytab_seal(kt), 0);
		for (int i = 0; i < 63; i++) {
			snprintf(key, sizeof(key), forms[f], i);
			assert_int_equal(find(kt, key), i + 1);
		}
		snprintf(key, sizeof(key), forms[f], 63);
		assert_int_equal(find(kt, key), -1);
		tw_keytab_destroy(&kt);
	}
}

static void refused_memory_is_an_answer(void **state)
{
	struct tw_keytab *kt;

	(void)state;
	for (uint64_t n = 1; n <= 2; n++) {
		tw_mem_fail_at(n, false);
		kt = tw_keytab_create();
		tw_mem_fail_at(0, false);
		assert_null(kt);
	}
	kt = tw_keytab_create();
	assert_non_null(kt);
	tw_mem_fail_at(1, false);
	assert_int_equal(tw_keytab_add(kt, tw_slice_str("a")), TW_ENOMEM);
	assert_int_equal(tw_keytab_count(kt), 1);
	tw_mem_fail_at(1, false);
	assert_int_equal(tw_keytab_seal(kt), TW_ENOMEM);
	tw_mem_fail_at(0, false);
	assert_int_equal(tw_keytab_seal(kt), 0);
	assert_int_equal(find(kt, "service.name"), 0);
	tw_keytab_destroy(&kt);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(service_name_is_slot_0),
	    cmocka_unit_test(same_key_same_slot),
	    cmocka_unit_test(full_table_of_all_lengths),
	    cmocka_unit_test(keys_that_differ_in_the_middle),
	    cmocka_unit_test(random_tables),
	    cmocka_unit_test(numbered_keys),
	    cmocka_unit_test(refused_memory_is_an_answer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
