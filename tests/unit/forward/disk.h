/* A disk in memory that refuses as a test tells it. Its calls come from the writer's thread; a test
 * looks at it while no job is under way. */
#ifndef TW_TEST_FORWARD_DISK_H
#define TW_TEST_FORWARD_DISK_H

#include "tw/forward.h"

struct disk {
	char *p;
	size_t n, cap;
	size_t most_at_once; /* a write takes no more than this; 0: all */
	uint64_t writes;     /* calls so far */
	uint64_t fail_at;    /* this call of write fails (1: the first), 0: none … */
	uint64_t fail_count; /* … and so many after it, too */
	int fail_errno;
	uint64_t truncate_fails; /* so many calls of truncate fail */
	int open_errno;          /* ≠ 0: open fails */
	uint64_t opens, closes;
	uint64_t interrupts; /* every second write is EINTR */
	bool zero;           /* a failing write says 0 and not −1 */
	bool pipe;           /* no size, no truncate */
};
struct tw_file_ops disk_ops(struct disk *d);
void disk_deinit(struct disk *d);
/* All of it is whole lines of JSON objects; returns how many. */
uint64_t disk_lines(const struct disk *d);
uint64_t disk_count(const struct disk *d,
                    uint64_t number); /* how often a span with this number is in it */

#endif
