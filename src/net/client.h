/* The client's insides: requests, connections, and what HTTP/1.1 and HTTP/2 must offer them.
 *
 * A request goes PENDING → ACTIVE (given to a connection) → FINISHED (its answer is known) → the
 * callback. Between the last two it may be held: an uv_write still reads the caller's body, so the
 * callback waits for that write to end. A connection goes RESOLVING → CONNECTING → HANDSHAKE → OPEN
 * → CLOSING, and is freed in its handle's close callback.
 *
 * client.c owns the lists and the timers, client_call.c one request, client_conn.c and
 * client_write.c one socket, client_h1.c and client_h2.c the protocols. All of it belongs to the
 * loop's thread. Callbacks of the user come from one place only: the check handle in client.c. */
#ifndef TW_NET_CLIENT_H
#define TW_NET_CLIENT_H

#include <netinet/in.h>
#include <sys/queue.h>

#include "filter.h"
#include "tw/base/limits.h"
#include "tw/net.h"

#define CLIENT_ADDRESSES_MAX   64u        /* of one name, tried in turn */
#define CLIENT_WRITE_BYTES_MAX (1u << 20) /* in uv_write at once; more waits in the protocol */
#define CLIENT_HEADERS_MAX     64u        /* the caller's, of one request */
#define CLIENT_ATTEMPTS_MAX    2u         /* connections that one request may be moved to unsent */
#define CLIENT_USER_AGENT      "traceweir/" TW_VERSION

union tw_sockaddr {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

struct tw_conn;

struct tw_client_call {
	TAILQ_ENTRY(tw_client_call) link;
	struct tw_client *client;
	struct tw_conn *conn; /* while ACTIVE */
	enum { CALL_PENDING, CALL_ACTIVE, CALL_FINISHED } state;
	tw_client_cb cb;
	void *ctx;

	char *text; /* one block that holds the strings below */
	const char *path, *content_type, *content_encoding;
	struct tw_header headers[CLIENT_HEADERS_MAX];
	uint32_t header_count;
	struct tw_slice body;
	uint64_t deadline_ns; /* TW_NEVER: none */

	uint8_t prefix[5]; /* gRPC's framing */
	size_t body_at;    /* bytes of prefix and body that were framed (HTTP/2) */
	int32_t stream_id;
	uint32_t writes;   /* uv_writes under way that read the body */
	uint32_t attempts; /* connections that it was given to */
	uint64_t begun_ns; /* when it was given to its connection */
	bool sent;         /* the backend may have seen it */

