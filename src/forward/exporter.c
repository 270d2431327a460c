/* What happens to closed batches: compressed, sent, answered, tried again, ended. */
#include "exporter.h"

#include "tw/base/error.h"
#include "tw/base/log.h"

#define BUSY_PAUSE_NS (5 * TW_NS_PER_MS)

/* ---- ends ---- */

void tw_exporter_hold(struct tw_exporter *x, int64_t bytes)
{
	x->held_bytes += (uint64_t)bytes;
	tw_counter_set(&x->stats.queued_bytes, x->held_bytes);
}

/* Twice a batch: the buffer grows by doubling, and the last trace of a batch may run past its size.
 */
size_t tw_exporter_spare_max(const struct tw_exporter *x)
{
	return 2 * x->batch_bytes;
}

static void end(struct tw_exporter *x, struct tw_out_batch *b)
{
	tw_counter_add(&x->stats.queued, -b->spans);
	tw_exporter_hold(x, -(int64_t)b->request.n);
	tw_batch_destroy(b, &x->spare, tw_exporter_spare_max(x));
}

void tw_exporter_end_lost(struct tw_exporter *x, struct tw_out_batch *b, enum tw_lost why)
{
	tw_counter_add(&x->stats.lost[why], b->spans);
	end(x, b);
}

static void end_sent(struct tw_exporter *x, struct tw_out_batch *b, uint64_t now_ns)
{
	uint64_t rejected = b->rejected < b->spans ? b->rejected : b->spans;

	if (rejected > 0)
		TW_LOG(TW_LOG_WARN, "backend rejected spans",
		       "destination=%s rejected=%lu of=%lu reason=%s", x->name,
		       (unsigned long)rejected, (unsigned long)b->spans, b->text);
	else if (b->has_text)
		TW_LOG(TW_LOG_WARN, "backend took a batch with a warning",
		       "destination=%s reason=%s", x->name, b->text);
	tw_counter_add(&x->stats.answers_unreadable, b->unreadable);
	tw_counter_add(&x->stats.forwarded, b->spans - rejected);
	tw_counter_add(&x->stats.lost[TW_LOST_REJECTED], rejected);
	tw_counter_add(&x->stats.batches_sent, 1);
	tw_delay_settle(&b->delay, &x->stats, now_ns);
	end(x, b);
}

static void end_permanent(struct tw_exporter *x, struct tw_out_batch *b)
{
	TW_LOG(TW_LOG_ERROR, "backend refused a batch for good, its spans are lost",
	       "destination=%s spans=%lu reason=%s", x->name, (unsigned long)b->spans, b->text);
	tw_counter_add(&x->stats.sends_failed, 1);
	tw_exporter_end_lost(x, b, TW_LOST_PERMANENT);
}

static void end_exhausted(struct tw_exporter *x, struct tw_out_batch *b)
{
	TW_LOG(TW_LOG_ERROR, "batch was tried for too long, its spans are lost",
	       "destination=%s spans=%lu tries=%u reason=%s", x->name, (unsigned long)b->spans,
	       b->tries, b->text);
	tw_exporter_end_lost(x, b, TW_LOST_RETRY_EXHAUSTED);
}

/* ---- answers ---- */

static void answered(struct tw_exporter *x)
{
	x->hurried = false;
	if (tw_gate_answered(&x->gate))
		TW_LOG(TW_LOG_INFO, "backend answers again", "destination=%s", x->name);
}

static uint64_t sum_or_never(uint64_t a, uint64_t b)
{
	return a > TW_NEVER - b ? TW_NEVER : a + b;
}

/* When a batch has waited for too long: retry_for after its first try. One that was never tried
 * waits behind a backend that failed for others: it has the same time from its closing, but never
 * so little that no probe falls into it. */
