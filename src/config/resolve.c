/* Defaults, and what "auto" comes to. */
#include "option.h"

#include "tw/base/limits.h"
#include "tw/base/mem.h"

#define MIB             (UINT64_C(1) << 20)
#define GIB             (UINT64_C(1) << 30)
#define BODIES_AUTO_MIN (16 * MIB)

static const uint64_t default_bucket_ms[] = {2,   4,   6,    8,    10,   50,   100,   200,
                                             400, 800, 1000, 1400, 2000, 5000, 10000, 15000};

static bool set_string(struct tw_loader *l, char **field, const char *s)
{
	*field = tw_option_dup(l, tw_slice_str(s));
	return *field != NULL;
}

bool tw_dest_defaults(struct tw_loader *l, struct tw_dest_opts *d)
{
	(void)l;
	d->compression = TW_CODING_UNKNOWN; /* until the kind is known */
	d->queue_bytes_max = TW_AUTO;
	d->retry_for_ns = TW_NEVER;
	d->batch_bytes = 512 * 1024;
	d->batch_age_ns = 50 * TW_NS_PER_MS;
	d->timeout_ns = 10 * TW_NS_PER_S;
	d->backoff_first_ns = TW_NS_PER_S;
	d->backoff_most_ns = 30 * TW_NS_PER_S;
	return true;
}

bool tw_config_defaults(struct tw_loader *l)
{
	struct tw_config *c = l->config;

	c->memory_max = TW_AUTO;
	c->receive.body_bytes_max = TW_BODY_BYTES_MAX_DEFAULT;
	c->receive.bodies_bytes_max = TW_AUTO;
	c->receive.connections_max = 10000;
	c->buffer.bytes_max = TW_AUTO;
	c->buffer.trace_spans_max = 32000;
	c->buffer.trace_bytes_max = 64 * MIB;
	c->buffer.verdict_bytes_max = TW_AUTO;
	c->buffer.verdict_keep_ns = 3600 * TW_NS_PER_S;
	c->metrics.names = TW_NAMES_OTEL;
	c->metrics.series_max = 100000;
	c->metrics.bucket_count = sizeof(default_bucket_ms) / sizeof(default_bucket_ms[0]);
	for (uint32_t i = 0; i < c->metrics.bucket_count; i++)
		c->metrics.bucket_ns[i] = default_bucket_ms[i] * TW_NS_PER_MS;
	c->drain.most_ns = 20 * TW_NS_PER_S;
	return set_string(l, &c->receive.otlp_grpc, "127.0.0.1:4317") &&
	       set_string(l, &c->receive.otlp_http, "127.0.0.1:4318") &&
	       set_string(l, &c->admin.listen, "127.0.0.1:9464") &&
	       set_string(l, &c->log_level, "info");
}

static bool default_dest(struct tw_loader *l)
{
	struct tw_dest_opts *d = &l->config->forward[0];

	l->config->forward_count = 1;
	d->kind = TW_DEST_FILE;
	return tw_dest_defaults(l, d) && set_string(l, &d->name, "kept") &&
	       set_string(l, &d->target, "kept.jsonl");
}

static uint64_t at_least(uint64_t v, uint64_t min)
{
	return v < min ? min : v;
}

static uint64_t between(uint64_t v, uint64_t min, uint64_t max)
{
	v = at_least(v, min);
	return v < max ? v : max;
}

/* memory_max in parts: half for the buffer, a fifth for bodies in flight, a tenth for the
 * destinations' queues, a twentieth for verdicts, a twentieth for templates: half of it, since as
 * much again may be held, dropped, while a request takes long. The rest is for series, tables, code
 * and the allocator's slack. */
static void divide_memory(struct tw_config *c, const struct tw_config_env *env)
{
	uint64_t m;

	if (c->memory_max == TW_AUTO)
		c->memory_max = at_least(env->memory_limit / 10 * 8, 64 * MIB);
	m = c->memory_max;
	if (c->receive.bodies_bytes_max == TW_AUTO)
		c->receive.bodies_bytes_max = at_least(m / 5, BODIES_AUTO_MIN);
	if (c->buffer.bytes_max == TW_AUTO)
		c->buffer.bytes_max = at_least(m / 2, 4 * MIB);
	if (c->buffer.verdict_bytes_max == TW_AUTO)
		c->buffer.verdict_bytes_max = between(m / 20, MIB, GIB);
	c->templates_bytes_max =
	    between(m / 40 / c->workers, TW_TEMPLATES_BYTES_MIN, TW_TEMPLATES_BYTES_MAX);
	for (uint32_t d = 0; d < c->forward_count; d++)
		if (c->forward[d].queue_bytes_max == TW_AUTO)
			c->forward[d].queue_bytes_max =
			    between(m / 10 / c->forward_count, 4 * MIB, GIB);
}

bool tw_config_resolve(struct tw_loader *l)
{
	struct tw_config *c = l->config;

	if (c->forward_count == 0 && !default_dest(l))
		return false;
	if (c->workers == 0)
		c->workers = l->env->cpus != 0 ? l->env->cpus : 1;
	if (c->workers > TW_WORKERS_MAX)
		c->workers = TW_WORKERS_MAX;
	for (uint32_t d = 0; d < c->forward_count; d++)
		if (c->forward[d].compression == TW_CODING_UNKNOWN)
			c->forward[d].compression = c->forward[d].kind == TW_DEST_FILE
			                                ? TW_CODING_IDENTITY
			                                : TW_CODING_GZIP;
	divide_memory(c, l->env);
	return true;
}
