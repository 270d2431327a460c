/* The templated scanner against the generic one, and the log against the bytes that went in.
 *
 *   template_test [REQUESTS [SEED]]
 *
 * Operations are made up: names, kinds, attributes of every type whose values are fixed, few, many
 * or never the same, events, odd orders and forms. Requests of their spans come again and again,
 * some of them broken, through a cache that is large, tiny, or changes its keys on the way. Each is
 * scanned with and without templates: the views are the same. Each span goes into a trace buffer,
 * is moved around there, and comes out as it went in. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "generate.h"
#include "same_views.h"
#include "scan_steps.h"
#include "tw/base/limits.h"
#include "tw/base/mem.h"
#include "tw/buffer.h"
#include "tw/model/operations.h"
#include "tw/wire.h"

#define OPERATIONS 48u
#define ATTRIBUTES 12u
#define TRACES     64u    /* at a time; every eighth is a long one */
#define HELD       20000u /* spans of one of them at most */
#define SHORT      100u   /* requests that a trace's spans come in */
#define LONG       1600u
#define STEP_NS    (10 * TW_NS_PER_MS) /* from one request to the next */
#define ADDS       8u                  /* times that a request is stored */

#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "seed %" PRIu64 ": %s:%d: %s\n", seed_at, __FILE__,        \
			        __LINE__, #x);                                                     \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

static uint64_t seed_at;

/* ---- operations ---- */

enum type { TEXT, HEX, LONG_TEXT, UMLAUT, NOT_UTF8, INT, DOUBLE, BOOL, ARRAY, NOTHING, TYPES };

struct attribute {
	const char *key;
	enum type type;
	uint32_t values; /* so many different ones; 0: no end of them */
	bool odd;        /* value before key */
	uint32_t share;  /* of 16 spans that have it */
};

enum state_type { NO_STATE, SAME, FEW, OWN, ANY_LENGTH, SELDOM, STATE_NOT_UTF8, STATES };

struct operation {
	char name[160];
	uint32_t kind; /* 15: no such field */
	bool root, empty_status, message, flags, odd_order, unknown, backwards;
	enum state_type state;
	uint32_t events;
	uint32_t attributes;
	struct attribute attribute[ATTRIBUTES];
};

static const char *const keys[] = {
    "http.request.method",
    "http.route",
    "http.response.status_code",
    "user.id",
    "url.query",
    "db.system",
    "db.statement",
    "server.address",
    "server.port",
    "retry",
    "a",
    "cart.total",
    "messaging.a.very.long.key.that.goes.on.and.on.for.more.than.sixty.four.bytes.in.all"};
#define KEYS (sizeof(keys) / sizeof(keys[0]))

static void make_operation(struct rng *r, struct operation *o)
{
	uint32_t long_name = rng_below(r, 12) == 0 ? 90 : 0;

	memset(o, 0, sizeof(*o));
	snprintf(o->name, sizeof(o->name), "GET /%0*u/%u", (int)(1 + long_name), rng_below(r, 9),
	         rng_below(r, 1000));
	o->kind = rng_below(r, 8) == 0 ? 15 : rng_below(r, 7);
	o->root = rng_below(r, 4) == 0;
	o->empty_status = rng_below(r, 2);
	o->message = rng_below(r, 6) == 0;
	o->flags = rng_below(r, 2);
	o->odd_order = rng_below(r, 12) == 0;
	o->unknown = rng_below(r, 8) == 0;
	o->state = rng_below(r, 3) ? NO_STATE : (enum state_type)rng_below(r, STATES);
	o->backwards = rng_below(r, 12) == 0;
	o->events = rng_below(r, 6) == 0 ? 1 + rng_below(r, 3) : 0;
	o->attributes = rng_below(r, ATTRIBUTES + 1);
	for (uint32_t i = 0; i < o->attributes; i++)
		o->attribute[i] = (struct attribute){
		    .key = keys[rng_below(r, KEYS)],
		    .type = rng_below(r, 3) ? TEXT : (enum type)rng_below(r, TYPES),
		    .values = rng_below(r, 3) == 0 ? 0 : 1 + rng_below(r, rng_below(r, 2) ? 3 : 40),
		    .odd = rng_below(r, 20) == 0,
		    .share = rng_below(r, 4) ? 16 : rng_below(r, 17)};
}

/* ---- spans ---- */

static void put_huge(struct pb *b, uint64_t n)
{
	static char text[80000];

	memset(text, 'h', sizeof(text));
	pb_bytes(b, 1, text, n);
}

