#include "worker.h"

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "tw/base/mem.h"
#include "tw/config.h"

#define SOCKETS_RING 1024u
#define ADOPT_MOST   32u                /* new connections a turn: some 15 µs each */
#define TICK_NS      (5 * TW_NS_PER_MS) /* the timer is never armed closer than this */
#define TICK_MOST_NS (500 * TW_NS_PER_MS)

/* ---- the loop's turns ----
 *
 * A turn reads sockets (net bounds it), and takes one bounded step of everything else: on_idle, and
 * nobody else, polls and ticks the core. Timers and other workers only ask for it. */

static void set_idle(struct tw_worker *w, bool on);

static void on_idle(uv_idle_t *h)
{
	struct tw_worker *w = h->data;
	bool more = tw_core_poll(w->core);
	uint64_t so_far =
	    tw_turns_so_far(&w->turns, tw_now(w->shared->clock), uv_metrics_idle_time(&w->loop));

	set_idle(w, tw_core_tick(w->core, so_far) || more);
}

static void set_idle(struct tw_worker *w, bool on)
{
	if (on == w->idle_on)
		return;
	w->idle_on = on;
	if (on)
		uv_idle_start(&w->idle, on_idle);
	else
		uv_idle_stop(&w->idle);
}

static void step(struct tw_worker *w);

static void on_timer(uv_timer_t *h)
{
	struct tw_worker *w = h->data;

	w->timer_at_ns = TW_NEVER;
	set_idle(w, true); /* in this turn: libuv's idle handles come after its timers */
	step(w);
}

/* Before the loop sleeps: arms the timer for what is due next. Deadlines move with every request,
 * so the timer is touched only when the next one is earlier than it, or when it has fired. */
static void on_prepare(uv_prepare_t *h)
{
	struct tw_worker *w = h->data;
	uint64_t now = tw_now(w->shared->clock), next = tw_core_next_ns(w->core);

	tw_turns_end(&w->turns, now, uv_metrics_idle_time(&w->loop), tw_cpu_ns());
	next = next > now + TICK_MOST_NS ? now + TICK_MOST_NS : next;
	next = next < now + TICK_NS ? now + TICK_NS : next;
	if (tw_core_busy(w->core))
		set_idle(w, true);
	if (next >= w->timer_at_ns)
		return;
	w->timer_at_ns = next;
	uv_update_time(&w->loop);
	uv_timer_start(&w->timer, on_timer, (next - now + TW_NS_PER_MS - 1) / TW_NS_PER_MS, 0);
}

static void adopt_sockets(struct tw_worker *w)
{
	void *p;

	for (uint32_t n = 0; n < ADOPT_MOST; n++) {
		uintptr_t v;

		p = tw_ring_take_mpsc(w->sockets);
		if (p == NULL)
			return;
		v = (uintptr_t)p;
		/* A failure has closed the socket already. */
		(void)tw_server_adopt(w->server, (uv_os_sock_t)(v >> 8), (uint32_t)(v & 0x7f));
	}
	uv_async_send(&w->async); /* perhaps there are more: in the next turn */
}

static void on_async(uv_async_t *h)
{
	struct tw_worker *w = h->data;

	adopt_sockets(w);
	set_idle(w, true);
	step(w);
}

/* ---- the states ---- */

static void reach(struct tw_worker *w, enum tw_worker_state s)
{
	atomic_store_explicit(&w->reached, s, memory_order_release);
}

static void on_closed(uv_handle_t *h)
{
	(void)h;
}

static void close_handles(struct tw_worker *w)
{
	if (w->handles_closed)
		return;
	w->handles_closed = true;
	set_idle(w, false);
	uv_close((uv_handle_t *)&w->async, on_closed);
	uv_close((uv_handle_t *)&w->timer, on_closed);
	uv_close((uv_handle_t *)&w->prepare, on_closed);
	uv_close((uv_handle_t *)&w->idle, on_closed);
}

static void step_closing(struct tw_worker *w)
{
	tw_server_drain(w->server);
	if (!w->killed && atomic_load(&w->kill)) {
		w->killed = true;
		tw_server_kill(w->server);
	}
	if (tw_server_idle(w->server) && tw_core_tickets(w->core) == 0)
		reach(w, TW_WORKER_CLOSING);
}

static void step_flushing(struct tw_worker *w)
{
	tw_core_flush(w->core);
	if (tw_core_empty(w->core))
		reach(w, TW_WORKER_FLUSHING);
}

