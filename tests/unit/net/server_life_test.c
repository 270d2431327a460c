/* A server's life: time that runs out, drain, kill, limits on connections, memory that is refused,
 * and the acceptor. */
#include "server_peer.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tw/base/mem.h"

#include "server_private.h"

#define POST "POST /v1/traces HTTP/1.1\r\nHost: x\r\n"
#define S    TW_NS_PER_S

static struct header none[] = {{NULL, NULL}};

static uint64_t bytes_in(struct bench *b)
{
	return tw_counter_get(&tw_server_stats(b->server)->bytes_in);
}

static uint64_t timeouts(struct bench *b)
{
	return tw_counter_get(&tw_server_stats(b->server)->timeouts);
}

/* ---- time ---- */

static void H1_01_slowloris_headers(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b), *silent = peer_open(b);

	(void)state;
	peer_sends(p, "POST / HTTP/1.1\r\nHost: x\r\n");
	peer_until(p, bytes_in(b) == 26 && tw_server_connections(b->server) == 2);
	for (int i = 0; i < 9; i++) {
		bench_advance(b, S);
		peer_sends(p, "X: y\r\n");
		peer_until(p, bytes_in(b) == 26 + 6 * (uint64_t)(i + 1));
	}
	assert_false(p->closed);
	bench_advance(b, S + 1);
	peer_until(p, p->closed);
	assert_true(peer_has(p, "HTTP/1.1 408 "));
	peer_until(silent, silent->closed);
	assert_int_equal(silent->in_n, 0);
	assert_int_equal(timeouts(b), 2);
	assert_int_equal(b->heads, 0);
	peer_free(p);
	peer_free(silent);
	bench_free(b);
}

/* 500 bytes a second are too slow, 2,000 are not. */
static void H1_02_slow_body(void **state)
{
	static const char zeros[2000 * 5];
	struct bench *b = bench_new(NULL);
	struct peer *slow = peer_open(b), *fair = peer_open(b);
	uint64_t before;

	(void)state;
	peer_sends(slow, POST "Content-Length: 1000000\r\n\r\n");
	peer_sends(fair, POST "Content-Length: 100000\r\n\r\n");
	peer_until(slow, b->heads == 2);
	for (int i = 0; i < 10; i++) {
		before = bytes_in(b);
		if (!slow->closed)
			peer_send(slow, zeros, 500 * 5);
		peer_send(fair, zeros, 2000 * 5);
		peer_until(fair, bytes_in(b) >= before + (slow->closed ? 10000 : 12500));
		bench_advance(b, 5 * S);
		peer_pump(slow);
		peer_pump(slow);
	}
	peer_until(fair, peer_has(fair, "HTTP/1.1 200 "));
	peer_until(slow, slow->closed);
	assert_true(peer_has(slow, "HTTP/1.1 408 "));
	assert_int_equal(b->closed, 1);
	assert_int_equal(b->whole, 1);
	assert_int_equal(timeouts(b), 1);
	peer_free(slow);
	peer_free(fair);
	bench_free(b);
}

static void slow_body_http2(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b);

	(void)state;
	h2_start(p);
	grpc_begin(p, 1, none);
	h2_request(p, 3, "POST", "/v1/traces", "application/json", none, false);
	peer_until(p, b->heads == 2);
	bench_advance(b, 31 * S);
	peer_until(p, h2_stream(p, 1)->reset >= 0 && h2_stream(p, 3)->reset >= 0);
	assert_int_equal(h2_stream(p, 1)->grpc_status, 4);
	assert_int_equal(h2_stream(p, 3)->status, 408);
	assert_int_equal(b->closed, 2);
	grpc_call(p, 5, none, false, "x", 1);
	peer_until(p, h2_stream(p, 5)->end);
	assert_int_equal(h2_stream(p, 5)->grpc_status, 0);
	peer_free(p);
	bench_free(b);
}

