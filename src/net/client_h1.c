#include <llhttp.h>
#include <stdio.h>
#include <strings.h>

#include "client.h"
#include "tw/base/mem.h"

#define FIELD_BYTES_MAX 32u /* the names that matter are shorter */
#define VALUE_BYTES_MAX 128u

/* One connection carries one request at a time. */
struct h1 {
	llhttp_t parser;
	struct tw_client_call *call; /* NULL: idle */
	char field[FIELD_BYTES_MAX], value[VALUE_BYTES_MAX];
	size_t field_n, value_n; /* as they came; may be larger than what was kept */
	bool whole;              /* the answer is */
	bool keep;               /* and the connection may go on */
	int error;               /* why a callback broke off: TW_ELIMIT, TW_ENOMEM */
};

/* ---- llhttp's callbacks ---- */

static int broken(struct h1 *h, int error)
{
	h->error = error;
	return HPE_USER;
}

static int on_field(llhttp_t *l, const char *p, size_t n)
{
	struct h1 *h = l->data;

	for (size_t i = 0; i < n && h->field_n + i < FIELD_BYTES_MAX; i++)
		h->field[h->field_n + i] = p[i];
	h->field_n += n;
	return h->field_n > TW_HEADER_BYTES_MAX ? broken(h, TW_ELIMIT) : 0;
}

static int on_value(llhttp_t *l, const char *p, size_t n)
{
	struct h1 *h = l->data;

	for (size_t i = 0; i < n && h->value_n + i < VALUE_BYTES_MAX; i++)
		h->value[h->value_n + i] = p[i];
	h->value_n += n;
	return h->value_n > TW_HEADER_BYTES_MAX ? broken(h, TW_ELIMIT) : 0;
}

static int on_value_done(llhttp_t *l)
{
	struct h1 *h = l->data;

	if (!tw_call_count_header(h->call, h->field_n, h->value_n))
		return broken(h, TW_ELIMIT);
	if (h->field_n <= FIELD_BYTES_MAX && h->value_n <= VALUE_BYTES_MAX)
		tw_call_header(h->call, tw_slice(h->field, h->field_n),
		               tw_slice(h->value, h->value_n));
	h->field_n = h->value_n = 0;
	return 0;
}

static int on_reason(llhttp_t *l, const char *p, size_t n)
{
	struct h1 *h = l->data;

	(void)p;
	h->call->head_bytes += n;
	return h->call->head_bytes > TW_HEADER_BYTES_MAX ? broken(h, TW_ELIMIT) : 0;
}

static int on_heads(llhttp_t *l)
{
	struct h1 *h = l->data;

	h->call->r.status = l->status_code;
	h->call->heads_done = l->status_code >= 200;
	if ((l->flags & F_CONTENT_LENGTH) && l->content_length > TW_RESPONSE_BYTES_MAX)
		return broken(h, TW_ELIMIT);
	return 0;
}

static int on_body(llhttp_t *l, const char *p, size_t n)
{
	struct h1 *h = l->data;
	int rc = tw_call_body(h->call, p, n);

	return rc ? broken(h, rc) : 0;
}

static int on_chunk(llhttp_t *l)
{
	struct h1 *h = l->data;

	/* A chunk that says it is larger than all that is allowed need not be waited for. */
	return l->content_length > TW_RESPONSE_BYTES_MAX ? broken(h, TW_ELIMIT) : 0;
}

static int on_whole(llhttp_t *l)
{
	struct h1 *h = l->data;

	if (l->status_code >= 100 && l->status_code < 200 && l->status_code != 101)
		return 0; /* an interim answer; the real one follows */
	h->keep = llhttp_should_keep_alive(l) && l->status_code != 101;
	h->whole = true;
	return HPE_PAUSED;
}

static const llhttp_settings_t *h1_settings(void)
{
	static const llhttp_settings_t settings = {
	    .on_header_field = on_field,
	    .on_header_value = on_value,
	    .on_header_value_complete = on_value_done,
	    .on_status = on_reason,
	    .on_headers_complete = on_heads,
	    .on_chunk_header = on_chunk,
	    .on_body = on_body,
	    .on_message_complete = on_whole,
	};
	return &settings;
}

/* ---- the connection ---- */

static void parser_reset(struct h1 *h)
{
	llhttp_init(&h->parser, HTTP_RESPONSE, h1_settings());
	h->parser.data = h;
	h->field_n = h->value_n = 0;
	h->whole = h->keep = false;
	h->error = 0;
}

static int h1_open(struct tw_conn *k)
{
	struct h1 *h = tw_calloc(1, sizeof *h);

	if (!h)
		return TW_ENOMEM;
	k->session = h;
	parser_reset(h);
	return 0;
}

static bool h1_accepts(const struct tw_conn *k)
{
	const struct h1 *h = k->session;

	return !h->call;
}

