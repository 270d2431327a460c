/* The spine of a request: resources, scopes, and the cold ends of the scan.
 *
 * Neither a resource nor a scope is needed to scan a span, so their fields are only located on the
 * way, and read when their group ends: one pass over the spans in any field order. Groups that hold
 * no admitted span leave nothing. */
#include <stdio.h>
#include <string.h>

#include "shape.h"
#include "tw/base/limits.h"

/* The fields of a group other than its children. */
struct head {
	const uint8_t *begin, *end; /* of the first run of such fields */
	size_t n;                   /* of all of them */
	const uint8_t *utf8_at;
};

static struct tw_error *join(struct tw_error *err, int code, uint64_t offset, const char *path,
                             const char *text)
{
	tw_error_set(err, code, offset, "%s%s%s at offset %llu", path, *path ? ": " : "", text,
	             (unsigned long long)offset);
	return err;
}

/* Says what is wrong with a body that did not scan. */
__attribute__((cold)) static int explain(const struct scan *s, struct tw_error *err)
{
	struct wire_check c = {0};
	char path[112];

	if (wire_check(&c, s->root, s->body, s->body_end, 0))
		return tw_error_set(err, TW_EINVAL, 0, "not an OTLP trace request");
	wire_path(s->root, s->body, s->body_end, c.bad_at, UINT32_MAX, path, sizeof(path));
	join(err, TW_EINVAL, (uint64_t)(c.bad_at - s->body), path, c.why);
	return TW_EINVAL;
}

__attribute__((cold)) static int failed(const struct scan *s, int code, struct tw_error *err)
{
	switch (code) {
	case TW_EINVAL:
		return explain(s, err);
	case TW_ENOMEM:
		return tw_error_set(err, code, 0, "no memory for the request's spans");
	default:
		if (s->spans_seen > s->spans_max)
			return tw_error_set(err, code, 0, "more than %u spans in one request",
			                    s->spans_max);
		return tw_error_set(err, code, 0,
		                    "more than %u resource and scope groups in one request",
		                    TW_REQUEST_GROUPS_MAX);
	}
}

__attribute__((cold)) void scan_reject(struct scan *s, enum tw_reject why, uint32_t spans,
                                       const uint8_t *at, unsigned levels, const char *text)
{
	struct tw_request *r = s->r;
	char path[96];

	r->rejected[why] += spans;
	if (r->reject_text[0])
		return;
	wire_path(s->root, s->body, s->body_end, at, levels, path, sizeof(path));
	snprintf(r->reject_text, sizeof(r->reject_text), "%s%s%s at offset %llu", path,
	         *path ? ": " : "", text, (unsigned long long)(at - s->body));
}

/* Takes the field [at, p) of message m into the head. */
static bool head_add(struct head *h, enum wire_message_id m, const uint8_t *at, const uint8_t *p)
{
	struct wire_check c;

	c.utf8_at = h->utf8_at;
	if (!wire_check(&c, m, at, p, 0))
		return false;
	h->utf8_at = c.utf8_at;
	if (!h->n)
		h->begin = at;
	if (!h->n || h->end == at)
		h->end = p;
	h->n += (size_t)(p - at);
	return true;
}

/* The head of the group [p, end), whose children have the tag `child`: borrowed if it lies in one
 * piece. */
static int head_slice(struct scan *s, const struct head *h, uint32_t child, const uint8_t *p,
                      const uint8_t *end, struct tw_slice *out)
{
	uint8_t *to;

	*out = tw_slice(h->begin, h->n);
	if (!h->n || h->n == (size_t)(h->end - h->begin))
		return 0;
	to = tw_arena_alloc(&s->r->arena, h->n);
	if (!to)
		return TW_ENOMEM;
	*out = tw_slice(to, h->n);
	while (p < end) {
		const uint8_t *at = p;
		uint32_t tag;

		p = tw_pb_tag(p, end, &tag);
		TW_ASSERT(p);
		p = tw_pb_skip(p, end, tag);
		TW_ASSERT(p);
		if (tag == child)
			continue;
		memcpy(to, at, (size_t)(p - at));
		to += p - at;
	}
	return 0;
}

/* The payloads of field `tag` of a well-formed message, one after the other. */
static bool next_payload(struct tw_slice *rest, uint32_t tag, struct tw_slice *out)
{
	const uint8_t *p = rest->p, *end = rest->n ? p + rest->n : p;
	uint32_t t, n;

	while (p < end) {
		p = tw_pb_tag(p, end, &t);
		TW_ASSERT(p);
		if (t == tag) {
			p = tw_pb_len(p, end, &n);
			TW_ASSERT(p);
			*out = tw_slice(p, n);
			*rest = tw_slice(p + n, (size_t)(end - p) - n);
			return true;
		}
		p = tw_pb_skip(p, end, t);
		TW_ASSERT(p);
	}
	return false;
}

