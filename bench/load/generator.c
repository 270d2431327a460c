#include "generator.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "process.h"
#include "tw/base/clock.h"
#include "tw/base/mem.h"
#include "tw/model/pb.h"

static uint64_t now_ns(void)
{
	return tw_now(&tw_clock_real);
}

static uint64_t own_cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * TW_NS_PER_S + (uint64_t)t.tv_nsec;
}

static void mark(const struct tw_load_generator *g, struct tw_load_mark *m)
{
	m->at_ns = now_ns();
	m->acked = g->totals.acked;
	m->cpu_ns = g->o.pid != 0 ? tw_load_process_cpu_ns(g->o.pid) : 0;
	m->own_cpu_ns = own_cpu_ns();
}

/* ---- create ---- */

static int open_all(struct tw_load_generator *g, struct tw_error *err)
{
	for (uint32_t i = 0; i < g->o.connections; i++) {
		struct epoll_event ev = {.events = EPOLLIN, .data.u32 = i};
		int rc = tw_load_conn_open(&g->conns[i], &g->o.to, &g->x[i * g->o.streams],
		                           g->o.streams, err);

		if (rc != 0)
			return rc;
		if (epoll_ctl(g->epoll, EPOLL_CTL_ADD, g->conns[i].fd, &ev) != 0)
			return tw_error_set(err, TW_EIO, 0, "epoll_ctl: %s", strerror(errno));
	}
	return 0;
}

static bool init_bodies(struct tw_load_generator *g)
{
	struct tw_load_form form = {.grpc = !g->o.to.http, .json = g->o.to.json};

	if (g->o.to.coding != TW_LOAD_PLAIN) {
		form.packer = g->packer = tw_load_packer_create(g->o.to.coding);
		if (g->packer == NULL)
			return false;
	}
	for (uint32_t i = 0; i < g->x_count; i++)
		if (!tw_load_body_init(&g->x[i].body, &g->o.workload, &form))
			return false;
	return true;
}

int tw_load_generator_init(struct tw_load_generator *g, const struct tw_load_opts *o,
                           struct tw_error *err)
{
	const struct tw_workload *w = &o->workload;

	memset(g, 0, sizeof(*g));
	g->o = *o;
	g->x_count = o->connections * o->streams;
	g->base_count = (w->visits - 1) * w->stride + 1;
	g->block_end =
	    o->spans == 0 ? UINT64_MAX : (o->spans + w->request_spans - 1) / w->request_spans;
	g->conns = tw_calloc(o->connections, sizeof(*g->conns));
	g->x = tw_calloc(g->x_count, sizeof(*g->x));
	g->base_ns = tw_calloc(g->base_count, sizeof(*g->base_ns));
	g->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!g->conns || !g->x || !g->base_ns || g->epoll < 0 || !tw_load_names_init(&g->names, w))
		return tw_error_set(err, TW_ENOMEM, 0, "no memory");
	for (uint32_t i = 0; i < o->connections; i++)
		g->conns[i].fd = -1;
	if (!init_bodies(g))
		return tw_error_set(err, TW_ENOMEM, 0, "no memory for the requests");
	return open_all(g, err);
}

void tw_load_generator_deinit(struct tw_load_generator *g)
{
	for (uint32_t i = 0; g->conns != NULL && i < g->o.connections; i++)
		tw_load_conn_close(&g->conns[i]);
	for (uint32_t i = 0; g->x != NULL && i < g->x_count; i++)
		tw_load_body_deinit(&g->x[i].body);
	tw_load_packer_destroy(&g->packer);
	if (g->epoll >= 0)
		close(g->epoll);
	tw_load_names_deinit(&g->names);
	tw_free(g->conns);
	tw_free(g->x);
	tw_free(g->base_ns);
	tw_free(g->late);
}

/* ---- what is sent next ---- */

/* A trace's next group waits until its last one has been acknowledged. */
static bool must_wait(const struct tw_load_generator *g)
{
	for (uint32_t i = 0; i < g->x_count; i++)
		if (g->x[i].state != TW_LOAD_FREE && g->x[i].request != UINT64_MAX &&
		    g->x[i].request + g->o.workload.stride <= g->request)
			return true;
	return false;
}

