#include "drive.h"

#include <string.h>
#include <time.h>
#include <valgrind/callgrind.h>

#include "tw/base/error.h"
#include "tw/base/mem.h"

#define QUEUE_BYTES (64u << 20)

/* ---- the destination: takes everything ---- */

static bool null_send(void *self, const struct tw_batch *b, tw_send_done done, void *ctx)
{
	struct tw_send_result r = {.outcome = TW_SENT, .retry_after_ms = UINT64_MAX};

	(void)self;
	(void)b;
	done(ctx, &r);
	return true;
}

static void null_nothing(void *self)
{
	(void)self;
}

static bool null_stopped(void *self)
{
	(void)self;
	return true;
}

static const struct tw_transport null_transport = {
    .send = null_send, .stop = null_nothing, .stopped = null_stopped, .destroy = null_nothing};

/* ---- create ---- */

static void wake(void *ctx, uint32_t core)
{
	struct drive *d = ctx;

	d->wakes++;
	d->woken[core] = true;
}

static int create_generation(struct drive *d, struct tw_buf *report)
{
	struct tw_generation *g = NULL;
	struct tw_buf source;
	int rc;

	tw_buf_init(&source, 0);
	tw_buf_printf(&source, "wait: { root: never, idle: never, most: %lluus }\n",
	              (unsigned long long)(d->hold_ns / 1000));
	tw_buf_put(&source, d->o.rules.p, d->o.rules.n);
	rc = tw_generation_create(tw_buf_slice(&source), "rules", d->shared.red, d->o.workers,
	                          &d->book, NULL, tw_now(&d->clock), &g, report);
	tw_buf_deinit(&source);
	if (rc != 0)
		return rc;
	atomic_store(&d->shared.live[g->number & 3], g);
	atomic_store(&d->shared.generation, g);
	return 0;
}

static void set_options(struct drive *d)
{
	static const uint32_t ms[] = {2,   4,   6,    8,    10,   50,   100,   200,
	                              400, 800, 1000, 1400, 2000, 5000, 10000, 15000};
	struct tw_core_shared *sh = &d->shared;

	d->metrics = (struct tw_metrics_opts){
	    .names = TW_NAMES_OTEL,
	    .dimensions = {"http.request.method", "http.response.status_code"},
	    .dimension_count = d->o.dimensions,
	    .bucket_count = sizeof(ms) / sizeof(ms[0]),
	    .series_max = 1000000};
	for (uint32_t i = 0; i < d->metrics.bucket_count; i++)
		d->metrics.bucket_ns[i] = ms[i] * TW_NS_PER_MS;
	d->dest = (struct tw_dest_opts){.name = "null",
	                                .queue_bytes_max = QUEUE_BYTES * (uint64_t)d->o.workers,
	                                .retry_for_ns = TW_NEVER,
	                                .batch_bytes = 512 * 1024,
	                                .batch_age_ns = 50 * TW_NS_PER_MS,
	                                .timeout_ns = 10 * TW_NS_PER_S,
	                                .backoff_first_ns = TW_NS_PER_S,
	                                .backoff_most_ns = 30 * TW_NS_PER_S};
	sh->workers = d->o.workers;
	sh->key = (struct tw_hash_key){0x1234567, 0x89abcdef12345};
	sh->clock = &d->clock;
	sh->book = &d->book;
	sh->views = &d->views;
	sh->buffer = (struct tw_buffer_opts){.bytes_max = d->o.buffer_bytes,
	                                     .trace_spans_max = 32000,
	                                     .trace_bytes_max = 64u << 20,
	                                     .verdict_bytes_max = 64u << 20,
	                                     .verdict_keep_ns = 3600 * TW_NS_PER_S};
	sh->templates_bytes_max = TW_TEMPLATES_BYTES_MAX;
	sh->dests = &d->dest;
	sh->dest_count = 1;
	sh->spans_max = TW_REQUEST_SPANS_MAX;
	sh->wake = wake;
	sh->wake_ctx = d;
}

static int create_cores(struct drive *d)
{
	for (uint32_t i = 0; i < d->o.workers; i++) {
		struct tw_core *core;
		uint32_t taken;
		int rc = tw_core_create(&d->shared, i, &null_transport, i + 1, &taken, &core);

		if (rc != 0)
			return rc;
	}
	return 0;
}

bool drive_source_init(struct drive_source *s, const struct tw_workload *w)
{
	memset(s, 0, sizeof(*s));
	tw_buf_init(&s->request, 0);
	const struct tw_load_form form = {.grpc = false};

	return tw_load_names_init(&s->names, w) && tw_load_body_init(&s->body, w, &form);
}

void drive_source_deinit(struct drive_source *s)
{
	tw_load_body_deinit(&s->body);
	tw_load_names_deinit(&s->names);
	tw_buf_deinit(&s->request);
}

int drive_init(struct drive *d, const struct drive_opts *o, struct drive_source *source,
               struct tw_buf *report)
{
	int rc;

