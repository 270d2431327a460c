/* What was decided, long after the trace is gone: 24 bytes a trace.
 *
 * Buckets of 8 entries, two of them open to each hash; the bucket's 8 hashes are one cache line.
 * Where both are full, one of their entries moves to its other bucket; once three quarters of all
 * places are taken, the bucket gives up the entry that was not asked for longest. A wrong answer
 * needs two traces with the same 64-bit keyed hash. Threads: one owner.
 *
 * Memory: the address space is taken at boot; pages become real as the table grows, one bucket at a
 * time (linear hashing: bucket `split` is divided in two whenever buckets hold more than
 * 4 entries on average), up to the bytes it was given. So a quiet process stays small and no
 * growth moves more than 8 entries. */
#ifndef TW_BUFFER_VERDICT_H
#define TW_BUFFER_VERDICT_H

#include "tw/model/trace.h"

struct tw_verdict_bucket;

struct tw_verdicts {
	void *memory; /* what `buckets` lies in, aligned */
	struct tw_verdict_bucket *buckets;
	uint64_t max;     /* buckets that there may be */
	uint64_t count;   /* buckets in use: level + split */
	uint64_t level;   /* a power of two: buckets when this round of growth began */
	uint64_t keep_s;  /* an entry that was not asked for so long is no answer */
	uint64_t entries; /* in use */
};

int tw_verdicts_init(struct tw_verdicts *v, uint64_t bytes, uint64_t keep_ns); /* 0 or TW_ENOMEM */
void tw_verdicts_deinit(struct tw_verdicts *v);
void tw_verdicts_prefetch(const struct tw_verdicts *v, uint64_t hash); /* before a get */
void tw_verdicts_prefetch_put(const struct tw_verdicts *v, uint64_t hash);
/* Remembers one of which nothing is remembered: a get said so, and nothing was put since. */
void tw_verdicts_add(struct tw_verdicts *v, uint64_t hash, const struct tw_verdict *d,
                     uint64_t now_s);
/* Remembers, or replaces what was remembered of this hash. now_s: seconds of the shard's time. */
void tw_verdicts_put(struct tw_verdicts *v, uint64_t hash, const struct tw_verdict *d,
                     uint64_t now_s);
/* True, and *d, when the hash is known; its age starts anew. newest: the latest generation, from
 * which the entry's 16 bits are read back. */
bool tw_verdicts_get(struct tw_verdicts *v, uint64_t hash, uint32_t newest, uint64_t now_s,
                     struct tw_verdict *d);
uint64_t tw_verdicts_bytes(const struct tw_verdicts *v);

#endif
