#include "reclaim.h"

void tw_log_give_back(struct tw_log *l, uint32_t slot)
{
	tw_log_unhold(l, slot);
	tw_pool_put(l->pool, slot);
}

/* ---- the list of closed segments ---- */

void tw_log_list(struct tw_log *l, uint32_t slot)
{
	struct tw_segment *g = &l->pool->slots[slot];

	g->next = TW_SLOT_NONE;
	g->prev = l->newest;
	if (g->prev != TW_SLOT_NONE)
		l->pool->slots[g->prev].next = slot;
	else
		l->oldest = slot;
	l->newest = slot;
}

void tw_log_unlist(struct tw_log *l, uint32_t slot)
{
	struct tw_segment *g = &l->pool->slots[slot];

	if (l->look == slot)
		l->look = g->next;
	if (l->eldest == slot) {
		l->eldest = g->next != TW_SLOT_NONE ? g->next : l->open;
		l->eldest_off = 0;
	}
	if (g->prev != TW_SLOT_NONE)
		l->pool->slots[g->prev].next = g->next;
	else
		l->oldest = g->next;
	if (g->next != TW_SLOT_NONE)
		l->pool->slots[g->next].prev = g->prev;
	else
		l->newest = g->prev;
}

/* ---- traces that end ---- */

uint64_t tw_log_count_whole(const struct tw_log *l, uint64_t chain)
{
	uint64_t n = 0;

	while (chain != 0) {
		const struct tw_entry *e = tw_entry_at(l, chain);

		n += !(e->word & TW_BLOCK_PACKED);
		chain = e->word & TW_LINK_MASK;
	}
	return n;
}

/* A number that older traces have, too (they differ by a multiple of TW_LOG_NUMBERS) holds up the
 * search until no trace has it: then compaction does what is done here otherwise. */
void tw_log_reclaim(struct tw_log *l)
{
	while (l->held_from < l->number && l->begun[l->held_from % TW_LOG_NUMBERS] == 0)
		l->held_from++;
	if (l->open == TW_SLOT_NONE && l->held_from == l->number &&
	    l->begun[l->held_from % TW_LOG_NUMBERS] == 0)
		l->held_from++;
	while (l->oldest != TW_SLOT_NONE && l->pool->slots[l->oldest].number < l->held_from) {
		uint32_t slot = l->oldest;

		tw_log_unlist(l, slot);
		tw_log_give_back(l, slot);
	}
}

/* The next block of the log for tw_log_eldest; NULL: there is none. */
static const tw_word *eldest_block(struct tw_log *l)
{
	for (;;) {
		const struct tw_segment *g;

		if (l->eldest == TW_SLOT_NONE) {
			l->eldest = l->oldest != TW_SLOT_NONE ? l->oldest : l->open;
			l->eldest_off = 0;
			if (l->eldest == TW_SLOT_NONE)
				return NULL;
		}
		g = &l->pool->slots[l->eldest];
		if (l->eldest_off == 0)
			l->eldest_off = sizeof(struct tw_segment_header);
		if (l->eldest_off < g->used)
			return (const tw_word *)(g->mem + l->eldest_off);
		if (l->eldest == l->open)
			return NULL;
		if (g->next == TW_SLOT_NONE && l->open == TW_SLOT_NONE)
			return NULL;
		l->eldest = g->next != TW_SLOT_NONE ? g->next : l->open;
		l->eldest_off = 0;
	}
}

uint32_t tw_log_eldest(struct tw_log *l, const struct tw_records *r, uint64_t *blocks)
{
	const tw_word *word;

	for (; *blocks > 0 && (word = eldest_block(l)) != NULL; (*blocks)--) {
		const struct tw_segment *g = &l->pool->slots[l->eldest];

		if (*word & TW_BLOCK_ENTRY) {
			uint32_t record = ((const struct tw_entry *)word)->record;
			const struct tw_record *rec = tw_record_at(r, record);

			if (rec->state == TW_RECORD_OPEN && tw_log_may_own(l, rec, g))
				return record;
		}
		l->eldest_off += tw_block_bytes(word);
	}
	return TW_RECORD_NONE;
}