static void put_value(struct rng *r, struct pb *b, const struct attribute *a)
{
	uint64_t n = a->values ? rng_below(r, a->values) : rng_next(r);
	char text[400];

	switch (a->type) {
	case TEXT:
		snprintf(text, sizeof(text), "%s-%" PRIu64, a->key, n);
		pb_str(b, 1, n % 7 == 6 ? "" : text);
		break;
	case HEX:
		snprintf(text, sizeof(text), "%0*" PRIx64, 16 + (int)(n % 3), n);
		pb_str(b, 1, text);
		break;
	case LONG_TEXT:
		/* Longer than a length of two bytes, and than a span with a template. */
		if (n % 997 == 0) {
			put_huge(b, 16200 + n % 55000);
			break;
		}
		memset(text, 'a' + (int)(n % 26), sizeof(text));
		text[60 + n % 339] = '\0';
		pb_str(b, 1, text);
		break;
	case UMLAUT:
		snprintf(text, sizeof(text), "gr\xc3\xbc\xc3\x9f-%" PRIu64, n);
		pb_str(b, 1, text);
		break;
	case NOT_UTF8:
		snprintf(text, sizeof(text), n % 16 ? "fine" : "gr\xfc\xdf");
		pb_str(b, 1, text);
		break;
	case INT:
		pb_varint(b, 3, n % 5 == 0 ? n << 20 : n % 300);
		break;
	case DOUBLE:
		pb_fixed64(b, 4, n);
		break;
	case BOOL:
		pb_varint(b, 2, n & 1);
		break;
	case ARRAY:
		pb_begin(b, 5);
		pb_begin(b, 1);
		pb_varint(b, 3, n % 4);
		pb_end(b);
		pb_end(b);
		break;
	default:
		break;
	}
}

static void put_attribute(struct rng *r, struct pb *b, uint32_t field, const struct attribute *a)
{
	pb_begin(b, field);
	if (!a->odd)
		pb_str(b, 1, a->key);
	pb_begin(b, 2);
	put_value(r, b, a);
	pb_end(b);
	if (a->odd)
		pb_str(b, 1, a->key);
	pb_end(b);
}

static void put_state(struct rng *r, struct pb *b, enum state_type type)
{
	char text[160];

	switch (type) {
	case SAME:
		pb_str(b, 3, "ot=rv:01020304050607");
		break;
	case FEW:
		pb_str(b, 3,
		       rng_below(r, 2) ? "vendor=0123456789abcdef0123456789abcdef" : "ot=th:8");
		break;
	case OWN:
		snprintf(text, sizeof(text), "ot=rv:%014" PRIx64 ",a=b", rng_next(r) >> 8);
		pb_str(b, 3, text);
		break;
	case ANY_LENGTH: /* also none, and more than a template has */
		memset(text, '0' + (int)rng_below(r, 10), sizeof(text));
		pb_bytes(b, 3, text, rng_below(r, 4) ? rng_below(r, 130) : 126 + rng_below(r, 4));
		break;
	case SELDOM:
		if (rng_below(r, 2))
			pb_str(b, 3, "x=y");
		break;
	case STATE_NOT_UTF8:
		pb_str(b, 3, rng_below(r, 16) ? "gr\xc3\xbc\xc3\x9f=1" : "gr\xfc\xdf=1");
		break;
	default:
		break;
	}
}

static void put_ids(struct rng *r, struct pb *b, const struct operation *o)
{
	uint32_t index = rng_below(r, TRACES);
	uint64_t epoch = seed_at / (index % 8 == 0 ? LONG : SHORT),
	         trace = __builtin_bswap64(epoch * TRACES + index + 1),
	         id[2] = {trace * UINT64_C(0x9E3779B97F4A7C15), trace},
	         span = rng_below(r, 400) ? rng_next(r) | 1 : 0, parent = rng_below(r, 400);

	pb_bytes(b, 1, id, 16);
	pb_bytes(b, 2, &span, 8);
	put_state(r, b, o->state);
	if (!o->root)
		pb_bytes(b, 4, &parent, 8);
}

