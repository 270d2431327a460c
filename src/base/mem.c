#include "tw/base/mem.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef TW_SANITIZED
#include <jemalloc/jemalloc.h>
#endif

#include "tw/base/error.h"

/* The injected failure. It belongs to the process, as the allocator does, so it can't hang from a
 * struct that is itself allocated. `armed` is read on every allocation; the rest only behind it. */
static struct {
	_Atomic bool armed;
	_Atomic bool sticky;
	_Atomic uint64_t made;
	_Atomic uint64_t fail_at;
} injection;

uint64_t tw_mem_fail_at(uint64_t n, bool sticky)
{
	uint64_t made;

	atomic_store(&injection.armed, false);
	made = atomic_exchange(&injection.made, 0);
	atomic_store(&injection.fail_at, n);
	atomic_store(&injection.sticky, sticky);
	atomic_store(&injection.armed, n != 0);
	return made;
}

static __attribute__((noinline)) bool injection_refuses(void)
{
	uint64_t made = atomic_fetch_add(&injection.made, 1) + 1;
	uint64_t at = atomic_load(&injection.fail_at);

	return made == at || (made > at && atomic_load(&injection.sticky));
}

static inline bool refused(void)
{
	return TW_UNLIKELY(atomic_load_explicit(&injection.armed, memory_order_relaxed)) &&
	       injection_refuses();
}

void *tw_alloc(size_t n)
{
	return refused() ? NULL : malloc(n);
}

void *tw_calloc(size_t count, size_t size)
{
	return refused() ? NULL : calloc(count, size);
}

void *tw_realloc(void *p, size_t n)
{
	TW_ASSERT(n > 0);
	return refused() ? NULL : realloc(p, n);
}

void *tw_alloc_aligned(size_t align, size_t n)
{
	void *p;

	if (align < sizeof(void *))
		align = sizeof(void *);
	if (refused() || posix_memalign(&p, align, n))
		return NULL;
	return p;
}

void tw_free(void *p)
{
	free(p);
}

char *tw_strndup(const char *s, size_t n)
{
	char *copy = n < SIZE_MAX ? tw_alloc(n + 1) : NULL;

	if (!copy)
		return NULL;
	if (n)
		memcpy(copy, s, n);
	copy[n] = '\0';
	return copy;
}

#ifdef TW_SANITIZED
bool tw_mem_stats(struct tw_mem_stats *out)
{
	*out = (struct tw_mem_stats){0};
	return false;
}
#else
static bool stat_read(const char *name, uint64_t *out)
{
	size_t v, n = sizeof(v);

	if (mallctl(name, &v, &n, NULL, 0))
		return false;
	*out = v;
	return true;
}

bool tw_mem_stats(struct tw_mem_stats *out)
{
	uint64_t epoch = 1;

	*out = (struct tw_mem_stats){0};
	/* jemalloc's figures are a copy, taken anew when the epoch is written. */
	if (mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch)) == 0 &&
	    stat_read("stats.allocated", &out->allocated) &&
	    stat_read("stats.active", &out->active) &&
	    stat_read("stats.resident", &out->resident) &&
	    stat_read("stats.metadata", &out->metadata) &&
	    stat_read("stats.retained", &out->retained))
		return true;
	*out = (struct tw_mem_stats){0};
	return false;
}
#endif

uint64_t tw_mem_rss(void)
{
	unsigned long long total, resident;
	FILE *f = fopen("/proc/self/statm", "re");
	int n;

	if (!f)
		return 0;
	n = fscanf(f, "%llu %llu", &total, &resident);
	fclose(f);
	return n == 2 ? (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}
