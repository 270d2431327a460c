/* A shard's insides, for the files of this folder.
 *
 * shard.c takes spans, decide.c ends traces, room.c makes room, kept.c serves what was kept. All by
 * the owner, save the published counters. */
#ifndef TW_BUFFER_SHARD_H
#define TW_BUFFER_SHARD_H

#include "reclaim.h"
#include "record.h"
#include "table.h"
#include "tw/buffer.h"
#include "verdict.h"
#include "wheel.h"

#define TW_STATS_COUNT (sizeof(struct tw_shard_stats) / sizeof(uint64_t))

struct tw_wait_ms { /* TW_NEVER: does not apply */
	uint32_t generation;
	bool set;
	uint64_t root, idle, most;
	uint64_t first; /* idle or most, what is shorter */
	uint64_t look;  /* while no root has come, look at least so often */
};

struct tw_kept {
	struct tw_shard *shard;
	struct tw_kept *next_free;
	uint32_t record;
	uint8_t left;    /* destinations that have not released it */
	bool in_keep;    /* ops->keep is running: gone when it returns */
	uint8_t cursors; /* bit i: the shard's cursor i stands in this trace */
	uint64_t bytes;  /* in the log */
	struct tw_trace_view view;
	struct tw_verdict verdict;
};

struct tw_kept_chunk {
	struct tw_kept_chunk *next;
	struct tw_kept kept[16];
};

struct tw_shard {
	struct tw_shard_config config;
	const struct tw_shard_ops *ops;
	void *ctx;
	uint64_t base_ns; /* ms 0 */
	uint64_t now_ms;
	struct tw_log log;
	struct tw_table table;
	struct tw_records records;
	struct tw_wheel wheel;
	struct tw_verdicts verdicts;
	struct tw_wait_ms newest, previous;
	uint32_t rematch_at; /* records before it are not of a dead generation; TW_RECORD_NONE:
	                        none is */
	uint32_t unfiled;
	uint32_t unfiled_at; /* where those are looked for next */
	/* late spans of the request at hand that are to be kept: one trace at a time */
	uint32_t late_record;
	struct tw_verdict late_verdict;
	struct tw_kept_chunk *kept_chunks;
	struct tw_kept *kept_free;
	struct tw_kept_cursor {       /* its link is log.cursor's */
		struct tw_kept *kept; /* if that says so, too */
		uint32_t at;          /* the link is to the span before this one */
	} cursor[TW_DESTINATIONS_MAX];
	uint32_t cursor_next; /* the one to be given up for another */
	uint8_t *scratch;     /* packed spans as they came, until the next call */
	size_t scratch_cap;
	struct tw_shard_stats st;
	uint64_t pinned; /* this shard's part of the pool's */
	_Alignas(64) struct tw_seq seq;
	tw_counter published[TW_STATS_COUNT];
};

/* shard.c */
void tw_shard_publish(struct tw_shard *s);
static inline void tw_shard_clock(struct tw_shard *s, uint64_t now_ns)
{
	uint64_t ms = now_ns > s->base_ns ? (now_ns - s->base_ns) / TW_NS_PER_MS : 0;

	if (ms > s->now_ms)
		s->now_ms = ms;
}
static inline uint64_t tw_shard_hash(const struct tw_shard *s, const struct tw_record *rec)
{
	return tw_hash_u64x2(s->config.key, rec->id.hi, rec->id.lo);
}
/* Two live, and one that died is met soon: 16 bits tell them apart. */
static inline uint32_t tw_shard_generation(const struct tw_shard *s, const struct tw_record *rec)
{
	return s->newest.generation -
	       (uint16_t)((uint16_t)s->newest.generation - tw_record_generation(rec));
}
static inline bool tw_shard_newest(const struct tw_shard *s, const struct tw_record *rec)
{
	return tw_record_generation(rec) == (uint16_t)s->newest.generation;
}

/* decide.c */
/* Decides an open trace; false: the allocator has no place for a kept trace now, nothing happened.
 */
bool tw_shard_decide(struct tw_shard *s, uint32_t record, enum tw_reason reason);
/* Decides the traces whose spans came first; how many. 0: none is open, or no memory. */
uint32_t tw_shard_decide_oldest(struct tw_shard *s, enum tw_reason reason, uint32_t most);
/* The trace is gone: its entries are dead, its record is free. */
void tw_shard_free(struct tw_shard *s, uint32_t record);
/* Hands late spans on (state LATE → KEPT). */
void tw_shard_keep(struct tw_shard *s, uint32_t record, const struct tw_trace_view *view,
                   const struct tw_verdict *v);
bool tw_shard_ready_to_keep(struct tw_shard *s);
void tw_shard_view(const struct tw_shard *s, uint32_t record, enum tw_reason reason,
                   struct tw_trace_view *out);
/* When a trace is due, and why. */
uint64_t tw_shard_due_ms(const struct tw_shard *s, const struct tw_record *rec,
                         enum tw_reason *reason);
/* The same where it is known better: of a trace that begins, and by the root that comes now. */
uint64_t tw_shard_first_due_ms(const struct tw_shard *s, const struct tw_record *rec);
uint64_t tw_shard_root_due_ms(const struct tw_shard *s, const struct tw_record *rec);
void tw_shard_file(struct tw_shard *s, uint32_t record, uint64_t due_ms);
bool tw_shard_generation_lives(const struct tw_shard *s, uint32_t generation);
static inline bool tw_shard_lives(const struct tw_shard *s, const struct tw_record *rec)
{
	return tw_shard_newest(s, rec) ||
	       (s->previous.set && tw_record_generation(rec) == (uint16_t)s->previous.generation);
}
/* The bits of a whole open trace, anew, with the newest generation. */
void tw_shard_rematch(struct tw_shard *s, uint32_t record);

/* kept.c */
/* Room for the spans of a trace of so many bytes as they came; NULL: no memory. */
uint8_t *tw_shard_scratch(struct tw_shard *s, uint64_t bytes);
/* The span of one entry as it came, in the scratch if it is packed. false: no memory. */
bool tw_shard_span(struct tw_shard *s, const struct tw_record *rec, const struct tw_entry *e,
                   const uint8_t *segment, struct tw_slice *span);

/* room.c */
/* The open segment takes this span afterwards; may decide and compact. false: nothing helped. */
bool tw_shard_room_slow(struct tw_shard *s, const struct tw_request *req, const struct tw_span *sp);
static inline bool tw_shard_room(struct tw_shard *s, const struct tw_request *req,
                                 const struct tw_span *sp)
{
	return TW_LIKELY(tw_log_roomy(&s->log, sp)) || tw_shard_room_slow(s, req, sp);
}
/* A record for a new trace; may decide. TW_RECORD_NONE: nothing helped. */
uint32_t tw_shard_record(struct tw_shard *s);
/* Gives back what the process holds too much, and moves the living out of nearly dead segments. */
void tw_shard_relieve(struct tw_shard *s, uint32_t most);
void tw_shard_compact(struct tw_shard *s);

#endif
