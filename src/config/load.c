#include "option.h"

#include <stdio.h>

#include "tw/base/mem.h"

/* ---- --set KEY.PATH=VALUE ---- */

static struct tw_node *node_new(struct tw_loader *l, enum tw_node_kind kind)
{
	struct tw_node *n = tw_arena_alloc(&l->arena, sizeof(*n));

	if (n == NULL) {
		l->no_memory = true;
		return NULL;
	}
	memset(n, 0, sizeof(*n));
	n->kind = kind;
	return n;
}

static void append(struct tw_node *up, struct tw_node *n)
{
	if (up->last != NULL)
		up->last->next = n;
	else
		up->first = n;
	up->last = n;
}

static struct tw_node *child_of_map(struct tw_loader *l, struct tw_node *map, struct tw_slice key)
{
	struct tw_node *n;

	for (n = map->first; n != NULL; n = n->next)
		if (tw_slice_eq(n->key->value, key))
			return n;
	n = node_new(l, TW_NODE_SCALAR);
	if (n == NULL)
		return NULL;
	n->key = node_new(l, TW_NODE_SCALAR);
	if (n->key == NULL)
		return NULL;
	n->key->value = key;
	append(map, n);
	return n;
}

static struct tw_node *child_of_seq(struct tw_loader *l, struct tw_node *seq, uint32_t index)
{
	struct tw_node *n = seq->first;

	for (uint32_t i = 0; i < index && n != NULL; i++)
		n = n->next;
	if (n != NULL)
		return n;
	n = node_new(l, TW_NODE_SCALAR); /* one past the last: a new element */
	if (n != NULL)
		append(seq, n);
	return n;
}

static bool number(struct tw_slice s, uint32_t *out)
{
	*out = 0;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9' || s.n > 3)
			return false;
		*out = *out * 10 + (uint32_t)(s.p[i] - '0');
	}
	return s.n != 0;
}

static bool blank(const struct tw_node *n)
{
	return n->kind == TW_NODE_SCALAR && n->value.n == 0 && n->first == NULL;
}

/* Walks down one step, making a map or a list where there is nothing yet. */
static struct tw_node *descend(struct tw_loader *l, struct tw_node *at, struct tw_slice step)
{
	uint32_t index;

	if (number(step, &index)) {
		if (blank(at))
			at->kind = TW_NODE_SEQ;
		if (at->kind == TW_NODE_SEQ)
			return child_of_seq(l, at, index);
	}
	if (blank(at))
		at->kind = TW_NODE_MAP;
	return at->kind == TW_NODE_MAP ? child_of_map(l, at, step) : NULL;
}

static bool bad_set(struct tw_buf *report, const char *set, const char *why)
{
	tw_buf_printf(report, "--set %.80s: error: %s\n", set, why);
	return false;
}

/* Replaces what stands at the set's path by its value, which is read as YAML. */
static bool graft(struct tw_loader *l, struct tw_node *root, const char *set, struct tw_buf *report)
{
	struct tw_graft *g = &l->grafts[l->graft_count];
	const char *eq = strchr(set, '='), *p = set;
	struct tw_node *at = root, *value;

	if (eq == NULL || eq == set)
		return bad_set(report, set, "expected KEY.PATH=VALUE");
	while (at != NULL && p < eq) {
		const char *dot = memchr(p, '.', (size_t)(eq - p));
		const char *end = dot != NULL ? dot : eq;

		at = descend(l, at, tw_slice(p, (size_t)(end - p)));
		p = end < eq ? end + 1 : eq;
	}
	if (at == NULL)
		return bad_set(report, set,
		               l->no_memory ? "out of memory" : "the path leads nowhere");
	g->source.text = tw_slice_str(eq + 1);
	g->source.diags = &g->diags;
	snprintf(g->name, sizeof(g->name), "--set %.*s", (int)(eq - set > 50 ? 50 : eq - set), set);
	if (tw_yaml_parse(&g->source, &l->arena, &value) != 0) {
		tw_diags_render(&g->diags, g->name, g->source.text, report);
		return false;
	}
	at->kind = value != NULL ? value->kind : TW_NODE_SCALAR;
	at->style = value != NULL ? value->style : TW_STYLE_PLAIN;
	at->value = value != NULL ? value->value : tw_slice(NULL, 0);
	at->first = value != NULL ? value->first : NULL;
	at->last = value != NULL ? value->last : NULL;
	at->begin = value != NULL ? value->begin : 0;
	at->end = value != NULL ? value->end : 0;
	g->node = at;
	l->graft_count++;
	return true;
}

