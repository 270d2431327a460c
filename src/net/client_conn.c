#include "client.h"

#include <stdarg.h>
#include <stdio.h>

#include "tls.h"
#include "tw/base/mem.h"

#define CONNECT_TIMEOUT_NS (5 * TW_NS_PER_S) /* where the options name none */
#define TCP_KEEPALIVE_S    60

static void connect_next(struct tw_conn *k);

/* ---- the end ---- */

static void conn_free(struct tw_conn *k)
{
	struct tw_client *c = k->client;

	TW_ASSERT(k->calls == 0 && k->out_bytes == 0);
	TAILQ_REMOVE(&c->conns, k, link);
	c->proto->free(k);
	if (k->filter)
		k->filter->destroy(k->filter);
	if (k->out)
		tw_out_free(k->out);
	tw_buf_deinit(&k->wire);
	tw_free(k);
	tw_client_kick(c);
}

static void on_closed(uv_handle_t *h)
{
	struct tw_conn *k = h->data;

	if (k->state == CONN_CLOSING) {
		conn_free(k);
		return;
	}
	TW_ASSERT(k->next_address);
	k->next_address = false;
	uv_tcp_init(k->client->loop, &k->tcp);
	k->tcp.data = k;
	connect_next(k);
}

static void fail_calls(struct tw_conn *k, const char *text)
{
	struct tw_client_call *call, *next;

	for (call = TAILQ_FIRST(&k->client->active); call; call = next) {
		next = TAILQ_NEXT(call, link);
		if (call->conn != k)
			continue;
		/* No backend acts on half a request. */
		if (!k->client->proto->multiplex && tw_conn_unwritten(k))
			call->sent = false;
		/* A connection that has served before was probably closed for its age: not worth
		 * telling the caller. */
		if (!call->sent && k->calls_total > 1 && !call->heads_done)
			tw_call_again(call, text);
		else
			tw_call_fail(call, TW_EIO, "%s", text);
	}
}

/* Those that waited for this connection: all, or, where each has its own, the oldest. */
static void fail_waiting(struct tw_client *c, const char *text, bool timeout)
{
	struct tw_client_call *call;

	while ((call = TAILQ_FIRST(&c->pending)) != NULL) {
		call->r.timeout = timeout;
		tw_call_fail(call, TW_EIO, "%s", text);
		if (!c->proto->multiplex)
			return;
	}
}

static void conn_end(struct tw_conn *k, const char *why, bool timeout)
{
	const struct tw_client_opts *o = &k->client->opts;
	bool open = k->state == CONN_OPEN;
	char text[160];

	if (k->state == CONN_CLOSING)
		return;
	snprintf(text, sizeof text, "%s %.50s:%u: %.72s",
	         open ? "lost the connection to" : "cannot connect to", o->host, o->port,
	         why ? why : "closed");
	k->state = CONN_CLOSING;
	fail_calls(k, text);
	if (!open && why)
		fail_waiting(k->client, text, timeout);
	if (!uv_is_closing((uv_handle_t *)&k->tcp))
		uv_close((uv_handle_t *)&k->tcp, on_closed);
}

void tw_conn_fail(struct tw_conn *k, const char *fmt, ...)
{
	char why[128];
	va_list ap;

	if (!fmt) {
		conn_end(k, NULL, false);
		return;
	}
	va_start(ap, fmt);
	vsnprintf(why, sizeof why, fmt, ap);
	va_end(ap);
	conn_end(k, why, false);
}

/* ---- reading ---- */

static void conn_open(struct tw_conn *k)
{
	if (k->client->proto->open(k)) {
		tw_conn_fail(k, "no memory for the protocol");
		return;
	}
	k->state = CONN_OPEN;
	k->client->proto->written(k);
	tw_client_kick(k->client);
}

static bool handshake_done(struct tw_conn *k)
{
	const char *want = k->client->proto->alpn, *got = k->filter->alpn(k->filter);

	/* HTTP/1.1 needs no negotiation; HTTP/2 over TLS does. */
	if (strcmp(got, want) == 0 || (!*got && !k->client->proto->multiplex)) {
		conn_open(k);
		return true;
	}
	tw_conn_fail(k, "the backend did not agree to %s (ALPN)", want);
	return false;
}

