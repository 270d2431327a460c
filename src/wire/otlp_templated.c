/* Spans against what is known of their kind: the usual way of a span through the program.
 *
 * Most look like an image: a few long comparisons under a mask, and the values between them whose
 * length differs. Of others the fields that all spans have are read by hand; then the trie of the
 * span's shape is walked, comparing whole runs of fields and stopping only at values that differ.
 * What is recognised was admitted before, byte for byte, but for those values, and they are
 * checked.
 *
 * Compiled twice on x86-64: as it is, and by otlp_templated_avx2.c with wider comparisons. */
#include "ascii.h"
#include "shape.h"
#include "tw/base/limits.h"

#ifdef __AVX2__
#include <immintrin.h>
#define SCAN_RUN   scan_run_avx2
#define SCAN_KNOWN scan_known_avx2
#else
#define SCAN_RUN   scan_run
#define SCAN_KNOWN scan_known
#endif

#define RUN         16u /* spans that are found, then asked for, then recognised */
#define IMAGE_LINES 14u /* of an image: nearly all of most */

#define TAG_TRACE_ID  (TW_PB_TAG(1, TW_PB_LEN) | 16u << 8)
#define TAG_SPAN_ID   (TW_PB_TAG(2, TW_PB_LEN) | 8u << 8)
#define TAG_STATE     TW_PB_TAG(3, TW_PB_LEN)
#define TAG_PARENT_ID (TW_PB_TAG(4, TW_PB_LEN) | 8u << 8)

static inline uint32_t two(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8;
}

/* A bit per byte of p[0 … 63] that equals q's. */
#ifdef __AVX2__
static inline uint64_t equal64(const uint8_t *p, const uint8_t *q)
{
	__m256i a = _mm256_cmpeq_epi8(_mm256_loadu_si256((const __m256i *)(const void *)p),
	                              _mm256_loadu_si256((const __m256i *)(const void *)q));
	__m256i b = _mm256_cmpeq_epi8(_mm256_loadu_si256((const __m256i *)(const void *)(p + 32)),
	                              _mm256_loadu_si256((const __m256i *)(const void *)(q + 32)));

	return (uint32_t)_mm256_movemask_epi8(a) | (uint64_t)(uint32_t)_mm256_movemask_epi8(b)
	                                               << 32;
}
#elif defined(__SSE2__)
static inline uint64_t equal16(const uint8_t *p, const uint8_t *q)
{
	__m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
	__m128i y = _mm_loadu_si128((const __m128i *)(const void *)q);

	return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(x, y));
}

static inline uint64_t equal64(const uint8_t *p, const uint8_t *q)
{
	return equal16(p, q) | equal16(p + 16, q + 16) << 16 | equal16(p + 32, q + 32) << 32 |
	       equal16(p + 48, q + 48) << 48;
}
#else
static inline uint64_t equal64(const uint8_t *p, const uint8_t *q)
{
	uint64_t bits = 0;

	for (uint32_t i = 0; i < 64; i++)
		bits |= (uint64_t)(p[i] == q[i]) << i;
	return bits;
}
#endif

/* Equal in n bytes? On both sides 64 are readable at a time. Nearly all runs are shorter: which
 * nodes follow one another is as random as the spans, so no branch depends on a length. */
static inline bool same(const uint8_t *a, const uint8_t *b, uint32_t n)
{
	while (TW_UNLIKELY(n > 64)) {
		if (~equal64(a, b) != 0)
			return false;
		a += 64;
		b += 64;
		n -= 64;
	}
	return n == 0 || ~equal64(a, b) << (64 - n) == 0;
}

/* A bit per byte of p[0 … 63] that is not ASCII. */
static inline uint64_t high64(const uint8_t *p)
{
#ifdef __AVX2__
	__m256i a = _mm256_loadu_si256((const __m256i *)(const void *)p);
	__m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(p + 32));

	return (uint32_t)_mm256_movemask_epi8(a) | (uint64_t)(uint32_t)_mm256_movemask_epi8(b)
	                                               << 32;
