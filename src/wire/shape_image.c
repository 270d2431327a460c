/* Making images: a span that was recognised along the trie becomes bytes and a mask. */
#include "shape.h"

#include "tw/base/mem.h"

/* The image being made: first measured (im NULL), then drawn. */
struct draft {
	const struct tw_template *t;
	const uint8_t *span;
	const struct tw_place *place;
	uint32_t elastic;
	struct tw_image *im;
	struct image_piece *piece;
	struct tw_place *fixed;
	uint32_t blocks, pieces, keys; /* bytes of the first and the last */
};

/* A mask can't say what its bytes may be: of an event, of a text that is not ASCII, of a number
 * whose tenth byte has bits that must not be set. */
static bool is_odd(uint8_t kind, const uint8_t *p, uint32_t n)
{
	uint8_t high = 0;

	if (kind == TW_PART_FIELD || (kind == TW_PART_INT && n > 9))
		return true;
	for (uint32_t i = 0; kind == TW_PART_TEXT && i < n; i++)
		high |= p[i];
	return high >= 0x80;
}

/* The values that can't be in a piece: those that were not, those that have another length now. */
static uint32_t elastic_values(const struct tw_template *t, const struct tw_image *old,
                               const uint8_t *span, const struct tw_place *place)
{
	const struct tw_place *was = old ? image_places(old) : NULL;
	uint32_t elastic = old ? old->elastic : t->layout.has_state; /* the first value */

	for (uint32_t i = 0; i < t->layout.value_count; i++)
		if (is_odd(tw_template_kind(t, i), span + place[i].at, place[i].n) ||
		    (was && was[i].n != place[i].n))
			elastic |= 1u << i;
	return elastic;
}

/* ---- pieces ---- */

static void open_up(const struct draft *d, uint32_t begin, uint32_t at, uint32_t n, uint8_t mask)
{
	uint8_t *b = d->im->block + d->blocks;

	for (uint32_t i = at - begin; n > 0; n--, i++)
		b[i / 32 * 64 + 32 + i % 32] = mask;
}

/* What of the prefix differs from span to span, as far as it is in the piece. */
static void open_prefix(const struct draft *d, const struct prefix *x, uint32_t begin, uint32_t end)
{
	const uint8_t *const differs[] = {x->trace_id, x->span_id, x->parent_id, x->start, x->end};

	for (uint32_t i = 0; i < sizeof(differs) / sizeof(differs[0]); i++) {
		uint32_t at = (uint32_t)(differs[i] - d->span);

		if (differs[i] && at >= begin && at < end)
			open_up(d, begin, at, i == 0 ? 16 : 8, 0);
	}
}

static void draw_bytes(const struct draft *d, uint32_t begin, uint32_t end)
{
	uint8_t *b = d->im->block + d->blocks;

	for (uint32_t i = 0; i < end - begin; i++) {
		b[i / 32 * 64 + i % 32] = d->span[begin + i];
		b[i / 32 * 64 + 32 + i % 32] = 0xff;
	}
}

/* Values [first, last) lie in the piece. The high bits of a text are clear, of a number say where
 * it ends, of a bool are clear; what else is RAW may be anything. */
static void draw_values(struct draft *d, uint32_t begin, uint32_t first, uint32_t last)
{
	for (uint32_t i = first; i < last; i++) {
		bool raw = tw_template_kind(d->t, i) == TW_PART_RAW;
		struct tw_place at = d->place[i];

		open_up(d, begin, at.at, at.n, raw && at.n > 1 ? 0 : 0x80);
		d->fixed[i] = (struct tw_place){(uint16_t)(at.at - begin), at.n};
	}
}

/* The span's bytes [begin, end), and the value behind them, whose part is `behind`; NULL: the end.
 */
static void piece(struct draft *d, const struct prefix *x, uint32_t begin, uint32_t end,
                  uint32_t first, uint32_t last, const struct tw_part *behind)
{
	uint32_t steps = (end - begin + IMAGE_STEP - 1) / IMAGE_STEP, key_n = 0;

	if (behind && behind->kind != TW_PART_RAW)
		key_n = behind->n;
	if (d->im) {
		draw_bytes(d, begin, end);
		open_prefix(d, x, begin, end);
		draw_values(d, begin, first, last);
		*d->piece++ = (struct image_piece){
		    .n = (uint16_t)(end - begin),
		    .steps = (uint8_t)steps,
		    .values = (uint8_t)(last - first),
		    .kind = behind ? behind->kind : NODE_LEAF,
		    .raw = behind && behind->kind == TW_PART_RAW ? (uint8_t)behind->n : 0,
		    .key_n = (uint16_t)key_n,
		    .key_at = d->keys};
		if (key_n)
			memcpy((uint8_t *)d->im + d->keys,
			       tw_layout_bytes(&d->t->layout, behind->at), key_n);
		if (behind)
			d->fixed[last] = (struct tw_place){0, d->place[last].n};
	}
	d->blocks += steps * 2 * IMAGE_STEP;
	d->keys += key_n;
	d->pieces++;
}

