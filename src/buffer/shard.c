#include "pack.h"
#include "shard.h"

#include "tw/base/error.h"
#include "tw/base/mem.h"

#define GROUP           16u
#define TABLE_SLOTS_MIN 1024u
#define WAIT_MS_MAX     (UINT64_C(20) * 86400 * 1000) /* record times are 32 bits of milliseconds */

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void destroy(struct tw_shard *s)
{
	struct tw_kept_chunk *c;

	tw_free(s->scratch);
	tw_table_deinit(&s->table);
	tw_records_deinit(&s->records);
	tw_wheel_deinit(&s->wheel);
	tw_verdicts_deinit(&s->verdicts);
	while ((c = s->kept_chunks) != NULL) {
		s->kept_chunks = c->next;
		tw_free(c);
	}
	tw_free(s);
}

struct tw_shard *tw_shard_create(const struct tw_shard_config *c)
{
	struct tw_shard *s = tw_alloc_aligned(64, sizeof(*s));

	TW_ASSERT(c->shards > 0 && c->pool);
	if (!s)
		return NULL;
	memset(s, 0, sizeof(*s));
	s->config = *c;
	s->config.opts.trace_spans_max =
	    (uint32_t)least(c->opts.trace_spans_max, TW_RECORD_SPANS_MAX);
	s->config.opts.trace_bytes_max = least(c->opts.trace_bytes_max, TW_RECORD_BYTES_MAX);
	s->ops = c->ops;
	s->ctx = c->ctx;
	s->base_ns = c->now_ns;
	if (tw_log_init(&s->log, c->pool, c->key) != 0) {
		tw_free(s);
		return NULL;
	}
	if (tw_table_init(&s->table, c->pool, TABLE_SLOTS_MIN) != 0 ||
	    tw_records_init(&s->records, c->pool) != 0 || tw_wheel_init(&s->wheel, c->pool) != 0 ||
	    tw_verdicts_init(&s->verdicts, c->opts.verdict_bytes_max / c->shards,
	                     c->opts.verdict_keep_ns) != 0 ||
	    !tw_shard_ready_to_keep(s)) {
		tw_log_deinit(&s->log);
		destroy(s);
		return NULL;
	}
	tw_shard_publish(s);
	return s;
}

void tw_shard_destroy(struct tw_shard **ps)
{
	if (!*ps)
		return;
	tw_pool_unpin((*ps)->config.pool, (*ps)->pinned);
	tw_log_deinit(&(*ps)->log);
	destroy(*ps);
	*ps = NULL;
}

/* ---- waits and generations ---- */

static uint64_t wait_ms(uint64_t ns)
{
	uint64_t ms;

	if (ns == TW_NEVER)
		return TW_NEVER;
	ms = ns / TW_NS_PER_MS + (ns % TW_NS_PER_MS != 0);
	return ms < WAIT_MS_MAX ? ms : WAIT_MS_MAX;
}

void tw_shard_set_wait(struct tw_shard *s, uint32_t generation, uint64_t root_ns, uint64_t idle_ns,
                       uint64_t most_ns)
{
	struct tw_wait_ms w = {.generation = generation,
	                       .set = true,
	                       .root = wait_ms(root_ns),
	                       .idle = wait_ms(idle_ns),
	                       .most = wait_ms(most_ns)};

	w.first = least(w.idle, w.most);
	w.look = w.first / 4;
	if (w.root != TW_NEVER && w.look < w.root)
		w.look = w.root;
	if (s->newest.set && s->newest.generation == generation) {
		s->newest = w;
		return;
	}
	if (s->previous.set && s->previous.generation == generation) {
		s->previous = w;
		return;
	}
	if (s->previous.set)
		s->rematch_at = 1;
	s->previous = s->newest;
	s->newest = w;
}

bool tw_shard_generation_lives(const struct tw_shard *s, uint32_t generation)
{
	return s->newest.generation == generation ||
	       (s->previous.set && s->previous.generation == generation);
}

/* ---- taking spans ---- */

struct batch { /* what the spans of one tw_shard_add share */
	const struct tw_request *req;
	uint32_t generation;
	uint64_t admitted; /* bytes of the reservation that the spans consume */
	uint64_t again[TW_MASK_WORDS];
	uint32_t scope;        /* asked for last; UINT32_MAX: none */
	uint64_t service_hash; /* its */
};

