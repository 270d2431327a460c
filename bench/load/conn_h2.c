/* OTLP/gRPC over HTTP/2 with prior knowledge. DATA frames point into the bodies; nothing is copied.
 */
#include <stdlib.h>
#include <string.h>

#include "conn.h"

#define NV(n, v)                                                                                   \
	{                                                                                          \
		(uint8_t *)(n), (uint8_t *)(v), sizeof(n) - 1, strlen(v), NGHTTP2_NV_FLAG_NONE     \
	}

static ssize_t on_send(nghttp2_session *s, const uint8_t *p, size_t n, int flags, void *user)
{
	struct tw_load_conn *c = user;

	(void)s;
	(void)flags;
	if (!tw_load_conn_room(c))
		return NGHTTP2_ERR_WOULDBLOCK;
	tw_load_conn_put(c, p, n);
	return (ssize_t)n;
}

static ssize_t on_read_body(nghttp2_session *s, int32_t stream, uint8_t *buf, size_t n,
                            uint32_t *flags, nghttp2_data_source *source, void *user)
{
	struct tw_load_exchange *x = source->ptr;
	size_t left = x->body.bytes - x->queued;

	(void)s;
	(void)stream;
	(void)buf;
	(void)user;
	*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	if (left <= n)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)(left < n ? left : n);
}

static int on_send_data(nghttp2_session *s, nghttp2_frame *frame, const uint8_t *head, size_t n,
                        nghttp2_data_source *source, void *user)
{
	struct tw_load_conn *c = user;

	(void)s;
	(void)frame;
	if (!tw_load_conn_room(c))
		return NGHTTP2_ERR_WOULDBLOCK;
	tw_load_conn_put(c, head, 9);
	tw_load_conn_put_body(c, source->ptr, n);
	return 0;
}

static struct tw_load_exchange *exchange_of(nghttp2_session *s, int32_t stream)
{
	return nghttp2_session_get_stream_user_data(s, stream);
}

static int number(const uint8_t *p, size_t n)
{
	int v = 0;

	for (size_t i = 0; i < n && i < 4; i++)
		v = v * 10 + (p[i] - '0');
	return v;
}

static int on_header(nghttp2_session *s, const nghttp2_frame *f, const uint8_t *name, size_t name_n,
                     const uint8_t *value, size_t value_n, uint8_t flags, void *user)
{
	struct tw_load_exchange *x = exchange_of(s, f->hd.stream_id);

	(void)flags;
	(void)user;
	if (x == NULL)
		return 0;
	if (name_n == 7 && memcmp(name, ":status", 7) == 0)
		x->http_status = number(value, value_n);
	else if (name_n == 11 && memcmp(name, "grpc-status", 11) == 0)
		x->grpc_status = number(value, value_n);
	return 0;
}

static int on_data(nghttp2_session *s, uint8_t flags, int32_t stream, const uint8_t *p, size_t n,
                   void *user)
{
	struct tw_load_exchange *x = exchange_of(s, stream);

	(void)flags;
	(void)user;
	if (x == NULL)
		return 0;
	if (n > sizeof(x->reply) - x->reply_n)
		n = sizeof(x->reply) - x->reply_n;
	memcpy(x->reply + x->reply_n, p, n);
	x->reply_n += n;
	return 0;
}

static int on_close(nghttp2_session *s, int32_t stream, uint32_t code, void *user)
{
	struct tw_load_exchange *x = exchange_of(s, stream);

	(void)user;
	if (x == NULL)
		return 0;
	x->closed = true;
	x->broken = code != NGHTTP2_NO_ERROR && x->http_status < 0;
	tw_load_conn_answered(x);
	return 0;
}

int tw_load_h2_open(struct tw_load_conn *c)
{
	const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0}};
	nghttp2_session_callbacks *cb;
	int rc;

	if (nghttp2_session_callbacks_new(&cb) != 0)
		return TW_ENOMEM;
	nghttp2_session_callbacks_set_send_callback(cb, on_send);
	nghttp2_session_callbacks_set_send_data_callback(cb, on_send_data);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
	rc = nghttp2_session_client_new(&c->h2, cb, c);
	nghttp2_session_callbacks_del(cb);
	if (rc != 0)
		return TW_ENOMEM;
	return nghttp2_submit_settings(c->h2, NGHTTP2_FLAG_NONE, settings, 1) == 0 ? 0 : TW_ENOMEM;
}

int tw_load_h2_submit(struct tw_load_conn *c, struct tw_load_exchange *x)
{
	const nghttp2_nv headers[] = {
	    NV(":method", "POST"),
	    NV(":scheme", "http"),
	    NV(":path", "/opentelemetry.proto.collector.trace.v1.TraceService/Export"),
	    NV(":authority", c->opts.host),
	    NV("te", "trailers"),
	    NV("content-type", "application/grpc"),
	    NV("user-agent", "traceweir-load"),
	    NV("grpc-encoding", tw_load_coding_name(c->opts.coding)),
	};
	const size_t count =
	    sizeof(headers) / sizeof(headers[0]) - (c->opts.coding == TW_LOAD_PLAIN);
	const nghttp2_data_provider body = {.source.ptr = x, .read_callback = on_read_body};

	x->stream = nghttp2_submit_request(c->h2, NULL, headers, count, &body, x);
	return x->stream > 0 ? 0 : TW_EIO;
}

int tw_load_h2_fill(struct tw_load_conn *c)
{
	return nghttp2_session_send(c->h2) == 0 ? 0 : TW_EIO;
}
