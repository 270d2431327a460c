/* traceweir-load: OTLP spans by the million, and the books of what became of them.
 *
 *   traceweir-load [options] HOST:PORT
 *
 * Prints key=value lines; exit 0 when every span was acknowledged, 1 when not, 2 called wrongly, 3
 * no connection. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "generator.h"
#include "process.h"
#include "tw/base/clock.h"

static volatile bool stopped; /* a signal handler has nothing else to write to */

static void on_signal(int sig)
{
	(void)sig;
	stopped = true;
}

static void usage(FILE *f)
{
	fputs("usage: traceweir-load [options] HOST:PORT\n"
	      "  --http             OTLP/HTTP over HTTP/1.1 instead of OTLP/gRPC\n"
	      "  --json             OTLP/JSON instead of protobuf; with --http\n"
	      "  --compression      none, gzip or zstd, of each request, level 1 (none)\n"
	      "  --connections      (2)\n"
	      "  --streams          of each connection (4; with --http 1)\n"
	      "  --rate             spans a second; 0: as fast as they are answered (0)\n"
	      "  --duration         (10s)\n"
	      "  --spans            stop after so many instead\n"
	      "  --warmup           not measured (0s)\n"
	      "  --retry            after a retryable refusal; 0: never (50ms)\n"
	      "  --any-answer       every answer counts: the server is not an OTLP one\n"
	      "  --pid              of the server: its CPU time and peak memory are printed, too\n"
	      "  --manifest         file for the sink: what it must have got\n"
	      "the workload:\n",
	      f);
	tw_workload_help(f);
}

static bool duration(const char *value, uint64_t *ns)
{
	return tw_duration_parse(value, strlen(value), ns) == 0;
}

static bool count(const char *value, uint64_t min, uint64_t max, uint64_t *v)
{
	char *end;

	*v = strtoull(value, &end, 10);
	return *value >= '0' && *value <= '9' && *end == '\0' && *v >= min && *v <= max;
}

/* 0; −1: no such option; −2: a wrong value. */
static int set_option(struct tw_load_opts *o, const char *name, const char *value)
{
	uint64_t v = 0;
	char *end;

	if (strcmp(name, "duration") == 0)
		return duration(value, &o->duration_ns) ? 0 : -2;
	if (strcmp(name, "warmup") == 0)
		return duration(value, &o->warmup_ns) ? 0 : -2;
	if (strcmp(name, "retry") == 0)
		return duration(value, &o->retry_ns) ? 0 : -2;
	if (strcmp(name, "manifest") == 0) {
		o->manifest = value;
		return 0;
	}
	if (strcmp(name, "compression") == 0)
		return tw_load_coding_parse(value, &o->to.coding) ? 0 : -2;
	if (strcmp(name, "rate") == 0) {
		o->rate = strtod(value, &end);
		return end != value && *end == '\0' && o->rate >= 0 ? 0 : -2;
	}
	if (strcmp(name, "spans") == 0)
		return count(value, 1, UINT64_MAX >> 1, &o->spans) ? 0 : -2;
	if (strcmp(name, "connections") == 0) {
		if (!count(value, 1, 1000, &v))
			return -2;
		o->connections = (uint32_t)v;
		return 0;
	}
	if (strcmp(name, "streams") == 0) {
		if (!count(value, 1, 1000, &v))
			return -2;
		o->streams = (uint32_t)v;
		return 0;
	}
	if (strcmp(name, "pid") == 0) {
		if (!count(value, 1, 1 << 30, &v))
			return -2;
		o->pid = (int)v;
		return 0;
	}
	return tw_workload_set(&o->workload, name, value);
}

static bool read_target(struct tw_load_opts *o, char *target)
{
	char *colon = strrchr(target, ':');

	if (colon == NULL || colon == target)
		return false;
	*colon = '\0';
	o->to.host = target;
	o->to.port = colon + 1;
	return true;
}

static bool read_options(struct tw_load_opts *o, int argc, char **argv)
{
	char *target = NULL;

	for (int i = 1; i < argc; i++) {
		const char *name = argv[i];
		int rc;

		if (strcmp(name, "--http") == 0) {
			o->to.http = true;
		} else if (strcmp(name, "--json") == 0) {
			o->to.json = true;
		} else if (strcmp(name, "--any-answer") == 0) {
			o->any_answer = true;
		} else if (strncmp(name, "--", 2) == 0) {
			if (i + 1 == argc) {
				fprintf(stderr, "traceweir-load: %s wants a value\n", name);
				return false;
			}
			rc = set_option(o, name + 2, argv[++i]);
			if (rc != 0) {
				fprintf(stderr, "traceweir-load: %s%s%s\n",
				        rc == -1 ? "no option " : "", name,
				        rc == -2 ? ": that value will not do" : "");
				return false;
			}
		} else {
			target = argv[i];
		}
	}
	if (target == NULL || !read_target(o, target)) {
		fputs("traceweir-load: HOST:PORT is missing\n", stderr);
		return false;
	}
	if (o->to.json && !o->to.http) {
		fputs("traceweir-load: --json goes with --http\n", stderr);
		return false;
	}
	if (o->to.http)
		o->streams = 1;
	return true;
}

