#include "http2.h"

#include "tw/base/mem.h"

/* ---- nghttp2's callbacks: requests ---- */

static struct tw_request *request_of(nghttp2_session *session, int32_t stream_id)
{
	return nghttp2_session_get_stream_user_data(session, stream_id);
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
	struct tw_conn *c = user_data;
	struct tw_h2 *h = c->h2;
	struct tw_request *r;

	h->head_ns = c->server->now_ns;
	if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
		h->in_head = request_of(session, frame->hd.stream_id);
		return 0;
	}
	/* Streams that were reset still count while the handler works on them. */
	if (c->request_count >= c->server->o.streams_max + c->server->o.streams_max / 4 ||
	    h->goaway_sent || h->ended)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	r = tw_request_open(c);
	if (r == NULL)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	r->stream_id = frame->hd.stream_id;
	h->in_head = r;
	nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, r);
	return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_n, const uint8_t *value, size_t value_n, uint8_t flags,
                     void *user_data)
{
	struct tw_h2 *h = tw_h2_of(user_data);
	struct tw_request *r = h->in_head;
	struct tw_slice n = tw_slice(name, name_n), v = tw_slice(value, value_n);

	(void)session, (void)frame, (void)flags;
	if (r == NULL)
		return 0;
	if (name_n == 0 || name[0] != ':' || r->phase != TW_REQ_HEAD) {
		tw_request_field(r, n, v);
		if (r->phase != TW_REQ_HEAD)
			r->header_bytes += name_n + value_n + 32;
	} else {
		r->header_bytes += name_n + value_n + 32;
		if (name_n == 7 && memcmp(name, ":method", 7) == 0)
			tw_request_method(r, v);
		else if (name_n == 5 && memcmp(name, ":path", 5) == 0)
			tw_request_target(r, v);
	}
	if (r->header_bytes > TW_H2_HEADER_BYTES_FATAL) {
		tw_h2_end(h, NGHTTP2_ENHANCE_YOUR_CALM, "header_too_large");
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	}
	return 0;
}

static void request_whole(struct tw_h2 *h, struct tw_request *r)
{
	tw_tokens_add(&h->idle_frames, TW_H2_IDLE_FRAMES_PER_REQUEST);
	tw_request_end(r);
}

static void headers_received(struct tw_h2 *h, const nghttp2_frame *frame)
{
	struct tw_request *r = request_of(h->session, frame->hd.stream_id);

	h->in_head = NULL;
	if (r == NULL)
		return;
	if (frame->headers.cat == NGHTTP2_HCAT_REQUEST)
		tw_request_headers_done(r);
	if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0)
		request_whole(h, r);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
	struct tw_h2 *h = tw_h2_of(user_data);
	struct tw_request *r;

	switch (frame->hd.type) {
	case NGHTTP2_HEADERS:
		headers_received(h, frame);
		break;
	case NGHTTP2_DATA:
		if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0)
			break;
		r = request_of(session, frame->hd.stream_id);
		if (r != NULL)
			request_whole(h, r);
		break;
	case NGHTTP2_RST_STREAM:
		tw_h2_count_reset(h);
		break;
	case NGHTTP2_PING:
		if ((frame->hd.flags & NGHTTP2_FLAG_ACK) == 0)
			tw_h2_count_ping(h);
		break;
	case NGHTTP2_SETTINGS:
		h->got_settings = true;
		break;
	default:
		break;
	}
	return 0;
}

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *user_data)
{
	struct tw_h2 *h = tw_h2_of(user_data);

	tw_h2_count_frame(h, hd);
	if (hd->type != NGHTTP2_HEADERS)
		return 0;
	/* RFC 9113, 5.1.1: ids only grow. nghttp2 forgives it. */
	if (hd->stream_id > h->stream_id_most)
		h->stream_id_most = hd->stream_id;
	else if (nghttp2_session_find_stream(session, hd->stream_id) == NULL)
		tw_h2_end(h, NGHTTP2_PROTOCOL_ERROR, "stream ids go back");
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *p,
                   size_t n, void *user_data)
{
	struct tw_request *r = request_of(session, stream_id);

	(void)flags, (void)user_data;
	if (r == NULL)
		return 0;
	tw_request_data(r, p, n);
	/* A whole answer is out, and the body goes on and on. */
	if (r->phase == TW_REQ_ANSWERED && r->discarded > TW_NET_LINGER_BYTES)
		tw_h2_reset(r, NGHTTP2_NO_ERROR);
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t code,
                           void *user_data)
{
	struct tw_h2 *h = tw_h2_of(user_data);
	struct tw_request *r = request_of(session, stream_id);

	(void)code;
	if (r == NULL)
		return 0;
	if (h->in_head == r)
		h->in_head = NULL;
	nghttp2_session_set_stream_user_data(session, stream_id, NULL);
	tw_request_close(r);
	return 0;
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
	struct tw_h2 *h = tw_h2_of(user_data);
	struct tw_request *r;

	if (frame->hd.type == NGHTTP2_RST_STREAM) {
		if (frame->rst_stream.error_code != NGHTTP2_NO_ERROR)
			tw_h2_count_reset(h);
		return 0;
	}
	if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
		return 0;
	/* As with gRPC's servers, data sent forgives the pings that a peer measures with. */
	h->ping_ns = 0;
	h->ping_strikes = 0;
	if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0)
		return 0;
	/* RFC 9113, 8.1: an answer that is complete before the request asks for no more of it. */
	r = request_of(session, frame->hd.stream_id);
	if (r != NULL && !r->remote_done)
		tw_h2_reset(r, NGHTTP2_NO_ERROR);
	return 0;
}

