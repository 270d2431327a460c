#include "batch.h"

#include "tw/base/error.h"
#include "tw/base/mem.h"

struct tw_out_batch *tw_batch_create(struct tw_exporter *x, struct tw_buf *spare, uint64_t now_ns)
{
	struct tw_out_batch *b = tw_calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->exporter = x;
	b->state = TW_BATCH_OPEN;
	b->opened_ns = now_ns;
	b->request = *spare;
	tw_buf_init(spare, 0);
	return b;
}

static void recycle(struct tw_buf *buf, struct tw_buf *spare, size_t spare_max)
{
	if (spare->p || buf->cap > spare_max) {
		tw_buf_deinit(buf);
		return;
	}
	tw_buf_clear(buf);
	*spare = *buf;
	tw_buf_init(buf, 0);
}

void tw_batch_destroy(struct tw_out_batch *b, struct tw_buf *spare, size_t spare_max)
{
	if (b->coding == TW_CODING_IDENTITY)
		recycle(&b->request, spare, spare_max);
	else
		tw_buf_deinit(&b->request);
	tw_free(b);
}

int tw_batch_append(struct tw_out_batch *b, struct tw_emit_span *spans, size_t count,
                    const struct tw_emit_patch *patch)
{
	size_t n = b->request.n;
	int rc = tw_emit_trace(&b->request, spans, count, patch);

	if (rc == 0 && !b->request.failed) {
		b->spans += count;
		return 0;
	}
	b->request.n = n;
	b->request.failed = false;
	return rc ? rc : TW_ENOMEM;
}

void tw_batch_trim(struct tw_out_batch *b)
{
	struct tw_buf *r = &b->request;
	void *p;

	if (r->n == 0 || r->cap - r->n <= r->n / 4)
		return;
	p = tw_realloc(r->p, r->n);
	if (!p)
		return;
	r->p = p;
	r->cap = r->n;
}

void tw_batch_code(struct tw_out_batch *b, enum tw_coding coding, struct tw_buf *spare,
                   size_t spare_max)
{
	struct tw_buf out;

	TW_ASSERT(!b->coded);
	b->coded = true;
	if (coding == TW_CODING_IDENTITY)
		return;
	tw_buf_init(&out, 0);
	if (tw_deflate(coding, tw_buf_slice(&b->request), &out) != 0 || out.failed) {
		tw_buf_deinit(&out);
		return;
	}
	recycle(&b->request, spare, spare_max);
	b->request = out;
	b->coding = coding;
	/* The coder reserves its worst case; what it wrote is a tenth of that. */
	tw_batch_trim(b);
}

void tw_batch_list_init(struct tw_batch_list *l)
{
	l->first = NULL;
	l->end = &l->first;
}

void tw_batch_list_put(struct tw_batch_list *l, struct tw_out_batch *b)
{
	b->next = NULL;
	*l->end = b;
	l->end = &b->next;
}

void tw_batch_list_unget(struct tw_batch_list *l, struct tw_out_batch *b)
{
	b->next = l->first;
	l->first = b;
	if (!b->next)
		l->end = &b->next;
}

void tw_batch_list_remove(struct tw_batch_list *l, struct tw_out_batch **at)
{
	struct tw_out_batch *b = *at;

	*at = b->next;
	if (l->end == &b->next)
		l->end = at;
	b->next = NULL;
}

struct tw_out_batch *tw_batch_list_take(struct tw_batch_list *l)
{
	struct tw_out_batch *b = l->first;

	if (b)
		tw_batch_list_remove(l, &l->first);
	return b;
}
