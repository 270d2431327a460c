/* From outcomes to the protocol's words. Private to receive. */
#ifndef TW_RECEIVE_REPLY_H
#define TW_RECEIVE_REPLY_H

#include "tw/receive.h"

enum { /* google.rpc.Code */
       TW_GRPC_OK = 0,
       TW_GRPC_INVALID_ARGUMENT = 3,
       TW_GRPC_DEADLINE_EXCEEDED = 4,
       TW_GRPC_RESOURCE_EXHAUSTED = 8,
       TW_GRPC_UNIMPLEMENTED = 12,
       TW_GRPC_INTERNAL = 13,
       TW_GRPC_UNAVAILABLE = 14,
};

struct tw_failure {
	int http; /* status */
	int grpc; /* code */
	const char *text;
	uint64_t retry_ms; /* 0: not retryable, no retry information */
	const char *allow; /* with 405 */
};

/* JSON is answered in JSON, everything else in protobuf. */
bool tw_receive_is_json(const struct tw_exchange *x);
/* Fills r; its slices point into `out`, which is cleared first. */
void tw_receive_failure(const struct tw_exchange *x, const struct tw_failure *f, struct tw_buf *out,
                        struct tw_reply *r);
void tw_receive_success(const struct tw_exchange *x, uint64_t rejected, const char *message,
                        struct tw_buf *out, struct tw_reply *r);

#endif
