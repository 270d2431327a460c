#include "server_private.h"

#include <sys/param.h>

#include "tw/base/mem.h"

#include "body.h"

/* ---- pool ---- */

struct tw_request *tw_request_open(struct tw_conn *c)
{
	struct tw_server *s = c->server;
	struct tw_request *r = s->pool;

	if (r != NULL) {
		s->pool = r->next;
		s->pooled--;
	} else {
		r = tw_alloc(sizeof(*r));
		if (r == NULL)
			return NULL;
	}
	memset(r, 0, sizeof(*r));
	r->server = s;
	r->conn = c;
	r->with_protocol = true;
	r->content_length = UINT64_MAX;
	r->mark_ns = s->now_ns;
	r->x.server = s;
	r->x.port_tag = c->port_tag;
	r->x.deadline_ns = TW_NEVER;
	tw_body_init(&r->x.body, s->o.bodies);
	tw_buf_init(&r->response, 0);
	tw_buf_init(&r->trailer, 0);
	r->next = c->requests;
	if (r->next != NULL)
		r->next->prev = r;
	c->requests = r;
	c->request_count++;
	c->active_ns = s->now_ns;
	s->requests_out++;
	tw_counter_add(&s->stats.requests_total, 1);
	return r;
}

static void request_unlink(struct tw_request *r)
{
	struct tw_conn *c = r->conn;

	if (c == NULL)
		return;
	if (r->prev != NULL)
		r->prev->next = r->next;
	else
		c->requests = r->next;
	if (r->next != NULL)
		r->next->prev = r->prev;
	c->request_count--;
	c->active_ns = c->server->now_ns;
	/* The connection may have waited for this to end. */
	tw_conn_mark_dirty(c);
	r->conn = NULL;
}

static void request_put(struct tw_request *r)
{
	struct tw_server *s = r->server;

	if (r->with_handler || r->with_protocol)
		return;
	request_unlink(r);
	tw_body_deinit(&r->x.body);
	tw_buf_deinit(&r->response);
	tw_buf_deinit(&r->trailer);
	TW_ASSERT(s->requests_out > 0);
	s->requests_out--;
	if (s->destroyed) {
		tw_free(r);
		if (s->requests_out == 0)
			tw_free(s);
		return;
	}
	if (s->pooled >= TW_NET_REQUESTS_POOLED) {
		tw_free(r);
		return;
	}
	r->next = s->pool;
	s->pool = r;
	s->pooled++;
}

void tw_request_free_pool(struct tw_server *s)
{
	while (s->pool != NULL) {
		struct tw_request *r = s->pool;

		s->pool = r->next;
		tw_free(r);
	}
	s->pooled = 0;
}

/* ---- to and from the handler ---- */

static void body_drop(struct tw_request *r)
{
	tw_body_deinit(&r->x.body);
}

static void call_handler(struct tw_request *r, int early, const struct tw_error *err)
{
	struct tw_server *s = r->server;

	r->phase = TW_REQ_HANDLER;
	r->with_handler = true;
	s->o.handler(s->o.ctx, &r->x, early, err);
}

/* The handler hears that nothing will come of it, and owes no reply. */
static void call_handler_closed(struct tw_request *r, const char *why)
{
	struct tw_server *s = r->server;
	struct tw_error err;

	body_drop(r);
	tw_error_set(&err, TW_ECLOSED, r->body_bytes, "%s", why);
	r->phase = TW_REQ_ANSWERED;
	s->o.handler(s->o.ctx, &r->x, TW_ECLOSED, &err);
}

/* Something is wrong with the body: the handler answers, what is left of the body is swallowed. */
static void fail_early(struct tw_request *r, int code, const struct tw_error *err)
{
	body_drop(r);
	r->discard = true;
	call_handler(r, code, err);
}

static int wire_error(int rc, size_t max, struct tw_error *err)
{
	switch (rc) {
	case TW_ELIMIT:
		return tw_error_set(err, rc, 0, "the body is larger than %zu bytes", max);
	case TW_EFULL:
		return tw_error_set(err, rc, 0, "too many bodies are being held in memory");
	default:
		return tw_error_set(err, rc, 0, "out of memory");
	}
}

/* ---- the head ---- */

