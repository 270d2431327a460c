/* The admin thread: its loop, listener and server. */
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include "routes.h"
#include "tw/base/mem.h"

#define NICE 10 /* a tenth of a worker's share */

struct tw_admin {
	struct tw_admin_routes routes;
	uv_loop_t loop;
	uv_async_t stop;
	struct tw_server *server;
	struct tw_acceptor *acceptor;
	uint16_t port;
	pthread_t thread;
	bool running;
	bool closed; /* the handles are closed or closing [loop] */
};

/* [loop] */
static void close_all(struct tw_admin *a)
{
	if (a->closed)
		return;
	a->closed = true;
	if (a->acceptor != NULL)
		tw_acceptor_stop(a->acceptor);
	if (a->server != NULL)
		tw_server_kill(a->server);
	uv_close((uv_handle_t *)&a->stop, NULL);
}

static void on_stop(uv_async_t *h)
{
	close_all(h->data);
}

/* The server closes a socket that it does not take. */
static bool on_accept(void *ctx, uv_os_sock_t fd, uint32_t port_tag)
{
	struct tw_admin *a = ctx;

	tw_server_adopt(a->server, fd, port_tag);
	return true;
}

static struct tw_server *server_create(struct tw_admin *a)
{
	const struct tw_server_opts o = {
	    .body_bytes_max = (size_t)64 << 10,
	    /* One page at a time on a connection: see pages_admit. */
	    .streams_max = 1,
	    .window_stream = 64u << 10,
	    .window_connection = 64u << 10,
	    .connections_max = 256,
	    .clock = a->routes.o.clock,
	    .handler = tw_admin_handle,
	    .ctx = &a->routes,
	};

	return tw_server_create(&a->loop, &o);
}

int tw_admin_create(const struct tw_admin_opts *o, struct tw_admin **out, struct tw_error *err)
{
	struct tw_admin *a = tw_calloc(1, sizeof(*a));
	int rc;

	*out = NULL;
	if (a == NULL)
		return tw_error_set(err, TW_ENOMEM, 0, "no memory for the admin listener");
	a->routes.o = *o;
	if (uv_loop_init(&a->loop) != 0) {
		tw_free(a);
		return tw_error_set(err, TW_EIO, 0, "no event loop for the admin listener");
	}
	a->stop.data = a;
	if (uv_async_init(&a->loop, &a->stop, on_stop) != 0) {
		uv_loop_close(&a->loop);
		tw_free(a);
		return tw_error_set(err, TW_EIO, 0, "no event loop for the admin listener");
	}
	a->server = server_create(a);
	a->acceptor = tw_acceptor_create(&a->loop, on_accept, a);
	rc = a->server == NULL || a->acceptor == NULL
	         ? tw_error_set(err, TW_ENOMEM, 0, "no memory for the admin listener")
	         : tw_acceptor_listen(a->acceptor, o->listen, 0, err);
	if (rc != 0) {
		tw_admin_destroy(&a);
		return rc;
	}
	a->port = tw_acceptor_port(a->acceptor, 0);
	*out = a;
	return 0;
}

static void *run(void *arg)
{
	struct tw_admin *a = arg;

	/* A page of 100,000 series is a second's work. Where cores are short, workers go first; a
	 * kernel that refuses costs no more than that. On Linux this is the calling thread's. */
	(void)setpriority(PRIO_PROCESS, 0, NICE);
	uv_run(&a->loop, UV_RUN_DEFAULT);
	return NULL;
}

int tw_admin_start(struct tw_admin *a)
{
	sigset_t all, old;
	int rc;

	/* Signals are the main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&a->thread, NULL, run, a);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	a->running = rc == 0;
	return rc == 0 ? 0 : TW_EIO;
}

uint16_t tw_admin_port(const struct tw_admin *a)
{
	return a->port;
}

void tw_admin_stop(struct tw_admin *a)
{
	if (!a->running)
		return;
	uv_async_send(&a->stop);
	pthread_join(a->thread, NULL);
	a->running = false;
}

void tw_admin_destroy(struct tw_admin **admin)
{
	struct tw_admin *a = *admin;

	if (a == NULL)
		return;
	tw_admin_stop(a);
	close_all(a);
	uv_run(&a->loop, UV_RUN_DEFAULT);
	tw_acceptor_destroy(&a->acceptor);
	tw_server_destroy(&a->server);
	TW_ASSERT(uv_loop_close(&a->loop) == 0);
	tw_free(a);
	*admin = NULL;
}
