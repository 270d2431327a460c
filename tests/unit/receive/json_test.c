/* JSON bodies: transcoded within the limit and the budget, and given back whatever happens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "double.h"
#include "reply.h"
#include "tw/base/mem.h"

#define HEAD "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":["
#define TAIL "]}]}]}"

/* A request of `count` spans whose names are name_n long. */
static struct tw_buf request(uint32_t count, uint32_t name_n)
{
	struct tw_buf b;

	tw_buf_init(&b, 0);
	tw_buf_puts(&b, HEAD);
	for (uint32_t i = 0; i < count; i++) {
		tw_buf_printf(&b,
		              "%s{\"traceId\":\"0102030405060708090a0b0c0d0e0f10\",\"spanId\":"
		              "\"%016x\",\"name\":\"",
		              i != 0 ? "," : "", i + 1);
		for (uint32_t k = 0; k < name_n; k++)
			tw_buf_putc(&b, 'n');
		tw_buf_puts(&b, "\"}");
	}
	tw_buf_puts(&b, TAIL);
	assert_false(b.failed);
	return b;
}

static struct call call_of(const struct tw_buf *json)
{
	return (struct call){
	    .path = "/v1/traces", .type = JSON, .body = json->p, .body_n = json->n};
}

static void the_sink_gets_protobuf(void **state)
{
	struct tw_buf json = request(3, 10), want;
	struct call c = call_of(&json);
	struct bench b;

	(void)state;
	tw_buf_init(&want, 0);
	assert_int_equal(tw_otlp_json_decode(tw_buf_slice(&json), &want, NULL), 0);
	bench_init(&b);
	bench_call(&b, &c);
	assert_int_equal(b.answer.status, 200);
	assert_int_equal(b.sink.body.n, want.n);
	assert_memory_equal(b.sink.body.p, want.p, want.n);
	/* The text is gone; what is left in the budget is the protobuf, until the sink lets go. */
	assert_true(b.sink.body.budget == &b.bodies);
	assert_int_equal(tw_budget_used(&b.bodies), b.sink.body.cap);
	bench_release(&b);
	assert_int_equal(tw_budget_used(&b.bodies), 0);
	tw_buf_deinit(&want);
	tw_buf_deinit(&json);
	bench_deinit(&b);
}

static void an_empty_request(void **state)
{
	struct call c = {.path = "/v1/traces", .type = JSON, .body = "{}", .body_n = 2};
	struct bench b;

	(void)state;
	bench_init(&b);
	b.scans = true;
	bench_call(&b, &c);
	assert_int_equal(b.sink.count, 1);
	assert_int_equal(b.sink.body.n, 0);
	assert_int_equal(b.answer.status, 200);
	bench_deinit(&b);
}

static void malformed_json_names_the_place(void **state)
{
	static const char *const bodies[] = {
	    "",    "[]", "{", "{\"resourceSpans\":1}", "{\"resourceSpans\":[{\"scopeSpans\":[7]}]}",
	    "{} x"};
	struct bench b;

	(void)state;
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		struct call c = {.path = "/v1/traces",
		                 .type = JSON,
		                 .body = bodies[i],
		                 .body_n = strlen(bodies[i])};

		bench_init(&b);
		bench_call(&b, &c);
		assert_int_equal(b.answer.count, 1);
		assert_int_equal(b.answer.status, 400);
		assert_string_equal(b.answer.type, JSON);
		b.answer.body[b.answer.body_n] = '\0';
		assert_memory_equal(b.answer.body, "{\"code\":3,\"message\":\"", 21);
		assert_non_null(strstr((char *)b.answer.body, "offset"));
		assert_int_equal(b.sink.count, 0);
		assert_counted(&b, TW_RECEIVE_MALFORMED);
		bench_deinit(&b);
	}
}

/* The limit holds for what comes out, too. */
static void transcoded_past_the_limit(void **state)
{
	struct tw_buf json = request(50, 100);
	struct call c = call_of(&json);
	struct bench b;

	(void)state;
	bench_init(&b);
	b.rx.body_bytes_max = 1000;
	bench_call(&b, &c);
	assert_int_equal(b.answer.status, 413);
	assert_int_equal(b.answer.retry_after_s, 0);
	assert_int_equal(b.sink.count, 0);
	assert_counted(&b, TW_RECEIVE_TOO_LARGE);
	tw_buf_deinit(&json);
	bench_deinit(&b);
}