static void on_plain(void *ctx, const uint8_t *p, size_t n)
{
	struct tw_conn *k = ctx;

	/* The first bytes may come with the last of the handshake. */
	if (k->state == CONN_HANDSHAKE && !handshake_done(k))
		return;
	if (k->state == CONN_OPEN)
		k->client->proto->input(k, p, n);
}

static void input_filtered(struct tw_conn *k, const uint8_t *p, size_t n)
{
	struct tw_error err;
	int rc = k->filter->in(k->filter, p, n, &k->wire, &err);

	if (rc == 0 && k->state == CONN_HANDSHAKE && k->filter->ready(k->filter) &&
	    !handshake_done(k))
		return;
	if (rc && rc != TW_ECLOSED && k->state != CONN_CLOSING && !k->wire.failed)
		tw_conn_write_now(k, k->wire.p, k->wire.n); /* the alert */
	if (rc == TW_ECLOSED && k->state == CONN_OPEN)
		k->client->proto->eof(k);
	if (rc)
		tw_conn_fail(k, "%s", err.text);
	else
		tw_conn_wire(k);
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
	struct tw_conn *k = h->data;

	(void)suggested;
	*buf = uv_buf_init((char *)k->input, sizeof k->input);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
	struct tw_conn *k = s->data;

	if (n == 0 || k->state == CONN_CLOSING)
		return;
	if (n < 0) {
		/* Under TLS an end without its notification may be anybody's: no answer is complete
		 * by it. */
		if (n == UV_EOF && !k->filter && k->state == CONN_OPEN)
			k->client->proto->eof(k);
		tw_conn_fail(k, "%s", n == UV_EOF ? "closed by the backend" : uv_strerror((int)n));
		return;
	}
	k->heard_ns = tw_now(k->client->opts.clock);
	if (k->filter)
		input_filtered(k, (const uint8_t *)buf->base, (size_t)n);
	else
		k->client->proto->input(k, (const uint8_t *)buf->base, (size_t)n);
}

/* ---- connecting ---- */

static void conn_secure(struct tw_conn *k)
{
	const struct tw_client_opts *o = &k->client->opts;
	struct tw_error err;

	k->filter = tw_tls_filter_create(o->tls, o->host, k->client->proto->alpn);
	if (!k->filter) {
		tw_conn_fail(k, "no memory for TLS");
		return;
	}
	k->filter->plain = on_plain;
	k->filter->ctx = k;
	k->state = CONN_HANDSHAKE;
	if (k->filter->start(k->filter, &k->wire, &err))
		tw_conn_fail(k, "%s", err.text);
	else
		tw_conn_wire(k);
}

static void next_address(struct tw_conn *k, const char *why)
{
	snprintf(k->why, sizeof k->why, "%s", why);
	k->address_at++;
	if (k->address_at >= k->address_count) {
		tw_conn_fail(k, "%s", why);
		return;
	}
	k->next_address = true;
	uv_close((uv_handle_t *)&k->tcp, on_closed);
}

static void on_connect(uv_connect_t *req, int status)
{
	struct tw_conn *k = req->data;
	int rc;

	if (k->state != CONN_CONNECTING || status == UV_ECANCELED)
		return;
	if (status < 0) {
		next_address(k, uv_strerror(status));
		return;
	}
	uv_tcp_nodelay(&k->tcp, 1);
	uv_tcp_keepalive(&k->tcp, 1, TCP_KEEPALIVE_S);
	k->attempt_ns = k->deadline_ns;
	tw_client_arm(k->client, k->attempt_ns);
	rc = uv_read_start((uv_stream_t *)&k->tcp, on_alloc, on_read);
	if (rc)
		tw_conn_fail(k, "%s", uv_strerror(rc));
	else if (k->client->opts.tls)
		conn_secure(k);
	else
		conn_open(k);
}

