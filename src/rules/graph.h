/* The compiler's truth values: a graph whose equal parts are one node, so that nothing is evaluated
 * twice.
 *
 * Nodes are numbers; 0 is false, 1 is true. Making a node simplifies it: constants vanish, &&
 * within && is flattened, operands are sorted by cost. On a lack of memory the graph remembers
 * (`nomem`) and answers 0. */
#ifndef TW_RULES_GRAPH_H
#define TW_RULES_GRAPH_H

#include "program.h"

enum tw_gkind { TW_G_CONST, TW_G_LEAF, TW_G_NOT, TW_G_AND, TW_G_OR };
enum { TW_G_SPAN = 1, TW_G_RESOURCE = 2, TW_G_TRACE = 4 }; /* what a node depends on */
#define TW_G_NONE UINT32_MAX

struct tw_gnode {
	uint8_t kind, where;
	uint32_t first, count; /* operands: kids[first …]; of a leaf: first is its number */
	uint32_t cost;         /* about nanoseconds */
	uint32_t uses;         /* emit.c: places that need it */
	uint32_t memo;         /* emit.c */
	uint32_t bit;          /* spanset bit, or TW_G_NONE */
	uint32_t resource_bit; /* or TW_G_NONE */
};

struct tw_graph {
	struct tw_gnode *node;
	uint32_t *kids;
	struct tw_leaf *leaf;
	uint32_t *node_table, *leaf_table; /* hash tables of number + 1 */
	uint32_t node_count, node_cap, kid_count, kid_cap, leaf_count, leaf_cap;
	uint32_t node_table_size, leaf_table_size;
	bool nomem, full; /* full: more than TW_LEAVES_MAX leaves */
};

bool tw_graph_init(struct tw_graph *g);
void tw_graph_deinit(struct tw_graph *g);
uint32_t tw_graph_leaf(struct tw_graph *g, const struct tw_leaf *leaf);
uint32_t tw_graph_not(struct tw_graph *g, uint32_t a);
uint32_t tw_graph_join(struct tw_graph *g, enum tw_gkind kind, const uint32_t *operands,
                       uint32_t count);
uint32_t tw_graph_pair(struct tw_graph *g, enum tw_gkind kind, uint32_t a, uint32_t b);
/* n with each leaf `leaf[i]` replaced by bit i of values. */
uint32_t tw_graph_assign(struct tw_graph *g, uint32_t n, const uint16_t *leaf, uint32_t count,
                         uint32_t values);

#endif
