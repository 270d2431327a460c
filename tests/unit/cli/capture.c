#include "capture.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

void capture_init(struct capture *c)
{
	char dir[] = "/tmp/traceweir-unit-XXXXXX";

	memset(c, 0, sizeof(*c));
	assert_non_null(mkdtemp(dir));
	memcpy(c->dir, dir, sizeof(dir));
	for (int i = 0; i < CAPTURE_FILES_MAX; i++)
		snprintf(c->path[i], sizeof(c->path[i]), "%s/%d", dir, i);
}

static void stream_path(const struct capture *c, int which, char path[96])
{
	snprintf(path, 96, "%s/%s", c->dir, which == 0 ? "out" : "err");
}

void capture_deinit(struct capture *c)
{
	char path[96];

	for (int i = 0; i < CAPTURE_FILES_MAX; i++)
		unlink(c->path[i]);
	for (int i = 0; i < 2; i++) {
		stream_path(c, i, path);
		unlink(path);
	}
	assert_int_equal(rmdir(c->dir), 0);
}

void capture_file(struct capture *c, int i, const void *p, size_t n)
{
	FILE *f = fopen(c->path[i], "we");

	assert_non_null(f);
	assert_int_equal(fwrite(p, 1, n, f), n);
	assert_int_equal(fclose(f), 0);
}

void capture_text(struct capture *c, int i, const char *text)
{
	capture_file(c, i, text, strlen(text));
}

void capture_begin(struct capture *c)
{
	fflush(stdout);
	fflush(stderr);
	for (int i = 0; i < 2; i++) {
		char path[96];
		int fd;

		stream_path(c, i, path);
		c->saved[i] = fcntl(i + 1, F_DUPFD_CLOEXEC, 3);
		fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		assert_true(c->saved[i] >= 0 && fd >= 0);
		assert_int_equal(dup2(fd, i + 1), i + 1);
		close(fd);
	}
}

void capture_end(struct capture *c)
{
	char *const text[2] = {c->out, c->err};
	ssize_t n[2];

	fflush(stdout);
	fflush(stderr);
	for (int i = 0; i < 2; i++) {
		n[i] = pread(i + 1, text[i], sizeof(c->out) - 1, 0);
		dup2(c->saved[i], i + 1);
		close(c->saved[i]);
	}
	for (int i = 0; i < 2; i++) {
		assert_true(n[i] >= 0 && (size_t)n[i] < sizeof(c->out) - 1);
		text[i][n[i]] = '\0';
	}
}
