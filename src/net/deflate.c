#include <libdeflate.h>
#include <zstd.h>

#include "tw/net.h"

/* Batches are compressed once and on the path of a worker: the fastest level that still finds the
 * repeats. */
#define GZIP_LEVEL 1
#define ZSTD_LEVEL 1

static int deflate_libdeflate(enum tw_coding c, struct tw_slice in, struct tw_buf *out)
{
	struct libdeflate_compressor *z = libdeflate_alloc_compressor(GZIP_LEVEL);
	size_t bound, n;

	if (!z)
		return TW_ENOMEM;
	bound = c == TW_CODING_GZIP ? libdeflate_gzip_compress_bound(z, in.n)
	                            : libdeflate_zlib_compress_bound(z, in.n);
	if (!tw_buf_grow(out, bound)) {
		libdeflate_free_compressor(z);
		return TW_ENOMEM;
	}
	n = c == TW_CODING_GZIP ? libdeflate_gzip_compress(z, in.p, in.n, out->p + out->n, bound)
	                        : libdeflate_zlib_compress(z, in.p, in.n, out->p + out->n, bound);
	libdeflate_free_compressor(z);
	TW_ASSERT(n > 0); /* there was room for the bound */
	out->n += n;
	return 0;
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
		return deflate_libdeflate(c, in, out);
	case TW_CODING_ZSTD:
		return deflate_zstd(in, out);
	case TW_CODING_UNKNOWN:
		break;
	}
	return TW_EUNSUP;
}