/* Behind a piece; its tag and length are not the image's. */
static const struct tw_part state_part = {.kind = NODE_STATE};

/* All pieces of the span; false: one is too long. */
static bool pieces(struct draft *d, const struct prefix *x, uint32_t bytes_n)
{
	const struct tw_layout *l = &d->t->layout;
	uint32_t begin = 0, at = (uint32_t)(x->rest - d->span), first = 0, value = 0;

	if (x->state) {
		piece(d, x, 0, d->place[0].at - 2u, 0, 0, &state_part);
		begin = d->place[0].at + d->place[0].n;
		first = value = 1;
	}
	for (uint32_t i = 0; i < l->part_count; i++) {
		const struct tw_part *part = &l->part[i];

		if (part->kind == TW_PART_BYTES) {
			at += part->n;
			continue;
		}
		if (d->elastic >> value & 1) {
			/* Of a RAW value the begin of its attribute is a part of its own. */
			if (at - begin > UINT8_MAX * IMAGE_STEP)
				return false;
			piece(d, x, begin, at, first, value, part);
			begin = d->place[value].at + d->place[value].n;
			first = value + 1;
		}
		at = d->place[value].at + d->place[value].n;
		value++;
	}
	if (bytes_n - begin > UINT8_MAX * IMAGE_STEP)
		return false;
	piece(d, x, begin, bytes_n, first, value, NULL);
	return true;
}

/* ---- the whole ---- */

static void head(struct tw_image *im, const struct tw_template *t, const struct tw_span *v,
                 const struct prefix *x)
{
	im->id = t->id;
	im->start_at = (uint8_t)(x->start - v->bytes - (x->state ? 2 + x->state_n : 0));
	im->has_parent = x->parent_id != NULL;
	im->has_state = x->state != NULL;
	im->shared = template_is_shared(t);
	im->value_count = t->layout.value_count;
	memcpy(im->common, (const uint8_t *)v + TW_SPAN_COMMON_AT, TW_SPAN_COMMON_BYTES);
}

static struct tw_image *make(struct tw_template *t, const struct tw_span *v, const struct prefix *x,
                             const struct tw_place *place, uint32_t elastic, uint32_t *bytes)
{
	struct draft d = {.t = t, .span = v->bytes, .place = place, .elastic = elastic};
	uint32_t places = t->layout.value_count * (uint32_t)sizeof(*place), tail;
	struct tw_image *im;

	if (!pieces(&d, x, v->bytes_n))
		return NULL;
	tail = (uint32_t)sizeof(*im) + d.blocks;
	/* A key is compared with NODE_PAD behind it. */
	*bytes =
	    tail + d.pieces * (uint32_t)sizeof(struct image_piece) + places + d.keys + NODE_PAD;
	im = tw_alloc_aligned(64, *bytes);
	if (!im)
		return NULL;
	memset(im, 0, *bytes);
	im->template = t;
	im->elastic = elastic;
	im->pieces_at = tail;
	im->places_at = tail + d.pieces * (uint32_t)sizeof(struct image_piece);
	head(im, t, v, x);
	d.im = im;
	d.piece = (struct image_piece *)(void *)((uint8_t *)im + im->pieces_at);
	d.fixed = (struct tw_place *)(void *)((uint8_t *)im + im->places_at);
	d.keys = im->places_at + places;
	d.blocks = d.pieces = 0;
	(void)pieces(&d, x, v->bytes_n);
	return im;
}

/* The newest is found first; the one too many is found no more. */
static void link_image(struct tw_templates *t, struct tw_image *im, uint32_t slot)
{
	struct tw_image *last = im;

	im->next = t->images[slot];
	im->slot = slot;
	im->linked = true;
	t->images[slot] = im;
	for (uint32_t i = 1; i < IMAGES_MAX && last; i++)
		last = last->next;
	if (!last || !last->next)
		return;
	last->next->linked = false;
	last->next = NULL;
}

/* In place of the one that it had. */
static void take_image(struct tw_templates *t, struct shape *sh, struct tw_template *template,
                       struct tw_image *im, uint32_t bytes)
{
	if (template->image) {
		image_unlink(t, template->image);
		im->hits = template->image->hits;
		template->bytes -= template->image_bytes;
		sh->bytes -= template->image_bytes;
		t->bytes -= template->image_bytes;
		tw_free(template->image);
	}
	template->image = im;
	template->image_bytes = bytes;
	template->bytes += bytes;
	sh->bytes += bytes;
	t->bytes += bytes;
}

void shape_image(struct tw_templates *t, struct shape *sh, struct tw_template *template,
                 const struct tw_span *v, const struct prefix *x, const struct tw_place *place)
{
	struct tw_image *im = template->image;
	uint32_t bytes, elastic = elastic_values(template, im, v->bytes, place);

	if (!im || im->elastic != elastic) {
		im = t->bytes < t->bytes_max ? make(template, v, x, place, elastic, &bytes) : NULL;
		if (!im)
			return;
		take_image(t, sh, template, im, bytes);
	}
	/* One that is linked did not fit for want of what can be read behind the span. */
	if (!im->linked)
		link_image(t, im, image_slot(x->hash));
}
