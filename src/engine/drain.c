#include "engine_private.h"

#include <stdatomic.h>
#include <time.h>

#include "tw/base/log.h"

static void pause_ms(long ms)
{
	struct timespec t = {.tv_nsec = ms * 1000000};

	nanosleep(&t, NULL);
}

/* Workers do these by themselves: neither a sender nor a backend can make them long. They are not
 * cut short, not even by a second signal: a batch that is still in a ring when its owner stops
 * would be lost without being counted. */
#define OWN_WORK_NS (60 * TW_NS_PER_S)

/* Asks all workers for a state and waits until each has reached it; false: the time is over, or, if
 * may_abort, a second signal came. */
static bool all_reach(struct tw_engine *e, enum tw_worker_state s, uint64_t until_ns,
                      bool may_abort)
{
	for (;;) {
		bool all = true;

		for (uint32_t i = 0; i < e->shared.workers; i++)
			if (atomic_load_explicit(&e->workers[i]->reached, memory_order_acquire) <
			    s) {
				all = false;
				tw_worker_ask(e->workers[i], s);
			}
		if (all)
			return true;
		if (tw_now(e->clock) >= until_ns || (may_abort && atomic_load(&e->abort_drain)))
			return false;
		pause_ms(2);
	}
}

/* A worker that a hanging disk keeps from stopping has said the rest in its books. */
static uint64_t undelivered(const struct tw_worker *w)
{
	struct tw_core_books b;
	uint64_t n = 0;

	if (atomic_load_explicit(&w->reached, memory_order_acquire) >= TW_WORKER_STOPPING)
		return w->undelivered;
	tw_core_books_read(w->core, &b, NULL, 0);
	for (uint32_t d = 0; d < w->shared->dest_count; d++)
		n += b.dest[d].pending + b.dest[d].queued + b.dest[d].lost[TW_LOST_SHUTDOWN];
	return n;
}

uint64_t tw_engine_drain(struct tw_engine *e)
{
	uint64_t most = e->config->drain.most_ns, start = tw_now(e->clock), lost = 0;

	atomic_store(&e->leaving, true);
	tw_engine_accept_join(e);
	/* What is open may finish, but slow senders get a quarter of the time at most. */
	if (!all_reach(e, TW_WORKER_CLOSING, start + most / 4, true)) {
		atomic_store(&e->shared.draining, true);
		for (uint32_t i = 0; i < e->shared.workers; i++)
			atomic_store(&e->workers[i]->kill, true);
		all_reach(e, TW_WORKER_CLOSING, tw_now(e->clock) + OWN_WORK_NS, false);
	}
	/* Every worker's tickets are at zero: no batch is in any ring, so deciding sees whole
	 * traces. */
	all_reach(e, TW_WORKER_DECIDING, start + most, true);
	all_reach(e, TW_WORKER_FLUSHING, start + most, true);
	all_reach(e, TW_WORKER_STOPPING, tw_now(e->clock) + OWN_WORK_NS, false);
	for (uint32_t i = 0; i < e->shared.workers; i++)
		lost += undelivered(e->workers[i]);
	return lost;
}

void tw_engine_abort_drain(struct tw_engine *e)
{
	atomic_store(&e->abort_drain, true);
}
