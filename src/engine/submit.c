/* A request's three phases: scan (pure), admit (all or nothing), commit (count and route). */
#include "core_private.h"

#include <string.h>

#include "tw/base/limits.h"
#include "tw/base/mem.h"

#define FREE_TICKETS_MAX 8u
#define AT_ONCE_SPANS    2048u /* a request of up to so many is committed at once, … */
#define TURN_SPANS       1024u /* … of another up to so many a turn */
#define RETRY_MS         1000u

struct tw_ticket {
	struct tw_ticket *next;
	struct tw_request req;
	struct tw_body body;
	struct tw_generation *gen;
	uint32_t *idx; /* span indices, grouped by owner */
	uint32_t idx_cap;
	uint32_t pending;     /* owners that have not given their batch back */
	uint32_t counted;     /* spans that are in the series */
	uint32_t added;       /* of the own batch: spans that are in the shard */
	uint64_t views_bytes; /* reserved in s->views */
	tw_sink_done done;
	void *ctx;
	struct tw_batch_ref batch[]; /* [workers] */
};

const struct tw_request *tw_ticket_request(const struct tw_ticket *t)
{
	return &t->req;
}

const struct tw_generation *tw_ticket_generation(const struct tw_ticket *t)
{
	return t->gen;
}

/* ---- tickets ---- */

static struct tw_ticket *ticket_get(struct tw_core *c)
{
	struct tw_ticket *t = c->free_tickets;

	if (t != NULL) {
		c->free_tickets = t->next;
		c->free_count--;
		return t;
	}
	t = tw_calloc(1, sizeof(*t) + c->s->workers * sizeof(t->batch[0]));
	if (t != NULL)
		tw_request_init(&t->req);
	return t;
}

static void ticket_free(struct tw_ticket *t)
{
	tw_request_deinit(&t->req);
	tw_free(t->idx);
	tw_free(t);
}

static void ticket_put(struct tw_core *c, struct tw_ticket *t)
{
	tw_body_deinit(&t->body);
	if (t->views_bytes != 0)
		tw_budget_release(c->s->views, t->views_bytes);
	t->views_bytes = 0;
	tw_request_reset(&t->req);
	if (c->free_count == FREE_TICKETS_MAX) {
		ticket_free(t);
		return;
	}
	t->next = c->free_tickets;
	c->free_tickets = t;
	c->free_count++;
}

void tw_core_tickets_free(struct tw_core *c)
{
	while (c->free_tickets != NULL) {
		struct tw_ticket *t = c->free_tickets;

		c->free_tickets = t->next;
		ticket_free(t);
	}
	c->free_count = 0;
}

static void count_generation(struct tw_core *c, const struct tw_generation *g, int by)
{
	_Atomic uint32_t *n = &c->tickets_of[g->number & 3];

	/* One writer. Release: engine.c frees a generation after it has read zero here. */
	atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + (uint32_t)by,
	                      memory_order_release);
}

static void answer(struct tw_core *c, struct tw_ticket *t, enum tw_sink_outcome outcome,
                   const char *message)
{
	struct tw_sink_result r = {
	    .outcome = outcome,
	    .rejected = outcome == TW_SINK_OK ? tw_request_rejected(&t->req) : 0,
	    .message = message,
	    .retry_ms = outcome == TW_SINK_REFUSED ? RETRY_MS : 0,
	};
	tw_sink_done done = t->done;
	void *ctx = t->ctx;

	if (r.rejected != 0)
		r.message = t->req.reject_text;
	done(ctx, &r);
	ticket_put(c, t);
}

/* ---- admit ---- */

static uint64_t views_bytes(const struct tw_request *r)
{
	return r->span_count * sizeof(struct tw_span) + r->value_count * sizeof(struct tw_value) +
	       r->scope_count * sizeof(struct tw_scope) +
	       r->resource_count * sizeof(struct tw_resource) +
	       r->operation_count * sizeof(struct tw_operation) +
	       r->place_count * sizeof(struct tw_place);
}

static inline uint32_t owner_of(const struct tw_core *c, uint64_t hash)
{
	/* The high bits: the table's slot is taken from the low ones. */
	return (uint32_t)(((hash >> 32) * c->s->workers) >> 32);
}

