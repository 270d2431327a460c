/* The gRPC client against backends that behave, and that do not. */
#include "client_peer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#define LONG   (10 * TW_NS_PER_S)
#define WINDOW 65535

static void check_ok(const struct answer *a)
{
	assert_string_equal(a->r.text, "");
	assert_int_equal(a->r.error, 0);
	assert_int_equal(a->r.status, 200);
	assert_int_equal(a->r.grpc_status, 0);
}

/* ---- an ordinary export ---- */

static void script_ok(struct peer *p)
{
	struct peer_request *r;

	peer_accept(p);
	peer_h2_begin(p, 100, WINDOW);
	r = peer_h2_request(p);
	memcpy(p->ctx, r, sizeof *r);
	r->body = NULL; /* taken */
	peer_grpc_answer(p, r->stream, "0", "\x0a\x00", 2);
	peer_until_end(p);
}

static void test_request_and_answer(void **state)
{
	struct tw_header h[] = {{"authorization", "Bearer secret"}, {"X-Tenant", "a b"}};
	struct tw_client_request q = {
	    .path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
	    .content_encoding = "gzip",
	    .headers = h,
	    .header_count = 2,
	    .body = tw_slice("body", 4),
	    .timeout_ns = LONG};
	struct peer_request got;
	struct peer p = {0};
	struct side s;
	struct answer *a;

	(void)state;
	peer_start(&p, script_ok, &got);
	side_open(&s, TW_CLIENT_GRPC, "127.0.0.1", p.port, NULL);
	a = side_wait(&s, side_send_request(&s, &q));
	check_ok(a);
	assert_true(a->r.sent);
	assert_int_equal(a->r.retry_after_ms, UINT64_MAX);
	assert_int_equal(a->r.body.n, 2);
	assert_memory_equal(a->r.body.p, "\x0a\x00", 2);
	side_close(&s);
	peer_join(&p);
	assert_true(peer_request_has(&got, ":method: POST\n"));
	assert_true(peer_request_has(&got, ":scheme: http\n"));
	assert_true(peer_request_has(
	    &got, ":path: /opentelemetry.proto.collector.trace.v1.TraceService/Export\n"));
	assert_true(peer_request_has(&got, ":authority: 127.0.0.1:"));
	assert_true(peer_request_has(&got, "\nte: trailers\n"));
	assert_true(peer_request_has(&got, "\ncontent-type: application/grpc\n"));
	assert_true(peer_request_has(&got, "\nuser-agent: traceweir/"));
	assert_true(peer_request_has(&got, "\ngrpc-timeout: "));
	assert_true(peer_request_has(&got, "\ngrpc-encoding: gzip\n"));
	assert_true(peer_request_has(&got, "\ngrpc-accept-encoding: identity,gzip\n"));
	assert_true(peer_request_has(&got, "\nauthorization: Bearer secret\n"));
	assert_true(peer_request_has(&got, "\nx-tenant: a b\n"));
	assert_int_equal(got.body_n, 9);
	assert_memory_equal(got.body,
	                    "\x01\x00\x00\x00\x04"
	                    "body",
	                    9);
	free(got.body);
}

/* ---- 3 MiB through 64 KiB windows, and several at once on one connection ---- */

static void script_large(struct peer *p)
{
	struct peer_request *r;

	peer_accept(p);
	peer_h2_begin(p, 2, WINDOW); /* two streams at a time: the others wait */
	for (int i = 0; i < 4; i++) {
		r = peer_h2_request(p);
		peer_grpc_answer(p, r->stream,
		                 r->body_n == (3u << 20) + 5 && r->body[5] == 'a' &&
		                         r->body[r->body_n - 1] == 'z'
		                     ? "0"
		                     : "3",
		                 NULL, 0);
		free(r->body);
		r->body = NULL;
		r->body_n = r->body_cap = 0;
		r->stream = 0;
	}
	peer_until_end(p);
}

static void test_large_bodies_share_a_connection(void **state)
{
	size_t n = 3u << 20;
	char *body = malloc(n);
	struct peer p = {0};
	struct side s;

	(void)state;
	memset(body, 'm', n);
	body[0] = 'a';
	body[n - 1] = 'z';
	peer_start(&p, script_large, NULL);
	side_open(&s, TW_CLIENT_GRPC, "127.0.0.1", p.port, NULL);
	for (int i = 0; i < 4; i++)
		side_send(&s, body, n, LONG);
	assert_int_equal(tw_client_open(s.client), 4);
	for (int i = 0; i < 4; i++)
		check_ok(side_wait(&s, i));
	side_close(&s);
	peer_join(&p);
	assert_int_equal(p.accepted, 1);
	free(body);
}

