#include "pack.h"
#include "shard.h"

#include "tw/base/error.h"
#include "tw/base/mem.h"

#define GROUP            64u
#define RETRY_MS         100u /* a decision that found no memory for a kept trace */
#define REMATCH_PER_TICK 16u  /* a tick is a step of a turn's deciding */
#define REFILE_PER_TICK  256u
#define SWEEP            4096u  /* wheel entries, for want of a chunk */
#define STALE_SPARE      16384u /* so many beyond two a trace are not worth a look */

/* ---- deadlines ---- */

static uint64_t past_ms(const struct tw_shard *s, uint32_t then)
{
	return s->now_ms - (uint32_t)((uint32_t)s->now_ms - then);
}

static const struct tw_wait_ms *wait_of(const struct tw_shard *s, uint32_t generation)
{
	if (s->previous.set && s->previous.generation == generation)
		return &s->previous;
	return &s->newest;
}

static void sooner(uint64_t from, uint64_t wait, enum tw_reason why, uint64_t *due,
                   enum tw_reason *reason)
{
	if (wait == TW_NEVER || from + wait >= *due)
		return;
	*due = from + wait;
	if (reason)
		*reason = why;
}

uint64_t tw_shard_due_ms(const struct tw_shard *s, const struct tw_record *rec,
                         enum tw_reason *reason)
{
	const struct tw_wait_ms *w = wait_of(s, rec->generation);
	uint64_t due = TW_NEVER;

	if (rec->has_root)
		sooner(past_ms(s, rec->root_ms), w->root, TW_REASON_ROOT, &due, reason);
	sooner(past_ms(s, rec->last_ms), w->idle, TW_REASON_IDLE, &due, reason);
	sooner(past_ms(s, rec->first_ms), w->most, TW_REASON_MOST, &due, reason);
	return due;
}

static bool entry_is_stale(const struct tw_record *rec, const struct tw_wheel_entry *e)
{
	return (rec->tag & ((1u << TW_WHEEL_TAG_BITS) - 1)) != e->tag;
}

static bool stale(const void *ctx, const struct tw_wheel_entry *e)
{
	const struct tw_shard *s = ctx;

	return entry_is_stale(tw_record_at(&s->records, e->record), e);
}

/* Traces decided early leave their entries until the time they had. Without this, the wheel of a
 * shard that decides early all the time would grow with the rate of traces, not with those it
 * holds. */
static void make_room_in_wheel(struct tw_shard *s)
{
	if (s->wheel.entries > 2 * s->st.traces_open + STALE_SPARE)
		tw_wheel_sweep(&s->wheel, SWEEP, stale, s);
}

/* A root may still come and shorten the deadline. Looking now and then until it does keeps most
 * traces from being filed twice, so that few stale entries lie in the wheel. */
void tw_shard_file(struct tw_shard *s, uint32_t i, uint64_t due_ms)
{
	struct tw_record *rec = tw_record_at(&s->records, i);
	const struct tw_wait_ms *w = wait_of(s, rec->generation);
	uint64_t at;

	if (!rec->has_root && w->root != TW_NEVER && w->look < TW_NEVER - s->now_ms &&
	    due_ms > s->now_ms + w->look)
		due_ms = s->now_ms + w->look;
	if (TW_UNLIKELY(tw_wheel_full(&s->wheel)))
		make_room_in_wheel(s);
	at = tw_wheel_put(&s->wheel, i, rec->tag + 1, due_ms);
	if (at == UINT64_MAX) {
		s->unfiled += !rec->unfiled;
		rec->unfiled = 1;
		return;
	}
	s->unfiled -= rec->unfiled;
	rec->unfiled = 0;
	rec->tag++;
	rec->filed_ms = (uint32_t)at;
}

/* ---- kept traces ---- */

bool tw_shard_ready_to_keep(struct tw_shard *s)
{
	struct tw_kept_chunk *c;

	if (s->kept_free)
		return true;
	c = tw_alloc(sizeof(*c));
	if (!c)
		return false;
	c->next = s->kept_chunks;
	s->kept_chunks = c;
	for (uint32_t i = 0; i < sizeof(c->kept) / sizeof(c->kept[0]); i++) {
		c->kept[i].next_free = s->kept_free;
		s->kept_free = &c->kept[i];
	}
	return true;
}

static void gone(struct tw_shard *s, struct tw_kept *k)
{
	struct tw_record *rec = tw_record_at(&s->records, k->record);

	s->st.span_bytes -= rec->bytes;
	tw_log_drop(&s->log, rec->head);
	tw_records_put(&s->records, k->record);
	tw_pool_unpin(s->config.pool, k->bytes);
	s->pinned -= k->bytes;
	s->st.traces_kept--;
	k->next_free = s->kept_free;
	s->kept_free = k;
}

