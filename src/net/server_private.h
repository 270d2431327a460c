/* The inside of a server: one per loop, everything on the loop's thread.
 *
 * A connection is bytes in → protocol → bytes out: tw_conn_feed takes what came, the protocol
 * appends what must go to c->out, and the transport (a socket, or nothing in a test) takes it from
 * there. Nothing below feed touches a socket.
 *
 * A request's life is HEAD, BODY (its header is there), HANDLER (it is whole, or failed early),
 * ANSWERED, gone. Net's own refusals lead from HEAD or BODY straight to ANSWERED; what is left of a
 * body that nobody wants is swallowed. The struct goes back to the pool when neither the handler
 * nor the protocol needs it: the handler from dispatch to reply, the protocol from the first header
 * to the end of its stream. A connection that dies leaves requests with the handler behind with
 * conn == NULL; their replies go nowhere. */
#ifndef TW_NET_SERVER_PRIVATE_H
#define TW_NET_SERVER_PRIVATE_H

#include "tw/net.h"
#include "tw/base/error.h"
#include "tw/base/limits.h"

#include "filter.h"
#include "grpc.h"
#include "inflate.h"

/* One read buffer for all connections of a server. */
#define TW_NET_READ_BYTES ((size_t)256 << 10)
/* Output past this waits in the protocol. */
/* Reading takes up to so long a turn, and the last read's work */
#define TW_NET_TURN_NS  (TW_NS_PER_MS / 2)
#define TW_NET_OUT_HIGH ((size_t)64 << 10)
/* Of a declared length, reserved before bytes arrive. */
#define TW_NET_BODY_CLAIM_MAX ((size_t)1 << 20)
/* Swallowed after an answer that came before the body's end. */
#define TW_NET_LINGER_BYTES ((size_t)1 << 20)
/* A connection whose side we have shut waits so long for its peer. */
#define TW_NET_LINGER_NS       (3 * TW_NS_PER_S)
#define TW_NET_REQUESTS_POOLED 256u

struct tw_h1;
struct tw_h2;
struct tw_request;

enum tw_request_phase { TW_REQ_HEAD, TW_REQ_BODY, TW_REQ_HANDLER, TW_REQ_ANSWERED };

struct tw_request {
	struct tw_exchange x; /* first: the handler's pointer is ours */
	struct tw_server *server;
	struct tw_conn *conn;           /* NULL: gone */
	struct tw_request *next, *prev; /* of the connection, or the pool's list */
	enum tw_request_phase phase;
	bool with_protocol; /* the stream is open */
	bool with_handler;  /* a reply is owed */
	bool announced;     /* the head check has seen it */
	bool discard;       /* what is left of the body is swallowed */
	bool remote_done;   /* the peer has sent all of it */
	uint64_t discarded;

	/* the head */
	uint32_t header_count;
	size_t header_bytes;
	int bad_status; /* HTTP status to refuse with; 0: fine */
	const char *bad_text;
	enum tw_coding coding; /* of the body or message */
	bool has_content_encoding, has_grpc_encoding, unsupported_coding;
	bool bad_timeout;
	bool is_head;
	uint64_t content_length; /* UINT64_MAX: not said */
	struct tw_grpc_frame frame;

	/* progress, for the sweep */
	uint64_t mark_ns, mark_bytes, body_bytes;

	/* HTTP/2 */
	int32_t stream_id;
	struct tw_buf response; /* DATA still to be sent from response_at on */
	size_t response_at;
	struct tw_buf trailer; /* grpc-message and details, NUL-terminated each; offsets below */
	int grpc_status;
	size_t trailer_details; /* offset of details in trailer; 0: none */
};

enum tw_conn_proto { TW_CONN_SNIFF, TW_CONN_H1, TW_CONN_H2 };

struct tw_conn {
	struct tw_server *server;
	struct tw_conn *next, *prev; /* all connections */
	struct tw_conn *dirty_next;  /* those with something to flush */
	enum tw_conn_proto proto;
	struct tw_h1 *h1;
	struct tw_h2 *h2;
	struct tw_request *requests; /* open here */
	uint32_t request_count;      /* with the handler or with the protocol */
	uint32_t port_tag;
	struct tw_buf out;     /* to send */
	struct tw_buf sending; /* being sent: write_req points into it */
	struct tw_buf held;    /* bytes in that wait for an answer to be sent first (HTTP/1) */
	uint8_t preface[24];
	uint8_t preface_n;
	bool socket; /* false: bytes only, in tests */
	bool dirty, writing, reading;
	bool want_close; /* close once all is sent */
	bool lingering;  /* our side is shut; what comes is swallowed */
	bool closing;    /* to be ended by the next flush */
	bool finished;   /* ended: uv_close was called */
	bool eof;        /* the peer has shut its side */
	uint32_t round;  /* of reading, in which it was read last */
	uint64_t opened_ns;
	uint64_t active_ns; /* last request begun or ended */
	uint64_t linger_ns, write_ns;
	uint64_t lingered;
	uv_tcp_t tcp;
	uv_write_t write_req;
	uv_shutdown_t shutdown_req;
};

