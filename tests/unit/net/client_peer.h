/* A backend that a test writes by hand: a thread with blocking sockets that runs a script, and the
 * client's side of a test: a loop, a client, and the answers that came.
 *
 * Nothing sleeps: a script waits for bytes, the client's side for answers. Every wait of a script
 * has a bound (PEER_PATIENCE_S) and the loop has a watchdog, so that what hangs fails. */
#ifndef TW_TEST_CLIENT_PEER_H
#define TW_TEST_CLIENT_PEER_H

#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "tw/net.h"

#define PEER_PATIENCE_S  20
#define PEER_STREAMS_MAX 8

struct peer;
typedef void (*peer_script)(struct peer *p);

struct peer_request { /* HTTP/1.1, or a stream of HTTP/2 */
	int32_t stream;
	char head[8192]; /* "name: value\n" lines; HTTP/1.1: as it came */
	size_t head_n;
	uint8_t *body;
	size_t body_n, body_cap;
	bool whole;
};

struct peer {
	int listener, fd;
	uint16_t port;
	pthread_t thread;
	bool running;
	peer_script script;
	void *ctx;
	SSL_CTX *tls; /* NULL: plain */
	SSL *ssl;
	_Atomic uint32_t accepted;
	_Atomic uint32_t stage; /* the script's, for the test to wait for */
	nghttp2_session *h2;
	bool manual_windows; /* the session consumes nothing by itself */
	struct peer_request streams[PEER_STREAMS_MAX];
};

void peer_start(struct peer *p, peer_script script, void *ctx);
void peer_join(struct peer *p);  /* asserts that the script ended */
void peer_nudge(struct peer *p); /* connects and goes: a script that waits for a client finds one */
bool peer_accept(struct peer *p);                         /* false: TLS failed */
void peer_hang_up(struct peer *p);                        /* closes the connection */
ptrdiff_t peer_read(struct peer *p, void *to, size_t n);  /* 0: the end; below 0: broken */
void peer_write(struct peer *p, const void *b, size_t n); /* ignores a client that has gone */
void peer_puts(struct peer *p, const char *s);
void peer_until_end(struct peer *p); /* reads until the client closes */

void peer_http_request(
    struct peer *p, struct peer_request *r); /* reads one; r->whole false: the client went away */
void peer_request_free(struct peer_request *r);
bool peer_request_has(const struct peer_request *r, const char *line);

struct peer_field {
	const char *name, *value;
};
void peer_h2_begin(struct peer *p, uint32_t streams_max, uint32_t window);
struct peer_request *
peer_h2_request(struct peer *p); /* waits for a whole one; NULL: the client went away */
bool peer_h2_turn(
    struct peer *p); /* writes what is queued, reads once; false: the client went away */
void peer_h2_headers(struct peer *p, int32_t stream, const struct peer_field *f, size_t n,
                     bool end);
void peer_h2_data(struct peer *p, int32_t stream, const void *b, size_t n, bool end);
void peer_h2_flush(struct peer *p);
void peer_h2_end(struct peer *p);
/* 200, a framed message, grpc-status in the trailers. */
void peer_grpc_answer(struct peer *p, int32_t stream, const char *status, const void *message,
                      size_t n);

/* ---- the client's side ---- */
#define SIDE_ANSWERS_MAX 16
struct answer {
	int id;
	struct tw_client_response r; /* details and body: copies */
	uint8_t *details, *body;
};
struct side {
	uv_loop_t loop;
	uv_timer_t watchdog;
	struct tw_client *client;
	struct answer answers[SIDE_ANSWERS_MAX];
	uint32_t count;
	struct side_call {
		struct side *side;
		int id;
	} calls[SIDE_ANSWERS_MAX];
	uint32_t sent;
};
void side_open(struct side *s, enum tw_client_kind kind, const char *host, uint16_t port,
               struct tw_tls *tls);
int side_send(struct side *s, const void *body, size_t n,
              uint64_t timeout_ns); /* asserts that it was taken; returns its id */
int side_send_request(struct side *s, const struct tw_client_request *r);
int side_try(struct side *s,
             const struct tw_client_request *r); /* −1: there was no memory for it */
struct answer *side_wait(struct side *s, int id);
void side_until(struct side *s, const struct peer *p,
                uint32_t stage); /* turns the loop until the script is there */
void side_close(
    struct side *s); /* stops, waits, destroys, and closes the loop, which must be empty */

#endif
