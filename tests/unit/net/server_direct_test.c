/* Messages read straight into their bodies: whatever frames come and however they are cut, the
 * handler hears of the same as when all bytes go through the read buffer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>

#include "http2_direct.h"

#define HEARD_MAX 64u
#define STREAMS   3u

struct heard { /* what became of a request */
	int early;
	size_t n;
	uint64_t hash;
};

struct way { /* a server, fed in one way */
	uv_loop_t loop;
	struct tw_server *server;
	struct tw_budget bodies;
	struct tw_clock_virtual time;
	struct tw_clock clock;
	struct heard heard[HEARD_MAX];
	uint32_t heard_n;
	uint64_t direct; /* bytes that came so */
};

static uint64_t random_state;

static uint32_t below(uint32_t n)
{
	random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (uint32_t)((random_state >> 33) % n);
}

static void on_request(void *ctx, struct tw_exchange *x, int early, const struct tw_error *err)
{
	struct way *w = ctx;
	struct tw_reply r = {.status = 200, .content_type = "text/plain"};
	struct heard *h = &w->heard[w->heard_n++];

	(void)err;
	assert_true(w->heard_n <= HEARD_MAX);
	*h = (struct heard){.early = early, .n = x->body.n, .hash = 14695981039346656037u};
	for (size_t i = 0; i < x->body.n; i++)
		h->hash = (h->hash ^ x->body.p[i]) * 1099511628211u;
	if (early != TW_ECLOSED)
		tw_exchange_reply(x, &r);
}

static void way_begin(struct way *w)
{
	struct tw_server_opts o = {.body_bytes_max = 1 << 20, .handler = on_request, .ctx = w};

	memset(w, 0, sizeof(*w));
	w->time.mono_ns = TW_NS_PER_S;
	w->clock = tw_clock_virtual(&w->time);
	tw_budget_init(&w->bodies, 4 << 20);
	o.clock = &w->clock;
	o.bodies = &w->bodies;
	assert_int_equal(uv_loop_init(&w->loop), 0);
	w->server = tw_server_create(&w->loop, &o);
	assert_non_null(w->server);
}

static void way_end(struct way *w)
{
	if (w->server->conns != NULL)
		tw_conn_abort(w->server->conns);
	tw_conn_flush_all(w->server);
	assert_null(w->server->conns);
	assert_int_equal(w->server->requests_out, 0);
	assert_int_equal(tw_budget_used(&w->bodies), 0);
	tw_server_kill(w->server);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	tw_server_destroy(&w->server);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&w->loop), 0);
}

/* ---- what a peer sends ---- */

struct sender {
	struct tw_buf out;
	nghttp2_hd_deflater *deflater;
	uint32_t frame; /* the usual length of its frames */
	bool odd;       /* now and then it sends something else */
	struct {
		int32_t id; /* 0: not open */
		size_t left;
		uint8_t next;
	} stream[STREAMS];
	int32_t last_id;
};