static void put_span(struct rng *r, struct pb *b, const struct operation *o)
{
	uint64_t start = UINT64_C(1700000000000000000) + rng_next(r) % 10000000000u, end;

	end = start + rng_next(r) % (rng_below(r, 50) ? 1u << 28 : UINT64_C(1) << 50);
	if (o->backwards && rng_below(r, 4) == 0)
		end = start - rng_below(r, 1000);
	pb_begin(b, 2);
	if (!o->odd_order)
		put_ids(r, b, o);
	pb_str(b, 5, o->name);
	if (o->kind != 15)
		pb_varint(b, 6, o->kind);
	pb_fixed64(b, 7, rng_below(r, 300) ? start : 0);
	pb_fixed64(b, 8, end);
	for (uint32_t i = 0; i < o->attributes; i++)
		if (rng_below(r, 16) < o->attribute[i].share)
			put_attribute(r, b, 9, &o->attribute[i]);
	if (o->unknown)
		pb_str(b, 40, "from a later version");
	for (uint32_t i = 0; i < o->events; i++) {
		pb_begin(b, 11);
		pb_fixed64(b, 1, start + i);
		pb_str(b, 2, "exception");
		pb_end(b);
	}
	if (!o->empty_status || rng_below(r, 20) == 0) {
		pb_begin(b, 15);
		if (o->message)
			pb_str(b, 2, rng_below(r, 2) ? "timeout" : "refused");
		pb_varint(b, 3, rng_below(r, 20) ? 1 : 2);
		pb_end(b);
	}
	if (o->flags)
		pb_fixed32(b, 16, rng_below(r, 9) ? 0x101 : 0x103);
	if (o->odd_order)
		put_ids(r, b, o);
	pb_end(b);
}

static void put_request(struct rng *r, struct pb *b, const struct operation *all)
{
	uint32_t services = 1 + rng_below(r, 3);

	for (uint32_t i = 0; i < services; i++) {
		uint32_t spans = rng_below(r, 60);

		pb_begin(b, 1);
		pb_begin(b, 1);
		pb_attr(b, 1, "service.name", rng_below(r, 2) ? "cart" : "checkout");
		pb_end(b);
		pb_begin(b, 2);
		for (uint32_t k = 0; k < spans; k++)
			put_span(r, b, &all[rng_below(r, OPERATIONS)]);
		pb_end(b);
		pb_end(b);
	}
}

/* ---- a buffer whose spans are known ---- */

struct held { /* what went in, by trace, in order of arrival */
	uint8_t *bytes;
	uint32_t n, series;
	uint32_t state_off, state_n;
};

struct store {
	struct tw_pool *pool;
	struct tw_shard *shard;
	struct held *trace[2 * TRACES]; /* the epoch before may still be open */
	uint32_t count[2 * TRACES], spans;
	uint64_t now_ns, out;
};

/* Where the spans of a trace are; −1: its id is broken. */
static int32_t place_of(struct tw_id128 id)
{
	uint64_t n = id.lo - 1, epoch = n / TRACES, index = n % TRACES;

	if (id.hi != __builtin_bswap64(__builtin_bswap64(id.lo) * UINT64_C(0x9E3779B97F4A7C15)) ||
	    epoch != seed_at / (index % 8 == 0 ? LONG : SHORT))
		return -1;
	return (int32_t)(index + epoch % 2 * TRACES);
}

static void decide(void *ctx, const struct tw_trace_view *t, struct tw_verdict *v)
{
	(void)ctx;
	v->keep = true;
	v->destinations = 1;
	v->generation = t->generation;
}

static void let_go(void *ctx, const struct tw_trace_view *t, const struct tw_verdict *v)
{
	(void)ctx;
	(void)t;
	(void)v;
}

static void forget(struct store *s, uint64_t trace)
{
	for (uint32_t i = 0; i < s->count[trace]; i++)
		free(s->trace[trace][i].bytes);
	s->spans -= s->count[trace];
	s->count[trace] = 0;
}

static void keep(void *ctx, struct tw_kept *k, const struct tw_trace_view *t,
                 const struct tw_verdict *v)
{
	struct store *s = ctx;
	uint64_t number = t->id.lo - 1, trace = number % TRACES + number / TRACES % 2 * TRACES;
	uint32_t n = tw_kept_span_count(k);
	struct tw_kept_span *out = calloc(n, sizeof(*out));

	(void)v;
	CHECK(out && n == s->count[trace]);
	CHECK(tw_kept_spans(k, 0, n, out));
	for (uint32_t i = 0; i < n; i++) {
		const struct held *h = &s->trace[trace][i];

		CHECK(same_bytes(out[i].bytes.p, out[i].bytes.n, h->bytes, h->n));
		CHECK(out[i].series == h->series);
		CHECK(out[i].tracestate_n == h->state_n);
		CHECK(h->state_n == 0 || out[i].tracestate_off == h->state_off);
	}
	free(out);
	s->out += n;
	forget(s, trace);
	tw_kept_release(k, 0);
}

