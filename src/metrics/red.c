/* Counting: every span of a request into the cell of its series. */
#include "red.h"

#include <stdio.h>

#include "tw/base/mem.h"

#define SERIES_MAX  (1u << 26)
#define NO_RESOURCE UINT32_MAX

/* ---- life ---- */

static void buckets_init(struct buckets *b, const struct tw_metrics_opts *o)
{
	uint32_t n = o->bucket_count < TW_BUCKETS_MAX ? o->bucket_count : TW_BUCKETS_MAX;

	for (uint32_t i = 0; i < n; i++) {
		TW_ASSERT(i == 0 || o->bucket_ns[i] > o->bucket_ns[i - 1]);
		b->bound[i] = o->bucket_ns[i];
	}
	b->bound[n] = UINT64_MAX;
	b->count = n + 1;
	b->steps = 0;
	for (uint32_t bits = 0; bits <= 64; bits++) {
		uint64_t low = bits == 0 ? 0 : UINT64_C(1) << (bits - 1);
		uint64_t high = bits == 0 ? 0 : low - 1 + low;
		uint32_t first = 0, last;

		while (b->bound[first] < low)
			first++;
		for (last = first; b->bound[last] < high;)
			last++;
		b->first[bits] = (uint8_t)first;
		if (last - first > b->steps)
			b->steps = last - first;
	}
}

/* Two labels of one name make a page that no scraper takes, so a clash gets "__" in front. */
static bool label_taken(const struct tw_red *r, uint32_t dims, const char *name)
{
	static const char *const always[] = {"span_name", "span_kind", "status_code", "le",
	                                     "otel_metric_overflow"};

	for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
		if (strcmp(name, always[i]) == 0)
			return true;
	if ((r->names & TW_NAMES_OTEL) != 0 && strcmp(name, "service_name") == 0)
		return true;
	if ((r->names & TW_NAMES_TEMPO) != 0 && strcmp(name, "service") == 0)
		return true;
	for (uint32_t i = 0; i < dims; i++)
		if (strcmp(name, r->label[i]) == 0)
			return true;
	return false;
}

static bool dimension_add(struct tw_red *r, const char *key)
{
	size_t n = strlen(key), prefix = 2 * (TW_DIMENSIONS_MAX + 2);
	uint32_t i = r->dimension_count;
	char *room = tw_alloc(prefix + n + 2);

	if (room == NULL)
		return false;
	char *name = room + prefix;
	tw_label_name(tw_slice_str(key), name);
	while (label_taken(r, i, name)) {
		name -= 2;
		name[0] = name[1] = '_';
	}
	r->label[i] = tw_strndup(name, strlen(name));
	r->dimension[i] = tw_strndup(key, n);
	tw_free(room);
	r->dimension_count++;
	return r->label[i] != NULL && r->dimension[i] != NULL;
}

static struct tw_red_worker *worker_create(struct tw_red *r)
{
	size_t chunks = ((size_t)r->series_max >> CELL_CHUNK_BITS) + 1;
	struct tw_red_worker *w = tw_alloc_aligned(64, sizeof(*w));

	if (w == NULL)
		return NULL;
	memset(w, 0, sizeof(*w));
	w->red = r;
	tw_arena_init(&w->arena, 0);
	w->chunks = tw_calloc(chunks, sizeof(w->chunks[0]));
	atomic_init(&w->bytes, sizeof(*w) + chunks * sizeof(w->chunks[0]));
	return w;
}

static void worker_destroy(struct tw_red_worker *w)
{
	if (w == NULL)
		return;
	for (size_t i = 0; w->chunks != NULL && i <= w->red->series_max >> CELL_CHUNK_BITS; i++)
		tw_free(atomic_load_explicit(&w->chunks[i], memory_order_relaxed));
	tw_free(w->chunks);
	tw_arena_deinit(&w->arena);
	tw_free(w);
}

static __attribute__((noinline)) tw_counter *cell_make(struct tw_red_worker *w, uint32_t id)
{
	const struct tw_red *r = w->red;
	size_t n = (size_t)CELL_CHUNK * r->cell_stride * sizeof(tw_counter);
	tw_counter *chunk = tw_alloc_aligned(64, n);

	if (chunk == NULL)
		return NULL;
	memset((void *)chunk, 0, n);
	atomic_store_explicit(&w->chunks[id >> CELL_CHUNK_BITS], chunk, memory_order_release);
	atomic_fetch_add_explicit(&w->bytes, n, memory_order_relaxed);
	return red_cell(w, id, memory_order_relaxed);
}

/* The cells of id's chunk, made if they were not there; NULL: no memory. [owner] */
static inline tw_counter *cell_ready(struct tw_red_worker *w, uint32_t id)
{
	tw_counter *cell = red_cell(w, id, memory_order_relaxed);

	return TW_LIKELY(cell != NULL) ? cell : cell_make(w, id);
}

