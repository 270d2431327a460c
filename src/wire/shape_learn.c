/* Learning: a span goes into the trie of its shape. Where it differs in the value of an attribute
 * that nobody reads, the value becomes one that may differ; where somebody reads it, its values are
 * branches as long as they are few, so that what was found for a branch holds for all its spans. */
#include "shape.h"

#define CREDIT_FIRST 8192u
#define CREDIT_SPANS 64u /* spans earn one lesson */
#define SAME_LONGEST 64u /* a longer value nobody reads is not expected twice */

struct lesson {
	struct tw_templates *t;
	const struct tw_keytab *keys;
	struct shape *sh;
	struct field field[SHAPE_FIELDS_MAX];
	uint32_t count;
};

/* ---- splitting ---- */

/* How many bytes of whole fields at the node's begin the span has, too, from field i on; *fields:
 * how many fields they are. */
static uint32_t common(const struct lesson *l, const struct node *node, uint32_t i,
                       uint32_t *fields)
{
	uint32_t n = 0;

	*fields = 0;
	for (; i < l->count; i++) {
		const struct field *f = &l->field[i];

		if (f->n > node->n - n || memcmp(node->bytes + n, f->at, f->n) != 0)
			break;
		n += f->n;
		(*fields)++;
	}
	return n;
}

/* What is behind the node's first n bytes goes into a node of its own. */
static bool split(struct lesson *l, struct node *node, uint32_t n)
{
	struct node *rest;

	if (n == node->n)
		return true;
	rest = node_new(l->t, l->sh, NODE_BYTES, node->bytes + n, node->n - n);
	if (!rest)
		return false;
	rest->next = node->next;
	node->next = rest;
	node->n = (uint16_t)n;
	return true;
}

/* ---- one place ---- */

/* Does the node stand for field i? *fields: how many fields it takes. */
static bool stands_for(const struct lesson *l, const struct node *node, uint32_t i,
                       uint32_t *fields)
{
	const struct field *f = &l->field[i];

	*fields = 1;
	if (node->kind == NODE_LEAF)
		return i == l->count;
	if (node->kind == NODE_BYTES)
		return common(l, node, i, fields) == node->n;
	if (i == l->count)
		return false;
	if (node->kind == NODE_FIELD)
		return f->class == FIELD_CHILD && f->at[0] == node->bytes[0];
	if (node->kind == NODE_TEXT ? f->class != FIELD_TEXT : f->class != FIELD_INT)
		return false;
	return f->key_n == node->n && memcmp(f->key, node->bytes, node->n) == 0;
}

/* A prefix of a RAW value's attribute and the node behind it. */
static bool stands_for_raw(const struct lesson *l, const struct node *node, uint32_t i)
{
	const struct field *f = &l->field[i];

	return i < l->count && node->kind == NODE_BYTES && node->next &&
	       node->next->kind == NODE_RAW && f->class == FIELD_RAW && node->next->raw == f->raw &&
	       node->n == f->n - f->raw && memcmp(node->bytes, f->at, node->n) == 0;
}

/* The first field of the node is field i but for its value? */
static bool differs_in_value(const struct lesson *l, const struct node *node, uint32_t i)
{
	const struct field *f = &l->field[i];
	struct field other;

	if (node->kind != NODE_BYTES ||
	    !field_read(l->keys, node->bytes, node->bytes + node->n, &other) ||
	    other.class != f->class)
		return false;
	if (f->class == FIELD_RAW)
		return other.n == f->n && memcmp(other.at, f->at, f->n - f->raw) == 0;
	return (f->class == FIELD_TEXT || f->class == FIELD_INT) && other.key_n == f->key_n &&
	       memcmp(other.key, f->key, f->key_n) == 0;
}

/* Its first field's value may differ from now on. */
static bool generalise(struct lesson *l, struct node *node, const struct field *f)
{
	struct field own;

	if (!field_read(l->keys, node->bytes, node->bytes + node->n, &own) ||
	    !split(l, node, own.n))
		return false;
	if (f->class == FIELD_RAW) {
		struct node *raw = node_new(l->t, l->sh, NODE_RAW, NULL, 0);

		if (!raw)
			return false;
		raw->raw = f->raw;
		raw->next = node->next;
		node->next = raw;
		node->n = (uint16_t)(own.n - f->raw);
	} else {
		node->kind = f->class == FIELD_TEXT ? NODE_TEXT : NODE_INT;
		memmove(node->bytes, own.key, own.key_n);
		node->n = (uint16_t)own.key_n;
	}
	l->sh->version++;
	shape_unlink(l->t, l->sh);
	return true;
}

/* ---- new nodes ---- */

static struct node *node_of(struct lesson *l, uint32_t *i)
{
	const struct field *f = &l->field[*i];
	uint32_t n = 0;

	if (f->class == FIELD_CHILD) {
		(*i)++;
		return node_new(l->t, l->sh, NODE_FIELD, f->at, 1);
	}
	/* A value that is so long that it will hardly come again. */
	if (f->class == FIELD_TEXT && f->slot < 0 && f->n - f->key_n > SAME_LONGEST) {
		(*i)++;
		return node_new(l->t, l->sh, NODE_TEXT, f->key, f->key_n);
	}
	for (; *i < l->count; (*i)++) {
		const struct field *g = &l->field[*i];

		if (g->class == FIELD_CHILD || n + g->n > NODE_BYTES_MAX ||
		    (g->class == FIELD_TEXT && g->slot < 0 && g->n - g->key_n > SAME_LONGEST))
			break;
		n += g->n;
	}
	return n ? node_new(l->t, l->sh, NODE_BYTES, f->at, n) : NULL;
}

