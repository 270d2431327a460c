#include "tw/base/yaml.h"

#include <stdarg.h>
#include <stdio.h>
#include <yaml.h>

/* libyaml counts characters; the file is bytes. Events come in the file's order, so one cursor
 * walks along. */
struct cursor {
	size_t bytes, chars;
};

struct builder {
	struct tw_source *source;
	struct tw_arena *arena;
	struct cursor cursor;
	struct tw_node *root;
	struct tw_node *open[TW_YAML_DEPTH_MAX];
	struct tw_node *key[TW_YAML_DEPTH_MAX]; /* of a map: the key that waits for its value */
	uint32_t depth;
	bool document;
};

static size_t byte_of(struct builder *b, size_t index)
{
	struct tw_slice t = b->source->text;
	struct cursor *c = &b->cursor;

	while (c->chars < index && c->bytes < t.n) {
		c->bytes++;
		while (c->bytes < t.n && (t.p[c->bytes] & 0xC0) == 0x80)
			c->bytes++;
		c->chars++;
	}
	return c->bytes;
}

/* As byte_of, for a mark that may lie behind the cursor: does not move it back. */
static size_t byte_after(struct builder *b, size_t index)
{
	struct cursor kept = b->cursor;
	size_t at = byte_of(b, index);

	b->cursor = kept;
	return at;
}

static int refuse(struct builder *b, size_t at, const char *text)
{
	tw_diag_add(b->source, TW_DIAG_ERROR, at, 1, "%s", text);
	return TW_EINVAL;
}

