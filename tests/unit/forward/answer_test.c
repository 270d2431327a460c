/* Every answer that a backend can give, and what becomes of the batch: OTLP 1.11, "Response
 * classes". */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "answer.h"
#include "tw/base/error.h"

static char text[320];

static struct tw_send_result answer_grpc(int code, uint64_t retry_ms, bool details)
{
	struct tw_client_response r = {
	    .status = 200, .grpc_status = code, .retry_after_ms = UINT64_MAX};
	struct tw_send_result out;
	struct tw_buf b;

	tw_buf_init(&b, 0);
	strcpy(r.grpc_message, "so it is");
	if (details) {
		assert_int_equal(tw_reply_status(&b, false, code, "details", retry_ms), 0);
		r.details = tw_buf_slice(&b);
	}
	tw_answer_read(TW_CLIENT_GRPC, &r, &out, text, sizeof(text));
	tw_buf_deinit(&b);
	return out;
}

static struct tw_send_result answer_http(int status, uint64_t retry_after_ms, struct tw_slice body)
{
	struct tw_client_response r = {
	    .status = status, .grpc_status = -1, .retry_after_ms = retry_after_ms, .body = body};
	struct tw_send_result out;

	tw_answer_read(TW_CLIENT_HTTP, &r, &out, text, sizeof(text));
	return out;
}

static bool grpc_retryable(int code)
{
	return code == 1 || code == 4 || code == 10 || code == 11 || code == 14 || code == 15;
}

static void BK_06_grpc_codes(void **state)
{
	(void)state;
	for (int code = -1; code < 20; code++) {
		struct tw_send_result r;

		if (code == 0)
			continue;
		r = answer_grpc(code, 0, false);
		assert_int_equal(r.outcome,
		                 grpc_retryable(code) ? TW_SEND_RETRY : TW_SEND_PERMANENT);
		assert_true(r.retry_after_ms == UINT64_MAX);
		assert_non_null(strstr(r.text, "so it is"));
		/* A Status without RetryInfo changes nothing. */
		r = answer_grpc(code, 0, true);
		assert_int_equal(r.outcome,
		                 grpc_retryable(code) ? TW_SEND_RETRY : TW_SEND_PERMANENT);
		r = answer_grpc(code, 2500, true);
		assert_int_equal(r.outcome, grpc_retryable(code) || code == 8 ? TW_SEND_RETRY
		                                                              : TW_SEND_PERMANENT);
		assert_int_equal(r.retry_after_ms, 2500);
	}
}

static void BK_06_golden_retry_info(void **state)
{
	static const uint8_t status[] =
	    "\x08\x0e\x12\x0aoverloaded\x1a\x30\x0a\x28type.googleapis.com/google.rpc.RetryInfo"
	    "\x12\x04\x0a\x02\x08\x05";
	struct tw_client_response r = {
	    .status = 200, .grpc_status = 14, .retry_after_ms = UINT64_MAX};
	struct tw_send_result out;

	(void)state;
	r.details = tw_slice(status, sizeof(status) - 1);
	tw_answer_read(TW_CLIENT_GRPC, &r, &out, text, sizeof(text));
	assert_int_equal(out.outcome, TW_SEND_RETRY);
	assert_int_equal(out.retry_after_ms, 5000);
	assert_string_equal(out.text, "UNAVAILABLE: overloaded");
	/* Details that are cut anywhere are no reason to do anything else than the code says. */
	for (size_t n = 0; n < sizeof(status) - 1; n++) {
		r.details.n = n;
		tw_answer_read(TW_CLIENT_GRPC, &r, &out, text, sizeof(text));
		assert_int_equal(out.outcome, TW_SEND_RETRY);
	}
}

static void BK_04_BK_05_http_statuses(void **state)
{
	(void)state;
	for (int status = 100; status < 600; status++) {
		struct tw_send_result r = answer_http(status, 7000, tw_slice(NULL, 0));

		if (status >= 200 && status < 300) {
			assert_int_equal(r.outcome, TW_SENT);
		} else if (status == 429 || status == 502 || status == 503 || status == 504) {
			assert_int_equal(r.outcome, TW_SEND_RETRY);
			assert_int_equal(r.retry_after_ms, 7000);
		} else {
			assert_int_equal(r.outcome, TW_SEND_PERMANENT);
		}
	}
}

static void BK_05_the_message_is_told(void **state)
{
	struct tw_buf b;

	(void)state;
	tw_buf_init(&b, 0);
	assert_int_equal(tw_reply_status(&b, false, 3, "no such tenant", 0), 0);
	assert_int_equal(answer_http(400, UINT64_MAX, tw_buf_slice(&b)).outcome, TW_SEND_PERMANENT);
	assert_string_equal(text, "HTTP status 400: no such tenant");
	tw_buf_deinit(&b);
	assert_int_equal(
	    answer_http(404, UINT64_MAX, tw_slice_str("<html>not here</html>")).outcome,
	    TW_SEND_PERMANENT);
	assert_string_equal(text, "HTTP status 404");
}