void tw_shard_keep(struct tw_shard *s, uint32_t i, const struct tw_trace_view *view,
                   const struct tw_verdict *v)
{
	struct tw_record *rec = tw_record_at(&s->records, i);
	struct tw_kept *k = s->kept_free;

	TW_ASSERT(k);
	s->kept_free = k->next_free;
	rec->state = TW_RECORD_KEPT;
	*k = (struct tw_kept){.shard = s,
	                      .record = i,
	                      .left = v->destinations,
	                      .in_keep = true,
	                      .bytes = tw_log_chain_bytes(&s->log, rec->head),
	                      .view = *view,
	                      .verdict = *v};
	tw_pool_pin(s->config.pool, k->bytes);
	s->pinned += k->bytes;
	s->st.in_flight -= view->span_count;
	s->st.kept += view->span_count;
	if (view->reason == TW_REASON_LATE) {
		s->st.late_kept += view->span_count;
		s->st.decided_reason[TW_REASON_LATE]++;
	}
	s->st.traces_kept++;
	s->ops->keep(s->ctx, k, &k->view, &k->verdict);
	k->in_keep = false;
	if (k->left == 0)
		gone(s, k);
}

void tw_kept_release(struct tw_kept *k, uint32_t destination)
{
	TW_ASSERT(destination < 8);
	if (!(k->left >> destination & 1))
		return;
	k->left &= (uint8_t) ~(1u << destination);
	if (k->left == 0 && !k->in_keep) {
		struct tw_shard *s = k->shard;

		gone(s, k);
		tw_log_flush(&s->log);
		tw_shard_publish(s);
	}
}

/* ---- deciding ---- */

void tw_shard_view(const struct tw_record *rec, enum tw_reason reason, struct tw_trace_view *out)
{
	*out = (struct tw_trace_view){.id = rec->id,
	                              .start_ns = rec->start_ns,
	                              .end_ns = rec->end_ns,
	                              .bytes = rec->bytes,
	                              .span_count = rec->span_count,
	                              .error_count = rec->error_count,
	                              .randomness =
	                                  rec->has_rv ? rec->rv : rec->id.lo & (UINT64_MAX >> 8),
	                              .service_hash = rec->service_hash,
	                              .has_root = rec->has_root,
	                              .reason = (uint8_t)reason,
	                              .generation = rec->generation};
	memcpy(out->mask, rec->mask, sizeof(out->mask));
}

void tw_shard_rematch(struct tw_shard *s, uint32_t i)
{
	struct tw_record *rec = tw_record_at(&s->records, i);
	uint64_t all[TW_MASK_WORDS] = {0};

	rec->generation = s->newest.generation;
	for (uint64_t link = rec->head; link != 0;) {
		const struct tw_entry *e = tw_entry_at(&s->log, link);
		const uint8_t *segment = s->log.pool->slots[tw_link_slot(link)].mem;
		const struct tw_head *sc = tw_head_at(segment, tw_entry_scope(segment, e));
		uint64_t mask[TW_MASK_WORDS] = {0};
		struct tw_slice span;

		if (tw_shard_span(s, rec, e, segment, &span))
			s->ops->rematch(s->ctx, rec->generation,
			                tw_head_bytes(tw_head_at(segment, sc->resource_off)),
			                tw_head_bytes(sc), span, mask);
		for (uint32_t w = 0; w < TW_MASK_WORDS; w++)
			all[w] |= mask[w];
		s->st.rematched++;
		link = e->word & TW_LINK_MASK;
	}
	memcpy(rec->mask, all, sizeof(all));
}

static void count_decision(struct tw_shard *s, enum tw_reason reason)
{
	s->st.traces_open--;
	s->st.traces_decided++;
	s->st.decided_reason[reason]++;
	s->st.early_decisions += reason == TW_REASON_MEMORY;
}

bool tw_shard_decide(struct tw_shard *s, uint32_t i, enum tw_reason reason)
{
	struct tw_record *rec = tw_record_at(&s->records, i);
	struct tw_trace_view view;
	struct tw_verdict v = {0};

	if (!tw_shard_ready_to_keep(s))
		return false;
	if (!tw_shard_generation_lives(s, rec->generation))
		tw_shard_rematch(s, i);
	tw_table_remove(&s->table, rec->hash, i);
	tw_shard_fifo_remove(s, i);
	s->unfiled -= rec->unfiled;
	rec->unfiled = 0;
	tw_shard_view(rec, reason, &view);
	s->ops->decide(s->ctx, &view, &v);
	v.reason = (uint8_t)reason;
	tw_verdicts_add(&s->verdicts, rec->hash, &v, s->now_ms / 1000);
	count_decision(s, reason);
	if (v.keep) {
		rec->tag++;
		tw_shard_keep(s, i, &view, &v);
		return true;
	}
	s->st.in_flight -= rec->span_count;
	s->st.let_go += rec->span_count;
	s->st.span_bytes -= rec->bytes;
	s->ops->let_go(s->ctx, &view, &v);
	tw_log_drop(&s->log, rec->head);
	tw_records_put(&s->records, i);
	return true;
}

