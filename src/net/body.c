#include "tw/net.h"

#include "tw/base/error.h"
#include "tw/base/mem.h"

#include "body.h"

#define BODY_FIRST_BYTES ((size_t)4096)
#define BODY_STEP_BYTES  ((size_t)65536)
#define BODY_FAR_BYTES   ((size_t)1 << 20)
#define BODY_FAR_TIMES   64u

void tw_body_init(struct tw_body *b, struct tw_budget *budget)
{
	*b = (struct tw_body){.budget = budget};
}

void tw_body_deinit(struct tw_body *b)
{
	if (b->p != NULL)
		tw_free(b->p);
	if (b->budget != NULL && b->cap > 0)
		tw_budget_release(b->budget, b->cap);
	tw_body_init(b, b->budget);
}

static bool body_allocate(struct tw_body *b, size_t room)
{
	uint8_t *p = b->p == NULL ? tw_alloc(room) : tw_realloc(b->p, room);

	if (p == NULL)
		return false;
	b->p = p;
	b->room = room;
	return true;
}

/* The capacity becomes exactly cap; what is new of it is reserved first. Where memory is allocated
 * for it, it is `room`, if there is so much. */
static int body_resize(struct tw_body *b, size_t cap, size_t room)
{
	size_t more = cap - b->cap;

	if (b->budget != NULL && !tw_budget_reserve(b->budget, more))
		return TW_EFULL;
	if (cap > b->room && !(room > cap && body_allocate(b, room)) && !body_allocate(b, cap)) {
		if (b->budget != NULL)
			tw_budget_release(b->budget, more);
		return TW_ENOMEM;
	}
	b->cap = cap;
	return TW_OK;
}

int tw_body_reserve(struct tw_body *b, size_t cap)
{
	return cap <= b->cap ? TW_OK : body_resize(b, cap, cap);
}

/* Moving tens of megabytes takes as many milliseconds. So a body that has become large is moved
 * once, to where there is room for the largest one: of the addresses, not of the budget. */
static size_t room_for(size_t cap, size_t max)
{
	if (cap < BODY_FAR_BYTES)
		return cap;
	return max / BODY_FAR_TIMES < cap ? max : cap * BODY_FAR_TIMES;
}

int tw_body_room(struct tw_body *b, size_t more, size_t max)
{
	size_t need, cap;
	int rc;

	if (more > max || b->n > max - more)
		return TW_ELIMIT;
	need = b->n + more;
	if (TW_LIKELY(need <= b->cap))
		return TW_OK;
	cap = b->cap < BODY_FIRST_BYTES ? BODY_FIRST_BYTES : b->cap;
	while (cap < need)
		cap *= 2;
	if (cap > max)
		cap = max;
	rc = body_resize(b, cap, room_for(cap, max));
	/* The budget may still have what is needed, if not twice that; in steps that are worth a
	 * move of it all. */
	need = (need + BODY_STEP_BYTES - 1) / BODY_STEP_BYTES * BODY_STEP_BYTES;
	if (rc == TW_EFULL && cap > need)
		rc = body_resize(b, need, room_for(need, max));
	return rc;
}

static bool body_cut(struct tw_body *b, size_t cap)
{
	if (!body_allocate(b, cap))
		return false;
	if (b->budget != NULL)
		tw_budget_release(b->budget, b->cap - cap);
	b->cap = cap;
	b->n = b->n < cap ? b->n : cap;
	return true;
}

void tw_body_trim(struct tw_body *b)
{
	if (b->n > 0 && b->n <= b->cap / 2)
		(void)body_cut(b, b->n);
}

bool tw_body_shrink(struct tw_body *b, size_t bytes)
{
	if (b->cap <= BODY_FAR_BYTES || b->cap <= bytes)
		return false;
	/* What is behind its end was not touched. */
	return body_cut(b, b->n < b->cap - bytes ? b->n : b->cap - bytes);
}

int tw_body_append(struct tw_body *b, const void *p, size_t n, size_t max)
{
	int rc = tw_body_room(b, n, max);

	if (rc == TW_OK && n > 0) {
		memcpy(b->p + b->n, p, n);
		b->n += n;
	}
	return rc;
}