#else
	return ascii_high16(p) | (uint64_t)ascii_high16(p + 16) << 16 |
	       (uint64_t)ascii_high16(p + 32) << 32 | (uint64_t)ascii_high16(p + 48) << 48;
#endif
}

/* Is the text ASCII, or else UTF-8? 64 bytes are readable. */
static inline bool is_text(const uint8_t *p, uint32_t n)
{
	uint64_t high = high64(p);

	if (TW_LIKELY(n <= 64 && (n == 0 || high << (64 - n) == 0)))
		return true;
	return tw_utf8_valid(p, n);
}

/* The trace state, which p may be the begin of; NULL: it is not, or none that a template has. */
static inline const uint8_t *state(const uint8_t *p, const uint8_t *end, struct tw_slice *value)
{
	uint32_t n = p[1];

	if (TW_UNLIKELY(p[0] != TAG_STATE || n - 1 >= TW_TEMPLATE_NAME_MAX || end - p < n + 2 ||
	                !is_text(p + 2, n)))
		return NULL;
	*value = tw_slice(p + 2, n);
	return p + 2 + n;
}

/* false: the span does not begin as nearly all do. SCAN_SLACK_BYTES behind end are readable. */
static inline bool read_prefix(struct prefix *x, const uint8_t *p, const uint8_t *end)
{
	uint32_t n;

	if (TW_UNLIKELY(two(p) != TAG_TRACE_ID || two(p + 18) != TAG_SPAN_ID))
		return false;
	x->trace_id = p + 2;
	x->span_id = p + 20;
	p += 28;
	x->state = NULL;
	if (p[0] == TAG_STATE) {
		struct tw_slice value;

		p = state(p, end, &value);
		if (!p)
			return false;
		x->state = value.p;
		x->state_n = (uint32_t)value.n;
	}
	x->parent_id = NULL;
	if (two(p) == TAG_PARENT_ID) {
		x->parent_id = p + 2;
		p += 10;
	}
	n = p[1];
	if (TW_UNLIKELY(p[0] != TW_PB_TAG(5, TW_PB_LEN) || n > TW_TEMPLATE_NAME_MAX ||
	                n + 2 > end - p))
		return false;
	x->name = p + 2;
	x->name_n = n;
	p += 2 + n;
	x->kind = TW_KIND_ABSENT;
	if (p[0] == TW_PB_TAG(6, TW_PB_VARINT) && p[1] < 0x80) {
		x->kind = p[1];
		p += 2;
	}
	if (TW_UNLIKELY(p[0] != TW_PB_TAG(7, TW_PB_I64) || p[9] != TW_PB_TAG(8, TW_PB_I64) ||
	                end - p < 18))
		return false;
	x->start = p + 1;
	x->end = p + 10;
	x->rest = p + 18;
	/* The other way round the duration does not tell the end. */
	return TW_LIKELY(tw_pb_le64(x->end) >= tw_pb_le64(x->start));
}

/* Three samples of the name, whatever its length, so without a branch. Names that are equal there
 * share a chain, which is short (shape_add). */
static inline uint64_t hash_of(const struct tw_templates *t, const uint8_t *name, uint32_t n,
                               uint32_t kind, bool parent, bool has_state)
{
	struct tw_keysum sum = tw_keysum(name, n);
	uint64_t middle = tw_pb_le64(name + (n >> 1));

	middle = n >= 16 ? middle : 0;
	return tw_fold(sum.a ^ t->key.k0, sum.b ^ t->key.k1) ^
	       tw_fold(middle ^ t->key.k1,
	               (n | kind << 8 | (uint32_t)parent << 16 | (uint32_t)has_state << 17) ^
	                   t->key.k0);
}

