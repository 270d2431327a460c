#include "client.h"

#include "tw/base/mem.h"

/* ---- deadlines ---- */

static void on_timer(uv_timer_t *t);

static uint64_t deadline_after(const struct tw_client *c, uint64_t ns)
{
	uint64_t now = tw_now(c->opts.clock);

	return ns == 0 || ns >= TW_NEVER - now ? TW_NEVER : now + ns;
}

void tw_client_arm(struct tw_client *c, uint64_t deadline_ns)
{
	uint64_t now, ms;

	if (deadline_ns >= c->timer_ns || c->closing)
		return;
	now = tw_now(c->opts.clock);
	ms = deadline_ns <= now ? 0 : (deadline_ns - now + TW_NS_PER_MS - 1) / TW_NS_PER_MS;
	c->timer_ns = deadline_ns;
	uv_update_time(c->loop);
	uv_timer_start(&c->timer, on_timer, ms, 0);
}

static void call_expire(struct tw_client_call *call)
{
	struct tw_conn *k = call->conn;
	uint64_t begun = call->begun_ns;

	call->r.timeout = true;
	tw_call_fail(call, TW_EIO, "%s",
	             !k ? "timed out before there was a connection"
	                : "timed out waiting for the answer");
	if (!k)
		return;
	/* Not a byte since: whoever is at the other end may be gone. The next request shall not
	 * wait for TCP to notice. */
	if (k->heard_ns < begun)
		k->draining = true;
	call->client->proto->cancel(k, call);
}

/* Ends one thing that is past its deadline; false: there is none. One at a time, because ending a
 * connection ends its calls. */
static bool expire_one(struct tw_client *c, uint64_t now, uint64_t *next)
{
	struct tw_call_list *const lists[] = {&c->pending, &c->active};
	struct tw_client_call *call;
	struct tw_conn *k;

	*next = TW_NEVER;
	for (int i = 0; i < 2; i++) {
		TAILQ_FOREACH(call, lists[i], link)
		{
			if (call->deadline_ns <= now) {
				call_expire(call);
				return true;
			}
			if (call->deadline_ns < *next)
				*next = call->deadline_ns;
		}
	}
	TAILQ_FOREACH(k, &c->conns, link)
	{
		if (k->state >= CONN_OPEN)
			continue;
		if (k->attempt_ns <= now) {
			tw_conn_expired(k);
			return true;
		}
		if (k->attempt_ns < *next)
			*next = k->attempt_ns;
	}
	return false;
}

static void on_timer(uv_timer_t *t)
{
	struct tw_client *c = t->data;
	uint64_t now = tw_now(c->opts.clock), next;

	while (expire_one(c, now, &next))
		;
	c->timer_ns = TW_NEVER;
	if (next != TW_NEVER)
		tw_client_arm(c, next);
}

/* ---- the work: gives calls to connections, answers to the caller ---- */

static struct tw_conn *conn_find(struct tw_client *c)
{
	struct tw_conn *k;

	TAILQ_FOREACH(k, &c->conns, link)
	{
		if (k->state == CONN_OPEN && !k->draining && c->proto->accepts(k))
			return k;
	}
	return NULL;
}

/* Those that will take requests soon. */
static uint32_t conns_coming(const struct tw_client *c)
{
	struct tw_conn *k;
	uint32_t n = 0;

	TAILQ_FOREACH(k, &c->conns, link)
	n += k->state < CONN_OPEN ||
	     (c->proto->multiplex && k->state == CONN_OPEN && !k->draining && !k->settled);
	return n;
}

static void submit_all(struct tw_client *c)
{
	struct tw_client_call *call;
	struct tw_conn *k;

	while ((call = TAILQ_FIRST(&c->pending)) != NULL && (k = conn_find(c)) != NULL) {
		TAILQ_REMOVE(&c->pending, call, link);
		TAILQ_INSERT_TAIL(&c->active, call, link);
		call->state = CALL_ACTIVE;
		call->conn = k;
		call->attempts++;
		call->begun_ns = tw_now(c->opts.clock);
		k->calls++;
		k->calls_total++;
		c->proto->submit(k, call);
	}
}

static void connect_more(struct tw_client *c)
{
	struct tw_client_call *call;
	uint32_t want = 0, coming = conns_coming(c);

	TAILQ_FOREACH(call, &c->pending, link)
	want++;
	if (c->proto->multiplex && want > 1)
		want = 1;
	for (; coming < want; coming++) {
		if (tw_conn_start(c))
			continue;
		while ((call = TAILQ_FIRST(&c->pending)) != NULL)
			tw_call_fail(call, TW_EIO, "no memory for a connection");
		return;
	}
}

