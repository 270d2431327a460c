/* The small protobuf messages of gRPC, through protobuf-c.
 *
 * What a backend answers is not trusted: unpacking gets memory in proportion to the bytes that
 * came, and no more. */
#include <inttypes.h>
#include <stdio.h>

#include "json_text.h"
#include "reply.pb-c.h"
#include "tw/base/mem.h"
#include "tw/wire.h"

#define RETRY_INFO "type.googleapis.com/google.rpc.RetryInfo"
#define NO_RETRY   UINT64_MAX

/* ---- memory ---- */

struct purse { /* what one unpacking may still take */
	size_t left;
};

static void *purse_alloc(void *data, size_t n)
{
	struct purse *purse = data;

	if (n > purse->left)
		return NULL;
	purse->left -= n;
	return tw_alloc(n ? n : 1);
}

static void purse_free(void *data, void *p)
{
	(void)data;
	tw_free(p);
}

static ProtobufCAllocator purse_of(struct purse *purse, size_t body_n)
{
	purse->left = 4 * body_n + 16384;
	return (ProtobufCAllocator){purse_alloc, purse_free, purse};
}

/* ---- out ---- */

static int pack(struct tw_buf *out, const ProtobufCMessage *m)
{
	size_t n = protobuf_c_message_get_packed_size(m);

	if (!tw_buf_grow(out, n ? n : 1))
		return TW_ENOMEM;
	out->n += protobuf_c_message_pack(m, out->p + out->n);
	return 0;
}

static int export_json(struct tw_buf *out, uint64_t rejected, const char *message)
{
	tw_buf_puts(out, "{");
	if (rejected || *message) {
		tw_buf_puts(out, "\"partialSuccess\":{");
		if (rejected)
			tw_buf_printf(out, "\"rejectedSpans\":\"%" PRIu64 "\"", rejected);
		if (*message) {
			tw_buf_puts(out, rejected ? ",\"errorMessage\":" : "\"errorMessage\":");
			json_put_string(out, tw_slice_str(message));
		}
		tw_buf_puts(out, "}");
	}
	tw_buf_puts(out, "}");
	return out->failed ? TW_ENOMEM : 0;
}

int tw_reply_export(struct tw_buf *out, bool json, uint64_t rejected, const char *message)
{
	TwPb__ExportTraceServiceResponse m = TW_PB__EXPORT_TRACE_SERVICE_RESPONSE__INIT;
	TwPb__PartialSuccess partial = TW_PB__PARTIAL_SUCCESS__INIT;

	if (!message)
		message = "";
	if (json)
		return export_json(out, rejected, message);
	partial.rejected_spans = (int64_t)rejected;
	partial.error_message = (char *)(uintptr_t)message;
	if (rejected || *message)
		m.partial_success = &partial;
	return pack(out, &m.base);
}

static int status_json(struct tw_buf *out, int code, const char *message, uint64_t retry_ms)
{
	tw_buf_printf(out, "{\"code\":%d,\"message\":", code);
	json_put_string(out, tw_slice_str(message));
	if (retry_ms) {
		tw_buf_puts(out, ",\"details\":[{\"@type\":\"" RETRY_INFO "\",\"retryDelay\":\"");
		tw_buf_printf(out, "%" PRIu64, retry_ms / 1000);
		if (retry_ms % 1000)
			tw_buf_printf(out, ".%03u", (unsigned)(retry_ms % 1000));
		tw_buf_puts(out, "s\"}]");
	}
	tw_buf_puts(out, "}");
	return out->failed ? TW_ENOMEM : 0;
}

int tw_reply_status(struct tw_buf *out, bool json, int grpc_code, const char *message,
                    uint64_t retry_ms)
{
	TwPb__Status m = TW_PB__STATUS__INIT;
	TwPb__Any any = TW_PB__ANY__INIT, *details[1] = {&any};
	TwPb__RetryInfo retry = TW_PB__RETRY_INFO__INIT;
	TwPb__Duration delay = TW_PB__DURATION__INIT;
	uint8_t packed[32];

	if (!message)
		message = "";
	if (json)
		return status_json(out, grpc_code, message, retry_ms);
	m.code = grpc_code;
	m.message = (char *)(uintptr_t)message;
	if (retry_ms) {
		delay.seconds = (int64_t)(retry_ms / 1000);
		delay.nanos = (int32_t)(retry_ms % 1000 * 1000000);
		retry.retry_delay = &delay;
		any.type_url = (char *)(uintptr_t)RETRY_INFO;
		any.value.data = packed;
		any.value.len = tw_pb__retry_info__pack(&retry, packed);
		m.n_details = 1;
		m.details = details;
	}
	return pack(out, &m.base);
}

