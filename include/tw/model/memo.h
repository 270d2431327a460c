/* What rules and metrics found for an operation, remembered from request to request.
 *
 * A request has some operations of its own (tw/model/span.h); most of them were there in the
 * request before. A memo is a table with two places for each hash: more than that take turns, and
 * are found anew. Keys are keyed hashes of the template and of the scope with its resource, 128
 * bits together. One owner, one generation of the rules: cleared when it changes. Memory: 64 bytes
 * a place. */
#ifndef TW_MODEL_MEMO_H
#define TW_MODEL_MEMO_H

#include "tw/model/span.h"

struct tw_memo;

struct tw_memo *tw_memo_create(uint32_t places); /* a power of two; NULL: no memory [boot] */
void tw_memo_destroy(struct tw_memo **m);
void tw_memo_clear(struct tw_memo *m); /* takes the same time however much is in it */
/* After the scan: fills what is known of the request's operations. */
void tw_memo_recall(struct tw_memo *m, struct tw_request *r);
/* After matching and counting: remembers what was found anew. */
void tw_memo_store(struct tw_memo *m, const struct tw_request *r);

#endif
