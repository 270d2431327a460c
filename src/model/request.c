/* The arrays of a request: they grow by doubling and keep their memory from request to request. */
#include "tw/base/mem.h"
#include "tw/model/operations.h"

#define KEEP_BYTES_MAX ((size_t)4 << 20)
#define FIRST_ROWS     64u
#define SHRINK_FROM    ((size_t)1 << 20)

void tw_request_init(struct tw_request *r)
{
	memset(r, 0, sizeof(*r));
	tw_arena_init(&r->arena, 0);
}

static void free_arrays(struct tw_request *r)
{
	tw_free(r->spans);
	tw_free(r->resources);
	tw_free(r->scopes);
	tw_free(r->rests);
	tw_free(r->values);
	tw_free(r->masks);
	tw_free(r->places);
	r->places = NULL;
	r->place_cap = 0;
	r->spans = NULL;
	r->resources = NULL;
	r->scopes = NULL;
	r->rests = NULL;
	r->values = NULL;
	r->masks = NULL;
	r->span_cap = r->resource_cap = r->scope_cap = 0;
	r->rest_cap = r->value_cap = r->mask_cap = 0;
}

void tw_request_deinit(struct tw_request *r)
{
	if (r->table)
		tw_operations_end(r->table, r);
	free_arrays(r);
	tw_arena_deinit(&r->arena);
	memset(r, 0, sizeof(*r));
}

void tw_request_reset(struct tw_request *r)
{
	size_t held = r->span_cap * sizeof(*r->spans) + r->resource_cap * sizeof(*r->resources) +
	              r->scope_cap * sizeof(*r->scopes) + r->rest_cap * sizeof(*r->rests) +
	              r->value_cap * sizeof(*r->values) + r->mask_cap * sizeof(*r->masks) +
	              r->place_cap * sizeof(*r->places);

	if (r->table)
		tw_operations_end(r->table, r);
	if (held > KEEP_BYTES_MAX)
		free_arrays(r);
	r->span_count = r->resource_count = r->scope_count = 0;
	r->rest_count = r->value_count = r->place_count = 0;
	r->span_bytes = 0;
	r->heads_max = 0;
	r->plain_count = 0;
	r->unmatched = 0;
	memset(r->rejected, 0, sizeof(r->rejected));
	r->reject_text[0] = '\0';
	tw_arena_reset(&r->arena);
}

uint32_t tw_request_rejected(const struct tw_request *r)
{
	uint32_t n = 0;

	for (int i = 0; i < TW_REJECT_COUNT; i++)
		n += r->rejected[i];
	return n;
}

/* Takes rows of `size` bytes, of which `used` were ever touched, from the array's end. */
static bool shrink(void **array, size_t *cap, size_t used, size_t size, size_t bytes)
{
	size_t rows = bytes / size, left;
	void *p;

	if (*cap * size <= SHRINK_FROM || *cap <= rows || used == 0)
		return false;
	left = used < *cap - rows ? used : *cap - rows;
	p = tw_realloc(*array, left * size);
	if (!p)
		return false;
	*array = p;
	*cap = left;
	return true;
}

bool tw_request_shrink(struct tw_request *r, size_t bytes)
{
	size_t spans = r->span_cap, masks = r->span_count;

	masks = masks < r->mask_cap ? masks : r->mask_cap;
	if (shrink((void **)&r->masks, &r->mask_cap, masks, sizeof(*r->masks), bytes))
		return true;
	if (shrink((void **)&r->spans, &spans, r->span_count, sizeof(*r->spans), bytes)) {
		r->span_cap = (uint32_t)spans;
		r->span_count = r->span_count < r->span_cap ? r->span_count : r->span_cap;
		return true;
	}
	if (shrink((void **)&r->rests, &r->rest_cap, r->rest_count, sizeof(*r->rests), bytes)) {
		r->rest_count = r->rest_count < r->rest_cap ? r->rest_count : r->rest_cap;
		return true;
	}
	if (shrink((void **)&r->values, &r->value_cap, r->value_count, sizeof(*r->values), bytes)) {
		r->value_count = r->value_count < r->value_cap ? r->value_count : r->value_cap;
		return true;
	}
	if (!shrink((void **)&r->places, &r->place_cap, r->place_count, sizeof(*r->places), bytes))
		return false;
	r->place_count = r->place_count < r->place_cap ? r->place_count : r->place_cap;
	return true;
}

