#include "server_private.h"

#include <sys/param.h>

#include "tw/base/mem.h"

/* Buffers that a large answer has grown are not kept for the life of a connection. */
#define BUF_KEPT ((size_t)16 << 10)

static const uint8_t h2_preface[24] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/* ---- life ---- */

struct tw_conn *tw_conn_create(struct tw_server *s, uint32_t port_tag, bool socket)
{
	struct tw_conn *c = tw_calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	if (socket && uv_tcp_init(s->loop, &c->tcp) != 0) {
		tw_free(c);
		return NULL;
	}
	c->tcp.data = c;
	c->server = s;
	c->port_tag = port_tag;
	c->socket = socket;
	c->opened_ns = c->active_ns = s->now_ns;
	c->round = s->round - 1;
	tw_buf_init(&c->out, 0);
	tw_buf_init(&c->sending, 0);
	tw_buf_init(&c->held, 0);
	c->next = s->conns;
	if (c->next != NULL)
		c->next->prev = c;
	s->conns = c;
	atomic_fetch_add_explicit(&s->conn_count, 1, memory_order_relaxed);
	tw_counter_add(&s->stats.connections_total, 1);
	return c;
}

static void conn_free(struct tw_conn *c)
{
	struct tw_server *s = c->server;

	if (c->prev != NULL)
		c->prev->next = c->next;
	else
		s->conns = c->next;
	if (c->next != NULL)
		c->next->prev = c->prev;
	/* A closing connection may still be in the list of dirty ones. */
	for (struct tw_conn **d = &s->dirty; c->dirty && *d != NULL; d = &(*d)->dirty_next) {
		if (*d == c) {
			*d = c->dirty_next;
			break;
		}
	}
	tw_buf_deinit(&c->out);
	tw_buf_deinit(&c->sending);
	tw_buf_deinit(&c->held);
	atomic_fetch_sub_explicit(&s->conn_count, 1, memory_order_relaxed);
	tw_free(c);
}

static void on_closed(uv_handle_t *h)
{
	conn_free(h->data);
}

/* Ends protocol and requests, then the handle. Only at the end of a flush, where nobody up the
 * stack holds a part of it. */
static void conn_finish(struct tw_conn *c)
{
	c->finished = true;
	tw_request_orphan_all(c);
	if (c->h1 != NULL)
		tw_h1_destroy(c);
	if (c->h2 != NULL)
		tw_h2_destroy(c);
	if (c->socket)
		uv_close((uv_handle_t *)&c->tcp, on_closed);
	else
		conn_free(c);
}

void tw_conn_abort(struct tw_conn *c)
{
	if (c->closing)
		return;
	tw_conn_mark_dirty(c);
	c->closing = true;
}

void tw_conn_close_soon(struct tw_conn *c)
{
	if (c->want_close || c->closing)
		return;
	c->want_close = true;
	tw_conn_mark_dirty(c);
}

/* ---- in ---- */

static void feed_http1(struct tw_conn *c, const uint8_t *p, size_t n)
{
	size_t took = tw_h1_ready(c) && c->held.n == 0 ? tw_h1_feed(c, p, n) : 0;

	if (took == n || c->closing || c->want_close)
		return;
	tw_buf_put(&c->held, p + took, n - took);
	if (c->held.failed)
		tw_conn_abort(c);
}

static void choose(struct tw_conn *c, enum tw_conn_proto proto)
{
	int rc = proto == TW_CONN_H2 ? tw_h2_create(c) : tw_h1_create(c);

	c->proto = proto;
	if (rc != TW_OK)
		tw_conn_abort(c);
}

/* The first bytes tell the protocol. Returns how many of p are part of a preface that is not
 * complete yet. */
static size_t sniff(struct tw_conn *c, const uint8_t *p, size_t n)
{
	size_t k = 0;

	while (k < n && c->preface_n < sizeof(h2_preface) && p[k] == h2_preface[c->preface_n])
		c->preface[c->preface_n++] = p[k++];
	if (c->preface_n == sizeof(h2_preface)) {
		choose(c, TW_CONN_H2);
	} else if (k < n) {
		/* No method begins like the preface and goes on differently, past its first letter.
		 */
		choose(c, TW_CONN_H1);
	} else {
		return k;
	}
	if (!c->closing && c->proto == TW_CONN_H2)
		tw_h2_feed(c, c->preface, c->preface_n);
	else if (!c->closing && c->preface_n > 0)
		feed_http1(c, c->preface, c->preface_n);
	return k;
}

