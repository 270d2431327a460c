/* One span against what is known of its kind: the usual way of a span through the program.
 *
 * The fields that all spans have are read by hand; then the trie of the span's shape is walked,
 * comparing whole runs of fields at once and stopping only at values that differ. What is
 * recognised was admitted before, byte for byte, but for those values, and they are checked.
 *
 * Compiled twice on x86-64: as it is, and by otlp_templated_avx2.c with wider comparisons. */
#include "ascii.h"
#include "shape.h"
#include "tw/base/limits.h"

#ifdef __AVX2__
#include <immintrin.h>
#define SCAN_TEMPLATED scan_templated_avx2
#else
#define SCAN_TEMPLATED scan_templated
#endif

#define PREFETCH_BYTES (6 * 64) /* of a template: nearly all of most */

#define TAG_TRACE_ID  (TW_PB_TAG(1, TW_PB_LEN) | 16u << 8)
#define TAG_SPAN_ID   (TW_PB_TAG(2, TW_PB_LEN) | 8u << 8)
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

/* false: the span does not begin as nearly all do. SCAN_SLACK_BYTES behind end are readable. */
static inline bool read_prefix(struct prefix *x, const uint8_t *p, const uint8_t *end)
{
	uint32_t n;

	if (TW_UNLIKELY(two(p) != TAG_TRACE_ID || two(p + 18) != TAG_SPAN_ID))
		return false;
	x->trace_id = p + 2;
	x->span_id = p + 20;
	p += 28;
	x->parent_id = NULL;
	if (two(p) == TAG_PARENT_ID) {
		x->parent_id = p + 2;
		p += 10;
	}
	n = p[1];
	if (TW_UNLIKELY(p[0] != TW_PB_TAG(5, TW_PB_LEN) || n > 127 || n + 2 > end - p))
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
                               uint32_t kind, bool parent)
{
	struct tw_keysum sum = tw_keysum(name, n);
	uint64_t middle = tw_pb_le64(name + (n >> 1));

	middle = n >= 16 ? middle : 0;
	return tw_fold(sum.a ^ t->key.k0, sum.b ^ t->key.k1) ^
	       tw_fold(middle ^ t->key.k1, (n | kind << 8 | (uint32_t)parent << 16) ^ t->key.k0);
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
	return field(bytes.p[0], p, end, value);
}

/* Is it a span of this template? */
static inline bool match(const struct tw_template *t, const struct prefix *x, const uint8_t *span,
                         const uint8_t *end, struct tw_place *place)
{
	const struct tw_layout *l = &t->layout;
	const struct tw_part *part = l->part, *last = part + l->part_count;
	const uint8_t *p = x->rest;

	if (TW_UNLIKELY(l->name_n != x->name_n || l->kind != x->kind ||
	                l->has_parent != (x->parent_id != NULL) ||
	                !same(tw_layout_name(l), x->name, x->name_n)))
		return false;
	for (; part < last; part++) {
		struct tw_slice bytes = tw_slice(tw_layout_bytes(l, part->at), part->n), value;

		if (part->kind == TW_PART_BYTES) {
			if (TW_UNLIKELY(part->n > end - p || !same(p, bytes.p, part->n)))
				return false;
			p += part->n;
			continue;
		}
		p = differing(part->kind, bytes, p, end, &value);
		if (TW_UNLIKELY(!p))
			return false;
		*place++ = (struct tw_place){(uint16_t)(value.p - span), (uint16_t)value.n};
	}
	return p == end;
}

/* From p to the end of the span along the trie; NULL: it is not known. path, if not NULL: the nodes
 * passed, as many as SHAPE_DEPTH_MAX. */
static inline __attribute__((always_inline)) struct node *
walk(const struct shape *sh, const uint8_t *span, const uint8_t *p, const uint8_t *end,
     struct tw_place *places, struct node **path)
{
	const struct tw_place *places_end = places + TW_TEMPLATE_VALUES_MAX;
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

	if (leaf->template) {
		shape_slot(t, sh->hash)->guess = NULL;
		tw_template_put(leaf->template);
		leaf->template = NULL;
		t->stats.templates--;
	}
	leaf->version = sh->version;
	if (walk(sh, span, p, end, places, path) != leaf)
		return false;
	while (path[depth] != leaf)
		depth++;
	leaf->template = shape_template(t, s->keys, sh, path, depth);
	if (!leaf->template)
		return false;
	t->stats.templates++;
	return true;
}

