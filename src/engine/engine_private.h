/* What engine.c, reload.c, drain.c and books.c share; nobody else includes it. */
#ifndef TW_ENGINE_ENGINE_PRIVATE_H
#define TW_ENGINE_ENGINE_PRIVATE_H

#include "tw/admin.h"
#include "tw/engine.h"
#include "worker.h"

enum { TW_PORT_GRPC, TW_PORT_HTTP };

struct tw_engine {
	struct tw_config *config;
	const struct tw_clock *clock;
	struct tw_core_shared shared;
	struct tw_rulebook book;
	struct tw_budget bodies;
	struct tw_registry *registry;
	struct tw_admin *admin;
	struct tw_tls *tls[TW_DESTINATIONS_MAX];
	struct tw_file *files[TW_DESTINATIONS_MAX];
	struct tw_worker *workers[TW_WORKERS_MAX];
	/* The acceptor's thread. */
	uv_loop_t accept_loop;
	uv_async_t accept_stop;
	pthread_t accept_thread;
	struct tw_acceptor *acceptor;
	bool accept_loop_on, accept_running, accept_stopped;
	uint16_t ports[2];
	_Atomic bool started, leaving, abort_drain;
	_Atomic uint64_t reloads_ok, reloads_failed;
	_Atomic uint32_t
	    generation; /* number in force: the admin thread must not follow the pointer */
	/* Scratch of the scrape: the admin thread's. */
	struct tw_core_books *scrape_books; /* [workers] */
	struct tw_rule_row *scrape_rows, *scrape_sum;
};

/* engine.c */
void tw_engine_accept_join(struct tw_engine *e); /* stops accepting; waits for the thread */
/* reload.c */
/* Reads the rule file, or the embedded default; out is to be deinited by the caller. */
int tw_engine_rules_read(const struct tw_engine *e, struct tw_buf *out, struct tw_buf *report);
const char *tw_engine_rules_name(const struct tw_engine *e);
/* books.c */
void tw_engine_collect(void *engine, struct tw_expo *e); /* a tw_collect_fn [admin thread] */
void tw_engine_collect_timings(struct tw_engine *e, struct tw_expo *x); /* timings.c */
void tw_engine_status(void *engine, struct tw_buf *out);                /* [admin thread] */
enum tw_readiness tw_engine_readiness(void *engine);                    /* [any] */

#endif