static int on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int code,
                            void *user_data)
{
	(void)session, (void)frame, (void)code;
	tw_counter_add(&((struct tw_conn *)user_data)->server->stats.protocol_errors, 1);
	return 0;
}

/* ---- life ---- */

static void *mem_alloc(size_t n, void *ctx)
{
	(void)ctx;
	return tw_alloc(n > 0 ? n : 1);
}

static void mem_free(void *p, void *ctx)
{
	(void)ctx;
	tw_free(p);
}

static void *mem_calloc(size_t count, size_t n, void *ctx)
{
	(void)ctx;
	return tw_calloc(count, n);
}

static void *mem_realloc(void *p, size_t n, void *ctx)
{
	(void)ctx;
	return p == NULL ? tw_alloc(n > 0 ? n : 1) : tw_realloc(p, n > 0 ? n : 1);
}

static int session_create(struct tw_h2 *h)
{
	nghttp2_mem mem = {NULL, mem_alloc, mem_free, mem_calloc, mem_realloc};
	nghttp2_session_callbacks *cb = NULL;
	nghttp2_option *opt = NULL;
	int rc = NGHTTP2_ERR_NOMEM;

	if (nghttp2_session_callbacks_new(&cb) != 0 || nghttp2_option_new(&opt) != 0)
		goto out;
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_begin_frame_callback(cb, on_begin_frame);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
	nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_sent);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(cb, on_invalid_frame);
	nghttp2_option_set_max_settings(opt, 32);
	nghttp2_option_set_max_continuations(opt, 8);
	nghttp2_option_set_stream_reset_rate_limit(opt, TW_H2_RESET_BURST, TW_H2_RESET_PER_S);
	rc = nghttp2_session_server_new3(&h->session, cb, h->conn, opt, &mem);
out:
	nghttp2_session_callbacks_del(cb);
	nghttp2_option_del(opt);
	return rc == 0 ? TW_OK : TW_ENOMEM;
}

static int send_settings(struct tw_h2 *h)
{
	const struct tw_server_opts *o = &h->conn->server->o;
	nghttp2_settings_entry entries[] = {
	    {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, o->streams_max},
	    {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, o->window_stream},
	    {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, TW_HEADER_BYTES_MAX},
	};

	if (nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, entries,
	                            sizeof(entries) / sizeof(entries[0])) != 0 ||
	    nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0,
	                                          (int32_t)o->window_connection) != 0)
		return TW_ENOMEM;
	return TW_OK;
}

int tw_h2_create(struct tw_conn *c)
{
	struct tw_h2 *h = tw_calloc(1, sizeof(*h));

	if (h == NULL)
		return TW_ENOMEM;
	h->conn = c;
	c->h2 = h;
	tw_h2_limits_init(h);
	if (session_create(h) != TW_OK || send_settings(h) != TW_OK)
		return TW_ENOMEM;
	if (c->server->draining)
		tw_h2_drain(c);
	return TW_OK;
}

void tw_h2_destroy(struct tw_conn *c)
{
	nghttp2_session_del(c->h2->session);
	tw_free(c->h2);
	c->h2 = NULL;
}

/* ---- bytes ---- */

