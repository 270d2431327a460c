/* What a body's writers inside net share beyond tw_body_append. Not thread-safe, but for the
 * budget. */
#ifndef TW_NET_BODY_H
#define TW_NET_BODY_H

#include "tw/net.h"

/* Makes the capacity at least cap bytes, exactly. TW_EFULL, TW_ENOMEM. */
int tw_body_reserve(struct tw_body *b, size_t cap);
/* Makes room for `more` bytes behind b->n, growing geometrically. TW_ELIMIT past max; TW_EFULL;
 * TW_ENOMEM. */
int tw_body_room(struct tw_body *b, size_t more, size_t max);

/* Gives memory back where more than half of it is not in use. */
void tw_body_trim(struct tw_body *b);

#endif
