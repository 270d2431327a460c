/* HTTP/2 that is meant well: large bodies, many streams, plain HTTP over it, early answers. */
#include "server_peer.h"

#include <stdlib.h>

static struct header none[] = {{NULL, NULL}};

static void serves_a_post(void **state)
{
	struct header more[] = {
	    {"accept-encoding", "gzip"}, {"authorization", "Bearer z"}, {NULL, NULL}};
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b);

	(void)state;
	b->answer = tw_slice_str("{}");
	h2_start(p);
	h2_request(p, 1, "POST", "/v1/traces?x=1", "application/json; charset=utf-8", more, false);
	h2_data(p, 1, "hello", 5, true);
	peer_until(p, h2_stream(p, 1)->end);
	assert_int_equal(h2_stream(p, 1)->status, 200);
	assert_string_equal(h2_stream(p, 1)->content_type, "text/plain");
	assert_int_equal(h2_stream(p, 1)->data_n, 2);
	assert_int_equal(b->seen[0].protocol, TW_PROTO_HTTP2);
	assert_string_equal(b->seen[0].path, "/v1/traces");
	assert_string_equal(b->seen[0].query, "x=1");
	assert_string_equal(b->seen[0].content_type, "application/json");
	assert_string_equal(b->seen[0].authorization, "Bearer z");
	assert_true(b->seen[0].accept_gzip);
	assert_memory_equal(b->seen[0].body, "hello", 5);
	h2_request(p, 3, "HEAD", "/", NULL, none, true);
	peer_until(p, h2_stream(p, 3)->end);
	assert_int_equal(h2_stream(p, 3)->status, 200);
	assert_int_equal(h2_stream(p, 3)->data_n, 0);
	peer_free(p);
	bench_free(b);
}

/* 100 streams of 300 kB, their frames dealt in turns: every byte arrives at its own place, and
 * nothing is asked of the sender's windows on the way. */
static void many_streams_interleaved(void **state)
{
	enum { N = 300000, STREAMS = 50 };
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b);
	uint8_t *body = malloc(N);
	uint8_t prefix[5] = {0, 0, N >> 16, (N >> 8) & 255, N & 255};

	(void)state;
	b->hold = true;
	h2_start(p);
	for (int i = 0; i < STREAMS; i++) {
		grpc_begin(p, 1 + 2 * i, none);
		h2_data(p, 1 + 2 * i, prefix, 5, false);
	}
	for (size_t at = 0; at < N; at += 10000)
		for (int i = 0; i < STREAMS; i++) {
			memset(body, i + 1, 10000);
			h2_data(p, 1 + 2 * i, body, 10000, at + 10000 == N);
		}
	peer_until(p, b->held_n == STREAMS);
	for (int i = 0; i < STREAMS; i++) {
		const struct tw_body *got = &b->held[i]->body;

		assert_int_equal(got->n, N);
		for (size_t k = 0; k < N; k++)
			if (got->p[k] != got->p[0])
				fail_msg("stream %d, byte %zu", i, k);
		memset(body, got->p[0], 1);
		assert_in_range(body[0], 1, STREAMS);
	}
	bench_release(b);
	for (int i = 0; i < STREAMS; i++) {
		peer_until(p, h2_stream(p, 1 + 2 * i)->end);
		assert_int_equal(h2_stream(p, 1 + 2 * i)->grpc_status, 0);
	}
	assert_true(p->window_updates <= 1);
	free(body);
	peer_free(p);
	bench_free(b);
}

static void large_answer(void **state)
{
	enum { N = 1 << 20 };
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b);
	uint8_t *answer = malloc(N);

	(void)state;
	for (size_t i = 0; i < N; i++)
		answer[i] = (uint8_t)(i * 7);
	b->answer = tw_slice(answer, N);
	h2_start_window(p, 2 << 20);
	h2_frame(p, NGHTTP2_WINDOW_UPDATE, 0, 0, "\0\x20\0\0", 4);
	h2_request(p, 1, "GET", "/", NULL, none, true);
	peer_until(p, h2_stream(p, 1)->end);
	assert_int_equal(h2_stream(p, 1)->data_n, N);
	assert_memory_equal(h2_stream(p, 1)->data, answer, N);
	free(answer);
	peer_free(p);
	bench_free(b);
}

