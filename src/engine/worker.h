/* A worker thread: a core with its loop, its connections and its exporters' sockets.
 *
 * States: RUNNING → CLOSING (connections are being finished) → DECIDING (the rest is decided) →
 * FLUSHING (exporters empty themselves) → STOPPING → DONE. The main thread asks for the next state
 * (tw_worker_ask) when all workers have reached the present one: so no batch is in any ring when
 * the deciding begins.
 *
 * Threads: created and destroyed by the main thread, everything between runs on the worker's own;
 * [any] may call tw_worker_wake, tw_worker_give and read the atomics. */
#ifndef TW_ENGINE_WORKER_H
#define TW_ENGINE_WORKER_H

#include <pthread.h>
#include <uv.h>

#include "core.h"
#include "turns.h"
#include "tw/receive.h"

enum tw_worker_state {
	TW_WORKER_RUNNING,
	TW_WORKER_CLOSING,
	TW_WORKER_DECIDING,
	TW_WORKER_FLUSHING,
	TW_WORKER_STOPPING,
	TW_WORKER_DONE
};

struct tw_worker {
	uint32_t index;
	struct tw_core *core;
	struct tw_core_shared *shared;
	struct tw_receiver receiver;
	struct tw_server *server;
	uv_loop_t loop;
	uv_async_t async;
	uv_timer_t timer;
	uv_prepare_t prepare;
	uv_idle_t idle; /* runs while more work is due at once */
	bool idle_on;
	struct tw_ring *sockets; /* accepted, not adopted yet: fd and port tag in a pointer */
	struct tw_transport transports[TW_DESTINATIONS_MAX];
	uint32_t transports_made, transports_taken; /* the first `taken` are the core's */
	pthread_t thread;
	bool started, killed, stopping, handles_closed;
	uint64_t timer_at_ns; /* when the timer fires; TW_NEVER: it is off */
	struct tw_turns turns;
	uint64_t undelivered;     /* spans, at the end */
	_Atomic uint32_t asked;   /* enum tw_worker_state that the main thread wants */
	_Atomic uint32_t reached; /* the one that is complete */
	_Atomic bool kill;        /* close connections now */
};

struct tw_worker_config {
	uint32_t index;
	struct tw_core_shared *shared;
	const struct tw_config *config;
	struct tw_budget *bodies;
	struct tw_tls **tls;    /* per destination; NULL entries: plain */
	struct tw_file **files; /* per destination; NULL entries: not a file */
	bool (*serving)(void *ctx);
	void *serving_ctx;
	uint64_t seed;
};

/* 0 or a tw_err with text. [main] */
int tw_worker_create(const struct tw_worker_config *c, struct tw_worker **out,
                     struct tw_error *err);
int tw_worker_start(struct tw_worker *w); /* TW_EIO: no thread [main] */
bool tw_worker_give(struct tw_worker *w, uv_os_sock_t fd,
                    uint32_t port_tag);                          /* false: full [any] */
void tw_worker_wake(struct tw_worker *w);                        /* [any] */
void tw_worker_ask(struct tw_worker *w, enum tw_worker_state s); /* [main] */
void tw_worker_join(struct tw_worker *w);                        /* after DONE was asked [main] */
void tw_worker_destroy(struct tw_worker **w); /* never started, or joined [main] */

#endif
