#include "server_peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "server_private.h"

/* ---- the server's side ---- */

static int http_status(int early)
{
	switch (early) {
	case TW_OK:
		return 200;
	case TW_ELIMIT:
		return 413;
	case TW_EUNSUP:
		return 415;
	case TW_EINVAL:
		return 400;
	default:
		return 503;
	}
}

static int grpc_code(int early)
{
	switch (early) {
	case TW_OK:
		return 0;
	case TW_ELIMIT:
		return TW_GRPC_RESOURCE_EXHAUSTED;
	case TW_EUNSUP:
		return TW_GRPC_UNIMPLEMENTED;
	case TW_EINVAL:
		return TW_GRPC_INTERNAL;
	default:
		return TW_GRPC_UNAVAILABLE;
	}
}

static void answer(struct bench *b, struct tw_exchange *x, int early, const char *text)
{
	struct tw_reply r = {.status = http_status(early), .grpc_status = grpc_code(early)};
	struct tw_buf body;

	tw_buf_init(&body, b->tight ? b->answer.n : 0);
	tw_buf_put(&body, b->answer.p, b->answer.n);
	r.content_type = "text/plain";
	r.body = b->answer;
	if (b->owned) {
		r.body = tw_buf_slice(&body);
		r.owned = &body;
	}
	r.grpc_message = tw_slice_str(text);
	r.close = b->close_each;
	r.retry_after_s = r.status == 503 ? 7 : 0;
	tw_exchange_reply(x, &r);
	tw_buf_deinit(&body);
}

static void note(struct bench *b, const struct tw_exchange *x, int early,
                 const struct tw_error *err)
{
	struct seen *s;

	if (b->seen_n++ >= SEEN_MAX)
		return;
	s = &b->seen[b->seen_n - 1];
	s->early = early;
	s->is_grpc = x->is_grpc;
	s->accept_gzip = x->accept_gzip;
	s->protocol = x->protocol;
	s->deadline_ns = x->deadline_ns;
	strcpy(s->method, x->method);
	strcpy(s->path, x->path);
	strcpy(s->query, x->query);
	strcpy(s->content_type, x->content_type);
	strcpy(s->authorization, x->authorization);
	if (early != 0)
		strcpy(s->text, err->text);
	s->body_n = x->body.n;
	if (x->body.n > 0 && x->body.n <= 65536) {
		s->body = malloc(x->body.n);
		memcpy(s->body, x->body.p, x->body.n);
	}
}

static void on_request(void *ctx, struct tw_exchange *x, int early, const struct tw_error *err)
{
	struct bench *b = ctx;

	note(b, x, early, err);
	if (early == TW_OK)
		b->whole++;
	else if (early == TW_ECLOSED)
		b->closed++;
	else
		b->failed++;
	if (early == TW_ECLOSED)
		return;
	if (b->hold) {
		assert_true(b->held_n < SEEN_MAX);
		b->held[b->held_n++] = x;
		return;
	}
	answer(b, x, early, early != 0 ? err->text : "");
}

static int on_head(void *ctx, struct tw_exchange *x, struct tw_reply *now)
{
	struct bench *b = ctx;

	(void)x;
	b->heads++;
	if (b->head_status == 0)
		return 0;
	now->status = b->head_status;
	now->grpc_status = TW_GRPC_UNIMPLEMENTED;
	now->grpc_message = tw_slice_str("not here");
	return 1;
}

static bool on_accept(void *ctx, uv_os_sock_t fd, uint32_t port_tag)
{
	struct bench *b = ctx;

	assert_int_equal(port_tag, 7);
	(void)tw_server_adopt(b->server, fd, port_tag);
	return true;
}

struct bench *bench_new(void (*adjust)(struct tw_server_opts *o))
{
	struct bench *b = calloc(1, sizeof(*b));
	struct tw_error err;

