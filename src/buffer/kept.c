#include "pack.h"
#include "shard.h"
#include "tw/base/error.h"
#include "tw/base/mem.h"

#define FIELD_TRACE_STATE 3u /* opentelemetry.proto.trace.v1.Span */

const struct tw_trace_view *tw_kept_view(const struct tw_kept *k)
{
	return &k->view;
}

const struct tw_verdict *tw_kept_verdict(const struct tw_kept *k)
{
	return &k->verdict;
}

uint32_t tw_kept_span_count(const struct tw_kept *k)
{
	return k->view.span_count;
}

uint64_t tw_kept_bytes(const struct tw_kept *k)
{
	return k->view.bytes;
}

static bool varint(struct tw_slice b, size_t *at, uint64_t *out)
{
	*out = 0;
	for (uint32_t shift = 0; shift < 64 && *at < b.n; shift += 7) {
		uint8_t byte = b.p[(*at)++];

		*out |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return true;
	}
	return false;
}

/* Steps over one field's value; *n: its length where it has one. */
static bool skip_value(struct tw_slice b, uint32_t wire_type, size_t *at, uint64_t *n)
{
	switch (wire_type) {
	case 0:
		return varint(b, at, n);
	case 1:
		*at += 8;
		return *at <= b.n;
	case 2:
		if (!varint(b, at, n) || *n > b.n - *at)
			return false;
		*at += *n;
		return true;
	case 3:
	case 4:
		return true; /* a group's borders; its fields follow as fields */
	case 5:
		*at += 4;
		return *at <= b.n;
	default:
		return false;
	}
}

/* Looked up anew rather than stored: few spans are kept, and fewer have one. The span was scanned
 * before, so its fields are whole; should they not be, it has none. */
static void find_tracestate(struct tw_kept_span *out)
{
	struct tw_slice b = out->bytes;
	size_t at = 0;
	uint32_t depth = 0;

	while (at < b.n) {
		uint64_t tag, n = 0;

		if (!varint(b, &at, &tag) || !skip_value(b, tag & 7, &at, &n))
			return;
		if ((tag & 7) == 3)
			depth++;
		else if ((tag & 7) == 4 && depth > 0)
			depth--;
		else if ((tag & 7) == 2 && tag >> 3 == FIELD_TRACE_STATE && depth == 0) {
			out->tracestate_off = (uint32_t)(at - n);
			out->tracestate_n = (uint32_t)n;
		}
	}
}

/* ---- spans as they came ---- */

#define SCRATCH_SLACK 64u /* unpacking writes so far behind */
#define SCRATCH_KEEP  (UINT64_C(4) << 20)

uint8_t *tw_shard_scratch(struct tw_shard *s, uint64_t bytes)
{
	bytes += SCRATCH_SLACK;
	if (bytes <= s->scratch_cap && (s->scratch_cap <= SCRATCH_KEEP || bytes > SCRATCH_KEEP))
		return s->scratch;
	tw_free(s->scratch);
	s->scratch_cap = bytes < (64u << 10) ? 64u << 10 : bytes + bytes / 4;
	s->scratch = tw_alloc(s->scratch_cap);
	if (!s->scratch)
		s->scratch_cap = 0;
	return s->scratch;
}

bool tw_shard_span(struct tw_shard *s, const struct tw_record *rec, const struct tw_entry *e,
                   const uint8_t *segment, struct tw_slice *span)
{
	uint8_t *p;

	*span = tw_slice(e + 1, e->bytes_n);
	if (!(e->word & TW_BLOCK_PACKED))
		return true;
	/* No span of a trace is larger than all of them. */
	p = tw_shard_scratch(s, rec->bytes);
	if (!p)
		return false;
	*span = tw_slice(p, tw_unpack(segment, (const struct tw_packed *)e, rec->id, p));
	return true;
}

/* A packed span goes to *scratch, which is moved on. */
static void describe(const struct tw_log *l, struct tw_id128 id, uint64_t link, uint8_t **scratch,
                     struct tw_kept_span *out)
{
	const uint8_t *segment = l->pool->slots[tw_link_slot(link)].mem;
	const struct tw_entry *e = tw_entry_at(l, link);
	const struct tw_head *sc = tw_head_at(segment, tw_entry_scope(segment, e));
	const struct tw_head *res = tw_head_at(segment, sc->resource_off);

