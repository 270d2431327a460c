#include "client.h"

#include "tw/base/mem.h"

void tw_out_free(struct tw_out *o)
{
	for (uint32_t i = 0; i < o->count; i++) {
		if (o->segs[i].call)
			tw_call_write_ended(o->segs[i].call);
	}
	tw_buf_deinit(&o->small);
	tw_free(o->segs);
	tw_free(o);
}

static struct tw_out *out_begin(struct tw_conn *k)
{
	if (!k->out) {
		k->out = tw_calloc(1, sizeof *k->out);
		if (!k->out) {
			tw_conn_fail(k, "no memory to write");
			return NULL;
		}
		k->out->conn = k;
		k->out->req.data = k->out;
		tw_buf_init(&k->out->small, 0);
	}
	return k->out;
}

static struct tw_out_seg *out_seg(struct tw_out *o)
{
	if (o->count == o->cap) {
		uint32_t cap = o->cap ? o->cap * 2 : 8;
		void *p = tw_realloc(o->segs, cap * sizeof *o->segs);

		if (!p) {
			o->failed = true;
			return NULL;
		}
		o->segs = p;
		o->cap = cap;
	}
	o->segs[o->count] = (struct tw_out_seg){.p = NULL};
	return &o->segs[o->count++];
}

static void out_copy(struct tw_out *o, const void *p, size_t n)
{
	struct tw_out_seg *last = o->count ? &o->segs[o->count - 1] : NULL;

	if (n == 0)
		return;
	if (!last || last->p) {
		last = out_seg(o);
		if (!last)
			return;
		last->at = o->small.n;
	}
	tw_buf_put(&o->small, p, n);
	last->n += n;
	o->bytes += n;
}

void tw_conn_put(struct tw_conn *k, const void *p, size_t n)
{
	struct tw_out *o = k->state == CONN_CLOSING ? NULL : out_begin(k);

	if (o)
		out_copy(o, p, n);
}

void tw_conn_ref(struct tw_conn *k, const uint8_t *p, size_t n, struct tw_client_call *call)
{
	struct tw_out *o = k->state == CONN_CLOSING || n == 0 ? NULL : out_begin(k);
	struct tw_out_seg *seg = o ? out_seg(o) : NULL;

	if (!seg)
		return;
	*seg = (struct tw_out_seg){.p = p, .n = n, .call = call};
	call->writes++;
	o->bytes += n;
}

size_t tw_conn_backlog(const struct tw_conn *k)
{
	return k->out_bytes + (k->out ? k->out->bytes : 0);
}

bool tw_conn_unwritten(const struct tw_conn *k)
{
	return k->out || uv_stream_get_write_queue_size((const uv_stream_t *)&k->tcp) > 0;
}

static void on_written(uv_write_t *w, int status)
{
	struct tw_out *o = w->data;
	struct tw_conn *k = o->conn;

	k->out_bytes -= o->bytes;
	for (uint32_t i = 0; status < 0 && i < o->count; i++) {
		if (o->segs[i].call && o->segs[i].call->state == CALL_ACTIVE)
			o->segs[i].call->sent = false; /* the backend lacks a part of it */
	}
	tw_out_free(o);
	if (status < 0)
		tw_conn_fail(k, "%s", uv_strerror(status));
	else if (k->state == CONN_OPEN)
		k->client->proto->written(k);
}

static const uint8_t *seg_bytes(const struct tw_out *o, const struct tw_out_seg *s)
{
	return s->p ? s->p : o->small.p + s->at;
}

static void out_write(struct tw_conn *k, struct tw_out *o)
{
	uv_buf_t few[16], *bufs = few;
	int rc = UV_ENOMEM;

	if (o->count > 16)
		bufs = tw_alloc(o->count * sizeof *bufs);
	if (bufs && !o->failed && !o->small.failed) {
		for (uint32_t i = 0; i < o->count; i++)
			bufs[i] = uv_buf_init((char *)(uintptr_t)seg_bytes(o, &o->segs[i]),
			                      (unsigned)o->segs[i].n);
		rc = uv_write(&o->req, (uv_stream_t *)&k->tcp, bufs, o->count, on_written);
	}
	if (bufs != few)
		tw_free(bufs);
	if (rc == 0) {
		k->out_bytes += o->bytes;
		return;
	}
	tw_out_free(o);
	tw_conn_fail(k, "%s", uv_strerror(rc));
}

/* The filter's bytes leave in the order in which it made them, whether they came of reading or of
 * writing: they share a buffer. */
void tw_conn_wire(struct tw_conn *k)
{
	struct tw_out *o;

	if (k->wire.failed) {
		tw_conn_fail(k, "no memory to write");
		return;
	}
	if (k->wire.n == 0 || k->state == CONN_CLOSING)
		return;
	o = tw_calloc(1, sizeof *o);
	if (!o || !out_seg(o)) {
		tw_free(o);
		tw_conn_fail(k, "no memory to write");
		return;
	}
	o->conn = k;
	o->req.data = o;
	o->segs[0].n = o->bytes = k->wire.n;
	o->small = k->wire;
	tw_buf_init(&k->wire, 0);
	out_write(k, o);
}

static int out_filter(struct tw_conn *k, struct tw_out *o, struct tw_error *err)
{
	int rc = o->failed || o->small.failed
	             ? tw_error_set(err, TW_ENOMEM, 0, "no memory to write")
	             : 0;

	for (uint32_t i = 0; i < o->count && rc == 0; i++)
		rc = k->filter->out(k->filter, seg_bytes(o, &o->segs[i]), o->segs[i].n, &k->wire,
		                    err);
	tw_out_free(o);
	return rc;
}

void tw_client_conn_flush(struct tw_conn *k)
{
	struct tw_out *o = k->out;
	struct tw_error err;

	if (!o || k->state == CONN_CLOSING)
		return;
	k->out = NULL;
	if (!k->filter)
		out_write(k, o);
	else if (out_filter(k, o, &err))
		tw_conn_fail(k, "%s", err.text);
	else
		tw_conn_wire(k);
}

/* Last words go out if the socket takes them at once; nobody waits for them. */
void tw_conn_write_now(struct tw_conn *k, const uint8_t *p, size_t n)
{
	uv_buf_t b = uv_buf_init((char *)(uintptr_t)p, (unsigned)n);

	if (n && k->out_bytes == 0 && !uv_is_closing((uv_handle_t *)&k->tcp))
		uv_try_write((uv_stream_t *)&k->tcp, &b, 1);
}

void tw_conn_close(struct tw_conn *k)
{
	struct tw_error err;

	if (k->state == CONN_OPEN) {
		k->client->proto->bye(k);
		if (k->out && k->filter) {
			struct tw_out *o = k->out;

			k->out = NULL;
			out_filter(k, o, &err);
		} else if (k->out && k->out->count == 1 && !k->out->segs[0].p &&
		           !k->out->small.failed) {
			tw_conn_write_now(k, k->out->small.p, k->out->small.n);
		}
		if (k->filter && !k->wire.failed) {
			k->filter->shutdown(k->filter, &k->wire);
			tw_conn_write_now(k, k->wire.p, k->wire.n);
		}
	}
	tw_conn_fail(k, NULL);
}