uint32_t tw_shard_decide_oldest(struct tw_shard *s, enum tw_reason reason, uint32_t most)
{
	uint32_t n = 0;

	while (n < most && s->oldest_record != TW_RECORD_NONE) {
		uint32_t next = tw_record_at(&s->records, s->oldest_record)->next;

		if (next != TW_RECORD_NONE)
			__builtin_prefetch(tw_record_at(&s->records, next));
		if (!tw_shard_decide(s, s->oldest_record, reason))
			break;
		n++;
	}
	return n;
}

/* ---- ticks ---- */

static void fire(struct tw_shard *s, uint32_t i)
{
	struct tw_record *rec = tw_record_at(&s->records, i);
	enum tw_reason reason = TW_REASON_MOST;
	uint64_t due;

	/* Before its deadline is asked: that is the newest generation's now. */
	if (!tw_shard_generation_lives(s, rec->generation))
		tw_shard_rematch(s, i);
	due = tw_shard_due_ms(s, rec, &reason);
	if (due > s->now_ms)
		tw_shard_file(s, i, due);
	else if (!tw_shard_decide(s, i, reason))
		tw_shard_file(s, i, s->now_ms + RETRY_MS);
}

/* A group of entries; as in adding, each pass touches what the one before has prefetched. */
static void fire_group(struct tw_shard *s, struct tw_wheel_entry *e, uint32_t n)
{
	for (uint32_t k = 0; k < n; k++) {
		const char *rec = (const char *)tw_record_at(&s->records, e[k].record);

		__builtin_prefetch(rec, 1);
		__builtin_prefetch(rec + 64, 1);
	}
	for (uint32_t k = 0; k < n; k++) {
		const struct tw_record *rec = tw_record_at(&s->records, e[k].record);

		if (entry_is_stale(rec, &e[k]))
			continue;
		tw_table_prefetch(&s->table, rec->hash);
		tw_verdicts_prefetch_put(&s->verdicts, rec->hash);
		__builtin_prefetch(tw_entry_at(&s->log, rec->head), 1);
	}
	for (uint32_t k = 0; k < n; k++)
		if (!entry_is_stale(tw_record_at(&s->records, e[k].record), &e[k]))
			fire(s, e[k].record);
}

static void file_unfiled(struct tw_shard *s)
{
	uint32_t i = s->oldest_record;

	for (uint32_t n = 0; s->unfiled > 0 && i != TW_RECORD_NONE && n < REFILE_PER_TICK; n++) {
		struct tw_record *rec = tw_record_at(&s->records, i);

		if (rec->unfiled)
			tw_shard_file(s, i, tw_shard_due_ms(s, rec, NULL));
		i = rec->next;
	}
}

/* Generations begin in order, so the traces of the dead one are the first of the FIFO. */
static void rematch_some(struct tw_shard *s)
{
	for (uint32_t n = 0; s->rematch_at != TW_RECORD_NONE && n < REMATCH_PER_TICK; n++) {
		uint32_t i = s->rematch_at;
		struct tw_record *rec = tw_record_at(&s->records, i);
		uint64_t due;

		s->rematch_at = rec->next;
		if (tw_shard_generation_lives(s, rec->generation))
			continue;
		tw_shard_rematch(s, i);
		due = tw_shard_due_ms(s, rec, NULL);
		if (due != TW_NEVER && (int32_t)(rec->filed_ms - (uint32_t)due) > 0)
			tw_shard_file(s, i, due);
	}
}

bool tw_shard_tick(struct tw_shard *s, uint64_t now_ns, uint32_t most)
{
	struct tw_wheel_entry e[GROUP];
	uint32_t left = most, n;

	tw_shard_clock(s, now_ns);
	while (left > 0) {
		n = tw_wheel_take(&s->wheel, s->now_ms, e, left < GROUP ? left : GROUP);
		if (n == 0)
			break;
		fire_group(s, e, n);
		left -= n;
	}
	if (s->unfiled > 0)
		file_unfiled(s);
	rematch_some(s);
	tw_log_flush(&s->log);
	tw_shard_relieve(s, most);
	tw_shard_compact(s);
	tw_shard_publish(s);
	return s->wheel.next_ms <= s->now_ms;
}

uint64_t tw_shard_next_ns(const struct tw_shard *s)
{
	uint64_t ms = s->wheel.next_ms;

	if (s->rematch_at != TW_RECORD_NONE || s->unfiled > 0)
		ms = ms < s->now_ms + 10 ? ms : s->now_ms + 10;
	return ms == UINT64_MAX ? TW_NEVER : s->base_ns + ms * TW_NS_PER_MS;
}

bool tw_shard_drain(struct tw_shard *s, uint64_t now_ns, uint32_t most)
{
	tw_shard_clock(s, now_ns);
	(void)tw_shard_decide_oldest(s, TW_REASON_DRAIN, most);
	tw_log_flush(&s->log);
	tw_shard_publish(s);
	return s->oldest_record != TW_RECORD_NONE;
}