static void test_refuses_too_many_and_bad_requests(void **state)
{
	struct tw_header evil = {"x-a", "b\r\nx-c: d"}, odd = {"x a", "b"}, ours = {"TE", "gzip"};
	struct tw_client_request q = {.path = "/x", .body = tw_slice("b", 1), .timeout_ns = LONG};
	struct side s;

	(void)state;
	side_open(&s, TW_CLIENT_GRPC, "127.0.0.1", 1, NULL);
	q.headers = &evil;
	q.header_count = 1;
	assert_int_equal(tw_client_send(s.client, &q, NULL, NULL), TW_EINVAL);
	q.headers = &odd;
	assert_int_equal(tw_client_send(s.client, &q, NULL, NULL), TW_EINVAL);
	q.headers = &ours;
	assert_int_equal(tw_client_send(s.client, &q, NULL, NULL), TW_EINVAL);
	q.header_count = 0;
	q.path = "/a b";
	assert_int_equal(tw_client_send(s.client, &q, NULL, NULL), TW_EINVAL);
	q.path = "x";
	assert_int_equal(tw_client_send(s.client, &q, NULL, NULL), TW_EINVAL);
	assert_int_equal(tw_client_open(s.client), 0);
	for (int i = 0; i < 4; i++)
		side_send(&s, "b", 1, LONG);
	q.path = "/x";
	assert_int_equal(tw_client_send(s.client, &q, NULL, NULL), TW_EFULL);
	tw_client_stop(s.client);
	assert_int_equal(tw_client_send(s.client, &q, NULL, NULL), TW_ECLOSED);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(side_wait(&s, i)->r.error, TW_ECLOSED);
		assert_false(side_wait(&s, i)->r.sent);
	}
	side_close(&s);
}

/* ---- BK-01 ---- */

static void BK_01_refuse_connection(void **state)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof at;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct side s;
	struct answer *a;

	(void)state;
	/* Bound, and not listening: refused for certain. */
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &n), 0);
	side_open(&s, TW_CLIENT_GRPC, "127.0.0.1", ntohs(at.sin_port), NULL);
	side_send(&s, "b", 1, LONG);
	side_send(&s, "b", 1, LONG);
	for (int i = 0; i < 2; i++) {
		a = side_wait(&s, i);
		assert_int_equal(a->r.error, TW_EIO);
		assert_false(a->r.sent);
		assert_false(a->r.timeout);
		assert_non_null(strstr(a->r.text, "connection refused"));
	}
	side_close(&s);
	close(fd);
}

/* ---- BK-02 ---- */

static void script_black_hole(struct peer *p)
{
	peer_accept(p);
	peer_until_end(p);
	close(p->fd);
	/* The next request must not go the same way. */
	p->fd = -1;
	script_ok(p);
}

static void BK_02_black_hole(void **state)
{
	struct peer_request got;
	struct peer p = {0};
	struct side s;
	struct answer *a;

	(void)state;
	peer_start(&p, script_black_hole, &got);
	side_open(&s, TW_CLIENT_GRPC, "127.0.0.1", p.port, NULL);
	a = side_wait(&s, side_send(&s, "b", 1, 50 * TW_NS_PER_MS));
	assert_int_equal(a->r.error, TW_EIO);
	assert_true(a->r.timeout);
	assert_true(a->r.sent);
	check_ok(side_wait(&s, side_send(&s, "b", 1, LONG)));
	side_close(&s);
	peer_join(&p);
	assert_int_equal(p.accepted, 2);
	free(got.body);
}

/* Accepts, and does not even read: the body must not be let go while the socket still wants it. */
static void script_never_reads(struct peer *p)
{
	char c;

	peer_accept(p);
	while (recv(p->fd, &c, 1, MSG_PEEK) > 0 && read(*(int *)p->ctx, &c, 1) < 0)
		;
}

