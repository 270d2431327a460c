/* Addresses, Retry-After, compression. */
#include "client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

/* ---- addresses ---- */

struct parsed {
	char host[32], path[32];
	uint16_t port;
	bool tls;
	struct tw_error err;
};

static int parse(const char *s, struct parsed *p)
{
	memset(p, 0, sizeof *p);
	return tw_address_parse(s, p->host, sizeof p->host, &p->port, p->path, sizeof p->path,
	                        &p->tls, &p->err);
}

static void test_address(void **state)
{
	static const struct {
		const char *text, *host;
		uint16_t port;
		const char *path;
		bool tls;
	} good[] = {
	    {"localhost:4317", "localhost", 4317, "", false},
	    {"10.0.0.1:1", "10.0.0.1", 1, "", false},
	    {"[::1]:65535", "::1", 65535, "", false},
	    {"[fe80::1%eth0]:80", "fe80::1%eth0", 80, "", false},
	    {"http://a.b-c_d:4318", "a.b-c_d", 4318, "", false},
	    {"http://a", "a", 80, "", false},
	    {"https://a", "a", 443, "", true},
	    {"HTTPS://a/", "a", 443, "/", true},
	    {"https://[::1]/otlp/v1?x=y", "::1", 443, "/otlp/v1?x=y", true},
	    {"http://a:4318/v1/traces", "a", 4318, "/v1/traces", false},
	};
	struct parsed p;

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_int_equal(parse(good[i].text, &p), 0);
		assert_string_equal(p.host, good[i].host);
		assert_int_equal(p.port, good[i].port);
		assert_string_equal(p.path, good[i].path);
		assert_int_equal(p.tls, good[i].tls);
	}
}

static void test_address_that_is_none(void **state)
{
	static const struct {
		const char *text, *says;
		int code;
	} bad[] = {
	    {"", "host", TW_EINVAL},
	    {"localhost", "HOST:PORT", TW_EINVAL},
	    {":4317", "host", TW_EINVAL},
	    {"a:", "port", TW_EINVAL},
	    {"a:0", "port", TW_EINVAL},
	    {"a:65536", "port", TW_EINVAL},
	    {"a:99999999999999999999", "port", TW_EINVAL},
	    {"a:12x", "unexpected", TW_EINVAL},
	    {"a:4317/path", "unexpected", TW_EINVAL},
	    {"a b:4317", "HOST:PORT", TW_EINVAL},
	    {"[::1:4317", "']'", TW_EINVAL},
	    {"[localhost]:4317", "IPv6", TW_EINVAL},
	    {"[]:4317", "host", TW_EINVAL},
	    {"::1:4317", "host", TW_EINVAL},
	    {"ftp://a:1", "http", TW_EINVAL},
	    {"http://", "host", TW_EINVAL},
	    {"http://user:secret@a/", "header", TW_EINVAL},
	    {"http://a/b c", "spaces", TW_EINVAL},
	    {"http://a/b\r\nx: y", "spaces", TW_EINVAL},
	    {"http://a/#b", "'#'", TW_EINVAL},
	    {"http://a?x", "unexpected", TW_EINVAL},
	    {"this-name-is-longer-than-thirty-one-bytes:1", "longer", TW_ELIMIT},
	    {"http://a/this-path-is-longer-than-thirty-one-bytes", "longer", TW_ELIMIT},
	};
	struct parsed p;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(parse(bad[i].text, &p), bad[i].code);
		assert_non_null(strstr(p.err.text, bad[i].says));
		assert_null(strstr(p.err.text, "secret"));
	}
}

/* ---- BK-03: Retry-After ---- */

