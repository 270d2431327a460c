#include "compiler.h"

#include <stdio.h>

#include "vec.h"

#define BITS_COUNTED_MAX                                                                           \
	60000u /* to say how many there are; below the filters' special numbers                    \
	        */

uint32_t tw_compiler_bit(struct tw_compiler *c, uint32_t node)
{
	struct tw_gnode *n = &c->graph.node[node];

	if (n->bit != TW_G_NONE)
		return n->bit;
	if (c->bit_count == BITS_COUNTED_MAX)
		return 0;
	if (!tw_vec_room(&c->bit_node, c->bit_count, &c->bit_cap, sizeof(*c->bit_node))) {
		c->nomem = true;
		return 0;
	}
	c->bit_node[c->bit_count] = node;
	n->bit = c->bit_count;
	return c->bit_count++;
}

/* ---- one { } ---- */

struct trace_leaves {
	uint16_t leaf[TW_FILTER_LEAVES_MAX];
	uint32_t count; /* may pass the maximum by one */
};

static void find_trace_leaves(const struct tw_graph *g, uint32_t node, struct trace_leaves *out)
{
	const struct tw_gnode *n = &g->node[node];

	if (!(n->where & TW_G_TRACE) || out->count > TW_FILTER_LEAVES_MAX)
		return;
	if (n->kind != TW_G_LEAF) {
		for (uint32_t i = 0; i < n->count; i++)
			find_trace_leaves(g, g->kids[n->first + i], out);
		return;
	}
	for (uint32_t i = 0; i < out->count; i++) {
		if (out->leaf[i] == n->first)
			return;
	}
	if (out->count < TW_FILTER_LEAVES_MAX)
		out->leaf[out->count] = (uint16_t)n->first;
	out->count++;
}

/* Can a leaf that holds (or, negated, does not hold) for some of a trace's spans become different
 * with more spans? Sums and spreads only grow; a root that was seen stays. */
static bool settles(const struct tw_leaf *l, bool negated)
{
	switch (l->kind) {
	case TW_LEAF_TRACE_NUMBER:
		return negated ? l->lo == 0 : l->hi == UINT64_MAX;
	case TW_LEAF_TRACE_HAS_ROOT:
	case TW_LEAF_TRACE_BIT:
		return !negated;
	case TW_LEAF_TRACE_ID:
		return true;
	default:
		return !tw_leaf_of_trace(l->kind);
	}
}

static bool alone(const struct tw_graph *g, uint32_t node, bool negated)
{
	const struct tw_gnode *n = &g->node[node];

	if (n->kind == TW_G_LEAF)
		return settles(&g->leaf[n->first], negated);
	if (n->kind == TW_G_NOT)
		negated = !negated;
	for (uint32_t i = 0; i < n->count; i++) {
		if (!alone(g, g->kids[n->first + i], negated))
			return false;
	}
	return true;
}

static uint16_t table_entry(struct tw_compiler *c, uint32_t residue)
{
	if (residue < 2)
		return residue ? TW_FILTER_TRUE : TW_FILTER_FALSE;
	return (uint16_t)tw_compiler_bit(c, residue);
}

/* −1: reported or nomem; else the filter's number. */
static int32_t compile_filter(struct tw_compiler *c, struct tw_expr *e, const struct tw_ast *n)
{
	struct trace_leaves leaves = {.count = 0};
	struct tw_filter f;
	bool bad;
	uint32_t node = tw_lower(c, e, n->a, &bad);

	if (bad || c->nomem)
		return -1;
	find_trace_leaves(&c->graph, node, &leaves);
	if (leaves.count > TW_FILTER_LEAVES_MAX) {
		tw_expr_error(e, n->at, n->width,
		              "more than %u different trace-level comparisons in one { }: split it "
		              "into several",
		              TW_FILTER_LEAVES_MAX);
		return -1;
	}
	memset(&f, 0, sizeof(f)); /* compared as bytes */
	memcpy(f.leaf, leaves.leaf, leaves.count * sizeof(leaves.leaf[0]));
	f.leaves = (uint8_t)leaves.count;
	f.alone = alone(&c->graph, node, false);
	for (uint32_t i = 0; i < 1u << leaves.count; i++)
		f.bit[i] =
		    table_entry(c, tw_graph_assign(&c->graph, node, f.leaf, leaves.count, i));
	if (c->r->filter_count == TW_FILTER_TRUE ||
	    !tw_vec_room(&c->r->filter, c->r->filter_count, &c->filter_cap, sizeof(f)) ||
	    c->graph.nomem) {
		c->nomem = true;
		return -1;
	}
	c->r->filter[c->r->filter_count] = f;
	return (int32_t)c->r->filter_count++;
}