/* The fields from i on and a leaf. false: out of nodes; what hangs there already has no leaf and is
 * never a match. */
static bool add_rest(struct lesson *l, struct node **at, uint32_t i)
{
	struct node *leaf;

	while (i < l->count) {
		struct node *node = node_of(l, &i);

		if (!node)
			return false;
		*at = node;
		at = &node->next;
	}
	leaf = node_new(l->t, l->sh, NODE_LEAF, NULL, 0);
	if (!leaf)
		return false;
	*at = leaf;
	return true;
}

/* A value that somebody reads: one branch more, or, when there are many, a node for all others. */
static struct node *branch(struct lesson *l, uint32_t i, uint32_t branches)
{
	const struct field *f = &l->field[i];

	if (branches < SHAPE_ALTS_MAX / 2)
		return node_new(l->t, l->sh, NODE_BYTES, f->at, f->n);
	if (f->class == FIELD_TEXT)
		return node_new(l->t, l->sh, NODE_TEXT, f->key, f->key_n);
	if (f->class == FIELD_INT)
		return node_new(l->t, l->sh, NODE_INT, f->key, f->key_n);
	return NULL;
}

/* ---- the walk ---- */

enum step { STEP_ON, STEP_DONE, STEP_STUCK };

/* One place of the trie, *at, where field *i is to go. */
static enum step step(struct lesson *l, struct node ***at, uint32_t *i)
{
	struct node *node, **end = *at;
	uint32_t alts = 0, branches = 0, fields, n;
	const struct field *f = &l->field[*i];

	for (node = **at; node; node = node->alt, alts++) {
		end = &node->alt;
		if (stands_for_raw(l, node, *i)) {
			*at = &node->next->next;
			(*i)++;
			return STEP_ON;
		}
		if (stands_for(l, node, *i, &fields)) {
			*at = &node->next;
			*i += fields;
			return node->kind == NODE_LEAF ? STEP_DONE : STEP_ON;
		}
	}
	if (*i == l->count || !**at)
		return alts < SHAPE_ALTS_MAX && add_rest(l, end, *i) ? STEP_DONE : STEP_STUCK;
	for (node = **at; node; node = node->alt) {
		n = node->kind == NODE_BYTES ? common(l, node, *i, &fields) : 0;
		if (n > 0)
			return split(l, node, n) ? STEP_ON : STEP_STUCK;
		if (!differs_in_value(l, node, *i))
			continue;
		if (f->slot < 0)
			return generalise(l, node, f) ? STEP_ON : STEP_STUCK;
		branches++;
	}
	if (alts >= SHAPE_ALTS_MAX)
		return STEP_STUCK;
	if (branches == 0)
		return add_rest(l, end, *i) ? STEP_DONE : STEP_STUCK;
	node = branch(l, *i, branches);
	if (!node)
		return STEP_STUCK;
	*end = node;
	return STEP_ON;
}

static void insert(struct lesson *l)
{
	struct node **at = &l->sh->root;
	enum step s = STEP_ON;
	uint32_t i = 0;

	/* Each step but a split takes a field, and a split is followed by one that does. */
	for (uint32_t n = 0; s == STEP_ON && n < 4 * SHAPE_FIELDS_MAX; n++)
		s = step(l, &at, &i);
}

/* ---- whether ---- */

/* Only a name that comes a second time gets a shape. */
static bool seen_before(struct tw_templates *t, uint64_t hash)
{
	uint16_t *seen = &t->seen[(hash >> 16) % SHAPE_SEEN], tag = (uint16_t)(hash >> 48 | 1);

	if (*seen == tag)
		return true;
	*seen = tag;
	return false;
}

static bool read_fields(struct lesson *l, const uint8_t *p, const uint8_t *end)
{
	uint32_t statuses = 0;

	while (p < end) {
		struct field *f = &l->field[l->count];

		if (l->count == SHAPE_FIELDS_MAX)
			return false;
		p = field_read(l->keys, p, end, f);
		if (!p)
			return false;
		/* What has to be the same must fit a node. */
		if (f->n > NODE_BYTES_MAX && f->class != FIELD_CHILD &&
		    (f->class != FIELD_TEXT || f->slot >= 0))
			return false;
		statuses += f->status != NULL;
		l->count++;
	}
	return statuses <= 1;
}

void shape_learn(struct tw_templates *t, const struct tw_keytab *keys, struct shape *shape,
                 const struct prefix *x, const uint8_t *end)
{
	struct lesson l;

	if (t->learns * CREDIT_SPANS > t->spans + CREDIT_FIRST * CREDIT_SPANS)
		return;
	/* A request that takes long holds what was dropped since it began. */
	if (TW_UNLIKELY(t->operations->dropped_bytes > t->bytes_max))
		return;
	if (!shape && !seen_before(t, x->hash))
		return;
	if (shape && shape->nodes == SHAPE_NODES_MAX)
		return;
	t->learns++;
	l.t = t;
	l.keys = keys;
	l.count = 0;
	if (!read_fields(&l, x->rest, end))
		return;
	if (t->bytes >= t->bytes_max) {
		shapes_evict(t); /* perhaps also this span's */
		return;
	}
	l.sh = shape ? shape : shape_add(t, x);
	if (!l.sh)
		return;
	l.sh->used = true;
	insert(&l);
	t->stats.learned++;
}
