/* Which format an Accept header asks for (RFC 9110, section 12.5.1). */
#include <string.h>
#include <strings.h>

#include "tw/metrics.h"

static struct tw_slice trim(struct tw_slice s)
{
	while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
		s = tw_slice(s.p + 1, s.n - 1);
	while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

/* The piece of *rest up to sep, trimmed; *rest moves behind it. false: nothing left. */
static bool piece(struct tw_slice *rest, char sep, struct tw_slice *out)
{
	if (rest->n == 0)
		return false;
	const uint8_t *end = memchr(rest->p, sep, rest->n);
	size_t n = end != NULL ? (size_t)(end - rest->p) : rest->n;
	size_t used = end != NULL ? n + 1 : n;

	*out = trim(tw_slice(rest->p, n));
	*rest = tw_slice(rest->p + used, rest->n - used);
	return true;
}

static bool is(struct tw_slice s, const char *word)
{
	return s.n == strlen(word) && (s.n == 0 || strncasecmp((const char *)s.p, word, s.n) == 0);
}

/* "0.75" → 750; what cannot be read is −1. */
static int quality(struct tw_slice s)
{
	int q = 0, scale = 1000;

	if (s.n == 0 || s.n > 5 || (s.p[0] != '0' && s.p[0] != '1'))
		return -1;
	q = (s.p[0] - '0') * scale;
	for (size_t i = 1; i < s.n; i++) {
		if (i == 1 && s.p[i] == '.')
			continue;
		if (i == 1 || s.p[i] < '0' || s.p[i] > '9')
			return -1;
		scale /= 10;
		q += (s.p[i] - '0') * scale;
	}
	return q <= 1000 ? q : -1;
}

struct range {
	struct tw_slice type, version;
	int q;
};

static struct range parse_range(struct tw_slice text)
{
	struct range r = {.q = 1000};
	struct tw_slice param;

	if (!piece(&text, ';', &r.type))
		return r;
	while (piece(&text, ';', &param)) {
		struct tw_slice name;
		if (!piece(&param, '=', &name))
			continue;
		param = trim(param);
		if (param.n >= 2 && param.p[0] == '"' && param.p[param.n - 1] == '"')
			param = tw_slice(param.p + 1, param.n - 2);
		if (is(name, "q"))
			r.q = quality(param);
		else if (is(name, "version"))
			r.version = param;
	}
	return r;
}

enum tw_expo_format tw_expo_negotiate(struct tw_slice accept, const char **content_type)
{
	enum tw_expo_format best = TW_EXPO_TEXT;
	const char *type = "text/plain; version=0.0.4; charset=utf-8";
	const char *const text = type;
	int best_q = 0;
	struct tw_slice item;

	while (piece(&accept, ',', &item)) {
		struct range r = parse_range(item);

		if (r.q <= best_q)
			continue;
		if (is(r.type, "application/openmetrics-text")) {
			if (is(r.version, "1.0.0") || r.version.n == 0)
				type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
			else if (is(r.version, "0.0.1"))
				type = "application/openmetrics-text; version=0.0.1; charset=utf-8";
			else
				continue;
			best = TW_EXPO_OPENMETRICS;
		} else if ((is(r.type, "text/plain") &&
		            (r.version.n == 0 || is(r.version, "0.0.4"))) ||
		           is(r.type, "text/*") || is(r.type, "*/*")) {
			best = TW_EXPO_TEXT;
			type = text;
		} else {
			continue;
		}
		best_q = r.q;
	}
	if (content_type != NULL)
		*content_type = type;
	return best;
}
