/* Scraping: the sum of the workers' cells as families of text. */
#include "red.h"

#include <string.h>

#include "expo.h"
#include "number.h"
#include "tw/base/mem.h"

static const char *const kind_names[TW_KIND_COUNT] = {
    "SPAN_KIND_UNSPECIFIED", "SPAN_KIND_INTERNAL", "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",      "SPAN_KIND_PRODUCER", "SPAN_KIND_CONSUMER"};
static const char *const status_names[TW_STATUS_COUNT] = {"STATUS_CODE_UNSET", "STATUS_CODE_OK",
                                                          "STATUS_CODE_ERROR"};

struct naming {
	const char *calls, *duration, *service_label;
	const char *calls_help, *duration_help;
	unsigned digits; /* of a nanosecond in the family's unit */
	double unit_ns;
};
static const struct naming otel = {
    "traces_span_metrics_calls",
    "traces_span_metrics_duration_milliseconds",
    "service_name",
    "Spans received, before sampling.",
    "Durations of the spans received, before sampling, in milliseconds.",
    6,
    1e6,
};
static const struct naming tempo = {
    "traces_spanmetrics_calls",
    "traces_spanmetrics_latency",
    "service",
    "Spans received, before sampling.",
    "Durations of the spans received, before sampling, in seconds.",
    9,
    1e9,
};

struct scrape {
	const struct tw_red *r;
	struct tw_expo *e;
	uint32_t series;      /* ids 0 … series are in it */
	bool overflow;        /* id 0 among them */
	uint64_t *cells;      /* cell_words each, all workers together */
	struct tw_buf labels; /* of the series in work, without braces */
	char le[TW_BUCKETS_MAX + 1][TW_NUMBER_CHARS];
};

/* ---- the snapshot: every family of one page is written from it ---- */

/* Adds a worker's cell to a sum of cells; the two words of the sum are one number. */
static void cell_sum(uint64_t *sum, const uint64_t *cell, uint32_t words)
{
	uint64_t low = sum[CELL_SUM_LOW] + cell[CELL_SUM_LOW];

	sum[CELL_SUM_HIGH] += cell[CELL_SUM_HIGH] + (low < cell[CELL_SUM_LOW]);
	sum[CELL_SUM_LOW] = low;
	for (uint32_t i = CELL_BUCKETS; i < words; i++)
		sum[i] += cell[i];
}

static uint64_t calls_of(const struct tw_red *r, const uint64_t *cell)
{
	uint64_t n = 0;

	for (uint32_t i = CELL_BUCKETS; i < r->cell_words; i++)
		n += cell[i];
	return n;
}

static void cell_read(const struct tw_red *r, uint32_t id, uint64_t *sum)
{
	uint64_t copy[CELL_BUCKETS + TW_BUCKETS_MAX + 1];

	for (uint32_t i = 0; i < r->worker_count; i++) {
		struct tw_red_worker *w = r->workers[i];
		const tw_counter *cell = red_cell(w, id, memory_order_acquire);
		if (cell == NULL)
			continue;
		tw_seq_read(&w->seq, cell, copy, r->cell_words);
		cell_sum(sum, copy, r->cell_words);
	}
}

/* A new series is 0 in its first scrape, so that rate() sees its first increment. */
static bool snapshot(struct scrape *s)
{
	struct tw_red *r = (struct tw_red *)(uintptr_t)s->r;

	s->series = tw_red_series_count(r);
	s->cells = tw_calloc(((size_t)s->series + 1) * r->cell_words, sizeof(uint64_t));
	if (s->cells == NULL)
		return false;
	cell_read(r, TW_SERIES_OVERFLOW, s->cells);
	s->overflow = calls_of(r, s->cells) > 0;
	if (s->overflow && !r->overflow_shown)
		memset(s->cells, 0, r->cell_words * sizeof(uint64_t));
	for (uint32_t id = 1; id <= s->series && id <= r->shown; id++)
		cell_read(r, id, s->cells + (size_t)id * r->cell_words);
	return true;
}

/* ---- text ---- */

static void put_label(struct tw_buf *b, const char *name, struct tw_slice value)
{
	if (b->n > 0)
		tw_buf_putc(b, ',');
	tw_buf_puts(b, name);
	tw_buf_puts(b, "=\"");
	tw_expo_escape(b, value);
	tw_buf_putc(b, '"');
}

static void labels_of(struct scrape *s, uint32_t id, const struct naming *names)
{
	struct tw_buf *b = &s->labels;
	const struct tw_series *rec;

	tw_buf_clear(b);
	if (id == TW_SERIES_OVERFLOW) {
		tw_buf_puts(b, "otel_metric_overflow=\"true\"");
		return;
	}
	rec = tw_series_by_id(&s->r->series, id);
	const uint8_t *at = tw_series_values(rec);
	put_label(b, names->service_label, tw_slice(at, rec->len[0]));
	at += rec->len[0];
	put_label(b, "span_name", tw_slice(at, rec->len[1]));
	at += rec->len[1];
	put_label(b, "span_kind", tw_slice_str(kind_names[rec->kind]));
	put_label(b, "status_code", tw_slice_str(status_names[rec->status]));
	for (uint32_t i = 2; i < rec->parts; i++) {
		if (rec->len[i] > 0)
			put_label(b, s->r->label[i - 2], tw_slice(at, rec->len[i]));
		at += rec->len[i];
	}
}

