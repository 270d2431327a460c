#include "client_certs.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static bool write_key(const char *path, EVP_PKEY *key)
{
	FILE *f = fopen(path, "w");
	bool ok = f && PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1;

	return f && fclose(f) == 0 && ok;
}

static bool write_cert(const char *path, X509 *x)
{
	FILE *f = fopen(path, "w");
	bool ok = f && PEM_write_X509(f, x) == 1;

	return f && fclose(f) == 0 && ok;
}

static bool extend(X509 *x, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *e;
	bool ok;

	X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
	e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	ok = e && X509_add_ext(x, e, -1) == 1;
	X509_EXTENSION_free(e);
	return ok;
}

/* issuer NULL: signs itself, an authority. */
static X509 *issue(const char *name, const char *san, EVP_PKEY *key, X509 *issuer,
                   EVP_PKEY *issuer_key, long serial, long until_s)
{
	X509 *x = X509_new();
	X509_NAME *subject = X509_get_subject_name(x);
	bool ok = X509_set_version(x, 2) && ASN1_INTEGER_set(X509_get_serialNumber(x), serial) &&
	          X509_gmtime_adj(X509_getm_notBefore(x), -172800) &&
	          X509_gmtime_adj(X509_getm_notAfter(x), until_s) && X509_set_pubkey(x, key) &&
	          X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
	                                     (const unsigned char *)name, -1, -1, 0) &&
	          X509_set_issuer_name(x, issuer ? X509_get_subject_name(issuer) : subject) &&
	          (issuer || extend(x, x, NID_basic_constraints, "critical,CA:TRUE")) &&
	          (!san || extend(x, issuer, NID_subject_alt_name, san)) &&
	          X509_sign(x, issuer ? issuer_key : key, EVP_sha256());

	if (ok)
		return x;
	X509_free(x);
	return NULL;
}

static bool leaf(struct certs *c, const char *what, char *cert, char *key_path, const char *san,
                 X509 *ca, EVP_PKEY *ca_key, long serial, long until_s)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = key ? issue(what, san, key, ca, ca_key, serial, until_s) : NULL;
	bool ok;

	snprintf(cert, 96, "%s/%s.pem", c->dir, what);
	snprintf(key_path, 96, "%s/%s.key", c->dir, what);
	ok = x && write_cert(cert, x) && write_key(key_path, key);
	X509_free(x);
	EVP_PKEY_free(key);
	return ok;
}

bool certs_make(struct certs *c)
{
	EVP_PKEY *key = EVP_EC_gen("P-256"), *other_key = EVP_EC_gen("P-256");
	X509 *ca, *other;
	bool ok;

	snprintf(c->dir, sizeof c->dir, "/tmp/tw-certs-XXXXXX");
	if (!key || !other_key || !mkdtemp(c->dir))
		return false;
	snprintf(c->ca, sizeof c->ca, "%s/ca.pem", c->dir);
	snprintf(c->other_ca, sizeof c->other_ca, "%s/other.pem", c->dir);
	ca = issue("test authority", NULL, key, NULL, NULL, 1, 86400);
	other = issue("other authority", NULL, other_key, NULL, NULL, 2, 86400);
	ok = ca && other && write_cert(c->ca, ca) && write_cert(c->other_ca, other) &&
	     leaf(c, "good", c->cert, c->key, "DNS:localhost,IP:127.0.0.1", ca, key, 3, 86400) &&
	     leaf(c, "stranger", c->stranger, c->stranger_key, "DNS:example.test,IP:192.0.2.1", ca,
	          key, 4, 86400) &&
	     leaf(c, "expired", c->expired, c->expired_key, "DNS:localhost,IP:127.0.0.1", ca, key,
	          5, -86400);
	X509_free(ca);
	X509_free(other);
	EVP_PKEY_free(key);
	EVP_PKEY_free(other_key);
	return ok;
}

void certs_remove(struct certs *c)
{
	const char *const files[] = {c->ca,       c->other_ca,     c->cert,    c->key,
	                             c->stranger, c->stranger_key, c->expired, c->expired_key};

	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		unlink(files[i]);
	rmdir(c->dir);
}