/* Others' bodies fill the budget while this one is transcoded. */
static void budget_exhausted(void **state)
{
	struct tw_buf json = request(20, 500);
	struct call c = call_of(&json);
	struct tw_budget full;
	struct bench b;

	(void)state;
	tw_budget_init(&full, 20000);
	bench_init(&b);
	b.rx.bodies = &full; /* the text's budget is another one: only the transcoding meets it */
	assert_true(tw_budget_reserve(&full, 15000));
	bench_call(&b, &c);
	assert_int_equal(b.answer.status, 503);
	assert_int_equal(b.answer.retry_after_s, 1);
	assert_body_text(&b, "{\"code\":14,\"message\":\"too many request bytes in flight\","
	                     "\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\","
	                     "\"retryDelay\":\"1s\"}]}");
	assert_int_equal(b.sink.count, 0);
	assert_counted(&b, TW_RECEIVE_REFUSED);
	/* Neither the text nor the try has left anything behind. */
	assert_int_equal(tw_budget_used(&full), 15000);
	assert_int_equal(tw_budget_used(&b.bodies), 0);

	tw_budget_release(&full, 15000);
	bench_call(&b, &c); /* the sender tries again */
	assert_int_equal(b.answer.status, 200);
	assert_int_equal(tw_budget_used(&full), b.sink.body.cap);
	bench_release(&b);
	assert_int_equal(tw_budget_used(&full), 0);
	tw_buf_deinit(&json);
	bench_deinit(&b);
}

/* The text has left the budget before its protobuf enters it. */
static void text_and_protobuf_share_the_budget(void **state)
{
	struct tw_buf json = request(20, 500);
	struct call c = call_of(&json);
	struct bench b;

	(void)state;
	bench_init(&b);
	tw_budget_init(&b.bodies, 20480);
	bench_call(&b, &c);
	assert_int_equal(b.answer.status, 200);
	tw_buf_deinit(&json);
	bench_deinit(&b);
}

/* Whichever allocation fails: one answer, a retryable one if the request could not be taken, and
 * nothing kept. */
static void every_allocation_fails_once(void **state)
{
	struct tw_buf json = request(5, 300);
	struct call c = call_of(&json);
	uint64_t taken = 0, refused = 0;
	bool injected = true;

	(void)state;
	for (uint64_t n = 3; injected; n++) { /* 1 and 2 are net's: the exchange and the text */
		struct bench b;

		bench_init(&b);
		tw_mem_fail_at(n, false);
		bench_call(&b, &c);
		injected = tw_mem_fail_at(0, false) >= n;
		assert_int_equal(b.answer.count, 1);
		assert_int_equal(bench_requests(&b), 1);
		if (b.sink.count != 0) {
			assert_int_equal(b.answer.status, 200);
			taken++;
		} else {
			assert_int_equal(b.answer.status, 503);
			assert_int_equal(b.answer.retry_after_s, 1);
			assert_counted(&b, TW_RECEIVE_REFUSED);
			refused++;
		}
		bench_deinit(&b);
	}
	assert_true(taken >= 2 && refused >= 1);
	tw_buf_deinit(&json);
}

/* Without memory for an answer's body its status still says it. */
static void refusals_without_memory(void **state)
{
	struct call json = {.path = "/nowhere", .type = JSON, .body = "", .body_n = 0};
	struct call grpc = {.path = TRACES_GRPC, .type = GRPC, .body = "", .body_n = 0};
	struct bench b;

	(void)state;
	bench_init(&b);
	tw_mem_fail_at(2, true); /* the exchange is net's */
	bench_call(&b, &json);
	tw_mem_fail_at(0, false);
	assert_true(b.answer.by_head);
	assert_int_equal(b.answer.status, 404);
	assert_int_equal(b.answer.body_n, 0);

	b.result = (struct tw_sink_result){
	    .outcome = TW_SINK_REFUSED, .message = "full", .retry_ms = 1000};
	tw_mem_fail_at(2, true);
	bench_call(&b, &grpc);
	tw_mem_fail_at(0, false);
	assert_int_equal(b.answer.grpc, TW_GRPC_UNAVAILABLE);
	assert_string_equal(b.answer.message, "full");
	assert_int_equal(b.answer.details_n, 0);

	grpc.path = HEALTH_GRPC;
	tw_mem_fail_at(2, true);
	bench_call(&b, &grpc);
	tw_mem_fail_at(0, false);
	assert_int_not_equal(b.answer.grpc, 0);
	bench_deinit(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_sink_gets_protobuf),
	    cmocka_unit_test(an_empty_request),
	    cmocka_unit_test(malformed_json_names_the_place),
	    cmocka_unit_test(transcoded_past_the_limit),
	    cmocka_unit_test(budget_exhausted),
	    cmocka_unit_test(text_and_protobuf_share_the_budget),
	    cmocka_unit_test(every_allocation_fails_once),
	    cmocka_unit_test(refusals_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
