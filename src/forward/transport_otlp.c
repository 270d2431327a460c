/* OTLP over gRPC and HTTP: a batch becomes a request of net's client, its answer an outcome. */
#include "answer.h"

#include <ctype.h>
#include <stdio.h>
#include <strings.h>

#include "tw/base/error.h"
#include "tw/base/mem.h"

#define SLOTS              16u
#define CONNECT_TIMEOUT_NS (5 * TW_NS_PER_S)
#define TIMEOUT_NS         (10 * TW_NS_PER_S)
#define GRPC_PATH          "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
#define HTTP_PATH          "/v1/traces"

struct slot {
	struct otlp_transport *transport;
	bool used;
	tw_send_done done;
	void *ctx;
};

struct otlp_transport {
	struct tw_client *client;
	enum tw_client_kind kind;
	uint64_t timeout_ns;
	char path[512];
	struct tw_header headers[TW_DEST_HEADERS_MAX]; /* into the options */
	uint32_t header_count;
	bool stopping;
	struct slot slots[SLOTS];
};

/* ---- target and headers, checked once ---- */

static int append_path(char *path, size_t cap, struct tw_error *err)
{
	size_t n = strcspn(path, "?"), tail = strlen(HTTP_PATH);

	if (path[n])
		return tw_error_set(err, TW_EINVAL, 0, "a destination's URL has no query");
	if (n >= tail && strcmp(path + n - tail, HTTP_PATH) == 0)
		return 0;
	while (n > 0 && path[n - 1] == '/')
		n--;
	if (n + tail >= cap)
		return tw_error_set(err, TW_ELIMIT, 0, "the URL's path is too long");
	memcpy(path + n, HTTP_PATH, tail + 1);
	return 0;
}

static int read_target(const struct tw_dest_opts *o, struct tw_tls *tls, struct otlp_transport *t,
                       struct tw_client_opts *c, struct tw_error *err)
{
	bool https = false;
	const char *form;
	int rc;

	rc = tw_address_parse(o->target, c->host, sizeof(c->host), &c->port, t->path,
	                      sizeof(t->path), &https, err);
	if (rc != 0)
		return rc;
	if (t->kind == TW_CLIENT_HTTP)
		rc = append_path(t->path, sizeof(t->path), err);
	else if (t->path[0] && strcmp(t->path, "/") != 0)
		rc = tw_error_set(err, TW_EINVAL, 0, "a gRPC target has no path");
	else
		snprintf(t->path, sizeof(t->path), "%s", GRPC_PATH);
	if (rc != 0)
		return rc;
	if (https || o->tls.enabled) {
		if (!tls)
			return tw_error_set(err, TW_EINVAL, 0,
			                    "the target asks for TLS, and none is configured");
		c->tls = tls;
	}
	form = strchr(c->host, ':') ? "[%s]:%u" : "%s:%u";
	snprintf(c->authority, sizeof(c->authority), form, c->host, (unsigned)c->port);
	return 0;
}

static bool is_ours(const char *name)
{
	static const char *const ours[] = {"host",
	                                   "content-length",
	                                   "transfer-encoding",
	                                   "connection",
	                                   "keep-alive",
	                                   "upgrade",
	                                   "te",
	                                   "trailer",
	                                   "expect",
	                                   "proxy-connection",
	                                   "content-type",
	                                   "content-encoding",
	                                   "grpc-timeout",
	                                   "grpc-encoding",
	                                   "grpc-accept-encoding"};

	for (size_t i = 0; i < sizeof(ours) / sizeof(*ours); i++)
		if (strcasecmp(name, ours[i]) == 0)
			return true;
	return false;
}

static bool name_ok(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr("!#$%&'*+-.^_`|~", *s))
			return false;
	return true;
}

/* The value is a secret, perhaps: it is never part of an error. */
static bool value_ok(const char *s)
{
	for (; *s; s++)
		if (((unsigned char)*s < ' ' && *s != '\t') || *s == 0x7f)
			return false;
	return true;
}

static int read_headers(const struct tw_dest_opts *o, struct otlp_transport *t,
                        struct tw_error *err)
{
	for (uint32_t i = 0; i < o->header_count; i++) {
		const char *name = o->header_names[i];

		if (!name_ok(name))
			return tw_error_set(err, TW_EINVAL, 0,
			                    "header %u has a name that HTTP does not allow", i + 1);
		if (is_ours(name))
			return tw_error_set(err, TW_EINVAL, 0, "header %s cannot be set", name);
		if (!value_ok(o->header_values[i]))
			return tw_error_set(err, TW_EINVAL, 0,
			                    "header %s has control characters in its value", name);
		t->headers[i] = (struct tw_header){.name = name, .value = o->header_values[i]};
	}
	t->header_count = o->header_count;
	return 0;
}

