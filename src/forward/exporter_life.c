/* Create, stop, destroy. */
#include "exporter.h"

#include "tw/base/error.h"
#include "tw/base/log.h"
#include "tw/base/mem.h"

const char *const tw_lost_names[TW_LOST_COUNT] = {"queue_full", "permanent_error",
                                                  "retry_exhausted", "rejected", "shutdown"};

static uint64_t or_default(uint64_t v, uint64_t d)
{
	return v ? v : d;
}

struct tw_exporter *tw_exporter_create(const struct tw_exporter_config *c)
{
	struct tw_exporter *x = tw_calloc(1, sizeof(*x));
	const struct tw_dest_opts *o = c->opts;

	if (!x)
		return NULL;
	x->opts = o;
	tw_log_quote(x->name, sizeof(x->name), o->name, (unsigned)strlen(o->name));
	x->transport = c->transport;
	x->clock = c->clock;
	x->on_room = c->on_room;
	x->ctx = c->ctx;
	x->queue_bytes_max = c->queue_bytes_max;
	x->in_flight_max = c->in_flight_max ? c->in_flight_max : 4;
	x->batch_bytes = or_default(o->batch_bytes, UINT64_C(512) << 10);
	x->batch_age_ns = o->batch_age_ns;
	tw_backoff_init(&x->backoff, or_default(o->backoff_first_ns, TW_NS_PER_S),
	                or_default(o->backoff_most_ns, 30 * TW_NS_PER_S), c->seed);
	tw_batch_list_init(&x->queued);
	tw_batch_list_init(&x->backing_off);
	tw_batch_list_init(&x->answered);
	return x;
}

static void lose_all(struct tw_exporter *x, struct tw_batch_list *l)
{
	struct tw_out_batch *b;

	while ((b = tw_batch_list_take(l)) != NULL)
		tw_exporter_end_lost(x, b, TW_LOST_SHUTDOWN);
}

void tw_exporter_stop(struct tw_exporter *x)
{
	uint64_t before = tw_counter_get(&x->stats.lost[TW_LOST_SHUTDOWN]);
	uint64_t lost;

	if (x->stopping)
		return;
	TW_ASSERT(!x->advancing);
	x->stopping = true;
	tw_exporter_settle_all(x, x->now_ns);
	if (x->open)
		tw_exporter_end_lost(x, x->open, TW_LOST_SHUTDOWN);
	x->open = NULL;
	x->uncoded = NULL;
	lose_all(x, &x->queued);
	lose_all(x, &x->backing_off);
	x->transport.stop(x->transport.self);
	lost = tw_counter_get(&x->stats.lost[TW_LOST_SHUTDOWN]) - before;
	if (lost > 0)
		TW_LOG(TW_LOG_WARN, "stopped before these spans were delivered",
		       "destination=%s spans=%lu still_sending=%u", x->name, (unsigned long)lost,
		       x->sending);
}

bool tw_exporter_stopped(const struct tw_exporter *x)
{
	return x->stopping && x->sending == 0 && x->transport.stopped(x->transport.self);
}

void tw_exporter_destroy(struct tw_exporter **px)
{
	struct tw_exporter *x = *px;

	if (!x)
		return;
	if (!x->stopping)
		tw_exporter_stop(x); /* never used: its maker failed elsewhere */
	TW_ASSERT(tw_exporter_stopped(x));
	x->transport.destroy(x->transport.self);
	tw_buf_deinit(&x->spare);
	tw_free(x);
	*px = NULL;
}

const struct tw_exporter_stats *tw_exporter_stats(const struct tw_exporter *x)
{
	return &x->stats;
}
