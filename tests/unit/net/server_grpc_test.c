/* gRPC: messages from pieces, timeouts, trailers. */
#include "server_peer.h"

#include <stdlib.h>

#include "grpc.h"

/* ---- the parts alone ---- */

static void timeout_syntax(void **state)
{
	static const struct {
		const char *text;
		int rc;
		uint64_t ns;
	} cases[] = {
	    {"1H", 0, 3600 * TW_NS_PER_S},
	    {"2M", 0, 120 * TW_NS_PER_S},
	    {"10S", 0, 10 * TW_NS_PER_S},
	    {"100m", 0, 100 * TW_NS_PER_MS},
	    {"7u", 0, 7000},
	    {"99999999n", 0, 99999999},
	    {"0S", 0, 0},
	    {"99999999H", 0, TW_NEVER},
	    {"123456789S", TW_EINVAL, 0},
	    {"S", TW_EINVAL, 0},
	    {"1", TW_EINVAL, 0},
	    {"", TW_EINVAL, 0},
	    {"-1S", TW_EINVAL, 0},
	    {"1.5S", TW_EINVAL, 0},
	    {"1s", TW_EINVAL, 0},
	    {" 1S", TW_EINVAL, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t ns = 42;

		assert_int_equal(tw_grpc_timeout_parse(tw_slice_str(cases[i].text), &ns),
		                 cases[i].rc);
		if (cases[i].rc == 0)
			assert_int_equal(ns, cases[i].ns);
	}
}

static void trailer_encodings(void **state)
{
	static const char *base64[][2] = {
	    {"", ""}, {"f", "Zg"}, {"fo", "Zm8"}, {"foo", "Zm9v"}, {"foob", "Zm9vYg"}};
	struct tw_buf b;

	(void)state;
	tw_buf_init(&b, 0);
	tw_grpc_message_encode(tw_slice_str("100 % of \xc3\xa9\n~"), &b);
	assert_int_equal(b.n, strlen("100 %25 of %C3%A9%0A~"));
	assert_memory_equal(b.p, "100 %25 of %C3%A9%0A~", b.n);
	for (size_t i = 0; i < 5; i++) {
		tw_buf_clear(&b);
		tw_grpc_base64_encode(tw_slice_str(base64[i][0]), &b);
		assert_int_equal(b.n, strlen(base64[i][1]));
		assert_memory_equal(b.p, base64[i][1], b.n);
	}
	tw_buf_deinit(&b);
}

static int feed(const char *bytes, size_t n, size_t piece, size_t max, size_t *length, size_t *cap)
{
	struct tw_grpc_frame f = {0};
	struct tw_error err = {0};
	struct tw_body body;
	int rc = 0;

	tw_body_init(&body, NULL);
	for (size_t at = 0; rc == 0 && at < n; at += piece)
		rc = tw_grpc_feed(&f, (const uint8_t *)bytes + at, n - at < piece ? n - at : piece,
		                  &body, max, &err);
	if (rc == 0)
		rc = tw_grpc_end(&f, &body, &err);
	assert_true(rc == 0 || err.text[0] != '\0');
	*length = body.n;
	*cap = body.cap;
	tw_body_deinit(&body);
	return rc;
}

static void framing(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
		int rc;
	} cases[] = {
	    {"\0\0\0\0\3abc", 8, 0},
	    {"\0\0\0\0\0", 5, 0},
	    {"\0\0\0\0\3ab", 7, TW_EINVAL},
	    {"\0\0\0\0\3abcd", 9, TW_EINVAL},
	    {"\0\0\0\0\3abc\0\0\0\0\0", 13, TW_EINVAL},
	    {"\0\0\0\0", 4, TW_EINVAL},
	    {"", 0, TW_EINVAL},
	    {"\2\0\0\0\0", 5, TW_EINVAL},
	    {"\0\xff\xff\xff\xff", 5, TW_ELIMIT},
	    {"\0\0\0\4\1", 5, TW_ELIMIT},
	    {"\0\0\0\4\0", 5, TW_EINVAL},
	};
	size_t length, cap;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (size_t piece = 1; piece < 14; piece++) {
			assert_int_equal(
			    feed(cases[i].bytes, cases[i].n, piece, 1024, &length, &cap),
			    cases[i].rc);
			assert_true(cap <= 4096);
		}
	assert_int_equal(feed("\0\0\0\0\3abc", 8, 8, 1024, &length, &cap), 0);
	assert_int_equal(length, 3);
}

