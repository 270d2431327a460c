/* OTLP receivers: what a request means and what it is answered.
 *
 * Turns a tw_exchange (net) into a body for a span sink, and the sink's result into the protocol's
 * words: gRPC status codes with details, HTTP status with google.rpc.Status, partial success, retry
 * information. Knows paths, media types and encodings; knows neither rules nor buffer. Facts: OTLP
 * specification 1.11, sections "OTLP/gRPC" and "OTLP/HTTP".
 *
 * Threads: stateless but for relaxed counters; everything runs on the worker that owns the
 * exchange. */
#ifndef TW_RECEIVE_H
#define TW_RECEIVE_H

#include "tw/base/clock.h"
#include "tw/base/counter.h"
#include "tw/net.h"
#include "tw/wire.h"

enum tw_sink_outcome {
	TW_SINK_OK,        /* every admitted span is with its owner; some may have been rejected */
	TW_SINK_MALFORMED, /* nothing happened; never retry */
	TW_SINK_TOO_LARGE, /* nothing happened; never retry */
	TW_SINK_REFUSED,   /* nothing happened; retry after retry_ms */
};
struct tw_sink_result {
	enum tw_sink_outcome outcome;
	uint64_t rejected; /* spans */
	const char
	    *message; /* for the client; "" if there is nothing to say; valid during the call */
	uint64_t retry_ms;
};
typedef void (*tw_sink_done)(void *ctx, const struct tw_sink_result *r);

struct tw_sink {
	/* Takes the body (an ExportTraceServiceRequest in protobuf); done comes exactly once, from
	 * within or later on the same thread. */
	void (*submit)(void *self, struct tw_body *body, tw_sink_done done, void *ctx);
	void *self;
};

enum tw_receive_outcome { /* label `outcome` of traceweir_requests_total */
	                  TW_RECEIVE_OK,
	                  TW_RECEIVE_PARTIAL,
	                  TW_RECEIVE_MALFORMED,
	                  TW_RECEIVE_TOO_LARGE,
	                  TW_RECEIVE_REFUSED,
	                  TW_RECEIVE_UNSUPPORTED,
	                  TW_RECEIVE_ABORTED,
	                  TW_RECEIVE_DEADLINE,
	                  TW_RECEIVE_COUNT
};
extern const char *const tw_receive_names[TW_RECEIVE_COUNT];

struct tw_receiver { /* one per worker */
	struct tw_sink sink;
	const struct tw_clock *clock;
	size_t body_bytes_max;
	struct tw_budget *bodies;   /* of transcoded bodies */
	bool (*serving)(void *ctx); /* for grpc.health.v1; NULL: always */
	void *serving_ctx;
	tw_counter requests[TW_RECEIVE_COUNT];
	uint8_t head_reply[512]; /* holds an early reply's body until net has copied it */
};

/* A tw_head_check and a tw_handler of net; ctx: the struct tw_receiver. */
int tw_receive_head(void *receiver, struct tw_exchange *x, struct tw_reply *now);
void tw_receive_request(void *receiver, struct tw_exchange *x, int early,
                        const struct tw_error *err);

#endif
