#include "tw/base/clock.h"

#include <time.h>

static uint64_t clock_read_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * TW_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static uint64_t real_mono_ns(void *ctx)
{
	(void)ctx;
	return clock_read_ns(CLOCK_MONOTONIC);
}

static uint64_t real_wall_ns(void *ctx)
{
	(void)ctx;
	return clock_read_ns(CLOCK_REALTIME);
}

uint64_t tw_cpu_ns(void)
{
	return clock_read_ns(CLOCK_THREAD_CPUTIME_ID);
}

const struct tw_clock tw_clock_real = {real_mono_ns, real_wall_ns, NULL};

static uint64_t virtual_mono_ns(void *ctx)
{
	return ((struct tw_clock_virtual *)ctx)->mono_ns;
}

static uint64_t virtual_wall_ns(void *ctx)
{
	return ((struct tw_clock_virtual *)ctx)->wall_ns;
}

struct tw_clock tw_clock_virtual(struct tw_clock_virtual *v)
{
	return (struct tw_clock){virtual_mono_ns, virtual_wall_ns, v};
}

void tw_clock_advance(struct tw_clock_virtual *v, uint64_t ns)
{
	v->mono_ns += ns;
	v->wall_ns += ns;
}