	bool heads_done, ended; /* of the answer: headers came; all of it came */
	size_t head_bytes;
	uint32_t head_count;
	bool status_seen;  /* grpc-status was there */
	char coding[24];   /* content-encoding or grpc-encoding */
	struct tw_buf raw; /* as it came */
	struct tw_buf details;
	struct tw_body inflated;
	struct tw_client_response r;
};
TAILQ_HEAD(tw_call_list, tw_client_call);

/* One uv_write that is being put together or is under way. */
struct tw_out {
	uv_write_t req;
	struct tw_conn *conn;
	struct tw_buf small; /* what was copied, or the filter's output */
	struct tw_out_seg {
		const uint8_t *p; /* NULL: in small, at `at` */
		size_t at, n;
		struct tw_client_call *call; /* whose body p is */
	} * segs;
	uint32_t count, cap;
	size_t bytes;
	bool failed;
};

enum tw_conn_state { CONN_RESOLVING, CONN_CONNECTING, CONN_HANDSHAKE, CONN_OPEN, CONN_CLOSING };

struct tw_conn {
	TAILQ_ENTRY(tw_conn) link;
	struct tw_client *client;
	enum tw_conn_state state;
	uv_tcp_t tcp;
	uv_connect_t connect;
	bool next_address; /* the handle is being closed to try another one */
	union tw_sockaddr addresses[CLIENT_ADDRESSES_MAX];
	uint32_t address_count, address_at;
	uint64_t deadline_ns; /* until OPEN */
	uint64_t attempt_ns;  /* this address's part of it */
	struct tw_filter *filter;
	struct tw_buf wire; /* what the filter has for the socket */
	struct tw_out *out; /* being put together */
	size_t out_bytes;   /* under way */
	uint64_t heard_ns;  /* bytes came last */
	uint32_t calls;     /* that it carries */
	uint64_t calls_total;
	bool draining; /* takes no more */
	bool settled;  /* HTTP/2: the backend has said how many streams it takes */
	char why[160]; /* what the protocol said when it failed */
	void *session; /* the protocol's own */
	uint8_t input[65536];
};
TAILQ_HEAD(tw_conn_list, tw_conn);

struct tw_client_proto {
	const char *alpn;
	bool multiplex;
	int (*open)(struct tw_conn *k); /* before the state is OPEN */
	void (*input)(struct tw_conn *k, const uint8_t *p, size_t n);
	void (*eof)(struct tw_conn *k);     /* before the connection is closed */
	void (*written)(struct tw_conn *k); /* OPEN now, or there is room to write again */
	bool (*accepts)(const struct tw_conn *k);
	void (*submit)(struct tw_conn *k, struct tw_client_call *call);
	void (*cancel)(struct tw_conn *k, struct tw_client_call *call); /* it is finished already */
	void (*bye)(struct tw_conn *k); /* last words, into k->out */
	void (*free)(struct tw_conn *k);
};
extern const struct tw_client_proto tw_client_h1, tw_client_h2;

struct tw_client {
	uv_loop_t *loop;
	struct tw_client_opts opts;
	const struct tw_client_proto *proto;
	uv_check_t work;  /* runs while something is to be done, after what has arrived was read */
	uv_idle_t awake;  /* keeps the loop from waiting meanwhile */
	uv_timer_t timer; /* the earliest deadline */
	uint64_t timer_ns;
	uv_getaddrinfo_t resolve;
	bool resolving;
	struct tw_call_list pending, active, done;
	struct tw_conn_list conns;
	uint32_t open;
	uint32_t handles;
	bool stopping, closing;
};

/* ---- client.c ---- */
void tw_client_kick(struct tw_client *c);
void tw_client_arm(struct tw_client *c, uint64_t deadline_ns);

/* ---- client_call.c ---- */
int tw_call_create(struct tw_client *c, const struct tw_client_request *r,
                   struct tw_client_call **out); /* TW_EINVAL, TW_ENOMEM */
void tw_call_free(struct tw_client_call *call);
/* The answer is in call->r. The callback comes later. */
void tw_call_finish(struct tw_client_call *call);
void tw_call_fail(struct tw_client_call *call, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Nothing of it went out: gives it to another connection, or fails it after too many. */
void tw_call_again(struct tw_client_call *call, const char *why);
void tw_call_write_ended(struct tw_client_call *call);
/* Counts a header field of an answer; false: too many. */
bool tw_call_count_header(struct tw_client_call *call, size_t name_bytes, size_t value_bytes);
/* Adds bytes of the answer's body; 0, TW_ELIMIT past TW_RESPONSE_BYTES_MAX, TW_ENOMEM. */
int tw_call_body(struct tw_client_call *call, const void *p, size_t n);
/* Inflates `in` as call->coding says into call->r.body. Garbage gives an empty body: what the
 * status says stands. TW_ELIMIT, TW_ENOMEM. */
int tw_call_inflate(struct tw_client_call *call, struct tw_slice in);
void tw_call_header(struct tw_client_call *call, struct tw_slice name,
                    struct tw_slice value); /* retry-after and the codings */

/* ---- client_conn.c ---- */
struct tw_conn *tw_conn_start(struct tw_client *c); /* NULL: no memory */
void tw_conn_resolved(struct tw_conn *k, const struct addrinfo *list);
void tw_conn_expired(struct tw_conn *k);
/* Ends it: every call that it carries fails with the text. why NULL: an orderly end. */
void tw_conn_fail(struct tw_conn *k, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void tw_conn_close(struct tw_conn *k);                        /* says goodbye first */
void tw_conn_put(struct tw_conn *k, const void *p, size_t n); /* copies */
void tw_conn_ref(struct tw_conn *k, const uint8_t *p, size_t n,
                 struct tw_client_call *call);   /* borrows until written */
size_t tw_conn_backlog(const struct tw_conn *k); /* bytes put and under way */
bool tw_conn_unwritten(const struct tw_conn *k); /* some of it has not reached the kernel */
void tw_client_conn_flush(struct tw_conn *k);    /* begins to write what was put */
void tw_conn_wire(struct tw_conn *k);            /* writes what the filter has left */
void tw_conn_write_now(struct tw_conn *k, const uint8_t *p, size_t n);
void tw_out_free(struct tw_out *o);

/* ---- retryafter.c ---- */
/* Retry-After: seconds, or one of the three HTTP dates. Past: 0; not understood or negative:
 * UINT64_MAX; absurdly far: INT64_MAX. */
uint64_t tw_retry_after_ms(struct tw_slice value, uint64_t wall_ns);

#endif
