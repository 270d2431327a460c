/* What the demo is made of: a shop whose requests are what they claim, and a small HTTP client. */
#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "http.h"
#include "shop.h"
#include "tw/base/error.h"
#include "tw/wire.h"

/* ---- the shop ---- */

#define TRACES 2000u

static void buffers_init(struct tw_buf b[TW_SHOP_SERVICES])
{
	for (uint32_t i = 0; i < TW_SHOP_SERVICES; i++)
		tw_buf_init(&b[i], 0);
}

static void buffers_deinit(struct tw_buf b[TW_SHOP_SERVICES])
{
	for (uint32_t i = 0; i < TW_SHOP_SERVICES; i++)
		tw_buf_deinit(&b[i]);
}

struct totals {
	uint32_t spans, roots, failed_roots, slow_roots;
};

static void add(struct totals *t, const struct tw_request *req)
{
	for (uint32_t i = 0; i < req->span_count; i++) {
		const struct tw_span *s = &req->spans[i];

		t->spans++;
		if (!(s->flags & TW_SPAN_ROOT))
			continue;
		t->roots++;
		t->failed_roots += s->status == TW_STATUS_ERROR;
		t->slow_roots += s->duration_ns > UINT64_C(2000000000);
	}
}

static void the_shop_is_what_it_says(void **state)
{
	struct tw_shop shop = {.seed = 42, .now_ns = UINT64_C(1750000000000000000)};
	struct tw_buf out[TW_SHOP_SERVICES], proto;
	struct tw_keytab *keys = tw_keytab_create();
	struct tw_scan_opts o = {.key = {1, 2}, .keys = keys, .spans_max = 100000};
	struct totals t = {0};
	struct tw_request req;
	struct tw_error err;

	(void)state;
	assert_int_equal(tw_keytab_seal(keys), 0);
	buffers_init(out);
	tw_buf_init(&proto, 0);
	tw_request_init(&req);
	tw_shop_requests(&shop, TRACES, out);
	for (uint32_t i = 0; i < TW_SHOP_SERVICES; i++) {
		tw_buf_clear(&proto);
		tw_request_reset(&req);
		if (tw_otlp_json_decode(tw_buf_slice(&out[i]), &proto, &err) != 0 ||
		    tw_otlp_scan(&o, tw_buf_slice(&proto), &req, &err) != 0)
			fail_msg("%s", err.text);
		assert_int_equal(tw_request_rejected(&req), 0);
		assert_int_equal(req.resource_count, 1);
		add(&t, &req);
	}
	assert_int_equal(shop.traces, TRACES);
	assert_int_equal(t.spans, TRACES * TW_SHOP_SPANS_A_TRACE);
	assert_int_equal(t.roots, TRACES);
	assert_int_equal(t.failed_roots, shop.errors);
	assert_int_equal(t.slow_roots, shop.slow);
	assert_true(shop.errors > 0 && shop.slow > 0);
	assert_true(shop.errors + shop.slow < TRACES / 10);
	tw_request_deinit(&req);
	tw_buf_deinit(&proto);
	buffers_deinit(out);
	tw_keytab_destroy(&keys);
}

static void the_same_shop_every_time(void **state)
{
	struct tw_shop a = {.seed = 42, .now_ns = 1000}, b = a, c = {.seed = 43, .now_ns = 1000};
	struct tw_buf x[TW_SHOP_SERVICES], y[TW_SHOP_SERVICES];

	(void)state;
	buffers_init(x);
	buffers_init(y);
	tw_shop_requests(&a, 50, x);
	tw_shop_requests(&b, 50, y);
	for (uint32_t i = 0; i < TW_SHOP_SERVICES; i++) {
		assert_int_equal(x[i].n, y[i].n);
		assert_memory_equal(x[i].p, y[i].p, x[i].n);
	}
	tw_shop_requests(&c, 50, y);
	assert_true(x[0].n != y[0].n || memcmp(x[0].p, y[0].p, x[0].n) != 0);
	buffers_deinit(x);
	buffers_deinit(y);
}

/* ---- the client ---- */

struct server { /* answers one connection */
	int fd;
	uint16_t port;
	pthread_t thread;
	const char *answer;
	size_t want; /* bytes of the request's body */
	char got[4096];
};

