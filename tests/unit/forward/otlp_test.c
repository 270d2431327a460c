/* The network transports over real sockets, against net's own server that answers as it is told. */
#include <signal.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tw/base/error.h"
#include "tw/forward.h"

struct peer {
	uv_loop_t loop;
	struct tw_server *server;
	struct tw_acceptor *acceptor;
	uint16_t port;
	struct tw_reply reply; /* what it answers */
	bool silent;           /* it does not */
	struct tw_exchange *held[32];
	uint32_t held_count;
	uint64_t requests, spans_seen;
	char path[256], authorization[512], content_type[128];
	struct tw_buf body;  /* the last request's, decompressed */
	uint64_t fail_first; /* so many requests get `reply`, the others success */

	struct tw_dest_opts opts;
	char target[128];
	struct tw_transport t;
	uint64_t answers;
	struct tw_send_result result;
	char text[400];
};

static void on_request(void *ctx, struct tw_exchange *x, int early, const struct tw_error *err)
{
	struct peer *p = ctx;
	struct tw_reply ok = {.status = 200, .content_type = "application/x-protobuf"};

	(void)err;
	if (early) {
		if (early != TW_ECLOSED)
			tw_exchange_reply(x, &(struct tw_reply){.status = 400, .grpc_status = 3});
		return;
	}
	p->requests++;
	snprintf(p->path, sizeof(p->path), "%s", x->path);
	snprintf(p->authorization, sizeof(p->authorization), "%s", x->authorization);
	snprintf(p->content_type, sizeof(p->content_type), "%s", x->content_type);
	tw_buf_clear(&p->body);
	tw_buf_put(&p->body, x->body.p, x->body.n);
	if (p->silent) {
		assert_true(p->held_count < 32);
		p->held[p->held_count++] = x;
		return;
	}
	if (p->fail_first) {
		p->fail_first--;
		tw_exchange_reply(x, &p->reply);
		return;
	}
	if (p->opts.retry_for_ns == TW_NEVER)
		tw_exchange_reply(x, &ok);
	else
		tw_exchange_reply(x, &p->reply);
}

static bool on_accept(void *ctx, uv_os_sock_t fd, uint32_t tag)
{
	struct peer *p = ctx;

	tw_server_adopt(p->server, fd, tag);
	return true;
}

static void peer_start(struct peer *p)
{
	struct tw_server_opts so = {
	    .body_bytes_max = 64u << 20,
	    .streams_max = 100,
	    .header_timeout_ns = 10 * TW_NS_PER_S,
	    .idle_timeout_ns = 60 * TW_NS_PER_S,
	    .body_timeout_ns = 30 * TW_NS_PER_S,
	    .connections_max = 100,
	    .clock = &tw_clock_real,
	    .handler = on_request,
	    .ctx = p,
	};
	struct tw_error err;

	assert_int_equal(uv_loop_init(&p->loop), 0);
	tw_buf_init(&p->body, 0);
	p->server = tw_server_create(&p->loop, &so);
	assert_non_null(p->server);
	p->acceptor = tw_acceptor_create(&p->loop, on_accept, p);
	assert_non_null(p->acceptor);
	assert_int_equal(tw_acceptor_listen(p->acceptor, "127.0.0.1:0", 0, &err), 0);
	p->port = tw_acceptor_port(p->acceptor, 0);
}

static void transport_start(struct peer *p, enum tw_dest_kind kind)
{
	struct tw_error err = {.text = ""};

	p->opts.name = (char *)(uintptr_t) "there";
	p->opts.kind = kind;
	if (!p->target[0])
		snprintf(p->target, sizeof(p->target),
		         kind == TW_DEST_OTLP_HTTP ? "http://127.0.0.1:%u" : "127.0.0.1:%u",
		         (unsigned)p->port);
	p->opts.target = p->target;
	assert_int_equal(
	    tw_transport_otlp_create(&p->loop, &p->opts, NULL, &tw_clock_real, &p->t, &err), 0);
}

