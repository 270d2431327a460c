#include "sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#include "pb_build.h"
#include "tw/base/mem.h"

/* ---- requests ---- */

static void big_endian(uint8_t *p, uint64_t v)
{
	for (int i = 0; i < 8; i++)
		p[i] = (uint8_t)(v >> (56 - 8 * i));
}

static void encode_span(struct pb *b, const struct sim_span *s)
{
	uint8_t id[16];

	/* The high half only has to differ between traces; rules look at the low 56 bits. */
	big_endian(id, s->trace * UINT64_C(0x9E3779B97F4A7C15) | 1);
	big_endian(id + 8, s->trace);
	pb_bytes(b, 1, id, 16);
	big_endian(id, s->span);
	pb_bytes(b, 2, id, 8);
	if (s->parent != 0) {
		big_endian(id, s->parent);
		pb_bytes(b, 4, id, 8);
	}
	pb_str(b, 5, s->name != NULL ? s->name : "op");
	pb_varint(b, 6, (uint64_t)(s->kind != 0 ? s->kind : TW_KIND_SERVER));
	pb_fixed64(b, 7, s->start_ns);
	pb_fixed64(b, 8, s->start_ns + s->duration_ns);
	if (s->attr != NULL)
		pb_attr(b, 9, "shape", s->attr);
	if (s->status != 0) {
		pb_begin(b, 15);
		pb_varint(b, 3, (uint64_t)s->status);
		pb_end(b);
	}
}

void sim_encode(struct tw_buf *out, const struct sim_span *spans, uint32_t n)
{
	struct pb b = {0};

	for (uint32_t i = 0; i < n; i++) {
		pb_begin(&b, 1); /* resource_spans */
		pb_begin(&b, 1);
		pb_attr(&b, 1, "service.name", spans[i].service != NULL ? spans[i].service : "svc");
		pb_end(&b);
		pb_begin(&b, 2); /* scope_spans */
		pb_begin(&b, 2);
		encode_span(&b, &spans[i]);
		pb_end(&b);
		pb_end(&b);
		pb_end(&b);
	}
	tw_buf_put(out, b.p, b.n);
	pb_free(&b);
}

struct pending {
	struct sim *sim;
	bool answered, ok;
	bool gone; /* sim_send has returned */
};

static void on_done(void *ctx, const struct tw_sink_result *r)
{
	struct pending *p = ctx;
	struct sim_answer *a = &p->sim->answer;

	assert_false(p->answered);
	p->answered = true;
	p->ok = r->outcome == TW_SINK_OK;
	a->ok += r->outcome == TW_SINK_OK;
	a->malformed += r->outcome == TW_SINK_MALFORMED;
	a->too_large += r->outcome == TW_SINK_TOO_LARGE;
	a->refused += r->outcome == TW_SINK_REFUSED;
	a->rejected += r->rejected;
	a->open--;
	if (p->gone)
		tw_free(p);
}

bool sim_send_bytes(struct sim *s, uint32_t core, const void *p, size_t n)
{
	struct pending *wait = tw_calloc(1, sizeof(*wait));
	struct tw_body body;
	bool ok;

	wait->sim = s;
	s->answer.open++;
	tw_body_init(&body, NULL);
	assert_int_equal(tw_body_append(&body, p, n, n + 1), 0);
	tw_core_submit(s->shared.cores[core], &body, on_done, wait);
	ok = wait->answered && wait->ok;
	if (wait->answered)
		tw_free(wait);
	else
		wait->gone = true;
	return ok;
}

bool sim_send(struct sim *s, uint32_t core, const struct sim_span *spans, uint32_t n)
{
	struct tw_buf b;
	bool ok;

	tw_buf_init(&b, 0);
	sim_encode(&b, spans, n);
	s->sent += n;
	ok = sim_send_bytes(s, core, b.p, b.n);
	tw_buf_deinit(&b);
	return ok;
}

/* ---- destinations ---- */

struct script {
	struct sim *sim;
	uint32_t dest;
};

static void note(struct sim *s, struct sim_dest *d, const struct tw_span *span, int rule,
                 int reason)
{
	struct sim_seen *seen = &d->seen[d->seen_count++];

	(void)s;
	assert_true(d->seen_count < SIM_SEEN_MAX);
	seen->trace = span->trace_id.lo;
	seen->span = span->span_id;
	assert_true(span->rest->slots_set & (UINT64_C(1) << rule));
	assert_true(span->rest->slots_set & (UINT64_C(1) << reason));
	snprintf(seen->rule, sizeof(seen->rule), "%.*s", (int)span->rest->slots[rule].n,
	         (const char *)span->rest->slots[rule].p);
	snprintf(seen->reason, sizeof(seen->reason), "%.*s", (int)span->rest->slots[reason].n,
	         (const char *)span->rest->slots[reason].p);
}

