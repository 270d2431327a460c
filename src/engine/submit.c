/* A request's three phases: scan (pure), admit (all or nothing), commit (count and route).
 *
 * A usual request goes through them within tw_core_submit. A large one waits in c->work and takes a
 * step a time, the first before the others: so one at most is half scanned, and the views of the
 * others are not there yet. Nothing is counted before it is admitted or refused. */
#include "core_private.h"

#include <string.h>

#include "tw/base/limits.h"
#include "tw/base/mem.h"

#define FREE_TICKETS_MAX 8u
#define AT_ONCE_BYTES    (640u << 10) /* a request of up to so many is scanned at once, … */
#define SCAN_BYTES       (128u << 10) /* … of another so many a step: some 0.07 ms */
#define RELEASE_BYTES    (1u << 20)   /* of its memory are given back a step */
#define AT_ONCE_SPANS    2048u        /* a request of up to so many is committed at once, … */
#define TURN_SPANS       1024u        /* … of another up to so many a turn */
#define RETRY_MS         1000u

enum phase { SCAN, MATCH, GROUP, COMMIT, RELEASE };

struct tw_ticket {
	struct tw_ticket *next;
	struct tw_request req;
	struct tw_body body;
	struct tw_generation *gen;
	struct tw_scan *scan; /* of a large one */
	enum phase phase;     /* likewise */
	bool open;            /* counted as not answered yet */
	uint32_t *idx;        /* span indices, grouped by owner */
	uint32_t idx_cap;
	uint32_t idx_same;    /* with one worker: so many first ones are their own index */
	uint32_t through;     /* spans that have gone through the phase at hand */
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
	tw_scan_end(&t->scan);
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

static void put_last(struct tw_core *c, struct tw_ticket *t)
{
	t->next = NULL;
	*c->work_end = t;
	c->work_end = &t->next;
}

static struct tw_ticket *take_first(struct tw_core *c)
{
	struct tw_ticket *t = c->work;

