/* Allocation: jemalloc in release, the sanitizer's allocator under sanitizers.
 *
 * Every allocation of the program goes through here, so that a test can make the n-th one fail
 * (tw_mem_fail_at). NULL is an answer that every caller handles: it refuses, it never aborts.
 * Thread-safe. */
#ifndef TW_BASE_MEM_H
#define TW_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

void *tw_alloc(size_t n);                       /* uninitialised; NULL when refused; n > 0 */
void *tw_calloc(size_t count, size_t size);     /* zeroed; NULL when refused or on overflow */
void *tw_realloc(void *p, size_t n);            /* NULL leaves p as it was; n > 0 */
void *tw_alloc_aligned(size_t align, size_t n); /* align: a power of two; free with tw_free */
void tw_free(void *p);                          /* NULL is allowed */
char *tw_strndup(const char *s, size_t n); /* NUL-terminated copy of n bytes; NULL when refused */

/* From now on the n-th allocation of the process (1 = the next one) fails: once, or it and all that
 * follow when sticky. 0 switches the injection off. Returns how many were asked for since the last
 * call, counted only while the injection is on: UINT64_MAX counts without failing any. For tests;
 * costs one predictable branch otherwise. [boot] */
uint64_t tw_mem_fail_at(uint64_t n, bool sticky);

struct tw_mem_stats {
	uint64_t allocated; /* bytes in live allocations */
	uint64_t active;    /* bytes in pages that hold any */
	uint64_t resident;  /* bytes mapped and backed, as the allocator knows it */
	uint64_t metadata;  /* bytes of the allocator's own */
	uint64_t retained;  /* address space kept for reuse */
};
/* From jemalloc's mallctl; false, and zeros, where jemalloc is not linked (sanitizers). [any] */
bool tw_mem_stats(struct tw_mem_stats *out);

/* Resident set of the process in bytes, from /proc/self/statm; 0 when unreadable. [any] */
uint64_t tw_mem_rss(void);

/* The memory that this process may use, bytes: the smallest of the cgroup's limits (v2 and v1) and
 * the machine's. [boot] */
uint64_t tw_mem_limit(void);
/* The same, with /proc and /sys under `root`; UINT64_MAX when nothing there tells. [boot] */
uint64_t tw_mem_limit_under(const char *root);

#endif
