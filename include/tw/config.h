/* The configuration: one YAML file and --set flags → one immutable struct.
 *
 * Every key is optional; defaults are DESIGN's (README: Configuration). A wrong key or value is an
 * error with file, line, column and caret, with the nearest known key; nothing starts.
 * `${env:NAME}` and `${env:NAME:-default}` are replaced in values (an undefined one without a
 * default is an error); secrets never reach a log. Aliases, tabs, several documents, more than 32
 * levels or 1 MiB are refused. [boot] */
#ifndef TW_CONFIG_H
#define TW_CONFIG_H

#include "tw/base/limits.h"
#include "tw/buffer.h"
#include "tw/forward.h"
#include "tw/metrics.h"

struct tw_config {
	char *rules_path;    /* NULL: the embedded default rules */
	uint32_t workers;    /* resolved: ≥ 1 */
	uint64_t memory_max; /* resolved, bytes */
	struct {
		char *otlp_grpc, *otlp_http; /* listen addresses; NULL: off */
		uint64_t body_bytes_max;
		uint64_t bodies_bytes_max; /* resolved: bodies in flight */
		uint32_t connections_max;
	} receive;
	struct tw_buffer_opts buffer; /* resolved */
	uint64_t templates_bytes_max; /* of one worker; resolved, no key */
	struct tw_dest_opts forward[TW_DESTINATIONS_MAX];
	uint32_t forward_count; /* ≥ 1 */
	struct tw_metrics_opts metrics;
	struct {
		char *listen;
	} admin;
	struct {
		uint64_t most_ns;
	} drain;
	char *log_level; /* debug info warn error */
};

struct tw_config_env {
	const char *(*get)(void *ctx, const char *name); /* NULL: undefined */
	void *ctx;
	uint64_t memory_limit; /* tw_mem_limit() */
	uint32_t cpus;         /* that it may use */
};
/* source: the file's text (may be empty: all defaults); file: its name for messages; sets:
 * "KEY.PATH=VALUE" each. 0 and *out, or TW_EINVAL with the rendered messages appended to report.
 * Relative paths stay relative to the working directory. */
int tw_config_load(struct tw_slice source, const char *file, const char *const *sets,
                   uint32_t set_count, const struct tw_config_env *env, struct tw_config **out,
                   struct tw_buf *report);
void tw_config_destroy(struct tw_config **c);
/* The effective configuration as YAML, secrets replaced by "***". */
void tw_config_print(const struct tw_config *c, struct tw_buf *out);

#endif
