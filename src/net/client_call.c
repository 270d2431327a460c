#include "client.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

#include "tw/base/mem.h"

/* ---- what the caller gives ---- */

static bool token_ok(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++) {
		if (!isalnum((unsigned char)*s) && !strchr("!#$%&'*+-.^_`|~", *s))
			return false;
	}
	return true;
}

/* No control characters: they could end the header and begin another. */
static bool value_ok(const char *s)
{
	for (; *s; s++) {
		if (((unsigned char)*s < ' ' && *s != '\t') || *s == 0x7f)
			return false;
	}
	return true;
}

static bool path_ok(const char *s)
{
	if (*s != '/')
		return false;
	for (; *s; s++) {
		if ((unsigned char)*s <= ' ' || *s == 0x7f)
			return false;
	}
	return true;
}

/* These frame the message, and are ours to write. */
static bool header_is_ours(const char *name)
{
	static const char *const ours[] = {
	    "host",         "content-length", "transfer-encoding",
	    "connection",   "keep-alive",     "upgrade",
	    "te",           "trailer",        "proxy-connection",
	    "expect",       "content-type",   "content-encoding",
	    "grpc-timeout", "grpc-encoding",  "grpc-accept-encoding"};

	for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
		if (strcasecmp(name, ours[i]) == 0)
			return true;
	}
	return false;
}

static bool request_ok(const struct tw_client_request *r)
{
	if (!r->path || !path_ok(r->path) || r->header_count > CLIENT_HEADERS_MAX)
		return false;
	if (r->content_type && !value_ok(r->content_type))
		return false;
	if (r->content_encoding && !value_ok(r->content_encoding))
		return false;
	if (r->body.n > UINT32_MAX) /* gRPC's framing holds 32 bits */
		return false;
	for (uint32_t i = 0; i < r->header_count; i++) {
		const struct tw_header *h = &r->headers[i];

		if (!token_ok(h->name) || !value_ok(h->value) || header_is_ours(h->name))
			return false;
	}
	return true;
}

static size_t text_size(const char *s)
{
	return s ? strlen(s) + 1 : 0;
}

static const char *text_put(char **at, const char *s)
{
	char *begin = *at;
	size_t n = text_size(s);

	if (n == 0)
		return NULL;
	memcpy(begin, s, n);
	*at += n;
	return begin;
}

static bool encodes(const char *coding)
{
	return coding && *coding && strcasecmp(coding, "identity") != 0;
}

/* Only the body outlives tw_client_send on the caller's side; the strings are copied into one
 * block. */
static int call_copy(struct tw_client_call *call, const struct tw_client_request *r)
{
	const char *coding = encodes(r->content_encoding) ? r->content_encoding : NULL;
	size_t n = text_size(r->path) + text_size(r->content_type) + text_size(coding);
	char *at;

	for (uint32_t i = 0; i < r->header_count; i++)
		n += text_size(r->headers[i].name) + text_size(r->headers[i].value);
	call->text = tw_alloc(n);
	if (!call->text)
		return TW_ENOMEM;
	at = call->text;
	call->path = text_put(&at, r->path);
	call->content_type = text_put(&at, r->content_type);
	call->content_encoding = text_put(&at, coding);
	for (uint32_t i = 0; i < r->header_count; i++) {
		char *name = at;

		call->headers[i].name = text_put(&at, r->headers[i].name);
		for (; *name; name++)
			*name = (char)tolower((unsigned char)*name);
		call->headers[i].value = text_put(&at, r->headers[i].value);
	}
	call->header_count = r->header_count;
	call->body = r->body;
	return 0;
}

/* ---- calls ---- */

static void answer_reset(struct tw_client_call *call)
{
	tw_buf_deinit(&call->raw);
	tw_buf_deinit(&call->details);
	tw_body_deinit(&call->inflated);
	tw_buf_init(&call->raw, TW_RESPONSE_BYTES_MAX + sizeof call->prefix);
	tw_buf_init(&call->details, TW_HEADER_BYTES_MAX);
	tw_body_init(&call->inflated, NULL);
	call->r = (struct tw_client_response){.grpc_status = -1, .retry_after_ms = UINT64_MAX};
	call->coding[0] = '\0';
	call->status_seen = call->heads_done = call->ended = false;
	call->head_bytes = 0;
	call->head_count = 0;
}

void tw_call_free(struct tw_client_call *call)
{
	tw_buf_deinit(&call->raw);
	tw_buf_deinit(&call->details);
	tw_body_deinit(&call->inflated);
	tw_free(call->text);
	tw_free(call);
}

