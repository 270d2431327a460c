#include "core_private.h"

#include <stddef.h>
#include <string.h>

#include "tw/base/limits.h"
#include "tw/base/mem.h"

/* What a turn does at most of each kind of work; a span costs some 0.2 µs when it is added, a
 * decision 0.05 to 10 µs. */
#define POLL_SPANS      4096u /* out of all rings together, but … */
#define BITE_SPANS_MIN  256u  /* … so many of each */
#define TICK_TRACES     512u
#define TICK_STEP       32u
#define TICK_STEP_AGAIN 8u /* while traces are matched again, some 15 µs each */

const char *const tw_refusal_names[TW_REFUSE_COUNT] = {"buffer_full", "ring_full", "memory",
                                                       "draining"};

bool tw_core_out_of_time(const struct tw_core *c, uint64_t began_ns)
{
	return tw_now(c->s->clock) - began_ns > TW_CORE_WORK_NS;
}

/* ---- create, destroy ---- */

static int create_rings(struct tw_core *c)
{
	c->in = tw_calloc(c->s->workers, sizeof(struct tw_ring *));
	c->back = tw_calloc(c->s->workers, sizeof(struct tw_ring *));
	c->out = tw_calloc(c->s->workers, sizeof(uint32_t));
	c->taken = tw_calloc(c->s->workers, sizeof(*c->taken));
	if (c->in == NULL || c->back == NULL || c->out == NULL || c->taken == NULL)
		return TW_ENOMEM;
	for (uint32_t i = 0; i < c->s->workers; i++) {
		if (i == c->index)
			continue;
		c->in[i] = tw_ring_create(TW_RING_SIZE);
		/* As many places as batches may be out (submit.c), so a put never fails. */
		c->back[i] = tw_ring_create(TW_RING_SIZE);
		if (c->in[i] == NULL || c->back[i] == NULL)
			return TW_ENOMEM;
	}
	return 0;
}

static int create_dests(struct tw_core *c, const struct tw_transport *transports, uint64_t seed,
                        uint32_t *taken)
{
	for (uint32_t d = 0; d < c->s->dest_count; d++) {
		const struct tw_dest_opts *o = &c->s->dests[d];
		struct tw_exporter_config x = {
		    .opts = o,
		    .transport = transports[d],
		    .queue_bytes_max = o->queue_bytes_max / c->s->workers,
		    .seed = seed + d * 0x9E3779B97F4A7C15u,
		    .in_flight_max = 4,
		    .clock = c->s->clock,
		    .on_room = tw_core_dest_room,
		    .ctx = c,
		};

		c->dest[d].refuse = o->when_full == TW_FULL_REFUSE ||
		                    (o->when_full == TW_FULL_DEFAULT && c->s->dest_count == 1);
		c->dest[d].exporter = tw_exporter_create(&x);
		if (c->dest[d].exporter == NULL)
			return TW_ENOMEM;
		*taken = d + 1;
	}
	return 0;
}

static int create_rest(struct tw_core *c, const struct tw_transport *transports, uint64_t seed,
                       uint32_t *taken)
{
	struct tw_shard_config sc = {
	    .pool = c->s->pool,
	    .opts = c->s->buffer,
	    .index = c->index,
	    .shards = c->s->workers,
	    .key = c->s->key,
	    .ops = &tw_core_shard_ops,
	    .ctx = c,
	    .now_ns = tw_now(c->s->clock),
	};

	tw_request_init(&c->one);
	tw_request_init(&c->again);
	c->red = tw_red_worker(c->s->red, c->index);
	c->rows = tw_calloc(TW_RULE_IDS_MAX, sizeof(*c->rows));
	c->pub_rows = tw_calloc(TW_RULE_IDS_MAX * TW_RULE_ROW_WORDS, sizeof(tw_counter));
	c->templates = tw_templates_create(c->s->key, c->s->templates_bytes_max);
	if (c->rows == NULL || c->pub_rows == NULL || c->templates == NULL)
		return TW_ENOMEM;
	if (create_rings(c) != 0 || create_dests(c, transports, seed, taken) != 0)
		return TW_ENOMEM;
	c->shard = tw_shard_create(&sc);
	if (c->shard == NULL)
		return TW_ENOMEM;
	tw_core_adopt(c);
	return 0;
}

