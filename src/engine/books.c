/* What the engine says of itself: the books of every span, decisions, buffer, destinations.
 *
 * Each worker's books are one state; between the workers' states spans can be in a ring. The owners
 * are read before the receivers, so what is handed is never less than what was taken: the ring's
 * stage is not negative in any scrape and zero at rest. */
#include "engine_private.h"

#include <stdatomic.h>
#include <string.h>

#include "tw/base/log.h"

struct totals {
	struct tw_core_books b; /* sums over the workers */
	uint64_t taken;         /* by owners */
	uint64_t kept, let_go, in_flight;
};

static void add_words(uint64_t *sum, const uint64_t *w, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sum[i] += w[i];
}

/* Reads all workers: first everybody's owner side, then everybody's receiver side. Rows come from
 * the first look, so that decisions and kept agree. */
static void read_all(struct tw_engine *e, struct totals *t, uint32_t rules)
{
	struct tw_core_books *books = e->scrape_books;

	memset(t, 0, sizeof(*t));
	memset(e->scrape_sum, 0, rules * sizeof(*e->scrape_sum));
	for (uint32_t i = 0; i < e->shared.workers; i++) {
		tw_core_books_read(e->workers[i]->core, &books[i], e->scrape_rows, rules);
		add_words((uint64_t *)e->scrape_sum, (uint64_t *)e->scrape_rows,
		          rules * TW_RULE_ROW_WORDS);
		add_words((uint64_t *)&t->b.shard, (uint64_t *)&books[i].shard,
		          sizeof(books[i].shard) / sizeof(uint64_t));
		add_words((uint64_t *)t->b.dest, (uint64_t *)books[i].dest,
		          sizeof(books[i].dest) / (sizeof(uint64_t)));
	}
	for (uint32_t i = 0; i < e->shared.workers; i++) {
		tw_core_books_read(e->workers[i]->core, &books[i], NULL, 0);
		add_words((uint64_t *)&t->b, (uint64_t *)&books[i],
		          offsetof(struct tw_core_books, shard) / sizeof(uint64_t));
	}
	t->taken = t->b.shard.added;
	t->kept = t->b.shard.kept;
	t->let_go = t->b.shard.let_go;
	t->in_flight = t->b.shard.in_flight + (t->b.handed - t->taken);
}

/* ---- exposition ---- */

static void one(struct tw_expo *x, const char *name, enum tw_metric_type type, const char *help,
                uint64_t v)
{
	tw_expo_family(x, name, type, help);
	tw_expo_u64(x, name, type == TW_TYPE_COUNTER ? "_total" : "", NULL, 0, v);
}

static void labelled(struct tw_expo *x, const char *name, const char *suffix, const char *label,
                     const char *value, uint64_t v)
{
	struct tw_label l = {label, tw_slice_str(value)};

	tw_expo_u64(x, name, suffix, &l, 1, v);
}

static void spans(struct tw_engine *e, struct tw_expo *x, const struct totals *t, uint32_t rules)
{
	one(x, "traceweir_spans_received", TW_TYPE_COUNTER,
	    "Spans of well-formed requests: accepted + rejected + refused.", t->b.received);
	one(x, "traceweir_spans_accepted", TW_TYPE_COUNTER,
	    "Spans that were admitted: kept + let go + in flight.", t->b.accepted);
	tw_expo_family(x, "traceweir_spans_rejected", TW_TYPE_COUNTER,
	               "Spans that break a rule of OTLP; reported as partial success.");
	for (int i = 0; i < TW_REJECT_COUNT; i++)
		labelled(x, "traceweir_spans_rejected", "_total", "reason", tw_reject_names[i],
		         t->b.rejected[i]);
	tw_expo_family(x, "traceweir_spans_refused", TW_TYPE_COUNTER,
	               "Spans of requests that were answered retryably.");
	for (int i = 0; i < TW_REFUSE_COUNT; i++)
		labelled(x, "traceweir_spans_refused", "_total", "reason", tw_refusal_names[i],
		         t->b.refused[i]);
	one(x, "traceweir_spans_kept", TW_TYPE_COUNTER, "Spans of traces that were kept.", t->kept);
	tw_expo_family(x, "traceweir_spans_let_go", TW_TYPE_COUNTER,
	               "Spans of traces that were let go, by the rule that decided.");
	for (uint32_t i = 0; i < rules; i++)
		labelled(x, "traceweir_spans_let_go", "_total", "rule",
		         tw_rulebook_name(&e->book, (uint16_t)i), e->scrape_sum[i].spans_let_go);
	/* No rule was asked: the machine had no memory to hold them. */
	if (t->b.shard.unstored != 0)
		labelled(x, "traceweir_spans_let_go", "_total", "rule", "", t->b.shard.unstored);
	one(x, "traceweir_spans_in_flight", TW_TYPE_GAUGE,
	    "Spans accepted and not decided: in rings or in open traces.", t->in_flight);
	one(x, "traceweir_ring_spans", TW_TYPE_GAUGE,
	    "Spans handed to their owner and not taken yet.", t->b.handed - t->taken);
}

