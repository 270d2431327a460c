#include "graph.h"

#include <stdlib.h>

#include "vec.h"

static const struct tw_hash_key table_key = {UINT64_C(0x243F6A8885A308D3),
                                             UINT64_C(0x13198A2E03707344)};

static uint64_t leaf_hash(const struct tw_leaf *l)
{
	struct tw_leaf plain = *l;
	uint64_t h = 0;

	if (l->lit.type == TW_VALUE_STRING) {
		h = tw_hash_bytes(table_key, l->lit.p, l->lit.n);
		plain.lit.p = NULL;
	}
	return h ^ tw_hash_bytes(table_key, &plain, sizeof(plain));
}

static bool leaf_eq(const struct tw_leaf *a, const struct tw_leaf *b)
{
	struct tw_leaf x = *a, y = *b;

	if (a->lit.type != b->lit.type || a->lit.n != b->lit.n)
		return false;
	if (a->lit.type == TW_VALUE_STRING) {
		if (a->lit.n && memcmp(a->lit.p, b->lit.p, a->lit.n) != 0)
			return false;
		x.lit.p = y.lit.p = NULL;
	}
	return memcmp(&x, &y, sizeof(x)) == 0;
}

static uint64_t node_hash(const struct tw_graph *g, const struct tw_gnode *n)
{
	if (n->kind == TW_G_LEAF)
		return tw_hash_u64x2(table_key, n->kind, n->first);
	return tw_hash_bytes(table_key, g->kids + n->first, n->count * sizeof(uint32_t)) ^ n->kind;
}

static bool node_eq(const struct tw_graph *g, const struct tw_gnode *a, const struct tw_gnode *b)
{
	if (a->kind != b->kind || a->count != b->count)
		return false;
	if (a->kind == TW_G_LEAF)
		return a->first == b->first;
	return memcmp(g->kids + a->first, g->kids + b->first, a->count * sizeof(uint32_t)) == 0;
}

static void table_put(uint32_t *table, uint32_t size, uint64_t hash, uint32_t number)
{
	uint32_t at = (uint32_t)hash & (size - 1);

	while (table[at])
		at = (at + 1) & (size - 1);
	table[at] = number + 1;
}

static uint32_t *table_new(uint32_t size)
{
	return tw_calloc(size, sizeof(uint32_t));
}

static bool node_table_room(struct tw_graph *g)
{
	uint32_t size = g->node_table_size;
	uint32_t *t;

	if (g->node_count * 2 < size)
		return true;
	t = table_new(size * 2);
	if (!t)
		return false;
	for (uint32_t i = 2; i < g->node_count; i++)
		table_put(t, size * 2, node_hash(g, &g->node[i]), i);
	tw_free(g->node_table);
	g->node_table = t;
	g->node_table_size = size * 2;
	return true;
}

static bool leaf_table_room(struct tw_graph *g)
{
	uint32_t size = g->leaf_table_size;
	uint32_t *t;

	if (g->leaf_count * 2 < size)
		return true;
	t = table_new(size * 2);
	if (!t)
		return false;
	for (uint32_t i = 0; i < g->leaf_count; i++)
		table_put(t, size * 2, leaf_hash(&g->leaf[i]), i);
	tw_free(g->leaf_table);
	g->leaf_table = t;
	g->leaf_table_size = size * 2;
	return true;
}

static uint32_t out_of_memory(struct tw_graph *g)
{
	g->nomem = true;
	return 0;
}

bool tw_graph_init(struct tw_graph *g)
{
	memset(g, 0, sizeof(*g));
	g->node_table = table_new(64);
	g->leaf_table = table_new(64);
	if (!g->node_table || !g->leaf_table ||
	    !tw_vec_room(&g->node, 2, &g->node_cap, sizeof(*g->node))) {
		tw_graph_deinit(g);
		return false;
	}
	g->node_table_size = g->leaf_table_size = 64;
	memset(g->node, 0, 2 * sizeof(*g->node));
	g->node[0].bit = g->node[1].bit = TW_G_NONE;
	g->node[0].resource_bit = g->node[1].resource_bit = TW_G_NONE;
	g->node_count = 2;
	return true;
}

