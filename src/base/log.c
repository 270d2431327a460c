#include "tw/base/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tw/base/error.h"
#include "tw/base/mem.h"
#include "tw/base/ring.h"

#define LINES_MAX_DEFAULT 1024
#define LINE_BYTES                                                                                 \
	2048 /* at most PIPE_BUF: a pipe takes a line whole, or poll says that it can't */
#define POLL_MS  50
#define STOP_MS  1000
#define BURST_NS (9 * TW_NS_PER_S) /* ten lines: one now and nine ahead of their second */

/* One for the process, as stderr is one: a line must get out from wherever it is written, with no
 * engine at hand. The ring outlives the stop, so a straggler's line is lost and never lands in
 * freed memory. */
static struct {
	_Atomic bool running;
	_Atomic bool stopping;
	bool stuck; /* a thread was left behind in a write: no second start */
	_Atomic uint64_t dropped;
	struct tw_ring *ring; /* of char *, each from tw_alloc */
	uint32_t ring_size;
	struct tw_clock clock;
	enum tw_log_level min;
	int fd;
	sem_t wake; /* a post for every line put, and one for the stop */
	sem_t done; /* the thread has left its loop */
	pthread_t thread;
} logger;

static void drop(uint64_t n)
{
	atomic_fetch_add_explicit(&logger.dropped, n, memory_order_relaxed);
}

/* ---- the log thread ---- */

static uint64_t mono_ms(void)
{
	return tw_now(&tw_clock_real) / TW_NS_PER_MS;
}

/* `until_ms` is set when the stop is first seen; a blocked reader gets that long and no longer. */
static bool out_of_time(uint64_t *until_ms)
{
	if (!atomic_load(&logger.stopping))
		return false;
	if (!*until_ms)
		*until_ms = mono_ms() + STOP_MS - 2 * POLL_MS;
	return mono_ms() >= *until_ms;
}

/* Waits by poll, so that stderr's O_NONBLOCK, which other processes share, stays as it is. */
static bool write_all(const char *p, size_t n, uint64_t *until_ms)
{
	while (n) {
		struct pollfd pfd = {.fd = logger.fd, .events = POLLOUT};
		int ready = poll(&pfd, 1, out_of_time(until_ms) ? 0 : POLL_MS);
		ssize_t w;

		if (ready == 0 || (ready < 0 && errno == EINTR)) {
			if (out_of_time(until_ms))
				return false;
			continue;
		}
		w = write(logger.fd, p, n);
		if (w < 0 && (errno == EINTR || errno == EAGAIN)) {
			if (out_of_time(until_ms))
				return false;
			continue;
		}
		if (w < 0)
			return false;
		p += w;
		n -= (size_t)w;
	}
	return true;
}

static size_t line_head(char *buf, size_t cap, enum tw_log_level level);

static void say_dropped(uint64_t *said, uint64_t *until_ms)
{
	uint64_t dropped = tw_log_dropped();
	char line[160];
	size_t n;

	if (dropped == *said)
		return;
	n = line_head(line, sizeof(line), TW_LOG_WARN);
	n += (size_t)snprintf(line + n, sizeof(line) - n, "msg=\"log lines dropped\" lines=%llu\n",
	                      (unsigned long long)(dropped - *said));
	if (write_all(line, n, until_ms))
		*said = dropped;
}

static void *log_main(void *arg)
{
	uint64_t until_ms = 0, said = 0;
	char *line;

	(void)arg;
	for (;;) {
		while (sem_wait(&logger.wake))
			;
		line = tw_ring_take_mpsc(logger.ring);
		if (line) {
			if (!write_all(line, strlen(line), &until_ms))
				drop(1);
			tw_free(line);
			say_dropped(&said, &until_ms);
		} else if (atomic_load(&logger.stopping)) {
			break;
		}
	}
	sem_post(&logger.done);
	return NULL;
}

/* ---- start and stop ---- */

/* With every signal blocked: none of the program's is handled here, and a reader that went away is
 * EPIPE and not the process's end. */
static int thread_start(void)
{
	sigset_t all, before;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&logger.thread, NULL, log_main, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return rc ? TW_EIO : 0;
}

static int ring_prepare(uint32_t size)
{
	if (logger.ring && logger.ring_size == size)
		return 0;
	if (logger.ring)
		tw_ring_destroy(&logger.ring);
	logger.ring = tw_ring_create(size);
	logger.ring_size = size;
	return logger.ring ? 0 : TW_ENOMEM;
}

