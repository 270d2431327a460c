#include "tls.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "tw/base/mem.h"

#define TLS_HELD_BYTES_MAX (1u << 20) /* plain bytes kept until the handshake is done */

struct tw_tls {
	SSL_CTX *ctx;
	char *server_name; /* NULL: the host */
	bool verify;
};

struct tls_filter {
	struct tw_filter f;
	SSL *ssl;
	BIO *from, *to; /* ciphertext: from the socket, to the socket; owned by ssl */
	struct tw_buf held;
	bool ready, broken;
	char alpn[16];
};

static struct tls_filter *of(const struct tw_filter *f)
{
	return (struct tls_filter *)(uintptr_t)f;
}

/* OpenSSL's oldest complaint: the first is the cause, the rest are its consequences. */
static int tls_error(struct tw_error *err, int code, const char *what)
{
	unsigned long e = ERR_peek_error();
	const char *reason = e ? ERR_reason_error_string(e) : NULL;

	tw_error_set(err, code, 0, "%s: %s", what,
	             e && ERR_SYSTEM_ERROR(e) ? strerror(ERR_GET_REASON(e))
	             : reason                 ? reason
	                                      : "no reason given");
	ERR_clear_error();
	return code;
}

/* ---- the context ---- */

static int load_ca(SSL_CTX *ctx, const char *ca, struct tw_error *err)
{
	char what[200];

	if (ca ? SSL_CTX_load_verify_file(ctx, ca) : SSL_CTX_set_default_verify_paths(ctx))
		return 0;
	snprintf(what, sizeof what, "cannot read the CA certificates from %.150s",
	         ca ? ca : "the system's store");
	return tls_error(err, TW_EINVAL, what);
}

static int load_identity(SSL_CTX *ctx, const struct tw_tls_opts *o, struct tw_error *err)
{
	char what[200];

	if (!o->cert && !o->key)
		return 0;
	if (!o->cert || !o->key)
		return tw_error_set(err, TW_EINVAL, 0,
		                    "a client certificate needs both cert and key");
	if (SSL_CTX_use_certificate_chain_file(ctx, o->cert) != 1) {
		snprintf(what, sizeof what, "cannot read the certificate from %.150s", o->cert);
		return tls_error(err, TW_EINVAL, what);
	}
	if (SSL_CTX_use_PrivateKey_file(ctx, o->key, SSL_FILETYPE_PEM) != 1) {
		snprintf(what, sizeof what, "cannot read the key from %.150s", o->key);
		return tls_error(err, TW_EINVAL, what);
	}
	if (SSL_CTX_check_private_key(ctx) != 1)
		return tls_error(err, TW_EINVAL, "the key does not belong to the certificate");
	return 0;
}

