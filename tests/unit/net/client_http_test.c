/* The HTTP/1.1 client against backends that behave, and that do not. */
#include "client_peer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#define LONG (10 * TW_NS_PER_S)
#define OK   "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 2\r\n\r\nok"

static void check_ok(const struct answer *a)
{
	assert_string_equal(a->r.text, "");
	assert_int_equal(a->r.error, 0);
	assert_int_equal(a->r.status, 200);
	assert_int_equal(a->r.grpc_status, -1);
	assert_int_equal(a->r.body.n, 2);
	assert_memory_equal(a->r.body.p, "ok", 2);
}

static void over(struct side *s, struct peer *p)
{
	side_close(s);
	peer_join(p);
}

/* ---- an ordinary export, several on one connection ---- */

static void script_keep_alive(struct peer *p)
{
	struct peer_request r;

	peer_accept(p);
	peer_http_request(p, p->ctx);
	peer_puts(p, OK);
	for (int i = 0; i < 2; i++) {
		peer_http_request(p, &r);
		peer_puts(p, OK);
		peer_request_free(&r);
	}
	peer_until_end(p);
}

static void test_request_and_answer(void **state)
{
	struct tw_header h[] = {{"authorization", "Bearer secret"}, {"user-agent", "mine/1"}};
	struct tw_client_request q = {.path = "/v1/traces",
	                              .content_type = "application/x-protobuf",
	                              .content_encoding = "zstd",
	                              .headers = h,
	                              .header_count = 2,
	                              .body = tw_slice("body", 4),
	                              .timeout_ns = LONG};
	struct peer_request got;
	struct peer p = {0};
	struct side s;
	struct answer *a;

	(void)state;
	peer_start(&p, script_keep_alive, &got);
	side_open(&s, TW_CLIENT_HTTP, "127.0.0.1", p.port, NULL);
	a = side_wait(&s, side_send_request(&s, &q));
	check_ok(a);
	assert_true(a->r.sent);
	assert_int_equal(a->r.retry_after_ms, UINT64_MAX);
	check_ok(side_wait(&s, side_send(&s, "b", 1, LONG)));
	check_ok(side_wait(&s, side_send(&s, "", 0, LONG)));
	over(&s, &p);
	assert_int_equal(p.accepted, 1);
	assert_ptr_equal(strstr(got.head, "POST /v1/traces HTTP/1.1\r\nHost: 127.0.0.1:"),
	                 got.head);
	assert_true(peer_request_has(&got, "\r\nContent-Type: application/x-protobuf\r\n"));
	assert_true(peer_request_has(&got, "\r\nContent-Encoding: zstd\r\n"));
	assert_true(peer_request_has(&got, "\r\nContent-Length: 4\r\n"));
	assert_true(peer_request_has(&got, "\r\nAccept-Encoding: gzip\r\n"));
	assert_true(peer_request_has(&got, "\r\nauthorization: Bearer secret\r\n"));
	assert_true(peer_request_has(&got, "\r\nuser-agent: mine/1\r\n"));
	assert_false(peer_request_has(&got, "User-Agent"));
	assert_int_equal(got.body_n, 4);
	assert_memory_equal(got.body, "body", 4);
	peer_request_free(&got);
}

/* Three at once take three connections. The script answers none before all have connected. */
static void script_three(struct peer *p)
{
	struct peer_request r;
	int fds[3];

	for (int i = 0; i < 3; i++) {
		peer_accept(p);
		fds[i] = p->fd;
	}
	for (int i = 2; i >= 0; i--) {
		p->fd = fds[i];
		peer_http_request(p, &r);
		peer_puts(p, OK);
		peer_request_free(&r);
	}
	for (int i = 0; i < 3; i++) {
		p->fd = fds[i];
		peer_until_end(p);
		peer_hang_up(p);
	}
}

