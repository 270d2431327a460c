/* Growable arrays of the compiler: pointer, count and capacity live with their owner. */
#ifndef TW_RULES_VEC_H
#define TW_RULES_VEC_H

#include <stdbool.h>
#include <string.h>

#include "tw/base/mem.h"

/* Makes room for element n of the array at *(void **)array. false: no memory, nothing changed. */
static inline bool tw_vec_room(void *array, uint32_t n, uint32_t *cap, size_t elem)
{
	uint32_t more;
	void *p;

	if (n < *cap)
		return true;
	if (*cap > UINT32_MAX / 4)
		return false;
	memcpy(&p, array, sizeof(p));
	more = *cap ? *cap * 2 : 16;
	p = p ? tw_realloc(p, more * elem) : tw_alloc(more * elem);
	if (!p)
		return false;
	memcpy(array, &p, sizeof(p));
	*cap = more;
	return true;
}

#endif