static uint64_t service_hash(const struct tw_shard *s, struct batch *b, const struct tw_span *sp)
{
	const struct tw_resource *res;
	const struct tw_value *v;

	/* Spans come by scopes. */
	if (TW_LIKELY(b->scope == sp->scope))
		return b->service_hash;
	b->scope = sp->scope;
	b->service_hash = 0;
	res = &b->req->resources[b->req->scopes[sp->scope].resource];
	if (!(res->slots_set >> TW_KEY_SERVICE_NAME & 1))
		return 0;
	v = &res->slots[TW_KEY_SERVICE_NAME];
	if (v->type == TW_VALUE_STRING)
		b->service_hash = tw_hash_bytes(s->config.key, v->p, v->n) & TW_SERVICE_HASH_MASK;
	return b->service_hash;
}

static bool is_trace(const struct tw_record *rec, const struct tw_span *sp)
{
	return tw_id_eq(rec->id, sp->trace_id) && rec->state == TW_RECORD_OPEN;
}

static uint32_t find(const struct tw_shard *s, const struct tw_span *sp)
{
	struct tw_table_probe p;
	uint32_t i = tw_table_first(&s->table, tw_table_bits(sp->hash));

	if (TW_LIKELY(i == TW_RECORD_NONE || is_trace(tw_record_at(&s->records, i), sp)))
		return i;
	p = tw_table_probe(&s->table, sp->hash);
	while ((i = tw_table_next(&s->table, &p)) != 0)
		if (is_trace(tw_record_at(&s->records, i), sp))
			return i;
	return TW_RECORD_NONE;
}

static void read_tracestate(struct tw_shard *s, uint32_t i, const struct tw_span *sp)
{
	struct tw_ot ot;

	tw_tracestate_parse(tw_slice(sp->rest->tracestate, sp->rest->tracestate_n), &ot);
	if (!ot.has_rv || ot.malformed)
		return;
	tw_records_set_rv(&s->records, i, ot.rv);
}

/* A record before its first span. */
static void begin_record(const struct tw_shard *s, struct batch *b, struct tw_record *rec,
                         const struct tw_span *sp, enum tw_record_state state)
{
	rec->id = sp->trace_id;
	rec->state = state;
	rec->start_ns = UINT64_MAX;
	rec->service_hash = service_hash(s, b, sp);
}

/* The span's numbers go into the record. */
static inline void fold(struct tw_shard *s, uint32_t i, struct tw_record *rec,
                        const struct tw_span *sp, const uint64_t *mask)
{
	uint64_t end_ns = sp->start_ns + sp->duration_ns;

	if (end_ns < sp->start_ns)
		end_ns = UINT64_MAX;
	for (uint32_t w = 0; w < TW_MASK_WORDS; w++)
		rec->mask[w] |= mask[w];
	rec->start_ns = sp->start_ns < rec->start_ns ? sp->start_ns : rec->start_ns;
	rec->end_ns = end_ns > rec->end_ns ? end_ns : rec->end_ns;
	rec->bytes += sp->bytes_n;
	s->st.span_bytes += sp->bytes_n;
	tw_record_count(rec, sp->status == TW_STATUS_ERROR);
	rec->last_ms = (uint32_t)s->now_ms;
	if (TW_UNLIKELY(sp->flags & TW_SPAN_TRACESTATE) && !rec->has_rv)
		read_tracestate(s, i, sp);
}

static void root_arrived(struct tw_shard *s, struct batch *b, uint32_t i, const struct tw_span *sp)
{
	struct tw_record *rec = tw_record_at(&s->records, i);
	uint64_t due;

	rec->has_root = 1;
	rec->root_ms = (uint32_t)s->now_ms;
	rec->service_hash = service_hash(s, b, sp);
	if (rec->state != TW_RECORD_OPEN)
		return;
	/* Filed it is for the other deadlines, or before. */
	due = tw_shard_root_due_ms(s, rec);
	if (due != TW_NEVER && (int32_t)(rec->filed_ms - (uint32_t)due) > 0)
		tw_shard_file(s, i, due);
}

/* The span's bits with its trace's generation, which is not the batch's. */
static __attribute__((noinline)) const uint64_t *match_again(struct tw_shard *s, struct batch *b,
                                                             uint32_t i, const struct tw_span *sp)
{
	const struct tw_record *rec = tw_record_at(&s->records, i);
	const struct tw_scope *sc = &b->req->scopes[sp->scope];

	if (!tw_shard_lives(s, rec))
		tw_shard_rematch(s, i);
	if (tw_record_generation(rec) == (uint16_t)b->generation)
		return tw_span_mask(b->req, sp);
	memset(b->again, 0, sizeof(b->again));
	s->ops->rematch(s->ctx, tw_shard_generation(s, rec), b->req->resources[sc->resource].head,
	                sc->head, tw_slice(sp->bytes, sp->bytes_n), b->again);
	s->st.rematched++;
	return b->again;
}

