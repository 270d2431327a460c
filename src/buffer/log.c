#include "log.h"

#include "tw/base/error.h"
#include "tw/base/mem.h"

#define HEAD_SLOTS 4096u /* past half of them a head may be written twice: correct, and rare */

int tw_log_init(struct tw_log *l, struct tw_pool *pool)
{
	uint32_t first, second;

	*l = (struct tw_log){.pool = pool, .stamp = 1};
	l->head_slots = tw_calloc(HEAD_SLOTS, sizeof(*l->head_slots));
	if (!l->head_slots)
		return TW_ENOMEM;
	first = tw_pool_get(pool, TW_SEGMENT_BYTES, true);
	second = tw_pool_get(pool, TW_SEGMENT_BYTES, true);
	if (first != TW_SLOT_NONE)
		tw_log_hold(l, first);
	if (second != TW_SLOT_NONE)
		tw_log_hold(l, second);
	l->reserve = second;
	if (first == TW_SLOT_NONE || second == TW_SLOT_NONE) {
		l->open = first;
		tw_log_deinit(l);
		return TW_ENOMEM;
	}
	tw_log_open(l, first);
	return 0;
}

static void give_back(struct tw_log *l, uint32_t slot)
{
	tw_log_unhold(l, slot);
	tw_pool_put(l->pool, slot);
}

void tw_log_deinit(struct tw_log *l)
{
	for (uint32_t b = 0; b < TW_LOG_BUCKETS; b++) {
		while (l->bucket[b] != TW_SLOT_NONE) {
			uint32_t slot = l->bucket[b];

			l->bucket[b] = l->pool->slots[slot].next;
			give_back(l, slot);
		}
	}
	if (l->open != TW_SLOT_NONE)
		give_back(l, l->open);
	if (l->reserve != TW_SLOT_NONE)
		give_back(l, l->reserve);
	tw_free(l->head_slots);
	tw_free(l->scopes);
	*l = (struct tw_log){0};
}

void tw_log_hold(struct tw_log *l, uint32_t slot)
{
	l->segments++;
	l->capacity += l->pool->slots[slot].capacity;
}

void tw_log_unhold(struct tw_log *l, uint32_t slot)
{
	struct tw_segment *g = &l->pool->slots[slot];

	l->segments--;
	l->capacity -= g->capacity;
	l->heads -= g->heads;
	g->heads = 0;
}

/* ---- lists of closed segments ---- */

static uint32_t bucket_of(const struct tw_segment *g)
{
	uint64_t b = g->capacity == TW_SEGMENT_BYTES
	                 ? g->live / (TW_SEGMENT_BYTES / TW_LOG_BUCKETS)
	                 : (uint64_t)g->live * TW_LOG_BUCKETS / g->capacity;

	return b < TW_LOG_BUCKETS ? (uint32_t)b : TW_LOG_BUCKETS - 1;
}

void tw_log_relist(struct tw_log *l, uint32_t slot)
{
	struct tw_segment *g = &l->pool->slots[slot];

	g->bucket = bucket_of(g);
	g->prev = TW_SLOT_NONE;
	g->next = l->bucket[g->bucket];
	if (g->next != TW_SLOT_NONE)
		l->pool->slots[g->next].prev = slot;
	l->bucket[g->bucket] = slot;
}

void tw_log_unlist(struct tw_log *l, uint32_t slot)
{
	struct tw_segment *g = &l->pool->slots[slot];

	if (g->prev != TW_SLOT_NONE)
		l->pool->slots[g->prev].next = g->next;
	else
		l->bucket[g->bucket] = g->next;
	if (g->next != TW_SLOT_NONE)
		l->pool->slots[g->next].prev = g->prev;
}

void tw_log_close(struct tw_log *l)
{
	uint32_t slot = l->open;

	if (slot == TW_SLOT_NONE)
		return;
	l->open = TW_SLOT_NONE;
	if (l->pool->slots[slot].live == 0)
		give_back(l, slot);
	else
		tw_log_relist(l, slot);
}

static void next_stamp(struct tw_log *l)
{
	if (++l->stamp != 0)
		return;
	if (l->scopes)
		memset(l->scopes, 0, l->scope_cap * sizeof(*l->scopes));
	l->stamp = 1;
}

void tw_log_open(struct tw_log *l, uint32_t slot)
{
	struct tw_segment *g = &l->pool->slots[slot];
	struct tw_segment_header *h = (struct tw_segment_header *)g->mem;

	*h = (struct tw_segment_header){TW_SEGMENT_MAGIC, 1, g->capacity};
	g->used = sizeof(*h);
	g->live = 0;
	l->heads -= g->heads;
	g->heads = 0;
	l->open = slot;
	l->head_count = 0;
	if (++l->epoch == 0) {
		memset(l->head_slots, 0, HEAD_SLOTS * sizeof(*l->head_slots));
		l->epoch = 1;
	}
	next_stamp(l);
}