/* gRPC's content types: 0 no, 1 ours, -1 a kind that is not served. */
static int grpc_content_type(const char *t)
{
	static const char grpc[] = "application/grpc";

	if (strncmp(t, grpc, sizeof(grpc) - 1) != 0)
		return 0;
	t += sizeof(grpc) - 1;
	if (*t == '\0' || strcmp(t, "+proto") == 0)
		return 1;
	return -1;
}

static void settle_protocol(struct tw_request *r)
{
	struct tw_exchange *x = &r->x;
	bool http2 = r->conn->proto == TW_CONN_H2;
	int grpc = grpc_content_type(x->content_type);

	x->protocol = http2 ? TW_PROTO_HTTP2 : TW_PROTO_HTTP1;
	if (grpc < 0 || (grpc > 0 && !http2)) {
		tw_request_refuse(r, 415, "this content type is not served here");
	} else if (grpc > 0 && strcmp(x->method, "POST") == 0) {
		x->is_grpc = true;
		x->protocol = TW_PROTO_GRPC;
	}
}

/* Refusals that net makes itself. True: answered. */
static bool refuse_head(struct tw_request *r)
{
	int grpc = TW_GRPC_INTERNAL;

	if (r->bad_status == 0)
		return false;
	if (r->bad_status == 431)
		grpc = TW_GRPC_RESOURCE_EXHAUSTED;
	else if (r->bad_status == 414)
		grpc = TW_GRPC_UNIMPLEMENTED;
	r->discard = true;
	tw_request_reply_self(r, r->bad_status, grpc, r->bad_text);
	return true;
}

static bool refuse_by_check(struct tw_request *r)
{
	struct tw_server *s = r->server;
	struct tw_reply now = {0};

	if (s->o.head == NULL)
		return false;
	if (s->o.head(s->o.ctx, &r->x, &now) == 0)
		return false;
	r->discard = true;
	r->phase = TW_REQ_HANDLER;
	r->with_handler = true;
	tw_exchange_reply(&r->x, &now);
	return true;
}

/* A declared length is a claim: refused when too long, else reserved, up to a bound. */
static void take_claim(struct tw_request *r)
{
	struct tw_error err;
	int rc = TW_OK;

	if (r->content_length == UINT64_MAX || r->content_length == 0)
		return;
	if (r->content_length >
	    r->server->o.body_bytes_max + (r->x.is_grpc ? TW_GRPC_PREFIX_BYTES : 0))
		rc = TW_ELIMIT;
	else if (!r->x.is_grpc)
		rc = tw_body_reserve(&r->x.body, MIN(r->content_length, TW_NET_BODY_CLAIM_MAX));
	if (rc != TW_OK) {
		wire_error(rc, r->server->o.body_bytes_max, &err);
		fail_early(r, rc, &err);
	}
}

void tw_request_headers_done(struct tw_request *r)
{
	struct tw_error err;

	r->phase = TW_REQ_BODY;
	settle_protocol(r);
	/* A timeout belongs to gRPC only, and so does its being malformed. */
	if (!r->x.is_grpc) {
		r->x.deadline_ns = TW_NEVER;
	} else if (r->bad_timeout) {
		tw_request_refuse(r, 400, "grpc-timeout is malformed");
	}
	if (refuse_head(r) || refuse_by_check(r))
		return;
	r->announced = true;
	if (r->unsupported_coding) {
		tw_error_set(&err, TW_EUNSUP, 0, "the compression is not supported");
		fail_early(r, TW_EUNSUP, &err);
		return;
	}
	take_claim(r);
}

/* ---- the body ---- */

void tw_request_data(struct tw_request *r, const uint8_t *p, size_t n)
{
	size_t max = r->server->o.body_bytes_max;
	struct tw_error err;
	int rc;

	r->body_bytes += n;
	if (r->discard) {
		r->discarded += n;
		return;
	}
	if (r->x.is_grpc) {
		rc = tw_grpc_feed(&r->frame, p, n, &r->x.body, max, &err);
	} else {
		rc = tw_body_append(&r->x.body, p, n, max);
		if (rc != TW_OK)
			wire_error(rc, max, &err);
	}
	if (rc != TW_OK)
		fail_early(r, rc, &err);
}

