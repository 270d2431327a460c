#ifndef TW_METRICS_EXPO_H
#define TW_METRICS_EXPO_H

#include "tw/metrics.h"

/* Appends a label value: \n, " and \ escaped; bytes that are not UTF-8, and NUL, become U+FFFD. */
void tw_expo_escape(struct tw_buf *out, struct tw_slice value);

#endif