static void rig_start(struct peer *p, enum tw_dest_kind kind)
{
	peer_start(p);
	transport_start(p, kind);
}

static void transport_end(struct peer *p)
{
	p->t.stop(p->t.self);
	while (!p->t.stopped(p->t.self))
		uv_run(&p->loop, UV_RUN_ONCE);
	p->t.destroy(p->t.self);
}

static void peer_end(struct peer *p)
{
	for (uint32_t i = 0; i < p->held_count; i++)
		tw_exchange_reply(p->held[i], &p->reply);
	tw_acceptor_stop(p->acceptor);
	tw_server_kill(p->server);
	uv_run(&p->loop, UV_RUN_DEFAULT);
	tw_server_destroy(&p->server);
	tw_acceptor_destroy(&p->acceptor);
	uv_run(&p->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&p->loop), 0);
	tw_buf_deinit(&p->body);
}

static void rig_end(struct peer *p)
{
	transport_end(p);
	peer_end(p);
}

static void on_done(void *ctx, const struct tw_send_result *r)
{
	struct peer *p = ctx;

	p->answers++;
	p->result = *r;
	snprintf(p->text, sizeof(p->text), "%s", r->text ? r->text : "");
}

/* A real request, as the exporter makes it. */
static void make_request(struct tw_buf *b)
{
	static const uint8_t span[] = "\x0a\x10"
	                              "0123456789abcdef"
	                              "\x12\x08"
	                              "01234567"
	                              "\x2a\x06"
	                              "GET /x";
	struct tw_emit_span e = {.bytes = tw_slice(span, sizeof(span) - 1)};
	struct tw_emit_patch patch = {.rule = tw_slice_str("errors"),
	                              .reason = tw_slice_str("root")};

	tw_buf_init(b, 0);
	assert_int_equal(tw_emit_trace(b, &e, 1, &patch), 0);
}

static enum tw_send_outcome send_coded(struct peer *p, enum tw_coding coding)
{
	struct tw_buf raw, coded;
	struct tw_batch batch = {.spans = 1, .coding = coding};
	uint64_t before = p->answers;

	make_request(&raw);
	tw_buf_init(&coded, 0);
	assert_int_equal(tw_deflate(coding, tw_buf_slice(&raw), &coded), 0);
	batch.request = tw_buf_slice(&coded);
	assert_true(p->t.send(p->t.self, &batch, on_done, p));
	while (p->answers == before)
		uv_run(&p->loop, UV_RUN_ONCE);
	assert_int_equal(p->answers, before + 1);
	if (p->result.outcome == TW_SENT)
		assert_true(tw_slice_eq(tw_buf_slice(&p->body), tw_buf_slice(&raw)));
	tw_buf_deinit(&raw);
	tw_buf_deinit(&coded);
	return p->result.outcome;
}

static const enum tw_dest_kind kinds[] = {TW_DEST_OTLP_GRPC, TW_DEST_OTLP_HTTP};

