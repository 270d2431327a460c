/* HTTP/1.1: what is served, what is refused, and what ends the connection. */
#include "server_peer.h"

#include <stdlib.h>

#define POST "POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"

/* Sends all in one piece, waits for an answer, returns its status. */
static int ask(struct peer *p, const char *text)
{
	p->in_n = 0;
	peer_sends(p, text);
	peer_until(p, peer_has(p, "\r\n\r\n") || p->closed);
	return p->in_n > 12 ? atoi((const char *)p->in + 9) : 0;
}

static void serves_a_post(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b);

	(void)state;
	b->answer = tw_slice_str("{}");
	assert_int_equal(ask(p, "POST /v1/traces?a=b HTTP/1.1\r\nHost: x\r\nContent-Type:  "
	                        "Application/JSON ; charset=utf-8\r\n"
	                        "Authorization: Bearer abc\r\nAccept-Encoding: br, "
	                        "gzip;q=0.5\r\nContent-Length: 5\r\n\r\nhello"),
	                 200);
	assert_true(peer_has(p, "content-type: text/plain\r\ncontent-length: 2\r\n\r\n{}"));
	assert_true(peer_has(p, "date: Tue, 14 Nov 2023 22:13:20 GMT\r\n"));
	assert_string_equal(b->seen[0].method, "POST");
	assert_string_equal(b->seen[0].path, "/v1/traces");
	assert_string_equal(b->seen[0].query, "a=b");
	assert_string_equal(b->seen[0].content_type, "application/json");
	assert_string_equal(b->seen[0].authorization, "Bearer abc");
	assert_true(b->seen[0].accept_gzip);
	assert_int_equal(b->seen[0].protocol, TW_PROTO_HTTP1);
	assert_int_equal(b->seen[0].body_n, 5);
	assert_memory_equal(b->seen[0].body, "hello", 5);
	/* The connection is kept, and HEAD has no body. */
	assert_int_equal(ask(p, "HEAD / HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip;q=0\r\n\r\n"),
	                 200);
	assert_true(peer_has(p, "content-length: 2\r\n\r\n"));
	assert_false(peer_has(p, "{}"));
	assert_false(b->seen[1].accept_gzip);
	peer_free(p);
	bench_free(b);
}

/* The same request in two pieces, cut at every byte, and in pieces of one byte. */
static void cut_anywhere(void **state)
{
	static const char text[] =
	    POST "Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: 1\r\n\r\n";
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b);
	uint64_t want = 0;

	(void)state;
	for (size_t cut = 0; cut <= sizeof(text) - 1; cut++) {
		peer_send(p, text, cut);
		peer_pump(p);
		peer_send(p, text + cut, sizeof(text) - 1 - cut);
		want++;
		peer_until(p, b->whole == want);
		assert_int_equal(b->seen[(want - 1) % SEEN_MAX].body_n, 5);
	}
	for (size_t i = 0; i < sizeof(text) - 1; i++) {
		peer_send(p, text + i, 1);
		peer_pump(p);
	}
	peer_until(p, b->whole == want + 1 && peer_count(p, "HTTP/1.1 200 OK") == want + 1);
	peer_free(p);
	bench_free(b);
}