/* A length in its shortest form, of at most two bytes; NULL: it is not. */
static inline const uint8_t *length(const uint8_t *p, uint32_t *n)
{
	*n = p[0];
	if (TW_LIKELY(p[0] < 0x80))
		return p + 1;
	*n = (uint32_t)(p[0] & 0x7f) | (uint32_t)p[1] << 7;
	return p[1] > 0 && p[1] < 0x80 ? p + 2 : NULL;
}

/* An attribute with that key: returns its value's message, whose length is *n and which ends
 * where the attribute does; NULL: it is not that. */
static inline const uint8_t *attribute(struct tw_slice key, const uint8_t *p, uint32_t *n)
{
	const uint8_t *body;
	uint32_t total;

	if (p[0] != TW_PB_TAG(9, TW_PB_LEN))
		return NULL;
	body = length(p + 1, &total);
	if (TW_UNLIKELY(!body || !same(body, key.p, (uint32_t)key.n)))
		return NULL;
	p = length(body + key.n, n);
	return TW_LIKELY(p && p + *n == body + total) ? p : NULL;
}

static inline __attribute__((always_inline)) const uint8_t *
text(struct tw_slice key, const uint8_t *p, const uint8_t *end, struct tw_slice *value)
{
	uint32_t n, any;
	const uint8_t *v, *q;

	/* As nearly all are: less than 128 bytes, so that the lengths are one byte each. */
	any = p[1] - (uint32_t)key.n - 1;
	if (TW_LIKELY(p[0] == TW_PB_TAG(9, TW_PB_LEN) && any - 2 < 126)) {
		v = p + 2 + key.n;
		q = v + 3;
		n = any - 2;
		if (TW_LIKELY((tw_pb_le32(v) & 0xffffff) ==
		              (any | TW_PB_TAG(1, TW_PB_LEN) << 8 | n << 16))) {
			if (TW_UNLIKELY(!same(p + 2, key.p, (uint32_t)key.n) || q + n > end ||
			                !is_text(q, n)))
				return NULL;
			*value = tw_slice(q, n);
			return q + n;
		}
	}
	v = attribute(key, p, &any);
	if (!v || v[0] != TW_PB_TAG(1, TW_PB_LEN))
		return NULL;
	q = length(v + 1, &n);
	if (TW_UNLIKELY(!q || q + n != v + any || q + n > end))
		return NULL;
	if (TW_UNLIKELY(
	        !(n <= 64 ? ascii_short(q, n) || tw_utf8_valid(q, n) : tw_utf8_valid(q, n))))
		return NULL;
	*value = tw_slice(q, n);
	return q + n;
}

static inline const uint8_t *integer(struct tw_slice key, const uint8_t *p, const uint8_t *end,
                                     struct tw_slice *value)
{
	uint32_t any;
	const uint8_t *v = attribute(key, p, &any);
	uint64_t u;

	if (!v || any < 2 || any > 11 || v[0] != TW_PB_TAG(3, TW_PB_VARINT) || v + any > end ||
	    tw_pb_varint(v + 1, v + any, &u) != v + any)
		return NULL;
	*value = tw_slice(v + 1, any - 1);
	return v + any;
}

static const uint8_t *raw(uint32_t n, const uint8_t *p, const uint8_t *end, struct tw_slice *value)
{
	/* One byte is a bool's. */
	if (n > end - p || (n == 1 && p[0] >= 0x80))
		return NULL;
	*value = tw_slice(p, n);
	return p + n;
}

static const uint8_t *field(uint8_t tag, const uint8_t *p, const uint8_t *end,
                            struct tw_slice *value)
{
	struct wire_check c = {0};
	const uint8_t *q;
	uint32_t n;

	if (p >= end || p[0] != tag)
		return NULL;
	q = length(p + 1, &n);
	if (!q || n > end - q ||
	    !wire_check(&c, p[0] == TW_PB_TAG(11, TW_PB_LEN) ? WIRE_EVENT : WIRE_LINK, q, q + n,
	                0) ||
	    c.utf8_at)
		return NULL;
	*value = tw_slice(q, n);
	return q + n;
}

