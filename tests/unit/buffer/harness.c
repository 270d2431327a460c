#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tw/base/limits.h"
#include "tw/base/mem.h"

#define BIG_HEAD   (300u << 10)
#define GIANT_HEAD (1536u << 10)

/* ---- made bytes ---- */

static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= UINT64_C(0xBF58476D1CE4E5B9);
	x ^= x >> 27;
	x *= UINT64_C(0x94D049BB133111EB);
	return x ^ x >> 31;
}

uint64_t h_random(struct harness *h)
{
	return mix(h->random++);
}

uint32_t h_below(struct harness *h, uint32_t n)
{
	return (uint32_t)(h_random(h) % n);
}

struct tw_id128 h_id(uint32_t trace)
{
	return (struct tw_id128){mix(trace + UINT64_C(1000)) << 32 | trace,
	                         mix(trace + UINT64_C(5000000000))};
}

static uint64_t h_rv(uint64_t uid)
{
	return mix(uid) & (UINT64_MAX >> 8);
}

uint64_t h_mask(uint32_t generation, uint64_t uid)
{
	return UINT64_C(1) << mix(uid + generation * UINT64_C(77)) % 64;
}

static void fill(uint8_t *p, uint32_t n, uint64_t seed)
{
	for (uint32_t i = 0; i < n; i += 8) {
		uint64_t word = mix(seed + i / 8);

		memcpy(p + i, &word, n - i < 8 ? n - i : 8);
	}
}

static uint32_t put_varint(uint8_t *p, uint64_t v, uint32_t width)
{
	for (uint32_t i = 0; i < width; i++, v >>= 7)
		p[i] = (uint8_t)((v & 0x7f) | (i + 1 < width ? 0x80 : 0));
	return width;
}

/* A Span message: its number (field 17, fixed64), a trace_state inside a group that must not be
 * taken for one, perhaps a trace_state, and a filling (field 15). Returns the offset of the
 * tracestate text, 0: none. */
static uint32_t make_bytes(const struct h_span *sp, uint8_t *p)
{
	uint32_t at = 0, ts = 0;

	assert_true(sp->bytes_n >= 80);
	at += put_varint(p + at, 17 << 3 | 1, 2);
	memcpy(p + at, &sp->uid, 8);
	at += 8;
	at += put_varint(p + at, 18 << 3 | 3, 2);
	p[at++] = 3 << 3 | 2;
	p[at++] = 1;
	p[at++] = 'x';
	at += put_varint(p + at, 18 << 3 | 4, 2);
	if (sp->rv) {
		char text[32];
		int n = snprintf(text, sizeof(text), "ot=rv:%014llx",
		                 (unsigned long long)h_rv(sp->uid));

		p[at++] = 3 << 3 | 2;
		p[at++] = (uint8_t)n;
		ts = at;
		memcpy(p + at, text, (size_t)n);
		at += (uint32_t)n;
	}
	p[at++] = 15 << 3 | 2;
	at += put_varint(p + at, sp->bytes_n - at - 4, 4);
	fill(p + at, sp->bytes_n - at, sp->uid * 131);
	return ts;
}

static uint32_t resource_n(uint32_t r)
{
	return r == H_RESOURCES - 1 ? GIANT_HEAD : r == H_RESOURCES - 2 ? BIG_HEAD : r * 23;
}

static struct tw_slice head_make(uint32_t seed, uint32_t n)
{
	uint8_t *p = tw_alloc(n + 1);

	assert_non_null(p);
	fill(p, n, seed * UINT64_C(1000003));
	return tw_slice(p, n);
}

static struct tw_slice scope_head(uint32_t scope)
{
	return head_make(scope + 500, 5 + scope % 7);
}

/* ---- the request ---- */

struct made {
	struct tw_request req;
	uint8_t *bytes;
	struct tw_value values[H_RESOURCES];
	struct tw_span_rest *rests;
	uint32_t *idx;
};