static void feed_protocol(struct tw_conn *c, const uint8_t *p, size_t n)
{
	if (c->proto == TW_CONN_SNIFF) {
		size_t k = sniff(c, p, n);

		p += k;
		n -= k;
	}
	if (n == 0 || c->closing || c->want_close)
		return;
	if (c->proto == TW_CONN_H2)
		tw_h2_feed(c, p, n);
	else
		feed_http1(c, p, n);
}

void tw_conn_feed(struct tw_conn *c, const uint8_t *p, size_t n)
{
	if (c->closing)
		return;
	tw_counter_add(&c->server->stats.bytes_in, n);
	if (c->lingering || c->want_close) {
		c->lingered += n;
		if (c->lingered > 64 * TW_NET_LINGER_BYTES)
			tw_conn_abort(c);
		return;
	}
	feed_protocol(c, p, n);
	tw_conn_mark_dirty(c);
}

/* Goes on with bytes that waited for an answer to be sent. */
static void feed_held(struct tw_conn *c)
{
	struct tw_buf held = c->held;
	size_t took;

	if (held.n == 0 || c->want_close || c->closing || !tw_h1_ready(c))
		return;
	tw_buf_init(&c->held, 0);
	took = tw_h1_feed(c, held.p, held.n);
	if (took < held.n && !c->closing && !c->want_close) {
		memmove(held.p, held.p + took, held.n - took);
		held.n -= took;
		c->held = held;
	} else {
		tw_buf_deinit(&held);
	}
}

static void go_on_http1(struct tw_conn *c)
{
	tw_h1_settle(c);
	if (!tw_conn_out_full(c))
		feed_held(c);
}

void tw_conn_eof(struct tw_conn *c)
{
	if (c->closing || c->eof)
		return;
	c->eof = true;
	/* Over HTTP/1 a peer may shut its side and still wait for its answer. */
	if (c->proto == TW_CONN_H1 && !c->lingering && !c->want_close && c->held.n == 0 &&
	    c->requests != NULL) {
		tw_h1_eof(c);
		return;
	}
	if (c->proto == TW_CONN_H1 && !c->lingering &&
	    (c->held.n > 0 || c->out.n > 0 || c->writing)) {
		tw_conn_mark_dirty(c);
		return;
	}
	tw_conn_abort(c);
}

/* ---- the socket: in ---- */

/* Whether a connection may be read (again) in this turn. libuv reads a socket up to 32 times, and
 * as many sockets as are readable, before it looks at timers and other workers again: megabytes,
 * and the work that they make. */
static bool may_read(struct tw_conn *c)
{
	struct tw_server *s = c->server;
	uint64_t now = tw_now(s->o.clock);
	bool over = s->turn_ns != 0 && now - s->turn_ns > TW_NET_TURN_NS;

	if (c->round == s->round && (over || s->round_short))
		return false;
	if (over) {
		s->round_short = s->turn_short = true;
		return false;
	}
	/* The first that is read begins the turn: each turn of a round reads one at least. */
	if (s->turn_ns == 0)
		s->turn_ns = now;
	c->round = s->round;
	return true;
}

static void on_alloc(uv_handle_t *h, size_t want, uv_buf_t *buf)
{
	struct tw_conn *c = h->data;

	(void)want;
	/* Without a buffer libuv lets the socket be until the next turn, and says so: ENOBUFS. */
	if (!may_read(c))
		*buf = uv_buf_init(NULL, 0);
	else
		*buf = uv_buf_init((char *)c->server->read_buf, TW_NET_READ_BYTES);
}

static void stop_reading(struct tw_conn *c)
{
	if (c->socket && c->reading)
		uv_read_stop((uv_stream_t *)&c->tcp);
	c->reading = false;
}

/* A connection is read while somebody can take the bytes. */
static void settle_reading(struct tw_conn *c)
{
	bool want =
	    !c->eof && !c->closing && (c->lingering || (c->held.n == 0 && !tw_conn_out_full(c)));

	if (want && !c->reading)
		tw_conn_start_reading(c);
	else if (!want && c->reading)
		stop_reading(c);
}

static void on_read(uv_stream_t *h, ssize_t n, const uv_buf_t *buf)
{
	struct tw_conn *c = h->data;
	struct tw_server *s = c->server;

	if (n == 0 || n == UV_ENOBUFS || c->closing)
		return;
	s->now_ns = tw_now(s->o.clock);
	if (n > 0) {
		tw_conn_feed(c, (const uint8_t *)buf->base, (size_t)n);
		if (!c->closing)
			settle_reading(c);
		return;
	}
	stop_reading(c);
	if (n == UV_EOF)
		tw_conn_eof(c);
	else
		tw_conn_abort(c);
}