/* A field of which the value may differ, as in struct tw_part: returns where it ends, NULL: it is
 * another field. */
static inline __attribute__((always_inline)) const uint8_t *
differing(uint8_t kind, struct tw_slice bytes, const uint8_t *p, const uint8_t *end,
          struct tw_slice *value)
{
	if (TW_LIKELY(kind == TW_PART_TEXT))
		return text(bytes, p, end, value);
	if (kind == TW_PART_INT)
		return integer(bytes, p, end, value);
	if (kind == TW_PART_RAW)
		return raw((uint32_t)bytes.n, p, end, value);
	if (kind == NODE_STATE)
		return state(p, end, value);
	return field(bytes.p[0], p, end, value);
}

/* From p to the end of the span along the trie; NULL: it is not known. places: of the values but
 * for a trace state. path, if not NULL: the nodes passed, as many as SHAPE_DEPTH_MAX. */
static inline __attribute__((always_inline)) struct node *
walk(const struct shape *sh, const uint8_t *span, const uint8_t *p, const uint8_t *end,
     struct tw_place *places, struct node **path)
{
	const struct tw_place *places_end = places + TW_TEMPLATE_VALUES_MAX - sh->has_state;
	struct node **path_end = path ? path + SHAPE_DEPTH_MAX - 1 : NULL;
	struct node *node = sh->root;

	while (node) {
		const uint8_t *q;

		if (path) {
			if (path == path_end)
				return NULL;
			*path = node;
		}
		if (node->kind == NODE_BYTES) {
			q = same(p, node->bytes, node->n) ? p + node->n : NULL;
		} else if (TW_UNLIKELY(node->kind == NODE_LEAF)) {
			if (p == end)
				return node;
			q = NULL;
		} else {
			struct tw_slice value;

			struct tw_slice bytes =
			    tw_slice(node->bytes, node->kind == NODE_RAW ? node->raw : node->n);

			q = places == places_end ? NULL
			                         : differing(node->kind, bytes, p, end, &value);
			if (q)
				*places++ = (struct tw_place){(uint16_t)(value.p - span),
				                              (uint16_t)value.n};
		}
		if (TW_UNLIKELY(!q)) {
			node = node->alt;
			continue;
		}
		if (TW_UNLIKELY(q > end))
			return NULL;
		p = q;
		node = node->next;
		if (path)
			path++;
	}
	return NULL;
}

/* The leaf's template is missing, or was made before the shape changed. false: it has none. */
static __attribute__((noinline)) bool renew(struct scan *s, struct shape *sh, struct node *leaf,
                                            const uint8_t *span, const uint8_t *p,
                                            const uint8_t *end)
{
	struct tw_place places[TW_TEMPLATE_VALUES_MAX];
	struct node *path[SHAPE_DEPTH_MAX];
	struct tw_templates *t = s->templates;
	uint32_t depth = 0;

	shape_drop(t, sh, leaf);
	leaf->version = sh->version;
	if (walk(sh, span, p, end, places, path) != leaf)
		return false;
	while (path[depth] != leaf)
		depth++;
	leaf->template = shape_template(t, s->keys, sh, path, depth);
	if (!leaf->template)
		return false;
	t->stats.templates++;
	sh->bytes += leaf->template->bytes;
	t->bytes += leaf->template->bytes;
	return true;
}

/* The number of the template's operation in the open scope; 0: there is no place for it. */
static inline uint32_t operation(struct scan *s, uint64_t id, struct tw_template *t)
{
	struct tw_operations *o = s->templates->operations;
	struct tw_operation *op = tw_operations_at(o, id, s->scope_hash);

	if (TW_UNLIKELY(!tw_operation_is(op, id, s->scope_hash))) {
		op = tw_operations_add(o, t, s->scope_hash);
		if (!op)
			return 0;
	}
	return tw_operations_use(o, s->r, op);
}