static void make_heads(struct harness *h, struct made *m, const struct h_span *spans, uint32_t n)
{
	static const char *const names[] = {"a", "checkout", "cart", "front end"};
	bool used[H_RESOURCES] = {false};
	size_t heads;

	for (uint32_t i = 0; i < n; i++)
		used[spans[i].scope / 2] = true;
	for (uint32_t r = 0; r < H_RESOURCES; r++) {
		struct tw_resource *res = &m->req.resources[r];

		res->head = used[r] ? head_make(r, resource_n(r)) : tw_slice(NULL, 0);
		res->hash = tw_hash_bytes(h->key, res->head.p, res->head.n);
		res->slots = &m->values[r];
		res->slots_set = r % 5 != 4;
		m->values[r] = (struct tw_value){.type = TW_VALUE_STRING,
		                                 .n = (uint32_t)strlen(names[r % 4]),
		                                 .p = (const uint8_t *)names[r % 4]};
	}
	for (uint32_t c = 0; c < H_SCOPES; c++) {
		struct tw_scope *sc = &m->req.scopes[c];

		sc->resource = c / 2;
		sc->head = scope_head(c);
		sc->hash = tw_fold(tw_hash_bytes(h->key, sc->head.p, sc->head.n),
		                   m->req.resources[c / 2].hash | 1);
		heads = sc->head.n + m->req.resources[c / 2].head.n;
		if (heads > m->req.heads_max)
			m->req.heads_max = heads;
	}
}

static void make_request(struct harness *h, struct made *m, const struct h_span *spans, uint32_t n,
                         uint32_t generation)
{
	uint64_t total = 0, at = 0;

	memset(m, 0, sizeof(*m));
	for (uint32_t i = 0; i < n; i++)
		total += spans[i].bytes_n;
	m->bytes = tw_alloc(total + 1);
	m->idx = tw_calloc(n + 1, sizeof(*m->idx));
	m->rests = tw_calloc(n + 1, sizeof(*m->rests));
	m->req.spans = tw_calloc(n + 1, sizeof(struct tw_span));
	m->req.masks = tw_calloc(n + 1, sizeof(*m->req.masks));
	m->req.resources = tw_calloc(H_RESOURCES, sizeof(struct tw_resource));
	m->req.scopes = tw_calloc(H_SCOPES, sizeof(struct tw_scope));
	assert_true(m->bytes && m->idx && m->rests && m->req.spans && m->req.masks);
	assert_true(m->req.resources && m->req.scopes);
	m->req.span_count = n;
	m->req.resource_count = H_RESOURCES;
	m->req.scope_count = H_SCOPES;
	make_heads(h, m, spans, n);
	for (uint32_t i = 0; i < n; i++) {
		const struct h_span *from = &spans[i];
		uint8_t *p = m->bytes + at;
		uint32_t ts = make_bytes(from, p);

		at += from->bytes_n;
		m->idx[i] = i;
		m->rests[i] = (struct tw_span_rest){.tracestate = ts ? p + ts : NULL,
		                                    .tracestate_n = ts ? 20 : 0};
		m->req.masks[i][0] = h_mask(generation, from->uid);
		m->req.spans[i] = (struct tw_span){
		    .trace_id = h_id(from->trace),
		    .span_id = from->span_id,
		    .parent_id = from->parent_id,
		    .start_ns = from->start_ns,
		    .duration_ns = from->duration_ns,
		    .bytes = p,
		    .bytes_n = from->bytes_n,
		    .scope = from->scope,
		    .series = (uint32_t)from->uid,
		    .hash = tw_hash_u64x2(h->key, h_id(from->trace).hi, h_id(from->trace).lo),
		    .rest = &m->rests[i],
		    .kind = (uint8_t)(from->uid % TW_KIND_COUNT),
		    .status = from->error ? TW_STATUS_ERROR : TW_STATUS_UNSET,
		    .flags =
		        (uint8_t)((from->root ? TW_SPAN_ROOT : 0) | (ts ? TW_SPAN_TRACESTATE : 0))};
	}
}

