#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <strings.h>

#include "client.h"
#include "client_grpc.h"
#include "tw/base/mem.h"

#define PREFIX_BYTES 5u
#define FIELDS_MAX   (CLIENT_HEADERS_MAX + 12u)

/* ---- nghttp2's allocations ---- */

static void *h2_malloc(size_t n, void *ctx)
{
	(void)ctx;
	return tw_alloc(n ? n : 1);
}

static void h2_free(void *p, void *ctx)
{
	(void)ctx;
	tw_free(p);
}

static void *h2_calloc(size_t count, size_t size, void *ctx)
{
	(void)ctx;
	return tw_calloc(count ? count : 1, size ? size : 1);
}

static void *h2_realloc(void *p, size_t n, void *ctx)
{
	(void)ctx;
	return tw_realloc(p, n ? n : 1);
}

static struct tw_client_call *call_of(nghttp2_session *s, int32_t stream)
{
	return nghttp2_session_get_stream_user_data(s, stream); /* NULL once it is finished */
}

/* ---- the request ---- */

static void field(nghttp2_nv *nv, size_t *count, const char *name, const char *value)
{
	TW_ASSERT(*count < FIELDS_MAX);
	nv[(*count)++] = (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
	                              .value = (uint8_t *)(uintptr_t)value,
	                              .namelen = strlen(name),
	                              .valuelen = strlen(value)};
}

/* At most eight digits and a unit. */
static void timeout_write(char *out, size_t cap, uint64_t left_ns)
{
	uint64_t ms = left_ns / TW_NS_PER_MS;

	if (ms <= 99999999)
		snprintf(out, cap, "%llum", (unsigned long long)(ms ? ms : 1));
	else if (ms / 1000 <= 99999999)
		snprintf(out, cap, "%lluS", (unsigned long long)(ms / 1000));
	else
		snprintf(out, cap, "99999999S");
}

static size_t fields_write(nghttp2_nv *nv, const struct tw_client_call *call, char timeout[24])
{
	const struct tw_client_opts *o = &call->client->opts;
	uint64_t now = tw_now(o->clock);
	size_t n = 0;
	bool agent = false;

	for (uint32_t i = 0; i < call->header_count; i++)
		agent = agent || strcmp(call->headers[i].name, "user-agent") == 0;
	field(nv, &n, ":method", "POST");
	field(nv, &n, ":scheme", o->tls ? "https" : "http");
	field(nv, &n, ":path", call->path);
	field(nv, &n, ":authority", o->authority);
	field(nv, &n, "te", "trailers");
	field(nv, &n, "content-type", "application/grpc");
	if (!agent)
		field(nv, &n, "user-agent", CLIENT_USER_AGENT);
	if (call->deadline_ns != TW_NEVER) {
		timeout_write(timeout, 24, call->deadline_ns > now ? call->deadline_ns - now : 0);
		field(nv, &n, "grpc-timeout", timeout);
	}
	if (call->content_encoding)
		field(nv, &n, "grpc-encoding", call->content_encoding);
	field(nv, &n, "grpc-accept-encoding", "identity,gzip");
	for (uint32_t i = 0; i < call->header_count; i++)
		field(nv, &n, call->headers[i].name, call->headers[i].value);
	return n;
}

static ssize_t on_frame_length(nghttp2_session *s, uint8_t type, int32_t stream,
                               int32_t session_window, int32_t stream_window, uint32_t frame_max,
                               void *ctx)
{
	int32_t n = session_window < stream_window ? session_window : stream_window;

	(void)s, (void)type, (void)stream, (void)ctx;
	return n < (int32_t)frame_max ? n : (ssize_t)frame_max;
}

static ssize_t on_body_read(nghttp2_session *s, int32_t stream, uint8_t *buf, size_t length,
                            uint32_t *flags, nghttp2_data_source *source, void *ctx)
{
	struct tw_client_call *call = call_of(s, stream);
	size_t left;

	(void)buf, (void)source, (void)ctx;
	if (!call)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	left = PREFIX_BYTES + call->body.n - call->body_at;
	*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	if (left <= length)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)(left <= length ? left : length);
}

