/* What a span costs from the request's bytes to its trace's end, without sockets: scan, match,
 * admit, count, append, decide, keep or let go. One thread, virtual time, the load generator's
 * workload (drive.h).
 *
 *   micro_engine [--NAME VALUE …]     with --help: the names
 *
 * Prints key=value lines. Under `valgrind --tool=callgrind --instr-atstart=no --collect-atstart=no`
 * only what is measured is collected: bench/instructions and bench/scale do it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <valgrind/callgrind.h>

#include "drive.h"
#include "load/process.h"
#include "tw/base/mem.h"

struct options {
	struct drive_opts drive;
	uint64_t spans;                     /* measured */
	uint64_t engines;                   /* each with its share of the traces and of the rate */
	uint64_t service_rules, name_rules; /* before the usual three */
};

static void help(void)
{
	printf("  --spans            measured, after the warm-up (350000)\n"
	       "  --traces           in flight (20000)\n"
	       "  --rate             spans a second of virtual time (400000)\n"
	       "  --engines          so many that know nothing of one another, in turns (1): what "
	       "the\n"
	       "                     caches alone make of --workers\n"
	       "  --workers          cores, in turns on this thread (1)\n"
	       "  --wake             each: owners look after every request; round: once all\n"
	       "                     cores had one (round)\n"
	       "  --dimensions       of RED: 0 to 2 (2)\n"
	       "  --buffer-mib       (4096)\n"
	       "  --service-rules    so many rules by resource.service.name before errors, slow, 1 "
	       "%%\n"
	       "  --name-rules       so many rules by span name, likewise\n");
	tw_workload_help(stdout);
}

static bool set_number(struct options *o, const char *name, const char *value)
{
	struct {
		const char *name;
		uint64_t *at;
	} wide[] = {{"spans", &o->spans},
	            {"traces", &o->drive.traces},
	            {"rate", &o->drive.rate},
	            {"engines", &o->engines},
	            {"buffer-mib", &o->drive.buffer_bytes},
	            {"service-rules", &o->service_rules},
	            {"name-rules", &o->name_rules}};
	struct {
		const char *name;
		uint32_t *at;
	} narrow[] = {{"workers", &o->drive.workers}, {"dimensions", &o->drive.dimensions}};

	for (size_t i = 0; i < sizeof(wide) / sizeof(wide[0]); i++)
		if (strcmp(name, wide[i].name) == 0) {
			*wide[i].at = strtoull(value, NULL, 10);
			return true;
		}
	for (size_t i = 0; i < sizeof(narrow) / sizeof(narrow[0]); i++)
		if (strcmp(name, narrow[i].name) == 0) {
			*narrow[i].at = (uint32_t)strtoul(value, NULL, 10);
			return true;
		}
	return false;
}

static bool set(struct options *o, const char *name, const char *value)
{
	if (strcmp(name, "wake") == 0) {
		o->drive.wake_each = strcmp(value, "each") == 0;
		return o->drive.wake_each || strcmp(value, "round") == 0;
	}
	return set_number(o, name, value) || tw_workload_set(&o->drive.workload, name, value) == 0;
}

static bool read_options(struct options *o, int argc, char **argv)
{
	const char *wrong;

	for (int i = 1; i < argc; i += 2)
		if (strncmp(argv[i], "--", 2) != 0 || i + 1 == argc ||
		    !set(o, argv[i] + 2, argv[i + 1])) {
			fprintf(stderr, "%s: no such option, or no such value\n", argv[i]);
			return false;
		}
	wrong = tw_workload_check(&o->drive.workload);
	if (o->engines < 1 || o->engines > TW_WORKERS_MAX)
		wrong = "--engines is 1 to 256";
	else {
		o->drive.traces /= o->engines;
		o->drive.rate /= o->engines;
	}
	if (wrong == NULL && (o->drive.workers < 1 || o->drive.workers > TW_WORKERS_MAX))
		wrong = "--workers is 1 to 256";
	if (wrong == NULL && (o->drive.dimensions > 2 || o->drive.rate < 1000))
		wrong = "--dimensions is 0 to 2, --rate at least 1000";
	if (wrong == NULL && o->drive.traces * o->drive.workload.trace_spans <=
	                         (uint64_t)(o->drive.workload.visits - 1) *
	                             o->drive.workload.stride * o->drive.workload.request_spans)
		wrong = "--traces: they would be decided before their last spans come; --stride?";
	if (wrong != NULL)
		fprintf(stderr, "%s\n", wrong);
	return wrong == NULL;
}

/* ---- the rules ---- */

