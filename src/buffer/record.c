#include "record.h"

#include "pool.h"
#include "tw/base/mem.h"

#define CHUNK_BYTES (TW_RECORDS_PER_CHUNK * sizeof(struct tw_record))

#define RV_BYTES (TW_RECORDS_PER_CHUNK * sizeof(uint64_t))

static bool directory_grow(struct tw_records *r)
{
	uint32_t cap = r->chunk_cap ? r->chunk_cap * 2 : 64;
	struct tw_record **chunks = tw_realloc(r->chunks, cap * sizeof(*chunks));
	uint64_t **rv;

	if (!chunks)
		return false;
	r->chunks = chunks;
	rv = tw_realloc(r->rv, cap * sizeof(*rv));
	if (!rv)
		return false;
	r->rv = rv;
	r->chunk_cap = cap;
	return true;
}

bool tw_records_grow(struct tw_records *r, bool force)
{
	struct tw_record *chunk;
	uint32_t first;

	if (r->chunk_count >= TW_RECORDS_MAX / TW_RECORDS_PER_CHUNK)
		return false;
	if (r->chunk_count == r->chunk_cap && !directory_grow(r))
		return false;
	if (!tw_pool_reserve_overhead(r->pool, CHUNK_BYTES, force))
		return false;
	chunk = tw_alloc_aligned(128, CHUNK_BYTES);
	if (!chunk) {
		tw_pool_release_overhead(r->pool, CHUNK_BYTES);
		return false;
	}
	first = r->chunk_count * TW_RECORDS_PER_CHUNK;
	r->rv[r->chunk_count] = NULL;
	r->chunks[r->chunk_count++] = chunk;
	for (uint32_t i = TW_RECORDS_PER_CHUNK; i-- > 0;) {
		chunk[i] = (struct tw_record){.next = r->free};
		if (first + i != TW_RECORD_NONE)
			r->free = first + i;
	}
	return true;
}

int tw_records_init(struct tw_records *r, struct tw_pool *pool)
{
	*r = (struct tw_records){.pool = pool};
	return tw_records_grow(r, true) ? 0 : TW_ENOMEM;
}

void tw_records_deinit(struct tw_records *r)
{
	for (uint32_t i = 0; i < r->chunk_count; i++) {
		tw_free(r->chunks[i]);
		tw_pool_release_overhead(r->pool, CHUNK_BYTES);
		if (!r->rv[i])
			continue;
		tw_free(r->rv[i]);
		tw_pool_release_overhead(r->pool, RV_BYTES);
	}
	tw_free(r->chunks);
	tw_free(r->rv);
	*r = (struct tw_records){0};
}

uint32_t tw_records_get(struct tw_records *r)
{
	uint32_t i = r->free;
	struct tw_record *rec;

	if (i == TW_RECORD_NONE)
		return TW_RECORD_NONE;
	rec = tw_record_at(r, i);
	r->free = rec->next;
	r->held++;
	*rec = (struct tw_record){0};
	return i;
}

void tw_records_wake(struct tw_records *r)
{
	if (r->rest_count == 0)
		return;
	tw_record_at(r, r->rest_last)->next = r->free;
	r->free = r->rest_first;
	r->rest_count = 0;
}

void tw_records_rest(struct tw_records *r, uint32_t i, uint64_t number)
{
	struct tw_record *rec = tw_record_at(r, i);

	if (tw_records_may_wake(r, number))
		tw_records_wake(r);
	r->rest_number = number;
	rec->state = TW_RECORD_FREE;
	r->held--;
	if (r->rest_count++ == 0)
		r->rest_first = i;
	else
		tw_record_at(r, r->rest_last)->next = i;
	r->rest_last = i;
	if (r->rest_count <= TW_RECORDS_REST_MAX)
		return;
	i = r->rest_first;
	rec = tw_record_at(r, i);
	r->rest_first = rec->next;
	r->rest_count--;
	rec->next = r->free;
	r->free = i;
}

void tw_records_set_rv(struct tw_records *r, uint32_t i, uint64_t rv)
{
	uint64_t **chunk = &r->rv[i / TW_RECORDS_PER_CHUNK];

	if (!*chunk) {
		*chunk = tw_alloc(RV_BYTES);
		if (!*chunk)
			return;
		/* Small beside the records, as the wheel is. */
		(void)tw_pool_reserve_overhead(r->pool, RV_BYTES, true);
		r->rv_count++;
	}
	(*chunk)[i % TW_RECORDS_PER_CHUNK] = rv;
	tw_record_at(r, i)->has_rv = 1;
}

uint64_t tw_records_rv(const struct tw_records *r, uint32_t i)
{
	return r->rv[i / TW_RECORDS_PER_CHUNK][i % TW_RECORDS_PER_CHUNK];
}