static uint64_t expires_ns(const struct tw_exporter *x, const struct tw_out_batch *b)
{
	uint64_t untried = x->opts->retry_for_ns;

	if (b->tries > 0)
		return sum_or_never(b->first_sent_ns, x->opts->retry_for_ns);
	if (untried < 2 * x->backoff.most_ns)
		untried = 2 * x->backoff.most_ns;
	return sum_or_never(b->closed_ns, untried);
}

static void back_off(struct tw_exporter *x, struct tw_out_batch *b, uint64_t now_ns)
{
	b->tries++;
	tw_counter_add(&x->stats.sends_failed, 1);
	if (tw_gate_failed(&x->gate, &x->backoff, b->round, b->retry_after_ms, now_ns))
		TW_LOG(TW_LOG_WARN, "backend does not take spans, trying again",
		       "destination=%s next_ms=%lu reason=%s", x->name,
		       (unsigned long)((x->gate.until_ns - now_ns) / TW_NS_PER_MS), b->text);
	if (expires_ns(x, b) <= now_ns) {
		end_exhausted(x, b);
		return;
	}
	b->due_ns = now_ns + tw_backoff_delay_ns(&x->backoff, b->tries, b->retry_after_ms);
	b->state = TW_BATCH_BACKING_OFF;
	tw_batch_trim(b);
	tw_batch_list_put(&x->backing_off, b);
}

static void settle(struct tw_exporter *x, struct tw_out_batch *b, uint64_t now_ns)
{
	switch (b->outcome) {
	case TW_SENT:
		answered(x);
		end_sent(x, b, now_ns);
		return;
	case TW_SEND_PERMANENT:
		answered(x);
		end_permanent(x, b);
		return;
	case TW_SEND_RETRY:
	case TW_SEND_STOPPED:
		if (x->stopping)
			tw_exporter_end_lost(x, b, TW_LOST_SHUTDOWN);
		else
			back_off(x, b, now_ns);
		return;
	}
	TW_ASSERT(false);
}

void tw_exporter_settle_all(struct tw_exporter *x, uint64_t now_ns)
{
	struct tw_out_batch *b;

	while ((b = tw_batch_list_take(&x->answered)) != NULL)
		settle(x, b, now_ns);
}

static void advance(struct tw_exporter *x, uint64_t now_ns, bool briefly);

static void on_done(void *ctx, const struct tw_send_result *r)
{
	struct tw_out_batch *b = ctx;
	struct tw_exporter *x = b->exporter;

	TW_ASSERT(b->state == TW_BATCH_SENDING);
	TW_ASSERT(x->sending > 0);
	x->sending--;
	b->state = TW_BATCH_ANSWERED;
	b->outcome = r->outcome;
	b->retry_after_ms = r->retry_after_ms;
	b->rejected = r->rejected;
	b->unreadable = r->unreadable;
	b->has_text = r->text && r->text[0];
	/* Foreign words on their way to the log: escaped once, here. */
	tw_log_quote(b->text, sizeof(b->text), b->has_text ? r->text : "",
	             b->has_text ? (unsigned)strlen(r->text) : 0);
	tw_batch_list_put(&x->answered, b);
	if (x->stopping)
		tw_exporter_settle_all(x, x->clock ? tw_now(x->clock) : x->now_ns);
	else if (x->clock && !x->advancing)
		advance(x, tw_now(x->clock), false);
}

/* ---- the queue ---- */

void tw_exporter_enqueue(struct tw_exporter *x, struct tw_out_batch *b, uint64_t now_ns)
{
	b->state = TW_BATCH_QUEUED;
	b->closed_ns = now_ns;
	if (x->transport.coding == TW_CODING_IDENTITY)
		b->coded = true;
	else if (!x->uncoded)
		x->uncoded = b;
	tw_batch_list_put(&x->queued, b);
}

void tw_exporter_close_open(struct tw_exporter *x, uint64_t now_ns)
{
	struct tw_out_batch *b = x->open;

	x->open = NULL;
	tw_exporter_enqueue(x, b, now_ns);
}

