/* What red.c (counting) and red_collect.c (scraping) share. */
#ifndef TW_METRICS_RED_H
#define TW_METRICS_RED_H

#include "label.h"
#include "series.h"
#include "tw/metrics.h"

/* A cell is cell_words counters of one series and worker: the sum of durations in ns, low and high
 * word, then one count a bucket, the last for what is above all bounds. Cells lie in chunks of
 * CELL_CHUNK series that are made at the first span of any of them, so what a worker never sees
 * costs it nothing. */
#define CELL_SUM_LOW    0u
#define CELL_SUM_HIGH   1u
#define CELL_BUCKETS    2u
#define CELL_CHUNK_BITS 8u
#define CELL_CHUNK      (1u << CELL_CHUNK_BITS)

/* Above this a duration is an error of the sender's clock (one that says 1970 among them) and
 * counts as 0. */
#define DURATION_MAX_NS (UINT64_C(365) * 86400 * TW_NS_PER_S)

#define GROUP 32u

struct buckets {
	uint64_t bound[TW_BUCKETS_MAX + 1]; /* inclusive; the last is UINT64_MAX */
	uint8_t first[65]; /* by bit length of a duration: the first bucket that may hold it */
	uint32_t steps;    /* and how many more may have to be looked at */
	uint32_t count;    /* buckets, the one above all bounds among them */
};

struct resource_run { /* what consecutive spans have from their resource */
	struct tw_slice service;
	uint64_t service_hash;
	struct tw_slice dims[TW_DIMENSIONS_MAX];
	uint64_t dim_hash[TW_DIMENSIONS_MAX];
	bool failed; /* no memory for a value's text */
};

struct item { /* a span of the group in work, whose series is looked up */
	struct tw_series_key key;
	const struct tw_series *found;
	struct tw_operation *operation; /* whose spans are all of one series, or NULL */
	uint32_t span;                  /* in the group */
	bool failed;
};

struct tw_red_worker {
	_Alignas(64) struct tw_red *red;
	_Atomic(tw_counter *) *chunks; /* one writer; release after zeroing */
	struct tw_seq seq;             /* around a carry between the words of a sum */
	_Atomic uint64_t bytes;        /* of cells */
	struct tw_arena arena;         /* texts of values that are not strings, for one group */
	uint32_t resource;             /* whose run is in runs[0 … ] last; UINT32_MAX: none */
	uint32_t run;
	struct resource_run runs[GROUP + 1];
	struct item items[GROUP];
	struct tw_slice dims[GROUP][TW_DIMENSIONS_MAX]; /* the items'; apart, as most have none */
};

struct tw_red {
	struct tw_series_table series;
	struct tw_hash_key key;
	enum tw_metric_names names;
	uint32_t dimension_count, series_max;
	char *dimension[TW_DIMENSIONS_MAX];
	char *label[TW_DIMENSIONS_MAX]; /* their label names */
	struct buckets buckets;
	uint32_t cell_words, cell_stride; /* counters */
	uint32_t worker_count;
	struct tw_red_worker **workers;
	/* the scraper's */
	uint32_t shown; /* series 1 … shown were in a scrape before */
	bool overflow_shown;
};

static inline tw_counter *red_cell(const struct tw_red_worker *w, uint32_t id, memory_order order)
{
	tw_counter *chunk = atomic_load_explicit(&w->chunks[id >> CELL_CHUNK_BITS], order);

	return chunk == NULL ? NULL : chunk + (size_t)(id & (CELL_CHUNK - 1)) * w->red->cell_stride;
}

#endif
