/* What was decided, long after the trace is gone: 16 bytes a trace that was let go, 32 a kept one.
 *
 * Buckets of one cache line: four cells of a hash and what is remembered of it; of a kept trace the
 * next cell has the threshold and the destinations. A bucket that holds more has a link in its last
 * cell, to a line of the same kind, and so on. So an answer takes one line mostly, and one page.
 * When no line is left, the bucket at hand gives up what was not asked for longest. A wrong answer
 * needs two traces with the same 64-bit keyed hash. Threads: one owner.
 *
 * Memory: the address space is taken at boot; buckets take lines from its begin, links from its
 * end, and pages become real as they do. The table grows by one bucket at a time (linear hashing:
 * bucket `split` is divided in two whenever buckets hold more than three cells on average), up to
 * the bytes it was given. So a quiet process stays small and no growth moves more than a few
 * entries. */
#ifndef TW_BUFFER_VERDICT_H
#define TW_BUFFER_VERDICT_H

#include "tw/model/trace.h"

struct tw_verdict_line;

struct tw_verdicts {
	void *memory; /* what `lines` lies in, aligned */
	struct tw_verdict_line *lines;
	uint64_t max;     /* lines that there may be */
	uint64_t count;   /* the first ones are buckets: level + split */
	uint64_t level;   /* a power of two: buckets when this round of growth began */
	uint64_t linked;  /* from here on lines are, or were, behind a bucket's */
	uint64_t free;    /* of those, a list; 0: none */
	uint64_t keep_s;  /* an entry that was not asked for so long is no answer */
	uint64_t entries; /* in use */
	uint64_t cells;   /* likewise */
};

int tw_verdicts_init(struct tw_verdicts *v, uint64_t bytes, uint64_t keep_ns); /* 0 or TW_ENOMEM */
void tw_verdicts_deinit(struct tw_verdicts *v);
/* The line that an answer, or a new entry, begins with: to be asked for before. */
const void *tw_verdicts_line(const struct tw_verdicts *v, uint64_t hash);
/* And, once that is there, the one behind it, or itself. It may have become another one's since:
 * only to be asked for. */
const void *tw_verdicts_behind(const struct tw_verdicts *v, const void *line);
/* Remembers one of which nothing is remembered: a get said so, and nothing was put since. */
void tw_verdicts_add(struct tw_verdicts *v, uint64_t hash, const struct tw_verdict *d,
                     uint64_t now_s);
/* Remembers, or replaces what was remembered of this hash. now_s: seconds of the shard's time. */
void tw_verdicts_put(struct tw_verdicts *v, uint64_t hash, const struct tw_verdict *d,
                     uint64_t now_s);
/* True, and *d, when the hash is known; its age starts anew. newest: the latest generation, from
 * which the entry's 16 bits are read back. Of a trace that was let go neither threshold nor
 * destinations are remembered: TW_THRESHOLD_UNKNOWN, none. */
bool tw_verdicts_get(struct tw_verdicts *v, uint64_t hash, uint32_t newest, uint64_t now_s,
                     struct tw_verdict *d);
uint64_t tw_verdicts_bytes(const struct tw_verdicts *v);

#endif
