/* JSON below the level of messages: tokens in, tokens out. */
#ifndef TW_WIRE_JSON_TEXT_H
#define TW_WIRE_JSON_TEXT_H

#include <string.h>

#include "schema.h"
#include "tw/base/buf.h"

/* ---- reading ---- */

struct json { /* a position in a text; why: what was wrong, NULL so far */
	const uint8_t *p, *end;
	const char *why;
};

struct json_str {
	struct tw_slice raw; /* between the quotes */
	bool escaped;        /* there is a backslash in it */
};

static inline void json_space(struct json *j)
{
	while (j->p < j->end && *j->p <= ' ' &&
	       (*j->p == ' ' || *j->p == '\n' || *j->p == '\r' || *j->p == '\t'))
		j->p++;
}

static inline bool json_fail(struct json *j, const char *why)
{
	if (!j->why)
		j->why = why;
	return false;
}

/* Takes c if it is next, white space before it. */
static inline bool json_take(struct json *j, char c)
{
	json_space(j);
	if (j->p == j->end || *j->p != (uint8_t)c)
		return false;
	j->p++;
	return true;
}

/* true, false, null; false without `why` if it is another. */
static inline bool json_word(struct json *j, const char *word)
{
	size_t n = strlen(word); /* known to the compiler */

	json_space(j);
	if ((size_t)(j->end - j->p) < n || memcmp(j->p, word, n) != 0)
		return false;
	j->p += n;
	return true;
}

/* At a value; each returns false with `why` set on what is not JSON. */
bool json_string(struct json *j, struct json_str *s);
bool json_number(struct json *j, struct tw_slice *token);
bool json_skip(struct json *j); /* any value, at most TW_JSON_NEST_MAX levels of it */

/* Appends the text of a string; false: a bad escape or a lone surrogate. */
bool json_unescape(struct json *j, struct json_str s, struct tw_buf *out);

/* Numbers as their digits. false: out of range, or not whole, or not a number. */
bool json_integer(struct tw_slice token, bool *negative, uint64_t *magnitude);
bool json_double(struct tw_slice token, double *d);

/* The short way: a value at j->p, appended to out as a field, if it is short and written as SDKs
 * write it. false: nothing has changed; it may still be good. */
bool json_short_scalar(struct json *j, struct tw_buf *out, const struct wire_field *f);
/* A KeyValue, whose AnyValue may stand here (TW_NEST_MAX). */
bool json_short_attribute(struct json *j, struct tw_buf *out, uint8_t tag);

/* ---- writing ---- */

void json_put_string(struct tw_buf *out,
                     struct tw_slice s); /* quoted; what is not UTF-8 becomes U+FFFD */
void json_put_u64(struct tw_buf *out, uint64_t v);
void json_put_i64(struct tw_buf *out, int64_t v);
void json_put_hex(struct tw_buf *out, struct tw_slice s);
void json_put_base64(struct tw_buf *out, struct tw_slice s);
void json_put_double(struct tw_buf *out, double d); /* the shortest that reads back */

/* ---- messages ---- */

/* JSON of message m → its protobuf payload, appended. err may be NULL. TW_EINVAL, TW_ELIMIT (out is
 * full), TW_ENOMEM. */
int json_decode(enum wire_message_id m, struct tw_slice json, struct tw_buf *out,
                struct tw_error *err);

#endif
