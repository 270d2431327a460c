/* gRPC over HTTP/2: the five bytes before a message, timeouts, and what goes into trailers.
 * From grpc/doc/PROTOCOL-HTTP2.md. Pure functions and one small state. [any] */
#ifndef TW_NET_GRPC_H
#define TW_NET_GRPC_H

#include "tw/net.h"
#include "tw/base/error.h"

#define TW_GRPC_OK                 0
#define TW_GRPC_DEADLINE_EXCEEDED  4
#define TW_GRPC_RESOURCE_EXHAUSTED 8
#define TW_GRPC_UNIMPLEMENTED      12
#define TW_GRPC_INTERNAL           13
#define TW_GRPC_UNAVAILABLE        14

#define TW_GRPC_PREFIX_BYTES    5
#define TW_GRPC_ACCEPT_ENCODING "identity,gzip,deflate,zstd"
#define TW_GRPC_MESSAGE_MAX     1024u /* of grpc-message, before encoding */
#define TW_GRPC_DETAILS_MAX                                                                        \
	4096u /* of grpc-status-details-bin, before encoding; longer ones are left out */

/* One message of a unary call, put together from pieces cut anywhere. */
struct tw_grpc_frame {
	uint8_t prefix[TW_GRPC_PREFIX_BYTES];
	uint8_t prefix_n;
	bool compressed;
	uint32_t length; /* once prefix_n is 5 */
};

/* Takes the next piece into body. TW_EINVAL: not a message, or a second one; TW_ELIMIT: declared
 * longer than max (nothing of it is kept); TW_EFULL, TW_ENOMEM. */
int tw_grpc_feed(struct tw_grpc_frame *f, const uint8_t *p, size_t n, struct tw_body *body,
                 size_t max, struct tw_error *err);
/* The peer has sent all: TW_EINVAL unless exactly one whole message came. */
int tw_grpc_end(const struct tw_grpc_frame *f, const struct tw_body *body, struct tw_error *err);

/* "100m" → ns. TW_EINVAL: not 1–8 digits and one of HMSmun. */
int tw_grpc_timeout_parse(struct tw_slice s, uint64_t *ns);
/* Appends as grpc-message demands: printable ASCII but '%' as it is, the rest as %XX. */
void tw_grpc_message_encode(struct tw_slice s, struct tw_buf *out);
/* Appends base64 without padding. */
void tw_grpc_base64_encode(struct tw_slice s, struct tw_buf *out);

#endif