static void BK_02_black_hole_unread(void **state)
{
	size_t n = 32u << 20;
	char *body = malloc(n);
	struct peer p = {0};
	struct side s;
	struct answer *a;
	int ends[2];

	(void)state;
	memset(body, 'x', n);
	assert_int_equal(pipe(ends), 0);
	peer_start(&p, script_never_reads, &ends[0]);
	side_open(&s, TW_CLIENT_HTTP, "127.0.0.1", p.port, NULL);
	a = side_wait(&s, side_send(&s, body, n, 100 * TW_NS_PER_MS));
	memset(body, 0, n); /* ours again; under ASan a late read would also show after this */
	free(body);
	assert_int_equal(a->r.error, TW_EIO);
	assert_true(a->r.timeout);
	side_close(&s);
	assert_int_equal(write(ends[1], "x", 1), 1);
	peer_join(&p);
	close(ends[0]);
	close(ends[1]);
}

/* ---- BK-05, BK-06: answers that are not OK ---- */

struct reply {
	struct peer_field head[8];
	size_t n;
	const char *body;
	struct peer_field tail[8];
	size_t tail_n;
};

static void script_reply(struct peer *p)
{
	const struct reply *y = p->ctx;
	struct peer_request *r;

	peer_accept(p);
	peer_h2_begin(p, 100, WINDOW);
	r = peer_h2_request(p);
	peer_h2_headers(p, r->stream, y->head, y->n, !y->body && !y->tail_n);
	if (y->body)
		peer_h2_data(p, r->stream, y->body, strlen(y->body), !y->tail_n);
	if (y->tail_n)
		peer_h2_headers(p, r->stream, y->tail, y->tail_n, true);
	peer_until_end(p);
}

/* The answer to one request; its copies live until side_close. */
static struct answer *reply_to(struct side *s, struct peer *p, peer_script script, void *ctx)
{
	memset(p, 0, sizeof *p);
	peer_start(p, script, ctx);
	side_open(s, TW_CLIENT_GRPC, "127.0.0.1", p->port, NULL);
	return side_wait(s, side_send(s, "b", 1, LONG));
}

static void over(struct side *s, struct peer *p)
{
	side_close(s);
	peer_join(p);
}

static void BK_05_http_statuses_map_to_codes(void **state)
{
	static const struct {
		const char *status;
		int code;
	} cases[] = {{"400", 13}, {"401", 16}, {"403", 7},  {"404", 12}, {"413", 2},  {"429", 14},
	             {"431", 13}, {"500", 2},  {"502", 14}, {"503", 14}, {"504", 14}, {"200", 2}};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct reply y = {.head = {{":status", cases[i].status}, {"retry-after", "7"}},
		                  .n = 2,
		                  .body = "<html>no</html>"};
		struct peer p;
		struct side s;
		struct answer *a = reply_to(&s, &p, script_reply, &y);

		assert_int_equal(a->r.error, 0);
		assert_int_equal(a->r.status, atoi(cases[i].status));
		assert_int_equal(a->r.grpc_status, cases[i].code);
		assert_int_equal(a->r.retry_after_ms, 7000);
		assert_non_null(strstr(a->r.grpc_message, cases[i].status));
		over(&s, &p);
	}
}

static void BK_06_details_bin(void **state)
{
	static const char *const values[] = {"CA4SCm92ZXJsb2FkZWQaMAoodHlwZS5nb29nbGVhcGlzLmNvbS9nb"
	                                     "29nbGUucnBjLlJldHJ5SW5mbxIECgIIBQ",
	                                     "CA4SCm92ZXJsb2FkZWQaMAoodHlwZS5nb29nbGVhcGlzLmNvbS9nb"
	                                     "29nbGUucnBjLlJldHJ5SW5mbxIECgIIBQ=="};
	static const uint8_t want[] = "\x08\x0e\x12\x0aoverloaded\x1a\x30\x0a\x28type.googleapis."
	                              "com/google.rpc.RetryInfo\x12\x04\x0a\x02\x08\x05";

	(void)state;
	for (int i = 0; i < 4; i++) {
		/* In trailers, and in headers alone. */
		struct peer_field f[] = {{":status", "200"},
		                         {"content-type", "application/grpc"},
		                         {"grpc-status", "14"},
		                         {"grpc-message", "over%20loaded%zz %C3%A9%"},
		                         {"grpc-status-details-bin", values[i % 2]}};
		struct reply y = {0};
		struct peer p;
		struct side s;
		struct answer *a;

		memcpy(y.head, f, sizeof f);
		y.n = i < 2 ? 5 : 2;
		memcpy(y.tail, f + 2, 3 * sizeof *f);
		y.tail_n = i < 2 ? 0 : 3;
		a = reply_to(&s, &p, script_reply, &y);
		assert_int_equal(a->r.error, 0);
		assert_int_equal(a->r.grpc_status, 14);
		assert_string_equal(a->r.grpc_message, "over loaded%zz \xc3\xa9%");
		assert_int_equal(a->r.details.n, sizeof want - 1);
		assert_memory_equal(a->r.details.p, want, sizeof want - 1);
		over(&s, &p);
	}
}

