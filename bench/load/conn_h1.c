/* OTLP/HTTP over HTTP/1.1: one request at a time on a connection. */
#include <stdlib.h>
#include <string.h>

#include "conn.h"

int tw_load_h1_submit(struct tw_load_conn *c, struct tw_load_exchange *x)
{
	const bool packed = c->opts.coding != TW_LOAD_PLAIN;
	char head[512];
	int n = snprintf(
	    head, sizeof(head),
	    "POST /v1/traces HTTP/1.1\r\nhost: %s\r\ncontent-type: application/%s\r\n"
	    "%s%s%suser-agent: traceweir-load\r\ncontent-length: %zu\r\n\r\n",
	    c->opts.host, c->opts.json ? "json" : "x-protobuf", packed ? "content-encoding: " : "",
	    packed ? tw_load_coding_name(c->opts.coding) : "", packed ? "\r\n" : "", x->body.bytes);

	tw_load_conn_put(c, head, (size_t)n);
	return 0;
}

int tw_load_h1_fill(struct tw_load_conn *c)
{
	struct tw_load_exchange *x = &c->x[0];

	if (x->state == TW_LOAD_BUSY && x->queued < x->body.bytes)
		tw_load_conn_put_body(c, x, x->body.bytes - x->queued);
	return 0;
}

/* Answers carry a content-length, or have no body. */
int tw_load_h1_read(struct tw_load_conn *c, const uint8_t *p, size_t n)
{
	struct tw_load_exchange *x = &c->x[0];
	const char *end, *length;
	size_t head_n, body_n = 0;

	if (x->state != TW_LOAD_BUSY || n >= sizeof(c->head) - c->head_n)
		return TW_EINVAL;
	memcpy(c->head + c->head_n, p, n);
	c->head_n += n;
	c->head[c->head_n] = '\0';
	end = strstr(c->head, "\r\n\r\n");
	if (end == NULL)
		return 0;
	head_n = (size_t)(end - c->head) + 4;
	length = strcasestr(c->head, "\r\ncontent-length:");
	if (length != NULL && length < end)
		body_n = strtoul(length + 17, NULL, 10);
	if (c->head_n < head_n + body_n)
		return 0;
	x->http_status = c->head_n > 12 ? atoi(c->head + 9) : 0;
	x->reply_n = body_n < sizeof(x->reply) ? body_n : sizeof(x->reply);
	memcpy(x->reply, c->head + head_n, x->reply_n);
	c->head_n = 0;
	x->closed = true;
	tw_load_conn_answered(x);
	return 0;
}
