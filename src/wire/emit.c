/* Kept spans back into export requests: heads and spans are spliced as they came.
 *
 * The two patches of a span are appends: attributes are a repeated field, and of trace_state the
 * last one counts. */
#include <stdlib.h>

#include "put.h"
#include "tw/base/mem.h"
#include "tw/wire.h"

/* Up to here spans are grouped by looking through them, past it by a table. */
#define SMALL 48u
/* Tags and lengths of a span, a scope and a resource, each as long as they can be. */
#define FRAME_BYTES       (3 * 11u)
#define TRACESTATE_GROWTH 24u

static size_t attribute_size(const char *key, struct tw_slice value)
{
	return value.n ? 2 + 3 * 10 + strlen(key) + 10 + value.n : 0;
}

static size_t patch_size(const struct tw_emit_patch *patch)
{
	return attribute_size("traceweir.rule", patch->rule) +
	       attribute_size("traceweir.reason", patch->reason);
}

/* What a span takes at most, without its heads. */
static size_t span_bound(const struct tw_emit_span *s, size_t attributes)
{
	return FRAME_BYTES + s->bytes.n + attributes + 6 + s->tracestate.n + TRACESTATE_GROWTH;
}

size_t tw_emit_bound(const struct tw_emit_span *spans, size_t count,
                     const struct tw_emit_patch *patch)
{
	size_t attributes = patch_size(patch), n = 0;

	for (size_t i = 0; i < count; i++)
		n += span_bound(&spans[i], attributes) + spans[i].resource_head.n +
		     spans[i].scope_head.n;
	return n + 64;
}

static void put_attribute(struct tw_buf *out, const char *key, struct tw_slice value)
{
	struct tw_slice k = tw_slice_str(key);
	size_t any_n = 1 + put_varint_size(value.n) + value.n;

	if (!value.n)
		return;
	put_varint(out, TW_PB_TAG(9, TW_PB_LEN));
	put_varint(out, 1 + put_varint_size(k.n) + k.n + 1 + put_varint_size(any_n) + any_n);
	put_slice(out, TW_PB_TAG(1, TW_PB_LEN), k);
	put_varint(out, TW_PB_TAG(2, TW_PB_LEN));
	put_varint(out, any_n);
	put_slice(out, TW_PB_TAG(1, TW_PB_LEN), value);
}

/* trace_state, if the decision changes it. */
static void put_tracestate(struct tw_buf *out, struct tw_slice own, uint64_t threshold)
{
	struct tw_ot ot = {0};
	size_t at = out->n, n;

	if (own.n)
		tw_tracestate_parse(own, &ot);
	if (ot.malformed || (!ot.has_th && threshold >= TW_THRESHOLD_NEVER))
		return;
	if (ot.has_th && threshold < TW_THRESHOLD_NEVER && ot.th >= threshold)
		return;
	/* The text first, at the end of the buffer, then its tag and length before it. */
	if (!tw_buf_grow(out, 6 + own.n + TRACESTATE_GROWTH))
		return;
	n = tw_tracestate_write(own, threshold, out->p + at + 6, own.n + TRACESTATE_GROWTH);
	if (n == own.n && n && memcmp(out->p + at + 6, own.p, n) == 0)
		return;
	out->n = at;
	put_varint(out, TW_PB_TAG(3, TW_PB_LEN));
	put_varint(out, n);
	memmove(out->p + out->n, out->p + at + 6, n);
	out->n += n;
}

static void put_span(struct tw_buf *out, const struct tw_emit_span *s,
                     const struct tw_emit_patch *patch, struct tw_slice attributes)
{
	size_t guess = s->bytes.n + attributes.n;
	size_t begin = put_begin(out, TW_PB_TAG(2, TW_PB_LEN), guess);

	tw_buf_put(out, s->bytes.p, s->bytes.n);
	tw_buf_put(out, attributes.p, attributes.n);
	put_tracestate(out, s->tracestate, patch->threshold);
	put_end(out, begin, guess);
}

static bool same_resource(const struct tw_emit_span *a, const struct tw_emit_span *b)
{
	return a->resource_key == b->resource_key;
}

static bool same_scope(const struct tw_emit_span *a, const struct tw_emit_span *b)
{
	return same_resource(a, b) && a->scope_key == b->scope_key;
}

/* Moves all that are `same` as spans[0] to the front, in their order; the others keep theirs. */
static void gather(struct tw_emit_span *spans, size_t count,
                   bool (*same)(const struct tw_emit_span *, const struct tw_emit_span *))
{
	size_t front = 1;

	for (size_t i = 1; i < count; i++) {
		struct tw_emit_span s = spans[i];

		if (!same(&s, &spans[0]))
			continue;
		memmove(&spans[front + 1], &spans[front], (i - front) * sizeof(s));
		spans[front++] = s;
	}
}

static void group_few(struct tw_emit_span *spans, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (i == 0 || !same_resource(&spans[i], &spans[i - 1]))
			gather(&spans[i], count - i, same_resource);
		if (i == 0 || !same_scope(&spans[i], &spans[i - 1])) {
			size_t end = i;

			while (end < count && same_resource(&spans[end], &spans[i]))
				end++;
			gather(&spans[i], end - i, same_scope);
		}
	}
}

