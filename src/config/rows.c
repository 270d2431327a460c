#include "option.h"
#include "tw/base/limits.h"

#define ROWS(r)   .rows = (r), .row_count = sizeof(r) / sizeof((r)[0])
#define MIB       (UINT64_C(1) << 20)
#define TIB       (UINT64_C(1) << 40)
#define AT(field) .offset = offsetof(struct tw_config, field)

static const struct tw_option receive_rows[] = {
    {"otlp_grpc", TW_OPT_ADDRESS, AT(receive.otlp_grpc)},
    {"otlp_http", TW_OPT_ADDRESS, AT(receive.otlp_http)},
    {"body_bytes_max", TW_OPT_BYTES, AT(receive.body_bytes_max), 1024, 1024 * MIB},
    {"bodies_bytes_max", TW_OPT_BYTES, AT(receive.bodies_bytes_max), MIB, TIB},
    {"connections_max", TW_OPT_COUNT, AT(receive.connections_max), 1, 1000000},
};

static const struct tw_option buffer_rows[] = {
    {"bytes_max", TW_OPT_BYTES, AT(buffer.bytes_max), 4 * MIB, TIB},
    {"trace_spans_max", TW_OPT_COUNT, AT(buffer.trace_spans_max), 1, 10000000},
    {"trace_bytes_max", TW_OPT_BYTES, AT(buffer.trace_bytes_max), 1024, 2048 * MIB},
};

static const struct tw_option verdict_rows[] = {
    {"bytes_max", TW_OPT_BYTES, AT(buffer.verdict_bytes_max), 65536, TIB},
    {"keep_for", TW_OPT_DURATION, AT(buffer.verdict_keep_ns), TW_NS_PER_S, 7 * 86400 * TW_NS_PER_S},
};

static const struct tw_option metrics_rows[] = {
    {"names", TW_OPT_NAMES, AT(metrics.names)},
    {"dimensions", TW_OPT_CUSTOM, .read = tw_read_dimensions},
    {"buckets", TW_OPT_CUSTOM, .read = tw_read_buckets},
    {"series_max", TW_OPT_COUNT, AT(metrics.series_max), 1, 10000000},
};

static const struct tw_option admin_rows[] = {
    {"listen", TW_OPT_ADDRESS, AT(admin.listen)},
};

static const struct tw_option drain_rows[] = {
    {"most", TW_OPT_DURATION, AT(drain.most_ns), 0, 86400 * TW_NS_PER_S},
};

static const struct tw_option log_rows[] = {
    {"level", TW_OPT_LEVEL, AT(log_level)},
};

const struct tw_option tw_config_rows[] = {
    {"rules", TW_OPT_STRING, AT(rules_path)},
    {"workers", TW_OPT_COUNT, AT(workers), 0, TW_WORKERS_MAX},
    {"memory_max", TW_OPT_BYTES, AT(memory_max), 32 * MIB, 64 * TIB},
    {"receive", TW_OPT_SECTION, ROWS(receive_rows)},
    {"buffer", TW_OPT_SECTION, ROWS(buffer_rows)},
    {"verdicts", TW_OPT_SECTION, ROWS(verdict_rows)},
    {"forward", TW_OPT_CUSTOM, .read = tw_read_forward},
    {"metrics", TW_OPT_SECTION, ROWS(metrics_rows)},
    {"admin", TW_OPT_SECTION, ROWS(admin_rows)},
    {"drain", TW_OPT_SECTION, ROWS(drain_rows)},
    {"log", TW_OPT_SECTION, ROWS(log_rows)},
};
const uint32_t tw_config_row_count = sizeof(tw_config_rows) / sizeof(tw_config_rows[0]);

#undef AT
#define AT(field) .offset = offsetof(struct tw_dest_opts, field)

const struct tw_option tw_dest_rows[] = {
    {"name", TW_OPT_STRING, AT(name)},
    {"file", TW_OPT_CUSTOM, .read = tw_read_target},
    {"otlp_grpc", TW_OPT_CUSTOM, .read = tw_read_target},
    {"otlp_http", TW_OPT_CUSTOM, .read = tw_read_target},
    {"headers", TW_OPT_CUSTOM, .read = tw_read_headers},
    {"tls", TW_OPT_CUSTOM, .read = tw_read_tls},
    {"compression", TW_OPT_CODING, AT(compression)},
    {"queue_bytes_max", TW_OPT_BYTES, AT(queue_bytes_max), 65536, TIB},
    {"when_full", TW_OPT_FULL, AT(when_full)},
    {"retry_for", TW_OPT_DURATION, AT(retry_for_ns), 0, TW_NEVER},
    {"batch_bytes", TW_OPT_BYTES, AT(batch_bytes), 1024, 64 * MIB},
    {"batch_age", TW_OPT_DURATION, AT(batch_age_ns), 0, 60 * TW_NS_PER_S},
    {"timeout", TW_OPT_DURATION, AT(timeout_ns), TW_NS_PER_MS, 3600 * TW_NS_PER_S},
    {"backoff_first", TW_OPT_DURATION, AT(backoff_first_ns), TW_NS_PER_MS, 3600 * TW_NS_PER_S},
    {"backoff_most", TW_OPT_DURATION, AT(backoff_most_ns), TW_NS_PER_MS, 3600 * TW_NS_PER_S},
};
const uint32_t tw_dest_row_count = sizeof(tw_dest_rows) / sizeof(tw_dest_rows[0]);
