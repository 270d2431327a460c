/* A path through a shape as a template. */
#include "shape.h"

#include "tw/base/mem.h"

struct plan {
	uint32_t parts, values, bytes;
};

static struct plan plan_of(const struct shape *sh, struct node *const *path, uint32_t depth)
{
	struct plan p = {.values = sh->has_state, .bytes = sh->name_n};
	bool run = false;

	for (uint32_t i = 0; i < depth; i++) {
		bool same = path[i]->kind == NODE_BYTES;

		p.parts += !(same && run);
		p.values += !same;
		p.bytes += path[i]->n;
		run = same;
	}
	return p;
}

static void write_layout(struct tw_layout *l, const struct plan *plan, const struct shape *sh,
                         struct node *const *path, uint32_t depth)
{
	uint32_t at = (uint32_t)(sizeof(*l) + plan->parts * sizeof(l->part[0]));
	struct tw_part *part = l->part;
	bool run = false;

	l->size = at + plan->bytes;
	l->part_count = (uint16_t)plan->parts;
	l->value_count = (uint16_t)plan->values;
	l->name_n = sh->name_n;
	l->kind = sh->kind;
	l->has_parent = sh->has_parent;
	l->has_state = sh->has_state;
	memcpy((uint8_t *)l + at, sh->name, sh->name_n);
	at += sh->name_n;
	for (uint32_t i = 0; i < depth; i++) {
		const struct node *node = path[i];
		bool same = node->kind == NODE_BYTES;

		memcpy((uint8_t *)l + at, node->bytes, node->n);
		if (same && run)
			part[-1].n = (uint16_t)(part[-1].n + node->n);
		else
			*part++ =
			    (struct tw_part){.kind = node->kind,
			                     .n = node->kind == NODE_RAW ? node->raw : node->n,
			                     .at = at};
		at += node->n;
		run = same;
	}
}

/* ---- what its spans have in common ---- */

static void read_status(struct tw_template *t, const uint8_t *p, const uint8_t *end)
{
	struct scan_status s = {t->rest.status_message, t->rest.status_message_n, t->status};

	scan_status(p, end, &s);
	t->rest.status_message = s.message;
	t->rest.status_message_n = s.message_n;
	t->status = s.status;
}

/* A run of fields; the last one may be the begin of an attribute whose value is RAW, which nobody
 * reads. */
static void read_run(struct tw_template *t, const struct tw_keytab *keys, const uint8_t *p,
                     const uint8_t *end)
{
	struct scan_slots a = {t->rest.slots, t->rest.slots_set};
	const struct scan s = {.keys = keys};

	while (p < end) {
		uint32_t tag, n;
		const uint8_t *at = tw_pb_tag(p, end, &tag), *q;

		q = at ? tw_pb_skip(at, end, tag) : NULL;
		if (!q)
			break;
		if (tag == TW_PB_TAG(9, TW_PB_LEN)) {
			at = tw_pb_len(at, end, &n);
			scan_key_value(&s, at, at + n, &a);
		} else if (tag == TW_PB_TAG(15, TW_PB_LEN)) {
			at = tw_pb_len(at, end, &n);
			read_status(t, at, at + n);
		} else if (tag == TW_PB_TAG(16, TW_PB_I32)) {
			t->rest.w3c_flags = tw_pb_le32(at);
		}
		p = q;
	}
	t->rest.slots_set = a.set;
}

static void read_layout(struct tw_template *t, const struct tw_keytab *keys)
{
	const struct tw_layout *l = &t->layout;
	uint8_t *slot_of = (uint8_t *)&t->layout + l->size;
	uint32_t value = l->has_state; /* which nobody reads from a slot */

	t->fixed = true;
	*slot_of = TW_KEYS_MAX;
	slot_of += value;
	for (uint32_t i = 0; i < l->part_count; i++) {
		const struct tw_part *part = &l->part[i];
		const uint8_t *p = tw_layout_bytes(l, part->at);
		int slot = -1;

		if (part->kind == TW_PART_BYTES) {
			read_run(t, keys, p, p + part->n);
			continue;
		}
		/* Of a key the first one counts, also here. */
		if (part->kind == TW_PART_TEXT || part->kind == TW_PART_INT)
			slot = tw_keytab_probe(keys, p + 2, part->n - 3u);
		if (slot >= 0 && t->rest.slots_set >> slot & 1)
			slot = -1;
		t->kinds |= (uint64_t)(part->kind - 1) << 2 * value++;
		*slot_of++ = slot >= 0 ? (uint8_t)slot : TW_KEYS_MAX;
		if (slot >= 0) {
			t->rest.slots_set |= UINT64_C(1) << slot;
			t->rest.slots[slot] = (struct tw_value){.type = TW_VALUE_NONE};
			t->fixed = false;
		}
	}
}

struct tw_template *shape_template(struct tw_templates *c, const struct tw_keytab *keys,
                                   const struct shape *sh, struct node *const *path, uint32_t depth)
{
	struct plan plan = plan_of(sh, path, depth);
	size_t slots = tw_keytab_count(keys) * sizeof(struct tw_value);
	size_t bytes = sizeof(struct tw_template) + plan.parts * sizeof(struct tw_part) +
	               plan.bytes + TW_TEMPLATE_VALUES_MAX;
	struct tw_template *t;

	if (plan.values > TW_TEMPLATE_VALUES_MAX || plan.bytes > TW_TEMPLATE_SPAN_MAX / 4)
		return NULL;
	bytes = (bytes + 15) & ~(size_t)15;
	/* Comparisons read NODE_PAD behind the layout. */
	t = tw_alloc_aligned(64, bytes + slots + NODE_PAD);
	if (!t)
		return NULL;
	memset(t, 0, bytes + slots + NODE_PAD);
	t->id = tw_operations_id(c->operations);
	t->bytes = (uint32_t)(bytes + slots + NODE_PAD);
	t->rest.slots = (struct tw_value *)((uint8_t *)t + bytes);
	t->kind = sh->kind < TW_KIND_COUNT ? sh->kind : TW_KIND_UNSPECIFIED;
	write_layout(&t->layout, &plan, sh, path, depth);
	t->rest.name = tw_layout_name(&t->layout);
	t->rest.name_n = t->layout.name_n;
	read_layout(t, keys);
	if (!t->rest.slots_set)
		t->rest.slots = NULL;
	t->hash = tw_hash_bytes(c->key, &t->layout, t->layout.size);
	return t;
}