/* Makes *array hold `need` rows of `size` bytes; false: no memory, nothing changed. */
static bool grow(void **array, size_t *cap, size_t need, size_t size)
{
	size_t rows = *cap ? *cap : FIRST_ROWS;
	void *p;

	if (need <= *cap)
		return true;
	while (rows < need)
		rows *= 2;
	p = tw_realloc(*array, rows * size);
	if (!p)
		return false;
	*array = p;
	*cap = rows;
	return true;
}

static bool grow32(void **array, uint32_t *cap, size_t need, size_t size)
{
	size_t wide = *cap;

	if (need > UINT32_MAX / 2 || !grow(array, &wide, need, size))
		return false;
	*cap = (uint32_t)wide;
	return true;
}

bool tw_request_room(struct tw_request *r, uint32_t spans, uint32_t resources, uint32_t scopes)
{
	return grow32((void **)&r->spans, &r->span_cap, (size_t)r->span_count + spans,
	              sizeof(*r->spans)) &&
	       grow32((void **)&r->resources, &r->resource_cap,
	              (size_t)r->resource_count + resources, sizeof(*r->resources)) &&
	       grow32((void **)&r->scopes, &r->scope_cap, (size_t)r->scope_count + scopes,
	              sizeof(*r->scopes));
}

/* Where p is now that the array of so many bytes lies elsewhere. What is not of it stays: that of a
 * template, NULL. */
static void *moved(void *p, uintptr_t before, size_t bytes, void *now)
{
	uintptr_t at = (uintptr_t)p - before;

	return at < bytes ? (char *)now + at : p;
}

bool tw_request_room_rests(struct tw_request *r, size_t rests)
{
	struct tw_span_rest *old = r->rests;
	void *array = old;
	uintptr_t before = (uintptr_t)old;
	size_t bytes = r->rest_cap * sizeof(*old);

	if (!grow(&array, &r->rest_cap, r->rest_count + rests, sizeof(*r->rests)))
		return false;
	r->rests = array;
	if ((uintptr_t)array == before || !before)
		return true;
	for (uint32_t i = 0; i < r->span_count; i++)
		r->spans[i].rest =
		    moved((void *)(uintptr_t)r->spans[i].rest, before, bytes, r->rests);
	return true;
}

bool tw_request_room_values(struct tw_request *r, size_t values)
{
	struct tw_value *old = r->values;
	void *array = old;
	uintptr_t before = (uintptr_t)old;
	size_t bytes = r->value_cap * sizeof(*old);

	if (!grow(&array, &r->value_cap, r->value_count + values, sizeof(*r->values)))
		return false;
	r->values = array;
	if ((uintptr_t)array == before || !before)
		return true;
	for (size_t i = 0; i < r->rest_count; i++)
		r->rests[i].slots = moved(r->rests[i].slots, before, bytes, r->values);
	for (uint32_t i = 0; i < r->resource_count; i++)
		r->resources[i].slots = moved(r->resources[i].slots, before, bytes, r->values);
	return true;
}

bool tw_request_room_places(struct tw_request *r, size_t places)
{
	return grow((void **)&r->places, &r->place_cap, r->place_count + places,
	            sizeof(*r->places));
}

bool tw_request_room_masks(struct tw_request *r)
{
	size_t cap = 0;
	void *array = NULL;

	if (r->span_count <= r->mask_cap)
		return true;
	if (!grow(&array, &cap, r->span_count, sizeof(*r->masks)))
		return false;
	tw_free(r->masks); /* nothing to move */
	r->masks = array;
	r->mask_cap = cap;
	return true;
}
