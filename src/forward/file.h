/* Between the file's writer thread and the transports that feed it. */
#ifndef TW_FORWARD_FILE_H
#define TW_FORWARD_FILE_H

#include <pthread.h>

#include "tw/forward.h"

/* One batch on its way to the disk: the transport's until tw_file_submit, then the writer's until
 * `answer`. */
struct tw_file_job {
	struct tw_file_job *next;
	struct tw_slice request;
	/* Called on the writer's thread; the job is the transport's again. */
	void (*answer)(struct tw_file_job *j);
	bool (*cancelled)(const struct tw_file_job *j); /* asked before anything is written */
	enum tw_send_outcome outcome;
	char text[160];
};
void tw_file_submit(struct tw_file *f, struct tw_file_job *j); /* [any] */

/* ---- the file itself; on the writer's thread alone (file_disk.c) ---- */
struct tw_file_disk {
	struct tw_file_ops ops;
	char *path;
	int fd;        /* −1: not open */
	uint64_t torn; /* bytes of a line at the end of the file that nobody could take back yet */
	struct tw_buf line;
};
int tw_file_disk_open(struct tw_file_disk *d, struct tw_error *err);
void tw_file_disk_close(struct tw_file_disk *d);
/* Appends the request as one line. TW_SENT; RETRY: nothing of it is in the file, or what is will be
 * taken away before anything else is written; PERMANENT: it is no OTLP. text: why. */
enum tw_send_outcome tw_file_disk_append(struct tw_file_disk *d, struct tw_slice request,
                                         char *text, size_t cap);

#endif
