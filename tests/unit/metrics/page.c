#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "page.h"

#define FAMILIES_MAX 128

struct family {
	char name[128], type[16];
	bool closed; /* another family began */
};

struct reader {
	enum tw_expo_format format;
	struct family families[FAMILIES_MAX];
	unsigned family_count;
	bool eof;
};

static bool name_start(char c)
{
	return isalpha((unsigned char)c) || c == '_' || c == ':';
}

static size_t name_length(const char *s)
{
	size_t n = 0;

	assert_true(name_start(s[0]));
	while (name_start(s[n]) || isdigit((unsigned char)s[n]))
		n++;
	return n;
}

static void begin_family(struct reader *r, const char *name, size_t n)
{
	for (unsigned i = 0; i < r->family_count; i++) {
		r->families[i].closed = true;
		if (strlen(r->families[i].name) == n && memcmp(r->families[i].name, name, n) == 0)
			fail_msg("family %s comes twice", r->families[i].name);
	}
	assert_true(r->family_count < FAMILIES_MAX && n < 128);
	memcpy(r->families[r->family_count].name, name, n);
	r->family_count++;
}

static void read_comment(struct reader *r, const char *line)
{
	struct family *f;
	size_t n;

	if (strcmp(line, "# EOF") == 0) {
		assert_int_equal(r->format, TW_EXPO_OPENMETRICS);
		r->eof = true;
		return;
	}
	if (strncmp(line, "# HELP ", 7) == 0) {
		n = name_length(line + 7);
		assert_int_equal(line[7 + n], ' ');
		begin_family(r, line + 7, n);
		return;
	}
	assert_int_equal(strncmp(line, "# TYPE ", 7), 0);
	f = &r->families[r->family_count - 1];
	n = name_length(line + 7);
	assert_int_equal(strlen(f->name), n);
	assert_memory_equal(f->name, line + 7, n);
	snprintf(f->type, sizeof(f->type), "%s", line + 7 + n + 1);
}

static bool has_suffix(const struct sample *s, const struct family *f, const char *suffix)
{
	size_t n = strlen(f->name);

	return strncmp(s->name, f->name, n) == 0 && strcmp(s->name + n, suffix) == 0;
}

/* A sample belongs to the family that was begun last, and is named as its type wants. */
static void check_family(const struct reader *r, const struct sample *s)
{
	const struct family *f = &r->families[r->family_count - 1];
	bool om = r->format == TW_EXPO_OPENMETRICS, ok = false;

	assert_true(r->family_count > 0);
	if (strcmp(f->type, "counter") == 0) {
		ok = has_suffix(s, f, om ? "_total" : "");
		assert_true(strlen(s->name) > 6 &&
		            strcmp(s->name + strlen(s->name) - 6, "_total") == 0);
	} else if (strcmp(f->type, "gauge") == 0) {
		ok = has_suffix(s, f, "");
	} else if (strcmp(f->type, "info") == 0) {
		ok = om && has_suffix(s, f, "_info");
	} else if (strcmp(f->type, "histogram") == 0) {
		ok = has_suffix(s, f, "_bucket") || has_suffix(s, f, "_sum") ||
		     has_suffix(s, f, "_count");
		assert_int_equal(has_suffix(s, f, "_bucket"), sample_label(s, "le") != NULL);
	}
	if (!ok)
		fail_msg("sample %s in family %s of type %s", s->name, f->name, f->type);
}

static char *copy(const char *s, size_t n)
{
	char *c = malloc(n + 1);

	assert_non_null(c);
	memcpy(c, s, n);
	c[n] = '\0';
	return c;
}

/* Reads "…" with escapes; returns what follows. */
static const char *read_quoted(const char *s, char **out)
{
	char *o = malloc(strlen(s) + 1);
	size_t n = 0;

	assert_non_null(o);
	assert_int_equal(*s, '"');
	for (s++; *s != '"'; s++) {
		assert_int_not_equal(*s, '\0');
		if (*s == '\\') {
			s++;
			assert_true(*s == 'n' || *s == '"' || *s == '\\');
			o[n++] = *s == 'n' ? '\n' : *s;
		} else {
			o[n++] = *s;
		}
	}
	o[n] = '\0';
	*out = o;
	return s + 1;
}