	b->time.mono_ns = 1000 * TW_NS_PER_S;
	b->time.wall_ns = UINT64_C(1700000000) * TW_NS_PER_S;
	b->clock = tw_clock_virtual(&b->time);
	tw_budget_init(&b->bodies, UINT64_C(256) << 20);
	b->opts = (struct tw_server_opts){.bodies = &b->bodies,
	                                  .clock = &b->clock,
	                                  .handler = on_request,
	                                  .head = on_head,
	                                  .ctx = b};
	if (adjust != NULL)
		adjust(&b->opts);
	assert_int_equal(uv_loop_init(&b->loop), 0);
	b->server = tw_server_create(&b->loop, &b->opts);
	assert_non_null(b->server);
	b->acceptor = tw_acceptor_create(&b->loop, on_accept, b);
	assert_non_null(b->acceptor);
	if (tw_acceptor_listen(b->acceptor, "127.0.0.1:0", 7, &err) != 0)
		fail_msg("%s", err.text);
	b->port = tw_acceptor_port(b->acceptor, 7);
	return b;
}

void bench_turn(struct bench *b)
{
	uv_run(&b->loop, UV_RUN_NOWAIT);
}

void bench_release(struct bench *b)
{
	uint32_t n = b->held_n;

	b->held_n = 0;
	for (uint32_t i = 0; i < n; i++)
		answer(b, b->held[i], 0, "");
}

void bench_advance(struct bench *b, uint64_t ns)
{
	tw_clock_advance(&b->time, ns);
	tw_server_sweep(b->server);
}

void bench_free(struct bench *b)
{
	tw_acceptor_stop(b->acceptor);
	tw_server_kill(b->server);
	bench_release(b);
	uv_run(&b->loop, UV_RUN_DEFAULT);
	assert_int_equal(tw_server_connections(b->server), 0);
	tw_acceptor_destroy(&b->acceptor);
	tw_server_destroy(&b->server);
	assert_int_equal(uv_loop_close(&b->loop), 0);
	assert_int_equal(tw_budget_used(&b->bodies), 0);
	for (uint32_t i = 0; i < SEEN_MAX; i++)
		free(b->seen[i].body);
	free(b);
}

/* ---- a peer ---- */

struct peer *peer_open(struct bench *b)
{
	struct peer *p = calloc(1, sizeof(*p));
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(b->port)};

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	p->b = b;
	p->reads = true;
	p->fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(p->fd, (struct sockaddr *)&to, sizeof(to)), 0);
	fcntl(p->fd, F_SETFL, O_NONBLOCK);
	assert_int_equal(nghttp2_hd_deflate_new(&p->deflater, 4096), 0);
	assert_int_equal(nghttp2_hd_inflate_new(&p->inflater), 0);
	return p;
}

void peer_free(struct peer *p)
{
	close(p->fd);
	nghttp2_hd_deflate_del(p->deflater);
	nghttp2_hd_inflate_del(p->inflater);
	for (uint32_t i = 0; i < p->stream_n; i++)
		free(p->streams[i].data);
	free(p->in);
	free(p);
}

void peer_send(struct peer *p, const void *bytes, size_t n)
{
	const uint8_t *at = bytes;

	/* Now and then the other side has its turn too, whether or not the socket is full. */
	if (++p->sends % 64 == 0)
		peer_pump(p);
	while (n > 0 && !p->closed) {
		ssize_t sent = send(p->fd, at, n, MSG_NOSIGNAL);

		if (sent > 0) {
			at += sent;
			n -= (size_t)sent;
			continue;
		}
		if (errno != EAGAIN) {
			/* What was answered before the end is still to be read. */
			for (int i = 0; i < 100; i++)
				peer_pump(p);
			p->closed = true;
		}
		peer_pump(p);
	}
}

void peer_sends(struct peer *p, const char *text)
{
	peer_send(p, text, strlen(text));
}

void peer_shut(struct peer *p)
{
	shutdown(p->fd, SHUT_WR);
}

bool peer_has(struct peer *p, const char *text)
{
	return p->in_n > 0 && memmem(p->in, p->in_n, text, strlen(text)) != NULL;
}

unsigned peer_count(struct peer *p, const char *text)
{
	unsigned count = 0;
	size_t n = strlen(text);

	for (uint8_t *at = p->in;
	     at != NULL && (at = memmem(at, p->in_n - (size_t)(at - p->in), text, n)) != NULL;
	     at += n)
		count++;
	return count;
}

/* ---- HTTP/2, coming ---- */

struct stream *h2_stream(struct peer *p, int32_t id)
{
	struct stream *s;

	for (uint32_t i = 0; i < p->stream_n; i++)
		if (p->streams[i].id == id)
			return &p->streams[i];
	assert_true(p->stream_n < STREAMS_SEEN);
	s = &p->streams[p->stream_n++];
	memset(s, 0, sizeof(*s));
	s->id = id;
	s->status = s->grpc_status = -1;
	s->reset = -1;
	return s;
}

