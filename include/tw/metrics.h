/* RED series of every admitted span, and the exposition of all metrics.
 *
 * Series ids are global: interned at first sight (a lock, cold), found by all workers in one table
 * without a lock. A worker owns a dense array of cells (bucket counts and a sum) and stores into it
 * relaxed; a scrape adds the workers' cells up. Calls and the histogram's count are derived from
 * the buckets, so the three can never disagree. Past series_max all new label sets share one
 * overflow series (id 0, otel_metric_overflow="true"), counted.
 *
 * A series is 0 in the first scrape after it came to be and has its value from the next on, so that
 * rate() sees its first increment; so counters equal what was sent from the second scrape at rest
 * on.
 *
 * Threads: tw_red_* say [owner] (the worker) or [any]; exposition runs on the admin thread and
 * never makes a worker wait. */
#ifndef TW_METRICS_H
#define TW_METRICS_H

#include "tw/base/buf.h"
#include "tw/base/clock.h"
#include "tw/base/counter.h"
#include "tw/model/span.h"

#define TW_BUCKETS_MAX    64u
#define TW_DIMENSIONS_MAX 16u

enum tw_metric_names { TW_NAMES_OTEL = 1, TW_NAMES_TEMPO = 2, TW_NAMES_BOTH = 3 };

struct tw_metrics_opts {
	enum tw_metric_names names;
	char *dimensions[TW_DIMENSIONS_MAX]; /* attribute keys, dotted */
	uint32_t dimension_count;
	uint64_t bucket_ns[TW_BUCKETS_MAX]; /* upper bounds, inclusive, rising */
	uint32_t bucket_count;
	uint32_t series_max;
};

/* ---- exposition ---- */
enum tw_expo_format { TW_EXPO_TEXT, TW_EXPO_OPENMETRICS };
enum tw_metric_type { TW_TYPE_COUNTER, TW_TYPE_GAUGE, TW_TYPE_HISTOGRAM, TW_TYPE_INFO };
struct tw_expo {
	struct tw_buf *out;
	enum tw_expo_format format;
	enum tw_metric_type type; /* of the family begun last; tw_expo_family's */
	bool peek; /* nobody will read it (HEAD): a source must not take it for a scrape */
};
struct tw_label {
	const char *name;
	struct tw_slice value;
};
/* Picks the format for an Accept header's text (empty: text 0.0.4) and gives the Content-Type to
 * answer. [any] */
enum tw_expo_format tw_expo_negotiate(struct tw_slice accept, const char **content_type);
/* Begins a family: HELP, TYPE. name without _total or _info. All samples of a family follow at
 * once, each family comes once. */
void tw_expo_family(struct tw_expo *e, const char *name, enum tw_metric_type type,
                    const char *help);
/* One sample of the family begun last, `name`; suffix: "_bucket", "_sum", …; "" stands for the
 * type's own ("_total",
 * "_info" or none). Label values are escaped; invalid UTF-8 and NUL become U+FFFD. */
void tw_expo_u64(struct tw_expo *e, const char *name, const char *suffix,
                 const struct tw_label *labels, uint32_t n, uint64_t value);
void tw_expo_f64(struct tw_expo *e, const char *name, const char *suffix,
                 const struct tw_label *labels, uint32_t n, double value);
void tw_expo_end(struct tw_expo *e); /* "# EOF" where the format has it */

/* Sources of families, asked in order of registration at every scrape. */
struct tw_registry;
struct tw_registry *tw_registry_create(void);
void tw_registry_destroy(struct tw_registry **r);
typedef void (*tw_collect_fn)(void *ctx, struct tw_expo *e);
int tw_registry_add(struct tw_registry *r, tw_collect_fn fn, void *ctx); /* [boot] */
void tw_registry_expose(struct tw_registry *r,
                        struct tw_expo *e); /* all, and the end [one thread at a time] */
/* Process families: process_cpu_seconds_total, process_resident_memory_bytes,
 * process_start_time_seconds, process_open_fds, and the allocator's (tw_mem_stats) as
 * traceweir_memory_*. A tw_collect_fn; ctx: NULL. */
void tw_collect_process(void *ctx, struct tw_expo *e);

/* ---- RED ---- */
struct tw_red;
struct tw_red_worker;

/* key: hashing key, random per process. NULL: no memory. [boot] */
struct tw_red *tw_red_create(const struct tw_metrics_opts *o, uint32_t workers,
                             struct tw_hash_key key);
void tw_red_destroy(struct tw_red **r);
/* Adds the dimensions to a key table of a new generation; slot[i] is dimension i's. Returns 0 or
 * tw_keytab_add's error. [boot] */
int tw_red_keys(const struct tw_red *r, struct tw_keytab *keys, uint8_t slot[TW_DIMENSIONS_MAX]);
struct tw_red_worker *tw_red_worker(struct tw_red *r, uint32_t index); /* owned by r */

/* Counts all spans of a request and sets their series: in groups (hash all, prefetch all, then
 * touch). slot: this generation's, from tw_red_keys. A dimension is read from the span, then from
 * the resource, else left out. Without service.name the label is "unknown_service". Never fails:
 * without memory the overflow series counts. [owner] */
void tw_red_count(struct tw_red_worker *w, struct tw_request *req,
                  const uint8_t slot[TW_DIMENSIONS_MAX]);

void tw_red_collect(
    void *red,
    struct tw_expo *e); /* a tw_collect_fn: the RED families and traceweir_series* [admin] */
uint32_t tw_red_series_count(const struct tw_red *r); /* [any] */
uint64_t
tw_red_overflow_spans(const struct tw_red *r); /* spans counted by the overflow series [any] */
uint64_t tw_red_bytes(const struct tw_red *r); /* memory of series and cells [any] */

#endif
