#include "tw/base/mem.h"
#include "tw/metrics.h"

struct source {
	tw_collect_fn fn;
	void *ctx;
};

struct tw_registry {
	struct source *sources;
	uint32_t count, cap;
};

struct tw_registry *tw_registry_create(void)
{
	return tw_calloc(1, sizeof(struct tw_registry));
}

void tw_registry_destroy(struct tw_registry **r)
{
	if (*r == NULL)
		return;
	tw_free((*r)->sources);
	tw_free(*r);
	*r = NULL;
}

int tw_registry_add(struct tw_registry *r, tw_collect_fn fn, void *ctx)
{
	if (r->count == r->cap) {
		uint32_t cap = r->cap == 0 ? 8 : r->cap * 2;
		struct source *grown = tw_realloc(r->sources, cap * sizeof(*grown));
		if (grown == NULL)
			return TW_ENOMEM;
		r->sources = grown;
		r->cap = cap;
	}
	r->sources[r->count++] = (struct source){fn, ctx};
	return 0;
}

void tw_registry_expose(struct tw_registry *r, struct tw_expo *e)
{
	for (uint32_t i = 0; i < r->count; i++)
		r->sources[i].fn(r->sources[i].ctx, e);
	tw_expo_end(e);
}