int tw_health_reply(struct tw_buf *out, int status)
{
	TwPb__HealthCheckResponse m = TW_PB__HEALTH_CHECK_RESPONSE__INIT;

	m.status = status;
	return pack(out, &m.base);
}

/* ---- in ---- */

static ProtobufCMessage *unpack(const ProtobufCMessageDescriptor *d, ProtobufCAllocator *a,
                                struct tw_slice body)
{
	static const uint8_t nothing[1];

	return protobuf_c_message_unpack(d, a, body.n, body.n ? body.p : nothing);
}

/* Copies text for a person: what is not printable ASCII becomes '?', so that it can go into a log
 * as it is. */
static void copy_text(char *to, size_t cap, const char *from)
{
	size_t n = 0;

	if (!cap)
		return;
	for (; from[n] && n + 1 < cap; n++)
		to[n] = from[n] >= 0x20 && from[n] <= 0x7e ? from[n] : '?';
	to[n] = '\0';
}

static int parse_export_protobuf(struct tw_slice body, struct tw_export_result *out)
{
	struct purse purse;
	ProtobufCAllocator a = purse_of(&purse, body.n);
	TwPb__ExportTraceServiceResponse *m = (TwPb__ExportTraceServiceResponse *)unpack(
	    &tw_pb__export_trace_service_response__descriptor, &a, body);

	if (!m)
		return TW_EINVAL;
	if (m->partial_success) {
		if (m->partial_success->rejected_spans > 0)
			out->rejected = (uint64_t)m->partial_success->rejected_spans;
		copy_text(out->message, sizeof(out->message), m->partial_success->error_message);
	}
	tw_pb__export_trace_service_response__free_unpacked(m, &a);
	return 0;
}

int tw_reply_parse_export(struct tw_slice body, bool json, struct tw_export_result *out)
{
	struct tw_buf bytes;
	int e;

	memset(out, 0, sizeof(*out));
	if (!json)
		return parse_export_protobuf(body, out);
	tw_buf_init(&bytes, 4 * body.n + 64);
	e = json_decode(WIRE_RESPONSE, body, &bytes, NULL);
	if (!e)
		e = parse_export_protobuf(tw_buf_slice(&bytes), out);
	tw_buf_deinit(&bytes);
	return e ? TW_EINVAL : 0;
}

/* The delay of RetryInfo in ms; NO_RETRY if it has none. A negative one is none, a fraction of a ms
 * is rounded up. */
static uint64_t retry_delay(const ProtobufCBinaryData *value, ProtobufCAllocator *a)
{
	TwPb__RetryInfo *r = (TwPb__RetryInfo *)unpack(&tw_pb__retry_info__descriptor, a,
	                                               tw_slice(value->data, value->len));
	uint64_t ms = NO_RETRY;

	if (r && r->retry_delay && r->retry_delay->seconds >= 0 && r->retry_delay->nanos >= 0) {
		uint64_t s = (uint64_t)r->retry_delay->seconds;

		/* A Duration has at most 10,000 years. */
		if (s > UINT64_C(315576000000))
			s = UINT64_C(315576000000);
		ms = s * 1000 + ((uint64_t)r->retry_delay->nanos + 999999) / 1000000;
	}
	if (r)
		tw_pb__retry_info__free_unpacked(r, a);
	return ms;
}

int tw_reply_parse_status(struct tw_slice body, char *message, size_t cap, uint64_t *retry_ms)
{
	struct purse purse;
	ProtobufCAllocator a = purse_of(&purse, body.n);
	TwPb__Status *m = (TwPb__Status *)unpack(&tw_pb__status__descriptor, &a, body);

	*retry_ms = NO_RETRY;
	if (cap)
		message[0] = '\0';
	if (!m)
		return TW_EINVAL;
	copy_text(message, cap, m->message);
	for (size_t i = 0; i < m->n_details && *retry_ms == NO_RETRY; i++)
		if (strcmp(m->details[i]->type_url, RETRY_INFO) == 0)
			*retry_ms = retry_delay(&m->details[i]->value, &a);
	tw_pb__status__free_unpacked(m, &a);
	return 0;
}

int tw_health_parse(struct tw_slice body, char *service, size_t cap)
{
	struct purse purse;
	ProtobufCAllocator a = purse_of(&purse, body.n);
	TwPb__HealthCheckRequest *m =
	    (TwPb__HealthCheckRequest *)unpack(&tw_pb__health_check_request__descriptor, &a, body);

	if (cap)
		service[0] = '\0';
	if (!m)
		return TW_EINVAL;
	copy_text(service, cap, m->service);
	tw_pb__health_check_request__free_unpacked(m, &a);
	return 0;
}