static void http_1_0_and_close(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p;

	(void)state;
	p = peer_open(b);
	assert_int_equal(ask(p, "GET / HTTP/1.0\r\n\r\n"), 200);
	assert_true(peer_has(p, "connection: close\r\n"));
	peer_until(p, p->closed);
	peer_free(p);
	p = peer_open(b);
	assert_int_equal(ask(p, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), 200);
	assert_true(peer_has(p, "connection: keep-alive\r\n"));
	assert_int_equal(ask(p, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), 200);
	assert_true(peer_has(p, "connection: close\r\n"));
	peer_until(p, p->closed);
	peer_free(p);
	/* A peer that shuts its side still gets its answer. */
	p = peer_open(b);
	b->hold = true;
	peer_sends(p, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
	peer_shut(p);
	peer_until(p, b->held_n == 1);
	bench_release(b);
	peer_until(p, p->closed);
	assert_true(peer_has(p, "HTTP/1.1 200 OK"));
	peer_free(p);
	bench_free(b);
}

static void H1_03_te_cl_smuggling(void **state)
{
	static const char *shapes[] = {
	    POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil "
	         "HTTP/1.1\r\nHost: x\r\n\r\n",
	    POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET /evil "
	         "HTTP/1.1\r\nHost: x\r\n\r\n",
	    POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhelloGET /evil HTTP/1.1\r\nHost: "
	         "x\r\n\r\n",
	    POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhelloGET /evil HTTP/1.1\r\nHost: "
	         "x\r\n\r\n",
	    POST "Content-Length: 5, 5\r\n\r\nhelloGET /evil HTTP/1.1\r\nHost: x\r\n\r\n",
	    POST "Content-Length: +5\r\n\r\nhelloGET /evil HTTP/1.1\r\nHost: x\r\n\r\n",
	    POST "Content-Length: -5\r\n\r\nhelloGET /evil HTTP/1.1\r\nHost: x\r\n\r\n",
	    POST "Content-Length: 0x5\r\n\r\nhelloGET /evil HTTP/1.1\r\nHost: x\r\n\r\n",
	    POST "Content-Length: 18446744073709551621\r\n\r\nhelloGET /evil HTTP/1.1\r\nHost: "
	         "x\r\n\r\n",
	    POST "Content-Length : 5\r\n\r\nhelloGET /evil HTTP/1.1\r\nHost: x\r\n\r\n",
	    POST
	    "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: x\r\n\r\n",
	    POST
	    "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: x\r\n\r\n",
	    POST "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: "
	         "x\r\n\r\n",
	    POST "Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhelloGET /evil "
	         "HTTP/1.1\r\nHost: x\r\n\r\n",
	    POST "Transfer-Encoding:\x0b"
	         "chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: x\r\n\r\n",
	    POST "X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: "
	         "x\r\n\r\n",
	    POST "X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: "
	         "x\r\n\r\n",
	    POST "Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\nGET /evil "
	         "HTTP/1.1\r\nHost: x\r\n\r\n",
	    POST "Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\nGET /evil "
	         "HTTP/1.1\r\nHost: x\r\n\r\n",
	    POST "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: "
	         "x\r\n\r\n",
	    POST "Transfer-Encoding: chunked\r\n\r\n3\r\nabcde\r\n0\r\n\r\nGET /evil "
	         "HTTP/1.1\r\nHost: x\r\n\r\n",
	    "POST /v1/traces HTTP/1.1\r\nHost: x\r\nHost: y\r\nContent-Length: 0\r\n\r\nGET /evil "
	    "HTTP/1.1\r\nHost: x\r\n\r\n",
	    "POST /v1/traces HTTP/1.1\r\nContent-Length: 0\r\n\r\nGET /evil HTTP/1.1\r\nHost: "
	    "x\r\n\r\n",
	    "POST /v1/traces HTTP/1.1\r\nHost: x\r\nX\0Y: 1\r\n\r\n",
	};
	struct bench *b = bench_new(NULL);

	(void)state;
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		struct peer *p = peer_open(b);

		peer_sends(p, shapes[i]);
		/* The last one is cut at its NUL: nothing more comes. */
		if (i + 1 == sizeof(shapes) / sizeof(shapes[0]))
			peer_send(p, "\0Y: 1\r\n\r\n", 9);
		for (int k = 0; k < 100000 && !p->closed; k++)
			peer_pump(p);
		if (!p->closed || !peer_has(p, "HTTP/1.1 400 ") || peer_count(p, "HTTP/1.1 ") != 1)
			fail_msg("shape %zu: %.*s", i, (int)p->in_n, p->in);
		peer_free(p);
	}
	assert_int_equal(b->whole, 0);
	/* A folded line belongs to the value before it (RFC 9112, 5.2): here there is no body, and
	 * what follows is no request. */
	struct peer *p = peer_open(b);

	peer_sends(p, POST "X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil "
	                   "HTTP/1.1\r\nHost: x\r\n\r\n");
	peer_until(p, p->closed);
	assert_int_equal(b->whole, 1);
	assert_string_equal(b->seen[0].path, "/v1/traces");
	assert_true(peer_has(p, "HTTP/1.1 400 "));
	peer_free(p);
	bench_free(b);
}

