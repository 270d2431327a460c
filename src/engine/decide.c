/* What a shard asks the engine: decide, keep, let go, late, match again; and the way of kept traces
 * to the destinations. */
#include "core_private.h"

#include <string.h>

#include "tw/base/mem.h"

/* What is copied for destinations in a turn, unless its time is over before, and of one trace at a
 * time: some 0.3 µs a span, 0.5 where it was written long ago. */
#define FEED_SPANS 4096u
#define PART_SPANS 2048u
#define PART_BYTES                                                                                 \
	(UINT64_C(384) << 10) /* with its framing within a batch of the usual 512 KiB              \
	                       */

/* ---- matching again ---- */

int tw_core_match_one(struct tw_core *c, struct tw_generation *g, struct tw_request *out,
                      struct tw_slice resource_head, struct tw_slice scope_head,
                      struct tw_slice span)
{
	struct tw_scan_opts o = {.key = c->s->key, .keys = g->keys, .spans_max = 1};
	struct tw_error err;
	int rc;

	tw_request_reset(out);
	rc = tw_otlp_scan_one(&o, resource_head, scope_head, span, out, &err);
	if (rc != 0)
		return rc;
	TW_ASSERT(out->span_count == 1); /* it was admitted once */
	tw_rules_match_request(g->rules, g->matchers[c->index], out);
	return 0;
}

static void on_rematch(void *ctx, uint32_t generation, struct tw_slice resource_head,
                       struct tw_slice scope_head, struct tw_slice span,
                       uint64_t mask[TW_MASK_WORDS])
{
	struct tw_core *c = ctx;
	struct tw_generation *g = tw_core_generation(c, generation);

	c->rematches++;
	memset(mask, 0, TW_MASK_WORDS * sizeof(mask[0]));
	if (tw_core_match_one(c, g, &c->again, resource_head, scope_head, span) == 0)
		memcpy(mask, tw_span_mask(&c->again, &c->again.spans[0]),
		       TW_MASK_WORDS * sizeof(mask[0]));
}

/* ---- decisions ---- */

static struct tw_rule_row *row(struct tw_core *c, uint16_t id)
{
	c->dirty[id / 64] |= UINT64_C(1) << (id % 64);
	return &c->rows[id];
}

static uint8_t all_dests(const struct tw_core *c)
{
	return (uint8_t)((1u << c->s->dest_count) - 1);
}

static void on_decide(void *ctx, const struct tw_trace_view *t, struct tw_verdict *v)
{
	struct tw_core *c = ctx;
	struct tw_generation *g = tw_core_generation(c, t->generation);

	tw_rules_decide(g->rules, g->rates, t, c->now_ns, v);
	v->rule = g->rule_ids[v->rule];
	v->destinations = v->keep ? all_dests(c) : 0;
	row(c, v->rule)->traces[t->reason][v->keep]++;
}

static void on_let_go(void *ctx, const struct tw_trace_view *t, const struct tw_verdict *v)
{
	struct tw_core *c = ctx;

	row(c, v->rule)->spans_let_go += t->span_count;
}

static void on_late(void *ctx, const struct tw_span *s, struct tw_verdict *v)
{
	struct tw_core *c = ctx;
	struct tw_trace_view t = {
	    .id = s->trace_id,
	    .start_ns = s->start_ns,
	    .end_ns = s->start_ns + s->duration_ns,
	    .bytes = s->bytes_n,
	    .span_count = 1,
	    .error_count = s->status == TW_STATUS_ERROR,
	    .randomness = s->trace_id.lo & ((UINT64_C(1) << 56) - 1),
	    .has_root = (s->flags & TW_SPAN_ROOT) != 0,
	    .reason = TW_REASON_LATE,
	    .generation = c->batch_gen->number,
	};

	if (!v->keep) {
		uint16_t rule = v->rule;

		memcpy(t.mask, tw_span_mask(c->batch_req, s), sizeof(t.mask));
		if (tw_rules_late(c->batch_gen->rules, &t, v) && v->keep)
			v->rule = c->batch_gen->rule_ids[v->rule];
		else
			v->rule = rule;
	}
	v->reason = TW_REASON_LATE;
	v->destinations = v->keep ? all_dests(c) : 0;
	if (!v->keep)
		row(c, v->rule)->spans_let_go++;
}