static void step_stopping(struct tw_worker *w)
{
	if (!w->stopping) {
		w->stopping = true;
		if (!w->killed)
			tw_server_kill(w->server);
		w->killed = true;
		/* Bounded: without memory for an emergency segment it may say "more" for ever. */
		for (uint32_t i = 0; i < 1u << 20 && tw_core_drain(w->core); i++)
			;
		tw_core_stop(w->core);
	}
	/* Sends that were open end in the loop's later turns; only then is it known what was lost.
	 * Not waited for here: a transport whose handles take longer, as one that asks a dead DNS
	 * server does. */
	if (tw_core_empty(w->core)) {
		w->undelivered = tw_core_lost_at_stop(w->core);
		reach(w, TW_WORKER_STOPPING);
	}
}

static void step(struct tw_worker *w)
{
	enum tw_worker_state asked = atomic_load_explicit(&w->asked, memory_order_acquire);
	enum tw_worker_state reached = atomic_load_explicit(&w->reached, memory_order_relaxed);

	if (asked == TW_WORKER_RUNNING)
		return;
	if (asked == TW_WORKER_CLOSING && reached < TW_WORKER_CLOSING)
		step_closing(w);
	if (asked == TW_WORKER_DECIDING && reached < TW_WORKER_DECIDING) {
		if (!tw_core_drain(w->core))
			reach(w, TW_WORKER_DECIDING);
		else
			uv_async_send(&w->async);
	}
	if (asked == TW_WORKER_FLUSHING && reached < TW_WORKER_FLUSHING)
		step_flushing(w);
	if (asked >= TW_WORKER_STOPPING && reached < TW_WORKER_STOPPING)
		step_stopping(w);
	if (asked == TW_WORKER_DONE && tw_core_stopped(w->core))
		close_handles(w);
}

static void *run(void *arg)
{
	struct tw_worker *w = arg;

	uv_run(&w->loop, UV_RUN_DEFAULT);
	reach(w, TW_WORKER_DONE);
	return NULL;
}

/* ---- create ---- */

static int create_loop(struct tw_worker *w)
{
	if (uv_loop_init(&w->loop) != 0)
		return TW_EIO;
	w->loop.data = w;
	/* How long it slept; without it a turn's length is not known. */
	if (uv_loop_configure(&w->loop, UV_METRICS_IDLE_TIME) != 0)
		return TW_EIO;
	if (uv_async_init(&w->loop, &w->async, on_async) != 0)
		return TW_EIO;
	uv_timer_init(&w->loop, &w->timer);
	uv_prepare_init(&w->loop, &w->prepare);
	uv_idle_init(&w->loop, &w->idle);
	w->async.data = w->timer.data = w->prepare.data = w->idle.data = w;
	w->timer_at_ns = TW_NEVER;
	uv_prepare_start(&w->prepare, on_prepare);
	return 0;
}

static int create_transports(struct tw_worker *w, const struct tw_worker_config *c,
                             struct tw_error *err)
{
	int rc;

	for (uint32_t d = 0; d < c->shared->dest_count; d++) {
		const struct tw_dest_opts *o = &c->shared->dests[d];

		if (o->kind == TW_DEST_FILE)
			rc = tw_transport_file_create(c->files[d], &w->loop, &w->transports[d]);
		else
			rc = tw_transport_otlp_create(&w->loop, o, c->tls[d], c->shared->clock,
			                              &w->transports[d], err);
		if (rc != 0)
			return rc;
		w->transports_made = d + 1;
	}
	return 0;
}

static void sink_submit(void *self, struct tw_body *body, tw_sink_done done, void *ctx)
{
	tw_core_submit(self, body, done, ctx);
}

static int create_server(struct tw_worker *w, const struct tw_worker_config *c)
{
	struct tw_server_opts o = {
	    .body_bytes_max = c->config->receive.body_bytes_max,
	    .bodies = c->bodies,
	    .connections_max = c->config->receive.connections_max,
	    .clock = c->shared->clock,
	    .head = tw_receive_head,
	    .handler = tw_receive_request,
	    .ctx = &w->receiver,
	};

	w->receiver = (struct tw_receiver){
	    .sink = {.submit = sink_submit, .self = w->core},
	    .clock = c->shared->clock,
	    .body_bytes_max = c->config->receive.body_bytes_max,
	    .bodies = c->bodies,
	    .serving = c->serving,
	    .serving_ctx = c->serving_ctx,
	};
	w->server = tw_server_create(&w->loop, &o);
	return w->server != NULL ? 0 : TW_ENOMEM;
}

