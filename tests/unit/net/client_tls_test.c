/* Both clients over TLS: whom they trust, what they refuse, and that they say why. */
#include "client_certs.h"
#include "client_peer.h"

#include <openssl/err.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#define LONG (10 * TW_NS_PER_S)
#define OK   "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

static int setup(void **state)
{
	struct certs *c = calloc(1, sizeof *c);

	*state = c;
	return c && certs_make(c) ? 0 : -1;
}

static int teardown(void **state)
{
	certs_remove(*state);
	free(*state);
	return 0;
}

/* ---- the two ends ---- */

static int select_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_n,
                           const unsigned char *in, unsigned in_n, void *want)
{
	const unsigned char *w = want;

	(void)ssl;
	return SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_n, w, w[0] + 1u, in,
	                             in_n) == OPENSSL_NPN_NEGOTIATED
	           ? SSL_TLSEXT_ERR_OK
	           : SSL_TLSEXT_ERR_NOACK;
}

static SSL_CTX *server(const char *cert, const char *key, const char *alpn)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	assert_non_null(ctx);
	assert_int_equal(SSL_CTX_use_certificate_file(ctx, cert, SSL_FILETYPE_PEM), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM), 1);
	if (alpn)
		SSL_CTX_set_alpn_select_cb(ctx, select_protocol, (void *)(uintptr_t)alpn);
	return ctx;
}

static struct tw_tls *client(struct tw_tls_opts o)
{
	struct tw_error err = {0};
	struct tw_tls *t;

	o.enabled = true;
	t = tw_tls_create(&o, &err);
	assert_string_equal(err.text, "");
	assert_non_null(t);
	return t;
}

static void script_http(struct peer *p)
{
	struct peer_request r;

	if (!peer_accept(p))
		return;
	peer_http_request(p, &r);
	if (r.whole && r.body_n == *(size_t *)p->ctx)
		peer_puts(p, OK);
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
	if (r && r->body_n == *(size_t *)p->ctx + 5)
		peer_grpc_answer(p, r->stream, "0", "hi", 2);
	peer_until_end(p);
}

struct run {
	struct peer peer;
	struct side side;
	struct tw_tls *tls;
	size_t n;
};

static struct answer *run(struct run *r, enum tw_client_kind kind, const char *host, SSL_CTX *ctx,
                          struct tw_tls *tls, const void *body, size_t n)
{
	memset(r, 0, sizeof *r);
	r->n = n;
	r->peer.tls = ctx;
	r->tls = tls;
	peer_start(&r->peer, kind == TW_CLIENT_GRPC ? script_grpc : script_http, &r->n);
	side_open(&r->side, kind, host, r->peer.port, r->tls);
	return side_wait(&r->side, side_send(&r->side, body, n, LONG));
}

static void over(struct run *r)
{
	side_close(&r->side);
	peer_join(&r->peer);
	SSL_CTX_free(r->peer.tls);
	tw_tls_destroy(&r->tls);
	assert_null(r->tls);
}

static void check_ok(const struct answer *a)
{
	assert_string_equal(a->r.text, "");
	assert_int_equal(a->r.error, 0);
	assert_int_equal(a->r.status, 200);
	assert_int_equal(a->r.body.n, 2);
}

/* ---- what works ---- */

static void test_grpc(void **state)
{
	struct certs *c = *state;
	size_t n = 3u << 20; /* many records */
	char *body = calloc(1, n);
	struct run r;
	struct answer *a = run(&r, TW_CLIENT_GRPC, "localhost", server(c->cert, c->key, "\x02h2"),
	                       client((struct tw_tls_opts){.ca = c->ca}), body, n);

	check_ok(a);
	assert_int_equal(a->r.grpc_status, 0);
	over(&r);
	free(body);
}

static void test_http(void **state)
{
	struct certs *c = *state;
	size_t n = 3u << 20;
	char *body = calloc(1, n);
	struct run r;

	/* By address, and with a server that knows no ALPN. */
	check_ok(run(&r, TW_CLIENT_HTTP, "127.0.0.1", server(c->cert, c->key, NULL),
	             client((struct tw_tls_opts){.ca = c->ca}), body, n));
	over(&r);
	check_ok(run(&r, TW_CLIENT_HTTP, "localhost", server(c->cert, c->key, "\x08http/1.1"),
	             client((struct tw_tls_opts){.ca = c->ca}), "b", 1));
	over(&r);
	free(body);
}