/* Adds the resource that owns scopes[first_scope …]. */
static int add_resource(struct scan *s, struct tw_slice head, uint32_t first_scope)
{
	struct tw_request *r = s->r;
	struct tw_slice rest = head, resource, kv;
	struct scan_slots a = {NULL, 0};
	struct tw_hash_key chained = s->key;
	struct tw_resource *res;

	if (!tw_request_room(r, 0, 1, 0) || !tw_request_room_values(r, s->key_count))
		return TW_ENOMEM;
	a.slot = r->values + r->value_count;
	while (next_payload(&rest, TW_PB_TAG(1, TW_PB_LEN), &resource))
		while (next_payload(&resource, TW_PB_TAG(1, TW_PB_LEN), &kv))
			scan_key_value(s, kv.p, kv.p + kv.n, &a);
	res = &r->resources[r->resource_count++];
	memset(res, 0, sizeof(*res));
	res->head = head;
	res->hash = tw_hash_bytes(s->key, head.p, head.n);
	res->slots_set = a.set;
	if (a.set) {
		res->slots = a.slot;
		r->value_count += 64u - (uint32_t)__builtin_clzll(a.set);
	}
	chained.k0 ^= res->hash;
	for (uint32_t i = first_scope; i < r->scope_count; i++)
		r->scopes[i].hash =
		    tw_hash_bytes(chained, r->scopes[i].head.p, r->scopes[i].head.n);
	return 0;
}

/* Adds a scope; its hash is made when its resource is known. */
static int add_scope(struct scan *s, struct tw_slice head, uint32_t resource)
{
	struct tw_request *r = s->r;
	struct tw_slice rest = head, scope;
	struct tw_scope *sc;

	if (!tw_request_room(r, 0, 0, 1))
		return TW_ENOMEM;
	sc = &r->scopes[r->scope_count++];
	memset(sc, 0, sizeof(*sc));
	sc->head = head;
	sc->resource = resource;
	while (next_payload(&rest, TW_PB_TAG(1, TW_PB_LEN), &scope)) {
		struct tw_slice walk = scope;

		while (next_payload(&walk, TW_PB_TAG(1, TW_PB_LEN), &sc->name))
			;
		walk = scope;
		while (next_payload(&walk, TW_PB_TAG(2, TW_PB_LEN), &sc->version))
			;
	}
	return 0;
}

/* The spans from `first` on are none. */
static void drop_spans(struct tw_request *r, uint32_t first)
{
	for (uint32_t i = first; i < r->span_count; i++)
		r->span_bytes -= r->spans[i].bytes_n;
	r->span_count = first;
}

static int scan_scope_spans(struct scan *s, const uint8_t *p, const uint8_t *end, uint32_t resource)
{
	struct tw_request *r = s->r;
	const uint8_t *begin = p;
	uint32_t first = r->span_count, tag, n;
	struct head h = {0};
	struct tw_slice head;
	int e;

	for (;;) {
		const uint8_t *at;

		if (s->templates) {
			p = s->templates->run(s, p, end, r->scope_count, &e);
			if (TW_UNLIKELY(!p))
				return e;
		}
		if (p >= end)
			break;
		at = p;
		p = tw_pb_tag(p, end, &tag);
		if (TW_UNLIKELY(!p))
			return TW_EINVAL;
		if (TW_LIKELY(tag == TW_PB_TAG(2, TW_PB_LEN))) {
			p = tw_pb_len(p, end, &n);
			if (TW_UNLIKELY(!p))
				return TW_EINVAL;
			if (TW_UNLIKELY(++s->spans_seen > s->spans_max))
				return TW_ELIMIT;
			e = scan_span(s, at, p, p + n, r->scope_count);
			if (TW_UNLIKELY(e))
				return e;
			p += n;
		} else {
			p = tw_pb_skip(p, end, tag);
			if (!p || !head_add(&h, WIRE_SCOPE_SPANS, at, p))
				return TW_EINVAL;
		}
	}
	if (h.utf8_at && r->span_count > first) {
		scan_reject(s, TW_REJECT_UTF8, r->span_count - first, h.utf8_at, UINT32_MAX,
		            "not UTF-8");
		drop_spans(r, first);
	}
	if (r->span_count == first)
		return 0;
	e = head_slice(s, &h, TW_PB_TAG(2, TW_PB_LEN), begin, end, &head);
	return e ? e : add_scope(s, head, resource);
}