static void put_line(struct scrape *s, const char *name, const char *suffix, const char *le,
                     const char *value, size_t value_n)
{
	struct tw_buf *b = s->e->out;

	tw_buf_puts(b, name);
	tw_buf_puts(b, suffix);
	tw_buf_putc(b, '{');
	tw_buf_put(b, s->labels.p, s->labels.n);
	if (le != NULL) {
		tw_buf_puts(b, ",le=\"");
		tw_buf_puts(b, le);
		tw_buf_putc(b, '"');
	}
	tw_buf_puts(b, "} ");
	tw_buf_put(b, value, value_n);
	tw_buf_putc(b, '\n');
}

static void put_count(struct scrape *s, const char *name, const char *suffix, const char *le,
                      uint64_t v)
{
	char text[TW_NUMBER_CHARS];

	put_line(s, name, suffix, le, text, tw_number_u64(text, v));
}

static void put_histogram(struct scrape *s, const struct naming *names, const uint64_t *cell)
{
	const struct buckets *b = &s->r->buckets;
	char text[TW_NUMBER_CHARS];
	uint64_t n = 0;

	for (uint32_t i = 0; i < b->count; i++) {
		n += cell[CELL_BUCKETS + i];
		put_count(s, names->duration, "_bucket", s->le[i], n);
	}
	unsigned __int128 sum = (unsigned __int128)cell[CELL_SUM_HIGH] << 64 | cell[CELL_SUM_LOW];
	put_line(s, names->duration, "_sum", NULL, text,
	         tw_number_scaled(text, sum, names->digits));
	put_count(s, names->duration, "_count", NULL, n);
}

static void put_families(struct scrape *s, const struct naming *names)
{
	const struct tw_red *r = s->r;
	const struct buckets *b = &r->buckets;
	uint32_t first = s->overflow ? TW_SERIES_OVERFLOW : 1;

	/* As Go prints them, and so the Collector; the same in both formats, or a scraper that
	 * changes the format changes the series. */
	for (uint32_t i = 0; i + 1 < b->count; i++)
		tw_number_f64(s->le[i], (double)b->bound[i] / names->unit_ns, -4, 6);
	strcpy(s->le[b->count - 1], "+Inf");

	tw_expo_family(s->e, names->calls, TW_TYPE_COUNTER, names->calls_help);
	for (uint32_t id = first; id <= s->series; id++) {
		labels_of(s, id, names);
		put_count(s, names->calls, "_total", NULL,
		          calls_of(r, s->cells + (size_t)id * r->cell_words));
	}
	tw_expo_family(s->e, names->duration, TW_TYPE_HISTOGRAM, names->duration_help);
	for (uint32_t id = first; id <= s->series && !s->e->out->failed; id++) {
		labels_of(s, id, names);
		put_histogram(s, names, s->cells + (size_t)id * r->cell_words);
	}
	if (s->labels.failed)
		s->e->out->failed = true;
}

static void put_self(const struct tw_red *r, struct tw_expo *e, uint32_t series)
{
	tw_expo_family(e, "traceweir_series", TW_TYPE_GAUGE, "RED series in use.");
	tw_expo_u64(e, "traceweir_series", "", NULL, 0, series);
	tw_expo_family(e, "traceweir_series_max", TW_TYPE_GAUGE, "Cap on RED series.");
	tw_expo_u64(e, "traceweir_series_max", "", NULL, 0, r->series_max);
	tw_expo_family(e, "traceweir_series_bytes", TW_TYPE_GAUGE,
	               "Memory of RED series and of all workers' cells.");
	tw_expo_u64(e, "traceweir_series_bytes", "", NULL, 0, tw_red_bytes(r));
	tw_expo_family(e, "traceweir_series_overflow_spans", TW_TYPE_COUNTER,
	               "Spans counted by the overflow series, past the cap on series.");
	tw_expo_u64(e, "traceweir_series_overflow_spans", "", NULL, 0, tw_red_overflow_spans(r));
}

void tw_red_collect(void *red, struct tw_expo *e)
{
	struct tw_red *r = red;
	struct scrape s = {.r = r, .e = e};

	tw_buf_init(&s.labels, 0);
	if (snapshot(&s)) {
		if ((r->names & TW_NAMES_OTEL) != 0)
			put_families(&s, &otel);
		if ((r->names & TW_NAMES_TEMPO) != 0)
			put_families(&s, &tempo);
	} else {
		e->out->failed = true;
	}
	put_self(r, e, s.series);
	if (!e->out->failed && !e->peek) {
		r->shown = s.series;
		r->overflow_shown |= s.overflow;
	}
	tw_free(s.cells);
	tw_buf_deinit(&s.labels);
}

/* ---- gauges ---- */

uint32_t tw_red_series_count(const struct tw_red *r)
{
	return atomic_load_explicit(&r->series.count, memory_order_acquire);
}

uint64_t tw_red_overflow_spans(const struct tw_red *r)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < r->worker_count; i++) {
		const tw_counter *cell =
		    red_cell(r->workers[i], TW_SERIES_OVERFLOW, memory_order_acquire);
		for (uint32_t k = CELL_BUCKETS; cell != NULL && k < r->cell_words; k++)
			n += tw_counter_get(&cell[k]);
	}
	return n;
}

uint64_t tw_red_bytes(const struct tw_red *r)
{
	uint64_t n = sizeof(*r) + atomic_load_explicit(&r->series.bytes, memory_order_relaxed);

	for (uint32_t i = 0; i < r->worker_count; i++)
		n += atomic_load_explicit(&r->workers[i]->bytes, memory_order_relaxed);
	return n;
}