int tw_worker_create(const struct tw_worker_config *c, struct tw_worker **out, struct tw_error *err)
{
	struct tw_worker *w = tw_calloc(1, sizeof(*w));
	int rc;

	*out = NULL;
	if (w == NULL)
		return tw_error_set(err, TW_ENOMEM, 0, "out of memory");
	w->index = c->index;
	w->shared = c->shared;
	w->sockets = tw_ring_create(SOCKETS_RING);
	*out = w; /* the caller destroys it on failure, too */
	if (w->sockets == NULL)
		return tw_error_set(err, TW_ENOMEM, 0, "out of memory");
	rc = create_loop(w);
	if (rc != 0)
		return tw_error_set(err, rc, 0,
		                    "no event loop could be made: too few descriptors?");
	rc = create_transports(w, c, err);
	if (rc != 0)
		return rc;
	rc = tw_core_create(c->shared, c->index, w->transports, c->seed, &w->transports_taken,
	                    &w->core);
	if (rc != 0)
		return tw_error_set(err, rc, 0, "out of memory");
	rc = create_server(w, c);
	if (rc != 0)
		return tw_error_set(err, rc, 0, "out of memory");
	return 0;
}

int tw_worker_start(struct tw_worker *w)
{
	if (pthread_create(&w->thread, NULL, run, w) != 0)
		return TW_EIO;
	w->started = true;
	return 0;
}

/* ---- from other threads ---- */

bool tw_worker_give(struct tw_worker *w, uv_os_sock_t fd, uint32_t port_tag)
{
	/* 0x80 keeps the pointer from being NULL. */
	uintptr_t v = ((uintptr_t)(unsigned)fd << 8) | 0x80 | (port_tag & 0x7f);

	if (!tw_ring_put_mpsc(w->sockets, (void *)v))
		return false;
	uv_async_send(&w->async);
	return true;
}

void tw_worker_wake(struct tw_worker *w)
{
	uv_async_send(&w->async);
}

void tw_worker_ask(struct tw_worker *w, enum tw_worker_state s)
{
	atomic_store_explicit(&w->asked, s, memory_order_release);
	uv_async_send(&w->async);
}

void tw_worker_join(struct tw_worker *w)
{
	if (w->started)
		pthread_join(w->thread, NULL);
	w->started = false;
}

/* Transports that no exporter has taken over: only where creating failed. */
static bool own_transports_stopped(const struct tw_worker *w)
{
	for (uint32_t i = w->transports_taken; i < w->transports_made; i++)
		if (!w->transports[i].stopped(w->transports[i].self))
			return false;
	return true;
}

static void turn_until_closed(struct tw_worker *w)
{
	if (w->async.data != NULL)
		close_handles(w);
	for (uint32_t i = w->transports_taken; i < w->transports_made; i++)
		w->transports[i].stop(w->transports[i].self);
	/* Servers, clients and transports close their handles in turns. */
	while (!own_transports_stopped(w) || (w->core != NULL && !tw_core_stopped(w->core)))
		uv_run(&w->loop, UV_RUN_ONCE);
	for (uint32_t i = w->transports_taken; i < w->transports_made; i++)
		w->transports[i].destroy(w->transports[i].self);
}

void tw_worker_destroy(struct tw_worker **wp)
{
	struct tw_worker *w = *wp;

	if (w == NULL)
		return;
	if (w->server != NULL && !w->killed)
		tw_server_kill(w->server);
	if (w->core != NULL && !w->handles_closed)
		tw_core_stop(w->core);
	if (w->loop.data != NULL)
		turn_until_closed(w);
	if (w->server != NULL)
		tw_server_destroy(&w->server);
	tw_core_destroy(&w->core);
	if (w->loop.data != NULL) {
		uv_run(&w->loop, UV_RUN_DEFAULT);
		uv_loop_close(&w->loop);
	}
	for (void *p; w->sockets != NULL && (p = tw_ring_take_mpsc(w->sockets)) != NULL;)
		close((int)((uintptr_t)p >> 8));
	if (w->sockets != NULL)
		tw_ring_destroy(&w->sockets);
	tw_free(w);
	*wp = NULL;
}