static void test_requests_at_once(void **state)
{
	struct peer p = {0};
	struct side s;

	(void)state;
	peer_start(&p, script_three, NULL);
	side_open(&s, TW_CLIENT_HTTP, "127.0.0.1", p.port, NULL);
	for (int i = 0; i < 3; i++)
		side_send(&s, "b", 1, LONG);
	for (int i = 0; i < 3; i++)
		check_ok(side_wait(&s, i));
	over(&s, &p);
	assert_int_equal(p.accepted, 3);
}

/* ---- one connection, one request, one answer as the test writes it ---- */

struct words {
	const char *text;
	size_t n;     /* 0: strlen */
	bool hang_up; /* the end of the connection ends the answer */
};

static void script_words(struct peer *p)
{
	const struct words *w = p->ctx;
	struct peer_request r;

	peer_accept(p);
	peer_http_request(p, &r);
	peer_request_free(&r);
	peer_write(p, w->text, w->n ? w->n : strlen(w->text));
	if (w->hang_up)
		shutdown(p->fd, SHUT_WR);
	peer_until_end(p);
}

static struct answer *reply_to(struct side *s, struct peer *p, const struct words *w)
{
	memset(p, 0, sizeof *p);
	peer_start(p, script_words, (void *)(uintptr_t)w);
	side_open(s, TW_CLIENT_HTTP, "127.0.0.1", p->port, NULL);
	return side_wait(s, side_send(s, "b", 1, LONG));
}

static void test_forms_of_an_answer(void **state)
{
	static const struct words forms[] = {
	    {OK, 0, false},
	    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: "
	     "chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\nX-T: 1\r\n\r\n",
	     0, false},
	    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", 0, false},
	    {"HTTP/1.1 200 OK\r\n\r\nok", 0, true},
	    {"HTTP/1.0 200 OK\r\n\r\nok", 0, true},
	    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" OK, 0,
	     false},
	    {OK "HTTP/1.1 500 Nobody asked\r\n\r\n", 0, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
		struct peer p;
		struct side s;

		check_ok(reply_to(&s, &p, &forms[i]));
		over(&s, &p);
	}
}

/* BK-04, BK-05, and redirects, which are not followed. */
static void BK_05_statuses(void **state)
{
	static const int statuses[] = {202, 204, 301, 307, 400, 401, 403,
	                               404, 413, 429, 500, 502, 503, 504};

	(void)state;
	for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
		char text[200];
		struct words w = {text, 0, false};
		struct peer p;
		struct side s;
		struct answer *a;

		snprintf(text, sizeof text,
		         "HTTP/1.1 %d Whatever\r\nLocation: http://127.0.0.1:1/\r\n%s", statuses[i],
		         statuses[i] == 204 ? "\r\n" : "Content-Length: 2\r\n\r\nno");
		a = reply_to(&s, &p, &w);
		assert_int_equal(a->r.error, 0);
		assert_int_equal(a->r.status, statuses[i]);
		assert_int_equal(a->r.grpc_status, -1);
		assert_int_equal(a->r.body.n, statuses[i] == 204 ? 0 : 2);
		over(&s, &p);
	}
}

static void BK_03_retry_after(void **state)
{
	static const struct {
		const char *value;
		uint64_t least, most;
	} cases[] = {
	    {"17", 17000, 17000},
	    {"31536000", UINT64_C(31536000000), UINT64_C(31536000000)},
	    {"-5", UINT64_MAX, UINT64_MAX},
	    {"tomorrow", UINT64_MAX, UINT64_MAX},
	    {"Sun, 06 Nov 1994 08:49:37 GMT", 0, 0},
	    {"Fri, 31 Dec 2199 23:59:59 GMT", UINT64_C(3000000000000), UINT64_C(7000000000000)}};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char text[200];
		struct words w = {text, 0, false};
		struct peer p;
		struct side s;
		struct answer *a;

		snprintf(text, sizeof text,
		         "HTTP/1.1 503 Busy\r\nRETRY-after: %s\r\nContent-Length: 0\r\n\r\n",
		         cases[i].value);
		a = reply_to(&s, &p, &w);
		assert_int_equal(a->r.status, 503);
		assert_true(a->r.retry_after_ms >= cases[i].least &&
		            a->r.retry_after_ms <= cases[i].most);
		over(&s, &p);
	}
}

