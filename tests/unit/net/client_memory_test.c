/* MEM-01 for the client: the n-th allocation of an exchange fails, for n = 1, 2, 3 … Whatever it
 * hits, the callback comes once, the client stops, and nothing is left (side_close looks at the
 * loop, the leak checker at the rest). */
#include "client_certs.h"
#include "client_peer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tw/base/mem.h"

#define LONG (10 * TW_NS_PER_S)

static void script_http(struct peer *p)
{
	struct peer_request r;

	if (!peer_accept(p))
		return;
	peer_http_request(p, &r);
	if (r.whole)
		peer_puts(p, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	peer_request_free(&r);
	peer_until_end(p);
}

static void script_grpc(struct peer *p)
{
	struct peer_request *r;

	if (!peer_accept(p))
		return;
	peer_h2_begin(p, 100, 65535);
	r = peer_h2_request(p);
	if (r)
		peer_grpc_answer(p, r->stream, "0", "ok", 2);
	peer_until_end(p);
}

/* A request may take a second connection; the test sets the stage, and nudges, when it has had
 * enough. */
static void script_until_stage(struct peer *p)
{
	const enum tw_client_kind *kind = p->ctx;

	while (p->stage == 0) {
		if (*kind == TW_CLIENT_GRPC)
			script_grpc(p);
		else
			script_http(p);
		peer_hang_up(p);
	}
}

/* false: the exchange makes fewer allocations than that. */
static bool attempt(enum tw_client_kind kind, SSL_CTX *ctx, struct tw_tls *tls, uint64_t nth)
{
	struct tw_header h = {"a", "b"};
	struct tw_client_request q = {.path = "/x",
	                              .headers = &h,
	                              .header_count = 1,
	                              .body = tw_slice("b", 1),
	                              .timeout_ns = LONG};
	struct peer p = {.tls = ctx};
	struct side s;
	uint64_t made;
	int id;

	peer_start(&p, script_until_stage, &kind);
	side_open(&s, kind, "127.0.0.1", p.port, tls);
	tw_mem_fail_at(nth, false);
	id = side_try(&s, &q);
	if (id >= 0)
		side_wait(&s, id);
	made = tw_mem_fail_at(0, false);
	if (nth > made) {
		assert_int_equal(id, 0);
		assert_string_equal(s.answers[0].r.text, "");
		assert_int_equal(s.answers[0].r.error, 0);
	} else if (id >= 0) {
		assert_true(s.answers[0].r.error == 0 || s.answers[0].r.error == TW_EIO);
	}
	side_close(&s);
	p.stage = 1;
	peer_nudge(&p);
	peer_join(&p);
	return nth <= made;
}

static void every_allocation(enum tw_client_kind kind, SSL_CTX *ctx, struct tw_tls *tls)
{
	uint64_t nth = 1;

	while (attempt(kind, ctx, tls, nth))
		nth++;
	assert_true(nth > 5); /* so many did fail */
}

static void MEM_01_http(void **state)
{
	(void)state;
	every_allocation(TW_CLIENT_HTTP, NULL, NULL);
}

static void MEM_01_grpc(void **state)
{
	(void)state;
	every_allocation(TW_CLIENT_GRPC, NULL, NULL);
}

static void MEM_01_tls(void **state)
{
	struct certs c;
	struct tw_tls_opts o = {.enabled = true, .ca = c.ca};
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	struct tw_error err;
	struct tw_tls *tls;

	(void)state;
	assert_true(certs_make(&c));
	assert_int_equal(SSL_CTX_use_certificate_file(ctx, c.cert, SSL_FILETYPE_PEM), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey_file(ctx, c.key, SSL_FILETYPE_PEM), 1);
	tls = tw_tls_create(&o, &err);
	assert_non_null(tls);
	every_allocation(TW_CLIENT_HTTP, ctx, tls);
	tw_tls_destroy(&tls);
	SSL_CTX_free(ctx);
	certs_remove(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(MEM_01_http),
	    cmocka_unit_test(MEM_01_grpc),
	    cmocka_unit_test(MEM_01_tls),
	};

	return cmocka_run_group_tests_name("net_client_memory", tests, NULL, NULL);
}
