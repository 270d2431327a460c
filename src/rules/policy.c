#include "policy.h"

#define NAME_BYTES_MAX 64u

static bool complain(struct tw_source *s, const struct tw_node *n, const char *text)
{
	tw_diag_add(s, TW_DIAG_ERROR, n->begin, n->kind == TW_NODE_SCALAR ? n->end - n->begin : 1,
	            "%s", text);
	return false;
}

static bool is(const struct tw_node *key, const char *name)
{
	return tw_slice_eq(key->value, tw_slice_str(name));
}

/* Which of `names` a key is; −1: reported as unknown. */
static int key_index(struct tw_source *s, const struct tw_node *key, const char *const *names,
                     uint32_t count, const char *where)
{
	const char *near;
	int n = (int)(key->value.n > 60 ? 60 : key->value.n);

	for (uint32_t i = 0; i < count; i++) {
		if (is(key, names[i]))
			return (int)i;
	}
	near = tw_nearest(key->value, names, count);
	tw_diag_add(s, TW_DIAG_ERROR, key->begin, key->end - key->begin,
	            near ? "unknown key `%.*s` in %s: did you mean `%s`?"
	                 : "unknown key `%.*s` in %s%s",
	            n, (const char *)key->value.p, where, near ? near : "");
	return -1;
}

/* Files the map's values by name into out. */
static bool read_map(struct tw_source *s, const struct tw_node *map, const char *const *names,
                     uint32_t count, const char *where, const struct tw_node **out)
{
	bool good = true;

	for (uint32_t i = 0; i < count; i++)
		out[i] = NULL;
	if (map->kind != TW_NODE_MAP) {
		tw_diag_add(s, TW_DIAG_ERROR, map->begin, 1,
		            "expected %s as a map, `key: value` on each line", where);
		return false;
	}
	for (const struct tw_node *n = map->first; n; n = n->next) {
		int i = key_index(s, n->key, names, count, where);

		if (i < 0) {
			good = false;
		} else if (out[i]) {
			tw_diag_add(s, TW_DIAG_ERROR, n->key->begin, n->key->end - n->key->begin,
			            "`%s` is there twice", names[i]);
			good = false;
		} else {
			out[i] = n;
		}
	}
	return good;
}

static bool read_wait_one(struct tw_source *s, const struct tw_node *n, uint64_t *ns)
{
	if (!n)
		return true;
	if (n->kind == TW_NODE_SCALAR) {
		if (is(n, "never")) {
			*ns = TW_NEVER;
			return true;
		}
		if (tw_duration_parse((const char *)n->value.p, n->value.n, ns) == 0)
			return true;
	}
	return complain(s, n, "expected a duration such as 6s, or never");
}

static bool read_wait(struct tw_source *s, const struct tw_node *map, struct tw_wait *w)
{
	static const char *const names[] = {"root", "idle", "most"};
	const struct tw_node *n[3];
	bool good;

	if (!map)
		return true;
	good = read_map(s, map, names, 3, "wait", n);
	good = read_wait_one(s, n[0], &w->root_ns) && good;
	good = read_wait_one(s, n[1], &w->idle_ns) && good;
	good = read_wait_one(s, n[2], &w->most_ns) && good;
	if (good && w->root_ns == TW_NEVER && w->idle_ns == TW_NEVER && w->most_ns == TW_NEVER)
		return complain(
		    s, map->key,
		    "root, idle and most are all never: no trace would ever be decided");
	return good;
}

static bool read_name(struct tw_source *s, const struct tw_node *n)
{
	if (n->kind != TW_NODE_SCALAR || n->value.n == 0)
		return complain(s, n, "expected a name");
	if (n->value.n > NAME_BYTES_MAX)
		return complain(s, n, "a rule's name has at most 64 bytes");
	for (size_t i = 0; i < n->value.n; i++) {
		if (n->value.p[i] < 0x20 || n->value.p[i] == 0x7F)
			return complain(s, n,
			                "a rule's name is one line without control characters");
	}
	return true;
}