	memset(d, 0, sizeof(*d));
	d->o = *o;
	d->source = source;
	d->hold_ns = o->traces * o->workload.trace_spans * (TW_NS_PER_S / 1000) / (o->rate / 1000);
	d->start_mono_ns = d->time.mono_ns = 1000 * TW_NS_PER_S;
	d->start_wall_ns = d->time.wall_ns = UINT64_C(1750000000) * TW_NS_PER_S;
	d->clock = tw_clock_virtual(&d->time);
	tw_budget_init(&d->views, UINT64_C(1) << 30);
	set_options(d);
	d->shared.pool = tw_pool_create(&d->shared.buffer, o->workers);
	d->shared.red = tw_red_create(&d->metrics, o->workers, d->shared.key);
	if (d->shared.pool == NULL || d->shared.red == NULL)
		rc = TW_ENOMEM;
	else
		rc = create_generation(d, report);
	if (rc == 0)
		rc = create_cores(d);
	if (rc == TW_ENOMEM)
		tw_buf_puts(report, "out of memory\n");
	return rc;
}

void drive_deinit(struct drive *d)
{
	for (uint32_t i = 0; i < d->o.workers; i++)
		if (d->shared.cores[i] != NULL)
			tw_core_stop(d->shared.cores[i]);
	for (uint32_t i = 0; i < d->o.workers; i++) {
		struct tw_core *c = d->shared.cores[i];

		tw_core_destroy(&c);
	}
	for (uint32_t i = 0; i < 4; i++) {
		struct tw_generation *g = atomic_load(&d->shared.live[i]);

		tw_generation_destroy(&g);
	}
	if (d->shared.pool != NULL)
		tw_pool_destroy(&d->shared.pool);
	if (d->shared.red != NULL)
		tw_red_destroy(&d->shared.red);
	tw_rulebook_deinit(&d->book);
}

/* ---- a request ---- */

static uint64_t request_at_ns(const struct drive *d, uint64_t request)
{
	return request * d->o.workload.request_spans * (TW_NS_PER_S / 1000) / (d->o.rate / 1000);
}

/* As the generator does it: the deepest group of a new block, and each further group of a block
 * that began so many strides ago. */
static void build(struct drive *d)
{
	const struct tw_workload *w = &d->o.workload;
	struct drive_source *s = d->source;
	uint64_t r = d->requests;

	tw_load_body_begin(&s->body);
	for (uint32_t g = 0; g < w->visits; g++) {
		uint64_t back = (uint64_t)(w->visits - 1 - g) * w->stride;

		if (back <= r)
			tw_load_body_add(&s->body, w, &s->names, r - back, g,
			                 d->start_wall_ns + request_at_ns(d, r - back));
	}
	tw_load_body_end(&s->body);
	s->request.n = 0;
	for (uint32_t i = 0; i < s->body.part_count; i++)
		tw_buf_put(&s->request, s->body.parts[i].iov_base, s->body.parts[i].iov_len);
}

static void on_done(void *ctx, const struct tw_sink_result *r)
{
	struct drive *d = ctx;

	d->answered++;
	d->refused += r->outcome != TW_SINK_OK || r->rejected != 0;
}

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * TW_NS_PER_S + (uint64_t)t.tv_nsec;
}

/* The owners take their batches, and the receivers what comes back. */
static void serve_wakes(struct drive *d)
{
	bool more = true;

	while (more) {
		more = false;
		for (uint32_t i = 0; i < d->o.workers; i++) {
			if (!d->woken[i])
				continue;
			d->woken[i] = false;
			d->polls++;
			more = true;
			if (tw_core_poll(d->shared.cores[i]))
				d->woken[i] = true;
			(void)tw_core_tick(d->shared.cores[i], 0);
		}
	}
}

static void tick_all(struct drive *d)
{
	for (uint32_t i = 0; i < d->o.workers; i++)
		while (tw_core_tick(d->shared.cores[i], 0))
			;
}

void drive_request(struct drive *d)
{
	uint32_t core = (uint32_t)(d->requests % d->o.workers);
	bool last = core + 1 == d->o.workers;
	struct tw_body body;
	uint64_t begin_ns;

	build(d);
	d->time.mono_ns = d->start_mono_ns + request_at_ns(d, d->requests);
	d->time.wall_ns = d->start_wall_ns + request_at_ns(d, d->requests);
	tw_body_init(&body, NULL);
	TW_ASSERT(tw_body_append(&body, d->source->request.p, d->source->request.n,
	                         SIZE_MAX) == 0);
	begin_ns = cpu_ns();
	CALLGRIND_TOGGLE_COLLECT;
	tw_core_submit(d->shared.cores[core], &body, on_done, d);
	if (d->o.wake_each || last)
		serve_wakes(d);
	if (last)
		tick_all(d);
	CALLGRIND_TOGGLE_COLLECT;
	d->cpu_ns += cpu_ns() - begin_ns;
	d->requests++;
}

bool drive_warm(const struct drive *d)
{
	return request_at_ns(d, d->requests) > d->hold_ns + d->hold_ns / 4;
}

struct tw_core_books drive_books(const struct drive *d)
{
	struct tw_core_books sum = {0}, b;

	for (uint32_t i = 0; i < d->o.workers; i++) {
		tw_core_books_read(d->shared.cores[i], &b, NULL, 0);
		for (size_t k = 0; k < TW_BOOK_WORDS; k++)
			((uint64_t *)&sum)[k] += ((const uint64_t *)&b)[k];
	}
	return sum;
}