static void keep(char *to, size_t cap, const nghttp2_nv *nv)
{
	size_t n = nv->valuelen < cap ? nv->valuelen : cap - 1;

	memcpy(to, nv->value, n);
	to[n] = '\0';
}

static bool named(const nghttp2_nv *nv, const char *name)
{
	return nv->namelen == strlen(name) && memcmp(nv->name, name, nv->namelen) == 0;
}

static void take_field(struct stream *s, const nghttp2_nv *nv)
{
	char number[16];

	if (named(nv, ":status")) {
		keep(number, sizeof(number), nv);
		s->status = atoi(number);
	} else if (named(nv, "grpc-status")) {
		keep(number, sizeof(number), nv);
		s->grpc_status = atoi(number);
	} else if (named(nv, "grpc-message")) {
		keep(s->grpc_message, sizeof(s->grpc_message), nv);
	} else if (named(nv, "grpc-accept-encoding")) {
		keep(s->grpc_accept_encoding, sizeof(s->grpc_accept_encoding), nv);
	} else if (named(nv, "content-type")) {
		keep(s->content_type, sizeof(s->content_type), nv);
	} else if (named(nv, "grpc-status-details-bin")) {
		keep(s->details, sizeof(s->details), nv);
	}
}

static void take_headers(struct peer *p, struct stream *s, const uint8_t *at, size_t n)
{
	for (;;) {
		nghttp2_nv nv;
		int flags = 0;
		ssize_t took = nghttp2_hd_inflate_hd2(p->inflater, &nv, &flags, at, n, 1);

		assert_true(took >= 0);
		at += took;
		n -= (size_t)took;
		if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0)
			take_field(s, &nv);
		if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0)
			break;
	}
	nghttp2_hd_inflate_end_headers(p->inflater);
}

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void take_frame(struct peer *p, uint8_t type, uint8_t flags, int32_t id, const uint8_t *at,
                       size_t n)
{
	struct stream *s = id > 0 ? h2_stream(p, id) : NULL;

	p->frames++;
	switch (type) {
	case NGHTTP2_DATA:
		s->data = realloc(s->data, s->data_n + n + 1);
		memcpy(s->data + s->data_n, at, n);
		s->data_n += n;
		break;
	case NGHTTP2_HEADERS:
		take_headers(p, s, at, n);
		break;
	case NGHTTP2_RST_STREAM:
		s->reset = be32(at);
		break;
	case NGHTTP2_SETTINGS:
		if ((flags & 1) != 0)
			p->settings_acks++;
		else
			p->settings++;
		break;
	case NGHTTP2_PING:
		p->ping_acks += flags & 1;
		break;
	case NGHTTP2_WINDOW_UPDATE:
		p->window_updates++;
		break;
	case NGHTTP2_GOAWAY:
		p->goaway = true;
		p->goaway_code = be32(at + 4);
		snprintf(p->goaway_text, sizeof(p->goaway_text), "%.*s", (int)(n - 8), at + 8);
		break;
	default:
		break;
	}
	if ((type == NGHTTP2_DATA || type == NGHTTP2_HEADERS) && (flags & 1) != 0)
		s->end = true;
}

static void take_frames(struct peer *p)
{
	while (p->in_n - p->parsed >= 9) {
		const uint8_t *h = p->in + p->parsed;
		size_t n = (size_t)h[0] << 16 | (size_t)h[1] << 8 | h[2];

		if (p->in_n - p->parsed < 9 + n)
			return;
		p->parsed += 9 + n;
		take_frame(p, h[3], h[4], (int32_t)(be32(h + 5) & 0x7fffffff), h + 9, n);
	}
}

void peer_pump(struct peer *p)
{
	bench_turn(p->b);
	while (p->reads && !p->closed) {
		ssize_t n;

		if (p->in_cap - p->in_n < 65536)
			p->in = realloc(p->in, p->in_cap = p->in_cap * 2 + 131072);
		n = recv(p->fd, p->in + p->in_n, p->in_cap - p->in_n, 0);
		if (n > 0) {
			p->in_n += (size_t)n;
			continue;
		}
		if (n == 0 || errno != EAGAIN)
			p->closed = true;
		break;
	}
	if (p->in_n >= 9 && memcmp(p->in, "HTTP/", 5) != 0)
		take_frames(p);
}

