/* A server that takes every request and throws it away: what net costs by itself, and what h2spec
 * is run against. echo_server ADDRESS      e.g. 127.0.0.1:4318 POST (and HEAD, GET) /v1/traces and
 * / → 200, gRPC → OK with an empty message, else 404. Ends on SIGTERM or SIGINT. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "tw/net.h"
#include "tw/base/error.h"

struct echo {
	uv_loop_t loop;
	struct tw_server *server;
	struct tw_acceptor *acceptor;
	uv_signal_t term, intr;
};

static int http_status(int early, const char *path)
{
	switch (early) {
	case TW_OK:
		return strcmp(path, "/v1/traces") == 0 || strcmp(path, "/") == 0 ? 200 : 404;
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

static int grpc_status(int early)
{
	switch (early) {
	case TW_OK:
		return 0;
	case TW_ELIMIT:
		return 8;
	case TW_EUNSUP:
		return 12;
	case TW_EINVAL:
		return 3;
	default:
		return 14;
	}
}

static void on_request(void *ctx, struct tw_exchange *x, int early, const struct tw_error *err)
{
	struct tw_reply r = {.content_type = "text/plain"};

	(void)ctx;
	if (early == TW_ECLOSED)
		return;
	r.status = http_status(early, x->path);
	r.grpc_status = grpc_status(early);
	r.body = x->is_grpc
	             ? tw_slice(NULL, 0)
	             : tw_slice_str("taken, and thrown away: this server keeps nothing of it\n");
	if (early != TW_OK)
		r.grpc_message = tw_slice_str(err->text);
	tw_exchange_reply(x, &r);
}

static bool on_accept(void *ctx, uv_os_sock_t fd, uint32_t port_tag)
{
	struct echo *e = ctx;

	(void)tw_server_adopt(e->server, fd, port_tag);
	return true;
}

static void on_signal(uv_signal_t *h, int signum)
{
	struct echo *e = h->data;

	(void)signum;
	tw_acceptor_stop(e->acceptor);
	tw_server_kill(e->server);
	uv_close((uv_handle_t *)&e->term, NULL);
	uv_close((uv_handle_t *)&e->intr, NULL);
}

int main(int argc, char **argv)
{
	static struct echo e;
	static struct tw_budget bodies;
	struct tw_server_opts o = {
	    .handler = on_request, .bodies = &bodies, .clock = &tw_clock_real};
	struct tw_error err;

	if (argc != 2) {
		fprintf(stderr, "usage: echo_server ADDRESS\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	tw_budget_init(&bodies, UINT64_C(1) << 30);
	uv_loop_init(&e.loop);
	e.server = tw_server_create(&e.loop, &o);
	e.acceptor = tw_acceptor_create(&e.loop, on_accept, &e);
	if (e.server == NULL || e.acceptor == NULL ||
	    tw_acceptor_listen(e.acceptor, argv[1], 0, &err) != TW_OK) {
		fprintf(stderr, "%s\n", err.text);
		return 3;
	}
	uv_signal_init(&e.loop, &e.term);
	uv_signal_init(&e.loop, &e.intr);
	e.term.data = e.intr.data = &e;
	uv_signal_start(&e.term, on_signal, SIGTERM);
	uv_signal_start(&e.intr, on_signal, SIGINT);
	printf("listening on port %u\n", tw_acceptor_port(e.acceptor, 0));
	fflush(stdout);
	uv_run(&e.loop, UV_RUN_DEFAULT);
	tw_acceptor_destroy(&e.acceptor);
	tw_server_destroy(&e.server);
	return uv_loop_close(&e.loop) == 0 ? 0 : 4;
}
