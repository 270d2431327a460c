/* The writer thread: takes jobs in the order in which they came, writes, answers. */
#include "file.h"

#include <signal.h>

#include "tw/base/error.h"
#include "tw/base/log.h"
#include "tw/base/mem.h"

struct tw_file {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	/* under the lock */
	struct tw_file_job *first, **end;
	bool reopen, leaving;
	/* the writer's */
	struct tw_file_disk disk;
};

static void write_job(struct tw_file *f, struct tw_file_job *j)
{
	j->text[0] = 0;
	if (j->cancelled(j))
		j->outcome = TW_SEND_STOPPED;
	else
		j->outcome = tw_file_disk_append(&f->disk, j->request, j->text, sizeof(j->text));
	j->answer(j); /* j is its transport's again, and may be gone */
}

/* A file that cannot be opened again is not written on under its old name: that one may be deleted
 * already. The next batch tries to open it, and is told to come back until it works. */
static void reopen(struct tw_file *f)
{
	struct tw_error err;
	char quoted[512];

	tw_file_disk_close(&f->disk);
	if (tw_file_disk_open(&f->disk, &err) != 0)
		TW_LOG(TW_LOG_ERROR, "file destination cannot be reopened", "reason=%s",
		       tw_log_quote(quoted, sizeof(quoted), err.text, (unsigned)strlen(err.text)));
	else
		TW_LOG(TW_LOG_INFO, "file destination reopened", "path=%s",
		       tw_log_quote(quoted, sizeof(quoted), f->disk.path,
		                    (unsigned)strlen(f->disk.path)));
}

/* SIGXFSZ and SIGPIPE come to the thread that writes: blocked here, write says EFBIG or EPIPE
 * instead. All other signals are for the main thread. */
static void block_signals(void)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
}

static void *writer(void *arg)
{
	struct tw_file *f = arg;
	struct tw_file_job *j;
	bool again;

	block_signals();
	pthread_mutex_lock(&f->lock);
	for (;;) {
		while (!f->first && !f->reopen && !f->leaving)
			pthread_cond_wait(&f->wake, &f->lock);
		if (!f->first && !f->reopen)
			break;
		again = f->reopen;
		f->reopen = false;
		j = f->first;
		if (j)
			f->first = j->next;
		if (!f->first)
			f->end = &f->first;
		pthread_mutex_unlock(&f->lock);
		if (again)
			reopen(f);
		if (j)
			write_job(f, j);
		pthread_mutex_lock(&f->lock);
	}
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

void tw_file_submit(struct tw_file *f, struct tw_file_job *j)
{
	j->next = NULL;
	pthread_mutex_lock(&f->lock);
	TW_ASSERT(!f->leaving);
	*f->end = j;
	f->end = &j->next;
	pthread_cond_signal(&f->wake);
	pthread_mutex_unlock(&f->lock);
}

void tw_file_reopen(struct tw_file *f)
{
	pthread_mutex_lock(&f->lock);
	f->reopen = true;
	pthread_cond_signal(&f->wake);
	pthread_mutex_unlock(&f->lock);
}

static void file_free(struct tw_file *f)
{
	tw_file_disk_close(&f->disk);
	tw_buf_deinit(&f->disk.line);
	tw_free(f->disk.path);
	pthread_cond_destroy(&f->wake);
	pthread_mutex_destroy(&f->lock);
	tw_free(f);
}

struct tw_file *tw_file_create(const char *path, const struct tw_file_ops *ops,
                               struct tw_error *err)
{
	struct tw_file *f = tw_calloc(1, sizeof(*f));

	if (!f) {
		tw_error_set(err, TW_ENOMEM, 0, "no memory for the file destination %s", path);
		return NULL;
	}
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->wake, NULL);
	f->end = &f->first;
	f->disk.fd = -1;
	if (ops)
		f->disk.ops = *ops;
	f->disk.path = tw_strndup(path, strlen(path));
	if (!f->disk.path) {
		tw_error_set(err, TW_ENOMEM, 0, "no memory for the file destination %s", path);
		file_free(f);
		return NULL;
	}
	if (tw_file_disk_open(&f->disk, err) != 0) {
		file_free(f);
		return NULL;
	}
	if (pthread_create(&f->thread, NULL, writer, f) != 0) {
		tw_error_set(err, TW_EIO, 0, "cannot start a thread to write %s", path);
		file_free(f);
		return NULL;
	}
	return f;
}

void tw_file_destroy(struct tw_file **pf)
{
	struct tw_file *f = *pf;

	if (!f)
		return;
	pthread_mutex_lock(&f->lock);
	f->leaving = true;
	pthread_cond_signal(&f->wake);
	pthread_mutex_unlock(&f->lock);
	pthread_join(f->thread, NULL);
	file_free(f);
	*pf = NULL;
}
