#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tw/base/mem.h"

#define CONFIG_BYTES_MAX (1u << 20)

bool tw_cli_read(const char *path, size_t bytes_max, struct tw_buf *out)
{
	bool standard = strcmp(path, "-") == 0;
	int fd = standard ? 0 : open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = 1;

	if (fd < 0) {
		fprintf(stderr, "%s: error: %s\n", path, strerror(errno));
		return false;
	}
	while (n > 0 && out->n <= bytes_max && tw_buf_grow(out, 65536)) {
		n = read(fd, out->p + out->n, 65536);
		if (n > 0)
			out->n += (size_t)n;
		else if (n < 0 && errno == EINTR)
			n = 1;
	}
	if (n < 0)
		fprintf(stderr, "%s: error: %s\n", path, strerror(errno));
	if (out->failed)
		fprintf(stderr, "%s: error: out of memory\n", path);
	if (!standard)
		close(fd);
	return n >= 0 && !out->failed;
}

static const char *env_get(void *ctx, const char *name)
{
	(void)ctx;
	return getenv(name);
}

/* cgroup v2: "max 100000" or "QUOTA PERIOD". 0: no limit there. */
static uint32_t cgroup_cpus(void)
{
	FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
	long long quota = 0, period = 0;
	int got = 0;

	if (f != NULL) {
		got = fscanf(f, "%lld %lld", &quota, &period);
		fclose(f);
	}
	return got == 2 && quota > 0 && period > 0 ? (uint32_t)((quota + period - 1) / period) : 0;
}

static uint32_t cpus(void)
{
	uint32_t n = 1, limit = cgroup_cpus();
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		n = (uint32_t)CPU_COUNT(&set);
	return limit != 0 && limit < n ? limit : n;
}

struct tw_config_env tw_cli_env(void)
{
	return (struct tw_config_env){
	    .get = env_get, .memory_limit = tw_mem_limit(), .cpus = cpus()};
}

void tw_cli_print(const struct tw_buf *b)
{
	if (b->n != 0)
		fwrite(b->p, 1, b->n, stderr);
}

int tw_cli_exit_code(int err)
{
	switch (err) {
	case 0:
		return TW_EXIT_DONE;
	case TW_EIO:
	case TW_ENOMEM:
		return TW_EXIT_MACHINE;
	default:
		return TW_EXIT_WRONG;
	}
}

struct tw_config *tw_cli_config(const struct tw_cli_args *a, int *exit_code)
{
	struct tw_config_env env = tw_cli_env();
	struct tw_config *c = NULL;
	struct tw_buf source, report;
	int rc;

	tw_buf_init(&source, 0);
	tw_buf_init(&report, 0);
	if (a->config != NULL && !tw_cli_read(a->config, CONFIG_BYTES_MAX, &source)) {
		rc = TW_EINVAL;
	} else {
		rc = tw_config_load(tw_buf_slice(&source),
		                    a->config != NULL ? a->config : "(defaults)", a->sets,
		                    a->set_count, &env, &c, &report);
		tw_cli_print(&report);
	}
	*exit_code = tw_cli_exit_code(rc);
	tw_buf_deinit(&source);
	tw_buf_deinit(&report);
	return c;
}