void tw_graph_deinit(struct tw_graph *g)
{
	tw_free(g->node);
	tw_free(g->kids);
	tw_free(g->leaf);
	tw_free(g->node_table);
	tw_free(g->leaf_table);
	memset(g, 0, sizeof(*g));
}

/* n's operands are the last ones of kids; they are given back when the node exists already. */
static uint32_t intern(struct tw_graph *g, struct tw_gnode n)
{
	uint64_t hash = node_hash(g, &n);
	uint32_t at = (uint32_t)hash & (g->node_table_size - 1);

	for (; g->node_table[at]; at = (at + 1) & (g->node_table_size - 1)) {
		uint32_t old = g->node_table[at] - 1;

		if (node_eq(g, &g->node[old], &n)) {
			if (n.kind != TW_G_LEAF)
				g->kid_count = n.first;
			return old;
		}
	}
	if (!tw_vec_room(&g->node, g->node_count, &g->node_cap, sizeof(n)) || !node_table_room(g))
		return out_of_memory(g);
	n.bit = n.resource_bit = n.memo = TW_G_NONE;
	n.uses = 0;
	g->node[g->node_count] = n;
	table_put(g->node_table, g->node_table_size, hash, g->node_count);
	return g->node_count++;
}

static uint8_t leaf_where(const struct tw_leaf *l)
{
	if (tw_leaf_of_trace(l->kind))
		return TW_G_TRACE;
	if (l->src == TW_SRC_RESOURCE &&
	    (l->kind == TW_LEAF_HAS || l->kind == TW_LEAF_ATTRIBUTE || l->kind == TW_LEAF_CALC))
		return TW_G_RESOURCE;
	return TW_G_SPAN;
}

/* Orders operands: about what a test costs. */
static uint32_t leaf_cost(const struct tw_leaf *l)
{
	bool regex = l->cmp == TW_CMP_RE || l->cmp == TW_CMP_NRE;

	switch (l->kind) {
	case TW_LEAF_HAS:
		return 2;
	case TW_LEAF_TEXT:
		return regex ? 100 : 5;
	case TW_LEAF_ATTRIBUTE:
		return regex ? 100 : 6;
	case TW_LEAF_CALC:
		return 20;
	default:
		return 1;
	}
}

uint32_t tw_graph_leaf(struct tw_graph *g, const struct tw_leaf *leaf)
{
	uint64_t hash = leaf_hash(leaf);
	uint32_t at = (uint32_t)hash & (g->leaf_table_size - 1), number;

	while (g->leaf_table[at] && !leaf_eq(&g->leaf[g->leaf_table[at] - 1], leaf))
		at = (at + 1) & (g->leaf_table_size - 1);
	if (g->leaf_table[at]) {
		number = g->leaf_table[at] - 1;
	} else {
		if (g->leaf_count == TW_LEAVES_MAX) {
			g->full = true;
			return 0;
		}
		if (!tw_vec_room(&g->leaf, g->leaf_count, &g->leaf_cap, sizeof(*leaf)) ||
		    !leaf_table_room(g))
			return out_of_memory(g);
		number = g->leaf_count++;
		g->leaf[number] = *leaf;
		table_put(g->leaf_table, g->leaf_table_size, hash, number);
	}
	return intern(g, (struct tw_gnode){.kind = TW_G_LEAF,
	                                   .where = leaf_where(leaf),
	                                   .first = number,
	                                   .cost = leaf_cost(leaf)});
}

uint32_t tw_graph_not(struct tw_graph *g, uint32_t a)
{
	struct tw_gnode n = {
	    .kind = TW_G_NOT, .where = g->node[a].where, .count = 1, .cost = g->node[a].cost};

	if (a < 2)
		return !a;
	if (g->node[a].kind == TW_G_NOT)
		return g->kids[g->node[a].first];
	if (!tw_vec_room(&g->kids, g->kid_count, &g->kid_cap, sizeof(*g->kids)))
		return out_of_memory(g);
	n.first = g->kid_count;
	g->kids[g->kid_count++] = a;
	return intern(g, n);
}

static uint32_t seen_cost(const struct tw_gnode *n)
{
	return n->where == TW_G_RESOURCE ? 1 : n->cost; /* to a span it is one bit */
}

