#include "series.h"

#include <pthread.h>

#include "tw/base/mem.h"

#define SLOTS_FIRST 1024u
#define MOVES_EACH  2u /* taken along by each new series: all are there before the next doubling */

struct tw_series_lock {
	pthread_mutex_t mutex;
};

static struct tw_series_slots *slots_create(struct tw_series_table *t, uint64_t n)
{
	struct tw_series_slots *s = tw_calloc(1, sizeof(*s) + n * sizeof(s->slot[0]));

	if (s != NULL) {
		s->mask = n - 1;
		atomic_fetch_add_explicit(&t->bytes, sizeof(*s) + n * sizeof(s->slot[0]),
		                          memory_order_relaxed);
	}
	return s;
}

int tw_series_init(struct tw_series_table *t, uint32_t series_max)
{
	uint64_t values = (uint64_t)series_max * TW_SERIES_VALUE_BYTES;

	memset(t, 0, sizeof(*t));
	t->series_max = series_max;
	t->chunk_max = (uint32_t)((values >> TW_SERIES_CHUNK_BITS) + 1);
	if (t->chunk_max < 4)
		t->chunk_max = 4;
	t->chunks = tw_calloc(t->chunk_max, sizeof(t->chunks[0]));
	t->refs = tw_calloc((size_t)series_max + 1, sizeof(t->refs[0]));
	t->lock = tw_alloc(sizeof(*t->lock));
	struct tw_series_slots *s = slots_create(t, SLOTS_FIRST);
	if (s != NULL)
		atomic_init(&s->whole, true);
	atomic_init(&t->slots, s);
	if (t->chunks == NULL || t->refs == NULL || t->lock == NULL || s == NULL ||
	    pthread_mutex_init(&t->lock->mutex, NULL) != 0) {
		tw_free(t->lock);
		t->lock = NULL;
		tw_series_deinit(t);
		return TW_ENOMEM;
	}
	atomic_fetch_add_explicit(&t->bytes,
	                          t->chunk_max * sizeof(t->chunks[0]) +
	                              ((uint64_t)series_max + 1) * sizeof(t->refs[0]),
	                          memory_order_relaxed);
	return 0;
}

void tw_series_deinit(struct tw_series_table *t)
{
	struct tw_series_slots *s = atomic_load_explicit(&t->slots, memory_order_relaxed);

	while (s != NULL) {
		struct tw_series_slots *older = s->older;
		tw_free(s);
		s = older;
	}
	for (uint32_t i = 0; i < t->chunk_count; i++)
		tw_free(t->chunks[i]);
	tw_free(t->chunks);
	tw_free(t->refs);
	if (t->lock != NULL)
		pthread_mutex_destroy(&t->lock->mutex);
	tw_free(t->lock);
	memset(t, 0, sizeof(*t));
}

static bool same_bytes(const uint8_t **at, uint16_t n, struct tw_slice v)
{
	if (n != v.n || (n > 0 && memcmp(*at, v.p, n) != 0))
		return false;
	*at += n;
	return true;
}

bool tw_series_same(const struct tw_series *s, const struct tw_series_key *k)
{
	const uint8_t *at = tw_series_values(s);

	if (s->kind != k->kind || s->status != k->status || s->parts != k->parts)
		return false;
	if (!same_bytes(&at, s->len[0], k->service) || !same_bytes(&at, s->len[1], k->name))
		return false;
	for (uint32_t i = 2; i < k->parts; i++)
		if (!same_bytes(&at, s->len[i], k->dims[i - 2]))
			return false;
	return true;
}

static const struct tw_series *find_in(const struct tw_series_table *t,
                                       const struct tw_series_slots *slots,
                                       const struct tw_series_key *k)
{
	for (uint64_t i = k->hash;; i++) {
		/* Acquire: the record behind the reference, and its chunk, are whole. */
		uint64_t v =
		    atomic_load_explicit(&slots->slot[i & slots->mask], memory_order_acquire);
		if (v == 0)
			return NULL;
		if (v >> 32 != k->hash >> 32)
			continue;
		const struct tw_series *s = tw_series_at(t, (uint32_t)v);
		if (s->hash == k->hash && tw_series_same(s, k))
			return s;
	}
}

const struct tw_series *tw_series_find(const struct tw_series_table *t,
                                       const struct tw_series_slots *slots,
                                       const struct tw_series_key *k)
{
	/* First: what is moved meanwhile is in the older one still. */
	bool whole = atomic_load_explicit(&slots->whole, memory_order_acquire);
	const struct tw_series *s = find_in(t, slots, k);

	return s != NULL || whole ? s : find_in(t, slots->older, k);
}

static void slots_put(struct tw_series_slots *slots, uint64_t hash, uint32_t ref)
{
	uint64_t i = hash;

	while (atomic_load_explicit(&slots->slot[i & slots->mask], memory_order_relaxed) != 0)
		i++;
	atomic_store_explicit(&slots->slot[i & slots->mask], (hash >> 32) << 32 | ref,
	                      memory_order_release);
}