static void small_bodies(struct tw_server_opts *o)
{
	o->body_bytes_max = 100000;
}

/* Answered before the body's end: the answer is whole, the rest is not wanted, and other streams do
 * not notice. */
static void too_large_is_refused_early(void **state)
{
	struct header claims[] = {{"content-length", "100006"}, {NULL, NULL}};
	struct bench *b = bench_new(small_bodies);
	struct peer *p = peer_open(b);
	uint8_t *body = calloc(1, 100001);

	(void)state;
	h2_start(p);
	h2_request(p, 1, "POST", "/v1/traces", "application/json", claims, false);
	peer_until(p, h2_stream(p, 1)->reset >= 0);
	assert_int_equal(h2_stream(p, 1)->status, 413);
	assert_int_equal(h2_stream(p, 1)->reset, NGHTTP2_NO_ERROR);
	h2_request(p, 3, "POST", "/v1/traces", "application/json", none, false);
	h2_data(p, 3, body, 100001, false);
	peer_until(p, h2_stream(p, 3)->reset >= 0);
	assert_int_equal(h2_stream(p, 3)->status, 413);
	h2_data(p, 3, body, 5000, true);
	h2_request(p, 5, "POST", "/v1/traces", "application/json", none, false);
	h2_data(p, 5, body, 100000, true);
	peer_until(p, h2_stream(p, 5)->end);
	assert_int_equal(h2_stream(p, 5)->status, 200);
	assert_false(p->goaway || p->closed);
	free(body);
	peer_free(p);
	bench_free(b);
}

static void too_many_streams_are_refused(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b);

	(void)state;
	b->hold = true;
	h2_start(p);
	for (int i = 0; i < 101; i++)
		grpc_call(p, 1 + 2 * i, none, false, "x", 1);
	peer_until(p, p->goaway || h2_stream(p, 201)->reset >= 0);
	assert_int_equal(b->held_n, 100);
	peer_free(p);
	bench_free(b);
}

static void path_too_long(void **state)
{
	char path[400];
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b);

	(void)state;
	memset(path, 'a', sizeof(path) - 1);
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	h2_start(p);
	h2_request(p, 1, "POST", path, "application/json", none, true);
	h2_request(p, 3, "POST", path, "application/grpc", none, true);
	peer_until(p, h2_stream(p, 3)->end);
	assert_int_equal(h2_stream(p, 1)->status, 414);
	assert_int_equal(h2_stream(p, 3)->grpc_status, 12);
	assert_int_equal(b->heads, 0);
	peer_free(p);
	bench_free(b);
}

/* Details for a client's eyes: the message is percent-encoded, the details are base64. */
static void error_answers(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b);
	struct tw_reply r = {.grpc_status = 14, .retry_after_s = 3};

	(void)state;
	b->hold = true;
	h2_start(p);
	grpc_call(p, 1, none, false, "x", 1);
	peer_until(p, b->held_n == 1);
	r.grpc_message = tw_slice_str("full \xe2\x80\x93 100%");
	r.grpc_details = tw_slice_str("\x08\x0e\x12\x0aoverloaded");
	r.body = tw_slice_str("not sent with an error");
	b->held_n = 0;
	tw_exchange_reply(b->held[0], &r);
	peer_until(p, h2_stream(p, 1)->end);
	assert_int_equal(h2_stream(p, 1)->status, 200);
	assert_int_equal(h2_stream(p, 1)->grpc_status, 14);
	assert_string_equal(h2_stream(p, 1)->grpc_message, "full %E2%80%93 100%25");
	assert_string_equal(h2_stream(p, 1)->details, "CA4SCm92ZXJsb2FkZWQ");
	assert_int_equal(h2_stream(p, 1)->data_n, 0);
	peer_free(p);
	bench_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(serves_a_post),
	    cmocka_unit_test(many_streams_interleaved),
	    cmocka_unit_test(large_answer),
	    cmocka_unit_test(too_large_is_refused_early),
	    cmocka_unit_test(too_many_streams_are_refused),
	    cmocka_unit_test(path_too_long),
	    cmocka_unit_test(error_answers),
	};

	return cmocka_run_group_tests_name("net server: HTTP/2", tests, NULL, NULL);
}
