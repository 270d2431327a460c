#include "delay.h"

const uint64_t tw_delay_bound_ns[TW_DELAY_BOUNDS] = {
    TW_NS_PER_MS * 10,  TW_NS_PER_MS * 25,  TW_NS_PER_MS * 50,  TW_NS_PER_MS * 75,
    TW_NS_PER_MS * 100, TW_NS_PER_MS * 150, TW_NS_PER_MS * 250, TW_NS_PER_MS * 500,
    TW_NS_PER_S,        TW_NS_PER_S * 5,    TW_NS_PER_S * 30,   TW_NS_PER_S * 300};
const char *const tw_delay_bound_names[TW_DELAY_BOUNDS + 1] = {
    "0.01", "0.025", "0.05", "0.075", "0.1", "0.15", "0.25", "0.5", "1", "5", "30", "300", "+Inf"};

void tw_delay_note(struct tw_delay *d, uint64_t ns, uint64_t step_ns)
{
	uint64_t last = d->count != 0 ? d->mark[d->count - 1].at_ns : 0;

	if (d->count == 0 || (d->count < TW_DELAY_MARKS && (ns > last + step_ns || ns < last))) {
		d->mark[d->count].at_ns = ns;
		d->mark[d->count].traces = 0;
		d->count++;
	} else if (ns < last) {
		d->mark[d->count - 1].at_ns = ns;
	}
	d->mark[d->count - 1].traces++;
}

void tw_delay_settle(const struct tw_delay *d, struct tw_exporter_stats *stats, uint64_t now_ns)
{
	for (uint32_t m = 0; m < d->count; m++) {
		uint64_t at = d->mark[m].at_ns, ns = now_ns > at ? now_ns - at : 0;
		uint32_t i = 0;

		while (i < TW_DELAY_BOUNDS && ns > tw_delay_bound_ns[i])
			i++;
		tw_counter_add(&stats->delay[i], d->mark[m].traces);
		tw_counter_add(&stats->delay_ns_sum, ns * d->mark[m].traces);
	}
}