struct order { /* where a span goes: by the first span of its resource, then of its scope, then by
	          itself */
	uint32_t resource, scope, index;
};

static int compare_order(const void *a, const void *b)
{
	const struct order *x = a, *y = b;

	if (x->resource != y->resource)
		return x->resource < y->resource ? -1 : 1;
	if (x->scope != y->scope)
		return x->scope < y->scope ? -1 : 1;
	return x->index < y->index ? -1 : x->index > y->index;
}

/* The first span that is `same` as spans[i], by a table of `mask` + 1 places that hold index + 1.
 */
static uint32_t first_same(uint32_t *table, uint64_t mask, const struct tw_emit_span *spans,
                           uint32_t i, uint64_t key,
                           bool (*same)(const struct tw_emit_span *, const struct tw_emit_span *))
{
	uint64_t at = key * UINT64_C(0x9E3779B97F4A7C15) >> 32;

	for (;; at++) {
		uint32_t *place = &table[at & mask];

		if (!*place)
			*place = i + 1;
		if (*place == i + 1 || same(&spans[*place - 1], &spans[i]))
			return *place - 1;
	}
}

static int group_many(struct tw_emit_span *spans, uint32_t count)
{
	uint64_t places = 2;
	struct tw_emit_span *copy;
	uint32_t *table;
	struct order *order;
	int e = TW_ENOMEM;

	while (places < (uint64_t)count * 2)
		places *= 2;
	copy = tw_alloc(count * sizeof(*copy));
	order = tw_alloc(count * sizeof(*order));
	table = tw_calloc(places * 2, sizeof(*table));
	if (!copy || !order || !table)
		goto out;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t r = spans[i].resource_key,
		         s = r ^ (spans[i].scope_key << 17 | spans[i].scope_key >> 47);

		order[i].resource = first_same(table, places - 1, spans, i, r, same_resource);
		order[i].scope = first_same(table + places, places - 1, spans, i, s, same_scope);
		order[i].index = i;
	}
	qsort(order, count, sizeof(*order), compare_order);
	memcpy(copy, spans, count * sizeof(*copy));
	for (uint32_t i = 0; i < count; i++)
		spans[i] = copy[order[i].index];
	e = 0;
out:
	tw_free(copy);
	tw_free(order);
	tw_free(table);
	return e;
}

/* Spans [0, n) of one scope. */
static void put_scope(struct tw_buf *out, const struct tw_emit_span *spans, size_t n,
                      const struct tw_emit_patch *patch, struct tw_slice attributes)
{
	size_t guess = spans[0].scope_head.n, begin;

	for (size_t i = 0; i < n; i++)
		guess += spans[i].bytes.n + attributes.n + 4;
	begin = put_begin(out, TW_PB_TAG(2, TW_PB_LEN), guess);
	tw_buf_put(out, spans[0].scope_head.p, spans[0].scope_head.n);
	for (size_t i = 0; i < n; i++)
		put_span(out, &spans[i], patch, attributes);
	put_end(out, begin, guess);
}

/* Spans [0, n) of one resource. */
static void put_resource(struct tw_buf *out, const struct tw_emit_span *spans, size_t n,
                         const struct tw_emit_patch *patch, struct tw_slice attributes)
{
	size_t guess = spans[0].resource_head.n + 8, begin;

	for (size_t i = 0; i < n; i++)
		guess += spans[i].bytes.n + attributes.n + 4;
	begin = put_begin(out, TW_PB_TAG(1, TW_PB_LEN), guess);
	tw_buf_put(out, spans[0].resource_head.p, spans[0].resource_head.n);
	for (size_t i = 0, end; i < n; i = end) {
		for (end = i + 1; end < n && same_scope(&spans[end], &spans[i]); end++)
			;
		put_scope(out, &spans[i], end - i, patch, attributes);
	}
	put_end(out, begin, guess);
}

int tw_emit_trace(struct tw_buf *out, struct tw_emit_span *spans, size_t count,
                  const struct tw_emit_patch *patch)
{
	size_t before = out->n, start;
	struct tw_buf attributes;

	if (count > UINT32_MAX / 4)
		return TW_ELIMIT;
	if (count > SMALL) {
		int e = group_many(spans, (uint32_t)count);

		if (e)
			return e;
	} else {
		group_few(spans, count);
	}
	tw_buf_init(&attributes, 0);
	put_attribute(&attributes, "traceweir.rule", patch->rule);
	put_attribute(&attributes, "traceweir.reason", patch->reason);
	if (!attributes.failed && tw_buf_grow(out, tw_emit_bound(spans, count, patch))) {
		for (start = 0; start < count;) {
			size_t end = start + 1;

			while (end < count && same_resource(&spans[end], &spans[start]))
				end++;
			put_resource(out, &spans[start], end - start, patch,
			             tw_buf_slice(&attributes));
			start = end;
		}
	}
	if (attributes.failed || out->failed) {
		tw_buf_deinit(&attributes);
		out->n = before;
		return TW_ENOMEM;
	}
	tw_buf_deinit(&attributes);
	return 0;
}
