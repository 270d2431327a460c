/* Random operations on a shard, checked call by call against the harness's model.
 *
 * model_test [SEEDS [FIRST [TEST]]]: each test with so many consecutive seeds. A failure prints its
 * seed. */
#include "harness.h"

#include <stdlib.h>

#define WINDOW 60u
#define SEEDS  10u

static uint64_t seeds = SEEDS, first_seed = 1;
static uint64_t seed_at_hand; /* 0: none */

struct plan {
	uint64_t seed;
	uint64_t bytes_max;
	uint32_t steps;
	uint32_t large; /* one span in so many is large */
	uint32_t giant_head;
	uint32_t release; /* one step in so many releases */
	bool reload;
	bool tight; /* early decisions and compactions must be seen */
	uint32_t spans_max;
};

static bool upgrade(struct harness *h, const struct tw_span *s)
{
	(void)h;
	return s->series % 5 == 0;
}

static struct h_span any_span(struct harness *h, const struct plan *p, uint32_t base)
{
	uint32_t back = h_below(h, 20) == 0 ? h_below(h, 400) : 0; /* perhaps a late one */
	uint32_t trace = base + h_below(h, WINDOW);
	struct h_span sp;

	trace = trace > back ? trace - back : trace;
	sp = h_span(h, trace);
	sp.bytes_n = 80 + h_below(h, 500);
	if (p->large && h_below(h, p->large) == 0)
		sp.bytes_n = 80 + h_below(h, 1 << (10 + h_below(h, 11)));
	sp.scope = h_below(h, H_SCOPES - 4);
	if (p->giant_head && h_below(h, p->giant_head) == 0)
		sp.scope = H_SCOPES - 1 - h_below(h, 4);
	sp.start_ns = h_random(h) % 1000000000000;
	sp.duration_ns = h_random(h) % 1000000;
	sp.root = h_below(h, 6) == 0;
	sp.error = h_below(h, 10) == 0;
	sp.rv = h_below(h, 10) == 0;
	return sp;
}

static void step(struct harness *h, const struct plan *p, uint32_t i, uint32_t *generation)
{
	uint32_t base = i / 8, n = 1 + h_below(h, 12);

	for (uint32_t k = 0; k < n; k++) {
		struct h_span sp = any_span(h, p, base);
		uint32_t g = *generation - (*generation > 1 && h_below(h, 3) == 0);

		h_add(h, &sp, 1, g);
	}
	h_advance(h, h_below(h, 8) == 0 ? h_below(h, 2000) : h_below(h, 40));
	if (h_below(h, 3) == 0)
		(void)h_tick(h);
	if (h_below(h, 50) == 0)
		h_settle(h);
	if (p->reload && h_below(h, 150) == 0) {
		++*generation;
		h_wait(h, *generation, 500 + h_below(h, 6000), 1000 + h_below(h, 20000),
		       h_below(h, 4) == 0 ? TW_NEVER : 10000 + h_below(h, 200000));
	}
	if (h->kept_count > 0 && h_below(h, p->release) == 0)
		h_release(h, h_below(h, h->kept_count));
	if (h->kept_count > 0 && h_below(h, 20) == 0)
		h_check_kept(h, h_below(h, h->kept_count));
	if (h_below(h, 400) == 0)
		h_release_all(h);
}

/* What the runs of all seeds met. */
struct seen {
	uint64_t kept, let_go, late_kept, late_let_go, early, compactions, rematched;
	uint64_t reason[TW_REASON_COUNT];
};

static void add_seen(struct harness *h, struct seen *all)
{
	struct tw_shard_stats st = h_stats(h);

	assert_int_equal(h->rematches, st.rematched);
	all->kept += st.kept;
	all->let_go += st.let_go;
	all->late_kept += st.late_kept;
	all->late_let_go += st.late_let_go;
	all->early += st.early_decisions;
	all->compactions += st.compactions;
	all->rematched += st.rematched;
	for (uint32_t r = 0; r < TW_REASON_COUNT; r++)
		all->reason[r] += st.decided_reason[r];
}

