#include "pack.h"
#include "shard.h"

#include "tw/base/error.h"
#include "tw/base/mem.h"

#define GROUP            64u
#define RETRY_MS         100u /* a decision that found no memory for a kept trace */
#define REMATCH_PER_TICK 8u   /* a tick is a step of a turn's deciding */
#define REFILE_PER_TICK  256u
#define SWEEP            4096u  /* wheel entries, for want of a chunk */
#define STALE_SPARE      16384u /* so many beyond two a trace are not worth a look */
#define TAKE             256u   /* wheel entries at a time */
#define LOOK_PER_TICK    1024u  /* records, for those to be matched again */
#define DRAIN_BLOCKS     64u    /* of the log, a trace to be decided */

/* ---- deadlines ---- */

static uint64_t past_ms(const struct tw_shard *s, uint32_t then)
{
	return s->now_ms - (uint32_t)((uint32_t)s->now_ms - then);
}

static const struct tw_wait_ms *wait_of(const struct tw_shard *s, const struct tw_record *rec)
{
	if (TW_LIKELY(tw_shard_newest(s, rec)) || !tw_shard_lives(s, rec))
		return &s->newest;
	return &s->previous;
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
	const struct tw_wait_ms *w = wait_of(s, rec);
	uint64_t due = TW_NEVER;

	if (rec->has_root)
		sooner(past_ms(s, rec->root_ms), w->root, TW_REASON_ROOT, &due, reason);
	sooner(past_ms(s, rec->last_ms), w->idle, TW_REASON_IDLE, &due, reason);
	sooner(past_ms(s, rec->first_ms), w->most, TW_REASON_MOST, &due, reason);
	return due;
}