static void decisions(struct tw_engine *e, struct tw_expo *x, uint32_t rules)
{
	static const char *const words[2] = {"let_go", "kept"};

	tw_expo_family(x, "traceweir_decisions", TW_TYPE_COUNTER,
	               "Traces decided, by rule, by why they were due, and by the decision.");
	for (uint32_t i = 0; i < rules; i++)
		for (int r = 0; r < TW_REASON_LATE; r++)
			for (int k = 0; k < 2; k++) {
				struct tw_label l[3] = {
				    {"rule", tw_slice_str(tw_rulebook_name(&e->book, (uint16_t)i))},
				    {"reason", tw_slice_str(tw_reason_names[r])},
				    {"decision", tw_slice_str(words[k])}};

				if (e->scrape_sum[i].traces[r][k] != 0)
					tw_expo_u64(x, "traceweir_decisions", "_total", l, 3,
					            e->scrape_sum[i].traces[r][k]);
			}
	tw_expo_family(x, "traceweir_rule_spans_kept", TW_TYPE_COUNTER,
	               "Spans kept, by the rule that decided.");
	for (uint32_t i = 0; i < rules; i++)
		labelled(x, "traceweir_rule_spans_kept", "_total", "rule",
		         tw_rulebook_name(&e->book, (uint16_t)i), e->scrape_sum[i].spans_kept);
}

static void templates(struct tw_expo *x, const struct tw_template_stats *t)
{
	one(x, "traceweir_template_spans", TW_TYPE_COUNTER,
	    "Spans that were recognised as one of a known operation.", t->recognised);
	one(x, "traceweir_template_lessons", TW_TYPE_COUNTER,
	    "Spans that something was learnt from.", t->learned);
	one(x, "traceweir_template_evictions", TW_TYPE_COUNTER,
	    "Span names forgotten because memory for templates was short.", t->evicted);
	one(x, "traceweir_templates", TW_TYPE_GAUGE, "Templates that workers know.", t->templates);
	one(x, "traceweir_template_bytes", TW_TYPE_GAUGE, "Memory of what workers know.", t->bytes);
}

static void buffer(struct tw_engine *e, struct tw_expo *x, const struct tw_shard_stats *s)
{
	static const char *const name = "traceweir_buffer_bytes";

	one(x, "traceweir_traces_begun", TW_TYPE_COUNTER, "Traces whose first span arrived.",
	    s->traces_begun);
	one(x, "traceweir_traces_decided", TW_TYPE_COUNTER, "Traces decided.", s->traces_decided);
	one(x, "traceweir_traces_open", TW_TYPE_GAUGE, "Traces held and not decided.",
	    s->traces_open);
	one(x, "traceweir_traces_kept_held", TW_TYPE_GAUGE,
	    "Kept traces that a destination has not taken yet.", s->traces_kept);
	tw_expo_family(x, "traceweir_late_spans", TW_TYPE_COUNTER,
	               "Spans that came after their trace was decided.");
	labelled(x, "traceweir_late_spans", "_total", "decision", "kept", s->late_kept);
	labelled(x, "traceweir_late_spans", "_total", "decision", "let_go", s->late_let_go);
	one(x, "traceweir_early_decisions", TW_TYPE_COUNTER,
	    "Traces decided before their time because memory was short.", s->early_decisions);
	one(x, "traceweir_rematched_spans", TW_TYPE_COUNTER,
	    "Spans matched again because their trace began under other rules.", s->rematched);
	one(x, "traceweir_compactions", TW_TYPE_COUNTER, "Segments that were compacted.",
	    s->compactions);
	one(x, "traceweir_compacted_bytes", TW_TYPE_COUNTER, "Bytes that compaction moved.",
	    s->compacted_bytes);
	tw_expo_family(x, name, TW_TYPE_GAUGE, "What the buffer's memory holds.");
	labelled(x, name, "", "kind", "spans", s->stored_bytes);
	labelled(x, name, "", "kind", "digests", s->digest_bytes);
	labelled(x, name, "", "kind", "records", s->record_bytes);
	labelled(x, name, "", "kind", "tables", s->table_bytes);
	labelled(x, name, "", "kind", "slack", s->slack_bytes);
	labelled(x, name, "", "kind", "verdicts", s->verdict_bytes);
	one(x, "traceweir_buffer_wire_bytes", TW_TYPE_GAUGE,
	    "Bytes that the spans held had on the wire.", s->span_bytes);
	one(x, "traceweir_buffer_bytes_max", TW_TYPE_GAUGE, "buffer.bytes_max in force.",
	    e->config->buffer.bytes_max);
	one(x, "traceweir_buffer_segments", TW_TYPE_GAUGE, "Segments of 1 MiB in use.",
	    s->segments);
	one(x, "traceweir_buffer_pinned_bytes", TW_TYPE_GAUGE,
	    "Bytes that kept traces hold until a destination takes them.",
	    tw_pool_pinned(e->shared.pool));
	one(x, "traceweir_verdicts", TW_TYPE_GAUGE, "Decided traces that are remembered.",
	    s->verdicts);
}