int tw_core_create(struct tw_core_shared *s, uint32_t index, const struct tw_transport *transports,
                   uint64_t seed, uint32_t *taken, struct tw_core **out)
{
	struct tw_core *c = tw_alloc_aligned(64, sizeof(*c));

	*out = c;
	*taken = 0;
	if (c == NULL)
		return TW_ENOMEM;
	memset(c, 0, sizeof(*c));
	c->s = s;
	c->index = index;
	c->work_end = &c->work;
	s->cores[index] = c;
	return create_rest(c, transports, seed, taken);
}

void tw_core_destroy(struct tw_core **cp)
{
	struct tw_core *c = *cp;

	if (c == NULL)
		return;
	if (c->shard != NULL)
		tw_shard_destroy(&c->shard);
	for (uint32_t d = 0; d < c->s->dest_count; d++) {
		if (c->dest[d].exporter != NULL)
			tw_exporter_destroy(&c->dest[d].exporter);
		tw_free(c->dest[d].fifo);
	}
	for (uint32_t i = 0; c->in != NULL && c->back != NULL && i < c->s->workers; i++) {
		if (c->in[i] != NULL)
			tw_ring_destroy(&c->in[i]);
		if (c->back[i] != NULL)
			tw_ring_destroy(&c->back[i]);
	}
	tw_free(c->in);
	tw_free(c->back);
	tw_free(c->out);
	tw_free(c->taken);
	tw_core_tickets_free(c);
	tw_request_deinit(&c->one);
	tw_request_deinit(&c->again);
	tw_templates_destroy(&c->templates);
	tw_free(c->rows);
	tw_free(c->pub_rows);
	tw_free(c->kept_spans);
	tw_free(c->emit_spans);
	c->s->cores[c->index] = NULL;
	tw_free(c);
	*cp = NULL;
}

/* ---- generations ---- */

void tw_core_adopt(struct tw_core *c)
{
	struct tw_generation *newest =
	    atomic_load_explicit(&c->s->generation, memory_order_acquire);

	if (TW_LIKELY(newest == c->gen))
		return;
	/* One after the other, also when several came at once: the shard keeps two and matches the
	 * oldest's traces again with each step. */
	for (uint32_t n = c->gen != NULL ? c->gen->number + 1 : newest->number; n <= newest->number;
	     n++) {
		struct tw_generation *g = tw_core_generation(c, n);
		struct tw_wait w = tw_rules_wait(g->rules);

		c->rematching = c->gen != NULL;
		c->gen = g;
		tw_shard_set_wait(c->shard, n, w.root_ns, w.idle_ns, w.most_ns);
	}
	/* Release: when engine.c sees the number, the re-matching that set_wait did is over and
	 * nothing here reads the generation before the previous one again, but for tickets, which
	 * are counted. */
	atomic_store_explicit(&c->adopted, newest->number, memory_order_release);
}

struct tw_generation *tw_core_generation(struct tw_core *c, uint32_t number)
{
	struct tw_generation *g =
	    atomic_load_explicit(&c->s->live[number & 3], memory_order_acquire);

	TW_ASSERT(g != NULL && g->number == number);
	return g;
}

/* ---- rings ---- */

void tw_core_take_back(struct tw_core *c, uint32_t owner)
{
	struct tw_batch_ref *b;

	while ((b = tw_ring_take_spsc(c->back[owner])) != NULL) {
		c->out[owner]--;
		tw_core_batch_done(c, b);
	}
}

/* Spans that were matched with g go into the shard as of generation `number`. */
static void add(struct tw_core *c, const struct tw_generation *g, const struct tw_request *req,
                const uint32_t *idx, uint32_t n, uint32_t number)
{
	c->batch_gen = g;
	c->batch_req = req;
	tw_shard_add(c->shard, req, idx, n, number, c->now_ns);
}

