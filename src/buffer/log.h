/* A shard's log: segments of entries, one open for appending.
 *
 * A segment begins with a header and holds blocks of 4-byte alignment: heads (bytes that several
 * spans share, written once a segment: of a resource or a scope, a template, an operation, a text
 * that comes again and again) and entries: a digest of 56 bytes and the span's own bytes, or, of a
 * span with a template, 16 bytes and what differs (pack.h). Everything in it refers by offset, so a
 * segment may lie at any address; a link is a segment's slot and an offset. The entries of a trace
 * form a chain, newest first.
 *
 * reclaim.h says what becomes of segments. Threads: one owner. */
#ifndef TW_BUFFER_LOG_H
#define TW_BUFFER_LOG_H

#include "entry.h"
#include "pool.h"
#include "record.h"

/* The most that one value takes beyond its bytes, the text of its own that it may get among them.
 */
#define TW_PACK_VALUE_MAX 40u

struct tw_head_slot { /* heads of the open segment, by hash */
	uint64_t hash;
	uint32_t off, epoch;
};
struct tw_scope_slot { /* scopes of the request at hand */
	uint32_t off, stamp;
};
struct tw_text_use { /* how often a differing value of a template was found among the texts */
	uint8_t asked, found;
	uint16_t skip; /* spans for which it is not looked up */
};
struct tw_log_text { /* came a second time: goes into the segment behind the entry at hand */
	struct tw_slice text;
	uint64_t hash;
};
struct tw_text_slot { /* texts of the open segment */
	uint64_t hash;
	uint32_t off, epoch;
};
#define TW_TEXT_HASHED    40u /* of a text that is no longer, the hash has every byte */
#define TW_LOG_TEXT_SLOTS 2048u
struct tw_op_slot {               /* operations of the open segment: what packing needs of them */
	uint64_t template, scope; /* hashes */
	uint64_t kinds;           /* of the differing values, as in the template */
	struct tw_text_use *uses; /* of each of them */
	uint64_t word;            /* of entries, without the link */
	uint32_t off, epoch;
	uint32_t series;
	uint8_t value_count;
	bool has_parent, fixed; /* as in the template */
	uint8_t pad[9];
};
_Static_assert(sizeof(struct tw_op_slot) == 64, "a line");
#define TW_LOG_OPERATIONS 16384u
/* Twice a span of 4 KiB, its heads, its template of at most 17 KiB, its texts' places. */
#define TW_LOG_ROOMY (48u << 10)
#define TW_LOG_TEXTS 4096u
#define TW_LOG_USES  8192u

struct tw_log {
	struct tw_pool *pool;
	uint32_t open;          /* slot; TW_SLOT_NONE: between two */
	struct tw_segment *seg; /* it; unspecified between two */
	int64_t roomy_max;      /* see tw_log_roomy; −1 between two */
	bool small_heads;       /* of the request at hand: each of them */
	uint32_t reserve;       /* an empty segment, so that compaction never needs memory */
	uint64_t number;        /* of the segment opened last */
	/* reclaim.c and compact.c */
	uint32_t oldest, newest; /* list of closed segments, in the order of opening */
	uint64_t held_from;      /* no held trace began in a segment before this one */
	uint32_t *begun; /* [TW_LOG_NUMBERS] held traces by the segment in which they began */
	uint32_t look; /* the closed segment at which compaction looks next; TW_SLOT_NONE: oldest */
	uint32_t eldest;     /* segment and offset before which no entry is of an open trace; */
	uint32_t eldest_off; /* TW_SLOT_NONE: before the oldest segment */
	uint64_t dropped;    /* bytes of entries that died, ever */
	uint64_t looked;     /* of these, what ticks have looked into segments for */
	/* all */
	uint64_t segments;
	uint64_t capacity;   /* bytes of the segments held */
	uint64_t live;       /* bytes of live entries */
	uint64_t span_bytes; /* of these, the spans' own, as they lie there */
	uint64_t heads;      /* bytes of heads */
	struct tw_head_slot *head_slots;
	uint32_t head_count, epoch;
	struct tw_scope_slot *scopes;
	uint32_t scope_cap, stamp;
	struct tw_op_slot *operations;   /* [TW_LOG_OPERATIONS] */
	struct tw_text_slot *text_slots; /* [TW_LOG_TEXT_SLOTS] */
	struct tw_hash_key key;
	uint64_t
	    *seen; /* [TW_LOG_TEXTS] half of a text's hash and half of the trace's that had it */
	struct tw_text_use *uses; /* [TW_LOG_USES + TW_TEMPLATE_VALUES_MAX] */
	uint32_t crowded;         /* segments yet to come in which nothing is packed: there are so
	                             many operations that few spans of each come before one is full */
	uint32_t text_count;
	struct tw_log_text text[TW_TEMPLATE_VALUES_MAX];
	uint64_t cursor[TW_DESTINATIONS_MAX]; /* links that entries are followed with; 0: none */
};

