#include "pack.h"
#include "reclaim.h"

#include "tw/base/error.h"
#include "tw/base/mem.h"

#define HEADS_MAX        (TW_SEGMENT_BYTES / 2) /* of a segment; then it takes no more templates */
#define CROWDED_SEGMENTS 32u                    /* then it is tried again */
#define HEADS_SMALL      4096u
#define HEAD_SLOTS       16384u /* past half of them a head may be written twice: correct, and rare */

static void free_arrays(struct tw_log *l)
{
	tw_free(l->head_slots);
	tw_free(l->scopes);
	tw_free(l->operations);
	tw_free(l->text_slots);
	tw_free(l->seen);
	tw_free(l->uses);
	tw_free(l->begun);
	*l = (struct tw_log){0};
}

int tw_log_init(struct tw_log *l, struct tw_pool *pool, struct tw_hash_key key)
{
	uint32_t first, second;

	*l = (struct tw_log){.pool = pool, .stamp = 1, .key = key};
	l->head_slots = tw_calloc(HEAD_SLOTS, sizeof(*l->head_slots));
	l->seen = tw_calloc(TW_LOG_TEXTS, sizeof(*l->seen));
	l->uses = tw_calloc(TW_LOG_USES + TW_TEMPLATE_VALUES_MAX, sizeof(*l->uses));
	l->operations = tw_alloc_aligned(64, TW_LOG_OPERATIONS * sizeof(*l->operations));
	l->begun = tw_calloc(TW_LOG_NUMBERS, sizeof(*l->begun));
	l->text_slots = tw_alloc_aligned(64, TW_LOG_TEXT_SLOTS * sizeof(*l->text_slots));
	if (!l->head_slots || !l->seen || !l->uses || !l->operations || !l->begun ||
	    !l->text_slots) {
		free_arrays(l);
		return TW_ENOMEM;
	}
	memset(l->text_slots, 0, TW_LOG_TEXT_SLOTS * sizeof(*l->text_slots));
	memset(l->operations, 0, TW_LOG_OPERATIONS * sizeof(*l->operations));
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

void tw_log_deinit(struct tw_log *l)
{
	while (l->oldest != TW_SLOT_NONE) {
		uint32_t slot = l->oldest;

		l->oldest = l->pool->slots[slot].next;
		tw_log_give_back(l, slot);
	}
	if (l->open != TW_SLOT_NONE)
		tw_log_give_back(l, l->open);
	if (l->reserve != TW_SLOT_NONE)
		tw_log_give_back(l, l->reserve);
	free_arrays(l);
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

void tw_log_close(struct tw_log *l)
{
	uint32_t slot = l->open;
	struct tw_segment *g = &l->pool->slots[slot];

	if (slot == TW_SLOT_NONE)
		return;
	if (g->heads > HEADS_MAX)
		l->crowded = CROWDED_SEGMENTS;
	else
		l->crowded -= l->crowded > 0;
	l->open = TW_SLOT_NONE;
	l->roomy_max = -1;
	g->live = g->used - (uint32_t)sizeof(struct tw_segment_header) - g->heads;
	if (g->live == 0) {
		if (l->eldest == slot)
			l->eldest = TW_SLOT_NONE;
		tw_log_give_back(l, slot);
		return;
	}
	tw_log_list(l, slot);
}

static void set_roomy(struct tw_log *l)
{
	l->roomy_max = l->open != TW_SLOT_NONE && l->small_heads
	                   ? (int64_t)l->seg->capacity - TW_LOG_ROOMY
	                   : -1;
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

	*h = (struct tw_segment_header){TW_SEGMENT_MAGIC, 2, g->capacity, 0};
	g->used = sizeof(*h);
	g->live = 0;
	g->number = ++l->number;
	g->begun = 0;
	g->looked = l->dropped;
	l->heads -= g->heads;
	g->heads = 0;
	l->open = slot;
	l->seg = g;
	set_roomy(l);
	l->head_count = 0;
	if (++l->epoch == 0) {
		memset(l->head_slots, 0, HEAD_SLOTS * sizeof(*l->head_slots));
		memset(l->operations, 0, TW_LOG_OPERATIONS * sizeof(*l->operations));
		memset(l->text_slots, 0, TW_LOG_TEXT_SLOTS * sizeof(*l->text_slots));
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
		if ((h->word & TW_HEAD_KIND) != kind || h->resource_off != resource_off)
			continue;
		/* A template is some 500 bytes, asked for a hundred times a segment, and its hash
		 * is a keyed one: it is believed. */
		if (kind == TW_HEAD_TEMPLATE ? (uint32_t)h->word == head.n
		                             : tw_slice_eq(tw_head_bytes(h), head))
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

/* Behind what is there; the caller has seen that it fits. Returns its offset. */
static uint32_t head_write(struct tw_log *l, struct tw_slice head, uint64_t hash, uint64_t kind,
                           uint32_t resource_off)
{
	struct tw_segment *g = &l->pool->slots[l->open];
	uint32_t off = g->used, size = (uint32_t)tw_head_size(head.n);
	struct tw_head *h = (struct tw_head *)(g->mem + off);

	*h = (struct tw_head){kind | head.n, hash, resource_off};
	if (head.n > 0)
		memcpy(h + 1, head.p, head.n);
	g->used += size;
	g->heads += size;
	l->heads += size;
	l->head_count++;
	return off;
}

/* Finds or writes; likewise. */
static uint32_t head_put(struct tw_log *l, struct tw_slice head, uint64_t hash, uint64_t kind,
                         uint32_t resource_off)
{
	struct tw_head_slot *s = head_slot(l, head, hash, kind, resource_off);
	uint32_t off;

	if (s->epoch == l->epoch)
		return s->off;
	off = head_write(l, head, hash, kind, resource_off);
	if (l->head_count <= HEAD_SLOTS / 2)
		*s = (struct tw_head_slot){hash, off, l->epoch};
	return off;
}

/* Scopes past the end of an array that could not grow are looked up by hash each time. */
static void scopes_ready(struct tw_log *l, uint32_t count)
{
	uint32_t n = count < 64 ? 64 : count + count / 2;
	void *more;

	if (count <= l->scope_cap)
		return;
	more = tw_calloc(n, sizeof(*l->scopes));
	if (!more)
		return;
	tw_free(l->scopes);
	l->scopes = more;
	l->scope_cap = n;
}

void tw_log_begin(struct tw_log *l, const struct tw_request *req)
{
	next_stamp(l);
	l->small_heads = req->heads_max <= HEADS_SMALL;
	set_roomy(l);
	scopes_ready(l, req->scope_count);
}

static uint32_t scope_find(struct tw_log *l, const struct tw_request *req, uint32_t scope,
                           uint32_t *resource_off)
{
	const struct tw_scope *sc = &req->scopes[scope];
	const struct tw_resource *res = &req->resources[sc->resource];
	uint32_t off = 0;

	*resource_off = head_find(l, res->head, res->hash, TW_HEAD_RESOURCE, 0);
	if (*resource_off != 0)
		off = head_find(l, sc->head, sc->hash, TW_HEAD_SCOPE, *resource_off);
	if (off != 0 && scope < l->scope_cap)
		l->scopes[scope] = (struct tw_scope_slot){off, l->stamp};
	return off;
}

uint64_t tw_log_need_heads(struct tw_log *l, const struct tw_request *req, const struct tw_span *sp)
{
	const struct tw_scope *sc = &req->scopes[sp->scope];
	uint64_t need = tw_entry_size(sp->bytes_n), heads;
	uint32_t resource_off;

	if (sp->operation != 0)
		need += tw_head_size(req->operations[sp->operation - 1].template->layout.size) +
		        tw_head_size(sizeof(struct tw_log_operation)) + need +
		        TW_TEMPLATE_VALUES_MAX * TW_PACK_VALUE_MAX;
	/* Usual heads are not worth a look whether they are there already. */
	heads = tw_head_size(sc->head.n) + tw_head_size(req->resources[sc->resource].head.n);
	if (heads < HEADS_SMALL)
		return need + heads;
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

	/* A segment of the usual size takes any span that has a template, packed; where it does
	 * not, the span lies there as it is. */
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
	TW_ASSERT(sc->head.n + res->head.n <= req->heads_max);
	off = head_put(l, res->head, res->hash, TW_HEAD_RESOURCE, 0);
	off = head_put(l, sc->head, sc->hash, TW_HEAD_SCOPE, off);
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
	uint32_t res_off = head_find(l, res_bytes, res->hash, TW_HEAD_RESOURCE, 0), off = 0;
	uint64_t need = entry;

	if (res_off != 0)
		off = head_find(l, sc_bytes, sc->hash, TW_HEAD_SCOPE, res_off);
	if (res_off == 0)
		need += tw_head_size(res_bytes.n);
	if (off == 0)
		need += tw_head_size(sc_bytes.n);
	if (!tw_log_fits(l, need))
		return 0;
	if (off != 0)
		return off;
	res_off = head_put(l, res_bytes, res->hash, TW_HEAD_RESOURCE, 0);
	return head_put(l, sc_bytes, sc->hash, TW_HEAD_SCOPE, res_off);
}

/* ---- operations and texts ---- */

static bool index_is_full(const struct tw_log *l)
{
	return l->head_count >= HEAD_SLOTS / 2 - 4;
}

static uint64_t operation_hash(const struct tw_log_operation *op)
{
	uint64_t a, b;

	memcpy(&a, op, 8);
	memcpy(&b, (const uint8_t *)op + 8, 8);
	return tw_fold(a ^ UINT64_C(0xA0761D6478BD642F), b ^ UINT64_C(0xE7037ED1A0B428DB));
}

/* Its own place, else one that is free, else one of the two by its hash. */
static struct tw_op_slot *op_slot(struct tw_log *l, const struct tw_operation *op)
{
	struct tw_op_slot *first = &l->operations[tw_log_op_at(op)],
	                  *second = &l->operations[tw_log_op_at(op) ^ 1];

	if (first->template == op->hash && first->scope == op->scope)
		return first;
	if (second->template == op->hash && second->scope == op->scope)
		return second;
	if (first->epoch != l->epoch)
		return first;
	return second->epoch != l->epoch || op->hash >> 63 ? second : first;
}

const struct tw_op_slot *tw_log_operation(struct tw_log *l, const struct tw_request *req,
                                          const struct tw_span *sp)
{
	const struct tw_operation *of = &req->operations[sp->operation - 1];
	const struct tw_template *t = of->template;
	struct tw_log_operation op = {.series = t->fixed ? sp->series : TW_SERIES_DIFFERS,
	                              .kind = sp->kind,
	                              .status = sp->status};
	struct tw_op_slot *slot = op_slot(l, of);
	struct tw_slice head = tw_slice(&op, sizeof(op));
	bool same = slot->template == of->hash && slot->scope == of->scope &&
	            slot->series == op.series && slot->epoch != l->epoch;

	/* What the index has no place for would be written once more after each span of another one
	 * that has its slot; and where there are tens of thousands of operations, few spans of each
	 * come before the segment is full, so that templates would cost more than they save. */
	if (index_is_full(l) || l->pool->slots[l->open].capacity != TW_SEGMENT_BYTES ||
	    l->pool->slots[l->open].heads > HEADS_MAX)
		return NULL;
	op.scope_off = scope_put(l, req, sp->scope);
	op.template_off =
	    head_put(l, tw_slice(&t->layout, t->layout.size), t->hash, TW_HEAD_TEMPLATE, 0);
	*slot = (struct tw_op_slot){
	    .template = of->hash,
	    .scope = of->scope,
	    .kinds = t->kinds,
	    .uses = &l->uses[of->hash % TW_LOG_USES],
	    .word = tw_entry_word(sp->kind, sp->status) | TW_BLOCK_PACKED,
	    /* The slot has been this operation's since before the segment was opened: only
	     * compaction may have written it there, and then it is there twice. */
	    .off = same ? head_write(l, head, operation_hash(&op), TW_HEAD_OPERATION, 0)
	                : head_put(l, head, operation_hash(&op), TW_HEAD_OPERATION, 0),
	    .epoch = l->epoch,
	    .series = op.series,
	    .value_count = (uint8_t)t->layout.value_count,
	    .has_parent = t->layout.has_parent,
	    .fixed = t->fixed};
	return slot;
}

uint32_t tw_log_copy_operation(struct tw_log *l, const uint8_t *segment, uint32_t off,
                               uint64_t entry)
{
	const struct tw_head *h = tw_head_at(segment, off), *template;
	struct tw_log_operation op = *(const struct tw_log_operation *)(h + 1);
	struct tw_slice layout;

	template = tw_head_at(segment, op.template_off);
	layout = tw_head_bytes(template);
	entry += tw_head_size(layout.n) + tw_head_size(sizeof(op));
	if (index_is_full(l))
		return 0;
	op.scope_off = tw_log_copy_scope(l, segment, op.scope_off, entry);
	if (op.scope_off == 0)
		return 0;
	op.template_off = head_put(l, layout, template->hash, TW_HEAD_TEMPLATE, 0);
	return head_put(l, tw_slice(&op, sizeof(op)), operation_hash(&op), TW_HEAD_OPERATION, 0);
}

uint32_t tw_log_put_text(struct tw_log *l, struct tw_slice text, uint64_t hash)
{
	struct tw_segment *g = &l->pool->slots[l->open];
	uint32_t off = tw_log_find_text(l, text, hash), at = hash % TW_LOG_TEXT_SLOTS;
	uint32_t size = (uint32_t)tw_text_size(text.n);
	struct tw_text_slot *t = &l->text_slots[at];
	tw_word *w;

	if (off != 0)
		return off;
	if (t->epoch == l->epoch)
		t = &l->text_slots[at ^ 1];
	if (t->epoch == l->epoch || g->capacity != TW_SEGMENT_BYTES)
		return 0;
	off = g->used;
	w = (tw_word *)(g->mem + off);
	*w = TW_HEAD_TEXT | text.n;
	memcpy(w + 1, text.p, text.n);
	g->used += size;
	g->heads += size;
	l->heads += size;
	*t = (struct tw_text_slot){hash, off, l->epoch};
	return off;
}

/* ---- entries ---- */

uint32_t tw_log_append_whole(struct tw_log *l, const struct tw_request *req,
                             const struct tw_span *sp)
{
	uint32_t scope_off = scope_put(l, req, sp->scope); /* first: it may write a head */
	struct tw_segment *g = &l->pool->slots[l->open];
	struct tw_entry *e = (struct tw_entry *)(g->mem + g->used);

	e->bytes_n = sp->bytes_n;
	e->scope_off = scope_off;
	e->series = sp->series;
	e->span_id = sp->span_id;
	e->parent_id = sp->parent_id;
	e->start_ns = sp->start_ns;
	e->duration_ns = sp->duration_ns;
	memcpy(e + 1, sp->bytes, sp->bytes_n);
	return (uint32_t)tw_entry_size(sp->bytes_n);
}