static bool read_rule(struct tw_source *s, const struct tw_node *map, struct tw_policy_rule *rule)
{
	static const char *const names[] = {"name", "when", "keep"};
	const struct tw_node *n[3];
	bool good = read_map(s, map, names, 3, "a rule", n);

	rule->name = n[0];
	rule->when = n[1];
	rule->keep = n[2];
	if (map->kind != TW_NODE_MAP)
		return false;
	if (!rule->name)
		good = complain(s, map, "this rule has no `name`");
	else if (!read_name(s, rule->name)) {
		rule->name = NULL;
		good = false;
	}
	if (rule->when && (rule->when->kind != TW_NODE_SCALAR || rule->when->value.n == 0)) {
		const char *text = "expected a condition in quotes, as in '{ status = error }'";

		/* { status = error } without quotes is a map to YAML. */
		if (rule->when->kind == TW_NODE_MAP)
			text = "a condition must stand in quotes, since { begins a map in YAML: "
			       "'{ status = error }'";
		good = complain(s, rule->when, text);
		rule->when = NULL;
	}
	if (!rule->keep)
		return complain(s, map, "this rule has no `keep`");
	return tw_keep_read(s, rule) && good;
}

static uint32_t name_hash(struct tw_slice s)
{
	return (uint32_t)tw_hash_bytes(
	    (struct tw_hash_key){UINT64_C(0x5EED), UINT64_C(0xF00D) << 17 | 1}, s.p, s.n);
}

static bool check_names(struct tw_source *s, struct tw_arena *arena, const struct tw_policy *p,
                        bool *nomem)
{
	uint32_t size = 16;
	uint32_t *table;
	bool good = true;

	while (size < p->rule_count * 2)
		size *= 2;
	table = tw_arena_alloc(arena, size * sizeof(*table));
	if (!table) {
		*nomem = true;
		return false;
	}
	memset(table, 0, size * sizeof(*table));
	for (uint32_t i = 0; i < p->rule_count; i++) {
		const struct tw_node *name = p->rule[i].name;
		uint32_t at;

		if (!name)
			continue;
		for (at = name_hash(name->value) & (size - 1); table[at];
		     at = (at + 1) & (size - 1)) {
			if (tw_slice_eq(p->rule[table[at] - 1].name->value, name->value))
				break;
		}
		if (table[at])
			good = complain(s, name, "another rule has this name already");
		else
			table[at] = i + 1;
	}
	return good;
}

static bool read_rules(struct tw_source *s, struct tw_arena *arena, const struct tw_node *seq,
                       struct tw_policy *p, bool *nomem)
{
	uint32_t count = 0, i = 0;
	bool good = true;

	if (seq->kind != TW_NODE_SEQ || !seq->first)
		return complain(s, seq, "expected a list of rules, each beginning with `- name:`");
	for (const struct tw_node *n = seq->first; n; n = n->next)
		count++;
	if (count > TW_RULES_MAX)
		return complain(s, seq, "more than 10000 rules");
	p->rule = tw_arena_alloc(arena, count * sizeof(*p->rule));
	if (!p->rule) {
		*nomem = true;
		return false;
	}
	memset(p->rule, 0, count * sizeof(*p->rule));
	p->rule_count = count;
	for (const struct tw_node *n = seq->first; n; n = n->next)
		good = read_rule(s, n, &p->rule[i++]) && good;
	return check_names(s, arena, p, nomem) && good;
}

bool tw_policy_read(struct tw_source *s, struct tw_arena *arena, const struct tw_node *root,
                    struct tw_policy *out, bool *nomem)
{
	static const char *const names[] = {"wait", "rules"};
	const struct tw_node *n[2];
	bool good;

	*out = (struct tw_policy){
	    .wait = {6 * TW_NS_PER_S, 30 * TW_NS_PER_S, 120 * TW_NS_PER_S},
	};
	if (!root || (root->kind == TW_NODE_SCALAR && root->value.n == 0)) {
		tw_diag_add(s, TW_DIAG_ERROR, 0, 1,
		            "the file is empty: expected `rules:` and a list of rules");
		return false;
	}
	good = read_map(s, root, names, 2, "a rule file", n);
	if (root->kind != TW_NODE_MAP)
		return false;
	good = read_wait(s, n[0], &out->wait) && good;
	if (!n[1])
		return complain(s, root,
		                "`rules:` is missing: a rule file needs at least one rule");
	return read_rules(s, arena, n[1], out, nomem) && good;
}
