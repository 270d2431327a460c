/* The spine of a request: resources, scopes, and the cold ends of the scan.
 *
 * Neither a resource nor a scope is needed to scan a span, so their fields are only located on the
 * way, and read when their group ends: one pass over the spans in any field order. Groups that hold
 * no admitted span leave nothing. Where the walk is, is in a struct, so that it can stop between
 * any two fields and go on later. */
#include <stdio.h>
#include <string.h>

#include "shape.h"
#include "tw/base/limits.h"
#include "tw/base/mem.h"

#define HEAD_RUNS 3u /* SDKs make two: what is before the children, what is behind them */

/* The fields of a group other than its children. */
struct head {
	struct tw_slice run[HEAD_RUNS]; /* the first of them; each in one piece */
	uint32_t runs;                  /* more than HEAD_RUNS: to be collected by a second walk */
	size_t n;                       /* bytes of all of them */
	const uint8_t *utf8_at;
};

/* A resource or scope that is open. */
struct group {
	const uint8_t *begin, *end;
	struct head head;
	uint32_t first_span, first_scope; /* of the request's: its own begin here */
};

enum place { IN_REQUEST, IN_RESOURCE, IN_SCOPE, AT_END };

/* A scan between two fields. */
struct tw_scan {
	struct scan s;
	const uint8_t *p; /* the next field of what is open */
	enum place place;
	struct group resource, scope;
	uint32_t generation; /* of the templates */
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
	size_t n = (size_t)(p - at);

	c.utf8_at = h->utf8_at;
	if (!wire_check(&c, m, at, p, 0))
		return false;
	h->utf8_at = c.utf8_at;
	h->n += n;
	if (h->runs > HEAD_RUNS)
		return true;
	if (h->runs > 0 && h->run[h->runs - 1].p + h->run[h->runs - 1].n == at)
		h->run[h->runs - 1].n += n;
	else if (h->runs++ < HEAD_RUNS)
		h->run[h->runs - 1] = tw_slice(at, n);
	return true;
}

/* All fields of the group but those with the tag `child`. */
static void head_collect(const struct group *g, uint32_t child, uint8_t *to)
{
	const uint8_t *p = g->begin;

	while (p < g->end) {
		const uint8_t *at = p;
		uint32_t tag;

		p = tw_pb_tag(p, g->end, &tag);
		TW_ASSERT(p);
		p = tw_pb_skip(p, g->end, tag);
		TW_ASSERT(p);
		if (tag == child)
			continue;
		memcpy(to, at, (size_t)(p - at));
		to += p - at;
	}
}

