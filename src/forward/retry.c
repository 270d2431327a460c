#include "retry.h"

#include "tw/base/clock.h"
#include "tw/base/error.h"

void tw_backoff_init(struct tw_backoff *b, uint64_t first_ns, uint64_t most_ns, uint64_t seed)
{
	b->first_ns = first_ns;
	b->most_ns = most_ns > first_ns ? most_ns : first_ns;
	b->random = seed;
}

/* splitmix64: every seed is as good as another, also 0 and those that lie side by side. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

static uint64_t asked_ns(uint64_t retry_after_ms)
{
	if (retry_after_ms == TW_RETRY_AFTER_NONE)
		return 0;
	if (retry_after_ms > TW_RETRY_AFTER_MS_MAX)
		retry_after_ms = TW_RETRY_AFTER_MS_MAX;
	return retry_after_ms * TW_NS_PER_MS;
}

uint64_t tw_backoff_delay_ns(struct tw_backoff *b, uint32_t tries, uint64_t retry_after_ms)
{
	uint64_t base = b->first_ns;
	uint64_t asked = asked_ns(retry_after_ms);
	uint64_t delay;

	TW_ASSERT(tries > 0);
	for (uint32_t i = 1; i < tries && base < b->most_ns; i++)
		base += base / 2 + 1;
	if (base > b->most_ns)
		base = b->most_ns;
	/* base × [0.5, 1.5) */
	delay = base / 2 + (uint64_t)(((__uint128_t)base * (next_random(&b->random) >> 1)) >> 63);
	return delay > asked ? delay : asked;
}

uint32_t tw_gate_sent(struct tw_gate *g)
{
	if (!g->closed)
		return 0;
	TW_ASSERT(!g->probing);
	g->probing = true;
	return g->round;
}

bool tw_gate_failed(struct tw_gate *g, struct tw_backoff *b, uint32_t round,
                    uint64_t retry_after_ms, uint64_t now_ns)
{
	uint64_t asked = asked_ns(retry_after_ms);
	bool was_closed = g->closed;

	if (was_closed && round != g->round) {
		/* Sent before the gate closed, or in an earlier round: it says nothing new, except
		 * for how long to wait. */
		if (asked > 0 && g->until_ns < now_ns + asked)
			g->until_ns = now_ns + asked;
		return false;
	}
	if (was_closed) {
		g->probing = false;
		g->tries++;
	} else {
		g->closed = true;
		g->probing = false;
		g->tries = 1;
		g->round++;
		if (g->round == 0)
			g->round = 1;
	}
	g->until_ns = now_ns + tw_backoff_delay_ns(b, g->tries, retry_after_ms);
	return !was_closed;
}

bool tw_gate_answered(struct tw_gate *g)
{
	bool opened = g->closed;

	g->closed = false;
	g->probing = false;
	g->tries = 0;
	return opened;
}

void tw_gate_hurry(struct tw_gate *g)
{
	g->until_ns = 0;
	g->tries = 0;
}
