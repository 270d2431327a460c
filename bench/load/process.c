#include "process.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

uint64_t tw_load_process_cpu_ns(int pid)
{
	unsigned long long user, system;
	char path[64], line[1024], *p;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	if (f == NULL)
		return 0;
	p = fgets(line, sizeof(line), f);
	fclose(f);
	/* The command may hold spaces and brackets; the fields begin behind its last one. */
	p = p != NULL ? strrchr(line, ')') : NULL;
	if (p == NULL || sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu",
	                        &user, &system) != 2)
		return 0;
	return (user + system) * (1000000000u / (unsigned)sysconf(_SC_CLK_TCK));
}

uint64_t tw_load_process_peak_bytes(int pid)
{
	unsigned long long kib = 0;
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "r");
	if (f == NULL)
		return 0;
	while (fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "VmHWM: %llu kB", &kib) == 1)
			break;
	fclose(f);
	return kib * 1024;
}
