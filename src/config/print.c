#include "tw/config.h"

static void text(struct tw_buf *out, const char *indent, const char *key, const char *value)
{
	tw_buf_printf(out, "%s%s: ", indent, key);
	if (value == NULL) {
		tw_buf_puts(out, "off\n");
		return;
	}
	tw_buf_putc(out, '\'');
	for (; *value != '\0'; value++) {
		if (*value == '\'')
			tw_buf_putc(out, '\'');
		tw_buf_putc(out, *value);
	}
	tw_buf_puts(out, "'\n");
}

static void count(struct tw_buf *out, const char *indent, const char *key, uint64_t v)
{
	tw_buf_printf(out, "%s%s: %llu\n", indent, key, (unsigned long long)v);
}

static void duration(struct tw_buf *out, const char *indent, const char *key, uint64_t ns)
{
	if (ns == TW_NEVER)
		tw_buf_printf(out, "%s%s: forever\n", indent, key);
	else if (ns % TW_NS_PER_MS == 0)
		tw_buf_printf(out, "%s%s: %llums\n", indent, key,
		              (unsigned long long)(ns / TW_NS_PER_MS));
	else
		tw_buf_printf(out, "%s%s: %lluns\n", indent, key, (unsigned long long)ns);
}

static void dest(struct tw_buf *out, const struct tw_dest_opts *d)
{
	static const char *const kinds[] = {"file", "otlp_grpc", "otlp_http"};
	static const char *const fulls[] = {NULL, "refuse", "drop"};
	static const char *const codings[] = {"none", "gzip", "deflate", "zstd", "none"};

	text(out, "  - ", "name", d->name);
	text(out, "    ", kinds[d->kind], d->target);
	if (d->header_count != 0)
		tw_buf_puts(out, "    headers:\n");
	for (uint32_t i = 0; i < d->header_count; i++)
		text(out, "      ", d->header_names[i], "***");
	if (d->tls.enabled) {
		tw_buf_puts(out, "    tls:\n");
		tw_buf_printf(out, "      insecure_skip_verify: %s\n",
		              d->tls.insecure_skip_verify ? "true" : "false");
		if (d->tls.ca != NULL)
			text(out, "      ", "ca", d->tls.ca);
		if (d->tls.cert != NULL)
			text(out, "      ", "cert", d->tls.cert);
		if (d->tls.key != NULL)
			text(out, "      ", "key", d->tls.key);
		if (d->tls.server_name != NULL)
			text(out, "      ", "server_name", d->tls.server_name);
	}
	tw_buf_printf(out, "    compression: %s\n", codings[d->compression]);
	count(out, "    ", "queue_bytes_max", d->queue_bytes_max);
	if (fulls[d->when_full] != NULL)
		tw_buf_printf(out, "    when_full: %s\n", fulls[d->when_full]);
	duration(out, "    ", "retry_for", d->retry_for_ns);
	count(out, "    ", "batch_bytes", d->batch_bytes);
	duration(out, "    ", "batch_age", d->batch_age_ns);
	duration(out, "    ", "timeout", d->timeout_ns);
	duration(out, "    ", "backoff_first", d->backoff_first_ns);
	duration(out, "    ", "backoff_most", d->backoff_most_ns);
}

static void metrics(struct tw_buf *out, const struct tw_metrics_opts *m)
{
	static const char *const names[] = {"", "otel", "tempo", "both"};

	tw_buf_printf(out, "metrics:\n  names: %s\n  dimensions:\n", names[m->names]);
	if (m->dimension_count == 0) {
		out->n -= 1;
		tw_buf_puts(out, " []\n");
	}
	for (uint32_t i = 0; i < m->dimension_count; i++)
		tw_buf_printf(out, "    - '%s'\n", m->dimensions[i]);
	tw_buf_puts(out, "  buckets: [");
	for (uint32_t i = 0; i < m->bucket_count; i++)
		tw_buf_printf(out, "%s%lluns", i != 0 ? ", " : "",
		              (unsigned long long)m->bucket_ns[i]);
	tw_buf_puts(out, "]\n");
	count(out, "  ", "series_max", m->series_max);
}

void tw_config_print(const struct tw_config *c, struct tw_buf *out)
{
	if (c->rules_path != NULL)
		text(out, "", "rules", c->rules_path);
	count(out, "", "workers", c->workers);
	count(out, "", "memory_max", c->memory_max);
	tw_buf_puts(out, "receive:\n");
	text(out, "  ", "otlp_grpc", c->receive.otlp_grpc);
	text(out, "  ", "otlp_http", c->receive.otlp_http);
	count(out, "  ", "body_bytes_max", c->receive.body_bytes_max);
	count(out, "  ", "bodies_bytes_max", c->receive.bodies_bytes_max);
	count(out, "  ", "connections_max", c->receive.connections_max);
	tw_buf_puts(out, "buffer:\n");
	count(out, "  ", "bytes_max", c->buffer.bytes_max);
	count(out, "  ", "trace_spans_max", c->buffer.trace_spans_max);
	count(out, "  ", "trace_bytes_max", c->buffer.trace_bytes_max);
	tw_buf_puts(out, "verdicts:\n");
	count(out, "  ", "bytes_max", c->buffer.verdict_bytes_max);
	duration(out, "  ", "keep_for", c->buffer.verdict_keep_ns);
	tw_buf_puts(out, "forward:\n");
	for (uint32_t i = 0; i < c->forward_count; i++)
		dest(out, &c->forward[i]);
	metrics(out, &c->metrics);
	tw_buf_puts(out, "admin:\n");
	text(out, "  ", "listen", c->admin.listen);
	tw_buf_puts(out, "drain:\n");
	duration(out, "  ", "most", c->drain.most_ns);
	tw_buf_printf(out, "log:\n  level: %s\n", c->log_level);
}
