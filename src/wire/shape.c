/* The cache of shapes: finding room, letting go. */
#include "shape.h"

#include "tw/base/limits.h"
#include "tw/base/mem.h"

#define EVICT_STEPS 64u

/* As many as a quarter of bytes_max has room for. */
static uint32_t places_of(size_t bytes_max)
{
	uint32_t places = TW_OPERATIONS_MAX;

	while (places > TW_OPERATIONS_MIN && places * sizeof(struct tw_operation) > bytes_max / 4)
		places /= 2;
	return places;
}

struct tw_templates *tw_templates_create(struct tw_hash_key key, size_t bytes_max)
{
	struct tw_templates *t = tw_calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->key = key;
	t->bytes_max = bytes_max;
	t->operations = tw_operations_create(places_of(bytes_max));
	if (!t->operations) {
		tw_free(t);
		return NULL;
	}
	t->run = scan_run;
	t->known = scan_known;
#ifdef TW_WIRE_AVX2
	if (__builtin_cpu_supports("avx2")) {
		t->run = scan_run_avx2;
		t->known = scan_known_avx2;
	}
#endif
	return t;
}

void image_unlink(struct tw_templates *t, struct tw_image *im)
{
	struct tw_image **at;

	if (!im || !im->linked)
		return;
	for (at = &t->images[im->slot]; *at != im; at = &(*at)->next)
		;
	*at = im->next;
	im->linked = false;
}

void shape_unlink(struct tw_templates *t, struct shape *sh)
{
	for (struct node *n = sh->all; n; n = n->all)
		if (n->kind == NODE_LEAF && n->template)
			image_unlink(t, n->template->image);
}

uint32_t shape_hits(struct shape *sh)
{
	uint32_t hits = 0;

	for (struct node *n = sh->all; n; n = n->all) {
		if (n->kind != NODE_LEAF || !n->template || !n->template->image)
			continue;
		hits += n->template->image->hits;
		n->template->image->hits = 0;
	}
	return hits;
}

void shape_drop(struct tw_templates *t, struct shape *sh, struct node *leaf)
{
	if (!leaf->template)
		return;
	image_unlink(t, leaf->template->image);
	sh->bytes -= leaf->template->bytes;
	t->bytes -= leaf->template->bytes;
	t->stats.templates--;
	tw_operations_drop(t->operations, leaf->template);
	leaf->template = NULL;
}

static void shape_free(struct tw_templates *t, struct shape *sh)
{
	while (sh->all) {
		struct node *n = sh->all;

		sh->all = n->all;
		if (n->kind == NODE_LEAF)
			shape_drop(t, sh, n);
		tw_free(n);
	}
	t->bytes -= sh->bytes;
	t->stats.shapes--;
	tw_free(sh);
}

static void clear(struct tw_templates *t)
{
	for (uint32_t i = 0; i < SHAPE_SLOTS; i++) {
		while (t->shapes[i]) {
			struct shape *sh = t->shapes[i];

			t->shapes[i] = sh->chain;
			shape_free(t, sh);
		}
	}
}

void tw_templates_destroy(struct tw_templates **pt)
{
	if (!*pt)
		return;
	clear(*pt);
	tw_operations_destroy(&(*pt)->operations);
	tw_free(*pt);
	*pt = NULL;
}

void tw_templates_generation(struct tw_templates *t, uint32_t generation)
{
	if (t->generation == generation)
		return;
	/* Slots have other numbers now, or other keys are read; and what was found for operations
	 * is not found with new templates. */
	clear(t);
	tw_operations_forget(t->operations);
	t->generation = generation;
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
		struct shape **at = &t->shapes[t->hand++ % SHAPE_SLOTS];

		while (*at) {
			struct shape *sh = *at;

			if (shape_hits(sh) > 0 || sh->used) {
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
	struct shape **at = shape_slot(t, x->hash), *sh;
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
	sh->has_state = x->state != NULL;
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