static void test_broken_answers(void **state)
{
	static const struct words broken[] = {
	    {"", 0, true},
	    {"HTTP/1.1 200 OK\r\nContent-Le", 0, true},
	    {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", 0, true},
	    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", 0, true},
	    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 0, false},
	    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk", 0, false},
	    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok", 0,
	     false},
	    {"SSH-2.0-OpenSSH_9.2\r\n", 0, false},
	    {"\0\0\0", 3, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
		struct peer p;
		struct side s;
		struct answer *a = reply_to(&s, &p, &broken[i]);

		assert_int_equal(a->r.error, TW_EIO);
		assert_true(a->r.sent);
		assert_false(a->r.timeout);
		assert_true(a->r.text[0] != 0);
		over(&s, &p);
	}
}

static void BK_08_garbage_body(void **state)
{
	static const struct words w = {
	    "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 7\r\n\r\ngarbage", 0,
	    false};
	struct peer p;
	struct side s;
	struct answer *a = reply_to(&s, &p, &w);

	(void)state;
	assert_int_equal(a->r.error, 0);
	assert_int_equal(a->r.status, 200);
	assert_int_equal(a->r.body.n, 0);
	over(&s, &p);
}

/* ---- BK-09 ---- */

static void oversized(const char *head, struct tw_slice body, const char *says)
{
	struct tw_buf b;
	struct words w = {0};
	struct peer p;
	struct side s;
	struct answer *a;

	tw_buf_init(&b, 0);
	tw_buf_puts(&b, head);
	tw_buf_put(&b, body.p, body.n);
	w.text = (const char *)b.p;
	w.n = b.n;
	a = reply_to(&s, &p, &w);
	assert_int_equal(a->r.error, TW_ELIMIT);
	assert_non_null(strstr(a->r.text, says));
	over(&s, &p);
	tw_buf_deinit(&b);
}

static void BK_09_oversized_response(void **state)
{
	size_t n = 5u << 20;
	uint8_t *zeros = calloc(1, n);
	char head[200];
	struct tw_buf out;

	(void)state;
	oversized("HTTP/1.1 200 OK\r\nContent-Length: 5242880\r\n\r\n", tw_slice(zeros, 100),
	          "4 MiB");
	oversized("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", tw_slice(zeros, n), "4 MiB");
	oversized("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
	          tw_slice(zeros, 100), "4 MiB");
	tw_buf_init(&out, 0);
	assert_int_equal(tw_deflate(TW_CODING_GZIP, tw_slice(zeros, n), &out), 0);
	snprintf(head, sizeof head,
	         "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %zu\r\n\r\n", out.n);
	oversized(head, tw_buf_slice(&out), "4 MiB");
	tw_buf_deinit(&out);
	memset(zeros, 'x', n);
	oversized("HTTP/1.1 200 OK\r\nX-A: ", tw_slice(zeros, 20000), "headers");
	oversized("HTTP/1.1 200 ", tw_slice(zeros, 20000), "headers");
	for (size_t i = 0; i < 600; i += 6)
		memcpy(zeros + i, "a: b\r\n", 6);
	oversized("HTTP/1.1 200 OK\r\nX: y\r\n", tw_slice(zeros, 606), "headers");
	free(zeros);
}

static void test_gzip_answer(void **state)
{
	struct words w = {0};
	struct tw_buf z, b;
	struct peer p;
	struct side s;

	(void)state;
	tw_buf_init(&z, 0);
	tw_buf_init(&b, 0);
	assert_int_equal(tw_deflate(TW_CODING_GZIP, tw_slice("ok", 2), &z), 0);
	tw_buf_printf(
	    &b, "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\nContent-Length: %zu\r\n\r\n", z.n);
	tw_buf_put(&b, z.p, z.n);
	w.text = (const char *)b.p;
	w.n = b.n;
	check_ok(reply_to(&s, &p, &w));
	over(&s, &p);
	tw_buf_deinit(&z);
	tw_buf_deinit(&b);
}