struct tw_red *tw_red_create(const struct tw_metrics_opts *o, uint32_t workers,
                             struct tw_hash_key key)
{
	struct tw_red *r = tw_calloc(1, sizeof(*r));
	bool ok;

	if (r == NULL)
		return NULL;
	r->key = key;
	r->names = o->names;
	r->series_max = o->series_max < SERIES_MAX ? o->series_max : SERIES_MAX;
	buckets_init(&r->buckets, o);
	r->cell_words = CELL_BUCKETS + r->buckets.count;
	r->cell_stride = (r->cell_words + 1) & ~1u;
	ok = tw_series_init(&r->series, r->series_max) == 0;
	for (uint32_t i = 0; ok && i < o->dimension_count && i < TW_DIMENSIONS_MAX; i++)
		ok = dimension_add(r, o->dimensions[i]);
	r->workers = ok ? tw_calloc(workers, sizeof(r->workers[0])) : NULL;
	ok = r->workers != NULL;
	for (uint32_t i = 0; ok && i < workers; i++) {
		r->workers[r->worker_count++] = worker_create(r);
		/* The overflow series' cells are made now: they count when there is no memory. */
		ok = r->workers[i] != NULL && r->workers[i]->chunks != NULL &&
		     cell_ready(r->workers[i], TW_SERIES_OVERFLOW) != NULL;
	}
	if (!ok)
		tw_red_destroy(&r);
	return r;
}

void tw_red_destroy(struct tw_red **red)
{
	struct tw_red *r = *red;

	if (r == NULL)
		return;
	for (uint32_t i = 0; i < r->worker_count; i++)
		worker_destroy(r->workers[i]);
	tw_free(r->workers);
	for (uint32_t i = 0; i < r->dimension_count; i++) {
		tw_free(r->dimension[i]);
		tw_free(r->label[i]);
	}
	tw_series_deinit(&r->series);
	tw_free(r);
	*red = NULL;
}

int tw_red_keys(const struct tw_red *r, struct tw_keytab *keys, uint8_t slot[TW_DIMENSIONS_MAX])
{
	for (uint32_t i = 0; i < r->dimension_count; i++) {
		int at = tw_keytab_add(keys, tw_slice_str(r->dimension[i]));
		if (at < 0)
			return at;
		slot[i] = (uint8_t)at;
	}
	return 0;
}

struct tw_red_worker *tw_red_worker(struct tw_red *r, uint32_t index)
{
	return r->workers[index];
}

/* ---- a group of spans ---- */

static struct tw_slice unknown_service(void)
{
	static const char name[] = "unknown_service";

	return tw_slice(name, sizeof(name) - 1);
}

static inline bool has_slot(uint64_t set, uint32_t slot)
{
	return (set >> slot & 1) != 0;
}

static void run_fill(struct tw_red_worker *w, struct resource_run *run,
                     const struct tw_resource *res, const uint8_t slot[TW_DIMENSIONS_MAX])
{
	const struct tw_red *r = w->red;

	run->service = tw_slice(NULL, 0);
	run->failed = false;
	if (has_slot(res->slots_set, TW_KEY_SERVICE_NAME))
		run->failed =
		    !tw_label_of(&res->slots[TW_KEY_SERVICE_NAME], &w->arena, &run->service);
	if (run->service.n == 0)
		run->service = unknown_service();
	run->service_hash = tw_hash_bytes(r->key, run->service.p, run->service.n);
	for (uint32_t i = 0; i < r->dimension_count; i++) {
		run->dims[i] = tw_slice(NULL, 0);
		if (has_slot(res->slots_set, slot[i]) &&
		    !tw_label_of(&res->slots[slot[i]], &w->arena, &run->dims[i]))
			run->failed = true;
		run->dim_hash[i] = tw_hash_bytes(r->key, run->dims[i].p, run->dims[i].n);
	}
}

/* The run of a span's resource. Spans come in the order of the request, so one look back is enough.
 */
static const struct resource_run *run_of(struct tw_red_worker *w, const struct tw_request *req,
                                         const struct tw_span *s,
                                         const uint8_t slot[TW_DIMENSIONS_MAX])
{
	uint32_t resource = req->scopes[s->scope].resource;

	if (resource != w->resource) {
		if (w->resource != NO_RESOURCE)
			w->run++;
		w->resource = resource;
		run_fill(w, &w->runs[w->run], &req->resources[resource], slot);
	}
	return &w->runs[w->run];
}

static uint64_t key_hash(struct tw_hash_key k, uint64_t service, uint64_t name, uint8_t kind,
                         uint8_t status)
{
	return tw_hash_u64x2(k, service + ((uint64_t)kind << 8 | status), name);
}