static void BK_06_details_that_are_no_base64(void **state)
{
	struct reply y = {
	    .head = {{":status", "200"}, {"grpc-status", "8"}, {"grpc-status-details-bin", "a*b!"}},
	    .n = 3};
	struct peer p;
	struct side s;
	struct answer *a = reply_to(&s, &p, script_reply, &y);

	(void)state;
	assert_int_equal(a->r.error, 0);
	assert_int_equal(a->r.grpc_status, 8);
	assert_int_equal(a->r.details.n, 0);
	over(&s, &p);
}

static void test_status_that_is_no_number(void **state)
{
	struct reply y = {.head = {{":status", "200"}, {"grpc-status", "99999999999"}}, .n = 2};
	struct peer p;
	struct side s;
	struct answer *a = reply_to(&s, &p, script_reply, &y);

	(void)state;
	assert_int_equal(a->r.grpc_status, 2);
	over(&s, &p);
}

/* ---- BK-08 ---- */

static void BK_08_garbage_body(void **state)
{
	static const char *const bodies[] = {"garbage", "\x01\x7f",
	                                     "\x01garbage that claims a length", "\xff"};

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct reply y = {.head = {{":status", "200"}, {"grpc-encoding", "gzip"}},
		                  .n = 2,
		                  .body = bodies[i],
		                  .tail = {{"grpc-status", "0"}},
		                  .tail_n = 1};
		struct peer p;
		struct side s;
		struct answer *a = reply_to(&s, &p, script_reply, &y);

		check_ok(a); /* taken is taken */
		assert_int_equal(a->r.body.n, 0);
		over(&s, &p);
	}
}

/* ---- BK-09 ---- */

static void script_oversized(struct peer *p)
{
	struct peer_field head[] = {{":status", "200"}, {"grpc-encoding", "gzip"}},
	                  tail[] = {{"grpc-status", "0"}};
	struct tw_slice *body = p->ctx;
	struct peer_request *r;

	peer_accept(p);
	peer_h2_begin(p, 100, WINDOW);
	r = peer_h2_request(p);
	peer_h2_headers(p, r->stream, head, 2, false);
	peer_h2_data(p, r->stream, body->p, body->n, false);
	if (nghttp2_session_get_stream_remote_window_size(p->h2, r->stream) >= 0)
		peer_h2_headers(p, r->stream, tail, 1, true);
	/* The connection must go on. */
	r->stream = 0;
	r = peer_h2_request(p);
	if (r)
		peer_grpc_answer(p, r->stream, "0", NULL, 0);
	peer_until_end(p);
}

static void oversized(struct tw_slice body)
{
	struct peer p;
	struct side s;
	struct answer *a = reply_to(&s, &p, script_oversized, &body);

	assert_int_equal(a->r.error, TW_ELIMIT);
	assert_true(a->r.sent);
	assert_non_null(strstr(a->r.text, "4 MiB"));
	check_ok(side_wait(&s, side_send(&s, "b", 1, LONG)));
	over(&s, &p);
	assert_int_equal(p.accepted, 1);
}

static void BK_09_oversized_response(void **state)
{
	size_t n = 5u << 20;
	uint8_t *body = calloc(1, n);

	(void)state;
	body[2] = (uint8_t)((n - 5) >> 16);
	oversized(tw_slice(body, n));
	free(body);
}