	*out = (struct tw_kept_span){.resource_head = tw_head_bytes(res),
	                             .scope_head = tw_head_bytes(sc),
	                             .resource_key = res->hash,
	                             .scope_key = sc->hash,
	                             .kind = TW_ENTRY_KIND(e->word),
	                             .status = TW_ENTRY_STATUS(e->word)};
	if (e->word & TW_BLOCK_PACKED) {
		const struct tw_packed *packed = (const struct tw_packed *)e;
		struct tw_unpacked u;

		tw_unpack_head(segment, packed, &u);
		out->start_ns = u.start_ns;
		out->duration_ns = u.duration_ns;
		out->span_id = u.span_id;
		out->series = u.series;
		out->bytes = tw_slice(*scratch, tw_unpack(segment, packed, id, *scratch));
		*scratch += out->bytes.n;
		if (u.layout->has_state) {
			out->tracestate_off = TW_UNPACKED_STATE_AT;
			out->tracestate_n = out->bytes.p[TW_UNPACKED_STATE_AT - 1];
		}
		return;
	}
	out->start_ns = e->start_ns;
	out->duration_ns = e->duration_ns;
	out->span_id = e->span_id;
	out->series = e->series;
	out->bytes = tw_slice(e + 1, e->bytes_n);
	find_tracestate(out);
}

/* ---- a part of a trace ----
 *
 * The destinations take a large trace in parts, from its newest span to its oldest, each at its own
 * pace. Where a part ended a cursor stays, as long as no newer ones need its place; compaction
 * moves it with its entry. One whose trace is gone is not missed: a struct tw_kept that is used
 * again has no cursors. */

/* A place in the chain: `link` is to span at − 1. */
struct place {
	uint64_t link;
	uint32_t at;
};

static struct place older(const struct tw_log *l, struct place p)
{
	return (struct place){tw_entry_at(l, p.link)->word & TW_LINK_MASK, p.at - 1};
}

/* The nearest known place from which span at − 1 is reached. */
static struct place nearest(const struct tw_shard *s, const struct tw_kept *k, uint32_t at)
{
	struct place p = {tw_record_at(&s->records, k->record)->head, k->view.span_count};

	for (uint32_t i = 0; k->cursors >> i != 0; i++)
		if (k->cursors >> i & 1 && s->cursor[i].at >= at && s->cursor[i].at < p.at)
			p = (struct place){s->log.cursor[i], s->cursor[i].at};
	return p;
}

/* The next part will begin at p. */
static void remember(struct tw_shard *s, struct tw_kept *k, struct place p)
{
	uint32_t i = s->cursor_next % TW_DESTINATIONS_MAX;

	if (p.at == 0 || nearest(s, k, p.at).at == p.at)
		return;
	if (s->cursor[i].kept)
		s->cursor[i].kept->cursors &= (uint8_t) ~(1u << i);
	s->cursor[i] = (struct tw_kept_cursor){k, p.at};
	s->log.cursor[i] = p.link;
	k->cursors |= (uint8_t)(1u << i);
	s->cursor_next++;
}

/* What the packed ones of the n spans before p take as they came. */
static uint64_t part_bytes(const struct tw_shard *s, struct place p, uint32_t n)
{
	uint64_t bytes = 0;

	for (; n > 0; n--, p = older(&s->log, p)) {
		const struct tw_entry *e = tw_entry_at(&s->log, p.link);

		if (e->word & TW_BLOCK_PACKED)
			bytes += tw_unpacked_size(s->log.pool->slots[tw_link_slot(p.link)].mem,
			                          (const struct tw_packed *)e);
	}
	return bytes;
}

bool tw_kept_spans(struct tw_kept *k, uint32_t at, uint32_t n, struct tw_kept_span *out)
{
	struct tw_shard *s = k->shard;
	struct place p = nearest(s, k, at + n);
	uint8_t *scratch;

	TW_ASSERT(at + n <= k->view.span_count);
	while (p.at > at + n)
		p = older(&s->log, p);
	scratch =
	    tw_shard_scratch(s, n == k->view.span_count ? k->view.bytes : part_bytes(s, p, n));
	if (!scratch)
		return false;
	for (; p.at > at; p = older(&s->log, p))
		describe(&s->log, k->view.id, p.link, &scratch, &out[p.at - 1 - at]);
	remember(s, k, p);
	return true;
}