static void answer_give(struct tw_client_call *call)
{
	int rc = tw_call_inflate(call, tw_buf_slice(&call->raw));

	if (rc == TW_ELIMIT)
		tw_call_fail(call, TW_ELIMIT, "the answer is larger than 4 MiB");
	else if (rc)
		tw_call_fail(call, TW_EIO, "no memory to inflate the answer");
	else
		tw_call_finish(call);
}

/* rest: bytes behind the answer, which nobody asked for. */
static void answer_whole(struct tw_conn *k, size_t rest)
{
	struct h1 *h = k->session;
	struct tw_client_call *call = h->call;
	bool keep = h->keep && rest == 0 &&
	            !tw_conn_unwritten(k); /* answered before it was sent whole: not again */

	h->call = NULL;
	answer_give(call);
	if (!keep || k->draining) {
		tw_conn_close(k);
		return;
	}
	parser_reset(h);
	tw_client_kick(k->client);
}

static void answer_broken(struct tw_conn *k)
{
	struct h1 *h = k->session;
	struct tw_client_call *call = h->call;

	h->call = NULL;
	if (h->error == TW_ELIMIT)
		tw_call_fail(call, TW_ELIMIT,
		             call->heads_done ? "the answer is larger than 4 MiB"
		                              : "the answer's headers are too large");
	else if (h->error)
		tw_call_fail(call, TW_EIO, "no memory for the answer");
	else
		tw_call_fail(call, TW_EIO, "the answer is not HTTP/1.1: %s",
		             llhttp_get_error_reason(&h->parser));
	tw_conn_fail(k, NULL);
}

static void h1_input(struct tw_conn *k, const uint8_t *p, size_t n)
{
	struct h1 *h = k->session;
	llhttp_errno_t rc;

	if (!h->call) {
		tw_conn_fail(k, NULL); /* an answer to nothing, or a farewell such as 408 */
		return;
	}
	rc = llhttp_execute(&h->parser, (const char *)p, n);
	if (h->whole)
		answer_whole(k, n - (size_t)(llhttp_get_error_pos(&h->parser) - (const char *)p));
	else if (rc != HPE_OK)
		answer_broken(k);
}

/* Without a length the end of the connection is the end of the answer. */
static void h1_eof(struct tw_conn *k)
{
	struct h1 *h = k->session;

	if (h->call && h->call->heads_done)
		llhttp_finish(&h->parser);
	if (h->whole)
		answer_whole(k, 0);
}

static void h1_written(struct tw_conn *k)
{
	(void)k;
}

/* ---- the request ---- */

static void head_write(struct tw_buf *b, const struct tw_client_call *call)
{
	bool agent = false;

	tw_buf_printf(b, "POST %s HTTP/1.1\r\nHost: %s\r\n", call->path,
	              call->client->opts.authority);
	for (uint32_t i = 0; i < call->header_count; i++) {
		tw_buf_printf(b, "%s: %s\r\n", call->headers[i].name, call->headers[i].value);
		agent = agent || strcmp(call->headers[i].name, "user-agent") == 0;
	}
	if (!agent)
		tw_buf_puts(b, "User-Agent: " CLIENT_USER_AGENT "\r\n");
	if (call->content_type)
		tw_buf_printf(b, "Content-Type: %s\r\n", call->content_type);
	if (call->content_encoding)
		tw_buf_printf(b, "Content-Encoding: %s\r\n", call->content_encoding);
	tw_buf_printf(b, "Accept-Encoding: gzip\r\nContent-Length: %zu\r\n\r\n", call->body.n);
}

static void h1_submit(struct tw_conn *k, struct tw_client_call *call)
{
	struct h1 *h = k->session;
	struct tw_buf head;

	tw_buf_init(&head, 0);
	head_write(&head, call);
	if (head.failed) {
		tw_buf_deinit(&head);
		tw_call_fail(call, TW_EIO, "no memory for the request");
		return;
	}
	h->call = call;
	call->sent = true;
	tw_conn_put(k, head.p, head.n);
	tw_buf_deinit(&head);
	tw_conn_ref(k, call->body.p, call->body.n, call);
	tw_client_conn_flush(k);
}

static void h1_cancel(struct tw_conn *k, struct tw_client_call *call)
{
	struct h1 *h = k->session;

	(void)call;
	if (h)
		h->call = NULL;
	tw_conn_fail(k,
	             NULL); /* the answer may still come, and would be taken for the next one's */
}

static void h1_bye(struct tw_conn *k)
{
	(void)k;
}

static void h1_end(struct tw_conn *k)
{
	tw_free(k->session);
}

const struct tw_client_proto tw_client_h1 = {
    .alpn = "http/1.1",
    .multiplex = false,
    .open = h1_open,
    .input = h1_input,
    .eof = h1_eof,
    .written = h1_written,
    .accepts = h1_accepts,
    .submit = h1_submit,
    .cancel = h1_cancel,
    .bye = h1_bye,
    .free = h1_end,
};
