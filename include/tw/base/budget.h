/* A byte budget shared by all threads: reserve before, release after. Lock-free. [any] */
#ifndef TW_BASE_BUDGET_H
#define TW_BASE_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

struct tw_budget {
	_Alignas(64) _Atomic uint64_t used;
	uint64_t max; /* bytes; set at boot */
};

void tw_budget_init(struct tw_budget *b, uint64_t max);
bool tw_budget_reserve(struct tw_budget *b,
                       uint64_t n); /* all of n or nothing; false: would pass max */
void tw_budget_force(struct tw_budget *b, uint64_t n);   /* takes n even past max */
void tw_budget_release(struct tw_budget *b, uint64_t n); /* asserts that it was reserved */
uint64_t tw_budget_used(const struct tw_budget *b);

#endif
