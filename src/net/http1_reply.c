#include "http1.h"

#define HEAD_MAX ((size_t)8 << 10) /* moved in front of a body */

/* Takes the body over, with what is there already in front of it: a page of metrics may have
 * hundreds of megabytes. false: it is to be copied. */
static bool take_body(struct tw_buf *out, struct tw_buf *body)
{
	struct tw_buf head = *out;

	if (body == NULL || out->failed || out->n > HEAD_MAX || !tw_buf_grow(body, out->n))
		return false;
	memmove(body->p + head.n, body->p, body->n);
	memcpy(body->p, head.p, head.n);
	body->n += head.n;
	*out = *body;
	out->max = head.max;
	tw_buf_clear(&head);
	*body = head;
	return true;
}

void tw_h1_write(struct tw_h1 *h, const struct tw_reply *reply, bool close)
{
	struct tw_buf *out = &h->conn->out;

	tw_buf_printf(out, "HTTP/1.1 %d %s\r\ndate: %s\r\n", reply->status,
	              tw_http_reason(reply->status), tw_server_date(h->conn->server));
	if (reply->content_type != NULL)
		tw_buf_printf(out, "content-type: %s\r\n", reply->content_type);
	if (reply->content_encoding != NULL)
		tw_buf_printf(out, "content-encoding: %s\r\n", reply->content_encoding);
	if (reply->retry_after_s > 0)
		tw_buf_printf(out, "retry-after: %u\r\n", reply->retry_after_s);
	if (reply->allow != NULL)
		tw_buf_printf(out, "allow: %s\r\n", reply->allow);
	if (h->r->unsupported_coding && reply->status == 415)
		tw_buf_puts(out, "accept-encoding: gzip, deflate, zstd\r\n");
	if (close)
		tw_buf_puts(out, "connection: close\r\n");
	else if (h->parser.http_minor == 0)
		tw_buf_puts(out, "connection: keep-alive\r\n");
	if (reply->status != 204 && reply->status != 304)
		tw_buf_printf(out, "content-length: %zu\r\n", reply->body.n);
	tw_buf_puts(out, "\r\n");
	if (!h->r->is_head && reply->body.n > 0 && !take_body(out, reply->owned))
		tw_buf_put(out, reply->body.p, reply->body.n);
}
