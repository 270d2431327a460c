/* Bodies and what is compressed in them: tw_body, tw_inflate, and both through the server. */
#include "server_peer.h"
#include "body.h"
#include "inflate.h"
#include "tw/base/mem.h"

#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#define MIB ((size_t)1 << 20)

static uint8_t *text_of(size_t n, unsigned seed)
{
	uint8_t *p = malloc(n + 1);

	/* Compressible, some three to one. */
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1103515245u + 12345u;
		p[i] = (uint8_t)("abcdefgh"[seed >> 29]);
	}
	return p;
}

static struct tw_slice zlib_pack(const void *p, size_t n, int window_bits)
{
	size_t cap = compressBound(n) + 64;
	uint8_t *to = malloc(cap);
	z_stream z = {.next_in = (Bytef *)(uintptr_t)p, .avail_in = (unsigned)n};

	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_out = to;
	z.avail_out = (unsigned)cap;
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	return tw_slice(to, cap - z.avail_out);
}

static struct tw_slice gzip(const void *p, size_t n)
{
	return zlib_pack(p, n, 15 + 16);
}

static struct tw_slice zstd(const void *p, size_t n, int window_log, bool with_size)
{
	ZSTD_CCtx *c = ZSTD_createCCtx();
	size_t cap = ZSTD_compressBound(n);
	uint8_t *to = malloc(cap);
	ZSTD_inBuffer in = {p, n, 0};
	ZSTD_outBuffer out = {to, cap, 0};

	if (window_log > 0)
		ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, window_log);
	if (with_size) {
		ZSTD_CCtx_setPledgedSrcSize(c, n);
		assert_int_equal(ZSTD_compressStream2(c, &out, &in, ZSTD_e_end), 0);
	} else {
		/* In two steps: one step would find out the size by itself. */
		ZSTD_compressStream2(c, &out, &in, ZSTD_e_flush);
		assert_int_equal(ZSTD_compressStream2(c, &out, &in, ZSTD_e_end), 0);
	}
	ZSTD_freeCCtx(c);
	return tw_slice(to, out.pos);
}

static struct tw_slice join(struct tw_slice a, struct tw_slice b)
{
	uint8_t *p = malloc(a.n + b.n);

	memcpy(p, a.p, a.n);
	memcpy(p + a.n, b.p, b.n);
	return tw_slice(p, a.n + b.n);
}

static void drop(struct tw_slice s)
{
	free((void *)(uintptr_t)s.p);
}

static int run(enum tw_coding c, struct tw_slice in, size_t max, struct tw_body *out)
{
	struct tw_error err = {0};
	int rc;

	tw_body_init(out, NULL);
	rc = tw_inflate(c, in, out, max, &err);
	assert_true(rc == 0 || (err.code == rc && err.text[0] != '\0'));
	return rc;
}

static int run_only(enum tw_coding c, struct tw_slice in, size_t max)
{
	struct tw_body out;
	int rc = run(c, in, max, &out);

	assert_true(out.n <= max);
	tw_body_deinit(&out);
	return rc;
}

static void body_grows_within_limit_and_budget(void **state)
{
	struct tw_budget budget;
	struct tw_body b;
	uint8_t piece[1000] = {1};

	(void)state;
	tw_budget_init(&budget, 199999);
	tw_body_init(&b, &budget);
	for (int i = 0; i < 50; i++)
		assert_int_equal(tw_body_append(&b, piece, 1000, 50000), 0);
	assert_int_equal(b.n, 50000);
	assert_int_equal(tw_body_append(&b, piece, 1, 50000), TW_ELIMIT);
	assert_true(b.cap <= 50000);
	assert_int_equal(tw_budget_used(&budget), b.cap);
	for (int i = 50; i < 196; i++)
		assert_int_equal(tw_body_append(&b, piece, 1000, 300000), 0);
	/* Twice as much would have passed the budget; a step did not. The next one would. */
	assert_int_equal(b.cap, 3 * 65536);
	assert_int_equal(tw_body_append(&b, piece, 1000, 300000), TW_EFULL);
	assert_int_equal(b.n, 196000);
	assert_int_equal(tw_budget_used(&budget), b.cap);
	tw_body_deinit(&b);
	assert_int_equal(tw_budget_used(&budget), 0);
}

