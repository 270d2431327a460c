/* How long the turns of a worker's loop are: what a socket, a timer or another worker may have to
 * wait for, because whatever is done in a turn is done before the loop looks at its sockets again.
 *
 * A turn lasts from where the loop wakes to where it is about to sleep again. Its wall time is what
 * others wait for; its CPU time says whether the worker worked or was not let on its core. The
 * thread's CPU time also grows while it sleeps: where it goes to sleep and where it is woken, the
 * kernel does network work of other threads and charges it for that, milliseconds of it under a
 * large scrape. That is no part of a turn, so a turn's CPU time is at most its wall time.
 *
 * Threads: tw_turns_end is the worker's [owner]; the counters may be read by anybody;
 * tw_turns_longest starts the maximum anew and is the admin thread's. Where it meets a turn that is
 * just ending, that turn is in this maximum, in the next one, or shorter than the one that was just
 * read: nothing long is lost. */
#ifndef TW_ENGINE_TURNS_H
#define TW_ENGINE_TURNS_H

#include "tw/base/clock.h"
#include "tw/base/counter.h"

#define TW_TURN_BOUNDS 9u
extern const uint64_t tw_turn_bound_ns[TW_TURN_BOUNDS];           /* inclusive, rising */
extern const char *const tw_turn_bound_names[TW_TURN_BOUNDS + 1]; /* in seconds, "+Inf" last */

struct tw_turns {
	uint64_t wall_ns, idle_ns, cpu_ns;     /* where the turn began: totals of the thread */
	tw_counter bucket[TW_TURN_BOUNDS + 1]; /* turns by wall time */
	tw_counter wall_sum_ns, cpu_sum_ns;
	tw_counter wall_longest_ns, cpu_longest_ns;
};

/* The totals until now; idle_ns: of it, asleep. The first call begins the first turn. [owner] */
void tw_turns_end(struct tw_turns *t, uint64_t wall_ns, uint64_t idle_ns, uint64_t cpu_ns);
/* How long the turn at hand has been; the same totals as tw_turns_end's. [owner] */
uint64_t tw_turns_so_far(const struct tw_turns *t, uint64_t wall_ns, uint64_t idle_ns);
/* The longest since the last call that did not peek. [admin] */
uint64_t tw_turns_longest(tw_counter *longest_ns, bool peek);

#endif
