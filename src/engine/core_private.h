/* What core.c, submit.c and decide.c share; nobody else includes it. */
#ifndef TW_ENGINE_CORE_PRIVATE_H
#define TW_ENGINE_CORE_PRIVATE_H

#include "core.h"

/* A turn ends each kind of work after so long, and the step that it is at: how long a span or a
 * decision takes depends on the rules, and on whether there were new ones. */
#define TW_CORE_WORK_NS    (TW_NS_PER_MS / 2)
#define TW_CORE_LONG_NS    TW_NS_PER_MS /* a turn that does not compress a batch, too */
#define TW_CORE_STEP_SPANS 256u
/* While traces are matched again: every span of the trace that one belongs to, some 2 µs each. */
#define TW_CORE_STEP_SPANS_AGAIN 16u

/* core.c */
bool tw_core_out_of_time(const struct tw_core *c, uint64_t began_ns);
static inline uint32_t tw_core_step_spans(const struct tw_core *c)
{
	return c->rematching ? TW_CORE_STEP_SPANS_AGAIN : TW_CORE_STEP_SPANS;
}
void tw_core_adopt(struct tw_core *c); /* moves to the newest generation, if there is one */
struct tw_generation *tw_core_generation(struct tw_core *c, uint32_t number); /* a live one */
/* `n` of its spans, from at on, into the shard. */
void tw_core_add(struct tw_core *c, const struct tw_batch_ref *b, uint32_t at, uint32_t n);
void tw_core_added(struct tw_core *c); /* all of a batch */
void tw_core_publish(struct tw_core *c);
void tw_core_post(struct tw_core *c, uint32_t to); /* after a put into one of `to`'s rings */
void tw_core_take_back(struct tw_core *c, uint32_t owner); /* answers what came back */

/* submit.c */
const struct tw_request *tw_ticket_request(const struct tw_ticket *t);
const struct tw_generation *tw_ticket_generation(const struct tw_ticket *t);
void tw_core_batch_done(struct tw_core *c, struct tw_batch_ref *b); /* came back: answers at zero */
void tw_core_tickets_free(struct tw_core *c);
bool tw_core_work(struct tw_core *c); /* steps of large requests; false: there is none */

/* decide.c */
extern const struct tw_shard_ops tw_core_shard_ops;
void tw_core_feed(struct tw_core *c);      /* waiting kept traces → exporters that have room */
void tw_core_feed_anew(struct tw_core *c); /* a new turn: as much again may be copied */
bool tw_core_feed_cut(const struct tw_core *c); /* there is room; only the turn was too short */
void tw_core_dest_room(void *core);
/* Scans one span into *out and matches it with g. 0 or a tw_err. */
int tw_core_match_one(struct tw_core *c, struct tw_generation *g, struct tw_request *out,
                      struct tw_slice resource_head, struct tw_slice scope_head,
                      struct tw_slice span);

#endif
