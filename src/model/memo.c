#include "tw/model/memo.h"

#include "tw/base/error.h"
#include "tw/base/mem.h"

#define AHEAD 16u

struct place {
	_Alignas(64) uint64_t template, scope; /* hashes */
	uint64_t mask[TW_MASK_WORDS];
	uint32_t lap; /* another one than the memo's: there is nothing in it */
	uint32_t series;
	bool counted, matched, differs;
};

struct tw_memo {
	uint32_t places;
	uint32_t lap; /* since it was empty; from 1 on */
	void *block;
	struct place *place; /* in the block, on a line's begin */
};

struct tw_memo *tw_memo_create(uint32_t places)
{
	struct tw_memo *m = tw_alloc(sizeof(*m));

	TW_ASSERT((places & (places - 1)) == 0);
	if (!m)
		return NULL;
	/* Zeroed by the kernel where it is touched, and most of it hardly ever is. */
	*m = (struct tw_memo){
	    .places = places, .lap = 1, .block = tw_calloc(places + 1, sizeof(struct place))};
	if (!m->block)
		tw_memo_destroy(&m);
	else
		m->place = (struct place *)(((uintptr_t)m->block + 63) & ~(uintptr_t)63);
	return m;
}

void tw_memo_destroy(struct tw_memo **m)
{
	if (*m)
		tw_free((*m)->block);
	tw_free(*m);
	*m = NULL;
}

void tw_memo_clear(struct tw_memo *m)
{
	/* Writing over the places would take a quarter of a millisecond, and the memory of all. */
	if (++m->lap != 0)
		return;
	memset(m->place, 0, m->places * sizeof(struct place));
	m->lap = 1;
}

/* Two places for each hash. */
static struct place *place_of(struct tw_memo *m, uint64_t hash)
{
	return &m->place[hash & (m->places - 2)];
}

static uint64_t hash_of(const struct tw_request *r, const struct tw_operation *op)
{
	return op->hash ^ r->scopes[op->scope].hash;
}

static bool is_free(const struct tw_memo *m, const struct place *p)
{
	return p->lap != m->lap;
}

static bool is_at(const struct tw_memo *m, const struct place *p, const struct tw_request *r,
                  const struct tw_operation *op)
{
	return p->template == op->hash && p->scope == r->scopes[op->scope].hash && !is_free(m, p);
}

static void recall(struct tw_memo *m, const struct tw_request *r, struct tw_operation *op)
{
	const struct place *p = place_of(m, hash_of(r, op));

	if (!is_at(m, p, r, op))
		p++;
	if (!is_at(m, p, r, op))
		return;
	memcpy(op->mask, p->mask, sizeof(op->mask));
	op->series = p->series;
	op->counted = p->counted;
	op->matched = p->matched;
	op->differs = p->differs;
	op->recalled = p->counted && p->matched;
}

/* Operations of a scope that was left out have no span. */
static bool has_scope(const struct tw_request *r, uint32_t i)
{
	return r->operations[i].scope < r->scope_count;
}

void tw_memo_recall(struct tw_memo *m, struct tw_request *r)
{
	for (uint32_t i = 0; i < r->operation_count + AHEAD; i++) {
		if (i < r->operation_count && has_scope(r, i)) {
			const struct place *p = place_of(m, hash_of(r, &r->operations[i]));

			__builtin_prefetch(p);
		}
		if (i >= AHEAD && has_scope(r, i - AHEAD))
			recall(m, r, &r->operations[i - AHEAD]);
	}
}

void tw_memo_store(struct tw_memo *m, const struct tw_request *r)
{
	for (uint32_t i = 0; i < r->operation_count; i++) {
		const struct tw_operation *op = &r->operations[i];
		struct place *p;

		if (op->recalled || !has_scope(r, i))
			continue;
		/* Its own place, else a free one, else one of the two by turns of the hash. */
		p = place_of(m, hash_of(r, op));
		if (!is_at(m, p, r, op) && !is_free(m, p) &&
		    (is_at(m, p + 1, r, op) || is_free(m, p + 1) || hash_of(r, op) >> 63))
			p++;
		*p = (struct place){.template = op->hash,
		                    .scope = r->scopes[op->scope].hash,
		                    .lap = m->lap,
		                    .series = op->series,
		                    .counted = op->counted,
		                    .matched = op->matched,
		                    .differs = op->differs};
		memcpy(p->mask, op->mask, sizeof(p->mask));
	}
}
