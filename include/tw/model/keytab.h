/* The inside of a sealed key table, so that a probe can be inlined where it is hot.
 *
 * A key is summed up by its length and (up to) its first and last eight bytes; a seed found when
 * the table is sealed sends all different summaries to cells of their own, so a probe is one
 * multiplication and one compare. Up to 16 bytes the summary is the key; longer keys are compared
 * whole, and those with equal summaries are chained. Nearly all attributes miss, most of them by
 * their length already. */
#ifndef TW_MODEL_KEYTAB_H
#define TW_MODEL_KEYTAB_H

#include "tw/model/value.h"

struct tw_keycell {
	uint64_t a, b; /* see tw_keysum */
	uint32_t n;    /* the key's length; UINT32_MAX: an empty cell */
	uint32_t slot; /* the first slot of the chain */
};

struct tw_keytab {
	struct tw_keycell *cells; /* NULL until sealed */
	uint64_t seed;
	uint64_t lengths; /* bit (n & 63): a key of n bytes is there */
	uint32_t shift;   /* 64 − log2(cells) */
	uint32_t count;
	struct tw_slice keys[TW_KEYS_MAX];
	uint8_t next[TW_KEYS_MAX]; /* slot + 1 of the next key with the same summary; 0: none */
};

struct tw_keysum {
	uint64_t a, b;
};

static inline struct tw_keysum tw_keysum(const uint8_t *p, size_t n)
{
	struct tw_keysum s = {0, 0};
	uint32_t x, y;

	if (TW_LIKELY(n >= 8)) {
		memcpy(&s.a, p, 8);
		memcpy(&s.b, p + n - 8, 8);
	} else if (n >= 4) {
		memcpy(&x, p, 4);
		memcpy(&y, p + n - 4, 4);
		s.a = (uint64_t)x << 32 | y;
	} else if (n > 0) {
		s.a = (uint64_t)p[0] << 16 | (uint64_t)p[n >> 1] << 8 | p[n - 1];
	}
	return s;
}

static inline uint32_t tw_keytab_cell(const struct tw_keytab *kt, struct tw_keysum s, size_t n)
{
	/* Two multipliers: were the parts put together first, keys such as "k1" and "k10" would be
	 * the same to every seed, and no seed would ever do. */
	uint64_t other = kt->seed << 32 | kt->seed >> 32;
	uint64_t h = s.a * kt->seed + (s.b + n * UINT64_C(0x9E3779B97F4A7C15)) * other;

	return (uint32_t)(h >> kt->shift);
}

/* Equal between their first and last eight bytes, n > 16? */
static inline bool tw_keytab_same_middle(const uint8_t *a, const uint8_t *b, size_t n)
{
	uint64_t x, y;

	for (size_t i = 8; i < n - 8; i += 8) {
		memcpy(&x, a + i, 8);
		memcpy(&y, b + i, 8);
		if (x != y)
			return false;
	}
	return true;
}

/* As tw_keytab_find. */
static inline int tw_keytab_probe(const struct tw_keytab *kt, const uint8_t *key, size_t n)
{
	const struct tw_keycell *c;
	struct tw_keysum s;
	uint32_t slot;

	if (TW_LIKELY(!(kt->lengths >> (n & 63) & 1)))
		return -1;
	s = tw_keysum(key, n);
	c = &kt->cells[tw_keytab_cell(kt, s, n)];
	if (((c->a ^ s.a) | (c->b ^ s.b) | (c->n ^ n)) != 0)
		return -1;
	slot = c->slot;
	while (n > 16 && !tw_keytab_same_middle(kt->keys[slot].p, key, n)) {
		if (!kt->next[slot])
			return -1;
		slot = kt->next[slot] - 1u;
	}
	return (int)slot;
}

#endif