/* One batch a turn: compressing half a megabyte takes milliseconds, and the loop has other things
 * to do. It is done as soon as a batch closes, not when it is sent, so that a queue in front of a
 * dead backend holds ten times as much. */
static void code_one(struct tw_exporter *x)
{
	struct tw_out_batch *b = x->uncoded;
	size_t before;

	if (!b)
		return;
	x->uncoded = b->next;
	before = b->request.n;
	tw_batch_code(b, x->transport.coding, &x->spare, tw_exporter_spare_max(x));
	tw_exporter_hold(x, (int64_t)b->request.n - (int64_t)before);
}

static void expire(struct tw_exporter *x, uint64_t now_ns)
{
	struct tw_out_batch **at = &x->backing_off.first, *b;

	while ((b = *at) != NULL) {
		if (expires_ns(x, b) > now_ns) {
			at = &b->next;
			continue;
		}
		tw_batch_list_remove(&x->backing_off, at);
		end_exhausted(x, b);
	}
	while (x->gate.closed && (b = x->queued.first) != NULL && b->coded &&
	       expires_ns(x, b) <= now_ns) {
		tw_batch_list_take(&x->queued);
		end_exhausted(x, b);
	}
}

static struct tw_out_batch *take_queued(struct tw_exporter *x)
{
	if (!x->queued.first || !x->queued.first->coded)
		return NULL;
	return tw_batch_list_take(&x->queued);
}

static struct tw_out_batch *take_due(struct tw_exporter *x, uint64_t now_ns)
{
	struct tw_out_batch **at, *b;

	for (at = &x->backing_off.first; (b = *at) != NULL; at = &b->next) {
		if (b->due_ns <= now_ns) {
			tw_batch_list_remove(&x->backing_off, at);
			return b;
		}
	}
	return NULL;
}

/* The oldest that may go. A probe, though, is rather one that was never tried: a batch that nobody
 * can take, and that every time ends in a time-out, must not be what all others wait for. */
static struct tw_out_batch *take_next(struct tw_exporter *x, uint64_t now_ns)
{
	struct tw_out_batch *b;

	if (x->gate.closed) {
		b = take_queued(x);
		return b ? b : take_due(x, now_ns);
	}
	b = take_due(x, now_ns);
	return b ? b : take_queued(x);
}

static void put_back(struct tw_exporter *x, struct tw_out_batch *b)
{
	if (b->tries > 0) {
		b->state = TW_BATCH_BACKING_OFF;
		tw_batch_list_unget(&x->backing_off, b);
	} else {
		b->state = TW_BATCH_QUEUED;
		tw_batch_list_unget(&x->queued, b);
	}
}

/* After send has said yes the batch may be answered already: it is not touched any more. */
static bool send_one(struct tw_exporter *x, struct tw_out_batch *b, uint64_t now_ns)
{
	struct tw_batch given = {
	    .request = tw_buf_slice(&b->request), .spans = b->spans, .coding = b->coding};
	struct tw_gate before = x->gate;
	bool again = b->tries > 0;

	if (!again)
		b->first_sent_ns = now_ns;
	b->state = TW_BATCH_SENDING;
	b->round = tw_gate_sent(&x->gate);
	x->sending++;
	if (!x->transport.send(x->transport.self, &given, on_done, b)) {
		x->sending--;
		x->gate = before;
		x->transport_busy = true;
		put_back(x, b);
		return false;
	}
	if (again)
		tw_counter_add(&x->stats.retries, 1);
	return true;
}

static void pump(struct tw_exporter *x, uint64_t now_ns)
{
	struct tw_out_batch *b;

	while (x->sending < x->in_flight_max && tw_gate_passes(&x->gate, now_ns)) {
		b = take_next(x, now_ns);
		if (!b || !send_one(x, b, now_ns))
			return;
	}
}

/* An old open batch is closed only when it can be sent: behind a slow backend it rather fills up.
 */