/* The frame's header is copied, the body's bytes are not: the socket reads them where they lie. */
static int on_body_send(nghttp2_session *s, nghttp2_frame *frame, const uint8_t *head,
                        size_t length, nghttp2_data_source *source, void *ctx)
{
	struct tw_conn *k = ctx;
	struct tw_client_call *call = call_of(s, frame->hd.stream_id);
	size_t n;

	(void)source;
	if (!call || k->state == CONN_CLOSING)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	if (tw_conn_backlog(k) >= CLIENT_WRITE_BYTES_MAX)
		return NGHTTP2_ERR_WOULDBLOCK; /* h2_written goes on */
	tw_conn_put(k, head, 9);
	if (call->body_at < PREFIX_BYTES) {
		n = PREFIX_BYTES - call->body_at < length ? PREFIX_BYTES - call->body_at : length;
		tw_conn_put(k, call->prefix + call->body_at, n);
		call->body_at += n;
		length -= n;
	}
	if (length) {
		tw_conn_ref(k, call->body.p + (call->body_at - PREFIX_BYTES), length, call);
		call->body_at += length;
	}
	return k->state == CONN_CLOSING ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static void h2_pump(struct tw_conn *k)
{
	nghttp2_session *s = k->session;
	const uint8_t *p;
	ssize_t n = 0;

	while (k->state == CONN_OPEN && (n = nghttp2_session_mem_send(s, &p)) > 0)
		tw_conn_put(k, p, (size_t)n);
	if (k->state != CONN_OPEN)
		return;
	if (n < 0) {
		tw_conn_fail(k, "%s", nghttp2_strerror((int)n));
		return;
	}
	tw_client_conn_flush(k);
	if (k->state != CONN_OPEN)
		return;
	if (!nghttp2_session_want_read(s) && !nghttp2_session_want_write(s))
		tw_conn_fail(k, "%s", k->why[0] ? k->why : "closed by the backend");
	else if (k->draining && k->calls == 0)
		tw_conn_close(k);
}

/* ---- the answer ---- */

static void end_stream(struct tw_conn *k, int32_t stream, uint32_t code)
{
	nghttp2_session *s = k->session;

	nghttp2_session_set_stream_user_data(s, stream, NULL);
	nghttp2_submit_rst_stream(s, NGHTTP2_FLAG_NONE, stream,
	                          code); /* without memory it ends with the connection */
}

static void fail_stream(struct tw_conn *k, struct tw_client_call *call, int code, const char *text)
{
	end_stream(k, call->stream_id, NGHTTP2_CANCEL);
	tw_call_fail(call, code, "%s", text);
}

static int on_header(nghttp2_session *s, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_n, const uint8_t *value, size_t value_n, uint8_t flags, void *ctx)
{
	struct tw_client_call *call = call_of(s, frame->hd.stream_id);

	(void)flags;
	if (!call)
		return 0;
	if (!tw_call_count_header(call, name_n, value_n)) {
		fail_stream(ctx, call, TW_ELIMIT, "the answer's headers are too large");
		return 0;
	}
	tw_grpc_header(call, tw_slice(name, name_n), tw_slice(value, value_n));
	return 0;
}

static int on_data(nghttp2_session *s, uint8_t flags, int32_t stream, const uint8_t *p, size_t n,
                   void *ctx)
{
	struct tw_client_call *call = call_of(s, stream);
	int rc;

	(void)flags;
	if (!call)
		return 0;
	rc = tw_call_body(call, p, n);
	if (rc == TW_ELIMIT)
		fail_stream(ctx, call, TW_ELIMIT, "the answer is larger than 4 MiB");
	else if (rc)
		fail_stream(ctx, call, TW_EIO, "no memory for the answer");
	return 0;
}

static int on_frame(nghttp2_session *s, const nghttp2_frame *frame, void *ctx)
{
	struct tw_conn *k = ctx;
	struct tw_client_call *call;

	if (frame->hd.type == NGHTTP2_GOAWAY) {
		k->draining = true;
		snprintf(k->why, sizeof k->why, "the backend said goodbye: %s",
		         nghttp2_http2_strerror(frame->goaway.error_code));
		tw_client_kick(k->client);
		return 0;
	}
	if (frame->hd.type == NGHTTP2_SETTINGS && !k->settled) {
		k->settled = true;
		tw_client_kick(k->client);
	}
	if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM) ||
	    (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA))
		return 0;
	call = call_of(s, frame->hd.stream_id);
	if (!call)
		return 0;
	call->ended = true;
	/* Answered before the request was sent whole: the rest of it is of no use to anybody. */
	if (call->body_at < PREFIX_BYTES + call->body.n)
		nghttp2_submit_rst_stream(s, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
		                          NGHTTP2_CANCEL);
	return 0;
}

