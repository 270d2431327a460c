/* Sockets and protocols: a server and a client over libuv, with nghttp2, llhttp and OpenSSL.
 *
 * One tw_server per worker loop; it is handed accepted sockets (tw_server_adopt) and speaks
 * HTTP/1.1 or h2c by the first bytes (prior knowledge "PRI * HTTP/2.0"; an h2c upgrade is ignored),
 * for both ports alike. A request arrives at the handler when its whole body lies in one contiguous
 * buffer, decompressed within limits and budget; the handler answers with tw_exchange_reply, now or
 * later. A connection reads and writes through a byte filter (plain, TLS).
 *
 * Threads: everything of a server or client belongs to its loop's thread; the acceptor has its own.
 * Memory: bodies count against opts->bodies; a connection itself takes at most about 64 KiB besides
 * windows. Limits: see tw_server_opts. */
#ifndef TW_NET_H
#define TW_NET_H

#include <sys/socket.h>
#include <uv.h>

#include "tw/base/budget.h"
#include "tw/base/buf.h"
#include "tw/base/clock.h"
#include "tw/base/error.h"
#include "tw/base/counter.h"

/* ---- bodies ---- */
/* One contiguous buffer that grows as bytes arrive. Its bytes are reserved in the budget as they
 * are allocated. */
struct tw_body {
	uint8_t *p;
	size_t n, cap; /* cap: reserved from the budget */
	size_t room;   /* allocated; beyond cap it is never touched, so takes no memory */
	struct tw_budget *budget; /* NULL: none */
};
void tw_body_init(struct tw_body *b, struct tw_budget *budget);
void tw_body_deinit(struct tw_body *b);
int tw_body_append(struct tw_body *b, const void *p, size_t n,
                   size_t max); /* TW_ELIMIT past max, TW_EFULL: budget, TW_ENOMEM */
/* Before the deinit of one whose content is not needed any more: gives about so many bytes back.
 * false: there is nothing left that takes time to give back. */
bool tw_body_shrink(struct tw_body *b, size_t bytes);

enum tw_coding {
	TW_CODING_IDENTITY,
	TW_CODING_GZIP,
	TW_CODING_DEFLATE,
	TW_CODING_ZSTD,
	TW_CODING_UNKNOWN
};
enum tw_coding tw_coding_parse(
    struct tw_slice name); /* "", identity, gzip, x-gzip, deflate, zstd; case-insensitive */
/* Inflates `in` into out (appending), never past max bytes; also refuses more than 1000:1 past 1
 * MiB and zstd windows over 8 MiB. TW_EINVAL: garbage, trailing garbage, truncated (the same for
 * HTTP and gRPC); TW_ELIMIT; TW_EFULL; TW_ENOMEM. Several gzip members or zstd frames are one body.
 * [any] */
int tw_inflate(enum tw_coding c, struct tw_slice in, struct tw_body *out, size_t max,
               struct tw_error *err);
/* Compresses (gzip, zstd) into out, appending. */
int tw_deflate(enum tw_coding c, struct tw_slice in, struct tw_buf *out);

/* ---- server ---- */
enum tw_protocol { TW_PROTO_HTTP1, TW_PROTO_HTTP2, TW_PROTO_GRPC };

struct tw_exchange { /* one request; owned by net until the reply, also when its connection is gone
	              */
	enum tw_protocol protocol;
	bool is_grpc; /* content-type application/grpc or application/grpc+proto */
	char method[16];
	char path[256]; /* without the query; longer ones are answered 414 by net */
	char query[256];
	char content_type[128]; /* media type, lower case, without parameters */
	char accept[256];
	bool accept_gzip;
	char authorization[512];
	uint64_t deadline_ns; /* from grpc-timeout, monotonic; TW_NEVER */
	struct tw_body body;  /* decompressed; for gRPC the message without its 5 bytes. The handler
	                       * may take it  (copy the struct, then tw_body_init(&x->body, NULL)) */
	void *user;           /* the handler's */
	struct tw_server *server;
	uint32_t port_tag; /* which listener it came through */
};

