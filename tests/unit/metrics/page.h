/* A strict reader of the two text formats, for round trips. Every breach of the format fails the
 * test. */
#ifndef TEST_PAGE_H
#define TEST_PAGE_H

#include "tw/metrics.h"

struct sample {
	char *series; /* name{labels} as written */
	char *name;   /* without labels */
	char *value;
	struct {
		char *name, *value; /* unescaped */
	} label[24];
	unsigned labels;
};

struct page {
	struct sample *samples;
	size_t count;
	char *text;
};

struct page page_parse(const struct tw_buf *text, enum tw_expo_format format);
void page_free(struct page *p);
/* The value's text of the series as written, or NULL. */
const char *page_get(const struct page *p, const char *series);
/* The value of a label, or NULL. */
const char *sample_label(const struct sample *s, const char *name);
/* The sum of all samples of this name. */
double page_sum(const struct page *p, const char *name);
/* One page of a single source. */
struct page page_collect(tw_collect_fn fn, void *ctx, enum tw_expo_format format);

#endif
