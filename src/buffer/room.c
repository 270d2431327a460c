#include "shard.h"

#include "tw/base/error.h"

#define DECIDE_STEP      32u
#define HALF             8u /* sixteenths */
#define QUARTER          4u
#define ALL              16u
#define LOOK_BYTES       (TW_SEGMENT_BYTES / 4)
#define LOOKS            32u /* at most, when a hole is the last resort */
#define COMPACT_PER_TICK 2u
#define COMPACT_FROM     4u /* segments; below that there is nothing to gain */

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* What lives in a closed segment goes into the open one; false: not all of it had room. */
static bool move_living(struct tw_shard *s, uint32_t victim)
{
	uint64_t moved;
	bool whole = tw_log_compact(&s->log, &s->records, victim, &moved);

	s->st.compactions++;
	s->st.compacted_bytes += moved;
	return whole;
}

/* Compacts a closed segment into the reserve, which is then the open one; the emptied segment is
 * the new reserve. Needs no memory, so it works when there is none. */
static bool swap_compact(struct tw_shard *s, uint32_t sixteenths, uint64_t need, uint32_t looks)
{
	struct tw_log *l = &s->log;
	const uint64_t room = TW_SEGMENT_BYTES - sizeof(struct tw_segment_header);
	uint32_t victim, reserve = l->reserve;

	if (reserve == TW_SLOT_NONE || need > room)
		return false;
	victim = tw_log_victim(l, &s->records, sixteenths, room - need, &looks);
	if (victim == TW_SLOT_NONE)
		return false;
	l->reserve = TW_SLOT_NONE;
	tw_log_open(l, reserve);
	/* Heads that the index of the open segment no longer took; what was moved is moved. */
	if (!move_living(s, victim))
		return tw_log_fits(l, need);
	if (l->pool->slots[victim].capacity == TW_SEGMENT_BYTES) {
		l->reserve = victim;
	} else {
		tw_log_unhold(l, victim);
		tw_pool_put(l->pool, victim);
	}
	return true;
}

static bool open_from_pool(struct tw_shard *s, uint32_t capacity, bool force)
{
	uint32_t slot = tw_pool_get(s->config.pool, capacity, force);

	if (slot == TW_SLOT_NONE)
		return false;
	tw_log_close(&s->log); /* if one is open still */
	tw_log_hold(&s->log, slot);
	tw_log_open(&s->log, slot);
	return true;
}

/* Deciding the oldest early frees segments, or leaves them empty enough to be compacted. */
static bool open_by_deciding(struct tw_shard *s, uint32_t capacity, uint64_t need)
{
	for (;;) {
		tw_log_reclaim(&s->log);
		if (open_from_pool(s, capacity, false))
			return true;
		if (capacity == TW_SEGMENT_BYTES && swap_compact(s, HALF, need, 1))
			return true;
		if (tw_shard_decide_oldest(s, TW_REASON_MEMORY, DECIDE_STEP) == 0)
			return false;
	}
}

/* A segment for one span and its heads; a larger one than usual also has a segment's room for those
 * that follow, so that many small spans of one giant resource don't take a segment each. */
static uint32_t capacity_for(uint64_t need)
{
	uint64_t capacity = need + sizeof(struct tw_segment_header);

	if (capacity <= TW_SEGMENT_BYTES)
		return TW_SEGMENT_BYTES;
	capacity += TW_SEGMENT_BYTES;
	capacity = (capacity + TW_SEGMENT_BYTES - 1) / TW_SEGMENT_BYTES * TW_SEGMENT_BYTES;
	return capacity <= TW_CAPACITY_MAX ? (uint32_t)capacity : 0;
}

/* What the shard has of the pool's budget. */
static uint64_t held(const struct tw_shard *s)
{
	return s->log.capacity + tw_records_bytes(&s->records) + tw_table_bytes(&s->table) +
	       tw_wheel_bytes(&s->wheel);
}

static bool open_segment(struct tw_shard *s, uint64_t need)
{
	struct tw_log *l = &s->log;
	uint32_t capacity = capacity_for(need);

	if (capacity == 0)
		return false;
	tw_log_close(l);
	if (open_from_pool(s, capacity, false))
		return true;
	if (tw_pool_may_overdraw(s->config.pool, held(s)) && open_from_pool(s, capacity, true))
		return true;
	if (open_by_deciding(s, capacity, need))
		return true;
	/* All is pinned. What was admitted is owed a place: any segment with a hole, then the
	 * overdraft, then the reserve. */
	if (capacity == TW_SEGMENT_BYTES && swap_compact(s, ALL, need, LOOKS))
		return true;
	if (open_from_pool(s, capacity, true))
		return true;
	if (capacity != TW_SEGMENT_BYTES || l->reserve == TW_SLOT_NONE)
		return false;
	tw_log_open(l, l->reserve);
	l->reserve = TW_SLOT_NONE;
	return true;
}