static void dest_counter(struct tw_engine *e, struct tw_expo *x, const struct totals *t,
                         const char *name, enum tw_metric_type type, const char *help, size_t off)
{
	tw_expo_family(x, name, type, help);
	for (uint32_t d = 0; d < e->config->forward_count; d++)
		labelled(x, name, type == TW_TYPE_COUNTER ? "_total" : "", "destination",
		         e->config->forward[d].name,
		         *(const uint64_t *)((const char *)&t->b.dest[d] + off));
}

static void dests(struct tw_engine *e, struct tw_expo *x, struct totals *t)
{
	/* Waiting in the log and waiting in the exporter are one queue to whoever reads it. */
	for (uint32_t d = 0; d < e->config->forward_count; d++)
		t->b.dest[d].queued += t->b.dest[d].pending;
	dest_counter(e, x, t, "traceweir_destination_spans", TW_TYPE_COUNTER,
	             "Kept spans for the destination: forwarded + lost + queued.",
	             offsetof(struct tw_dest_books, kept));
	dest_counter(e, x, t, "traceweir_forwarded_spans", TW_TYPE_COUNTER,
	             "Spans that the destination acknowledged.",
	             offsetof(struct tw_dest_books, forwarded));
	tw_expo_family(x, "traceweir_lost_spans", TW_TYPE_COUNTER,
	               "Kept spans that the destination will not get, and why.");
	for (uint32_t d = 0; d < e->config->forward_count; d++)
		for (int r = 0; r < TW_LOST_COUNT; r++) {
			struct tw_label l[2] = {
			    {"destination", tw_slice_str(e->config->forward[d].name)},
			    {"reason", tw_slice_str(tw_lost_names[r])}};

			tw_expo_u64(x, "traceweir_lost_spans", "_total", l, 2,
			            t->b.dest[d].lost[r]);
		}
	dest_counter(e, x, t, "traceweir_queued_spans", TW_TYPE_GAUGE,
	             "Kept spans that the destination has not acknowledged yet.",
	             offsetof(struct tw_dest_books, queued));
	dest_counter(e, x, t, "traceweir_queued_bytes", TW_TYPE_GAUGE,
	             "Bytes of batches that are open, queued or being sent.",
	             offsetof(struct tw_dest_books, queued_bytes));
	dest_counter(e, x, t, "traceweir_batches_sent", TW_TYPE_COUNTER, "Batches acknowledged.",
	             offsetof(struct tw_dest_books, batches));
	dest_counter(e, x, t, "traceweir_send_retries", TW_TYPE_COUNTER,
	             "Batches sent again after a retryable failure.",
	             offsetof(struct tw_dest_books, retries));
	dest_counter(e, x, t, "traceweir_send_failures", TW_TYPE_COUNTER,
	             "Sends that did not succeed.", offsetof(struct tw_dest_books, failed));
}

static void sockets(struct tw_engine *e, struct tw_expo *x, const struct totals *t)
{
	uint64_t outcome[TW_RECEIVE_COUNT] = {0};
	uint64_t total = 0, open = 0, in = 0, out = 0, errors = 0, timeouts = 0;

	for (uint32_t i = 0; i < e->shared.workers; i++) {
		const struct tw_server_stats *s = tw_server_stats(e->workers[i]->server);

		for (int k = 0; k < TW_RECEIVE_COUNT; k++)
			outcome[k] += tw_counter_get(&e->workers[i]->receiver.requests[k]);
		total += tw_counter_get(&s->connections_total);
		in += tw_counter_get(&s->bytes_in);
		out += tw_counter_get(&s->bytes_out);
		errors += tw_counter_get(&s->protocol_errors);
		timeouts += tw_counter_get(&s->timeouts);
		open += tw_server_connections(e->workers[i]->server);
	}
	tw_expo_family(x, "traceweir_requests", TW_TYPE_COUNTER, "Export requests by outcome.");
	for (int k = 0; k < TW_RECEIVE_COUNT; k++)
		labelled(x, "traceweir_requests", "_total", "outcome", tw_receive_names[k],
		         outcome[k]);
	one(x, "traceweir_requests_open", TW_TYPE_GAUGE, "Requests admitted and not answered.",
	    t->b.tickets);
	one(x, "traceweir_request_bytes_in_flight", TW_TYPE_GAUGE,
	    "Bytes of request bodies and their views in flight.", tw_budget_used(&e->bodies));
	one(x, "traceweir_connections", TW_TYPE_GAUGE, "Open connections of senders.", open);
	one(x, "traceweir_connections_accepted", TW_TYPE_COUNTER, "Connections accepted.", total);
	one(x, "traceweir_accept_failures", TW_TYPE_COUNTER,
	    "accept() refused by the machine: too few descriptors.",
	    tw_acceptor_failures(e->acceptor));
	one(x, "traceweir_received_bytes", TW_TYPE_COUNTER, "Bytes read from senders.", in);
	one(x, "traceweir_sent_bytes", TW_TYPE_COUNTER, "Bytes written to senders.", out);
	one(x, "traceweir_protocol_errors", TW_TYPE_COUNTER,
	    "Connections or streams ended for breaking a protocol.", errors);
	one(x, "traceweir_timeouts", TW_TYPE_COUNTER, "Connections closed for being too slow.",
	    timeouts);
}

