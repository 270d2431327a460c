#include "tw/base/arena.h"

#include <stdint.h>

#include "tw/base/mem.h"

#define CHUNK_BYTES_FIRST ((size_t)4 << 10)
#define CHUNK_BYTES_KEPT  ((size_t)64 << 10)
#define CHUNK_BYTES_MAX   ((size_t)256 << 10)

struct tw_arena_chunk {
	struct tw_arena_chunk *next;
	size_t size; /* bytes of data */
	size_t used;
	_Alignas(8) unsigned char data[];
};

void tw_arena_init(struct tw_arena *a, size_t bytes_max)
{
	*a = (struct tw_arena){.bytes_max = bytes_max};
}

void tw_arena_deinit(struct tw_arena *a)
{
	struct tw_arena_chunk *c = a->head, *next;

	for (; c; c = next) {
		next = c->next;
		tw_free(c);
	}
	a->head = NULL;
	a->used = 0;
}

static struct tw_arena_chunk *arena_largest_kept(const struct tw_arena *a)
{
	struct tw_arena_chunk *best = NULL;

	for (struct tw_arena_chunk *c = a->head; c; c = c->next) {
		if (c->size <= CHUNK_BYTES_KEPT && (!best || c->size > best->size))
			best = c;
	}
	return best;
}

void tw_arena_reset(struct tw_arena *a)
{
	struct tw_arena_chunk *keep = arena_largest_kept(a);
	struct tw_arena_chunk *c = a->head, *next;

	for (; c; c = next) {
		next = c->next;
		if (c != keep)
			tw_free(c);
	}
	if (keep) {
		keep->next = NULL;
		keep->used = 0;
	}
	a->head = keep;
	a->used = 0;
}

/* A piece that is larger than a chunk gets one of its own. */
static struct tw_arena_chunk *arena_add_chunk(struct tw_arena *a, size_t n)
{
	size_t size = a->head ? a->head->size * 2 : CHUNK_BYTES_FIRST;
	struct tw_arena_chunk *c;

	if (size > CHUNK_BYTES_MAX)
		size = CHUNK_BYTES_MAX;
	if (size < n)
		size = n;
	c = tw_alloc(sizeof(*c) + size);
	if (!c)
		return NULL;
	c->size = size;
	c->used = 0;
	c->next = a->head;
	a->head = c;
	return c;
}

void *tw_arena_alloc(struct tw_arena *a, size_t n)
{
	struct tw_arena_chunk *c = a->head;
	void *p;

	if (n > SIZE_MAX / 2)
		return NULL;
	n = n ? (n + 7) & ~(size_t)7 : 8;
	if (a->bytes_max && (n > a->bytes_max || a->used > a->bytes_max - n))
		return NULL;
	if (!c || n > c->size - c->used)
		c = arena_add_chunk(a, n);
	if (!c)
		return NULL;
	p = c->data + c->used;
	c->used += n;
	a->used += n;
	return p;
}