static void slow_http2_heads(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *mute = peer_open(b), *half = peer_open(b);
	uint8_t block[1024];
	size_t n = h2_block(half, block, sizeof(block), "POST", "/", "application/grpc", none);

	(void)state;
	/* A preface and no SETTINGS; a header block that does not end. */
	peer_sends(mute, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
	peer_until(mute, mute->settings == 1);
	h2_start(half);
	h2_frame(half, NGHTTP2_HEADERS, 0, 1, block, n - 1);
	peer_until(half, tw_counter_get(&tw_server_stats(b->server)->requests_total) == 1);
	bench_advance(b, 11 * S);
	peer_until(mute, mute->closed);
	peer_until(half, half->closed);
	assert_true(mute->goaway && half->goaway);
	assert_int_equal(timeouts(b), 2);
	peer_free(mute);
	peer_free(half);
	bench_free(b);
}

static void idle_connections_end(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p1 = peer_open(b), *p2 = peer_open(b);

	(void)state;
	h2_start(p2);
	peer_sends(p1, POST "Content-Length: 0\r\n\r\n");
	grpc_call(p2, 1, none, false, "x", 1);
	peer_until(p1, peer_has(p1, "HTTP/1.1 200 "));
	peer_until(p2, h2_stream(p2, 1)->end);
	bench_advance(b, 59 * S);
	for (int i = 0; i < 5; i++)
		peer_pump(p1);
	assert_false(p1->closed);
	bench_advance(b, 2 * S);
	peer_until(p1, p1->closed);
	bench_advance(b, 530 * S);
	for (int i = 0; i < 5; i++)
		peer_pump(p2);
	assert_false(p2->goaway || p2->closed);
	bench_advance(b, 10 * S);
	peer_until(p2, p2->closed);
	assert_true(p2->goaway);
	assert_int_equal(p2->goaway_code, NGHTTP2_NO_ERROR);
	peer_free(p1);
	peer_free(p2);
	bench_free(b);
}

/* A peer that neither reads nor leaves. */
static void unread_answers_end(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b);
	uint8_t *answer = calloc(1, 16 << 20);

	(void)state;
	b->answer = tw_slice(answer, 16 << 20);
	p->reads = false;
	peer_sends(p, POST "Content-Length: 0\r\n\r\n");
	peer_until(p, b->whole == 1);
	for (int i = 0; i < 100; i++)
		peer_pump(p);
	bench_advance(b, 31 * S);
	peer_until(p, tw_server_connections(b->server) == 0);
	assert_int_equal(timeouts(b), 1);
	free(answer);
	peer_free(p);
	bench_free(b);
}

/* ---- the end ---- */

static void drain_finishes_what_is_open(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *idle1 = peer_open(b), *busy1 = peer_open(b), *idle2 = peer_open(b),
	            *busy2 = peer_open(b);

	(void)state;
	peer_sends(idle1, POST "Content-Length: 0\r\n\r\n");
	peer_until(idle1, peer_has(idle1, "HTTP/1.1 200 "));
	h2_start(idle2);
	h2_start(busy2);
	b->hold = true;
	peer_sends(busy1, POST "Content-Length: 0\r\n\r\n");
	grpc_call(busy2, 1, none, false, "x", 1);
	grpc_begin(busy2, 3, none);
	peer_until(busy2, b->held_n == 2 && b->heads == 4);
	tw_server_drain(b->server);
	peer_until(idle1, idle1->closed);
	peer_until(idle2, idle2->closed);
	assert_true(idle2->goaway);
	assert_int_equal(idle2->goaway_code, NGHTTP2_NO_ERROR);
	assert_false(tw_server_idle(b->server));
	/* New connections are not taken; a request that was on its way is. */
	struct peer *late = peer_open(b);

	peer_until(late, late->closed);
	grpc_call(busy2, 5, none, false, "x", 1);
	h2_data(busy2, 3, "\0\0\0\0\1x", 6, true);
	peer_until(busy2, b->held_n == 4);
	bench_release(b);
	peer_until(busy1, busy1->closed);
	assert_true(peer_has(busy1, "HTTP/1.1 200 ") && peer_has(busy1, "connection: close\r\n"));
	peer_until(busy2, busy2->closed);
	for (int32_t id = 1; id <= 5; id += 2)
		assert_int_equal(h2_stream(busy2, id)->grpc_status, 0);
	assert_true(busy2->goaway);
	peer_free(idle1), peer_free(idle2), peer_free(busy1), peer_free(busy2);
	peer_until(late, tw_server_idle(b->server));
	peer_free(late);
	bench_free(b);
}

