/* demo: the real engine on real sockets, fed with a small shop's traffic, and a report of what it
 * kept and why. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "http.h"
#include "shop.h"
#include "tw/base/log.h"
#include "tw/base/mem.h"
#include "tw/engine.h"
#include "tw/wire.h"

#define TRACES           3000u
#define TRACES_A_REQUEST 100u
#define SAMPLES          6u

/* rules/default.yaml, with waits that suit a demo of a few seconds. */
static const char rules[] = "wait:\n"
                            "  root: 1s\n"
                            "  idle: 2s\n"
                            "  most: 10s\n"
                            "rules:\n"
                            "  - name: errors\n"
                            "    when: '{ status = error }'\n"
                            "    keep: all\n"
                            "  - name: slow\n"
                            "    when: '{ trace:duration > 2s }'\n"
                            "    keep: all\n"
                            "  - name: rest\n"
                            "    keep: 1%\n";

struct demo {
	char dir[64], rules[96], kept[96], metrics[96];
	struct tw_engine *engine;
	struct tw_shop shop;
	struct tw_buf page;
};

static bool write_file(const char *path, const void *p, size_t n)
{
	FILE *f = fopen(path, "we");
	bool good = f != NULL && fwrite(p, 1, n, f) == n;

	return f != NULL && fclose(f) == 0 && good;
}

/* ---- start ---- */

static int start(struct demo *d, const struct tw_cli_args *a)
{
	struct tw_cli_args b = *a;
	char set_rules[128], set_kept[128];
	struct tw_config *c;
	struct tw_buf report;
	int code;

	snprintf(set_rules, sizeof(set_rules), "rules=%s", d->rules);
	snprintf(set_kept, sizeof(set_kept), "forward=[{name: kept, file: %s}]", d->kept);
	if (b.set_count + 5 > TW_CLI_SETS_MAX)
		return TW_EXIT_USAGE;
	b.sets[b.set_count++] = set_rules;
	b.sets[b.set_count++] = set_kept;
	b.sets[b.set_count++] = "receive.otlp_grpc=127.0.0.1:0";
	b.sets[b.set_count++] = "receive.otlp_http=127.0.0.1:0";
	b.sets[b.set_count++] = "admin.listen=127.0.0.1:0";
	c = tw_cli_config(&b, &code);
	if (c == NULL)
		return code;
	tw_buf_init(&report, 0);
	code = tw_cli_exit_code(tw_engine_create(c, &tw_clock_real, &d->engine, &report));
	tw_cli_print(&report);
	tw_buf_deinit(&report);
	if (code != 0)
		tw_config_destroy(&c);
	else if (tw_engine_start(d->engine) != 0)
		code = TW_EXIT_MACHINE;
	return code;
}

/* ---- traffic ---- */

static bool send_all(struct demo *d)
{
	struct tw_buf out[TW_SHOP_SERVICES], answer;
	bool good = true;

	tw_buf_init(&answer, 0);
	for (uint32_t i = 0; i < TW_SHOP_SERVICES; i++)
		tw_buf_init(&out[i], 0);
	for (uint32_t n = 0; good && n < TRACES; n += TRACES_A_REQUEST) {
		tw_shop_requests(&d->shop, TRACES_A_REQUEST, out);
		/* The callees first, the root's service last, as it happens. */
		for (uint32_t i = TW_SHOP_SERVICES; good && i-- > 0;) {
			tw_buf_clear(&answer);
			good = tw_http_local(tw_engine_port(d->engine, 1), "/v1/traces",
			                     tw_buf_slice(&out[i]), &answer) == 200;
		}
	}
	for (uint32_t i = 0; i < TW_SHOP_SERVICES; i++)
		tw_buf_deinit(&out[i]);
	tw_buf_deinit(&answer);
	return good;
}

/* The value of the sample that begins with `name`, or −1. */
static double sample(const struct tw_buf *page, const char *name)
{
	const char *p = memmem(page->p, page->n, name, strlen(name));

	while (p != NULL && p != (const char *)page->p && p[-1] != '\n')
		p = memmem(p + 1, page->n - (size_t)(p + 1 - (const char *)page->p), name,
		           strlen(name));
	return p != NULL ? strtod(p + strlen(name), NULL) : -1;
}

static bool scrape(struct demo *d)
{
	tw_buf_clear(&d->page);
	if (tw_http_local(tw_engine_port(d->engine, 2), "/metrics", tw_slice(NULL, 0), &d->page) !=
	    200)
		return false;
	tw_buf_putc(&d->page, '\0');
	d->page.n--;
	return !d->page.failed;
}

