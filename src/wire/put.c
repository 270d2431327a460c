/* Messages whose length is known when they end. */
#include "put.h"

void put_end_moved(struct tw_buf *b, size_t begin, size_t guess)
{
	size_t n = b->n - begin, room = put_varint_size(guess), size = put_varint_size(n);

	if (b->failed)
		return;
	memmove(b->p + begin - room + size, b->p + begin, n);
	b->n = b->n - room + size;
	put_varint_at(b->p + begin - room, n);
}
