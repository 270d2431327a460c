#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "pb_build.h"
#include "tw/base/mem.h"
#include "tw/wire.h"

static void assert_hex(const struct tw_buf *b, const char *hex)
{
	char text[1024];
	size_t n = 0;

	assert_true(b->n * 2 < sizeof(text));
	for (size_t i = 0; i < b->n; i++) {
		text[n++] = "0123456789abcdef"[b->p[i] >> 4];
		text[n++] = "0123456789abcdef"[b->p[i] & 15];
	}
	text[n] = '\0';
	assert_string_equal(text, hex);
}

static void assert_text(struct tw_buf *b, const char *text)
{
	tw_buf_putc(b, '\0');
	assert_string_equal((char *)b->p, text);
}

#define GOLDEN_STATUS                                                                              \
	"080e120a6f7665726c6f616465641a300a28747970652e676f6f676c65617069732e636f6d2f676f6f676c"   \
	"652e7270632e5265747279496e666f12040a020805"

static void golden_status(void **state)
{
	char text[256], message[64];
	struct tw_buf b;
	uint64_t retry;
	size_t n;

	(void)state;
	tw_buf_init(&b, 0);
	assert_int_equal(tw_reply_status(&b, false, 14, "overloaded", 5000), 0);
	assert_hex(&b, GOLDEN_STATUS);
	n = tw_base64_encode(b.p, b.n, text, sizeof(text) - 1);
	text[n] = '\0';
	assert_string_equal(text, "CA4SCm92ZXJsb2FkZWQaMAoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUu"
	                          "cnBjLlJldHJ5SW5mbxIECgIIBQ");
	assert_int_equal(tw_reply_parse_status(tw_buf_slice(&b), message, sizeof(message), &retry),
	                 0);
	assert_string_equal(message, "overloaded");
	assert_int_equal(retry, 5000);
	tw_buf_clear(&b);
	assert_int_equal(tw_reply_status(&b, false, 3, "no", 0), 0);
	assert_hex(&b, "080312026e6f");
	assert_int_equal(tw_reply_parse_status(tw_buf_slice(&b), message, 2, &retry), 0);
	assert_string_equal(message, "n");
	assert_true(retry == UINT64_MAX);
	tw_buf_clear(&b);
	assert_int_equal(tw_reply_status(&b, true, 14, "\"over\"\n", 1500), 0);
	assert_text(&b,
	            "{\"code\":14,\"message\":\"\\\"over\\\"\\n\",\"details\":[{\"@type\":"
	            "\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"1.500s\"}]}");
	tw_buf_deinit(&b);
}

static void golden_export_response(void **state)
{
	struct tw_export_result r;
	struct tw_buf b;

	(void)state;
	tw_buf_init(&b, 0);
	assert_int_equal(tw_reply_export(&b, false, 3, "bad span"), 0);
	assert_hex(&b, "0a0c08031208626164207370616e");
	assert_int_equal(tw_reply_parse_export(tw_buf_slice(&b), false, &r), 0);
	assert_int_equal(r.rejected, 3);
	assert_string_equal(r.message, "bad span");
	tw_buf_clear(&b);
	assert_int_equal(tw_reply_export(&b, false, 0, ""), 0);
	assert_int_equal(b.n, 0);
	assert_int_equal(tw_reply_parse_export(tw_buf_slice(&b), false, &r), 0);
	assert_int_equal(r.rejected, 0);
	assert_int_equal(tw_reply_export(&b, true, 0, ""), 0);
	assert_text(&b, "{}");
	tw_buf_clear(&b);
	assert_int_equal(tw_reply_export(&b, true, 3, "bad span"), 0);
	assert_int_equal(tw_reply_parse_export(tw_buf_slice(&b), true, &r), 0);
	assert_int_equal(r.rejected, 3);
	assert_string_equal(r.message, "bad span");
	assert_text(&b,
	            "{\"partialSuccess\":{\"rejectedSpans\":\"3\",\"errorMessage\":\"bad span\"}}");
	tw_buf_clear(&b);
	assert_int_equal(tw_reply_export(&b, true, 0, "careful"), 0);
	assert_text(&b, "{\"partialSuccess\":{\"errorMessage\":\"careful\"}}");
	tw_buf_deinit(&b);
}

static void health(void **state)
{
	char service[16];
	struct tw_buf b;

	(void)state;
	tw_buf_init(&b, 0);
	assert_int_equal(tw_health_reply(&b, 1), 0);
	assert_hex(&b, "0801");
	assert_int_equal(tw_health_parse(tw_slice("\x0a\x03"
	                                          "abc",
	                                          5),
	                                 service, sizeof(service)),
	                 0);
	assert_string_equal(service, "abc");
	assert_int_equal(tw_health_parse(tw_slice(NULL, 0), service, sizeof(service)), 0);
	assert_string_equal(service, "");
	assert_int_equal(tw_health_parse(tw_slice("\x0a\x03"
	                                          "ab",
	                                          4),
	                                 service, sizeof(service)),
	                 TW_EINVAL);
	tw_buf_deinit(&b);
}

