/* One span: the hottest code of the program.
 *
 * `chain` expects the fields in the order of their numbers and in their short forms, as every SDK
 * writes them, and gets by with branches that are always the same. Where the span differs it stops,
 * and `fields` goes on, in any order; if it had already run past the span's end, `fields` starts
 * from the beginning. Attributes that are not a plain string or integer go to the table-driven
 * checker, which accepts the same language.
 *
 * Text is checked for a run of attributes at once: the bytes above 0x7f in it are counted, and must
 * be those of the varints. Only when there are more is the span looked at string by string. */
#include "ascii.h"
#include "shape.h"
#include "tw/base/limits.h"

/* A run of attributes is not longer, so that its bytes above 0x7f fit the counters. */
#define RUN_BYTES_MAX 1800

struct span_state {
	struct scan_slots attrs;
	struct tw_span_rest *rest;         /* of its view */
	const uint8_t *trace_id, *span_id; /* the last ones, if they have the right length */
	const uint8_t *utf8_at;            /* the tag of the first text that is not UTF-8 */
	uint64_t start_ns, end_ns;
	uint32_t attributes, events, links;
	bool parent_bad;
};

void scan_key_value(const struct scan *s, const uint8_t *p, const uint8_t *end,
                    struct scan_slots *a)
{
	struct tw_slice key = {NULL, 0};
	struct tw_value v = {.type = TW_VALUE_NONE};
	uint32_t tag, n;

	while (p < end) {
		p = tw_pb_tag(p, end, &tag);
		TW_ASSERT(p);
		if (tag == TW_PB_TAG(1, TW_PB_LEN)) {
			p = tw_pb_len(p, end, &n);
			TW_ASSERT(p);
			key = tw_slice(p, n);
			p += n;
		} else if (tag == TW_PB_TAG(2, TW_PB_LEN)) {
			p = tw_pb_len(p, end, &n);
			TW_ASSERT(p);
			tw_value_merge(tw_slice(p, n), &v);
			p += n;
		} else {
			p = tw_pb_skip(p, end, tag);
			TW_ASSERT(p);
		}
	}
	scan_take(a, tw_keytab_probe(s->keys, key.p, key.n), v);
}

/* A submessage by its table. */
static bool check(struct span_state *st, enum wire_message_id m, const uint8_t *p, uint32_t n)
{
	struct wire_check c;

	c.utf8_at = st->utf8_at;
	if (!wire_check(&c, m, p, p + n, 0))
		return false;
	st->utf8_at = c.utf8_at;
	return true;
}

/* The first two and four bytes at p as one number. */
static inline uint32_t two(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8;
}

static inline uint32_t two_of(uint32_t first, uint32_t second)
{
	return first | second << 8;
}

static inline uint32_t four_of(uint32_t first, uint32_t second, uint32_t third, uint32_t fourth)
{
	return first | second << 8 | third << 16 | fourth << 24;
}

/* An integer value: v is at the value's tag, which has value_n bytes behind its length. Returns how
 * many bytes of it are above 0x7f, −1: it is no integer. */
static inline int integer(const uint8_t *v, uint32_t value_n, struct tw_value *value)
{
	uint64_t u;

	if (TW_UNLIKELY(v[0] != TW_PB_TAG(2, TW_PB_LEN) || v[1] != value_n ||
	                v[2] != TW_PB_TAG(3, TW_PB_VARINT)))
		return -1;
	if (TW_LIKELY(value_n == 3 && v[3] >= 0x80 && v[4] < 0x80))
		u = (uint64_t)(v[3] & 0x7f) | (uint64_t)v[4] << 7;
	else if (tw_pb_varint(v + 3, v + 2 + value_n, &u) != v + 2 + value_n)
		return -1;
	*value = (struct tw_value){.type = TW_VALUE_INT, .i = (int64_t)u};
	return (int)value_n - 2;
}

/* A key and a string or an integer, of less than 128 bytes; reads nothing but them. false: it is
 * not that, or not UTF-8. */
static bool attribute_plain(const struct scan *s, struct span_state *st, const uint8_t *kv,
                            uint32_t n)
{
	struct tw_value value;
	uint32_t key_n, rest;
	const uint8_t *v;

	if (n < 6 || n > 127 || kv[0] != TW_PB_TAG(1, TW_PB_LEN))
		return false;
	key_n = kv[1];
	if (key_n + 6 > n || !tw_utf8_valid(kv + 2, key_n))
		return false;
	rest = n - key_n;
	v = kv + 2 + key_n;
	if (two(v) == two_of(TW_PB_TAG(2, TW_PB_LEN), rest - 4) &&
	    two(v + 2) == two_of(TW_PB_TAG(1, TW_PB_LEN), rest - 6)) {
		if (!tw_utf8_valid(v + 4, rest - 6))
			return false;
		value = (struct tw_value){.type = TW_VALUE_STRING, .n = rest - 6, .p = v + 4};
	} else if (integer(v, rest - 4, &value) < 0) {
		return false;
	}
	scan_take(&st->attrs, tw_keytab_probe(s->keys, kv + 2, key_n), value);
	return true;
}

