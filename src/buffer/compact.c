#include "pack.h"
#include "reclaim.h"

#include "tw/base/error.h"

#define STEPS_MAX 256u /* segments of the list, a call */
#define AHEAD     16u  /* blocks whose records are asked for */
#define WALKED    256u

/* The blocks of a closed segment, one after another; the records that its entries name are on their
 * way to the cache before they are asked for. */
struct blocks {
	const struct tw_segment *g;
	const struct tw_records *r;
	uint32_t off, ahead;
};

static void ask_ahead(struct blocks *b)
{
	const tw_word *word = (const tw_word *)(b->g->mem + b->ahead);

	if (b->ahead >= b->g->used)
		return;
	if (*word & TW_BLOCK_ENTRY)
		__builtin_prefetch(tw_record_at(b->r, ((const struct tw_entry *)word)->record));
	b->ahead += tw_block_bytes(word);
}

static struct blocks blocks_of(const struct tw_segment *g, const struct tw_records *r)
{
	const uint32_t first = sizeof(struct tw_segment_header);
	struct blocks b = {.g = g, .r = r, .off = first, .ahead = first};

	for (uint32_t i = 0; i < AHEAD; i++)
		ask_ahead(&b);
	return b;
}

/* The next entry that may live; NULL: there is none. */
static const struct tw_entry *next_alive(const struct tw_log *l, struct blocks *b)
{
	while (b->off < b->g->used) {
		const tw_word *word = (const tw_word *)(b->g->mem + b->off);
		const struct tw_entry *e = (const struct tw_entry *)word;

		ask_ahead(b);
		b->off += tw_block_bytes(word);
		if (*word & TW_BLOCK_ENTRY &&
		    tw_log_may_own(l, tw_record_at(b->r, e->record), b->g))
			return e;
	}
	return NULL;
}

static void look_into(struct tw_log *l, const struct tw_records *r, struct tw_segment *g)
{
	struct blocks b = blocks_of(g, r);
	const struct tw_entry *e;

	g->live = 0;
	while ((e = next_alive(l, &b)) != NULL)
		g->live += tw_entry_bytes(e);
	g->looked = l->dropped;
}

/* Can so much have died that at most `most` bytes live? And is it likely: as many of the traces
 * that began in it are gone, or half of all that is held died since somebody looked. */
static bool worth_a_look(const struct tw_log *l, const struct tw_segment *g, uint64_t most,
                         uint32_t sixteenths)
{
	uint64_t died = l->dropped - g->looked;

	return g->live > most && died >= g->live - most &&
	       ((uint64_t)l->begun[g->number % TW_LOG_NUMBERS] * 16 <=
	            (uint64_t)g->begun * sixteenths ||
	        died >= l->capacity / 2);
}

uint32_t tw_log_victim(struct tw_log *l, const struct tw_records *r, uint32_t sixteenths,
                       uint64_t room, uint32_t *looks)
{
	for (uint32_t n = 0; n < STEPS_MAX && n < l->segments && l->oldest != TW_SLOT_NONE; n++) {
		uint32_t slot = l->look != TW_SLOT_NONE ? l->look : l->oldest;
		struct tw_segment *g = &l->pool->slots[slot];
		uint64_t most = (uint64_t)g->capacity * sixteenths / 16;

		l->look = g->next;
		if (g->heads > room)
			continue;
		most = most < room - g->heads ? most : room - g->heads;
		if (worth_a_look(l, g, most, sixteenths)) {
			if (*looks == 0) {
				l->look = slot;
				break;
			}
			--*looks;
			look_into(l, r, g);
		}
		if (g->live <= most)
			return slot;
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
static bool move_trace(struct tw_log *l, struct tw_record *rec, uint32_t victim, uint64_t *moved)
{
	struct tw_entry *newer = NULL;
	uint64_t link = rec->head;

	while (link != 0) {
		struct tw_entry *e = tw_entry_at(l, link);

		if (tw_link_slot(link) == victim) {
			uint64_t to = copy_entry(l, victim, e);
			uint32_t bytes = tw_entry_bytes(e);

			if (to == 0)
				return false;
			*moved += bytes;
			l->live -= bytes;
			l->span_bytes -= tw_entry_span_bytes(e);
			follow(l, link, to);
			e = tw_entry_at(l, to);
			rec->stored += tw_entry_bytes(e) - bytes;
			if (newer)
				newer->word = (newer->word & ~TW_LINK_MASK) | to;
			else
				rec->head = to;
		}
		newer = e;
		link = e->word & TW_LINK_MASK;
	}
	return true;
}

/* After a walk nothing of the trace is left in the victim, so other entries that name its record
 * are of those who had it before: another walk, which may be long, is for nothing. */
bool tw_log_compact(struct tw_log *l, const struct tw_records *r, uint32_t victim, uint64_t *moved)
{
	struct tw_segment *g = &l->pool->slots[victim];
	uint32_t walked[WALKED] = {0};
	struct blocks b = blocks_of(g, r);
	const struct tw_entry *e;

	TW_ASSERT(victim != l->open && l->open != TW_SLOT_NONE);
	*moved = 0;
	while ((e = next_alive(l, &b)) != NULL) {
		if (walked[e->record % WALKED] == e->record)
			continue;
		walked[e->record % WALKED] = e->record;
		if (!move_trace(l, tw_record_at(r, e->record), victim, moved)) {
			g->live -= *moved < g->live ? (uint32_t)*moved : g->live;
			return false;
		}
	}
	tw_log_unlist(l, victim);
	return true;
}