void tw_h2_feed(struct tw_conn *c, const uint8_t *p, size_t n)
{
	struct tw_h2 *h = c->h2;
	ssize_t took;

	if (h->ended)
		return;
	took = nghttp2_session_mem_recv(h->session, p, n);
	if (took < 0) {
		/* What is queued, a GOAWAY among it, is still sent. */
		if (took == NGHTTP2_ERR_FLOODED)
			tw_h2_end(h, NGHTTP2_ENHANCE_YOUR_CALM, "too_many_frames");
		else
			tw_h2_end(h, NGHTTP2_PROTOCOL_ERROR, nghttp2_strerror((int)took));
		return;
	}
	tw_h2_check_queue(h);
}

void tw_h2_pull(struct tw_conn *c)
{
	struct tw_h2 *h = c->h2;

	while (!tw_conn_out_full(c)) {
		const uint8_t *p;
		ssize_t n = nghttp2_session_mem_send(h->session, &p);

		if (n < 0)
			tw_conn_abort(c);
		if (n <= 0)
			break;
		tw_buf_put(&c->out, p, (size_t)n);
	}
	tw_h2_after_pull(c);
}

void tw_h2_need(struct tw_conn *c, int rc)
{
	if (rc == 0)
		tw_conn_mark_dirty(c);
	else
		tw_conn_abort(c);
}

void tw_h2_reset(struct tw_request *r, uint32_t code)
{
	/* Once is enough. */
	r->remote_done = true;
	r->discarded = 0;
	tw_h2_need(r->conn, nghttp2_submit_rst_stream(r->conn->h2->session, NGHTTP2_FLAG_NONE,
	                                              r->stream_id, code));
}

/* ---- drain and time ---- */

static void final_goaway(struct tw_h2 *h)
{
	if (h->goaway_sent || h->ended)
		return;
	h->goaway_sent = true;
	tw_h2_need(h->conn,
	           nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE,
	                                 nghttp2_session_get_last_proc_stream_id(h->session),
	                                 NGHTTP2_NO_ERROR, NULL, 0));
}

/* RFC 9113, 6.8: first a notice, so that requests that are on their way are still served; the final
 * word comes when the next sweep finds the session, or at once when nothing is open. */
void tw_h2_drain(struct tw_conn *c)
{
	struct tw_h2 *h = c->h2;

	if (h->ended || h->notice_sent)
		return;
	h->notice_sent = true;
	if (c->requests == NULL)
		final_goaway(h);
	else
		tw_h2_need(c, nghttp2_submit_shutdown_notice(h->session));
}

void tw_h2_after_pull(struct tw_conn *c)
{
	struct tw_h2 *h = c->h2;

	if (c->closing || h->ended)
		return;
	if (h->notice_sent && c->requests == NULL)
		final_goaway(h);
	if ((h->goaway_sent && c->requests == NULL && !nghttp2_session_want_write(h->session)) ||
	    (!nghttp2_session_want_read(h->session) && !nghttp2_session_want_write(h->session))) {
		h->ended = true;
		tw_conn_close_soon(c);
	}
}

/* An answer that the peer does not take: its window stays shut. */
static void sweep_answers(struct tw_conn *c, uint64_t now)
{
	for (struct tw_request *r = c->requests, *next; r != NULL && !c->closing; r = next) {
		next = r->next;
		if (r->phase != TW_REQ_ANSWERED || !r->with_protocol ||
		    now - r->mark_ns < c->server->o.body_timeout_ns)
			continue;
		tw_counter_add(&c->server->stats.timeouts, 1);
		r->mark_ns = now;
		tw_h2_reset(r, NGHTTP2_CANCEL);
	}
}

void tw_h2_sweep(struct tw_conn *c, uint64_t now)
{
	const struct tw_server_opts *o = &c->server->o;
	struct tw_h2 *h = c->h2;

	if (h->notice_sent)
		final_goaway(h);
	if (!c->closing)
		sweep_answers(c, now);
	if (c->closing)
		return;
	if ((!h->got_settings && now - c->opened_ns >= o->header_timeout_ns) ||
	    (h->in_head != NULL && now - h->head_ns >= o->header_timeout_ns)) {
		tw_counter_add(&c->server->stats.timeouts, 1);
		tw_h2_end(h, NGHTTP2_ENHANCE_YOUR_CALM, "too_slow");
	} else if (c->requests == NULL &&
	           now - c->active_ns >= TW_H2_IDLE_FACTOR * o->idle_timeout_ns) {
		tw_h2_end(h, NGHTTP2_NO_ERROR, "idle");
	}
}