static int on_frame_sent(nghttp2_session *s, const nghttp2_frame *frame, void *ctx)
{
	struct tw_client_call *call;

	(void)ctx;
	if (frame->hd.type != NGHTTP2_HEADERS)
		return 0;
	call = call_of(s, frame->hd.stream_id);
	if (call)
		call->sent = true;
	return 0;
}

/* The backend said goodbye before the request got out. */
static int on_frame_not_sent(nghttp2_session *s, const nghttp2_frame *frame, int code, void *ctx)
{
	struct tw_client_call *call;

	(void)ctx;
	if (frame->hd.type != NGHTTP2_HEADERS)
		return 0;
	call = call_of(s, frame->hd.stream_id);
	if (!call)
		return 0;
	nghttp2_session_set_stream_user_data(s, frame->hd.stream_id, NULL);
	tw_call_again(call, nghttp2_strerror(code));
	return 0;
}

static int on_stream_end(nghttp2_session *s, int32_t stream, uint32_t code, void *ctx)
{
	struct tw_client_call *call = call_of(s, stream);
	struct tw_conn *k = ctx;

	if (!call)
		return 0;
	if (call->ended || code == NGHTTP2_NO_ERROR) {
		tw_grpc_answer(call);
	} else if (code == NGHTTP2_REFUSED_STREAM) {
		call->sent = false; /* promised by RFC 9113 section 8.7: not processed */
		tw_call_fail(call, TW_EIO, "%s",
		             k->draining && k->why[0] ? k->why : "the backend refused the stream");
	} else {
		tw_grpc_reset(call, code, nghttp2_http2_strerror(code));
	}
	return 0;
}

static int on_error(nghttp2_session *s, int code, const char *text, size_t n, void *ctx)
{
	struct tw_conn *k = ctx;

	(void)s, (void)code;
	if (!k->why[0])
		snprintf(k->why, sizeof k->why, "%.*s", (int)(n < 140 ? n : 140), text);
	return 0;
}

/* ---- the connection ---- */