/* Replaces the body by what it inflates to. */
static int decompress(struct tw_request *r, struct tw_error *err)
{
	struct tw_body plain;
	int rc;

	tw_body_init(&plain, r->server->o.bodies);
	rc = tw_inflate_by(&r->server->inflater, r->coding, tw_slice(r->x.body.p, r->x.body.n),
	                   &plain, r->server->o.body_bytes_max, err);
	tw_body_deinit(&r->x.body);
	if (rc == TW_OK)
		r->x.body = plain;
	else
		tw_body_deinit(&plain);
	return rc;
}

static int finish_body(struct tw_request *r, struct tw_error *err)
{
	int rc;

	if (!r->x.is_grpc)
		return r->coding == TW_CODING_IDENTITY ? TW_OK : decompress(r, err);
	rc = tw_grpc_end(&r->frame, &r->x.body, err);
	if (rc != TW_OK || !r->frame.compressed)
		return rc;
	if (r->coding == TW_CODING_IDENTITY)
		return tw_error_set(
		    err, TW_EINVAL, 0,
		    "the message is flagged as compressed, but no grpc-encoding says how");
	return decompress(r, err);
}

void tw_request_end(struct tw_request *r)
{
	struct tw_error err = {0};
	int rc;

	r->remote_done = true;
	if (r->phase != TW_REQ_BODY)
		return;
	if (r->x.deadline_ns <= r->server->now_ns) {
		tw_request_timeout(r, "the deadline passed before the request was complete");
		return;
	}
	rc = finish_body(r, &err);
	if (rc != TW_OK)
		body_drop(r);
	call_handler(r, rc, &err);
}

/* ---- the end ---- */

void tw_request_broken(struct tw_request *r, int status, const char *why)
{
	struct tw_error err;

	if (why == NULL)
		why = "the request is malformed";
	if (r->phase == TW_REQ_HEAD || (r->phase == TW_REQ_BODY && !r->announced)) {
		r->discard = true;
		tw_request_reply_self(r, status, TW_GRPC_INTERNAL, why);
	} else if (r->phase == TW_REQ_BODY) {
		tw_error_set(&err, TW_EINVAL, r->body_bytes, "%s", why);
		fail_early(r, TW_EINVAL, &err);
	}
}

void tw_request_close(struct tw_request *r)
{
	TW_ASSERT(r->with_protocol);
	r->with_protocol = false;
	if (r->phase == TW_REQ_BODY && r->announced) {
		tw_counter_add(&r->server->stats.aborted, 1);
		call_handler_closed(r, "the request was broken off");
	}
	/* With the handler it keeps its place among the connection's requests until the reply, so
	 * that resetting streams buys a peer no more work than streams_max at a time. */
	request_put(r);
}

void tw_request_orphan_all(struct tw_conn *c)
{
	while (c->requests != NULL) {
		struct tw_request *r = c->requests;

		if (r->with_protocol)
			tw_request_close(r);
		else
			request_unlink(r);
	}
}

void tw_request_timeout(struct tw_request *r, const char *why)
{
	tw_counter_add(&r->server->stats.timeouts, 1);
	r->discard = true;
	if (r->phase == TW_REQ_BODY && r->announced)
		call_handler_closed(r, why);
	tw_request_reply_self(r, 408, TW_GRPC_DEADLINE_EXCEEDED, why);
}

/* ---- the reply ---- */

static void deliver(struct tw_request *r, const struct tw_reply *reply)
{
	r->phase = TW_REQ_ANSWERED;
	body_drop(r);
	if (r->conn->proto == TW_CONN_H2)
		tw_h2_reply(r, reply);
	else
		tw_h1_reply(r, reply);
	tw_conn_mark_dirty(r->conn);
}

void tw_exchange_reply(struct tw_exchange *x, const struct tw_reply *reply)
{
	struct tw_request *r = (struct tw_request *)x;

	TW_ASSERT(r->with_handler);
	r->with_handler = false;
	if (r->conn != NULL && r->with_protocol) {
		deliver(r, reply);
		return;
	}
	request_put(r);
}

void tw_request_reply_self(struct tw_request *r, int status, int grpc_status, const char *text)
{
	struct tw_reply reply = {.status = status, .grpc_status = grpc_status};

	reply.grpc_message = tw_slice_str(text);
	/* A stream can be given up alone; over HTTP/1 the rest of a slow request is in the way of
	 * all others. */
	reply.close = status == 408 && r->conn->proto == TW_CONN_H1;
	deliver(r, &reply);
}
