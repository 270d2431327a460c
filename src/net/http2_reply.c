#include "http2.h"

#include <stdio.h>
#include <sys/param.h>

#define FIELDS_MAX 10

struct fields {
	nghttp2_nv nv[FIELDS_MAX];
	size_t n;
};

static void add(struct fields *f, const char *name, const void *value, size_t n)
{
	TW_ASSERT(f->n < FIELDS_MAX);
	f->nv[f->n++] = (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value,
	                             strlen(name), n, NGHTTP2_NV_FLAG_NO_COPY_NAME};
}

static void adds(struct fields *f, const char *name, const char *value)
{
	add(f, name, value, strlen(value));
}

/* ---- gRPC's trailers ---- */

static void trailers_prepare(struct tw_request *r, const struct tw_reply *reply)
{
	struct tw_slice message = reply->grpc_message, details = reply->grpc_details;

	r->grpc_status = reply->grpc_status;
	if (message.n > TW_GRPC_MESSAGE_MAX)
		message.n = TW_GRPC_MESSAGE_MAX;
	if (message.n == 0 && details.n == 0)
		return;
	tw_grpc_message_encode(message, &r->trailer);
	tw_buf_putc(&r->trailer, '\0');
	if (details.n == 0 || details.n > TW_GRPC_DETAILS_MAX)
		return;
	r->trailer_details = r->trailer.n;
	tw_grpc_base64_encode(details, &r->trailer);
	tw_buf_putc(&r->trailer, '\0');
}

static void trailers_add(const struct tw_request *r, struct fields *f, char status[12])
{
	snprintf(status, 12, "%d", r->grpc_status);
	adds(f, "grpc-status", status);
	if (r->trailer.n == 0 || r->trailer.failed)
		return;
	if (r->trailer.p[0] != '\0')
		adds(f, "grpc-message", (const char *)r->trailer.p);
	if (r->trailer_details > 0)
		adds(f, "grpc-status-details-bin", (const char *)r->trailer.p + r->trailer_details);
}

/* ---- the body ---- */

static ssize_t read_response(nghttp2_session *session, int32_t stream_id, uint8_t *to, size_t cap,
                             uint32_t *flags, nghttp2_data_source *source, void *user_data)
{
	struct tw_request *r = source->ptr;
	size_t n = MIN(cap, r->response.n - r->response_at);
	struct fields f = {.n = 0};
	char status[12];

	(void)user_data;
	memcpy(to, r->response.p + r->response_at, n);
	r->response_at += n;
	r->mark_ns = r->server->now_ns;
	if (r->response_at < r->response.n)
		return (ssize_t)n;
	*flags |= NGHTTP2_DATA_FLAG_EOF;
	if (!r->x.is_grpc)
		return (ssize_t)n;
	*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
	trailers_add(r, &f, status);
	if (nghttp2_submit_trailer(session, stream_id, f.nv, f.n) != 0)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	return (ssize_t)n;
}

static void submit(struct tw_request *r, const struct fields *f, bool body)
{
	nghttp2_data_provider provider = {.source = {.ptr = r}, .read_callback = read_response};
	nghttp2_session *session = r->conn->h2->session;
	int rc = NGHTTP2_ERR_NOMEM;

	r->mark_ns = r->server->now_ns;
	if (!r->response.failed && !r->trailer.failed)
		rc = nghttp2_submit_response(session, r->stream_id, f->nv, f->n,
		                             body ? &provider : NULL);
	if (rc != 0)
		tw_h2_reset(r, NGHTTP2_INTERNAL_ERROR);
}

static void reply_grpc(struct tw_request *r, const struct tw_reply *reply)
{
	struct fields f = {.n = 0};
	char status[12];

	adds(&f, ":status", "200");
	adds(&f, "content-type", "application/grpc");
	if (r->unsupported_coding)
		adds(&f, "grpc-accept-encoding", TW_GRPC_ACCEPT_ENCODING);
	trailers_prepare(r, reply);
	if (reply->grpc_status != TW_GRPC_OK) {
		trailers_add(r, &f, status);
		submit(r, &f, false);
		return;
	}
	uint8_t prefix[TW_GRPC_PREFIX_BYTES] = {
	    0, (uint8_t)(reply->body.n >> 24), (uint8_t)(reply->body.n >> 16),
	    (uint8_t)(reply->body.n >> 8), (uint8_t)reply->body.n};

	tw_buf_put(&r->response, prefix, sizeof(prefix));
	tw_buf_put(&r->response, reply->body.p, reply->body.n);
	submit(r, &f, true);
}

static void reply_http(struct tw_request *r, const struct tw_reply *reply)
{
	struct fields f = {.n = 0};
	char status[12], length[24], retry[12];

	snprintf(status, sizeof(status), "%d", reply->status);
	adds(&f, ":status", status);
	adds(&f, "date", tw_server_date(r->server));
	if (reply->content_type != NULL)
		adds(&f, "content-type", reply->content_type);
	if (reply->content_encoding != NULL)
		adds(&f, "content-encoding", reply->content_encoding);
	if (reply->allow != NULL)
		adds(&f, "allow", reply->allow);
	if (reply->retry_after_s > 0) {
		snprintf(retry, sizeof(retry), "%u", reply->retry_after_s);
		adds(&f, "retry-after", retry);
	}
	if (r->unsupported_coding && reply->status == 415)
		adds(&f, "accept-encoding", "gzip, deflate, zstd");
	if (reply->status != 204 && reply->status != 304) {
		snprintf(length, sizeof(length), "%zu", reply->body.n);
		adds(&f, "content-length", length);
	}
	if (!r->is_head && reply->body.n > 0)
		tw_buf_put(&r->response, reply->body.p, reply->body.n);
	submit(r, &f, r->response.n > 0 || r->response.failed);
}

void tw_h2_reply(struct tw_request *r, const struct tw_reply *reply)
{
	if (r->x.is_grpc)
		reply_grpc(r, reply);
	else
		reply_http(r, reply);
	if (reply->close)
		tw_h2_drain(r->conn);
}
