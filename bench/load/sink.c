/* traceweir-sink: an OTLP backend that knows what must come.
 *
 *   traceweir-sink [--listen HOST:PORT] [--expect MANIFEST]… [--rest SHARE] [workload options]
 *
 * Takes OTLP/gRPC and OTLP/HTTP (protobuf) on one port; GET /totals answers with what came so far.
 * At SIGTERM it reads the manifests that traceweir-load wrote, prints key=value lines, and ends
 * with 0, or with 1 when something is missing, unknown, wrong, or (with --rest) unexpected.
 * Duplicates are counted: delivery is at least once. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "expect.h"
#include "tw/base/error.h"
#include "tw/net.h"

#define MANIFESTS_MAX 16

struct sink {
	struct tw_workload workload;
	const char *listen;
	const char *manifest[MANIFESTS_MAX];
	uint32_t manifest_count;
	double rest_share;
	struct tw_expect *expect;
	uv_loop_t loop;
	struct tw_server *server;
	struct tw_acceptor *acceptor;
	uv_signal_t term, intr;
};

static void print_totals(const struct tw_expect_totals *t, char *text, size_t cap)
{
	snprintf(
	    text, cap,
	    "requests=%llu\nspans=%llu\nunique=%llu\nduplicates=%llu\nunknown=%llu\nwrong=%llu\n"
	    "malformed=%llu\npatched=%llu\n",
	    (unsigned long long)t->requests, (unsigned long long)t->spans,
	    (unsigned long long)t->unique, (unsigned long long)t->duplicates,
	    (unsigned long long)t->unknown, (unsigned long long)t->wrong,
	    (unsigned long long)t->malformed, (unsigned long long)t->patched);
}

/* ---- requests ---- */

static void on_request(void *ctx, struct tw_exchange *x, int early, const struct tw_error *err)
{
	struct sink *s = ctx;
	struct tw_reply r = {.status = 200};
	char text[512];

	if (early == TW_ECLOSED)
		return;
	if (early != TW_OK) {
		r.status = 400;
		r.grpc_status = 3;
		r.grpc_message = tw_slice_str(err->text);
	} else if (strcmp(x->path, "/totals") == 0) {
		print_totals(tw_expect_totals(s->expect), text, sizeof(text));
		r.content_type = "text/plain";
		r.body = tw_slice_str(text);
	} else if (!tw_expect_request(s->expect, x->body.p, x->body.n)) {
		r.status = 400;
		r.grpc_status = 3;
	} else {
		r.content_type = "application/x-protobuf";
	}
	tw_exchange_reply(x, &r);
}

static bool on_accept(void *ctx, uv_os_sock_t fd, uint32_t port_tag)
{
	struct sink *s = ctx;

	(void)tw_server_adopt(s->server, fd, port_tag);
	return true;
}

static void on_signal(uv_signal_t *h, int signum)
{
	struct sink *s = h->data;

	(void)signum;
	tw_acceptor_stop(s->acceptor);
	tw_server_kill(s->server);
	uv_close((uv_handle_t *)&s->term, NULL);
	uv_close((uv_handle_t *)&s->intr, NULL);
}

static int serve(struct sink *s)
{
	struct tw_budget bodies;
	struct tw_server_opts o = {.handler = on_request,
	                           .ctx = s,
	                           .body_bytes_max = 64u << 20,
	                           .bodies = &bodies,
	                           .clock = &tw_clock_real};
	struct tw_error err = {.text = "no memory"};

	tw_budget_init(&bodies, UINT64_C(1) << 30);
	uv_loop_init(&s->loop);
	s->server = tw_server_create(&s->loop, &o);
	s->acceptor = tw_acceptor_create(&s->loop, on_accept, s);
	if (s->server == NULL || s->acceptor == NULL ||
	    tw_acceptor_listen(s->acceptor, s->listen, 0, &err) != TW_OK) {
		fprintf(stderr, "traceweir-sink: %s\n", err.text);
		return 3;
	}
	uv_signal_init(&s->loop, &s->term);
	uv_signal_init(&s->loop, &s->intr);
	s->term.data = s->intr.data = s;
	uv_signal_start(&s->term, on_signal, SIGTERM);
	uv_signal_start(&s->intr, on_signal, SIGINT);
	printf("port=%u\n", tw_acceptor_port(s->acceptor, 0));
	fflush(stdout);
	uv_run(&s->loop, UV_RUN_DEFAULT);
	tw_acceptor_destroy(&s->acceptor);
	tw_server_destroy(&s->server);
	return uv_loop_close(&s->loop) == 0 ? 0 : 3;
}

/* ---- the end ---- */