/* Groups the spans by owner: t->batch[o] gets its indices, in order of arrival. */
static bool group(struct tw_core *c, struct tw_ticket *t)
{
	uint32_t n = t->req.span_count, workers = c->s->workers, at = 0;
	uint32_t *fill = c->owner_fill;

	if (t->idx_cap < n) {
		uint32_t *p = tw_realloc(t->idx, n * sizeof(*p));

		if (p == NULL)
			return false;
		t->idx = p;
		t->idx_cap = n;
		/* With one worker they stay as they are. */
		for (uint32_t i = 0; i < n; i++)
			t->idx[i] = i;
	}
	if (workers == 1) {
		t->batch[0] = (struct tw_batch_ref){t, t->idx, n, c->index};
		return true;
	}
	memset(fill, 0, workers * sizeof(*fill));
	for (uint32_t i = 0; i < n; i++)
		fill[owner_of(c, t->req.spans[i].hash)]++;
	for (uint32_t o = 0; o < workers; o++) {
		t->batch[o] = (struct tw_batch_ref){t, t->idx + at, fill[o], c->index};
		at += fill[o];
		fill[o] = at - fill[o];
	}
	for (uint32_t i = 0; i < n; i++)
		t->idx[fill[owner_of(c, t->req.spans[i].hash)]++] = i;
	return true;
}

/* At most TW_RING_SIZE − 1 batches are out to an owner, wherever they are, so neither ring can
 * overflow. */
static bool rings_have_room(struct tw_core *c, const struct tw_ticket *t)
{
	for (uint32_t o = 0; o < c->s->workers; o++) {
		if (o == c->index || t->batch[o].n == 0)
			continue;
		if (c->out[o] == TW_RING_SIZE - 1)
			tw_core_take_back(c, o);
		if (c->out[o] == TW_RING_SIZE - 1)
			return false;
	}
	return true;
}

/* A request whose views are larger than the whole budget passes when it is alone, as in the pool:
 * refused, it would come again for ever. The scan has made them already. */
static bool reserve_views(struct tw_core *c, const struct tw_ticket *t, uint64_t bytes)
{
	if (tw_budget_reserve(c->s->views, bytes))
		return true;
	if (tw_budget_used(c->s->views) > (t->body.budget == c->s->views ? t->body.cap : 0))
		return false;
	tw_budget_force(c->s->views, bytes);
	return true;
}

/* Reserves everything that the commit needs; TW_REFUSE_COUNT: admitted. */
static enum tw_refusal admit(struct tw_core *c, struct tw_ticket *t, uint64_t *bytes)
{
	uint64_t views = views_bytes(&t->req);

	if (atomic_load_explicit(&c->s->draining, memory_order_relaxed))
		return TW_REFUSE_DRAIN;
	*bytes = t->req.span_bytes;
	if (!reserve_views(c, t, views))
		return TW_REFUSE_MEMORY;
	t->views_bytes = views;
	if (!group(c, t))
		return TW_REFUSE_MEMORY;
	if (!rings_have_room(c, t))
		return TW_REFUSE_RING;
	if (!tw_pool_admit(c->s->pool, *bytes, t->req.span_count))
		return TW_REFUSE_BUFFER;
	return TW_REFUSE_COUNT;
}

static const char *refusal_text(enum tw_refusal why)
{
	switch (why) {
	case TW_REFUSE_BUFFER:
		return "the trace buffer is full of kept traces that a destination does not take";
	case TW_REFUSE_RING:
		return "a worker is behind";
	case TW_REFUSE_DRAIN:
		return "traceweir is shutting down";
	default:
		return "out of memory for requests in flight";
	}
}

/* ---- commit ---- */

/* After the last span was counted: its series is what an owner takes it with. */
static void hand_out(struct tw_core *c, struct tw_ticket *t)
{
	for (uint32_t o = 0; o < c->s->workers; o++) {
		if (o == c->index || t->batch[o].n == 0)
			continue;
		t->pending++;
		TW_ASSERT(tw_ring_put_spsc(c->s->cores[o]->in[c->index], &t->batch[o]));
		tw_core_post(c, o);
	}
}

static void count_step(struct tw_core *c, struct tw_ticket *t)
{
	struct tw_request part = t->req;
	uint32_t left = t->req.span_count - t->counted;

	part.spans += t->counted;
	part.span_count = left < TW_CORE_STEP_SPANS ? left : TW_CORE_STEP_SPANS;
	tw_red_count(c->red, &part, t->gen->slot);
	t->counted += part.span_count;
	if (t->counted < t->req.span_count)
		return;
	if (t->gen->number == c->memo_generation)
		tw_memo_store(c->memo, &t->req);
	hand_out(c, t);
}

/* One step of a commit; true: it was the last, and the ticket may be gone. */
static bool commit_step(struct tw_core *c, struct tw_ticket *t)
{
	struct tw_batch_ref *own = &t->batch[c->index];
	uint32_t left = own->n - t->added,
	         n = left < TW_CORE_STEP_SPANS ? left : TW_CORE_STEP_SPANS;

	if (t->counted < t->req.span_count) {
		count_step(c, t);
		return false;
	}
	if (n != 0)
		tw_core_add(c, own, t->added, n);
	t->added += n;
	if (t->added < own->n)
		return false;
	tw_core_batch_done(c, own);
	return true;
}

