/* Numbers as text, the way dashboards already know them. [any] */
#ifndef TW_METRICS_NUMBER_H
#define TW_METRICS_NUMBER_H

#include <stddef.h>
#include <stdint.h>

#define TW_NUMBER_CHARS 48u /* what any of the calls below may write, its NUL included */

/* Each returns the length. */
size_t tw_number_u64(char out[TW_NUMBER_CHARS], uint64_t v);
/* The shortest digits that read back as the same double; plain notation while the decimal exponent
 * e is low <= e < high, else as in 1e+06. Infinities and NaN: +Inf, -Inf, NaN. */
size_t tw_number_f64(char out[TW_NUMBER_CHARS], double v, int low, int high);
/* v / 10^digits as an exact decimal without trailing zeros; digits <= 18. */
size_t tw_number_scaled(char out[TW_NUMBER_CHARS], unsigned __int128 v, unsigned digits);

#endif
