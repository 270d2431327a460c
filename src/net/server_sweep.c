#include "server_private.h"

/* A body must bring this many bytes a second, over body_timeout. */
#define BODY_RATE_MIN UINT64_C(1024)

/* True: too slow. */
static bool body_stalled(struct tw_request *r, uint64_t now)
{
	uint64_t span = r->server->o.body_timeout_ns;
	uint64_t least = span / TW_NS_PER_MS * BODY_RATE_MIN / 1000;

	if (now - r->mark_ns < span)
		return false;
	if (r->body_bytes - r->mark_bytes < least)
		return true;
	r->mark_ns = now;
	r->mark_bytes = r->body_bytes;
	return false;
}

static void sweep_requests(struct tw_conn *c, uint64_t now)
{
	for (struct tw_request *r = c->requests, *next; r != NULL && !c->closing; r = next) {
		next = r->next;
		if (r->phase != TW_REQ_BODY || r->remote_done)
			continue;
		if (r->x.deadline_ns <= now)
			tw_request_timeout(r,
			                   "the deadline passed before the request was complete");
		else if (body_stalled(r, now))
			tw_request_timeout(r, "the body came too slowly");
	}
}

static void sweep_conn(struct tw_conn *c, uint64_t now)
{
	struct tw_server *s = c->server;

	if (c->lingering) {
		if (now - c->linger_ns >= TW_NET_LINGER_NS)
			tw_conn_abort(c);
		return;
	}
	if (c->writing && now - c->write_ns >= s->o.body_timeout_ns) {
		tw_counter_add(&s->stats.timeouts, 1);
		tw_conn_abort(c);
		return;
	}
	sweep_requests(c, now);
	if (c->closing)
		return;
	if (c->proto == TW_CONN_H2) {
		tw_h2_sweep(c, now);
	} else if (c->proto == TW_CONN_H1) {
		tw_h1_sweep(c, now);
	} else if (now - c->opened_ns >= s->o.header_timeout_ns) {
		tw_counter_add(&s->stats.timeouts, 1);
		tw_conn_abort(c);
	}
}

void tw_server_sweep(struct tw_server *s)
{
	s->now_ns = tw_now(s->o.clock);
	for (struct tw_conn *c = s->conns, *next; c != NULL; c = next) {
		next = c->next;
		if (!c->closing)
			sweep_conn(c, s->now_ns);
	}
}