static void free_request(struct made *m)
{
	for (uint32_t r = 0; r < H_RESOURCES; r++)
		tw_free((void *)(uintptr_t)m->req.resources[r].head.p);
	for (uint32_t c = 0; c < H_SCOPES; c++)
		tw_free((void *)(uintptr_t)m->req.scopes[c].head.p);
	tw_free(m->bytes);
	tw_free(m->idx);
	tw_free(m->rests);
	tw_free(m->req.spans);
	tw_free(m->req.masks);
	tw_free(m->req.resources);
	tw_free(m->req.scopes);
}

/* ---- the model ---- */

static uint64_t now_ms(const struct harness *h)
{
	return h->now_ns / TW_NS_PER_MS;
}

static uint32_t trace_of(const struct harness *h, struct tw_id128 id)
{
	uint32_t trace = (uint32_t)id.hi;

	assert_true(trace < h->trace_max && tw_id_eq(h_id(trace), id));
	return trace;
}

static bool lives(const struct harness *h, uint32_t generation)
{
	return h->waits[0].generation == generation || h->waits[1].generation == generation;
}

static const struct h_wait *wait_of(const struct harness *h, uint32_t generation)
{
	return h->waits[0].generation == generation ? &h->waits[0] : &h->waits[1];
}

static uint64_t plus(uint64_t from, uint64_t wait)
{
	return wait == TW_NEVER ? TW_NEVER : from + wait;
}

static bool has_root(const struct h_trace *t)
{
	return t->root_ms != TW_NEVER;
}

static uint64_t due_ms(const struct harness *h, const struct h_trace *t, uint32_t generation,
                       enum tw_reason *reason)
{
	const struct h_wait *w = wait_of(h, generation);
	uint64_t due = has_root(t) ? plus(t->root_ms, w->root) : TW_NEVER;

	*reason = TW_REASON_ROOT;
	if (plus(t->last_ms, w->idle) < due) {
		due = plus(t->last_ms, w->idle);
		*reason = TW_REASON_IDLE;
	}
	if (plus(t->first_ms, w->most) < due) {
		due = plus(t->first_ms, w->most);
		*reason = TW_REASON_MOST;
	}
	return due;
}

static uint64_t service_hash(const struct harness *h, uint32_t scope)
{
	static const char *const names[] = {"a", "checkout", "cart", "front end"};
	const char *name = names[scope / 2 % 4];

	return scope / 2 % 5 == 4
	           ? 0
	           : (tw_hash_bytes(h->key, name, strlen(name)) & (UINT64_MAX >> 24));
}

/* The spans folded, naively. */
static void check_view(struct harness *h, const struct h_span *spans, uint32_t n,
                       const struct tw_trace_view *v)
{
	uint64_t start = UINT64_MAX, end = 0, bytes = 0, mask = 0,
	         randomness = v->id.lo & (UINT64_MAX >> 8);
	uint64_t service = service_hash(h, spans[0].scope);
	uint32_t errors = 0, root = 0, rv = 0;

	assert_int_equal(v->span_count, n);
	for (uint32_t i = 0; i < n; i++) {
		const struct h_span *sp = &spans[i];

		start = sp->start_ns < start ? sp->start_ns : start;
		end = sp->start_ns + sp->duration_ns > end ? sp->start_ns + sp->duration_ns : end;
		bytes += sp->bytes_n;
		errors += sp->error;
		mask |= h_mask(v->generation, sp->uid);
		if (sp->root && root++ == 0)
			service = service_hash(h, sp->scope);
		if (sp->rv && rv++ == 0)
			randomness = h_rv(sp->uid);
	}
	assert_int_equal(v->start_ns, start);
	assert_int_equal(v->end_ns, end);
	assert_int_equal(v->bytes, bytes);
	assert_int_equal(v->error_count, errors);
	assert_int_equal(v->has_root, root > 0);
	assert_int_equal(v->randomness, randomness);
	assert_int_equal(v->service_hash, service);
	if (v->reason != TW_REASON_LATE)
		assert_int_equal(v->mask[0], mask);
}