static void read_sample(struct reader *r, const char *line, struct sample *s)
{
	const char *at = line + name_length(line);
	char *end;

	memset(s, 0, sizeof(*s));
	s->name = copy(line, (size_t)(at - line));
	if (*at == '{') {
		do {
			size_t n = name_length(++at);
			assert_true(s->labels < 24);
			for (unsigned i = 0; i < s->labels; i++)
				assert_false(strlen(s->label[i].name) == n &&
				             memcmp(s->label[i].name, at, n) == 0);
			s->label[s->labels].name = copy(at, n);
			assert_int_equal(at[n], '=');
			at = read_quoted(at + n + 1, &s->label[s->labels].value);
			s->labels++;
		} while (*at == ',');
		assert_int_equal(*at, '}');
		at++;
	}
	s->series = copy(line, (size_t)(at - line));
	assert_int_equal(*at, ' ');
	s->value = copy(at + 1, strlen(at + 1));
	strtod(s->value, &end);
	assert_true(end != s->value && *end == '\0');
	check_family(r, s);
}

static int by_series(const void *a, const void *b)
{
	return strcmp(((const struct sample *)a)->series, ((const struct sample *)b)->series);
}

struct page page_parse(const struct tw_buf *text, enum tw_expo_format format)
{
	struct reader *r = calloc(1, sizeof(*r));
	struct page p = {0};
	size_t cap = 0;

	assert_false(text->failed);
	assert_non_null(r);
	assert_true(text->n > 0 && text->p[text->n - 1] == '\n');
	assert_null(memchr(text->p, '\0', text->n));
	p.text = copy((const char *)text->p, text->n);
	r->format = format;
	char *copied = copy(p.text, text->n), *save = copied;
	for (char *line = strsep(&save, "\n"); line != NULL && save != NULL;
	     line = strsep(&save, "\n")) {
		assert_false(r->eof);
		if (line[0] == '#') {
			read_comment(r, line);
			continue;
		}
		if (p.count == cap) {
			cap = cap == 0 ? 64 : cap * 2;
			p.samples = realloc(p.samples, cap * sizeof(*p.samples));
			assert_non_null(p.samples);
		}
		read_sample(r, line, &p.samples[p.count++]);
	}
	assert_int_equal(r->eof, format == TW_EXPO_OPENMETRICS);
	free(copied);
	free(r);
	if (p.count > 0)
		qsort(p.samples, p.count, sizeof(*p.samples), by_series);
	for (size_t i = 1; i < p.count; i++)
		if (strcmp(p.samples[i].series, p.samples[i - 1].series) == 0)
			fail_msg("twice: %s", p.samples[i].series);
	return p;
}

void page_free(struct page *p)
{
	for (size_t i = 0; i < p->count; i++) {
		struct sample *s = &p->samples[i];
		for (unsigned k = 0; k < s->labels; k++) {
			free(s->label[k].name);
			free(s->label[k].value);
		}
		free(s->name);
		free(s->series);
		free(s->value);
	}
	free(p->samples);
	free(p->text);
	memset(p, 0, sizeof(*p));
}

const char *page_get(const struct page *p, const char *series)
{
	struct sample key = {.series = (char *)(uintptr_t)series};
	struct sample *s =
	    p->count == 0 ? NULL : bsearch(&key, p->samples, p->count, sizeof(key), by_series);

	return s == NULL ? NULL : s->value;
}

const char *sample_label(const struct sample *s, const char *name)
{
	for (unsigned i = 0; i < s->labels; i++)
		if (strcmp(s->label[i].name, name) == 0)
			return s->label[i].value;
	return NULL;
}

double page_sum(const struct page *p, const char *name)
{
	double sum = 0;

	for (size_t i = 0; i < p->count; i++)
		if (strcmp(p->samples[i].name, name) == 0)
			sum += strtod(p->samples[i].value, NULL);
	return sum;
}

struct page page_collect(tw_collect_fn fn, void *ctx, enum tw_expo_format format)
{
	struct tw_buf text;
	struct tw_expo e = {.out = &text, .format = format};

	tw_buf_init(&text, 0);
	fn(ctx, &e);
	tw_expo_end(&e);
	struct page p = page_parse(&text, format);
	tw_buf_deinit(&text);
	return p;
}