static void frame(struct sender *s, uint8_t type, uint8_t flags, int32_t id, size_t n)
{
	const uint8_t head[9] = {
	    (uint8_t)(n >> 16),  (uint8_t)(n >> 8),   (uint8_t)n,         type,       flags,
	    (uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id};

	tw_buf_put(&s->out, head, sizeof(head));
}

static void begin_request(struct sender *s, uint32_t i)
{
#define NV(name, value) {(uint8_t *)(name), (uint8_t *)(value), strlen(name), strlen(value), 0}
	nghttp2_nv nv[] = {NV(":method", "POST"),
	                   NV(":scheme", "http"),
	                   NV(":path", "/x"),
	                   NV(":authority", "a"),
	                   NV("content-type", "application/grpc"),
	                   NV("te", "trailers")};
	uint8_t block[512];
	ssize_t n = nghttp2_hd_deflate_hd(s->deflater, block, sizeof(block), nv,
	                                  sizeof(nv) / sizeof(nv[0]));

	assert_true(n > 0);
	s->last_id += 2;
	s->stream[i].id = s->last_id;
	s->stream[i].left = 0;
	frame(s, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, s->last_id, (size_t)n);
	tw_buf_put(&s->out, block, (size_t)n);
}

static void bytes(struct sender *s, uint32_t i, size_t n)
{
	while (n-- > 0)
		tw_buf_putc(&s->out, (char)(s->stream[i].next += 7));
}

/* The first frame has the message's prefix. */
static void begin_message(struct sender *s, uint32_t i)
{
	uint32_t n = below(4) == 0 ? below(1000) : below(200000);
	const uint8_t prefix[5] = {0, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8),
	                           (uint8_t)n};
	uint32_t first = n < s->frame - 5 ? n : s->frame - 5;

	s->stream[i].left = n - first;
	frame(s, NGHTTP2_DATA, 0, s->stream[i].id, 5 + (size_t)first);
	tw_buf_put(&s->out, prefix, 5);
	bytes(s, i, first);
}

static void data(struct sender *s, uint32_t i, size_t n, bool end)
{
	bool padded = s->odd && below(10) == 0;

	frame(s, NGHTTP2_DATA,
	      (uint8_t)((end ? NGHTTP2_FLAG_END_STREAM : 0) | (padded ? NGHTTP2_FLAG_PADDED : 0)),
	      s->stream[i].id, n + (padded ? 4 : 0));
	if (padded)
		tw_buf_putc(&s->out, 3);
	bytes(s, i, n);
	if (padded)
		tw_buf_put(&s->out, "\0\0\0", 3);
}

static void go_on(struct sender *s, uint32_t i)
{
	size_t left = s->stream[i].left, n = left < s->frame ? left : s->frame;
	uint32_t what = s->odd ? below(24) : 23;
	bool end = left == n && below(2) == 0;

	if (what == 0) { /* broken off */
		frame(s, NGHTTP2_RST_STREAM, 0, s->stream[i].id, 4);
		tw_buf_put(&s->out, "\0\0\0\10", 4);
		s->stream[i].id = 0;
		return;
	}
	if (what == 1) /* ends too early */
		end = true;
	if (what == 2) /* more than was said */
		n += 1 + below(1000);
	if (what >= 3 && what < 6) /* another length */
		n = n > 0 ? below((uint32_t)n) : 0;
	if (what == 6) {
		frame(s, NGHTTP2_PING, 0, 0, 8);
		tw_buf_put(&s->out, "12345678", 8);
	}
	if (n < left && what != 1)
		end = false;
	data(s, i, n, end);
	s->stream[i].left = n < left ? left - n : 0;
	if (s->stream[i].left == 0 && !end) {
		data(s, i, 0, true);
		end = true;
	}
	if (end)
		s->stream[i].id = 0;
}