/* Making room for the span at hand may decide its own trace first; it is a late span then. */
static void take_back(struct harness *h, struct h_trace *t, const struct tw_trace_view *v)
{
	if (h->adding_n != 1 || !h->adding || t->count != v->span_count + 1)
		return;
	if (t->spans[t->count - 1].uid != h->adding->uid)
		return;
	t->count--;
	t->bytes -= h->adding->bytes_n;
}

static void on_decide(void *ctx, const struct tw_trace_view *v, struct tw_verdict *out)
{
	struct harness *h = ctx;
	struct h_trace *t;
	enum tw_reason reason;
	uint64_t due;

	*out = (struct tw_verdict){.rule = (uint16_t)(v->id.lo & 0xfff),
	                           .generation = v->generation,
	                           .threshold =
	                               (v->id.hi >> 40) % 3 ? v->id.hi >> 8 : TW_THRESHOLD_UNKNOWN};
	out->keep = h->keep ? h->keep(h, v) : (v->id.hi >> 40) % 4 == 0;
	out->destinations = out->keep ? h->destinations : 0;
	h->decided[v->reason]++;
	if (h->lossy)
		return;
	t = &h->traces[trace_of(h, v->id)];
	assert_int_equal(t->state, H_OPEN);
	take_back(h, t, v);
	assert_true(lives(h, v->generation));
	if (lives(h, t->generation))
		assert_int_equal(v->generation, t->generation);
	check_view(h, t->spans, t->count, v);
	due = due_ms(h, t, v->generation, &reason);
	if (v->reason <= TW_REASON_MOST) {
		assert_true(due <= now_ms(h));
		assert_int_equal(v->reason, reason);
	} else if (v->reason == TW_REASON_SIZE) {
		assert_true(t->count >= h->opts.trace_spans_max ||
		            t->bytes >= h->opts.trace_bytes_max);
	}
	t->state = H_DECIDED;
	t->verdict = *out;
}

static void forget_spans(struct h_trace *t)
{
	free(t->spans);
	t->spans = NULL;
	t->count = t->cap = 0;
}

static void on_let_go(void *ctx, const struct tw_trace_view *v, const struct tw_verdict *verdict)
{
	struct harness *h = ctx;
	struct h_trace *t;

	assert_false(verdict->keep);
	h->let_go += v->span_count;
	h->in_flight -= v->span_count;
	h->held_bytes -= v->bytes;
	if (h->lossy)
		return;
	t = &h->traces[trace_of(h, v->id)];
	assert_int_equal(t->state, H_DECIDED);
	forget_spans(t);
}

static void check_part(struct tw_kept *k, const struct h_span *all, uint32_t at, uint32_t n,
                       uint64_t keys[H_SCOPES])
{
	struct tw_kept_span *got = calloc(n, sizeof(*got));
	const struct h_span *spans = all + at;

	assert_true(tw_kept_spans(k, at, n, got));
	for (uint32_t i = 0; i < n; i++) {
		const struct h_span *sp = &spans[i];
		uint8_t *bytes = malloc(sp->bytes_n);
		uint32_t ts = make_bytes(sp, bytes);
		struct tw_slice res = head_make(sp->scope / 2, resource_n(sp->scope / 2));
		struct tw_slice scope = scope_head(sp->scope);

		assert_int_equal(got[i].bytes.n, sp->bytes_n);
		assert_memory_equal(got[i].bytes.p, bytes, sp->bytes_n);
		assert_true(tw_slice_eq(got[i].resource_head, res));
		assert_true(tw_slice_eq(got[i].scope_head, scope));
		assert_int_equal(got[i].tracestate_n, sp->rv ? 20 : 0);
		if (sp->rv)
			assert_int_equal(got[i].tracestate_off, ts);
		assert_int_equal(got[i].span_id, sp->span_id);
		assert_int_equal(got[i].start_ns, sp->start_ns);
		assert_int_equal(got[i].duration_ns, sp->duration_ns);
		assert_int_equal(got[i].series, (uint32_t)sp->uid);
		assert_int_equal(got[i].kind, sp->uid % TW_KIND_COUNT);
		assert_int_equal(got[i].status, sp->error ? TW_STATUS_ERROR : TW_STATUS_UNSET);
		if (keys[sp->scope] == 0)
			keys[sp->scope] = got[i].scope_key;
		assert_int_equal(keys[sp->scope], got[i].scope_key);
		free(bytes);
		tw_free((void *)(uintptr_t)res.p);
		tw_free((void *)(uintptr_t)scope.p);
	}
	free(got);
}

