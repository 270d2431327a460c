/* The generator's connections: exchanges over HTTP/2 (gRPC) or HTTP/1.1, sockets without blocking.
 *
 * An exchange is one place for a request: its body is written anew when it is FREE, is lent to its
 * connection until the answer is there and the last byte is out, and goes back then. Everything is
 * one thread's. */
#ifndef TW_LOAD_CONN_H
#define TW_LOAD_CONN_H

#include <nghttp2/nghttp2.h>

#include "body.h"
#include "tw/base/error.h"

#define TW_LOAD_REPLY_MAX 1024

enum tw_load_state { TW_LOAD_FREE, TW_LOAD_BUSY, TW_LOAD_ANSWERED, TW_LOAD_RETRY };

struct tw_load_conn;
struct tw_load_exchange {
	enum tw_load_state state;
	struct tw_load_conn *conn;
	struct tw_load_body body;
	size_t queued;    /* body bytes given to the connection */
	size_t unwritten; /* of these, not yet in the socket */
	int32_t stream;
	uint64_t request; /* its number; UINT64_MAX: of late spans */
	uint64_t sent_ns, retry_ns;
	/* the answer */
	bool closed, broken;
	int http_status, grpc_status; /* −1: none came */
	uint8_t reply[TW_LOAD_REPLY_MAX];
	size_t reply_n;
};

struct tw_load_conn_opts {
	bool http; /* OTLP/HTTP over HTTP/1.1; else OTLP/gRPC over HTTP/2 without TLS */
	bool json; /* OTLP/HTTP only */
	enum tw_load_coding coding;
	const char *host, *port;
};

#define TW_LOAD_VECS  512
#define TW_LOAD_SMALL 65536
struct tw_load_out {
	struct iovec v;
	struct tw_load_exchange *x; /* whose body this is; NULL: in `small` */
};
struct tw_load_conn {
	int fd;
	struct tw_load_conn_opts opts;
	struct tw_load_exchange *x;
	uint32_t count; /* exchanges; HTTP/1.1 has one */
	nghttp2_session *h2;
	struct tw_load_out out[TW_LOAD_VECS];
	uint32_t out_begin, out_end;
	uint8_t small[TW_LOAD_SMALL]; /* frame headers, control frames */
	size_t small_n;
	char head[TW_LOAD_REPLY_MAX * 4]; /* HTTP/1.1: what has come of an answer */
	size_t head_n;
	bool want_write;
};

/* Connects (blocking). 0, or a tw_err with text. */
int tw_load_conn_open(struct tw_load_conn *c, const struct tw_load_conn_opts *o,
                      struct tw_load_exchange *x, uint32_t count, struct tw_error *err);
void tw_load_conn_close(struct tw_load_conn *c);
/* Sends the exchange's body; its state becomes BUSY. */
int tw_load_conn_submit(struct tw_load_conn *c, struct tw_load_exchange *x);
/* Reads what is there; exchanges become ANSWERED. TW_ECLOSED, TW_EIO. */
int tw_load_conn_read(struct tw_load_conn *c);
/* Writes what it can; want_write says whether something is left. */
int tw_load_conn_write(struct tw_load_conn *c);

/* Shared by the two protocols. */
bool tw_load_conn_room(const struct tw_load_conn *c);
void tw_load_conn_put(struct tw_load_conn *c, const void *p, size_t n); /* a copy */
void tw_load_conn_put_body(struct tw_load_conn *c, struct tw_load_exchange *x, size_t n);
void tw_load_conn_answered(struct tw_load_exchange *x);
int tw_load_h2_open(struct tw_load_conn *c);
int tw_load_h2_submit(struct tw_load_conn *c, struct tw_load_exchange *x);
int tw_load_h2_fill(struct tw_load_conn *c);
int tw_load_h1_submit(struct tw_load_conn *c, struct tw_load_exchange *x);
int tw_load_h1_fill(struct tw_load_conn *c);
int tw_load_h1_read(struct tw_load_conn *c, const uint8_t *p, size_t n);

#endif
