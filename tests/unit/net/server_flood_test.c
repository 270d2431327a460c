/* HTTP/2 peers that break rules, or keep them and do harm. After each the server still serves
 * somebody else. */
#include "server_peer.h"

#include <stdlib.h>

static struct header none[] = {{NULL, NULL}};
static const uint8_t cancel[4] = {0, 0, 0, NGHTTP2_CANCEL};

static struct peer *start(struct bench **b)
{
	struct peer *p;

	*b = bench_new(NULL);
	p = peer_open(*b);
	h2_start(p);
	return p;
}

/* A good call on a new connection; then everything goes. */
static void finish(struct bench *b, struct peer *p)
{
	struct peer *good = peer_open(b);

	b->hold = false;
	h2_start(good);
	grpc_call(good, 1, none, false, "x", 1);
	peer_until(good, h2_stream(good, 1)->end);
	assert_int_equal(h2_stream(good, 1)->grpc_status, 0);
	peer_free(good);
	peer_free(p);
	bench_free(b);
}

static void ended(struct peer *p, uint32_t code, const char *text)
{
	peer_until(p, p->closed);
	assert_true(p->goaway);
	assert_int_equal(p->goaway_code, code);
	if (text != NULL)
		assert_string_equal(p->goaway_text, text);
}

static void H2_01_rapid_reset(void **state)
{
	struct bench *b;
	struct peer *p = start(&b);
	uint64_t opened = 0;

	(void)state;
	for (int32_t id = 1; id < 2 * 3000 && !p->closed; id += 2) {
		grpc_begin(p, id, none);
		h2_frame(p, NGHTTP2_RST_STREAM, 0, id, cancel, 4);
		opened++;
	}
	peer_until(p, p->closed);
	assert_true(p->goaway);
	assert_true(b->heads >= 900 && b->heads < 1200);
	assert_int_equal(b->closed, b->heads);
	assert_int_equal(b->whole, 0);
	finish(b, p);
}

/* Requests reset after they were handed on keep their place until the handler is done with them:
 * resetting buys no more work at a time. */
static void H2_01_reset_keeps_the_slot(void **state)
{
	struct bench *b;
	struct peer *p = start(&b);

	(void)state;
	b->hold = true;
	for (int32_t id = 1; id < 2 * 250; id += 2) {
		grpc_call(p, id, none, false, "x", 1);
		h2_frame(p, NGHTTP2_RST_STREAM, 0, id, cancel, 4);
	}
	h2_frame(p, NGHTTP2_PING, 0, 0, "12345678", 8);
	peer_until(p, p->ping_acks == 1);
	assert_int_equal(b->held_n, 125);
	assert_int_equal(h2_stream(p, 499)->reset, NGHTTP2_INTERNAL_ERROR);
	bench_release(b);
	b->hold = false;
	grpc_call(p, 501, none, false, "x", 1);
	peer_until(p, h2_stream(p, 501)->end);
	assert_int_equal(h2_stream(p, 501)->grpc_status, 0);
	finish(b, p);
}

/* The server is made to reset streams (CVE-2025-8671): a window update of nothing, data after the
 * end. */
static void H2_02_made_you_reset(void **state)
{
	(void)state;
	for (int kind = 0; kind < 2; kind++) {
		struct bench *b;
		struct peer *p = start(&b);

		b->hold = kind == 0;
		for (int32_t id = 1; id < 2 * 3000 && !p->closed; id += 2) {
			if (kind == 0) {
				grpc_begin(p, id, none);
				h2_frame(p, NGHTTP2_WINDOW_UPDATE, 0, id, "\0\0\0\0", 4);
			} else {
				grpc_begin(p, id, none);
				h2_frame(p, NGHTTP2_PRIORITY, 0, id, "\0", 1);
			}
			if (p->stream_n > STREAMS_SEEN - 16)
				p->stream_n = 0;
		}
		peer_until(p, p->closed);
		assert_true(b->heads < 1400);
		assert_true(p->goaway);
		finish(b, p);
	}
}

