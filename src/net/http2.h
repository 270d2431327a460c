/* HTTP/2 of a server's connection over an nghttp2 session. Loop's thread. */
#ifndef TW_NET_HTTP2_H
#define TW_NET_HTTP2_H

#include <nghttp2/nghttp2.h>

#include "server_private.h"

#define TW_H2_RESET_BURST             1000u /* streams reset by either side … */
#define TW_H2_RESET_PER_S             33u
#define TW_H2_IDLE_FRAMES_BURST       10000u /* frames that bring no request on … */
#define TW_H2_IDLE_FRAMES_PER_S       330u
#define TW_H2_IDLE_FRAMES_PER_REQUEST 8u    /* … and what a whole request adds to them */
#define TW_H2_QUEUE_MAX               4096u /* frames that wait to be sent */
#define TW_H2_HEADER_BYTES_FATAL                                                                   \
	(8u * TW_HEADER_BYTES_MAX) /* past it even staying in step is too dear */
#define TW_H2_PING_MIN_NS                                                                          \
	(9 * TW_NS_PER_S) /* keepalive every 10 s is welcome, a timer's jitter included */
#define TW_H2_PING_STRIKES 2u
#define TW_H2_IDLE_FACTOR                                                                          \
	10u /* idle_timeout is HTTP/1's; an idle session may stay this much longer */

struct tw_tokens {
	uint64_t left, burst, per_s, at_ns;
};

struct tw_h2 {
	nghttp2_session *session;
	struct tw_conn *conn;
	struct tw_request *in_head; /* whose header block is open */
	uint64_t head_ns;
	struct tw_tokens resets, idle_frames;
	uint64_t ping_ns; /* the last one that counted */
	uint32_t ping_strikes;
	int32_t stream_id_most; /* the peer's */
	bool got_settings;
	bool notice_sent; /* GOAWAY 2^31-1 went out */
	bool goaway_sent; /* the final one */
	bool ended;       /* nothing more is read */
};

static inline struct tw_h2 *tw_h2_of(void *user_data)
{
	return ((struct tw_conn *)user_data)->h2;
}

/* What must be sent is queued (rc 0), or there is no memory for it and the connection ends. */
void tw_h2_need(struct tw_conn *c, int rc);

/* http2_limits.c */
void tw_h2_limits_init(struct tw_h2 *h);
bool tw_tokens_take(struct tw_tokens *t, uint64_t now_ns);
void tw_tokens_add(struct tw_tokens *t, uint64_t n);
/* Each may end the session with ENHANCE_YOUR_CALM. */
void tw_h2_count_frame(struct tw_h2 *h, const nghttp2_frame_hd *hd);
void tw_h2_count_reset(struct tw_h2 *h);
void tw_h2_count_ping(struct tw_h2 *h);
void tw_h2_check_queue(struct tw_h2 *h);
/* GOAWAY with a code and a word, then the end. */
void tw_h2_end(struct tw_h2 *h, uint32_t code, const char *why);

#endif
