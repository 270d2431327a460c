/* Attribute values as label values.
 *
 * A label value is at most TW_LABEL_BYTES_MAX bytes of UTF-8 without NUL: longer ones are cut at a
 * character. An empty one is no label at all (Prometheus sees no difference), so an absent and an
 * empty attribute are one series. */
#ifndef TW_METRICS_LABEL_H
#define TW_METRICS_LABEL_H

#include "tw/base/arena.h"
#include "tw/model/value.h"

#define TW_LABEL_BYTES_MAX  2048u
#define TW_UTF8_REPLACEMENT "\xEF\xBF\xBD"

/* Bytes of the character that p begins with; 0 where it is not UTF-8, or NUL. n > 0. */
size_t tw_utf8_step(const uint8_t *p, size_t n);

static inline struct tw_slice tw_label_clip(struct tw_slice s)
{
	if (__builtin_expect(s.n <= TW_LABEL_BYTES_MAX, 1))
		return s;
	s.n = TW_LABEL_BYTES_MAX;
	while (s.n > 0 && (s.p[s.n] & 0xC0) == 0x80)
		s.n--;
	return s;
}

/* The value as text: strings as they are, numbers in decimal, bytes as base64, arrays as JSON; a
 * map gives an empty one. What is not a string is written into the arena. false: no memory. */
bool tw_label_of(const struct tw_value *v, struct tw_arena *arena, struct tw_slice *out);

/* s with U+FFFD for every byte that is not UTF-8 and for NUL, clipped; s itself where it is clean.
 * false: no memory. */
bool tw_label_sanitise(struct tw_slice s, struct tw_arena *arena, struct tw_slice *out);

/* A label name for an attribute key: [a-zA-Z0-9_], no digit first. out holds key.n + 2 bytes at
 * least. */
void tw_label_name(struct tw_slice key, char *out);

#endif
