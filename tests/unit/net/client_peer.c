#include "client_peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>
#include <cmocka.h>

/* In a script's thread cmocka cannot end the test: the process ends, and says where. */
#define PEER_CHECK(x)                                                                              \
	((x) ? (void)0 : (fprintf(stderr, "%s:%d: peer: %s\n", __FILE__, __LINE__, #x), abort()))

/* ---- the thread ---- */

static void *peer_main(void *arg)
{
	struct peer *p = arg;

	p->script(p);
	peer_hang_up(p);
	return NULL;
}

void peer_start(struct peer *p, peer_script script, void *ctx)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	SSL_CTX *tls = p->tls;

	memset(p, 0, sizeof *p);
	p->tls = tls;
	p->fd = -1;
	p->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(p->listener >= 0);
	assert_int_equal(bind(p->listener, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(p->listener, 16), 0);
	assert_int_equal(getsockname(p->listener, (struct sockaddr *)&a, &n), 0);
	p->port = ntohs(a.sin_port);
	p->script = script;
	p->ctx = ctx;
	assert_int_equal(pthread_create(&p->thread, NULL, peer_main, p), 0);
	p->running = true;
}

void peer_join(struct peer *p)
{
	assert_true(p->running);
	assert_int_equal(pthread_join(p->thread, NULL), 0);
	p->running = false;
	close(p->listener);
}

void peer_nudge(struct peer *p)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
	                        .sin_port = htons(p->port),
	                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	close(fd);
}

static void patience(int fd)
{
	struct timeval t = {.tv_sec = PEER_PATIENCE_S};

	PEER_CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t) == 0);
	PEER_CHECK(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t) == 0);
}

bool peer_accept(struct peer *p)
{
	char rest[4096];

	patience(p->listener);
	p->fd = accept(p->listener, NULL, NULL);
	PEER_CHECK(p->fd >= 0);
	patience(p->fd);
	PEER_CHECK(setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)) == 0);
	p->accepted++;
	if (!p->tls)
		return true;
	p->ssl = SSL_new(p->tls);
	PEER_CHECK(p->ssl && SSL_set_fd(p->ssl, p->fd) == 1);
	if (SSL_accept(p->ssl) == 1)
		return true;
	/* Closing with bytes unread would reset the connection, and the alert would be lost. */
	while (recv(p->fd, rest, sizeof rest, 0) > 0)
		;
	return false;
}

