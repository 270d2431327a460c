#include "inflate.h"

#include <zstd.h>

#include "body.h"

#define ZSTD_FRAME_MAGIC 0xfd2fb528u
#define WINDOW_MAX       (UINT64_C(1) << TW_INFLATE_WINDOW_LOG_MAX)

static uint64_t le(const uint8_t *p, size_t n)
{
	uint64_t v = 0;

	for (size_t i = 0; i < n; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

/* The window that a frame asks for (RFC 8878, 3.1.1.1); 0: not a frame that says so here. The
 * decoder's own check is skipped by its single-pass path, so the header is read here too. */
static uint64_t frame_window(struct tw_slice in)
{
	static const uint8_t size_bytes[] = {0, 2, 4, 8};
	static const uint8_t dict_bytes[] = {0, 1, 2, 4};
	uint8_t descriptor;
	size_t at, n;

	if (in.n < 6 || le(in.p, 4) != ZSTD_FRAME_MAGIC)
		return 0;
	descriptor = in.p[4];
	if ((descriptor & 0x20) == 0) {
		uint64_t base = UINT64_C(1) << (10 + (in.p[5] >> 3));

		return base + base / 8 * (in.p[5] & 7);
	}
	at = 5u + dict_bytes[descriptor & 3];
	n = size_bytes[descriptor >> 6];
	if (n == 0)
		n = 1;
	if (in.n < at + n)
		return 0;
	return le(in.p + at, n);
}

static int check_window(const ZSTD_inBuffer *src, struct tw_error *err)
{
	struct tw_slice rest = tw_slice((const uint8_t *)src->src + src->pos, src->size - src->pos);

	if (frame_window(rest) > WINDOW_MAX)
		return tw_error_set(err, TW_ELIMIT, src->pos,
		                    "the zstd window is larger than 8 MiB");
	return TW_OK;
}

/* Where the blocks of the frame begin (RFC 8878, 3.1.1.1); 0: it is not whole. */
static size_t frame_blocks(struct tw_slice in)
{
	static const uint8_t size_bytes[] = {0, 2, 4, 8};
	static const uint8_t dict_bytes[] = {0, 1, 2, 4};
	bool single = (in.p[4] & 0x20) != 0;
	size_t n = size_bytes[in.p[4] >> 6];

	if (n == 0 && single)
		n = 1;
	n += 5u + !single + dict_bytes[in.p[4] & 3];
	return n <= in.n ? n : 0;
}

/* The most that the one frame in `in` can become, by the headers of its blocks; 0: this is not one
 * whole frame. The blocks themselves are not looked at. */
static size_t frame_bound(struct tw_slice in)
{
	uint64_t block_max = frame_window(in);
	size_t at, size, bound = 0;
	bool last = false;

	if (block_max == 0)
		return 0;
	if (block_max > ZSTD_BLOCKSIZE_MAX)
		block_max = ZSTD_BLOCKSIZE_MAX;
	at = frame_blocks(in);
	while (at != 0 && !last) {
		uint32_t head, type;

		if (in.n - at < 3)
			return 0;
		head = (uint32_t)le(in.p + at, 3);
		last = head & 1;
		type = head >> 1 & 3;
		size = head >> 3;
		bound += type == 2 ? (size_t)block_max : size;
		size = type == 1 ? 1 : size;
		at += 3;
		if (type == 3 || size > in.n - at)
			return 0;
		at += size;
	}
	if (at != 0 && (in.p[4] & 4))
		at += 4; /* the checksum */
	return at == in.n ? bound : 0;
}

/* One frame whose size is known, or whose blocks bound it: straight into the body, without the
 * window that a stream is copied out of. A claim is trusted no further than memory goes that is
 * plausible; any disagreement leaves `out` as it was, and the stream decides. */
static bool zstd_at_once(struct tw_inflater *f, struct tw_slice in, struct tw_body *out, size_t max)
{
	uint64_t size = ZSTD_getFrameContentSize(in.p, in.n);
	size_t bound = frame_bound(in), made;

	if (bound == 0 || frame_window(in) > WINDOW_MAX || size == ZSTD_CONTENTSIZE_ERROR)
		return false;
	if (size != ZSTD_CONTENTSIZE_UNKNOWN) {
		if (size > bound)
			return false;
		bound = (size_t)size;
	}
	if (!tw_inflate_plausible(in.n, bound, out, max) ||
	    tw_body_reserve(out, out->n + bound) != TW_OK)
		return false;
	if (f->zstd == NULL)
		f->zstd = ZSTD_createDCtx();
	if (f->zstd == NULL)
		return false;
	made = ZSTD_decompressDCtx(f->zstd, out->p + out->n, bound, in.p, in.n);
	if (ZSTD_isError(made))
		return false;
	out->n += made;
	tw_body_trim(out); /* a bound may be far off: short bodies, many small blocks */
	return true;
}

static int zstd_failed(size_t code, const ZSTD_inBuffer *src, size_t max, struct tw_error *err)
{
	if (ZSTD_isError(code) &&
	    strcmp(ZSTD_getErrorName(code), "Allocation error : not enough memory") == 0)
		return tw_inflate_error(err, TW_ENOMEM, max);
	return tw_error_set(err, TW_EINVAL, src->pos, "the compressed body is broken: %s",
	                    ZSTD_isError(code) ? ZSTD_getErrorName(code) : "it ends too early");
}

/* One step into the room there is, or, at the limit, into a spare byte that must stay empty. */
static size_t zstd_step(ZSTD_DCtx *d, ZSTD_inBuffer *src, struct tw_body *out, size_t max,
                        bool *over, bool *room_left)
{
	uint8_t probe;
	bool full = out->n == max;
	size_t cap = out->cap < max ? out->cap : max;
	ZSTD_outBuffer dst = {full ? &probe : out->p + out->n, full ? 1 : cap - out->n, 0};
	size_t rc = ZSTD_decompressStream(d, &dst, src);

	*room_left = dst.pos < dst.size;
	*over = full && dst.pos > 0;
	if (!full)
		out->n += dst.pos;
	return rc;
}

static int zstd_run(ZSTD_DCtx *d, struct tw_slice in, struct tw_body *out, size_t max,
                    struct tw_error *err)
{
	ZSTD_inBuffer src = {in.p, in.n, 0};
	size_t start = out->n;
	bool frame_start = true;

	for (;;) {
		bool over, room_left;
		size_t rc;
		int e = frame_start ? check_window(&src, err) : TW_OK;

		if (e == TW_OK && out->n < max)
			e = tw_inflate_room(out, in.n, max, err);
		if (e != TW_OK)
			return e;
		rc = zstd_step(d, &src, out, max, &over, &room_left);
		if (over)
			return tw_inflate_error(err, TW_ELIMIT, max);
		if (ZSTD_isError(rc))
			return zstd_failed(rc, &src, max, err);
		if (tw_inflate_check_ratio(src.pos, out->n - start, err) != TW_OK)
			return TW_ELIMIT;
		frame_start = rc == 0;
		if (src.pos == src.size && rc == 0)
			return TW_OK;
		if (src.pos == src.size && room_left)
			return zstd_failed(0, &src, max, err);
	}
}

/* With a context of its own: a stream's grows by its window. */
static int zstd_stream(struct tw_slice in, struct tw_body *out, size_t max, struct tw_error *err)
{
	ZSTD_DCtx *d = ZSTD_createDCtx();
	int rc;

	if (d == NULL ||
	    ZSTD_isError(ZSTD_DCtx_setParameter(d, ZSTD_d_windowLogMax, TW_INFLATE_WINDOW_LOG_MAX)))
		rc = tw_inflate_error(err, TW_ENOMEM, max);
	else
		rc = zstd_run(d, in, out, max, err);
	ZSTD_freeDCtx(d);
	return rc;
}

int tw_inflate_zstd(struct tw_inflater *f, struct tw_slice in, struct tw_body *out, size_t max,
                    struct tw_error *err)
{
	return zstd_at_once(f, in, out, max) ? TW_OK : zstd_stream(in, out, max, err);
}
