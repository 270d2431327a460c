/* Every row of the receivers' table: what came, what is answered, what is counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "double.h"
#include "pb_build.h"
#include "reply.h"
#include "tw/base/log.h"

#define LOGS_GRPC "/opentelemetry.proto.collector.logs.v1.LogsService/Export"

static const uint8_t some_body[] = {0x0A, 0x00}; /* one empty ResourceSpans */

static const struct call grpc_call = {
    .path = TRACES_GRPC, .type = GRPC, .body = some_body, .body_n = sizeof(some_body)};
static const struct call http_call = {
    .path = "/v1/traces", .type = PROTOBUF, .body = some_body, .body_n = sizeof(some_body)};
static const struct call json_call = {
    .path = "/v1/traces", .type = JSON, .body = "{}", .body_n = 2};

/* One call on a fresh bench, so that the counters are the call's. */
static void call_fresh(struct bench *b, const struct call *c, const struct tw_sink_result *r)
{
	bench_init(b);
	if (r != NULL)
		b->result = *r;
	bench_call(b, c);
	assert_int_equal(b->answer.count, 1);
}

static void call_early(struct bench *b, const struct call *c, int early, const char *text)
{
	struct call e = *c;

	e.early = early;
	e.early_text = text;
	call_fresh(b, &e, NULL);
	assert_int_equal(b->sink.count, 0);
}

/* The answer to a gRPC call: code and message; retry_ms UINT64_MAX: no details. */
static void assert_grpc(const struct bench *b, int code, const char *text, uint64_t retry_ms)
{
	const struct answer *a = &b->answer;

	assert_int_equal(a->grpc, code);
	assert_int_equal(a->status, 0);
	assert_string_equal(a->message, text);
	assert_int_equal(a->body_n, 0);
	assert_int_equal(a->retry_after_s, 0);
	if (retry_ms == UINT64_MAX)
		assert_int_equal(a->details_n, 0);
	else
		assert_status(a->details, a->details_n, code, text, retry_ms);
}

/* The answer to a protobuf call over HTTP. */
static void assert_http(const struct bench *b, int status, int code, const char *text,
                        uint64_t retry_ms)
{
	const struct answer *a = &b->answer;

	assert_int_equal(a->status, status);
	assert_string_equal(a->type, PROTOBUF);
	assert_int_equal(a->details_n, 0);
	assert_status(a->body, a->body_n, code, text, retry_ms);
	if (retry_ms == UINT64_MAX)
		assert_int_equal(a->retry_after_s, 0);
}

static void assert_json(const struct bench *b, int status, const char *text)
{
	assert_int_equal(b->answer.status, status);
	assert_string_equal(b->answer.type, JSON);
	assert_int_equal(b->answer.details_n, 0);
	assert_body_text(b, text);
}

/* ---- success ---- */

static void all_spans_admitted(void **state)
{
	const struct call *calls[] = {&grpc_call, &http_call, &json_call};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct bench b;

		call_fresh(&b, calls[i], NULL);
		assert_int_equal(b.sink.count, 1);
		assert_counted(&b, TW_RECEIVE_OK);
		assert_int_equal(b.answer.grpc, 0);
		assert_int_equal(b.answer.status, i == 0 ? 0 : 200);
		assert_string_equal(b.answer.type, i == 0 ? "" : calls[i]->type);
		assert_int_equal(b.answer.retry_after_s, 0);
		assert_body_text(&b, i == 2 ? "{}" : "");
		bench_deinit(&b);
	}
}

static void protobuf_reaches_the_sink_as_it_came(void **state)
{
	struct bench b;

	(void)state;
	call_fresh(&b, &http_call, NULL);
	assert_int_equal(b.sink.body.n, sizeof(some_body));
	assert_memory_equal(b.sink.body.p, some_body, sizeof(some_body));
	assert_true(tw_budget_used(&b.bodies) > 0); /* until the sink is done with it */
	bench_deinit(&b);
}