/* The template's operation in this request and scope. */
static inline bool operation(struct scan *s, struct tw_template *t, uint32_t scope)
{
	struct tw_request *r = s->r;

	if (TW_LIKELY(t->stamp == s->templates->stamp && t->scope == scope))
		return true;
	if (TW_UNLIKELY(r->operation_count == r->operation_cap) &&
	    !tw_request_room_operations(r, 1, 0))
		return false;
	tw_template_get(t);
	r->operations[r->operation_count] = (struct tw_operation){.template = t, .scope = scope};
	t->stamp = s->templates->stamp;
	t->scope = scope;
	t->operation = ++r->operation_count;
	return true;
}

/* Slots of which some differ: the template's, with the span's own on top. */
static void fill_slots(struct tw_request *r, struct tw_span *v, const struct tw_template *t,
                       const struct tw_place *place)
{
	uint32_t n = 64u - (uint32_t)__builtin_clzll(t->slots_set);
	const uint8_t *slot_of = tw_template_slot_of(t);

	v->slots = r->values + r->value_count;
	memcpy(v->slots, t->slots, n * sizeof(*v->slots));
	r->value_count += n;
	for (uint32_t i = 0, value = 0; value < t->layout.value_count; i++) {
		const uint8_t *p;
		uint64_t u;

		if (t->layout.part[i].kind == TW_PART_BYTES)
			continue;
		if (slot_of[value] < TW_KEYS_MAX) {
			p = v->bytes + place[value].at;
			if (t->layout.part[i].kind == TW_PART_TEXT) {
				v->slots[slot_of[value]] = (struct tw_value){
				    .type = TW_VALUE_STRING, .n = place[value].n, .p = p};
			} else {
				tw_pb_varint(p, p + place[value].n, &u);
				v->slots[slot_of[value]] =
				    (struct tw_value){.type = TW_VALUE_INT, .i = (int64_t)u};
			}
		}
		value++;
	}
}

static inline void fill(struct scan *s, struct tw_span *v, const struct prefix *x,
                        const struct tw_template *t)
{
	struct tw_request *r = s->r;

	v->start_ns = tw_pb_le64(x->start);
	v->duration_ns = tw_pb_le64(x->end) - v->start_ns;
	v->name = x->name;
	v->name_n = x->name_n;
	v->hash = tw_hash_u64x2(s->key, v->trace_id.hi, v->trace_id.lo);
	v->tracestate = NULL;
	v->tracestate_n = 0;
	v->w3c_flags = t->w3c_flags;
	v->status_message = t->status_message;
	v->status_message_n = t->status_message_n;
	v->kind = t->kind;
	v->status = t->status;
	v->flags =
	    (uint8_t)((v->parent_id ? 0 : TW_SPAN_ROOT) | (t->w3c_flags & 2 ? TW_SPAN_RANDOM : 0));
	v->operation = t->operation;
	v->places = (uint32_t)r->place_count;
	v->slots_set = t->slots_set;
	v->slots = t->slots;
	if (!t->fixed)
		fill_slots(r, v, t, r->places + r->place_count);
	r->place_count += t->layout.value_count;
	r->span_count++;
}

/* ---- what is not the guess ---- */

static struct shape *find(struct tw_templates *t, const struct prefix *x)
{
	struct shape *sh = shape_slot(t, x->hash)->chain;

	for (; sh; sh = sh->chain)
		if (sh->hash == x->hash && sh->name_n == x->name_n && sh->kind == x->kind &&
		    sh->has_parent == (x->parent_id != NULL) && same(sh->name, x->name, x->name_n))
			return sh;
	return NULL;
}

static void missed_one(struct tw_templates *t, struct shape *sh)
{
	struct tw_template *guess = shape_slot(t, sh->hash)->guess;

	if (guess) {
		sh->hits += guess->hits;
		guess->hits = 0;
	}
	if (++sh->misses < 64)
		return;
	if (sh->misses > sh->hits)
		sh->off = 4096;
	sh->misses /= 2;
	sh->hits /= 2;
}

/* The template of a span that is not what its slot held. */
static __attribute__((noinline)) struct tw_template *other(struct scan *s, struct prefix *x,
                                                           const uint8_t *span, const uint8_t *end,
                                                           struct missed *missed)
{
	struct tw_templates *t = s->templates;
	struct shape *sh = find(t, x);
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
	leaf = walk(sh, span, x->rest, end, s->r->places + s->r->place_count, NULL);
	if (!leaf) {
		missed_one(t, sh);
		return NULL;
	}
	missed->learn = false;
	sh->used = true;
	sh->hits++;
	if (leaf->version != sh->version && !renew(s, sh, leaf, span, x->rest, end))
		return NULL;
	if (leaf->template)
		shape_slot(t, x->hash)->guess = leaf->template;
	return leaf->template;
}

/* ---- what comes next ---- */

/* The span that begins with its tag at p, if it is as long as most are and the body goes on long
 * enough behind it; p NULL: something else. */
