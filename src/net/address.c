#include <ctype.h>
#include <stdio.h>
#include <strings.h>

#include "tw/net.h"

static bool host_char_ok(char c, bool bracketed)
{
	if (isalnum((unsigned char)c) || c == '.' || c == '-' || c == '_')
		return true;
	return bracketed && (c == ':' || c == '%');
}

/* Reads HOST or [IPv6] from *s on. */
static int host_read(const char **s, char *host, size_t cap, struct tw_error *err)
{
	bool bracketed = **s == '[';
	const char *p = *s + bracketed;
	size_t n = 0;

	while (host_char_ok(p[n], bracketed))
		n++;
	if (n == 0)
		return tw_error_set(err, TW_EINVAL, 0, "a host name is expected");
	if (n >= cap)
		return tw_error_set(err, TW_ELIMIT, 0, "the host name is longer than %zu bytes",
		                    cap - 1);
	if (bracketed && p[n] != ']')
		return tw_error_set(err, TW_EINVAL, 0, "an IPv6 address must end in ']'");
	if (bracketed && !memchr(p, ':', n))
		return tw_error_set(err, TW_EINVAL, 0,
		                    "an IPv6 address is expected in the brackets");
	memcpy(host, p, n);
	host[n] = '\0';
	*s = p + n + bracketed;
	return 0;
}

static int port_read(const char **s, uint16_t *port, struct tw_error *err)
{
	const char *p = *s;
	unsigned n = 0;

	if (!isdigit((unsigned char)*p))
		return tw_error_set(err, TW_EINVAL, 0, "a port number is expected after ':'");
	for (; isdigit((unsigned char)*p); p++) {
		n = n * 10 + (unsigned)(*p - '0');
		if (n > 65535)
			break;
	}
	if (n == 0 || n > 65535)
		return tw_error_set(err, TW_EINVAL, 0, "a port is a number from 1 to 65535");
	*port = (uint16_t)n;
	*s = p;
	return 0;
}

static int path_read(const char *s, char *path, size_t cap, struct tw_error *err)
{
	size_t n = strlen(s);

	for (size_t i = 0; i < n; i++) {
		if ((unsigned char)s[i] <= ' ' || s[i] == 0x7f || s[i] == '#')
			return tw_error_set(
			    err, TW_EINVAL, 0,
			    "a URL's path holds no spaces, control characters or '#'");
	}
	if (n >= cap)
		return tw_error_set(err, TW_ELIMIT, 0, "the path is longer than %zu bytes",
		                    cap - 1);
	memcpy(path, s, n + 1);
	return 0;
}

static const char *scheme_skip(const char *s, bool *url, bool *tls)
{
	*tls = strncasecmp(s, "https://", 8) == 0;
	*url = *tls || strncasecmp(s, "http://", 7) == 0;
	return *tls ? s + 8 : *url ? s + 7 : s;
}

int tw_address_parse(const char *s, char *host, size_t host_cap, uint16_t *port, char *path,
                     size_t path_cap, bool *tls, struct tw_error *err)
{
	bool url;
	int rc;

	s = scheme_skip(s, &url, tls);
	if (!url && strstr(s, "://"))
		return tw_error_set(err, TW_EINVAL, 0, "a URL begins with http:// or https://");
	if (memchr(s, '@', strcspn(s, "/")))
		return tw_error_set(err, TW_EINVAL, 0,
		                    "user names do not belong in the address; set a header");
	rc = host_read(&s, host, host_cap, err);
	if (rc)
		return rc;
	if (*s == ':') {
		s++;
		rc = port_read(&s, port, err);
		if (rc)
			return rc;
	} else if (url) {
		*port = *tls ? 443 : 80;
	} else {
		return tw_error_set(err, TW_EINVAL, 0, "HOST:PORT is expected");
	}
	if (*s && (!url || *s != '/'))
		return tw_error_set(err, TW_EINVAL, 0, "unexpected '%.16s' after the %s", s,
		                    url ? "host" : "port");
	return path_read(s, path, path_cap, err);
}