/* The head of a group whose children have the tag `child`: borrowed if it lies in one piece. */
static int head_slice(struct scan *s, const struct group *g, uint32_t child, struct tw_slice *out)
{
	const struct head *h = &g->head;
	uint8_t *to;

	*out = h->run[0];
	if (h->runs <= 1)
		return 0;
	to = tw_arena_alloc(&s->r->arena, h->n);
	if (!to)
		return TW_ENOMEM;
	*out = tw_slice(to, h->n);
	if (h->runs > HEAD_RUNS) {
		head_collect(g, child, to);
		return 0;
	}
	for (uint32_t i = 0; i < h->runs; i++) {
		memcpy(to, h->run[i].p, h->run[i].n);
		to += h->run[i].n;
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

static uint64_t scope_hash(struct tw_hash_key key, uint64_t resource_hash, struct tw_slice head)
{
	key.k0 ^= resource_hash;
	return tw_hash_bytes(key, head.p, head.n);
}

/* Spans from `first` on were scanned before their scope's hash was known, and it was not what it
 * was taken for. */
static void move_operations(struct scan *s, uint32_t first)
{
	struct tw_request *r = s->r;

	for (uint32_t i = first; i < r->span_count; i++) {
		struct tw_span *v = &r->spans[i];
		uint64_t hash = r->scopes[v->scope].hash;
		struct tw_operation *op;

		if (v->operation == 0 || r->operations[v->operation - 1].scope == hash)
			continue;
		op = tw_operations_add(r->table, r->operations[v->operation - 1].template, hash);
		v->operation = op ? tw_operations_use(r->table, r, op) : 0;
		r->plain_count += !op;
	}
}

/* The next time it is taken for that. */
static void remember_hash(struct tw_templates *t, const struct tw_scope *sc, uint64_t hash)
{
	if (t)
		t->scopes[sc->begun % SCOPES_SEEN] = (struct scope_seen){sc->begun, hash};
}

/* Of the open resource, once more for each of its scopes and at its end. */
static uint64_t resource_hash(struct scan *s, struct tw_slice head)
{
	if (head.p != s->resource_head.p || head.n != s->resource_head.n || !head.p) {
		s->resource_head = head;
		s->resource_hash = tw_hash_bytes(s->key, head.p, head.n);
	}
	return s->resource_hash;
}

/* Adds the resource that owns scopes[first_scope …] and spans[first_span …]. */
static int add_resource(struct scan *s, struct tw_slice head, uint32_t first_scope,
                        uint32_t first_span)
{
	struct tw_request *r = s->r;
	struct tw_slice rest = head, resource, kv;
	struct scan_slots a = {NULL, 0};
	struct tw_resource *res;
	bool other = false;

	if (!tw_request_room(r, 0, 1, 0) || !tw_request_room_values(r, s->key_count))
		return TW_ENOMEM;
	a.slot = r->values + r->value_count;
	while (next_payload(&rest, TW_PB_TAG(1, TW_PB_LEN), &resource))
		while (next_payload(&resource, TW_PB_TAG(1, TW_PB_LEN), &kv))
			scan_key_value(s, kv.p, kv.p + kv.n, &a);
	res = &r->resources[r->resource_count++];
	memset(res, 0, sizeof(*res));
	res->head = head;
	res->hash = resource_hash(s, head);
	res->slots_set = a.set;
	if (a.set) {
		res->slots = a.slot;
		r->value_count += 64u - (uint32_t)__builtin_clzll(a.set);
	}
	for (uint32_t i = first_scope; i < r->scope_count; i++) {
		struct tw_scope *sc = &r->scopes[i];
		uint64_t hash = scope_hash(s->key, res->hash, sc->head);

		if (TW_UNLIKELY(sc->begun && sc->hash != hash)) {
			remember_hash(s->templates, sc, hash);
			other = true;
		}
		sc->hash = hash;
		if (sc->head.n + head.n > r->heads_max)
			r->heads_max = sc->head.n + head.n;
	}
	if (TW_UNLIKELY(other))
		move_operations(s, first_span);
	return 0;
}

/* Adds a scope; its hash is certain when its resource is known. */
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
	sc->begun = s->scope_begun;
	sc->hash = s->scope_hash;
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

/* ---- the walk ----
 *
 * Each goes on with the fields of what is open, until a child begins, it ends, or `until` is
 * reached: TW_SCAN_MORE. What a field's length says is measured by its parent, never by `until`. */

static void open_group(struct group *g, const struct tw_request *r, const uint8_t *p, uint32_t n)
{
	*g = (struct group){
	    .begin = p, .end = p + n, .first_span = r->span_count, .first_scope = r->scope_count};
}

/* Of a group that has ended: not where its head is not UTF-8. */
static bool has_spans(struct scan *s, const struct group *g)
{
	struct tw_request *r = s->r;

	if (g->head.utf8_at && r->span_count > g->first_span) {
		scan_reject(s, TW_REJECT_UTF8, r->span_count - g->first_span, g->head.utf8_at,
		            UINT32_MAX, "not UTF-8");
		drop_spans(r, g->first_span);
	}
	return r->span_count > g->first_span;
}

/* Before the scope's first span: nearly always all of its head and of its resource's has come;
 * where something follows behind the spans, it is the same each time that they begin so. */
static void begin_spans(struct tw_scan *w)
{
	struct scan *s = &w->s;
	const struct scope_seen *seen;

	s->scope_begun =
	    scope_hash(s->key, resource_hash(s, w->resource.head.run[0]), w->scope.head.run[0]);
	s->scope_begun += s->scope_begun == 0;
	seen = &s->templates->scopes[s->scope_begun % SCOPES_SEEN];
	s->scope_hash = seen->begun == s->scope_begun ? seen->hash : s->scope_begun;
}

static int end_scope(struct tw_scan *w)
{
	struct scan *s = &w->s;
	struct tw_request *r = s->r;
	const struct group *g = &w->scope;
	struct tw_slice head;
	int e;

	w->place = IN_RESOURCE;
	if (!has_spans(s, g))
		return 0;
	e = head_slice(s, g, TW_PB_TAG(2, TW_PB_LEN), &head);
	return e ? e : add_scope(s, head, r->resource_count);
}

static int in_scope(struct tw_scan *w, const uint8_t *until)
{
	struct scan *s = &w->s;
	struct tw_request *r = s->r;
	const uint8_t *p = w->p, *end = w->scope.end, *stop = end < until ? end : until;
	uint32_t tag, n;
	int e;

	for (;;) {
		const uint8_t *at;

		if (s->templates) {
			if (TW_UNLIKELY(s->scope_begun == 0) && p < stop &&
			    *p == TW_PB_TAG(2, TW_PB_LEN))
				begin_spans(w);
			p = s->templates->run(s, p, stop, r->scope_count, &e);
			if (TW_UNLIKELY(!p))
				return e;
		}
		if (p >= stop)
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
			if (!p || !head_add(&w->scope.head, WIRE_SCOPE_SPANS, at, p))
				return TW_EINVAL;
		}
	}
	w->p = p;
	return p < end ? TW_SCAN_MORE : end_scope(w);
}

static int end_resource(struct tw_scan *w)
{
	struct scan *s = &w->s;
	struct tw_request *r = s->r;
	const struct group *g = &w->resource;
	struct tw_slice head;
	int e;

	w->place = IN_REQUEST;
	if (!has_spans(s, g)) {
		r->scope_count = g->first_scope;
		return 0;
	}
	e = head_slice(s, g, TW_PB_TAG(2, TW_PB_LEN), &head);
	return e ? e : add_resource(s, head, g->first_scope, g->first_span);
}

static int in_resource(struct tw_scan *w, const uint8_t *until)
{
	struct scan *s = &w->s;
	const uint8_t *p = w->p, *end = w->resource.end, *stop = end < until ? end : until;
	uint32_t tag, n;

	while (p < stop) {
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
			open_group(&w->scope, s->r, p, n);
			s->scope_begun = s->scope_hash = 0;
			w->place = IN_SCOPE;
			w->p = p;
			return 0;
		}
		p = tw_pb_skip(p, end, tag);
		if (!p || !head_add(&w->resource.head, WIRE_RESOURCE_SPANS, at, p))
			return TW_EINVAL;
	}
	w->p = p;
	return p < end ? TW_SCAN_MORE : end_resource(w);
}

