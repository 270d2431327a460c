/* Messages whose length is known when they end. */
#include "put.h"

size_t put_begin(struct tw_buf *b, uint32_t tag, size_t guess)
{
	put_varint(b, tag);
	if (put_room(b, 10))
		b->n += put_varint_size(guess);
	return b->n;
}

void put_end(struct tw_buf *b, size_t begin, size_t guess)
{
	size_t n = b->n - begin, room = put_varint_size(guess), size = put_varint_size(n);

	if (b->failed || !put_room(b, 10))
		return;
	if (size != room) {
		memmove(b->p + begin - room + size, b->p + begin, n);
		b->n = b->n - room + size;
	}
	put_varint_at(b->p + begin - room, n);
}