/* It moves once more when it has become large, and is given back a piece at a time. */
static void a_large_body_is_not_moved(void **state)
{
	uint8_t *piece = text_of(MIB / 2, 7);
	uint64_t used = 0, steps = 0;
	struct tw_budget budget;

	(void)state;
	tw_budget_init(&budget, 256 * MIB);
	/* Without memory for so much room it grows as it can. */
	for (uint64_t fail = 0; fail < 2; fail++) {
		const uint8_t *at = NULL;
		struct tw_body b;

		tw_body_init(&b, &budget);
		for (int i = 0; i < 20; i++) {
			if (i == 1 && fail)
				tw_mem_fail_at(1, false);
			assert_int_equal(tw_body_append(&b, piece, MIB / 2, 64 * MIB), TW_OK);
			tw_mem_fail_at(0, false);
			assert_int_equal(tw_budget_used(&budget), b.cap);
			assert_true(b.cap <= 2 * b.n);
			if (i == 4)
				at = b.p;
			assert_true(fail || i < 4 || b.p == at);
		}
		assert_true(b.room >= (fail ? 10 * MIB : 64 * MIB));
		for (int i = 0; i < 20; i++)
			assert_memory_equal(b.p + (size_t)i * MIB / 2, piece, MIB / 2);
		for (used = tw_budget_used(&budget), steps = 0; tw_body_shrink(&b, MIB); steps++) {
			assert_true(tw_budget_used(&budget) < used);
			used = tw_budget_used(&budget);
			assert_int_equal(used, b.cap);
		}
		assert_true(steps >= 9 && steps <= 16 && b.cap <= MIB);
		tw_body_deinit(&b);
		assert_int_equal(tw_budget_used(&budget), 0);
	}
	free(piece);
}

static void coding_names(void **state)
{
	(void)state;
	assert_int_equal(tw_coding_parse(tw_slice(NULL, 0)), TW_CODING_IDENTITY);
	assert_int_equal(tw_coding_parse(tw_slice_str("GZip")), TW_CODING_GZIP);
	assert_int_equal(tw_coding_parse(tw_slice_str("x-gzip")), TW_CODING_GZIP);
	assert_int_equal(tw_coding_parse(tw_slice_str("deflate")), TW_CODING_DEFLATE);
	assert_int_equal(tw_coding_parse(tw_slice_str("zstd")), TW_CODING_ZSTD);
	assert_int_equal(tw_coding_parse(tw_slice_str("identity")), TW_CODING_IDENTITY);
	assert_int_equal(tw_coding_parse(tw_slice_str("br")), TW_CODING_UNKNOWN);
	assert_int_equal(tw_coding_parse(tw_slice_str("gzip, gzip")), TW_CODING_UNKNOWN);
}

static void round_trip(void **state)
{
	static const size_t sizes[] = {0, 1, 17, 4096, 65537, 3 * MIB + 5};
	static const enum tw_coding codings[] = {TW_CODING_IDENTITY, TW_CODING_GZIP,
	                                         TW_CODING_DEFLATE, TW_CODING_ZSTD};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint8_t *text = text_of(sizes[i], 7);
		struct tw_slice packed[4] = {join(tw_slice(text, sizes[i]), tw_slice("", 0)),
		                             gzip(text, sizes[i]), zlib_pack(text, sizes[i], 15),
		                             zstd(text, sizes[i], 0, i % 2 == 0)};

		for (int k = 0; k < 4; k++) {
			struct tw_body out;

			/* The limit is exact. */
			assert_int_equal(run(codings[k], packed[k], sizes[i], &out), 0);
			assert_int_equal(out.n, sizes[i]);
			if (out.n > 0)
				assert_memory_equal(out.p, text, out.n);
			tw_body_deinit(&out);
			if (sizes[i] > 0)
				assert_int_equal(run_only(codings[k], packed[k], sizes[i] - 1),
				                 TW_ELIMIT);
			drop(packed[k]);
		}
		free(text);
	}
}

