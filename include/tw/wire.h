/* Bytes ↔ views: OTLP in protobuf and JSON, and the small replies of gRPC and HTTP.
 *
 * The scanner walks the protobuf bytes once, in any field order, merging repeats as protobuf does,
 * and fills a tw_request whose views point into the bytes. It changes nothing else, keeps no state,
 * and never recurses deeper than TW_NEST_MAX. A malformed request is an error with the field's path
 * and the offset ("resource_spans[0]. scope_spans[0].spans[3].name: length 90 runs past the
 * parent's end at offset 211"); a well-formed request with spans that break a rule (ids, UTF-8,
 * limits) yields the good ones and counts the others in rejected[]. JSON is transcoded into
 * protobuf bytes first, then scanned by the same scanner. Everything here is reentrant. [any] */
#ifndef TW_WIRE_H
#define TW_WIRE_H

#include "tw/base/buf.h"
#include "tw/model/span.h"
#include "tw/model/trace.h"

struct tw_templates;

struct tw_scan_opts {
	struct tw_hash_key key;         /* for trace_id and head hashes */
	const struct tw_keytab *keys;   /* sealed */
	uint32_t spans_max;             /* of one request */
	struct tw_templates *templates; /* of the calling thread; NULL: every span is read anew */
	size_t behind; /* bytes behind the body that may be read, whatever they are: with 320 of
	                  them the last spans are recognised, too */
};

/* ---- templates ----
 * What a scanner has learnt of the spans that come again and again. With it the scan yields the
 * same views, and spans that it recognises have an operation (tw/model/operations.h). One thread
 * owns a cache. A request that was scanned with it must be reset by the same thread before the next
 * scan into it; after the cache's end its spans' operations are not there any more. */
struct tw_template_stats {
	uint64_t recognised;               /* spans */
	uint64_t learned;                  /* times that a span taught it something */
	uint64_t evicted;                  /* shapes: names with their kind and parenthood */
	uint64_t shapes, templates, bytes; /* there now */
};
/* key: keeps a peer from choosing collisions. NULL: no memory. [boot] */
struct tw_templates *tw_templates_create(struct tw_hash_key key, size_t bytes_max);
void tw_templates_destroy(struct tw_templates **t);
/* Before a scan: with the keys of another generation what was learnt is forgotten. */
void tw_templates_generation(struct tw_templates *t, uint32_t generation);
struct tw_template_stats tw_templates_stats(const struct tw_templates *t);

/* 0; TW_EINVAL: malformed; TW_ELIMIT: more than spans_max or TW_REQUEST_GROUPS_MAX; TW_ENOMEM. On
 * an error the request's content is unspecified (reset it). body: an ExportTraceServiceRequest, and
 * outlives the views. */
int tw_otlp_scan(const struct tw_scan_opts *o, struct tw_slice body, struct tw_request *out,
                 struct tw_error *err);

/* The same in steps, for what would take long at once. A scan is one thread's, that of the
 * templates. Between two steps other requests may be scanned with them; once they are of another
 * generation, the rest is scanned without. keys, body and out outlive the scan. */
#define TW_SCAN_MORE 1
struct tw_scan;
struct tw_scan *tw_scan_begin(const struct tw_scan_opts *o, struct tw_slice body,
                              struct tw_request *out); /* NULL: no memory */
/* Goes on for about so many bytes (at least 1) and to the end of the field there: no span, no head
 * of a resource or scope is cut. TW_SCAN_MORE: call again; else as tw_otlp_scan, and nothing but
 * the end may follow. An error is looked for from the beginning once more, in one piece. */
int tw_scan_step(struct tw_scan *s, size_t bytes, struct tw_error *err);
void tw_scan_end(struct tw_scan **s);

/* One span and its resource and scope heads, as they lie in the buffer's log, into a request of one
 * span: for matching again after a reload. Same errors. */
int tw_otlp_scan_one(const struct tw_scan_opts *o, struct tw_slice resource_head,
                     struct tw_slice scope_head, struct tw_slice span, struct tw_request *out,
                     struct tw_error *err);

