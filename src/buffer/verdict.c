#include "verdict.h"

#include "tw/base/error.h"
#include "tw/base/mem.h"

#define WAYS 8u
#define FILL 4u /* grows past so many entries a bucket */
#define MOVE 6u /* a full bucket's entries move rather than go, up to so many a bucket */

struct entry {
	uint64_t threshold : 56;
	uint64_t destinations : 8;
	uint16_t rule;
	uint16_t generation; /* the low 16 bits */
	uint32_t asked_s : 29;
	uint32_t used : 1;
	uint32_t keep : 1;
	uint32_t unknown : 1; /* threshold is TW_THRESHOLD_UNKNOWN */
};
_Static_assert(sizeof(struct entry) == 16, "with its hash 24 bytes");

struct tw_verdict_bucket {
	uint64_t hash[WAYS];
	struct entry entry[WAYS];
};

int tw_verdicts_init(struct tw_verdicts *v, uint64_t bytes, uint64_t keep_ns)
{
	*v = (struct tw_verdicts){.max = bytes / sizeof(*v->buckets)};
	if (v->max < 8)
		v->max = 8;
	v->level = v->count = 8;
	v->keep_s = keep_ns / 1000000000 + (keep_ns % 1000000000 != 0);
	/* Zeroed by the kernel, not by us: what is not used is not touched. */
	v->memory = tw_calloc(v->max + 1, sizeof(*v->buckets));
	if (!v->memory)
		return TW_ENOMEM;
	v->buckets = (struct tw_verdict_bucket *)(((uintptr_t)v->memory + 63) & ~(uintptr_t)63);
	return 0;
}

void tw_verdicts_deinit(struct tw_verdicts *v)
{
	tw_free(v->memory);
	*v = (struct tw_verdicts){0};
}

static uint64_t index_of(const struct tw_verdicts *v, uint64_t mixed)
{
	uint64_t i = mixed & (v->level - 1);

	return i < v->count - v->level ? mixed & (2 * v->level - 1) : i;
}

/* A hash may lie in either of two buckets, and goes into the emptier one: so none overflows long
 * before the table is full. The shard was chosen by the hash's high bits and the table's slot by
 * its low ones: mixed anew. */
static uint64_t first(uint64_t hash)
{
	uint64_t m = hash * UINT64_C(0x9E3779B97F4A7C15);

	return m ^ (m >> 32);
}

static uint64_t second(uint64_t hash)
{
	uint64_t m = (hash ^ (hash >> 29)) * UINT64_C(0xBF58476D1CE4E5B9);

	return m ^ (m >> 32);
}

static struct tw_verdict_bucket *bucket_of(const struct tw_verdicts *v, uint64_t mixed)
{
	return &v->buckets[index_of(v, mixed)];
}

/* One bucket more: the next one in turn gives it the entries that are its now. */
static void grow(struct tw_verdicts *v)
{
	struct tw_verdict_bucket *from = &v->buckets[v->count - v->level];
	struct tw_verdict_bucket *to = &v->buckets[v->count];
	uint64_t at = v->count - v->level;
	uint32_t n = 0;

	v->count++;
	for (uint32_t i = 0; i < WAYS; i++) {
		if (!from->entry[i].used || index_of(v, first(from->hash[i])) == at ||
		    index_of(v, second(from->hash[i])) == at)
			continue;
		to->hash[n] = from->hash[i];
		to->entry[n++] = from->entry[i];
		from->entry[i].used = 0;
	}
	if (v->count == 2 * v->level)
		v->level *= 2;
}

void tw_verdicts_prefetch(const struct tw_verdicts *v, uint64_t hash)
{
	__builtin_prefetch(bucket_of(v, first(hash)));
	__builtin_prefetch(bucket_of(v, second(hash)));
}

void tw_verdicts_prefetch_put(const struct tw_verdicts *v, uint64_t hash)
{
	const struct tw_verdict_bucket *b[2] = {bucket_of(v, first(hash)),
	                                        bucket_of(v, second(hash))};

	for (int i = 0; i < 2; i++) {
		__builtin_prefetch(b[i], 1);
		__builtin_prefetch(&b[i]->entry[0], 1);
		__builtin_prefetch(&b[i]->entry[WAYS / 2], 1);
	}
}

static bool expired(const struct tw_verdicts *v, const struct entry *e, uint64_t now_s)
{
	return now_s - e->asked_s > v->keep_s;
}

