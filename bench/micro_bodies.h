/* The generator's requests as single pieces of memory, for the benchmarks of one stage. */
#ifndef TW_BENCH_MICRO_BODIES_H
#define TW_BENCH_MICRO_BODIES_H

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "body.h"
#include "tw/base/buf.h"

#define MICRO_BODIES 16u /* of 1,000 spans; larger together than the second-level cache */

struct micro_bodies {
	struct tw_workload workload;
	struct tw_buf body[MICRO_BODIES];
	size_t bytes, spans; /* of all */
};

/* Requests as they come once traces are under way: every group in each. */
static inline bool micro_bodies_init(struct micro_bodies *m, const struct tw_load_form *form)
{
	struct tw_load_names names;
	struct tw_load_body b;
	struct iovec v[TW_LOAD_PARTS_MAX];

	memset(m, 0, sizeof(*m));
	tw_workload_defaults(&m->workload);
	if (tw_workload_check(&m->workload) != NULL || !tw_load_names_init(&names, &m->workload) ||
	    !tw_load_body_init(&b, &m->workload, form))
		return false;
	for (uint32_t i = 0; i < MICRO_BODIES; i++) {
		tw_load_body_begin(&b);
		for (uint32_t g = 0; g < m->workload.visits; g++)
			tw_load_body_add(&b, &m->workload, &names, i * m->workload.visits + g, g,
			                 UINT64_C(1700000000000000000) + i * 10000000u);
		tw_load_body_end(&b);
		int n = tw_load_body_gather(&b, 0, b.bytes, v, TW_LOAD_PARTS_MAX);

		for (int k = 0; k < n; k++)
			tw_buf_put(&m->body[i], v[k].iov_base, v[k].iov_len);
		m->bytes += m->body[i].n;
		m->spans += b.spans;
	}
	tw_load_body_deinit(&b);
	tw_load_names_deinit(&names);
	return !m->body[MICRO_BODIES - 1].failed;
}

static inline void micro_bodies_deinit(struct micro_bodies *m)
{
	for (uint32_t i = 0; i < MICRO_BODIES; i++)
		tw_buf_deinit(&m->body[i]);
}

static inline double micro_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static inline int micro_compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

#endif