/* The manifest's workload must be ours, but for its first trace. */
static bool judge_manifest(struct sink *s, const char *path, struct tw_expect_result *r)
{
	struct tw_workload w;
	unsigned long long traces = 0;
	char line[256], *eq;
	FILE *f = fopen(path, "r");

	if (f == NULL) {
		perror(path);
		return false;
	}
	tw_workload_defaults(&w);
	while (fgets(line, sizeof(line), f) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		eq = strchr(line, '=');
		if (eq == NULL)
			continue;
		*eq = '\0';
		if (tw_workload_set(&w, line, eq + 1) == -1 && strcmp(line, "traces") == 0)
			traces = strtoull(eq + 1, NULL, 10);
	}
	fclose(f);
	if (tw_workload_check(&w) != NULL || traces == 0 || w.seed != s->workload.seed ||
	    w.trace_spans != s->workload.trace_spans || w.visits != s->workload.visits ||
	    w.error_below != s->workload.error_below || w.slow_below != s->workload.slow_below) {
		fprintf(stderr, "traceweir-sink: %s is of another workload, or of nothing\n", path);
		return false;
	}
	tw_expect_judge(s->expect, w.first_trace, traces, s->rest_share, r);
	return true;
}

static int report(struct sink *s)
{
	const struct tw_expect_totals *t = tw_expect_totals(s->expect);
	struct tw_expect_result r = {0};
	bool good = true;
	char text[512];

	for (uint32_t i = 0; i < s->manifest_count; i++)
		good = judge_manifest(s, s->manifest[i], &r) && good;
	print_totals(t, text, sizeof(text));
	fputs(text, stdout);
	printf("error_traces=%llu\nerror_whole=%llu\nslow_traces=%llu\nslow_whole=%llu\n",
	       (unsigned long long)r.error_traces, (unsigned long long)r.error_whole,
	       (unsigned long long)r.slow_traces, (unsigned long long)r.slow_whole);
	printf("rest_traces=%llu\nrest_whole=%llu\nmissing=%llu\npartial=%llu\nunexpected=%llu\n",
	       (unsigned long long)r.rest_traces, (unsigned long long)r.rest_whole,
	       (unsigned long long)r.missing, (unsigned long long)r.partial,
	       (unsigned long long)r.unexpected);
	good = good && r.missing == 0 && r.unexpected == 0 && t->unknown == 0 && t->wrong == 0 &&
	       t->malformed == 0;
	return good ? 0 : 1;
}

/* ---- options ---- */

static void usage(FILE *f)
{
	fputs("usage: traceweir-sink [options]\n"
	      "  --listen           HOST:PORT, port 0: any (127.0.0.1:14317)\n"
	      "  --expect           manifest that traceweir-load writes; may be given again\n"
	      "  --rest             share of the other traces that must come, by the trace id's "
	      "randomness;\n"
	      "                     without it any may come, but whole\n"
	      "the workload, as traceweir-load has it:\n",
	      f);
	tw_workload_help(f);
}

static bool set_option(struct sink *s, const char *name, const char *value)
{
	char *end;

	if (strcmp(name, "listen") == 0) {
		s->listen = value;
	} else if (strcmp(name, "expect") == 0) {
		if (s->manifest_count == MANIFESTS_MAX)
			return false;
		s->manifest[s->manifest_count++] = value;
	} else if (strcmp(name, "rest") == 0) {
		s->rest_share = strtod(value, &end);
		return end != value && *end == '\0' && s->rest_share >= 0 && s->rest_share <= 1;
	} else {
		return tw_workload_set(&s->workload, name, value) == 0;
	}
	return true;
}

static bool read_options(struct sink *s, int argc, char **argv)
{
	const char *fault;

	for (int i = 1; i < argc; i += 2)
		if (strncmp(argv[i], "--", 2) != 0 || i + 1 == argc ||
		    !set_option(s, argv[i] + 2, argv[i + 1])) {
			fprintf(stderr, "traceweir-sink: %s will not do\n", argv[i]);
			return false;
		}
	fault = tw_workload_check(&s->workload);
	if (fault != NULL)
		fprintf(stderr, "traceweir-sink: %s\n", fault);
	return fault == NULL;
}

int main(int argc, char **argv)
{
	static struct sink s = {.listen = "127.0.0.1:14317", .rest_share = -1};
	int code;

	tw_workload_defaults(&s.workload);
	if (argc == 2 && strcmp(argv[1], "--help") == 0) {
		usage(stdout);
		return 0;
	}
	if (!read_options(&s, argc, argv)) {
		usage(stderr);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	s.expect = tw_expect_create(&s.workload);
	if (s.expect == NULL)
		return 3;
	code = serve(&s);
	if (code == 0)
		code = report(&s);
	tw_expect_destroy(&s.expect);
	return code;
}