static void connect_next(struct tw_conn *k)
{
	uint64_t now = tw_now(k->client->opts.clock);
	uint64_t left = k->deadline_ns > now ? k->deadline_ns - now : 0;
	int rc;

	k->state = CONN_CONNECTING;
	/* One address that swallows packets shall not eat the time of the others. */
	k->attempt_ns = now + left / (k->address_count - k->address_at);
	tw_client_arm(k->client, k->attempt_ns);
	k->connect.data = k;
	rc = uv_tcp_connect(&k->connect, &k->tcp, &k->addresses[k->address_at].any, on_connect);
	if (rc)
		next_address(k, uv_strerror(rc));
}

void tw_conn_expired(struct tw_conn *k)
{
	k->attempt_ns = TW_NEVER;
	if (k->state == CONN_CONNECTING && k->address_at + 1 < k->address_count) {
		if (!k->next_address)
			next_address(k, "timed out");
		return;
	}
	conn_end(k, k->state == CONN_RESOLVING ? "timed out resolving the name" : "timed out",
	         true);
}

/* ---- resolving ---- */

static void address_add(struct tw_conn *k, const struct sockaddr *a, uint16_t port)
{
	union tw_sockaddr *to = &k->addresses[k->address_count];

	if (k->address_count == CLIENT_ADDRESSES_MAX)
		return;
	if (a->sa_family == AF_INET) {
		memcpy(&to->v4, a, sizeof to->v4);
		to->v4.sin_port = htons(port);
		k->address_count++;
	} else if (a->sa_family == AF_INET6) {
		memcpy(&to->v6, a, sizeof to->v6);
		to->v6.sin6_port = htons(port);
		k->address_count++;
	}
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *list)
{
	struct tw_client *c = req->data;
	struct tw_conn *k;

	c->resolving = false;
	TAILQ_FOREACH(k, &c->conns, link)
	{
		if (k->state != CONN_RESOLVING)
			continue;
		for (struct addrinfo *a = status == 0 ? list : NULL; a; a = a->ai_next)
			address_add(k, a->ai_addr, c->opts.port);
		if (k->address_count)
			connect_next(k);
		else
			tw_conn_fail(k, "cannot resolve the name: %s",
			             status ? uv_strerror(status) : "it has no address");
	}
	uv_freeaddrinfo(list);
	tw_client_kick(c);
}

static bool literal(struct tw_conn *k)
{
	const char *host = k->client->opts.host;
	union tw_sockaddr a;

	memset(&a, 0, sizeof a);
	if (uv_ip4_addr(host, 0, &a.v4) == 0 || uv_ip6_addr(host, 0, &a.v6) == 0)
		address_add(k, &a.any, k->client->opts.port);
	return k->address_count > 0;
}

/* One look-up at a time: a resolver that hangs holds one thread of libuv's four, not all. Every new
 * connection asks anew, so an address that has changed is noticed. */
static void conn_resolve(struct tw_conn *k)
{
	struct tw_client *c = k->client;
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	int rc;

	if (c->resolving)
		return;
	c->resolve.data = c;
	rc = uv_getaddrinfo(c->loop, &c->resolve, on_resolved, c->opts.host, NULL, &hints);
	if (rc)
		tw_conn_fail(k, "cannot resolve the name: %s", uv_strerror(rc));
	else
		c->resolving = true;
}

struct tw_conn *tw_conn_start(struct tw_client *c)
{
	uint64_t most =
	    c->opts.connect_timeout_ns ? c->opts.connect_timeout_ns : CONNECT_TIMEOUT_NS;
	struct tw_conn *k = tw_alloc(sizeof *k);

	if (!k)
		return NULL;
	memset(k, 0, offsetof(struct tw_conn, input)); /* the rest is written before it is read */
	k->client = c;
	k->state = CONN_RESOLVING;
	k->deadline_ns = k->attempt_ns = tw_now(c->opts.clock) + most;
	tw_buf_init(&k->wire, 0);
	uv_tcp_init(c->loop, &k->tcp);
	k->tcp.data = k;
	TAILQ_INSERT_TAIL(&c->conns, k, link);
	tw_client_arm(c, k->attempt_ns);
	if (literal(k))
		connect_next(k);
	else
		conn_resolve(k);
	return k;
}
