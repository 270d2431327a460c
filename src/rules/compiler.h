/* What the compiler's three files share: compile.c (the file's rules), lower.c (conditions →
 * graph), emit.c (graph → code). */
#ifndef TW_RULES_COMPILER_H
#define TW_RULES_COMPILER_H

#include "ast.h"
#include "graph.h"
#include "policy.h"

struct tw_compiler {
	struct tw_source *source;
	struct tw_keytab *keys;
	struct tw_arena *arena; /* goes when the compiler is done */
	struct tw_graph graph;
	struct tw_rules *r; /* being made */
	uint32_t code_cap, calc_cap, const_cap, filter_cap, regex_cap;
	uint32_t *bit_node;          /* spanset bit → node */
	uint32_t bit_count, bit_cap; /* more than TW_BITS_MAX are counted, and refused in the end */
	uint32_t *resource_node;     /* resource bit → node */
	uint32_t resource_count, resource_cap;
	uint32_t *label; /* emit.c: label → address */
	uint32_t label_count, label_cap;
	struct tw_slice *pattern; /* of each regex */
	uint32_t pattern_cap;
	bool nomem;
};

/* The node of one field expression (checked). On an error it was reported, or nomem; the answer is
 * then 0. */
uint32_t tw_lower(struct tw_compiler *c, struct tw_expr *e, const struct tw_ast *n, bool *bad);
/* The bit of a node, a new one if it has none. */
uint32_t tw_compiler_bit(struct tw_compiler *c, uint32_t node);

/* What is known of a condition before any trace: 0 false, 1 true, 2 it depends. */
int tw_emit_when(struct tw_compiler *c, const struct tw_ast *spanset, struct tw_rule *rule,
                 const uint16_t *filters, uint32_t filter_count);
/* The span and the resource segment, after all conditions. */
void tw_emit_matching(struct tw_compiler *c);

#endif