/* Every cut of a compressed body is a broken body, and so is every one with a byte changed in its
 * check sum. */
static void truncated_is_garbage(void **state)
{
	uint8_t *text = text_of(2000, 3);
	struct tw_slice packed[] = {gzip(text, 2000), zlib_pack(text, 2000, 15),
	                            zstd(text, 2000, 0, true)};
	enum tw_coding codings[] = {TW_CODING_GZIP, TW_CODING_DEFLATE, TW_CODING_ZSTD};

	(void)state;
	for (int k = 0; k < 3; k++) {
		for (size_t n = 0; n < packed[k].n; n++)
			assert_int_equal(run_only(codings[k], tw_slice(packed[k].p, n), MIB),
			                 TW_EINVAL);
		if (k < 2) {
			((uint8_t *)(uintptr_t)packed[k].p)[packed[k].n - (k == 0 ? 7 : 2)] ^= 1;
			assert_int_equal(run_only(codings[k], packed[k], MIB), TW_EINVAL);
		}
		drop(packed[k]);
	}
	assert_int_equal(run_only(TW_CODING_GZIP, tw_slice_str("this is no gzip at all"), MIB),
	                 TW_EINVAL);
	assert_int_equal(run_only(TW_CODING_UNKNOWN, tw_slice_str("x"), MIB), TW_EUNSUP);
	free(text);
}

static void IN_01_gzip_bomb(void **state)
{
	uint8_t *zeros = calloc(1, 256 * MIB);
	struct tw_slice bomb = gzip(zeros, 256 * MIB), two;
	struct tw_body out;

	(void)state;
	/* By its ratio, early: far less than the limit is ever allocated. */
	assert_int_equal(run(TW_CODING_GZIP, bomb, 1024 * MIB, &out), TW_ELIMIT);
	assert_true(out.n < 8 * MIB);
	tw_body_deinit(&out);
	/* By the limit. */
	assert_int_equal(run(TW_CODING_GZIP, bomb, MIB, &out), TW_ELIMIT);
	assert_true(out.cap <= MIB);
	tw_body_deinit(&out);
	/* In two members. */
	two = join(bomb, bomb);
	assert_int_equal(run_only(TW_CODING_GZIP, two, 64 * MIB), TW_ELIMIT);
	drop(two);
	drop(bomb);
	free(zeros);
}

static void IN_02_zstd_bomb(void **state)
{
	uint8_t *zeros = calloc(1, 64 * MIB);
	struct tw_body out;

	(void)state;
	for (int with_size = 0; with_size < 2; with_size++) {
		struct tw_slice bomb = zstd(zeros, 64 * MIB, 0, with_size == 1);

		assert_int_equal(run(TW_CODING_ZSTD, bomb, 1024 * MIB, &out), TW_ELIMIT);
		assert_true(out.n < 8 * MIB);
		tw_body_deinit(&out);
		drop(bomb);
	}
	free(zeros);
}

static void IN_02_zstd_window(void **state)
{
	uint8_t *text = text_of(12 * MIB, 5);
	struct tw_slice fits = zstd(text, 12 * MIB, 23, false),
	                wide = zstd(text, 12 * MIB, 24, false);
	uint8_t single[6 + 8] = {0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0x01, 0, 0, 0, 0, 1};

	(void)state;
	assert_int_equal(run_only(TW_CODING_ZSTD, fits, 64 * MIB), 0);
	assert_int_equal(run_only(TW_CODING_ZSTD, wide, 64 * MIB), TW_ELIMIT);
	/* One segment of 16 MiB is a window of 16 MiB. */
	assert_int_equal(run_only(TW_CODING_ZSTD, tw_slice(single, sizeof(single)), 64 * MIB),
	                 TW_ELIMIT);
	drop(fits);
	drop(wide);
	free(text);
}

/* IN-04: members and frames join; a gzip inside a gzip is unwrapped once; trailing bytes are
 * refused, alike everywhere. */