/* ---- keep-alive connections that the backend closes ---- */

static void serve(struct peer *p)
{
	struct peer_request r;

	peer_accept(p);
	peer_http_request(p, &r);
	peer_request_free(&r);
	peer_puts(p, OK);
}

static void script_close_idle(struct peer *p)
{
	serve(p);
	shutdown(p->fd, SHUT_WR);
	p->stage = 1;
	peer_until_end(p);
	peer_hang_up(p);
	serve(p);
	peer_until_end(p);
}

static void test_closed_while_idle(void **state)
{
	struct peer p = {0};
	struct side s;

	(void)state;
	peer_start(&p, script_close_idle, NULL);
	side_open(&s, TW_CLIENT_HTTP, "127.0.0.1", p.port, NULL);
	check_ok(side_wait(&s, side_send(&s, "b", 1, LONG)));
	side_until(&s, &p, 1);
	check_ok(side_wait(&s, side_send(&s, "b", 1, LONG)));
	over(&s, &p);
	assert_int_equal(p.accepted, 2);
}

/* Goes away in the middle of the second request's body: half a request was not acted on, so a fresh
 * connection takes it. */
static void script_close_in_body(struct peer *p)
{
	struct linger now = {.l_onoff = 1};
	struct peer_request r;
	char b[4096];

	serve(p);
	peer_read(p, b, sizeof b);
	setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	peer_hang_up(p);
	peer_accept(p);
	peer_http_request(p, &r);
	*(size_t *)p->ctx = r.body_n;
	peer_request_free(&r);
	peer_puts(p, OK);
	peer_until_end(p);
}

static void test_closed_in_the_body(void **state)
{
	size_t n = 32u << 20, got = 0;
	char *body = calloc(1, n);
	struct peer p = {0};
	struct side s;

	(void)state;
	peer_start(&p, script_close_in_body, &got);
	side_open(&s, TW_CLIENT_HTTP, "127.0.0.1", p.port, NULL);
	check_ok(side_wait(&s, side_send(&s, "b", 1, LONG)));
	check_ok(side_wait(&s, side_send(&s, body, n, LONG)));
	over(&s, &p);
	assert_int_equal(got, n);
	assert_int_equal(p.accepted, 2);
	free(body);
}

/* The whole request went out, and no answer came: it may have been taken. The caller must decide.
 */
static void script_close_after_request(struct peer *p)
{
	struct peer_request r;

	serve(p);
	peer_http_request(p, &r);
	peer_request_free(&r);
}

static void BK_12_answer_lost(void **state)
{
	struct peer p = {0};
	struct side s;
	struct answer *a;

	(void)state;
	peer_start(&p, script_close_after_request, NULL);
	side_open(&s, TW_CLIENT_HTTP, "127.0.0.1", p.port, NULL);
	check_ok(side_wait(&s, side_send(&s, "b", 1, LONG)));
	a = side_wait(&s, side_send(&s, "b", 1, LONG));
	assert_int_equal(a->r.error, TW_EIO);
	assert_true(a->r.sent);
	over(&s, &p);
	assert_int_equal(p.accepted, 1);
}

/* ---- BK-01, BK-02, BK-13 ---- */

static void BK_01_refuse_connection(void **state)
{
	struct side s;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof at;

	(void)state;
	/* Bound, and not listening: refused for certain. */
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &n), 0);
	side_open(&s, TW_CLIENT_HTTP, "127.0.0.1", ntohs(at.sin_port), NULL);
	for (int i = 0; i < 3; i++)
		side_send(&s, "b", 1, LONG);
	for (int i = 0; i < 3; i++) {
		struct answer *a = side_wait(&s, i);

		assert_int_equal(a->r.error, TW_EIO);
		assert_false(a->r.sent);
		assert_non_null(strstr(a->r.text, "connection refused"));
	}
	side_close(&s);
	close(fd);
}