static int in_request(struct tw_scan *w, const uint8_t *until)
{
	struct scan *s = &w->s;
	const uint8_t *p = w->p, *end = s->body_end;
	uint32_t tag, n;

	while (p < until) {
		p = tw_pb_tag(p, end, &tag);
		if (TW_UNLIKELY(!p))
			return TW_EINVAL;
		if (tag == TW_PB_TAG(1, TW_PB_LEN)) {
			p = tw_pb_len(p, end, &n);
			if (!p)
				return TW_EINVAL;
			if (++s->groups_seen > TW_REQUEST_GROUPS_MAX)
				return TW_ELIMIT;
			open_group(&w->resource, s->r, p, n);
			w->place = IN_RESOURCE;
			w->p = p;
			return 0;
		}
		p = tag >> 3 == 1 ? NULL : tw_pb_skip(p, end, tag);
		if (!p)
			return TW_EINVAL;
	}
	w->p = p;
	if (p < end)
		return TW_SCAN_MORE;
	w->place = AT_END;
	return tw_request_room_masks(s->r) ? 0 : TW_ENOMEM;
}

static int walk(struct tw_scan *w, const uint8_t *until)
{
	int e = 0;

	while (!e && w->place != AT_END) {
		if (w->place == IN_SCOPE)
			e = in_scope(w, until);
		else if (w->place == IN_RESOURCE)
			e = in_resource(w, until);
		else
			e = in_request(w, until);
	}
	return e;
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

/* ---- a request, at once or in steps ---- */

/* Where there are more operations than the table has room for, nearly every span begins one in the
 * place of another, and to look for it costs more than to read the span: then it is left for a
 * while. That many are new is no sign of it: so they are after each reload. */
static bool is_crowded(struct tw_templates *t, size_t bytes)
{
	uint64_t spans = t->spans - t->window;
	uint64_t displaced = t->operations->displaced - t->displaced;

	if (t->rest > 0) {
		t->rest -= bytes < t->rest ? bytes : t->rest;
		return true;
	}
	if (spans < CROWD_WINDOW)
		return false;
	t->window = t->spans;
	t->displaced = t->operations->displaced;
	t->rest = displaced > spans / 4 ? CROWD_REST : 0;
	return t->rest > 0;
}

/* From now on the templates are this scan's. */
static void take_templates(struct tw_scan *w)
{
	struct tw_templates *t = w->s.templates;

	if (!t)
		return;
	if (is_crowded(t, (size_t)(w->s.body_end - w->s.body))) {
		w->s.templates = NULL;
		return;
	}
	tw_operations_begin(t->operations, w->s.r);
	w->generation = t->generation;
}

/* There may be new keys since the last step: what the templates have learnt now has other slots.
 * What was recognised stays, the request has it. */
static void take_templates_again(struct tw_scan *w)
{
	if (w->s.templates && w->s.templates->generation != w->generation)
		w->s.templates = NULL;
}

static void begin(struct tw_scan *w, const struct tw_scan_opts *o, struct tw_slice body,
                  struct tw_request *out)
{
	w->s = scan_of(o, out);
	begin_body(&w->s, WIRE_REQUEST, body);
	w->p = w->s.body;
	w->place = IN_REQUEST;
	take_templates(w);
}

static int too_large(struct tw_error *err)
{
	return tw_error_set(err, TW_ELIMIT, 0, "a request of more than 4 GiB");
}

int tw_otlp_scan(const struct tw_scan_opts *o, struct tw_slice body, struct tw_request *out,
                 struct tw_error *err)
{
	struct tw_scan w;
	int e;

	if (body.n > UINT32_MAX)
		return too_large(err);
	begin(&w, o, body, out);
	e = walk(&w, w.s.body_end);
	return TW_LIKELY(!e) ? 0 : failed(&w.s, e, err);
}

struct tw_scan *tw_scan_begin(const struct tw_scan_opts *o, struct tw_slice body,
                              struct tw_request *out)
{
	struct tw_scan *w = tw_alloc(sizeof(*w));

	if (w)
		begin(w, o, body, out);
	return w;
}

/* How many rows the rest of the body takes, if it is like what came before, and a little more. */
static size_t rest(const struct tw_scan *w, size_t rows)
{
	uint64_t done = (uint64_t)(w->p - w->s.body), left = (uint64_t)(w->s.body_end - w->p);

	return rows * left / done + (rows * left / done >> 4) + 1;
}

/* Arrays that grow when they are full move all that is in them, late in a large request many
 * megabytes: so they are asked early for as much as they will need. If that is too much, they grow
 * as they must. */
static void make_room(const struct tw_scan *w)
{
	struct tw_request *r = w->s.r;
	size_t spans = rest(w, r->span_count), most = w->s.spans_max - w->s.spans_seen;

	(void)tw_request_room(r, (uint32_t)(spans < most ? spans : most), 0, 0);
	if (r->rest_count > 0)
		(void)tw_request_room_rests(r, rest(w, r->rest_count));
	if (r->value_count > 0)
		(void)tw_request_room_values(r, rest(w, r->value_count));
	if (r->place_count > 0)
		(void)tw_request_room_places(r, rest(w, r->place_count));
}

int tw_scan_step(struct tw_scan *w, size_t bytes, struct tw_error *err)
{
	size_t left = (size_t)(w->s.body_end - w->p);
	int e;

	if (w->s.body_end - w->s.body > UINT32_MAX)
		return too_large(err);
	take_templates_again(w);
	e = walk(w, left > bytes ? w->p + bytes : w->s.body_end);
	if (e == TW_SCAN_MORE)
		make_room(w);
	return e >= 0 ? e : failed(&w->s, e, err);
}

void tw_scan_end(struct tw_scan **w)
{
	tw_free(*w);
	*w = NULL;
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

	s.templates = NULL; /* they are for what comes again */
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
			e = add_resource(&s, resource_head, out->scope_count - 1, 0);
		if (!e && !tw_request_room_masks(out))
			e = TW_ENOMEM;
	}
	return TW_LIKELY(!e) ? 0 : failed(&s, e, err);
}