static void IN_04_nested_members_trailing(void **state)
{
	uint8_t *text = text_of(1000, 9);
	struct tw_slice one = gzip(text, 1000), nested = gzip(one.p, one.n),
	                members = join(one, one);
	struct tw_slice frame = zstd(text, 1000, 0, true), frames = join(frame, frame);
	struct tw_slice tails[] = {join(one, tw_slice_str("tail")), join(one, tw_slice("\0", 1)),
	                           join(frame, tw_slice_str("tail"))};
	struct tw_slice deflated = zlib_pack(text, 1000, 15),
	                tail = join(deflated, tw_slice_str("x"));
	struct tw_body out;

	(void)state;
	assert_int_equal(run(TW_CODING_GZIP, nested, MIB, &out), 0);
	assert_int_equal(out.n, one.n);
	tw_body_deinit(&out);
	assert_int_equal(run(TW_CODING_GZIP, members, MIB, &out), 0);
	assert_int_equal(out.n, 2000);
	assert_memory_equal(out.p + 1000, text, 1000);
	tw_body_deinit(&out);
	assert_int_equal(run(TW_CODING_ZSTD, frames, MIB, &out), 0);
	assert_int_equal(out.n, 2000);
	tw_body_deinit(&out);
	assert_int_equal(run_only(TW_CODING_GZIP, tails[0], MIB), TW_EINVAL);
	assert_int_equal(run_only(TW_CODING_GZIP, tails[1], MIB), TW_EINVAL);
	assert_int_equal(run_only(TW_CODING_ZSTD, tails[2], MIB), TW_EINVAL);
	assert_int_equal(run_only(TW_CODING_DEFLATE, tail, MIB), TW_EINVAL);
	drop(one), drop(nested), drop(members), drop(frame), drop(frames), drop(deflated),
	    drop(tail);
	drop(tails[0]), drop(tails[1]), drop(tails[2]);
	free(text);
}

/* A length that the gzip trailer lies about never decides. */
static void gzip_size_lies(void **state)
{
	uint8_t *text = text_of(5000, 11);
	struct tw_slice a = gzip(text, 5000);
	uint32_t lies[] = {0, 1, 4999, 5001, 400000, UINT32_MAX};

	(void)state;
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		memcpy((uint8_t *)(uintptr_t)a.p + a.n - 4, &lies[i], 4);
		assert_int_equal(run_only(TW_CODING_GZIP, a, MIB), TW_EINVAL);
	}
	drop(a);
	free(text);
}

/* ---- zstd at once ---- */

/* A frame with these blocks (RFC 8878, 3.1.1): a window of 128 KiB, no size, no checksum. */
static size_t frame_of(uint8_t *to, const uint32_t *heads, size_t count, size_t payload)
{
	static const uint8_t begin[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 7 << 3};
	size_t n = sizeof(begin);

	memcpy(to, begin, n);
	for (size_t i = 0; i < count; i++) {
		for (int k = 0; k < 3; k++)
			to[n++] = (uint8_t)(heads[i] >> (8 * k));
		memset(to + n, 'r', payload);
		n += payload;
	}
	return n;
}

static uint32_t block(bool last, uint32_t type, uint32_t size)
{
	return last | type << 1 | size << 3;
}

static void zstd_blocks(void **state)
{
	enum { RAW, RLE, COMPRESSED, RESERVED };
	const uint32_t raw[] = {block(false, RAW, 5), block(true, RAW, 5)};
	const uint32_t rle[] = {block(false, RLE, 128 << 10), block(true, RLE, 3)};
	const uint32_t huge[] = {block(true, RLE, (128 << 10) + 1)};
	const uint32_t reserved[] = {block(true, RESERVED, 1)};
	const uint32_t endless[] = {block(false, RAW, 5)}, longer[] = {block(true, RAW, 6)};
	uint8_t frame[64];
	struct tw_body out;
	size_t n;

	(void)state;
	n = frame_of(frame, raw, 2, 5);
	assert_int_equal(run(TW_CODING_ZSTD, tw_slice(frame, n), MIB, &out), 0);
	assert_memory_equal(out.p, "rrrrrrrrrr", 10);
	tw_body_deinit(&out);
	n = frame_of(frame, rle, 2, 1);
	assert_int_equal(run(TW_CODING_ZSTD, tw_slice(frame, n), MIB, &out), 0);
	assert_int_equal(out.n, (128 << 10) + 3);
	assert_int_equal(out.p[out.n - 1], 'r');
	tw_body_deinit(&out);
	assert_int_equal(run_only(TW_CODING_ZSTD, tw_slice(frame, n), 1000), TW_ELIMIT);
	n = frame_of(frame, huge, 1, 1);
	assert_int_equal(run_only(TW_CODING_ZSTD, tw_slice(frame, n), MIB), TW_EINVAL);
	n = frame_of(frame, reserved, 1, 1);
	assert_int_equal(run_only(TW_CODING_ZSTD, tw_slice(frame, n), MIB), TW_EINVAL);
	n = frame_of(frame, endless, 1, 5);
	assert_int_equal(run_only(TW_CODING_ZSTD, tw_slice(frame, n), MIB), TW_EINVAL);
	n = frame_of(frame, longer, 1, 5);
	assert_int_equal(run_only(TW_CODING_ZSTD, tw_slice(frame, n), MIB), TW_EINVAL);
}

