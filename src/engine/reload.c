#include "engine_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tw/base/log.h"

#define RULE_FILE_BYTES_MAX (1u << 20)

const char *tw_engine_rules_name(const struct tw_engine *e)
{
	return e->config->rules_path != NULL ? e->config->rules_path
	                                     : "rules/default.yaml (embedded)";
}

int tw_engine_rules_read(const struct tw_engine *e, struct tw_buf *out, struct tw_buf *report)
{
	const char *path = e->config->rules_path;
	ssize_t n = 1;
	int fd;

	if (path == NULL) {
		tw_buf_put(out, tw_rules_default, tw_rules_default_n);
		return out->failed ? TW_ENOMEM : 0;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		tw_buf_printf(report, "%s: error: %s\n", path, strerror(errno));
		return TW_EINVAL;
	}
	/* One byte past the limit, so that the compiler says that it is too large. */
	while (n > 0 && out->n <= RULE_FILE_BYTES_MAX) {
		if (!tw_buf_grow(out, 65536))
			break;
		n = read(fd, out->p + out->n, 65536);
		if (n < 0 && errno == EINTR) {
			n = 1;
			continue;
		}
		if (n > 0)
			out->n += (size_t)n;
	}
	if (n < 0)
		tw_buf_printf(report, "%s: error: %s\n", path, strerror(errno));
	close(fd);
	if (out->failed)
		return TW_ENOMEM;
	return n < 0 ? TW_EINVAL : 0;
}

/* Whether nothing can meet generation `number` any more: every worker has moved at least two on,
 * and no ticket carries it. */
static bool retired(const struct tw_engine *e, uint32_t number)
{
	for (uint32_t i = 0; i < e->shared.workers; i++) {
		struct tw_core *c = e->workers[i]->core;

		if (atomic_load_explicit(&c->adopted, memory_order_acquire) < number + 2 ||
		    atomic_load_explicit(&c->tickets_of[number & 3], memory_order_acquire) != 0)
			return false;
	}
	return true;
}

/* Waits until the generation before the previous one is gone, and destroys it. Only a worker that
 * does not turn its loop can make this long; then the reload fails and can be tried again. */
static bool retire_old(struct tw_engine *e, uint32_t newest)
{
	struct timespec pause = {.tv_nsec = 1000000};
	struct tw_generation *g;

	if (newest < 3)
		return true;
	g = atomic_load(&e->shared.live[(newest - 2) & 3]);
	if (g == NULL)
		return true;
	for (int i = 0; i < 5000; i++) {
		if (retired(e, g->number)) {
			atomic_store(&e->shared.live[g->number & 3], NULL);
			tw_generation_destroy(&g);
			return true;
		}
		for (uint32_t k = 0; k < e->shared.workers; k++)
			tw_worker_wake(e->workers[k]);
		nanosleep(&pause, NULL);
	}
	return false;
}

static int reload(struct tw_engine *e, struct tw_buf *report)
{
	struct tw_generation *old = atomic_load(&e->shared.generation), *g;
	struct tw_buf rules;
	int rc;

	tw_buf_init(&rules, 0);
	rc = tw_engine_rules_read(e, &rules, report);
	if (rc == 0)
		rc = tw_generation_create(tw_buf_slice(&rules), tw_engine_rules_name(e),
		                          e->shared.red, e->shared.workers, &e->book, old,
		                          tw_now(e->clock), &g, report);
	tw_buf_deinit(&rules);
	if (rc != 0)
		return rc;
	if (!retire_old(e, old->number)) {
		tw_generation_destroy(&g);
		tw_buf_puts(report,
		            "error: a worker has not taken the last reload yet; try again\n");
		return TW_EFULL;
	}
	atomic_store_explicit(&e->shared.live[g->number & 3], g, memory_order_release);
	atomic_store_explicit(&e->shared.generation, g, memory_order_release);
	atomic_store(&e->generation, g->number);
	for (uint32_t i = 0; i < e->shared.workers; i++)
		tw_worker_wake(e->workers[i]);
	return 0;
}

int tw_engine_reload(struct tw_engine *e, struct tw_buf *report)
{
	int rc = reload(e, report);

	atomic_fetch_add(rc == 0 ? &e->reloads_ok : &e->reloads_failed, 1);
	return rc;
}
