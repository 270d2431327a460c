/* What gRPC puts into an answer's headers and body (grpc/doc/PROTOCOL-HTTP2.md): status, message,
 * details, framing. */
#ifndef TW_NET_CLIENT_GRPC_H
#define TW_NET_CLIENT_GRPC_H

#include "client.h"

void tw_grpc_header(struct tw_client_call *call, struct tw_slice name, struct tw_slice value);
/* The stream has ended: works out the status and the message, and finishes the call. */
void tw_grpc_answer(struct tw_client_call *call);
/* The stream was reset with an HTTP/2 error code; finishes the call with the status that gRPC gives
 * it. */
void tw_grpc_reset(struct tw_client_call *call, uint32_t code, const char *name);

#endif