bool tw_shard_room_slow(struct tw_shard *s, const struct tw_request *req, const struct tw_span *sp)
{
	struct tw_log *l = &s->log;

	if (tw_log_fits(l, tw_log_need(l, req, sp)))
		return true;
	return open_segment(s, tw_log_need_empty(req, sp));
}

uint32_t tw_shard_record(struct tw_shard *s)
{
	struct tw_records *r = &s->records;
	bool force = false;

	if (TW_UNLIKELY(tw_records_may_wake(r, s->log.number)))
		tw_records_wake(r);
	for (;;) {
		uint32_t i = tw_records_get(r);

		if (i != TW_RECORD_NONE) {
			tw_log_hold_trace(&s->log, tw_record_at(r, i));
			return i;
		}
		if (tw_records_grow(r, force))
			continue;
		if (tw_shard_decide_oldest(s, TW_REASON_MEMORY, 1) > 0)
			continue; /* it was kept, or there is a record now */
		if (force)
			return TW_RECORD_NONE;
		force = true;
	}
}

/* ---- now and then ---- */

static void take_reserve(struct tw_shard *s)
{
	struct tw_log *l = &s->log;

	if (l->reserve != TW_SLOT_NONE)
		return;
	l->reserve = tw_pool_get(s->config.pool, TW_SEGMENT_BYTES, false);
	if (l->reserve != TW_SLOT_NONE)
		tw_log_hold(l, l->reserve);
}

void tw_shard_relieve(struct tw_shard *s, uint32_t most)
{
	const struct tw_pool *p = s->config.pool;
	uint32_t n = 0, step;

	while (tw_pool_over(p) && held(s) >= p->fair_bytes && n < most) {
		step = tw_shard_decide_oldest(s, TW_REASON_MEMORY, DECIDE_STEP);
		if (step == 0)
			break;
		tw_log_reclaim(&s->log);
		n += step;
	}
	take_reserve(s);
}

/* While all traces live about equally long, segments empty by themselves and moving would be work
 * for nothing: only when a good part of what is held is dead. What is not written yet is not dead,
 * but counts as that when half of the pool is in use. */
static bool worth_compacting(const struct tw_shard *s)
{
	const struct tw_log *l = &s->log;
	const struct tw_segment *slots = l->pool->slots;
	uint64_t dead = l->capacity - l->live - l->heads;

	if (l->segments < COMPACT_FROM || dead <= l->capacity / 4)
		return false;
	if (tw_budget_used(&l->pool->held) > l->pool->bytes_max / 2)
		return true;
	if (l->open != TW_SLOT_NONE)
		dead -= slots[l->open].capacity - slots[l->open].used;
	if (l->reserve != TW_SLOT_NONE)
		dead -= slots[l->reserve].capacity;
	return dead > l->capacity / 4;
}

/* Another open segment, to move into. Past the budget the reserve is it, and what swap_compact
 * moved was one step. */
static bool open_to_move(struct tw_shard *s)
{
	if (open_from_pool(s, TW_SEGMENT_BYTES, false))
		return true;
	if (!tw_pool_over(s->config.pool))
		return false;
	tw_log_close(&s->log);
	return swap_compact(s, HALF, 0, 1);
}

/* The open one has the room. */
static bool empty_segment(struct tw_shard *s, uint32_t victim)
{
	if (!move_living(s, victim))
		return false;
	tw_log_unhold(&s->log, victim);
	tw_pool_put(s->log.pool, victim);
	return true;
}

/* A look into a segment for each quarter of one that has died: the work stays in proportion. What
 * was not used may be used later, in bounds. Where memory is short, one in each tick. */
static uint32_t victim_of_tick(struct tw_shard *s)
{
	struct tw_log *l = &s->log;
	uint64_t unused = l->dropped - l->looked;
	bool is_short = tw_budget_used(&l->pool->held) > l->pool->bytes_max / 8 * 7;
	uint32_t looks = unused >= LOOK_BYTES || is_short, left = looks, victim;

	victim = tw_log_victim(l, &s->records, tw_pool_over(l->pool) ? HALF : QUARTER,
	                       TW_SEGMENT_BYTES - sizeof(struct tw_segment_header), &left);
	if (left < looks)
		unused -= least(unused, LOOK_BYTES);
	l->looked = l->dropped - least(unused, l->capacity);
	return victim;
}

void tw_shard_compact(struct tw_shard *s)
{
	struct tw_log *l = &s->log;
	const struct tw_segment *slots = l->pool->slots;
	bool more = true;

	for (uint32_t n = 0; more && n < COMPACT_PER_TICK && worth_compacting(s); n++) {
		uint32_t victim = victim_of_tick(s);

		if (victim == TW_SLOT_NONE)
			return;
		if (l->open == TW_SLOT_NONE ||
		    !tw_log_fits(l, slots[victim].live + slots[victim].heads))
			more = open_to_move(s);
		else
			more = empty_segment(s, victim);
	}
}