/* As a whole; then in parts, from where they ended when it was last looked at: in between spans may
 * have been moved. */
static void check_spans(struct tw_kept *k, const struct h_span *spans, uint32_t n)
{
	uint64_t keys[H_SCOPES] = {0};
	uint32_t part = n / 3 + 1;

	assert_int_equal(tw_kept_span_count(k), n);
	check_part(k, spans, 0, n, keys);
	for (uint32_t left = n; left > 0;) {
		uint32_t m = part < left ? part : left;

		left -= m;
		check_part(k, spans, left, m, keys);
	}
	for (uint32_t a = 0; a < H_SCOPES; a++)
		for (uint32_t b = 0; b < a; b++)
			assert_true(keys[a] == 0 || keys[a] != keys[b]);
}

static void on_keep(void *ctx, struct tw_kept *k, const struct tw_trace_view *v,
                    const struct tw_verdict *verdict)
{
	struct harness *h = ctx;
	struct h_kept held = {.kept = k};

	assert_true(verdict->keep);
	assert_ptr_equal(tw_kept_view(k), v);
	assert_ptr_equal(tw_kept_verdict(k), verdict);
	assert_int_equal(tw_kept_bytes(k), v->bytes);
	h->kept_spans += v->span_count;
	h->in_flight -= v->span_count;
	if (v->reason == TW_REASON_LATE) {
		held.spans = calloc(v->span_count, sizeof(*held.spans));
		held.count = v->span_count;
		if (!h->lossy) {
			assert_true(h->late_count >= v->span_count);
			memcpy(held.spans, h->late, v->span_count * sizeof(*held.spans));
			h->late_count -= v->span_count;
			memmove(h->late, h->late + v->span_count, h->late_count * sizeof(*h->late));
		}
	} else if (!h->lossy) {
		struct h_trace *t = &h->traces[trace_of(h, v->id)];

		held.spans = t->spans;
		held.count = t->count;
		t->spans = NULL;
		forget_spans(t);
	}
	if (!h->lossy) {
		check_view(h, held.spans, held.count, v);
		check_spans(k, held.spans, held.count);
	}
	if (h->release_at_once || verdict->destinations == 0) {
		h->held_bytes -= v->bytes;
		free(held.spans);
		for (uint32_t d = 0; d < 8; d++)
			tw_kept_release(k, d);
		return;
	}
	if (h->kept_count == h->kept_cap) {
		h->kept_cap = h->kept_cap ? h->kept_cap * 2 : 64;
		h->kept = realloc(h->kept, h->kept_cap * sizeof(*h->kept));
	}
	h->kept[h->kept_count++] = held;
}

/* Finds the span at hand by its number; the request is walked in order. */
static const struct h_span *at_hand(struct harness *h, const struct tw_span *s)
{
	while (h->adding_at < h->adding_n && (uint32_t)h->adding[h->adding_at].uid != s->series)
		h->adding_at++;
	assert_true(h->adding_at < h->adding_n);
	return &h->adding[h->adding_at];
}

