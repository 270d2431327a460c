/* Random OTLP requests: every field, odd orders, repeats, unknown fields; and the ways to break
 * them. */
#ifndef ORACLE_GENERATE_H
#define ORACLE_GENERATE_H

#include <stdbool.h>

#include "pb_build.h"

struct rng {
	uint64_t s;
};

uint64_t rng_next(struct rng *r);
uint32_t rng_below(struct rng *r, uint32_t n); /* 0 … n − 1 */

/* The keys that attributes are often made of; the oracle's key table holds the first KEYS_ASKED of
 * them. */
#define KEYS_ASKED 6u
#define KEYS_ALL   12u
extern const char *const generate_keys[KEYS_ALL];

void generate_request(struct rng *r, struct pb *b);
void generate_mutate(struct rng *r, struct pb *b);

#endif
