/* What a backend's answer means for the batch: OTLP 1.11, "Response classes". README.md has the
 * table. */
#ifndef TW_FORWARD_ANSWER_H
#define TW_FORWARD_ANSWER_H

#include "tw/forward.h"

/* text: room for out->text; the result borrows it. Pure. [any] */
void tw_answer_read(enum tw_client_kind kind, const struct tw_client_response *r,
                    struct tw_send_result *out, char *text, size_t cap);

#endif