/* In the text's order, which is the order in which emit.c meets them. */
static bool compile_filters(struct tw_compiler *c, struct tw_expr *e, const struct tw_ast *n,
                            uint16_t *out, uint32_t *count)
{
	int32_t number;

	if (n->kind != TW_AST_FILTER) {
		bool a = compile_filters(c, e, n->a, out, count);

		return compile_filters(c, e, n->b, out, count) && a;
	}
	number = compile_filter(c, e, n);
	if (number < 0)
		return false;
	out[(*count)++] = (uint16_t)number;
	return true;
}

/* ---- one rule ---- */

static char *keep_string(struct tw_compiler *c, struct tw_slice s)
{
	char *p = tw_arena_alloc(&c->r->arena, s.n + 1);

	if (!p) {
		c->nomem = true;
		return NULL;
	}
	memcpy(p, s.p, s.n);
	p[s.n] = '\0';
	return p;
}

static void put_one_line(struct tw_buf *b, struct tw_slice s)
{
	bool gap = false;

	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = s.p[i];

		if (c <= ' ') {
			gap = true;
			continue;
		}
		if (gap && b->n && b->p[b->n - 1] != ' ')
			tw_buf_putc(b, ' ');
		gap = false;
		tw_buf_putc(b, (char)c);
	}
}

static void describe(struct tw_compiler *c, const struct tw_policy_rule *from, struct tw_rule *rule)
{
	struct tw_buf b;

	tw_buf_init(&b, 0);
	tw_buf_puts(&b, "keep: ");
	put_one_line(&b, from->keep->value);
	if (from->when) {
		tw_buf_puts(&b, " when ");
		put_one_line(&b, from->when->value);
	}
	if (b.failed)
		c->nomem = true;
	else
		rule->text = keep_string(c, tw_buf_slice(&b));
	rule->name = keep_string(c, from->name->value);
	tw_buf_deinit(&b);
}

/* 0 never, 1 always, 2 it depends; −1: reported or nomem. */
static int compile_when(struct tw_compiler *c, const struct tw_policy_rule *from,
                        struct tw_rule *rule)
{
	struct tw_expr e = {.source = c->source, .scalar = from->when, .arena = c->arena};
	struct tw_ast *n = NULL;
	uint16_t *filters;
	uint32_t count = 0;
	int known = -1;

	if (!from->when)
		return tw_emit_when(c, NULL, rule, NULL, 0);
	e.text = from->when->value;
	n = tw_parse(&e);
	if (n && tw_check(&e, n)) {
		filters = tw_alloc((e.nodes + 1) * sizeof(*filters));
		if (!filters)
			c->nomem = true;
		else if (compile_filters(c, &e, n, filters, &count))
			known = tw_emit_when(c, n, rule, filters, count);
		tw_free(filters);
	}
	if (e.nomem)
		c->nomem = true;
	return known;
}

static void set_keep(struct tw_compiler *c, const struct tw_policy_rule *from, struct tw_rule *rule)
{
	rule->keep = from->how;
	rule->threshold = from->how == TW_KEEP_SHARE ? from->threshold : 0;
	if (from->how == TW_KEEP_BUDGET) {
		rule->budget = (uint16_t)c->r->budget_count;
		c->r->budget[c->r->budget_count++] = from->budget;
	}
}

/* ---- what is known of the rules together ---- */

struct survey {
	const struct tw_policy_rule *always; /* the first that decides every trace */
	uint64_t *condition;                 /* of each rule: a hash of what it asks */
	bool last_decides;
};

static const struct tw_hash_key survey_key = {UINT64_C(0xA4093822299F31D0),
                                              UINT64_C(0x082EFA98EC4E6C89)};