void tw_engine_collect(void *engine, struct tw_expo *x)
{
	struct tw_engine *e = engine;
	uint32_t rules = tw_rulebook_count(&e->book);
	struct totals t;

	read_all(e, &t, rules);
	spans(e, x, &t, rules);
	decisions(e, x, rules);
	buffer(e, x, &t.b.shard);
	templates(x, &t.b.templates);
	dests(e, x, &t);
	sockets(e, x, &t);
	tw_engine_collect_timings(e, x);
	one(x, "traceweir_workers", TW_TYPE_GAUGE, "Worker threads.", e->shared.workers);
	tw_expo_family(x, "traceweir_reloads", TW_TYPE_COUNTER, "Reloads of the rule file.");
	labelled(x, "traceweir_reloads", "_total", "outcome", "ok", atomic_load(&e->reloads_ok));
	labelled(x, "traceweir_reloads", "_total", "outcome", "failed",
	         atomic_load(&e->reloads_failed));
	one(x, "traceweir_rules_generation", TW_TYPE_GAUGE, "Number of the rules in force.",
	    atomic_load(&e->generation));
	one(x, "traceweir_log_lines_dropped", TW_TYPE_COUNTER,
	    "Log lines lost because stderr did not take them.", tw_log_dropped());
	one(x, "traceweir_memory_max_bytes", TW_TYPE_GAUGE, "memory_max in force.",
	    e->config->memory_max);
}

/* ---- readiness and the status page ---- */

enum tw_readiness tw_engine_readiness(void *engine)
{
	struct tw_engine *e = engine;

	if (!atomic_load(&e->started))
		return TW_STARTING;
	if (atomic_load(&e->leaving))
		return TW_DRAINING;
	/* Refusing: what kept traces pin fills the buffer. */
	if (tw_pool_full(e->shared.pool))
		return TW_REFUSING;
	return TW_READY;
}

void tw_engine_status(void *engine, struct tw_buf *out)
{
	struct tw_engine *e = engine;
	uint32_t rules = tw_rulebook_count(&e->book);
	struct totals t;

	read_all(e, &t, rules);
	tw_buf_printf(out, "spans received: %llu\n", (unsigned long long)t.b.received);
	tw_buf_printf(out, "spans accepted: %llu\n", (unsigned long long)t.b.accepted);
	tw_buf_printf(out, "spans kept: %llu\n", (unsigned long long)t.kept);
	tw_buf_printf(out, "spans let go: %llu\n", (unsigned long long)t.let_go);
	tw_buf_printf(out, "spans in flight: %llu\n", (unsigned long long)t.in_flight);
	tw_buf_printf(out, "traces open: %llu\n", (unsigned long long)t.b.shard.traces_open);
	for (uint32_t i = 0; i < rules; i++) {
		uint64_t kept = 0, let_go = 0;

		for (int r = 0; r < TW_REASON_COUNT; r++) {
			kept += e->scrape_sum[i].traces[r][1];
			let_go += e->scrape_sum[i].traces[r][0];
		}
		tw_buf_printf(out, "rule %s: %llu traces kept, %llu let go\n",
		              tw_rulebook_name(&e->book, (uint16_t)i), (unsigned long long)kept,
		              (unsigned long long)let_go);
	}
	for (uint32_t d = 0; d < e->config->forward_count; d++)
		tw_buf_printf(out, "destination %s: %llu forwarded, %llu queued\n",
		              e->config->forward[d].name, (unsigned long long)t.b.dest[d].forwarded,
		              (unsigned long long)(t.b.dest[d].queued + t.b.dest[d].pending));
	tw_buf_printf(out, "rules: %s, generation %u\n", tw_engine_rules_name(e),
	              atomic_load(&e->generation));
}
