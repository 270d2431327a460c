#include <isa-l/igzip_lib.h>
#include <zstd.h>

#include "tw/base/error.h"
#include "tw/base/mem.h"
#include "tw/net.h"

/* Batches are compressed once and on the path of a worker: the fastest levels that still find the
 * repeats. */
#define GZIP_LEVEL       1
#define GZIP_LEVEL_BYTES ISAL_DEF_LVL1_DEFAULT
#define ZSTD_LEVEL       1

/* What a compression of isa-l needs beside its input and output, some 370 KiB. */
struct igzip {
	struct isal_zstream z;
	uint8_t level[GZIP_LEVEL_BYTES];
};

/* The room at first: more than half of what hardly compresses, and heads and trailers. */
static size_t igzip_room(size_t in)
{
	return in / 2 + 4096;
}

static int igzip_run(struct isal_zstream *z, struct tw_buf *out)
{
	do {
		size_t room = igzip_room(z->avail_in);

		if (!tw_buf_grow(out, room))
			return TW_ENOMEM;
		z->next_out = out->p + out->n;
		z->avail_out = (uint32_t)room;
		if (isal_deflate(z) != COMP_OK)
			return TW_ENOMEM; /* its input is sane, its memory was there */
		out->n += room - z->avail_out;
	} while (z->internal_state.state != ZSTATE_END);
	return 0;
}

static int deflate_igzip(enum tw_coding c, struct tw_slice in, struct tw_buf *out)
{
	struct igzip *g;
	int rc;

	if (in.n > UINT32_MAX)
		return TW_ELIMIT;
	g = tw_alloc(sizeof(*g));
	if (!g)
		return TW_ENOMEM;
	isal_deflate_init(&g->z);
	g->z.level = GZIP_LEVEL;
	g->z.level_buf = g->level;
	g->z.level_buf_size = sizeof(g->level);
	g->z.gzip_flag = c == TW_CODING_GZIP ? IGZIP_GZIP : IGZIP_ZLIB;
	g->z.end_of_stream = 1;
	g->z.next_in = (uint8_t *)(uintptr_t)in.p;
	g->z.avail_in = (uint32_t)in.n;
	rc = igzip_run(&g->z, out);
	tw_free(g);
	return rc;
}

static int deflate_zstd(struct tw_slice in, struct tw_buf *out)
{
	size_t bound = ZSTD_compressBound(in.n), n;

	if (ZSTD_isError(bound))
		return TW_ELIMIT;
	if (!tw_buf_grow(out, bound))
		return TW_ENOMEM;
	n = ZSTD_compress(out->p + out->n, bound, in.p, in.n, ZSTD_LEVEL);
	if (ZSTD_isError(n))
		return TW_ENOMEM; /* the only thing left that can go wrong */
	out->n += n;
	return 0;
}

int tw_deflate(enum tw_coding c, struct tw_slice in, struct tw_buf *out)
{
	switch (c) {
	case TW_CODING_IDENTITY:
		tw_buf_put(out, in.p, in.n);
		return out->failed ? TW_ENOMEM : 0;
	case TW_CODING_GZIP:
	case TW_CODING_DEFLATE:
		return deflate_igzip(c, in, out);
	case TW_CODING_ZSTD:
		return deflate_zstd(in, out);
	case TW_CODING_UNKNOWN:
		break;
	}
	return TW_EUNSUP;
}