static uint64_t condition_hash(const struct tw_rules *r, const struct tw_rule *rule)
{
	uint64_t h = 1;

	for (uint32_t i = rule->when; i < rule->when_end; i++) {
		const struct tw_insn *in = &r->code[i];

		h = tw_hash_u64x2(survey_key, h, in->op);
		if (in->op != TW_OP_FILTER) {
			h ^= in->a;
			continue;
		}
		h = tw_hash_u64x2(survey_key, h ^ (in->t - rule->when), in->f - rule->when);
		h ^= tw_hash_bytes(survey_key, &r->filter[in->a], sizeof(r->filter[0]));
	}
	return h;
}

static void warn(struct tw_compiler *c, const struct tw_node *name, const char *why,
                 const struct tw_node *other)
{
	tw_diag_add(c->source, TW_DIAG_WARNING, name->begin, name->end - name->begin,
	            "rule `%.*s` is never reached: %s%.*s%s", (int)name->value.n,
	            (const char *)name->value.p, why, other ? (int)other->value.n : 0,
	            other ? (const char *)other->value.p : "", other ? "`" : "");
}

static void survey_rule(struct tw_compiler *c, const struct tw_policy *p, uint32_t i, int known,
                        struct survey *s)
{
	const struct tw_policy_rule *from = &p->rule[i];
	bool decides = from->how != TW_KEEP_BUDGET;

	s->last_decides = decides && known == 1;
	s->condition[i] = condition_hash(c->r, &c->r->rule[i]);
	if (s->always) {
		warn(c, from->name, "every trace is decided before, by `", s->always->name);
	} else if (known == 0) {
		warn(c, from->name, "its condition is never true", NULL);
	} else {
		for (uint32_t j = 0; j < i; j++) {
			if (s->condition[j] == s->condition[i] &&
			    p->rule[j].how != TW_KEEP_BUDGET) {
				warn(c, from->name, "the same condition decides before, in `",
				     p->rule[j].name);
				break;
			}
		}
	}
	if (s->last_decides && !s->always)
		s->always = from;
}

static bool compile_rules(struct tw_compiler *c, const struct tw_policy *p, struct survey *s,
                          bool good)
{
	for (uint32_t i = 0; i < p->rule_count && !c->nomem; i++) {
		struct tw_rule *rule = &c->r->rule[i];
		int known = compile_when(c, &p->rule[i], rule);

		if (known < 0)
			good = false;
		if (!good) /* go on for the messages of the conditions alone */
			continue;
		describe(c, &p->rule[i], rule);
		set_keep(c, &p->rule[i], rule);
		survey_rule(c, p, i, known, s);
		c->r->rule_count = i + 1;
	}
	return good;
}

static bool check_end(struct tw_compiler *c, const struct tw_policy *p, const struct survey *s)
{
	const struct tw_node *name = p->rule[p->rule_count - 1].name;

	if (s->last_decides)
		return true;
	tw_diag_add(c->source, TW_DIAG_ERROR, name->begin, name->end - name->begin,
	            "the last rule must decide every trace: expected no `when`, and `keep` all, "
	            "none or a percentage");
	return false;
}

static bool check_sizes(struct tw_compiler *c)
{
	if (c->bit_count > TW_BITS_MAX) {
		tw_diag_add(c->source, TW_DIAG_ERROR, 0, 1,
		            "the rules ask %s%u different things of a span, and %u is the most",
		            c->bit_count == BITS_COUNTED_MAX ? "more than " : "", c->bit_count,
		            TW_BITS_MAX);
		return false;
	}
	if (c->resource_count > TW_RESOURCE_BITS_MAX) {
		tw_diag_add(c->source, TW_DIAG_ERROR, 0, 1,
		            "the rules ask %u different things of a resource, and %u is the most",
		            c->resource_count, TW_RESOURCE_BITS_MAX);
		return false;
	}
	if (c->graph.full || c->r->code_count >= TW_CODE_MAX) {
		tw_diag_add(c->source, TW_DIAG_ERROR, 0, 1,
		            "the rules are too large: more than %u comparisons", TW_LEAVES_MAX);
		return false;
	}
	return true;
}

/* ---- the whole file ---- */

