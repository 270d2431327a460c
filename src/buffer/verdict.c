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
	uint32_t asked_s : 30;
	uint32_t keep : 1;
	uint32_t unknown : 1; /* threshold is TW_THRESHOLD_UNKNOWN */
};
_Static_assert(sizeof(struct entry) == 16, "with its hash 24 bytes");

struct tw_verdict_bucket {   /* its entries are the first ones */
	uint64_t hash[WAYS]; /* 0: no entry */
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

/* A stored hash is never 0. */
static uint64_t nonzero(uint64_t hash)
{
	return hash + (hash == 0);
}

/* Three looks instead of eight. */
static uint32_t used(const struct tw_verdict_bucket *b)
{
	uint32_t n = (b->hash[3] != 0) * 4u;

	n += (b->hash[n + 1] != 0) * 2u;
	n += b->hash[n] != 0;
	return n + (b->hash[WAYS - 1] != 0);
}

/* One bucket more: the next one in turn gives it the entries that are its now. */
static void grow(struct tw_verdicts *v)
{
	const uint64_t at = v->count - v->level, mask = 2 * v->level - 1;
	struct tw_verdict_bucket *from = &v->buckets[at], *to = &v->buckets[v->count];
	uint32_t left = 0, gone = 0;

	v->count++;
	if (v->count == 2 * v->level)
		v->level = v->count;
	for (uint32_t i = 0; i < WAYS && from->hash[i] != 0; i++) {
		uint64_t hash = from->hash[i];

		if ((first(hash) & mask) == at || (second(hash) & mask) == at) {
			from->hash[left] = hash;
			from->entry[left++] = from->entry[i];
		} else {
			to->hash[gone] = hash;
			to->entry[gone++] = from->entry[i];
		}
	}
	for (uint32_t i = left; i < left + gone; i++)
		from->hash[i] = 0;
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

static struct tw_verdict_bucket *find(const struct tw_verdicts *v, uint64_t hash, uint32_t *at)
{
	struct tw_verdict_bucket *const b[2] = {bucket_of(v, first(hash)),
	                                        bucket_of(v, second(hash))};

	for (int k = 0; k < 2; k++)
		for (uint32_t i = 0; i < WAYS && b[k]->hash[i] != 0; i++)
			if (b[k]->hash[i] == hash) {
				*at = i;
				return b[k];
			}
	return NULL;
}

static void forget(struct tw_verdicts *v, struct tw_verdict_bucket *b, uint32_t at)
{
	uint32_t last = used(b) - 1;

	b->hash[at] = b->hash[last];
	b->entry[at] = b->entry[last];
	b->hash[last] = 0;
	v->entries--;
}

/* Makes a place in a full bucket: one of its entries goes to the other bucket that it may lie in.
 * Returns where it was; WAYS: those are full, too. */
static uint32_t move_one(const struct tw_verdicts *v, struct tw_verdict_bucket *b)
{
	for (uint32_t i = 0; i < WAYS; i++) {
		struct tw_verdict_bucket *to = bucket_of(v, first(b->hash[i]));
		uint32_t at;

		if (to == b)
			to = bucket_of(v, second(b->hash[i]));
		at = used(to);
		if (at == WAYS)
			continue;
		to->hash[at] = b->hash[i];
		to->entry[at] = b->entry[i];
		return i;
	}
	return WAYS;
}

/* Where a new one goes in a bucket of n, the emptier of its two. When the table would have to grow
 * for it, an entry whose time is over goes first. Both buckets may be full by chance long before
 * the memory is: a verdict that is forgotten then would let its trace be decided once more. Once
 * the memory is nearly full, looking for places costs more than it finds. */
static uint32_t place(struct tw_verdicts *v, struct tw_verdict_bucket *b, uint32_t n,
                      uint64_t now_s)
{
	uint32_t oldest = 0, moved;

	if (TW_LIKELY(n < WAYS && v->entries < FILL * v->count)) {
		v->entries++;
		return n;
	}
	for (uint32_t i = 0; i < n; i++)
		if (b->entry[i].asked_s < b->entry[oldest].asked_s)
			oldest = i;
	if (n > 0 && expired(v, &b->entry[oldest], now_s))
		return oldest;
	if (n == WAYS) {
		moved = v->entries < MOVE * v->count ? move_one(v, b) : WAYS;
		if (moved == WAYS)
			return oldest;
		n = moved;
	}
	v->entries++;
	return n;
}

static void write(struct entry *e, const struct tw_verdict *d, uint64_t now_s)
{
	*e = (struct entry){.destinations = d->destinations,
	                    .threshold = d->threshold,
	                    .rule = d->rule,
	                    .generation = (uint16_t)d->generation,
	                    .asked_s = (uint32_t)now_s,
	                    .keep = d->keep,
	                    .unknown = d->threshold >> 56 != 0};
}

/* The emptier one of the two buckets of a hash; *n: of its entries. */
static struct tw_verdict_bucket *emptier(const struct tw_verdicts *v, uint64_t hash, uint32_t *n)
{
	struct tw_verdict_bucket *a = bucket_of(v, first(hash)), *b = bucket_of(v, second(hash));
	uint32_t of_a = used(a), of_b = used(b);

	*n = of_b < of_a ? of_b : of_a;
	return of_b < of_a ? b : a;
}

void tw_verdicts_add(struct tw_verdicts *v, uint64_t hash, const struct tw_verdict *d,
                     uint64_t now_s)
{
	struct tw_verdict_bucket *b;
	uint32_t n;

	hash = nonzero(hash);
	b = emptier(v, hash, &n);
	n = place(v, b, n, now_s);
	b->hash[n] = hash;
	write(&b->entry[n], d, now_s);
	if (v->entries > FILL * v->count && v->count < v->max)
		grow(v);
}

void tw_verdicts_put(struct tw_verdicts *v, uint64_t hash, const struct tw_verdict *d,
                     uint64_t now_s)
{
	uint32_t at;
	struct tw_verdict_bucket *b = find(v, nonzero(hash), &at);

	if (b)
		write(&b->entry[at], d, now_s);
	else
		tw_verdicts_add(v, hash, d, now_s);
}

bool tw_verdicts_get(struct tw_verdicts *v, uint64_t hash, uint32_t newest, uint64_t now_s,
                     struct tw_verdict *d)
{
	uint32_t at;
	struct tw_verdict_bucket *b = find(v, nonzero(hash), &at);
	struct entry *e;

	if (!b)
		return false;
	e = &b->entry[at];
	if (expired(v, e, now_s)) {
		forget(v, b, at);
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