static void BK_03_retry_after(void **state)
{
	/* 1994-11-06 08:49:37, the time in the examples of RFC 9110. */
	const uint64_t then_s = 784111777, year_ms = UINT64_C(31536000000);
	static const struct {
		const char *text;
		int64_t before_s; /* now, as seconds before that time */
		uint64_t ms;
	} cases[] = {
	    {"0", 0, 0},
	    {"120", 0, 120000},
	    {" 120 ", 0, 120000},
	    {"31536000", 0, UINT64_C(31536000000)},
	    {"9223372036854775", 0, UINT64_C(9223372036854775000)},
	    {"9223372036854776", 0, INT64_MAX},
	    {"99999999999999999999999999999999999999", 0, INT64_MAX},
	    {"Sun, 06 Nov 1994 08:49:37 GMT", 37, 37000},
	    {"Sunday, 06-Nov-94 08:49:37 GMT", 37, 37000},
	    {"Sun Nov  6 08:49:37 1994", 37, 37000},
	    {"Sun, 06 Nov 1994 08:49:37 GMT", 0, 0},
	    {"Sun, 06 Nov 1994 08:49:37 GMT", -1, 0},
	    {"-1", 0, UINT64_MAX},
	    {"-120", 0, UINT64_MAX},
	    {"+1", 0, UINT64_MAX},
	    {"1.5", 0, UINT64_MAX},
	    {"1s", 0, UINT64_MAX},
	    {"", 0, UINT64_MAX},
	    {" ", 0, UINT64_MAX},
	    {"soon", 0, UINT64_MAX},
	    {"Sun, 06 Nov 1994 08:49:37 CET", 37, UINT64_MAX},
	    {"Sun, 06 Nov 1994 08:49:37 GMT x", 37, UINT64_MAX},
	    {"Sun, 06 Foo 1994 08:49:37 GMT", 37, UINT64_MAX},
	    {"Sun, 66 Nov 1994 08:49:37 GMT", 37, UINT64_MAX},
	    {"Sun, -6 Nov 1994 08:49:37 GMT", 37, UINT64_MAX},
	    {"Sun, 06 Nov 1994 25:49:37 GMT", 37, UINT64_MAX},
	    {"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 0,
	     UINT64_MAX},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint64_t now_s = (uint64_t)((int64_t)then_s - cases[i].before_s);

		assert_int_equal(
		    tw_retry_after_ms(tw_slice_str(cases[i].text), now_s * TW_NS_PER_S),
		    cases[i].ms);
	}
	assert_int_equal(
	    tw_retry_after_ms(tw_slice_str("Mon, 06 Nov 1995 08:49:37 GMT"), then_s * TW_NS_PER_S),
	    year_ms);
	assert_int_equal(tw_retry_after_ms(tw_slice_str("Thu, 29 Feb 2024 00:00:00 GMT"),
	                                   UINT64_C(1709164800) * TW_NS_PER_S - TW_NS_PER_S),
	                 1000);
	assert_int_equal(tw_retry_after_ms(tw_slice("12\0", 3), 0), UINT64_MAX);
}

/* ---- compression: what goes in comes out ---- */

/* n bytes with so many bits of noise each. */
static uint8_t *deflate_input(size_t n, uint32_t bits)
{
	uint8_t *in = malloc(n);
	uint32_t x = 1;

	assert_non_null(in);
	for (size_t i = 0; i < n; i++) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		in[i] = (uint8_t)(x >> (32 - bits));
	}
	return in;
}

static void deflate_and_back(enum tw_coding coding, struct tw_slice in, size_t most)
{
	struct tw_body back;
	struct tw_error err;
	struct tw_buf out;

	tw_buf_init(&out, 0);
	tw_buf_puts(&out, "ab"); /* it appends */
	tw_body_init(&back, NULL);
	assert_int_equal(tw_deflate(coding, in, &out), 0);
	assert_memory_equal(out.p, "ab", 2);
	assert_true(out.n - 2 <= most);
	assert_int_equal(tw_inflate(coding, tw_slice(out.p + 2, out.n - 2), &back, 2000000, &err),
	                 0);
	assert_int_equal(back.n, in.n);
	if (back.n)
		assert_memory_equal(back.p, in.p, back.n);
	tw_body_deinit(&back);
	tw_buf_deinit(&out);
}

static const enum tw_coding deflate_codings[] = {TW_CODING_IDENTITY, TW_CODING_GZIP,
                                                 TW_CODING_DEFLATE, TW_CODING_ZSTD};
static const size_t deflate_sizes[] = {0, 1, 5, 65535, 65536, 1000003};

static void test_deflate_round_trips(void **state)
{
	uint8_t *in = deflate_input(1000003, 2);

	(void)state;
	for (size_t c = 0; c < sizeof deflate_codings / sizeof *deflate_codings; c++)
		for (size_t i = 0; i < sizeof deflate_sizes / sizeof *deflate_sizes; i++) {
			size_t n = deflate_sizes[i];
			bool packed = n > 1000 && deflate_codings[c] != TW_CODING_IDENTITY;

			deflate_and_back(deflate_codings[c], tw_slice(in, n),
			                 packed ? n / 2 : n + 100);
		}
	free(in);
}

/* What can't be compressed grows by no more than its headers. */
static void test_deflate_noise(void **state)
{
	uint8_t *in = deflate_input(1000003, 8);

	(void)state;
	for (size_t c = 0; c < sizeof deflate_codings / sizeof *deflate_codings; c++)
		for (size_t i = 0; i < sizeof deflate_sizes / sizeof *deflate_sizes; i++)
			deflate_and_back(deflate_codings[c], tw_slice(in, deflate_sizes[i]),
			                 deflate_sizes[i] + deflate_sizes[i] / 500 + 100);
	free(in);
}

static void test_deflate_refuses(void **state)
{
	struct tw_buf out;

	(void)state;
	tw_buf_init(&out, 4);
	assert_int_equal(tw_deflate(TW_CODING_UNKNOWN, tw_slice("a", 1), &out), TW_EUNSUP);
	assert_int_equal(tw_deflate(TW_CODING_GZIP, tw_slice("a", 1), &out), TW_ENOMEM);
	tw_buf_deinit(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_address),       cmocka_unit_test(test_address_that_is_none),
	    cmocka_unit_test(BK_03_retry_after),  cmocka_unit_test(test_deflate_round_trips),
	    cmocka_unit_test(test_deflate_noise), cmocka_unit_test(test_deflate_refuses),
	};

	return cmocka_run_group_tests_name("net_client_parts", tests, NULL, NULL);
}