static void H2_03_continuation_flood(void **state)
{
	uint8_t block[1024];
	struct bench *b;
	struct peer *p = start(&b);
	size_t n = h2_block(p, block, sizeof(block), "POST", "/x", "application/grpc", none);
	unsigned sent = 0;

	(void)state;
	h2_frame(p, NGHTTP2_HEADERS, 0, 1, block, n);
	while (!p->closed && sent < 100000) {
		h2_frame(p, NGHTTP2_CONTINUATION, 0, 1, "", 0);
		sent++;
	}
	assert_true(sent < 100000);
	peer_until(p, p->closed);
	assert_int_equal(b->heads, 0);
	finish(b, p);
}

static void H2_04_settings_flood(void **state)
{
	struct bench *b;
	struct peer *p = start(&b);
	unsigned sent = 0;

	(void)state;
	for (; sent < 40000 && !p->closed; sent++)
		h2_frame(p, NGHTTP2_SETTINGS, 0, 0, "\0\4\0\1\0\0", 6);
	ended(p, NGHTTP2_ENHANCE_YOUR_CALM, "too_many_frames");
	assert_true(p->settings_acks <= 10000 + 1);
	finish(b, p);
}

/* A peer that does not even read the acknowledgements. */
static void H2_04_settings_flood_unread(void **state)
{
	struct bench *b;
	struct peer *p = start(&b);

	(void)state;
	p->reads = false;
	for (unsigned sent = 0; sent < 40000 && !p->closed; sent++)
		h2_frame(p, NGHTTP2_SETTINGS, 0, 0, "", 0);
	p->reads = true;
	peer_until(p, p->closed);
	finish(b, p);
}

static void H2_05_ping_flood(void **state)
{
	struct bench *b;
	struct peer *p = start(&b);

	(void)state;
	for (unsigned sent = 0; sent < 40000 && !p->closed; sent++)
		h2_frame(p, NGHTTP2_PING, 0, 0, "12345678", 8);
	ended(p, NGHTTP2_ENHANCE_YOUR_CALM, "too_many_pings");
	finish(b, p);
}

static void H2_06_empty_frame_flood(void **state)
{
	static const uint8_t types[] = {NGHTTP2_DATA, NGHTTP2_WINDOW_UPDATE, NGHTTP2_PRIORITY};
	static const uint8_t one[5] = {0, 0, 0, 1, 1};

	(void)state;
	for (int kind = 0; kind < 3; kind++) {
		struct bench *b;
		struct peer *p = start(&b);

		grpc_begin(p, 1, none);
		for (unsigned sent = 0; sent < 40000 && !p->closed; sent++)
			h2_frame(p, types[kind], 0,
			         kind == 1   ? 0
			         : kind == 2 ? 3
			                     : 1,
			         one,
			         kind == 1   ? 4
			         : kind == 2 ? 5
			                     : 0);
		ended(p, NGHTTP2_ENHANCE_YOUR_CALM, "too_many_frames");
		finish(b, p);
	}
}

/* Answers wait for a window that never opens: bounded, and in the end given up. */
static void H2_07_window_stall(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b);

	(void)state;
	b->answer = tw_slice_str("an answer that needs some window");
	h2_start_window(p, 0);
	for (int32_t id = 1; id <= 2 * 100; id += 2)
		grpc_call(p, id, none, false, "x", 1);
	peer_until(p, b->whole == 100);
	/* All streams are open: one more is refused. */
	grpc_call(p, 201, none, false, "x", 1);
	peer_until(p, h2_stream(p, 201)->reset >= 0 || p->goaway);
	assert_int_equal(b->whole, 100);
	bench_advance(b, 31 * TW_NS_PER_S);
	peer_until(p, h2_stream(p, 199)->reset == NGHTTP2_CANCEL || p->closed);
	for (int i = 0; i < 10; i++)
		peer_pump(p);
	finish(b, p);
}

/* An answer that leaves byte by byte. */
static void H2_08_window_dribble(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b);

	(void)state;
	b->answer = tw_slice_str("0123456789");
	h2_start_window(p, 0);
	grpc_call(p, 1, none, false, "x", 1);
	peer_until(p, h2_stream(p, 1)->status == 200);
	for (size_t i = 1; i <= 15; i++) {
		assert_false(h2_stream(p, 1)->end);
		h2_frame(p, NGHTTP2_WINDOW_UPDATE, 0, 1, "\0\0\0\1", 4);
		peer_until(p, h2_stream(p, 1)->data_n == i);
	}
	peer_until(p, h2_stream(p, 1)->end);
	assert_int_equal(h2_stream(p, 1)->grpc_status, 0);
	finish(b, p);
}

