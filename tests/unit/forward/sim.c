#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "sim.h"

/* ---- spans with numbers ---- */

static size_t put_span(uint8_t *p, uint64_t number, uint32_t bytes)
{
	size_t n = 0;

	p[n++] = 0x12; /* span_id */
	p[n++] = 8;
	for (int i = 7; i >= 0; i--)
		p[n++] = (uint8_t)(number >> (8 * i));
	if (bytes > n + 4) { /* name */
		size_t left = bytes - n - 4;

		p[n++] = 0x2a;
		p[n++] = (uint8_t)(left | 0x80);
		p[n++] = (uint8_t)((left >> 7) | 0x80);
		p[n++] = (uint8_t)(left >> 14);
		memset(p + n, 'a', left);
		n += left;
	}
	return n;
}

static bool varint(const uint8_t **p, const uint8_t *end, uint64_t *v)
{
	*v = 0;
	for (unsigned shift = 0; *p < end && shift < 64; shift += 7) {
		uint8_t c = *(*p)++;

		*v |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80))
			return true;
	}
	return false;
}

/* Calls fn for every length-delimited field `tag` of m. */
static void each_field(struct tw_slice m, uint64_t tag, void (*fn)(void *ctx, struct tw_slice v),
                       void *ctx)
{
	const uint8_t *p = m.p, *end = m.p + m.n;
	uint64_t key, n;

	while (p < end) {
		assert_true(varint(&p, end, &key));
		switch (key & 7) {
		case 0:
			assert_true(varint(&p, end, &n));
			continue;
		case 1:
			n = 8;
			break;
		case 5:
			n = 4;
			break;
		default:
			assert_int_equal(key & 7, 2);
			assert_true(varint(&p, end, &n));
			assert_true(n <= (uint64_t)(end - p));
			if (key >> 3 == tag)
				fn(ctx, tw_slice(p, n));
		}
		assert_true(n <= (uint64_t)(end - p));
		p += n;
	}
}

struct each {
	void (*fn)(void *ctx, uint64_t number);
	void *ctx;
	uint64_t spans;
};

static void on_id(void *ctx, struct tw_slice v)
{
	struct each *e = ctx;
	uint64_t number = 0;

	assert_int_equal(v.n, 8);
	for (size_t i = 0; i < 8; i++)
		number = number << 8 | v.p[i];
	e->fn(e->ctx, number);
	e->spans++;
}
static void on_span(void *ctx, struct tw_slice v)
{
	each_field(v, 2, on_id, ctx);
}
static void on_scope(void *ctx, struct tw_slice v)
{
	each_field(v, 2, on_span, ctx);
}
static void on_resource(void *ctx, struct tw_slice v)
{
	each_field(v, 2, on_scope, ctx);
}

static void each_number(const struct tw_batch *b, void (*fn)(void *ctx, uint64_t number), void *ctx)
{
	struct each e = {.fn = fn, .ctx = ctx};
	struct tw_body raw;

	tw_body_init(&raw, NULL);
	assert_int_equal(tw_inflate(b->coding, b->request, &raw, SIZE_MAX / 2, NULL), 0);
	each_field(tw_slice(raw.p, raw.n), 1, on_resource, &e);
	assert_int_equal(e.spans, b->spans);
	tw_body_deinit(&raw);
}

struct find {
	uint64_t number;
	bool found;
};
static void on_find(void *ctx, uint64_t number)
{
	struct find *f = ctx;

	f->found |= number == f->number;
}

bool sim_batch_has(const struct tw_batch *b, uint64_t number)
{
	struct find f = {.number = number};

	each_number(b, on_find, &f);
	return f.found;
}

/* ---- the backend ---- */

static void on_delivered(void *ctx, uint64_t number)
{
	struct sim *s = ctx;

	assert_true(number < s->next_span);
	if (s->seen[number]++ == 0)
		s->got++;
	else
		s->doubled++;
}