static bool entry_is_stale(const struct tw_record *rec, const struct tw_wheel_entry *e)
{
	return rec->state != TW_RECORD_OPEN || rec->filed_ms != e->at_ms;
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

uint64_t tw_shard_first_due_ms(const struct tw_shard *s, const struct tw_record *rec)
{
	const struct tw_wait_ms *w = wait_of(s, rec);

	return w->first == TW_NEVER ? TW_NEVER : s->now_ms + w->first;
}

uint64_t tw_shard_root_due_ms(const struct tw_shard *s, const struct tw_record *rec)
{
	const struct tw_wait_ms *w = wait_of(s, rec);

	return w->root == TW_NEVER ? TW_NEVER : s->now_ms + w->root;
}

/* A root may still come and shorten the deadline. Looking now and then until it does keeps most
 * traces from being filed twice, so that few stale entries lie in the wheel. */
void tw_shard_file(struct tw_shard *s, uint32_t i, uint64_t due_ms)
{
	struct tw_record *rec = tw_record_at(&s->records, i);
	const struct tw_wait_ms *w = wait_of(s, rec);
	uint64_t at;

	if (!rec->has_root && w->root != TW_NEVER && w->look < TW_NEVER - s->now_ms &&
	    due_ms > s->now_ms + w->look)
		due_ms = s->now_ms + w->look;
	if (TW_UNLIKELY(tw_wheel_full(&s->wheel)))
		make_room_in_wheel(s);
	at = tw_wheel_put(&s->wheel, i, due_ms);
	if (at == UINT64_MAX) {
		s->unfiled += !rec->unfiled;
		rec->unfiled = 1;
		return;
	}
	s->unfiled -= rec->unfiled;
	rec->unfiled = 0;
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

void tw_shard_free(struct tw_shard *s, uint32_t i)
{
	const struct tw_record *rec = tw_record_at(&s->records, i);

	tw_log_drop_trace(&s->log, rec);
	if (TW_UNLIKELY(tw_link_slot(rec->head) == s->log.open))
		tw_records_rest(&s->records, i, s->log.number);
	else
		tw_records_put(&s->records, i);
}

static void gone(struct tw_shard *s, struct tw_kept *k)
{
	struct tw_record *rec = tw_record_at(&s->records, k->record);

	s->st.span_bytes -= rec->bytes;
	tw_shard_free(s, k->record);
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
	                      .bytes = rec->stored,
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
		tw_log_reclaim(&s->log);
		tw_shard_publish(s);
	}
}

/* ---- deciding ---- */

void tw_shard_view(const struct tw_shard *s, uint32_t i, enum tw_reason reason,
                   struct tw_trace_view *out)
{
	const struct tw_record *rec = tw_record_at(&s->records, i);

	*out = (struct tw_trace_view){.id = rec->id,
	                              .start_ns = rec->start_ns,
	                              .end_ns = rec->end_ns,
	                              .bytes = rec->bytes,
	                              .span_count = tw_record_spans(rec),
	                              .error_count = tw_record_errors(rec),
	                              .randomness = TW_UNLIKELY(rec->has_rv)
	                                                ? tw_records_rv(&s->records, i)
	                                                : rec->id.lo & (UINT64_MAX >> 8),
	                              .service_hash = rec->service_hash,
	                              .has_root = rec->has_root,
	                              .reason = (uint8_t)reason,
	                              .generation = tw_shard_generation(s, rec)};
	memcpy(out->mask, rec->mask, sizeof(out->mask));
}

void tw_shard_rematch(struct tw_shard *s, uint32_t i)
{
	struct tw_record *rec = tw_record_at(&s->records, i);
	uint64_t all[TW_MASK_WORDS] = {0};

	tw_record_set_generation(rec, s->newest.generation);
	for (uint64_t link = rec->head; link != 0;) {
		const struct tw_entry *e = tw_entry_at(&s->log, link);
		const uint8_t *segment = s->log.pool->slots[tw_link_slot(link)].mem;
		const struct tw_head *sc = tw_head_at(segment, tw_entry_scope(segment, e));
		uint64_t mask[TW_MASK_WORDS] = {0};
		struct tw_slice span;

		if (tw_shard_span(s, rec, e, segment, &span))
			s->ops->rematch(s->ctx, s->newest.generation,
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

/* hash: the trace's. */
static bool decide(struct tw_shard *s, uint32_t i, uint64_t hash, enum tw_reason reason)
{
	struct tw_record *rec = tw_record_at(&s->records, i);
	struct tw_trace_view view;
	struct tw_verdict v = {0};

	if (TW_UNLIKELY(!s->kept_free) && !tw_shard_ready_to_keep(s))
		return false;
	if (TW_UNLIKELY(!tw_shard_lives(s, rec)))
		tw_shard_rematch(s, i);
	tw_table_remove(&s->table, hash, i);
	s->unfiled -= rec->unfiled;
	rec->unfiled = 0;
	tw_shard_view(s, i, reason, &view);
	s->ops->decide(s->ctx, &view, &v);
	v.reason = (uint8_t)reason;
	/* When it began nothing was remembered of it. */
	tw_verdicts_add(&s->verdicts, hash, &v, s->now_ms / 1000);
	count_decision(s, reason);
	if (v.keep) {
		tw_shard_keep(s, i, &view, &v);
		return true;
	}
	s->st.in_flight -= view.span_count;
	s->st.let_go += view.span_count;
	s->st.span_bytes -= view.bytes;
	s->ops->let_go(s->ctx, &view, &v);
	tw_shard_free(s, i);
	return true;
}

bool tw_shard_decide(struct tw_shard *s, uint32_t i, enum tw_reason reason)
{
	return decide(s, i, tw_shard_hash(s, tw_record_at(&s->records, i)), reason);
}

/* Within so many blocks of the log. */
static uint32_t decide_oldest(struct tw_shard *s, enum tw_reason reason, uint32_t most,
                              uint64_t blocks)
{
	uint32_t n = 0;

	while (n < most && s->st.traces_open > 0) {
		uint32_t i = tw_log_eldest(&s->log, &s->records, &blocks);

		if (i == TW_RECORD_NONE || !tw_shard_decide(s, i, reason))
			break;
		n++;
	}
	return n;
}

uint32_t tw_shard_decide_oldest(struct tw_shard *s, enum tw_reason reason, uint32_t most)
{
	return decide_oldest(s, reason, most, UINT64_MAX);
}

/* ---- ticks ---- */

static inline void fire(struct tw_shard *s, uint32_t i, uint64_t hash)
{
	struct tw_record *rec = tw_record_at(&s->records, i);
	enum tw_reason reason = TW_REASON_MOST;
	uint64_t due;

	/* Before its deadline is asked: that is the newest generation's now. */
	if (TW_UNLIKELY(!tw_shard_lives(s, rec)))
		tw_shard_rematch(s, i);
	due = tw_shard_due_ms(s, rec, &reason);
	if (due > s->now_ms)
		tw_shard_file(s, i, due);
	else if (!decide(s, i, hash, reason))
		tw_shard_file(s, i, s->now_ms + RETRY_MS);
}

/* A group of entries; as in adding, each pass touches what the one before has prefetched. A record
 * has one entry that is not stale, and what is done with one trace leaves the other open ones be.
 */
static void fire_group(struct tw_shard *s, const struct tw_wheel_entry *e, uint32_t n)
{
	const struct tw_wheel_entry *entry[GROUP];
	const void *line[GROUP];
	uint64_t hash[GROUP];
	uint32_t due = 0;

	for (uint32_t k = 0; k < n; k++) {
		const char *rec = (const char *)tw_record_at(&s->records, e[k].record);

		__builtin_prefetch(rec, 1);
		__builtin_prefetch(rec + sizeof(struct tw_record) - 1, 1);
	}
	for (uint32_t k = 0; k < n; k++) {
		const struct tw_record *rec = tw_record_at(&s->records, e[k].record);

		if (entry_is_stale(rec, &e[k]))
			continue;
		entry[due] = &e[k];
		hash[due] = tw_shard_hash(s, rec);
		line[due] = tw_verdicts_line(&s->verdicts, hash[due]);
		due++;
	}
	for (uint32_t k = 0; k < due; k++) {
		__builtin_prefetch(line[k], 1);
		tw_table_prefetch(&s->table, tw_table_bits(hash[k]));
	}
	for (uint32_t k = 0; k < due; k++)
		__builtin_prefetch(tw_verdicts_behind(&s->verdicts, line[k]), 1);
	/* Filed for the same time twice, it may be stale by now. */
	for (uint32_t k = 0; k < due; k++)
		if (!entry_is_stale(tw_record_at(&s->records, entry[k]->record), entry[k]))
			fire(s, entry[k]->record, hash[k]);
}

static void file_unfiled(struct tw_shard *s)
{
	for (uint32_t n = 0; s->unfiled > 0 && n < REFILE_PER_TICK; n++) {
		uint32_t i = s->unfiled_at;
		struct tw_record *rec = tw_record_at(&s->records, i);

		s->unfiled_at = i + 1 < tw_records_end(&s->records) ? i + 1 : 1;
		if (i != TW_RECORD_NONE && rec->state == TW_RECORD_OPEN && rec->unfiled)
			tw_shard_file(s, i, tw_shard_due_ms(s, rec, NULL));
	}
}

static void rematch_some(struct tw_shard *s)
{
	uint32_t n = 0;

	for (uint32_t k = 0;
	     s->rematch_at != TW_RECORD_NONE && n < REMATCH_PER_TICK && k < LOOK_PER_TICK; k++) {
		uint32_t i = s->rematch_at;
		struct tw_record *rec = tw_record_at(&s->records, i);
		uint64_t due;

		s->rematch_at = i + 1 < tw_records_end(&s->records) ? i + 1 : TW_RECORD_NONE;
		if (rec->state != TW_RECORD_OPEN || tw_shard_lives(s, rec))
			continue;
		n++;
		tw_shard_rematch(s, i);
		due = tw_shard_due_ms(s, rec, NULL);
		if (due != TW_NEVER && (int32_t)(rec->filed_ms - (uint32_t)due) > 0)
			tw_shard_file(s, i, due);
	}
}

bool tw_shard_tick(struct tw_shard *s, uint64_t now_ns, uint32_t most)
{
	struct tw_wheel_entry e[TAKE];
	uint32_t left = most, n;

	tw_shard_clock(s, now_ns);
	while (left > 0) {
		n = tw_wheel_take(&s->wheel, s->now_ms, e, left < TAKE ? left : TAKE);
		if (n == 0)
			break;
		for (uint32_t k = 0; k < n; k += GROUP)
			fire_group(s, e + k, n - k < GROUP ? n - k : GROUP);
		left -= n;
	}
	if (s->unfiled > 0)
		file_unfiled(s);
	rematch_some(s);
	tw_log_reclaim(&s->log);
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
	(void)decide_oldest(s, TW_REASON_DRAIN, most, (uint64_t)most * DRAIN_BLOCKS);
	tw_log_reclaim(&s->log);
	tw_shard_publish(s);
	return s->st.traces_open > 0;
}