static void make(struct sender *s)
{
	uint32_t requests = 2 + below(8);
	uint32_t streams = below(3) == 0 ? STREAMS : 1;

	memset(s, 0, sizeof(*s));
	tw_buf_init(&s->out, 0);
	assert_int_equal(nghttp2_hd_deflate_new(&s->deflater, 4096), 0);
	s->frame = below(3) == 0 ? 64 + below(16384 - 64) : 16384;
	s->odd = below(2) == 0;
	s->last_id = -1;
	tw_buf_put(&s->out, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
	frame(s, NGHTTP2_SETTINGS, 0, 0, 0);
	frame(s, NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, 0);
	for (bool open = true; open || requests > 0;) {
		uint32_t i = below(streams);

		if (s->stream[i].id != 0) {
			go_on(s, i);
		} else if (requests > 0) {
			requests--;
			begin_request(s, i);
			begin_message(s, i);
		}
		open = false;
		for (uint32_t k = 0; k < streams; k++)
			open |= s->stream[k].id != 0;
	}
	nghttp2_hd_deflate_del(s->deflater);
}

/* ---- two ways ---- */

static size_t feed_direct(struct way *w, struct tw_conn *c, const uint8_t *p, size_t n)
{
	struct tw_h2_direct d;
	size_t room = 0, some, at = 0;

	tw_h2_direct_plan(c, &d, w->server->read_buf, TW_NET_DIRECT_REST);
	for (uint32_t i = 0; i < d.count; i++)
		room += d.iov[i].iov_len;
	some = below(2) == 0 ? room : 1 + below((uint32_t)room);
	some = some < n ? some : n;
	for (uint32_t i = 0; at < some; i++) {
		size_t k = d.iov[i].iov_len < some - at ? d.iov[i].iov_len : some - at;

		memcpy(d.iov[i].iov_base, p + at, k);
		at += k;
	}
	tw_conn_feed_direct(c, &d, some);
	w->direct += some;
	return some;
}

static void deliver(struct way *w, const struct tw_buf *b, bool direct)
{
	struct tw_conn *c = tw_conn_create(w->server, 1, false);

	assert_non_null(c);
	for (size_t at = 0; at < b->n && w->server->conns != NULL;) {
		size_t n = b->n - at, piece = 1 + below(40000);

		if (direct && tw_h2_direct_ready(c)) {
			n = feed_direct(w, c, (uint8_t *)b->p + at, n);
		} else {
			n = n < piece ? n : piece;
			tw_conn_feed(c, (uint8_t *)b->p + at, n);
		}
		at += n;
		tw_conn_flush_all(w->server);
		if (w->server->conns != NULL)
			tw_buf_clear(&c->out);
	}
}

static void the_same_is_heard(void **state)
{
	uint64_t direct = 0, whole = 0;

	(void)state;
	for (uint32_t seed = 1; seed <= 400; seed++) {
		struct way plain, straight;
		struct sender s;

		random_state = seed;
		make(&s);
		way_begin(&plain);
		way_begin(&straight);
		deliver(&plain, &s.out, false);
		deliver(&straight, &s.out, true);
		assert_int_equal(plain.heard_n, straight.heard_n);
		for (uint32_t i = 0; i < plain.heard_n; i++) {
			assert_int_equal(plain.heard[i].early, straight.heard[i].early);
			assert_int_equal(plain.heard[i].n, straight.heard[i].n);
			assert_true(plain.heard[i].hash == straight.heard[i].hash);
			whole += plain.heard[i].early == 0;
		}
		direct += straight.direct;
		way_end(&plain);
		way_end(&straight);
		tw_buf_deinit(&s.out);
	}
	assert_true(direct > 10000000 && whole > 500);
}

/* A peer that sends past its window: the stream is gone, and with it the body. */
static void past_the_window(void **state)
{
	struct way w;
	struct sender s = {.last_id = -1, .frame = 16384};

	(void)state;
	tw_buf_init(&s.out, 0);
	assert_int_equal(nghttp2_hd_deflate_new(&s.deflater, 4096), 0);
	random_state = 1;
	way_begin(&w);
	tw_buf_put(&s.out, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
	frame(&s, NGHTTP2_SETTINGS, 0, 0, 0);
	/* Its SETTINGS are not acknowledged: the window is 65,535 bytes. */
	begin_request(&s, 0);
	frame(&s, NGHTTP2_DATA, 0, s.last_id, 16384);
	tw_buf_put(&s.out, "\0\0\4\0\0", 5);
	bytes(&s, 0, 16384 - 5);
	for (int i = 0; i < 14; i++)
		data(&s, 0, 16384, false);
	deliver(&w, &s.out, true);
	assert_true(w.direct > 0);
	assert_int_equal(w.heard_n, 1);
	assert_int_equal(w.heard[0].early, TW_ECLOSED);
	nghttp2_hd_deflate_del(s.deflater);
	tw_buf_deinit(&s.out);
	way_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_same_is_heard),
	    cmocka_unit_test(past_the_window),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
