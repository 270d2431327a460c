#include "tw/model/operations.h"

#include "tw/base/error.h"
#include "tw/base/mem.h"

_Static_assert(TW_MASK_WORDS != 2 || sizeof(struct tw_operation) == 64, "a line");

struct tw_operations *tw_operations_create(uint32_t places)
{
	struct tw_operations *o = tw_calloc(1, sizeof(*o));
	size_t size = sizeof(struct tw_operation);

	TW_ASSERT((places & (places - 1)) == 0 && places >= TW_OPERATIONS_PROBES);
	if (!o)
		return NULL;
	/* Zeroed by the kernel where it is touched, and most of it hardly ever is. */
	o->block = tw_calloc(places + 1, size);
	if (!o->block) {
		tw_free(o);
		return NULL;
	}
	o->place = (struct tw_operation *)(((uintptr_t)o->block + 63) & ~(uintptr_t)63);
	o->places = places;
	o->mask = (places < TW_OPERATIONS_MIN ? places : TW_OPERATIONS_MIN) - 1;
	o->dropped_end = &o->dropped;
	return o;
}

static void free_template(struct tw_template *t)
{
	tw_free(t->image);
	tw_free(t); /* one allocation: layout and slots lie behind it */
}

/* What was dropped before the oldest request began. */
static void free_dropped(struct tw_operations *o)
{
	while (o->dropped && (!o->oldest || o->dropped->dropped_at < o->oldest->stamp)) {
		struct tw_template *t = o->dropped;

		o->dropped = t->next_dropped;
		o->dropped_bytes -= t->bytes;
		free_template(t);
	}
	if (!o->dropped)
		o->dropped_end = &o->dropped;
}

void tw_operations_destroy(struct tw_operations **o)
{
	if (!*o)
		return;
	while ((*o)->oldest)
		tw_operations_end(*o, (*o)->oldest);
	free_dropped(*o);
	tw_free((*o)->block);
	tw_free(*o);
	*o = NULL;
}

void tw_operations_begin(struct tw_operations *o, struct tw_request *r)
{
	TW_ASSERT(!r->table);
	r->table = o;
	r->operations = o->place;
	r->stamp = ++o->stamp;
	r->newer = NULL;
	r->older = o->newest;
	*(o->newest ? &o->newest->newer : &o->oldest) = r;
	o->newest = r;
}

void tw_operations_end(struct tw_operations *o, struct tw_request *r)
{
	*(r->older ? &r->older->newer : &o->oldest) = r->newer;
	*(r->newer ? &r->newer->older : &o->newest) = r->older;
	r->table = NULL;
	r->operations = NULL;
	if (TW_UNLIKELY(o->dropped != NULL))
		free_dropped(o);
}

uint64_t tw_operations_id(struct tw_operations *o)
{
	/* One after the other, but far from each other and never 0. */
	return ++o->ids * UINT64_C(0x9E3779B97F4A7C15);
}

void tw_operations_drop(struct tw_operations *o, struct tw_template *t)
{
	t->next_dropped = NULL;
	t->dropped_at = o->stamp;
	*o->dropped_end = t;
	o->dropped_end = &t->next_dropped;
	o->dropped_bytes += t->bytes;
	free_dropped(o);
}

/* May it become another one's? */
static bool is_unused(const struct tw_operations *o, const struct tw_operation *op)
{
	return op->stamp + TW_OPERATIONS_LAG <= (o->oldest ? o->oldest->stamp : o->stamp);
}

/* A new one is to take the place of one that may still come, or finds none. More places come into
 * use when that was so often; an operation that belongs into another one then is found no more,
 * and comes there as a new one. */
static void displace(struct tw_operations *o)
{
	if (o->mask + 1 == o->places) {
		o->displaced++;
		return;
	}
	if (++o->tight < (o->mask + 1) / 8)
		return;
	o->tight = 0;
	o->mask = 2 * o->mask + 1;
}

struct tw_operation *tw_operations_add(struct tw_operations *o, struct tw_template *t,
                                       uint64_t scope)
{
	struct tw_operation *at = NULL;

	for (uint32_t i = 0; i < TW_OPERATIONS_PROBES; i++) {
		struct tw_operation *op = &o->place[(((t->id ^ scope) & o->mask) + i) & o->mask];

		if (tw_operation_is(op, t->id, scope))
			return op;
		if (!at || op->stamp < at->stamp)
			at = op;
		if (!op->template)
			break; /* never used, so it is no further away */
	}
	if (at->template && at->stamp > o->forgotten)
		displace(o);
	if (at->template && !is_unused(o, at))
		return NULL;
	*at = (struct tw_operation){.template = t,
	                            .id = t->id,
	                            .hash = t->hash,
	                            .scope = scope,
	                            .stamp = o->stamp,
	                            .fixed = t->fixed};
	return at;
}
