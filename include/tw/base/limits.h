/* Limits that are not options, in one place. Anchors: OTLP 1.11 section "Size limits", W3C Trace
 * Context, the OpenTelemetry Collector and SDK defaults. */
#ifndef TW_BASE_LIMITS_H
#define TW_BASE_LIMITS_H

#define TW_BODY_BYTES_MAX_DEFAULT (64u << 20) /* decoded request, OTLP 1.11 */
#define TW_SPAN_BYTES_MAX         (1u << 20)  /* one span's own bytes */
#define TW_SPAN_CHILDREN_MAX      1024u       /* attributes, events, links of one span, each */
#define TW_REQUEST_SPANS_MAX      1000000u    /* spans of one request */
#define TW_REQUEST_GROUPS_MAX     262144u     /* resource and scope groups of one request */
#define TW_NEST_MAX               32u         /* AnyValue nesting */
#define TW_JSON_NEST_MAX          64u
#define TW_HEADER_BYTES_MAX       16384u
#define TW_HEADER_COUNT_MAX       100u
#define TW_STREAMS_MAX            100u
#define TW_RESPONSE_BYTES_MAX     (4u << 20) /* a backend's answer */
#define TW_TRACESTATE_MEMBERS_MAX 32u
#define TW_TRACESTATE_OT_MAX      256u
#define TW_WORKERS_MAX            256u
#define TW_DESTINATIONS_MAX       8u
#define TW_SEGMENT_BYTES          (1u << 20)
/* What one worker may have learnt of its spans: its part of memory_max, between these. */
#define TW_TEMPLATES_BYTES_MIN (1u << 18)
#define TW_TEMPLATES_BYTES_MAX (16u << 20)

#endif