static inline __attribute__((always_inline)) struct ahead peek(const struct scan *s,
                                                               const uint8_t *p)
{
	struct ahead a = {.p = NULL};
	const uint8_t *q;
	uint32_t n, kind;
	bool parent;

	if (TW_UNLIKELY(p > s->slack || p[0] != TW_PB_TAG(2, TW_PB_LEN) || p[1] < 0x80 ||
	                p[2] >= 0x80))
		return a;
	n = (uint32_t)(p[1] & 0x7f) | (uint32_t)p[2] << 7;
	if (TW_UNLIKELY(n < 64 || n > s->slack - p))
		return a;
	a.p = p + 3;
	a.end = a.p + n;
	parent = two(a.p + 28) == TAG_PARENT_ID;
	q = a.p + (parent ? 38 : 28);
	n = q[1] & 0x7f;
	kind = q[2 + n] == TW_PB_TAG(6, TW_PB_VARINT) ? q[3 + n] : TW_KIND_ABSENT;
	a.hash = hash_of(s->templates, q + 2, n, kind, parent);
	return a;
}

/* Another scope begins, or a span was not as most are. */
static __attribute__((noinline)) void look_anew(struct scan *s, const uint8_t *end)
{
	struct ahead *a = s->templates->ahead;

	for (uint32_t i = 0; i < AHEAD; i++) {
		a[i] = end ? peek(s, end) : (struct ahead){.p = NULL};
		end = a[i].p ? a[i].end : NULL;
		if (end)
			__builtin_prefetch(shape_slot(s->templates, a[i].hash));
	}
}

/* Asks for what the spans behind this one need: of the AHEAD-th its slot, of one in between the
 * template that the slot holds. Wrong about them, it costs a little time. */
static inline void look_ahead(struct scan *s, const uint8_t *end)
{
	struct ahead *a = s->templates->ahead;
	const char *guess;

	if (TW_UNLIKELY(a[1].p != end + 3)) {
		look_anew(s, end);
		return;
	}
	for (uint32_t i = 0; i + 1 < AHEAD; i++)
		a[i] = a[i + 1];
	if (TW_LIKELY(a[AHEAD_TEMPLATE].p != NULL)) {
		guess = (const char *)shape_slot(s->templates, a[AHEAD_TEMPLATE].hash)->guess;
		if (TW_LIKELY(guess != NULL))
			for (uint32_t i = 0; i < PREFETCH_BYTES; i += 64)
				__builtin_prefetch(guess + i);
	}
	if (TW_LIKELY(a[AHEAD - 1].p != NULL))
		a[AHEAD - 1] = peek(s, a[AHEAD - 1].end);
	if (TW_LIKELY(a[AHEAD - 1].p != NULL))
		__builtin_prefetch(shape_slot(s->templates, a[AHEAD - 1].hash));
}

bool SCAN_TEMPLATED(struct scan *s, struct tw_span *v, const uint8_t *p, const uint8_t *end,
                    uint32_t scope, struct missed *missed)
{
	struct tw_templates *t = s->templates;
	struct tw_request *r = s->r;
	struct tw_template *template;
	struct prefix x;

	missed->learn = false;
	if (TW_UNLIKELY(end - p > TW_TEMPLATE_SPAN_MAX || !read_prefix(&x, p, end)))
		return false;
	v->trace_id.hi = tw_pb_be64(x.trace_id);
	v->trace_id.lo = tw_pb_be64(x.trace_id + 8);
	v->span_id = tw_pb_be64(x.span_id);
	v->parent_id = x.parent_id ? tw_pb_be64(x.parent_id) : 0;
	if (TW_UNLIKELY((v->trace_id.hi | v->trace_id.lo) == 0 || v->span_id == 0 ||
	                (x.parent_id && v->parent_id == 0)))
		return false;
	if (TW_UNLIKELY(r->place_cap - r->place_count < TW_TEMPLATE_VALUES_MAX) &&
	    !tw_request_room_operations(r, 0, TW_TEMPLATE_VALUES_MAX))
		return false;
	t->spans++;
	x.hash = TW_LIKELY(t->ahead[0].p == p)
	             ? t->ahead[0].hash
	             : hash_of(t, x.name, x.name_n, x.kind, x.parent_id != NULL);
	look_ahead(s, end);
	template = shape_slot(t, x.hash)->guess;
	if (TW_UNLIKELY(!template || !match(template, &x, p, end, r->places + r->place_count)))
		template = other(s, &x, p, end, missed);
	else
		template->hits++;
	if (TW_UNLIKELY(!template || !operation(s, template, scope)))
		return false;
	fill(s, v, &x, template);
	t->stats.recognised++;
	return true;
}
