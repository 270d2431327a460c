/* How long kept traces are on their way: from their decision to the backend's
 * acknowledgement.
 *
 * A batch holds hundreds of traces. It notes when they came in steps (marks) and not one by one:
 * what came within a step counts from the step's beginning, and so does what comes when all marks
 * are used up, which needs a batch that stays open for longer than its age because nothing can be
 * sent. So a delay is never understated. Owned by its batch. */
#ifndef TW_FORWARD_DELAY_H
#define TW_FORWARD_DELAY_H

#include "tw/forward.h"

#define TW_DELAY_MARKS 16u

struct tw_delay {
	struct {
		uint64_t at_ns;
		uint64_t traces;
	} mark[TW_DELAY_MARKS];
	uint32_t count;
};

/* A trace was taken that was decided then. */
void tw_delay_note(struct tw_delay *d, uint64_t ns, uint64_t step_ns);
/* The backend has them all: into the statistics. */
void tw_delay_settle(const struct tw_delay *d, struct tw_exporter_stats *stats, uint64_t now_ns);

#endif