	c->work = t->next;
	if (c->work == NULL)
		c->work_end = &c->work;
	return t;
}

static void put_first(struct tw_core *c, struct tw_ticket *t)
{
	t->next = c->work;
	if (c->work == NULL)
		c->work_end = &t->next;
	c->work = t;
}

void tw_core_tickets_free(struct tw_core *c)
{
	/* A drain that was cut short leaves some half done. */
	while (c->work != NULL) {
		struct tw_ticket *t = c->work;

		c->work = t->next;
		tw_body_deinit(&t->body);
		tw_budget_release(c->s->views, t->views_bytes);
		ticket_free(t);
	}
	c->work_end = &c->work;
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

/* From here on the process waits for its end, and its rules live. */
static void open_ticket(struct tw_core *c, struct tw_ticket *t)
{
	t->open = true;
	c->books.tickets++;
	count_generation(c, t->gen, 1);
}

static void close_ticket(struct tw_core *c, struct tw_ticket *t)
{
	t->open = false;
	c->books.tickets--;
	count_generation(c, t->gen, -1);
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

	if (t->open)
		close_ticket(c, t);
	if (r.rejected != 0)
		r.message = t->req.reject_text;
	done(ctx, &r);
	if (t->body.n <= AT_ONCE_BYTES) {
		ticket_put(c, t);
		return;
	}
	/* 50 MiB and more, which the kernel takes back page by page. */
	t->phase = RELEASE;
	put_first(c, t);
}

/* ---- admit ---- */

static uint64_t views_bytes(const struct tw_request *r)
{
	return r->span_count * (sizeof(struct tw_span) + sizeof(*r->masks)) +
	       r->rest_count * sizeof(struct tw_span_rest) +
	       r->value_count * sizeof(struct tw_value) + r->scope_count * sizeof(struct tw_scope) +
	       r->resource_count * sizeof(struct tw_resource) +
	       r->place_count * sizeof(struct tw_place);
}

static inline uint32_t owner_of(const struct tw_core *c, uint64_t hash)
{
	/* The high bits: the table's slot is taken from the low ones. */
	return (uint32_t)(((hash >> 32) * c->s->workers) >> 32);
}

static inline uint32_t spans_left(const struct tw_ticket *t)
{
	return t->req.span_count - t->through;
}

static uint32_t step_of(const struct tw_core *c, uint32_t left)
{
	uint32_t step = tw_core_step_spans(c);

	return left < step ? left : step;
}

/* Counts what the owners of the next n spans get. */
static void survey(struct tw_core *c, struct tw_ticket *t, uint32_t n)
{
	const struct tw_span *s = t->req.spans + t->through, *end = s + n;

	t->through += n;
	if (c->s->workers == 1) {
		t->batch[0].n = t->through;
		return;
	}
	for (; s < end; s++)
		t->batch[owner_of(c, s->hash)].n++;
}

static void survey_begin(struct tw_core *c, struct tw_ticket *t)
{
	t->through = 0;
	for (uint32_t o = 0; o < c->s->workers; o++)
		t->batch[o] = (struct tw_batch_ref){.ticket = t, .from = c->index};
}

/* A place for the indices of each owner, which are not there yet. */
static bool group_begin(struct tw_core *c, struct tw_ticket *t)
{
	uint32_t n = t->req.span_count, at = 0;

	if (t->idx_cap < n) {
		uint32_t *p = tw_realloc(t->idx, n * sizeof(*p));

		if (p == NULL)
			return false;
		t->idx = p;
		t->idx_cap = n;
	}
	for (uint32_t o = 0; o < c->s->workers; o++) {
		t->batch[o].idx = t->idx + at;
		at += t->batch[o].n;
		t->batch[o].n = 0;
	}
	t->through = 0;
	return true;
}

/* Gives the next n spans to their owners: t->batch[o] gets their indices, in order of arrival. */
static void group(struct tw_core *c, struct tw_ticket *t, uint32_t n)
{
	uint32_t i = t->through, end = i + n;

	t->through = end;
	if (c->s->workers == 1) {
		for (; t->idx_same < end; t->idx_same++)
			t->idx[t->idx_same] = t->idx_same;
		t->batch[0].n = end;
		return;
	}
	for (; i < end; i++) {
		struct tw_batch_ref *b = &t->batch[owner_of(c, t->req.spans[i].hash)];

		t->idx[(b->idx - t->idx) + b->n++] = i;
	}
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

/* Reserves what the commit needs, in two halves; TW_REFUSE_COUNT: there is all of it. In between
 * the spans are grouped by their owners. */
static enum tw_refusal admit_memory(struct tw_core *c, struct tw_ticket *t)
{
	uint64_t views = views_bytes(&t->req);

	if (atomic_load_explicit(&c->s->draining, memory_order_relaxed))
		return TW_REFUSE_DRAIN;
	if (!reserve_views(c, t, views))
		return TW_REFUSE_MEMORY;
	t->views_bytes = views;
	return group_begin(c, t) ? TW_REFUSE_COUNT : TW_REFUSE_MEMORY;
}

static enum tw_refusal admit_places(struct tw_core *c, const struct tw_ticket *t)
{
	if (!rings_have_room(c, t))
		return TW_REFUSE_RING;
	if (!tw_pool_admit(c->s->pool, t->req.span_bytes, t->req.span_count))
		return TW_REFUSE_BUFFER;
	return TW_REFUSE_COUNT;
}

static enum tw_refusal admit(struct tw_core *c, struct tw_ticket *t)
{
	enum tw_refusal refusal;

	survey_begin(c, t);
	survey(c, t, spans_left(t));
	refusal = admit_memory(c, t);
	if (refusal != TW_REFUSE_COUNT)
		return refusal;
	group(c, t, spans_left(t));
	return admit_places(c, t);
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

	part.spans += t->counted;
	part.span_count = step_of(c, t->req.span_count - t->counted);
	tw_red_count(c->red, &part, t->gen->slot);
	t->counted += part.span_count;
	if (t->counted < t->req.span_count)
		return;
	hand_out(c, t);
}

/* One step of a commit; true: it was the last, and the ticket may be gone. */
static bool commit_step(struct tw_core *c, struct tw_ticket *t)
{
	struct tw_batch_ref *own = &t->batch[c->index];
	uint32_t n = step_of(c, own->n - t->added);

	if (t->counted < t->req.span_count) {
		count_step(c, t);
		return false;
	}
	if (n != 0)
		tw_core_add(c, own, t->added, n);
	t->added += n;
	if (t->added < own->n)
		return false;
	if (n != 0)
		tw_core_added(c);
	tw_core_batch_done(c, own);
	return true;
}

/* Large ones, and any while traces are being matched again after a reload: then a span costs ten
 * times as much. */
static bool in_steps(const struct tw_core *c, uint32_t spans)
{
	return spans > AT_ONCE_SPANS || c->rematching;
}

/* It is admitted; what follows are steps of its commit. */
static void commit(struct tw_core *c, struct tw_ticket *t)
{
	uint32_t n = t->req.span_count;

	c->books.accepted += n;
	c->books.handed += n;
	c->books.received_bytes += t->req.span_bytes;
	t->pending = 1; /* the own batch's, so that it cannot reach zero early */
	t->counted = t->added = 0;
	/* The rings' places are taken now: a large request is handed out after smaller ones that
	 * came later. */
	for (uint32_t o = 0; o < c->s->workers; o++)
		c->out[o] += o != c->index && t->batch[o].n != 0;
	if (!t->open)
		open_ticket(c, t);
	t->phase = COMMIT;
	/* Before the first put: whoever sees that an owner took a batch, sees that it was handed,
	 * too. */
	tw_core_publish(c);
}

void tw_core_batch_done(struct tw_core *c, struct tw_batch_ref *b)
{
	struct tw_ticket *t = b->ticket;

	if (--t->pending == 0)
		answer(c, t, TW_SINK_OK, "");
}

/* After the scan, or after admitting: counts and answers what has come to its end. false: its
 * commit begins. */
static bool conclude(struct tw_core *c, struct tw_ticket *t, enum tw_refusal refusal)
{
	uint32_t all = t->req.span_count + tw_request_rejected(&t->req);

	c->books.received += all;
	if (refusal != TW_REFUSE_COUNT) {
		/* The whole request, also the spans that would have been rejected: it comes again.
		 */
		c->books.refused[refusal] += all;
		answer(c, t, TW_SINK_REFUSED, refusal_text(refusal));
		return true;
	}
	for (int i = 0; i < TW_REJECT_COUNT; i++)
		c->books.rejected[i] += t->req.rejected[i];
	if (t->req.span_count == 0) {
		answer(c, t, TW_SINK_OK, "");
		return true;
	}
	commit(c, t);
	return false;
}

/* ---- scan ---- */

static struct tw_scan_opts scan_opts(const struct tw_core *c, const struct tw_ticket *t)
{
	return (struct tw_scan_opts){.key = c->s->key,
	                             .keys = t->gen->keys,
	                             .spans_max = c->s->spans_max,
	                             .templates = c->templates,
	                             .behind = t->body.cap - t->body.n};
}

static void scan_failed(struct tw_core *c, struct tw_ticket *t, int rc, const char *why)
{
	if (rc == TW_ENOMEM) {
		answer(c, t, TW_SINK_REFUSED, refusal_text(TW_REFUSE_MEMORY));
		return;
	}
	c->books.malformed_requests++;
	answer(c, t, rc == TW_ELIMIT ? TW_SINK_TOO_LARGE : TW_SINK_MALFORMED, why);
}

static void at_once(struct tw_core *c, struct tw_ticket *t)
{
	struct tw_scan_opts o = scan_opts(c, t);
	struct tw_error err = {.text = ""};
	int rc = tw_otlp_scan(&o, tw_slice(t->body.p, t->body.n), &t->req, &err);

	if (rc != 0) {
		scan_failed(c, t, rc, err.text);
		return;
	}
	tw_rules_match_request(t->gen->rules, t->gen->matchers[c->index], &t->req);
	if (conclude(c, t, t->req.span_count == 0 ? TW_REFUSE_COUNT : admit(c, t)))
		return;
	if (in_steps(c, t->req.span_count))
		put_last(c, t);
	else
		while (!commit_step(c, t))
			;
}

/* ---- steps of a large request; true: it was the last, and the ticket may be gone ---- */

static bool scan_step(struct tw_core *c, struct tw_ticket *t)
{
	struct tw_error err = {.text = ""};
	int rc = tw_scan_step(t->scan, SCAN_BYTES, &err);

	if (rc == TW_SCAN_MORE)
		return false;
	tw_scan_end(&t->scan);
	if (rc != 0) {
		scan_failed(c, t, rc, err.text);
		return true;
	}
	if (t->req.span_count == 0)
		return conclude(c, t, TW_REFUSE_COUNT);
	survey_begin(c, t);
	t->phase = MATCH;
	return false;
}

static bool match_step(struct tw_core *c, struct tw_ticket *t)
{
	uint32_t n = step_of(c, spans_left(t));
	enum tw_refusal refusal;

	tw_rules_match_spans(t->gen->rules, t->gen->matchers[c->index], &t->req, t->through, n);
	survey(c, t, n);
	if (spans_left(t) != 0)
		return false;
	t->phase = GROUP;
	refusal = admit_memory(c, t);
	return refusal != TW_REFUSE_COUNT && conclude(c, t, refusal);
}

static bool group_step(struct tw_core *c, struct tw_ticket *t)
{
	group(c, t, step_of(c, spans_left(t)));
	return spans_left(t) == 0 && conclude(c, t, admit_places(c, t));
}

static bool release_step(struct tw_core *c, struct tw_ticket *t)
{
	if (tw_body_shrink(&t->body, RELEASE_BYTES) || tw_request_shrink(&t->req, RELEASE_BYTES))
		return false;
	ticket_put(c, t);
	return true;
}

static bool step(struct tw_core *c, struct tw_ticket *t)
{
	switch (t->phase) {
	case SCAN:
		return scan_step(c, t);
	case MATCH:
		return match_step(c, t);
	case GROUP:
		return group_step(c, t);
	case COMMIT:
		return commit_step(c, t);
	default:
		return release_step(c, t);
	}
}

bool tw_core_work(struct tw_core *c)
{
	uint64_t began = tw_now(c->s->clock);
	bool any = c->work != NULL;

	for (uint32_t n = 0; c->work != NULL && n < TURN_SPANS; n += tw_core_step_spans(c)) {
		/* Out of the list: with an answer the next request may come. */
		struct tw_ticket *t = take_first(c);

		if (!step(c, t))
			put_first(c, t);
		if (tw_core_out_of_time(c, began))
			break;
	}
	return any;
}

static void begin_steps(struct tw_core *c, struct tw_ticket *t)
{
	struct tw_scan_opts o = scan_opts(c, t);

	t->scan = tw_scan_begin(&o, tw_slice(t->body.p, t->body.n), &t->req);
	if (t->scan == NULL) {
		scan_failed(c, t, TW_ENOMEM, "");
		return;
	}
	t->phase = SCAN;
	open_ticket(c, t);
	put_last(c, t);
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
	tw_templates_generation(c->templates, t->gen->number);
	if (t->body.n > AT_ONCE_BYTES)
		begin_steps(c, t);
	else
		at_once(c, t);
	tw_core_publish(c);
}
