/* What comes in: traces into the open batch, or into batches of their own. */
#include "exporter.h"

#include "tw/base/error.h"
#include "tw/base/log.h"

/* Framing of a span, its patch and its part of the groups: what the size of a piece leaves out. */
#define SPAN_OVERHEAD_BYTES 64

bool tw_exporter_has_room(const struct tw_exporter *x, uint64_t bytes)
{
	return x->held_bytes == 0 ||
	       (x->held_bytes <= x->queue_bytes_max && bytes <= x->queue_bytes_max - x->held_bytes);
}

static enum tw_offer refuse(struct tw_exporter *x, uint64_t bytes)
{
	if (x->wanted_bytes == 0 || bytes < x->wanted_bytes)
		x->wanted_bytes = bytes > 0 ? bytes : 1;
	return TW_OFFER_FULL;
}

static void note_trace(const struct tw_exporter *x, struct tw_out_batch *b, uint64_t decided_ns)
{
	tw_delay_note(&b->delay, decided_ns, x->batch_age_ns / TW_DELAY_MARKS);
}

static void took(struct tw_exporter *x, uint64_t spans)
{
	tw_counter_add(&x->stats.taken, spans);
	tw_counter_add(&x->stats.queued, spans);
}

/* A trace that cannot be framed at all would be offered for ever: it is taken, and lost. */
static enum tw_offer give_up(struct tw_exporter *x, size_t count, int rc)
{
	TW_LOG(TW_LOG_ERROR, "trace cannot be framed for export",
	       "destination=%s spans=%zu reason=%s", x->name, count, tw_err_name(rc));
	tw_exporter_lose(x, count, TW_LOST_PERMANENT);
	return TW_OFFER_TAKEN;
}

/* How many spans from the first make about one batch; at least one. */
static size_t piece_of(const struct tw_emit_span *spans, size_t count, uint64_t batch_bytes)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < count; i++) {
		bytes += spans[i].bytes.n + SPAN_OVERHEAD_BYTES;
		if (bytes > batch_bytes && i > 0)
			return i;
	}
	return count;
}

static int cut_piece(struct tw_exporter *x, struct tw_batch_list *pieces,
                     struct tw_emit_span *spans, size_t count, const struct tw_emit_patch *patch,
                     uint64_t *total_bytes, uint64_t now_ns)
{
	struct tw_out_batch *b = tw_batch_create(x, &x->spare, now_ns);
	int rc;

	if (!b)
		return TW_ENOMEM;
	tw_batch_list_put(pieces, b);
	rc = tw_batch_append(b, spans, count, patch);
	if (rc == 0)
		tw_batch_trim(b);
	*total_bytes += b->request.n;
	return rc;
}

/* More than a batch: backends have a limit on requests (4 MiB is a common one), so it goes out in
 * pieces. All or nothing: the pieces join the queue when the last one is there. */
static int take_large(struct tw_exporter *x, struct tw_emit_span *spans, size_t count,
                      const struct tw_emit_patch *patch, uint64_t decided_ns, uint64_t now_ns)
{
	struct tw_batch_list pieces;
	struct tw_out_batch *b;
	uint64_t bytes = 0;
	int rc = 0;

	tw_batch_list_init(&pieces);
	for (size_t at = 0, n; at < count && rc == 0; at += n) {
		n = piece_of(spans + at, count - at, x->batch_bytes);
		rc = cut_piece(x, &pieces, spans + at, n, patch, &bytes, now_ns);
	}
	/* Every piece repeats its resources, which the whole trace's bound does not know. */
	if (rc == 0 && !tw_exporter_has_room(x, bytes))
		rc = TW_EFULL;
	while ((b = tw_batch_list_take(&pieces)) != NULL) {
		if (rc == 0) {
			if (!pieces.first)
				note_trace(x, b, decided_ns);
			tw_exporter_hold(x, (int64_t)b->request.n);
			tw_exporter_enqueue(x, b, now_ns);
		} else {
			tw_batch_destroy(b, &x->spare, tw_exporter_spare_max(x));
		}
	}
	return rc;
}

static int take_small(struct tw_exporter *x, struct tw_emit_span *spans, size_t count,
                      const struct tw_emit_patch *patch, uint64_t decided_ns, uint64_t now_ns)
{
	struct tw_out_batch *b = x->open ? x->open : tw_batch_create(x, &x->spare, now_ns);
	size_t before;
	int rc;

	if (!b)
		return TW_ENOMEM;
	before = b->request.n;
	rc = tw_batch_append(b, spans, count, patch);
	if (rc != 0) {
		if (!x->open)
			tw_batch_destroy(b, &x->spare, tw_exporter_spare_max(x));
		return rc;
	}
	x->open = b;
	note_trace(x, b, decided_ns);
	tw_exporter_hold(x, (int64_t)(b->request.n - before));
	if (b->request.n >= x->batch_bytes)
		tw_exporter_close_open(x, now_ns);
	return 0;
}

enum tw_offer tw_exporter_offer(struct tw_exporter *x, struct tw_emit_span *spans, size_t count,
                                const struct tw_emit_patch *patch, uint64_t decided_ns,
                                uint64_t now_ns)
{
	uint64_t bound = tw_emit_bound(spans, count, patch);
	int rc;

	if (x->stopping)
		return TW_OFFER_FULL;
	if (count == 0)
		return TW_OFFER_TAKEN;
	if (!tw_exporter_has_room(x, bound))
		return refuse(x, bound);
	if (piece_of(spans, count, x->batch_bytes) < count)
		rc = take_large(x, spans, count, patch, decided_ns, now_ns);
	else
		rc = take_small(x, spans, count, patch, decided_ns, now_ns);
	if (rc == TW_ENOMEM || rc == TW_EFULL)
		return refuse(x, bound);
	if (rc != 0)
		return give_up(x, count, rc);
	took(x, count);
	return TW_OFFER_TAKEN;
}

void tw_exporter_lose(struct tw_exporter *x, uint64_t spans, enum tw_lost why)
{
	tw_counter_add(&x->stats.taken, spans);
	tw_counter_add(&x->stats.lost[why], spans);
}
