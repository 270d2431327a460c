/* The rule file's reader: what is there is read whole, and what is wrong is said. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine_private.h"
#include "tw/base/mem.h"
#include "tw/rules.h"

#define LIMIT (1u << 20)

struct place {
	char dir[64], path[96];
	struct tw_config config;
	struct tw_engine *engine; /* of which the reader looks at the configuration only */
	struct tw_buf out, report;
};

static void place_init(struct place *p)
{
	memset(p, 0, sizeof(*p));
	snprintf(p->dir, sizeof(p->dir), "/tmp/traceweir-unit-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	snprintf(p->path, sizeof(p->path), "%s/rules.yaml", p->dir);
	p->engine = tw_alloc_aligned(64, sizeof(*p->engine));
	assert_non_null(p->engine);
	memset(p->engine, 0, sizeof(*p->engine));
	p->engine->config = &p->config;
	p->config.rules_path = p->path;
	tw_buf_init(&p->out, 0);
	tw_buf_init(&p->report, 0);
}

static void place_deinit(struct place *p)
{
	unlink(p->path);
	rmdir(p->path);
	rmdir(p->dir);
	tw_free(p->engine);
	tw_buf_deinit(&p->out);
	tw_buf_deinit(&p->report);
}

static void write_file(const struct place *p, const void *bytes, size_t n)
{
	FILE *f = fopen(p->path, "we");

	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, n, f), n);
	assert_int_equal(fclose(f), 0);
}

static int read_rules(struct place *p)
{
	tw_buf_deinit(&p->out);
	tw_buf_deinit(&p->report);
	return tw_engine_rules_read(p->engine, &p->out, &p->report);
}

static void assert_said(struct place *p, const char *why)
{
	char want[256];

	snprintf(want, sizeof(want), "%s: error: %s\n", p->path, why);
	assert_int_equal(p->report.n, strlen(want));
	assert_memory_equal(p->report.p, want, strlen(want));
}

static void the_embedded_default(void **state)
{
	struct place p;

	(void)state;
	place_init(&p);
	p.config.rules_path = NULL;
	assert_int_equal(read_rules(&p), 0);
	assert_int_equal(p.out.n, tw_rules_default_n);
	assert_memory_equal(p.out.p, tw_rules_default, tw_rules_default_n);
	assert_string_equal(tw_engine_rules_name(p.engine), "rules/default.yaml (embedded)");
	place_deinit(&p);
}

static void a_file_is_read_whole(void **state)
{
	static const size_t sizes[] = {0, 1, 65535, 65536, 65537, 300000, LIMIT};
	uint8_t *bytes = tw_alloc(LIMIT);
	struct place p;

	(void)state;
	assert_non_null(bytes);
	for (size_t i = 0; i < LIMIT; i++)
		bytes[i] = (uint8_t)(i * 31 + i / 251);
	place_init(&p);
	assert_string_equal(tw_engine_rules_name(p.engine), p.path);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		write_file(&p, bytes, sizes[i]);
		assert_int_equal(read_rules(&p), 0);
		assert_int_equal(p.out.n, sizes[i]);
		if (sizes[i] != 0)
			assert_memory_equal(p.out.p, bytes, sizes[i]);
		assert_int_equal(p.report.n, 0);
	}
	place_deinit(&p);
	tw_free(bytes);
}

/* Past the limit it stops reading, but not before the compiler can see that it is too large. */
static void a_file_past_the_limit(void **state)
{
	struct place p;

	(void)state;
	place_init(&p);
	write_file(&p, "#", 1);
	assert_int_equal(truncate(p.path, LIMIT + 1), 0);
	assert_int_equal(read_rules(&p), 0);
	assert_int_equal(p.out.n, LIMIT + 1);
	assert_int_equal(truncate(p.path, (off_t)1 << 40), 0); /* a hole of 1 TiB */
	assert_int_equal(read_rules(&p), 0);
	assert_true(p.out.n > LIMIT);
	assert_true(p.out.n <= LIMIT + 65536);
	place_deinit(&p);
}

static void a_file_past_the_limit_does_not_compile(void **state)
{
	struct tw_keytab *keys = tw_keytab_create();
	struct tw_diags diags = {.count = 0};
	struct tw_rules *rules = NULL;
	struct place p;

	(void)state;
	place_init(&p);
	write_file(&p, "rules:\n  - { name: all, keep: all }\n#", 36);
	assert_int_equal(truncate(p.path, LIMIT + 1), 0);
	assert_int_equal(read_rules(&p), 0);
	assert_int_equal(tw_rules_compile(tw_buf_slice(&p.out), keys, &diags, &rules), TW_EINVAL);
	assert_true(diags.errors > 0);
	tw_keytab_destroy(&keys);
	place_deinit(&p);
}

static void what_cannot_be_read(void **state)
{
	struct place p;

	(void)state;
	place_init(&p);
	assert_int_equal(read_rules(&p), TW_EINVAL);
	assert_said(&p, strerror(ENOENT));
	assert_int_equal(mkdir(p.path, 0700), 0);
	assert_int_equal(read_rules(&p), TW_EINVAL);
	assert_said(&p, strerror(EISDIR));
	assert_int_equal(rmdir(p.path), 0);
	assert_int_equal(symlink("rules.yaml", p.path), 0); /* to itself */
	assert_int_equal(read_rules(&p), TW_EINVAL);
	assert_said(&p, strerror(ELOOP));
	place_deinit(&p);
}

/* A pipe brings its bytes in pieces. */
static void *feed(void *arg)
{
	const struct place *p = arg;
	int fd = open(p->path, O_WRONLY | O_CLOEXEC);
	bool good = fd >= 0;

	for (int i = 0; good && i < 100; i++)
		good = write(fd, "0123456789", 10) == 10;
	return good && close(fd) == 0 ? arg : NULL;
}

static void a_pipe_is_read_to_its_end(void **state)
{
	struct place p;
	pthread_t t;
	void *fed;

	(void)state;
	place_init(&p);
	assert_int_equal(mkfifo(p.path, 0600), 0);
	assert_int_equal(pthread_create(&t, NULL, feed, &p), 0);
	assert_int_equal(read_rules(&p), 0);
	pthread_join(t, &fed);
	assert_non_null(fed);
	assert_int_equal(p.out.n, 1000);
	assert_memory_equal(p.out.p + 990, "0123456789", 10);
	place_deinit(&p);
}

static void without_memory(void **state)
{
	uint64_t refused = 0;
	int rc = TW_ENOMEM;
	struct place p;

	(void)state;
	place_init(&p);
	write_file(&p, "#", 1);
	assert_int_equal(truncate(p.path, 300000), 0);
	for (uint64_t n = 1; rc == TW_ENOMEM; n++) {
		tw_mem_fail_at(n, false);
		rc = read_rules(&p);
		tw_mem_fail_at(0, false);
		refused += rc == TW_ENOMEM;
	}
	assert_int_equal(rc, 0);
	assert_int_equal(p.out.n, 300000);
	assert_true(refused >= 2); /* the first piece, and a growth */
	p.config.rules_path = NULL;
	tw_mem_fail_at(1, false);
	assert_int_equal(read_rules(&p), TW_ENOMEM);
	tw_mem_fail_at(0, false);
	place_deinit(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_embedded_default),
	    cmocka_unit_test(a_file_is_read_whole),
	    cmocka_unit_test(a_file_past_the_limit),
	    cmocka_unit_test(a_file_past_the_limit_does_not_compile),
	    cmocka_unit_test(what_cannot_be_read),
	    cmocka_unit_test(a_pipe_is_read_to_its_end),
	    cmocka_unit_test(without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