static void on_late(void *ctx, const struct tw_span *s, struct tw_verdict *v)
{
	struct harness *h = ctx;
	const struct h_span *sp = NULL;
	struct h_trace *t = NULL;

	h->lates++;
	if (!h->lossy) {
		t = &h->traces[trace_of(h, s->trace_id)];
		sp = at_hand(h, s);
		assert_int_equal(t->state, H_DECIDED);
		assert_int_equal(v->keep, t->verdict.keep);
		assert_int_equal(v->rule, t->verdict.rule);
		assert_int_equal(v->generation, t->verdict.generation);
		/* Of a trace that was let go nobody asks for it. */
		assert_true(v->threshold ==
		            (v->keep ? t->verdict.threshold : TW_THRESHOLD_UNKNOWN));
		assert_int_equal(v->destinations, t->verdict.destinations);
		assert_int_equal(v->reason, TW_REASON_LATE);
	}
	if (!v->keep && h->upgrade && h->upgrade(h, s)) {
		v->keep = true;
		v->rule = 0x7777;
		v->threshold = 0;
		v->generation = h->waits[0].generation;
		v->destinations = h->destinations;
		if (t)
			t->verdict = *v;
	}
	if (h->lossy)
		return;
	if (!v->keep) {
		h->let_go++;
		h->in_flight--;
		h->held_bytes -= sp->bytes_n;
		return;
	}
	if (h->late_count == h->late_cap) {
		h->late_cap = h->late_cap ? h->late_cap * 2 : 64;
		h->late = realloc(h->late, h->late_cap * sizeof(*h->late));
	}
	h->late[h->late_count++] = *sp;
}

static void on_rematch(void *ctx, uint32_t generation, struct tw_slice resource_head,
                       struct tw_slice scope, struct tw_slice span, uint64_t mask[TW_MASK_WORDS])
{
	struct harness *h = ctx;
	uint64_t uid;

	(void)resource_head;
	(void)scope;
	h->rematches++;
	assert_true(lives(h, generation));
	memcpy(&uid, span.p + 2, sizeof(uid));
	memset(mask, 0, TW_MASK_WORDS * sizeof(*mask));
	mask[0] = h_mask(generation, uid);
}

static const struct tw_shard_ops ops = {on_decide, on_let_go, on_keep, on_late, on_rematch};

/* The model takes a span before the shard does. A decision may fall in the middle of a request
 * (memory, size), so the model cannot know beforehand which of its spans will be late: spans go in
 * one by one from the shard's view, since requests of the harness are added in pieces when order
 * matters. */
static void model_add(struct harness *h, const struct h_span *sp, uint32_t generation)
{
	struct h_trace *t;

	h->added++;
	h->in_flight++;
	h->held_bytes += sp->bytes_n;
	if (h->lossy)
		return;
	t = &h->traces[sp->trace];
	if (t->state == H_DECIDED)
		return;
	if (t->state == H_NEW) {
		t->state = H_OPEN;
		t->first_ms = now_ms(h);
		t->root_ms = TW_NEVER;
		t->generation = lives(h, generation) ? generation : h->waits[0].generation;
	}
	if (t->count == t->cap) {
		t->cap = t->cap ? t->cap * 2 : 4;
		t->spans = realloc(t->spans, t->cap * sizeof(*t->spans));
	}
	t->spans[t->count++] = *sp;
	t->bytes += sp->bytes_n;
	t->last_ms = now_ms(h);
	if (sp->root && t->root_ms == TW_NEVER)
		t->root_ms = now_ms(h);
}

/* ---- the harness ---- */

void h_init(struct harness *h, uint64_t bytes_max, uint32_t trace_max)
{
	memset(h, 0, sizeof(*h));
	h->opts = (struct tw_buffer_opts){.bytes_max = bytes_max,
	                                  .trace_spans_max = 32000,
	                                  .trace_bytes_max = 64 << 20,
	                                  .verdict_bytes_max = 4 << 20,
	                                  .verdict_keep_ns = 3600 * TW_NS_PER_S};
	h->key = (struct tw_hash_key){UINT64_C(0x0123456789abcdef), UINT64_C(0xfedcba9876543211)};
	h->trace_max = trace_max;
	h->traces = calloc(trace_max, sizeof(*h->traces));
	h->destinations = 3;
	h->uid = 1;
	h->random = 12345;
}