static void answer(struct sim *s, struct sim_send *send)
{
	struct tw_send_result r = {
	    .outcome = send->answer.outcome,
	    .retry_after_ms = send->answer.retry_after_ms,
	    .rejected = send->answer.rejected,
	    .text = "as the test says",
	};

	send->used = false;
	s->in_flight--;
	if (send->answer.delivered)
		each_number(&send->batch, on_delivered, s);
	send->done(send->ctx, &r);
}

static bool sim_send(void *self, const struct tw_batch *b, tw_send_done done, void *ctx)
{
	struct sim *s = self;
	struct sim_send *send = s->sends;
	struct sim_answer a = {
	    .outcome = TW_SENT,
	    .after_ns = SIM_MS,
	    .retry_after_ms = UINT64_MAX,
	    .delivered = true,
	};

	while (send->used)
		assert_true(++send < s->sends + SIM_SENDS_MAX);
	if (s->answer)
		s->answer(s, b, &a);
	if (a.busy)
		return false;
	s->attempts++;
	s->last_attempt_ns = s->now_ns;
	if (++s->in_flight > s->in_flight_most)
		s->in_flight_most = s->in_flight;
	*send = (struct sim_send){.used = true,
	                          .done = done,
	                          .ctx = ctx,
	                          .due_ns = s->now_ns + a.after_ns,
	                          .answer = a,
	                          .batch = *b};
	if (a.after_ns == 0)
		answer(s, send);
	return true;
}

static void sim_stop(void *self)
{
	struct sim *s = self;

	s->stops++;
	for (struct sim_send *send = s->sends; send < s->sends + SIM_SENDS_MAX; send++) {
		if (!send->used)
			continue;
		send->answer.outcome = TW_SEND_STOPPED;
		send->answer.delivered = false;
		answer(s, send);
	}
}

static bool sim_stopped(void *self)
{
	return ((struct sim *)self)->stops > 0;
}

static void sim_destroy(void *self)
{
	struct sim *s = self;

	s->stops++;
}

/* ---- the exporter ---- */

static uint64_t sim_clock_ns(void *ctx)
{
	return ((struct sim *)ctx)->now_ns;
}

static void on_room(void *ctx)
{
	((struct sim *)ctx)->rooms++;
}

void sim_init(struct sim *s)
{
	*s = (struct sim){
	    .now_ns = 1000 * SIM_S,
	    .opts =
	        {
	            .name = (char *)(uintptr_t) "there",
	            .retry_for_ns = TW_NEVER,
	            .batch_bytes = 4096,
	            .batch_age_ns = 50 * SIM_MS,
	            .backoff_first_ns = SIM_S,
	            .backoff_most_ns = 30 * SIM_S,
	        },
	};
	s->seen = calloc(SIM_SPANS_MAX, 1);
	assert_non_null(s->seen);
}

void sim_start(struct sim *s, uint64_t queue_bytes_max, uint32_t in_flight_max, uint64_t seed)
{
	struct tw_exporter_config c = {
	    .opts = &s->opts,
	    .transport = {.send = sim_send,
	                  .stop = sim_stop,
	                  .stopped = sim_stopped,
	                  .destroy = sim_destroy,
	                  .self = s,
	                  .coding = s->opts.compression},
	    .queue_bytes_max = queue_bytes_max,
	    .seed = seed,
	    .in_flight_max = in_flight_max,
	    .on_room = on_room,
	    .ctx = s,
	    .clock = s->at_once ? &s->clock : NULL,
	};

	s->clock = (struct tw_clock){.mono_ns = sim_clock_ns, .wall_ns = sim_clock_ns, .ctx = s};
	s->queue_bytes_max = queue_bytes_max;
	s->x = tw_exporter_create(&c);
	assert_non_null(s->x);
}