/* 0 or TW_ENOMEM. key: for texts. */
int tw_log_init(struct tw_log *l, struct tw_pool *pool, struct tw_hash_key key);
void tw_log_deinit(struct tw_log *l);

/* Before the spans of a request: scopes are looked up anew. */
void tw_log_begin(struct tw_log *l, const struct tw_request *req);
/* Bytes that appending this span takes in the open segment, or would take in an empty one. */
uint64_t tw_log_need_heads(struct tw_log *l, const struct tw_request *req,
                           const struct tw_span *sp);
uint64_t tw_log_need_empty(const struct tw_request *req, const struct tw_span *sp);
static inline bool tw_log_fits(const struct tw_log *l, uint64_t need)
{
	const struct tw_segment *g = &l->pool->slots[l->open];

	return l->open != TW_SLOT_NONE && g->used + need <= g->capacity;
}
/* A span as it is, behind its scope's head; the caller has seen that it fits. Returns its size. */
uint32_t tw_log_append_whole(struct tw_log *l, const struct tw_request *req,
                             const struct tw_span *sp);
/* The span's operation in the open segment, where tw_log_known has found none; NULL: the span is to
 * lie there as it is. The caller has seen that it fits. */
const struct tw_op_slot *tw_log_operation(struct tw_log *l, const struct tw_request *req,
                                          const struct tw_span *sp);

/* The open segment is closed (given back when nothing lives in it); `slot` is opened. */
void tw_log_close(struct tw_log *l);
void tw_log_open(struct tw_log *l, uint32_t slot);
void tw_log_hold(struct tw_log *l, uint32_t slot);   /* a segment from the pool counts as held */
void tw_log_unhold(struct tw_log *l, uint32_t slot); /* and no more */

/* The scope's head in the open segment that equals the one at scope_off of `segment`, written if it
 * is not there; 0: no room for it and `entry` bytes more. */
uint32_t tw_log_copy_scope(struct tw_log *l, const uint8_t *segment, uint32_t scope_off,
                           uint64_t entry);
/* Likewise an operation's. */
uint32_t tw_log_copy_operation(struct tw_log *l, const uint8_t *segment, uint32_t off,
                               uint64_t entry);

/* Its offset in the open segment; writes it if the index has a place for it. The caller has seen
 * that it fits. */
uint32_t tw_log_put_text(struct tw_log *l, struct tw_slice text, uint64_t hash);

