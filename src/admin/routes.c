/* What each path answers. */
#include "routes.h"

#include <string.h>

static void reply_text(struct tw_exchange *x, int status, const char *text)
{
	struct tw_reply r = {.status = status,
	                     .content_type = "text/plain; charset=utf-8",
	                     .body = tw_slice_str(text)};

	if (status == 405)
		r.allow = "GET, HEAD";
	tw_exchange_reply(x, &r);
}

/* Status 12: UNIMPLEMENTED. */
static void reply_grpc(struct tw_exchange *x)
{
	struct tw_reply r = {.grpc_status = 12,
	                     .grpc_message = tw_slice_str("this port serves metrics over HTTP")};

	tw_exchange_reply(x, &r);
}

/* ---- pages ---- */

/* Counts a page of n bytes among those that are being read; false: they would take too much memory.
 * A connection holds one large page at most and closes behind it, so pages are never more than the
 * connections besides this one: a bound that comes down by itself as readers finish, or are cut off
 * for being slow. */
static bool pages_admit(struct tw_admin_routes *a, const struct tw_exchange *x, size_t n)
{
	uint32_t others = tw_server_connections(x->server);

	others -= others > 0;
	if (a->large > others)
		a->large = others;
	if (a->large == 0)
		a->large_bytes = 0;
	if (n > a->large_bytes)
		a->large_bytes = n;
	if (a->large > 0 && a->large_bytes > PAGES_BYTES_MAX / (a->large + 1))
		return false;
	a->large++;
	return true;
}

/* Answers with the page, compressed where the peer takes that. */
static void reply_page(struct tw_admin_routes *a, struct tw_exchange *x, const char *content_type,
                       struct tw_buf *page)
{
	struct tw_reply r = {
	    .status = 200, .content_type = content_type, .body = tw_buf_slice(page)};
	struct tw_buf packed;

	r.owned = page;
	tw_buf_init(&packed, PAGE_BYTES_MAX);
	if (page->failed) {
		reply_text(x, 503, "no memory for the page\n");
		return;
	}
	if (x->accept_gzip && page->n >= 1024 && tw_deflate(TW_CODING_GZIP, r.body, &packed) == 0) {
		r.body = tw_buf_slice(&packed);
		r.content_encoding = "gzip";
		r.owned = &packed;
		tw_buf_deinit(page);
	}
	r.close = r.body.n > PAGE_SMALL;
	if (r.close && strcmp(x->method, "HEAD") != 0 && !pages_admit(a, x, r.body.n)) {
		static const char busy[] = "too many readers of large pages\n";
		r = (struct tw_reply){.status = 503,
		                      .content_type = "text/plain; charset=utf-8",
		                      .body = tw_slice(busy, sizeof(busy) - 1),
		                      .retry_after_s = 1};
	}
	tw_exchange_reply(x, &r);
	tw_buf_deinit(&packed);
}

static void route_metrics(struct tw_admin_routes *a, struct tw_exchange *x)
{
	const char *type;
	struct tw_buf page;
	struct tw_expo e = {.out = &page,
	                    .format = tw_expo_negotiate(tw_slice_str(x->accept), &type),
	                    .peek = strcmp(x->method, "HEAD") == 0};

	tw_buf_init(&page, PAGE_BYTES_MAX);
	/* As long as the last one and a little more: growing by doubling holds twice the memory. */
	if (a->metrics_bytes > 0 && !tw_buf_grow(&page, a->metrics_bytes + a->metrics_bytes / 16))
		tw_buf_clear(&page);
	tw_registry_expose(a->o.registry, &e);
	a->metrics_bytes = page.n;
	reply_page(a, x, type, &page);
	tw_buf_deinit(&page);
}

static void route_health(struct tw_admin_routes *a, struct tw_exchange *x)
{
	(void)a;
	reply_text(x, 200, "ok\n");
}

const char *tw_admin_readiness_name(enum tw_readiness r)
{
	switch (r) {
	case TW_STARTING:
		return "starting";
	case TW_READY:
		return "ready";
	case TW_REFUSING:
		return "refusing";
	case TW_DRAINING:
		break;
	}
	return "draining";
}

static void route_ready(struct tw_admin_routes *a, struct tw_exchange *x)
{
	enum tw_readiness r = a->o.readiness(a->o.ctx);
	char text[16] = {0};

	strcat(strcat(text, tw_admin_readiness_name(r)), "\n");
	reply_text(x, r == TW_READY ? 200 : 503, text);
}

static void route_status(struct tw_admin_routes *a, struct tw_exchange *x)
{
	struct tw_buf page;

	tw_buf_init(&page, PAGE_BYTES_MAX);
	tw_admin_status_page(&a->o, &page);
	reply_page(a, x, "text/html; charset=utf-8", &page);
	tw_buf_deinit(&page);
}

/* ---- routing ---- */

static const struct {
	const char *path;
	void (*answer)(struct tw_admin_routes *a, struct tw_exchange *x);
} routes[] = {
    {"/metrics", route_metrics},
    {"/healthz", route_health},
    {"/readyz", route_ready},
    {"/", route_status},
};

static void handle_early(struct tw_exchange *x, int early)
{
	switch (early) {
	case TW_ECLOSED: /* nobody is there to answer */
		break;
	case TW_ELIMIT:
		reply_text(x, 413, "the body is too large\n");
		break;
	case TW_EUNSUP:
		reply_text(x, 415, "unknown content encoding\n");
		break;
	case TW_EINVAL:
		reply_text(x, 400, "the request cannot be read\n");
		break;
	default:
		reply_text(x, 503, "no memory\n");
		break;
	}
}

void tw_admin_handle(void *ctx, struct tw_exchange *x, int early, const struct tw_error *err)
{
	struct tw_admin_routes *a = ctx;

	(void)err;
	if (early != TW_OK && (early == TW_ECLOSED || !x->is_grpc)) {
		handle_early(x, early);
		return;
	}
	if (x->is_grpc) {
		reply_grpc(x);
		return;
	}
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		if (strcmp(x->path, routes[i].path) != 0)
			continue;
		if (strcmp(x->method, "GET") == 0 || strcmp(x->method, "HEAD") == 0)
			routes[i].answer(a, x);
		else
			reply_text(x, 405, "GET and HEAD only\n");
		return;
	}
	reply_text(x, 404, "not found\n");
}