static void partial_success(void **state)
{
	const struct tw_sink_result r = {
	    .outcome = TW_SINK_OK, .rejected = 3, .message = "3 spans without a name"};
	struct tw_export_result got;
	struct bench b;

	(void)state;
	call_fresh(&b, &grpc_call, &r);
	assert_int_equal(b.answer.grpc, 0);
	assert_counted(&b, TW_RECEIVE_PARTIAL);
	assert_int_equal(
	    tw_reply_parse_export(tw_slice(b.answer.body, b.answer.body_n), false, &got), 0);
	assert_int_equal(got.rejected, 3);
	assert_string_equal(got.message, r.message);
	bench_deinit(&b);

	call_fresh(&b, &http_call, &r);
	assert_int_equal(b.answer.status, 200);
	assert_string_equal(b.answer.type, PROTOBUF);
	assert_counted(&b, TW_RECEIVE_PARTIAL);
	assert_int_equal(
	    tw_reply_parse_export(tw_slice(b.answer.body, b.answer.body_n), false, &got), 0);
	assert_int_equal(got.rejected, 3);
	assert_string_equal(got.message, r.message);
	bench_deinit(&b);

	call_fresh(&b, &json_call, &r);
	assert_json(&b, 200,
	            "{\"partialSuccess\":{\"rejectedSpans\":\"3\",\"errorMessage\":"
	            "\"3 spans without a name\"}}");
	assert_counted(&b, TW_RECEIVE_PARTIAL);
	bench_deinit(&b);
}

/* A warning: nothing was rejected, so the request counts as accepted. */
static void message_without_rejected_spans(void **state)
{
	const struct tw_sink_result r = {.outcome = TW_SINK_OK, .message = "old semantics"};
	struct tw_export_result got;
	struct bench b;

	(void)state;
	call_fresh(&b, &grpc_call, &r);
	assert_counted(&b, TW_RECEIVE_OK);
	assert_int_equal(
	    tw_reply_parse_export(tw_slice(b.answer.body, b.answer.body_n), false, &got), 0);
	assert_int_equal(got.rejected, 0);
	assert_string_equal(got.message, "old semantics");
	bench_deinit(&b);
}

/* The owner of the spans answers in a later turn. */
static void late_answer(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b);
	b.later = true;
	bench_call(&b, &http_call);
	assert_int_equal(b.sink.count, 1);
	assert_int_equal(b.answer.count, 0);
	assert_int_equal(bench_requests(&b), 0);
	bench_answer(&b);
	assert_int_equal(b.answer.count, 1);
	assert_int_equal(b.answer.status, 200);
	assert_counted(&b, TW_RECEIVE_OK);
	bench_deinit(&b);
}

/* ---- failures ---- */

#define NONE UINT64_MAX

static void malformed_body(void **state)
{
	const struct tw_sink_result r = {.outcome = TW_SINK_MALFORMED, .message = "a tag of 0"};
	struct bench b;

	(void)state;
	call_fresh(&b, &grpc_call, &r);
	assert_grpc(&b, TW_GRPC_INVALID_ARGUMENT, "a tag of 0", NONE);
	assert_counted(&b, TW_RECEIVE_MALFORMED);
	bench_deinit(&b);
	call_fresh(&b, &http_call, &r);
	assert_http(&b, 400, TW_GRPC_INVALID_ARGUMENT, "a tag of 0", NONE);
	assert_counted(&b, TW_RECEIVE_MALFORMED);
	bench_deinit(&b);
	call_fresh(&b, &json_call, &r);
	assert_json(&b, 400, "{\"code\":3,\"message\":\"a tag of 0\"}");
	bench_deinit(&b);

	call_early(&b, &grpc_call, TW_EINVAL, "not gzip");
	assert_grpc(&b, TW_GRPC_INVALID_ARGUMENT, "not gzip", NONE);
	assert_counted(&b, TW_RECEIVE_MALFORMED);
	bench_deinit(&b);
	call_early(&b, &http_call, TW_EINVAL, "not gzip");
	assert_http(&b, 400, TW_GRPC_INVALID_ARGUMENT, "not gzip", NONE);
	assert_counted(&b, TW_RECEIVE_MALFORMED);
	bench_deinit(&b);
}