__attribute__((noinline)) static bool attribute_slow(const struct scan *s, struct span_state *st,
                                                     const uint8_t *kv, uint32_t n)
{
	if (attribute_plain(s, st, kv, n))
		return true;
	if (!check(st, WIRE_KEY_VALUE, kv, n))
		return false;
	scan_key_value(s, kv, kv + n, &st->attrs);
	return true;
}

static inline void text(const struct scan *s, struct span_state *st, const uint8_t *at,
                        const uint8_t *p, uint32_t n)
{
	if (TW_LIKELY(n <= 64 && p <= s->safe && ascii_short(p, n)))
		return;
	if (!tw_utf8_valid(p, n) && !st->utf8_at)
		st->utf8_at = at;
}

void scan_status(const uint8_t *p, const uint8_t *end, struct scan_status *out)
{
	while (p < end) {
		uint32_t tag;
		uint64_t u;

		p = tw_pb_tag(p, end, &tag);
		TW_ASSERT(p);
		if (tag == TW_PB_TAG(2, TW_PB_LEN)) {
			p = tw_pb_len(p, end, &out->message_n);
			TW_ASSERT(p);
			out->message = p;
			p += out->message_n;
		} else if (tag == TW_PB_TAG(3, TW_PB_VARINT)) {
			p = tw_pb_varint(p, end, &u);
			TW_ASSERT(p);
			out->status = (uint8_t)scan_status_of(u);
		} else {
			p = tw_pb_skip(p, end, tag);
			TW_ASSERT(p);
		}
	}
}

__attribute__((noinline)) static bool status_slow(struct span_state *st, struct tw_span *v,
                                                  const uint8_t *p, uint32_t n)
{
	struct scan_status s = {st->rest->status_message, st->rest->status_message_n, v->status};

	if (!check(st, WIRE_STATUS, p, n))
		return false;
	scan_status(p, p + n, &s);
	st->rest->status_message = s.message;
	st->rest->status_message_n = s.message_n;
	v->status = s.status;
	return true;
}

static inline bool status(struct span_state *st, struct tw_span *v, const uint8_t *p, uint32_t n)
{
	if (n == 0)
		return true;
	if (n == 2 && p[0] == TW_PB_TAG(3, TW_PB_VARINT) && p[1] < 0x80) {
		v->status = (uint8_t)scan_status_of(p[1]);
		return true;
	}
	return status_slow(st, v, p, n);
}

