/* A growable byte buffer for text and frames. Not shared between threads.
 *
 * A failed growth is remembered (`failed`) and later writes are ignored, so a writer checks once,
 * at the end. Data moves when it grows: keep offsets, not pointers. */
#ifndef TW_BASE_BUF_H
#define TW_BASE_BUF_H

#include "tw/base/slice.h"

struct tw_buf {
	uint8_t *p;
	size_t n;    /* bytes in use */
	size_t cap;  /* bytes allocated */
	size_t max;  /* never grows past this many bytes; 0 = no bound */
	bool failed; /* an append did not fit or the allocator refused */
};

void tw_buf_init(struct tw_buf *b, size_t max);
void tw_buf_deinit(struct tw_buf *b);            /* frees; the struct may be inited again */
void tw_buf_clear(struct tw_buf *b);             /* keeps the memory; clears `failed` */
bool tw_buf_grow(struct tw_buf *b, size_t more); /* room for `more` bytes behind n; false: failed */
void tw_buf_put(struct tw_buf *b, const void *p, size_t n);
void tw_buf_puts(struct tw_buf *b, const char *s);
void tw_buf_putc(struct tw_buf *b, char c);
void tw_buf_printf(struct tw_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
struct tw_slice tw_buf_slice(const struct tw_buf *b);

#endif