static void test_tls_1_2(void **state)
{
	struct certs *c = *state;
	SSL_CTX *ctx = server(c->cert, c->key, "\x02h2");
	struct run r;

	SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
	check_ok(run(&r, TW_CLIENT_GRPC, "localhost", ctx,
	             client((struct tw_tls_opts){.ca = c->ca}), "b", 1));
	over(&r);
}

static void test_server_name(void **state)
{
	struct certs *c = *state;
	char name[] = "example.test", address[] = "192.0.2.1";
	struct run r;

	check_ok(run(&r, TW_CLIENT_HTTP, "127.0.0.1", server(c->stranger, c->stranger_key, NULL),
	             client((struct tw_tls_opts){.ca = c->ca, .server_name = name}), "b", 1));
	over(&r);
	check_ok(run(&r, TW_CLIENT_HTTP, "localhost", server(c->stranger, c->stranger_key, NULL),
	             client((struct tw_tls_opts){.ca = c->ca, .server_name = address}), "b", 1));
	over(&r);
}

static void test_skip_verify(void **state)
{
	struct certs *c = *state;
	struct run r;

	check_ok(run(&r, TW_CLIENT_HTTP, "localhost", server(c->expired, c->expired_key, NULL),
	             client((struct tw_tls_opts){.insecure_skip_verify = true}), "b", 1));
	over(&r);
}

static void test_client_certificate(void **state)
{
	struct certs *c = *state;
	struct tw_tls_opts o = {.ca = c->ca, .cert = c->cert, .key = c->key};
	struct answer *a;
	struct run r;

	for (int with = 1; with >= 0; with--) {
		SSL_CTX *ctx = server(c->cert, c->key, "\x02h2");

		assert_int_equal(SSL_CTX_load_verify_file(ctx, c->ca), 1);
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
		if (!with)
			o.cert = o.key = NULL;
		a = run(&r, TW_CLIENT_GRPC, "localhost", ctx, client(o), "b", 1);
		if (with) {
			check_ok(a);
		} else {
			assert_int_equal(a->r.error, TW_EIO);
			assert_non_null(strstr(a->r.text, "certificate required"));
		}
		over(&r);
	}
}

/* ---- BK-18 ---- */

static void refused(enum tw_client_kind kind, const char *host, SSL_CTX *ctx, struct tw_tls *tls,
                    const char *why)
{
	struct run r;
	struct answer *a = run(&r, kind, host, ctx, tls, "b", 1);

	assert_int_equal(a->r.error, TW_EIO);
	assert_false(a->r.sent); /* not a byte of the request left */
	assert_false(a->r.timeout);
	assert_non_null(strstr(a->r.text, why));
	assert_non_null(strstr(a->r.text, "cannot connect to"));
	over(&r);
}

static void BK_18_tls_verify_failure(void **state)
{
	struct certs *c = *state;
	struct tw_tls_opts trust = {.ca = c->ca}, distrust = {.ca = c->other_ca};

	for (int kind = TW_CLIENT_GRPC; kind <= TW_CLIENT_HTTP; kind++) {
		const char *alpn = kind == TW_CLIENT_GRPC ? "\x02h2" : NULL;

		refused(kind, "localhost", server(c->cert, c->key, alpn), client(distrust),
		        "certificate verify failed: unable to get local issuer");
		refused(kind, "localhost", server(c->cert, c->key, alpn),
		        client((struct tw_tls_opts){0}),
		        "certificate verify failed"); /* the system's store does not know it */
		refused(kind, "localhost", server(c->expired, c->expired_key, alpn), client(trust),
		        "certificate verify failed: certificate has expired");
		refused(kind, "localhost", server(c->stranger, c->stranger_key, alpn),
		        client(trust), "certificate verify failed: hostname mismatch");
		refused(kind, "127.0.0.1", server(c->stranger, c->stranger_key, alpn),
		        client(trust), "certificate verify failed: IP address mismatch");
	}
}

static void BK_18_no_agreement(void **state)
{
	struct certs *c = *state;
	SSL_CTX *old = server(c->cert, c->key, NULL);

	refused(TW_CLIENT_GRPC, "localhost", server(c->cert, c->key, NULL),
	        client((struct tw_tls_opts){.ca = c->ca}), "did not agree to h2");
	SSL_CTX_set_security_level(old, 0);
	assert_int_equal(SSL_CTX_set_min_proto_version(old, TLS1_VERSION), 1);
	assert_int_equal(SSL_CTX_set_max_proto_version(old, TLS1_1_VERSION), 1);
	refused(TW_CLIENT_HTTP, "localhost", old, client((struct tw_tls_opts){.ca = c->ca}),
	        "protocol version");
}

