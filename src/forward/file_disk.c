/* One file of whole lines on a disk that may refuse anything at any time. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tw/base/error.h"

#define LINE_KEEP_BYTES (UINT64_C(8) << 20) /* a larger line's memory is given back */

/* ---- the system's disk ---- */

static int system_open(void *ctx, const char *path)
{
	(void)ctx;
	/* A pipe without a reader would make open wait for one; with O_NONBLOCK it is an error.
	 * Regular files ignore it. */
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0640);

	if (fd >= 0)
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	return fd;
}

static int64_t system_write(void *ctx, int fd, const void *p, size_t n)
{
	(void)ctx;
	return write(fd, p, n);
}

static int system_close(void *ctx, int fd)
{
	(void)ctx;
	return close(fd);
}

static int64_t system_size(void *ctx, int fd)
{
	struct stat st;

	(void)ctx;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return -1;
	return st.st_size;
}

static int system_truncate(void *ctx, int fd, uint64_t size)
{
	(void)ctx;
	return ftruncate(fd, (off_t)size);
}

static void fill_ops(struct tw_file_ops *o)
{
	if (!o->open)
		o->open = system_open;
	if (!o->write)
		o->write = system_write;
	if (!o->close)
		o->close = system_close;
	if (!o->size)
		o->size = system_size;
	if (!o->truncate)
		o->truncate = system_truncate;
}

/* ---- open, close ---- */

int tw_file_disk_open(struct tw_file_disk *d, struct tw_error *err)
{
	fill_ops(&d->ops);
	d->torn = 0;
	d->fd = d->ops.open(d->ops.ctx, d->path);
	if (d->fd < 0)
		return tw_error_set(err, TW_EIO, 0, "cannot open %s: %s", d->path, strerror(errno));
	return 0;
}

/* Takes the torn line away. The file's size is asked for anew each time: somebody else may have
 * shortened the file (logrotate's copytruncate), and a size remembered from before would then
 * lengthen it with zeros. */
static bool mend(struct tw_file_disk *d)
{
	int64_t size;

	if (d->torn == 0)
		return true;
	size = d->ops.size(d->ops.ctx, d->fd);
	if (size >= 0 && (uint64_t)size >= d->torn &&
	    d->ops.truncate(d->ops.ctx, d->fd, (uint64_t)size - d->torn) != 0)
		return false;
	/* Not a regular file, or shorter than the line: there is nothing that could be taken back.
	 */
	d->torn = 0;
	return true;
}

void tw_file_disk_close(struct tw_file_disk *d)
{
	if (d->fd < 0)
		return;
	mend(d);
	/* Linux has closed the descriptor whatever close says; an error concerns bytes that were
	 * acknowledged already. */
	d->ops.close(d->ops.ctx, d->fd);
	d->fd = -1;
	d->torn = 0;
}

/* ---- a line ---- */

static int write_whole(struct tw_file_disk *d, const uint8_t *p, size_t n, size_t *written)
{
	*written = 0;
	while (*written < n) {
		int64_t k = d->ops.write(d->ops.ctx, d->fd, p + *written, n - *written);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return errno;
		if (k == 0)
			return ENOSPC; /* no progress and no error: not to be asked for ever */
		TW_ASSERT((uint64_t)k <= n - *written);
		*written += (size_t)k;
	}
	return 0;
}

static enum tw_send_outcome refused(struct tw_file_disk *d, const char *what, int why, char *text,
                                    size_t cap)
{
	snprintf(text, cap, "%s %s: %s", what, d->path, strerror(why));
	return TW_SEND_RETRY;
}

static enum tw_send_outcome encode(struct tw_file_disk *d, struct tw_slice request, char *text,
                                   size_t cap)
{
	struct tw_error err = {.text = ""};
	int rc;

	tw_buf_clear(&d->line);
	rc = tw_otlp_json_encode(request, &d->line, &err);
	tw_buf_putc(&d->line, '\n');
	if (rc == 0 && !d->line.failed)
		return TW_SENT;
	snprintf(text, cap, "%s", err.text[0] ? err.text : "no memory for the line");
	return rc == 0 || rc == TW_ENOMEM || rc == TW_EFULL ? TW_SEND_RETRY : TW_SEND_PERMANENT;
}

static enum tw_send_outcome append(struct tw_file_disk *d, char *text, size_t cap)
{
	struct tw_error err;
	size_t written;
	int why;

	if (d->fd < 0 && tw_file_disk_open(d, &err) != 0) {
		snprintf(text, cap, "%s", err.text);
		return TW_SEND_RETRY;
	}
	if (!mend(d))
		return refused(d, "cannot take back half a line of", errno, text, cap);
	why = write_whole(d, d->line.p, d->line.n, &written);
	if (why == 0)
		return TW_SENT;
	d->torn = written;
	mend(d);
	return refused(d, "cannot write", why, text, cap);
}

enum tw_send_outcome tw_file_disk_append(struct tw_file_disk *d, struct tw_slice request,
                                         char *text, size_t cap)
{
	enum tw_send_outcome o = encode(d, request, text, cap);

	if (o == TW_SENT)
		o = append(d, text, cap);
	if (d->line.cap > LINE_KEEP_BYTES || d->line.failed)
		tw_buf_deinit(&d->line);
	return o;
}