static void answer_all(struct tw_client *c)
{
	struct tw_call_list batch = TAILQ_HEAD_INITIALIZER(batch);
	struct tw_client_call *call;

	/* Only those of now: a callback may send again, and that must not starve the loop. */
	TAILQ_CONCAT(&batch, &c->done, link);
	while ((call = TAILQ_FIRST(&batch)) != NULL) {
		TAILQ_REMOVE(&batch, call, link);
		c->open--;
		call->cb(call->ctx, &call->r);
		tw_call_free(call);
	}
}

static void on_handle_closed(uv_handle_t *h)
{
	struct tw_client *c = h->data;

	c->handles--;
}

static void close_handles(struct tw_client *c)
{
	if (c->closing || !c->stopping || c->open > 0 || c->resolving || !TAILQ_EMPTY(&c->conns))
		return;
	c->closing = true;
	uv_close((uv_handle_t *)&c->work, on_handle_closed);
	uv_close((uv_handle_t *)&c->awake, on_handle_closed);
	uv_close((uv_handle_t *)&c->timer, on_handle_closed);
}

/* After the poll: a connection that its backend has closed meanwhile is known to be closed, and is
 * not used again. */
static void on_work(uv_check_t *h)
{
	struct tw_client *c = h->data;

	uv_check_stop(h); /* what happens below may start it again */
	uv_idle_stop(&c->awake);
	if (!c->stopping) {
		submit_all(c);
		connect_more(c);
	}
	answer_all(c);
	close_handles(c);
}

static void on_awake(uv_idle_t *h)
{
	(void)h;
}

void tw_client_kick(struct tw_client *c)
{
	if (c->closing)
		return;
	uv_check_start(&c->work, on_work);
	uv_idle_start(&c->awake, on_awake);
}

/* ---- the interface ---- */

struct tw_client *tw_client_create(uv_loop_t *loop, const struct tw_client_opts *o)
{
	struct tw_client *c = tw_calloc(1, sizeof *c);

	if (!c)
		return NULL;
	c->loop = loop;
	c->opts = *o;
	c->proto = o->kind == TW_CLIENT_GRPC ? &tw_client_h2 : &tw_client_h1;
	c->timer_ns = TW_NEVER;
	TAILQ_INIT(&c->pending);
	TAILQ_INIT(&c->active);
	TAILQ_INIT(&c->done);
	TAILQ_INIT(&c->conns);
	uv_check_init(loop, &c->work); /* cannot fail, nor can the next ones */
	uv_idle_init(loop, &c->awake);
	uv_timer_init(loop, &c->timer);
	c->work.data = c->awake.data = c->timer.data = c->resolve.data = c;
	c->handles = 3;
	return c;
}

int tw_client_send(struct tw_client *c, const struct tw_client_request *r, tw_client_cb cb,
                   void *ctx)
{
	struct tw_client_call *call;
	int rc;

	if (c->stopping)
		return TW_ECLOSED;
	if (c->open >= c->opts.streams_max)
		return TW_EFULL;
	rc = tw_call_create(c, r, &call);
	if (rc)
		return rc;
	call->cb = cb;
	call->ctx = ctx;
	call->deadline_ns = deadline_after(c, r->timeout_ns);
	call->state = CALL_PENDING;
	TAILQ_INSERT_TAIL(&c->pending, call, link);
	c->open++;
	tw_client_arm(c, call->deadline_ns);
	tw_client_kick(c);
	return 0;
}

uint32_t tw_client_open(const struct tw_client *c)
{
	return c->open;
}

void tw_client_stop(struct tw_client *c)
{
	struct tw_client_call *call;
	struct tw_conn *k;

	if (c->stopping)
		return;
	c->stopping = true;
	while ((call = TAILQ_FIRST(&c->pending)) != NULL)
		tw_call_fail(call, TW_ECLOSED, "the client was stopped");
	while ((call = TAILQ_FIRST(&c->active)) != NULL) {
		k = call->conn;
		tw_call_fail(call, TW_ECLOSED, "the client was stopped");
		c->proto->cancel(k, call);
	}
	TAILQ_FOREACH(k, &c->conns, link) /* they leave the list when their handles are closed */
	tw_conn_close(k);
	if (c->resolving)
		uv_cancel((uv_req_t *)&c->resolve);
	tw_client_kick(c);
}

bool tw_client_stopped(const struct tw_client *c)
{
	return c->closing && c->handles == 0;
}

void tw_client_destroy(struct tw_client **c)
{
	if (!*c)
		return;
	TW_ASSERT(tw_client_stopped(*c));
	tw_free(*c);
	*c = NULL;
}
