/* The cache of shapes: finding room, letting go. */
#include "shape.h"

#include "tw/base/mem.h"

#define EVICT_STEPS 64u

struct tw_templates *tw_templates_create(struct tw_hash_key key, size_t bytes_max)
{
	struct tw_templates *t = tw_calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->key = key;
	t->bytes_max = bytes_max;
	t->stamp = 1;
	t->scan = scan_templated;
#ifdef TW_WIRE_AVX2
	if (__builtin_cpu_supports("avx2"))
		t->scan = scan_templated_avx2;
#endif
	return t;
}

static void shape_free(struct tw_templates *t, struct shape *sh)
{
	while (sh->all) {
		struct node *n = sh->all;

		sh->all = n->all;
		if (n->kind == NODE_LEAF && n->template) {
			tw_template_put(n->template);
			t->stats.templates--;
		}
		tw_free(n);
	}
	t->bytes -= sh->bytes;
	t->stats.shapes--;
	tw_free(sh);
}

static void clear(struct tw_templates *t)
{
	for (uint32_t i = 0; i < SHAPE_SLOTS; i++) {
		t->slot[i].guess = NULL;
		while (t->slot[i].chain) {
			struct shape *sh = t->slot[i].chain;

			t->slot[i].chain = sh->chain;
			shape_free(t, sh);
		}
	}
}

void tw_templates_destroy(struct tw_templates **pt)
{
	if (!*pt)
		return;
	clear(*pt);
	tw_free(*pt);
	*pt = NULL;
}

bool tw_templates_generation(struct tw_templates *t, uint32_t generation)
{
	if (t->generation == generation)
		return false;
	/* Slots have other numbers now, or other keys are read. */
	clear(t);
	t->generation = generation;
	return true;
}

struct tw_template_stats tw_templates_stats(const struct tw_templates *t)
{
	struct tw_template_stats st = t->stats;

	st.bytes = t->bytes + sizeof(*t);
	return st;
}

/* The clock's hand goes on until there is room: what was used since it last came by stays. */
void shapes_evict(struct tw_templates *t)
{
	for (uint32_t n = 0; n < EVICT_STEPS && t->bytes > t->bytes_max; n++) {
		struct shape_slot *slot = &t->slot[t->hand++ % SHAPE_SLOTS];
		struct shape **at = &slot->chain;

		if (slot->guess && slot->guess->hits > 0) {
			slot->guess->hits = 0;
			continue;
		}
		slot->guess = NULL;
		while (*at) {
			struct shape *sh = *at;

			if (sh->used) {
				sh->used = false;
				at = &sh->chain;
				continue;
			}
			*at = sh->chain;
			shape_free(t, sh);
			t->stats.evicted++;
		}
	}
}

struct shape *shape_add(struct tw_templates *t, const struct prefix *x)
{
	struct shape **at = &shape_slot(t, x->hash)->chain, *sh;
	size_t bytes = sizeof(*sh) + x->name_n + NODE_PAD;
	uint32_t chain = 0;

	for (sh = *at; sh; sh = sh->chain)
		chain++;
	if (chain == CHAIN_MAX)
		return NULL;
	sh = tw_calloc(1, bytes);
	if (!sh)
		return NULL;
	sh->hash = x->hash;
	sh->version = 1;
	sh->bytes = (uint32_t)bytes;
	sh->used = true;
	sh->has_parent = x->parent_id != NULL;
	sh->kind = x->kind;
	sh->name_n = (uint8_t)x->name_n;
	memcpy(sh->name, x->name, x->name_n);
	sh->chain = *at;
	*at = sh;
	t->bytes += bytes;
	t->stats.shapes++;
	return sh;
}

struct node *node_new(struct tw_templates *t, struct shape *sh, uint8_t kind, const uint8_t *bytes,
                      uint32_t n)
{
	size_t size = sizeof(struct node) + (kind == NODE_LEAF ? 0 : n + NODE_PAD);
	struct node *node;

	if (sh->nodes == SHAPE_NODES_MAX)
		return NULL;
	node = tw_calloc(1, size);
	if (!node)
		return NULL;
	node->kind = kind;
	node->n = (uint16_t)n;
	if (n)
		memcpy(node->bytes, bytes, n);
	node->all = sh->all;
	sh->all = node;
	sh->nodes++;
	sh->bytes += (uint32_t)size;
	t->bytes += size;
	return node;
}