static int by_cost(const void *x, const void *y, void *graph)
{
	const struct tw_graph *g = graph;
	uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
	uint32_t ca = seen_cost(&g->node[a]), cb = seen_cost(&g->node[b]);

	if (ca != cb)
		return ca < cb ? -1 : 1;
	return (a > b) - (a < b);
}

static bool push_kid(struct tw_graph *g, uint32_t kid)
{
	if (!tw_vec_room(&g->kids, g->kid_count, &g->kid_cap, sizeof(*g->kids))) {
		g->nomem = true;
		return false;
	}
	g->kids[g->kid_count++] = kid;
	return true;
}

/* Sorts the operands behind `first` and drops equal ones. true: a and !a are both there. */
static bool tidy(struct tw_graph *g, uint32_t first)
{
	uint32_t out = first;
	bool opposite = false;

	if (g->kid_count == first)
		return false;
	qsort_r(g->kids + first, g->kid_count - first, sizeof(uint32_t), by_cost, g);
	for (uint32_t i = first; i < g->kid_count; i++) {
		if (i == first || g->kids[i] != g->kids[i - 1])
			g->kids[out++] = g->kids[i];
	}
	g->kid_count = out;
	/* Equal cost, so the two stand near each other, but not always side by side: look at short
	 * lists only. */
	for (uint32_t i = first; i < out && out - first <= 32; i++) {
		const struct tw_gnode *n = &g->node[g->kids[i]];

		for (uint32_t j = first; j < out && n->kind == TW_G_NOT; j++)
			opposite |= g->kids[n->first] == g->kids[j];
	}
	return opposite;
}

uint32_t tw_graph_join(struct tw_graph *g, enum tw_gkind kind, const uint32_t *operands,
                       uint32_t count)
{
	uint32_t stops = kind == TW_G_AND ? 0 : 1; /* the constant that decides */
	uint32_t first = g->kid_count;
	struct tw_gnode n = {.kind = (uint8_t)kind, .first = first};

	for (uint32_t i = 0; i < count; i++) {
		const struct tw_gnode *o = &g->node[operands[i]];

		if (operands[i] == stops) {
			g->kid_count = first;
			return stops;
		}
		if (operands[i] < 2)
			continue;
		if (o->kind != kind) {
			if (!push_kid(g, operands[i]))
				return 0;
			continue;
		}
		for (uint32_t k = 0, from = o->first, many = o->count; k < many; k++) {
			if (!push_kid(g, g->kids[from + k]))
				return 0;
		}
	}
	if (tidy(g, first)) {
		g->kid_count = first;
		return stops;
	}
	n.count = g->kid_count - first;
	if (n.count <= 1) {
		uint32_t only = n.count ? g->kids[first] : !stops;

		g->kid_count = first;
		return only;
	}
	for (uint32_t i = 0; i < n.count; i++) {
		n.where |= g->node[g->kids[first + i]].where;
		n.cost += seen_cost(&g->node[g->kids[first + i]]);
	}
	return intern(g, n);
}

uint32_t tw_graph_pair(struct tw_graph *g, enum tw_gkind kind, uint32_t a, uint32_t b)
{
	const uint32_t both[2] = {a, b};

	return tw_graph_join(g, kind, both, 2);
}

static uint32_t assign_leaf(const struct tw_graph *g, uint32_t n, const uint16_t *leaf,
                            uint32_t count, uint32_t values)
{
	for (uint32_t i = 0; i < count; i++) {
		if (g->node[n].first == leaf[i])
			return values >> i & 1;
	}
	return n;
}

uint32_t tw_graph_assign(struct tw_graph *g, uint32_t n, const uint16_t *leaf, uint32_t count,
                         uint32_t values)
{
	struct tw_gnode o = g->node[n];
	uint32_t *operands, result;

	if (!(o.where & TW_G_TRACE))
		return n;
	if (o.kind == TW_G_LEAF)
		return assign_leaf(g, n, leaf, count, values);
	operands = tw_alloc(o.count * sizeof(*operands));
	if (!operands)
		return out_of_memory(g);
	for (uint32_t i = 0; i < o.count; i++)
		operands[i] = tw_graph_assign(g, g->kids[o.first + i], leaf, count, values);
	result = o.kind == TW_G_NOT ? tw_graph_not(g, operands[0])
	                            : tw_graph_join(g, (enum tw_gkind)o.kind, operands, o.count);
	tw_free(operands);
	return result;
}
