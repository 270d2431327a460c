/* The admin listener: /metrics, /healthz, /readyz and the status page, on a thread and loop of its
 * own, so that a slow scraper never holds up a span. */
#ifndef TW_ADMIN_H
#define TW_ADMIN_H

#include "tw/base/buf.h"
#include "tw/base/error.h"
#include "tw/base/clock.h"
#include "tw/metrics.h"

enum tw_readiness { TW_STARTING, TW_READY, TW_REFUSING, TW_DRAINING };

struct tw_admin_opts {
	const char *listen;           /* "127.0.0.1:9464" */
	struct tw_registry *registry; /* asked on the admin thread only */
	const struct tw_clock *clock;
	/* For /readyz (200 only for TW_READY, else 503 with the word) and /healthz (200 while the
	 * process lives). [any] */
	enum tw_readiness (*readiness)(void *ctx);
	/* The status page's body as plain text lines "key: value"; shown escaped in HTML at /. May
	 * be NULL. [admin thread] */
	void (*status)(void *ctx, struct tw_buf *out);
	void *ctx;
};
struct tw_admin;
/* Binds; TW_EIO with text. [boot] */
int tw_admin_create(const struct tw_admin_opts *o, struct tw_admin **out, struct tw_error *err);
int tw_admin_start(struct tw_admin *a); /* starts the thread [boot] */
uint16_t tw_admin_port(const struct tw_admin *a);
void tw_admin_stop(struct tw_admin *a); /* ends the thread; waits for it */
void tw_admin_destroy(struct tw_admin **a);

#endif