/* What goes out is read back with the project's own scanner: it must be a whole request. */
static void read_batch(struct sim *s, struct sim_dest *d, const struct tw_batch *b)
{
	struct tw_keytab *keys = tw_keytab_create();
	int rule = tw_keytab_add(keys, tw_slice_str("traceweir.rule"));
	int reason = tw_keytab_add(keys, tw_slice_str("traceweir.reason"));
	struct tw_scan_opts o = {.key = {1, 2}, .keys = keys, .spans_max = UINT32_MAX};
	struct tw_request req;
	struct tw_error err;
	struct tw_body raw;

	tw_body_init(&raw, NULL);
	assert_int_equal(tw_inflate(b->coding, b->request, &raw, SIZE_MAX / 2, NULL), 0);
	assert_int_equal(tw_keytab_seal(keys), 0);
	tw_request_init(&req);
	assert_int_equal(tw_otlp_scan(&o, tw_slice(raw.p, raw.n), &req, &err), 0);
	assert_int_equal(req.span_count, b->spans);
	assert_int_equal(tw_request_rejected(&req), 0);
	for (uint32_t i = 0; i < req.span_count; i++)
		note(s, d, &req.spans[i], rule, reason);
	tw_request_deinit(&req);
	tw_body_deinit(&raw);
	tw_keytab_destroy(&keys);
}

static bool script_send(void *self, const struct tw_batch *b, tw_send_done done, void *ctx)
{
	struct script *sc = self;
	struct sim_dest *d = &sc->sim->dest[sc->dest];
	struct tw_send_result r = {.outcome = TW_SENT, .retry_after_ms = UINT64_MAX, .text = ""};

	d->sends++;
	switch (d->mode) {
	case SIM_HOLE:
		if (d->held == 64)
			return false;
		d->done[d->held] = done;
		d->done_ctx[d->held++] = ctx;
		return true;
	case SIM_DOWN:
		r.outcome = TW_SEND_RETRY;
		break;
	case SIM_POISON:
		r.outcome = TW_SEND_PERMANENT;
		break;
	case SIM_OK:
		read_batch(sc->sim, d, b);
		break;
	}
	done(ctx, &r);
	return true;
}

void sim_answer_held(struct sim *s, uint32_t dest, bool ok)
{
	struct sim_dest *d = &s->dest[dest];
	struct tw_send_result r = {
	    .outcome = ok ? TW_SENT : TW_SEND_RETRY, .retry_after_ms = UINT64_MAX, .text = ""};
	uint32_t n = d->held;

	d->held = 0;
	for (uint32_t i = 0; i < n; i++)
		d->done[i](d->done_ctx[i], &r);
}

static void script_stop(void *self)
{
	struct script *sc = self;
	struct sim_dest *d = &sc->sim->dest[sc->dest];
	struct tw_send_result r = {
	    .outcome = TW_SEND_STOPPED, .retry_after_ms = UINT64_MAX, .text = ""};
	uint32_t n = d->held;

	if (d->stops_late)
		return;
	d->held = 0;
	for (uint32_t i = 0; i < n; i++)
		d->done[i](d->done_ctx[i], &r);
}

static bool script_stopped(void *self)
{
	(void)self;
	return true;
}

static void script_destroy(void *self)
{
	tw_free(self);
}

static struct tw_transport script(struct sim *s, uint32_t dest, enum tw_coding coding)
{
	struct script *sc = tw_alloc(sizeof(*sc));

	*sc = (struct script){s, dest};
	return (struct tw_transport){.send = script_send,
	                             .stop = script_stop,
	                             .stopped = script_stopped,
	                             .destroy = script_destroy,
	                             .self = sc,
	                             .coding = coding};
}

/* ---- create ---- */

static void wake(void *ctx, uint32_t core)
{
	(void)ctx;
	(void)core; /* sim_settle looks into every ring anyway */
}

static struct tw_generation *generation(struct sim *s, const char *rules,
                                        const struct tw_generation *old)
{
	struct tw_generation *g = NULL;
	struct tw_buf report;

	tw_buf_init(&report, 0);
	if (tw_generation_create(tw_slice_str(rules), "rules", s->shared.red, s->shared.workers,
	                         &s->book, old, tw_now(&s->clock), &g, &report) != 0)
		fail_msg("%.*s", (int)report.n, (const char *)report.p);
	tw_buf_deinit(&report);
	return g;
}