/* What a hostile backend may answer: garbage, a million details, absurd delays, text that would
 * forge a log line. */
static void hostile_answers(void **state)
{
	static const char *const garbage[] = {"\xff\xff\xff\xff", "<html>502</html>",
	                                      "{\"a\":", "\x0a\x7f", ""};
	struct tw_export_result r;
	struct pb b = {0}, any = {0};
	char message[32];
	uint64_t retry;

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct tw_slice s = tw_slice_str(garbage[i]);

		assert_int_equal(tw_reply_parse_export(s, false, &r), TW_EINVAL);
		assert_int_equal(tw_reply_parse_export(s, true, &r), TW_EINVAL);
		assert_int_equal(r.rejected, 0);
		assert_int_equal(tw_reply_parse_status(s, message, sizeof(message), &retry),
		                 TW_EINVAL);
	}
	/* four MiB of empty details: refused, not given forty times the memory */
	for (int i = 0; i < 2000000; i++)
		pb_raw(&b, "\x1a\x00", 2);
	assert_int_equal(
	    tw_reply_parse_status(tw_slice(b.p, b.n), message, sizeof(message), &retry), TW_EINVAL);
	assert_true(retry == UINT64_MAX);
	/* delays: 2^63 − 1 s is capped, negative is none */
	for (int i = 0; i < 2; i++) {
		pb_clear(&b);
		pb_clear(&any);
		pb_begin(&any, 1);
		pb_varint(&any, 1, i ? (uint64_t)-5 : INT64_MAX);
		pb_end(&any);
		pb_str(&b, 2, "line\nlevel=error msg=forged");
		pb_begin(&b, 3);
		pb_str(&b, 1, "type.googleapis.com/google.rpc.RetryInfo");
		pb_bytes(&b, 2, any.p, any.n);
		pb_end(&b);
		assert_int_equal(
		    tw_reply_parse_status(tw_slice(b.p, b.n), message, sizeof(message), &retry), 0);
		assert_true(i ? retry == UINT64_MAX : retry < UINT64_MAX && retry > 1000);
		assert_null(strchr(message, '\n'));
	}
	/* a message of 3 MiB is cut */
	pb_clear(&b);
	pb_begin(&b, 1);
	pb_varint(&b, 1, 9);
	pb_begin(&b, 2);
	for (int i = 0; i < 3000000; i++)
		pb_byte(&b, 'x');
	pb_end(&b);
	pb_end(&b);
	assert_int_equal(tw_reply_parse_export(tw_slice(b.p, b.n), false, &r), 0);
	assert_int_equal(r.rejected, 9);
	assert_int_equal(strlen(r.message), sizeof(r.message) - 1);
	/* a negative count is none */
	pb_clear(&b);
	pb_begin(&b, 1);
	pb_varint(&b, 1, (uint64_t)-1);
	pb_end(&b);
	assert_int_equal(tw_reply_parse_export(tw_slice(b.p, b.n), false, &r), 0);
	assert_int_equal(r.rejected, 0);
	pb_free(&b);
	pb_free(&any);
}

static void refused_memory(void **state)
{
	struct tw_export_result r;
	char message[32];
	uint64_t retry;
	struct tw_buf b;
	int e = -1;

	(void)state;
	tw_buf_init(&b, 0);
	tw_mem_fail_at(1, true);
	assert_int_equal(tw_reply_status(&b, false, 14, "overloaded", 5000), TW_ENOMEM);
	tw_mem_fail_at(0, false);
	tw_buf_deinit(&b);
	tw_buf_init(&b, 0);
	assert_int_equal(tw_reply_status(&b, false, 14, "overloaded", 5000), 0);
	for (uint64_t n = 1; e; n++) {
		assert_true(n < 50);
		tw_mem_fail_at(n, true);
		e = tw_reply_parse_status(tw_buf_slice(&b), message, sizeof(message), &retry);
		tw_mem_fail_at(0, false);
		/* the inner RetryInfo may be lost to memory: then there is no delay */
		if (!e && retry == UINT64_MAX)
			e = -1;
	}
	tw_mem_fail_at(1, true);
	assert_int_equal(tw_reply_parse_export(tw_slice("\x0a\x02\x08\x01", 4), false, &r),
	                 TW_EINVAL);
	tw_mem_fail_at(0, false);
	tw_buf_deinit(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(golden_status),  cmocka_unit_test(golden_export_response),
	    cmocka_unit_test(health),         cmocka_unit_test(hostile_answers),
	    cmocka_unit_test(refused_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