/* ExportTraceServiceRequest as OTLP/JSON (proto3 mapping with hex ids, integer enums,
 * lowerCamelCase) → protobuf appended to out; out->max bounds it. TW_EINVAL names the path and the
 * offset; TW_ELIMIT: past out->max; TW_ENOMEM. Of a key that comes twice: scalars, the last counts;
 * objects merge; lists grow. */
int tw_otlp_json_decode(struct tw_slice json, struct tw_buf *out, struct tw_error *err);

/* Protobuf request → one line of OTLP/JSON without a newline, appended to out. Unknown fields are
 * left out. */
int tw_otlp_json_encode(struct tw_slice request, struct tw_buf *out, struct tw_error *err);

/* ---- export: framing the original bytes ---- */

struct tw_emit_span {
	struct tw_slice resource_head, scope_head; /* as in tw_resource and tw_scope */
	uint64_t resource_key, scope_key;          /* equal keys: the same group */
	struct tw_slice bytes;                     /* the span's own payload */
	struct tw_slice tracestate;                /* its trace_state, may be empty */
};
struct tw_emit_patch {
	struct tw_slice rule;   /* attribute traceweir.rule; empty: none */
	struct tw_slice reason; /* attribute traceweir.reason */
	uint64_t threshold; /* this decision's; each span gets max(its own, this), or erased when
	                       unknown */
};
/* Bytes that tw_emit_trace will append at most. */
size_t tw_emit_bound(const struct tw_emit_span *spans, size_t count,
                     const struct tw_emit_patch *patch);
/* Appends ResourceSpans fields (tag 1) for the spans of one trace, grouped by resource and scope in
 * the order of first sight; a span's bytes are copied as they are, with the patch appended to them
 * (a later scalar wins, a repeated field grows). Appending the results of several calls gives one
 * valid ExportTraceServiceRequest. spans is reordered. */
int tw_emit_trace(struct tw_buf *out, struct tw_emit_span *spans, size_t count,
                  const struct tw_emit_patch *patch);

/* ---- replies (protobuf-c) ---- */

/* ExportTraceServiceResponse; rejected = 0 and an empty message: the empty message (full success).
 */
int tw_reply_export(struct tw_buf *out, bool json, uint64_t rejected, const char *message);
/* google.rpc.Status; retry_ms > 0 adds RetryInfo; json: as JSON. */
int tw_reply_status(struct tw_buf *out, bool json, int grpc_code, const char *message,
                    uint64_t retry_ms);

struct tw_export_result {  /* what a backend answered */
	uint64_t rejected; /* spans */
	char message[160];
};
/* Parses an ExportTraceServiceResponse, protobuf or JSON. TW_EINVAL: garbage (which counts as
 * success). */
int tw_reply_parse_export(struct tw_slice body, bool json, struct tw_export_result *out);
/* Parses google.rpc.Status; *retry_ms: RetryInfo's delay, UINT64_MAX if there is none. */
int tw_reply_parse_status(struct tw_slice body, char *message, size_t cap, uint64_t *retry_ms);
/* grpc.health.v1: request → service name; response from a status (1 SERVING, 2 NOT_SERVING, 3
 * SERVICE_UNKNOWN). */
int tw_health_parse(struct tw_slice body, char *service, size_t cap);
int tw_health_reply(struct tw_buf *out, int status);

/* ---- small codings of gRPC ---- */
size_t tw_base64_encode(const uint8_t *p, size_t n, char *out,
                        size_t cap); /* unpadded; 0: cap too small */
int tw_base64_decode(struct tw_slice s, uint8_t *out, size_t cap, size_t *n); /* padded or not */
size_t tw_percent_encode(struct tw_slice s, char *out, size_t cap);           /* grpc-message */
size_t tw_percent_decode(struct tw_slice s, char *out, size_t cap); /* bad escapes pass through */

/* True when every byte sequence is UTF-8 (RFC 3629: no surrogates, no overlongs). */
bool tw_utf8_valid(const uint8_t *p, size_t n);

#endif