static void item_dims(struct tw_red_worker *w, struct item *it, struct tw_slice *dims,
                      const struct tw_span *s, const struct resource_run *run,
                      const uint8_t slot[TW_DIMENSIONS_MAX])
{
	const struct tw_red *r = w->red;

	for (uint32_t i = 0; i < r->dimension_count; i++) {
		uint64_t h = run->dim_hash[i];

		dims[i] = run->dims[i];
		if (has_slot(s->rest->slots_set, slot[i])) {
			struct tw_slice own;
			if (!tw_label_of(&s->rest->slots[slot[i]], &w->arena, &own)) {
				it->failed = true;
			} else if (own.n > 0) {
				dims[i] = own;
				h = tw_hash_bytes(r->key, own.p, own.n);
			}
		}
		it->key.hash = tw_hash_u64x2(r->key, it->key.hash, h);
	}
}

static void item_fill(struct tw_red_worker *w, struct item *it, struct tw_slice *dims,
                      const struct tw_span *s, const struct resource_run *run,
                      const uint8_t slot[TW_DIMENSIONS_MAX])
{
	const struct tw_red *r = w->red;
	struct tw_slice name = tw_label_clip(tw_slice(s->rest->name, s->rest->name_n));

	it->failed = run->failed;
	it->key.parts = 2 + r->dimension_count;
	it->key.kind = s->kind;
	it->key.status = s->status;
	it->key.service = run->service;
	it->key.name = name;
	it->key.dims = dims;
	it->key.hash = key_hash(r->key, run->service_hash, tw_hash_bytes(r->key, name.p, name.n),
	                        s->kind, s->status);
	if (r->dimension_count > 0)
		item_dims(w, it, dims, s, run, slot);
}

/* The first record whose tag is the key's, unverified; NULL: there is none. */
static const struct tw_series *probe(const struct tw_series_table *t,
                                     const struct tw_series_slots *slots, uint64_t hash)
{
	for (uint64_t i = hash;; i++) {
		uint64_t v =
		    atomic_load_explicit(&slots->slot[i & slots->mask], memory_order_acquire);
		if (v == 0)
			return NULL;
		if (v >> 32 == hash >> 32)
			return tw_series_at(t, (uint32_t)v);
	}
}

/* The long way: values made fit to print, then the table under its lock. */
static __attribute__((noinline)) uint32_t intern(struct tw_red_worker *w, struct item *it,
                                                 struct tw_slice *dims)
{
	struct tw_series_key *k = &it->key;
	struct tw_hash_key hk = w->red->key;
	bool ok = !it->failed && tw_label_sanitise(k->service, &w->arena, &k->service) &&
	          tw_label_sanitise(k->name, &w->arena, &k->name);

	for (uint32_t i = 0; ok && i < k->parts - 2; i++)
		ok = tw_label_sanitise(dims[i], &w->arena, &dims[i]);
	if (!ok)
		return TW_SERIES_OVERFLOW;
	k->hash = key_hash(hk, tw_hash_bytes(hk, k->service.p, k->service.n),
	                   tw_hash_bytes(hk, k->name.p, k->name.n), k->kind, k->status);
	for (uint32_t i = 0; i < k->parts - 2; i++)
		k->hash = tw_hash_u64x2(hk, k->hash, tw_hash_bytes(hk, dims[i].p, dims[i].n));
	return tw_series_intern(&w->red->series, k);
}

static inline uint32_t bucket_of(const struct buckets *b, uint64_t ns)
{
	uint32_t i = b->first[ns == 0 ? 0 : 64 - (uint32_t)__builtin_clzll(ns)];

	/* No branch depends on the duration: once a bound is large enough, i stays. Two steps are
	 * as many as most bounds take. */
	i += ns > b->bound[i];
	i += ns > b->bound[i];
	for (uint32_t k = 2; k < b->steps; k++)
		i += ns > b->bound[i];
	return i;
}

static inline uint64_t sane_duration(const struct tw_span *s)
{
	return s->start_ns == 0 || s->duration_ns > DURATION_MAX_NS ? 0 : s->duration_ns;
}

static __attribute__((noinline)) void sum_carry(struct tw_red_worker *w, tw_counter *cell,
                                                uint64_t low)
{
	tw_seq_write_begin(&w->seq);
	tw_counter_set(&cell[CELL_SUM_LOW], low);
	tw_counter_add(&cell[CELL_SUM_HIGH], 1);
	tw_seq_write_end(&w->seq);
}

static inline void cell_add(struct tw_red_worker *w, tw_counter *cell, uint32_t bucket, uint64_t ns)
{
	uint64_t low = tw_counter_get(&cell[CELL_SUM_LOW]) + ns;

	tw_counter_add(&cell[CELL_BUCKETS + bucket], 1);
	if (TW_UNLIKELY(low < ns))
		sum_carry(w, cell, low);
	else
		tw_counter_set(&cell[CELL_SUM_LOW], low);
}