static int ctx_configure(SSL_CTX *ctx, const struct tw_tls_opts *o, struct tw_error *err)
{
	int rc;

	SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_verify(ctx, o->insecure_skip_verify ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
	rc = o->insecure_skip_verify && !o->ca ? 0 : load_ca(ctx, o->ca, err);
	return rc ? rc : load_identity(ctx, o, err);
}

struct tw_tls *tw_tls_create(const struct tw_tls_opts *o, struct tw_error *err)
{
	struct tw_tls *t = tw_calloc(1, sizeof *t);

	ERR_clear_error();
	if (t && o->server_name)
		t->server_name = tw_strndup(o->server_name, strlen(o->server_name));
	if (!t || (o->server_name && !t->server_name)) {
		tw_error_set(err, TW_ENOMEM, 0, "no memory for TLS");
		tw_free(t);
		return NULL;
	}
	t->verify = !o->insecure_skip_verify;
	t->ctx = SSL_CTX_new(TLS_client_method());
	if (!t->ctx)
		tls_error(err, TW_ENOMEM, "cannot set up TLS");
	if (!t->ctx || ctx_configure(t->ctx, o, err))
		tw_tls_destroy(&t);
	return t;
}

void tw_tls_destroy(struct tw_tls **t)
{
	if (!*t)
		return;
	SSL_CTX_free((*t)->ctx);
	tw_free((*t)->server_name);
	tw_free(*t);
	*t = NULL;
}

/* ---- the filter ---- */

/* After every call, also one that failed: an alert may lie there. */
static int drain(struct tls_filter *t, struct tw_buf *wire, struct tw_error *err)
{
	size_t n = BIO_ctrl_pending(t->to);
	int got;

	if (n == 0)
		return 0;
	if (!tw_buf_grow(wire, n))
		return tw_error_set(err, TW_ENOMEM, 0, "no memory for TLS");
	got = BIO_read(t->to, wire->p + wire->n, (int)n);
	TW_ASSERT(got == (int)n);
	wire->n += n;
	return 0;
}

static int handshake_error(struct tls_filter *t, struct tw_error *err)
{
	long verify = SSL_get_verify_result(t->ssl);

	t->broken = true;
	if (verify != X509_V_OK && SSL_get_verify_mode(t->ssl) != SSL_VERIFY_NONE) {
		ERR_clear_error();
		return tw_error_set(err, TW_EINVAL, 0, "certificate verify failed: %s",
		                    X509_verify_cert_error_string(verify));
	}
	return tls_error(err, TW_EINVAL, "TLS handshake failed");
}

static int put_plain(struct tls_filter *t, const uint8_t *p, size_t n, struct tw_error *err)
{
	size_t done;

	if (n == 0)
		return 0;
	ERR_clear_error();
	/* A memory BIO takes everything: there is no short write. */
	if (SSL_write_ex(t->ssl, p, n, &done) == 1 && done == n)
		return 0;
	t->broken = true;
	return tls_error(err, TW_EINVAL, "cannot encrypt");
}

static int handshake(struct tls_filter *t, struct tw_buf *wire, struct tw_error *err)
{
	const unsigned char *alpn;
	unsigned alpn_n;
	int rc, why, drained;

	ERR_clear_error();
	rc = SSL_do_handshake(t->ssl);
	why = SSL_get_error(t->ssl, rc);
	drained = drain(t, wire, err);
	if (rc != 1)
		return why == SSL_ERROR_WANT_READ ? drained : handshake_error(t, err);
	t->ready = true;
	SSL_get0_alpn_selected(t->ssl, &alpn, &alpn_n);
	snprintf(t->alpn, sizeof t->alpn, "%.*s", (int)alpn_n, (const char *)alpn);
	if (drained == 0 && t->held.n) {
		drained = put_plain(t, t->held.p, t->held.n, err);
		tw_buf_deinit(&t->held);
		if (drained == 0)
			drained = drain(t, wire, err);
	}
	return drained;
}

/* Hands out plain bytes until no whole record is left. */
static int read_all(struct tls_filter *t, struct tw_buf *wire, struct tw_error *err)
{
	uint8_t plain[16384];
	size_t n;
	int rc, why, drained;

	for (;;) {
		ERR_clear_error();
		rc = SSL_read_ex(t->ssl, plain, sizeof plain, &n);
		why = rc == 1 ? SSL_ERROR_NONE : SSL_get_error(t->ssl, rc);
		drained = drain(t, wire, err);
		if (drained)
			return drained;
		if (why == SSL_ERROR_NONE) {
			t->f.plain(t->f.ctx, plain, n);
			continue;
		}
		if (why == SSL_ERROR_WANT_READ)
			return 0;
		if (why == SSL_ERROR_ZERO_RETURN)
			return tw_error_set(err, TW_ECLOSED, 0, "closed by the backend");
		t->broken = true;
		return tls_error(err, TW_EINVAL, "TLS");
	}
}

static int tls_in(struct tw_filter *f, const uint8_t *p, size_t n, struct tw_buf *wire,
                  struct tw_error *err)
{
	struct tls_filter *t = of(f);
	int rc;

	if (t->broken)
		return tw_error_set(err, TW_EINVAL, 0, "TLS has failed before");
	if (BIO_write(t->from, p, (int)n) != (int)n)
		return tw_error_set(err, TW_ENOMEM, 0, "no memory for TLS");
	if (!t->ready) {
		rc = handshake(t, wire, err);
		if (rc || !t->ready)
			return rc;
	}
	return read_all(t, wire, err);
}

static int tls_out(struct tw_filter *f, const uint8_t *p, size_t n, struct tw_buf *wire,
                   struct tw_error *err)
{
	struct tls_filter *t = of(f);
	int rc;

	if (t->broken)
		return tw_error_set(err, TW_EINVAL, 0, "TLS has failed before");
	if (!t->ready) {
		tw_buf_put(&t->held, p, n);
		return t->held.failed
		           ? tw_error_set(err, TW_ENOMEM, 0, "no room before the handshake")
		           : 0;
	}
	rc = put_plain(t, p, n, err);
	return rc ? rc : drain(t, wire, err);
}

static int tls_start(struct tw_filter *f, struct tw_buf *wire, struct tw_error *err)
{
	return handshake(of(f), wire, err);
}

static void tls_shutdown(struct tw_filter *f, struct tw_buf *wire)
{
	struct tls_filter *t = of(f);
	struct tw_error err;

	if (!t->ready || t->broken)
		return;
	ERR_clear_error();
	SSL_shutdown(t->ssl);
	drain(t, wire, &err);
	ERR_clear_error();
}

static bool tls_ready(const struct tw_filter *f)
{
	return of(f)->ready;
}

static const char *tls_alpn(const struct tw_filter *f)
{
	return of(f)->alpn;
}

static void tls_destroy(struct tw_filter *f)
{
	struct tls_filter *t = of(f);

	SSL_free(t->ssl); /* with both BIOs */
	tw_buf_deinit(&t->held);
	tw_free(t);
}

static bool is_address(const char *host)
{
	unsigned char a[sizeof(struct in6_addr)];

	return inet_pton(AF_INET, host, a) == 1 || inet_pton(AF_INET6, host, a) == 1;
}

/* Who the peer must be: a name also travels as SNI, an address (RFC 6066) does not. */
static bool expect_host(const struct tw_tls *t, SSL *ssl, const char *host)
{
	const char *name = t->server_name ? t->server_name : host;

	if (is_address(name))
		return !t->verify || X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return SSL_set_tlsext_host_name(ssl, name) == 1 &&
	       (!t->verify || SSL_set1_host(ssl, name) == 1);
}

static bool offer_alpn(SSL *ssl, const char *alpn)
{
	unsigned char wire[16];
	size_t n = strlen(alpn);

	TW_ASSERT(n < sizeof wire);
	wire[0] = (unsigned char)n;
	memcpy(wire + 1, alpn, n);
	return SSL_set_alpn_protos(ssl, wire, (unsigned)n + 1) == 0; /* 0 is success, here */
}

static bool attach_bios(struct tls_filter *t)
{
	t->from = BIO_new(BIO_s_mem());
	t->to = BIO_new(BIO_s_mem());
	if (!t->from || !t->to) {
		BIO_free(t->from);
		BIO_free(t->to);
		return false;
	}
	SSL_set_bio(t->ssl, t->from, t->to);
	return true;
}

struct tw_filter *tw_tls_filter_create(struct tw_tls *tls, const char *host, const char *alpn)
{
	struct tls_filter *t = tw_calloc(1, sizeof *t);

	if (!t)
		return NULL;
	t->f = (struct tw_filter){.in = tls_in,
	                          .out = tls_out,
	                          .start = tls_start,
	                          .shutdown = tls_shutdown,
	                          .ready = tls_ready,
	                          .alpn = tls_alpn,
	                          .destroy = tls_destroy};
	tw_buf_init(&t->held, TLS_HELD_BYTES_MAX);
	ERR_clear_error();
	t->ssl = SSL_new(tls->ctx);
	if (!t->ssl || !attach_bios(t) || !expect_host(tls, t->ssl, host) ||
	    !offer_alpn(t->ssl, alpn)) {
		tls_destroy(&t->f);
		return NULL;
	}
	SSL_set_connect_state(t->ssl);
	return &t->f;
}
