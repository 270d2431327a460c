#include "client_grpc.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>

#define PREFIX_BYTES 5u

enum grpc_code { /* google.rpc.Code */
	         GRPC_OK = 0,
	         GRPC_CANCELLED = 1,
	         GRPC_UNKNOWN = 2,
	         GRPC_PERMISSION_DENIED = 7,
	         GRPC_RESOURCE_EXHAUSTED = 8,
	         GRPC_UNIMPLEMENTED = 12,
	         GRPC_INTERNAL = 13,
	         GRPC_UNAVAILABLE = 14,
	         GRPC_UNAUTHENTICATED = 16,
};

static bool is(struct tw_slice s, const char *name)
{
	return tw_slice_eq(s, tw_slice_str(name));
}

/* Decimal digits only; -1: something else. */
static int number(struct tw_slice s, int max)
{
	int n = 0;

	if (s.n == 0)
		return -1;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return -1;
		n = n * 10 + (s.p[i] - '0');
		if (n > max)
			return -1;
	}
	return n;
}

static int hex(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* What is not a valid escape stays as it is: a message is never a reason to lose the status. */
static void percent_decode(char *out, size_t cap, struct tw_slice in)
{
	size_t n = 0;

	for (size_t i = 0; i < in.n && n + 1 < cap; i++) {
		if (in.p[i] == '%' && in.n - i > 2 && hex(in.p[i + 1]) >= 0 &&
		    hex(in.p[i + 2]) >= 0) {
			out[n++] = (char)(hex(in.p[i + 1]) * 16 + hex(in.p[i + 2]));
			i += 2;
		} else {
			out[n++] = (char)in.p[i];
		}
		if (out[n - 1] == '\0')
			out[n - 1] = ' ';
	}
	out[n] = '\0';
}

static int base64_digit(uint8_t c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Padded or not. Anything else than base64 leaves out empty: the details are an extra. */
static void base64_decode(struct tw_buf *out, struct tw_slice in)
{
	uint32_t bits = 0;
	unsigned have = 0;

	tw_buf_clear(out);
	while (in.n && in.p[in.n - 1] == '=')
		in.n--;
	for (size_t i = 0; i < in.n; i++) {
		int d = base64_digit(in.p[i]);

		if (d < 0 || (i + 1 == in.n && in.n % 4 == 1)) {
			tw_buf_clear(out);
			return;
		}
		bits = bits << 6 | (uint32_t)d;
		have += 6;
		if (have >= 8) {
			have -= 8;
			tw_buf_putc(out, (char)(bits >> have));
		}
	}
}

void tw_grpc_header(struct tw_client_call *call, struct tw_slice name, struct tw_slice value)
{
	int n;

	if (is(name, ":status")) {
		n = number(value, 999);
		call->r.status = n < 0 ? 0 : n;
	} else if (is(name, "grpc-status")) {
		n = number(value, 16);
		call->r.grpc_status = n < 0 ? GRPC_UNKNOWN : n;
		call->status_seen = true;
	} else if (is(name, "grpc-message")) {
		percent_decode(call->r.grpc_message, sizeof call->r.grpc_message, value);
	} else if (is(name, "grpc-status-details-bin")) {
		base64_decode(&call->details, value);
	} else {
		tw_call_header(call, name, value);
	}
}

static int code_of_http(int status)
{
	switch (status) {
	case 400:
	case 431:
		return GRPC_INTERNAL;
	case 401:
		return GRPC_UNAUTHENTICATED;
	case 403:
		return GRPC_PERMISSION_DENIED;
	case 404:
		return GRPC_UNIMPLEMENTED;
	case 429:
	case 502:
	case 503:
	case 504:
		return GRPC_UNAVAILABLE;
	default:
		return GRPC_UNKNOWN;
	}
}

/* Takes the first message out of its framing. Framing that makes no sense leaves the body empty:
 * under an OK the backend has taken the request, and sending it again would double it. */
static int message_read(struct tw_client_call *call)
{
	const uint8_t *p = call->raw.p;
	size_t n;

	if (call->raw.n < PREFIX_BYTES || p[0] > 1)
		return 0;
	n = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
	if (n > call->raw.n - PREFIX_BYTES)
		return 0;
	if (p[0])
		return tw_call_inflate(call, tw_slice(p + PREFIX_BYTES, n));
	call->r.body = tw_slice(p + PREFIX_BYTES, n);
	return 0;
}

void tw_grpc_answer(struct tw_client_call *call)
{
	struct tw_client_response *r = &call->r;
	int rc;

	if (!call->status_seen) {
		r->grpc_status = code_of_http(r->status);
		if (!r->grpc_message[0])
			snprintf(r->grpc_message, sizeof r->grpc_message,
			         "no grpc-status in the answer, HTTP status %d", r->status);
	}
	if (!call->details.failed)
		r->details = tw_buf_slice(&call->details);
	rc = r->grpc_status == GRPC_OK ? message_read(call) : 0;
	if (rc == TW_ELIMIT)
		tw_call_fail(call, TW_ELIMIT, "the answer is larger than 4 MiB when inflated");
	else if (rc)
		tw_call_fail(call, TW_EIO, "no memory to inflate the answer");
	else
		tw_call_finish(call);
}

static int code_of_reset(uint32_t code)
{
	switch (code) {
	case NGHTTP2_CANCEL:
		return GRPC_CANCELLED;
	case NGHTTP2_ENHANCE_YOUR_CALM:
		return GRPC_RESOURCE_EXHAUSTED;
	case NGHTTP2_INADEQUATE_SECURITY:
		return GRPC_PERMISSION_DENIED;
	case NGHTTP2_STREAM_CLOSED:
	case NGHTTP2_HTTP_1_1_REQUIRED:
		return GRPC_UNKNOWN;
	default:
		return code > NGHTTP2_HTTP_1_1_REQUIRED ? GRPC_UNKNOWN : GRPC_INTERNAL;
	}
}

void tw_grpc_reset(struct tw_client_call *call, uint32_t code, const char *name)
{
	call->r.grpc_status = code_of_reset(code);
	snprintf(call->r.grpc_message, sizeof call->r.grpc_message, "the stream was reset: %s",
	         name);
	tw_call_finish(call);
}