static void dest_opts(struct sim *s, const struct sim_config *c, uint32_t d)
{
	static char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h"};

	s->dests[d] = (struct tw_dest_opts){
	    .name = names[d],
	    .queue_bytes_max = c->queue_bytes != 0 ? c->queue_bytes : 4u << 20,
	    .retry_for_ns = c->retry_for_ns != 0 ? c->retry_for_ns : TW_NEVER,
	    .batch_bytes = 64 * 1024,
	    .batch_age_ns = 50 * SIM_MS,
	    .timeout_ns = 10 * SIM_S,
	    .backoff_first_ns = SIM_S,
	    .backoff_most_ns = 30 * SIM_S,
	};
	s->dest[d].seen = tw_calloc(SIM_SEEN_MAX, sizeof(struct sim_seen));
}

struct sim *sim_create(const struct sim_config *c)
{
	struct sim *s = tw_alloc_aligned(64, sizeof(*s));
	struct tw_core_shared *sh = &s->shared;
	struct tw_generation *g;

	memset(s, 0, sizeof(*s));
	s->time.mono_ns = 1000 * SIM_S;
	s->time.wall_ns = UINT64_C(1750000000) * SIM_S;
	s->clock = tw_clock_virtual(&s->time);
	tw_budget_init(&s->views, 256u << 20);
	s->metrics = (struct tw_metrics_opts){.names = TW_NAMES_OTEL,
	                                      .bucket_ns = {10 * SIM_MS, SIM_S},
	                                      .bucket_count = 2,
	                                      .series_max = 1000};
	sh->workers = c->workers;
	sh->key = (struct tw_hash_key){0x1234, 0x5678};
	sh->clock = &s->clock;
	sh->book = &s->book;
	sh->views = &s->views;
	sh->buffer = (struct tw_buffer_opts){
	    .bytes_max = c->buffer_bytes != 0 ? c->buffer_bytes : 64u << 20,
	    .trace_spans_max = c->trace_spans_max != 0 ? c->trace_spans_max : 32000,
	    .trace_bytes_max = 64u << 20,
	    .verdict_bytes_max = 1u << 20,
	    .verdict_keep_ns = c->verdict_keep_ns != 0 ? c->verdict_keep_ns : 3600 * SIM_S,
	};
	sh->templates_bytes_max = TW_TEMPLATES_BYTES_MAX;
	sh->dests = s->dests;
	sh->dest_count = c->dest_count != 0 ? c->dest_count : 1;
	sh->spans_max = 1000000;
	sh->wake = wake;
	sh->pool = tw_pool_create(&sh->buffer, sh->workers);
	sh->red = tw_red_create(&s->metrics, sh->workers, sh->key);
	assert_non_null(sh->pool);
	assert_non_null(sh->red);
	g = generation(s, c->rules, NULL);
	atomic_store(&sh->live[g->number & 3], g);
	atomic_store(&sh->generation, g);
	for (uint32_t d = 0; d < sh->dest_count; d++)
		dest_opts(s, c, d);
	for (uint32_t i = 0; i < sh->workers; i++) {
		struct tw_transport t[TW_DESTINATIONS_MAX];
		struct tw_core *core;
		uint32_t taken;

		for (uint32_t d = 0; d < sh->dest_count; d++)
			t[d] = script(s, d, c->coding);
		assert_int_equal(tw_core_create(sh, i, t, i + 1, &taken, &core), 0);
	}
	return s;
}

void sim_destroy(struct sim *s)
{
	sim_settle(s);
	assert_int_equal(s->answer.open, 0);
	sim_check_books(s);
	for (uint32_t i = 0; i < s->shared.workers; i++)
		tw_core_stop(s->shared.cores[i]);
	for (uint32_t i = 0; i < s->shared.workers; i++) {
		struct tw_core *c = s->shared.cores[i];

		tw_core_destroy(&c);
	}
	for (uint32_t i = 0; i < 4; i++) {
		struct tw_generation *g = atomic_load(&s->shared.live[i]);

		tw_generation_destroy(&g);
	}
	for (uint32_t d = 0; d < s->shared.dest_count; d++)
		tw_free(s->dest[d].seen);
	tw_pool_destroy(&s->shared.pool);
	tw_red_destroy(&s->shared.red);
	tw_rulebook_deinit(&s->book);
	assert_int_equal(tw_budget_used(&s->views), 0);
	tw_free(s);
}

/* ---- time ---- */

void sim_settle(struct sim *s)
{
	bool more = true;

	while (more) {
		more = false;
		for (uint32_t i = 0; i < s->shared.workers; i++) {
			more = tw_core_poll(s->shared.cores[i]) || more;
			more = tw_core_tick(s->shared.cores[i], 0) || more;
		}
	}
	/* What came back in the last turn is still in a ring. */
	for (uint32_t i = 0; i < s->shared.workers; i++)
		tw_core_poll(s->shared.cores[i]);
}

