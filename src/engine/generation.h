/* One generation of the configuration that a reload can change: the rules and what hangs on them.
 *
 * Immutable once published, but for the budgets (atomics) and the matchers (one per worker, its
 * own). Two generations live in the traces that are open; a retired one is destroyed when every
 * worker has moved on and no ticket carries it (engine.c waits for both). */
#ifndef TW_ENGINE_GENERATION_H
#define TW_ENGINE_GENERATION_H

#include "tw/metrics.h"
#include "tw/rules.h"

#define TW_RULE_IDS_MAX 1024u /* distinct rule names of a process's life */

/* Names of rules get a number that stays over reloads, so that counters and remembered verdicts
 * outlive a generation. Written by the main thread, read by all: an entry is complete before
 * `count` shows it. */
struct tw_rulebook {
	char *names[TW_RULE_IDS_MAX];
	_Atomic uint32_t count;
};
/* The number of a name, a new one at first sight; the last number is shared by all names past the
 * limit. [boot] */
uint16_t tw_rulebook_id(struct tw_rulebook *b, const char *name);
uint32_t tw_rulebook_count(const struct tw_rulebook *b);                /* [any] */
const char *tw_rulebook_name(const struct tw_rulebook *b, uint16_t id); /* [any] */
void tw_rulebook_deinit(struct tw_rulebook *b);

struct tw_generation {
	uint32_t number; /* 1, 2, … */
	uint32_t workers;
	struct tw_rules *rules;
	struct tw_keytab *keys;
	struct tw_rates *rates;
	struct tw_matcher **matchers; /* one a worker */
	uint16_t *rule_ids;           /* rule index → number in the rulebook */
	uint8_t slot[TW_DIMENSIONS_MAX];
};

/* Compiles `source`; file names it in the report. old: the generation before, or NULL. 0, TW_EINVAL
 * (report says why) or TW_ENOMEM. [boot] */
int tw_generation_create(struct tw_slice source, const char *file, const struct tw_red *red,
                         uint32_t workers, struct tw_rulebook *book,
                         const struct tw_generation *old, uint64_t now_ns,
                         struct tw_generation **out, struct tw_buf *report);
void tw_generation_destroy(struct tw_generation **g);

#endif