static void kill_frees_everything(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p1 = peer_open(b), *p2 = peer_open(b), *p3 = peer_open(b);

	(void)state;
	h2_start(p2);
	b->hold = true;
	peer_sends(p1, POST "Content-Length: 1000\r\n\r\nabc");
	grpc_call(p2, 1, none, false, "x", 1);
	grpc_begin(p2, 3, none);
	h2_data(p2, 3, "\0\0\0\1\0abc", 8, false);
	peer_sends(p3, "PRI * HT");
	peer_until(p2, b->held_n == 1 && b->heads == 3 && tw_server_connections(b->server) == 3);
	peer_free(p1), peer_free(p2), peer_free(p3);
	/* Kills first, and answers what was held after that. */
	bench_free(b);
}

/* The server is destroyed while somebody still has a request; the last reply frees the rest (the
 * leak check is the test). */
static void reply_after_destroy(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b);
	struct tw_reply r = {.status = 200};

	(void)state;
	b->hold = true;
	peer_sends(p, POST "Content-Length: 3\r\n\r\nabc");
	peer_until(p, b->held_n == 1);
	b->held_n = 0;
	tw_acceptor_stop(b->acceptor);
	tw_server_kill(b->server);
	uv_run(&b->loop, UV_RUN_DEFAULT);
	tw_server_destroy(&b->server);
	assert_null(b->server);
	tw_exchange_reply(b->held[0], &r);
	assert_int_equal(tw_budget_used(&b->bodies), 0);
	tw_acceptor_destroy(&b->acceptor);
	assert_int_equal(uv_loop_close(&b->loop), 0);
	peer_free(p);
	free(b->seen[0].body);
	free(b);
}

static void three(struct tw_server_opts *o)
{
	o->connections_max = 3;
}

static void connections_are_limited(void **state)
{
	struct bench *b = bench_new(three);
	struct peer *p[4];

	(void)state;
	for (int i = 0; i < 4; i++)
		p[i] = peer_open(b);
	peer_until(p[3], p[3]->closed);
	assert_int_equal(tw_server_connections(b->server), 3);
	assert_int_equal(tw_counter_get(&tw_server_stats(b->server)->refused_connections), 1);
	peer_free(p[0]);
	peer_until(p[1], tw_server_connections(b->server) == 2);
	p[0] = peer_open(b);
	peer_sends(p[0], POST "Content-Length: 0\r\n\r\n");
	peer_until(p[0], peer_has(p[0], "HTTP/1.1 200 "));
	for (int i = 0; i < 4; i++)
		peer_free(p[i]);
	bench_free(b);
}

/* ---- turns ---- */

static uint64_t hurrying_ns(void *ctx)
{
	struct tw_clock_virtual *t = ctx;

	return t->mono_ns += TW_NS_PER_MS;
}

/* A turn in which time is up after the first read leaves the others to the next ones, and nobody is
 * read twice before everybody was read, however much he sends. */