static void *serve(void *arg)
{
	struct server *s = arg;
	int fd = accept(s->fd, NULL, NULL);
	size_t n = 0;
	const char *end = NULL;

	while (end == NULL || (size_t)(s->got + n - (end + 4)) < s->want) {
		ssize_t r = read(fd, s->got + n, sizeof(s->got) - 1 - n);

		if (r <= 0)
			break;
		n += (size_t)r;
		end = strstr(s->got, "\r\n\r\n");
	}
	/* In two pieces, as a network may bring it. */
	n = strlen(s->answer);
	if (send(fd, s->answer, n / 2, MSG_NOSIGNAL) == (ssize_t)(n / 2))
		(void)!send(fd, s->answer + n / 2, n - n / 2, MSG_NOSIGNAL);
	close(fd);
	return NULL;
}

static void server_start(struct server *s, const char *answer, size_t want)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);

	memset(s, 0, sizeof(*s));
	s->answer = answer;
	s->want = want;
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(s->fd >= 0);
	assert_int_equal(bind(s->fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(s->fd, 1), 0);
	assert_int_equal(getsockname(s->fd, (struct sockaddr *)&a, &n), 0);
	s->port = ntohs(a.sin_port);
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_end(struct server *s)
{
	pthread_join(s->thread, NULL);
	close(s->fd);
}

static void assert_http(const char *answer, int status, const char *body)
{
	struct server s;
	struct tw_buf b;

	tw_buf_init(&b, 0);
	server_start(&s, answer, 0);
	assert_int_equal(tw_http_local(s.port, "/metrics", tw_slice(NULL, 0), &b), status);
	server_end(&s);
	assert_int_equal(strncmp(s.got, "GET /metrics HTTP/1.1\r\n", 23), 0);
	assert_int_equal(b.n, strlen(body));
	if (b.n != 0)
		assert_memory_equal(b.p, body, b.n);
	tw_buf_deinit(&b);
}

static void answers_are_read(void **state)
{
	(void)state;
	assert_http("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello");
	assert_http("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404, "");
	assert_http("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	            "5\r\nhello\r\nA\r\n, you all!\r\n0\r\n\r\n",
	            200, "hello, you all!");
	/* Cut off within a chunk: what was whole counts. */
	assert_http("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nFF\r\nx",
	            200, "hello");
}

static void answers_that_are_none(void **state)
{
	(void)state;
	assert_http("", -1, "");
	assert_http("HTTP/1.1 200 OK\r\n", -1, "");
	assert_http("SSH-2.0-OpenSSH\r\n\r\n", -1, "");
}

static void a_body_is_posted(void **state)
{
	struct server s;
	struct tw_buf b;

	(void)state;
	tw_buf_init(&b, 0);
	server_start(&s, "HTTP/1.1 503 Busy\r\n\r\n{}", 13);
	assert_int_equal(tw_http_local(s.port, "/v1/traces", tw_slice_str("{\"a\":\"hello\"}"), &b),
	                 503);
	server_end(&s);
	assert_int_equal(strncmp(s.got, "POST /v1/traces HTTP/1.1\r\n", 26), 0);
	assert_non_null(strstr(s.got, "\r\nContent-Type: application/json\r\n"));
	assert_non_null(strstr(s.got, "\r\nContent-Length: 13\r\n"));
	assert_non_null(strstr(s.got, "\r\n\r\n{\"a\":\"hello\"}"));
	assert_int_equal(b.n, 2);
	tw_buf_deinit(&b);
}

static void nobody_listens(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t n = sizeof(a);
	struct tw_buf b;

	(void)state;
	/* Bound, so that nobody else takes it, and not listening. */
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
	tw_buf_init(&b, 0);
	assert_int_equal(tw_http_local(ntohs(a.sin_port), "/", tw_slice(NULL, 0), &b), -1);
	assert_int_equal(b.n, 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_shop_is_what_it_says), cmocka_unit_test(the_same_shop_every_time),
	    cmocka_unit_test(answers_are_read),         cmocka_unit_test(answers_that_are_none),
	    cmocka_unit_test(a_body_is_posted),         cmocka_unit_test(nobody_listens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