/* ---- the way out ---- */

static bool make_room(struct tw_core *c, uint32_t n)
{
	uint32_t cap = c->kept_cap != 0 ? c->kept_cap : 256;
	void *p;

	if (n <= c->kept_cap)
		return true;
	while (cap < n)
		cap *= 2;
	p = tw_realloc(c->kept_spans, cap * sizeof(*c->kept_spans));
	if (p == NULL)
		return false;
	c->kept_spans = p;
	p = tw_realloc(c->emit_spans, cap * sizeof(*c->emit_spans));
	if (p == NULL)
		return false;
	c->emit_spans = p;
	c->kept_cap = cap;
	return true;
}

/* A kept trace is copied for a destination whole, or in parts of about a batch: so many spans. */
static uint32_t part_spans(const struct tw_kept *k)
{
	uint64_t bytes = tw_kept_bytes(k), n = tw_kept_span_count(k);
	uint64_t by_bytes = bytes != 0 ? n * PART_BYTES / bytes + 1 : n;

	n = n < PART_SPANS ? n : PART_SPANS;
	return (uint32_t)(n < by_bytes ? n : by_bytes);
}

/* Spans at … at + n − 1 of a kept trace; parts are taken from its end to its begin. */
static bool offer(struct tw_core *c, uint32_t d, const struct tw_core_waiting *w, uint32_t at,
                  uint32_t n)
{
	const struct tw_verdict *v = tw_kept_verdict(w->kept);
	struct tw_emit_patch patch = {
	    .rule = tw_slice_str(tw_rulebook_name(c->s->book, v->rule)),
	    .reason = tw_slice_str(tw_reason_names[v->reason]),
	    .threshold = v->threshold,
	};

	if (!make_room(c, n))
		return false;
	if (!tw_kept_spans(w->kept, at, n, c->kept_spans))
		return false;
	for (uint32_t i = 0; i < n; i++) {
		const struct tw_kept_span *s = &c->kept_spans[i];

		c->emit_spans[i] = (struct tw_emit_span){
		    .resource_head = s->resource_head,
		    .scope_head = s->scope_head,
		    .resource_key = s->resource_key,
		    .scope_key = s->scope_key,
		    .bytes = s->bytes,
		    .tracestate = tw_slice(s->bytes.p + s->tracestate_off, s->tracestate_n),
		};
	}
	return tw_exporter_offer(c->dest[d].exporter, c->emit_spans, n, &patch, w->decided_ns,
	                         c->now_ns) == TW_OFFER_TAKEN;
}

static bool fifo_put(struct tw_core_dest *d, struct tw_core_waiting w)
{
	if (d->count == d->cap) {
		uint32_t cap = d->cap != 0 ? d->cap * 2 : 256;
		struct tw_core_waiting *p = tw_alloc(cap * sizeof(*p));

		if (p == NULL)
			return false;
		for (uint32_t i = 0; i < d->count; i++)
			p[i] = d->fifo[(d->head + i) & (d->cap - 1)];
		tw_free(d->fifo);
		d->fifo = p;
		d->head = 0;
		d->cap = cap;
	}
	d->fifo[(d->head + d->count++) & (d->cap - 1)] = w;
	return true;
}

/* The first that waits is the destination's, or lost; it goes. */
static void fifo_end(struct tw_core_dest *d, uint32_t i)
{
	struct tw_kept *k = d->fifo[d->head].kept;

	d->head = (d->head + 1) & (d->cap - 1);
	d->count--;
	d->head_done = 0;
	tw_kept_release(k, i);
}

static void spend(struct tw_core *c, uint32_t spans)
{
	c->feed_left = c->feed_left > spans ? c->feed_left - spans : 0;
}

/* To one destination: taken at once, or waits in the log, or is lost as when_full says. What is
 * larger than a part waits, too, and so does what is beyond this turn's measure. */