static struct entry *find_in(struct tw_verdict_bucket *b, uint64_t hash)
{
	for (uint32_t i = 0; i < WAYS; i++)
		if (b->hash[i] == hash && b->entry[i].used)
			return &b->entry[i];
	return NULL;
}

static struct entry *find(const struct tw_verdicts *v, uint64_t hash)
{
	struct entry *e = find_in(bucket_of(v, first(hash)), hash);

	return e ? e : find_in(bucket_of(v, second(hash)), hash);
}

static uint32_t used(const struct tw_verdict_bucket *b)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < WAYS; i++)
		n += b->entry[i].used;
	return n;
}

/* An entry whose time is over goes before an unused one: then the table need not grow. */
static uint32_t victim(const struct tw_verdicts *v, const struct tw_verdict_bucket *b,
                       uint64_t now_s)
{
	uint32_t oldest = 0;

	for (uint32_t i = 0; i < WAYS; i++)
		if (b->entry[i].used && expired(v, &b->entry[i], now_s))
			return i;

	for (uint32_t i = 0; i < WAYS; i++) {
		if (!b->entry[i].used)
			return i;
		if (b->entry[i].asked_s < b->entry[oldest].asked_s)
			oldest = i;
	}
	return oldest;
}

/* Makes a place in a full bucket: one of its entries goes to the other bucket that it may lie in.
 * Returns where it was; WAYS: those are full, too. */
static uint32_t move_one(const struct tw_verdicts *v, struct tw_verdict_bucket *b)
{
	for (uint32_t i = 0; i < WAYS; i++) {
		struct tw_verdict_bucket *to = bucket_of(v, first(b->hash[i]));
		uint32_t at = 0;

		if (to == b)
			to = bucket_of(v, second(b->hash[i]));
		while (at < WAYS && to->entry[at].used)
			at++;
		if (at == WAYS)
			continue;
		to->hash[at] = b->hash[i];
		to->entry[at] = b->entry[i];
		b->entry[i].used = 0;
		return i;
	}
	return WAYS;
}

/* Where a new one goes in the emptier of its two buckets. Both may be full by chance long before
 * the memory is: a verdict that is forgotten then would let its trace be decided once more. Once
 * the memory is nearly full, looking for places costs more than it finds. */
static uint32_t place(const struct tw_verdicts *v, struct tw_verdict_bucket *b, uint64_t now_s)
{
	uint32_t i = victim(v, b, now_s), moved;

	if (!b->entry[i].used || expired(v, &b->entry[i], now_s) || v->entries >= MOVE * v->count)
		return i;
	moved = move_one(v, b);
	return moved < WAYS ? moved : i;
}

void tw_verdicts_put(struct tw_verdicts *v, uint64_t hash, const struct tw_verdict *d,
                     uint64_t now_s)
{
	struct tw_verdict_bucket *b = bucket_of(v, first(hash)), *other;
	struct entry *e = find(v, hash);

	if (!e) {
		uint32_t i;

		other = bucket_of(v, second(hash));
		if (used(other) < used(b))
			b = other;
		i = place(v, b, now_s);
		e = &b->entry[i];
		v->entries += !e->used;
		b->hash[i] = hash;
	}
	*e = (struct entry){.destinations = d->destinations,
	                    .rule = d->rule,
	                    .generation = (uint16_t)d->generation,
	                    .asked_s = (uint32_t)now_s,
	                    .used = 1,
	                    .keep = d->keep,
	                    .unknown = d->threshold >> 56 != 0};
	e->threshold = d->threshold;
	if (v->entries > FILL * v->count && v->count < v->max)
		grow(v);
}

bool tw_verdicts_get(struct tw_verdicts *v, uint64_t hash, uint32_t newest, uint64_t now_s,
                     struct tw_verdict *d)
{
	struct entry *e = find(v, hash);

	if (!e)
		return false;
	if (expired(v, e, now_s)) {
		e->used = 0;
		v->entries--;
		return false;
	}
	e->asked_s = (uint32_t)now_s;
	*d =
	    (struct tw_verdict){.keep = e->keep,
	                        .reason = TW_REASON_LATE,
	                        .rule = e->rule,
	                        .generation = newest - (uint16_t)((uint16_t)newest - e->generation),
	                        .threshold = e->unknown ? TW_THRESHOLD_UNKNOWN : e->threshold,
	                        .destinations = e->destinations};
	return true;
}

uint64_t tw_verdicts_bytes(const struct tw_verdicts *v)
{
	return v->count * sizeof(*v->buckets);
}