static void call_done(struct tw_client_call *call)
{
	TAILQ_INSERT_TAIL(&call->client->done, call, link);
	tw_client_kick(call->client);
}

void tw_call_finish(struct tw_client_call *call)
{
	struct tw_client *c = call->client;

	TW_ASSERT(call->state != CALL_FINISHED);
	if (call->state == CALL_PENDING) {
		TAILQ_REMOVE(&c->pending, call, link);
	} else {
		TAILQ_REMOVE(&c->active, call, link);
		call->conn->calls--;
		call->conn = NULL;
	}
	call->state = CALL_FINISHED;
	call->r.sent = call->sent;
	if (call->writes == 0)
		call_done(call);
}

void tw_call_write_ended(struct tw_client_call *call)
{
	TW_ASSERT(call->writes > 0);
	call->writes--;
	if (call->writes == 0 && call->state == CALL_FINISHED)
		call_done(call);
}

void tw_call_fail(struct tw_client_call *call, int code, const char *fmt, ...)
{
	va_list ap;

	call->r.error = code;
	va_start(ap, fmt);
	vsnprintf(call->r.text, sizeof call->r.text, fmt, ap);
	va_end(ap);
	tw_call_finish(call);
}

void tw_call_again(struct tw_client_call *call, const char *why)
{
	struct tw_client *c = call->client;

	call->sent = false;
	if (call->attempts >= CLIENT_ATTEMPTS_MAX || c->stopping) {
		tw_call_fail(call, TW_EIO, "%s", why);
		return;
	}
	TAILQ_REMOVE(&c->active, call, link);
	call->conn->calls--;
	call->conn = NULL;
	call->state = CALL_PENDING;
	call->body_at = 0;
	answer_reset(call);
	TAILQ_INSERT_HEAD(&c->pending, call, link);
	tw_client_kick(c);
}

bool tw_call_count_header(struct tw_client_call *call, size_t name_bytes, size_t value_bytes)
{
	call->head_bytes += name_bytes + value_bytes;
	call->head_count++;
	return call->head_bytes <= TW_HEADER_BYTES_MAX && call->head_count <= TW_HEADER_COUNT_MAX;
}

int tw_call_body(struct tw_client_call *call, const void *p, size_t n)
{
	if (n > call->raw.max - call->raw.n)
		return TW_ELIMIT;
	tw_buf_put(&call->raw, p, n);
	return call->raw.failed ? TW_ENOMEM : 0;
}

int tw_call_inflate(struct tw_client_call *call, struct tw_slice in)
{
	enum tw_coding coding = tw_coding_parse(tw_slice_str(call->coding));
	struct tw_error err;
	int rc;

	if (coding == TW_CODING_IDENTITY || coding == TW_CODING_UNKNOWN) {
		call->r.body = coding == TW_CODING_IDENTITY ? in : tw_slice(NULL, 0);
		return in.n > TW_RESPONSE_BYTES_MAX ? TW_ELIMIT : 0;
	}
	rc = tw_inflate(coding, in, &call->inflated, TW_RESPONSE_BYTES_MAX, &err);
	if (rc == 0)
		call->r.body = tw_slice(call->inflated.p, call->inflated.n);
	return rc == TW_ELIMIT || rc == TW_ENOMEM ? rc : 0;
}

static bool name_is(struct tw_slice name, const char *s)
{
	return name.n == strlen(s) && strncasecmp((const char *)name.p, s, name.n) == 0;
}

void tw_call_header(struct tw_client_call *call, struct tw_slice name, struct tw_slice value)
{
	const char *coding =
	    call->client->opts.kind == TW_CLIENT_GRPC ? "grpc-encoding" : "content-encoding";

	if (name_is(name, "retry-after"))
		call->r.retry_after_ms =
		    tw_retry_after_ms(value, tw_wall(call->client->opts.clock));
	else if (name_is(name, coding))
		snprintf(call->coding, sizeof call->coding, "%.*s",
		         (int)(value.n < 23 ? value.n : 23), (const char *)value.p);
}

int tw_call_create(struct tw_client *c, const struct tw_client_request *r,
                   struct tw_client_call **out)
{
	struct tw_client_call *call;

	if (!request_ok(r))
		return TW_EINVAL;
	call = tw_calloc(1, sizeof *call);
	if (!call)
		return TW_ENOMEM;
	call->client = c;
	answer_reset(call);
	if (call_copy(call, r)) {
		tw_call_free(call);
		return TW_ENOMEM;
	}
	*out = call;
	return 0;
}