static void BK_09_bomb_response(void **state)
{
	size_t n = 5u << 20;
	uint8_t *zeros = calloc(1, n);
	struct tw_buf out, framed;
	uint8_t head[5];

	(void)state;
	tw_buf_init(&out, 0);
	tw_buf_init(&framed, 0);
	assert_int_equal(tw_deflate(TW_CODING_GZIP, tw_slice(zeros, n), &out), 0);
	head[0] = 1;
	head[1] = 0;
	head[2] = (uint8_t)(out.n >> 16);
	head[3] = (uint8_t)(out.n >> 8);
	head[4] = (uint8_t)out.n;
	tw_buf_put(&framed, head, 5);
	tw_buf_put(&framed, out.p, out.n);
	oversized(tw_buf_slice(&framed));
	tw_buf_deinit(&out);
	tw_buf_deinit(&framed);
	free(zeros);
}

static void BK_09_oversized_headers(void **state)
{
	static char large[9000];
	struct reply y = {
	    .head = {{":status", "200"}, {"x-a", large}, {"x-b", large}, {"grpc-status", "0"}},
	    .n = 4};
	struct peer p;
	struct side s;
	struct answer *a;

	(void)state;
	memset(large, 'x', sizeof large - 1);
	a = reply_to(&s, &p, script_reply, &y);
	assert_int_equal(a->r.error, TW_ELIMIT);
	assert_non_null(strstr(a->r.text, "headers"));
	over(&s, &p);
}

static void test_gzip_answer(void **state)
{
	struct reply y = {.head = {{":status", "200"}, {"grpc-encoding", "gzip"}},
	                  .n = 2,
	                  .tail = {{"grpc-status", "0"}},
	                  .tail_n = 1};
	struct tw_slice framed;
	struct tw_buf b;
	struct peer p;
	struct side s;
	struct answer *a;
	uint8_t head[5] = {1};

	(void)state;
	(void)y;
	tw_buf_init(&b, 0);
	tw_buf_put(&b, head, 5);
	assert_int_equal(tw_deflate(TW_CODING_GZIP, tw_slice("hello hello", 11), &b), 0);
	b.p[4] = (uint8_t)(b.n - 5);
	framed = tw_buf_slice(&b);
	a = reply_to(&s, &p, script_oversized, &framed);
	check_ok(a);
	assert_int_equal(a->r.body.n, 11);
	assert_memory_equal(a->r.body.p, "hello hello", 11);
	over(&s, &p);
	tw_buf_deinit(&b);
}

/* ---- BK-10 ---- */

/* Two requests arrive; goodbye with only the first inside of last-stream-id. The first is answered,
 * and the next request finds a new connection. */
static void script_goaway(struct peer *p)
{
	struct peer_request *first, *second;
	int32_t stream;

	peer_accept(p);
	peer_h2_begin(p, 100, WINDOW);
	first = peer_h2_request(p);
	second = peer_h2_request(p);
	stream = first->stream < second->stream ? first->stream : second->stream;
	nghttp2_submit_goaway(p->h2, 0, stream, NGHTTP2_NO_ERROR, NULL, 0);
	peer_h2_flush(p);
	peer_grpc_answer(p, stream, "0", NULL, 0);
	peer_until_end(p);
	peer_hang_up(p);
	script_ok(p);
}

static void BK_10_goaway_mid_request(void **state)
{
	struct peer_request got;
	struct peer p = {0};
	struct side s;
	struct answer *a;

	(void)state;
	peer_start(&p, script_goaway, &got);
	side_open(&s, TW_CLIENT_GRPC, "127.0.0.1", p.port, NULL);
	side_send(&s, "b", 1, LONG);
	side_send(&s, "b", 1, LONG);
	check_ok(side_wait(&s, 0));
	a = side_wait(&s, 1);
	assert_int_equal(a->r.error, TW_EIO);
	assert_false(a->r.sent); /* above last-stream-id: safe to send again */
	check_ok(side_wait(&s, side_send(&s, "b", 1, LONG)));
	over(&s, &p);
	assert_int_equal(p.accepted, 2);
	free(got.body);
}

/* Inside of last-stream-id, and then nothing: unknown. */
static void script_goaway_unknown(struct peer *p)
{
	peer_accept(p);
	peer_h2_begin(p, 100, WINDOW);
	peer_h2_request(p);
	nghttp2_submit_goaway(p->h2, 0, 2147483647, NGHTTP2_INTERNAL_ERROR, NULL, 0);
	peer_h2_flush(p);
}

static void BK_10_goaway_unknown(void **state)
{
	struct peer p;
	struct side s;
	struct answer *a = reply_to(&s, &p, script_goaway_unknown, NULL);

	(void)state;
	assert_int_equal(a->r.error, TW_EIO);
	assert_true(a->r.sent);
	over(&s, &p);
}