bool tw_core_work(struct tw_core *c)
{
	uint64_t began = tw_now(c->s->clock);
	struct tw_ticket *t;
	bool any = c->work != NULL;

	for (uint32_t n = 0; (t = c->work) != NULL && n < TURN_SPANS; n += TW_CORE_STEP_SPANS) {
		struct tw_ticket *next = t->next;

		if (commit_step(c, t)) {
			c->work = next;
			if (next == NULL)
				c->work_end = &c->work;
		}
		if (tw_core_out_of_time(c, began))
			break;
	}
	return any;
}

/* Large ones, and any while traces are being matched again after a reload: then a span costs ten
 * times as much. */
static bool in_steps(struct tw_core *c, uint32_t spans)
{
	bool rematching = c->rematches != c->rematches_seen;

	c->rematches_seen = c->rematches;
	return spans > AT_ONCE_SPANS || rematching;
}

static void commit(struct tw_core *c, struct tw_ticket *t, uint64_t bytes)
{
	uint32_t n = t->req.span_count;

	c->books.accepted += n;
	c->books.handed += n;
	c->books.received_bytes += bytes;
	t->pending = 1; /* the own batch's, so that it cannot reach zero early */
	t->counted = t->added = 0;
	/* The rings' places are taken now: a large request is handed out after smaller ones that
	 * came later. */
	for (uint32_t o = 0; o < c->s->workers; o++)
		c->out[o] += o != c->index && t->batch[o].n != 0;
	c->books.tickets++;
	count_generation(c, t->gen, 1);
	/* Before the first put: whoever sees that an owner took a batch, sees that it was handed,
	 * too. */
	tw_core_publish(c);
	if (in_steps(c, n)) {
		t->next = NULL;
		*c->work_end = t;
		c->work_end = &t->next;
		return;
	}
	while (!commit_step(c, t))
		;
}

void tw_core_batch_done(struct tw_core *c, struct tw_batch_ref *b)
{
	struct tw_ticket *t = b->ticket;

	if (--t->pending != 0)
		return;
	c->books.tickets--;
	count_generation(c, t->gen, -1);
	answer(c, t, TW_SINK_OK, "");
}

static void scan_and_commit(struct tw_core *c, struct tw_ticket *t)
{
	struct tw_scan_opts o = {.key = c->s->key,
	                         .keys = t->gen->keys,
	                         .spans_max = c->s->spans_max,
	                         .templates = tw_shard_crowded(c->shard) ? NULL : c->templates,
	                         .behind = t->body.cap - t->body.n};
	struct tw_error err = {.text = ""};
	enum tw_refusal refusal;
	uint64_t bytes = 0;
	int rc;

	if (tw_templates_generation(c->templates, t->gen->number)) {
		tw_memo_clear(c->memo);
		c->memo_generation = t->gen->number;
	}
	rc = tw_otlp_scan(&o, tw_slice(t->body.p, t->body.n), &t->req, &err);

	if (rc == TW_ENOMEM) {
		answer(c, t, TW_SINK_REFUSED, refusal_text(TW_REFUSE_MEMORY));
		return;
	}
	if (rc != 0) {
		c->books.malformed_requests++;
		answer(c, t, rc == TW_ELIMIT ? TW_SINK_TOO_LARGE : TW_SINK_MALFORMED, err.text);
		return;
	}
	tw_memo_recall(c->memo, &t->req);
	tw_rules_match_request(t->gen->rules, t->gen->matchers[c->index], &t->req);
	refusal = t->req.span_count == 0 ? TW_REFUSE_COUNT : admit(c, t, &bytes);
	c->books.received += t->req.span_count + tw_request_rejected(&t->req);
	if (refusal != TW_REFUSE_COUNT) {
		/* The whole request, also the spans that would have been rejected: it comes again.
		 */
		c->books.refused[refusal] += t->req.span_count + tw_request_rejected(&t->req);
		answer(c, t, TW_SINK_REFUSED, refusal_text(refusal));
		return;
	}
	for (int i = 0; i < TW_REJECT_COUNT; i++)
		c->books.rejected[i] += t->req.rejected[i];
	if (t->req.span_count == 0)
		answer(c, t, TW_SINK_OK, "");
	else
		commit(c, t, bytes);
}

void tw_core_submit(struct tw_core *c, struct tw_body *body, tw_sink_done done, void *ctx)
{
	struct tw_ticket *t;

	c->now_ns = tw_now(c->s->clock);
	tw_core_adopt(c);
	t = ticket_get(c);
	if (t == NULL) {
		struct tw_sink_result r = {.outcome = TW_SINK_REFUSED,
		                           .message = refusal_text(TW_REFUSE_MEMORY),
		                           .retry_ms = RETRY_MS};

		tw_body_deinit(body);
		done(ctx, &r);
		return;
	}
	t->body = *body;
	tw_body_init(body, NULL);
	t->gen = c->gen;
	t->done = done;
	t->ctx = ctx;
	scan_and_commit(c, t);
	tw_core_publish(c);
}