/* A batch that was matched with a generation that is neither this core's nor the one before: two
 * reloads overtook it in the ring. Rare, so each of its spans is scanned and matched again by
 * itself. */
static void add_old(struct tw_core *c, const struct tw_batch_ref *b, uint32_t at, uint32_t n)
{
	static const uint32_t zero;
	const struct tw_request *req = tw_ticket_request(b->ticket);

	for (uint32_t i = at; i < at + n; i++) {
		const struct tw_span *s = &req->spans[b->idx[i]];
		const struct tw_scope *sc = &req->scopes[s->scope];

		if (tw_core_match_one(c, c->gen, &c->one, req->resources[sc->resource].head,
		                      sc->head, tw_slice(s->bytes, s->bytes_n)) != 0) {
			/* Out of memory: the span goes in as it was matched. */
			add(c, tw_ticket_generation(b->ticket), req, &b->idx[i], 1, c->gen->number);
			continue;
		}
		c->one.spans[0].series = s->series;
		add(c, c->gen, &c->one, &zero, 1, c->gen->number);
	}
}

void tw_core_add(struct tw_core *c, const struct tw_batch_ref *b, uint32_t at, uint32_t n)
{
	const struct tw_generation *g = tw_ticket_generation(b->ticket);

	if (g->number > c->gen->number)
		tw_core_adopt(c);
	if (TW_UNLIKELY(g->number + 1 < c->gen->number)) {
		add_old(c, b, at, n);
		return;
	}
	add(c, g, tw_ticket_request(b->ticket), b->idx + at, n, g->number);
}

void tw_core_added(struct tw_core *c)
{
	c->rematching = c->rematches != c->rematches_seen;
	c->rematches_seen = c->rematches;
}

void tw_core_post(struct tw_core *c, uint32_t to)
{
	/* Release, and before the wake: whoever is woken, or takes the bit earlier, finds what was
	 * put. A bit that is taken between the put and here only costs an empty look. */
	atomic_fetch_or_explicit(&c->s->cores[to]->mail[c->index / 64],
	                         UINT64_C(1) << (c->index % 64), memory_order_release);
	c->s->wake(c->s->wake_ctx, to);
}

/* At most `most` spans out of a ring; a batch that is larger is taken in parts, and goes back, and
 * so is acknowledged, with its last one. */
static bool take_in(struct tw_core *c, uint32_t from, uint32_t most)
{
	struct tw_core_taken *t = &c->taken[from];
	uint64_t began = tw_now(c->s->clock);
	bool answers = false, empty = false;

	do {
		uint32_t n;

		if (t->batch == NULL) {
			t->batch = tw_ring_take_spsc(c->in[from]);
			t->done = 0;
		}
		if (t->batch == NULL) {
			empty = true;
			break;
		}
		n = t->batch->n - t->done;
		n = n < tw_core_step_spans(c) ? n : tw_core_step_spans(c);
		tw_core_add(c, t->batch, t->done, n);
		t->done += n;
		most = most > n ? most - n : 0;
		if (t->done < t->batch->n)
			continue;
		tw_core_added(c);
		TW_ASSERT(tw_ring_put_spsc(c->s->cores[from]->back[c->index], t->batch));
		t->batch = NULL;
		answers = true;
	} while (most > 0 && !tw_core_out_of_time(c, began));
	if (!empty) /* there may be more */
		atomic_fetch_or_explicit(&c->mail[from / 64], UINT64_C(1) << (from % 64),
		                         memory_order_relaxed);
	if (answers)
		tw_core_post(c, from);
	return answers || t->batch != NULL;
}

/* A bounded bite of each ring, so that one busy sender does not starve the others. */
static uint32_t bite_of(const struct tw_core *c)
{
	uint32_t bite = POLL_SPANS / c->s->workers;

	return bite > BITE_SPANS_MIN ? bite : BITE_SPANS_MIN;
}

