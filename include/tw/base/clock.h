/* Time is passed in. Nothing outside of base asks the kernel for it.
 *
 * `mono_ns` never goes back and decides everything (deadlines, ages, budgets); `wall_ns` is only
 * printed. A scenario passes a virtual clock and moves it by hand. */
#ifndef TW_BASE_CLOCK_H
#define TW_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#define TW_NS_PER_MS UINT64_C(1000000)
#define TW_NS_PER_S  UINT64_C(1000000000)
#define TW_NEVER     UINT64_MAX /* a deadline that does not come */

struct tw_clock {
	uint64_t (*mono_ns)(void *ctx);
	uint64_t (*wall_ns)(void *ctx);
	void *ctx;
};

/* CLOCK_MONOTONIC and CLOCK_REALTIME. */
extern const struct tw_clock tw_clock_real;

/* A clock that stands still until it is moved. [one thread] */
struct tw_clock_virtual {
	uint64_t mono_ns;
	uint64_t wall_ns;
};
struct tw_clock tw_clock_virtual(struct tw_clock_virtual *v);
void tw_clock_advance(struct tw_clock_virtual *v, uint64_t ns); /* moves both */

uint64_t tw_cpu_ns(void); /* CPU time of the calling thread, for statistics of itself */

static inline uint64_t tw_now(const struct tw_clock *c)
{
	return c->mono_ns(c->ctx);
}
static inline uint64_t tw_wall(const struct tw_clock *c)
{
	return c->wall_ns(c->ctx);
}

/* "1500ms", "2s", "1m30s", "100us", "10ns", "2h", "1d", "1w" → ns; any sum of them, each a decimal
 * number with a unit. TW_EINVAL on anything else (also a bare number other than 0), TW_ELIMIT past
 * 2^63 ns. */
int tw_duration_parse(const char *s, size_t n, uint64_t *ns);
/* "64MiB", "10 KiB", "5GiB", "1MB", "123" → bytes; KiB MiB GiB TiB and kB MB GB TB. As above. */
int tw_bytes_parse(const char *s, size_t n, uint64_t *bytes);

#endif
