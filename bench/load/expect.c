#include "expect.h"

#include <string.h>

#include "tw/base/mem.h"
#include "tw/model/pb.h"

#define CHUNK_SPANS (UINT64_C(1) << 23)
#define CHUNKS      (UINT64_C(1) << 20)
#define SAID_MAX    20 /* faults of a kind that are told one by one */

struct tw_expect {
	struct tw_workload w;
	struct tw_expect_totals t;
	uint64_t **chunk; /* bits by span number */
};

struct tw_expect *tw_expect_create(const struct tw_workload *w)
{
	struct tw_expect *e = tw_calloc(1, sizeof(*e));

	if (e == NULL)
		return NULL;
	e->w = *w;
	e->chunk = tw_calloc(CHUNKS, sizeof(*e->chunk));
	if (e->chunk == NULL)
		tw_expect_destroy(&e);
	return e;
}

void tw_expect_destroy(struct tw_expect **e)
{
	if (*e == NULL)
		return;
	for (uint64_t i = 0; (*e)->chunk != NULL && i < CHUNKS; i++)
		tw_free((*e)->chunk[i]);
	tw_free((*e)->chunk);
	tw_free(*e);
	*e = NULL;
}

const struct tw_expect_totals *tw_expect_totals(const struct tw_expect *e)
{
	return &e->t;
}

/* ---- one span ---- */

struct seen {
	struct tw_load_trace_id trace;
	uint64_t id, parent, start, end;
	bool has_trace, has_request_id, error;
	uint64_t request_id;
	uint32_t attributes;
	bool patched;
};

static uint64_t from_hex(const uint8_t *p)
{
	uint64_t v = 0;

	for (int i = 0; i < 16; i++)
		v = v << 4 | (uint64_t)(p[i] <= '9' ? p[i] - '0' : p[i] - 'a' + 10);
	return v;
}

/* A KeyValue: which of the keys that matter, and the string's bytes. */
static bool read_attribute(const uint8_t *p, const uint8_t *end, struct seen *s)
{
	const uint8_t *key = NULL, *value = NULL;
	uint32_t tag, n, key_n = 0, value_n = 0;

	while (p < end) {
		if (!(p = tw_pb_tag(p, end, &tag)))
			return false;
		if (tag == TW_PB_TAG(1, TW_PB_LEN)) {
			if (!(key = tw_pb_len(p, end, &key_n)))
				return false;
			p = key + key_n;
		} else if (tag == TW_PB_TAG(2, TW_PB_LEN)) {
			if (!(value = tw_pb_len(p, end, &n)))
				return false;
			p = value + n;
			value_n = n;
		} else if (!(p = tw_pb_skip(p, end, tag))) {
			return false;
		}
	}
	s->attributes++;
	if (key_n == 14 && memcmp(key, "traceweir.rule", 14) == 0)
		s->patched = true;
	/* AnyValue.string_value of 16 bytes */
	if (key_n == 10 && memcmp(key, "request.id", 10) == 0 && value_n == 18 &&
	    value[0] == 0x0a) {
		s->has_request_id = true;
		s->request_id = from_hex(value + 2);
	}
	return true;
}

static bool read_status(const uint8_t *p, const uint8_t *end, struct seen *s)
{
	uint64_t code;
	uint32_t tag;

	while (p < end) {
		if (!(p = tw_pb_tag(p, end, &tag)))
			return false;
		if (tag != TW_PB_TAG(3, TW_PB_VARINT)) {
			p = tw_pb_skip(p, end, tag);
		} else {
			p = tw_pb_varint(p, end, &code);
			s->error = p != NULL && code == 2;
		}
		if (p == NULL)
			return false;
	}
	return true;
}

static bool read_field(struct seen *s, uint32_t tag, const uint8_t *p, uint32_t n)
{
	switch (tag) {
	case TW_PB_TAG(1, TW_PB_LEN):
		s->has_trace = n == 16;
		if (n == 16)
			s->trace = (struct tw_load_trace_id){tw_pb_be64(p), tw_pb_be64(p + 8)};
		return true;
	case TW_PB_TAG(2, TW_PB_LEN):
		s->id = n == 8 ? tw_pb_be64(p) : 0;
		return true;
	case TW_PB_TAG(4, TW_PB_LEN):
		s->parent = n == 8 ? tw_pb_be64(p) : 0;
		return true;
	case TW_PB_TAG(9, TW_PB_LEN):
		return read_attribute(p, p + n, s);
	case TW_PB_TAG(15, TW_PB_LEN):
		return read_status(p, p + n, s);
	default:
		return true;
	}
}

static bool read_span(const uint8_t *p, const uint8_t *end, struct seen *s)
{
	uint32_t tag, n;

	while (p < end) {
		if (!(p = tw_pb_tag(p, end, &tag)))
			return false;
		if ((tag & 7) == TW_PB_LEN) {
			if (!(p = tw_pb_len(p, end, &n)) || !read_field(s, tag, p, n))
				return false;
			p += n;
		} else if (tag == TW_PB_TAG(7, TW_PB_I64) && end - p >= 8) {
			s->start = tw_pb_le64(p);
			p += 8;
		} else if (tag == TW_PB_TAG(8, TW_PB_I64) && end - p >= 8) {
			s->end = tw_pb_le64(p);
			p += 8;
		} else if (!(p = tw_pb_skip(p, end, tag))) {
			return false;
		}
	}
	return true;
}