/* Rules that no span passes, so that every one of them is asked. */
static void make_rules(struct tw_buf *out, const struct options *o)
{
	tw_buf_puts(out, "rules:\n");
	for (uint64_t i = 0; i < o->service_rules; i++)
		tw_buf_printf(
		    out,
		    "  - { name: s%04u, when: '{ resource.service.name = \"other-%04u\" }', "
		    "keep: all }\n",
		    (unsigned)i, (unsigned)i);
	for (uint64_t i = 0; i < o->name_rules; i++)
		tw_buf_printf(out,
		              "  - { name: n%04u, when: '{ name = \"GET /api/other/op-%04u\" }', "
		              "keep: all }\n",
		              (unsigned)i, (unsigned)i);
	tw_buf_puts(out, "  - { name: errors, when: '{ status = error }', keep: all }\n"
	                 "  - { name: slow, when: '{ trace:duration > 2s }', keep: all }\n"
	                 "  - { name: rest, keep: 1% }\n");
}

/* ---- the run ---- */

static void print(const struct drive *d, uint64_t spans, double ns)
{
	struct tw_core_books b = drive_books(d);
	double requests = (double)spans / d->o.workload.request_spans;

	printf("spans=%llu\n", (unsigned long long)spans);
	printf("ns_per_span=%.1f\n", ns / (double)spans);
	printf("wakes_per_request=%.1f\n", (double)d->wakes / requests);
	printf("polls_per_request=%.1f\n", (double)d->polls / requests);
	printf("peak_bytes=%llu\n", (unsigned long long)tw_load_process_peak_bytes(getpid()));
	printf("traces_open=%llu\n", (unsigned long long)b.shard.traces_open);
	printf("series=%u\n", tw_red_series_count(d->shared.red));
	printf("red_bytes=%llu\n", (unsigned long long)tw_red_bytes(d->shared.red));
	printf("kept=%llu\n", (unsigned long long)b.shard.kept);
	printf("let_go=%llu\n", (unsigned long long)b.shard.let_go);
	printf("early_decisions=%llu\n", (unsigned long long)b.shard.early_decisions);
	printf("refused_requests=%llu\n", (unsigned long long)d->refused);
	printf("refused_ring_full=%llu\n", (unsigned long long)b.refused[TW_REFUSE_RING]);
	printf("wire_bytes_per_span=%.1f\n",
	       (double)b.shard.span_bytes / (double)b.shard.in_flight);
	printf("digest_bytes_per_span=%.1f\n",
	       (double)b.shard.digest_bytes / (double)b.shard.in_flight);
}

/* Requests in turn to each engine. */
static int drive_all(const struct options *o, struct drive *d)
{
	uint64_t spans = 0, n = o->engines;
	double ns = 0;

	printf("boot_bytes=%llu\n", (unsigned long long)tw_load_process_peak_bytes(getpid()));
	for (uint64_t i = 0; !drive_warm(&d[n - 1]); i++)
		drive_request(&d[i % n]);
	for (uint64_t i = 0; i < n; i++)
		d[i].cpu_ns = d[i].wakes = d[i].polls = 0;
	CALLGRIND_START_INSTRUMENTATION;
	for (uint64_t i = 0; spans < o->spans; i++, spans += o->drive.workload.request_spans)
		drive_request(&d[i % n]);
	CALLGRIND_STOP_INSTRUMENTATION;
	for (uint64_t i = 0; i < n; i++)
		ns += (double)d[i].cpu_ns;
	print(&d[0], spans, ns);
	return d[0].refused != 0 ? 4 : 0;
}

static int run(const struct options *o)
{
	struct drive *d = tw_calloc(o->engines, sizeof(*d));
	struct drive_source source;
	struct tw_buf report;
	int rc = d != NULL && drive_source_init(&source, &o->drive.workload) ? 0 : TW_ENOMEM;
	uint64_t made = 0;

	tw_buf_init(&report, 0);
	while (rc == 0 && made < o->engines)
		rc = drive_init(&d[made++], &o->drive, &source, &report);
	if (rc == 0)
		rc = drive_all(o, d);
	else
		fprintf(stderr, "%.*s", (int)report.n, (const char *)report.p);
	while (made > 0)
		drive_deinit(&d[--made]);
	drive_source_deinit(&source);
	tw_free(d);
	tw_buf_deinit(&report);
	return rc;
}

int main(int argc, char **argv)
{
	struct options o = {.drive = {.traces = 20000,
	                              .rate = 400000,
	                              .workers = 1,
	                              .dimensions = 2,
	                              .buffer_bytes = 4096},
	                    .spans = 350000,
	                    .engines = 1};
	struct tw_buf rules;
	int rc;

	tw_workload_defaults(&o.drive.workload);
	o.drive.workload.stride = 20; /* so that --traces may be few */
	if (argc == 2 && strcmp(argv[1], "--help") == 0) {
		help();
		return 0;
	}
	if (!read_options(&o, argc, argv))
		return 2;
	o.drive.buffer_bytes <<= 20;
	tw_buf_init(&rules, 0);
	make_rules(&rules, &o);
	o.drive.rules = tw_buf_slice(&rules);
	rc = run(&o);
	tw_buf_deinit(&rules);
	return rc == 0 ? 0 : 1;
}
