#include "tw/receive.h"

#include <string.h>

#include "reply.h"
#include "tw/base/log.h"

#define TRACES_GRPC "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
#define HEALTH_GRPC "/grpc.health.v1.Health/Check"

const char *const tw_receive_names[TW_RECEIVE_COUNT] = {
    "ok", "partial", "malformed", "too_large", "refused", "unsupported", "aborted", "deadline"};

static void count(struct tw_receiver *rx, enum tw_receive_outcome o)
{
	tw_counter_add(&rx->requests[o], 1);
}

/* ---- before the body ---- */

/* SDKs send metrics and logs to the same ports: a clear no, and a line in the log. */
static bool other_signal(const struct tw_exchange *x)
{
	return (strncmp(x->path, "/opentelemetry.proto.collector.", 31) == 0 &&
	        strncmp(x->path + 31, "trace.", 6) != 0) ||
	       strcmp(x->path, "/v1/metrics") == 0 || strcmp(x->path, "/v1/logs") == 0 ||
	       strcmp(x->path, "/v1development/profiles") == 0;
}

static void say_other_signal(const struct tw_exchange *x)
{
	char path[300];

	TW_LOG(TW_LOG_INFO, "a signal that is not traces was sent; send it to another endpoint",
	       "path=%s", tw_log_quote(path, sizeof(path), x->path, (unsigned)strlen(x->path)));
}

static bool check_grpc(const struct tw_exchange *x, struct tw_failure *f)
{
	if (strcmp(x->path, TRACES_GRPC) == 0 || strcmp(x->path, HEALTH_GRPC) == 0)
		return true;
	*f =
	    (struct tw_failure){.grpc = TW_GRPC_UNIMPLEMENTED, .text = "unknown service or method"};
	if (other_signal(x)) {
		say_other_signal(x);
		f->text = "traceweir takes traces only";
	}
	return false;
}

static bool check_http(const struct tw_exchange *x, struct tw_failure *f)
{
	if (other_signal(x)) {
		say_other_signal(x);
		*f = (struct tw_failure){.http = 404,
		                         .grpc = TW_GRPC_UNIMPLEMENTED,
		                         .text = "traceweir takes traces only: POST /v1/traces"};
		return false;
	}
	if (strcmp(x->path, "/v1/traces") != 0) {
		*f = (struct tw_failure){.http = 404,
		                         .grpc = TW_GRPC_UNIMPLEMENTED,
		                         .text = "unknown path: traces go to POST /v1/traces"};
		return false;
	}
	if (strcmp(x->method, "POST") != 0) {
		*f = (struct tw_failure){.http = 405,
		                         .grpc = TW_GRPC_UNIMPLEMENTED,
		                         .text = "traces are sent with POST",
		                         .allow = "POST"};
		return false;
	}
	if (!tw_receive_is_json(x) && strcmp(x->content_type, "application/x-protobuf") != 0) {
		*f = (struct tw_failure){
		    .http = 415,
		    .grpc = TW_GRPC_INVALID_ARGUMENT,
		    .text = "content-type must be application/x-protobuf or application/json"};
		return false;
	}
	return true;
}

int tw_receive_head(void *receiver, struct tw_exchange *x, struct tw_reply *now)
{
	struct tw_receiver *rx = receiver;
	struct tw_failure f;
	struct tw_buf out;

	if (x->is_grpc ? check_grpc(x, &f) : check_http(x, &f))
		return 0;
	count(rx, TW_RECEIVE_UNSUPPORTED);
	tw_buf_init(&out, sizeof(rx->head_reply));
	tw_receive_failure(x, &f, &out, now);
	if (now->body.n != 0) {
		memcpy(rx->head_reply, now->body.p, now->body.n);
		now->body.p = rx->head_reply;
	}
	tw_buf_deinit(&out);
	return 1;
}

/* ---- answers ---- */

static void fail(struct tw_receiver *rx, struct tw_exchange *x, enum tw_receive_outcome o,
                 const struct tw_failure *f)
{
	struct tw_reply r;
	struct tw_buf out;

	count(rx, o);
	tw_buf_init(&out, 0);
	tw_receive_failure(x, f, &out, &r);
	tw_exchange_reply(x, &r);
	tw_buf_deinit(&out);
}

static void fail_early(struct tw_receiver *rx, struct tw_exchange *x, int early, const char *text)
{
	switch (early) {
	case TW_ECLOSED:
		count(rx, TW_RECEIVE_ABORTED);
		return;
	case TW_ELIMIT:
		fail(rx, x, TW_RECEIVE_TOO_LARGE,
		     &(struct tw_failure){413, TW_GRPC_RESOURCE_EXHAUSTED, text, 0, NULL});
		return;
	case TW_EFULL:
	case TW_ENOMEM:
		fail(rx, x, TW_RECEIVE_REFUSED,
		     &(struct tw_failure){503, TW_GRPC_UNAVAILABLE, text, 1000, NULL});
		return;
	case TW_EUNSUP:
		fail(rx, x, TW_RECEIVE_UNSUPPORTED,
		     &(struct tw_failure){415, TW_GRPC_UNIMPLEMENTED, text, 0, NULL});
		return;
	default:
		fail(rx, x, TW_RECEIVE_MALFORMED,
		     &(struct tw_failure){400, TW_GRPC_INVALID_ARGUMENT, text, 0, NULL});
		return;
	}
}

