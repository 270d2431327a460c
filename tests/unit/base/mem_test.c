#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tw/base/mem.h"

static void allocations_work(void **state)
{
	char *p = tw_alloc(10), *z = tw_calloc(100, 10), *copy = tw_strndup("abcdef", 3);
	void *aligned = tw_alloc_aligned(4096, 100);

	(void)state;
	assert_non_null(p);
	p = tw_realloc(strcpy(p, "moved"), 100000);
	assert_string_equal(p, "moved");
	for (int i = 0; i < 1000; i++)
		assert_int_equal(z[i], 0);
	assert_string_equal(copy, "abc");
	assert_int_equal((uintptr_t)aligned % 4096, 0);
	tw_free(p);
	tw_free(z);
	tw_free(copy);
	tw_free(aligned);
	tw_free(NULL);
}

static void overflow_is_refused(void **state)
{
	volatile size_t huge = SIZE_MAX / 2;

	(void)state;
	assert_null(tw_strndup("x", SIZE_MAX));
#ifndef TW_SANITIZED /* the sanitizers end the process instead */
	assert_null(tw_calloc(huge, 4));
	assert_null(tw_alloc(huge));
#else
	assert_true(huge > 0);
#endif
}

static bool try_one(void)
{
	void *p = tw_alloc(8);

	tw_free(p);
	return p;
}

static void nth_allocation_fails_once(void **state)
{
	(void)state;
	tw_mem_fail_at(3, false);
	assert_true(try_one());
	assert_true(try_one());
	assert_false(try_one());
	assert_true(try_one());
	assert_int_equal(tw_mem_fail_at(0, false), 4);
	assert_true(try_one());
}

static void sticky_failure_goes_on_for_every_kind(void **state)
{
	char *p = tw_alloc(8);

	(void)state;
	tw_mem_fail_at(2, true);
	assert_true(try_one());
	assert_false(try_one());
	assert_null(tw_alloc_aligned(64, 64));
	assert_null(tw_calloc(1, 1));
	assert_null(tw_strndup("a", 1));
	assert_null(tw_realloc(p, 100));
	assert_int_equal(tw_mem_fail_at(0, false), 6);
	assert_true(try_one());
	tw_free(p);
}

static void stats_see_an_allocation(void **state)
{
	struct tw_mem_stats before, after;
	void *p;

	(void)state;
#ifdef TW_SANITIZED
	assert_false(tw_mem_stats(&before));
	assert_int_equal(before.allocated, 0);
	(void)after;
	(void)p;
#else
	assert_true(tw_mem_stats(&before));
	p = tw_alloc(32 << 20);
	assert_true(tw_mem_stats(&after));
	tw_free(p);
	assert_true(after.allocated >= before.allocated + (32 << 20));
	assert_true(after.active >= after.allocated);
	assert_true(after.metadata > 0);
#endif
}

static void rss_and_limit_are_plausible(void **state)
{
	uint64_t rss = tw_mem_rss(), limit = tw_mem_limit();

	(void)state;
	assert_true(rss > 100 << 10);
	assert_true(limit < UINT64_MAX);
	assert_true(rss < limit);
}

/* ---- limits of a made-up machine ---- */

struct tree {
	char root[64];
};

static void tree_write(const struct tree *t, const char *path, const char *text)
{
	char full[512];
	FILE *f;

	for (const char *s = strchr(path + 1, '/'); s; s = strchr(s + 1, '/')) {
		snprintf(full, sizeof(full), "%s%.*s", t->root, (int)(s - path), path);
		mkdir(full, 0755);
	}
	snprintf(full, sizeof(full), "%s%s", t->root, path);
	f = fopen(full, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static int tree_make(void **state)
{
	static struct tree t;

	strcpy(t.root, "/tmp/traceweir-mem-XXXXXX");
	if (!mkdtemp(t.root))
		return -1;
	tree_write(&t, "/proc/meminfo", "MemTotal:       16384 kB\nMemFree: 1 kB\n");
	*state = &t;
	return 0;
}

static int tree_remove(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", ((struct tree *)*state)->root);
	return system(command);
}

static void limit_without_groups_is_the_machines(void **state)
{
	assert_int_equal(tw_mem_limit_under(((struct tree *)*state)->root), 16384 << 10);
}

static void limit_nowhere_is_unknown(void **state)
{
	(void)state;
	assert_true(tw_mem_limit_under("/nonexistent") == UINT64_MAX);
}

static void limit_v2_takes_the_least_of_the_path(void **state)
{
	const struct tree *t = *state;

	tree_write(t, "/proc/self/cgroup", "0::/a.slice/b.service\n");
	tree_write(t, "/sys/fs/cgroup/a.slice/b.service/memory.max", "max\n");
	assert_int_equal(tw_mem_limit_under(t->root), 16384 << 10);
	tree_write(t, "/sys/fs/cgroup/a.slice/memory.max", "4194304\n");
	assert_int_equal(tw_mem_limit_under(t->root), 4194304);
	tree_write(t, "/sys/fs/cgroup/a.slice/b.service/memory.max", "2097152\n");
	assert_int_equal(tw_mem_limit_under(t->root), 2097152);
	tree_write(t, "/sys/fs/cgroup/a.slice/b.service/memory.max", "99999999999\n");
	assert_int_equal(tw_mem_limit_under(t->root), 4194304);
	tree_write(t, "/sys/fs/cgroup/a.slice/memory.max", "garbage\n");
	assert_int_equal(tw_mem_limit_under(t->root), 16384 << 10);
}

static void limit_v2_in_a_container_is_at_the_mount(void **state)
{
	const struct tree *t = *state;

	tree_write(t, "/sys/fs/cgroup/memory.max", "1048576\n");
	tree_write(t, "/proc/self/cgroup", "0::/\n");
	assert_int_equal(tw_mem_limit_under(t->root), 1048576);
	tree_write(t, "/proc/self/cgroup", "0::/../host/path\n");
	assert_int_equal(tw_mem_limit_under(t->root), 1048576);
}

static void limit_v1_is_read_for_the_memory_controller(void **state)
{
	const struct tree *t = *state;

	tree_write(t, "/sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "3145728\n");
	tree_write(t, "/proc/self/cgroup", "5:cpu,cpuacct:/docker/x\n4:hugetlb:/\n");
	assert_int_equal(tw_mem_limit_under(t->root), 16384 << 10);
	tree_write(t, "/proc/self/cgroup", "5:cpu:/\n9:pids,memory:/docker/x\n");
	assert_int_equal(tw_mem_limit_under(t->root), 3145728);
	tree_write(t, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
	tree_write(t, "/proc/self/cgroup", "9:memory:/\n");
	assert_int_equal(tw_mem_limit_under(t->root), 16384 << 10);
}

#define TREE_TEST(f) cmocka_unit_test_setup_teardown(f, tree_make, tree_remove)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(allocations_work),
	    cmocka_unit_test(overflow_is_refused),
	    cmocka_unit_test(nth_allocation_fails_once),
	    cmocka_unit_test(sticky_failure_goes_on_for_every_kind),
	    cmocka_unit_test(stats_see_an_allocation),
	    cmocka_unit_test(rss_and_limit_are_plausible),
	    cmocka_unit_test(limit_nowhere_is_unknown),
	    TREE_TEST(limit_without_groups_is_the_machines),
	    TREE_TEST(limit_v2_takes_the_least_of_the_path),
	    TREE_TEST(limit_v2_in_a_container_is_at_the_mount),
	    TREE_TEST(limit_v1_is_read_for_the_memory_controller),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
