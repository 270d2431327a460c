#ifndef TW_ADMIN_ROUTES_H
#define TW_ADMIN_ROUTES_H

#include "tw/admin.h"
#include "tw/net.h"

/* Pages over PAGE_SMALL are answered with `close`, so each one that is still being read holds a
 * connection of its own; those together take at most PAGES_BYTES_MAX (or are one). */
#define PAGE_SMALL      ((size_t)64 << 10)
#define PAGES_BYTES_MAX ((size_t)64 << 20)
#define PAGE_BYTES_MAX  ((size_t)1 << 30)

struct tw_admin_routes {
	struct tw_admin_opts o;
	uint32_t large;       /* no more large pages than these are being read */
	size_t large_bytes;   /* the largest of them */
	size_t metrics_bytes; /* of the last page of metrics */
};

/* A tw_handler; ctx: struct tw_admin_routes. [admin thread] */
void tw_admin_handle(void *ctx, struct tw_exchange *x, int early, const struct tw_error *err);

/* The status page as HTML. */
void tw_admin_status_page(const struct tw_admin_opts *o, struct tw_buf *out);
const char *tw_admin_readiness_name(enum tw_readiness r);

#endif