/* Never with retry information: the same body would be too large again. */
static void body_too_large(void **state)
{
	const struct tw_sink_result r = {
	    .outcome = TW_SINK_TOO_LARGE, .message = "1000001 spans", .retry_ms = 5000};
	struct bench b;

	(void)state;
	call_fresh(&b, &grpc_call, &r);
	assert_grpc(&b, TW_GRPC_RESOURCE_EXHAUSTED, "1000001 spans", NONE);
	assert_counted(&b, TW_RECEIVE_TOO_LARGE);
	bench_deinit(&b);
	call_fresh(&b, &http_call, &r);
	assert_http(&b, 413, TW_GRPC_RESOURCE_EXHAUSTED, "1000001 spans", NONE);
	assert_counted(&b, TW_RECEIVE_TOO_LARGE);
	bench_deinit(&b);

	call_early(&b, &grpc_call, TW_ELIMIT, "over 64 MiB");
	assert_grpc(&b, TW_GRPC_RESOURCE_EXHAUSTED, "over 64 MiB", NONE);
	assert_counted(&b, TW_RECEIVE_TOO_LARGE);
	bench_deinit(&b);
	call_early(&b, &json_call, TW_ELIMIT, "over 64 MiB");
	assert_json(&b, 413, "{\"code\":8,\"message\":\"over 64 MiB\"}");
	bench_deinit(&b);
}

static void refused_by_the_sink(void **state)
{
	static const struct {
		uint64_t retry_ms;
		uint32_t seconds; /* Retry-After has whole ones: never earlier than asked */
	} rows[] = {{1, 1}, {999, 1}, {1000, 1}, {1001, 2}, {2500, 3}, {30000, 30}};
	struct bench b;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct tw_sink_result r = {.outcome = TW_SINK_REFUSED,
		                                 .message = "the buffer is full",
		                                 .retry_ms = rows[i].retry_ms};

		call_fresh(&b, &grpc_call, &r);
		assert_grpc(&b, TW_GRPC_UNAVAILABLE, r.message, r.retry_ms);
		assert_counted(&b, TW_RECEIVE_REFUSED);
		bench_deinit(&b);
		call_fresh(&b, &http_call, &r);
		assert_http(&b, 503, TW_GRPC_UNAVAILABLE, r.message, r.retry_ms);
		assert_int_equal(b.answer.retry_after_s, rows[i].seconds);
		assert_counted(&b, TW_RECEIVE_REFUSED);
		bench_deinit(&b);
	}
}

static void refused_in_json(void **state)
{
	const struct tw_sink_result r = {
	    .outcome = TW_SINK_REFUSED, .message = "draining", .retry_ms = 2000};
	struct bench b;

	(void)state;
	call_fresh(&b, &json_call, &r);
	assert_json(&b, 503,
	            "{\"code\":14,\"message\":\"draining\",\"details\":[{\"@type\":"
	            "\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"2s\"}]}");
	assert_int_equal(b.answer.retry_after_s, 2);
	bench_deinit(&b);
}

static void refused_before_the_body(void **state)
{
	const int codes[] = {TW_EFULL, TW_ENOMEM};
	struct bench b;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		call_early(&b, &grpc_call, codes[i], "too many bytes");
		assert_grpc(&b, TW_GRPC_UNAVAILABLE, "too many bytes", 1000);
		assert_counted(&b, TW_RECEIVE_REFUSED);
		bench_deinit(&b);
		call_early(&b, &http_call, codes[i], "too many bytes");
		assert_http(&b, 503, TW_GRPC_UNAVAILABLE, "too many bytes", 1000);
		assert_int_equal(b.answer.retry_after_s, 1);
		assert_counted(&b, TW_RECEIVE_REFUSED);
		bench_deinit(&b);
	}
}

/* The peer has gone, or net has said all: counted, and nothing more. */
static void broken_off(void **state)
{
	struct call c = grpc_call;
	struct bench b;

	(void)state;
	c.early = TW_ECLOSED;
	c.early_text = "reset";
	bench_init(&b);
	bench_call(&b, &c);
	assert_int_equal(b.answer.count, 0);
	assert_int_equal(b.sink.count, 0);
	assert_counted(&b, TW_RECEIVE_ABORTED);
	bench_deinit(&b);
}