/* ---- HTTP/2, going ---- */

void h2_frame(struct peer *p, uint8_t type, uint8_t flags, int32_t id, const void *payload,
              size_t n)
{
	uint8_t h[9] = {(uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n, type, flags};

	for (int i = 0; i < 4; i++)
		h[5 + i] = (uint8_t)((uint32_t)id >> (24 - 8 * i));
	peer_send(p, h, sizeof(h));
	peer_send(p, payload, n);
}

void h2_start_window(struct peer *p, uint32_t initial_window)
{
	uint8_t settings[6] = {0,
	                       NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE,
	                       (uint8_t)(initial_window >> 24),
	                       (uint8_t)(initial_window >> 16),
	                       (uint8_t)(initial_window >> 8),
	                       (uint8_t)initial_window};

	peer_sends(p, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
	h2_frame(p, NGHTTP2_SETTINGS, 0, 0, settings, sizeof(settings));
	peer_until(p, p->settings == 1 && p->settings_acks == 1);
	h2_frame(p, NGHTTP2_SETTINGS, 1, 0, "", 0);
}

void h2_start(struct peer *p)
{
	h2_start_window(p, 65535);
}

size_t h2_block(struct peer *p, uint8_t *to, size_t cap, const char *method, const char *path,
                const char *content_type, const struct header *more)
{
	nghttp2_nv nv[256];
	size_t n = 0;
	ssize_t made;
	const struct header first[] = {{":method", method},
	                               {":scheme", "http"},
	                               {":path", path},
	                               {":authority", "localhost"},
	                               {"content-type", content_type}};

	for (size_t i = 0; i < 5; i++)
		if (first[i].value != NULL)
			nv[n++] = (nghttp2_nv){(uint8_t *)(uintptr_t)first[i].name,
			                       (uint8_t *)(uintptr_t)first[i].value,
			                       strlen(first[i].name), strlen(first[i].value), 0};
	for (; more != NULL && more->name != NULL; more++)
		nv[n++] = (nghttp2_nv){(uint8_t *)(uintptr_t)more->name,
		                       (uint8_t *)(uintptr_t)more->value, strlen(more->name),
		                       strlen(more->value), 0};
	made = nghttp2_hd_deflate_hd(p->deflater, to, cap, nv, n);
	assert_true(made > 0);
	return (size_t)made;
}

void h2_request(struct peer *p, int32_t id, const char *method, const char *path,
                const char *content_type, const struct header *more, bool end)
{
	uint8_t block[131072];
	size_t n = h2_block(p, block, sizeof(block), method, path, content_type, more);
	size_t first = n < 16384 ? n : 16384;

	h2_frame(p, NGHTTP2_HEADERS,
	         (uint8_t)((first == n ? NGHTTP2_FLAG_END_HEADERS : 0) |
	                   (end ? NGHTTP2_FLAG_END_STREAM : 0)),
	         id, block, first);
	for (size_t at = first; at < n;) {
		size_t piece = n - at < 16384 ? n - at : 16384;

		h2_frame(p, NGHTTP2_CONTINUATION, at + piece == n ? NGHTTP2_FLAG_END_HEADERS : 0,
		         id, block + at, piece);
		at += piece;
	}
}

void h2_data(struct peer *p, int32_t id, const void *bytes, size_t n, bool end)
{
	const uint8_t *at = bytes;

	while (n > 16384) {
		h2_frame(p, NGHTTP2_DATA, 0, id, at, 16384);
		at += 16384;
		n -= 16384;
	}
	h2_frame(p, NGHTTP2_DATA, end ? NGHTTP2_FLAG_END_STREAM : 0, id, at, n);
}

void grpc_begin(struct peer *p, int32_t id, const struct header *more)
{
	h2_request(p, id, "POST", "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
	           "application/grpc", more, false);
}

void grpc_call(struct peer *p, int32_t id, const struct header *more, bool compressed,
               const void *message, size_t n)
{
	uint8_t prefix[5] = {compressed, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8),
	                     (uint8_t)n};

	grpc_begin(p, id, more);
	h2_data(p, id, prefix, 5, false);
	h2_data(p, id, message, n, true);
}
