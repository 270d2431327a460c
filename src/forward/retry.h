/* When to try again: the back-off of one batch, and the gate in front of a backend that does not
 * answer well.
 *
 * A delay is first × 1.5^(tries − 1), at most `most`, ± 50 % of jitter; what the backend asked for
 * (Retry-After, RetryInfo) is a minimum, believed up to TW_RETRY_AFTER_MS_MAX: a year must not park
 * a batch for ever.
 *
 * The gate is one for an exporter. It closes at a retryable failure and opens at the next answer of
 * any other kind, which shows that somebody is there. While it is closed one batch at a time, the
 * probe, is sent each time its own back-off has passed, so a dead backend sees one request at a
 * time and not in_flight_max batches' worth of back-offs. */
#ifndef TW_FORWARD_RETRY_H
#define TW_FORWARD_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#define TW_RETRY_AFTER_MS_MAX UINT64_C(300000)
#define TW_RETRY_AFTER_NONE   UINT64_MAX

struct tw_backoff {
	uint64_t first_ns, most_ns;
	uint64_t random; /* state of the jitter */
};
void tw_backoff_init(struct tw_backoff *b, uint64_t first_ns, uint64_t most_ns, uint64_t seed);
/* tries ≥ 1: failures so far. retry_after_ms: TW_RETRY_AFTER_NONE if the backend did not say. */
uint64_t tw_backoff_delay_ns(struct tw_backoff *b, uint32_t tries, uint64_t retry_after_ms);

struct tw_gate {
	bool closed;
	bool probing;      /* the probe is on its way */
	uint32_t tries;    /* failed probes, and the failure that closed it */
	uint32_t round;    /* how often it was closed: tells this round's probe from a straggler */
	uint64_t until_ns; /* no probe before this */
};
static inline bool tw_gate_passes(const struct tw_gate *g, uint64_t now_ns)
{
	return !g->closed || (!g->probing && now_ns >= g->until_ns);
}
/* A batch is being sent. Returns its round: 0, or, for a probe, what tw_gate_failed wants back. */
uint32_t tw_gate_sent(struct tw_gate *g);
/* It failed and may be tried again. True if this closed the gate. */
bool tw_gate_failed(struct tw_gate *g, struct tw_backoff *b, uint32_t round,
                    uint64_t retry_after_ms, uint64_t now_ns);
/* Somebody answered. True if this opened the gate. */
bool tw_gate_answered(struct tw_gate *g);
void tw_gate_hurry(
    struct tw_gate *g); /* the next probe may go at once, and its back-off begins anew */

#endif
