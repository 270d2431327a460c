#include "http2_direct.h"

#include <sys/param.h>

#include "tw/base/mem.h"

#define FRAME_MIN 1024u /* of shorter ones copying costs no more than their places */

void tw_h2_direct_frame(struct tw_h2 *h, const nghttp2_frame_hd *hd)
{
	h->data_left = 0;
	if (hd->type != NGHTTP2_DATA || (hd->flags & NGHTTP2_FLAG_PADDED) != 0)
		return;
	h->data_stream = hd->stream_id;
	h->data_left = h->data_frame = (uint32_t)hd->length;
	h->data_end = (hd->flags & NGHTTP2_FLAG_END_STREAM) != 0;
}

/* The request whose message goes on with the rest of the frame at hand, and has room for that. */
static struct tw_request *taker(const struct tw_h2 *h)
{
	struct tw_request *r;

	if (h->data_left == 0 || h->ended)
		return NULL;
	r = nghttp2_session_get_stream_user_data(h->session, h->data_stream);
	if (r == NULL || r->phase != TW_REQ_BODY || r->discard || !r->x.is_grpc ||
	    r->frame.prefix_n < TW_GRPC_PREFIX_BYTES)
		return NULL;
	return h->data_left <= MIN(r->x.body.cap, r->frame.length) - r->x.body.n ? r : NULL;
}

static void add(struct tw_h2_direct *d, void *p, size_t n)
{
	d->iov[d->count++] = (struct iovec){.iov_base = p, .iov_len = n};
}

bool tw_h2_direct_ready(const struct tw_conn *c)
{
	return c->proto == TW_CONN_H2 && !c->closing && !c->want_close && !c->lingering &&
	       c->h2->data_frame >= FRAME_MIN && taker(c->h2) != NULL;
}

void tw_h2_direct_plan(struct tw_conn *c, struct tw_h2_direct *d, uint8_t *rest, size_t rest_n)
{
	const struct tw_h2 *h = c->h2;
	struct tw_request *r = taker(h);
	uint8_t *p = r->x.body.p + r->x.body.n;
	size_t left = MIN(r->x.body.cap, r->frame.length) - r->x.body.n;

	d->count = 0;
	d->request = r;
	for (uint32_t i = 0;; i++) {
		size_t n = MIN(i == 0 ? h->data_left : h->data_frame, left);

		add(d, p, n);
		p += n;
		left -= n;
		if (left == 0 || i == TW_H2_DIRECT_FRAMES || h->data_end)
			break;
		add(d, d->head[i], TW_H2_HEAD_BYTES);
	}
	add(d, rest, rest_n);
}

/* Is it the head that was planned for? With END_STREAM the body is the handler's: then nothing may
 * lie behind the frame in its memory. */
static bool as_planned(const struct tw_h2 *h, const uint8_t *head, size_t n, bool last)
{
	const uint32_t id = (uint32_t)h->data_stream;
	const uint8_t flags = last ? head[4] & NGHTTP2_FLAG_END_STREAM : 0;
	const uint8_t planned[TW_H2_HEAD_BYTES] = {
	    (uint8_t)(n >> 16),  (uint8_t)(n >> 8),   (uint8_t)n,         NGHTTP2_DATA, flags,
	    (uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id};

	return memcmp(head, planned, sizeof(planned)) == 0;
}

/* Something else came: what is left of it leaves the body's memory before anybody looks at it. */
static void spill(struct tw_conn *c, const struct tw_h2_direct *d, uint32_t i, size_t n)
{
	uint8_t *p = tw_alloc(n);
	size_t at = 0;

	if (p == NULL) {
		tw_conn_abort(c);
		return;
	}
	for (; at < n; i++) {
		size_t some = MIN(d->iov[i].iov_len, n - at);

		memcpy(p + at, d->iov[i].iov_base, some);
		at += some;
	}
	tw_h2_feed(c, p, n);
	tw_free(p);
}

/* Is the body still where the plan has it? */
static bool stands(const struct tw_h2_direct *d, const struct tw_h2 *h, uint32_t i)
{
	struct tw_request *r = taker(h);

	return r == d->request && h->data_left == d->iov[i].iov_len &&
	       r->x.body.p + r->x.body.n == d->iov[i].iov_base;
}

/* Heads are the odd ones, and the last is what the plan says nothing about. */
void tw_h2_direct_feed(struct tw_conn *c, struct tw_h2_direct *d, size_t n)
{
	const uint32_t end = d->count - 1;

	for (uint32_t i = 0; n > 0 && !c->closing; i++) {
		const uint8_t *p = d->iov[i].iov_base;
		size_t some = MIN(d->iov[i].iov_len, n);
		bool head = i % 2 == 1 && i < end;

		if (head && some == TW_H2_HEAD_BYTES &&
		    !as_planned(c->h2, p, d->iov[i + 1].iov_len, i + 2 == end)) {
			spill(c, d, i, n);
			return;
		}
		tw_h2_feed(c, p, some);
		n -= some;
		if (head && n > 0 && !c->closing && !stands(d, c->h2, i + 1)) {
			/* The peer has sent more than it may, and the body is gone. */
			tw_conn_abort(c);
			return;
		}
	}
}
