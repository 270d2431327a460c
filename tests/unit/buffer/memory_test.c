/* MEM-01: the n-th allocation fails, once or from then on. Nothing is lost without being counted,
 * nothing leaks. */
#include "harness.h"

#include <stdlib.h>

#include "tw/base/mem.h"

#define FAIL_MAX         200u
#define BOOT_ALLOCATIONS 21u

static void boot_fails_cleanly(void **state)
{
	(void)state;
	for (uint32_t sticky = 0; sticky < 2; sticky++) {
		for (uint32_t n = 1; n < 30; n++) {
			struct tw_buffer_opts o = {.bytes_max = 16 << 20,
			                           .verdict_bytes_max = 1 << 16};
			struct tw_shard_config c = {.opts = o, .shards = 1};
			struct tw_shard *s = NULL;

			(void)tw_mem_fail_at(n, sticky);
			c.pool = tw_pool_create(&o, 1);
			if (c.pool)
				s = tw_shard_create(&c);
			(void)tw_mem_fail_at(0, false);
			assert_true(n > BOOT_ALLOCATIONS || !s);
			assert_true(n <= BOOT_ALLOCATIONS || s);
			tw_shard_destroy(&s);
			tw_pool_destroy(&c.pool);
			assert_null(s);
		}
	}
}

static void traffic(struct harness *h, uint32_t fail_at, bool sticky)
{
	static struct h_span spans[60];

	for (uint32_t r = 0; r < 120; r++) {
		for (uint32_t i = 0; i < 60; i++) {
			spans[i] = h_span(h, r * 20 + h_below(h, 40));
			spans[i].bytes_n = 100 + h_below(h, 4000);
			spans[i].root = h_below(h, 8) == 0;
		}
		h->fail_at = r == 2 ? fail_at : 0;
		h->fail_sticky = sticky;
		h->failing = r >= 2 && r < 100;
		h_add(h, spans, 60, 1);
		h_advance(h, 150);
		while (h_tick(h)) {
		}
		if (h->kept_count > 100)
			h_release_all(h);
	}
}

static void allocations_fail(bool sticky)
{
	uint64_t unstored = 0, failed_runs = 0;

	for (uint32_t n = 1; n <= FAIL_MAX; n += n < 40 ? 1 : 16) {
		struct harness h;

		h_init(&h, 64 << 20, 1);
		h.lossy = true;
		h_create(&h);
		traffic(&h, n, sticky);
		unstored += h_stats(&h).unstored;
		failed_runs++;
		assert_int_equal(h_stats(&h).added, 120 * 60);
		assert_true(h_stats(&h).kept > 0 && h_stats(&h).let_go > 0);
		h_deinit(&h);
	}
	assert_true(failed_runs > 40);
	if (!sticky)
		assert_int_equal(unstored, 0); /* deciding early, or the reserve, got by */
}

static void MEM_01_once(void **state)
{
	(void)state;
	allocations_fail(false);
}

static void MEM_01_sticky(void **state)
{
	(void)state;
	allocations_fail(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(boot_fails_cleanly),
	    cmocka_unit_test(MEM_01_once),
	    cmocka_unit_test(MEM_01_sticky),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