static void on_done(void *ctx, const struct tw_sink_result *s)
{
	struct tw_exchange *x = ctx;
	struct tw_receiver *rx = x->user;
	struct tw_reply r;
	struct tw_buf out;

	switch (s->outcome) {
	case TW_SINK_OK:
		count(rx, s->rejected != 0 ? TW_RECEIVE_PARTIAL : TW_RECEIVE_OK);
		tw_buf_init(&out, 0);
		tw_receive_success(x, s->rejected, s->message, &out, &r);
		tw_exchange_reply(x, &r);
		tw_buf_deinit(&out);
		return;
	case TW_SINK_MALFORMED:
		fail_early(rx, x, TW_EINVAL, s->message);
		return;
	case TW_SINK_TOO_LARGE:
		fail_early(rx, x, TW_ELIMIT, s->message);
		return;
	case TW_SINK_REFUSED:
		fail(rx, x, TW_RECEIVE_REFUSED,
		     &(struct tw_failure){503, TW_GRPC_UNAVAILABLE, s->message, s->retry_ms, NULL});
		return;
	}
}

static void health(struct tw_receiver *rx, struct tw_exchange *x)
{
	bool serving = rx->serving == NULL || rx->serving(rx->serving_ctx);
	struct tw_reply r = {0};
	struct tw_buf out;
	char service[128];

	tw_buf_init(&out, 0);
	if (tw_health_parse(tw_slice(x->body.p, x->body.n), service, sizeof(service)) != 0) {
		r.grpc_status = TW_GRPC_INVALID_ARGUMENT;
		r.grpc_message = tw_slice_str("malformed HealthCheckRequest");
	} else if (service[0] != '\0' &&
	           strcmp(service, "opentelemetry.proto.collector.trace.v1.TraceService") != 0) {
		r.grpc_status = 5; /* NOT_FOUND, as grpc.health.v1 says for Check */
		r.grpc_message = tw_slice_str("unknown service");
	} else if (tw_health_reply(&out, serving ? 1 : 2) == 0) {
		r.body = tw_buf_slice(&out);
	} else {
		r.grpc_status = TW_GRPC_UNAVAILABLE;
	}
	tw_exchange_reply(x, &r);
	tw_buf_deinit(&out);
}

/* ---- the body ---- */

/* Transcodes JSON into a protobuf body that replaces x->body; 0 or a tw_err. */
static int transcode(struct tw_receiver *rx, struct tw_exchange *x, struct tw_error *err)
{
	struct tw_body json = x->body;
	struct tw_buf out;
	int rc;

	tw_buf_init(&out, rx->body_bytes_max);
	rc = tw_otlp_json_decode(tw_slice(json.p, json.n), &out, err);
	tw_body_init(&x->body, NULL);
	tw_body_deinit(&json);
	if (rc == 0 && out.cap != 0 && !tw_budget_reserve(rx->bodies, out.cap))
		rc = tw_error_set(err, TW_EFULL, 0, "too many request bytes in flight");
	if (rc != 0) {
		tw_buf_deinit(&out);
		return rc;
	}
	/* The buffer's memory becomes the body: both are tw_alloc's. */
	x->body = (struct tw_body){
	    .p = out.p, .n = out.n, .cap = out.cap, .room = out.cap, .budget = rx->bodies};
	return 0;
}

void tw_receive_request(void *receiver, struct tw_exchange *x, int early,
                        const struct tw_error *err)
{
	struct tw_receiver *rx = receiver;
	struct tw_error e;
	int rc;

	if (early != 0) {
		fail_early(rx, x, early, err != NULL ? err->text : "");
		return;
	}
	if (x->is_grpc && strcmp(x->path, HEALTH_GRPC) == 0) {
		health(rx, x);
		return;
	}
	if (x->deadline_ns != TW_NEVER && tw_now(rx->clock) >= x->deadline_ns) {
		fail(rx, x, TW_RECEIVE_DEADLINE,
		     &(struct tw_failure){503, TW_GRPC_DEADLINE_EXCEEDED,
		                          "the deadline passed before the request was whole", 0,
		                          NULL});
		return;
	}
	if (!x->is_grpc && tw_receive_is_json(x)) {
		rc = transcode(rx, x, &e);
		if (rc != 0) {
			fail_early(rx, x, rc, e.text);
			return;
		}
	}
	x->user = rx;
	rx->sink.submit(rx->sink.self, &x->body, on_done, x);
}
