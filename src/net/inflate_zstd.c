#include "inflate.h"

#include <zstd.h>

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

int tw_inflate_zstd(struct tw_slice in, struct tw_body *out, size_t max, struct tw_error *err)
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
