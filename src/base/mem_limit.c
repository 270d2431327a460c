/* How much memory there is: the smallest limit on the way from the process's own cgroup up to the
 * root, and the machine's. The files are those of cgroup v2 (memory.max) and v1
 * (memory.limit_in_bytes); mounts are looked for where systemd and the container runtimes put them.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tw/base/mem.h"

#define PATH_BYTES 4096

/* A path outside of the namespace ("/../..") is cut at its root, which is what the process sees. */
struct hierarchy {
	const char *mount;
	const char *file;
};

static const struct hierarchy hierarchies_v2[] = {
    {"/sys/fs/cgroup", "memory.max"},
    {"/sys/fs/cgroup/unified", "memory.max"},
};
static const struct hierarchy hierarchy_v1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes"};

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* UINT64_MAX: no such file, or "max". */
static uint64_t limit_read(const char *path)
{
	char line[64], *end;
	unsigned long long v;
	FILE *f = fopen(path, "re");
	bool ok;

	if (!f)
		return UINT64_MAX;
	ok = fgets(line, sizeof(line), f);
	fclose(f);
	if (!ok || line[0] < '0' || line[0] > '9')
		return UINT64_MAX;
	v = strtoull(line, &end, 10);
	return *end == '\n' || *end == '\0' ? v : UINT64_MAX;
}

/* The group's own limit and each of its parents'. A container often sees its group at the mount's
 * root while /proc tells the host's path: steps that do not exist are passed over. */
static uint64_t limit_walk(const char *root, const struct hierarchy *h, const char *group)
{
	char path[PATH_BYTES + 64], dir[PATH_BYTES];
	uint64_t least = UINT64_MAX;

	snprintf(dir, sizeof(dir), "%s", group);
	for (;;) {
		char *slash;
		int n = snprintf(path, sizeof(path), "%s%s%s/%s", root, h->mount, dir, h->file);

		if (n > 0 && (size_t)n < sizeof(path))
			least = smaller(least, limit_read(path));
		slash = strrchr(dir, '/');
		if (!slash)
			return least;
		*slash = '\0';
	}
}

/* Is "memory" one of the comma-separated controllers? */
static bool controls_memory(const char *list, size_t n)
{
	const char *end = list + n;

	while (list < end) {
		const char *comma = memchr(list, ',', (size_t)(end - list));
		size_t len = (size_t)((comma ? comma : end) - list);

		if (len == 6 && memcmp(list, "memory", 6) == 0)
			return true;
		list += len + 1;
	}
	return false;
}

/* One line of /proc/self/cgroup: "0::/group" (v2) or "7:cpu,memory:/group" (v1). */
static uint64_t limit_of_line(const char *root, char *line)
{
	char *controllers = strchr(line, ':');
	char *group = controllers ? strchr(controllers + 1, ':') : NULL;
	size_t n;

	if (!group)
		return UINT64_MAX;
	n = (size_t)(group - controllers - 1);
	group++;
	group[strcspn(group, "\n")] = '\0';
	if (strstr(group, "/.."))
		*group = '\0';
	if (n == 0)
		return smaller(limit_walk(root, &hierarchies_v2[0], group),
		               limit_walk(root, &hierarchies_v2[1], group));
	if (controls_memory(controllers + 1, n))
		return limit_walk(root, &hierarchy_v1, group);
	return UINT64_MAX;
}

static uint64_t limit_cgroup(const char *root)
{
	char line[PATH_BYTES], path[PATH_BYTES];
	uint64_t least = UINT64_MAX;
	FILE *f;

	snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
	f = fopen(path, "re");
	if (!f)
		return UINT64_MAX;
	while (fgets(line, sizeof(line), f))
		least = smaller(least, limit_of_line(root, line));
	fclose(f);
	return least;
}

static uint64_t limit_machine(const char *root)
{
	char line[256], path[PATH_BYTES];
	unsigned long long kib;
	uint64_t found = UINT64_MAX;
	FILE *f;

	snprintf(path, sizeof(path), "%s/proc/meminfo", root);
	f = fopen(path, "re");
	if (!f)
		return UINT64_MAX;
	while (found == UINT64_MAX && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "MemTotal: %llu kB", &kib) == 1)
			found = (uint64_t)kib << 10;
	}
	fclose(f);
	return found;
}

uint64_t tw_mem_limit_under(const char *root)
{
	return smaller(limit_machine(root), limit_cgroup(root));
}

uint64_t tw_mem_limit(void)
{
	return tw_mem_limit_under("");
}