/* A content size that the frame lies about never decides. */
static void zstd_size_lies(void **state)
{
	static const int lies[] = {0, 1, 4999, 5001, 65535};
	uint8_t *text = text_of(5000, 11), wrong[8192];
	struct tw_slice a = zstd(text, 5000, 0, true);

	(void)state;
	assert_int_equal(a.p[4] >> 6, 1); /* two bytes, 256 less than it is */
	assert_true(a.n <= sizeof(wrong));
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		size_t at = a.p[4] & 0x20 ? 5 : 6;

		memcpy(wrong, a.p, a.n);
		wrong[at] = (uint8_t)lies[i];
		wrong[at + 1] = (uint8_t)(lies[i] >> 8);
		assert_int_equal(run_only(TW_CODING_ZSTD, tw_slice(wrong, a.n), MIB), TW_EINVAL);
	}
	drop(a);
	free(text);
}

/* A short body does not hold the memory of a whole block, in the budget neither. */
static void zstd_bound_is_given_back(void **state)
{
	uint8_t *text = text_of(700, 17);
	struct tw_slice a = zstd(text, 700, 0, false);
	struct tw_budget budget;
	struct tw_error err;
	struct tw_body out;

	(void)state;
	tw_budget_init(&budget, MIB);
	tw_body_init(&out, &budget);
	assert_int_equal(tw_inflate(TW_CODING_ZSTD, a, &out, MIB, &err), 0);
	assert_int_equal(out.n, 700);
	assert_int_equal(out.cap, 700);
	assert_int_equal(tw_budget_used(&budget), 700);
	tw_body_deinit(&out);
	assert_int_equal(tw_budget_used(&budget), 0);
	drop(a);
	free(text);
}

/* One inflater for good and broken bodies in turn. */
static void inflater_is_used_again(void **state)
{
	uint8_t *text = text_of(5000, 19);
	struct tw_slice packed[] = {gzip(text, 5000), zstd(text, 5000, 0, true),
	                            zstd(text, 5000, 0, false)};
	enum tw_coding codings[] = {TW_CODING_GZIP, TW_CODING_ZSTD, TW_CODING_ZSTD};
	struct tw_inflater f = {0};
	struct tw_error err;
	struct tw_body out;

	(void)state;
	for (int i = 0; i < 30; i++) {
		size_t cut = i / 3 % 2 ? 100u * (unsigned)(i % 7 + 1) : 0;
		struct tw_slice in = packed[i % 3];

		tw_body_init(&out, NULL);
		in.n -= cut;
		assert_int_equal(tw_inflate_by(&f, codings[i % 3], in, &out, MIB, &err),
		                 cut ? TW_EINVAL : TW_OK);
		if (!cut)
			assert_memory_equal(out.p, text, 5000);
		tw_body_deinit(&out);
	}
	tw_inflater_deinit(&f);
	for (int i = 0; i < 3; i++)
		drop(packed[i]);
	free(text);
}