/* What the core `from` has put into both of its rings. */
static bool take_mail(struct tw_core *c, uint32_t from)
{
	tw_core_take_back(c, from);
	return take_in(c, from, bite_of(c));
}

bool tw_core_poll(struct tw_core *c)
{
	bool any, mail = false;

	if (c->coding)
		return true;
	c->now_ns = tw_now(c->s->clock);
	tw_core_adopt(c);
	any = tw_core_work(c);
	for (uint32_t w = 0; w * 64 < c->s->workers; w++) {
		uint64_t bits = 0;

		if (atomic_load_explicit(&c->mail[w], memory_order_relaxed) != 0)
			bits = atomic_exchange_explicit(&c->mail[w], 0, memory_order_acquire);
		for (; bits != 0; bits &= bits - 1) {
			mail = true;
			any = take_mail(c, w * 64 + (uint32_t)__builtin_ctzll(bits)) || any;
		}
	}
	if (mail || any)
		tw_core_publish(c);
	return any;
}

/* ---- time ---- */

/* `some`: the shard's tick, or its drain; true: there are more. */
static bool decide(struct tw_core *c, bool (*some)(struct tw_shard *, uint64_t, uint32_t))
{
	uint64_t began = tw_now(c->s->clock);
	uint32_t step = c->rematching ? TICK_STEP_AGAIN : TICK_STEP;

	for (uint32_t n = 0; n < TICK_TRACES; n += step) {
		if (!some(c->shard, c->now_ns, step))
			return false;
		if (tw_core_out_of_time(c, began))
			break;
	}
	return true;
}

/* `briefly`: compresses nothing; true: there is a batch to compress. */
static bool tick_exporters(struct tw_core *c, bool briefly)
{
	bool waits = false;

	for (uint32_t d = 0; d < c->s->dest_count; d++) {
		struct tw_exporter *x = c->dest[d].exporter;

		if (!briefly) {
			tw_exporter_tick(x, c->now_ns);
			continue;
		}
		tw_exporter_tick_briefly(x, c->now_ns);
		waits = waits || tw_exporter_is_to_code(x);
	}
	return waits;
}

static bool feed_and_decide(struct tw_core *c)
{
	tw_core_adopt(c);
	tw_core_feed_anew(c);
	tw_core_feed(c);
	return decide(c, tw_shard_tick);
}

bool tw_core_tick(struct tw_core *c, uint64_t so_far_ns)
{
	bool coding = c->coding, more = true;

	c->now_ns = tw_now(c->s->clock);
	if (!coding) {
		more = feed_and_decide(c);
		so_far_ns += tw_now(c->s->clock) - c->now_ns;
	}
	/* Compressing is as long as all other work of a turn together. */
	c->coding = tick_exporters(c, !coding && so_far_ns > TW_CORE_LONG_NS);
	tw_core_publish(c);
	return more || c->coding || tw_core_feed_cut(c);
}

bool tw_core_busy(const struct tw_core *c)
{
	return c->work != NULL || tw_core_feed_cut(c);
}

uint64_t tw_core_next_ns(const struct tw_core *c)
{
	uint64_t next = tw_shard_next_ns(c->shard);

	for (uint32_t d = 0; d < c->s->dest_count; d++) {
		uint64_t n = tw_exporter_next_ns(c->dest[d].exporter);

		next = n < next ? n : next;
	}
	return next;
}

/* ---- the end ---- */

bool tw_core_drain(struct tw_core *c)
{
	bool more;

	c->now_ns = tw_now(c->s->clock);
	tw_core_adopt(c);
	tw_core_feed_anew(c);
	more = decide(c, tw_shard_drain);
	tw_core_feed(c);
	tw_core_publish(c);
	return more;
}

void tw_core_flush(struct tw_core *c)
{
	c->now_ns = tw_now(c->s->clock);
	tw_core_feed_anew(c);
	tw_core_feed(c);
	for (uint32_t d = 0; d < c->s->dest_count; d++)
		tw_exporter_flush(c->dest[d].exporter, c->now_ns);
	tw_core_publish(c);
}