/* The first of the two places of an operation; the other one is it ^ 1. */
static inline uint32_t tw_log_op_at(const struct tw_operation *op)
{
	return (op->hash ^ op->scope) % TW_LOG_OPERATIONS;
}
static inline bool tw_log_is_op(const struct tw_log *l, const struct tw_op_slot *o,
                                const struct tw_operation *op, uint32_t series)
{
	return ((o->template ^ op->hash) | (o->scope ^ op->scope) | (o->epoch ^ l->epoch)) == 0 &&
	       (o->series == series || !o->fixed);
}
/* The span's operation, if the open segment has it: of a span that has one. NULL: it has not. */
static inline const struct tw_op_slot *
tw_log_known(const struct tw_log *l, const struct tw_request *req, const struct tw_span *sp)
{
	const struct tw_operation *op = &req->operations[sp->operation - 1];
	uint32_t at = tw_log_op_at(op);
	const struct tw_op_slot *o;

	/* Chosen without a branch. */
	at ^=
	    ((l->operations[at].template ^ op->hash) | (l->operations[at].scope ^ op->scope)) != 0;
	o = &l->operations[at];
	return TW_LIKELY(tw_log_is_op(l, o, op, sp->series)) ? o : NULL;
}
/* Asks for what packing will read: the values, and where the operation may be. always_inline: see
 * tw_table_prefetch. */
static inline __attribute__((always_inline)) void
tw_log_prefetch(const struct tw_log *l, const struct tw_request *req, const struct tw_span *sp)
{
	const struct tw_place *place = &req->places[sp->places];
	const struct tw_operation *op;

	if (sp->operation == 0)
		return;
	for (uint32_t i = 0; i < 4; i++)
		__builtin_prefetch(sp->bytes + place->at + i * 64);
	op = &req->operations[sp->operation - 1];
	__builtin_prefetch(&l->operations[tw_log_op_at(op)]);
	__builtin_prefetch(&l->uses[op->hash % TW_LOG_USES]);
}
/* Is there so much room that nobody has to count? For usual spans with usual heads in a segment
 * that is not nearly full. */
static inline bool tw_log_roomy(const struct tw_log *l, const struct tw_span *sp)
{
	return sp->bytes_n <= 4096 && l->seg->used <= l->roomy_max;
}
static inline uint64_t tw_log_need(struct tw_log *l, const struct tw_request *req,
                                   const struct tw_span *sp)
{
	/* Packed a span may need a little more than as it is, when its texts go into the segment,
	 * too. */
	if (sp->operation != 0 && tw_log_known(l, req, sp))
		return 2 * tw_entry_size(sp->bytes_n) + TW_TEMPLATE_VALUES_MAX * TW_PACK_VALUE_MAX;
	if (sp->operation == 0 && sp->scope < l->scope_cap &&
	    l->scopes[sp->scope].stamp == l->stamp)
		return tw_entry_size(sp->bytes_n);
	return tw_log_need_heads(l, req, sp);
}
static inline struct tw_entry *tw_entry_at(const struct tw_log *l, uint64_t link)
{
	return (struct tw_entry *)(l->pool->slots[tw_link_slot(link)].mem + tw_link_off(link));
}
/* Its offset in the open segment; 0: it is not there. Two places for each hash, in one cache line:
 * which of them it is can't be foreseen, so both are looked at. A short text is what its keyed hash
 * says: as with verdicts, a wrong answer needs two that are the same in 64 bits. */
static inline uint32_t tw_log_find_text(const struct tw_log *l, struct tw_slice text, uint64_t hash)
{
	const struct tw_text_slot *a = &l->text_slots[hash % TW_LOG_TEXT_SLOTS],
	                          *b = &l->text_slots[(hash % TW_LOG_TEXT_SLOTS) ^ 1];
	uint32_t in_a = (a->hash == hash) & (a->epoch == l->epoch),
	         in_b = (b->hash == hash) & (b->epoch == l->epoch);
	/* In both, of two long texts: then the second one is not found. */
	uint32_t off = (a->off & -in_a) | (b->off & -(in_b & ~in_a));

	if (TW_LIKELY(text.n <= TW_TEXT_HASHED) || off == 0 ||
	    tw_slice_eq(tw_text_at(l->seg->mem, off), text))
		return off;
	return 0;
}

#endif
