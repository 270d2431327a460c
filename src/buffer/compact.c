#include "pack.h"

#include "tw/base/error.h"

#define LOOK_MAX 4u /* segments of a bucket that are asked whether they fit */

uint32_t tw_log_victim(const struct tw_log *l, uint32_t max_bucket, uint64_t room)
{
	for (uint32_t b = 0; b < max_bucket && b < TW_LOG_BUCKETS; b++) {
		uint32_t slot = l->bucket[b];

		for (uint32_t n = 0; slot != TW_SLOT_NONE && n < LOOK_MAX; n++) {
			const struct tw_segment *g = &l->pool->slots[slot];

			if ((uint64_t)g->live + g->heads <= room)
				return slot;
			slot = g->next;
		}
	}
	return TW_SLOT_NONE;
}

/* An entry as it came; 0: no room. */
static uint32_t copy_whole(struct tw_log *l, const uint8_t *segment, const struct tw_entry *e,
                           uint32_t *size)
{
	struct tw_segment *g = &l->pool->slots[l->open];
	struct tw_entry *to;
	uint32_t scope_off;

	*size = (uint32_t)tw_entry_size(e->bytes_n);
	scope_off = tw_log_copy_scope(l, segment, e->scope_off, *size);
	if (scope_off == 0)
		return 0;
	to = (struct tw_entry *)(g->mem + g->used);
	memcpy(to, e, sizeof(*e) + e->bytes_n);
	to->scope_off = scope_off;
	return g->used;
}

/* Copies one entry into the open segment; 0: no room. */
static uint64_t copy_entry(struct tw_log *l, uint32_t victim, const struct tw_entry *e)
{
	const uint8_t *segment = l->pool->slots[victim].mem;
	struct tw_segment *g = &l->pool->slots[l->open];
	uint32_t off, size;

	if (e->word & TW_BLOCK_PACKED)
		off = tw_repack(l, segment, (const struct tw_packed *)e, &size);
	else
		off = copy_whole(l, segment, e, &size);
	if (off == 0)
		return 0;
	g->used += size;
	g->live += size;
	/* Packed against another base and other texts it may be a little longer or shorter. */
	l->live += size;
	l->span_bytes += tw_entry_span_bytes((const struct tw_entry *)(g->mem + off));
	return tw_link(l->open, off);
}

static void follow(struct tw_log *l, uint64_t from, uint64_t to)
{
	for (uint32_t i = 0; i < TW_DESTINATIONS_MAX; i++)
		if (TW_UNLIKELY(l->cursor[i] == from))
			l->cursor[i] = to;
}

/* Walks a trace's chain and moves those of its entries that lie in the victim; each is unhooked by
 * whoever points to it: the record, or the next newer entry, which by then is where it will stay.
 */
static bool move_trace(struct tw_log *l, struct tw_record *rec, uint32_t victim)
{
	struct tw_segment *g = &l->pool->slots[victim];
	tw_word *ref = &rec->head;

	while ((*ref & TW_LINK_MASK) != 0) {
		uint64_t link = *ref & TW_LINK_MASK;
		struct tw_entry *e = tw_entry_at(l, link);

		if (tw_link_slot(link) == victim) {
			uint64_t to = copy_entry(l, victim, e);

			if (to == 0)
				return false;
			e->word |= TW_BLOCK_DEAD;
			g->live -= tw_entry_bytes(e);
			l->live -= tw_entry_bytes(e);
			l->span_bytes -= tw_entry_span_bytes(e);
			*ref = (*ref & ~TW_LINK_MASK) | to;
			follow(l, link, to);
			e = tw_entry_at(l, to);
		}
		ref = &e->word;
	}
	return true;
}

bool tw_log_compact(struct tw_log *l, const struct tw_records *r, uint32_t victim, uint64_t *moved)
{
	struct tw_segment *g = &l->pool->slots[victim];
	uint64_t off = sizeof(struct tw_segment_header);
	uint32_t before = g->live;
	bool whole = true;

	TW_ASSERT(l->dead_count == 0 && victim != l->open && l->open != TW_SLOT_NONE);
	tw_log_unlist(l, victim);
	while (whole && g->live > 0) {
		const struct tw_entry *e = (const struct tw_entry *)(g->mem + off);

		TW_ASSERT(off < g->used);
		if (!(e->word & TW_BLOCK_ENTRY)) {
			off += tw_head_size_of(e->word);
			continue;
		}
		if (!(e->word & TW_BLOCK_DEAD))
			whole = move_trace(l, tw_record_at(r, e->record), victim);
		off += tw_entry_bytes(e);
	}
	*moved = before - g->live;
	if (!whole)
		tw_log_relist(l, victim);
	return whole;
}
