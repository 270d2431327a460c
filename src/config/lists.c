/* Lists and small maps of the configuration: destinations, headers, dimensions, buckets. */
#include "option.h"

#include "tw/base/limits.h"
#include "tw/base/mem.h"

static bool is_list(struct tw_loader *l, const struct tw_node *n, const char *of)
{
	return n->kind == TW_NODE_SEQ || tw_option_wrong(l, n, "expected a list of %s", of);
}

bool tw_read_dimensions(struct tw_loader *l, const struct tw_node *n, void *base)
{
	struct tw_metrics_opts *m = &((struct tw_config *)base)->metrics;
	bool good = true;

	if (!is_list(l, n, "attribute keys"))
		return false;
	for (const struct tw_node *e = n->first; e != NULL; e = e->next) {
		struct tw_slice s = tw_option_text(l, e);

		if (s.p == NULL || s.n == 0) {
			good =
			    s.p == NULL ? false : tw_option_wrong(l, e, "an empty attribute key");
			continue;
		}
		if (m->dimension_count == TW_DIMENSIONS_MAX)
			return tw_option_wrong(l, e, "at most %u dimensions", TW_DIMENSIONS_MAX);
		m->dimensions[m->dimension_count] = tw_option_dup(l, s);
		if (m->dimensions[m->dimension_count] == NULL)
			return false;
		m->dimension_count++;
	}
	return good;
}

bool tw_read_buckets(struct tw_loader *l, const struct tw_node *n, void *base)
{
	struct tw_metrics_opts *m = &((struct tw_config *)base)->metrics;

	if (!is_list(l, n, "durations"))
		return false;
	m->bucket_count = 0;
	for (const struct tw_node *e = n->first; e != NULL; e = e->next) {
		struct tw_slice s = tw_option_text(l, e);
		uint64_t ns;

		if (s.p == NULL)
			return false;
		if (m->bucket_count == TW_BUCKETS_MAX)
			return tw_option_wrong(l, e, "at most %u buckets", TW_BUCKETS_MAX);
		if (tw_duration_parse((const char *)s.p, s.n, &ns) != 0 || ns == 0)
			return tw_option_wrong(l, e, "expected a duration such as 250ms");
		if (m->bucket_count != 0 && ns <= m->bucket_ns[m->bucket_count - 1])
			return tw_option_wrong(l, e, "buckets must rise");
		m->bucket_ns[m->bucket_count++] = ns;
	}
	return m->bucket_count != 0 || tw_option_wrong(l, n, "at least one bucket");
}

bool tw_read_headers(struct tw_loader *l, const struct tw_node *n, void *base)
{
	struct tw_dest_opts *d = base;

	if (n->kind == TW_NODE_SCALAR && n->value.n == 0)
		return true;
	if (n->kind != TW_NODE_MAP)
		return tw_option_wrong(l, n, "expected header names and values");
	for (const struct tw_node *e = n->first; e != NULL; e = e->next) {
		struct tw_slice s = tw_option_text(l, e), k = e->key->value;
		char *name;

		if (s.p == NULL)
			return false;
		if (d->header_count == TW_DEST_HEADERS_MAX)
			return tw_option_wrong(l, e, "at most %u headers", TW_DEST_HEADERS_MAX);
		for (size_t i = 0; i < s.n; i++)
			if (s.p[i] < 0x20 || s.p[i] == 0x7f)
				return tw_option_wrong(l, e,
				                       "a header value cannot hold control "
				                       "characters");
		for (size_t i = 0; i < k.n; i++)
			if (k.p[i] <= 0x20 || k.p[i] >= 0x7f || k.p[i] == ':')
				return tw_option_wrong(l, e->key, "not a header name");
		name = tw_option_dup(l, k);
		if (name == NULL)
			return false;
		for (char *p = name; *p != '\0'; p++)
			if (*p >= 'A' && *p <= 'Z')
				*p = (char)(*p + 32);
		d->header_names[d->header_count] = name;
		d->header_values[d->header_count] = tw_option_dup(l, s);
		d->header_count++;
		if (l->no_memory)
			return false;
	}
	return true;
}

