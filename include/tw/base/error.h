/* How a fallible call reports.
 *
 * A function that can fail returns 0 or a negative enum tw_err; where a person will read the cause
 * it also takes a `struct tw_error *` and writes one sentence there, without a trailing newline.
 * What cannot happen is asserted (TW_ASSERT stays on in release), what can happen is returned,
 * what is rare is counted by the caller. */
#ifndef TW_BASE_ERROR_H
#define TW_BASE_ERROR_H

#include <stdint.h>

enum tw_err {
	TW_OK = 0,
	TW_EINVAL = -1,  /* the input is malformed or breaks a rule; never retry */
	TW_ELIMIT = -2,  /* the input is larger than a limit; never retry */
	TW_EFULL = -3,   /* no room now; a later try may succeed */
	TW_ENOMEM = -4,  /* the allocator said no; a later try may succeed */
	TW_EIO = -5,     /* the machine refused: socket, file, resolver */
	TW_EUNSUP = -6,  /* understood, and not supported */
	TW_ECLOSED = -7, /* the peer or the object is gone */
};

struct tw_error {
	int code;        /* enum tw_err */
	uint64_t offset; /* byte in the input where it was noticed, where that has a meaning */
	char text[232];  /* a sentence for a person; always NUL-terminated */
};

/* Fills *e (NULL is allowed) and returns code. printf-like; truncates. [any] */
int tw_error_set(struct tw_error *e, int code, uint64_t offset, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* The name of a code: "invalid", "limit", … [any] */
const char *tw_err_name(int code);

/* Says file, line and expression on stderr, then aborts. [any] */
_Noreturn void tw_assert_failed(const char *file, int line, const char *expr);

#define TW_ASSERT(x)   ((x) ? (void)0 : tw_assert_failed(__FILE__, __LINE__, #x))
#define TW_LIKELY(x)   __builtin_expect(!!(x), 1)
#define TW_UNLIKELY(x) __builtin_expect(!!(x), 0)

#endif
