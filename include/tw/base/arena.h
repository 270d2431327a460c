/* A bump allocator for one request: cold pieces (merged resources, transcoded JSON) live in it
 * until the request is done, then all go at once. Pointers stay valid until tw_arena_reset. One
 * thread. */
#ifndef TW_BASE_ARENA_H
#define TW_BASE_ARENA_H

#include <stddef.h>

struct tw_arena_chunk;

struct tw_arena {
	struct tw_arena_chunk *head;
	size_t used;      /* bytes handed out since the reset */
	size_t bytes_max; /* never more than this in all; 0 = no bound */
};

void tw_arena_init(struct tw_arena *a, size_t bytes_max);
void tw_arena_deinit(struct tw_arena *a);
void tw_arena_reset(struct tw_arena *a);            /* keeps one chunk of at most 64 KiB */
void *tw_arena_alloc(struct tw_arena *a, size_t n); /* 8-byte aligned; NULL: bound or allocator */

#endif