/* Runs that did not meet what they are for prove nothing. One may miss a thing by chance (hardly a
 * trace waits to its end where memory is tight); ten don't. */
static void check_seen(const struct seen *all, const struct plan *p)
{
	if (seeds < SEEDS)
		return;
	assert_true(all->kept > seeds && all->let_go > seeds);
	assert_true(all->late_kept > seeds && all->late_let_go > seeds);
	assert_true(all->reason[TW_REASON_ROOT] > seeds && all->reason[TW_REASON_IDLE] > seeds);
	assert_true(!p->tight || (all->early > 10 * seeds && all->compactions > 10 * seeds));
	assert_true(!p->reload || all->rematched > 100 * seeds);
	assert_true(!p->spans_max || all->reason[TW_REASON_SIZE] > 10 * seeds);
}

static void run_one(const struct plan *p, struct seen *all)
{
	struct harness h;
	uint32_t generation = 1;

	h_init(&h, p->bytes_max, p->steps / 8 + WINDOW + 1);
	h.random = p->seed << 32;
	h.upgrade = upgrade;
	if (p->spans_max)
		h.opts.trace_spans_max = p->spans_max;
	h_create(&h);
	for (uint32_t i = 0; i < p->steps; i++)
		step(&h, p, i, &generation);
	add_seen(&h, all);
	h_deinit(&h);
}

static void run(struct plan p)
{
	struct seen all = {0};

	for (uint64_t i = 0; i < seeds; i++) {
		p.seed = seed_at_hand = first_seed + i;
		run_one(&p, &all);
	}
	seed_at_hand = 0;
	check_seen(&all, &p);
}

/* After a failure, too. */
static int name_seed(void **state)
{
	(void)state;
	if (seed_at_hand)
		print_error("with seed %llu\n", (unsigned long long)seed_at_hand);
	seed_at_hand = 0;
	return 0;
}

static void test_roomy(void **state)
{
	(void)state;
	run((struct plan){.bytes_max = 1 << 30, .steps = 4000, .release = 4});
}
static void test_size_caps(void **state)
{
	(void)state;
	run((struct plan){.bytes_max = 1 << 30, .steps = 4000, .release = 4, .spans_max = 9});
}
static void test_reloads(void **state)
{
	(void)state;
	run((struct plan){.bytes_max = 1 << 30, .steps = 4000, .release = 4, .reload = true});
}
static void test_tiny_budget(void **state)
{
	(void)state;
	run((struct plan){.bytes_max = 1,
	                  .steps = 3000,
	                  .large = 20,
	                  .release = 6,
	                  .reload = true,
	                  .tight = true});
}
static void test_tight_budget(void **state)
{
	(void)state;
	run((struct plan){
	    .bytes_max = 12 << 20, .steps = 3000, .large = 12, .release = 12, .tight = true});
}
static void test_giant_heads(void **state)
{
	(void)state;
	run((struct plan){.bytes_max = 24 << 20,
	                  .steps = 1500,
	                  .large = 40,
	                  .giant_head = 60,
	                  .release = 8,
	                  .reload = true});
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_teardown(test_roomy, name_seed),
	    cmocka_unit_test_teardown(test_size_caps, name_seed),
	    cmocka_unit_test_teardown(test_reloads, name_seed),
	    cmocka_unit_test_teardown(test_tiny_budget, name_seed),
	    cmocka_unit_test_teardown(test_tight_budget, name_seed),
	    cmocka_unit_test_teardown(test_giant_heads, name_seed),
	};

	if (argc > 1)
		seeds = strtoull(argv[1], NULL, 10);
	if (argc > 2)
		first_seed = strtoull(argv[2], NULL, 10);
	if (argc > 3)
		cmocka_set_test_filter(argv[3]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
