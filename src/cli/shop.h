/* The demo's traffic: a small shop of four services, as OTLP/JSON requests. Deterministic. Private
 * to cli. */
#ifndef TW_CLI_SHOP_H
#define TW_CLI_SHOP_H

#include "tw/base/buf.h"

#define TW_SHOP_SERVICES      4u
#define TW_SHOP_SPANS_A_TRACE 8u

struct tw_shop {
	uint64_t seed;
	uint64_t now_ns;       /* unix time of the next trace */
	uint32_t errors, slow; /* traces made so far that fail, or take longer than two seconds */
	uint32_t traces;
};

/* Makes `count` traces; out[s] gets the request that service s sends: its spans of all of them. */
void tw_shop_requests(struct tw_shop *s, uint32_t count, struct tw_buf out[TW_SHOP_SERVICES]);

#endif
