#include "shard.h"

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

static void describe(const struct tw_log *l, uint64_t link, struct tw_kept_span *out)
{
	const uint8_t *segment = l->pool->slots[tw_link_slot(link)].mem;
	const struct tw_entry *e = tw_entry_at(l, link);
	const struct tw_head *sc = tw_head_at(segment, e->scope_off);
	const struct tw_head *res = tw_head_at(segment, sc->resource_off);

	*out = (struct tw_kept_span){.resource_head = tw_head_bytes(res),
	                             .scope_head = tw_head_bytes(sc),
	                             .bytes = tw_slice(e + 1, e->bytes_n),
	                             .resource_key = res->hash,
	                             .scope_key = sc->hash,
	                             .start_ns = e->start_ns,
	                             .duration_ns = e->duration_ns,
	                             .span_id = e->span_id,
	                             .series = e->series,
	                             .kind = TW_ENTRY_KIND(e->word),
	                             .status = TW_ENTRY_STATUS(e->word)};
	find_tracestate(out);
}

void tw_kept_spans(const struct tw_kept *k, struct tw_kept_span *out)
{
	const struct tw_shard *s = k->shard;
	uint64_t link = tw_record_at(&s->records, k->record)->head;

	/* The chain is newest first. */
	for (uint32_t i = k->view.span_count; i-- > 0;) {
		describe(&s->log, link, &out[i]);
		link = tw_entry_at(&s->log, link)->word & TW_LINK_MASK;
	}
}