/* Until every trace is decided and every kept one is in the file. */
static bool settle(struct demo *d)
{
	struct timespec pause = {.tv_nsec = 100000000};

	for (int i = 0; i < 600; i++) {
		if (!scrape(d))
			return false;
		if (sample(&d->page, "traceweir_spans_in_flight ") == 0 &&
		    sample(&d->page, "traceweir_queued_spans{destination=\"kept\"} ") == 0)
			return true;
		nanosleep(&pause, NULL);
	}
	return false;
}

/* ---- report ---- */

struct kept {
	struct tw_id128 id;
	uint64_t ns;
	uint32_t spans;
	char rule[32], reason[32], root[48];
};

struct report {
	struct tw_keytab *keys;
	int rule, reason;
	struct kept *list;
	uint32_t count, cap;
};

static struct kept *kept_of(struct report *r, struct tw_id128 id)
{
	for (uint32_t i = r->count; i-- > 0;)
		if (tw_id_eq(r->list[i].id, id))
			return &r->list[i];
	if (r->count == r->cap) {
		uint32_t cap = r->cap != 0 ? r->cap * 2 : 64;
		struct kept *p = tw_realloc(r->list, cap * sizeof(*p));

		if (p == NULL)
			return NULL;
		r->list = p;
		r->cap = cap;
	}
	r->list[r->count] = (struct kept){.id = id};
	return &r->list[r->count++];
}

static void copy_slot(const struct tw_span *s, int slot, char *out, size_t cap)
{
	if (s->rest->slots_set & (UINT64_C(1) << slot))
		snprintf(out, cap, "%.*s", (int)s->rest->slots[slot].n,
		         (const char *)s->rest->slots[slot].p);
}

static void take(struct report *r, const struct tw_request *req)
{
	for (uint32_t i = 0; i < req->span_count; i++) {
		const struct tw_span *s = &req->spans[i];
		struct kept *k = kept_of(r, s->trace_id);

		if (k == NULL)
			return;
		k->spans++;
		copy_slot(s, r->rule, k->rule, sizeof(k->rule));
		copy_slot(s, r->reason, k->reason, sizeof(k->reason));
		if (s->flags & TW_SPAN_ROOT) {
			k->ns = s->duration_ns;
			snprintf(k->root, sizeof(k->root), "%.*s", (int)s->rest->name_n,
			         (const char *)s->rest->name);
		}
	}
}

static bool read_kept(struct demo *d, struct report *r)
{
	struct tw_buf text, proto;
	struct tw_request req;
	struct tw_error err;
	bool good;

	tw_buf_init(&text, 0);
	tw_buf_init(&proto, 0);
	tw_request_init(&req);
	good = tw_cli_read(d->kept, 1u << 30, &text);
	for (size_t at = 0; good && at < text.n;) {
		const uint8_t *nl = memchr(text.p + at, '\n', text.n - at);
		size_t n = (nl != NULL ? (size_t)(nl - text.p) : text.n) - at;
		struct tw_scan_opts o = {.key = {1, 2}, .keys = r->keys, .spans_max = UINT32_MAX};

		tw_buf_clear(&proto);
		tw_request_reset(&req);
		good = tw_otlp_json_decode(tw_slice(text.p + at, n), &proto, &err) == 0 &&
		       tw_otlp_scan(&o, tw_buf_slice(&proto), &req, &err) == 0;
		if (good)
			take(r, &req);
		at += n + 1;
	}
	tw_request_deinit(&req);
	tw_buf_deinit(&proto);
	tw_buf_deinit(&text);
	return good;
}

static void print_kept(const struct report *r, const struct tw_shop *shop)
{
	static const char *const rule_names[] = {"errors", "slow", "rest"};
	static const char *const what[] = {"keep all of { status = error }",
	                                   "keep all of { trace:duration > 2s }", "keep 1%"};
	uint32_t spans = 0;

	printf("\nKept %u of %u traces, and why:\n", r->count, shop->traces);
	for (uint32_t k = 0; k < 3; k++) {
		uint32_t n = 0;

		for (uint32_t i = 0; i < r->count; i++)
			n += strcmp(r->list[i].rule, rule_names[k]) == 0;
		printf("  %5u  by rule '%s': %s\n", n, rule_names[k], what[k]);
	}
	for (uint32_t i = 0; i < r->count; i++)
		spans += r->list[i].spans;
	printf("  (%u traces failed and %u took longer than 2 s; %u of %u spans went on)\n",
	       shop->errors, shop->slow, spans, shop->traces * TW_SHOP_SPANS_A_TRACE);
	printf("\nSome of them:\n");
	for (uint32_t i = 0; i < r->count && i < SAMPLES; i++) {
		const struct kept *t = &r->list[i];

		printf("  %016llx%016llx  %-14s %8.1f ms  %u spans  rule=%s reason=%s\n",
		       (unsigned long long)t->id.hi, (unsigned long long)t->id.lo, t->root,
		       (double)t->ns / 1e6, t->spans, t->rule, t->reason);
	}
}

