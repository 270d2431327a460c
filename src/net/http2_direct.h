/* DATA from the socket straight into the body that it is for.
 *
 * In the middle of a DATA frame of a gRPC message the rest of the message is known to come, and
 * nearly always in frames as long as this one, one after the other. So one readv has a place for
 * each: payloads behind one another in the body, the heads between them in `head`, what follows the
 * message in the read buffer. If heads turn out as planned, nghttp2 is fed the pieces where they
 * lie, and the body has its bytes already; else what is left is copied away first and fed as usual.
 * Nothing is believed before its head was read.
 *
 * Only messages whose memory is reserved, frames without padding. Loop's thread; a plan is of one
 * connection and lives from plan to feed. */
#ifndef TW_NET_HTTP2_DIRECT_H
#define TW_NET_HTTP2_DIRECT_H

#include <sys/uio.h>

#include "http2.h"

#define TW_H2_DIRECT_FRAMES 24u /* behind the one at hand: a message of 400 KB */

#define TW_H2_HEAD_BYTES 9u

struct tw_h2_direct {
	struct iovec iov[2 * TW_H2_DIRECT_FRAMES + 2];
	uint32_t count;
	struct tw_request *request;
	uint8_t head[TW_H2_DIRECT_FRAMES][TW_H2_HEAD_BYTES];
};

/* A frame begins. */
void tw_h2_direct_frame(struct tw_h2 *h, const nghttp2_frame_hd *hd);
/* Is what comes next the rest of a message that can be read so? */
bool tw_h2_direct_ready(const struct tw_conn *c);
/* It is: fills d->iov, with `rest` as its last. */
void tw_h2_direct_plan(struct tw_conn *c, struct tw_h2_direct *d, uint8_t *rest, size_t rest_n);
/* n bytes came into the vectors, in their order. As tw_h2_feed. */
void tw_h2_direct_feed(struct tw_conn *c, struct tw_h2_direct *d, size_t n);

#endif
