#include "http2.h"

static void tokens_init(struct tw_tokens *t, uint64_t burst, uint64_t per_s, uint64_t now_ns)
{
	*t = (struct tw_tokens){.left = burst, .burst = burst, .per_s = per_s, .at_ns = now_ns};
}

bool tw_tokens_take(struct tw_tokens *t, uint64_t now_ns)
{
	uint64_t s = (now_ns - t->at_ns) / TW_NS_PER_S;

	if (s > 0) {
		t->at_ns += s * TW_NS_PER_S;
		if (s > t->burst)
			s = t->burst;
		tw_tokens_add(t, s * t->per_s);
	}
	if (t->left == 0)
		return false;
	t->left--;
	return true;
}

void tw_tokens_add(struct tw_tokens *t, uint64_t n)
{
	t->left += n;
	if (t->left > t->burst)
		t->left = t->burst;
}

void tw_h2_limits_init(struct tw_h2 *h)
{
	uint64_t now = h->conn->server->now_ns;

	tokens_init(&h->resets, TW_H2_RESET_BURST, TW_H2_RESET_PER_S, now);
	tokens_init(&h->idle_frames, TW_H2_IDLE_FRAMES_BURST, TW_H2_IDLE_FRAMES_PER_S, now);
}

void tw_h2_end(struct tw_h2 *h, uint32_t code, const char *why)
{
	int32_t last;

	if (h->ended)
		return;
	h->ended = true;
	if (code != NGHTTP2_NO_ERROR)
		tw_counter_add(&h->conn->server->stats.protocol_errors, 1);
	last = nghttp2_session_get_last_proc_stream_id(h->session);
	(void)nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE, last, code, (const uint8_t *)why,
	                            strlen(why));
	tw_conn_close_soon(h->conn);
}

/* Frames that bring no request on: a peer that sends little else than these is doing it to keep us
 * busy. */
static bool is_idle_frame(const nghttp2_frame_hd *hd)
{
	switch (hd->type) {
	case NGHTTP2_HEADERS:
		return false;
	case NGHTTP2_DATA:
		return hd->length == 0 && (hd->flags & NGHTTP2_FLAG_END_STREAM) == 0;
	default:
		return true;
	}
}

void tw_h2_count_frame(struct tw_h2 *h, const nghttp2_frame_hd *hd)
{
	if (is_idle_frame(hd) && !tw_tokens_take(&h->idle_frames, h->conn->server->now_ns))
		tw_h2_end(h, NGHTTP2_ENHANCE_YOUR_CALM, "too_many_frames");
}

/* Streams reset by the peer and by us count alike: a peer can make us reset a stream by breaking a
 * rule on it (CVE-2023-44487, CVE-2025-8671). */
void tw_h2_count_reset(struct tw_h2 *h)
{
	if (!tw_tokens_take(&h->resets, h->conn->server->now_ns))
		tw_h2_end(h, NGHTTP2_ENHANCE_YOUR_CALM, "too_many_resets");
}

/* As gRPC's servers do, with a shorter minimum: SDKs are often set to a keepalive of 10 s. */
void tw_h2_count_ping(struct tw_h2 *h)
{
	uint64_t now = h->conn->server->now_ns;

	if (h->ping_ns != 0 && now - h->ping_ns < TW_H2_PING_MIN_NS)
		h->ping_strikes++;
	h->ping_ns = now;
	if (h->ping_strikes > TW_H2_PING_STRIKES)
		tw_h2_end(h, NGHTTP2_ENHANCE_YOUR_CALM, "too_many_pings");
}

void tw_h2_check_queue(struct tw_h2 *h)
{
	if (nghttp2_session_get_outbound_queue_size(h->session) > TW_H2_QUEUE_MAX)
		tw_h2_end(h, NGHTTP2_ENHANCE_YOUR_CALM, "too_much_waits_to_be_sent");
}