static void print_totals(const struct tw_load_generator *g, FILE *f)
{
	const struct tw_load_totals *t = &g->totals;

	fprintf(f, "traces=%llu\n", (unsigned long long)tw_load_traces(g));
	fprintf(f, "requests=%llu\nrefusals=%llu\nfailures=%llu\n", (unsigned long long)t->requests,
	        (unsigned long long)t->refusals, (unsigned long long)t->failures);
	fprintf(f, "spans_sent=%llu\nspans_acked=%llu\nspans_rejected=%llu\nspans_given_up=%llu\n",
	        (unsigned long long)t->spans, (unsigned long long)t->acked,
	        (unsigned long long)t->rejected, (unsigned long long)t->given_up);
	fprintf(f, "spans_late=%llu\nerror_spans_acked=%llu\n", (unsigned long long)t->late_spans,
	        (unsigned long long)t->error_spans_acked);
	fprintf(f, "bytes_per_span=%.1f\nplain_bytes_per_span=%.1f\n",
	        t->spans > 0 ? (double)t->bytes / (double)t->spans : 0,
	        t->spans > 0 ? (double)t->plain_bytes / (double)t->spans : 0);
	fprintf(f, "ack_p50_us=%llu\nack_p99_us=%llu\n",
	        (unsigned long long)tw_load_latency_us(t, 0.5),
	        (unsigned long long)tw_load_latency_us(t, 0.99));
}

static void print_rates(const struct tw_load_generator *g, FILE *f)
{
	double seconds = (double)(g->to.at_ns - g->from.at_ns) / 1e9;
	double spans = (double)(g->to.acked - g->from.acked);
	double cpu = (double)(g->to.cpu_ns - g->from.cpu_ns) / 1e9;
	double own = (double)(g->to.own_cpu_ns - g->from.own_cpu_ns) / 1e9;

	if (g->from.at_ns == 0 || seconds <= 0 || spans <= 0)
		return;
	fprintf(f, "seconds=%.3f\nspans_per_second=%.0f\nload_cpu_us_per_span=%.4f\n", seconds,
	        spans / seconds, own / spans * 1e6);
	if (g->o.pid == 0)
		return;
	fprintf(f, "cpu_seconds=%.2f\n", cpu);
	if (cpu > 0)
		fprintf(f, "spans_per_cpu_second=%.0f\ncpu_us_per_span=%.4f\n", spans / cpu,
		        cpu / spans * 1e6);
	fprintf(f, "peak_bytes=%llu\n", (unsigned long long)tw_load_process_peak_bytes(g->o.pid));
}

static bool write_manifest(const struct tw_load_generator *g)
{
	FILE *f;

	if (g->o.manifest == NULL)
		return true;
	f = fopen(g->o.manifest, "w");
	if (f == NULL) {
		perror(g->o.manifest);
		return false;
	}
	tw_workload_print(&g->o.workload, f);
	print_totals(g, f);
	return fclose(f) == 0;
}

static int run(const struct tw_load_opts *o)
{
	struct tw_load_generator g;
	struct tw_error err = {.code = 0};
	int rc = tw_load_generator_init(&g, o, &err), code = 0;

	g.stop = &stopped;
	if (rc != 0) {
		fprintf(stderr, "traceweir-load: %s\n", err.text);
		tw_load_generator_deinit(&g);
		return 3;
	}
	if (tw_load_generator_run(&g, &err) != 0) {
		fprintf(stderr, "traceweir-load: %s\n", err.text);
		code = 1;
	}
	print_totals(&g, stdout);
	print_rates(&g, stdout);
	if (!write_manifest(&g) || g.totals.acked != g.totals.spans || g.totals.rejected != 0)
		code = 1;
	tw_load_generator_deinit(&g);
	return code;
}

int main(int argc, char **argv)
{
	struct tw_load_opts o = {.connections = 2,
	                         .streams = 4,
	                         .duration_ns = 10 * TW_NS_PER_S,
	                         .retry_ns = 50 * TW_NS_PER_MS};
	const char *fault;

	tw_workload_defaults(&o.workload);
	if (argc == 2 && strcmp(argv[1], "--help") == 0) {
		usage(stdout);
		return 0;
	}
	if (!read_options(&o, argc, argv)) {
		usage(stderr);
		return 2;
	}
	fault = tw_workload_check(&o.workload);
	if (fault != NULL) {
		fprintf(stderr, "traceweir-load: %s\n", fault);
		return 2;
	}
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	return run(&o);
}