void tw_conn_start_reading(struct tw_conn *c)
{
	c->reading = true;
	if (c->socket && uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read) != 0)
		tw_conn_abort(c);
}

/* ---- the socket: out ---- */

bool tw_conn_out_full(const struct tw_conn *c)
{
	return c->out.n >= TW_NET_OUT_HIGH;
}

void tw_conn_mark_dirty(struct tw_conn *c)
{
	if (c->dirty || c->finished)
		return;
	c->dirty = true;
	c->dirty_next = c->server->dirty;
	c->server->dirty = c;
}

static void on_written(uv_write_t *req, int status)
{
	struct tw_conn *c = req->data;

	c->writing = false;
	if (c->closing)
		return;
	c->server->now_ns = tw_now(c->server->o.clock);
	if (status != 0) {
		tw_conn_abort(c);
		return;
	}
	tw_buf_clear(&c->sending);
	if (c->sending.cap > BUF_KEPT)
		tw_buf_deinit(&c->sending);
	tw_conn_mark_dirty(c);
}

/* What the kernel does not take at once goes on in the background. */
static void write_rest(struct tw_conn *c, size_t sent)
{
	struct tw_buf swap = c->sending;
	uv_buf_t b;

	c->sending = c->out;
	c->out = swap;
	b = uv_buf_init((char *)c->sending.p + sent, (unsigned)(c->sending.n - sent));
	c->write_req.data = c;
	c->writing = true;
	c->write_ns = c->server->now_ns;
	if (uv_write(&c->write_req, (uv_stream_t *)&c->tcp, &b, 1, on_written) != 0) {
		c->writing = false;
		tw_conn_abort(c);
	}
}

static void write_out(struct tw_conn *c)
{
	uv_buf_t b = uv_buf_init((char *)c->out.p, (unsigned)c->out.n);
	int rc;

	if (!c->socket || c->writing || c->out.n == 0)
		return;
	rc = uv_try_write((uv_stream_t *)&c->tcp, &b, 1);
	if (rc < 0 && rc != UV_EAGAIN) {
		tw_conn_abort(c);
		return;
	}
	tw_counter_add(&c->server->stats.bytes_out, c->out.n);
	if (rc == (int)c->out.n) {
		tw_buf_clear(&c->out);
		if (c->out.cap > BUF_KEPT * 8)
			tw_buf_deinit(&c->out);
		return;
	}
	write_rest(c, rc > 0 ? (size_t)rc : 0);
}

static void on_shutdown(uv_shutdown_t *req, int status)
{
	struct tw_conn *c = req->data;

	if (status != 0 && !c->closing)
		tw_conn_abort(c);
}

/* Everything is sent. Our side is shut, and the peer has a moment to see the answer: closing at
 * once would answer what it still sends with a reset, which may overtake the answer. */
static void begin_linger(struct tw_conn *c)
{
	if (c->lingering)
		return;
	c->lingering = true;
	c->linger_ns = c->server->now_ns;
	tw_buf_deinit(&c->held);
	c->shutdown_req.data = c;
	if (c->eof || !c->socket ||
	    uv_shutdown(&c->shutdown_req, (uv_stream_t *)&c->tcp, on_shutdown) != 0)
		tw_conn_abort(c);
}

static bool conn_quiet(const struct tw_conn *c)
{
	return c->out.n == 0 && !c->writing;
}

static void conn_advance(struct tw_conn *c)
{
	/* In turns: what is sent makes room for more. */
	do {
		if (c->proto == TW_CONN_H2)
			tw_h2_pull(c);
		else if (c->proto == TW_CONN_H1)
			go_on_http1(c);
		/* An answer that found no memory cannot be sent in part. */
		if (c->out.failed)
			tw_conn_abort(c);
		if (c->closing || c->out.n == 0)
			break;
		write_out(c);
	} while (!c->closing && !c->writing && c->socket);
	if (c->closing)
		return;
	if (c->eof && c->proto == TW_CONN_H1 && c->requests == NULL && c->held.n == 0)
		c->want_close = true;
	if (c->want_close && conn_quiet(c))
		begin_linger(c);
	if (!c->closing)
		settle_reading(c);
}

void tw_conn_flush(struct tw_conn *c)
{
	if (c->finished)
		return;
	if (!c->closing)
		conn_advance(c);
	if (c->closing)
		conn_finish(c);
}

void tw_conn_flush_all(struct tw_server *s)
{
	/* A connection may become dirty again while it is flushed; it comes to the front and is
	 * taken in the same turn. */
	while (s->dirty != NULL) {
		struct tw_conn *c = s->dirty;

		s->dirty = c->dirty_next;
		c->dirty = false;
		tw_conn_flush(c);
	}
}