static bool is_late(const struct tw_load_generator *g, uint64_t block)
{
	double share = g->o.workload.late_share;

	return share > 0 && (double)(tw_load_mix(block ^ TW_LOAD_GOLDEN) >> 11) * 0x1p-53 < share;
}

static bool push_late(struct tw_load_generator *g, uint64_t block, uint64_t base_ns, uint64_t now)
{
	if (g->late_end == g->late_cap) {
		size_t n = g->late_end - g->late_begin, cap = n * 2 + 64;
		struct tw_load_late *late = tw_alloc(cap * sizeof(*late));

		if (late == NULL)
			return false;
		if (n > 0)
			memcpy(late, g->late + g->late_begin, n * sizeof(*late));
		tw_free(g->late);
		g->late = late;
		g->late_begin = 0;
		g->late_end = n;
		g->late_cap = cap;
	}
	g->late[g->late_end++] =
	    (struct tw_load_late){now + g->o.workload.late_delay_ns, block, base_ns};
	return true;
}

static bool compose_late(struct tw_load_generator *g, struct tw_load_body *b, uint64_t now)
{
	const struct tw_load_late *l = &g->late[g->late_begin];

	if (g->late_begin == g->late_end || l->due_ns > now)
		return false;
	tw_load_body_add(b, &g->o.workload, &g->names, l->block, g->o.workload.visits - 1,
	                 l->base_ns);
	g->totals.late_spans += b->spans;
	g->late_begin++;
	return true;
}

/* The next request that has any span; false when there is none left, or none may go yet. */
static bool compose_next(struct tw_load_generator *g, struct tw_load_exchange *x, uint64_t now)
{
	const struct tw_workload *w = &g->o.workload;
	struct tw_load_body *b = &x->body;

	while (b->spans == 0 && !must_wait(g)) {
		uint64_t r = x->request = g->request;

		if (g->block_end != UINT64_MAX &&
		    r >= g->block_end + (uint64_t)(w->visits - 1) * w->stride)
			return false;
		g->request++;
		if (r < g->block_end)
			g->base_ns[r % g->base_count] = tw_wall(&tw_clock_real);
		for (uint32_t v = 0; v < w->visits && (uint64_t)v * w->stride <= r; v++) {
			uint64_t block = r - (uint64_t)v * w->stride;
			uint64_t base = g->base_ns[block % g->base_count];

			if (block >= g->block_end)
				continue;
			if (v == 0 && is_late(g, block) && push_late(g, block, base, now))
				continue;
			tw_load_body_add(b, w, &g->names, block, w->visits - 1 - v, base);
		}
	}
	return b->spans != 0;
}

static bool compose(struct tw_load_generator *g, struct tw_load_exchange *x, uint64_t now)
{
	struct tw_load_body *b = &x->body;

	tw_load_body_begin(b);
	x->request = UINT64_MAX;
	if (!compose_late(g, b, now) && !compose_next(g, x, now))
		return false;
	tw_load_body_end(b);
	g->totals.spans += b->spans;
	g->totals.bytes += b->bytes;
	g->totals.plain_bytes += b->plain_bytes;
	return true;
}

static bool composed_all_but_late(const struct tw_load_generator *g)
{
	const struct tw_workload *w = &g->o.workload;

	return g->ending && g->request >= g->block_end + (uint64_t)(w->visits - 1) * w->stride;
}

/* When the rate lets the next request go; 0: now. */
static uint64_t next_ns(const struct tw_load_generator *g)
{
	double each = g->o.workload.request_spans * 1e9 / g->o.rate;

	if (g->o.rate == 0)
		return 0;
	return g->begin_ns + (uint64_t)((double)g->paced * each);
}

static void end_at(struct tw_load_generator *g, uint64_t now)
{
	if (g->ending)
		return;
	if (g->from.at_ns == 0 && now - g->begin_ns >= g->o.warmup_ns)
		mark(g, &g->from);
	if (g->o.spans == 0 && (now - g->begin_ns >= g->o.duration_ns || *g->stop))
		g->block_end = g->request;
	if (g->request >= g->block_end) {
		g->ending = true;
		mark(g, &g->to);
	}
}

/* ---- answers ---- */