static void deadline_passed(void **state)
{
	struct call c = grpc_call;
	struct bench b;

	(void)state;
	for (int late = 0; late < 2; late++) {
		c.deadline_ns = 1000 * TW_NS_PER_S - (uint64_t)late;
		call_fresh(&b, &c, NULL);
		assert_grpc(&b, TW_GRPC_DEADLINE_EXCEEDED,
		            "the deadline passed before the request was whole", NONE);
		assert_int_equal(b.sink.count, 0);
		assert_counted(&b, TW_RECEIVE_DEADLINE);
		bench_deinit(&b);
	}
	c.deadline_ns = 1000 * TW_NS_PER_S + 1;
	call_fresh(&b, &c, NULL);
	assert_int_equal(b.answer.grpc, 0);
	assert_counted(&b, TW_RECEIVE_OK);
	bench_deinit(&b);
}

/* ---- refused by the head ---- */

static void call_head(struct bench *b, const struct call *c)
{
	call_fresh(b, c, NULL);
	assert_true(b->answer.by_head);
	assert_int_equal(b->sink.count, 0);
	assert_counted(b, TW_RECEIVE_UNSUPPORTED);
}

static void IN_20_unknown_media_types(void **state)
{
	static const char *const types[] = {"",
	                                    "text/plain",
	                                    "application/protobuf",
	                                    "application/x-protobuf2",
	                                    "application/jsonx",
	                                    "application/x-www-form-urlencoded"};
	struct call c = http_call;
	struct bench b;

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		c.type = types[i];
		call_head(&b, &c);
		assert_http(&b, 415, TW_GRPC_INVALID_ARGUMENT,
		            "content-type must be application/x-protobuf or application/json",
		            NONE);
		bench_deinit(&b);
	}
}

static void IN_20_unknown_encoding(void **state)
{
	struct bench b;

	(void)state;
	call_early(&b, &grpc_call, TW_EUNSUP, "snappy is not known");
	assert_grpc(&b, TW_GRPC_UNIMPLEMENTED, "snappy is not known", NONE);
	assert_counted(&b, TW_RECEIVE_UNSUPPORTED);
	bench_deinit(&b);
	call_early(&b, &http_call, TW_EUNSUP, "snappy is not known");
	assert_http(&b, 415, TW_GRPC_UNIMPLEMENTED, "snappy is not known", NONE);
	assert_counted(&b, TW_RECEIVE_UNSUPPORTED);
	bench_deinit(&b);
	call_early(&b, &json_call, TW_EUNSUP, "snappy is not known");
	assert_json(&b, 415, "{\"code\":12,\"message\":\"snappy is not known\"}");
	bench_deinit(&b);
}

/* Bodies that are not what their type says. */
static void IN_20_body_of_another_type(void **state)
{
	static const char json[] =
	    "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"traceId\":"
	    "\"0102030405060708090a0b0c0d0e0f10\",\"spanId\":\"0102030405060708\","
	    "\"name\":\"a\"}]}]}]}";
	static const char *const types[] = {PROTOBUF, JSON, GRPC};
	struct tw_buf protobuf;
	struct bench b;

	(void)state;
	tw_buf_init(&protobuf, 0);
	assert_int_equal(tw_otlp_json_decode(tw_slice_str(json), &protobuf, NULL), 0);
	for (size_t i = 0; i < 3; i++)
		for (int is_json = 0; is_json < 2; is_json++) {
			bool fits = (strcmp(types[i], JSON) == 0) == is_json;
			struct call c = {.path = i == 2 ? TRACES_GRPC : "/v1/traces",
			                 .type = types[i],
			                 .body = is_json ? (const void *)json : protobuf.p,
			                 .body_n = is_json ? sizeof(json) - 1 : protobuf.n};

			bench_init(&b);
			b.scans = true;
			bench_call(&b, &c);
			assert_int_equal(b.answer.count, 1);
			assert_counted(&b, fits ? TW_RECEIVE_OK : TW_RECEIVE_MALFORMED);
			assert_int_equal(b.answer.status, i == 2 ? 0 : fits ? 200 : 400);
			assert_int_equal(b.answer.grpc,
			                 i == 2 && !fits ? TW_GRPC_INVALID_ARGUMENT : 0);
			bench_deinit(&b);
		}
	tw_buf_deinit(&protobuf);
}