/* BK-16: closed between two requests, which costs nobody anything. */
static void script_flap(struct peer *p)
{
	struct peer_request *r;

	for (uint32_t i = 1; i <= 3; i++) {
		peer_accept(p);
		peer_h2_begin(p, 100, WINDOW);
		r = peer_h2_request(p);
		peer_grpc_answer(p, r->stream, "0", NULL, 0);
		nghttp2_session_terminate_session(p->h2, NGHTTP2_NO_ERROR);
		peer_h2_flush(p);
		shutdown(p->fd, SHUT_WR);
		p->stage = i;
		peer_until_end(p);
		peer_hang_up(p);
	}
}

static void BK_16_flapping(void **state)
{
	struct peer p = {0};
	struct side s;

	(void)state;
	peer_start(&p, script_flap, NULL);
	side_open(&s, TW_CLIENT_GRPC, "127.0.0.1", p.port, NULL);
	for (uint32_t i = 1; i <= 3; i++) {
		check_ok(side_wait(&s, side_send(&s, "b", 1, LONG)));
		side_until(&s, &p, i);
	}
	over(&s, &p);
	assert_int_equal(p.accepted, 3);
}

/* BK-12, the client's part: the answer is lost on its way. */
static void script_hang_up(struct peer *p)
{
	peer_accept(p);
	peer_h2_begin(p, 100, WINDOW);
	peer_h2_request(p);
}

static void BK_12_answer_lost(void **state)
{
	struct peer p;
	struct side s;
	struct answer *a = reply_to(&s, &p, script_hang_up, NULL);

	(void)state;
	assert_int_equal(a->r.error, TW_EIO);
	assert_true(a->r.sent);
	assert_false(a->r.timeout);
	assert_non_null(strstr(a->r.text, "lost the connection"));
	over(&s, &p);
}

/* ---- BK-11 ---- */

static void script_rst(struct peer *p)
{
	struct peer_request *r;

	peer_accept(p);
	peer_h2_begin(p, 100, WINDOW);
	r = peer_h2_request(p);
	nghttp2_submit_rst_stream(p->h2, 0, r->stream, *(uint32_t *)p->ctx);
	peer_h2_flush(p);
	r->stream = 0;
	r = peer_h2_request(p);
	peer_grpc_answer(p, r->stream, "0", NULL, 0);
	peer_until_end(p);
}

static void BK_11_rst_codes(void **state)
{
	static const struct {
		uint32_t code;
		int status; /* -1: an error, safe to send again */
	} cases[] = {{NGHTTP2_REFUSED_STREAM, -1}, {NGHTTP2_ENHANCE_YOUR_CALM, 8},
	             {NGHTTP2_CANCEL, 1},          {NGHTTP2_INADEQUATE_SECURITY, 7},
	             {NGHTTP2_INTERNAL_ERROR, 13}, {NGHTTP2_PROTOCOL_ERROR, 13},
	             {NGHTTP2_NO_ERROR, 2},        {77, 2}};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint32_t code = cases[i].code;
		struct peer p;
		struct side s;
		struct answer *a = reply_to(&s, &p, script_rst, &code);

		assert_int_equal(a->r.grpc_status, cases[i].status);
		assert_int_equal(a->r.error, cases[i].status < 0 ? TW_EIO : 0);
		assert_int_equal(a->r.sent, cases[i].status >= 0);
		check_ok(
		    side_wait(&s, side_send(&s, "b", 1, LONG))); /* the connection is unharmed */
		over(&s, &p);
		assert_int_equal(p.accepted, 1);
	}
}

/* Answers before the body came whole, without reading it: the answer counts. */
static void script_early(struct peer *p)
{
	struct peer_field f[] = {
	    {":status", "200"}, {"grpc-status", "8"}, {"grpc-message", "too large"}};

	peer_accept(p);
	p->manual_windows = true;
	peer_h2_begin(p, 100, WINDOW);
	while (p->streams[0].body_n == 0 && peer_h2_turn(p))
		;
	peer_h2_headers(p, p->streams[0].stream, f, 3, true);
	while (peer_h2_turn(p))
		;
}

