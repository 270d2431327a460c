/* How long things take, on /metrics: turns of the workers' loops, and the way of a kept trace from
 * its decision to the backend. Read from counters of one writer each, not from the books: a
 * histogram needs not to be of the same moment as they are. */
#include <stdio.h>

#include "engine_private.h"

struct histogram { /* cumulative buckets, le by name */
	const char *family;
	const char *const *bounds;
	uint32_t count; /* without +Inf */
	struct tw_label label[2];
	uint32_t labels; /* 0 or 1 of its own */
};

static void put_histogram(struct tw_expo *x, struct histogram *h, const uint64_t *bucket,
                          uint64_t sum_ns)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i <= h->count; i++) {
		n += bucket[i];
		h->label[h->labels] = (struct tw_label){"le", tw_slice_str(h->bounds[i])};
		tw_expo_u64(x, h->family, "_bucket", h->label, h->labels + 1, n);
	}
	tw_expo_f64(x, h->family, "_sum", h->label, h->labels, (double)sum_ns / TW_NS_PER_S);
	tw_expo_u64(x, h->family, "_count", h->label, h->labels, n);
}

static void turns(struct tw_engine *e, struct tw_expo *x)
{
	struct histogram h = {"traceweir_worker_turn_seconds", tw_turn_bound_names, TW_TURN_BOUNDS,
	                      .labels = 0};
	uint64_t bucket[TW_TURN_BOUNDS + 1] = {0}, sum_ns = 0;

	for (uint32_t w = 0; w < e->shared.workers; w++) {
		const struct tw_turns *t = &e->workers[w]->turns;

		for (uint32_t i = 0; i <= TW_TURN_BOUNDS; i++)
			bucket[i] += tw_counter_get(&t->bucket[i]);
		sum_ns += tw_counter_get(&t->wall_sum_ns);
	}
	tw_expo_family(x, h.family, TW_TYPE_HISTOGRAM,
	               "Turns of the workers' loops, sleep left out: what else a worker has to do "
	               "waits for so long.");
	put_histogram(x, &h, bucket, sum_ns);
}

static void longest(struct tw_engine *e, struct tw_expo *x)
{
	static const char *const name = "traceweir_worker_turn_longest_seconds";

	tw_expo_family(x, name, TW_TYPE_GAUGE,
	               "Longest turn since the scrape before; clock=cpu without the time that "
	               "the worker was not let on its core.");
	for (uint32_t w = 0; w < e->shared.workers; w++) {
		struct tw_turns *t = &e->workers[w]->turns;
		tw_counter *of[2] = {&t->wall_longest_ns, &t->cpu_longest_ns};
		char number[16];

		snprintf(number, sizeof(number), "%u", w);
		for (int i = 0; i < 2; i++) {
			struct tw_label l[2] = {{"worker", tw_slice_str(number)},
			                        {"clock", tw_slice_str(i == 0 ? "wall" : "cpu")}};

			tw_expo_f64(x, name, "", l, 2,
			            (double)tw_turns_longest(of[i], x->peek) / TW_NS_PER_S);
		}
	}
}

static void delays(struct tw_engine *e, struct tw_expo *x)
{
	struct histogram h = {"traceweir_delivery_seconds", tw_delay_bound_names, TW_DELAY_BOUNDS,
	                      .labels = 1};

	tw_expo_family(x, h.family, TW_TYPE_HISTOGRAM,
	               "Kept traces, from their decision to the destination's acknowledgement.");
	for (uint32_t d = 0; d < e->config->forward_count; d++) {
		uint64_t bucket[TW_DELAY_BOUNDS + 1] = {0}, sum_ns = 0;

		for (uint32_t w = 0; w < e->shared.workers; w++) {
			const struct tw_exporter_stats *s =
			    tw_exporter_stats(e->workers[w]->core->dest[d].exporter);

			for (uint32_t i = 0; i <= TW_DELAY_BOUNDS; i++)
				bucket[i] += tw_counter_get(&s->delay[i]);
			sum_ns += tw_counter_get(&s->delay_ns_sum);
		}
		h.label[0] =
		    (struct tw_label){"destination", tw_slice_str(e->config->forward[d].name)};
		put_histogram(x, &h, bucket, sum_ns);
	}
}

void tw_engine_collect_timings(struct tw_engine *e, struct tw_expo *x)
{
	turns(e, x);
	longest(e, x);
	delays(e, x);
}