static void close_by_age(struct tw_exporter *x, uint64_t now_ns)
{
	if (x->open && now_ns >= x->open->opened_ns + x->batch_age_ns && !x->queued.first &&
	    x->sending < x->in_flight_max && tw_gate_passes(&x->gate, now_ns))
		tw_exporter_close_open(x, now_ns);
}

static void tell_room(struct tw_exporter *x)
{
	if (x->wanted_bytes == 0 || !tw_exporter_has_room(x, x->wanted_bytes))
		return;
	x->wanted_bytes = 0;
	if (x->on_room)
		x->on_room(x->ctx);
}

/* ---- time ---- */

static void advance(struct tw_exporter *x, uint64_t now_ns, bool briefly)
{
	if (x->advancing || x->stopping)
		return;
	x->advancing = true;
	if (now_ns > x->now_ns)
		x->now_ns = now_ns;
	now_ns = x->now_ns;
	x->transport_busy = false;
	close_by_age(x, now_ns);
	if (!briefly)
		code_one(x);
	/* A transport may answer from within send: then there is more to settle, and perhaps to
	 * send. */
	do {
		tw_exporter_settle_all(x, now_ns);
		expire(x, now_ns);
		pump(x, now_ns);
	} while (x->answered.first);
	tell_room(x);
	x->advancing = false;
}

void tw_exporter_tick(struct tw_exporter *x, uint64_t now_ns)
{
	advance(x, now_ns, false);
}

void tw_exporter_tick_briefly(struct tw_exporter *x, uint64_t now_ns)
{
	advance(x, now_ns, true);
}

bool tw_exporter_is_to_code(const struct tw_exporter *x)
{
	return x->uncoded != NULL;
}

/* Whoever drains may flush at every turn; a dead backend is not to be asked as often. */
static void hurry(struct tw_exporter *x)
{
	if (x->hurried)
		return;
	x->hurried = true;
	tw_gate_hurry(&x->gate);
	for (struct tw_out_batch *b = x->backing_off.first; b; b = b->next)
		b->due_ns = 0;
}

void tw_exporter_flush(struct tw_exporter *x, uint64_t now_ns)
{
	if (x->stopping)
		return;
	if (x->open)
		tw_exporter_close_open(x, now_ns);
	hurry(x);
	advance(x, now_ns, false);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t next_send_ns(const struct tw_exporter *x)
{
	uint64_t gate = x->gate.closed ? x->gate.until_ns : 0;
	uint64_t t = TW_NEVER;

	if (x->sending >= x->in_flight_max || (x->gate.closed && x->gate.probing))
		return TW_NEVER;
	if (x->queued.first)
		t = gate;
	else if (x->open)
		t = later(gate, sum_or_never(x->open->opened_ns, x->batch_age_ns));
	for (const struct tw_out_batch *b = x->backing_off.first; b; b = b->next)
		t = earlier(t, later(gate, b->due_ns));
	return x->transport_busy ? later(t, x->now_ns + BUSY_PAUSE_NS) : t;
}

uint64_t tw_exporter_next_ns(const struct tw_exporter *x)
{
	uint64_t t;

	if (x->stopping)
		return TW_NEVER;
	if (x->answered.first || x->uncoded)
		return x->now_ns;
	if (x->wanted_bytes != 0 && tw_exporter_has_room(x, x->wanted_bytes))
		return x->now_ns;
	t = next_send_ns(x);
	for (const struct tw_out_batch *b = x->backing_off.first; b; b = b->next)
		t = earlier(t, expires_ns(x, b));
	if (x->gate.closed && x->queued.first)
		t = earlier(t, expires_ns(x, x->queued.first));
	return t;
}

bool tw_exporter_empty(const struct tw_exporter *x)
{
	return !x->open && !x->queued.first && !x->backing_off.first && !x->answered.first &&
	       x->sending == 0;
}