static void deliver(struct tw_core *c, uint32_t i, struct tw_kept *k)
{
	struct tw_core_waiting w = {k, c->now_ns};
	struct tw_core_dest *d = &c->dest[i];
	uint32_t spans = tw_kept_span_count(k);
	bool at_once = d->count == 0 && c->feed_left != 0 && part_spans(k) == spans;
	bool waits = false;

	d->kept += spans;
	if (at_once && offer(c, i, &w, 0, spans)) {
		spend(c, spans);
	} else {
		d->full = at_once || (d->full && d->count != 0);
		waits = (d->refuse || !at_once) && fifo_put(d, w);
		if (!waits)
			tw_exporter_lose(d->exporter, spans, TW_LOST_QUEUE_FULL);
	}
	if (waits)
		d->pending += spans;
	else
		tw_kept_release(k, i);
}

static void on_keep(void *ctx, struct tw_kept *k, const struct tw_trace_view *t,
                    const struct tw_verdict *v)
{
	struct tw_core *c = ctx;
	uint8_t dests = v->destinations;

	row(c, v->rule)->spans_kept += t->span_count;
	for (uint32_t i = 0; i < c->s->dest_count; i++)
		if (dests & (1u << i))
			deliver(c, i, k);
}

/* A part of the first that waits; false: no room. One that is begun is not given up where the
 * queue is full, unless when_full says so: then its rest is lost. */
static bool feed_part(struct tw_core *c, uint32_t i)
{
	struct tw_core_dest *d = &c->dest[i];
	const struct tw_core_waiting *w = &d->fifo[d->head];
	uint32_t left = tw_kept_span_count(w->kept) - d->head_done, n = part_spans(w->kept);

	n = n < left ? n : left;
	if (!offer(c, i, w, left - n, n)) {
		if (d->refuse)
			return false;
		n = left;
		tw_exporter_lose(d->exporter, n, TW_LOST_QUEUE_FULL);
	}
	/* A part is about a batch, and a batch is much for a turn to send. */
	spend(c, n < tw_kept_span_count(w->kept) ? FEED_SPANS : n);
	d->pending -= n;
	d->head_done += n;
	if (n == left)
		fifo_end(d, i);
	return true;
}

static void feed(struct tw_core *c, uint32_t i)
{
	uint64_t began = tw_now(c->s->clock);
	struct tw_core_dest *d = &c->dest[i];

	d->full = false;
	while (d->count != 0 && c->feed_left != 0 && !d->full) {
		d->full = !feed_part(c, i);
		if (tw_core_out_of_time(c, began))
			c->feed_left = 0;
	}
}

void tw_core_feed_anew(struct tw_core *c)
{
	c->feed_left = FEED_SPANS;
}

bool tw_core_feed_cut(const struct tw_core *c)
{
	for (uint32_t i = 0; i < c->s->dest_count; i++)
		if (c->dest[i].count != 0 && !c->dest[i].full)
			return true;
	return false;
}

void tw_core_feed(struct tw_core *c)
{
	for (uint32_t i = 0; i < c->s->dest_count; i++)
		feed(c, i);
}

void tw_core_dest_room(void *core)
{
	tw_core_feed(core);
}

static void stop_dest(struct tw_core_dest *d, uint32_t i)
{
	while (d->count != 0) {
		uint32_t spans = tw_kept_span_count(d->fifo[d->head].kept) - d->head_done;

		d->pending -= spans;
		tw_exporter_lose(d->exporter, spans, TW_LOST_SHUTDOWN);
		fifo_end(d, i);
	}
	tw_exporter_stop(d->exporter);
}

void tw_core_stop(struct tw_core *c)
{
	for (uint32_t i = 0; i < c->s->dest_count; i++)
		if (c->dest[i].exporter != NULL) /* NULL: half made */
			stop_dest(&c->dest[i], i);
	if (c->shard != NULL)
		tw_core_publish(c);
}

uint64_t tw_core_lost_at_stop(const struct tw_core *c)
{
	uint64_t lost = 0;

	for (uint32_t i = 0; i < c->s->dest_count; i++)
		lost +=
		    tw_counter_get(&tw_exporter_stats(c->dest[i].exporter)->lost[TW_LOST_SHUTDOWN]);
	return lost;
}

const struct tw_shard_ops tw_core_shard_ops = {
    .decide = on_decide,
    .let_go = on_let_go,
    .keep = on_keep,
    .late = on_late,
    .rematch = on_rematch,
};