/* All fields from p on; false: malformed. */
__attribute__((noinline)) static bool fields(const struct scan *s, struct span_state *st,
                                             struct tw_span *v, const uint8_t *p,
                                             const uint8_t *end)
{
	while (p < end) {
		const uint8_t *at = p;
		uint32_t tag, n;
		uint64_t u;

		p = tw_pb_tag(p, end, &tag);
		if (TW_UNLIKELY(!p))
			return false;
		switch (tag) {
		case TW_PB_TAG(1, TW_PB_LEN):
			p = tw_pb_len(p, end, &n);
			if (!p)
				return false;
			st->trace_id = n == 16 ? p : NULL;
			p += n;
			break;
		case TW_PB_TAG(2, TW_PB_LEN):
			p = tw_pb_len(p, end, &n);
			if (!p)
				return false;
			st->span_id = n == 8 ? p : NULL;
			p += n;
			break;
		case TW_PB_TAG(3, TW_PB_LEN):
			p = tw_pb_len(p, end, &n);
			if (!p)
				return false;
			text(s, st, at, p, n);
			st->rest->tracestate = p;
			st->rest->tracestate_n = n;
			p += n;
			break;
		case TW_PB_TAG(4, TW_PB_LEN):
			p = tw_pb_len(p, end, &n);
			if (!p)
				return false;
			st->parent_bad = n != 8 && n != 0;
			v->parent_id = n == 8 ? tw_pb_be64(p) : 0;
			p += n;
			break;
		case TW_PB_TAG(5, TW_PB_LEN):
			p = tw_pb_len(p, end, &n);
			if (!p)
				return false;
			text(s, st, at, p, n);
			st->rest->name = p;
			st->rest->name_n = n;
			p += n;
			break;
		case TW_PB_TAG(6, TW_PB_VARINT):
			p = tw_pb_varint(p, end, &u);
			if (!p)
				return false;
			v->kind = (uint32_t)u < TW_KIND_COUNT ? (uint8_t)u : TW_KIND_UNSPECIFIED;
			break;
		case TW_PB_TAG(7, TW_PB_I64):
			if (end - p < 8)
				return false;
			st->start_ns = tw_pb_le64(p);
			p += 8;
			break;
		case TW_PB_TAG(8, TW_PB_I64):
			if (end - p < 8)
				return false;
			st->end_ns = tw_pb_le64(p);
			p += 8;
			break;
		case TW_PB_TAG(9, TW_PB_LEN):
			p = tw_pb_len(p, end, &n);
			if (!p || !attribute_slow(s, st, p, n))
				return false;
			st->attributes++;
			p += n;
			break;
		case TW_PB_TAG(11, TW_PB_LEN):
			p = tw_pb_len(p, end, &n);
			if (!p || !check(st, WIRE_EVENT, p, n))
				return false;
			st->events++;
			p += n;
			break;
		case TW_PB_TAG(13, TW_PB_LEN):
			p = tw_pb_len(p, end, &n);
			if (!p || !check(st, WIRE_LINK, p, n))
				return false;
			st->links++;
			p += n;
			break;
		case TW_PB_TAG(15, TW_PB_LEN):
			p = tw_pb_len(p, end, &n);
			if (!p || !status(st, v, p, n))
				return false;
			p += n;
			break;
		case TW_PB_TAG(16, TW_PB_I32):
			if (end - p < 4)
				return false;
			st->rest->w3c_flags = tw_pb_le32(p);
			p += 4;
			break;
		case TW_PB_TAG(10, TW_PB_VARINT):
		case TW_PB_TAG(12, TW_PB_VARINT):
		case TW_PB_TAG(14, TW_PB_VARINT):
			p = tw_pb_varint(p, end, &u);
			if (!p)
				return false;
			break;
		default: /* unknown; or known, and of another wire type */
			if (tag >> 3 <= 16)
				return false;
			p = tw_pb_skip(p, end, tag);
			if (!p)
				return false;
		}
	}
	return true;
}

/* Attributes in a row, each a key and a string or an integer, of less than 128 bytes. Returns the
 * position behind them; *dirty: there is text that is not ASCII. */
static inline const uint8_t *run(const struct tw_keytab *keys, struct span_state *st,
                                 const uint8_t *p, const uint8_t *end, bool *dirty)
{
	const uint8_t *begin = p, *stop = end - p > RUN_BYTES_MAX ? p + RUN_BYTES_MAX : end;
	uint64_t lengths = keys->lengths;
	uint32_t expected = 0, count = 0;

	while (p < stop) {
		uint32_t head = tw_pb_le32(p), n = head >> 8 & 0xff, key_n = head >> 24;
		uint32_t rest = n - key_n; /* but for the key */
		const uint8_t *v = p + 4 + key_n;
		struct tw_value value;

		/* Attribute, its length, key, its length: the lengths below 128. */
		if (TW_UNLIKELY((head & four_of(0xff, 0x80, 0xff, 0x80)) !=
		                four_of(TW_PB_TAG(9, TW_PB_LEN), 0, TW_PB_TAG(1, TW_PB_LEN), 0)))
			break;
		if (TW_UNLIKELY(rest - 6 > 127 - 6)) /* also when it is negative */
			break;
		/* Value, its length (rest − 4), string, its length (rest − 6); in one
		 * multiplication. */
		if (TW_LIKELY(tw_pb_le32(v) ==
		              rest * four_of(0, 1, 0, 1) +
		                  (four_of(TW_PB_TAG(2, TW_PB_LEN), 0, TW_PB_TAG(1, TW_PB_LEN), 0) -
		                   four_of(0, 4, 0, 6)))) {
			value.type = TW_VALUE_STRING;
			value.n = rest - 6;
			value.p = v + 4;
		} else {
			int high = integer(v, rest - 4, &value);

			if (TW_UNLIKELY(high < 0))
				break;
			expected += (uint32_t)high;
		}
		if (TW_UNLIKELY(lengths >> (key_n & 63) & 1))
			scan_take(&st->attrs, tw_keytab_probe(keys, p + 4, key_n), value);
		count++;
		p += 2 + n;
	}
	st->attributes += count;
	/* p is past the end where the last one was longer than the span: the caller starts over. */
	*dirty |= ascii_count_high(begin, p) != expected;
	return p;
}

