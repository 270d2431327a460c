/* What the decoders of tw_inflate share. A compressed body is hostile until it is inflated: the
 * output grows as bytes appear, under the limit, the budget and the ratio, whatever a header
 * claims. */
#ifndef TW_NET_INFLATE_H
#define TW_NET_INFLATE_H

#include "tw/net.h"
#include "tw/base/error.h"

#define TW_INFLATE_RATIO_MAX      1000              /* output : input … */
#define TW_INFLATE_RATIO_FROM     ((size_t)1 << 20) /* … once the output is larger than this, bytes */
#define TW_INFLATE_AT_ONCE_RATIO  100 /* a claim beyond this is not allocated at once */
#define TW_INFLATE_WINDOW_LOG_MAX 23  /* zstd: 8 MiB, RFC 9659 */

/* Contexts for bodies that are inflated at once, made when they are first needed and used again:
 * making one of zstd's takes 10 µs (it asks the processor what it can do, which a hypervisor
 * answers). Their size does not depend on what they inflate. All zeros: empty. One thread's. */
struct tw_inflater {
	struct libdeflate_decompressor *gzip;
	struct ZSTD_DCtx_s *zstd;
};

void tw_inflater_deinit(struct tw_inflater *f);
/* As tw_inflate. */
int tw_inflate_by(struct tw_inflater *f, enum tw_coding c, struct tw_slice in, struct tw_body *out,
                  size_t max, struct tw_error *err);

/* Says rc (TW_ELIMIT, TW_EFULL, TW_ENOMEM) in words; returns it. */
int tw_inflate_error(struct tw_error *err, int rc, size_t max);
/* TW_ELIMIT when `out` bytes out of `in` bytes are more than the ratio allows. */
int tw_inflate_check_ratio(size_t in, size_t out, struct tw_error *err);
/* Whether memory for a claimed size, > 0, may be taken before it has shown. */
bool tw_inflate_plausible(size_t in_bytes, size_t claim, const struct tw_body *out, size_t max);
/* At least one free byte in out, more in proportion to in_bytes. */
int tw_inflate_room(struct tw_body *out, size_t in_bytes, size_t max, struct tw_error *err);

int tw_inflate_zstd(struct tw_inflater *f, struct tw_slice in, struct tw_body *out, size_t max,
                    struct tw_error *err);

#endif
