/* The tables. Numbers and names: opentelemetry-proto 1.x, trace, common and resource. */
#include "schema.h"

#define KEY_PAD "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
#define FIELD(n, t, fl, ch, js, pr)                                                                \
	{                                                                                          \
		.number = (n), .type = (t), .flags = (fl), .child = (ch),                          \
		.json_n = sizeof(js) - 1, .tag_n = (n) < 16 ? 1 : 2, .json = (js), .name = (pr),   \
		.key = "\"" js "\":" KEY_PAD                                                       \
	}
#define SCALAR(n, t, js, pr) FIELD(n, t, 0, 0, js, pr)
#define CHILD(n, ch, js, pr) FIELD(n, WIRE_MESSAGE, 0, ch, js, pr)
#define LIST(n, ch, js, pr)  FIELD(n, WIRE_MESSAGE, WIRE_REPEATED, ch, js, pr)
#define TABLE(t)                                                                                   \
	{                                                                                          \
		(t), sizeof(t) / sizeof((t)[0])                                                    \
	}

static const struct wire_field request[] = {
    LIST(1, WIRE_RESOURCE_SPANS, "resourceSpans", "resource_spans"),
};
static const struct wire_field resource_spans[] = {
    CHILD(1, WIRE_RESOURCE, "resource", "resource"),
    LIST(2, WIRE_SCOPE_SPANS, "scopeSpans", "scope_spans"),
    SCALAR(3, WIRE_STRING, "schemaUrl", "schema_url"),
};
static const struct wire_field resource[] = {
    LIST(1, WIRE_KEY_VALUE, "attributes", "attributes"),
    SCALAR(2, WIRE_UINT32, "droppedAttributesCount", "dropped_attributes_count"),
    LIST(3, WIRE_ENTITY_REF, "entityRefs", "entity_refs"),
};
static const struct wire_field entity_ref[] = {
    SCALAR(1, WIRE_STRING, "schemaUrl", "schema_url"),
    SCALAR(2, WIRE_STRING, "type", "type"),
    FIELD(3, WIRE_STRING, WIRE_REPEATED, 0, "idKeys", "id_keys"),
    FIELD(4, WIRE_STRING, WIRE_REPEATED, 0, "descriptionKeys", "description_keys"),
};
static const struct wire_field scope_spans[] = {
    CHILD(1, WIRE_SCOPE, "scope", "scope"),
    LIST(2, WIRE_SPAN, "spans", "spans"),
    SCALAR(3, WIRE_STRING, "schemaUrl", "schema_url"),
};
static const struct wire_field scope[] = {
    SCALAR(1, WIRE_STRING, "name", "name"),
    SCALAR(2, WIRE_STRING, "version", "version"),
    LIST(3, WIRE_KEY_VALUE, "attributes", "attributes"),
    SCALAR(4, WIRE_UINT32, "droppedAttributesCount", "dropped_attributes_count"),
};
static const struct wire_field span[] = {
    SCALAR(1, WIRE_HEX, "traceId", "trace_id"),
    SCALAR(2, WIRE_HEX, "spanId", "span_id"),
    SCALAR(3, WIRE_STRING, "traceState", "trace_state"),
    SCALAR(4, WIRE_HEX, "parentSpanId", "parent_span_id"),
    SCALAR(5, WIRE_STRING, "name", "name"),
    SCALAR(6, WIRE_INT32, "kind", "kind"),
    SCALAR(7, WIRE_FIXED64, "startTimeUnixNano", "start_time_unix_nano"),
    SCALAR(8, WIRE_FIXED64, "endTimeUnixNano", "end_time_unix_nano"),
    LIST(9, WIRE_KEY_VALUE, "attributes", "attributes"),
    SCALAR(10, WIRE_UINT32, "droppedAttributesCount", "dropped_attributes_count"),
    LIST(11, WIRE_EVENT, "events", "events"),
    SCALAR(12, WIRE_UINT32, "droppedEventsCount", "dropped_events_count"),
    LIST(13, WIRE_LINK, "links", "links"),
    SCALAR(14, WIRE_UINT32, "droppedLinksCount", "dropped_links_count"),
    CHILD(15, WIRE_STATUS, "status", "status"),
    SCALAR(16, WIRE_FIXED32, "flags", "flags"),
};
static const struct wire_field event[] = {
    SCALAR(1, WIRE_FIXED64, "timeUnixNano", "time_unix_nano"),
    SCALAR(2, WIRE_STRING, "name", "name"),
    LIST(3, WIRE_KEY_VALUE, "attributes", "attributes"),
    SCALAR(4, WIRE_UINT32, "droppedAttributesCount", "dropped_attributes_count"),
};
static const struct wire_field link[] = {
    SCALAR(1, WIRE_HEX, "traceId", "trace_id"),
    SCALAR(2, WIRE_HEX, "spanId", "span_id"),
    SCALAR(3, WIRE_STRING, "traceState", "trace_state"),
    LIST(4, WIRE_KEY_VALUE, "attributes", "attributes"),
    SCALAR(5, WIRE_UINT32, "droppedAttributesCount", "dropped_attributes_count"),
    SCALAR(6, WIRE_FIXED32, "flags", "flags"),
};
static const struct wire_field status[] = {
    SCALAR(2, WIRE_STRING, "message", "message"),
    SCALAR(3, WIRE_INT32, "code", "code"),
};
static const struct wire_field key_value[] = {
    SCALAR(1, WIRE_STRING, "key", "key"),
    CHILD(2, WIRE_ANY_VALUE, "value", "value"),
};
static const struct wire_field any_value[] = {
    FIELD(1, WIRE_STRING, WIRE_ONEOF, 0, "stringValue", "string_value"),
    FIELD(2, WIRE_BOOL, WIRE_ONEOF, 0, "boolValue", "bool_value"),
    FIELD(3, WIRE_INT64, WIRE_ONEOF, 0, "intValue", "int_value"),
    FIELD(4, WIRE_DOUBLE, WIRE_ONEOF, 0, "doubleValue", "double_value"),
    FIELD(5, WIRE_MESSAGE, WIRE_ONEOF, WIRE_ARRAY_VALUE, "arrayValue", "array_value"),
    FIELD(6, WIRE_MESSAGE, WIRE_ONEOF, WIRE_KVLIST, "kvlistValue", "kvlist_value"),
    FIELD(7, WIRE_BYTES, WIRE_ONEOF, 0, "bytesValue", "bytes_value"),
};
static const struct wire_field array_value[] = {
    LIST(1, WIRE_ANY_VALUE, "values", "values"),
};
static const struct wire_field kvlist[] = {
    LIST(1, WIRE_KEY_VALUE, "values", "values"),
};
static const struct wire_field response[] = {
    CHILD(1, WIRE_PARTIAL_SUCCESS, "partialSuccess", "partial_success"),
};
static const struct wire_field partial_success[] = {
    SCALAR(1, WIRE_INT64, "rejectedSpans", "rejected_spans"),
    SCALAR(2, WIRE_STRING, "errorMessage", "error_message"),
};

const struct wire_message wire_messages[WIRE_MESSAGE_COUNT] = {
    [WIRE_REQUEST] = TABLE(request),
    [WIRE_RESOURCE_SPANS] = TABLE(resource_spans),
    [WIRE_RESOURCE] = TABLE(resource),
    [WIRE_ENTITY_REF] = TABLE(entity_ref),
    [WIRE_SCOPE_SPANS] = TABLE(scope_spans),
    [WIRE_SCOPE] = TABLE(scope),
    [WIRE_SPAN] = TABLE(span),
    [WIRE_EVENT] = TABLE(event),
    [WIRE_LINK] = TABLE(link),
    [WIRE_STATUS] = TABLE(status),
    [WIRE_KEY_VALUE] = TABLE(key_value),
    [WIRE_ANY_VALUE] = TABLE(any_value),
    [WIRE_ARRAY_VALUE] = TABLE(array_value),
    [WIRE_KVLIST] = TABLE(kvlist),
    [WIRE_RESPONSE] = TABLE(response),
    [WIRE_PARTIAL_SUCCESS] = TABLE(partial_success),
};