static void test_taken(void **state)
{
	(void)state;
	for (int k = 0; k < 2; k++) {
		static const enum tw_coding codings[] = {TW_CODING_IDENTITY, TW_CODING_GZIP,
		                                         TW_CODING_ZSTD};
		struct peer p = {.reply = {.status = 200}};

		p.opts.header_names[0] = (char *)(uintptr_t) "Authorization";
		p.opts.header_values[0] = (char *)(uintptr_t) "Bearer s3cret";
		p.opts.header_count = 1;
		rig_start(&p, kinds[k]);
		for (int i = 0; i < 3; i++) {
			assert_int_equal(send_coded(&p, codings[i]), TW_SENT);
			assert_false(p.result.unreadable);
			assert_int_equal(p.result.rejected, 0);
			assert_string_equal(p.text, "");
			assert_string_equal(p.authorization, "Bearer s3cret");
		}
		assert_string_equal(
		    p.path, k ? "/v1/traces"
		              : "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
		assert_string_equal(p.content_type,
		                    k ? "application/x-protobuf" : "application/grpc");
		assert_int_equal(p.requests, 3);
		rig_end(&p);
	}
}

static void BK_01_connection_refused(void **state)
{
	(void)state;
	for (int k = 0; k < 2; k++) {
		struct peer p = {0};

		peer_start(&p);
		tw_acceptor_stop(p.acceptor);
		uv_run(&p.loop, UV_RUN_NOWAIT);
		transport_start(&p, kinds[k]);
		for (int i = 0; i < 3; i++) {
			assert_int_equal(send_coded(&p, TW_CODING_IDENTITY), TW_SEND_RETRY);
			assert_true(p.result.retry_after_ms == UINT64_MAX);
			assert_true(p.text[0]);
		}
		rig_end(&p);
	}
}

static void BK_02_black_hole(void **state)
{
	(void)state;
	for (int k = 0; k < 2; k++) {
		struct peer p = {.silent = true, .opts = {.timeout_ns = 30 * TW_NS_PER_MS}};

		rig_start(&p, kinds[k]);
		assert_int_equal(send_coded(&p, TW_CODING_IDENTITY), TW_SEND_RETRY);
		assert_int_equal(p.requests, 1);
		rig_end(&p);
	}
}

static void BK_03_retry_after(void **state)
{
	struct peer p = {.reply = {.status = 503, .retry_after_s = 7}};

	(void)state;
	rig_start(&p, TW_DEST_OTLP_HTTP);
	assert_int_equal(send_coded(&p, TW_CODING_IDENTITY), TW_SEND_RETRY);
	assert_int_equal(p.result.retry_after_ms, 7000);
	p.reply.retry_after_s = 0;
	assert_int_equal(send_coded(&p, TW_CODING_IDENTITY), TW_SEND_RETRY);
	assert_true(p.result.retry_after_ms == UINT64_MAX);
	rig_end(&p);
}

static void BK_04_too_many_requests(void **state)
{
	struct peer p = {.reply = {.status = 429, .retry_after_s = 1}};

	(void)state;
	rig_start(&p, TW_DEST_OTLP_HTTP);
	assert_int_equal(send_coded(&p, TW_CODING_IDENTITY), TW_SEND_RETRY);
	assert_int_equal(p.result.retry_after_ms, 1000);
	rig_end(&p);
}

static void BK_05_permanent(void **state)
{
	static const int statuses[] = {400, 401, 403, 404, 413, 500};
	struct peer p = {0};

	(void)state;
	rig_start(&p, TW_DEST_OTLP_HTTP);
	for (size_t i = 0; i < sizeof(statuses) / sizeof(*statuses); i++) {
		p.reply.status = statuses[i];
		assert_int_equal(send_coded(&p, TW_CODING_GZIP), TW_SEND_PERMANENT);
	}
	rig_end(&p);
}

static void BK_06_retry_info(void **state)
{
	struct tw_buf info;
	struct peer p = {0};

	(void)state;
	rig_start(&p, TW_DEST_OTLP_GRPC);
	tw_buf_init(&info, 0);
	assert_int_equal(tw_reply_status(&info, false, 14, "overloaded", 5000), 0);
	p.reply = (struct tw_reply){.grpc_status = 14,
	                            .grpc_message = tw_slice_str("overloaded"),
	                            .grpc_details = tw_buf_slice(&info)};
	assert_int_equal(send_coded(&p, TW_CODING_IDENTITY), TW_SEND_RETRY);
	assert_int_equal(p.result.retry_after_ms, 5000);
	assert_string_equal(p.text, "UNAVAILABLE: overloaded");
	p.reply.grpc_status = 8;
	assert_int_equal(send_coded(&p, TW_CODING_IDENTITY), TW_SEND_RETRY);
	assert_int_equal(p.result.retry_after_ms, 5000);
	p.reply.grpc_details = tw_slice(NULL, 0);
	assert_int_equal(send_coded(&p, TW_CODING_IDENTITY), TW_SEND_PERMANENT);
	p.reply.grpc_status = 3;
	assert_int_equal(send_coded(&p, TW_CODING_IDENTITY), TW_SEND_PERMANENT);
	tw_buf_deinit(&info);
	rig_end(&p);
}

static void BK_07_partial_success(void **state)
{
	(void)state;
	for (int k = 0; k < 2; k++) {
		struct peer p = {
		    .reply = {.status = 200, .content_type = "application/x-protobuf"}};
		struct tw_buf b;

		rig_start(&p, kinds[k]);
		tw_buf_init(&b, 0);
		assert_int_equal(tw_reply_export(&b, false, 1, "bad span"), 0);
		p.reply.body = tw_buf_slice(&b);
		assert_int_equal(send_coded(&p, TW_CODING_IDENTITY), TW_SENT);
		assert_int_equal(p.result.rejected, 1);
		assert_string_equal(p.text, "bad span");
		tw_buf_deinit(&b);
		rig_end(&p);
	}
}

static void BK_08_success_with_garbage(void **state)
{
	(void)state;
	for (int k = 0; k < 2; k++) {
		struct peer p = {
		    .reply = {.status = 200, .body = tw_slice_str("<html>hello</html>")}};

		rig_start(&p, kinds[k]);
		assert_int_equal(send_coded(&p, TW_CODING_IDENTITY), TW_SENT);
		assert_true(p.result.unreadable);
		rig_end(&p);
	}
}

static void BK_09_oversized_answer(void **state)
{
	(void)state;
	for (int k = 0; k < 2; k++) {
		struct peer p = {.reply = {.status = 200}};
		size_t n = 5u << 20;
		uint8_t *big = calloc(n, 1);

		p.reply.body = tw_slice(big, n);
		rig_start(&p, kinds[k]);
		assert_int_equal(send_coded(&p, TW_CODING_IDENTITY), TW_SEND_PERMANENT);
		/* The next one finds a backend that has come to its senses. */
		p.reply.body = tw_slice(NULL, 0);
		assert_int_equal(send_coded(&p, TW_CODING_IDENTITY), TW_SENT);
		rig_end(&p);
		free(big);
	}
}

/* There is no TLS at the other end: the handshake fails, and the batch is kept. */
static void BK_18_tls_fails(void **state)
{
	(void)state;
	for (int k = 0; k < 2; k++) {
		struct tw_tls_opts to = {.enabled = true};
		struct tw_error err = {.text = ""};
		struct peer p = {0};
		struct tw_tls *tls = tw_tls_create(&to, &err);

		assert_non_null(tls);
		peer_start(&p);
		p.opts.kind = kinds[k];
		p.opts.tls.enabled = true;
		snprintf(p.target, sizeof(p.target), "https://127.0.0.1:%u", (unsigned)p.port);
		p.opts.target = p.target;
		assert_int_equal(
		    tw_transport_otlp_create(&p.loop, &p.opts, NULL, &tw_clock_real, &p.t, &err),
		    TW_EINVAL);
		assert_int_equal(
		    tw_transport_otlp_create(&p.loop, &p.opts, tls, &tw_clock_real, &p.t, &err), 0);
		assert_int_equal(send_coded(&p, TW_CODING_IDENTITY), TW_SEND_RETRY);
		assert_true(p.text[0]);
		rig_end(&p);
		tw_tls_destroy(&tls);
	}
}

static void test_stop_answers_open_sends(void **state)
{
	(void)state;
	for (int k = 0; k < 2; k++) {
		struct tw_batch batch = {.spans = 1};
		struct peer p = {.silent = true};
		struct tw_buf raw;

		rig_start(&p, kinds[k]);
		make_request(&raw);
		batch.request = tw_buf_slice(&raw);
		for (int i = 0; i < 4; i++)
			assert_true(p.t.send(p.t.self, &batch, on_done, &p));
		while (p.requests < 4)
			uv_run(&p.loop, UV_RUN_ONCE);
		transport_end(&p);
		assert_int_equal(p.answers, 4);
		assert_int_equal(p.result.outcome, TW_SEND_STOPPED);
		peer_end(&p);
		tw_buf_deinit(&raw);
	}
}

static void test_more_than_it_can_carry(void **state)
{
	struct tw_batch batch = {.spans = 1};
	struct peer p = {.silent = true};
	uint64_t taken = 0;
	struct tw_buf raw;

	(void)state;
	rig_start(&p, TW_DEST_OTLP_GRPC);
	make_request(&raw);
	batch.request = tw_buf_slice(&raw);
	while (taken < 1000 && p.t.send(p.t.self, &batch, on_done, &p))
		taken++;
	assert_in_range(taken, 4, 100);
	assert_int_equal(p.answers, 0);
	transport_end(&p);
	assert_int_equal(p.answers, taken);
	peer_end(&p);
	tw_buf_deinit(&raw);
}

struct target_case {
	enum tw_dest_kind kind;
	const char *target;
	const char *path; /* NULL: refused */
};

static void test_targets(void **state)
{
	static const struct target_case cases[] = {
	    {TW_DEST_OTLP_HTTP, "http://127.0.0.1:%u", "/v1/traces"},
	    {TW_DEST_OTLP_HTTP, "http://127.0.0.1:%u/", "/v1/traces"},
	    {TW_DEST_OTLP_HTTP, "http://127.0.0.1:%u/v1/traces", "/v1/traces"},
	    {TW_DEST_OTLP_HTTP, "http://127.0.0.1:%u/otlp", "/otlp/v1/traces"},
	    {TW_DEST_OTLP_HTTP, "http://127.0.0.1:%u/otlp/", "/otlp/v1/traces"},
	    {TW_DEST_OTLP_HTTP, "127.0.0.1:%u", "/v1/traces"},
	    {TW_DEST_OTLP_GRPC, "http://127.0.0.1:%u",
	     "/opentelemetry.proto.collector.trace.v1.TraceService/Export"},
	    {TW_DEST_OTLP_HTTP, "http://127.0.0.1:%u/v1/traces?key=1", NULL},
	    {TW_DEST_OTLP_GRPC, "http://127.0.0.1:%u/path", NULL},
	    {TW_DEST_OTLP_GRPC, "ftp://127.0.0.1:%u", NULL},
	    {TW_DEST_OTLP_GRPC, "127.0.0.1", NULL},
	    {TW_DEST_OTLP_HTTP, "https://127.0.0.1:%u", NULL}, /* no TLS configured */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct peer p = {.reply = {.status = 200}};
		struct tw_error err = {.text = ""};

		peer_start(&p);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(p.target, sizeof(p.target), cases[i].target, (unsigned)p.port);
#pragma GCC diagnostic pop
		p.opts.target = p.target;
		p.opts.kind = cases[i].kind;
		if (cases[i].path) {
			transport_start(&p, cases[i].kind);
			assert_int_equal(send_coded(&p, TW_CODING_IDENTITY), TW_SENT);
			assert_string_equal(p.path, cases[i].path);
			transport_end(&p);
		} else {
			assert_int_equal(tw_transport_otlp_create(&p.loop, &p.opts, NULL,
			                                          &tw_clock_real, &p.t, &err),
			                 TW_EINVAL);
			assert_true(err.text[0]);
		}
		peer_end(&p);
	}
}

static void test_headers_that_cannot_be(void **state)
{
	static const char *const names[] = {"", "a b", "content-length", "Host", "x:y", "ok"};
	static const char *const values[] = {"v", "v", "v", "v", "v", "two\r\nlines: secret"};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		struct peer p = {.opts = {.kind = TW_DEST_OTLP_HTTP,
		                          .target = (char *)(uintptr_t) "http://127.0.0.1:1",
		                          .header_count = 1}};
		struct tw_error err = {.text = ""};

		peer_start(&p);
		p.opts.header_names[0] = (char *)(uintptr_t)names[i];
		p.opts.header_values[0] = (char *)(uintptr_t)values[i];
		assert_int_equal(
		    tw_transport_otlp_create(&p.loop, &p.opts, NULL, &tw_clock_real, &p.t, &err),
		    TW_EINVAL);
		assert_true(err.text[0]);
		assert_null(strstr(err.text, "secret"));
		peer_end(&p);
	}
}

