/* Random operations on a shard, checked call by call against the harness's model. */
#include "harness.h"

#include <stdlib.h>

#define WINDOW 60u

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

/* A run that did not meet what it is for proves nothing. */
static void check_seen(struct harness *h, const struct plan *p)
{
	struct tw_shard_stats st = h_stats(h);

	assert_true(st.kept > 0 && st.let_go > 0 && st.late_kept > 0 && st.late_let_go > 0);
	assert_true(st.decided_reason[TW_REASON_ROOT] > 0 && st.decided_reason[TW_REASON_IDLE] > 0);
	assert_true(!p->tight || (st.early_decisions > 10 && st.compactions > 10));
	assert_true(!p->reload || (st.rematched > 100 && h->rematches == st.rematched));
	assert_true(!p->spans_max || st.decided_reason[TW_REASON_SIZE] > 10);
}

static void run(const struct plan *p)
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
	check_seen(&h, p);
	h_deinit(&h);
}

static void test_roomy(void **state)
{
	(void)state;
	run(&(struct plan){.seed = 1, .bytes_max = 1 << 30, .steps = 4000, .release = 4});
}
static void test_size_caps(void **state)
{
	(void)state;
	run(&(struct plan){
	    .seed = 2, .bytes_max = 1 << 30, .steps = 4000, .release = 4, .spans_max = 9});
}
static void test_reloads(void **state)
{
	(void)state;
	run(&(struct plan){
	    .seed = 3, .bytes_max = 1 << 30, .steps = 4000, .release = 4, .reload = true});
}
static void test_tiny_budget(void **state)
{
	(void)state;
	for (uint64_t seed = 10; seed < 13; seed++)
		run(&(struct plan){.seed = seed,
		                   .bytes_max = 1,
		                   .steps = 3000,
		                   .large = 20,
		                   .release = 6,
		                   .reload = true,
		                   .tight = true});
}
static void test_tight_budget(void **state)
{
	(void)state;
	for (uint64_t seed = 20; seed < 22; seed++)
		run(&(struct plan){.seed = seed,
		                   .bytes_max = 12 << 20,
		                   .steps = 3000,
		                   .large = 12,
		                   .release = 12,
		                   .tight = true});
}
static void test_giant_heads(void **state)
{
	(void)state;
	for (uint64_t seed = 30; seed < 32; seed++)
		run(&(struct plan){.seed = seed,
		                   .bytes_max = 24 << 20,
		                   .steps = 1500,
		                   .large = 40,
		                   .giant_head = 60,
		                   .release = 8,
		                   .reload = true});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_roomy),        cmocka_unit_test(test_size_caps),
	    cmocka_unit_test(test_reloads),      cmocka_unit_test(test_tiny_budget),
	    cmocka_unit_test(test_tight_budget), cmocka_unit_test(test_giant_heads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
