/* logfmt lines to stderr, from a thread of their own.
 *
 * A line is formatted into a bounded ring and written by the log thread; a full ring or a blocked
 * stderr drops the line and counts it: no caller ever waits. Lines of one call site are rate
 * limited (10 at once, then 1 a second; how many were left out is said with the next one). Values
 * are quoted and escaped, so nothing from the network can forge a line. */
#ifndef TW_BASE_LOG_H
#define TW_BASE_LOG_H

#include <stdint.h>
#include <stdbool.h>

#include "tw/base/clock.h"

enum tw_log_level { TW_LOG_DEBUG, TW_LOG_INFO, TW_LOG_WARN, TW_LOG_ERROR };

/* Before the start and after the stop, lines are ignored. TW_EINVAL when it runs already,
 * TW_EIO when there is no thread to be had. */
int tw_log_start(int fd, enum tw_log_level min); /* [boot] */
void tw_log_stop(void);                          /* writes what is queued, within 1 s [boot] */
uint64_t tw_log_dropped(void); /* lines lost to a full ring since the start [any] */

struct tw_log_options {
	int fd; /* stays the caller's */
	enum tw_log_level min;
	uint32_t lines_max;           /* places in the ring: a power of two ≥ 4; 0: 1024 */
	const struct tw_clock *clock; /* NULL: the real one */
};
int tw_log_start_with(const struct tw_log_options *o); /* [boot] */

struct tw_log_site {
	_Atomic uint64_t due_ns; /* when all lines so far would be out at one a second */
	_Atomic uint32_t left_out;
};
/* kv: printf-like, already in logfmt: "addr=%s spans=%u". msg: a constant sentence. [any] */
void tw_log_at(struct tw_log_site *site, enum tw_log_level level, const char *msg, const char *kv,
               ...) __attribute__((format(printf, 4, 5)));
/* Writes s as a logfmt value (quoted and escaped where needed) into buf, NUL-terminated; returns
 * buf. A value that does not fit is cut before a character and ends in "..."; under 8 bytes of room
 * it is empty. */
const char *tw_log_quote(char *buf, unsigned cap, const void *s, unsigned n);

#define TW_LOG(level, msg, ...)                                                                    \
	do {                                                                                       \
		static struct tw_log_site tw_site;                                                 \
		tw_log_at(&tw_site, level, msg, __VA_ARGS__);                                      \
	} while (0)

#endif