static bool as_sent(const struct tw_expect *e, const struct seen *s, uint64_t number)
{
	const struct tw_workload *w = &e->w;
	uint64_t n = number / w->trace_spans;
	uint32_t index = (uint32_t)(number % w->trace_spans);
	enum tw_load_kind kind = tw_load_kind(w, tw_load_hash(w, n));
	uint64_t parent = index == 0 ? 0 : tw_load_span_id(w, number - 1);
	bool error = kind == TW_LOAD_ERROR && index == tw_load_error_index(w);
	bool long_enough = kind != TW_LOAD_SLOW || index != 0 || s->end - s->start > 2000000000u;

	return s->parent == parent && s->has_request_id && s->request_id == number &&
	       s->attributes >= 6 && s->end > s->start && s->error == error && long_enough;
}

static void say(const char *what, const struct tw_expect *e, uint64_t span)
{
	fprintf(stderr, "traceweir-sink: %s: span %llu of trace %llu, in request %llu\n", what,
	        (unsigned long long)(span % e->w.trace_spans),
	        (unsigned long long)(span / e->w.trace_spans), (unsigned long long)e->t.requests);
}

static void take_span(struct tw_expect *e, const struct seen *s)
{
	uint64_t number = tw_load_span_number(&e->w, s->id);
	struct tw_load_trace_id id = {0, 0};
	uint64_t chunk = number / CHUNK_SPANS, bit = number % CHUNK_SPANS;

	e->t.spans++;
	if (number != UINT64_MAX)
		id = tw_load_trace_id(&e->w, number / e->w.trace_spans);
	if (number == UINT64_MAX || chunk >= CHUNKS || !s->has_trace || id.hi != s->trace.hi ||
	    id.lo != s->trace.lo) {
		if (e->t.unknown++ < SAID_MAX)
			fprintf(
			    stderr,
			    "traceweir-sink: no such span: id %016llx of trace %016llx%016llx\n",
			    (unsigned long long)s->id, (unsigned long long)s->trace.hi,
			    (unsigned long long)s->trace.lo);
		return;
	}
	if (!as_sent(e, s, number) && e->t.wrong++ < SAID_MAX)
		say("not as it was sent", e, number);
	e->t.patched += s->patched;
	if (e->chunk[chunk] == NULL)
		e->chunk[chunk] = tw_calloc(CHUNK_SPANS / 64, 8);
	if (e->chunk[chunk] == NULL)
		return; /* counts as missing: a check must not pass for want of memory */
	if (e->chunk[chunk][bit / 64] >> bit % 64 & 1) {
		if (e->t.duplicates++ < SAID_MAX)
			say("twice", e, number);
	} else {
		e->t.unique++;
	}
	e->chunk[chunk][bit / 64] |= UINT64_C(1) << bit % 64;
}

/* ---- a request: ResourceSpans.2 → ScopeSpans.2 → Span ---- */

static bool walk(struct tw_expect *e, const uint8_t *p, const uint8_t *end, int depth)
{
	static const uint32_t inner[3] = {TW_PB_TAG(1, TW_PB_LEN), TW_PB_TAG(2, TW_PB_LEN),
	                                  TW_PB_TAG(2, TW_PB_LEN)};
	uint32_t tag, n;

	if (depth == 3) {
		struct seen s = {.id = 0};
		bool good = read_span(p, end, &s);

		take_span(e, &s);
		return good;
	}
	while (p < end) {
		if (!(p = tw_pb_tag(p, end, &tag)))
			return false;
		if (tag == inner[depth]) {
			if (!(p = tw_pb_len(p, end, &n)) || !walk(e, p, p + n, depth + 1))
				return false;
			p += n;
		} else if (!(p = tw_pb_skip(p, end, tag))) {
			return false;
		}
	}
	return true;
}

bool tw_expect_request(struct tw_expect *e, const void *p, size_t n)
{
	bool good = walk(e, p, (const uint8_t *)p + n, 0);

	e->t.requests++;
	e->t.malformed += !good;
	return good;
}

/* ---- the end ---- */

static uint32_t spans_of(const struct tw_expect *e, uint64_t trace)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < e->w.trace_spans; i++) {
		uint64_t number = trace * e->w.trace_spans + i;
		const uint64_t *bits = e->chunk[number / CHUNK_SPANS];

		if (bits != NULL)
			count += bits[number % CHUNK_SPANS / 64] >> number % 64 & 1;
	}
	return count;
}

static bool random_enough(const struct tw_expect *e, uint64_t trace, double share)
{
	uint64_t r = tw_load_trace_id(&e->w, trace).lo & ((UINT64_C(1) << 56) - 1);

	return (double)r >= (1 - share) * 0x1p56;
}

static void judge_one(const struct tw_expect *e, uint64_t n, double rest_share,
                      struct tw_expect_result *r)
{
	uint32_t got = spans_of(e, n), want = e->w.trace_spans;
	bool whole = got == want, due = true;

	switch (tw_load_kind(&e->w, tw_load_hash(&e->w, n))) {
	case TW_LOAD_ERROR:
		r->error_traces++;
		r->error_whole += whole;
		break;
	case TW_LOAD_SLOW:
		r->slow_traces++;
		r->slow_whole += whole;
		break;
	default:
		due = rest_share < 0 ? got > 0 : random_enough(e, n, rest_share);
		r->rest_traces += due;
		r->rest_whole += due && whole;
		r->unexpected += !due && got > 0;
	}
	if (got > 0 && !whole && r->partial++ < SAID_MAX)
		fprintf(stderr, "traceweir-sink: trace %llu came with %u spans of %u\n",
		        (unsigned long long)n, got, want);
	r->missing += due || got > 0 ? want - got : 0;
}

void tw_expect_judge(const struct tw_expect *e, uint64_t first, uint64_t count, double rest_share,
                     struct tw_expect_result *r)
{
	for (uint64_t n = first; n < first + count; n++)
		judge_one(e, n, rest_share, r);
}
