/* Nanoseconds per span of tw_otlp_scan, with and without templates, over the bodies of the design's
 * workload: 1,000 spans of some 300 bytes with six attributes in a request, ids that never repeat.
 * Prints the median and the best of many rounds. */
#include <stdio.h>
#include <time.h>

#include "pb_build.h"
#include "tw/model/value.h"
#include "tw/wire.h"

#define SPANS  1000u
#define BODIES 64u /* larger together than the second-level cache */
#define ROUNDS 41u

static uint64_t seed = 0x9E3779B97F4A7C15u;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void add_span(struct pb *b)
{
	static const char *const name[] = {"GET /api/products/{id}", "SELECT shop.orders",
	                                   "POST /api/cart/items", "checkout.Checkout/PlaceOrder"};
	uint64_t id[3] = {rnd(), rnd(), rnd() | 1}, parent = rnd() | 1,
	         start = 1700000000000000000u;
	char peer[32], url[48];

	snprintf(peer, sizeof(peer), "10.%u.%u.%u", (unsigned)(rnd() % 256),
	         (unsigned)(rnd() % 256), (unsigned)(rnd() % 256));
	snprintf(url, sizeof(url), "/api/products/%08x", (unsigned)rnd());
	pb_begin(b, 2);
	pb_bytes(b, 1, id, 16);
	pb_bytes(b, 2, id + 2, 8);
	pb_bytes(b, 4, &parent, 8);
	pb_str(b, 5, name[rnd() % 4]);
	pb_varint(b, 6, 2 + rnd() % 2);
	pb_fixed64(b, 7, start + rnd() % 1000000000u);
	pb_fixed64(b, 8, start + 1000000000u + rnd() % 1000000000u);
	pb_attr(b, 9, "http.request.method", rnd() % 2 ? "GET" : "POST");
	pb_attr(b, 9, "url.path", url);
	pb_attr_int(b, 9, "http.response.status_code", 200);
	pb_attr(b, 9, "network.peer.address", peer);
	pb_attr(b, 9, "server.address", "frontend.shop.svc.cluster.local");
	pb_attr_int(b, 9, "server.port", 8080);
	pb_begin(b, 15);
	if (rnd() % 100 == 0)
		pb_varint(b, 3, 2);
	pb_end(b);
	pb_fixed32(b, 16, 0x101);
	pb_end(b);
}

static void build(struct pb *b)
{
	pb_begin(b, 1);
	pb_begin(b, 1);
	pb_attr(b, 1, "service.name", "frontend");
	pb_attr(b, 1, "service.version", "1.4.2");
	pb_attr(b, 1, "k8s.pod.name", "frontend-6d4cf56db6-x7x2p");
	pb_attr(b, 1, "k8s.namespace.name", "shop");
	pb_attr(b, 1, "telemetry.sdk.language", "go");
	pb_end(b);
	pb_begin(b, 2);
	pb_begin(b, 1);
	pb_str(b, 1, "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp");
	pb_str(b, 2, "0.49.0");
	pb_end(b);
	for (uint32_t i = 0; i < SPANS; i++)
		add_span(b);
	pb_end(b);
	pb_end(b);
}

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The rounds of one scanner. */
static int measure(const char *what, struct tw_scan_opts *o, const struct pb *bodies,
                   struct tw_request *r)
{
	double ns[ROUNDS];
	size_t bytes = 0;

	for (uint32_t k = 0; k < ROUNDS; k++) {
		double t0 = now_ns();

		bytes = 0;
		for (uint32_t i = 0; i < BODIES; i++) {
			struct tw_error err;

			tw_request_reset(r);
			if (tw_otlp_scan(o, tw_slice(bodies[i].p, bodies[i].n), r, &err) ||
			    r->span_count != SPANS) {
				fprintf(stderr, "%s\n", err.text);
				return 1;
			}
			bytes += bodies[i].n;
		}
		ns[k] = (now_ns() - t0) / (BODIES * SPANS);
	}
	qsort(ns, ROUNDS, sizeof(ns[0]), compare);
	printf("%s: %.1f ns a span (median of %u rounds; best %.1f), %.0f bytes a span\n", what,
	       ns[ROUNDS / 2], ROUNDS, ns[0], (double)bytes / (BODIES * SPANS));
	return 0;
}

int main(void)
{
	static struct pb bodies[BODIES];
	struct tw_scan_opts o = {.key = {1, 2}, .spans_max = 1000000};
	struct tw_keytab *keys = tw_keytab_create();
	struct tw_template_stats st;
	struct tw_request r;
	int rc;

	if (!keys || tw_keytab_add(keys, tw_slice_str("http.response.status_code")) < 0 ||
	    tw_keytab_add(keys, tw_slice_str("http.route")) < 0 ||
	    tw_keytab_add(keys, tw_slice_str("db.system")) < 0 || tw_keytab_seal(keys))
		return 3;
	o.keys = keys;
	tw_request_init(&r);
	for (uint32_t i = 0; i < BODIES; i++)
		build(&bodies[i]);
	rc = measure("generic", &o, bodies, &r);
	o.templates = tw_templates_create(o.key, 4 << 20);
	if (!o.templates)
		return 3;
	rc |= measure("templates", &o, bodies, &r);
	st = tw_templates_stats(o.templates);
	printf("recognised %.1f %%, %llu shapes, %llu templates, %llu bytes\n",
	       100.0 * (double)st.recognised / (BODIES * SPANS * ROUNDS),
	       (unsigned long long)st.shapes, (unsigned long long)st.templates,
	       (unsigned long long)st.bytes);
	tw_request_deinit(&r);
	tw_templates_destroy(&o.templates);
	tw_keytab_destroy(&keys);
	for (uint32_t i = 0; i < BODIES; i++)
		pb_free(&bodies[i]);
	return rc;
}
