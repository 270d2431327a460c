/* The rule file's frame: `wait` and, for each rule, where its name, condition and keep stand.
 * Conditions stay text. */
#ifndef TW_RULES_POLICY_H
#define TW_RULES_POLICY_H

#include "program.h"
#include "tw/base/yaml.h"

struct tw_policy_rule {
	const struct tw_node *name, *when, *keep; /* when: NULL if there is none */
	uint8_t how;                              /* enum tw_keep */
	uint64_t threshold;
	struct tw_budget_spec budget;
};

struct tw_policy {
	struct tw_wait wait;
	struct tw_policy_rule *rule; /* in the arena */
	uint32_t rule_count;
};

/* false: reported, or *nomem. What could be read is there nevertheless, so that conditions can be
 * checked too. */
bool tw_policy_read(struct tw_source *s, struct tw_arena *arena, const struct tw_node *root,
                    struct tw_policy *out, bool *nomem);
/* `keep`'s value. false: reported. */
bool tw_keep_read(struct tw_source *s, struct tw_policy_rule *rule);

#endif