static void BK_07_partial_success(void **state)
{
	struct tw_send_result r;
	struct tw_buf b;

	(void)state;
	r = answer_http(200, UINT64_MAX,
	                tw_slice("\x0a\x0c\x08\x03\x12\x08"
	                         "bad span",
	                         14));
	assert_int_equal(r.outcome, TW_SENT);
	assert_int_equal(r.rejected, 3);
	assert_string_equal(r.text, "bad span");
	assert_false(r.unreadable);
	/* A message alone is a warning. */
	tw_buf_init(&b, 0);
	assert_int_equal(tw_reply_export(&b, false, 0, "use another port"), 0);
	r = answer_http(200, UINT64_MAX, tw_buf_slice(&b));
	assert_int_equal(r.outcome, TW_SENT);
	assert_int_equal(r.rejected, 0);
	assert_string_equal(r.text, "use another port");
	tw_buf_clear(&b);
	/* As JSON, although we sent protobuf. */
	assert_int_equal(tw_reply_export(&b, true, 9, "some"), 0);
	r = answer_http(200, UINT64_MAX, tw_buf_slice(&b));
	assert_int_equal(r.rejected, 9);
	assert_false(r.unreadable);
	tw_buf_deinit(&b);
	/* Over gRPC the same. */
	{
		struct tw_client_response c = {
		    .status = 200,
		    .body = tw_slice("\x0a\x0c\x08\x03\x12\x08"
		                     "bad span",
		                     14),
		    .retry_after_ms = UINT64_MAX,
		};

		tw_answer_read(TW_CLIENT_GRPC, &c, &r, text, sizeof(text));
		assert_int_equal(r.outcome, TW_SENT);
		assert_int_equal(r.rejected, 3);
	}
}

static void BK_08_success_with_garbage(void **state)
{
	static const char *const garbage[] = {"<html>welcome</html>", "\x0a\x7f",
	                                      "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "{"};
	struct tw_send_result r;

	(void)state;
	for (size_t i = 0; i < sizeof(garbage) / sizeof(*garbage); i++) {
		struct tw_client_response c = {
		    .status = 200, .body = tw_slice_str(garbage[i]), .retry_after_ms = UINT64_MAX};

		r = answer_http(200, UINT64_MAX, tw_slice_str(garbage[i]));
		assert_int_equal(r.outcome, TW_SENT);
		assert_true(r.unreadable);
		assert_int_equal(r.rejected, 0);
		assert_true(r.text[0]);
		tw_answer_read(TW_CLIENT_GRPC, &c, &r, text, sizeof(text));
		assert_int_equal(r.outcome, TW_SENT);
		assert_true(r.unreadable);
	}
	r = answer_http(200, UINT64_MAX, tw_slice(NULL, 0));
	assert_int_equal(r.outcome, TW_SENT);
	assert_false(r.unreadable);
	assert_int_equal(r.text[0], 0);
}

static void BK_09_oversized_answer(void **state)
{
	struct tw_client_response c = {.error = TW_ELIMIT,
	                               .sent = true,
	                               .text = "the answer is larger than 4 MiB",
	                               .grpc_status = -1};
	struct tw_send_result r;

	(void)state;
	tw_answer_read(TW_CLIENT_HTTP, &c, &r, text, sizeof(text));
	assert_int_equal(r.outcome, TW_SEND_PERMANENT);
	assert_string_equal(r.text, "the answer is larger than 4 MiB");
}

static void BK_01_BK_02_BK_10_BK_11_no_answer(void **state)
{
	static const int errors[] = {TW_EIO, TW_ENOMEM, TW_EINVAL};
	struct tw_send_result r;

	(void)state;
	for (int kind = 0; kind < 2; kind++) {
		for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
			for (int sent = 0; sent < 2; sent++) {
				struct tw_client_response c = {.error = errors[i],
				                               .sent = sent,
				                               .timeout = i,
				                               .grpc_status = -1};

				tw_answer_read((enum tw_client_kind)kind, &c, &r, text,
				               sizeof(text));
				assert_int_equal(r.outcome, TW_SEND_RETRY);
				assert_true(r.text[0]);
			}
		}
		{
			struct tw_client_response c = {.error = TW_ECLOSED, .grpc_status = -1};

			tw_answer_read((enum tw_client_kind)kind, &c, &r, text, sizeof(text));
			assert_int_equal(r.outcome, TW_SEND_STOPPED);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(BK_01_BK_02_BK_10_BK_11_no_answer),
	    cmocka_unit_test(BK_04_BK_05_http_statuses),
	    cmocka_unit_test(BK_05_the_message_is_told),
	    cmocka_unit_test(BK_06_grpc_codes),
	    cmocka_unit_test(BK_06_golden_retry_info),
	    cmocka_unit_test(BK_07_partial_success),
	    cmocka_unit_test(BK_08_success_with_garbage),
	    cmocka_unit_test(BK_09_oversized_answer),
	};
	return cmocka_run_group_tests_name("forward_answer", tests, NULL, NULL);
}