static unsigned bucket_of(uint64_t us)
{
	unsigned b = us == 0 ? 0 : (unsigned)(log2((double)us) * 10);

	return b < TW_LOAD_LATENCY_BUCKETS ? b : TW_LOAD_LATENCY_BUCKETS - 1;
}

uint64_t tw_load_latency_us(const struct tw_load_totals *t, double quantile)
{
	uint64_t all = 0, below = 0;

	for (unsigned i = 0; i < TW_LOAD_LATENCY_BUCKETS; i++)
		all += t->latency[i];
	for (unsigned i = 0; i < TW_LOAD_LATENCY_BUCKETS; i++) {
		below += t->latency[i];
		if ((double)below >= quantile * (double)all && below > 0)
			return (uint64_t)exp2((i + 1) / 10.0);
	}
	return 0;
}

/* The same in JSON: a number, in quotes or not. */
static uint64_t rejected_of_json(const struct tw_load_exchange *x)
{
	static const char name[] = "\"rejectedSpans\":";
	const uint8_t *p = memmem(x->reply, x->reply_n, name, sizeof(name) - 1);
	const uint8_t *end = x->reply + x->reply_n;
	uint64_t v = 0;

	if (p == NULL)
		return 0;
	for (p += sizeof(name) - 1; p < end && (*p == '"' || *p == ' '); p++)
		;
	for (; p < end && *p >= '0' && *p <= '9'; p++)
		v = v * 10 + (*p - '0');
	return v;
}

/* ExportTraceServiceResponse.partial_success.rejected_spans */
static uint64_t rejected_of(const struct tw_load_exchange *x)
{
	const uint8_t *p = x->reply + x->body.prefix_n, *end = x->reply + x->reply_n;
	uint64_t rejected = 0;
	uint32_t tag, n;

	if (x->body.form.json)
		return rejected_of_json(x);
	while (p != NULL && p < end) {
		p = tw_pb_tag(p, end, &tag);
		if (p != NULL && tag == TW_PB_TAG(1, TW_PB_LEN)) {
			p = tw_pb_len(p, end, &n);
			if (p != NULL)
				end = p + n; /* into the only message that matters */
		} else if (p != NULL && tag == TW_PB_TAG(1, TW_PB_VARINT)) {
			p = tw_pb_varint(p, end, &rejected);
		} else if (p != NULL) {
			p = tw_pb_skip(p, end, tag);
		}
	}
	return rejected;
}

enum answer { GOOD, REFUSED, FAILED };

static enum answer judge(const struct tw_load_generator *g, const struct tw_load_exchange *x)
{
	if (x->broken)
		return FAILED;
	if (g->o.any_answer)
		return GOOD;
	if (x->http_status == 429 || (x->http_status >= 502 && x->http_status <= 504))
		return REFUSED;
	if (x->http_status != 200)
		return FAILED;
	if (g->o.to.http || x->grpc_status == 0)
		return GOOD;
	return x->grpc_status == 8 || x->grpc_status == 14 ? REFUSED : FAILED;
}

static void answered(struct tw_load_generator *g, struct tw_load_exchange *x, uint64_t now)
{
	struct tw_load_totals *t = &g->totals;
	enum answer a = judge(g, x);

	t->answers++;
	t->latency[bucket_of((now - x->sent_ns) / 1000)]++;
	x->state = TW_LOAD_FREE;
	if (a == GOOD) {
		t->acked += x->body.spans;
		t->error_spans_acked += x->body.error_spans;
		t->rejected += g->o.any_answer ? 0 : rejected_of(x);
		return;
	}
	t->refusals += a == REFUSED;
	t->failures += a == FAILED;
	if (a == REFUSED && g->o.retry_ns != 0) {
		x->state = TW_LOAD_RETRY;
		x->retry_ns = now + g->o.retry_ns;
		return;
	}
	if (t->given_up == 0)
		fprintf(stderr, "traceweir-load: a request failed: http %d, grpc %d%s\n",
		        x->http_status, x->grpc_status, x->broken ? ", stream broken" : "");
	t->given_up += x->body.spans;
}

/* ---- the loop ---- */

static int submit(struct tw_load_generator *g, struct tw_load_exchange *x, uint64_t now)
{
	x->sent_ns = now;
	g->totals.requests++;
	return tw_load_conn_submit(x->conn, x);
}

