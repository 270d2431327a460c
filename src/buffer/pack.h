/* A span as what differs from its template: how it lies in a segment, and back, byte for byte.
 *
 * Behind the entry's head: span id, parent id if the template has one, one byte that says how many
 * bytes the next two numbers take, start (from the segment's base) and duration, the series if it
 * differs within the operation, then the differing values in order. A text is one byte c, then
 *   0x00–0x7f  c bytes as they are
 *   0x80–0xbf  c − 0x80 bytes, each two lower-case hex digits of the text
 *   0xc0–0xc3  two bytes: with c's low bits the offset / 4 of a text in the segment
 *   0xff       a length of two bytes, the bytes
 * An integer is its varint, a RAW value its bytes, a field's payload a text that is never hex or
 * shared. Threads: the shard's owner. */
#ifndef TW_BUFFER_PACK_H
#define TW_BUFFER_PACK_H

#include "log.h"

/* What the spans of an operation share in a segment; the bytes of a head. */
struct tw_log_operation {
	uint32_t template_off, scope_off; /* heads */
	uint32_t series;                  /* TW_SERIES_DIFFERS: each span says */
	uint8_t kind, status;
	uint16_t pad;
};
#define TW_SERIES_DIFFERS UINT32_MAX

/* Head, ids, numbers, series, padding. */
#define TW_PACK_FIXED_MAX 72u

/* A packed entry, taken apart. */
struct tw_unpacked {
	const struct tw_log_operation *op;
	const struct tw_layout *layout;
	uint64_t span_id, parent_id; /* as in tw_span */
	uint64_t start_ns, duration_ns;
	uint32_t series;
	const uint8_t *values; /* behind the fixed part */
};

/* Appends a span to the open segment, packed if it has a template, fits, and is worth it; the
 * caller has seen that it fits as it is. */
void tw_log_append(struct tw_log *l, const struct tw_request *req, const struct tw_span *sp,
                   struct tw_record *rec, uint32_t record);
/* Writes the packed entry `from` of another segment into the open one: its size in *size; 0: no
 * room. Returns its offset. */
uint32_t tw_repack(struct tw_log *l, const uint8_t *segment, const struct tw_packed *from,
                   uint32_t *size);
/* The scope's head of an entry, packed or not. */
static inline uint32_t tw_entry_scope(const uint8_t *segment, const struct tw_entry *e)
{
	const struct tw_head *h;

	if (!(e->word & TW_BLOCK_PACKED))
		return e->scope_off;
	h = tw_head_at(segment, tw_packed_operation((const struct tw_packed *)e));
	return ((const struct tw_log_operation *)(h + 1))->scope_off;
}

void tw_unpack_head(const uint8_t *segment, const struct tw_packed *e, struct tw_unpacked *u);
#define TW_UNPACKED_STATE_AT                                                                       \
	30u /* where the trace state lies in a span as it came, if it has one */
/* Its length as it came. */
uint32_t tw_unpacked_size(const uint8_t *segment, const struct tw_packed *e);
/* The span as it came. Returns its length; out has room for it and 16 bytes more. */
uint32_t tw_unpack(const uint8_t *segment, const struct tw_packed *e, struct tw_id128 trace_id,
                   uint8_t *out);

#endif
