/* A receiver between two doubles: net, which records what is answered, and the engine, whose sink
 * answers as a test says. */
#ifndef TW_TESTS_RECEIVE_DOUBLE_H
#define TW_TESTS_RECEIVE_DOUBLE_H

#include "tw/receive.h"

#define TRACES_GRPC "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
#define HEALTH_GRPC "/grpc.health.v1.Health/Check"
#define PROTOBUF    "application/x-protobuf"
#define JSON        "application/json"
#define GRPC        "application/grpc"

struct answer { /* copies: what a reply points to is gone when it was given */
	uint32_t count;
	bool by_head;
	int status, grpc;
	char message[256], type[64], allow[16];
	uint8_t body[1024], details[512];
	size_t body_n, details_n;
	uint32_t retry_after_s;
};

struct submitted { /* what lies with the sink */
	uint32_t count;
	struct tw_body body; /* of the last one; the sink's */
	tw_sink_done done;
	void *ctx;
};

struct bench {
	struct tw_receiver rx;
	struct tw_clock_virtual time;
	struct tw_clock clock;
	struct tw_budget bodies;
	struct tw_sink_result result; /* the sink's, at once unless `later` */
	bool later;
	bool scans; /* the result is what the scanner says of the body */
	struct submitted sink;
	struct answer answer; /* the last one */
	uint32_t live;        /* exchanges that net owns */
};

struct call {
	const char *method, *path, *type; /* NULL: POST */
	const void *body;
	size_t body_n;
	int early; /* as a tw_handler's */
	const char *early_text;
	uint64_t deadline_ns; /* 0: none */
};

void bench_init(struct bench *b);
void bench_deinit(struct bench *b); /* asserts that nothing is left: exchanges, bytes */
/* One request, from its head on; b->answer is what came of it. gRPC when type is application/grpc.
 */
void bench_call(struct bench *b, const struct call *c);
void bench_answer(struct bench *b);             /* the sink answers, late */
void bench_release(struct bench *b);            /* the sink is done with the body */
uint64_t bench_requests(const struct bench *b); /* over all outcomes */

/* The answer's body is a google.rpc.Status in protobuf; retry_ms UINT64_MAX: without RetryInfo. */
void assert_status(const void *p, size_t n, int code, const char *text, uint64_t retry_ms);
void assert_body_text(const struct bench *b, const char *text);
/* Exactly this outcome was counted, once. */
void assert_counted(const struct bench *b, enum tw_receive_outcome o);

#endif
