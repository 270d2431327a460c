/* Cores without sockets, in one thread and in virtual time, under the load generator's workload.
 *
 * Request r goes to core r modulo workers. Each trace waits for the rules' `most`, so a steady
 * number is in flight. Kept traces go to a destination that takes everything at once. Keys, seeds
 * and times are fixed, so that two runs execute the same instructions.
 *
 * Only what the engine does is collected: the requests are built between CALLGRIND_TOGGLE_COLLECTs
 * and outside of the clock. */
#ifndef TW_BENCH_DRIVE_H
#define TW_BENCH_DRIVE_H

#include "core.h"
#include "load/body.h"

struct drive_source { /* of requests; several drives may take turns at one */
	struct tw_load_names names;
	struct tw_load_body body;
	struct tw_buf request;
};

struct drive_opts {
	struct tw_workload workload;
	struct tw_slice rules; /* without `wait`: it is made from traces */
	uint64_t traces;       /* in flight */
	uint64_t rate;         /* spans a second of virtual time */
	uint32_t workers;
	uint32_t dimensions; /* of RED: 0 to 2 */
	uint64_t buffer_bytes;
	/* When the owners look into their rings: after every request (idle workers, woken for each
	 * batch), or once every worker has had one (busy workers). */
	bool wake_each;
};

struct drive {
	struct drive_opts o;
	struct tw_clock_virtual time;
	struct tw_clock clock;
	struct tw_core_shared shared;
	struct tw_rulebook book;
	struct tw_budget views;
	struct tw_metrics_opts metrics;
	struct tw_dest_opts dest;
	struct drive_source *source;
	uint64_t start_mono_ns, start_wall_ns, hold_ns;
	uint64_t requests; /* sent */
	uint64_t answered, refused;
	uint64_t wakes, polls;
	bool woken[TW_WORKERS_MAX];
	uint64_t cpu_ns; /* of the engine's part, since it was last set to 0 */
};

bool drive_source_init(struct drive_source *s, const struct tw_workload *w);
void drive_source_deinit(struct drive_source *s);

/* 0; otherwise *report says why. The source must outlive the drive. */
int drive_init(struct drive *d, const struct drive_opts *o, struct drive_source *source,
               struct tw_buf *report);
void drive_deinit(struct drive *d);
/* Builds the next request, lets its time come, and gives it to its core; polls and ticks. */
void drive_request(struct drive *d);
/* Traces have been held, decided and released for a while. */
bool drive_warm(const struct drive *d);
struct tw_core_books drive_books(const struct drive *d); /* sum of the cores' */

#endif
