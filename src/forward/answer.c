#include "answer.h"

#include <stdio.h>

#include "tw/base/error.h"

enum {
	GRPC_OK = 0,
	GRPC_CANCELLED = 1,
	GRPC_DEADLINE_EXCEEDED = 4,
	GRPC_RESOURCE_EXHAUSTED = 8,
	GRPC_ABORTED = 10,
	GRPC_OUT_OF_RANGE = 11,
	GRPC_UNAVAILABLE = 14,
	GRPC_DATA_LOSS = 15,
	GRPC_COUNT = 17,
};

static const char *grpc_name(int code)
{
	static const char *const names[GRPC_COUNT] = {
	    "OK",
	    "CANCELLED",
	    "UNKNOWN",
	    "INVALID_ARGUMENT",
	    "DEADLINE_EXCEEDED",
	    "NOT_FOUND",
	    "ALREADY_EXISTS",
	    "PERMISSION_DENIED",
	    "RESOURCE_EXHAUSTED",
	    "FAILED_PRECONDITION",
	    "ABORTED",
	    "OUT_OF_RANGE",
	    "UNIMPLEMENTED",
	    "INTERNAL",
	    "UNAVAILABLE",
	    "DATA_LOSS",
	    "UNAUTHENTICATED",
	};

	return code >= 0 && code < GRPC_COUNT ? names[code] : "no status";
}

/* No answer. Whether the backend has seen the request or not: it is sent again, a duplicate is
 * better than a loss. */
static void read_error(const struct tw_client_response *r, struct tw_send_result *out, char *text,
                       size_t cap)
{
	out->outcome = TW_SEND_RETRY;
	if (r->error == TW_ECLOSED)
		out->outcome = TW_SEND_STOPPED;
	else if (r->error == TW_ELIMIT) /* an answer over 4 MiB: OTLP says, not to be retried */
		out->outcome = TW_SEND_PERMANENT;
	snprintf(text, cap, "%s", r->text[0] ? r->text : tw_err_name(r->error));
}

/* The backend has the spans, whatever else it says. A partial success is never retried. */
static void read_success(struct tw_slice body, struct tw_send_result *out, char *text, size_t cap)
{
	struct tw_export_result e = {0};

	out->outcome = TW_SENT;
	if (tw_reply_parse_export(body, false, &e) != 0 &&
	    tw_reply_parse_export(body, true, &e) != 0) {
		out->unreadable = true;
		snprintf(text, cap, "the answer is no ExportTraceServiceResponse, %zu bytes",
		         body.n);
		return;
	}
	out->rejected = e.rejected;
	snprintf(text, cap, "%s", e.message);
}

static void read_grpc(const struct tw_client_response *r, struct tw_send_result *out, char *text,
                      size_t cap)
{
	char message[160] = "";
	bool has_info;

	if (r->grpc_status == GRPC_OK) {
		read_success(r->body, out, text, cap);
		return;
	}
	if (tw_reply_parse_status(r->details, message, sizeof(message), &out->retry_after_ms) != 0)
		out->retry_after_ms = UINT64_MAX;
	has_info = out->retry_after_ms != UINT64_MAX;
	switch (r->grpc_status) {
	case GRPC_CANCELLED:
	case GRPC_DEADLINE_EXCEEDED:
	case GRPC_ABORTED:
	case GRPC_OUT_OF_RANGE:
	case GRPC_UNAVAILABLE:
	case GRPC_DATA_LOSS:
		out->outcome = TW_SEND_RETRY;
		break;
	case GRPC_RESOURCE_EXHAUSTED: /* too much now, and it says until when; or too large for ever
	                               */
		out->outcome = has_info ? TW_SEND_RETRY : TW_SEND_PERMANENT;
		break;
	default:
		out->outcome = TW_SEND_PERMANENT;
	}
	snprintf(text, cap, "%s: %s", grpc_name(r->grpc_status),
	         r->grpc_message[0] ? r->grpc_message : message);
}

static void read_http(const struct tw_client_response *r, struct tw_send_result *out, char *text,
                      size_t cap)
{
	char message[160] = "";
	uint64_t unused;

	if (r->status >= 200 && r->status < 300) {
		read_success(r->body, out, text, cap);
		return;
	}
	switch (r->status) {
	case 429:
	case 502:
	case 503:
	case 504:
		out->outcome = TW_SEND_RETRY;
		out->retry_after_ms = r->retry_after_ms;
		break;
	default:
		out->outcome = TW_SEND_PERMANENT;
	}
	if (tw_reply_parse_status(r->body, message, sizeof(message), &unused) != 0)
		message[0] = 0;
	snprintf(text, cap, "HTTP status %d%s%s", r->status, message[0] ? ": " : "", message);
}

void tw_answer_read(enum tw_client_kind kind, const struct tw_client_response *r,
                    struct tw_send_result *out, char *text, size_t cap)
{
	*out = (struct tw_send_result){.retry_after_ms = UINT64_MAX, .text = text};
	text[0] = 0;
	if (r->error != 0)
		read_error(r, out, text, cap);
	else if (kind == TW_CLIENT_GRPC)
		read_grpc(r, out, text, cap);
	else
		read_http(r, out, text, cap);
}
