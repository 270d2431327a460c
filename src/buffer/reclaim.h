/* What becomes of the segments of a log.
 *
 * A segment is OPEN (log.h) → CLOSED (in the list, in the order of opening) → given back to the
 * pool, or the reserve. Nobody touches the entries of a trace that ends. A record says which
 * segment was open when its trace began, so nothing in older ones is its own: a closed segment is
 * given back when every held trace began after it. Where traces of longer lives pin the segments of
 * shorter ones, compaction looks into those. There an entry is dead when its record is free or its
 * record's trace began later; else it may be its record's own, and that for sure when it is in its
 * chain. So a segment's `live`, once somebody looked, is hardly ever too high and never too low.
 *
 * Threads: the log's owner. */
#ifndef TW_BUFFER_RECLAIM_H
#define TW_BUFFER_RECLAIM_H

#include "log.h"
#include "tw/base/error.h"

#define TW_LOG_NUMBERS 4096u /* of segments whose held traces are counted apart */

/* A record was taken: its trace begins here. */
static inline void tw_log_hold_trace(struct tw_log *l, struct tw_record *rec)
{
	TW_ASSERT(l->open != TW_SLOT_NONE);
	rec->begin = l->number & TW_BEGIN_MASK;
	l->begun[l->number % TW_LOG_NUMBERS]++;
	l->pool->slots[l->open].begun++;
}
uint64_t tw_log_count_whole(const struct tw_log *l, uint64_t chain); /* of its entries */
/* The trace's bytes are dead, before its record is put back. */
static inline void tw_log_drop_trace(struct tw_log *l, const struct tw_record *rec)
{
	uint64_t whole = TW_LIKELY(rec->whole < TW_RECORD_WHOLE_MAX)
	                     ? rec->whole
	                     : tw_log_count_whole(l, rec->head);

	l->begun[rec->begin % TW_LOG_NUMBERS]--;
	l->live -= rec->stored;
	l->span_bytes -= rec->stored - tw_record_spans(rec) * sizeof(struct tw_packed) -
	                 whole * (sizeof(struct tw_entry) - sizeof(struct tw_packed));
	l->dropped += rec->stored;
}
/* Gives back the segments that are older than every held trace. */
void tw_log_reclaim(struct tw_log *l);
/* The open trace whose spans came first, or one that began as early; TW_RECORD_NONE: within *blocks
 * there is none. *blocks is counted down. The caller decides it, or asks no more. */
uint32_t tw_log_eldest(struct tw_log *l, const struct tw_records *r, uint64_t *blocks);

/* The list. */
void tw_log_list(struct tw_log *l, uint32_t slot);
void tw_log_unlist(struct tw_log *l, uint32_t slot);
void tw_log_give_back(struct tw_log *l, uint32_t slot); /* one that is in no list */

/* compact.c */
/* A closed segment of whose capacity at most `sixteenths` live and whose live bytes and heads fit
 * into `room`. Looks into at most *looks of those that may be it, and counts down. */
uint32_t tw_log_victim(struct tw_log *l, const struct tw_records *r, uint32_t sixteenths,
                       uint64_t room, uint32_t *looks);
/* Moves everything that lives in the closed segment `victim` into the open one; false: room ran
 * out, what was moved is moved. An emptied victim is out of the list, still held, and the
 * caller's. Returns bytes in *moved. */
bool tw_log_compact(struct tw_log *l, const struct tw_records *r, uint32_t victim, uint64_t *moved);

/* Can an entry of segment g that names this record be its own? Not when its trace began later.
 * Beyond 2^24 segments nobody knows, so that it can. */
static inline bool tw_log_may_own(const struct tw_log *l, const struct tw_record *rec,
                                  const struct tw_segment *g)
{
	return rec->state != TW_RECORD_FREE &&
	       (((l->number - rec->begin) & TW_BEGIN_MASK) >= l->number - g->number ||
	        l->number - l->held_from > TW_BEGIN_MASK);
}

#endif