static int scan_resource_spans(struct scan *s, const uint8_t *p, const uint8_t *end)
{
	struct tw_request *r = s->r;
	const uint8_t *begin = p;
	uint32_t first_span = r->span_count, first_scope = r->scope_count, tag, n;
	struct head h = {0};
	struct tw_slice head;
	int e;

	while (p < end) {
		const uint8_t *at = p;

		p = tw_pb_tag(p, end, &tag);
		if (TW_UNLIKELY(!p))
			return TW_EINVAL;
		if (tag == TW_PB_TAG(2, TW_PB_LEN)) {
			p = tw_pb_len(p, end, &n);
			if (!p)
				return TW_EINVAL;
			if (++s->groups_seen > TW_REQUEST_GROUPS_MAX)
				return TW_ELIMIT;
			e = scan_scope_spans(s, p, p + n, r->resource_count);
			if (e)
				return e;
			p += n;
		} else {
			p = tw_pb_skip(p, end, tag);
			if (!p || !head_add(&h, WIRE_RESOURCE_SPANS, at, p))
				return TW_EINVAL;
		}
	}
	if (h.utf8_at && r->span_count > first_span) {
		scan_reject(s, TW_REJECT_UTF8, r->span_count - first_span, h.utf8_at, UINT32_MAX,
		            "not UTF-8");
		drop_spans(r, first_span);
		r->scope_count = first_scope;
	}
	if (r->span_count == first_span)
		return 0;
	e = head_slice(s, &h, TW_PB_TAG(2, TW_PB_LEN), begin, end, &head);
	return e ? e : add_resource(s, head, first_scope);
}

static int scan_request(struct scan *s)
{
	const uint8_t *p = s->body, *end = s->body_end;

	while (p < end) {
		uint32_t tag, n;
		int e;

		p = tw_pb_tag(p, end, &tag);
		if (TW_UNLIKELY(!p))
			return TW_EINVAL;
		if (tag == TW_PB_TAG(1, TW_PB_LEN)) {
			p = tw_pb_len(p, end, &n);
			if (!p)
				return TW_EINVAL;
			if (++s->groups_seen > TW_REQUEST_GROUPS_MAX)
				return TW_ELIMIT;
			e = scan_resource_spans(s, p, p + n);
			if (e)
				return e;
			p += n;
		} else {
			p = tag >> 3 == 1 ? NULL : tw_pb_skip(p, end, tag);
			if (!p)
				return TW_EINVAL;
		}
	}
	return 0;
}

static void begin_body(struct scan *s, enum wire_message_id root, struct tw_slice body)
{
	static const uint8_t nothing[1];

	s->root = root;
	s->body = body.n ? body.p : nothing;
	s->body_end = s->body + body.n;
	s->safe = body.n >= 64 ? s->body_end - 64 : NULL;
	s->slack = NULL;
	if (body.n + s->behind >= SCAN_SLACK_BYTES)
		s->slack =
		    s->body_end - (s->behind < SCAN_SLACK_BYTES ? SCAN_SLACK_BYTES - s->behind : 0);
}

static struct scan scan_of(const struct tw_scan_opts *o, struct tw_request *out)
{
	return (struct scan){
	    .keys = o->keys,
	    .key_count = tw_keytab_count(o->keys),
	    .r = out,
	    .templates = o->templates,
	    .behind = o->behind,
	    .key = o->key,
	    .spans_max = o->spans_max,
	};
}

int tw_otlp_scan(const struct tw_scan_opts *o, struct tw_slice body, struct tw_request *out,
                 struct tw_error *err)
{
	struct scan s = scan_of(o, out);
	int e;

	if (body.n > UINT32_MAX)
		return tw_error_set(err, TW_ELIMIT, 0, "a request of more than 4 GiB");
	begin_body(&s, WIRE_REQUEST, body);
	if (s.templates)
		s.templates->stamp++;
	e = scan_request(&s);
	return TW_LIKELY(!e) ? 0 : failed(&s, e, err);
}

/* A head on its own; UTF-8 was looked at when it came. */
static int one_head(struct scan *s, enum wire_message_id m, struct tw_slice head)
{
	struct wire_check c = {0};

	s->behind = 0;
	begin_body(s, m, head);
	return wire_check(&c, m, s->body, s->body_end, 0) ? 0 : TW_EINVAL;
}

int tw_otlp_scan_one(const struct tw_scan_opts *o, struct tw_slice resource_head,
                     struct tw_slice scope_head, struct tw_slice span, struct tw_request *out,
                     struct tw_error *err)
{
	struct scan s = scan_of(o, out);
	int e;

	e = one_head(&s, WIRE_RESOURCE_SPANS, resource_head);
	if (!e)
		e = one_head(&s, WIRE_SCOPE_SPANS, scope_head);
	if (!e) {
		begin_body(&s, WIRE_SPAN, span);
		e = scan_span(&s, s.body, s.body, s.body_end, out->scope_count);
	}
	if (!e && out->span_count) {
		e = add_scope(&s, scope_head, out->resource_count);
		if (!e)
			e = add_resource(&s, resource_head, out->scope_count - 1);
	}
	return TW_LIKELY(!e) ? 0 : failed(&s, e, err);
}
