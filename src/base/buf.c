#include "tw/base/buf.h"

#include <stdarg.h>
#include <stdio.h>

#include "tw/base/mem.h"

#define BUF_BYTES_MIN 64

void tw_buf_init(struct tw_buf *b, size_t max)
{
	*b = (struct tw_buf){.max = max};
}

void tw_buf_deinit(struct tw_buf *b)
{
	tw_free(b->p);
	*b = (struct tw_buf){.max = b->max};
}

void tw_buf_clear(struct tw_buf *b)
{
	b->n = 0;
	b->failed = false;
}

static bool buf_fail(struct tw_buf *b)
{
	b->failed = true;
	return false;
}

bool tw_buf_grow(struct tw_buf *b, size_t more)
{
	size_t bound = b->max ? b->max : SIZE_MAX / 2;
	size_t cap;
	void *p;

	if (b->failed)
		return false;
	if (more > bound || b->n > bound - more)
		return buf_fail(b);
	if (more <= b->cap - b->n)
		return true;
	cap = b->cap < BUF_BYTES_MIN ? BUF_BYTES_MIN : b->cap;
	while (cap < b->n + more)
		cap = cap > bound / 2 ? bound : cap * 2;
	if (cap > bound)
		cap = bound;
	p = tw_realloc(b->p, cap);
	if (!p)
		return buf_fail(b);
	b->p = p;
	b->cap = cap;
	return true;
}

void tw_buf_put(struct tw_buf *b, const void *p, size_t n)
{
	if (!tw_buf_grow(b, n) || n == 0)
		return;
	memcpy(b->p + b->n, p, n);
	b->n += n;
}

void tw_buf_puts(struct tw_buf *b, const char *s)
{
	tw_buf_put(b, s, strlen(s));
}

void tw_buf_putc(struct tw_buf *b, char c)
{
	tw_buf_put(b, &c, 1);
}

/* vsnprintf wants a place for its NUL, which the text itself does not need: a text that ends
 * exactly at `max` goes through a copy of its own. */
static void buf_print_exact(struct tw_buf *b, size_t n, const char *fmt, va_list ap)
{
	char *copy = tw_alloc(n + 1);

	if (!copy) {
		buf_fail(b);
		return;
	}
	vsnprintf(copy, n + 1, fmt, ap);
	tw_buf_put(b, copy, n);
	tw_free(copy);
}

void tw_buf_printf(struct tw_buf *b, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (b->failed)
		return;
	va_start(ap, fmt);
	n = vsnprintf(b->p ? (char *)b->p + b->n : NULL, b->cap - b->n, fmt, ap);
	va_end(ap);
	if (n < 0 || !tw_buf_grow(b, (size_t)n)) {
		buf_fail(b);
		return;
	}
	va_start(ap, fmt);
	if ((size_t)n < b->cap - b->n) {
		vsnprintf((char *)b->p + b->n, (size_t)n + 1, fmt, ap);
		b->n += (size_t)n;
	} else {
		buf_print_exact(b, (size_t)n, fmt, ap);
	}
	va_end(ap);
}

struct tw_slice tw_buf_slice(const struct tw_buf *b)
{
	return tw_slice(b->p, b->n);
}
