/* A worker's way to the file: jobs go to the writer thread, answers come back through an uv_async
 * on the worker's loop.
 *
 * The lock is what makes the end safe. The writer puts an answer on the list and calls
 * uv_async_send while it holds the lock; so once the worker has taken the last answer off the list,
 * the writer has nothing left to do here but to unlock, and the handle and the memory may go. */
#include "file.h"

#include "tw/base/error.h"
#include "tw/base/mem.h"

#define SLOTS 16u

struct slot {
	struct tw_file_job job; /* first: a job is a slot */
	struct file_transport *transport;
	struct slot *next_answered;
	bool used;
	tw_send_done done;
	void *ctx;
};

struct file_transport {
	struct tw_file *file;
	uv_async_t wake;
	bool stopping, closing, closed; /* the worker's */
	uint32_t in_flight;
	_Atomic bool
	    cancel; /* jobs that are not written yet need not be; a stale value writes one more */
	pthread_mutex_t lock;
	struct slot *answered, **answered_end; /* under the lock */
	struct slot slots[SLOTS];
};

static void on_closed(uv_handle_t *h)
{
	struct file_transport *t = h->data;

	t->closed = true;
}

static void close_when_idle(struct file_transport *t)
{
	if (!t->stopping || t->closing || t->in_flight > 0)
		return;
	t->closing = true;
	uv_close((uv_handle_t *)&t->wake, on_closed);
}

static struct slot *take_answered(struct file_transport *t)
{
	struct slot *s;

	pthread_mutex_lock(&t->lock);
	s = t->answered;
	t->answered = NULL;
	t->answered_end = &t->answered;
	pthread_mutex_unlock(&t->lock);
	return s;
}

static void on_wake(uv_async_t *h)
{
	struct file_transport *t = h->data;
	struct slot *s = take_answered(t), *next;

	for (; s; s = next) {
		struct tw_send_result r = {
		    .outcome = s->job.outcome, .retry_after_ms = UINT64_MAX, .text = s->job.text};
		char text[sizeof(s->job.text)];

		/* done may send the next batch, which takes this slot. */
		memcpy(text, s->job.text, sizeof(text));
		r.text = text;
		next = s->next_answered;
		s->used = false;
		t->in_flight--;
		s->done(s->ctx, &r);
	}
	close_when_idle(t);
}

static void answer(struct tw_file_job *j)
{
	struct slot *s = (struct slot *)j;
	struct file_transport *t = s->transport;

	pthread_mutex_lock(&t->lock);
	s->next_answered = NULL;
	*t->answered_end = s;
	t->answered_end = &s->next_answered;
	uv_async_send(&t->wake);
	pthread_mutex_unlock(&t->lock);
}

static bool cancelled(const struct tw_file_job *j)
{
	return atomic_load_explicit(&((const struct slot *)j)->transport->cancel,
	                            memory_order_relaxed);
}

static bool file_send(void *self, const struct tw_batch *b, tw_send_done done, void *ctx)
{
	struct file_transport *t = self;
	struct slot *s = t->slots;

	TW_ASSERT(b->coding == TW_CODING_IDENTITY);
	if (t->stopping)
		return false;
	while (s < t->slots + SLOTS && s->used)
		s++;
	if (s == t->slots + SLOTS)
		return false;
	*s = (struct slot){
	    .job = {.request = b->request, .answer = answer, .cancelled = cancelled},
	    .transport = t,
	    .used = true,
	    .done = done,
	    .ctx = ctx,
	};
	t->in_flight++;
	tw_file_submit(t->file, &s->job);
	return true;
}

static void file_stop(void *self)
{
	struct file_transport *t = self;

	if (t->stopping)
		return;
	t->stopping = true;
	atomic_store_explicit(&t->cancel, true, memory_order_relaxed);
	close_when_idle(t);
}

static bool file_stopped(void *self)
{
	return ((struct file_transport *)self)->closed;
}

static void file_destroy(void *self)
{
	struct file_transport *t = self;

	TW_ASSERT(t->closed);
	pthread_mutex_destroy(&t->lock);
	tw_free(t);
}

int tw_transport_file_create(struct tw_file *f, uv_loop_t *loop, struct tw_transport *out)
{
	struct file_transport *t = tw_calloc(1, sizeof(*t));

	if (!t)
		return TW_ENOMEM;
	t->file = f;
	t->answered_end = &t->answered;
	if (uv_async_init(loop, &t->wake, on_wake) != 0) {
		tw_free(t);
		return TW_EIO;
	}
	t->wake.data = t;
	pthread_mutex_init(&t->lock, NULL);
	*out = (struct tw_transport){
	    .send = file_send,
	    .stop = file_stop,
	    .stopped = file_stopped,
	    .destroy = file_destroy,
	    .self = t,
	    .coding = TW_CODING_IDENTITY,
	};
	return 0;
}