static int report_yaml(struct builder *b, const yaml_parser_t *p)
{
	struct tw_slice t = b->source->text;
	size_t at;

	if (p->error == YAML_MEMORY_ERROR)
		return TW_ENOMEM;
	if (p->error == YAML_READER_ERROR) {
		/* problem_offset counts from where libyaml began to read. */
		size_t skip = t.n >= 3 && memcmp(t.p, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;

		tw_diag_add(b->source, TW_DIAG_ERROR, p->problem_offset + skip, 1,
		            "the file is not readable as UTF-8 text: %s", p->problem);
		return TW_EINVAL;
	}
	b->cursor = (struct cursor){0, 0};
	if (t.n >= 3 && memcmp(t.p, "\xEF\xBB\xBF", 3) == 0)
		b->cursor.bytes = 3;
	at = byte_of(b, p->problem_mark.index);
	if (at < t.n && t.p[at] == '\t')
		tw_diag_add(b->source, TW_DIAG_ERROR, at, 1, "a tab: YAML indents with spaces");
	else
		tw_diag_add(b->source, TW_DIAG_ERROR, at, 1, "this is not YAML: %s%s%s",
		            p->problem ? p->problem : "unreadable", p->context ? " " : "",
		            p->context ? p->context : "");
	return TW_EINVAL;
}

static int attach(struct builder *b, struct tw_node *n)
{
	struct tw_node *up;

	if (b->depth == 0) {
		b->root = n;
		return 0;
	}
	up = b->open[b->depth - 1];
	if (up->kind == TW_NODE_MAP) {
		struct tw_node **key = &b->key[b->depth - 1];

		if (!*key) {
			if (n->kind != TW_NODE_SCALAR)
				return refuse(b, n->begin, "a key must be a plain word");
			*key = n;
			return 0;
		}
		n->key = *key;
		*key = NULL;
	}
	if (up->last)
		up->last->next = n;
	else
		up->first = n;
	up->last = n;
	return 0;
}

static struct tw_node *node_new(struct builder *b, enum tw_node_kind kind, const yaml_event_t *e)
{
	struct tw_node *n = tw_arena_alloc(b->arena, sizeof(*n));

	if (!n)
		return NULL;
	memset(n, 0, sizeof(*n));
	n->kind = kind;
	n->begin = (uint32_t)byte_of(b, e->start_mark.index);
	n->end = (uint32_t)byte_after(b, e->end_mark.index);
	return n;
}

static enum tw_node_style style_of(yaml_scalar_style_t s)
{
	switch (s) {
	case YAML_SINGLE_QUOTED_SCALAR_STYLE:
		return TW_STYLE_SINGLE;
	case YAML_DOUBLE_QUOTED_SCALAR_STYLE:
		return TW_STYLE_DOUBLE;
	case YAML_LITERAL_SCALAR_STYLE:
	case YAML_FOLDED_SCALAR_STYLE:
		return TW_STYLE_BLOCK;
	default:
		return TW_STYLE_PLAIN;
	}
}

static int on_scalar(struct builder *b, const yaml_event_t *e)
{
	struct tw_node *n = node_new(b, TW_NODE_SCALAR, e);
	uint8_t *copy;

	if (!n)
		return TW_ENOMEM;
	n->style = style_of(e->data.scalar.style);
	copy = tw_arena_alloc(b->arena, e->data.scalar.length + 1);
	if (!copy)
		return TW_ENOMEM;
	memcpy(copy, e->data.scalar.value, e->data.scalar.length);
	copy[e->data.scalar.length] = '\0';
	n->value = tw_slice(copy, e->data.scalar.length);
	return attach(b, n);
}

static int on_start(struct builder *b, enum tw_node_kind kind, const yaml_event_t *e)
{
	struct tw_node *n;
	int rc;

	if (b->depth == TW_YAML_DEPTH_MAX)
		return refuse(b, byte_of(b, e->start_mark.index), "nested deeper than 32 levels");
	n = node_new(b, kind, e);
	if (!n)
		return TW_ENOMEM;
	rc = attach(b, n);
	if (rc)
		return rc;
	b->key[b->depth] = NULL;
	b->open[b->depth++] = n;
	return 0;
}

static int refuse_property(struct builder *b, const yaml_event_t *e, const void *anchor,
                           const void *tag)
{
	if (anchor)
		return refuse(b, byte_of(b, e->start_mark.index),
		              "anchors (&name) are not allowed here: write the value out");
	if (tag)
		return refuse(b, byte_of(b, e->start_mark.index),
		              "tags (!name) are not allowed here");
	return 0;
}

static int on_event(struct builder *b, const yaml_event_t *e)
{
	int rc;

	switch (e->type) {
	case YAML_DOCUMENT_START_EVENT:
		if (b->document)
			return refuse(b, byte_of(b, e->start_mark.index),
			              "a second document: the file must hold one only");
		b->document = true;
		return 0;
	case YAML_ALIAS_EVENT:
		return refuse(b, byte_of(b, e->start_mark.index),
		              "aliases (*name) are not allowed here: write the value out");
	case YAML_SCALAR_EVENT:
		rc = refuse_property(b, e, e->data.scalar.anchor, e->data.scalar.tag);
		return rc ? rc : on_scalar(b, e);
	case YAML_SEQUENCE_START_EVENT:
		rc = refuse_property(b, e, e->data.sequence_start.anchor,
		                     e->data.sequence_start.tag);
		return rc ? rc : on_start(b, TW_NODE_SEQ, e);
	case YAML_MAPPING_START_EVENT:
		rc = refuse_property(b, e, e->data.mapping_start.anchor, e->data.mapping_start.tag);
		return rc ? rc : on_start(b, TW_NODE_MAP, e);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		b->depth--;
		b->open[b->depth]->end = (uint32_t)byte_of(b, e->end_mark.index);
		return 0;
	default:
		return 0;
	}
}

static int read_events(struct builder *b, yaml_parser_t *p)
{
	for (;;) {
		yaml_event_t e;
		bool done;
		int rc;

		if (!yaml_parser_parse(p, &e))
			return report_yaml(b, p);
		done = e.type == YAML_STREAM_END_EVENT;
		rc = on_event(b, &e);
		yaml_event_delete(&e);
		if (rc || done)
			return rc;
	}
}

int tw_yaml_parse(struct tw_source *s, struct tw_arena *arena, struct tw_node **out)
{
	struct builder b = {.source = s, .arena = arena};
	yaml_parser_t p;
	size_t skip = 0;
	int rc;

	*out = NULL;
	if (s->text.n > TW_YAML_BYTES_MAX) {
		tw_diag_add(s, TW_DIAG_ERROR, 0, 1, "the file is larger than 1 MiB");
		return TW_EINVAL;
	}
	if (!yaml_parser_initialize(&p))
		return TW_ENOMEM;
	if (s->text.n >= 3 && memcmp(s->text.p, "\xEF\xBB\xBF", 3) == 0)
		skip = 3;
	b.cursor.bytes = skip;
	yaml_parser_set_encoding(&p, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&p, s->text.n ? s->text.p + skip : (const uint8_t *)"",
	                             s->text.n - skip);
	rc = read_events(&b, &p);
	yaml_parser_delete(&p);
	if (rc == 0)
		*out = b.root;
	return rc;
}

static bool is_white(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Bytes of the file that the escape at p stands as (p[0] is the backslash). */
static size_t escape_bytes(const uint8_t *p, size_t n)
{
	size_t want = 2;

	if (n < 2)
		return n;
	if (p[1] == 'x')
		want = 4;
	else if (p[1] == 'u')
		want = 6;
	else if (p[1] == 'U')
		want = 10;
	return want < n ? want : n;
}

static size_t utf8_bytes(uint8_t c)
{
	return c < 0xC0 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

/* Where the value's first byte is: behind the quote, or below a block scalar's header. */
static size_t raw_begin(struct tw_slice t, const struct tw_node *n)
{
	size_t r = n->begin;

	if (n->style == TW_STYLE_SINGLE || n->style == TW_STYLE_DOUBLE)
		return r + 1;
	if (n->style == TW_STYLE_BLOCK) {
		while (r < n->end && t.p[r] != '\n' && t.p[r] != '\r')
			r++;
	}
	return r;
}

/* The value and the file's text are walked side by side. They differ in white space (folding,
 * indentation), in doubled single quotes and in a double-quoted scalar's escapes; everything else
 * is the same byte. */
size_t tw_yaml_byte(const struct tw_source *s, const struct tw_node *scalar, size_t at)
{
	struct tw_slice t = s->text, v = scalar->value;
	size_t r = raw_begin(t, scalar), end = scalar->end < t.n ? scalar->end : t.n, i = 0,
	       here = r;

	while (i <= at && r <= end) {
		uint8_t c = i < v.n ? v.p[i] : 0;

		if (i >= v.n || is_white(c)) {
			here = r;
			if (r < end && scalar->style == TW_STYLE_DOUBLE && t.p[r] == '\\')
				r += escape_bytes(t.p + r, end - r);
			else if (r < end && is_white(t.p[r]))
				r++;
			i++;
			continue;
		}
		while (r < end &&
		       (is_white(t.p[r]) || (scalar->style == TW_STYLE_DOUBLE && t.p[r] == '\\' &&
		                             r + 1 < end && is_white(t.p[r + 1]))))
			r++;
		here = r;
		if (scalar->style == TW_STYLE_SINGLE && c == '\'')
			r += 2;
		else if (scalar->style == TW_STYLE_DOUBLE && r < end && t.p[r] == '\\')
			r += escape_bytes(t.p + r, end - r);
		else
			r += utf8_bytes(c);
		i += utf8_bytes(c);
	}
	return here < end ? here : end;
}

void tw_diag_scalar(struct tw_source *s, enum tw_severity severity, const struct tw_node *scalar,
                    size_t at, size_t width, const char *fmt, ...)
{
	char text[sizeof(s->diags->item[0].text)];
	size_t begin = 0, end = 0;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (tw_diag_room(s)) {
		begin = tw_yaml_byte(s, scalar, at);
		end = width > 1 ? tw_yaml_byte(s, scalar, at + width - 1) + 1 : begin + 1;
	}
	tw_diag_add(s, severity, begin, end > begin ? end - begin : 1, "%s", text);
}