bool tw_core_empty(const struct tw_core *c)
{
	if (c->books.tickets != 0)
		return false;
	for (uint32_t d = 0; d < c->s->dest_count; d++)
		if (c->dest[d].count != 0 || !tw_exporter_empty(c->dest[d].exporter))
			return false;
	return true;
}

bool tw_core_stopped(const struct tw_core *c)
{
	for (uint32_t d = 0; d < c->s->dest_count; d++)
		if (c->dest[d].exporter != NULL && !tw_exporter_stopped(c->dest[d].exporter))
			return false;
	return true;
}

uint64_t tw_core_tickets(const struct tw_core *c)
{
	return c->books.tickets;
}

/* ---- books ---- */

static void dest_books(struct tw_core *c, uint32_t d)
{
	struct tw_dest_books *b = &c->books.dest[d];
	const struct tw_exporter_stats *x = tw_exporter_stats(c->dest[d].exporter);

	b->kept = c->dest[d].kept;
	b->pending = c->dest[d].pending;
	b->taken = tw_counter_get(&x->taken);
	b->forwarded = tw_counter_get(&x->forwarded);
	b->queued = tw_counter_get(&x->queued);
	for (int i = 0; i < TW_LOST_COUNT; i++)
		b->lost[i] = tw_counter_get(&x->lost[i]);
	b->queued_bytes = tw_counter_get(&x->queued_bytes);
	b->batches = tw_counter_get(&x->batches_sent);
	b->retries = tw_counter_get(&x->retries);
	b->failed = tw_counter_get(&x->sends_failed);
}

void tw_core_publish(struct tw_core *c)
{
	const uint64_t *w = (const uint64_t *)&c->books;
	/* Destinations that there are not stay zero. */
	const size_t words =
	    (offsetof(struct tw_core_books, dest) + c->s->dest_count * sizeof(c->books.dest[0])) /
	    sizeof(*w);

	tw_shard_stats_read(c->shard, &c->books.shard);
	if (c->templates != NULL)
		c->books.templates = tw_templates_stats(c->templates);
	for (uint32_t d = 0; d < c->s->dest_count; d++)
		dest_books(c, d);
	tw_seq_write_begin(&c->seq);
	for (size_t i = 0; i < words; i++)
		tw_counter_set(&c->pub[i], w[i]);
	for (uint32_t k = 0; k < TW_RULE_IDS_MAX / 64; k++) {
		while (c->dirty[k] != 0) {
			uint32_t id = k * 64 + (uint32_t)__builtin_ctzll(c->dirty[k]);
			const uint64_t *row = (const uint64_t *)&c->rows[id];

			c->dirty[k] &= c->dirty[k] - 1;
			for (size_t i = 0; i < TW_RULE_ROW_WORDS; i++)
				tw_counter_set(&c->pub_rows[id * TW_RULE_ROW_WORDS + i], row[i]);
		}
	}
	tw_seq_write_end(&c->seq);
}

void tw_core_books_read(struct tw_core *c, struct tw_core_books *books, struct tw_rule_row *rows,
                        uint32_t rules)
{
	uint32_t before, after;
	uint64_t *w = (uint64_t *)books, *r = (uint64_t *)rows;

	/* Books and rows are one state, so one look at the sequence brackets both copies. */
	do {
		before = atomic_load_explicit(&c->seq.n, memory_order_acquire);
		if (before & 1)
			continue;
		for (size_t i = 0; i < TW_BOOK_WORDS; i++)
			w[i] = tw_counter_get(&c->pub[i]);
		for (size_t i = 0; i < rules * TW_RULE_ROW_WORDS; i++)
			r[i] = tw_counter_get(&c->pub_rows[i]);
		atomic_thread_fence(memory_order_acquire);
		after = atomic_load_explicit(&c->seq.n, memory_order_relaxed);
	} while ((before & 1) || before != after);
}