bool sim_offer(struct sim *s, uint32_t spans, uint32_t span_bytes)
{
	struct tw_emit_span *e = calloc(spans, sizeof(*e));
	uint8_t *bytes = malloc((size_t)spans * (span_bytes + 16));
	struct tw_emit_patch patch = {.rule = tw_slice_str("r"), .reason = tw_slice_str("root")};
	uint8_t *p = bytes;
	uint64_t bound;
	bool taken;

	assert_true(s->next_span + spans <= SIM_SPANS_MAX);
	for (uint32_t i = 0; i < spans; i++) {
		size_t n = put_span(p, s->next_span + i, span_bytes);

		e[i].bytes = tw_slice(p, n);
		e[i].resource_key = e[i].scope_key = 1;
		p += n;
	}
	bound = tw_emit_bound(e, spans, &patch);
	taken = tw_exporter_offer(s->x, e, spans, &patch, s->now_ns, s->now_ns) == TW_OFFER_TAKEN;
	free(e);
	free(bytes);
	s->offered += spans;
	if (taken) {
		s->taken += spans;
		s->next_span += spans;
		if (bound > s->largest_bound)
			s->largest_bound = bound;
	}
	sim_check(s);
	return taken;
}

static uint64_t next_answer_ns(const struct sim *s)
{
	uint64_t t = TW_NEVER;

	for (const struct sim_send *send = s->sends; send < s->sends + SIM_SENDS_MAX; send++)
		if (send->used && send->due_ns < t)
			t = send->due_ns;
	return t;
}

void sim_run(struct sim *s, uint64_t until_ns)
{
	for (uint64_t turns = 0;; turns++) {
		uint64_t t = tw_exporter_next_ns(s->x), a = next_answer_ns(s);

		assert_true(turns <
		            50000000); /* time stands still: something asks for ticks for ever */
		if (a < t)
			t = a;
		if (t > until_ns)
			break;
		if (t > s->now_ns)
			s->now_ns = t;
		for (struct sim_send *send = s->sends; send < s->sends + SIM_SENDS_MAX; send++)
			if (send->used && send->due_ns <= s->now_ns)
				answer(s, send);
		tw_exporter_tick(s->x, s->now_ns);
		sim_check(s);
	}
	if (until_ns > s->now_ns)
		s->now_ns = until_ns;
	tw_exporter_tick(s->x, s->now_ns);
	sim_check(s);
}

void sim_drain(struct sim *s, uint64_t most_ns)
{
	uint64_t end = s->now_ns + most_ns;

	tw_exporter_flush(s->x, s->now_ns);
	while (!tw_exporter_empty(s->x)) {
		uint64_t t = tw_exporter_next_ns(s->x), a = next_answer_ns(s);

		t = a < t ? a : t;
		t = t < s->now_ns ? s->now_ns : t;
		assert_true(t <= end);
		sim_run(s, t);
	}
}

uint64_t sim_lost(const struct sim *s, enum tw_lost why)
{
	return tw_counter_get(&tw_exporter_stats(s->x)->lost[why]);
}

uint64_t sim_forwarded(const struct sim *s)
{
	return tw_counter_get(&tw_exporter_stats(s->x)->forwarded);
}

uint64_t sim_queued(const struct sim *s)
{
	return tw_counter_get(&tw_exporter_stats(s->x)->queued);
}

void sim_check(const struct sim *s)
{
	const struct tw_exporter_stats *st = tw_exporter_stats(s->x);
	uint64_t out = tw_counter_get(&st->forwarded) + tw_counter_get(&st->queued);
	uint64_t bytes = tw_counter_get(&st->queued_bytes);

	for (uint32_t i = 0; i < TW_LOST_COUNT; i++)
		out += tw_counter_get(&st->lost[i]);
	assert_int_equal(tw_counter_get(&st->taken), out);
	assert_true(tw_counter_get(&st->forwarded) <= s->got);
	assert_true(bytes <= (s->queue_bytes_max > s->largest_bound ? s->queue_bytes_max
	                                                            : s->largest_bound));
	assert_int_equal(bytes == 0, tw_counter_get(&st->queued) == 0);
}

void sim_end(struct sim *s)
{
	tw_exporter_stop(s->x);
	assert_true(tw_exporter_stopped(s->x));
	assert_true(tw_exporter_empty(s->x));
	sim_check(s);
	assert_int_equal(sim_queued(s), 0);
	tw_exporter_destroy(&s->x);
	assert_null(s->x);
	assert_int_equal(s->stops, 2);
	free(s->seen);
}