/* One large entry in HPACK's table, then references to it, a byte each. */
static void H2_09_hpack_bomb(void **state)
{
	char value[4000];
	struct header large[] = {{"x", value}, {NULL, NULL}};
	uint8_t block[16384];
	struct bench *b;
	struct peer *p = start(&b);
	size_t n;

	(void)state;
	memset(value, 'v', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	h2_request(p, 1, "POST", "/x", "application/json", large, true);
	peer_until(p, h2_stream(p, 1)->end);
	assert_int_equal(h2_stream(p, 1)->status, 200);
	/* 62 is the table's newest entry; the method, scheme and path come from the static one. */
	memcpy(block, "\x83\x86\x84", 3);
	memset(block + 3, 0x80 | 62, 10000);
	n = 3 + 10000;
	h2_frame(p, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 3, block,
	         n);
	ended(p, NGHTTP2_ENHANCE_YOUR_CALM, "header_too_large");
	assert_int_equal(b->heads, 1);
	finish(b, p);
}

static void H2_10_hpack_varint_zeros(void **state)
{
	uint8_t block[16384];
	struct bench *b;
	struct peer *p = start(&b);

	(void)state;
	memset(block, 0x80, sizeof(block));
	block[0] = 0x00; /* a literal whose name's length never ends */
	block[1] = 0x7f;
	h2_frame(p, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1, block, sizeof(block));
	ended(p, NGHTTP2_COMPRESSION_ERROR, NULL);
	assert_int_equal(b->heads, 0);
	finish(b, p);
}

/* A header too large is refused, and the connection, its HPACK tables in step, lives on. */
static void H2_11_oversize_header_then_valid(void **state)
{
	char value[6000];
	struct header large[] = {
	    {"a", value}, {"b", value}, {"c", value}, {"after", "this"}, {NULL, NULL}};
	struct header after[] = {{"after", "this"}, {"authorization", "Bearer x"}, {NULL, NULL}};
	struct header many[151];
	struct bench *b;
	struct peer *p = start(&b);

	(void)state;
	memset(value, 'v', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	h2_request(p, 1, "POST", "/x", "application/json", large, true);
	grpc_call(p, 3, large, false, "x", 1);
	for (int i = 0; i < 150; i++)
		many[i] = (struct header){"k", "v"};
	many[150] = (struct header){NULL, NULL};
	h2_request(p, 5, "POST", "/x", "application/json", many, true);
	grpc_call(p, 7, after, false, "x", 1);
	peer_until(p, h2_stream(p, 7)->end);
	assert_int_equal(h2_stream(p, 1)->status, 431);
	assert_int_equal(h2_stream(p, 3)->grpc_status, 8);
	assert_int_equal(h2_stream(p, 5)->status, 431);
	assert_int_equal(h2_stream(p, 7)->grpc_status, 0);
	assert_string_equal(b->seen[0].authorization, "Bearer x");
	assert_int_equal(b->seen_n, 1);
	assert_false(p->goaway || p->closed);
	finish(b, p);
}

static void H2_12_stream_ids(void **state)
{
	struct bench *b;
	struct peer *p = start(&b);

	(void)state;
	/* The last id there is; after it the connection is used up. */
	grpc_call(p, 0x7fffffff, none, false, "x", 1);
	peer_until(p, h2_stream(p, 0x7fffffff)->end);
	assert_int_equal(h2_stream(p, 0x7fffffff)->grpc_status, 0);
	grpc_begin(p, 5, none);
	ended(p, NGHTTP2_PROTOCOL_ERROR, NULL);
	assert_int_equal(b->whole, 1);
	finish(b, p);
	p = start(&b);
	grpc_call(p, 1, none, false, "x", 1);
	peer_until(p, h2_stream(p, 1)->end);
	grpc_begin(p, 1, none);
	peer_until(p, p->closed);
	assert_int_equal(b->whole, 1);
	finish(b, p);
}

/* CVE-2026-27135: a frame of a wrong size after the session was ended. */
static void H2_13_frames_after_goaway(void **state)
{
	struct bench *b;
	struct peer *p = start(&b);

	(void)state;
	h2_frame(p, NGHTTP2_PING, 0, 0, "1234", 4);
	for (int i = 0; i < 100 && !p->closed; i++) {
		h2_frame(p, NGHTTP2_PING, 0, 0, "1234", 4);
		h2_frame(p, NGHTTP2_SETTINGS, 0, 0, "12345", 5);
		h2_frame(p, NGHTTP2_WINDOW_UPDATE, 0, 1, "1", 1);
		h2_frame(p, NGHTTP2_RST_STREAM, 0, 1, "1", 1);
	}
	ended(p, NGHTTP2_FRAME_SIZE_ERROR, NULL);
	finish(b, p);
	/* The peer says goodbye, and goes on with what it has open. */
	p = start(&b);
	grpc_begin(p, 1, none);
	h2_frame(p, NGHTTP2_GOAWAY, 0, 0, "\0\0\0\0\0\0\0\0", 8);
	h2_data(p, 1, "\0\0\0\0\1x", 6, true);
	peer_until(p, h2_stream(p, 1)->end);
	assert_int_equal(h2_stream(p, 1)->grpc_status, 0);
	finish(b, p);
}

static void H2_14_bad_preface(void **state)
{
	static const char *bad[] = {"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", "PRI * HTTP/1.1\r\n\r\n",
	                            "PRI"};
	struct bench *b = bench_new(NULL);
	struct peer *p = NULL;

	(void)state;
	for (int i = 0; i < 3; i++) {
		p = peer_open(b);
		peer_sends(p, bad[i]);
		if (i == 2) {
			/* Not wrong yet, and never right. */
			peer_until(p, tw_counter_get(&tw_server_stats(b->server)->bytes_in) ==
			                  24 + 18 + 3);
			bench_advance(b, 11 * TW_NS_PER_S);
		}
		peer_until(p, p->closed);
		if (i < 2)
			peer_free(p);
	}
	assert_int_equal(b->heads, 0);
	finish(b, p);
}

static void H2_15_keepalive_abuse(void **state)
{
	struct bench *b;
	struct peer *p = start(&b);
	uint32_t acks = 0;

	(void)state;
	/* Every ten seconds is fine, for as long as you like. */
	for (int i = 0; i < 20; i++) {
		h2_frame(p, NGHTTP2_PING, 0, 0, "12345678", 8);
		acks++;
		peer_until(p, p->ping_acks == acks);
		tw_clock_advance(&b->time, 10 * TW_NS_PER_S);
	}
	/* So are pings between calls: clients measure the bandwidth with them. */
	for (int32_t id = 1; id <= 19; id += 2) {
		grpc_call(p, id, none, false, "x", 1);
		peer_until(p, h2_stream(p, id)->end);
		h2_frame(p, NGHTTP2_PING, 0, 0, "12345678", 8);
		acks++;
		peer_until(p, p->ping_acks == acks);
	}
	assert_false(p->goaway);
	/* Every second, with nothing else, is not. */
	for (int i = 0; i < 5 && !p->goaway; i++) {
		h2_frame(p, NGHTTP2_PING, 0, 0, "12345678", 8);
		tw_clock_advance(&b->time, TW_NS_PER_S);
		for (int k = 0; k < 3; k++)
			peer_pump(p);
	}
	ended(p, NGHTTP2_ENHANCE_YOUR_CALM, "too_many_pings");
	finish(b, p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(H2_01_rapid_reset),
	    cmocka_unit_test(H2_01_reset_keeps_the_slot),
	    cmocka_unit_test(H2_02_made_you_reset),
	    cmocka_unit_test(H2_03_continuation_flood),
	    cmocka_unit_test(H2_04_settings_flood),
	    cmocka_unit_test(H2_04_settings_flood_unread),
	    cmocka_unit_test(H2_05_ping_flood),
	    cmocka_unit_test(H2_06_empty_frame_flood),
	    cmocka_unit_test(H2_07_window_stall),
	    cmocka_unit_test(H2_08_window_dribble),
	    cmocka_unit_test(H2_09_hpack_bomb),
	    cmocka_unit_test(H2_10_hpack_varint_zeros),
	    cmocka_unit_test(H2_11_oversize_header_then_valid),
	    cmocka_unit_test(H2_12_stream_ids),
	    cmocka_unit_test(H2_13_frames_after_goaway),
	    cmocka_unit_test(H2_14_bad_preface),
	    cmocka_unit_test(H2_15_keepalive_abuse),
	};

	return cmocka_run_group_tests_name("net server: HTTP/2 under attack", tests, NULL, NULL);
}
