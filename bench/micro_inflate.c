/* Nanoseconds per span of inflating as a server does it, over the generator's requests, and beside
 * it what the libraries take by themselves: contexts made once, straight into memory that is there
 * and large enough.
 *
 *   micro_inflate [ROUNDS] */
#include <stdio.h>

#include <libdeflate.h>
#include <zlib.h>
#include <zstd.h>

#include "micro_bodies.h"
#include "../src/net/inflate.h" /* a private header; its folder has a body.h, too */

#define ROOM ((size_t)1 << 20)

struct libraries {
	struct libdeflate_decompressor *deflate;
	z_stream z;
	ZSTD_DCtx *zstd;
	uint8_t *out;
	struct tw_inflater ours;
};

typedef size_t (*inflate_fn)(struct libraries *l, struct tw_slice in);

static size_t by_libdeflate(struct libraries *l, struct tw_slice in)
{
	size_t n = 0;

	return libdeflate_gzip_decompress(l->deflate, in.p, in.n, l->out, ROOM, &n) ==
	               LIBDEFLATE_SUCCESS
	           ? n
	           : 0;
}

static size_t by_zlib(struct libraries *l, struct tw_slice in)
{
	inflateReset(&l->z);
	l->z.next_in = (Bytef *)(uintptr_t)in.p;
	l->z.avail_in = (unsigned)in.n;
	l->z.next_out = l->out;
	l->z.avail_out = ROOM;
	return inflate(&l->z, Z_FINISH) == Z_STREAM_END ? ROOM - l->z.avail_out : 0;
}

static size_t by_zstd(struct libraries *l, struct tw_slice in)
{
	size_t n = ZSTD_decompressDCtx(l->zstd, l->out, ROOM, in.p, in.n);

	return ZSTD_isError(n) ? 0 : n;
}

static size_t ours(struct libraries *l, enum tw_coding c, struct tw_slice in)
{
	struct tw_error err;
	struct tw_body out;
	size_t n;

	tw_body_init(&out, NULL);
	n = tw_inflate_by(&l->ours, c, in, &out, 64u << 20, &err) == 0 ? out.n : 0;
	tw_body_deinit(&out);
	return n;
}

static size_t ours_gzip(struct libraries *l, struct tw_slice in)
{
	return ours(l, TW_CODING_GZIP, in);
}

static size_t ours_zstd(struct libraries *l, struct tw_slice in)
{
	return ours(l, TW_CODING_ZSTD, in);
}

static int measure(const char *name, const struct micro_bodies *m, struct libraries *l,
                   inflate_fn fn, unsigned rounds)
{
	double *ns = calloc(rounds, sizeof(*ns));

	if (ns == NULL)
		return 3;
	for (unsigned k = 0; k < rounds; k++) {
		double t0 = micro_now_ns();

		for (uint32_t i = 0; i < MICRO_BODIES; i++)
			if (fn(l, tw_buf_slice(&m->body[i])) == 0) {
				fprintf(stderr, "%s cannot inflate it\n", name);
				return 1;
			}
		ns[k] = (micro_now_ns() - t0) / (double)m->spans;
	}
	qsort(ns, rounds, sizeof(ns[0]), micro_compare);
	printf("%-35s %6.1f ns a span (best %.1f), from %.1f bytes\n", name, ns[rounds / 2], ns[0],
	       (double)m->bytes / (double)m->spans);
	free(ns);
	return 0;
}

/* The same bodies again, as a writer compresses who does not know how long they will be. */
static bool restream(struct micro_bodies *m, struct libraries *l)
{
	ZSTD_CStream *s = ZSTD_createCStream();
	uint8_t *packed = malloc(ROOM);

	m->bytes = 0;
	for (uint32_t i = 0; i < MICRO_BODIES; i++) {
		size_t n = by_zstd(l, tw_buf_slice(&m->body[i]));
		ZSTD_outBuffer to = {packed, ROOM, 0};
		ZSTD_inBuffer from = {l->out, n, 0};

		ZSTD_initCStream(s, 1);
		if (ZSTD_isError(ZSTD_compressStream(s, &to, &from)) || ZSTD_endStream(s, &to) != 0)
			return false;
		tw_buf_clear(&m->body[i]);
		tw_buf_put(&m->body[i], packed, to.pos);
		m->bytes += to.pos;
	}
	ZSTD_freeCStream(s);
	free(packed);
	return true;
}

static int measure_coding(enum tw_load_coding c, struct libraries *l, unsigned rounds)
{
	struct tw_load_form form = {.packer = tw_load_packer_create(c)};
	struct micro_bodies m;
	int rc = 3;

	if (form.packer == NULL || !micro_bodies_init(&m, &form))
		return 3;
	if (c == TW_LOAD_GZIP) {
		rc = measure("gzip: ours", &m, l, ours_gzip, rounds);
		rc |= measure("gzip: libdeflate alone", &m, l, by_libdeflate, rounds);
		rc |= measure("gzip: zlib alone", &m, l, by_zlib, rounds);
	} else {
		rc = measure("zstd: ours", &m, l, ours_zstd, rounds);
		rc |= measure("zstd: libzstd alone", &m, l, by_zstd, rounds);
		rc |= restream(&m, l) ? 0 : 3;
		rc |= measure("zstd, size not told: ours", &m, l, ours_zstd, rounds);
		rc |= measure("zstd, size not told: libzstd alone", &m, l, by_zstd, rounds);
	}
	micro_bodies_deinit(&m);
	tw_load_packer_destroy(&form.packer);
	return rc;
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 41;
	struct libraries l = {.deflate = libdeflate_alloc_decompressor(),
	                      .zstd = ZSTD_createDCtx(),
	                      .out = malloc(ROOM)};
	int rc;

	if (rounds == 0 || l.deflate == NULL || l.zstd == NULL || l.out == NULL ||
	    inflateInit2(&l.z, 15 + 16) != Z_OK)
		return 3;
	rc = measure_coding(TW_LOAD_GZIP, &l, rounds);
	rc |= measure_coding(TW_LOAD_ZSTD, &l, rounds);
	tw_inflater_deinit(&l.ours);
	inflateEnd(&l.z);
	ZSTD_freeDCtx(l.zstd);
	libdeflate_free_decompressor(l.deflate);
	free(l.out);
	return rc;
}