/* A trace that fell silent for too long: the span went in for nothing. */
static void late(void *ctx, const struct tw_span *sp, struct tw_verdict *v)
{
	struct store *s = ctx;
	int32_t trace = place_of(sp->trace_id);

	CHECK(trace >= 0 && s->count[trace] > 0);
	free(s->trace[trace][--s->count[trace]].bytes);
	s->spans--;
	v->keep = false;
}

static void rematch(void *ctx, uint32_t generation, struct tw_slice resource_head,
                    struct tw_slice scope_head, struct tw_slice span, uint64_t mask[TW_MASK_WORDS])
{
	(void)ctx;
	(void)generation;
	(void)resource_head;
	(void)scope_head;
	(void)span;
	memset(mask, 0, TW_MASK_WORDS * sizeof(*mask));
}

static const struct tw_shard_ops ops = {decide, let_go, keep, late, rematch};

static void store_init(struct store *s)
{
	struct tw_buffer_opts o = {.bytes_max = 256 << 20,
	                           .trace_spans_max = 1 << 20,
	                           .trace_bytes_max = 1 << 30,
	                           .verdict_bytes_max = 1 << 12,
	                           .verdict_keep_ns = 1};
	struct tw_shard_config c = {.opts = o, .shards = 1, .key = {1, 2}, .ops = &ops, .ctx = s};

	s->pool = c.pool = tw_pool_create(&o, 1);
	CHECK(s->pool);
	s->shard = tw_shard_create(&c);
	CHECK(s->shard);
	tw_shard_set_wait(s->shard, 1, TW_NEVER, TW_NS_PER_S / 2, TW_NEVER);
	for (uint32_t i = 0; i < 2 * TRACES; i++) {
		s->trace[i] = calloc(HELD, sizeof(*s->trace[i]));
		CHECK(s->trace[i]);
	}
}

static void store_deinit(struct store *s)
{
	while (tw_shard_drain(s->shard, s->now_ns, 1000))
		;
	CHECK(s->spans == 0);
	tw_shard_destroy(&s->shard);
	tw_pool_destroy(&s->pool);
	for (uint32_t i = 0; i < 2 * TRACES; i++)
		free(s->trace[i]);
}

/* Half of the spans, so that traces grow over many segments. */
static void store_add(struct store *s, struct rng *r, struct tw_request *req)
{
	uint32_t *idx = calloc(req->span_count + 1u, sizeof(*idx)), n = 0;
	uint64_t bytes = 0;

	CHECK(idx);
	for (uint32_t i = 0; i < req->span_count; i++) {
		struct tw_span *sp = &req->spans[i];
		int32_t trace = place_of(sp->trace_id);
		struct held *h;

		if (trace < 0 || s->count[trace] == HELD || rng_below(r, 2))
			continue;
		h = &s->trace[trace][s->count[trace]++];
		sp->series = rng_below(r, 5);
		if (sp->operation && req->operations[sp->operation - 1].fixed)
			sp->series = req->operations[sp->operation - 1].template->hash % 1000;
		*h = (struct held){malloc(sp->bytes_n), sp->bytes_n, sp->series, 0,
		                   sp->rest->tracestate_n};
		CHECK(h->bytes);
		if (h->state_n > 0)
			h->state_off = (uint32_t)(sp->rest->tracestate - sp->bytes);
		memcpy(h->bytes, sp->bytes, sp->bytes_n);
		bytes += sp->bytes_n;
		idx[n++] = i;
	}
	s->spans += n;
	CHECK(tw_pool_admit(s->pool, bytes, n));
	tw_shard_add(s->shard, req, idx, n, 1, s->now_ns);
	free(idx);
}

/* ---- the two scanners ---- */

struct state {
	struct tw_keytab *keys[2];
	struct tw_templates *large, *tiny;
	struct tw_request generic, templated, other;
	struct store store;
	uint64_t spans, recognised, with_state;
};

static struct tw_keytab *make_keys(uint32_t from, uint32_t n)
{
	struct tw_keytab *kt = tw_keytab_create();

	CHECK(kt);
	for (uint32_t i = 0; i < n; i++)
		CHECK(tw_keytab_add(kt, tw_slice_str(keys[from + i])) > 0);
	CHECK(tw_keytab_seal(kt) == 0);
	return kt;
}

