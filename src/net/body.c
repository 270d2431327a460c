#include "tw/net.h"

#include "tw/base/error.h"
#include "tw/base/mem.h"

#include "body.h"

#define BODY_FIRST_BYTES ((size_t)4096)
#define BODY_STEP_BYTES  ((size_t)65536)

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

/* The capacity becomes exactly cap; what is new of it is reserved first. */
static int body_resize(struct tw_body *b, size_t cap)
{
	size_t more = cap - b->cap;
	uint8_t *p;

	if (b->budget != NULL && !tw_budget_reserve(b->budget, more))
		return TW_EFULL;
	p = b->p == NULL ? tw_alloc(cap) : tw_realloc(b->p, cap);
	if (p == NULL) {
		if (b->budget != NULL)
			tw_budget_release(b->budget, more);
		return TW_ENOMEM;
	}
	b->p = p;
	b->cap = cap;
	return TW_OK;
}

int tw_body_reserve(struct tw_body *b, size_t cap)
{
	return cap <= b->cap ? TW_OK : body_resize(b, cap);
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
	rc = body_resize(b, cap);
	/* The budget may still have what is needed, if not twice that; in steps that are worth a
	 * move of it all. */
	need = (need + BODY_STEP_BYTES - 1) / BODY_STEP_BYTES * BODY_STEP_BYTES;
	if (rc == TW_EFULL && cap > need)
		rc = body_resize(b, need);
	return rc;
}

void tw_body_trim(struct tw_body *b)
{
	uint8_t *p;

	if (b->n == 0 || b->n > b->cap / 2)
		return;
	p = tw_realloc(b->p, b->n);
	if (p == NULL)
		return;
	if (b->budget != NULL)
		tw_budget_release(b->budget, b->cap - b->n);
	b->p = p;
	b->cap = b->n;
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