/* ---- load ---- */

static int parse(struct tw_loader *l, const char *const *sets, uint32_t set_count,
                 struct tw_buf *report, struct tw_node **root)
{
	int rc = tw_yaml_parse(&l->source, &l->arena, root);
	bool good = true;

	if (rc != 0)
		return rc;
	if (*root == NULL) {
		*root = node_new(l, TW_NODE_MAP);
		if (*root == NULL)
			return TW_ENOMEM;
	}
	if (set_count > TW_SETS_MAX) {
		tw_buf_printf(report, "--set: error: at most %u of them\n", TW_SETS_MAX);
		return TW_EINVAL;
	}
	for (uint32_t i = 0; i < set_count; i++)
		good = graft(l, *root, sets[i], report) && good;
	return good ? 0 : TW_EINVAL;
}

static int load(struct tw_loader *l, const char *const *sets, uint32_t set_count,
                struct tw_buf *report)
{
	struct tw_node *root;
	int rc;

	l->grafts = tw_calloc(TW_SETS_MAX, sizeof(*l->grafts));
	if (l->grafts == NULL || !tw_config_defaults(l))
		return TW_ENOMEM;
	rc = parse(l, sets, set_count, report, &root);
	if (rc != 0)
		return rc;
	if (!tw_option_read(l, root, tw_config_rows, tw_config_row_count, l->config))
		return l->no_memory ? TW_ENOMEM : TW_EINVAL;
	return tw_config_resolve(l) ? 0 : TW_ENOMEM;
}

int tw_config_load(struct tw_slice source, const char *file, const char *const *sets,
                   uint32_t set_count, const struct tw_config_env *env, struct tw_config **out,
                   struct tw_buf *report)
{
	struct tw_loader l = {.source = {.text = source}, .env = env};
	int rc = TW_ENOMEM;

	*out = NULL;
	l.source.diags = &l.diags;
	l.at = &l.source;
	tw_arena_init(&l.arena, 0);
	l.config = tw_calloc(1, sizeof(*l.config));
	if (l.config != NULL)
		rc = load(&l, sets, set_count, report);
	tw_diags_render(&l.diags, file, source, report);
	for (uint32_t i = 0; i < l.graft_count; i++)
		tw_diags_render(&l.grafts[i].diags, l.grafts[i].name, l.grafts[i].source.text,
		                report);
	if (rc == TW_ENOMEM)
		tw_buf_printf(report, "%s: error: out of memory\n", file);
	tw_free(l.grafts);
	tw_arena_deinit(&l.arena);
	if (rc != 0)
		tw_config_destroy(&l.config);
	else
		*out = l.config;
	return rc;
}

static void free_dest(struct tw_dest_opts *d)
{
	tw_free(d->name);
	tw_free(d->target);
	for (uint32_t i = 0; i < d->header_count; i++) {
		tw_free(d->header_names[i]);
		tw_free(d->header_values[i]);
	}
	tw_free(d->tls.ca);
	tw_free(d->tls.cert);
	tw_free(d->tls.key);
	tw_free(d->tls.server_name);
}

void tw_config_destroy(struct tw_config **cp)
{
	struct tw_config *c = *cp;

	if (c == NULL)
		return;
	tw_free(c->rules_path);
	tw_free(c->receive.otlp_grpc);
	tw_free(c->receive.otlp_http);
	for (uint32_t i = 0; i < c->forward_count; i++)
		free_dest(&c->forward[i]);
	for (uint32_t i = 0; i < c->metrics.dimension_count; i++)
		tw_free(c->metrics.dimensions[i]);
	tw_free(c->admin.listen);
	tw_free(c->log_level);
	tw_free(c);
	*cp = NULL;
}
