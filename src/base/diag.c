#include "tw/base/diag.h"

#include <stdarg.h>
#include <stdio.h>

#define WORD_MAX 48u

static bool utf8_continues(uint8_t c)
{
	return (c & 0xC0u) == 0x80u;
}

static uint32_t chars(const uint8_t *p, size_t n)
{
	uint32_t count = 0;

	for (size_t i = 0; i < n; i++)
		count += !utf8_continues(p[i]);
	return count;
}

/* A line ends before \n, \r\n or \r. Returns where the next one begins. */
static size_t line_next(struct tw_slice t, size_t at, size_t *end)
{
	while (at < t.n && t.p[at] != '\n' && t.p[at] != '\r')
		at++;
	*end = at;
	if (at < t.n)
		at += t.p[at] == '\r' && at + 1 < t.n && t.p[at + 1] == '\n' ? 2 : 1;
	return at;
}

static size_t bom_bytes(struct tw_slice t)
{
	return t.n >= 3 && memcmp(t.p, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
}

bool tw_diag_room(const struct tw_source *s)
{
	return s->diags->count < sizeof(s->diags->item) / sizeof(s->diags->item[0]);
}

static void locate(struct tw_slice text, size_t at, size_t width, struct tw_diag *d)
{
	size_t begin = bom_bytes(text), end, next;

	if (text.p == NULL)
		text.p = (const uint8_t
		              *)""; /* an empty file: offsets into it are offsets of something */
	if (at > text.n)
		at = text.n;
	if (at < begin)
		at = begin;
	d->line = 1;
	for (;;) {
		next = line_next(text, begin, &end);
		if (at < next || next == end)
			break;
		begin = next;
		d->line++;
	}
	if (at > end)
		at = end;
	if (width > end - at)
		width = end - at;
	d->column = chars(text.p + begin, at - begin) + 1;
	d->width = chars(text.p + at, width);
	if (d->width == 0)
		d->width = 1;
}

void tw_diag_add(struct tw_source *s, enum tw_severity severity, size_t at, size_t width,
                 const char *fmt, ...)
{
	struct tw_diag *d;
	va_list ap;
	int n;

	if (severity == TW_DIAG_ERROR)
		s->diags->errors++;
	if (!tw_diag_room(s)) {
		s->diags->left_out++;
		return;
	}
	d = &s->diags->item[s->diags->count++];
	d->severity = severity;
	locate(s->text, at, width, d);
	va_start(ap, fmt);
	n = vsnprintf(d->text, sizeof(d->text), fmt, ap);
	va_end(ap);
	if (n < 0)
		d->text[0] = '\0';
	/* What was quoted from the file must not break the report's lines, nor end inside a
	 * character. */
	if (n >= (int)sizeof(d->text)) {
		size_t e = sizeof(d->text) - 1;

		while (e > 0 && utf8_continues((uint8_t)d->text[e - 1]))
			e--;
		if (e > 0 && (uint8_t)d->text[e - 1] >= 0xC0)
			d->text[e - 1] = '\0';
	}
	for (char *p = d->text; *p; p++) {
		if ((uint8_t)*p < 0x20 || *p == 0x7F)
			*p = ' ';
	}
}

static bool before(const struct tw_diag *a, const struct tw_diag *b)
{
	return a->line != b->line ? a->line < b->line : a->column < b->column;
}

void tw_diags_sort(struct tw_diags *d)
{
	for (uint32_t i = 1; i < d->count; i++) {
		struct tw_diag moved = d->item[i];
		uint32_t at = i;

		for (; at > 0 && before(&moved, &d->item[at - 1]); at--)
			d->item[at] = d->item[at - 1];
		d->item[at] = moved;
	}
}

static void render_line(struct tw_slice source, const struct tw_diag *d, struct tw_buf *out)
{
	size_t begin = bom_bytes(source), end = begin, next = begin, n;
	uint32_t column = 1;

	for (uint32_t line = 1; line <= d->line; line++) {
		begin = next;
		next = line_next(source, begin, &end);
	}
	n = end - begin;
	if (n == 0 || n > 4096) /* nobody reads on; the caret would be off the screen */
		return;
	tw_buf_puts(out, "    ");
	for (size_t i = 0; i < n; i++) {
		uint8_t c = source.p[begin + i];

		tw_buf_putc(out, c < 0x20 && c != '\t' ? ' ' : (char)c);
	}
	tw_buf_puts(out, "\n    ");
	/* Tabs are repeated, so that the caret stands below its character at any tab width. */
	for (size_t i = 0; i < n && column < d->column; i++) {
		if (utf8_continues(source.p[begin + i]))
			continue;
		tw_buf_putc(out, source.p[begin + i] == '\t' ? '\t' : ' ');
		column++;
	}
	tw_buf_putc(out, '^');
	for (uint32_t i = 1; i < d->width; i++)
		tw_buf_putc(out, '~');
	tw_buf_putc(out, '\n');
}

void tw_diags_render(const struct tw_diags *d, const char *file, struct tw_slice source,
                     struct tw_buf *out)
{
	for (uint32_t i = 0; i < d->count; i++) {
		const struct tw_diag *it = &d->item[i];

		tw_buf_printf(out, "%s:%u:%u: %s: %s\n", file, it->line, it->column,
		              it->severity == TW_DIAG_ERROR ? "error" : "warning", it->text);
		render_line(source, it, out);
	}
	if (d->left_out)
		tw_buf_printf(out, "%s: and %u more\n", file, d->left_out);
}

static uint8_t lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? c + 32 : c;
}

/* Levenshtein distance without regard to case, and a swap of neighbours counts one. */
static uint32_t distance(struct tw_slice a, struct tw_slice b)
{
	uint8_t row[3][WORD_MAX + 1];
	uint8_t *before = row[0], *last = row[1], *now = row[2];

	for (size_t j = 0; j <= b.n; j++)
		last[j] = (uint8_t)j;
	for (size_t i = 1; i <= a.n; i++) {
		now[0] = (uint8_t)i;
		for (size_t j = 1; j <= b.n; j++) {
			uint8_t x = lower(a.p[i - 1]), y = lower(b.p[j - 1]);
			uint8_t best = last[j - 1] + (x != y);

			if (last[j] + 1 < best)
				best = last[j] + 1;
			if (now[j - 1] + 1 < best)
				best = now[j - 1] + 1;
			if (i > 1 && j > 1 && x == lower(b.p[j - 2]) && lower(a.p[i - 2]) == y &&
			    before[j - 2] + 1 < best)
				best = before[j - 2] + 1;
			now[j] = best;
		}
		uint8_t *t = before;

		before = last;
		last = now;
		now = t;
	}
	return last[b.n];
}

const char *tw_nearest(struct tw_slice word, const char *const *candidates, uint32_t count)
{
	const char *best = NULL;
	uint32_t best_distance = word.n < 4 ? 2 : 2 + (uint32_t)word.n / 6;

	if (word.n == 0 || word.n > WORD_MAX)
		return NULL;
	for (uint32_t i = 0; i < count; i++) {
		struct tw_slice c = tw_slice_str(candidates[i]);
		uint32_t d;

		if (c.n > WORD_MAX)
			continue;
		d = distance(word, c);
		if (d < best_distance && d < c.n) {
			best_distance = d;
			best = candidates[i];
		}
	}
	return best;
}
