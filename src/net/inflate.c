#include "tw/net.h"

#include <strings.h>
#include <libdeflate.h>
#include <zlib.h>
#include <zstd.h>

#include "tw/base/error.h"
#include "tw/base/mem.h"

#include "body.h"
#include "inflate.h"

enum tw_coding tw_coding_parse(struct tw_slice name)
{
	static const struct {
		const char *name;
		enum tw_coding coding;
	} known[] = {
	    {"", TW_CODING_IDENTITY},   {"identity", TW_CODING_IDENTITY}, {"gzip", TW_CODING_GZIP},
	    {"x-gzip", TW_CODING_GZIP}, {"deflate", TW_CODING_DEFLATE},   {"zstd", TW_CODING_ZSTD},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strlen(known[i].name) == name.n &&
		    (name.n == 0 || strncasecmp(known[i].name, (const char *)name.p, name.n) == 0))
			return known[i].coding;
	return TW_CODING_UNKNOWN;
}

int tw_inflate_error(struct tw_error *err, int rc, size_t max)
{
	switch (rc) {
	case TW_ELIMIT:
		return tw_error_set(err, rc, 0, "the decompressed body is larger than %zu bytes",
		                    max);
	case TW_EFULL:
		return tw_error_set(err, rc, 0, "too many bodies are being held in memory");
	default:
		return tw_error_set(err, rc, 0, "out of memory");
	}
}

int tw_inflate_check_ratio(size_t in, size_t out, struct tw_error *err)
{
	if (out > TW_INFLATE_RATIO_FROM && out / TW_INFLATE_RATIO_MAX > in)
		return tw_error_set(err, TW_ELIMIT, 0,
		                    "the body is compressed by more than %d to 1",
		                    TW_INFLATE_RATIO_MAX);
	return TW_OK;
}

bool tw_inflate_plausible(size_t in_bytes, size_t claim, const struct tw_body *out, size_t max)
{
	return claim > 0 && claim <= max && out->n <= max - claim &&
	       claim / TW_INFLATE_RATIO_MAX <= in_bytes &&
	       (claim <= TW_INFLATE_RATIO_FROM || claim / TW_INFLATE_AT_ONCE_RATIO <= in_bytes);
}

int tw_inflate_room(struct tw_body *out, size_t in_bytes, size_t max, struct tw_error *err)
{
	size_t want = in_bytes < 16384 ? 16384 : in_bytes;
	int rc;

	if (out->n == max)
		return tw_inflate_error(err, TW_ELIMIT, max);
	if (want > max - out->n)
		want = max - out->n;
	rc = out->cap > out->n ? TW_OK : tw_body_room(out, want, max);
	return rc == TW_OK ? TW_OK : tw_inflate_error(err, rc, max);
}

static void *zlib_alloc(void *ctx, unsigned count, unsigned size)
{
	(void)ctx;
	return tw_calloc(count, size);
}

static void zlib_free(void *ctx, void *p)
{
	(void)ctx;
	tw_free(p);
}

static int zlib_garbage(struct tw_error *err, const z_stream *z, size_t in_bytes)
{
	return tw_error_set(err, TW_EINVAL, in_bytes - z->avail_in,
	                    "the compressed body is broken: %s",
	                    z->msg != NULL ? z->msg : "it ends too early");
}

/* One call of inflate() into what room there is. Returns zlib's code. */
static int zlib_step(z_stream *z, struct tw_body *out, size_t max)
{
	size_t room = (out->cap < max ? out->cap : max) - out->n;
	size_t before;
	int rc;

	z->next_out = out->p + out->n;
	z->avail_out = room > (1u << 30) ? (1u << 30) : (unsigned)room;
	before = z->avail_out;
	rc = inflate(z, Z_NO_FLUSH);
	out->n += before - z->avail_out;
	return rc;
}

static int zlib_run(z_stream *z, bool members, size_t in_bytes, struct tw_body *out, size_t max,
                    struct tw_error *err)
{
	size_t start = out->n;