static char *repeat(const char *head, const char *piece, size_t times, const char *tail)
{
	size_t h = strlen(head), n = strlen(piece), t = strlen(tail);
	char *s = malloc(h + n * times + t + 1), *at = s + h;

	memcpy(s, head, h);
	for (size_t i = 0; i < times; i++, at += n)
		memcpy(at, piece, n);
	memcpy(at, tail, t + 1);
	return s;
}

static void expect_refusal(struct bench *b, char *text, int status)
{
	struct peer *p = peer_open(b);

	peer_sends(p, text);
	peer_until(p, p->closed);
	assert_true(p->in_n > 12);
	assert_int_equal(atoi((const char *)p->in + 9), status);
	assert_int_equal(tw_budget_used(&b->bodies), 0);
	peer_free(p);
	free(text);
}

/* Bodies that are given away, and one that cannot be taken over, behind one another. */
static void takes_a_body_over(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b);
	char *text = repeat("<", "0123456789", 20000, ">");

	(void)state;
	b->owned = true;
	b->answer = tw_slice_str(text);
	for (uint64_t i = 1; i <= 4; i++) {
		b->tight = i == 3;
		peer_sends(p, POST "Content-Length: 0\r\n\r\n");
		peer_until(p, peer_count(p, ">") == i);
	}
	assert_int_equal(peer_count(p, "content-length: 200002\r\n\r\n<0123456789"), 4);
	assert_int_equal(peer_count(p, "0123456789"), 4 * 20000);
	assert_int_equal(peer_count(p, "0123456789>"), 4);
	b->answer = tw_slice_str("small");
	peer_sends(p, POST "Content-Length: 0\r\n\r\n" POST "Content-Length: 0\r\n\r\n");
	peer_until(p, peer_count(p, "\r\n\r\nsmall") == 2);
	free(text);
	peer_free(p);
	bench_free(b);
}

static void H1_04_chunks(void **state)
{
	struct bench *b = bench_new(NULL);
	const char *chunked = POST "Transfer-Encoding: chunked\r\n\r\n";

	(void)state;
	expect_refusal(b, repeat(chunked, "f", 17, "\r\nabc"), 400);
	expect_refusal(b, repeat(chunked, "", 0, "zz\r\nabc"), 400);
	expect_refusal(b, repeat(chunked, "", 0, "-1\r\nabc"), 400);
	expect_refusal(b, repeat(chunked, "1;x=0123456789abcdef\r\na\r\n", 1000, ""), 400);
	expect_refusal(b,
	               repeat(POST "Transfer-Encoding: chunked\r\n\r\n1;x=", "y", 1 << 20,
	                      "\r\na\r\n0\r\n\r\n"),
	               400);
	/* A chunk whose size is a claim only. */
	expect_refusal(b, repeat(chunked, "a", 4096 + 1, ""), 400);
	/* Trailers are bounded like the head: in count and in size. */
	expect_refusal(
	    b, repeat(POST "Transfer-Encoding: chunked\r\n\r\n0\r\n", "X: y\r\n", 20000, "\r\n"),
	    400);
	assert_int_equal(b->whole, 0);
	bench_free(b);
}

static void H1_05_pipelining_10000(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b);
	char *text = repeat("", POST "Content-Length: 3\r\n\r\nabc", 10000, "");

	(void)state;
	b->answer = tw_slice_str("ok");
	peer_sends(p, text);
	peer_until(p, peer_count(p, "HTTP/1.1 200 OK") == 10000);
	assert_int_equal(b->whole, 10000);
	assert_false(p->closed);
	free(text);
	peer_free(p);
	bench_free(b);
}

/* One at a time, in order, however many are sent: while one is out with the handler no other
 * begins. */
static void H1_05_pipelining_waits(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b);
	char *text = repeat("", POST "Content-Length: 3\r\n\r\nabc", 50, "");

	(void)state;
	b->hold = true;
	peer_sends(p, text);
	for (unsigned i = 1; i <= 50; i++) {
		peer_until(p, b->seen_n == i);
		for (int k = 0; k < 5; k++)
			peer_pump(p);
		assert_int_equal(b->seen_n, i);
		assert_int_equal(peer_count(p, "HTTP/1.1 200 OK"), i - 1);
		bench_release(b);
	}
	peer_until(p, peer_count(p, "HTTP/1.1 200 OK") == 50);
	free(text);
	peer_free(p);
	bench_free(b);
}