static inline __attribute__((always_inline)) void append(struct tw_shard *s, struct batch *b,
                                                         uint32_t i, struct tw_record *rec,
                                                         const struct tw_span *sp)
{
	const uint64_t *mask = tw_span_mask(b->req, sp);

	if (TW_UNLIKELY(tw_record_generation(rec) != (uint16_t)b->generation) &&
	    rec->state == TW_RECORD_OPEN)
		mask = match_again(s, b, i, sp);
	tw_log_append(&s->log, b->req, sp, rec, i);
	fold(s, i, rec, sp, mask);
	if ((sp->flags & TW_SPAN_ROOT) && !rec->has_root)
		root_arrived(s, b, i, sp);
}

/* Room for one more entry in the table; deciding makes it. */
static bool table_put(struct tw_shard *s, uint64_t hash, uint32_t i)
{
	while (!tw_table_insert(&s->table, hash, i))
		if (tw_shard_decide_oldest(s, TW_REASON_MEMORY, 1) == 0)
			return false;
	return true;
}

static uint32_t begin_trace(struct tw_shard *s, struct batch *b, const struct tw_span *sp)
{
	uint32_t i = tw_shard_record(s);
	struct tw_record *rec;

	if (i == TW_RECORD_NONE)
		return i;
	if (!table_put(s, sp->hash, i)) {
		tw_shard_free(s, i);
		return TW_RECORD_NONE;
	}
	rec = tw_record_at(&s->records, i);
	begin_record(s, b, rec, sp, TW_RECORD_OPEN);
	tw_record_set_generation(rec, tw_shard_generation_lives(s, b->generation)
	                                  ? b->generation
	                                  : s->newest.generation);
	rec->first_ms = rec->last_ms = (uint32_t)s->now_ms;
	tw_shard_file(s, i, tw_shard_first_due_ms(s, rec));
	s->st.traces_begun++;
	s->st.traces_open++;
	return i;
}

/* ---- late spans ---- */

static void late_end(struct tw_shard *s)
{
	struct tw_trace_view view;
	uint32_t i = s->late_record;

	if (i == TW_RECORD_NONE)
		return;
	s->late_record = TW_RECORD_NONE;
	tw_shard_view(s, i, TW_REASON_LATE, &view);
	view.generation = s->late_verdict.generation;
	tw_shard_keep(s, i, &view, &s->late_verdict);
}

/* The record that gathers a run of late spans of one trace. */
static uint32_t late_begin(struct tw_shard *s, struct batch *b, const struct tw_span *sp,
                           const struct tw_verdict *v)
{
	const struct tw_record *old = tw_record_at(&s->records, s->late_record);
	uint32_t i;

	if (s->late_record != TW_RECORD_NONE && tw_id_eq(old->id, sp->trace_id) &&
	    s->late_verdict.rule == v->rule && s->late_verdict.threshold == v->threshold &&
	    s->late_verdict.generation == v->generation && old->bytes < TW_SEGMENT_BYTES)
		return s->late_record;
	late_end(s);
	if (!tw_shard_ready_to_keep(s))
		return TW_RECORD_NONE;
	i = tw_shard_record(s);
	if (i == TW_RECORD_NONE)
		return i;
	begin_record(s, b, tw_record_at(&s->records, i), sp, TW_RECORD_LATE);
	s->late_record = i;
	s->late_verdict = *v;
	return i;
}

/* `added` and where the span went change together: a release from within a callback publishes the
 * books. */
static void count_in_flight(struct tw_shard *s)
{
	s->st.added++;
	s->st.in_flight++;
}

static void let_go_late(struct tw_shard *s)
{
	s->st.added++;
	s->st.let_go++;
	s->st.late_let_go++;
}

static void add_late(struct tw_shard *s, struct batch *b, const struct tw_span *sp,
                     struct tw_verdict *v)
{
	bool kept = v->keep;
	uint32_t i;

	s->ops->late(s->ctx, sp, v);
	v->reason = TW_REASON_LATE;
	if (v->keep && !kept)
		tw_verdicts_put(&s->verdicts, sp->hash, v, s->now_ms / 1000);
	if (!v->keep) {
		let_go_late(s);
		return;
	}
	i = late_begin(s, b, sp, v);
	if (i == TW_RECORD_NONE) {
		s->st.unstored++;
		let_go_late(s);
		return;
	}
	append(s, b, i, tw_record_at(&s->records, i), sp);
	count_in_flight(s);
}