	for (;;) {
		bool full = out->n == max;
		uint8_t probe;
		int rc;

		/* At the limit one spare byte tells a body that just fits from one that goes on. */
		if (full) {
			z->next_out = &probe;
			z->avail_out = 1;
			rc = inflate(z, Z_NO_FLUSH);
			if (z->avail_out == 0)
				return tw_inflate_error(err, TW_ELIMIT, max);
		} else {
			rc = tw_inflate_room(out, in_bytes, max, err);
			if (rc != TW_OK)
				return rc;
			rc = zlib_step(z, out, max);
		}
		if (rc == Z_MEM_ERROR)
			return tw_inflate_error(err, TW_ENOMEM, max);
		if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR)
			return zlib_garbage(err, z, in_bytes);
		if (tw_inflate_check_ratio(in_bytes - z->avail_in, out->n - start, err) != TW_OK)
			return TW_ELIMIT;
		if (rc == Z_STREAM_END) {
			if (z->avail_in == 0)
				return TW_OK;
			if (!members || inflateReset(z) != Z_OK)
				return tw_error_set(err, TW_EINVAL, in_bytes - z->avail_in,
				                    "bytes follow the compressed body");
			continue;
		}
		/* No progress is possible any more: the input is used up, and there was room. */
		if (z->avail_in == 0 && z->avail_out > 0)
			return zlib_garbage(err, z, in_bytes);
	}
}

static int inflate_zlib(enum tw_coding c, struct tw_slice in, struct tw_body *out, size_t max,
                        struct tw_error *err)
{
	z_stream z = {.zalloc = zlib_alloc, .zfree = zlib_free};
	int rc;

	z.next_in = (Bytef *)(uintptr_t)in.p;
	z.avail_in = (unsigned)in.n;
	if (inflateInit2(&z, c == TW_CODING_GZIP ? 15 + 16 : 15) != Z_OK)
		return tw_inflate_error(err, TW_ENOMEM, max);
	rc = zlib_run(&z, c == TW_CODING_GZIP, in.n, out, max, err);
	inflateEnd(&z);
	return rc;
}

static uint32_t le32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* A gzip body says its size at its end. Where that is plausible, libdeflate inflates the whole at
 * once, more than twice as fast as zlib; the claim is never trusted: any disagreement leaves `out`
 * as it was, and zlib decides. */
static bool inflate_gzip_at_once(struct tw_inflater *f, struct tw_slice in, struct tw_body *out,
                                 size_t max)
{
	size_t claim, used, made;
	bool done;

	if (in.n < 18)
		return false;
	claim = le32(in.p + in.n - 4);
	if (!tw_inflate_plausible(in.n, claim, out, max) ||
	    tw_body_reserve(out, out->n + claim) != TW_OK)
		return false;
	if (f->gzip == NULL)
		f->gzip = libdeflate_alloc_decompressor();
	if (f->gzip == NULL)
		return false;
	done = libdeflate_gzip_decompress_ex(f->gzip, in.p, in.n, out->p + out->n, claim, &used,
	                                     &made) == LIBDEFLATE_SUCCESS &&
	       used == in.n && made == claim;
	if (done)
		out->n += claim;
	return done;
}

void tw_inflater_deinit(struct tw_inflater *f)
{
	if (f->gzip != NULL)
		libdeflate_free_decompressor(f->gzip);
	ZSTD_freeDCtx(f->zstd);
	*f = (struct tw_inflater){0};
}

int tw_inflate(enum tw_coding c, struct tw_slice in, struct tw_body *out, size_t max,
               struct tw_error *err)
{
	struct tw_inflater f = {0};
	int rc = tw_inflate_by(&f, c, in, out, max, err);

	tw_inflater_deinit(&f);
	return rc;
}

int tw_inflate_by(struct tw_inflater *f, enum tw_coding c, struct tw_slice in, struct tw_body *out,
                  size_t max, struct tw_error *err)
{
	int rc;

	if (c == TW_CODING_UNKNOWN)
		return tw_error_set(err, TW_EUNSUP, 0, "the compression is not supported");
	if (c == TW_CODING_IDENTITY) {
		rc = tw_body_append(out, in.p, in.n, max);
		return rc == TW_OK ? TW_OK : tw_inflate_error(err, rc, max);
	}
	if (in.n == 0)
		return tw_error_set(err, TW_EINVAL, 0, "the compressed body is empty");
	if (in.n > UINT32_MAX)
		return tw_inflate_error(err, TW_ELIMIT, max);
	if (c == TW_CODING_ZSTD)
		return tw_inflate_zstd(f, in, out, max, err);
	if (c == TW_CODING_GZIP && inflate_gzip_at_once(f, in, out, max))
		return TW_OK;
	return inflate_zlib(c, in, out, max, err);
}
