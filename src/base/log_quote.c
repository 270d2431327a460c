#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "tw/base/log.h"

#define QUOTE_CAP_MIN 8

/* Length of the UTF-8 character at p, 0 where the bytes are not one (RFC 3629 section 4). */
static unsigned utf8_length(const unsigned char *p, unsigned n)
{
	unsigned len = p[0] < 0x80 ? 1 : p[0] < 0xC2 ? 0 : p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;

	if (len == 0 || len > n || p[0] > 0xF4)
		return 0;
	for (unsigned i = 1; i < len; i++) {
		if ((p[i] & 0xC0) != 0x80)
			return 0;
	}
	if ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F) ||
	    (p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F))
		return 0;
	return len;
}

static bool is_bare(const unsigned char *p, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (p[i] <= ' ' || p[i] >= 0x7F || p[i] == '"' || p[i] == '=' || p[i] == '\\')
			return false;
	}
	return n > 0;
}

/* One character of the input, escaped, into out; returns the bytes taken. C1 control characters
 * (U+0080 to U+009F) move a terminal's cursor as much as C0 does. */
static unsigned escape_one(char out[8], const unsigned char *p, unsigned n)
{
	unsigned len = utf8_length(p, n);

	if (len == 0) {
		strcpy(out, "\\ufffd");
		return 1;
	}
	if (*p == '"' || *p == '\\')
		snprintf(out, 8, "\\%c", *p);
	else if (*p == '\n')
		strcpy(out, "\\n");
	else if (*p == '\r')
		strcpy(out, "\\r");
	else if (*p == '\t')
		strcpy(out, "\\t");
	else if (*p < ' ' || *p == 0x7F)
		snprintf(out, 8, "\\u%04x", *p);
	else if (len == 2 && p[0] == 0xC2 && p[1] < 0xA0)
		snprintf(out, 8, "\\u%04x", p[1]);
	else
		snprintf(out, 8, "%.*s", (int)len, (const char *)p);
	return len;
}

/* Does all of it fit between two quotes, with a NUL behind? */
static bool fits(const unsigned char *p, unsigned n, unsigned cap)
{
	unsigned at = 3;

	while (n && at <= cap) {
		char one[8];
		unsigned taken = escape_one(one, p, n);

		at += (unsigned)strlen(one);
		p += taken;
		n -= taken;
	}
	return at <= cap;
}

const char *tw_log_quote(char *buf, unsigned cap, const void *s, unsigned n)
{
	const unsigned char *p = s;
	bool whole = fits(p, n, cap);
	unsigned at = 0;

	if (cap < QUOTE_CAP_MIN) {
		if (cap)
			buf[0] = '\0';
		return buf;
	}
	if (n < cap && is_bare(p, n)) {
		memcpy(buf, p, n);
		buf[n] = '\0';
		return buf;
	}
	buf[at++] = '"';
	while (n) {
		char one[8];
		unsigned taken = escape_one(one, p, n);
		unsigned len = (unsigned)strlen(one);

		if (!whole && at + len + sizeof("...\"") > cap) {
			memcpy(buf + at, "...", 3);
			at += 3;
			break;
		}
		memcpy(buf + at, one, len);
		at += len;
		p += taken;
		n -= taken;
	}
	buf[at++] = '"';
	buf[at] = '\0';
	return buf;
}
