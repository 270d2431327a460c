#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "disk.h"

static int disk_open(void *ctx, const char *path)
{
	struct disk *d = ctx;

	(void)path;
	if (d->open_errno) {
		errno = d->open_errno;
		return -1;
	}
	d->opens++;
	return 1000;
}

static int64_t disk_write(void *ctx, int fd, const void *p, size_t n)
{
	struct disk *d = ctx;
	uint64_t at = ++d->writes;

	assert_int_equal(fd, 1000);
	if (d->interrupts && at % 2 == 0) {
		errno = EINTR;
		return -1;
	}
	if (d->fail_at && at >= d->fail_at && at <= d->fail_at + d->fail_count) {
		errno = d->fail_errno;
		return d->zero ? 0 : -1;
	}
	if (d->most_at_once && n > d->most_at_once)
		n = d->most_at_once;
	if (d->n + n > d->cap) {
		d->cap = (d->n + n) * 2;
		d->p = realloc(d->p, d->cap);
		assert_non_null(d->p);
	}
	memcpy(d->p + d->n, p, n);
	d->n += n;
	return (int64_t)n;
}

static int disk_close(void *ctx, int fd)
{
	struct disk *d = ctx;

	assert_int_equal(fd, 1000);
	d->closes++;
	return 0;
}

static int64_t disk_size(void *ctx, int fd)
{
	struct disk *d = ctx;

	assert_int_equal(fd, 1000);
	return d->pipe ? -1 : (int64_t)d->n;
}

static int disk_truncate(void *ctx, int fd, uint64_t size)
{
	struct disk *d = ctx;

	assert_int_equal(fd, 1000);
	assert_false(d->pipe);
	assert_true(size <= d->n); /* never lengthens */
	if (d->truncate_fails) {
		d->truncate_fails--;
		errno = EIO;
		return -1;
	}
	d->n = size;
	return 0;
}

struct tw_file_ops disk_ops(struct disk *d)
{
	return (struct tw_file_ops){
	    .open = disk_open,
	    .write = disk_write,
	    .close = disk_close,
	    .ctx = d,
	    .size = disk_size,
	    .truncate = disk_truncate,
	};
}

void disk_deinit(struct disk *d)
{
	free(d->p);
}

uint64_t disk_lines(const struct disk *d)
{
	const char *p = d->n ? d->p : "", *end = p + d->n;
	uint64_t lines = 0;

	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));

		assert_non_null(nl);
		assert_true(nl > p + 1);
		assert_int_equal(*p, '{');
		assert_int_equal(nl[-1], '}');
		/* No line begins inside of another. */
		for (const char *q = p; q + 1 < nl; q++)
			assert_false(q[0] == '}' && q[1] == '{');
		lines++;
		p = nl + 1;
	}
	return lines;
}

uint64_t disk_count(const struct disk *d, uint64_t number)
{
	const char *p = d->n ? d->p : "", *end = p + d->n;
	uint64_t found = 0;
	char id[19];

	snprintf(id, sizeof(id), "\"%016" PRIx64 "\"", number);
	while (p < end && (p = memmem(p, (size_t)(end - p), id, 18)) != NULL) {
		found++;
		p += 18;
	}
	return found;
}
