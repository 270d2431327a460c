#include "record.h"

#include "pool.h"
#include "tw/base/mem.h"

#define CHUNK_BYTES (TW_RECORDS_PER_CHUNK * sizeof(struct tw_record))

static bool directory_grow(struct tw_records *r)
{
	uint32_t cap = r->chunk_cap ? r->chunk_cap * 2 : 64;
	struct tw_record **chunks = tw_realloc(r->chunks, cap * sizeof(*chunks));

	if (!chunks)
		return false;
	r->chunks = chunks;
	r->chunk_cap = cap;
	return true;
}

bool tw_records_grow(struct tw_records *r, bool force)
{
	struct tw_record *chunk;
	uint32_t first;

	if (r->chunk_count >= UINT32_MAX / TW_RECORDS_PER_CHUNK)
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
	}
	tw_free(r->chunks);
	*r = (struct tw_records){0};
}

uint32_t tw_records_get(struct tw_records *r)
{
	uint32_t i = r->free, tag;
	struct tw_record *rec;

	if (i == TW_RECORD_NONE)
		return TW_RECORD_NONE;
	rec = tw_record_at(r, i);
	tag = rec->tag;
	r->free = rec->next;
	r->held++;
	*rec = (struct tw_record){.tag = tag};
	return i;
}

void tw_records_put(struct tw_records *r, uint32_t i)
{
	struct tw_record *rec = tw_record_at(r, i);

	rec->state = TW_RECORD_FREE;
	rec->tag++;
	rec->next = r->free;
	r->free = i;
	r->held--;
}