static void a_turn_reads_for_a_bounded_time(void **state)
{
	static const char request[] = POST "Content-Length: 0\r\n\r\n";
	struct bench *b = bench_new(NULL);
	struct peer *p[6];

	(void)state;
	for (int i = 0; i < 6; i++)
		p[i] = peer_open(b);
	peer_until(p[0], tw_server_connections(b->server) == 6);
	b->clock.mono_ns = hurrying_ns;
	for (int i = 0; i < 6; i++)
		peer_sends(p[i], request);
	bench_turn(b);
	assert_int_equal(b->seen_n, 1);
	for (int turn = 1; turn < 8; turn++) {
		peer_sends(p[0], request);
		bench_turn(b);
	}
	for (int i = 0; i < 6; i++) {
		peer_pump(p[i]);
		assert_true(peer_has(p[i], "HTTP/1.1 200 "));
	}
	b->clock = tw_clock_virtual(&b->time);
	for (int i = 0; i < 6; i++)
		peer_free(p[i]);
	bench_free(b);
}

/* ---- memory ---- */

static bool one_of_each(struct bench *b)
{
	struct peer *p1 = peer_open(b), *p2 = peer_open(b);
	uint8_t prefix[5] = {0, 0, 0, 0, 200};
	static const uint8_t message[200];
	bool served;

	peer_sends(p1, POST "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
	peer_sends(p2, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
	h2_frame(p2, NGHTTP2_SETTINGS, 0, 0, "", 0);
	grpc_begin(p2, 1, none);
	h2_data(p2, 1, prefix, 5, false);
	h2_data(p2, 1, message, 200, true);
	peer_until(p1, p1->closed || peer_has(p1, "\r\n\r\n"));
	peer_until(p2, p2->closed || h2_stream(p2, 1)->end || h2_stream(p2, 1)->reset >= 0);
	served = peer_has(p1, "HTTP/1.1 200 ") && h2_stream(p2, 1)->grpc_status == 0;
	peer_free(p1);
	peer_free(p2);
	/* Both gone, so that what is allocated next is the same in every round. */
	for (unsigned i = 0; tw_server_connections(b->server) > 0; i++) {
		assert_true(i < 1000000);
		bench_turn(b);
	}
	return served;
}

/* Each allocation in turn is refused once, and then all after it for a while: nobody crashes, and
 * the next ones are served. */
static void MEM_01_allocations_fail(void **state)
{
	struct bench *b = bench_new(NULL);
	uint64_t whole = 0;

	(void)state;
	assert_true(one_of_each(b));
	for (uint64_t n = 1; n <= 200; n++) {
		for (int sticky = 0; sticky < 2; sticky++) {
			tw_mem_fail_at(n, sticky == 1);
			whole += one_of_each(b);
			tw_mem_fail_at(0, false);
			assert_true(one_of_each(b));
			assert_int_equal(tw_budget_used(&b->bodies), 0);
		}
		if (b->seen_n > SEEN_MAX)
			b->seen_n = SEEN_MAX;
	}
	/* The last rounds make fewer allocations than that: nothing was refused in them. */
	assert_true(whole > 0 && whole < 400);
	bench_free(b);
}

static void MEM_01_create_fails(void **state)
{
	struct tw_server_opts o = {.handler = (tw_handler)1};
	uv_loop_t loop;
	unsigned failed = 0;

	(void)state;
	uv_loop_init(&loop);
	for (uint64_t n = 1; n < 10; n++) {
		struct tw_server *s;

		tw_mem_fail_at(n, false);
		s = tw_server_create(&loop, &o);
		tw_mem_fail_at(0, false);
		if (s == NULL) {
			failed++;
			continue;
		}
		tw_server_kill(s);
		uv_run(&loop, UV_RUN_DEFAULT);
		tw_server_destroy(&s);
	}
	assert_int_equal(failed, 2);
	assert_int_equal(uv_loop_close(&loop), 0);
}

/* ---- the acceptor ---- */

static bool never(void *ctx, uv_os_sock_t fd, uint32_t port_tag)
{
	(void)fd, (void)port_tag;
	++*(unsigned *)ctx;
	return false;
}

static void acceptor_addresses(void **state)
{
	static const char *good[] = {"127.0.0.1:0", ":0", "localhost:0"};
	static const char *bad[] = {"",         "127.0.0.1", "127.0.0.1:",     "127.0.0.1:x",
	                            "::1:4317", "a b:1",     "127.0.0.1:65536"};
	unsigned given = 0;
	uv_loop_t loop;
	struct tw_acceptor *a;
	struct tw_error err;
	char taken[32];

	(void)state;
	uv_loop_init(&loop);
	a = tw_acceptor_create(&loop, never, &given);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(tw_acceptor_listen(a, good[i], i, &err), 0);
		assert_true(tw_acceptor_port(a, i) > 0);
	}
	for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_true(tw_acceptor_listen(a, bad[i], 100 + i, &err) < 0);
		assert_true(err.text[0] != '\0');
		assert_int_equal(tw_acceptor_port(a, 100 + i), 0);
	}
	snprintf(taken, sizeof(taken), "127.0.0.1:%u", tw_acceptor_port(a, 0));
	assert_int_equal(tw_acceptor_listen(a, taken, 9, &err), TW_EIO);
	assert_non_null(strstr(err.text, "address already in use"));
	tw_acceptor_stop(a);
	uv_run(&loop, UV_RUN_DEFAULT);
	tw_acceptor_destroy(&a);
	assert_int_equal(uv_loop_close(&loop), 0);
}