static void budget_ends_inflating(void **state)
{
	uint8_t *text = text_of(MIB, 13);
	struct tw_slice packed[] = {gzip(text, MIB), zstd(text, MIB, 0, true)};
	enum tw_coding codings[] = {TW_CODING_GZIP, TW_CODING_ZSTD};
	struct tw_budget budget;
	struct tw_error err;
	struct tw_body out;

	(void)state;
	for (int k = 0; k < 2; k++) {
		tw_budget_init(&budget, MIB - 1);
		tw_body_init(&out, &budget);
		assert_int_equal(tw_inflate(codings[k], packed[k], &out, 4 * MIB, &err), TW_EFULL);
		tw_body_deinit(&out);
		assert_int_equal(tw_budget_used(&budget), 0);
		tw_budget_init(&budget, 2 * MIB);
		tw_body_init(&out, &budget);
		assert_int_equal(tw_inflate(codings[k], packed[k], &out, 4 * MIB, &err), 0);
		tw_body_deinit(&out);
		assert_int_equal(tw_budget_used(&budget), 0);
		drop(packed[k]);
	}
	free(text);
}

/* ---- through the server ---- */

static void small_bodies(struct tw_server_opts *o)
{
	o->body_bytes_max = 2 * MIB;
}

static void http_post(struct peer *p, const char *coding, struct tw_slice body)
{
	char head[256];

	snprintf(head, sizeof(head),
	         "POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n"
	         "Content-Encoding: %s\r\nContent-Length: %zu\r\n\r\n",
	         coding, body.n);
	peer_sends(p, head);
	peer_send(p, body.p, body.n);
}

/* The same bytes get the same verdict over HTTP/1, HTTP/2 and gRPC, and each connection lives on.
 */
static void IN_01_02_04_same_on_every_protocol(void **state)
{
	uint8_t *zeros = calloc(1, 16 * MIB), *text = text_of(3000, 1);
	struct tw_slice cases[] = {gzip(text, 3000),
	                           zstd(text, 3000, 0, true),
	                           gzip(zeros, 16 * MIB),
	                           zstd(zeros, 16 * MIB, 0, false),
	                           join(cases[0], tw_slice_str("tail")),
	                           join(cases[1], tw_slice_str("tail")),
	                           join(tw_slice(cases[0].p, cases[0].n / 2), tw_slice("", 0))};
	static const char *codings[] = {"gzip", "zstd", "gzip", "zstd", "gzip", "zstd", "gzip"};
	static const int status[] = {200, 200, 413, 413, 400, 400, 400};
	static const int codes[] = {0, 0, 8, 8, 13, 13, 13};
	struct bench *b = bench_new(small_bodies);
	struct peer *p1 = peer_open(b), *p2 = peer_open(b);

	(void)state;
	h2_start(p2);
	for (int i = 0; i < 7; i++) {
		struct header http[] = {{"content-encoding", codings[i]}, {NULL, NULL}};
		struct header grpc[] = {{"grpc-encoding", codings[i]}, {NULL, NULL}};
		int32_t id = 1 + 4 * i;
		char line[32];

		p1->in_n = 0;
		http_post(p1, codings[i], cases[i]);
		peer_until(p1, peer_has(p1, "\r\n\r\n"));
		snprintf(line, sizeof(line), "HTTP/1.1 %d ", status[i]);
		assert_true(peer_has(p1, line));
		h2_request(p2, id, "POST", "/v1/traces", "application/x-protobuf", http, false);
		h2_data(p2, id, cases[i].p, cases[i].n, true);
		grpc_call(p2, id + 2, grpc, true, cases[i].p, cases[i].n);
		peer_until(p2, h2_stream(p2, id)->end && h2_stream(p2, id + 2)->end);
		assert_int_equal(h2_stream(p2, id)->status, status[i]);
		assert_int_equal(h2_stream(p2, id + 2)->grpc_status, codes[i]);
		if (status[i] == 200) {
			assert_int_equal(b->seen[b->seen_n - 1].body_n, 3000);
			assert_memory_equal(b->seen[b->seen_n - 1].body, text, 3000);
		}
	}
	assert_false(p1->closed || p2->closed || p2->goaway);
	for (int i = 0; i < 7; i++)
		drop(cases[i]);
	peer_free(p1);
	peer_free(p2);
	bench_free(b);
	free(zeros);
	free(text);
}

