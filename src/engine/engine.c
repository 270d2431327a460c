#include "engine_private.h"

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "tw/base/limits.h"
#include "tw/base/log.h"
#include "tw/base/mem.h"

/* ---- the acceptor ---- */

/* Each new connection goes to the worker with the fewest. */
static bool on_accept(void *ctx, uv_os_sock_t fd, uint32_t port_tag)
{
	struct tw_engine *e = ctx;
	uint32_t best = 0, fewest = UINT32_MAX;

	for (uint32_t i = 0; i < e->shared.workers; i++) {
		struct tw_worker *w = e->workers[i];
		/* What lies in the ring is on its way: a burst is spread, too. */
		uint32_t n = tw_server_connections(w->server) + tw_ring_count(w->sockets);

		if (n < fewest) {
			fewest = n;
			best = i;
		}
	}
	return tw_worker_give(e->workers[best], fd, port_tag);
}

static void on_accept_stop(uv_async_t *h)
{
	struct tw_engine *e = h->data;

	tw_acceptor_stop(e->acceptor);
	uv_close((uv_handle_t *)h, NULL);
}

static void *accept_run(void *arg)
{
	struct tw_engine *e = arg;

	uv_run(&e->accept_loop, UV_RUN_DEFAULT);
	return NULL;
}

static int create_acceptor(struct tw_engine *e, struct tw_error *err)
{
	const char *address[2] = {e->config->receive.otlp_grpc, e->config->receive.otlp_http};
	int rc;

	if (uv_loop_init(&e->accept_loop) != 0)
		return tw_error_set(err, TW_EIO, 0, "no event loop could be made");
	e->accept_loop_on = true;
	if (uv_async_init(&e->accept_loop, &e->accept_stop, on_accept_stop) != 0)
		return tw_error_set(err, TW_EIO, 0, "no event loop could be made");
	e->accept_stop.data = e;
	e->acceptor = tw_acceptor_create(&e->accept_loop, on_accept, e);
	if (e->acceptor == NULL)
		return tw_error_set(err, TW_ENOMEM, 0, "out of memory");
	for (uint32_t i = 0; i < 2; i++) {
		if (address[i] == NULL)
			continue;
		rc = tw_acceptor_listen(e->acceptor, address[i], i, err);
		if (rc != 0)
			return rc;
		e->ports[i] = tw_acceptor_port(e->acceptor, i);
	}
	return 0;
}

/* ---- create ---- */

static void wake(void *ctx, uint32_t core)
{
	struct tw_engine *e = ctx;

	tw_worker_wake(e->workers[core]);
}

static bool serving(void *ctx)
{
	struct tw_engine *e = ctx;

	return tw_engine_readiness(e) != TW_DRAINING;
}

static int create_shared(struct tw_engine *e, struct tw_buf *report)
{
	struct tw_core_shared *s = &e->shared;
	struct tw_config *c = e->config;
	struct tw_generation *g;
	struct tw_buf rules;
	int rc;

	s->workers = c->workers;
	s->key = tw_hash_key_random();
	s->clock = e->clock;
	s->book = &e->book;
	s->buffer = c->buffer;
	s->templates_bytes_max = c->templates_bytes_max;
	s->dests = c->forward;
	s->dest_count = c->forward_count;
	s->spans_max = TW_REQUEST_SPANS_MAX;
	s->wake = wake;
	s->wake_ctx = e;
	tw_budget_init(&e->bodies, c->receive.bodies_bytes_max);
	s->views = &e->bodies;
	s->pool = tw_pool_create(&c->buffer, s->workers);
	s->red = tw_red_create(&c->metrics, s->workers, s->key);
	if (s->pool == NULL || s->red == NULL) {
		tw_buf_puts(report, "error: out of memory\n");
		return TW_ENOMEM;
	}
	tw_buf_init(&rules, 0);
	rc = tw_engine_rules_read(e, &rules, report);
	if (rc == 0)
		rc = tw_generation_create(tw_buf_slice(&rules), tw_engine_rules_name(e), s->red,
		                          s->workers, &e->book, NULL, tw_now(e->clock), &g, report);
	tw_buf_deinit(&rules);
	if (rc != 0)
		return rc;
	atomic_store(&s->live[g->number & 3], g);
	atomic_store(&s->generation, g);
	atomic_store(&e->generation, g->number);
	return 0;
}

static int create_dests(struct tw_engine *e, struct tw_error *err)
{
	for (uint32_t d = 0; d < e->config->forward_count; d++) {
		struct tw_dest_opts *o = &e->config->forward[d];

		if (o->kind == TW_DEST_FILE) {
			e->files[d] = tw_file_create(o->target, NULL, err);
			if (e->files[d] == NULL)
				return err->code;
		} else if (o->tls.enabled) {
			e->tls[d] = tw_tls_create(&o->tls, err);
			if (e->tls[d] == NULL)
				return err->code != 0 ? err->code : TW_EINVAL;
		}
	}
	return 0;
}