struct tw_server {
	struct tw_server_opts o;
	uv_loop_t *loop;
	uv_prepare_t prepare;
	uv_check_t check;
	uv_timer_t timer;
	uint32_t handles; /* of the three above, still open */
	struct tw_conn *conns;
	struct tw_conn *dirty;
	_Atomic uint32_t conn_count;
	struct tw_request *pool;
	uint32_t pooled;
	uint32_t requests_out; /* requests that exist */
	uint64_t now_ns;       /* as of the last callback */
	uint64_t date_s;       /* the second that `date` was written for */
	char date[40];
	bool draining, killed, destroyed;
	/* A turn of the loop reads for a bounded time. What that leaves unread is read in the next
	 * turns, before anything else is read twice: that is a round. */
	uint64_t turn_ns; /* when the first was read in this turn; 0: none */
	uint32_t round;
	bool round_short; /* some wait for the next turn of this round */
	bool turn_short;  /* in this turn, too */
	uint8_t *read_buf;
	struct tw_inflater inflater;
	struct tw_server_stats stats;
};

/* ---- server_conn.c: connection and socket ---- */
struct tw_conn *tw_conn_create(struct tw_server *s, uint32_t port_tag,
                               bool socket); /* NULL: no memory */
void tw_conn_start_reading(struct tw_conn *c);
/* Bytes came in. May answer, may ask for the end; the connection itself survives the call. */
void tw_conn_feed(struct tw_conn *c, const uint8_t *p, size_t n);
void tw_conn_eof(struct tw_conn *c);
void tw_conn_mark_dirty(struct tw_conn *c);
void tw_conn_flush(struct tw_conn *c);
void tw_conn_flush_all(struct tw_server *s);
/* Once everything is sent. */
void tw_conn_close_soon(struct tw_conn *c);
/* With the next flush, whatever is unsent; requests that are open end there. The struct lives until
 * the loop has closed the handle. May be called from anywhere. */
void tw_conn_abort(struct tw_conn *c);
bool tw_conn_out_full(const struct tw_conn *c);

/* ---- server_sweep.c: everything that time ends ---- */
void tw_server_sweep(struct tw_server *s);

/* ---- server_request.c ---- */
struct tw_request *tw_request_open(struct tw_conn *c);
void tw_request_headers_done(struct tw_request *r); /* may answer at once: r->discard is set then */
void tw_request_data(struct tw_request *r, const uint8_t *p, size_t n);
void tw_request_end(struct tw_request *r); /* the peer has sent all */
/* The protocol is broken in the middle of it: refused, with an HTTP status. */
void tw_request_broken(struct tw_request *r, int status, const char *why);
/* The protocol forgets it: answered and sent, or broken off. */
void tw_request_close(struct tw_request *r);
/* It took too long: the handler hears TW_ECLOSED, the peer DEADLINE_EXCEEDED or 408. */
void tw_request_timeout(struct tw_request *r, const char *why);
/* The connection is gone: what is with the handler stays there, alone. */
void tw_request_orphan_all(struct tw_conn *c);
void tw_request_free_pool(struct tw_server *s);

/* ---- server_header.c: what a header field means, for both protocols ---- */
void tw_request_field(struct tw_request *r, struct tw_slice name, struct tw_slice value);
void tw_request_method(struct tw_request *r, struct tw_slice method);
void tw_request_target(struct tw_request *r, struct tw_slice target);
void tw_request_refuse(struct tw_request *r, int status, const char *text);

/* ---- server_reply.c ---- */
/* Answers by net itself: an HTTP status or, for gRPC, a code. */
void tw_request_reply_self(struct tw_request *r, int status, int grpc_status, const char *text);
const char *tw_server_date(struct tw_server *s);
const char *tw_http_reason(int status);

/* ---- http1.c, http1_reply.c ---- */
int tw_h1_create(struct tw_conn *c);
void tw_h1_destroy(struct tw_conn *c);
/* Returns how many bytes it took; fewer than n when an answer must go first. */
size_t tw_h1_feed(struct tw_conn *c, const uint8_t *p, size_t n);
void tw_h1_eof(struct tw_conn *c);
bool tw_h1_ready(const struct tw_conn *c); /* may be fed */
/* An answered request that is read whole ends; the next may begin. */
void tw_h1_settle(struct tw_conn *c);
void tw_h1_reply(struct tw_request *r, const struct tw_reply *reply);
void tw_h1_drain(struct tw_conn *c);
void tw_h1_sweep(struct tw_conn *c, uint64_t now);

/* ---- http2.c, http2_reply.c ---- */
int tw_h2_create(struct tw_conn *c);
void tw_h2_destroy(struct tw_conn *c);
void tw_h2_feed(struct tw_conn *c, const uint8_t *p, size_t n);
void tw_h2_pull(struct tw_conn *c);       /* output of the session into c->out */
void tw_h2_after_pull(struct tw_conn *c); /* whether the session is at its end */
void tw_h2_reply(struct tw_request *r, const struct tw_reply *reply);
void tw_h2_reset(struct tw_request *r, uint32_t code);
void tw_h2_drain(struct tw_conn *c);
void tw_h2_sweep(struct tw_conn *c, uint64_t now);

#endif
