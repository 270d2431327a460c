/* The words for reasons, as they stand in metric labels, attributes and logs. */
#include "tw/model/trace.h"

const char *const tw_reject_names[TW_REJECT_COUNT] = {
    [TW_REJECT_TRACE_ID] = "invalid_trace_id", [TW_REJECT_SPAN_ID] = "invalid_span_id",
    [TW_REJECT_UTF8] = "invalid_utf8",         [TW_REJECT_CHILDREN] = "too_many_children",
    [TW_REJECT_SIZE] = "span_too_large",
};

const char *const tw_reason_names[TW_REASON_COUNT] = {
    [TW_REASON_ROOT] = "root",     [TW_REASON_IDLE] = "idle", [TW_REASON_MOST] = "most",
    [TW_REASON_MEMORY] = "memory", [TW_REASON_SIZE] = "size", [TW_REASON_DRAIN] = "drain",
    [TW_REASON_LATE] = "late",
};