static void script_plain(struct peer *p)
{
	peer_accept(p);
	peer_puts(p, "HTTP/1.1 400 This is not TLS\r\nContent-Length: 0\r\n\r\n");
	peer_until_end(p);
}

static void BK_18_backend_is_plain(void **state)
{
	struct certs *c = *state;
	struct tw_tls *tls = client((struct tw_tls_opts){.ca = c->ca});
	struct peer p = {0};
	struct side s;
	struct answer *a;

	peer_start(&p, script_plain, NULL);
	side_open(&s, TW_CLIENT_HTTP, "localhost", p.port, tls);
	a = side_wait(&s, side_send(&s, "b", 1, LONG));
	assert_int_equal(a->r.error, TW_EIO);
	assert_non_null(strstr(a->r.text, "wrong version number"));
	side_close(&s);
	peer_join(&p);
	tw_tls_destroy(&tls);
}

/* Under TLS the end of the connection ends an answer only when TLS says that it is the end. */
static void script_until_close(struct peer *p)
{
	struct peer_request r;

	peer_accept(p);
	peer_http_request(p, &r);
	peer_request_free(&r);
	peer_puts(p, "HTTP/1.1 200 OK\r\n\r\nok");
	if (*(bool *)p->ctx)
		SSL_shutdown(p->ssl);
	shutdown(p->fd, SHUT_WR);
	SSL_set_quiet_shutdown(p->ssl, 1);
	while (SSL_read(p->ssl, &r, 1) > 0)
		;
}

static void test_truncation(void **state)
{
	struct certs *c = *state;

	for (int clean = 0; clean < 2; clean++) {
		bool with = clean;
		struct tw_tls *tls = client((struct tw_tls_opts){.ca = c->ca});
		struct peer p = {.tls = server(c->cert, c->key, NULL)};
		struct side s;
		struct answer *a;

		peer_start(&p, script_until_close, &with);
		side_open(&s, TW_CLIENT_HTTP, "localhost", p.port, tls);
		a = side_wait(&s, side_send(&s, "b", 1, LONG));
		if (with)
			check_ok(a);
		else
			assert_int_equal(a->r.error, TW_EIO);
		side_close(&s);
		peer_join(&p);
		SSL_CTX_free(p.tls);
		tw_tls_destroy(&tls);
	}
}

/* ---- options that are wrong ---- */

static void test_options(void **state)
{
	struct certs *c = *state;
	char nowhere[] = "/nowhere/ca.pem";
	struct {
		struct tw_tls_opts o;
		const char *says;
	} cases[] = {
	    {{.ca = nowhere}, "/nowhere/ca.pem: No such file"},
	    {{.ca = c->key}, "CA certificates"},
	    {{.ca = c->ca, .cert = c->cert}, "both cert and key"},
	    {{.ca = c->ca, .key = c->key}, "both cert and key"},
	    {{.ca = c->ca, .cert = nowhere, .key = c->key}, "certificate from /nowhere"},
	    {{.ca = c->ca, .cert = c->cert, .key = nowhere}, "key from /nowhere"},
	    {{.ca = c->ca, .cert = c->cert, .key = c->stranger_key}, "key"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tw_error err = {0};

		assert_null(tw_tls_create(&cases[i].o, &err));
		assert_int_equal(err.code, TW_EINVAL);
		assert_non_null(strstr(err.text, cases[i].says));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_grpc),
	    cmocka_unit_test(test_http),
	    cmocka_unit_test(test_tls_1_2),
	    cmocka_unit_test(test_server_name),
	    cmocka_unit_test(test_skip_verify),
	    cmocka_unit_test(test_client_certificate),
	    cmocka_unit_test(BK_18_tls_verify_failure),
	    cmocka_unit_test(BK_18_no_agreement),
	    cmocka_unit_test(BK_18_backend_is_plain),
	    cmocka_unit_test(test_truncation),
	    cmocka_unit_test(test_options),
	};

	return cmocka_run_group_tests_name("net_client_tls", tests, setup, teardown);
}
