#include "turns.h"

const uint64_t tw_turn_bound_ns[TW_TURN_BOUNDS] = {
    TW_NS_PER_MS / 2,  TW_NS_PER_MS,      TW_NS_PER_MS * 2,   TW_NS_PER_MS * 5, TW_NS_PER_MS * 10,
    TW_NS_PER_MS * 20, TW_NS_PER_MS * 50, TW_NS_PER_MS * 100, TW_NS_PER_S};
const char *const tw_turn_bound_names[TW_TURN_BOUNDS + 1] = {
    "0.0005", "0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1", "1", "+Inf"};

static void longest(tw_counter *c, uint64_t ns)
{
	if (ns > tw_counter_get(c))
		tw_counter_set(c, ns);
}

uint64_t tw_turns_so_far(const struct tw_turns *t, uint64_t wall_ns, uint64_t idle_ns)
{
	uint64_t slept = idle_ns - t->idle_ns, wall = wall_ns - t->wall_ns;

	/* Two clock reads lie between: a sleep may seem a little longer than the turn. */
	return wall > slept ? wall - slept : 0;
}

void tw_turns_end(struct tw_turns *t, uint64_t wall_ns, uint64_t idle_ns, uint64_t cpu_ns)
{
	uint64_t wall = tw_turns_so_far(t, wall_ns, idle_ns), cpu = cpu_ns - t->cpu_ns;
	bool first = t->wall_ns == 0;
	uint32_t i = 0;

	t->wall_ns = wall_ns;
	t->idle_ns = idle_ns;
	t->cpu_ns = cpu_ns;
	if (first)
		return;
	cpu = cpu < wall ? cpu : wall;
	while (i < TW_TURN_BOUNDS && wall > tw_turn_bound_ns[i])
		i++;
	tw_counter_add(&t->bucket[i], 1);
	tw_counter_add(&t->wall_sum_ns, wall);
	tw_counter_add(&t->cpu_sum_ns, cpu);
	longest(&t->wall_longest_ns, wall);
	longest(&t->cpu_longest_ns, cpu);
}

uint64_t tw_turns_longest(tw_counter *longest_ns, bool peek)
{
	return peek ? tw_counter_get(longest_ns)
	            : atomic_exchange_explicit(longest_ns, 0, memory_order_relaxed);
}