static void narrow_budget(struct tw_server_opts *o)
{
	o->bodies->max = 24 * MIB;
}

/* 40 calls of 2 MiB, decoded, on one connection while nobody answers: what the budget holds is let
 * in, the rest refused in a way that may be tried again. */
static void IN_05_bomb_fan_out(void **state)
{
	struct bench *b = bench_new(narrow_budget);
	struct peer *p = peer_open(b);
	uint8_t *text = text_of(2 * MIB, 1);
	struct tw_slice packed = zstd(text, 2 * MIB, 0, true);
	struct header zstd_encoding[] = {{"grpc-encoding", "zstd"}, {NULL, NULL}};
	unsigned refused = 0;

	(void)state;
	b->hold = true;
	h2_start(p);
	for (int i = 0; i < 40; i++)
		grpc_call(p, 1 + 2 * i, zstd_encoding, true, packed.p, packed.n);
	peer_until(p, b->seen_n == 40);
	assert_true(tw_budget_used(&b->bodies) <= 24 * MIB);
	assert_true(b->whole >= 8 && b->whole <= 12);
	for (int i = 0; i < 40; i++) {
		assert_true(b->seen[i].early == 0 || b->seen[i].early == TW_EFULL);
		refused += b->seen[i].early == TW_EFULL;
	}
	assert_int_equal(refused + b->whole, 40);
	bench_release(b);
	peer_until(p, h2_stream(p, 79)->end);
	/* And then there is room again. */
	b->hold = false;
	grpc_call(p, 81, zstd_encoding, true, packed.p, packed.n);
	peer_until(p, h2_stream(p, 81)->end);
	assert_int_equal(h2_stream(p, 81)->grpc_status, 0);
	drop(packed);
	free(text);
	peer_free(p);
	bench_free(b);
}

/* IN-20: an encoding that nobody knows. */
static void IN_20_unknown_encoding(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p1 = peer_open(b), *p2 = peer_open(b);
	struct header br[] = {{"grpc-encoding", "br"}, {NULL, NULL}};

	(void)state;
	http_post(p1, "gzip, gzip", tw_slice_str("hello"));
	peer_until(p1, peer_has(p1, "\r\n\r\n"));
	assert_true(peer_has(p1, "HTTP/1.1 415 "));
	assert_true(peer_has(p1, "accept-encoding: gzip, deflate, zstd\r\n"));
	h2_start(p2);
	grpc_call(p2, 1, br, true, "hello", 5);
	peer_until(p2, h2_stream(p2, 1)->end);
	assert_int_equal(h2_stream(p2, 1)->grpc_status, 12);
	assert_string_equal(h2_stream(p2, 1)->grpc_accept_encoding, "identity,gzip,deflate,zstd");
	assert_int_equal(b->seen[0].early, TW_EUNSUP);
	assert_int_equal(b->seen[1].early, TW_EUNSUP);
	peer_free(p1);
	peer_free(p2);
	bench_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(body_grows_within_limit_and_budget),
	    cmocka_unit_test(a_large_body_is_not_moved),
	    cmocka_unit_test(coding_names),
	    cmocka_unit_test(round_trip),
	    cmocka_unit_test(truncated_is_garbage),
	    cmocka_unit_test(IN_01_gzip_bomb),
	    cmocka_unit_test(IN_02_zstd_bomb),
	    cmocka_unit_test(IN_02_zstd_window),
	    cmocka_unit_test(IN_04_nested_members_trailing),
	    cmocka_unit_test(gzip_size_lies),
	    cmocka_unit_test(zstd_blocks),
	    cmocka_unit_test(zstd_size_lies),
	    cmocka_unit_test(zstd_bound_is_given_back),
	    cmocka_unit_test(inflater_is_used_again),
	    cmocka_unit_test(budget_ends_inflating),
	    cmocka_unit_test(IN_01_02_04_same_on_every_protocol),
	    cmocka_unit_test(IN_05_bomb_fan_out),
	    cmocka_unit_test(IN_20_unknown_encoding),
	};

	return cmocka_run_group_tests_name("net server: bodies", tests, NULL, NULL);
}