/* A peer that asks and asks and never reads: what waits for it is bounded. */
static void H1_05_pipelining_unread(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b);
	char *answer = repeat("", "x", 10000, ""),
	     *text = repeat("", POST "Content-Length: 0\r\n\r\n", 5000, "");
	uint64_t before;

	(void)state;
	b->answer = tw_slice_str(answer);
	p->reads = false;
	peer_sends(p, text);
	do {
		before = b->whole;
		for (int i = 0; i < 200; i++)
			peer_pump(p);
	} while (b->whole != before);
	/* 50 MB of answers are asked for; sockets hold a few, the server next to nothing. */
	assert_true(b->whole < 5000);
	p->reads = true;
	peer_until(p, b->whole == 5000 && peer_count(p, "HTTP/1.1 200 OK") == 5000);
	free(answer);
	free(text);
	peer_free(p);
	bench_free(b);
}

static void H1_06_expect_continue(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b);

	(void)state;
	peer_sends(p, POST "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
	peer_until(p, peer_has(p, "HTTP/1.1 100 Continue\r\n\r\n"));
	assert_int_equal(b->seen_n, 0);
	peer_sends(p, "abc");
	peer_until(p, peer_has(p, "HTTP/1.1 200 OK"));
	assert_int_equal(ask(p, POST "Expect: tea\r\nContent-Length: 3\r\n\r\nabc"), 417);
	assert_int_equal(ask(p, POST "Expect: 100-continue\r\nContent-Length: 0\r\n\r\n"), 200);
	/* A final answer instead of 100: whether the body comes now nobody knows. */
	b->head_status = 404;
	assert_int_equal(ask(p, POST "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"), 404);
	assert_true(peer_has(p, "connection: close\r\n"));
	assert_false(peer_has(p, "100 Continue"));
	peer_until(p, p->closed);
	peer_free(p);
	bench_free(b);
}

static void H1_07_header_limits(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b);
	char *fits = repeat(POST, "X: y\r\n", 90, "Content-Length: 0\r\n\r\n");

	(void)state;
	assert_int_equal(ask(p, fits), 200);
	expect_refusal(b, repeat(POST, "X: y\r\n", 101, "\r\n"), 431);
	expect_refusal(b, repeat(POST "X: ", "y", 17000, "\r\n\r\n"), 431);
	expect_refusal(b, repeat(POST "X: ", "y", 4 << 20, "\r\n\r\n"), 431);
	expect_refusal(b, repeat(POST, "x", 40000, ": y\r\n\r\n"), 431);
	expect_refusal(
	    b, repeat("GET /", "p", 300, " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), 414);
	expect_refusal(b, repeat("GET /", "p", 100000, " HTTP/1.1\r\nHost: x\r\n\r\n"), 414);
	expect_refusal(
	    b, repeat("GET /?", "q", 300, " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
	    414);
	assert_int_equal(b->whole, 1);
	free(fits);
	peer_free(p);
	bench_free(b);
}

static void garbage_is_answered_or_closed(void **state)
{
	static const char *closes[] = {"INVALID CONNECTION PREFACE\r\n\r\n", "\x16\x03\x01\x02",
	                               "PRI * HTTP/2.0\r\n\r\nXX", "PRX / HTTP/1.1\r\n\r\n",
	                               "}}}}"};
	static const char *refused[] = {"GET / HTTP/1.1\r\nHost x\r\n\r\n",
	                                "GET / HTTP/9.9\r\nHost: x\r\n\r\n",
	                                "GET / FTP/1.1\r\n\r\n"};
	struct bench *b = bench_new(NULL);

	(void)state;
	for (size_t i = 0; i < sizeof(closes) / sizeof(closes[0]); i++) {
		struct peer *p = peer_open(b);

		peer_sends(p, closes[i]);
		peer_until(p, p->closed);
		peer_free(p);
	}
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		struct peer *p = peer_open(b);

		assert_in_range(ask(p, refused[i]), 400, 505);
		peer_until(p, p->closed);
		peer_free(p);
	}
	assert_int_equal(b->seen_n, 0);
	assert_true(tw_counter_get(&tw_server_stats(b->server)->protocol_errors) >= 5);
	bench_free(b);
}

/* H2-14: an upgrade to h2c is an offer that is not taken. */
static void H2_14_upgrade_is_ignored(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b);

	(void)state;
	assert_int_equal(ask(p, "POST /v1/traces HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, "
	                        "HTTP2-Settings\r\nUpgrade: h2c\r\n"
	                        "HTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 3\r\n\r\nabc"),
	                 200);
	assert_int_equal(b->seen[0].body_n, 3);
	assert_int_equal(ask(p, POST "Content-Length: 0\r\n\r\n"), 200);
	peer_free(p);
	bench_free(b);
}