struct tw_reply {
	int status;                   /* HTTP status; 0 for gRPC */
	int grpc_status;              /* gRPC code; used when the exchange is gRPC */
	struct tw_slice grpc_message; /* plain text; net percent-encodes */
	struct tw_slice grpc_details; /* google.rpc.Status bytes; net base64-encodes; empty: none */
	const char *content_type;     /* NULL: none; for gRPC ignored */
	struct tw_slice body;   /* copied before the return; for gRPC the message without framing
	                           (also empty; sent on status 0 only) */
	uint32_t retry_after_s; /* > 0: Retry-After, HTTP only */
	bool close;             /* close the connection after it (HTTP/1), or GOAWAY */
	const char *allow;      /* Allow header for 405 */
	const char *content_encoding; /* of body; NULL: none; HTTP only */
	struct tw_buf *owned; /* what all of body lies in, or NULL: net may take the memory over
	                         instead of copying, and leaves another buffer there [HTTP/1] */
};

/* Called when a request is whole, or failed before that: for `early` non-zero (a tw_err: TW_ELIMIT
 * too large, TW_EFULL budget, TW_EINVAL cannot be decompressed or framed, TW_EUNSUP unknown
 * encoding, TW_ECLOSED: broken off by the peer, or its deadline or the slowest rate passed before
 * it was whole, and net has answered: count it, do not reply) x->body is empty, err->text says
 * what, and the handler replies as usual in its protocol's words. */
typedef void (*tw_handler)(void *ctx, struct tw_exchange *x, int early, const struct tw_error *err);

/* Called when the headers are there, before any body byte: 0 to go on, or an HTTP status / gRPC
 * code to answer at once (415, 404, 405, UNIMPLEMENTED …) by filling *now and returning 1. May be
 * NULL. */
typedef int (*tw_head_check)(void *ctx, struct tw_exchange *x, struct tw_reply *now);

struct tw_server_opts {
	size_t body_bytes_max;    /* wire and decoded, each */
	struct tw_budget *bodies; /* all servers' bodies in flight */
	uint32_t streams_max;     /* 100 */
	uint32_t window_stream,
	    window_connection;      /* bytes; 0: defaults that never make a sender wait */
	uint64_t header_timeout_ns; /* 10 s */
	uint64_t idle_timeout_ns;   /* 60 s without a request (HTTP/1), 10 min (HTTP/2) */
	uint64_t body_timeout_ns;   /* a body must bring ≥ 1 KiB/s over this long: 30 s */
	uint32_t connections_max;
	const struct tw_clock *clock;
	tw_head_check head;
	tw_handler handler;
	void *ctx;
};
struct tw_server;

struct tw_server *tw_server_create(uv_loop_t *loop, const struct tw_server_opts *o);
/* Takes a connected socket. On failure the socket is closed and a tw_err returned. */
int tw_server_adopt(struct tw_server *s, uv_os_sock_t fd, uint32_t port_tag);
uint32_t tw_server_connections(const struct tw_server *s); /* open now [any] */
void tw_exchange_reply(struct tw_exchange *x, const struct tw_reply *r);
/* GOAWAY on HTTP/2, Connection: close on HTTP/1; open requests go on; idle connections close at
 * once. */
void tw_server_drain(struct tw_server *s);
bool tw_server_idle(const struct tw_server *s); /* drained and no connection left */
void tw_server_kill(struct tw_server *s);       /* closes all connections now */
/* After kill and a loop turn: frees; asserts no connection is left. */
void tw_server_destroy(struct tw_server **s);

struct tw_server_stats { /* counters since the start; one writer */
	tw_counter connections_total, requests_total, bytes_in, bytes_out;
	tw_counter protocol_errors, timeouts, aborted, refused_connections;
};
const struct tw_server_stats *tw_server_stats(const struct tw_server *s); /* [any] */

/* ---- acceptor: listens in its own loop (or the caller's) and hands sockets out ---- */
struct tw_acceptor;
/* Gives an accepted socket away; returns false to have it closed. Called on the acceptor's thread.
 */
typedef bool (*tw_accept_fn)(void *ctx, uv_os_sock_t fd, uint32_t port_tag);
struct tw_acceptor *tw_acceptor_create(uv_loop_t *loop, tw_accept_fn fn, void *ctx);
/* address: "127.0.0.1:4317", "[::1]:4317", "localhost:4317", ":4317" (all), port 0: any. TW_EIO
 * with text ("address already in use"). */