/* ---- through the server ---- */

static struct header none[] = {{NULL, NULL}};

/* One message, cut into two DATA frames at every byte, and once into frames of one byte. */
static void H2_16_grpc_split_everywhere(void **state)
{
	char bytes[5 + 40];
	struct bench *b = bench_new(NULL);
	struct peer *p;
	int32_t id = -1;

	(void)state;
	memcpy(bytes, "\0\0\0\0\x28", 5);
	for (int i = 0; i < 40; i++)
		bytes[5 + i] = (char)('a' + i % 26);
	b->answer = tw_slice_str("response");
	p = peer_open(b);
	h2_start(p);
	for (size_t cut = 0; cut <= sizeof(bytes) + 1; cut++) {
		id += 2;
		grpc_begin(p, id, none);
		if (cut <= sizeof(bytes)) {
			h2_data(p, id, bytes, cut, false);
			h2_data(p, id, bytes + cut, sizeof(bytes) - cut, true);
		} else {
			for (size_t i = 0; i < sizeof(bytes); i++)
				h2_data(p, id, bytes + i, 1, false);
			h2_data(p, id, "", 0, true);
		}
		peer_until(p, h2_stream(p, id)->end);
		assert_int_equal(h2_stream(p, id)->status, 200);
		assert_int_equal(h2_stream(p, id)->grpc_status, 0);
		assert_string_equal(h2_stream(p, id)->content_type, "application/grpc");
		assert_int_equal(h2_stream(p, id)->data_n, 5 + 8);
		assert_memory_equal(h2_stream(p, id)->data, "\0\0\0\0\10response", 13);
		assert_int_equal(b->seen[b->seen_n - 1].early, 0);
		assert_int_equal(b->seen[b->seen_n - 1].body_n, 40);
		assert_memory_equal(b->seen[b->seen_n - 1].body, bytes + 5, 40);
		assert_true(b->seen[b->seen_n - 1].is_grpc);
	}
	peer_free(p);
	bench_free(b);
}

static void call_raw(struct peer *p, int32_t id, const void *bytes, size_t n)
{
	grpc_begin(p, id, none);
	h2_data(p, id, bytes, n, true);
	peer_until(p, h2_stream(p, id)->end);
}

static void H2_16_grpc_bad_messages(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b);

	(void)state;
	h2_start(p);
	/* No message, half a prefix, half a message, two messages, a strange flag, compressed
	 * without saying how. */
	call_raw(p, 1, "", 0);
	call_raw(p, 3, "\0\0\0", 3);
	call_raw(p, 5, "\0\0\0\0\5abc", 8);
	call_raw(p, 7, "\0\0\0\0\1a\0\0\0\0\1b", 12);
	call_raw(p, 9, "\7\0\0\0\1a", 6);
	call_raw(p, 11, "\1\0\0\0\1a", 6);
	for (int32_t id = 1; id <= 11; id += 2) {
		assert_int_equal(h2_stream(p, id)->grpc_status, 13);
		assert_int_equal(b->seen[(id - 1) / 2].early, TW_EINVAL);
		assert_int_equal(h2_stream(p, id)->data_n, 0);
	}
	/* An empty message is a message. */
	call_raw(p, 13, "\0\0\0\0\0", 5);
	assert_int_equal(h2_stream(p, 13)->grpc_status, 0);
	assert_int_equal(b->seen[6].body_n, 0);
	assert_false(p->goaway || p->closed);
	peer_free(p);
	bench_free(b);
}

static void H2_16_length_beyond_limit(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b);

	(void)state;
	h2_start(p);
	grpc_begin(p, 1, none);
	h2_data(p, 1, "\0\xff\xff\xff\xff", 5, false);
	/* Answered while the body is still expected, and the stream is given up. */
	peer_until(p, h2_stream(p, 1)->reset >= 0);
	assert_int_equal(h2_stream(p, 1)->grpc_status, 8);
	assert_true(h2_stream(p, 1)->end);
	assert_int_equal(h2_stream(p, 1)->reset, NGHTTP2_NO_ERROR);
	assert_int_equal(tw_budget_used(&b->bodies), 0);
	grpc_call(p, 3, none, false, "x", 1);
	peer_until(p, h2_stream(p, 3)->end);
	assert_int_equal(h2_stream(p, 3)->grpc_status, 0);
	peer_free(p);
	bench_free(b);
}