static void test_answer_before_the_body_is_sent(void **state)
{
	size_t n = 1u << 20;
	char *body = calloc(1, n);
	struct peer p = {0};
	struct side s;
	struct answer *a;

	(void)state;
	peer_start(&p, script_early, NULL);
	side_open(&s, TW_CLIENT_GRPC, "127.0.0.1", p.port, NULL);
	a = side_wait(&s, side_send(&s, body, n, LONG));
	assert_int_equal(a->r.error, 0);
	assert_int_equal(a->r.grpc_status, 8);
	assert_string_equal(a->r.grpc_message, "too large");
	over(&s, &p);
	free(body);
}

/* ---- who answers is not HTTP/2 ---- */

static void script_not_http2(struct peer *p)
{
	peer_accept(p);
	peer_puts(p, p->ctx);
	peer_until_end(p);
}

static void test_not_http2(void **state)
{
	static const char *const words[] = {"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
	                                    "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"};

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct peer p;
		struct side s;
		struct answer *a = reply_to(&s, &p, script_not_http2, (void *)(uintptr_t)words[i]);

		assert_int_equal(a->r.error, TW_EIO);
		assert_non_null(strstr(a->r.text, "lost the connection"));
		over(&s, &p);
	}
}

/* ---- BK-13 ---- */

static void BK_13_dns_fails(void **state)
{
	struct side s;
	struct answer *a;

	(void)state;
	side_open(&s, TW_CLIENT_GRPC, "no-such-host.invalid", 4317, NULL);
	a = side_wait(&s, side_send(&s, "b", 1, LONG));
	assert_int_equal(a->r.error, TW_EIO);
	assert_false(a->r.sent);
	assert_non_null(strstr(a->r.text, "resolve"));
	side_close(&s);
}

/* localhost is ::1 before 127.0.0.1 on most machines, and only the second one listens. */
static void BK_13_second_address(void **state)
{
	struct peer_request got;
	struct peer p = {0};
	struct side s;

	(void)state;
	peer_start(&p, script_ok, &got);
	side_open(&s, TW_CLIENT_GRPC, "localhost", p.port, NULL);
	check_ok(side_wait(&s, side_send(&s, "b", 1, LONG)));
	over(&s, &p);
	free(got.body);
}

static void script_silent(struct peer *p)
{
	char c;

	peer_accept(p);
	peer_read(p, &c, 1);
	p->stage = 1;
	peer_until_end(p);
}

static void test_stopped_while_open(void **state)
{
	struct peer p = {0};
	struct side s;

	(void)state;
	peer_start(&p, script_silent, NULL);
	side_open(&s, TW_CLIENT_GRPC, "127.0.0.1", p.port, NULL);
	side_send(&s, "b", 1, LONG);
	side_until(&s, &p, 1);
	over(&s, &p);
	assert_int_equal(s.answers[0].r.error, TW_ECLOSED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_request_and_answer),
	    cmocka_unit_test(test_large_bodies_share_a_connection),
	    cmocka_unit_test(test_refuses_too_many_and_bad_requests),
	    cmocka_unit_test(BK_01_refuse_connection),
	    cmocka_unit_test(BK_02_black_hole),
	    cmocka_unit_test(BK_02_black_hole_unread),
	    cmocka_unit_test(BK_05_http_statuses_map_to_codes),
	    cmocka_unit_test(BK_06_details_bin),
	    cmocka_unit_test(BK_06_details_that_are_no_base64),
	    cmocka_unit_test(test_status_that_is_no_number),
	    cmocka_unit_test(BK_08_garbage_body),
	    cmocka_unit_test(BK_09_oversized_response),
	    cmocka_unit_test(BK_09_bomb_response),
	    cmocka_unit_test(BK_09_oversized_headers),
	    cmocka_unit_test(test_gzip_answer),
	    cmocka_unit_test(BK_10_goaway_mid_request),
	    cmocka_unit_test(BK_10_goaway_unknown),
	    cmocka_unit_test(BK_11_rst_codes),
	    cmocka_unit_test(BK_12_answer_lost),
	    cmocka_unit_test(BK_16_flapping),
	    cmocka_unit_test(test_answer_before_the_body_is_sent),
	    cmocka_unit_test(test_not_http2),
	    cmocka_unit_test(BK_13_dns_fails),
	    cmocka_unit_test(BK_13_second_address),
	    cmocka_unit_test(test_stopped_while_open),
	};

	return cmocka_run_group_tests_name("net_client_grpc", tests, NULL, NULL);
}
