#include "http1.h"

#include <strings.h>

#include "tw/base/mem.h"

static struct tw_h1 *self(llhttp_t *p)
{
	return p->data;
}

static int stop_with(struct tw_h1 *h, int status)
{
	h->refuse = status;
	return HPE_USER;
}

/* ---- the parser's callbacks ---- */

static int on_message_begin(llhttp_t *p)
{
	struct tw_h1 *h = self(p);

	h->r = tw_request_open(h->conn);
	if (h->r == NULL)
		return stop_with(h, 503);
	tw_buf_clear(&h->line);
	h->name_n = 0;
	h->head_ns = h->conn->server->now_ns;
	h->extension_bytes = 0;
	h->hosts = 0;
	h->head_done = h->message_done = h->answered = h->expect_continue = h->bad_expect = false;
	return 0;
}

static int on_piece(llhttp_t *p, const char *at, size_t n)
{
	struct tw_h1 *h = self(p);

	if (n > h->line.max - h->line.n)
		return stop_with(h, 431);
	tw_buf_put(&h->line, at, n);
	return h->line.failed ? stop_with(h, 503) : 0;
}

static int on_method_complete(llhttp_t *p)
{
	struct tw_h1 *h = self(p);

	tw_request_method(h->r, tw_buf_slice(&h->line));
	tw_buf_clear(&h->line);
	/* The preface of HTTP/2, gone wrong further on. */
	return strcmp(h->r->x.method, "PRI") == 0 ? stop_with(h, 400) : 0;
}

static int on_url(llhttp_t *p, const char *at, size_t n)
{
	struct tw_h1 *h = self(p);

	/* Longer ones are refused in any case: no need to keep them. */
	if (h->line.n + n > sizeof(h->r->x.path) + sizeof(h->r->x.query))
		return stop_with(h, 414);
	return on_piece(p, at, n);
}

static int on_url_complete(llhttp_t *p)
{
	struct tw_h1 *h = self(p);

	tw_request_target(h->r, tw_buf_slice(&h->line));
	tw_buf_clear(&h->line);
	return 0;
}

static int on_field_complete(llhttp_t *p)
{
	struct tw_h1 *h = self(p);

	h->name_n = h->line.n;
	return 0;
}

static void note_expect(struct tw_h1 *h, struct tw_slice value)
{
	if (value.n == 12 && strncasecmp((const char *)value.p, "100-continue", 12) == 0)
		h->expect_continue = true;
	else
		h->bad_expect = true;
}

static int on_value_complete(llhttp_t *p)
{
	struct tw_h1 *h = self(p);
	struct tw_slice name = tw_slice(h->line.p, h->name_n);
	struct tw_slice value = tw_slice(h->line.p + h->name_n, h->line.n - h->name_n);
	bool in_head = h->r->phase == TW_REQ_HEAD;

	if (in_head)
		tw_request_field(h->r, name, value);
	else
		h->r->header_bytes += name.n + value.n + 32;
	if (in_head && name.n == 4 && strncasecmp((const char *)name.p, "host", 4) == 0)
		h->hosts++;
	if (in_head && name.n == 6 && strncasecmp((const char *)name.p, "expect", 6) == 0)
		note_expect(h, value);
	tw_buf_clear(&h->line);
	h->name_n = 0;
	if (h->r->header_bytes > TW_HEADER_BYTES_MAX || h->r->header_count > TW_HEADER_COUNT_MAX)
		return stop_with(h, 431);
	return 0;
}