/* What the last group left behind: the last run goes on, unless its texts go with the arena. */
static void group_begin(struct tw_red_worker *w)
{
	if (w->arena.used > 0) {
		tw_arena_reset(&w->arena);
		w->resource = NO_RESOURCE;
	}
	if (w->run != 0 && w->resource != NO_RESOURCE)
		w->runs[0] = w->runs[w->run];
	w->run = 0;
}

/* The operation, if its spans are all of one series. */
static inline struct tw_operation *operation_of(const struct tw_request *req,
                                                const struct tw_span *s)
{
	struct tw_operation *op;

	if (s->operation == 0)
		return NULL;
	op = &req->operations[s->operation - 1];
	return op->fixed ? op : NULL;
}

/* The series of item i, whose table slot was probed. */
static uint32_t look_up(struct tw_red_worker *w, const struct tw_series_slots *slots, uint32_t i)
{
	const struct tw_series_table *t = &w->red->series;
	struct item *it = &w->items[i];
	const struct tw_series *s = it->found;
	uint32_t id;

	if (s != NULL && (s->hash != it->key.hash || !tw_series_same(s, &it->key)))
		s = tw_series_find(t, slots, &it->key);
	id = TW_LIKELY(s != NULL && !it->failed) ? s->id : intern(w, it, w->dims[i]);
	/* The overflow series may be for want of memory, which will be there again. */
	if (it->operation != NULL && id != TW_SERIES_OVERFLOW) {
		it->operation->series = id;
		it->operation->counted = true;
	}
	return id;
}

/* The series of those of the group's spans whose operation does not tell it. */
static void find_series(struct tw_red_worker *w, struct tw_request *req, struct tw_span *spans,
                        uint32_t n, const uint8_t slot[TW_DIMENSIONS_MAX])
{
	const struct tw_series_table *t = &w->red->series;
	const struct tw_series_slots *slots = atomic_load_explicit(&t->slots, memory_order_acquire);

	group_begin(w);
	for (uint32_t i = 0; i < n; i++) {
		struct item *it = &w->items[i];
		const struct tw_span *s = &spans[it->span];

		item_fill(w, it, w->dims[i], s, run_of(w, req, s, slot), slot);
		__builtin_prefetch((const void *)&slots->slot[it->key.hash & slots->mask]);
	}
	for (uint32_t i = 0; i < n; i++) {
		struct item *it = &w->items[i];

		it->found = probe(t, slots, it->key.hash);
		if (it->found != NULL) {
			__builtin_prefetch(it->found);
			__builtin_prefetch((const uint8_t *)it->found + 64);
		}
	}
	for (uint32_t i = 0; i < n; i++)
		spans[w->items[i].span].series = look_up(w, slots, i);
}

static void count_group(struct tw_red_worker *w, struct tw_request *req, uint32_t from, uint32_t n,
                        const uint8_t slot[TW_DIMENSIONS_MAX])
{
	struct tw_span *spans = req->spans + from;
	uint64_t duration_ns[GROUP];
	tw_counter *cell[GROUP];
	uint32_t bucket[GROUP], unknown = 0;

	for (uint32_t i = 0; i < n; i++) {
		struct tw_operation *op = operation_of(req, &spans[i]);

		duration_ns[i] = sane_duration(&spans[i]);
		bucket[i] = bucket_of(&w->red->buckets, duration_ns[i]);
		if (TW_LIKELY(op != NULL && op->counted)) {
			spans[i].series = op->series;
			continue;
		}
		w->items[unknown].operation = op;
		w->items[unknown++].span = i;
	}
	if (TW_UNLIKELY(unknown > 0))
		find_series(w, req, spans, unknown, slot);
	for (uint32_t i = 0; i < n; i++) {
		cell[i] = cell_ready(w, spans[i].series);
		if (TW_UNLIKELY(cell[i] == NULL)) {
			spans[i].series = TW_SERIES_OVERFLOW;
			cell[i] = red_cell(w, TW_SERIES_OVERFLOW, memory_order_relaxed);
		}
		__builtin_prefetch((const void *)cell[i], 1);
		__builtin_prefetch((const void *)&cell[i][CELL_BUCKETS + bucket[i]], 1);
	}
	for (uint32_t i = 0; i < n; i++)
		cell_add(w, cell[i], bucket[i], duration_ns[i]);
}

void tw_red_count(struct tw_red_worker *w, struct tw_request *req,
                  const uint8_t slot[TW_DIMENSIONS_MAX])
{
	w->resource = NO_RESOURCE;
	w->run = 0;
	for (uint32_t i = 0; i < req->span_count; i += GROUP) {
		uint32_t left = req->span_count - i;
		count_group(w, req, i, left < GROUP ? left : GROUP, slot);
	}
}