/* parent_id: where it would be. false: one of them is zero. */
static inline bool read_ids(struct tw_span *v, const uint8_t *trace_id, const uint8_t *span_id,
                            bool has_parent, const uint8_t *parent_id)
{
	v->trace_id.hi = tw_pb_be64(trace_id);
	v->trace_id.lo = tw_pb_be64(trace_id + 8);
	v->span_id = tw_pb_be64(span_id);
	v->parent_id = tw_pb_be64(parent_id) & -(uint64_t)has_parent;
	return TW_LIKELY((v->trace_id.hi | v->trace_id.lo) != 0 && v->span_id != 0) &&
	       TW_LIKELY((v->parent_id | !has_parent) != 0);
}

/* Slots of which some differ: the template's, with the span's own on top. */
static void fill_slots(struct tw_request *r, const struct tw_span *v, struct tw_span_rest *own,
                       const struct tw_template *t, const struct tw_place *place)
{
	uint32_t n = 64u - (uint32_t)__builtin_clzll(t->rest.slots_set);
	struct tw_value *slots = r->values + r->value_count;
	const uint8_t *slot_of = tw_template_slot_of(t);

	own->slots = slots;
	memcpy(slots, t->rest.slots, n * sizeof(*slots));
	r->value_count += n;
	for (uint32_t i = 0, value = t->layout.has_state; value < t->layout.value_count; i++) {
		const uint8_t *p;
		uint64_t u;

		if (t->layout.part[i].kind == TW_PART_BYTES)
			continue;
		if (slot_of[value] < TW_KEYS_MAX) {
			p = v->bytes + place[value].at;
			if (t->layout.part[i].kind == TW_PART_TEXT) {
				slots[slot_of[value]] = (struct tw_value){
				    .type = TW_VALUE_STRING, .n = place[value].n, .p = p};
			} else {
				tw_pb_varint(p, p + place[value].n, &u);
				slots[slot_of[value]] =
				    (struct tw_value){.type = TW_VALUE_INT, .i = (int64_t)u};
			}
		}
		value++;
	}
}

/* A rest of its own. */
static void fill_rest(struct tw_request *r, struct tw_span *v, const struct tw_template *t,
                      const struct tw_place *place)
{
	struct tw_span_rest *own = r->rests + r->rest_count++;

	*own = t->rest;
	v->rest = own;
	if (t->layout.has_state) {
		own->tracestate = v->bytes + place->at;
		own->tracestate_n = place->n;
	}
	if (!t->fixed)
		fill_slots(r, v, own, t, place);
}

/* What is left of a view once its template's part is there: the request has it. */
static inline void add_view(struct scan *s, struct tw_span *v, const struct tw_template *t,
                            bool shared, uint32_t value_count)
{
	struct tw_request *r = s->r;

	v->hash = tw_hash_u64x2(s->key, v->trace_id.hi, v->trace_id.lo);
	v->places = (uint32_t)r->place_count;
	v->rest = &t->rest;
	if (TW_UNLIKELY(!shared))
		fill_rest(r, v, t, r->places + r->place_count);
	r->place_count += value_count;
	r->span_count++;
	r->span_bytes += v->bytes_n;
	s->templates->stats.recognised++;
}

static inline void fill(struct scan *s, struct tw_span *v, const struct prefix *x,
                        const struct tw_template *t)
{
	v->start_ns = tw_pb_le64(x->start);
	v->duration_ns = tw_pb_le64(x->end) - v->start_ns;
	v->kind = t->kind;
	v->status = t->status;
	v->flags = (uint8_t)((v->parent_id ? 0 : TW_SPAN_ROOT) |
	                     (t->rest.w3c_flags & 2 ? TW_SPAN_RANDOM : 0) |
	                     (x->state ? TW_SPAN_TRACESTATE : 0));
	v->pad = 0;
	add_view(s, v, t, template_is_shared(t), t->layout.value_count);
}

