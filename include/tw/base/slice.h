/* Borrowed bytes: a pointer and a length. Never owns, never NUL-terminated.
 * An empty slice may have a NULL pointer; compare lengths before pointers. */
#ifndef TW_BASE_SLICE_H
#define TW_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct tw_slice {
	const uint8_t *p;
	size_t n;
};

static inline struct tw_slice tw_slice(const void *p, size_t n)
{
	return (struct tw_slice){(const uint8_t *)p, n};
}

/* A slice over a C string, without its NUL. */
static inline struct tw_slice tw_slice_str(const char *s)
{
	return (struct tw_slice){(const uint8_t *)s, strlen(s)};
}

static inline bool tw_slice_eq(struct tw_slice a, struct tw_slice b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

#endif