static void print_line(const struct tw_buf *page, const char *name, const char *what)
{
	printf("  %-44s %10.0f  %s\n", name, sample(page, name), what);
}

static void print_metrics(struct demo *d)
{
	const struct tw_buf *p = &d->page;

	printf("\nEvery span was counted, kept or not:\n");
	print_line(p, "traceweir_spans_received_total ", "= accepted + rejected + refused");
	print_line(p, "traceweir_spans_accepted_total ", "= kept + let go + in flight");
	print_line(p, "traceweir_spans_kept_total ", "");
	print_line(p, "traceweir_spans_in_flight ", "");
	printf("\nRED of every operation, before sampling (traces_span_metrics_calls_total):\n");
	for (const char *at = (const char *)p->p; at != NULL && *at != '\0';) {
		const char *nl = strchr(at, '\n');

		if (strncmp(at, "traces_span_metrics_calls_total{", 32) == 0 &&
		    memmem(at, (size_t)(nl != NULL ? nl - at : 0), "SPAN_KIND_SERVER", 16) != NULL)
			printf("  %.*s\n", nl != NULL ? (int)(nl - at) - 31 : 0, at + 31);
		at = nl != NULL ? nl + 1 : NULL;
	}
}

static bool report(struct demo *d)
{
	struct report r = {.keys = tw_keytab_create()};
	bool good = r.keys != NULL;

	if (good) {
		r.rule = tw_keytab_add(r.keys, tw_slice_str("traceweir.rule"));
		r.reason = tw_keytab_add(r.keys, tw_slice_str("traceweir.reason"));
		good =
		    r.rule >= 0 && r.reason >= 0 && tw_keytab_seal(r.keys) == 0 && read_kept(d, &r);
	}
	if (good) {
		print_kept(&r, &d->shop);
		print_metrics(d);
		good = write_file(d->metrics, d->page.p, d->page.n);
		printf("\nThe kept traces are in %s (OTLP JSON lines),\nall metrics in %s.\n"
		       "A running traceweir serves them at http://127.0.0.1:9464/metrics; this one "
		       "listened on port %u.\n",
		       d->kept, d->metrics, tw_engine_port(d->engine, 2));
	}
	tw_free(r.list);
	if (r.keys != NULL)
		tw_keytab_destroy(&r.keys);
	return good;
}

static int play(struct demo *d)
{
	printf("traceweir demo: OTLP/gRPC on 127.0.0.1:%u, OTLP/HTTP on 127.0.0.1:%u, "
	       "metrics on http://127.0.0.1:%u/metrics\n",
	       tw_engine_port(d->engine, 0), tw_engine_port(d->engine, 1),
	       tw_engine_port(d->engine, 2));
	printf("Sending %u traces of a shop (4 services, 8 spans each) through the sockets ...\n",
	       TRACES);
	fflush(stdout);
	if (!send_all(d)) {
		fprintf(stderr, "demo: a request was not accepted\n");
		return TW_EXIT_MACHINE;
	}
	printf("Sent. A trace is complete 1 s after its root span; then the rules decide ...\n");
	fflush(stdout);
	/* The second scrape shows new series with their values: the first shows them as 0. */
	if (!settle(d) || !scrape(d) || !report(d)) {
		fprintf(stderr, "demo: the engine did not come to rest\n");
		return TW_EXIT_MACHINE;
	}
	fflush(stdout);
	return TW_EXIT_DONE;
}

int tw_cli_demo(const struct tw_cli_args *a)
{
	struct demo d = {.dir = "/tmp/traceweir-demo-XXXXXX", .shop = {.seed = 42}};
	int code;

	tw_cli_block_signals();
	if (mkdtemp(d.dir) == NULL) {
		perror("demo: /tmp");
		return TW_EXIT_MACHINE;
	}
	snprintf(d.rules, sizeof(d.rules), "%s/rules.yaml", d.dir);
	snprintf(d.kept, sizeof(d.kept), "%s/kept.jsonl", d.dir);
	snprintf(d.metrics, sizeof(d.metrics), "%s/metrics.txt", d.dir);
	if (!write_file(d.rules, rules, sizeof(rules) - 1)) {
		perror(d.rules);
		return TW_EXIT_MACHINE;
	}
	d.shop.now_ns = tw_wall(&tw_clock_real) - 60 * TW_NS_PER_S;
	tw_buf_init(&d.page, 0);
	if (tw_log_start(2, TW_LOG_WARN) != 0)
		return TW_EXIT_MACHINE;
	code = start(&d, a);
	if (code == 0)
		code = play(&d);
	if (d.engine != NULL) {
		if (code == 0 && tw_engine_drain(d.engine) != 0)
			code = TW_EXIT_UNDELIVERED;
		tw_engine_destroy(&d.engine);
	}
	tw_log_stop();
	tw_buf_deinit(&d.page);
	return code;
}