/* The usual fields in the usual order. Returns how far it came; NULL: start over. SCAN_SLACK_BYTES
 * behind end are readable, and nothing here goes further before it looks at end. */
static inline const uint8_t *chain(const struct scan *s, struct span_state *st, struct tw_span *v,
                                   const uint8_t *p, const uint8_t *end)
{
	bool dirty = false;
	const uint8_t *q;
	uint32_t n;

	if (TW_UNLIKELY(two(p) != two_of(TW_PB_TAG(1, TW_PB_LEN), 16) ||
	                two(p + 18) != two_of(TW_PB_TAG(2, TW_PB_LEN), 8)))
		return NULL;
	st->trace_id = p + 2;
	st->span_id = p + 20;
	p += 28;
	if (p[0] == TW_PB_TAG(3, TW_PB_LEN)) {
		n = p[1];
		if (n > 64 || n > end - p)
			return NULL;
		dirty |= !ascii_short(p + 2, n);
		st->rest->tracestate = p + 2;
		st->rest->tracestate_n = n;
		p += 2 + n;
	}
	if (two(p) == two_of(TW_PB_TAG(4, TW_PB_LEN), 8)) {
		v->parent_id = tw_pb_be64(p + 2);
		p += 10;
	}
	n = p[1];
	if (TW_UNLIKELY(p[0] != TW_PB_TAG(5, TW_PB_LEN) || n > 64 || n > end - p))
		return NULL;
	dirty |= !ascii_short(p + 2, n);
	st->rest->name = p + 2;
	st->rest->name_n = n;
	p += 2 + n;
	if (p[0] == TW_PB_TAG(6, TW_PB_VARINT) && p[1] < 0x80) {
		v->kind = p[1] < TW_KIND_COUNT ? p[1] : TW_KIND_UNSPECIFIED;
		p += 2;
	}
	if (TW_UNLIKELY(p[0] != TW_PB_TAG(7, TW_PB_I64) || p[9] != TW_PB_TAG(8, TW_PB_I64) ||
	                end - p < 18))
		return NULL;
	st->start_ns = tw_pb_le64(p + 1);
	st->end_ns = tw_pb_le64(p + 10);
	p += 18;
	while (end - p >= 2 && p[0] == TW_PB_TAG(9, TW_PB_LEN)) {
		q = run(s->keys, st, p, end, &dirty);
		if (TW_LIKELY(q != p)) {
			p = q;
			continue;
		}
		q = tw_pb_len(p + 1, end, &n);
		if (!q || !attribute_slow(s, st, q, n))
			return NULL;
		st->attributes++;
		p = q + n;
	}
	n = p[1];
	if (TW_LIKELY(p[0] == TW_PB_TAG(15, TW_PB_LEN) && n < 0x80 && n <= end - p)) {
		if (!status(st, v, p + 2, n))
			return NULL;
		p += 2 + n;
	}
	if (TW_LIKELY(two(p) == (0x85 | 0x01 << 8) && end - p >= 6)) {
		st->rest->w3c_flags = tw_pb_le32(p + 2);
		p += 6;
	}
	return TW_UNLIKELY(dirty || p > end) ? NULL : p;
}

/* Does a well-formed span keep the rules? Counts it as rejected if not. */
static inline bool admit(struct scan *s, const struct span_state *st, const struct tw_span *v,
                         const uint8_t *at)
{
	if (TW_UNLIKELY(v->bytes_n > TW_SPAN_BYTES_MAX)) {
		scan_reject(s, TW_REJECT_SIZE, 1, at, 3, "larger than 1 MiB");
	} else if (TW_UNLIKELY(st->utf8_at != NULL)) {
		scan_reject(s, TW_REJECT_UTF8, 1, st->utf8_at, UINT32_MAX, "not UTF-8");
	} else if (TW_UNLIKELY(st->attributes > TW_SPAN_CHILDREN_MAX ||
	                       st->events > TW_SPAN_CHILDREN_MAX ||
	                       st->links > TW_SPAN_CHILDREN_MAX)) {
		scan_reject(s, TW_REJECT_CHILDREN, 1, at, 3,
		            "more than 1024 attributes, events or links");
	} else if (TW_UNLIKELY(!st->trace_id || (v->trace_id.hi | v->trace_id.lo) == 0)) {
		scan_reject(s, TW_REJECT_TRACE_ID, 1, at, 3,
		            "trace_id is zero or has not 16 bytes");
	} else if (TW_UNLIKELY(!st->span_id || v->span_id == 0)) {
		scan_reject(s, TW_REJECT_SPAN_ID, 1, at, 3, "span_id is zero or has not 8 bytes");
	} else if (TW_UNLIKELY(st->parent_bad)) {
		scan_reject(s, TW_REJECT_SPAN_ID, 1, at, 3,
		            "parent_span_id has neither 8 bytes nor none");
	} else {
		return true;
	}
	return false;
}

