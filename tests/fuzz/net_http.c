/* The server's connection without a socket: any bytes, in pieces, over HTTP/1 and HTTP/2. Whatever
 * comes, each request that the handler hears of ends once, and nothing stays behind. Byte 0: bit 0
 * puts an HTTP/2 preface in front; bit 1 holds answers back until the next piece; bits 2–7: how
 * pieces are cut. */
#include "../../src/net/server_private.h"

#define HELD_MAX 256

struct fuzz {
	uv_loop_t loop;
	struct tw_server *server;
	struct tw_budget bodies;
	struct tw_clock_virtual time;
	struct tw_clock clock;
	struct tw_exchange *held[HELD_MAX];
	uint32_t held_n;
	bool hold;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void answer(struct tw_exchange *x, int early)
{
	struct tw_reply r = {.status = early == 0 ? 200 : 400, .grpc_status = early == 0 ? 0 : 13};

	r.content_type = "text/plain";
	r.body = tw_slice_str("ok");
	r.grpc_message = tw_slice_str(early == 0 ? "" : "no");
	tw_exchange_reply(x, &r);
}

static void on_request(void *ctx, struct tw_exchange *x, int early, const struct tw_error *err)
{
	struct fuzz *f = ctx;

	TW_ASSERT(early == 0 || (err->text[0] != '\0' && x->body.n == 0));
	if (early == TW_ECLOSED)
		return;
	if (f->hold && f->held_n < HELD_MAX)
		f->held[f->held_n++] = x;
	else
		answer(x, early);
}

static void release(struct fuzz *f)
{
	uint32_t n = f->held_n;

	f->held_n = 0;
	for (uint32_t i = 0; i < n; i++)
		answer(f->held[i], 0);
}

static struct fuzz *boot(void)
{
	static struct fuzz f;
	struct tw_server_opts o = {.body_bytes_max = 1 << 20, .handler = on_request, .ctx = &f};

	if (f.server != NULL)
		return &f;
	f.time.mono_ns = TW_NS_PER_S;
	f.clock = tw_clock_virtual(&f.time);
	tw_budget_init(&f.bodies, 2 << 20);
	o.clock = &f.clock;
	o.bodies = &f.bodies;
	TW_ASSERT(uv_loop_init(&f.loop) == 0);
	f.server = tw_server_create(&f.loop, &o);
	TW_ASSERT(f.server != NULL);
	return &f;
}

/* False: the connection has ended. */
static bool turn(struct fuzz *f)
{
	tw_conn_flush_all(f->server);
	if (f->server->conns == NULL)
		return false;
	/* All that is to be sent is sent. */
	TW_ASSERT(f->server->conns->out.n < TW_NET_OUT_HIGH + (1 << 20));
	tw_buf_clear(&f->server->conns->out);
	return true;
}

static void feed(struct fuzz *f, struct tw_conn *c, const uint8_t *p, size_t n, size_t piece)
{
	for (size_t at = 0; at < n; at += piece) {
		size_t left = n - at;

		/* As the socket does: not read while bytes wait. */
		for (int i = 0; c->held.n > 0; i++) {
			TW_ASSERT(i < 100000);
			release(f);
			if (!turn(f))
				return;
			tw_conn_mark_dirty(c);
		}
		tw_conn_feed(c, p + at, left < piece ? left : piece);
		if (!turn(f))
			return;
		release(f);
		if (!turn(f))
			return;
	}
	tw_clock_advance(&f->time, 31 * TW_NS_PER_S);
	tw_server_sweep(f->server);
	if (turn(f))
		tw_conn_eof(c);
	release(f);
	if (turn(f))
		tw_conn_abort(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const uint8_t preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
	struct fuzz *f = boot();
	struct tw_conn *c;
	size_t piece;

	if (n < 2)
		return 0;
	f->hold = (data[0] & 2) != 0;
	piece = data[0] >> 2 == 63 ? n : 1 + (size_t)(data[0] >> 2) * 7;
	c = tw_conn_create(f->server, 1, false);
	TW_ASSERT(c != NULL);
	if ((data[0] & 1) != 0)
		tw_conn_feed(c, preface, sizeof(preface) - 1);
	feed(f, c, data + 1, n - 1, piece);
	release(f);
	tw_conn_flush_all(f->server);
	TW_ASSERT(f->server->conns == NULL);
	TW_ASSERT(f->server->requests_out == 0);
	TW_ASSERT(tw_budget_used(&f->bodies) == 0);
	return 0;
}