/* The end of the request may come as trailers; fields in them mean nothing. */
static void H2_16_trailers_from_client(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b);
	nghttp2_nv nv = {(uint8_t *)(uintptr_t) "grpc-encoding", (uint8_t *)(uintptr_t) "zstd", 13,
	                 4, 0};
	uint8_t block[64];
	ssize_t n;

	(void)state;
	h2_start(p);
	grpc_begin(p, 1, none);
	h2_data(p, 1, "\0\0\0\0\2hi", 7, false);
	n = nghttp2_hd_deflate_hd(p->deflater, block, sizeof(block), &nv, 1);
	h2_frame(p, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 1, block,
	         (size_t)n);
	peer_until(p, h2_stream(p, 1)->end);
	assert_int_equal(h2_stream(p, 1)->grpc_status, 0);
	assert_int_equal(b->seen[0].body_n, 2);
	peer_free(p);
	bench_free(b);
}

static void H2_17_grpc_timeout(void **state)
{
	struct header garbage[] = {{"grpc-timeout", "soon"}, {NULL, NULL}};
	struct header second[] = {{"grpc-timeout", "1S"}, {NULL, NULL}};
	struct header http[] = {{"grpc-timeout", "soon"}, {NULL, NULL}};
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b);

	(void)state;
	h2_start(p);
	grpc_call(p, 1, garbage, false, "x", 1);
	peer_until(p, h2_stream(p, 1)->end);
	assert_int_equal(h2_stream(p, 1)->grpc_status, 13);
	assert_int_equal(b->heads, 0);
	/* In time: the handler is told until when. */
	grpc_call(p, 3, second, false, "x", 1);
	peer_until(p, h2_stream(p, 3)->end);
	assert_int_equal(h2_stream(p, 3)->grpc_status, 0);
	assert_int_equal(b->seen[0].deadline_ns, b->time.mono_ns + TW_NS_PER_S);
	/* Whole, but too late. */
	grpc_begin(p, 5, second);
	peer_until(p, b->heads == 2);
	tw_clock_advance(&b->time, TW_NS_PER_S);
	h2_data(p, 5, "\0\0\0\0\1x", 6, true);
	peer_until(p, h2_stream(p, 5)->end);
	assert_int_equal(h2_stream(p, 5)->grpc_status, 4);
	assert_int_equal(b->seen[1].early, TW_ECLOSED);
	/* Never whole. */
	grpc_begin(p, 7, second);
	h2_data(p, 7, "\0\0\0\0\1", 5, false);
	peer_until(p, b->heads == 3);
	bench_advance(b, TW_NS_PER_S);
	peer_until(p, h2_stream(p, 7)->reset >= 0);
	assert_int_equal(h2_stream(p, 7)->grpc_status, 4);
	assert_int_equal(b->seen[2].early, TW_ECLOSED);
	/* Not gRPC's business. */
	h2_request(p, 9, "POST", "/v1/traces", "application/json", http, true);
	peer_until(p, h2_stream(p, 9)->end);
	assert_int_equal(h2_stream(p, 9)->status, 200);
	assert_int_equal(b->whole, 2);
	assert_false(p->goaway || p->closed);
	peer_free(p);
	bench_free(b);
}

static void H2_18_broken_off(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b), *q = peer_open(b);

	(void)state;
	h2_start(p);
	h2_start(q);
	/* Half closed in the middle of a message. */
	call_raw(p, 1, "\0\0\0\0\x64half", 9);
	assert_int_equal(h2_stream(p, 1)->grpc_status, 13);
	/* Reset in the middle. */
	grpc_begin(p, 3, none);
	h2_data(p, 3, "\0\0\0\0\x64half", 9, false);
	h2_frame(p, NGHTTP2_RST_STREAM, 0, 3, "\0\0\0\10", 4);
	peer_until(p, b->closed == 1);
	/* The connection gone in the middle. */
	grpc_begin(q, 1, none);
	h2_data(q, 1, "\0\0\0\0\x64half", 9, false);
	peer_until(q, b->heads == 3);
	peer_free(q);
	peer_until(p, b->closed == 2);
	assert_int_equal(b->whole, 0);
	assert_int_equal(b->failed, 1);
	assert_int_equal(tw_budget_used(&b->bodies), 0);
	assert_int_equal(tw_counter_get(&tw_server_stats(b->server)->aborted), 2);
	peer_free(p);
	bench_free(b);
}