int tw_log_start_with(const struct tw_log_options *o)
{
	int rc;

	if (atomic_load(&logger.running))
		return TW_EINVAL;
	if (logger.stuck)
		return TW_EIO;
	rc = ring_prepare(o->lines_max ? o->lines_max : LINES_MAX_DEFAULT);
	if (rc)
		return rc;
	logger.fd = o->fd;
	logger.min = o->min;
	logger.clock = o->clock ? *o->clock : tw_clock_real;
	atomic_store(&logger.stopping, false);
	atomic_store(&logger.dropped, 0);
	sem_init(&logger.wake, 0, 0);
	sem_init(&logger.done, 0, 0);
	rc = thread_start();
	atomic_store(&logger.running, rc == 0);
	return rc;
}

int tw_log_start(int fd, enum tw_log_level min)
{
	return tw_log_start_with(&(struct tw_log_options){.fd = fd, .min = min});
}

/* A write that blocks in the kernel all the same (another process filled the pipe between poll and
 * write) leaves the thread behind: it is detached, and the process exits without it. */
void tw_log_stop(void)
{
	struct timespec until;

	if (!atomic_exchange(&logger.running, false))
		return;
	atomic_store(&logger.stopping, true);
	sem_post(&logger.wake);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += STOP_MS / 1000;
	for (;;) {
		if (sem_clockwait(&logger.done, CLOCK_MONOTONIC, &until) == 0) {
			pthread_join(logger.thread, NULL);
			return;
		}
		if (errno != EINTR)
			break;
	}
	logger.stuck = true;
	pthread_detach(logger.thread);
}

uint64_t tw_log_dropped(void)
{
	return atomic_load_explicit(&logger.dropped, memory_order_relaxed);
}

/* ---- the callers' side ---- */

/* A leaky bucket in one number: due_ns is when the lines so far would have been written at one a
 * second. A line may be up to nine seconds ahead of that. */
static bool site_allows(struct tw_log_site *site, uint64_t now_ns)
{
	uint64_t due = atomic_load_explicit(&site->due_ns, memory_order_relaxed);
	uint64_t from;

	do {
		from = due > now_ns ? due : now_ns;
		if (from - now_ns > BURST_NS) {
			atomic_fetch_add_explicit(&site->left_out, 1, memory_order_relaxed);
			return false;
		}
	} while (!atomic_compare_exchange_weak_explicit(
	    &site->due_ns, &due, from + TW_NS_PER_S, memory_order_relaxed, memory_order_relaxed));
	return true;
}

static size_t line_head(char *buf, size_t cap, enum tw_log_level level)
{
	static const char *const names[] = {"debug", "info", "warn", "error"};
	uint64_t wall_us = tw_wall(&logger.clock) / 1000;
	time_t s = (time_t)(wall_us / 1000000);
	struct tm tm;
	size_t n;

	gmtime_r(&s, &tm);
	n = strftime(buf, cap, "ts=%Y-%m-%dT%H:%M:%S", &tm);
	n += (size_t)snprintf(buf + n, cap - n, ".%06uZ level=%s ", (unsigned)(wall_us % 1000000),
	                      names[level]);
	return n;
}

/* Text that a caller forgot to quote still can't begin a line of its own. */
static void no_controls(char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if ((unsigned char)p[i] < ' ' || p[i] == 0x7F)
			p[i] = '?';
	}
}

/* What fits of fmt, at buf + n; returns the new length. */
static size_t append(char *buf, size_t cap, size_t n, const char *fmt, va_list ap)
{
	int more = vsnprintf(buf + n, cap - n, fmt, ap);

	if (more < 0)
		return n;
	return (size_t)more < cap - n ? n + (size_t)more : cap - 1;
}

static void put_line(const char *text, size_t n)
{
	char *line = tw_strndup(text, n);

	if (!line || !tw_ring_put_mpsc(logger.ring, line)) {
		tw_free(line);
		drop(1);
		return;
	}
	sem_post(&logger.wake);
}

void tw_log_at(struct tw_log_site *site, enum tw_log_level level, const char *msg, const char *kv,
               ...)
{
	char line[LINE_BYTES], quoted[256];
	size_t n, text, cap = sizeof(line) - 32; /* the tail: left_out and the newline */
	uint32_t left_out;
	va_list ap;

	if (!atomic_load(&logger.running) || level < logger.min)
		return;
	if (!site_allows(site, tw_now(&logger.clock)))
		return;
	left_out = atomic_exchange_explicit(&site->left_out, 0, memory_order_relaxed);
	n = line_head(line, cap, level);
	text = n;
	tw_log_quote(quoted, sizeof(quoted), msg, (unsigned)strlen(msg));
	n += (size_t)snprintf(line + n, cap - n, "msg=%s%s", quoted, *kv ? " " : "");
	va_start(ap, kv);
	n = append(line, cap, n, kv, ap);
	va_end(ap);
	no_controls(line + text, n - text);
	if (left_out)
		n += (size_t)snprintf(line + n, sizeof(line) - n, " left_out=%u", left_out);
	line[n++] = '\n';
	put_line(line, n);
}