static void other_signals(void **state)
{
	static const char *const http[] = {"/v1/metrics", "/v1/logs", "/v1development/profiles",
	                                   LOGS_GRPC};
	static const char *const grpc[] = {
	    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", LOGS_GRPC,
	    "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export"};
	struct call c = http_call;
	struct bench b;

	(void)state;
	for (size_t i = 0; i < sizeof(http) / sizeof(http[0]); i++) {
		c.path = http[i];
		c.type = PROTOBUF;
		call_head(&b, &c);
		assert_http(&b, 404, TW_GRPC_UNIMPLEMENTED,
		            "traceweir takes traces only: POST /v1/traces", NONE);
		bench_deinit(&b);
		c.type = JSON;
		call_head(&b, &c);
		assert_json(&b, 404,
		            "{\"code\":12,\"message\":\"traceweir takes traces only: POST "
		            "/v1/traces\"}");
		bench_deinit(&b);
	}
	c.type = GRPC;
	for (size_t i = 0; i < sizeof(grpc) / sizeof(grpc[0]); i++) {
		c.path = grpc[i];
		call_head(&b, &c);
		assert_grpc(&b, TW_GRPC_UNIMPLEMENTED, "traceweir takes traces only", NONE);
		bench_deinit(&b);
	}
}

/* What the log says of heads on these paths. */
static size_t log_of(const struct call *calls, size_t n, char *text, size_t cap)
{
	int fds[2];
	ssize_t got;
	struct bench b;

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(tw_log_start(fds[1], TW_LOG_INFO), 0);
	for (size_t i = 0; i < n; i++) {
		call_head(&b, &calls[i]);
		bench_deinit(&b);
	}
	tw_log_stop();
	close(fds[1]);
	got = read(fds[0], text, cap - 1);
	assert_true(got >= 0);
	text[got] = '\0';
	close(fds[0]);
	return (size_t)got;
}

static void other_signals_are_logged(void **state)
{
	const struct call metrics = {.path = "/v1/metrics", .type = PROTOBUF};
	/* Traces, but wrongly addressed: not another signal. */
	const struct call traces[] = {
	    {.path = TRACES_GRPC, .type = ""},
	    {.path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export2", .type = GRPC},
	    {.path = "/v1/trace", .type = PROTOBUF},
	};
	char text[2048];

	(void)state;
	assert_true(log_of(&metrics, 1, text, sizeof(text)) > 0);
	assert_non_null(strstr(text, "a signal that is not traces was sent"));
	assert_non_null(strstr(text, "path=/v1/metrics"));
	assert_int_equal(log_of(traces, 3, text, sizeof(text)), 0);
}

static void unknown_paths(void **state)
{
	static const char *const http[] = {"/",          "/v1/traces/", "/v1/trace",
	                                   "/V1/traces", TRACES_GRPC,   HEALTH_GRPC};
	static const char *const grpc[] = {
	    "/", "/v1/traces", "/grpc.health.v1.Health/Watch", "/helloworld.Greeter/SayHello",
	    "/opentelemetry.proto.collector.trace.v1.TraceService/Import"};
	struct call c = http_call;
	struct bench b;

	(void)state;
	for (size_t i = 0; i < sizeof(http) / sizeof(http[0]); i++) {
		c.path = http[i];
		call_head(&b, &c);
		assert_http(&b, 404, TW_GRPC_UNIMPLEMENTED,
		            "unknown path: traces go to POST /v1/traces", NONE);
		bench_deinit(&b);
	}
	c.type = GRPC;
	for (size_t i = 0; i < sizeof(grpc) / sizeof(grpc[0]); i++) {
		c.path = grpc[i];
		call_head(&b, &c);
		assert_grpc(&b, TW_GRPC_UNIMPLEMENTED, "unknown service or method", NONE);
		bench_deinit(&b);
	}
}

static void other_methods(void **state)
{
	static const char *const methods[] = {"GET", "PUT", "HEAD", "OPTIONS", "post"};
	struct call c = http_call;
	struct bench b;

	(void)state;
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		c.method = methods[i];
		c.type = i % 2 != 0 ? PROTOBUF : ""; /* a GET has no type */
		call_head(&b, &c);
		assert_http(&b, 405, TW_GRPC_UNIMPLEMENTED, "traces are sent with POST", NONE);
		assert_string_equal(b.answer.allow, "POST");
		bench_deinit(&b);
	}
}