bool tw_read_tls(struct tw_loader *l, const struct tw_node *n, void *base)
{
	static const struct tw_option rows[] = {
	    {"ca", TW_OPT_STRING, .offset = offsetof(struct tw_tls_opts, ca)},
	    {"cert", TW_OPT_STRING, .offset = offsetof(struct tw_tls_opts, cert)},
	    {"key", TW_OPT_STRING, .offset = offsetof(struct tw_tls_opts, key)},
	    {"server_name", TW_OPT_STRING, .offset = offsetof(struct tw_tls_opts, server_name)},
	    {"insecure_skip_verify", TW_OPT_BOOL,
	     .offset = offsetof(struct tw_tls_opts, insecure_skip_verify)},
	};
	struct tw_dest_opts *d = base;

	d->tls.enabled = true;
	if (n->kind == TW_NODE_SCALAR && n->value.n == 0)
		return true;
	if (!tw_option_read(l, n, rows, sizeof(rows) / sizeof(rows[0]), &d->tls))
		return false;
	if ((d->tls.cert == NULL) != (d->tls.key == NULL))
		return tw_option_wrong(l, n, "cert and key belong together");
	return true;
}

bool tw_read_target(struct tw_loader *l, const struct tw_node *n, void *base)
{
	struct tw_dest_opts *d = base;
	struct tw_slice s = tw_option_text(l, n), k = n->key->value;
	struct tw_error err;
	char host[256], path[512];
	uint16_t port;
	bool tls = false;

	if (s.p == NULL)
		return false;
	if (d->target != NULL)
		return tw_option_wrong(l, n->key,
		                       "a destination is one of file, otlp_grpc, otlp_http");
	if (s.n == 0)
		return tw_option_wrong(l, n, "where to?");
	d->target = tw_option_dup(l, s);
	if (d->target == NULL)
		return false;
	if (tw_slice_eq(k, tw_slice_str("file"))) {
		d->kind = TW_DEST_FILE;
		return true;
	}
	d->kind = tw_slice_eq(k, tw_slice_str("otlp_grpc")) ? TW_DEST_OTLP_GRPC : TW_DEST_OTLP_HTTP;
	if (tw_address_parse(d->target, host, sizeof(host), &port, path, sizeof(path), &tls,
	                     &err) != 0)
		return tw_option_wrong(l, n, "%s", err.text);
	if (tls)
		d->tls.enabled = true;
	return true;
}

static bool read_dest(struct tw_loader *l, const struct tw_node *n, uint32_t i)
{
	struct tw_dest_opts *d = &l->config->forward[i];

	if (!tw_dest_defaults(l, d) || !tw_option_read(l, n, tw_dest_rows, tw_dest_row_count, d))
		return false;
	if (d->target == NULL)
		return tw_option_wrong(l, n, "a destination needs file, otlp_grpc or otlp_http");
	if (d->name == NULL)
		return tw_option_wrong(l, n, "a destination needs a name");
	if (d->backoff_most_ns < d->backoff_first_ns)
		return tw_option_wrong(l, n, "backoff_most must not be less than backoff_first");
	for (uint32_t k = 0; k < i; k++)
		if (strcmp(l->config->forward[k].name, d->name) == 0)
			return tw_option_wrong(l, n, "two destinations are named '%s'", d->name);
	return true;
}

bool tw_read_forward(struct tw_loader *l, const struct tw_node *n, void *base)
{
	struct tw_config *c = base;
	bool good = true;

	if (!is_list(l, n, "destinations"))
		return false;
	for (const struct tw_node *e = n->first; e != NULL; e = e->next) {
		if (c->forward_count == TW_DESTINATIONS_MAX)
			return tw_option_wrong(l, e, "at most %u destinations",
			                       TW_DESTINATIONS_MAX);
		good = read_dest(l, e, c->forward_count++) && good;
	}
	return good;
}
