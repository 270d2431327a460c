#include "server_private.h"

#include <ctype.h>
#include <strings.h>

static bool name_is(struct tw_slice name, const char *want)
{
	size_t n = strlen(want);

	return name.n == n && strncasecmp((const char *)name.p, want, n) == 0;
}

static struct tw_slice trim(struct tw_slice s)
{
	while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
		s = tw_slice(s.p + 1, s.n - 1);
	while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

/* Copies what fits. A field cut off here can only fail to match what it is compared with. */
static void copy(char *to, size_t cap, struct tw_slice s)
{
	size_t n = s.n < cap ? s.n : cap - 1;

	if (n > 0)
		memcpy(to, s.p, n);
	to[n] = '\0';
}

void tw_request_refuse(struct tw_request *r, int status, const char *text)
{
	if (r->bad_status != 0)
		return;
	r->bad_status = status;
	r->bad_text = text;
}

/* The media type in lower case, without parameters. */
static void set_content_type(struct tw_request *r, struct tw_slice v)
{
	const uint8_t *semicolon = v.n > 0 ? memchr(v.p, ';', v.n) : NULL;

	if (semicolon != NULL)
		v.n = (size_t)(semicolon - v.p);
	v = trim(v);
	if (v.n >= sizeof(r->x.content_type)) {
		tw_request_refuse(r, 415, "the content type is too long");
		return;
	}
	copy(r->x.content_type, sizeof(r->x.content_type), v);
	for (char *p = r->x.content_type; *p != '\0'; p++)
		*p = (char)tolower((unsigned char)*p);
}

/* Whether a list of codings allows gzip: named, and not with q=0. */
static bool accepts_gzip(struct tw_slice v)
{
	while (v.n > 0) {
		const uint8_t *comma = memchr(v.p, ',', v.n);
		struct tw_slice item = tw_slice(v.p, comma != NULL ? (size_t)(comma - v.p) : v.n);
		size_t used = comma != NULL ? item.n + 1 : item.n;

		v = tw_slice(v.p + used, v.n - used);
		item = trim(item);
		if (item.n < 4 || strncasecmp((const char *)item.p, "gzip", 4) != 0)
			continue;
		item = trim(tw_slice(item.p + 4, item.n - 4));
		if (item.n == 0)
			return true;
		if (item.p[0] != ';')
			continue;
		item = trim(tw_slice(item.p + 1, item.n - 1));
		if (item.n < 2 || strncasecmp((const char *)item.p, "q=", 2) != 0)
			return true;
		for (size_t i = 2; i < item.n; i++)
			if (item.p[i] >= '1' && item.p[i] <= '9')
				return true;
	}
	return false;
}

/* One coding at most: a body compressed twice has no business here. */
static void set_coding(struct tw_request *r, struct tw_slice v, bool *seen)
{
	enum tw_coding c = tw_coding_parse(trim(v));

	if (c == TW_CODING_UNKNOWN || (*seen && c != r->coding))
		r->unsupported_coding = true;
	else
		r->coding = c;
	*seen = true;
}

static void set_timeout(struct tw_request *r, struct tw_slice v)
{
	uint64_t ns;

	if (tw_grpc_timeout_parse(v, &ns) != TW_OK) {
		r->bad_timeout = true;
		return;
	}
	if (__builtin_add_overflow(r->server->now_ns, ns, &r->x.deadline_ns))
		r->x.deadline_ns = TW_NEVER;
}

static void set_content_length(struct tw_request *r, struct tw_slice v)
{
	uint64_t n = 0;

	if (v.n == 0 || v.n > 19)
		return;
	for (size_t i = 0; i < v.n; i++) {
		if (v.p[i] < '0' || v.p[i] > '9')
			return;
		n = n * 10 + (v.p[i] - '0');
	}
	r->content_length = n;
}

/* Both bounds hold for the whole head; what goes beyond them is not looked at, and the request is
 * refused when its head ends, so that the protocol's own state (HPACK's table) stays in step. */
static bool within_bounds(struct tw_request *r, struct tw_slice name, struct tw_slice value)
{
	r->header_bytes += name.n + value.n + 32;
	r->header_count++;
	if (r->header_bytes <= TW_HEADER_BYTES_MAX && r->header_count <= TW_HEADER_COUNT_MAX)
		return true;
	tw_request_refuse(r, 431, "the header is too large");
	return false;
}

void tw_request_field(struct tw_request *r, struct tw_slice name, struct tw_slice value)
{
	struct tw_exchange *x = &r->x;

	/* A trailer changes nothing any more. */
	if (r->phase != TW_REQ_HEAD || !within_bounds(r, name, value))
		return;
	value = trim(value);
	if (name_is(name, "content-type"))
		set_content_type(r, value);
	else if (name_is(name, "content-length"))
		set_content_length(r, value);
	else if (name_is(name, "content-encoding"))
		set_coding(r, value, &r->has_content_encoding);
	else if (name_is(name, "grpc-encoding"))
		set_coding(r, value, &r->has_grpc_encoding);
	else if (name_is(name, "grpc-timeout"))
		set_timeout(r, value);
	else if (name_is(name, "accept"))
		copy(x->accept, sizeof(x->accept), value);
	else if (name_is(name, "accept-encoding"))
		x->accept_gzip = x->accept_gzip || accepts_gzip(value);
	else if (name_is(name, "authorization"))
		copy(x->authorization, sizeof(x->authorization), value);
}

void tw_request_method(struct tw_request *r, struct tw_slice method)
{
	if (method.n >= sizeof(r->x.method))
		tw_request_refuse(r, 501, "the method is not known");
	copy(r->x.method, sizeof(r->x.method), method);
	r->is_head = strcmp(r->x.method, "HEAD") == 0;
}

void tw_request_target(struct tw_request *r, struct tw_slice target)
{
	const uint8_t *q = target.n > 0 ? memchr(target.p, '?', target.n) : NULL;
	struct tw_slice path = tw_slice(target.p, q != NULL ? (size_t)(q - target.p) : target.n);
	struct tw_slice query = {0};

	if (q != NULL)
		query = tw_slice(q + 1, target.n - path.n - 1);
	if (path.n >= sizeof(r->x.path) || query.n >= sizeof(r->x.query))
		tw_request_refuse(r, 414, "the path is too long");
	copy(r->x.path, sizeof(r->x.path), path);
	copy(r->x.query, sizeof(r->x.query), query);
}