int tw_acceptor_listen(struct tw_acceptor *a, const char *address, uint32_t port_tag,
                       struct tw_error *err);
uint16_t tw_acceptor_port(const struct tw_acceptor *a, uint32_t port_tag); /* as bound */
uint64_t
tw_acceptor_failures(const struct tw_acceptor *a); /* accept() refused: EMFILE and the like [any] */
void tw_acceptor_stop(
    struct tw_acceptor *a); /* empties the accept queues, then closes the listeners */
void tw_acceptor_destroy(struct tw_acceptor **a); /* after a loop turn */

/* ---- client: one connection to one backend, reopened as needed ---- */
/* The process must ignore SIGPIPE: libuv does not ask for MSG_NOSIGNAL. */
struct tw_tls_opts {
	bool enabled, insecure_skip_verify;
	char *ca, *cert, *key, *server_name; /* PEM files; NULL: none */
};
struct tw_tls; /* a client context; shared by workers, immutable [any] */
struct tw_tls *tw_tls_create(const struct tw_tls_opts *o, struct tw_error *err);
void tw_tls_destroy(struct tw_tls **t);

enum tw_client_kind { TW_CLIENT_GRPC, TW_CLIENT_HTTP };
struct tw_client_opts {
	enum tw_client_kind kind; /* gRPC: HTTP/2; HTTP: HTTP/1.1, keep-alive */
	char host[256];
	uint16_t port;
	char authority[280];         /* host:port for the Host header */
	struct tw_tls *tls;          /* NULL: plain */
	uint64_t connect_timeout_ns; /* 5 s; resolving included */
	uint32_t streams_max;        /* requests at once; HTTP: that many connections at most */
	const struct tw_clock *clock;
};
struct tw_header {
	const char *name, *value; /* name in lower case */
};
struct tw_client_request {
	const char *path;
	const char *content_type;
	const char *content_encoding; /* NULL: none; for gRPC becomes grpc-encoding and the
	                                 compressed flag */
	const struct tw_header *headers;
	uint32_t header_count;
	struct tw_slice body; /* must live until the callback; for gRPC without framing (net adds
	                         the 5 bytes) */
	uint64_t timeout_ns;
};
struct tw_client_response {
	int error; /* 0: an answer came; else TW_EIO (not connected, broken), TW_ELIMIT (answer over
	              4 MiB), TW_ECLOSED (client stopped) */
	bool sent; /* with an error: the backend may have seen the request */
	bool timeout;
	char text[160];          /* with an error: why */
	int status;              /* HTTP status */
	int grpc_status;         /* from trailers or mapped from HTTP; -1: none */
	char grpc_message[160];  /* decoded */
	struct tw_slice details; /* grpc-status-details-bin, decoded */
	struct tw_slice body;    /* identity or inflated; for gRPC the message */
	uint64_t retry_after_ms; /* Retry-After in seconds or a date; UINT64_MAX: none */
};
typedef void (*tw_client_cb)(void *ctx, const struct tw_client_response *r);
struct tw_client;
struct tw_client *tw_client_create(uv_loop_t *loop,
                                   const struct tw_client_opts *o); /* NULL: no memory */
/* Sends one request; connects first when needed. The callback comes exactly once, never from within
 * this call. TW_EFULL: streams_max are open. */
int tw_client_send(struct tw_client *c, const struct tw_client_request *r, tw_client_cb cb,
                   void *ctx);
uint32_t tw_client_open(const struct tw_client *c); /* requests in flight */
void tw_client_stop(struct tw_client *c);     /* callbacks of open requests come with TW_ECLOSED */
void tw_client_destroy(struct tw_client **c); /* after stop and loop turns; see tw_client_stopped */
bool tw_client_stopped(const struct tw_client *c);

/* Splits "HOST:PORT" or "http[s]://host[:port][/path]". *tls set for https. path is as written, ""
 * when there is none; IPv6 addresses stand in brackets, which host loses. TW_EINVAL, TW_ELIMIT,
 * with text. */
int tw_address_parse(const char *s, char *host, size_t host_cap, uint16_t *port, char *path,
                     size_t path_cap, bool *tls, struct tw_error *err);

#endif