/* A stream reset, and a connection closed, while the handler has the request: the reply goes
 * nowhere, and nothing leaks. */
static void reply_after_the_peer_left(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b), *q = peer_open(b);

	(void)state;
	b->hold = true;
	h2_start(p);
	h2_start(q);
	grpc_call(p, 1, none, false, "x", 1);
	grpc_call(q, 1, none, false, "x", 1);
	peer_until(p, b->held_n == 2);
	h2_frame(p, NGHTTP2_RST_STREAM, 0, 1, "\0\0\0\10", 4);
	peer_free(q);
	peer_until(p, tw_server_connections(b->server) == 1);
	h2_frame(p, NGHTTP2_PING, 0, 0, "12345678", 8);
	peer_until(p, p->ping_acks == 1);
	assert_int_equal(b->closed, 0);
	bench_release(b);
	b->hold = false;
	grpc_call(p, 3, none, false, "x", 1);
	peer_until(p, h2_stream(p, 3)->end);
	assert_int_equal(h2_stream(p, 3)->grpc_status, 0);
	assert_int_equal(h2_stream(p, 1)->grpc_status, -1);
	peer_free(p);
	bench_free(b);
}

/* Content types that begin like gRPC's, and gRPC where it cannot be. */
static void IN_20_grpc_content_types(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b), *p1 = peer_open(b);

	(void)state;
	h2_start(p);
	h2_request(p, 1, "POST", "/x", "application/grpc+json", none, true);
	h2_request(p, 3, "POST", "/x", "application/grpc-web", none, true);
	h2_request(p, 5, "POST", "/x", "application/GRPC+proto; charset=x", none, false);
	h2_data(p, 5, "\0\0\0\0\1x", 6, true);
	h2_request(p, 7, "GET", "/x", "application/grpc", none, true);
	peer_until(p, h2_stream(p, 7)->end && h2_stream(p, 5)->end);
	assert_int_equal(h2_stream(p, 1)->status, 415);
	assert_int_equal(h2_stream(p, 3)->status, 415);
	assert_int_equal(h2_stream(p, 5)->grpc_status, 0);
	assert_string_equal(b->seen[0].content_type, "application/grpc+proto");
	assert_false(b->seen[1].is_grpc);
	peer_sends(p1, "POST /x HTTP/1.1\r\nHost: x\r\nContent-Type: "
	               "application/grpc\r\nContent-Length: 0\r\n\r\n");
	peer_until(p1, peer_has(p1, "\r\n\r\n"));
	assert_true(peer_has(p1, "HTTP/1.1 415 "));
	peer_free(p);
	peer_free(p1);
	bench_free(b);
}

/* The head check answers before any body, and what comes of the body is swallowed. */
static void head_check_refuses(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b);

	(void)state;
	b->head_status = 404;
	h2_start(p);
	grpc_call(p, 1, none, false, "x", 1);
	h2_request(p, 3, "POST", "/v1/metrics", "application/x-protobuf", none, false);
	peer_until(p, h2_stream(p, 3)->end);
	assert_int_equal(h2_stream(p, 1)->status, 200);
	assert_int_equal(h2_stream(p, 1)->grpc_status, 12);
	assert_string_equal(h2_stream(p, 1)->grpc_message, "not here");
	assert_int_equal(h2_stream(p, 3)->status, 404);
	assert_int_equal(b->seen_n, 0);
	peer_free(p);
	bench_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(timeout_syntax),
	    cmocka_unit_test(trailer_encodings),
	    cmocka_unit_test(framing),
	    cmocka_unit_test(H2_16_grpc_split_everywhere),
	    cmocka_unit_test(H2_16_grpc_bad_messages),
	    cmocka_unit_test(H2_16_length_beyond_limit),
	    cmocka_unit_test(H2_16_trailers_from_client),
	    cmocka_unit_test(H2_17_grpc_timeout),
	    cmocka_unit_test(H2_18_broken_off),
	    cmocka_unit_test(reply_after_the_peer_left),
	    cmocka_unit_test(IN_20_grpc_content_types),
	    cmocka_unit_test(head_check_refuses),
	};

	return cmocka_run_group_tests_name("net server: gRPC", tests, NULL, NULL);
}