/* ---- one span, and groups ---- */

/* With this span it is. */
static bool too_large(const struct tw_shard *s, const struct tw_record *rec,
                      const struct tw_span *sp)
{
	return tw_record_spans(rec) + 1 >= s->config.opts.trace_spans_max ||
	       (uint64_t)rec->bytes + sp->bytes_n >= s->config.opts.trace_bytes_max;
}

/* The record can count no more; only where deciding failed for want of memory. */
static bool is_full(const struct tw_record *rec)
{
	return rec->bytes > TW_RECORD_BYTES_MAX || tw_record_spans(rec) > TW_RECORD_SPANS_MAX;
}

/* A record that may be a span's. */
struct hint {
	uint32_t i;            /* TW_RECORD_NONE: there is none */
	struct tw_record *rec; /* records never move */
};

static struct hint hint_of(const struct tw_shard *s, uint32_t i)
{
	return (struct hint){i, i == TW_RECORD_NONE ? NULL : tw_record_at(&s->records, i)};
}

static struct hint let_go_unstored(struct tw_shard *s)
{
	s->st.added++;
	s->st.unstored++;
	s->st.let_go++;
	return (struct hint){TW_RECORD_NONE, NULL};
}

/* No open trace has it: late, or the first one. */
static __attribute__((noinline)) struct hint begin_or_late(struct tw_shard *s, struct batch *b,
                                                           const struct tw_span *sp, bool room)
{
	const struct hint none = {TW_RECORD_NONE, NULL};
	struct tw_verdict v;

	if (tw_verdicts_get(&s->verdicts, sp->hash, s->newest.generation, s->now_ms / 1000, &v)) {
		if (room) {
			add_late(s, b, sp, &v);
		} else {
			s->st.unstored++;
			let_go_late(s);
		}
		return none;
	}
	if (room) {
		uint32_t i = begin_trace(s, b, sp);

		if (i != TW_RECORD_NONE)
			return hint_of(s, i);
	}
	return let_go_unstored(s);
}

/* Returns the record that took the span, as the next one's hint. */
static struct hint add_one(struct tw_shard *s, struct batch *b, const struct tw_span *sp,
                           struct hint h)
{
	bool room = tw_shard_room(s, b->req, sp); /* first: it may decide, even this trace */
	bool last;

	b->admitted += sp->bytes_n;
	if (h.i == TW_RECORD_NONE || !is_trace(h.rec, sp))
		h = hint_of(s, find(s, sp));
	if (h.i == TW_RECORD_NONE) {
		h = begin_or_late(s, b, sp, room);
		if (h.i == TW_RECORD_NONE)
			return h;
	} else if (TW_UNLIKELY(!room)) {
		return let_go_unstored(s);
	}
	last = too_large(s, h.rec, sp);
	if (TW_UNLIKELY(last) && is_full(h.rec))
		return let_go_unstored(s);
	append(s, b, h.i, h.rec, sp);
	count_in_flight(s);
	if (TW_UNLIKELY(last) && tw_shard_decide(s, h.i, TW_REASON_SIZE))
		return hint_of(s, TW_RECORD_NONE);
	return h;
}

/* Three passes over a group, so that its cache misses overlap: table slots, then records or
 * verdicts, then the work. Groups follow one another as in a pipeline: while one is worked on, the
 * next one's records and the one after's slots are on their way. A hint may be stale by then;
 * add_one looks. */
struct group {
	const struct tw_span *sp[GROUP];
	struct hint hint[GROUP + 1]; /* the last: of the span before the one at hand */
	uint32_t bits[GROUP];        /* of the table */
	uint32_t n;
	const void *verdict[GROUP]; /* lines of verdicts that will be asked for */
	uint32_t verdicts;
};

static void group_load(const struct tw_shard *s, struct group *g, const struct tw_request *req,
                       const uint32_t *idx, uint32_t n)
{
	g->n = n;
	for (uint32_t k = 0; k < n; k++) {
		g->sp[k] = &req->spans[idx[k]];
		g->bits[k] = tw_table_bits(g->sp[k]->hash);
		tw_table_prefetch(&s->table, g->bits[k]);
		if (TW_LIKELY(g->sp[k]->operation != 0))
			__builtin_prefetch(&req->operations[g->sp[k]->operation - 1]);
	}
}

