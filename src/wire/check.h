/* A table-driven look at one message: is it well-formed, is its text UTF-8, and where is a given
 * byte.
 *
 * The scanner hands over what is rare (events, links, nested values, anything unusual), and the
 * whole body when it has to say what is wrong with it: so the two can't disagree. */
#ifndef TW_WIRE_CHECK_H
#define TW_WIRE_CHECK_H

#include "schema.h"

struct wire_check {
	const uint8_t
	    *utf8_at; /* the tag of the first string that is not UTF-8; NULL: none so far */
	const uint8_t *bad_at; /* the tag of the field that is malformed */
	char why[120];
};

/* True: every field down to the last level is well-formed. Invalid UTF-8 is noted in utf8_at (not
 * cleared here) and is not a failure. values: AnyValue messages that enclose this one. */
bool wire_check(struct wire_check *c, enum wire_message_id m, const uint8_t *p, const uint8_t *end,
                unsigned values);

/* Writes where in message m = [p, end) the byte `at` lies, as
 * "resource_spans[0].scope_spans[2].spans[3].name"; at most levels names. NUL-terminated;
 * truncates. */
void wire_path(enum wire_message_id m, const uint8_t *p, const uint8_t *end, const uint8_t *at,
               unsigned levels, char *out, size_t cap);

#endif