void peer_hang_up(struct peer *p)
{
	peer_h2_end(p);
	if (p->ssl) {
		SSL_shutdown(p->ssl);
		SSL_free(p->ssl);
		p->ssl = NULL;
	}
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

ptrdiff_t peer_read(struct peer *p, void *to, size_t n)
{
	return p->ssl ? SSL_read(p->ssl, to, (int)n) : recv(p->fd, to, n, 0);
}

void peer_write(struct peer *p, const void *b, size_t n)
{
	const char *at = b;

	while (n > 0) {
		ptrdiff_t got =
		    p->ssl ? SSL_write(p->ssl, at, (int)n) : send(p->fd, at, n, MSG_NOSIGNAL);

		if (got <= 0)
			return;
		at += got;
		n -= (size_t)got;
	}
}

void peer_puts(struct peer *p, const char *s)
{
	peer_write(p, s, strlen(s));
}

void peer_until_end(struct peer *p)
{
	char b[4096];

	while (peer_read(p, b, sizeof b) > 0)
		;
}

/* ---- HTTP/1.1 ---- */

static void body_add(struct peer_request *r, const void *b, size_t n)
{
	if (r->body_n + n > r->body_cap) {
		r->body_cap = (r->body_n + n) * 2;
		r->body = realloc(r->body, r->body_cap);
		PEER_CHECK(r->body);
	}
	memcpy(r->body + r->body_n, b, n);
	r->body_n += n;
}

void peer_http_request(struct peer *p, struct peer_request *r)
{
	char b[4096], *end;
	size_t length;
	ptrdiff_t n;

	memset(r, 0, sizeof *r);
	while (!strstr(r->head, "\r\n\r\n")) {
		n = peer_read(p, r->head + r->head_n, 1);
		if (n <= 0)
			return;
		r->head_n += (size_t)n;
		PEER_CHECK(r->head_n < sizeof r->head - 1);
	}
	end = strcasestr(r->head, "content-length:");
	PEER_CHECK(end);
	length = strtoul(end + 15, NULL, 10);
	while (r->body_n < length) {
		n = peer_read(p, b, length - r->body_n < sizeof b ? length - r->body_n : sizeof b);
		if (n <= 0)
			return;
		body_add(r, b, (size_t)n);
	}
	r->whole = true;
}

void peer_request_free(struct peer_request *r)
{
	free(r->body);
	memset(r, 0, sizeof *r);
}

bool peer_request_has(const struct peer_request *r, const char *line)
{
	return strstr(r->head, line) != NULL;
}

/* ---- HTTP/2 ---- */

static struct peer_request *stream_of(struct peer *p, int32_t id)
{
	for (int i = 0; i < PEER_STREAMS_MAX; i++) {
		if (p->streams[i].stream == id)
			return &p->streams[i];
	}
	for (int i = 0; i < PEER_STREAMS_MAX; i++) {
		if (p->streams[i].stream == 0) {
			p->streams[i].stream = id;
			return &p->streams[i];
		}
	}
	PEER_CHECK(!"streams left");
	return NULL;
}

static int h2_header(nghttp2_session *s, const nghttp2_frame *f, const uint8_t *name, size_t name_n,
                     const uint8_t *value, size_t value_n, uint8_t flags, void *ctx)
{
	struct peer_request *r = stream_of(ctx, f->hd.stream_id);
	size_t room = sizeof r->head - r->head_n;

	(void)s, (void)flags;
	PEER_CHECK(name_n + value_n + 4 < room);
	r->head_n += (size_t)snprintf(r->head + r->head_n, room, "%.*s: %.*s\n", (int)name_n,
	                              (const char *)name, (int)value_n, (const char *)value);
	return 0;
}

static int h2_data(nghttp2_session *s, uint8_t flags, int32_t stream, const uint8_t *b, size_t n,
                   void *ctx)
{
	(void)s, (void)flags;
	body_add(stream_of(ctx, stream), b, n);
	return 0;
}

static int h2_frame(nghttp2_session *s, const nghttp2_frame *f, void *ctx)
{
	(void)s;
	if ((f->hd.type == NGHTTP2_HEADERS || f->hd.type == NGHTTP2_DATA) &&
	    (f->hd.flags & NGHTTP2_FLAG_END_STREAM))
		stream_of(ctx, f->hd.stream_id)->whole = true;
	return 0;
}

void peer_h2_begin(struct peer *p, uint32_t streams_max, uint32_t window)
{
	nghttp2_settings_entry e[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, streams_max},
	                              {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window}};
	nghttp2_session_callbacks *b;
	nghttp2_option *o;

	PEER_CHECK(nghttp2_session_callbacks_new(&b) == 0 && nghttp2_option_new(&o) == 0);
	nghttp2_session_callbacks_set_on_header_callback(b, h2_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(b, h2_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(b, h2_frame);
	nghttp2_option_set_no_auto_window_update(o, p->manual_windows);
	PEER_CHECK(nghttp2_session_server_new2(&p->h2, b, p, o) == 0);
	nghttp2_option_del(o);
	nghttp2_session_callbacks_del(b);
	PEER_CHECK(nghttp2_submit_settings(p->h2, 0, e, 2) == 0);
	peer_h2_flush(p);
}

void peer_h2_flush(struct peer *p)
{
	const uint8_t *b;
	ssize_t n;

	while ((n = nghttp2_session_mem_send(p->h2, &b)) > 0)
		peer_write(p, b, (size_t)n);
	PEER_CHECK(n == 0);
}

bool peer_h2_turn(struct peer *p)
{
	uint8_t b[16384];
	ptrdiff_t n;

	peer_h2_flush(p);
	n = peer_read(p, b, sizeof b);
	if (n <= 0)
		return false;
	PEER_CHECK(nghttp2_session_mem_recv(p->h2, b, (size_t)n) == n);
	peer_h2_flush(p);
	return true;
}

struct peer_request *peer_h2_request(struct peer *p)
{
	do {
		for (int i = 0; i < PEER_STREAMS_MAX; i++) {
			if (p->streams[i].stream && p->streams[i].whole) {
				p->streams[i].whole = false; /* handed out */
				return &p->streams[i];
			}
		}
	} while (peer_h2_turn(p));
	return NULL;
}

static size_t fields(nghttp2_nv *nv, const struct peer_field *f, size_t n)
{
	for (size_t i = 0; i < n; i++)
		nv[i] =
		    (nghttp2_nv){(uint8_t *)(uintptr_t)f[i].name, (uint8_t *)(uintptr_t)f[i].value,
		                 strlen(f[i].name), strlen(f[i].value), 0};
	return n;
}

struct piece {
	const uint8_t *p;
	size_t n;
	bool end;
};

static ssize_t piece_read(nghttp2_session *s, int32_t stream, uint8_t *buf, size_t length,
                          uint32_t *flags, nghttp2_data_source *source, void *ctx)
{
	struct piece *piece = source->ptr;
	size_t n = piece->n < length ? piece->n : length;

	(void)s, (void)stream, (void)ctx;
	memcpy(buf, piece->p, n);
	piece->p += n;
	piece->n -= n;
	if (piece->n == 0) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		if (!piece->end)
			*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
	}
	return (ssize_t)n;
}

void peer_h2_headers(struct peer *p, int32_t stream, const struct peer_field *f, size_t n, bool end)
{
	nghttp2_nv nv[128];

	PEER_CHECK(n <= 128);
	fields(nv, f, n);
	PEER_CHECK(nghttp2_submit_headers(p->h2, end ? NGHTTP2_FLAG_END_STREAM : 0, stream, NULL,
	                                  nv, n, NULL) == 0);
	peer_h2_flush(p);
}

void peer_h2_data(struct peer *p, int32_t stream, const void *b, size_t n, bool end)
{
	struct piece piece = {b, n, end};
	nghttp2_data_provider source = {.source.ptr = &piece, .read_callback = piece_read};

	PEER_CHECK(nghttp2_submit_data(p->h2, end ? NGHTTP2_FLAG_END_STREAM : 0, stream, &source) ==
	           0);
	peer_h2_flush(p);
	/* Wait for the client's windows, or for it to give the stream up. */
	while (piece.n > 0 && nghttp2_session_get_stream_remote_window_size(p->h2, stream) >= 0) {
		if (!peer_h2_turn(p))
			return;
	}
}

void peer_h2_end(struct peer *p)
{
	nghttp2_session_del(p->h2);
	p->h2 = NULL;
	for (int i = 0; i < PEER_STREAMS_MAX; i++)
		peer_request_free(&p->streams[i]);
}

void peer_grpc_answer(struct peer *p, int32_t stream, const char *status, const void *message,
                      size_t n)
{
	struct peer_field head[] = {{":status", "200"}, {"content-type", "application/grpc"}};
	struct peer_field tail[] = {{"grpc-status", status}};
	uint8_t framed[1024] = {0, 0, 0, (uint8_t)(n >> 8), (uint8_t)n};

	PEER_CHECK(n + 5 <= sizeof framed);
	if (n)
		memcpy(framed + 5, message, n);
	peer_h2_headers(p, stream, head, 2, false);
	peer_h2_data(p, stream, framed, n + 5, false);
	peer_h2_headers(p, stream, tail, 1, true);
}

/* ---- the client's side ---- */

static void on_watchdog(uv_timer_t *t)
{
	(void)t;
	fprintf(stderr, "the client hangs\n");
	abort();
}

void side_open(struct side *s, enum tw_client_kind kind, const char *host, uint16_t port,
               struct tw_tls *tls)
{
	struct tw_client_opts o = {.kind = kind,
	                           .port = port,
	                           .tls = tls,
	                           .connect_timeout_ns = 10 * TW_NS_PER_S,
	                           .streams_max = 4,
	                           .clock = &tw_clock_real};

	memset(s, 0, sizeof *s);
	snprintf(o.host, sizeof o.host, "%s", host);
	snprintf(o.authority, sizeof o.authority, "%s:%u", host, port);
	signal(SIGPIPE, SIG_IGN); /* as the engine does: libuv does not ask for MSG_NOSIGNAL */
	assert_int_equal(uv_loop_init(&s->loop), 0);
	uv_timer_init(&s->loop, &s->watchdog);
	uv_timer_start(&s->watchdog, on_watchdog, (PEER_PATIENCE_S + 10) * 1000, 0);
	s->client = tw_client_create(&s->loop, &o);
	assert_non_null(s->client);
}

static uint8_t *copy(struct tw_slice from, struct tw_slice *to)
{
	uint8_t *p = malloc(from.n + 1);

	assert_non_null(p);
	if (from.n)
		memcpy(p, from.p, from.n);
	*to = tw_slice(p, from.n);
	return p;
}

static void on_answer(void *ctx, const struct tw_client_response *r)
{
	struct side_call *call = ctx;
	struct side *s = call->side;
	struct answer *a = &s->answers[s->count++];

	a->id = call->id;
	a->r = *r;
	a->details = copy(r->details, &a->r.details);
	a->body = copy(r->body, &a->r.body);
}

int side_try(struct side *s, const struct tw_client_request *r)
{
	struct side_call *call = &s->calls[s->sent];
	uint32_t answered = s->count;
	int rc;

	assert_true(s->sent < SIDE_ANSWERS_MAX);
	*call = (struct side_call){s, (int)s->sent};
	rc = tw_client_send(s->client, r, on_answer, call);
	assert_int_equal(s->count, answered); /* never from within */
	if (rc) {
		assert_int_equal(rc, TW_ENOMEM);
		return -1;
	}
	s->sent++;
	return call->id;
}

int side_send_request(struct side *s, const struct tw_client_request *r)
{
	int id = side_try(s, r);

	assert_true(id >= 0);
	return id;
}

int side_send(struct side *s, const void *body, size_t n, uint64_t timeout_ns)
{
	struct tw_client_request r = {.path = "/v1/traces",
	                              .content_type = "application/x-protobuf",
	                              .body = tw_slice(body, n),
	                              .timeout_ns = timeout_ns};

	return side_send_request(s, &r);
}

static struct answer *find(struct side *s, int id)
{
	for (uint32_t i = 0; i < s->count; i++) {
		if (s->answers[i].id == id)
			return &s->answers[i];
	}
	return NULL;
}

struct answer *side_wait(struct side *s, int id)
{
	struct answer *a;

	while ((a = find(s, id)) == NULL)
		uv_run(&s->loop, UV_RUN_ONCE);
	return a;
}

void side_until(struct side *s, const struct peer *p, uint32_t stage)
{
	while (p->stage < stage)
		uv_run(&s->loop, UV_RUN_NOWAIT);
}

void side_close(struct side *s)
{
	tw_client_stop(s->client);
	while (!tw_client_stopped(s->client))
		uv_run(&s->loop, UV_RUN_ONCE);
	assert_int_equal(s->count, s->sent); /* each exactly once */
	assert_int_equal(tw_client_open(s->client), 0);
	tw_client_destroy(&s->client);
	uv_close((uv_handle_t *)&s->watchdog, NULL);
	while (uv_run(&s->loop, UV_RUN_DEFAULT))
		;
	assert_int_equal(uv_loop_close(&s->loop), 0); /* nothing was left in it */
	for (uint32_t i = 0; i < s->count; i++) {
		free(s->answers[i].details);
		free(s->answers[i].body);
	}
}