/* ---- along the trie ---- */

static struct shape *find(struct tw_templates *t, const struct prefix *x)
{
	struct shape *sh = *shape_slot(t, x->hash);

	for (; sh; sh = sh->chain)
		if (sh->hash == x->hash && sh->name_n == x->name_n && sh->kind == x->kind &&
		    sh->has_parent == (x->parent_id != NULL) &&
		    sh->has_state == (x->state != NULL) && same(sh->name, x->name, x->name_n))
			return sh;
	return NULL;
}

static void missed_one(struct shape *sh)
{
	if (++sh->misses < 64)
		return;
	sh->hits += shape_hits(sh);
	if (sh->misses > sh->hits)
		sh->off = 4096;
	sh->misses /= 2;
	sh->hits /= 2;
}

static struct tw_template *known(struct scan *s, struct prefix *x, const uint8_t *span,
                                 const uint8_t *end, struct missed *missed)
{
	struct tw_templates *t = s->templates;
	struct shape *sh = find(t, x);
	struct tw_place *place;
	struct node *leaf;

	missed->x = *x;
	missed->shape = sh;
	missed->learn = true;
	if (!sh)
		return NULL;
	if (sh->off) {
		sh->off--;
		missed->learn = false;
		return NULL;
	}
	place = s->r->places + s->r->place_count;
	if (x->state)
		*place++ = (struct tw_place){(uint16_t)(x->state - span), (uint16_t)x->state_n};
	leaf = walk(sh, span, x->rest, end, place, NULL);
	if (!leaf) {
		missed_one(sh);
		return NULL;
	}
	missed->learn = false;
	sh->used = true;
	sh->hits++;
	if (leaf->version != sh->version && !renew(s, sh, leaf, span, x->rest, end))
		return NULL;
	return leaf->template;
}

bool SCAN_KNOWN(struct scan *s, struct tw_span *v, const uint8_t *p, const uint8_t *end,
                struct missed *missed)
{
	struct tw_templates *t = s->templates;
	struct tw_request *r = s->r;
	struct tw_template *template;
	struct prefix x;

	missed->learn = false;
	if (TW_UNLIKELY(end - p > TW_TEMPLATE_SPAN_MAX || !read_prefix(&x, p, end)))
		return false;
	if (!read_ids(v, x.trace_id, x.span_id, x.parent_id != NULL,
	              x.parent_id ? x.parent_id : x.span_id))
		return false;
	if (TW_UNLIKELY(r->place_cap - r->place_count < TW_TEMPLATE_VALUES_MAX) &&
	    !tw_request_room_places(r, TW_TEMPLATE_VALUES_MAX))
		return false;
	t->spans++;
	x.hash = hash_of(t, x.name, x.name_n, x.kind, x.parent_id != NULL, x.state != NULL);
	template = known(s, &x, p, end, missed);
	if (TW_UNLIKELY(!template))
		return false;
	v->operation = operation(s, template->id, template);
	if (TW_UNLIKELY(v->operation == 0))
		return false;
	fill(s, v, &x, template);
	shape_image(t, missed->shape, template, v, &x, r->places + v->places);
	return true;
}

/* ---- by images ---- */

struct ahead { /* a span that comes soon */
	const uint8_t *at, *p, *end;
	uint32_t slot;
};

/* The span whose tag is at p, if it looks like most and ends at `limit` at the latest, from where
 * SCAN_SLACK_BYTES can be read. */
