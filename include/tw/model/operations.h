/* The operations of a worker: what rules and metrics found for the spans of one template within one
 * scope, from request to request.
 *
 * A request of 1,000 spans has some 440 operations, and nearly all of them were there in the one
 * before. So they are places of a table, and a span names its own by number; the scanner finds it
 * by the template's id and the scope's hash, adds it if it is new, and whoever finds out something
 * about it writes it there. A place is given to another operation, and a template is freed, only
 * when each request that may have it was reset: requests are listed as they begin, and a place
 * notes the stamp of the last one that used it, or of one a little before: other workers read the
 * place, and each write takes its line from them.
 *
 * A new generation of rules learns its templates anew; the ids are others then, so nothing of the
 * old one is found. Memory: 64 bytes a place, touched as they are used; where there are few
 * operations they lie near each other, as only the first places are in use until those are tight.
 *
 * Threads: one owner, the scanner's. Others may read the places of a request that they were
 * handed, as they were when it was. */
#ifndef TW_MODEL_OPERATIONS_H
#define TW_MODEL_OPERATIONS_H

#include "tw/model/span.h"

#define TW_OPERATIONS_PROBES 8u    /* places where an operation may be */
#define TW_OPERATIONS_LAG    64u   /* stamps by which a place's may be behind */
#define TW_OPERATIONS_MIN    4096u /* places of a scanner's table; at first no more are in use */
#define TW_OPERATIONS_MAX    65536u

struct tw_operations {
	struct tw_operation *place;         /* on a line's begin */
	uint64_t mask;                      /* places in use − 1 */
	uint32_t places;                    /* all of them */
	uint32_t tight;                     /* times that a new one took the place of one that may
	                                       still come, or found none, since more places came
	                                       into use, */
	uint64_t displaced;                 /* and since all are */
	uint64_t stamp;                     /* of the request that began last */
	uint64_t ids;                       /* given to templates */
	uint64_t forgotten;                 /* the stamp when all that were there were */
	struct tw_request *oldest, *newest; /* of those that were not reset, as they began */
	struct tw_template *dropped, **dropped_end; /* in that order */
	size_t dropped_bytes;
	void *block;
};

/* places: a power of two, at least TW_OPERATIONS_PROBES. NULL: no memory. [boot] */
struct tw_operations *tw_operations_create(uint32_t places);
/* Requests that were not reset, as after a drain that was cut short, have none of them any more.
 * Frees what was dropped. */
void tw_operations_destroy(struct tw_operations **o);

/* From here to its reset the request's spans may have some of them. */
void tw_operations_begin(struct tw_operations *o, struct tw_request *r);
void tw_operations_end(struct tw_operations *o, struct tw_request *r); /* its reset calls it */

/* No operation that is there comes again. */
static inline void tw_operations_forget(struct tw_operations *o)
{
	o->forgotten = o->stamp;
}

/* Never given twice. */
uint64_t tw_operations_id(struct tw_operations *o);
/* The template is not recognised any more: freed when no request has spans of it. */
void tw_operations_drop(struct tw_operations *o, struct tw_template *t);

static inline struct tw_operation *tw_operations_at(const struct tw_operations *o, uint64_t id,
                                                    uint64_t scope)
{
	return &o->place[(id ^ scope) & o->mask];
}
static inline bool tw_operation_is(const struct tw_operation *op, uint64_t id, uint64_t scope)
{
	return ((op->id ^ id) | (op->scope ^ scope)) == 0;
}
/* If it is not in its first place. NULL: requests have all the places where it may be. */
struct tw_operation *tw_operations_add(struct tw_operations *o, struct tw_template *t,
                                       uint64_t scope);
/* A span of the request at hand has it: returns its number there. */
static inline uint32_t tw_operations_use(const struct tw_operations *o, struct tw_request *r,
                                         struct tw_operation *op)
{
	if (TW_UNLIKELY(o->stamp - op->stamp >= TW_OPERATIONS_LAG))
		op->stamp = o->stamp;
	r->unmatched |= (uint8_t)!op->matched | (uint8_t)op->differs;
	return (uint32_t)(op - o->place) + 1;
}

#endif