void h_create(struct harness *h)
{
	struct tw_shard_config c = {
	    .opts = h->opts, .shards = 1, .key = h->key, .ops = &ops, .ctx = h};

	h->pool = tw_pool_create(&h->opts, 1);
	assert_non_null(h->pool);
	/* As buffer.h says, and 4 MiB: spans come in one by one, the largest with a giant head. */
	h->held_max = h->opts.bytes_max > 4 << 20 ? h->opts.bytes_max : 4 << 20;
	h->held_max += h->held_max / 32 + (2 << 20) + (4 << 20);
	c.pool = h->pool;
	c.now_ns = h->now_ns;
	h->shard = tw_shard_create(&c);
	assert_non_null(h->shard);
	h_wait(h, 1, 6000, 30000, 120000);
	h->waits[1] = h->waits[0];
}

static uint64_t ns(uint64_t ms)
{
	return ms == TW_NEVER ? TW_NEVER : ms * TW_NS_PER_MS;
}

void h_wait(struct harness *h, uint32_t generation, uint64_t root_ms, uint64_t idle_ms,
            uint64_t most_ms)
{
	if (h->waits[0].generation != generation)
		h->waits[1] = h->waits[0];
	h->waits[0] = (struct h_wait){generation, root_ms, idle_ms, most_ms};
	if (h->waits[1].generation == 0)
		h->waits[1] = h->waits[0];
	tw_shard_set_wait(h->shard, generation, ns(root_ms), ns(idle_ms), ns(most_ms));
}

struct h_span h_span(struct harness *h, uint32_t trace)
{
	uint64_t uid = h->uid++;

	return (struct h_span){.uid = uid,
	                       .trace = trace,
	                       .bytes_n = 275,
	                       .scope = (uint32_t)(uid % 8),
	                       .span_id = uid,
	                       .parent_id = uid - 1,
	                       .start_ns = 1000000 + uid * 10,
	                       .duration_ns = uid * 7 % 1000};
}

/* Injection around the shard's calls only: the harness's own allocations are not part of the count.
 */
static void fail_begin(struct harness *h)
{
	if (h->fail_at) {
		h->fail_left = h->fail_at;
		h->fail_at = 0;
	}
	if (h->failing && h->fail_left > 0)
		(void)tw_mem_fail_at(h->fail_left, h->fail_sticky);
}

static void fail_end(struct harness *h)
{
	uint64_t made = tw_mem_fail_at(0, false);

	if (!h->failing || h->fail_left == 0)
		return;
	if (made < h->fail_left)
		h->fail_left -= made;
	else
		h->fail_left = h->fail_sticky ? 1 : 0;
}

static void add_now(struct harness *h, const struct h_span *spans, uint32_t n, uint32_t generation)
{
	struct made m;
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < n; i++) {
		model_add(h, &spans[i], generation);
		bytes += spans[i].bytes_n;
	}
	make_request(h, &m, spans, n, generation);
	h->adding = spans;
	h->adding_n = n;
	h->adding_at = 0;
	while (!tw_pool_admit(h->pool, bytes, n)) {
		assert_true(h->kept_count > 0);
		h_release(h, h_below(h, h->kept_count));
	}
	fail_begin(h);
	tw_shard_add(h->shard, &m.req, m.idx, n, generation, h->now_ns);
	fail_end(h);
	h->adding = NULL;
	free_request(&m);
}

/* A request is added whole where no decision can fall into it; else span by span, so that the model
 * stays exact. */
void h_add(struct harness *h, const struct h_span *spans, uint32_t n, uint32_t generation)
{
	add_now(h, spans, n, generation);
	h_check(h);
}

void h_add_one(struct harness *h, struct h_span sp)
{
	h_add(h, &sp, 1, h->waits[0].generation);
}

bool h_tick(struct harness *h)
{
	bool more;

	fail_begin(h);
	more = tw_shard_tick(h->shard, h->now_ns, 100);
	fail_end(h);
	h_check(h);
	return more;
}

void h_advance(struct harness *h, uint64_t ms)
{
	h->now_ns += ms * TW_NS_PER_MS;
}