static void script_silent(struct peer *p)
{
	peer_accept(p);
	peer_until_end(p);
	peer_hang_up(p);
	serve(p);
	peer_until_end(p);
}

static void BK_02_black_hole(void **state)
{
	struct peer p = {0};
	struct side s;
	struct answer *a;

	(void)state;
	peer_start(&p, script_silent, NULL);
	side_open(&s, TW_CLIENT_HTTP, "127.0.0.1", p.port, NULL);
	a = side_wait(&s, side_send(&s, "b", 1, 50 * TW_NS_PER_MS));
	assert_int_equal(a->r.error, TW_EIO);
	assert_true(a->r.timeout);
	assert_true(a->r.sent);
	check_ok(side_wait(&s, side_send(&s, "b", 1, LONG)));
	over(&s, &p);
}

/* A listener whose queue is full swallows the connection's first packet. */
static void BK_02_connect_times_out(void **state)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0), filler[3];
	socklen_t n = sizeof at;
	struct side s;
	struct answer *a;

	(void)state;
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
	assert_int_equal(listen(fd, 0), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &n), 0);
	for (int i = 0; i < 3; i++) {
		filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		connect(filler[i], (struct sockaddr *)&at, sizeof at);
	}
	side_open(&s, TW_CLIENT_HTTP, "127.0.0.1", ntohs(at.sin_port), NULL);
	a = side_wait(&s, side_send(&s, "b", 1, 50 * TW_NS_PER_MS));
	assert_int_equal(a->r.error, TW_EIO);
	assert_true(a->r.timeout);
	assert_false(a->r.sent);
	side_close(&s);
	for (int i = 0; i < 3; i++)
		close(filler[i]);
	close(fd);
}

static void BK_13_dns_fails(void **state)
{
	struct side s;

	(void)state;
	side_open(&s, TW_CLIENT_HTTP, "no-such-host.invalid", 4318, NULL);
	side_send(&s, "b", 1, LONG);
	side_send(&s, "b", 1, LONG);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(side_wait(&s, i)->r.error, TW_EIO);
		assert_non_null(strstr(side_wait(&s, i)->r.text, "resolve"));
	}
	side_close(&s);
}

/* Stopping while a name is being resolved waits for the resolver, and gives each callback once. */
static void test_stopped_while_resolving(void **state)
{
	struct side s;

	(void)state;
	side_open(&s, TW_CLIENT_HTTP, "no-such-host.invalid", 4318, NULL);
	side_send(&s, "b", 1, LONG);
	uv_run(&s.loop, UV_RUN_NOWAIT);
	side_close(&s);
	assert_true(s.answers[0].r.error == TW_ECLOSED || s.answers[0].r.error == TW_EIO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_request_and_answer),
	    cmocka_unit_test(test_requests_at_once),
	    cmocka_unit_test(test_forms_of_an_answer),
	    cmocka_unit_test(BK_05_statuses),
	    cmocka_unit_test(BK_03_retry_after),
	    cmocka_unit_test(test_broken_answers),
	    cmocka_unit_test(BK_08_garbage_body),
	    cmocka_unit_test(BK_09_oversized_response),
	    cmocka_unit_test(test_gzip_answer),
	    cmocka_unit_test(test_closed_while_idle),
	    cmocka_unit_test(test_closed_in_the_body),
	    cmocka_unit_test(BK_12_answer_lost),
	    cmocka_unit_test(BK_01_refuse_connection),
	    cmocka_unit_test(BK_02_black_hole),
	    cmocka_unit_test(BK_02_connect_times_out),
	    cmocka_unit_test(BK_13_dns_fails),
	    cmocka_unit_test(test_stopped_while_resolving),
	};

	return cmocka_run_group_tests_name("net_client_http", tests, NULL, NULL);
}