/* ---- a request ---- */

static void on_answer(void *ctx, const struct tw_client_response *r)
{
	struct slot *s = ctx;
	struct tw_send_result result;
	char text[320];

	tw_answer_read(s->transport->kind, r, &result, text, sizeof(text));
	s->used = false; /* before done: it may send the next batch */
	s->done(s->ctx, &result);
}

static const char *coding_name(enum tw_coding c)
{
	switch (c) {
	case TW_CODING_GZIP:
		return "gzip";
	case TW_CODING_ZSTD:
		return "zstd";
	case TW_CODING_DEFLATE:
		return "deflate";
	default:
		return NULL;
	}
}

static struct slot *free_slot(struct otlp_transport *t)
{
	for (uint32_t i = 0; i < SLOTS; i++)
		if (!t->slots[i].used)
			return &t->slots[i];
	return NULL;
}

static bool otlp_send(void *self, const struct tw_batch *b, tw_send_done done, void *ctx)
{
	struct otlp_transport *t = self;
	struct slot *s = free_slot(t);
	struct tw_client_request r = {
	    .path = t->path,
	    .content_type =
	        t->kind == TW_CLIENT_GRPC ? "application/grpc" : "application/x-protobuf",
	    .content_encoding = coding_name(b->coding),
	    .headers = t->headers,
	    .header_count = t->header_count,
	    .body = b->request,
	    .timeout_ns = t->timeout_ns,
	};
	int rc;

	if (t->stopping || !s)
		return false;
	*s = (struct slot){.transport = t, .used = true, .done = done, .ctx = ctx};
	rc = tw_client_send(t->client, &r, on_answer, s);
	if (rc == 0)
		return true;
	s->used = false;
	if (rc != TW_EINVAL && rc != TW_ELIMIT)
		return false; /* all streams are taken, or there is no memory: later */
	done(ctx, &(struct tw_send_result){.outcome = TW_SEND_PERMANENT,
	                                   .retry_after_ms = UINT64_MAX,
	                                   .text = "the request cannot be framed"});
	return true;
}

/* ---- life ---- */

static void otlp_stop(void *self)
{
	struct otlp_transport *t = self;

	if (t->stopping)
		return;
	t->stopping = true;
	tw_client_stop(t->client);
}

static bool otlp_stopped(void *self)
{
	struct otlp_transport *t = self;

	return t->stopping && tw_client_stopped(t->client);
}

static void otlp_destroy(void *self)
{
	struct otlp_transport *t = self;

	tw_client_destroy(&t->client);
	tw_free(t);
}

static int create(uv_loop_t *loop, const struct tw_dest_opts *o, struct tw_tls *tls,
                  const struct tw_clock *clock, struct otlp_transport *t, struct tw_error *err)
{
	struct tw_client_opts c = {
	    .connect_timeout_ns = CONNECT_TIMEOUT_NS, .streams_max = SLOTS, .clock = clock};
	int rc;

	TW_ASSERT(o->kind == TW_DEST_OTLP_GRPC || o->kind == TW_DEST_OTLP_HTTP);
	t->kind = o->kind == TW_DEST_OTLP_GRPC ? TW_CLIENT_GRPC : TW_CLIENT_HTTP;
	t->timeout_ns = o->timeout_ns ? o->timeout_ns : TIMEOUT_NS;
	rc = read_target(o, tls, t, &c, err);
	if (rc == 0)
		rc = read_headers(o, t, err);
	if (rc != 0)
		return rc;
	c.kind = t->kind;
	t->client = tw_client_create(loop, &c);
	if (!t->client)
		return tw_error_set(err, TW_ENOMEM, 0, "no memory for a client of %s", o->target);
	return 0;
}

int tw_transport_otlp_create(uv_loop_t *loop, const struct tw_dest_opts *o, struct tw_tls *tls,
                             const struct tw_clock *clock, struct tw_transport *out,
                             struct tw_error *err)
{
	struct otlp_transport *t = tw_calloc(1, sizeof(*t));
	int rc;

	if (!t)
		return tw_error_set(err, TW_ENOMEM, 0, "no memory for a client of %s", o->target);
	rc = create(loop, o, tls, clock, t, err);
	if (rc != 0) {
		tw_free(t);
		return rc;
	}
	*out = (struct tw_transport){
	    .send = otlp_send,
	    .stop = otlp_stop,
	    .stopped = otlp_stopped,
	    .destroy = otlp_destroy,
	    .self = t,
	    .coding = o->compression,
	};
	return 0;
}
