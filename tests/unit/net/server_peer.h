/* A server on a loop, and peers that speak to it in raw bytes and raw frames, all on one thread: a
 * test sends, drives the loop until what it waits for is there, and looks. Time stands still until
 * the test moves it. */
#ifndef TW_TEST_SERVER_PEER_H
#define TW_TEST_SERVER_PEER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <nghttp2/nghttp2.h>

#include "tw/net.h"
#include "tw/base/error.h"

#define SEEN_MAX     128
#define STREAMS_SEEN 256

struct seen { /* what the handler got */
	int early;
	char method[16], path[256], content_type[128], query[256], authorization[512], text[232];
	bool is_grpc, accept_gzip;
	enum tw_protocol protocol;
	uint64_t deadline_ns;
	uint8_t *body; /* copied, up to 64 KiB */
	size_t body_n;
};

struct bench {
	uv_loop_t loop;
	struct tw_server *server;
	struct tw_acceptor *acceptor;
	struct tw_clock_virtual time;
	struct tw_clock clock;
	struct tw_budget bodies;
	struct tw_server_opts opts;
	uint16_t port;
	/* the handler */
	bool hold; /* do not answer: keep in `held` */
	bool close_each;
	struct tw_slice answer; /* the reply's body */
	bool owned, tight;      /* … given away, in a buffer without room for a head */
	struct tw_exchange *held[SEEN_MAX];
	uint32_t held_n;
	struct seen seen[SEEN_MAX]; /* the first ones */
	uint64_t seen_n, whole, closed, failed;
	uint64_t heads;
	int head_status; /* not 0: the head check refuses with it */
};

struct bench *bench_new(void (*adjust)(struct tw_server_opts *o));
void bench_free(
    struct bench *b); /* kills, runs the loop out, checks for leaks of budget and handles */
void bench_turn(struct bench *b);                 /* one turn of the loop, which does not wait */
void bench_release(struct bench *b);              /* answers what is held */
void bench_advance(struct bench *b, uint64_t ns); /* moves time, sweeps */

struct stream {
	int32_t id;
	int status, grpc_status; /* -1: none */
	char grpc_message[256], grpc_accept_encoding[64], content_type[64], details[1024];
	uint8_t *data;
	size_t data_n;
	bool end;
	int64_t reset; /* -1: none */
};

struct peer {
	struct bench *b;
	int fd;
	uint8_t *in;
	size_t in_n, in_cap, parsed;
	bool closed; /* the server has ended the connection */
	/* HTTP/2 */
	nghttp2_hd_deflater *deflater;
	nghttp2_hd_inflater *inflater;
	struct stream streams[STREAMS_SEEN];
	uint32_t stream_n;
	bool goaway;
	uint32_t goaway_code;
	char goaway_text[64];
	uint32_t ping_acks, settings_acks, window_updates, settings;
	uint32_t frames, sends;
	bool reads; /* false: the peer does not read */
};

struct peer *peer_open(struct bench *b);
void peer_free(struct peer *p);
void peer_send(struct peer *p, const void *bytes,
               size_t n); /* all of it; gives up when the server has closed */
void peer_sends(struct peer *p, const char *text);
void peer_pump(struct peer *p); /* one turn: the loop, then what came */
#define peer_until(p, cond)                                                                        \
	do {                                                                                       \
		for (unsigned turn_ = 0; !(cond); turn_++) {                                       \
			if (turn_ > 2000000)                                                       \
				fail_msg("never came: %s", #cond);                                 \
			peer_pump(p);                                                              \
		}                                                                                  \
	} while (0)
void peer_shut(struct peer *p);                  /* no more from us */
bool peer_has(struct peer *p, const char *text); /* in what came (HTTP/1) */
unsigned peer_count(struct peer *p, const char *text);

/* HTTP/2 */
void h2_start(struct peer *p); /* preface and SETTINGS */
void h2_start_window(struct peer *p, uint32_t initial_window);
void h2_frame(struct peer *p, uint8_t type, uint8_t flags, int32_t id, const void *payload,
              size_t n);
struct header {
	const char *name, *value;
};
/* A request's header block; `more` ends with a NULL name, may be NULL. */
size_t h2_block(struct peer *p, uint8_t *to, size_t cap, const char *method, const char *path,
                const char *content_type, const struct header *more);
void h2_request(struct peer *p, int32_t id, const char *method, const char *path,
                const char *content_type, const struct header *more, bool end);
void h2_data(struct peer *p, int32_t id, const void *bytes, size_t n, bool end);
struct stream *h2_stream(struct peer *p, int32_t id); /* never NULL */
/* gRPC: header and one whole message. */
void grpc_begin(struct peer *p, int32_t id, const struct header *more);
void grpc_call(struct peer *p, int32_t id, const struct header *more, bool compressed,
               const void *message, size_t n);

#endif