static void group_probe(const struct tw_shard *s, struct group *g, const struct tw_request *req)
{
	const void *first[GROUP], *last[GROUP];
	uint32_t n = 0;

	g->verdicts = 0;
	for (uint32_t k = 0; k < g->n; k++) {
		const struct tw_span *sp = g->sp[k];

		g->hint[k].i = TW_RECORD_NONE;
		if (k > 0 && tw_id_eq(sp->trace_id, g->sp[k - 1]->trace_id))
			continue; /* a run: the record of the one before */
		g->hint[k] = hint_of(s, tw_table_first(&s->table, g->bits[k]));
		if (g->hint[k].i == TW_RECORD_NONE) {
			first[n] = last[n] = tw_verdicts_line(&s->verdicts, sp->hash);
			g->verdict[g->verdicts++] = first[n];
		} else {
			first[n] = g->hint[k].rec;
			last[n] = (const char *)(g->hint[k].rec + 1) - 1;
		}
		n++;
	}
	/* All at once: each waits for its page's translation, and several of those can be under
	 * way only if they are near to one another. */
	for (uint32_t k = 0; k < n; k++) {
		__builtin_prefetch(first[k], 1);
		__builtin_prefetch(last[k], 1);
	}
	for (uint32_t k = 0; k < g->n; k++)
		tw_log_prefetch(&s->log, req, g->sp[k]);
}

static void group_add(struct tw_shard *s, struct batch *b, struct group *g)
{
	for (uint32_t k = 0; k < g->verdicts; k++)
		__builtin_prefetch(tw_verdicts_behind(&s->verdicts, g->verdict[k]));
	g->hint[GROUP] = (struct hint){TW_RECORD_NONE, NULL};
	for (uint32_t k = 0; k < g->n; k++) {
		/* Its own, or that of the one before: no branch, which would be as good as random.
		 */
		uint32_t none = -(uint32_t)(g->hint[k].i == TW_RECORD_NONE);

		g->hint[GROUP] = add_one(s, b, g->sp[k], g->hint[k ^ ((k ^ GROUP) & none)]);
	}
}

void tw_shard_add(struct tw_shard *s, const struct tw_request *req, const uint32_t *idx, uint32_t n,
                  uint32_t generation, uint64_t now_ns)
{
	struct batch b = {.req = req, .generation = generation, .scope = UINT32_MAX};
	const uint32_t groups = n / GROUP + (n % GROUP != 0);
	struct group g[3];

	TW_ASSERT(s->newest.set);
	tw_shard_clock(s, now_ns);
	tw_log_begin(&s->log, req);
	for (uint32_t k = 0; k < groups + 2; k++) {
		if (k < groups)
			group_load(s, &g[k % 3], req, idx + k * GROUP,
			           n - k * GROUP < GROUP ? n - k * GROUP : GROUP);
		if (k >= 1 && k - 1 < groups)
			group_probe(s, &g[(k - 1) % 3], req);
		if (k >= 2)
			group_add(s, &b, &g[(k - 2) % 3]);
	}
	late_end(s);
	tw_log_reclaim(&s->log);
	tw_pool_unadmit(s->config.pool, b.admitted, n);
	tw_shard_publish(s);
}

/* ---- books ---- */

void tw_shard_publish(struct tw_shard *s)
{
	struct tw_shard_stats *st = &s->st;
	const struct tw_log *l = &s->log;
	uint64_t values[TW_STATS_COUNT];

	st->stored_bytes = l->span_bytes;
	st->digest_bytes = l->live - l->span_bytes + l->heads;
	st->record_bytes = (uint64_t)s->records.held * sizeof(struct tw_record);
	st->table_bytes = tw_table_bytes(&s->table) + tw_wheel_bytes(&s->wheel);
	st->slack_bytes =
	    l->capacity - l->live - l->heads + tw_records_bytes(&s->records) - st->record_bytes;
	st->verdict_bytes = tw_verdicts_bytes(&s->verdicts);
	st->verdicts = s->verdicts.entries;
	st->segments = l->segments;
	memcpy(values, st, sizeof(values));
	tw_seq_write_begin(&s->seq);
	for (uint32_t i = 0; i < TW_STATS_COUNT; i++)
		tw_counter_set(&s->published[i], values[i]);
	tw_seq_write_end(&s->seq);
}

void tw_shard_stats_read(struct tw_shard *s, struct tw_shard_stats *out)
{
	uint64_t values[TW_STATS_COUNT];

	tw_seq_read(&s->seq, s->published, values, TW_STATS_COUNT);
	memcpy(out, values, sizeof(*out));
}