static inline __attribute__((always_inline)) bool
peek(const struct tw_templates *t, const uint8_t *p, const uint8_t *limit, struct ahead *a)
{
	uint32_t n, name_n, kind, two_bytes;
	const uint8_t *q;
	bool parent, has_state;

	if (TW_UNLIKELY(p >= limit || p[0] != TW_PB_TAG(2, TW_PB_LEN)))
		return false;
	/* Of one or two bytes, or it is another one's. */
	two_bytes = p[1] >> 7;
	if (TW_UNLIKELY((p[1] & p[2]) >= 0x80))
		return false;
	n = two_bytes ? (uint32_t)(p[1] & 0x7f) | (uint32_t)p[2] << 7 : p[1];
	a->at = p;
	p += 2 + two_bytes;
	if (TW_UNLIKELY(p > limit || n < 64 || n > limit - p))
		return false;
	a->p = p;
	a->end = p + n;
	q = p + 28;
	has_state = false;
	if (TW_UNLIKELY(p[28] == TAG_STATE)) {
		q += 2 + (p[29] & 0x7f);
		has_state = true;
	}
	parent = two(q) == TAG_PARENT_ID;
	q += parent ? 10 : 0;
	name_n = q[1] & 0x7f;
	kind = q[2 + name_n] == TW_PB_TAG(6, TW_PB_VARINT) ? q[3 + name_n] : TW_KIND_ABSENT;
	a->slot = image_slot(hash_of(t, q + 2, name_n, kind, parent, has_state));
	return true;
}