/* An exporter over a transport: the backend fails three times, and then takes everything once. */
static void test_exporter_over_the_network(void **state)
{
	(void)state;
	for (int k = 0; k < 2; k++) {
		struct peer p = {.fail_first = 3, .reply = {.status = 503, .grpc_status = 14}};
		struct tw_exporter_config c = {.opts = &p.opts,
		                               .queue_bytes_max = 1 << 20,
		                               .seed = 1,
		                               .in_flight_max = 4,
		                               .clock = &tw_clock_real};
		static const uint8_t span[] = "\x12\x08"
		                              "01234567";
		struct tw_emit_span e = {.bytes = tw_slice(span, sizeof(span) - 1)};
		struct tw_emit_patch patch = {.reason = tw_slice_str("root")};
		const struct tw_exporter_stats *st;
		struct tw_exporter *x;

		p.opts.retry_for_ns = TW_NEVER;
		p.opts.batch_bytes = 1000;
		p.opts.backoff_first_ns = TW_NS_PER_MS;
		p.opts.backoff_most_ns = TW_NS_PER_MS;
		p.opts.compression = k ? TW_CODING_ZSTD : TW_CODING_GZIP;
		rig_start(&p, kinds[k]);
		c.transport = p.t;
		x = tw_exporter_create(&c);
		assert_non_null(x);
		st = tw_exporter_stats(x);
		for (int i = 0; i < 500; i++) {
			assert_int_equal(
			    tw_exporter_offer(x, &e, 1, &patch, 0, tw_now(&tw_clock_real)),
			    TW_OFFER_TAKEN);
			tw_exporter_tick(x, tw_now(&tw_clock_real));
		}
		tw_exporter_flush(x, tw_now(&tw_clock_real));
		while (!tw_exporter_empty(x)) {
			uv_run(&p.loop, UV_RUN_NOWAIT);
			tw_exporter_tick(x, tw_now(&tw_clock_real));
		}
		assert_int_equal(tw_counter_get(&st->forwarded), 500);
		assert_int_equal(tw_counter_get(&st->sends_failed), 3);
		assert_int_equal(tw_counter_get(&st->retries), 3);
		assert_int_equal(tw_counter_get(&st->queued), 0);
		assert_int_equal(p.requests, tw_counter_get(&st->batches_sent) + 3);
		tw_exporter_stop(x);
		while (!tw_exporter_stopped(x))
			uv_run(&p.loop, UV_RUN_ONCE);
		tw_exporter_destroy(&x);
		peer_end(&p);
	}
}

int main(void)
{
	/* As the process does: libuv writes without MSG_NOSIGNAL. */
	signal(SIGPIPE, SIG_IGN);
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_taken),
	    cmocka_unit_test(BK_01_connection_refused),
	    cmocka_unit_test(BK_02_black_hole),
	    cmocka_unit_test(BK_03_retry_after),
	    cmocka_unit_test(BK_04_too_many_requests),
	    cmocka_unit_test(BK_05_permanent),
	    cmocka_unit_test(BK_06_retry_info),
	    cmocka_unit_test(BK_07_partial_success),
	    cmocka_unit_test(BK_08_success_with_garbage),
	    cmocka_unit_test(BK_09_oversized_answer),
	    cmocka_unit_test(BK_18_tls_fails),
	    cmocka_unit_test(test_stop_answers_open_sends),
	    cmocka_unit_test(test_more_than_it_can_carry),
	    cmocka_unit_test(test_targets),
	    cmocka_unit_test(test_headers_that_cannot_be),
	    cmocka_unit_test(test_exporter_over_the_network),
	};
	return cmocka_run_group_tests_name("forward_otlp", tests, NULL, NULL);
}