static int create_workers(struct tw_engine *e, struct tw_error *err)
{
	struct tw_worker_config c = {
	    .shared = &e->shared,
	    .config = e->config,
	    .bodies = &e->bodies,
	    .tls = e->tls,
	    .files = e->files,
	    .serving = serving,
	    .serving_ctx = e,
	};

	for (uint32_t i = 0; i < e->shared.workers; i++) {
		int rc;

		c.index = i;
		c.seed = tw_hash_u64x2(e->shared.key, i, tw_now(e->clock));
		rc = tw_worker_create(&c, &e->workers[i], err);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int create_admin(struct tw_engine *e, struct tw_error *err)
{
	struct tw_admin_opts o = {
	    .listen = e->config->admin.listen,
	    .clock = e->clock,
	    .readiness = tw_engine_readiness,
	    .status = tw_engine_status,
	    .ctx = e,
	};

	e->registry = tw_registry_create();
	e->scrape_books = tw_calloc(e->shared.workers, sizeof(*e->scrape_books));
	e->scrape_rows = tw_calloc(TW_RULE_IDS_MAX, sizeof(*e->scrape_rows));
	e->scrape_sum = tw_calloc(TW_RULE_IDS_MAX, sizeof(*e->scrape_sum));
	if (e->registry == NULL || e->scrape_books == NULL || e->scrape_rows == NULL ||
	    e->scrape_sum == NULL || tw_registry_add(e->registry, tw_red_collect, e->shared.red) ||
	    tw_registry_add(e->registry, tw_engine_collect, e) ||
	    tw_registry_add(e->registry, tw_collect_process, NULL))
		return tw_error_set(err, TW_ENOMEM, 0, "out of memory");
	if (o.listen == NULL)
		return 0; /* admin.listen: off */
	o.registry = e->registry;
	return tw_admin_create(&o, &e->admin, err);
}

int tw_engine_create(struct tw_config *config, const struct tw_clock *clock, struct tw_engine **out,
                     struct tw_buf *report)
{
	struct tw_engine *e = tw_alloc_aligned(64, sizeof(*e));
	struct tw_error err = {.text = ""};
	int rc;

	*out = NULL;
	if (e == NULL) {
		tw_buf_puts(report, "error: out of memory\n");
		return TW_ENOMEM;
	}
	memset(e, 0, sizeof(*e));
	e->config = config;
	e->clock = clock;
	rc = create_shared(e, report);
	if (rc == 0) {
		rc = create_dests(e, &err);
		if (rc == 0)
			rc = create_workers(e, &err);
		if (rc == 0)
			rc = create_acceptor(e, &err);
		if (rc == 0)
			rc = create_admin(e, &err);
		if (rc != 0)
			tw_buf_printf(report, "error: %s\n", err.text);
	}
	if (rc != 0) {
		e->config = NULL; /* stays the caller's */
		tw_engine_destroy(&e);
		return rc;
	}
	*out = e;
	return 0;
}

int tw_engine_start(struct tw_engine *e)
{
	for (uint32_t i = 0; i < e->shared.workers; i++)
		if (tw_worker_start(e->workers[i]) != 0)
			return TW_EIO;
	if (e->admin != NULL && tw_admin_start(e->admin) != 0)
		return TW_EIO;
	if (pthread_create(&e->accept_thread, NULL, accept_run, e) != 0)
		return TW_EIO;
	e->accept_running = true;
	atomic_store(&e->started, true);
	return 0;
}

void tw_engine_reopen(struct tw_engine *e)
{
	for (uint32_t d = 0; d < e->config->forward_count; d++)
		if (e->files[d] != NULL)
			tw_file_reopen(e->files[d]);
}

uint16_t tw_engine_port(const struct tw_engine *e, uint32_t which)
{
	if (which < 2)
		return e->ports[which];
	return e->admin != NULL ? tw_admin_port(e->admin) : 0;
}

/* ---- destroy ---- */

static void destroy_acceptor(struct tw_engine *e)
{
	if (!e->accept_loop_on)
		return;
	if (e->accept_running)
		tw_engine_accept_join(e);
	else if (e->accept_stop.data != NULL && !e->accept_stopped) {
		if (e->acceptor != NULL)
			tw_acceptor_stop(e->acceptor);
		uv_close((uv_handle_t *)&e->accept_stop, NULL);
		uv_run(&e->accept_loop, UV_RUN_DEFAULT);
	}
	if (e->acceptor != NULL)
		tw_acceptor_destroy(&e->acceptor);
	uv_run(&e->accept_loop, UV_RUN_DEFAULT);
	uv_loop_close(&e->accept_loop);
}

void tw_engine_accept_join(struct tw_engine *e)
{
	uv_async_send(&e->accept_stop);
	pthread_join(e->accept_thread, NULL);
	e->accept_running = false;
	e->accept_stopped = true;
}

void tw_engine_destroy(struct tw_engine **ep)
{
	struct tw_engine *e = *ep;

	if (e == NULL)
		return;
	if (e->admin != NULL) {
		tw_admin_stop(e->admin);
		tw_admin_destroy(&e->admin);
	}
	destroy_acceptor(e);
	for (uint32_t i = 0; i < e->shared.workers; i++) {
		struct tw_worker *w = e->workers[i];

		if (w != NULL && w->started) {
			tw_worker_ask(w, TW_WORKER_DONE);
			tw_worker_join(w);
		}
	}
	/* Only when no worker runs: a core may reach into the others' rings until then. */
	for (uint32_t i = 0; i < e->shared.workers; i++)
		tw_worker_destroy(&e->workers[i]);
	for (uint32_t d = 0; d < TW_DESTINATIONS_MAX; d++) {
		if (e->files[d] != NULL)
			tw_file_destroy(&e->files[d]);
		if (e->tls[d] != NULL)
			tw_tls_destroy(&e->tls[d]);
	}
	for (uint32_t i = 0; i < 4; i++) {
		struct tw_generation *g = atomic_load(&e->shared.live[i]);

		tw_generation_destroy(&g);
	}
	if (e->registry != NULL)
		tw_registry_destroy(&e->registry);
	if (e->shared.pool != NULL)
		tw_pool_destroy(&e->shared.pool);
	if (e->shared.red != NULL)
		tw_red_destroy(&e->shared.red);
	tw_rulebook_deinit(&e->book);
	tw_free(e->scrape_books);
	tw_free(e->scrape_rows);
	tw_free(e->scrape_sum);
	tw_config_destroy(&e->config);
	tw_free(e);
	*ep = NULL;
}
