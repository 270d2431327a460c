#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "double.h"
#include "tw/base/mem.h"

struct exchange {
	struct tw_exchange x;
	struct bench *bench;
};

/* ---- net ---- */

static void copy_text(char *to, size_t cap, const char *from)
{
	snprintf(to, cap, "%s", from != NULL ? from : "");
}

static void record(struct bench *b, const struct tw_reply *r)
{
	struct answer *a = &b->answer;

	a->count++;
	a->status = r->status;
	a->grpc = r->grpc_status;
	snprintf(a->message, sizeof(a->message), "%.*s", (int)r->grpc_message.n,
	         r->grpc_message.n != 0 ? (const char *)r->grpc_message.p : "");
	copy_text(a->type, sizeof(a->type), r->content_type);
	copy_text(a->allow, sizeof(a->allow), r->allow);
	assert_true(r->body.n <= sizeof(a->body) && r->grpc_details.n <= sizeof(a->details));
	a->body_n = r->body.n;
	if (r->body.n != 0)
		memcpy(a->body, r->body.p, r->body.n);
	a->details_n = r->grpc_details.n;
	if (r->grpc_details.n != 0)
		memcpy(a->details, r->grpc_details.p, r->grpc_details.n);
	a->retry_after_s = r->retry_after_s;
}

/* Overwritten before it is freed: using it after the reply is seen without a sanitizer, too. */
static void end_exchange(struct exchange *e)
{
	struct bench *b = e->bench;

	tw_body_deinit(&e->x.body);
	memset(e, 0xA5, sizeof(*e));
	tw_free(e);
	b->live--;
}

void tw_exchange_reply(struct tw_exchange *x, const struct tw_reply *r)
{
	struct exchange *e = (struct exchange *)x;

	record(e->bench, r);
	end_exchange(e);
}

/* ---- the engine ---- */

/* As the engine does it: a request that does not scan is malformed. */
static void scan(struct bench *b, const struct tw_body *body, struct tw_error *err)
{
	struct tw_keytab *keys = tw_keytab_create();
	struct tw_scan_opts o = {.key = {1, 2}, .keys = keys, .spans_max = 1000};
	struct tw_request req;

	assert_non_null(keys);
	assert_int_equal(tw_keytab_seal(keys), 0);
	tw_request_init(&req);
	err->text[0] = '\0';
	b->result = (struct tw_sink_result){.outcome = TW_SINK_OK, .message = err->text};
	if (tw_otlp_scan(&o, tw_slice(body->p, body->n), &req, err) != 0)
		b->result.outcome = TW_SINK_MALFORMED;
	tw_request_deinit(&req);
	tw_keytab_destroy(&keys);
}

static void submit(void *self, struct tw_body *body, tw_sink_done done, void *ctx)
{
	struct bench *b = self;
	struct tw_error err;

	b->sink.count++;
	bench_release(b);
	b->sink.body = *body;
	tw_body_init(body, NULL);
	b->sink.done = done;
	b->sink.ctx = ctx;
	if (b->scans)
		scan(b, &b->sink.body, &err);
	if (!b->later)
		bench_answer(b);
}

void bench_answer(struct bench *b)
{
	tw_sink_done done = b->sink.done;

	b->sink.done = NULL;
	assert_non_null(done);
	done(b->sink.ctx, &b->result);
}

void bench_release(struct bench *b)
{
	tw_body_deinit(&b->sink.body);
	tw_body_init(&b->sink.body, NULL);
}

/* ---- requests ---- */

void bench_init(struct bench *b)
{
	*b = (struct bench){.time = {.mono_ns = 1000 * TW_NS_PER_S}};
	b->clock = tw_clock_virtual(&b->time);
	tw_budget_init(&b->bodies, 1u << 20);
	tw_body_init(&b->sink.body, NULL);
	b->result = (struct tw_sink_result){.outcome = TW_SINK_OK, .message = ""};
	b->rx = (struct tw_receiver){.sink = {submit, b},
	                             .clock = &b->clock,
	                             .body_bytes_max = 256u << 10,
	                             .bodies = &b->bodies};
}

void bench_deinit(struct bench *b)
{
	bench_release(b);
	assert_int_equal(b->live, 0);
	assert_int_equal(tw_budget_used(&b->bodies), 0);
}

static struct exchange *exchange(struct bench *b, const struct call *c)
{
	struct exchange *e = tw_calloc(1, sizeof(*e));
	struct tw_exchange *x;

	assert_non_null(e);
	e->bench = b;
	b->live++;
	x = &e->x;
	x->is_grpc = strcmp(c->type, GRPC) == 0;
	x->protocol = x->is_grpc ? TW_PROTO_GRPC : TW_PROTO_HTTP1;
	copy_text(x->method, sizeof(x->method), c->method != NULL ? c->method : "POST");
	copy_text(x->path, sizeof(x->path), c->path);
	copy_text(x->content_type, sizeof(x->content_type), c->type);
	x->deadline_ns = c->deadline_ns != 0 ? c->deadline_ns : TW_NEVER;
	tw_body_init(&x->body, &b->bodies);
	return e;
}

void bench_call(struct bench *b, const struct call *c)
{
	struct exchange *e = exchange(b, c);
	struct tw_reply now;
	struct tw_error err;

	b->answer = (struct answer){.count = 0};
	memset(&now, 0xA5, sizeof(now));
	if (tw_receive_head(&b->rx, &e->x, &now) != 0) {
		/* net reads it after the return: nothing but the receiver's own memory lasts. */
		assert_true(now.body.n == 0 || now.body.p == b->rx.head_reply);
		record(b, &now);
		b->answer.by_head = true;
		end_exchange(e);
		return;
	}
	if (c->early != 0) {
		tw_error_set(&err, c->early, 0, "%s", c->early_text);
		tw_receive_request(&b->rx, &e->x, c->early, &err);
		if (c->early == TW_ECLOSED) /* net has answered */
			end_exchange(e);
		return;
	}
	assert_int_equal(tw_body_append(&e->x.body, c->body, c->body_n, SIZE_MAX), 0);
	tw_receive_request(&b->rx, &e->x, 0, NULL);
}

uint64_t bench_requests(const struct bench *b)
{
	uint64_t n = 0;

	for (int i = 0; i < TW_RECEIVE_COUNT; i++)
		n += tw_counter_get(&b->rx.requests[i]);
	return n;
}

/* ---- looking ---- */

void assert_status(const void *p, size_t n, int code, const char *text, uint64_t retry_ms)
{
	const uint8_t *bytes = p;
	char message[256];
	uint64_t retry;

	/* Field 1, a code under 128: two bytes. */
	assert_true(n >= 2);
	assert_int_equal(bytes[0], 1 << 3);
	assert_int_equal(bytes[1], code);
	assert_int_equal(tw_reply_parse_status(tw_slice(p, n), message, sizeof(message), &retry),
	                 0);
	assert_string_equal(message, text);
	assert_true(retry == retry_ms);
}

void assert_body_text(const struct bench *b, const char *text)
{
	assert_int_equal(b->answer.body_n, strlen(text));
	assert_memory_equal(b->answer.body, text, strlen(text));
}

void assert_counted(const struct bench *b, enum tw_receive_outcome o)
{
	assert_int_equal(bench_requests(b), 1);
	assert_int_equal(tw_counter_get(&b->rx.requests[o]), 1);
}
