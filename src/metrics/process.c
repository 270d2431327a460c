/* What the kernel and the allocator say of this process. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tw/base/mem.h"
#include "tw/metrics.h"

static double cpu_seconds(void)
{
	struct rusage u;

	if (getrusage(RUSAGE_SELF, &u) != 0)
		return 0;
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* The unix time of boot, from the line "btime N" of /proc/stat. */
static uint64_t boot_time(void)
{
	char line[256];
	unsigned long long t = 0;
	FILE *f = fopen("/proc/stat", "re");

	if (f == NULL)
		return 0;
	while (fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "btime %llu", &t) == 1)
			break;
	fclose(f);
	return t;
}

/* Field 22 of /proc/self/stat, in ticks after boot; the name in field 2 may hold anything but ends
 * in the last ')'. */
static bool start_ticks(uint64_t *ticks)
{
	char text[1024];
	FILE *f = fopen("/proc/self/stat", "re");

	if (f == NULL)
		return false;
	size_t n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	char *at = strrchr(text, ')');
	for (int field = 2; at != NULL && field < 22; field++)
		at = strchr(at + 1, ' ');
	if (at == NULL)
		return false;
	*ticks = strtoull(at + 1, NULL, 10);
	return true;
}

static uint64_t open_fds(void)
{
	uint64_t n = 0;
	/* Not opendir: ThreadSanitizer learns from open that the number, which was another
	 * thread's until libuv closed it without a word, is ours now. */
	int fd = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (d == NULL) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
		if (e->d_name[0] != '.')
			n++;
	closedir(d);
	return n > 0 ? n - 1 : 0; /* the one that reads the folder */
}

static void gauge(struct tw_expo *e, const char *name, const char *help, uint64_t value)
{
	tw_expo_family(e, name, TW_TYPE_GAUGE, help);
	tw_expo_u64(e, name, "", NULL, 0, value);
}

void tw_collect_process(void *ctx, struct tw_expo *e)
{
	struct tw_mem_stats m;
	struct rlimit files;
	uint64_t ticks;

	(void)ctx;
	tw_expo_family(e, "process_cpu_seconds", TW_TYPE_COUNTER,
	               "Total user and system CPU time spent in seconds.");
	tw_expo_f64(e, "process_cpu_seconds", "_total", NULL, 0, cpu_seconds());
	gauge(e, "process_resident_memory_bytes", "Resident memory size in bytes.", tw_mem_rss());
	if (start_ticks(&ticks)) {
		long hz = sysconf(_SC_CLK_TCK);
		tw_expo_family(e, "process_start_time_seconds", TW_TYPE_GAUGE,
		               "Start time of the process since unix epoch in seconds.");
		tw_expo_f64(e, "process_start_time_seconds", "", NULL, 0,
		            (double)boot_time() + (double)ticks / (double)(hz > 0 ? hz : 100));
	}
	gauge(e, "process_open_fds", "Number of open file descriptors.", open_fds());
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur != RLIM_INFINITY)
		gauge(e, "process_max_fds", "Maximum number of open file descriptors.",
		      files.rlim_cur);
	if (!tw_mem_stats(&m))
		return;
	gauge(e, "traceweir_memory_allocated_bytes", "Bytes in live allocations.", m.allocated);
	gauge(e, "traceweir_memory_active_bytes", "Bytes in pages that hold live allocations.",
	      m.active);
	gauge(e, "traceweir_memory_resident_bytes",
	      "Bytes that the allocator has mapped and backed.", m.resident);
	gauge(e, "traceweir_memory_metadata_bytes", "Bytes that the allocator uses for itself.",
	      m.metadata);
	gauge(e, "traceweir_memory_retained_bytes", "Address space kept for reuse, in bytes.",
	      m.retained);
}
