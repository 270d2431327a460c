#include "reply.h"

static const char *const protobuf_type = "application/x-protobuf";
static const char *const json_type = "application/json";

bool tw_receive_is_json(const struct tw_exchange *x)
{
	return strcmp(x->content_type, json_type) == 0;
}

void tw_receive_failure(const struct tw_exchange *x, const struct tw_failure *f, struct tw_buf *out,
                        struct tw_reply *r)
{
	bool json = tw_receive_is_json(x);

	*r = (struct tw_reply){0};
	tw_buf_clear(out);
	if (x->is_grpc) {
		r->grpc_status = f->grpc;
		r->grpc_message = tw_slice_str(f->text);
		/* Details carry the retry delay; without one the code and the message say all. */
		if (f->retry_ms != 0 &&
		    tw_reply_status(out, false, f->grpc, f->text, f->retry_ms) == 0)
			r->grpc_details = tw_buf_slice(out);
		return;
	}
	r->status = f->http;
	r->allow = f->allow;
	r->content_type = json ? json_type : protobuf_type;
	if (f->retry_ms != 0)
		r->retry_after_s = (uint32_t)((f->retry_ms + 999) / 1000);
	/* OTLP/HTTP: the body of any 4xx and 5xx is a google.rpc.Status in the request's encoding.
	 */
	if (tw_reply_status(out, json, f->grpc, f->text, f->retry_ms) == 0)
		r->body = tw_buf_slice(out);
}

void tw_receive_success(const struct tw_exchange *x, uint64_t rejected, const char *message,
                        struct tw_buf *out, struct tw_reply *r)
{
	bool json = tw_receive_is_json(x);

	*r = (struct tw_reply){0};
	tw_buf_clear(out);
	if (!x->is_grpc) {
		r->status = 200;
		r->content_type = json ? json_type : protobuf_type;
	}
	if (tw_reply_export(out, json && !x->is_grpc, rejected, message) == 0)
		r->body = tw_buf_slice(out);
}
