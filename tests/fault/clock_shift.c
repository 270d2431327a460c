/* Preloaded into the program under test: moves its wall clock by the seconds that stand in the file
 * TW_CLOCK_SHIFT names, as 8 bytes of the machine's order, read anew at every call. All other
 * clocks stay. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int (*real_clock_gettime)(clockid_t id, struct timespec *t);
static const volatile int64_t *shift_s;

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("TW_CLOCK_SHIFT");
	int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *p;

	real_clock_gettime =
	    (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	if (fd < 0)
		return;
	p = mmap(NULL, sizeof(*shift_s), PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (p != MAP_FAILED)
		shift_s = p;
}

int clock_gettime(clockid_t id, struct timespec *t);
int clock_gettime(clockid_t id, struct timespec *t)
{
	/* An allocator may ask before the constructor has run. */
	int rc = real_clock_gettime != NULL ? real_clock_gettime(id, t)
	                                    : (int)syscall(SYS_clock_gettime, id, t);

	if (rc == 0 && shift_s != NULL && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
		t->tv_sec += *shift_s;
	return rc;
}