static int refill(struct tw_load_generator *g, uint64_t now)
{
	for (uint32_t i = 0; i < g->x_count; i++) {
		uint32_t at = (g->next_x + i) % g->x_count;
		struct tw_load_exchange *x = &g->x[at];

		if (x->state == TW_LOAD_ANSWERED)
			answered(g, x, now);
		if (x->state == TW_LOAD_RETRY && x->retry_ns <= now) {
			if (submit(g, x, now) != 0)
				return TW_EIO;
		} else if (x->state == TW_LOAD_FREE && next_ns(g) <= now && compose(g, x, now)) {
			g->paced++;
			g->next_x =
			    (at + g->o.streams) % g->x_count; /* the connections take turns */
			if (submit(g, x, now) != 0)
				return TW_EIO;
			now = now_ns();
			end_at(g, now);
		}
	}
	return 0;
}

static bool idle(const struct tw_load_generator *g)
{
	for (uint32_t i = 0; i < g->x_count; i++)
		if (g->x[i].state != TW_LOAD_FREE)
			return false;
	return true;
}

static int write_all(struct tw_load_generator *g)
{
	for (uint32_t i = 0; i < g->o.connections; i++) {
		struct tw_load_conn *c = &g->conns[i];
		bool before = c->want_write;
		struct epoll_event ev = {.data.u32 = i};

		if (tw_load_conn_write(c) != 0)
			return TW_EIO;
		ev.events = EPOLLIN | (c->want_write ? EPOLLOUT : 0);
		if (before != c->want_write && epoll_ctl(g->epoll, EPOLL_CTL_MOD, c->fd, &ev) != 0)
			return TW_EIO;
	}
	return 0;
}

/* Whether an exchange has been answered within write_all: then it can be used at once. */
static bool any_answered(const struct tw_load_generator *g)
{
	for (uint32_t i = 0; i < g->x_count; i++)
		if (g->x[i].state == TW_LOAD_ANSWERED)
			return true;
	return false;
}

static uint64_t sleep_ns(const struct tw_load_generator *g, uint64_t now)
{
	uint64_t until = now + 100 * TW_NS_PER_MS;
	bool free = false;

	if (any_answered(g))
		return 0;
	for (uint32_t i = 0; i < g->x_count; i++) {
		free = free || g->x[i].state == TW_LOAD_FREE;
		if (g->x[i].state == TW_LOAD_RETRY && g->x[i].retry_ns < until)
			until = g->x[i].retry_ns;
	}
	if (free && g->late_begin < g->late_end && g->late[g->late_begin].due_ns < until)
		until = g->late[g->late_begin].due_ns;
	if (free && !must_wait(g) && !composed_all_but_late(g) && next_ns(g) < until)
		until = next_ns(g);
	return until > now ? until - now : 0;
}

static int wait_and_read(struct tw_load_generator *g)
{
	uint64_t ns = sleep_ns(g, now_ns());
	struct timespec t = {.tv_nsec = (long)ns};
	struct epoll_event ev[64];
	int n = epoll_pwait2(g->epoll, ev, 64, &t, NULL);

	for (int i = 0; i < n; i++) {
		int rc = ev[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)
		             ? tw_load_conn_read(&g->conns[ev[i].data.u32])
		             : 0;

		if (rc != 0)
			return rc;
	}
	return 0;
}

int tw_load_generator_run(struct tw_load_generator *g, struct tw_error *err)
{
	int rc = 0;

	g->begin_ns = now_ns();
	end_at(g, g->begin_ns);
	while (rc == 0 && !(composed_all_but_late(g) && g->late_begin == g->late_end && idle(g))) {
		uint64_t now = now_ns();

		end_at(g, now);
		rc = refill(g, now);
		if (rc == 0)
			rc = write_all(g);
		if (rc == 0)
			rc = wait_and_read(g);
	}
	if (rc != 0)
		return tw_error_set(err, rc, 0, "the connection broke: %s", tw_err_name(rc));
	return 0;
}

uint64_t tw_load_traces(const struct tw_load_generator *g)
{
	return g->block_end * (g->o.workload.request_spans / g->o.workload.trace_spans);
}