static nghttp2_session_callbacks *h2_callbacks(void)
{
	nghttp2_session_callbacks *b;

	if (nghttp2_session_callbacks_new(&b))
		return NULL;
	nghttp2_session_callbacks_set_on_header_callback(b, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(b, on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(b, on_frame);
	nghttp2_session_callbacks_set_on_frame_send_callback(b, on_frame_sent);
	nghttp2_session_callbacks_set_on_frame_not_send_callback(b, on_frame_not_sent);
	nghttp2_session_callbacks_set_on_stream_close_callback(b, on_stream_end);
	nghttp2_session_callbacks_set_send_data_callback(b, on_body_send);
	nghttp2_session_callbacks_set_data_source_read_length_callback(b, on_frame_length);
	nghttp2_session_callbacks_set_error_callback2(b, on_error);
	return b;
}

static int h2_open(struct tw_conn *k)
{
	static const nghttp2_settings_entry settings[] = {
	    {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
	    {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, TW_HEADER_BYTES_MAX},
	};
	nghttp2_mem mem = {NULL, h2_malloc, h2_free, h2_calloc, h2_realloc};
	nghttp2_session_callbacks *b = h2_callbacks();
	nghttp2_session *s = NULL;
	int rc;

	if (!b)
		return TW_ENOMEM;
	k->why[0] = '\0';
	rc = nghttp2_session_client_new3(&s, b, k, NULL, &mem);
	nghttp2_session_callbacks_del(b);
	if (rc)
		return TW_ENOMEM;
	k->session = s;
	return nghttp2_submit_settings(s, NGHTTP2_FLAG_NONE, settings, 2) ? TW_ENOMEM : 0;
}

static void h2_input(struct tw_conn *k, const uint8_t *p, size_t n)
{
	ssize_t rc = nghttp2_session_mem_recv(k->session, p, n);

	if (rc < 0)
		tw_conn_fail(k, "%s", k->why[0] ? k->why : nghttp2_strerror((int)rc));
	else
		h2_pump(k);
}

static void h2_eof(struct tw_conn *k)
{
	(void)k; /* a stream ends by its own frames or not at all */
}

/* Until the backend's settings came only the first request goes: it may take fewer streams than we
 * have, and would refuse the rest. */
static bool h2_accepts(const struct tw_conn *k)
{
	return (k->settled || k->calls == 0) && nghttp2_session_check_request_allowed(k->session);
}

static void h2_submit(struct tw_conn *k, struct tw_client_call *call)
{
	nghttp2_nv nv[FIELDS_MAX];
	char timeout[24];
	nghttp2_data_provider body = {.source.ptr = call, .read_callback = on_body_read};
	size_t n = fields_write(nv, call, timeout);
	uint32_t size = (uint32_t)call->body.n;
	int32_t stream;

	call->prefix[0] = call->content_encoding != NULL;
	call->prefix[1] = (uint8_t)(size >> 24);
	call->prefix[2] = (uint8_t)(size >> 16);
	call->prefix[3] = (uint8_t)(size >> 8);
	call->prefix[4] = (uint8_t)size;
	stream = nghttp2_submit_request(k->session, NULL, nv, n, &body, call);
	if (stream < 0) {
		k->draining = true; /* out of memory or of stream ids: a fresh one may do */
		tw_call_again(call, nghttp2_strerror(stream));
		return;
	}
	call->stream_id = stream;
	h2_pump(k);
}

static void h2_cancel(struct tw_conn *k, struct tw_client_call *call)
{
	if (k->state != CONN_OPEN)
		return;
	end_stream(k, call->stream_id, NGHTTP2_CANCEL);
	/* The socket still reads its body, and the caller waits for it: the backend has stopped
	 * reading, so this is the end. */
	if (call->writes > 0 && tw_conn_unwritten(k))
		tw_conn_fail(k, "the backend does not read");
	else
		h2_pump(k);
}

static void h2_bye(struct tw_conn *k)
{
	nghttp2_session *s = k->session;
	const uint8_t *p;
	ssize_t n;

	if (nghttp2_session_terminate_session(s, NGHTTP2_NO_ERROR))
		return;
	while ((n = nghttp2_session_mem_send(s, &p)) > 0)
		tw_conn_put(k, p, (size_t)n);
}

static void h2_end(struct tw_conn *k)
{
	nghttp2_session_del(k->session);
}

const struct tw_client_proto tw_client_h2 = {
    .alpn = "h2",
    .multiplex = true,
    .open = h2_open,
    .input = h2_input,
    .eof = h2_eof,
    .written = h2_pump,
    .accepts = h2_accepts,
    .submit = h2_submit,
    .cancel = h2_cancel,
    .bye = h2_bye,
    .free = h2_end,
};