void h_settle(struct harness *h)
{
	enum tw_reason reason;

	while (h_tick(h)) {
	}
	for (uint32_t i = 0; i < h->trace_max && !h->lossy; i++) {
		const struct h_trace *t = &h->traces[i];

		if (t->state == H_OPEN && lives(h, t->generation))
			assert_true(due_ms(h, t, t->generation, &reason) > now_ms(h));
	}
}

struct tw_shard_stats h_stats(struct harness *h)
{
	struct tw_shard_stats st;

	tw_shard_stats_read(h->shard, &st);
	return st;
}

uint64_t h_held(struct harness *h)
{
	struct tw_shard_stats st = h_stats(h);

	return st.stored_bytes + st.digest_bytes + st.record_bytes + st.table_bytes +
	       st.slack_bytes + (tw_pool_segments(h->pool) - st.segments) * TW_SEGMENT_BYTES;
}

void h_check(struct harness *h)
{
	struct tw_shard_stats st = h_stats(h);
	uint64_t decided = 0;

	assert_int_equal(st.added, st.kept + st.let_go + st.in_flight);
	assert_int_equal(st.added, h->added);
	assert_int_equal(st.traces_begun, st.traces_open + st.traces_decided);
	assert_int_equal(st.record_bytes,
	                 (st.traces_open + st.traces_kept) * (80 + 8 * TW_MASK_WORDS));
	for (uint32_t r = 0; r < TW_REASON_LATE; r++)
		decided += st.decided_reason[r];
	assert_int_equal(decided, st.traces_decided);
	if (h->lossy)
		return;
	assert_int_equal(st.unstored, 0);
	assert_true(h_held(h) <= h->held_max);
	assert_int_equal(st.kept, h->kept_spans);
	assert_int_equal(st.let_go, h->let_go);
	assert_int_equal(st.in_flight, h->in_flight);
	assert_int_equal(st.span_bytes, h->held_bytes);
	assert_int_equal(st.traces_kept, h->kept_count);
	for (uint32_t r = 0; r < TW_REASON_LATE; r++)
		assert_int_equal(st.decided_reason[r], h->decided[r]);
}

void h_check_kept(struct harness *h, uint32_t i)
{
	check_spans(h->kept[i].kept, h->kept[i].spans, h->kept[i].count);
}

void h_release(struct harness *h, uint32_t i)
{
	struct h_kept held = h->kept[i];
	const uint8_t destinations = tw_kept_verdict(held.kept)->destinations;
	const uint64_t bytes = tw_kept_bytes(held.kept);

	h->kept[i] = h->kept[--h->kept_count];
	h->held_bytes -= bytes;
	for (uint32_t d = 0; d < 8; d++)
		if (destinations >> d & 1)
			tw_kept_release(held.kept, d);
	free(held.spans);
}

void h_release_all(struct harness *h)
{
	while (h->kept_count > 0)
		h_release(h, h->kept_count - 1);
	h_check(h);
}

void h_drain(struct harness *h)
{
	while (tw_shard_drain(h->shard, h->now_ns, 50))
		h_check(h);
	h_check(h);
}

void h_deinit(struct harness *h)
{
	struct tw_shard_stats st;

	h_drain(h);
	h_release_all(h);
	st = h_stats(h);
	assert_int_equal(st.in_flight, 0);
	assert_int_equal(st.traces_open, 0);
	assert_int_equal(st.traces_kept, 0);
	assert_int_equal(st.span_bytes, 0);
	assert_int_equal(st.record_bytes, 0);
	assert_int_equal(st.stored_bytes, 0);
	assert_int_equal(tw_pool_pinned(h->pool), 0);
	assert_true(st.segments <= 2);
	tw_shard_destroy(&h->shard);
	tw_pool_destroy(&h->pool);
	for (uint32_t i = 0; i < h->trace_max; i++)
		free(h->traces[i].spans);
	free(h->traces);
	free(h->kept);
	free(h->late);
}