/* ---- heads ---- */

static const uint8_t *open_mem(const struct tw_log *l)
{
	return l->pool->slots[l->open].mem;
}

/* The slot of an equal head in the open segment, or the empty one where it would go. */
static struct tw_head_slot *head_slot(const struct tw_log *l, struct tw_slice head, uint64_t hash,
                                      uint64_t kind, uint32_t resource_off)
{
	uint32_t at = (uint32_t)((hash * UINT64_C(0x9E3779B97F4A7C15)) >> 40);

	for (;; at++) {
		struct tw_head_slot *s = &l->head_slots[at % HEAD_SLOTS];
		const struct tw_head *h;

		if (s->epoch != l->epoch)
			return s;
		if (s->hash != hash)
			continue;
		h = tw_head_at(open_mem(l), s->off);
		if ((h->word & TW_BLOCK_SCOPE) == kind && h->resource_off == resource_off &&
		    tw_slice_eq(tw_head_bytes(h), head))
			return s;
	}
}

static uint32_t head_find(const struct tw_log *l, struct tw_slice head, uint64_t hash,
                          uint64_t kind, uint32_t resource_off)
{
	struct tw_head_slot *s;

	if (l->open == TW_SLOT_NONE)
		return 0;
	s = head_slot(l, head, hash, kind, resource_off);
	return s->epoch == l->epoch ? s->off : 0;
}

/* Finds or writes; the caller has seen that it fits. */
static uint32_t head_put(struct tw_log *l, struct tw_slice head, uint64_t hash, uint64_t kind,
                         uint32_t resource_off)
{
	struct tw_segment *g = &l->pool->slots[l->open];
	struct tw_head_slot *s = head_slot(l, head, hash, kind, resource_off);
	struct tw_head *h;
	uint32_t off = g->used, size = (uint32_t)tw_head_size(head.n);

	if (s->epoch == l->epoch)
		return s->off;
	h = (struct tw_head *)(g->mem + off);
	*h = (struct tw_head){kind | head.n, hash, resource_off, 0};
	if (head.n > 0)
		memcpy(h + 1, head.p, head.n);
	g->used += size;
	g->heads += size;
	l->heads += size;
	if (l->head_count < HEAD_SLOTS / 2) {
		*s = (struct tw_head_slot){hash, off, l->epoch};
		l->head_count++;
	}
	return off;
}

void tw_log_begin(struct tw_log *l, uint32_t scope_count)
{
	next_stamp(l);
	if (scope_count > l->scope_cap) {
		uint32_t cap = scope_count < 64 ? 64 : scope_count + scope_count / 2;
		struct tw_scope_slot *scopes = tw_calloc(cap, sizeof(*scopes));

		if (!scopes)
			return; /* scopes past scope_cap are looked up by hash each time */
		tw_free(l->scopes);
		l->scopes = scopes;
		l->scope_cap = cap;
	}
}

static uint32_t scope_find(struct tw_log *l, const struct tw_request *req, uint32_t scope,
                           uint32_t *resource_off)
{
	const struct tw_scope *sc = &req->scopes[scope];
	const struct tw_resource *res = &req->resources[sc->resource];
	uint32_t off = 0;

	*resource_off = head_find(l, res->head, res->hash, 0, 0);
	if (*resource_off != 0)
		off = head_find(l, sc->head, sc->hash, TW_BLOCK_SCOPE, *resource_off);
	if (off != 0 && scope < l->scope_cap)
		l->scopes[scope] = (struct tw_scope_slot){off, l->stamp};
	return off;
}

uint64_t tw_log_need_heads(struct tw_log *l, const struct tw_request *req, const struct tw_span *sp)
{
	const struct tw_scope *sc = &req->scopes[sp->scope];
	uint64_t need = tw_entry_size(sp->bytes_n);
	uint32_t resource_off;

	if (scope_find(l, req, sp->scope, &resource_off) != 0)
		return need;
	need += tw_head_size(sc->head.n);
	if (resource_off == 0)
		need += tw_head_size(req->resources[sc->resource].head.n);
	return need;
}

uint64_t tw_log_need_empty(const struct tw_request *req, const struct tw_span *sp)
{
	const struct tw_scope *sc = &req->scopes[sp->scope];

	return tw_entry_size(sp->bytes_n) + tw_head_size(sc->head.n) +
	       tw_head_size(req->resources[sc->resource].head.n);
}