static void judge_head(struct tw_h1 *h)
{
	if (h->parser.http_major != 1)
		tw_request_refuse(h->r, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
	else if (h->hosts > 1 || (h->hosts == 0 && h->parser.http_minor >= 1))
		tw_request_refuse(h->r, 400, "a request has exactly one Host");
	else if (h->bad_expect)
		tw_request_refuse(h->r, 417, "only 100-continue can be expected");
	/* Who breaks the protocol's own rules may mean something else by what follows. */
	if (h->r->bad_status == 505 || h->r->bad_status == 400)
		h->must_close = true;
}

static int on_headers_complete(llhttp_t *p)
{
	struct tw_h1 *h = self(p);
	struct tw_request *r = h->r;

	/* An upgrade is an offer; it is not taken, and the request is served as it is. */
	p->upgrade = 0;
	h->head_done = true;
	h->keep_alive = llhttp_should_keep_alive(p) != 0;
	if ((p->flags & F_CHUNKED) != 0)
		r->content_length = UINT64_MAX;
	else if ((p->flags & F_CONTENT_LENGTH) == 0)
		r->content_length = 0;
	judge_head(h);
	/* RFC 9110, 10.1.1: no 100 to HTTP/1.0, and none where no body follows. */
	if (p->http_minor == 0 || r->content_length == 0)
		h->expect_continue = false;
	tw_request_headers_done(r);
	if (h->expect_continue && !h->answered && !r->discard) {
		tw_buf_puts(&h->conn->out, "HTTP/1.1 100 Continue\r\n\r\n");
		h->expect_continue = false;
	}
	return 0;
}

static int on_body(llhttp_t *p, const char *at, size_t n)
{
	tw_request_data(self(p)->r, (const uint8_t *)at, n);
	return 0;
}

static int on_extension(llhttp_t *p, const char *at, size_t n)
{
	struct tw_h1 *h = self(p);

	(void)at;
	h->extension_bytes += (uint32_t)n;
	return h->extension_bytes > TW_H1_EXTENSION_BYTES_MAX ? stop_with(h, 400) : 0;
}

static int on_message_complete(llhttp_t *p)
{
	self(p)->message_done = true;
	return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_message_begin = on_message_begin,
    .on_url = on_url,
    .on_method = on_piece,
    .on_header_field = on_piece,
    .on_header_value = on_piece,
    .on_chunk_extension_name = on_extension,
    .on_chunk_extension_value = on_extension,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
    .on_url_complete = on_url_complete,
    .on_method_complete = on_method_complete,
    .on_header_field_complete = on_field_complete,
    .on_header_value_complete = on_value_complete,
};

/* ---- life ---- */

int tw_h1_create(struct tw_conn *c)
{
	struct tw_h1 *h = tw_calloc(1, sizeof(*h));

	if (h == NULL)
		return TW_ENOMEM;
	llhttp_init(&h->parser, HTTP_REQUEST, &settings);
	h->parser.data = h;
	h->conn = c;
	h->first = true;
	tw_buf_init(&h->line, TW_HEADER_BYTES_MAX);
	c->h1 = h;
	return TW_OK;
}

void tw_h1_destroy(struct tw_conn *c)
{
	tw_buf_deinit(&c->h1->line);
	tw_free(c->h1);
	c->h1 = NULL;
}

/* ---- reading ---- */

bool tw_h1_ready(const struct tw_conn *c)
{
	const struct tw_h1 *h = c->h1;

	return !h->must_close && (h->r == NULL || !h->message_done);
}

/* The bytes make no sense, or too much of it. */
static void refuse_bytes(struct tw_h1 *h)
{
	struct tw_conn *c = h->conn;
	int status = h->refuse != 0 ? h->refuse : 400;

	tw_counter_add(&c->server->stats.protocol_errors, 1);
	h->must_close = true;
	if (h->r == NULL || h->answered) {
		tw_conn_close_soon(c);
		return;
	}
	/* What begins like nothing that HTTP/1 knows gets no answer in its words: it may be a
	 * broken HTTP/2 preface. */
	if (llhttp_get_errno(&h->parser) == HPE_INVALID_METHOD && h->first) {
		struct tw_request *r = h->r;

		h->r = NULL;
		tw_request_close(r);
		tw_conn_close_soon(c);
		return;
	}
	tw_request_broken(h->r, status, llhttp_get_error_reason(&h->parser));
}

void tw_h1_settle(struct tw_conn *c)
{
	struct tw_h1 *h = c->h1;
	struct tw_request *r = h->r;

	if (r == NULL || !h->answered)
		return;
	if (h->must_close)
		tw_conn_close_soon(c);
	if (!h->message_done && !h->must_close)
		return;
	h->r = NULL;
	h->first = false;
	tw_request_close(r);
}

size_t tw_h1_feed(struct tw_conn *c, const uint8_t *p, size_t n)
{
	struct tw_h1 *h = c->h1;
	size_t at = 0;

	while (at < n && tw_h1_ready(c) && !tw_conn_out_full(c) && !c->closing) {
		const char *from = (const char *)p + at;
		llhttp_errno_t e = llhttp_execute(&h->parser, from, n - at);

		if (e == HPE_PAUSED) {
			at += (size_t)(llhttp_get_error_pos(&h->parser) - from);
			llhttp_resume(&h->parser);
			tw_request_end(h->r);
		} else {
			at = n;
			if (e != HPE_OK)
				refuse_bytes(h);
		}
		tw_h1_settle(c);
	}
	return at;
}

void tw_h1_eof(struct tw_conn *c)
{
	struct tw_h1 *h = c->h1;

	if (h->r != NULL && !h->message_done)
		tw_conn_abort(c);
}

/* ---- the answer ---- */

/* Whether what is left of a request that is answered already is worth waiting for. */
static bool rest_is_short(const struct tw_h1 *h)
{
	const struct tw_request *r = h->r;

	return !h->expect_continue && r->content_length != UINT64_MAX &&
	       r->content_length - r->body_bytes <= TW_NET_LINGER_BYTES;
}

void tw_h1_reply(struct tw_request *r, const struct tw_reply *reply)
{
	struct tw_conn *c = r->conn;
	struct tw_h1 *h = c->h1;

	TW_ASSERT(h->r == r && !h->answered);
	if (reply->close || !h->keep_alive || c->server->draining || c->eof)
		h->must_close = true;
	if (!h->message_done && (!h->head_done || !rest_is_short(h)))
		h->must_close = true;
	tw_h1_write(h, reply, h->must_close);
	h->answered = true;
}

/* ---- drain and time ---- */

void tw_h1_drain(struct tw_conn *c)
{
	/* A request that has begun is served, and its answer says close. */
	if (c->h1->r == NULL && c->held.n == 0)
		tw_conn_close_soon(c);
}

void tw_h1_sweep(struct tw_conn *c, uint64_t now)
{
	const struct tw_server_opts *o = &c->server->o;
	struct tw_h1 *h = c->h1;

	if (h->r == NULL) {
		if (c->held.n == 0 && now - c->active_ns >= o->idle_timeout_ns)
			tw_conn_close_soon(c);
		return;
	}
	if (h->r->phase == TW_REQ_HEAD && now - h->head_ns >= o->header_timeout_ns) {
		tw_request_timeout(h->r, "the header came too slowly");
	} else if (h->answered && !h->message_done && !h->must_close &&
	           now - h->r->mark_ns >= o->body_timeout_ns) {
		/* Answered, and the rest of its body does not come. */
		tw_counter_add(&c->server->stats.timeouts, 1);
		tw_conn_close_soon(c);
	}
}