/* Some more of the older ones. */
static void slots_move(struct tw_series_table *t, struct tw_series_slots *s)
{
	if (s->moved == s->moves)
		return;
	for (uint32_t i = 0; i < MOVES_EACH && s->moved < s->moves; i++) {
		uint32_t id = ++s->moved;

		slots_put(s, tw_series_by_id(t, id)->hash, t->refs[id]);
	}
	if (s->moved == s->moves)
		atomic_store_explicit(&s->whole, true, memory_order_release);
}

/* Room for one more series at a load of one half at most; NULL: no memory. */
static struct tw_series_slots *slots_ready(struct tw_series_table *t, uint32_t count)
{
	struct tw_series_slots *s = atomic_load_explicit(&t->slots, memory_order_relaxed);
	struct tw_series_slots *more;

	slots_move(t, s);
	if (((uint64_t)count + 1) * 2 <= s->mask + 1)
		return s;
	TW_ASSERT(s->moved == s->moves);
	more = slots_create(t, (s->mask + 1) * 2);
	if (more == NULL)
		return NULL;
	more->older = s;
	more->moves = count;
	atomic_store_explicit(&t->slots, more, memory_order_release);
	return more;
}

enum room { ROOM, ROOM_LATER, ROOM_NEVER };

static enum room record_room(struct tw_series_table *t, size_t bytes, uint32_t *ref)
{
	const size_t chunk_bytes = (size_t)1 << TW_SERIES_CHUNK_BITS;
	size_t units = (bytes + 15) >> TW_SERIES_UNIT_BITS;

	if (t->chunk_count == 0 || t->chunk_used + units > chunk_bytes >> TW_SERIES_UNIT_BITS) {
		if (t->chunk_count == t->chunk_max)
			return ROOM_NEVER;
		uint8_t *chunk = tw_alloc_aligned(64, chunk_bytes);
		if (chunk == NULL)
			return ROOM_LATER;
		atomic_fetch_add_explicit(&t->bytes, chunk_bytes, memory_order_relaxed);
		t->chunk_used = t->chunk_count == 0; /* reference 0 means a free slot */
		t->chunks[t->chunk_count++] = chunk;
	}
	*ref =
	    ((t->chunk_count - 1) << (TW_SERIES_CHUNK_BITS - TW_SERIES_UNIT_BITS)) + t->chunk_used;
	t->chunk_used += (uint32_t)units;
	return ROOM;
}

static void record_write(struct tw_series *s, const struct tw_series_key *k, uint32_t id)
{
	s->hash = k->hash;
	s->id = id;
	s->kind = k->kind;
	s->status = k->status;
	s->parts = (uint16_t)k->parts;
	uint8_t *at = (uint8_t *)(s->len + s->parts);
	for (uint32_t i = 0; i < k->parts; i++) {
		struct tw_slice v = i == 0 ? k->service : i == 1 ? k->name : k->dims[i - 2];
		s->len[i] = (uint16_t)v.n;
		if (v.n > 0)
			memcpy(at, v.p, v.n);
		at += v.n;
	}
}

static size_t record_bytes(const struct tw_series_key *k)
{
	size_t n =
	    sizeof(struct tw_series) + k->parts * sizeof(uint16_t) + k->service.n + k->name.n;

	for (uint32_t i = 2; i < k->parts; i++)
		n += k->dims[i - 2].n;
	return n;
}

/* Under the lock; k is not there. */
static uint32_t make(struct tw_series_table *t, const struct tw_series_key *k)
{
	uint32_t count = atomic_load_explicit(&t->count, memory_order_relaxed), ref;
	enum room room = ROOM_NEVER;

	if (count < t->series_max) {
		struct tw_series_slots *slots = slots_ready(t, count);
		if (slots == NULL)
			return TW_SERIES_OVERFLOW;
		room = record_room(t, record_bytes(k), &ref);
		if (room == ROOM) {
			/* The one place that writes a record, before anybody can see it. */
			struct tw_series *s = (struct tw_series *)(uintptr_t)tw_series_at(t, ref);
			record_write(s, k, count + 1);
			t->refs[count + 1] = ref;
			slots_put(slots, k->hash, ref);
			atomic_store_explicit(&t->count, count + 1, memory_order_release);
			return count + 1;
		}
	}
	if (room == ROOM_NEVER)
		atomic_store_explicit(&t->full, true, memory_order_release);
	return TW_SERIES_OVERFLOW;
}

uint32_t tw_series_intern(struct tw_series_table *t, const struct tw_series_key *k)
{
	/* The order matters: `full` first. Once it is set no slot is written any more, so a miss in
	 * the slots read after it is final, and a flood of new label sets takes no lock. */
	bool full = atomic_load_explicit(&t->full, memory_order_acquire);
	const struct tw_series *s =
	    tw_series_find(t, atomic_load_explicit(&t->slots, memory_order_acquire), k);
	uint32_t id;

	if (s != NULL || full)
		return s != NULL ? s->id : TW_SERIES_OVERFLOW;
	pthread_mutex_lock(&t->lock->mutex);
	s = tw_series_find(t, atomic_load_explicit(&t->slots, memory_order_relaxed), k);
	id = s != NULL ? s->id : make(t, k);
	pthread_mutex_unlock(&t->lock->mutex);
	return id;
}
