#include "server_private.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "tw/base/mem.h"

#define SWEEP_MS 1000

/* The turn is over. */
static void on_prepare(uv_prepare_t *h)
{
	struct tw_server *s = h->data;

	tw_conn_flush_all(s);
	if (!s->turn_short) {
		s->round++;
		s->round_short = false;
	}
	s->turn_short = false;
	s->turn_ns = 0;
}

static void on_check(uv_check_t *h)
{
	tw_conn_flush_all(h->data);
}

static void on_timer(uv_timer_t *h)
{
	tw_server_sweep(h->data);
}

static void set_defaults(struct tw_server_opts *o)
{
	if (o->body_bytes_max == 0)
		o->body_bytes_max = TW_BODY_BYTES_MAX_DEFAULT;
	if (o->streams_max == 0)
		o->streams_max = TW_STREAMS_MAX;
	if (o->window_stream == 0)
		o->window_stream = 16u << 20;
	if (o->window_connection == 0)
		o->window_connection = 256u << 20;
	if (o->header_timeout_ns == 0)
		o->header_timeout_ns = 10 * TW_NS_PER_S;
	if (o->idle_timeout_ns == 0)
		o->idle_timeout_ns = 60 * TW_NS_PER_S;
	if (o->body_timeout_ns == 0)
		o->body_timeout_ns = 30 * TW_NS_PER_S;
	if (o->connections_max == 0)
		o->connections_max = 10000;
	if (o->clock == NULL)
		o->clock = &tw_clock_real;
}

static int start_handles(struct tw_server *s)
{
	uv_prepare_init(s->loop, &s->prepare);
	uv_check_init(s->loop, &s->check);
	uv_timer_init(s->loop, &s->timer);
	s->prepare.data = s->check.data = s->timer.data = s;
	s->handles = 3;
	uv_prepare_start(&s->prepare, on_prepare);
	uv_check_start(&s->check, on_check);
	uv_timer_start(&s->timer, on_timer, SWEEP_MS, SWEEP_MS);
	/* A server without connections does not keep a loop alive. */
	uv_unref((uv_handle_t *)&s->prepare);
	uv_unref((uv_handle_t *)&s->check);
	uv_unref((uv_handle_t *)&s->timer);
	return TW_OK;
}

struct tw_server *tw_server_create(uv_loop_t *loop, const struct tw_server_opts *o)
{
	struct tw_server *s = tw_calloc(1, sizeof(*s));

	TW_ASSERT(o->handler != NULL);
	if (s == NULL)
		return NULL;
	s->read_buf = tw_alloc(TW_NET_READ_BYTES);
	if (s->read_buf == NULL) {
		tw_free(s);
		return NULL;
	}
	s->o = *o;
	set_defaults(&s->o);
	s->loop = loop;
	s->now_ns = tw_now(s->o.clock);
	s->date_s = UINT64_MAX;
	start_handles(s);
	return s;
}

int tw_server_adopt(struct tw_server *s, uv_os_sock_t fd, uint32_t port_tag)
{
	struct tw_conn *c;
	int one = 1;

	s->now_ns = tw_now(s->o.clock);
	if (s->draining || s->killed || tw_server_connections(s) >= s->o.connections_max) {
		tw_counter_add(&s->stats.refused_connections, 1);
		close(fd);
		return s->draining || s->killed ? TW_ECLOSED : TW_EFULL;
	}
	c = tw_conn_create(s, port_tag, true);
	if (c == NULL) {
		tw_counter_add(&s->stats.refused_connections, 1);
		close(fd);
		return TW_ENOMEM;
	}
	if (uv_tcp_open(&c->tcp, fd) != 0) {
		close(fd);
		tw_conn_abort(c);
		return TW_EIO;
	}
	/* Answers are small and written whole: waiting for more would only delay them. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	tw_conn_start_reading(c);
	return TW_OK;
}

uint32_t tw_server_connections(const struct tw_server *s)
{
	return atomic_load_explicit((_Atomic uint32_t *)(uintptr_t)&s->conn_count,
	                            memory_order_relaxed);
}

const struct tw_server_stats *tw_server_stats(const struct tw_server *s)
{
	return &s->stats;
}

void tw_server_drain(struct tw_server *s)
{
	if (s->draining || s->killed)
		return;
	s->now_ns = tw_now(s->o.clock);
	s->draining = true;
	for (struct tw_conn *c = s->conns, *next; c != NULL; c = next) {
		next = c->next;
		if (c->closing)
			continue;
		if (c->proto == TW_CONN_H2)
			tw_h2_drain(c);
		else if (c->proto == TW_CONN_H1)
			tw_h1_drain(c);
		else
			tw_conn_close_soon(c);
	}
}

bool tw_server_idle(const struct tw_server *s)
{
	return s->draining && tw_server_connections(s) == 0;
}

static void on_handle_closed(uv_handle_t *h)
{
	struct tw_server *s = h->data;

	s->handles--;
}

void tw_server_kill(struct tw_server *s)
{
	if (s->killed)
		return;
	s->killed = true;
	for (struct tw_conn *c = s->conns; c != NULL; c = c->next)
		tw_conn_abort(c);
	tw_conn_flush_all(s);
	uv_close((uv_handle_t *)&s->prepare, on_handle_closed);
	uv_close((uv_handle_t *)&s->check, on_handle_closed);
	uv_close((uv_handle_t *)&s->timer, on_handle_closed);
}

void tw_server_destroy(struct tw_server **sp)
{
	struct tw_server *s = *sp;

	*sp = NULL;
	if (s == NULL)
		return;
	TW_ASSERT(s->killed && s->handles == 0 && s->conns == NULL);
	tw_request_free_pool(s);
	tw_free(s->read_buf);
	s->read_buf = NULL;
	tw_inflater_deinit(&s->inflater);
	s->destroyed = true;
	/* Requests may still be with the handler; the last reply frees what is left. */
	if (s->requests_out == 0)
		tw_free(s);
}