/* Equal in the bits of the mask? b: of an image, for so many steps. */
#ifdef __AVX2__
static inline __m256i load32(const uint8_t *p)
{
	return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

static inline __m256i differ32(const uint8_t *p, const uint8_t *b)
{
	return _mm256_and_si256(_mm256_xor_si256(load32(p), load32(b)), load32(b + 32));
}

static inline bool alike(const uint8_t *p, const uint8_t *b, uint32_t steps)
{
	__m256i differ = _mm256_setzero_si256();

	for (; steps > 0; steps--, p += 64, b += 128)
		differ = _mm256_or_si256(differ,
		                         _mm256_or_si256(differ32(p, b), differ32(p + 32, b + 64)));
	return _mm256_testz_si256(differ, differ);
}
#else
static inline bool alike(const uint8_t *p, const uint8_t *b, uint32_t steps)
{
	uint64_t differ = 0;

	for (steps *= 2; steps > 0; steps--, p += 32, b += 64)
		for (uint32_t k = 0; k < 32; k += 8)
			differ |= (tw_pb_le64(p + k) ^ tw_pb_le64(b + k)) & tw_pb_le64(b + 32 + k);
	return differ == 0;
}
#endif

/* Is it a span of this image? Then the places of its values are at `place`. */
static inline __attribute__((always_inline)) bool
fits(const struct tw_image *im, const uint8_t *span, const uint8_t *end, struct tw_place *place)
{
	const struct image_piece *piece = image_pieces(im);
	const struct tw_place *fixed = image_places(im);
	const uint8_t *p = span, *b = im->block;

	for (;; piece++) {
		struct tw_slice value;

		if (TW_UNLIKELY(piece->n > end - p || !alike(p, b, piece->steps)))
			return false;
		for (uint32_t i = 0; i < piece->values; i++, fixed++)
			*place++ = (struct tw_place){(uint16_t)(fixed->at + (p - span)), fixed->n};
		p += piece->n;
		b += piece->steps * 2 * IMAGE_STEP;
		if (piece->kind == NODE_LEAF)
			return p == end;
		p = differing(piece->kind,
		              tw_slice((const uint8_t *)im + piece->key_at,
		                       piece->kind == NODE_RAW ? piece->raw : piece->key_n),
		              p, end, &value);
		if (TW_UNLIKELY(!p))
			return false;
		*place++ = (struct tw_place){(uint16_t)(value.p - span), (uint16_t)value.n};
		fixed++;
	}
}

static inline __attribute__((always_inline)) bool take(struct scan *s, struct tw_image *im,
                                                       const struct ahead *a, uint32_t scope)
{
	struct tw_span *v = &s->r->spans[s->r->span_count];
	const uint8_t *p = a->p, *q = p;
	uint64_t end_ns;

	if (TW_UNLIKELY(im->has_state))
		q += 2 + p[29];
	if (!read_ids(v, p + 2, p + 20, im->has_parent, q + 30))
		return false;
	v->start_ns = tw_pb_le64(q + im->start_at);
	end_ns = tw_pb_le64(q + im->start_at + 9);
	v->duration_ns = end_ns - v->start_ns;
	if (TW_UNLIKELY(end_ns < v->start_ns))
		return false;
	v->operation = operation(s, im->id, im->template);
	if (TW_UNLIKELY(v->operation == 0))
		return false;
	v->bytes = p;
	v->bytes_n = (uint32_t)(a->end - p);
	memcpy((uint8_t *)v + TW_SPAN_COMMON_AT, im->common, TW_SPAN_COMMON_BYTES);
	v->scope = scope;
	add_view(s, v, im->template, im->shared, im->value_count);
	im->hits++;
	return true;
}

/* The image that the span fits; it is the first of its slot then, where those that come often are.
 * Not what the pass before saw: a span that is learnt may have changed it. */
static inline __attribute__((always_inline)) struct tw_image *
find_image(struct tw_templates *t, const struct ahead *a, struct tw_place *place)
{
	struct tw_image **const first = &t->images[a->slot], **at = first, *im;

	while ((im = *at) != NULL && !fits(im, a->p, a->end, place))
		at = &im->next;
	if (TW_UNLIKELY(im && at != first)) {
		*at = im->next;
		im->next = *first;
		*first = im;
	}
	return im;
}

const uint8_t *SCAN_RUN(struct scan *s, const uint8_t *p, const uint8_t *end, uint32_t scope,
                        int *error)
{
	struct tw_templates *t = s->templates;
	const uint8_t *limit = end < s->slack ? end : s->slack;
	struct ahead a[RUN];

	if (TW_UNLIKELY(!s->slack))
		return p;
	for (;;) {
		uint32_t n = 0, most = s->spans_max - s->spans_seen;

		most = most < RUN ? most : RUN;
		for (const uint8_t *q = p; n < most && peek(t, q, limit, &a[n]); n++) {
			__builtin_prefetch(&t->images[a[n].slot]);
			q = a[n].end;
			for (uint32_t i = 0; i < 5; i++)
				__builtin_prefetch(q + i * 64);
		}
		if (n == 0)
			return p;
		if (TW_UNLIKELY(!tw_request_room(s->r, n, 0, 0) ||
		                !tw_request_room_rests(s->r, n) ||
		                !tw_request_room_values(s->r, (size_t)n * s->key_count) ||
		                !tw_request_room_places(s->r, n * TW_TEMPLATE_VALUES_MAX))) {
			*error = TW_ENOMEM;
			return NULL;
		}
		for (uint32_t i = 0; i < n; i++) {
			const char *im = (const char *)t->images[a[i].slot];

			if (TW_UNLIKELY(!im))
				continue;
			_Pragma("GCC unroll 16") for (uint32_t k = 0; k < IMAGE_LINES; k++)
			    __builtin_prefetch(im + k * 64);
		}
		for (uint32_t i = 0; i < n; i++) {
			const struct tw_image *im = t->images[a[i].slot];

			if (TW_LIKELY(im != NULL))
				__builtin_prefetch(
				    tw_operations_at(t->operations, im->id, s->scope_hash), 1);
		}
		s->spans_seen += n;
		for (uint32_t i = 0; i < n; i++) {
			struct tw_image *im =
			    find_image(t, &a[i], s->r->places + s->r->place_count);

			if (TW_LIKELY(im && take(s, im, &a[i], scope))) {
				t->spans++;
				continue;
			}
			*error = scan_span(s, a[i].at, a[i].p, a[i].end, scope);
			if (TW_UNLIKELY(*error))
				return NULL;
		}
		p = a[n - 1].end;
	}
}