void sim_run(struct sim *s, uint64_t ns)
{
	for (uint64_t t = 0; t < ns; t += 10 * SIM_MS) {
		tw_clock_advance(&s->time, 10 * SIM_MS);
		sim_settle(s);
	}
}

/* As reload.c does it, with every worker's turn in between. */
void sim_reload(struct sim *s, const char *rules)
{
	struct tw_generation *old = atomic_load(&s->shared.generation);
	struct tw_generation *g = generation(s, rules, old);

	if (old->number >= 3) {
		struct tw_generation *dead = atomic_load(&s->shared.live[(old->number - 2) & 3]);

		sim_settle(s);
		atomic_store(&s->shared.live[(old->number - 2) & 3], NULL);
		tw_generation_destroy(&dead);
	}
	atomic_store(&s->shared.live[g->number & 3], g);
	atomic_store(&s->shared.generation, g);
}

uint64_t sim_drain(struct sim *s, uint64_t most_ns)
{
	uint64_t lost = 0, until = s->time.mono_ns + most_ns;
	bool empty = false;

	sim_settle(s);
	assert_int_equal(s->answer.open, 0);
	for (uint32_t i = 0; i < s->shared.workers; i++)
		while (tw_core_drain(s->shared.cores[i]))
			;
	while (!empty && s->time.mono_ns < until) {
		empty = true;
		for (uint32_t i = 0; i < s->shared.workers; i++) {
			tw_core_flush(s->shared.cores[i]);
			tw_core_tick(s->shared.cores[i], 0);
			empty = tw_core_empty(s->shared.cores[i]) && empty;
		}
		tw_clock_advance(&s->time, 10 * SIM_MS);
	}
	for (uint32_t i = 0; i < s->shared.workers; i++) {
		tw_core_stop(s->shared.cores[i]);
		lost += tw_core_lost_at_stop(s->shared.cores[i]);
	}
	return lost;
}

/* ---- looking ---- */

uint32_t sim_seen_spans(const struct sim *s, uint32_t dest, uint64_t trace)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->dest[dest].seen_count; i++)
		n += s->dest[dest].seen[i].trace == trace;
	return n;
}

const struct sim_seen *sim_seen(const struct sim *s, uint32_t dest, uint64_t trace, uint64_t span)
{
	for (uint32_t i = 0; i < s->dest[dest].seen_count; i++)
		if (s->dest[dest].seen[i].trace == trace && s->dest[dest].seen[i].span == span)
			return &s->dest[dest].seen[i];
	return NULL;
}

struct tw_core_books sim_books(const struct sim *s)
{
	struct tw_core_books sum = {0}, b;

	for (uint32_t i = 0; i < s->shared.workers; i++) {
		tw_core_books_read(s->shared.cores[i], &b, NULL, 0);
		for (size_t k = 0; k < TW_BOOK_WORDS; k++)
			((uint64_t *)&sum)[k] += ((const uint64_t *)&b)[k];
	}
	return sum;
}

void sim_check_books(const struct sim *s)
{
	struct tw_core_books b = sim_books(s);
	uint64_t rejected = 0, refused = 0;

	for (int i = 0; i < TW_REJECT_COUNT; i++)
		rejected += b.rejected[i];
	for (int i = 0; i < TW_REFUSE_COUNT; i++)
		refused += b.refused[i];
	assert_int_equal(b.received, b.accepted + rejected + refused);
	assert_int_equal(b.accepted, b.handed);
	assert_true(b.handed >= b.shard.added);
	assert_int_equal(b.shard.added, b.shard.kept + b.shard.let_go + b.shard.in_flight);
	for (uint32_t d = 0; d < s->shared.dest_count; d++) {
		const struct tw_dest_books *x = &b.dest[d];
		uint64_t lost = 0;

		for (int i = 0; i < TW_LOST_COUNT; i++)
			lost += x->lost[i];
		assert_int_equal(x->kept, b.shard.kept);
		assert_int_equal(x->kept, x->taken + x->pending);
		assert_int_equal(x->taken, x->forwarded + lost + x->queued);
	}
}

uint64_t sim_rule_traces(const struct sim *s, const char *rule, enum tw_reason reason, bool kept)
{
	uint32_t rules = tw_rulebook_count(&s->book);
	struct tw_rule_row *rows = tw_calloc(TW_RULE_IDS_MAX, sizeof(*rows));
	struct tw_core_books b;
	uint64_t n = 0;

	for (uint32_t i = 0; i < s->shared.workers; i++) {
		tw_core_books_read(s->shared.cores[i], &b, rows, rules);
		for (uint32_t r = 0; r < rules; r++)
			if (strcmp(tw_rulebook_name(&s->book, (uint16_t)r), rule) == 0)
				n += rows[r].traces[reason][kept];
	}
	tw_free(rows);
	return n;
}
