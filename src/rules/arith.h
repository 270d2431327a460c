/* Arithmetic and order of values: the same when constants are folded and when spans are matched. */
#ifndef TW_RULES_ARITH_H
#define TW_RULES_ARITH_H

#include "program.h"

/* a op b over INT and DOUBLE; TW_VALUE_NONE when an operand is neither or the result does not exist
 * (x / 0 and x % 0 of integers). Integers stay integers while they fit, then become doubles. For
 * NEGATE, b is ignored. */
struct tw_value tw_arith(enum tw_calc_op op, struct tw_value a, struct tw_value b);

/* a cmp b, neither an array; not for regexes. Types that do not match, and NONE, are false for
 * every cmp. */
bool tw_compare(enum tw_cmp cmp, const struct tw_value *a, const struct tw_value *b);

#endif