static void compare(struct state *s, struct rng *r, const struct pb *b)
{
	struct tw_scan_opts o = {.key = {1, 2}, .spans_max = 100000};
	struct tw_error ge = {0}, te = {0};
	uint32_t generation = (uint32_t)(seed_at / 700);
	size_t behind = rng_below(r, 2) ? rng_below(r, 500) : 0;
	uint8_t *body = malloc(b->n + behind + 1);
	struct tw_request *req = &s->templated;
	int g, t;

	o.keys = s->keys[generation % 2];
	tw_request_reset(&s->generic);
	tw_request_reset(req);
	CHECK(body);
	memcpy(body, b->p, b->n);
	/* What lies behind it looks as if the body went on. */
	for (size_t i = 0; i < behind && b->n > 0; i++)
		body[b->n + i] = b->p[rng_below(r, 2) ? i % b->n : rng_below(r, (uint32_t)b->n)];
	g = tw_otlp_scan(&o, tw_slice(body, b->n), &s->generic, &ge);
	o.templates = seed_at % 8 == 0 ? s->tiny : s->large;
	o.behind = behind;
	tw_templates_generation(o.templates, generation);
	if (rng_below(r, 2))
		t = tw_otlp_scan(&o, tw_slice(body, b->n), req, &te);
	else
		t = scan_in_steps(&o, tw_slice(body, b->n), 1 + rng_below(r, 2000),
		                  rng_below(r, 50) == 0 ? rng_below(r, 6) : 0, &s->other, req, &te);
	CHECK(g == t && strcmp(ge.text, te.text) == 0);
	if (g != 0) {
		free(body);
		return;
	}
	CHECK(differing_view(&s->generic, req) == -1);
	for (uint32_t i = 0; i < req->span_count; i++) {
		const struct tw_span *sp = &req->spans[i];

		s->spans++;
		s->recognised += sp->operation != 0;
		s->with_state += sp->operation != 0 && sp->rest->tracestate_n > 0;
		CHECK(sp->operation <= TW_OPERATIONS_MAX);
		CHECK(!sp->operation ||
		      req->operations[sp->operation - 1].scope == req->scopes[sp->scope].hash);
	}
	CHECK(tw_templates_stats(s->tiny).bytes < 400000);
	for (uint32_t i = 0; i < ADDS; i++)
		store_add(&s->store, r, req);
	free(body);
}

int main(int argc, char **argv)
{
	uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 20000;
	uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	static struct operation operation[OPERATIONS];
	static struct state s;
	struct tw_template_stats large, tiny;
	struct tw_shard_stats st;
	struct pb b = {0};

	s.keys[0] = make_keys(0, 4);
	s.keys[1] = make_keys(2, 7);
	s.large = tw_templates_create((struct tw_hash_key){3, 4}, 4 << 20);
	s.tiny = tw_templates_create((struct tw_hash_key){5, 6}, 20000);
	CHECK(s.large && s.tiny);
	tw_request_init(&s.generic);
	tw_request_init(&s.templated);
	tw_request_init(&s.other);
	store_init(&s.store);
	for (uint64_t i = 0; i < count; i++) {
		struct rng r = {(seed_at = first + i) * UINT64_C(0x9E3779B97F4A7C15)};

		/* Operations come and go. */
		if (i == 0)
			for (uint32_t k = 0; k < OPERATIONS; k++)
				make_operation(&r, &operation[k]);
		if (rng_below(&r, 40) == 0)
			make_operation(&r, &operation[rng_below(&r, OPERATIONS)]);
		pb_clear(&b);
		put_request(&r, &b, operation);
		if (rng_below(&r, 6) == 0)
			generate_mutate(&r, &b);
		compare(&s, &r, &b);
		s.store.now_ns += STEP_NS;
		while (tw_shard_tick(s.store.shard, s.store.now_ns, 64))
			;
	}
	large = tw_templates_stats(s.large);
	tiny = tw_templates_stats(s.tiny);
	tw_shard_stats_read(s.store.shard, &st);
	printf("%" PRIu64 " spans, %" PRIu64 " recognised, %" PRIu64 " with a trace state; %" PRIu64
	       " lessons, %" PRIu64 " evictions; %" PRIu64 " spans out of the buffer, %" PRIu64
	       " compactions\n",
	       s.spans, s.recognised, s.with_state, large.learned + tiny.learned, tiny.evicted,
	       s.store.out, st.compactions);
	/* A test of what never happens would show nothing. */
	if (count >= 5000)
		CHECK(s.recognised > s.spans / 6 && s.with_state > s.spans / 30 &&
		      tiny.evicted > 0 && s.store.out > s.spans / 4 && st.compactions > 0);
	store_deinit(&s.store);
	tw_request_deinit(&s.generic);
	tw_request_deinit(&s.templated);
	tw_request_deinit(&s.other);
	tw_templates_destroy(&s.large);
	tw_templates_destroy(&s.tiny);
	tw_keytab_destroy(&s.keys[0]);
	tw_keytab_destroy(&s.keys[1]);
	pb_free(&b);
	return 0;
}