static uint32_t scope_put(struct tw_log *l, const struct tw_request *req, uint32_t scope)
{
	const struct tw_scope *sc = &req->scopes[scope];
	const struct tw_resource *res = &req->resources[sc->resource];
	uint32_t off;

	if (TW_LIKELY(scope < l->scope_cap && l->scopes[scope].stamp == l->stamp))
		return l->scopes[scope].off;
	off = head_put(l, res->head, res->hash, 0, 0);
	off = head_put(l, sc->head, sc->hash, TW_BLOCK_SCOPE, off);
	if (scope < l->scope_cap)
		l->scopes[scope] = (struct tw_scope_slot){off, l->stamp};
	return off;
}

uint32_t tw_log_copy_scope(struct tw_log *l, const uint8_t *segment, uint32_t scope_off,
                           uint64_t entry)
{
	const struct tw_head *sc = tw_head_at(segment, scope_off);
	const struct tw_head *res = tw_head_at(segment, sc->resource_off);
	struct tw_slice sc_bytes = tw_head_bytes(sc), res_bytes = tw_head_bytes(res);
	uint32_t res_off = head_find(l, res_bytes, res->hash, 0, 0), off = 0;
	uint64_t need = entry;

	if (res_off != 0)
		off = head_find(l, sc_bytes, sc->hash, TW_BLOCK_SCOPE, res_off);
	if (res_off == 0)
		need += tw_head_size(res_bytes.n);
	if (off == 0)
		need += tw_head_size(sc_bytes.n);
	if (!tw_log_fits(l, need))
		return 0;
	if (off != 0)
		return off;
	res_off = head_put(l, res_bytes, res->hash, 0, 0);
	return head_put(l, sc_bytes, sc->hash, TW_BLOCK_SCOPE, res_off);
}

/* ---- entries ---- */

void tw_log_append(struct tw_log *l, const struct tw_request *req, const struct tw_span *sp,
                   struct tw_record *rec, uint32_t record)
{
	struct tw_segment *g = &l->pool->slots[l->open];
	uint32_t scope_off = scope_put(l, req, sp->scope);
	uint32_t off = g->used, size = (uint32_t)tw_entry_size(sp->bytes_n);
	struct tw_entry *e = (struct tw_entry *)(g->mem + off);

	e->word = TW_BLOCK_ENTRY | rec->head | (uint64_t)(sp->kind & 7) << 51 |
	          (uint64_t)(sp->status & 3) << 54;
	e->record = record;
	e->bytes_n = sp->bytes_n;
	e->scope_off = scope_off;
	e->series = sp->series;
	e->span_id = sp->span_id;
	e->parent_id = sp->parent_id;
	e->start_ns = sp->start_ns;
	e->duration_ns = sp->duration_ns;
	memcpy(e + 1, sp->bytes, sp->bytes_n);
	g->used += size;
	g->live += size;
	l->live += size;
	l->span_bytes += sp->bytes_n;
	rec->head = tw_link(l->open, off);
}

uint64_t tw_log_chain_bytes(const struct tw_log *l, uint64_t chain)
{
	uint64_t bytes = 0;

	while (chain != 0) {
		const struct tw_entry *e = tw_entry_at(l, chain);

		bytes += tw_entry_size(e->bytes_n);
		chain = e->word & TW_LINK_MASK;
	}
	return bytes;
}

void tw_log_drop(struct tw_log *l, uint64_t chain)
{
	if (chain == 0)
		return;
	if (l->dead_count == TW_LOG_DEAD_MAX)
		tw_log_flush(l);
	__builtin_prefetch(tw_entry_at(l, chain), 1);
	l->dead[l->dead_count++] = chain;
}

/* One entry dies; returns the link to the one before it. */
static uint64_t kill_entry(struct tw_log *l, uint64_t link)
{
	struct tw_entry *e = tw_entry_at(l, link);
	uint32_t slot = tw_link_slot(link), size = (uint32_t)tw_entry_size(e->bytes_n);
	struct tw_segment *g = &l->pool->slots[slot];
	uint64_t next = e->word & TW_LINK_MASK;

	e->word |= TW_BLOCK_DEAD;
	g->live -= size;
	l->live -= size;
	l->span_bytes -= e->bytes_n;
	if (next != 0)
		__builtin_prefetch(tw_entry_at(l, next), 1);
	if (slot == l->open)
		return next;
	if (g->live == 0) {
		tw_log_unlist(l, slot);
		give_back(l, slot);
	} else if (bucket_of(g) != g->bucket) {
		tw_log_unlist(l, slot);
		tw_log_relist(l, slot);
	}
	return next;
}

void tw_log_flush(struct tw_log *l)
{
	while (l->dead_count > 0) {
		uint32_t kept = 0;

		for (uint32_t i = 0; i < l->dead_count; i++) {
			uint64_t next = kill_entry(l, l->dead[i]);

			if (next != 0)
				l->dead[kept++] = next;
		}
		l->dead_count = kept;
	}
}