static void one_mib(struct tw_server_opts *o)
{
	o->body_bytes_max = 1 << 20;
}

static void too_large_is_refused_early(void **state)
{
	struct bench *b = bench_new(one_mib);
	struct peer *p = peer_open(b);
	char *chunks;

	(void)state;
	assert_int_equal(ask(p, POST "Content-Length: 1048577\r\n\r\n"), 413);
	assert_int_equal(b->seen[0].early, TW_ELIMIT);
	assert_true(peer_has(p, "connection: close\r\n"));
	peer_until(p, p->closed);
	peer_free(p);
	chunks = repeat(POST "Transfer-Encoding: chunked\r\n\r\n", "10\r\n0123456789abcdef\r\n",
	                70000, "0\r\n\r\n");
	expect_refusal(b, chunks, 413);
	p = peer_open(b);
	/* Refused, but short: the connection is kept. */
	b->head_status = 415;
	assert_int_equal(ask(p, POST "Content-Length: 3\r\n\r\nabc"), 415);
	b->head_status = 0;
	assert_int_equal(ask(p, POST "Content-Length: 3\r\n\r\nabc"), 200);
	peer_free(p);
	bench_free(b);
}

static void tiny_budget(struct tw_server_opts *o)
{
	o->bodies->max = 1000;
}

static void full_budget_is_retryable(void **state)
{
	struct bench *b = bench_new(tiny_budget);
	struct peer *p = peer_open(b);
	char *text = repeat(POST "Content-Length: 2000\r\n\r\n", "x", 2000, "");

	(void)state;
	assert_int_equal(ask(p, text), 503);
	assert_true(peer_has(p, "retry-after: 7\r\n"));
	assert_int_equal(b->seen[0].early, TW_EFULL);
	assert_int_equal(ask(p, POST "Content-Length: 3\r\n\r\nabc"), 200);
	free(text);
	peer_free(p);
	bench_free(b);
}

static void broken_off_mid_body(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b), *q = peer_open(b);

	(void)state;
	peer_sends(p, POST "Content-Length: 10\r\n\r\nabc");
	peer_until(p, b->heads == 1);
	peer_shut(p);
	peer_until(p, b->closed == 1 && p->closed);
	/* A chunk that turns out broken: the handler has heard of the request, and answers. */
	assert_int_equal(ask(q, POST "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n"), 400);
	assert_int_equal(b->seen[1].early, TW_EINVAL);
	peer_until(q, q->closed);
	assert_int_equal(tw_budget_used(&b->bodies), 0);
	peer_free(p);
	peer_free(q);
	bench_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(serves_a_post),
	    cmocka_unit_test(takes_a_body_over),
	    cmocka_unit_test(cut_anywhere),
	    cmocka_unit_test(http_1_0_and_close),
	    cmocka_unit_test(H1_03_te_cl_smuggling),
	    cmocka_unit_test(H1_04_chunks),
	    cmocka_unit_test(H1_05_pipelining_10000),
	    cmocka_unit_test(H1_05_pipelining_waits),
	    cmocka_unit_test(H1_05_pipelining_unread),
	    cmocka_unit_test(H1_06_expect_continue),
	    cmocka_unit_test(H1_07_header_limits),
	    cmocka_unit_test(garbage_is_answered_or_closed),
	    cmocka_unit_test(H2_14_upgrade_is_ignored),
	    cmocka_unit_test(too_large_is_refused_early),
	    cmocka_unit_test(full_budget_is_retryable),
	    cmocka_unit_test(broken_off_mid_body),
	};

	return cmocka_run_group_tests_name("net server: HTTP/1", tests, NULL, NULL);
}
