#include "cli.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "tw/base/log.h"
#include "tw/engine.h"

static void wanted(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
}

void tw_cli_block_signals(void)
{
	sigset_t set;

	/* Blocked before the first thread is born, so that only sigtimedwait below sees them. */
	wanted(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error of write(2), not our end */
}

/* As many descriptors as we may have: every connection takes one. */
static void raise_nofile(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

/* ---- reload ---- */

struct stamp { /* of the rule file: what changes when it is edited, replaced, or its link is swapped
	        */
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtime;
	bool there;
};

static struct stamp stamp_of(const char *path)
{
	struct stat s;
	struct stamp t = {.there = false};

	if (path == NULL || stat(path, &s) != 0)
		return t;
	return (struct stamp){s.st_dev, s.st_ino, s.st_size, s.st_mtim, true};
}

static bool same(const struct stamp *a, const struct stamp *b)
{
	return a->there == b->there && a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
	       a->mtime.tv_sec == b->mtime.tv_sec && a->mtime.tv_nsec == b->mtime.tv_nsec;
}

static void reload(struct tw_engine *e, const char *why)
{
	struct tw_buf report;
	int rc;

	tw_buf_init(&report, 0);
	rc = tw_engine_reload(e, &report);
	if (rc == 0) {
		TW_LOG(TW_LOG_INFO, "rules reloaded", "why=%s", why);
	} else {
		char text[1024];

		TW_LOG(TW_LOG_ERROR, "the rules were not reloaded; the old ones stay",
		       "why=%s report=%s", why,
		       tw_log_quote(text, sizeof(text), report.p, (unsigned)report.n));
	}
	tw_buf_deinit(&report);
}

/* ---- the end ---- */

static void *second_signal(void *arg)
{
	sigset_t set;
	int sig;

	wanted(&set);
	sigdelset(&set, SIGHUP);
	if (sigwait(&set, &sig) == 0) {
		TW_LOG(TW_LOG_WARN, "a second signal: stopping now", "signal=%d", sig);
		tw_engine_abort_drain(arg);
	}
	return NULL;
}

static int drain(struct tw_engine *e)
{
	pthread_t watcher;
	bool watching = pthread_create(&watcher, NULL, second_signal, e) == 0;
	uint64_t lost = tw_engine_drain(e);

	if (watching) {
		pthread_cancel(watcher);
		pthread_join(watcher, NULL);
	}
	if (lost != 0)
		TW_LOG(TW_LOG_ERROR, "stopped with spans not delivered",
		       "lost=%llu reason=shutdown", (unsigned long long)lost);
	else
		TW_LOG(TW_LOG_INFO, "stopped; everything was delivered", "lost=%u", 0u);
	return lost != 0 ? TW_EXIT_UNDELIVERED : TW_EXIT_DONE;
}

int tw_cli_serve(struct tw_engine *e, const struct tw_config *c)
{
	struct timespec second = {.tv_sec = 1};
	struct stamp seen = stamp_of(c->rules_path), now;
	sigset_t set;

	wanted(&set);
	for (;;) {
		int sig = sigtimedwait(&set, NULL, &second);

		if (sig == SIGTERM || sig == SIGINT) {
			TW_LOG(TW_LOG_INFO, "draining", "signal=%d most_ms=%llu", sig,
			       (unsigned long long)(c->drain.most_ns / TW_NS_PER_MS));
			return drain(e);
		}
		now = stamp_of(c->rules_path);
		if (sig == SIGHUP) {
			tw_engine_reopen(e);
			reload(e, "SIGHUP");
			seen = now;
		} else if (now.there && !same(&seen, &now)) {
			reload(e, "changed");
			seen = now;
		}
	}
}

static enum tw_log_level level_of(const struct tw_config *c)
{
	static const char *const words[] = {"debug", "info", "warn", "error"};

	for (int i = 0; i < 4; i++)
		if (strcmp(c->log_level, words[i]) == 0)
			return (enum tw_log_level)i;
	return TW_LOG_INFO;
}

static void say_started(const struct tw_engine *e, const struct tw_config *c)
{
	char rules[300], listen[300];
	const char *path = c->rules_path != NULL ? c->rules_path : "embedded default";
	const char *admin = c->admin.listen != NULL ? c->admin.listen : "off";

	TW_LOG(TW_LOG_INFO, "traceweir is running",
	       "version=%s workers=%u otlp_grpc_port=%u otlp_http_port=%u admin=%s rules=%s "
	       "memory_max=%llu buffer_bytes_max=%llu",
	       TW_VERSION, c->workers, tw_engine_port(e, 0), tw_engine_port(e, 1),
	       tw_log_quote(listen, sizeof(listen), admin, (unsigned)strlen(admin)),
	       tw_log_quote(rules, sizeof(rules), path, (unsigned)strlen(path)),
	       (unsigned long long)c->memory_max, (unsigned long long)c->buffer.bytes_max);
}

int tw_cli_run(const struct tw_cli_args *a)
{
	struct tw_engine *e = NULL;
	struct tw_buf report;
	struct tw_config *c;
	int code, rc;

	tw_cli_block_signals();
	raise_nofile();
	c = tw_cli_config(a, &code);
	if (c == NULL)
		return code;
	if (tw_log_start(2, level_of(c)) != 0) {
		fprintf(stderr, "traceweir: error: no log thread could be started\n");
		tw_config_destroy(&c);
		return TW_EXIT_MACHINE;
	}
	tw_buf_init(&report, 0);
	rc = tw_engine_create(c, &tw_clock_real, &e, &report);
	tw_cli_print(&report); /* warnings, too */
	tw_buf_deinit(&report);
	if (rc == 0 && (rc = tw_engine_start(e)) != 0)
		fprintf(stderr, "traceweir: error: threads could not be started\n");
	if (rc != 0) {
		code = tw_cli_exit_code(rc);
		if (e != NULL)
			tw_engine_destroy(&e);
		else
			tw_config_destroy(&c);
	} else {
		say_started(e, c);
		code = tw_cli_serve(e, c);
		tw_engine_destroy(&e);
	}
	tw_log_stop();
	return code;
}