/* Who has connected before the stop is handed over, not reset. */
static void stop_empties_the_queue(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p[20];

	(void)state;
	for (int i = 0; i < 20; i++) {
		p[i] = peer_open(b);
		peer_sends(p[i], POST "Content-Length: 0\r\n\r\n");
		p[i]->sends = 0;
	}
	tw_acceptor_stop(b->acceptor);
	assert_int_equal(tw_server_connections(b->server), 20);
	for (int i = 0; i < 20; i++) {
		peer_until(p[i], peer_has(p[i], "HTTP/1.1 200 "));
		peer_free(p[i]);
	}
	bench_free(b);
}

/* No descriptor left: the peer is turned away, the loop does not spin, and it is counted. */
static void NET_03_no_descriptors(void **state)
{
	struct bench *b = bench_new(NULL);
	struct peer *p = peer_open(b), *q;
	struct rlimit old, now;
	int last;

	(void)state;
	q = peer_open(b);
	last = dup(0);
	close(last);
	getrlimit(RLIMIT_NOFILE, &old);
	now = old;
	now.rlim_cur = (rlim_t)last;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
	peer_until(p, p->closed);
	peer_until(q, q->closed);
	assert_true(tw_acceptor_failures(b->acceptor) >= 2);
	assert_int_equal(tw_server_connections(b->server), 0);
	setrlimit(RLIMIT_NOFILE, &old);
	peer_free(p);
	peer_free(q);
	p = peer_open(b);
	peer_sends(p, POST "Content-Length: 0\r\n\r\n");
	peer_until(p, peer_has(p, "HTTP/1.1 200 "));
	peer_free(p);
	bench_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(H1_01_slowloris_headers),
	    cmocka_unit_test(H1_02_slow_body),
	    cmocka_unit_test(slow_body_http2),
	    cmocka_unit_test(slow_http2_heads),
	    cmocka_unit_test(idle_connections_end),
	    cmocka_unit_test(unread_answers_end),
	    cmocka_unit_test(drain_finishes_what_is_open),
	    cmocka_unit_test(kill_frees_everything),
	    cmocka_unit_test(reply_after_destroy),
	    cmocka_unit_test(connections_are_limited),
	    cmocka_unit_test(a_turn_reads_for_a_bounded_time),
	    cmocka_unit_test(MEM_01_allocations_fail),
	    cmocka_unit_test(MEM_01_create_fails),
	    cmocka_unit_test(acceptor_addresses),
	    cmocka_unit_test(stop_empties_the_queue),
	    cmocka_unit_test(NET_03_no_descriptors),
	};

	return cmocka_run_group_tests_name("net server: life", tests, NULL, NULL);
}