/* Nothing is known yet; what a span may lack is none. */
static inline void begin(struct span_state *st, struct tw_span *v)
{
	*st->rest = (struct tw_span_rest){.name = NULL};
	v->parent_id = 0;
	v->kind = TW_KIND_UNSPECIFIED;
	v->status = TW_STATUS_UNSET;
	st->attrs.set = 0;
	st->trace_id = st->span_id = st->utf8_at = NULL;
	st->start_ns = st->end_ns = 0;
	st->attributes = st->events = st->links = 0;
	st->parent_bad = false;
}

int scan_span(struct scan *s, const uint8_t *at, const uint8_t *p, const uint8_t *end,
              uint32_t scope)
{
	struct tw_request *r = s->r;
	const uint8_t *q = NULL;
	struct missed missed;
	struct span_state st;
	struct tw_span *v;
	bool usual;

	if (TW_UNLIKELY(r->span_count == r->span_cap) && !tw_request_room(r, 1, 0, 0))
		return TW_ENOMEM;
	if (TW_UNLIKELY(r->value_cap - r->value_count < s->key_count) &&
	    !tw_request_room_values(r, s->key_count))
		return TW_ENOMEM;
	if (TW_UNLIKELY(r->rest_count == r->rest_cap) && !tw_request_room_rests(r, 1))
		return TW_ENOMEM;
	/* Bodies are mostly out of the first caches by now: ask for what comes in three spans or
	 * so. */
	for (const uint8_t *line = p; line < end; line += 64)
		__builtin_prefetch(line + 1024);
	v = &r->spans[r->span_count];
	v->bytes = p;
	v->bytes_n = (uint32_t)(end - p);
	v->scope = scope;
	missed.learn = false;
	if (s->templates && TW_LIKELY(end <= s->slack && end - p >= 28) &&
	    s->templates->known(s, v, p, end, &missed))
		return 0;
	v->operation = 0;
	v->rest = st.rest = r->rests + r->rest_count;
	st.attrs.slot = r->values + r->value_count;
	begin(&st, v);

	if (TW_LIKELY(end <= s->slack && end - p >= 28))
		q = chain(s, &st, v, p, end);
	usual = q == end && !st.utf8_at; /* then both ids are there */
	if (TW_UNLIKELY(!q)) {
		begin(&st, v);
		q = p;
	}
	if (TW_UNLIKELY(q != end) && !fields(s, &st, v, q, end))
		return TW_EINVAL;
	if (TW_LIKELY(st.trace_id != NULL)) {
		v->trace_id.hi = tw_pb_be64(st.trace_id);
		v->trace_id.lo = tw_pb_be64(st.trace_id + 8);
	}
	if (TW_LIKELY(st.span_id != NULL))
		v->span_id = tw_pb_be64(st.span_id);
	/* A span so short can't have too many children, nor be too large. */
	if (TW_UNLIKELY(!(usual && v->bytes_n < 2 * TW_SPAN_CHILDREN_MAX &&
	                  (v->trace_id.hi | v->trace_id.lo) && v->span_id) &&
	                !admit(s, &st, v, at)))
		return 0;
	v->start_ns = st.start_ns;
	v->duration_ns = st.end_ns > st.start_ns ? st.end_ns - st.start_ns : 0;
	v->hash = tw_hash_u64x2(s->key, v->trace_id.hi, v->trace_id.lo);
	v->flags = (uint8_t)((v->parent_id ? 0 : TW_SPAN_ROOT) |
	                     (st.rest->w3c_flags & 2 ? TW_SPAN_RANDOM : 0) |
	                     (st.rest->tracestate_n ? TW_SPAN_TRACESTATE : 0));
	st.rest->slots_set = st.attrs.set;
	if (st.attrs.set) {
		st.rest->slots = st.attrs.slot;
		r->value_count += 64u - (uint32_t)__builtin_clzll(st.attrs.set);
	}
	r->rest_count++;
	r->span_count++;
	r->span_bytes += v->bytes_n;
	r->plain_count++;
	if (missed.learn && usual)
		shape_learn(s->templates, s->keys, missed.shape, &missed.x, end);
	return 0;
}
