#include "tw/model/memo.h"

#include "tw/base/error.h"
#include "tw/base/mem.h"

#define AHEAD 8u

struct place {
	_Alignas(64) uint64_t template, scope; /* hashes */
	uint64_t mask[TW_MASK_WORDS];
	uint32_t series;
	bool counted, matched, differs;
};

struct tw_memo {
	uint32_t places;
	struct place place[];
};

struct tw_memo *tw_memo_create(uint32_t places)
{
	struct tw_memo *m = tw_alloc_aligned(64, sizeof(*m) + places * sizeof(struct place));

	TW_ASSERT((places & (places - 1)) == 0);
	if (!m)
		return NULL;
	m->places = places;
	tw_memo_clear(m);
	return m;
}

void tw_memo_destroy(struct tw_memo **m)
{
	tw_free(*m);
	*m = NULL;
}

void tw_memo_clear(struct tw_memo *m)
{
	memset(m->place, 0, m->places * sizeof(struct place));
}

static struct place *place_of(struct tw_memo *m, const struct tw_request *r,
                              const struct tw_operation *op)
{
	uint64_t h = op->template->hash ^ r->scopes[op->scope].hash;

	return &m->place[h & (m->places - 1)];
}

void tw_memo_recall(struct tw_memo *m, struct tw_request *r)
{
	for (uint32_t i = 0; i < r->operation_count + AHEAD; i++) {
		struct tw_operation *op = &r->operations[i - AHEAD];
		const struct place *p;

		/* One of a group that was left out: no span has it. */
		if (i < r->operation_count && r->operations[i].scope < r->scope_count)
			__builtin_prefetch(place_of(m, r, &r->operations[i]));
		if (i < AHEAD || op->scope >= r->scope_count)
			continue;
		p = place_of(m, r, op);
		if (p->template != op->template->hash || p->scope != r->scopes[op->scope].hash)
			continue;
		memcpy(op->mask, p->mask, sizeof(op->mask));
		op->series = p->series;
		op->counted = p->counted;
		op->matched = p->matched;
		op->differs = p->differs;
		op->recalled = p->counted && p->matched;
	}
}

void tw_memo_store(struct tw_memo *m, const struct tw_request *r)
{
	for (uint32_t i = 0; i < r->operation_count; i++) {
		const struct tw_operation *op = &r->operations[i];
		struct place *p;

		if (op->recalled || op->scope >= r->scope_count)
			continue;
		p = place_of(m, r, op);
		p->template = op->template->hash;
		p->scope = r->scopes[op->scope].hash;
		memcpy(p->mask, op->mask, sizeof(p->mask));
		p->series = op->series;
		p->counted = op->counted;
		p->matched = op->matched;
		p->differs = op->differs;
	}
}