/* ---- health ---- */

static bool says(void *ctx)
{
	return *(bool *)ctx;
}

static void health(void **state)
{
	static const char traces[] = "opentelemetry.proto.collector.trace.v1.TraceService";
	static const uint8_t garbage[] = {0x0A, 0x7F};
	struct call c = {.path = HEALTH_GRPC, .type = GRPC, .body = "", .body_n = 0};
	struct pb request = {0};
	bool serving = true;
	struct bench b;

	(void)state;
	pb_str(&request, 1, traces);
	call_fresh(&b, &c, NULL); /* the server as a whole; nobody is asked: it serves */
	assert_int_equal(b.answer.grpc, 0);
	assert_body_text(&b, "\x08\x01");

	b.rx.serving = says;
	b.rx.serving_ctx = &serving;
	bench_call(&b, &c);
	assert_body_text(&b, "\x08\x01");
	serving = false;
	bench_call(&b, &c);
	assert_int_equal(b.answer.grpc, 0);
	assert_body_text(&b, "\x08\x02");
	c.body = request.p;
	c.body_n = request.n;
	bench_call(&b, &c);
	assert_body_text(&b, "\x08\x02");

	pb_clear(&request);
	pb_str(&request, 1, "opentelemetry.proto.collector.trace.v1.TraceServices");
	c.body = request.p;
	c.body_n = request.n;
	bench_call(&b, &c);
	assert_grpc(&b, 5, "unknown service", NONE);
	c.body = garbage;
	c.body_n = sizeof(garbage);
	bench_call(&b, &c);
	assert_grpc(&b, TW_GRPC_INVALID_ARGUMENT, "malformed HealthCheckRequest", NONE);
	assert_int_equal(bench_requests(&b), 0); /* not an export */
	assert_int_equal(b.sink.count, 0);
	pb_free(&request);
	bench_deinit(&b);
}

/* ---- the head's own memory ---- */

/* The longest early answer lies in head_reply whole, in both encodings. */
static void head_answers_fit(void **state)
{
	struct call c = http_call;
	struct bench b;

	(void)state;
	c.path = "/nowhere";
	c.type = JSON;
	call_head(&b, &c);
	assert_json(&b, 404,
	            "{\"code\":12,\"message\":\"unknown path: traces go to POST /v1/traces\"}");
	assert_memory_equal(b.rx.head_reply, b.answer.body, b.answer.body_n);
	bench_deinit(&b);
}

static void outcomes_have_names(void **state)
{
	(void)state;
	for (int i = 0; i < TW_RECEIVE_COUNT; i++) {
		assert_non_null(tw_receive_names[i]);
		for (int k = 0; k < i; k++)
			assert_string_not_equal(tw_receive_names[i], tw_receive_names[k]);
	}
	assert_string_equal(tw_receive_names[TW_RECEIVE_REFUSED], "refused");
	assert_string_equal(tw_receive_names[TW_RECEIVE_DEADLINE], "deadline");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(all_spans_admitted),
	    cmocka_unit_test(protobuf_reaches_the_sink_as_it_came),
	    cmocka_unit_test(partial_success),
	    cmocka_unit_test(message_without_rejected_spans),
	    cmocka_unit_test(late_answer),
	    cmocka_unit_test(malformed_body),
	    cmocka_unit_test(body_too_large),
	    cmocka_unit_test(refused_by_the_sink),
	    cmocka_unit_test(refused_in_json),
	    cmocka_unit_test(refused_before_the_body),
	    cmocka_unit_test(broken_off),
	    cmocka_unit_test(deadline_passed),
	    cmocka_unit_test(IN_20_unknown_media_types),
	    cmocka_unit_test(IN_20_unknown_encoding),
	    cmocka_unit_test(IN_20_body_of_another_type),
	    cmocka_unit_test(other_signals),
	    cmocka_unit_test(other_signals_are_logged),
	    cmocka_unit_test(unknown_paths),
	    cmocka_unit_test(other_methods),
	    cmocka_unit_test(health),
	    cmocka_unit_test(head_answers_fit),
	    cmocka_unit_test(outcomes_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