static bool make_room(struct tw_compiler *c, const struct tw_policy *p, struct survey *s)
{
	c->r->rule = tw_calloc(p->rule_count, sizeof(*c->r->rule));
	c->r->budget = tw_calloc(p->rule_count, sizeof(*c->r->budget));
	s->condition = tw_calloc(p->rule_count, sizeof(*s->condition));
	return c->r->rule && c->r->budget && s->condition;
}

static bool compile_policy(struct tw_compiler *c, const struct tw_policy *p, bool good)
{
	struct survey s = {NULL, NULL, false};

	if (!make_room(c, p, &s))
		c->nomem = true;
	else
		good = compile_rules(c, p, &s, good);
	if (good && !c->nomem)
		good = check_end(c, p, &s);
	tw_free(s.condition);
	if (!good || c->nomem || !check_sizes(c))
		return false;
	tw_emit_matching(c);
	if (c->nomem || !check_sizes(c))
		return false;
	c->r->wait = p->wait;
	c->r->leaf = c->graph.leaf;
	c->r->leaf_count = c->graph.leaf_count;
	c->graph.leaf = NULL;
	c->r->slot_count = tw_keytab_count(c->keys);
	return true;
}

static bool compile_text(struct tw_compiler *c)
{
	struct tw_policy p;
	struct tw_node *root;
	bool good;
	int rc = tw_yaml_parse(c->source, c->arena, &root);

	if (rc) {
		c->nomem = rc == TW_ENOMEM;
		return false;
	}
	good = tw_policy_read(c->source, c->arena, root, &p, &c->nomem);
	if (c->nomem || p.rule_count == 0)
		return false;
	return compile_policy(c, &p, good);
}

static void compiler_deinit(struct tw_compiler *c)
{
	tw_graph_deinit(&c->graph);
	tw_free(c->bit_node);
	tw_free(c->resource_node);
	tw_free(c->label);
	tw_free(c->pattern);
}

int tw_rules_compile(struct tw_slice text, struct tw_keytab *keys, struct tw_diags *diags,
                     struct tw_rules **out)
{
	struct tw_source source = {text, diags};
	struct tw_arena arena;
	struct tw_compiler c = {.source = &source, .keys = keys, .arena = &arena};
	bool good;

	*out = NULL;
	memset(diags, 0, sizeof(*diags));
	c.r = tw_calloc(1, sizeof(*c.r));
	if (!c.r)
		return TW_ENOMEM;
	tw_arena_init(&c.r->arena, 0);
	if (!tw_graph_init(&c.graph)) {
		tw_rules_destroy(&c.r);
		return TW_ENOMEM;
	}
	tw_arena_init(&arena, 0);
	good = compile_text(&c);
	tw_diags_sort(diags);
	compiler_deinit(&c);
	tw_arena_deinit(&arena);
	if (good && !tw_candidates_make(c.r)) {
		good = false;
		c.nomem = true;
	}
	if (good) {
		TW_ASSERT(tw_verify(c.r));
		*out = c.r;
		return 0;
	}
	tw_rules_destroy(&c.r);
	TW_ASSERT(c.nomem || diags->errors);
	return c.nomem ? TW_ENOMEM : TW_EINVAL;
}

void tw_rules_destroy(struct tw_rules **rules)
{
	struct tw_rules *r = *rules;

	if (!r)
		return;
	for (uint32_t i = 0; i < r->regex_count; i++)
		pcre2_code_free(r->regex[i]);
	tw_free(r->regex);
	tw_free(r->code);
	tw_free(r->leaf);
	tw_free(r->calc);
	tw_free(r->consts);
	tw_free(r->filter);
	tw_free(r->rule);
	tw_free(r->budget);
	tw_free(r->candidates);
	tw_arena_deinit(&r->arena);
	tw_free(r);
	*rules = NULL;
}

struct tw_wait tw_rules_wait(const struct tw_rules *r)
{
	return r->wait;
}

uint32_t tw_rules_count(const struct tw_rules *r)
{
	return r->rule_count;
}

const char *tw_rules_name(const struct tw_rules *r, uint16_t rule)
{
	return rule < r->rule_count ? r->rule[rule].name : "";
}

const char *tw_rules_text(const struct tw_rules *r, uint16_t rule)
{
	return rule < r->rule_count ? r->rule[rule].text : "";
}
