/* What the scan of one request yields: views over the request's bytes.
 *
 * A view borrows everything from the body it was scanned from, so it lives exactly as long as the
 * ticket that holds the body; its rest may be its template's, which the request holds as long.
 * `wire` fills all but what `rules` fills, the masks and the resource's leaf words, and `metrics`,
 * the series; nobody else writes there.
 * One thread at a time: the receiving worker until the commit, then each owner only reads. */
#ifndef TW_MODEL_SPAN_H
#define TW_MODEL_SPAN_H

#include "tw/base/arena.h"
#include "tw/model/template.h"

/* Spanset bits of a span, 64 a word: 128, or what -DTW_MASK_WORDS=N makes of it; the rule compiler
 * says when a file needs more. Each word is 8 bytes more of every open trace and span of a request.
 */
#ifndef TW_MASK_WORDS
#define TW_MASK_WORDS 2u
#endif
#define TW_LEAF_WORDS                                                                              \
	(TW_MASK_WORDS < 8 ? 8u : TW_MASK_WORDS) /* predicate bits of a resource: 512 */

struct tw_id128 {
	uint64_t hi, lo; /* the id's bytes 0–7 and 8–15, big endian */
};
static inline bool tw_id_eq(struct tw_id128 a, struct tw_id128 b)
{
	return ((a.hi ^ b.hi) | (a.lo ^ b.lo)) == 0;
}

enum tw_kind { /* Span.SpanKind */
	       TW_KIND_UNSPECIFIED,
	       TW_KIND_INTERNAL,
	       TW_KIND_SERVER,
	       TW_KIND_CLIENT,
	       TW_KIND_PRODUCER,
	       TW_KIND_CONSUMER,
	       TW_KIND_COUNT
};
enum tw_status { /* Status.StatusCode */
	         TW_STATUS_UNSET,
	         TW_STATUS_OK,
	         TW_STATUS_ERROR,
	         TW_STATUS_COUNT
};

struct tw_resource {          /* one ResourceSpans */
	struct tw_slice head; /* its fields other than scope_spans, as wire bytes with their tags */
	uint64_t hash;        /* keyed hash of head */
	uint64_t slots_set;   /* bit k: slots[k] is valid */
	struct tw_value *slots; /* indexed by slot, as far as slots_set goes; NULL when it is 0 */
	uint64_t leaf[TW_LEAF_WORDS]; /* rules: predicate bits that depend on the resource alone */
	bool matched;                 /* rules: leaf is filled */
};

struct tw_scope {             /* one ScopeSpans */
	struct tw_slice head; /* its fields other than spans, as wire bytes with their tags */
	struct tw_slice name, version;
	uint64_t hash;     /* keyed hash of head, chained with the resource's */
	uint64_t begun;    /* scanner: the same of what came before the spans; 0: unknown */
	uint32_t resource; /* index */
};

enum {
	TW_SPAN_ROOT = 1,       /* no parent id */
	TW_SPAN_RANDOM = 2,     /* W3C flags bit 0x02: the id's last 7 bytes are random */
	TW_SPAN_TRACESTATE = 4, /* a tracestate that is not empty */
};

/* What differs from span to span, and what is asked of each. It is written once and read by three
 * walks, so it is small: 1,000 of them, 96 KB, lie in the second-level cache beside their body. */
struct tw_span {
	struct tw_id128 trace_id;
	uint64_t span_id, parent_id; /* big endian loads; parent 0: root */
	uint64_t start_ns;           /* unix time as sent */
	uint64_t duration_ns;        /* end − start; 0 when end < start */
	const uint8_t *bytes;        /* the Span message's payload, as sent */
	uint64_t hash;               /* keyed hash of trace_id: owner, table slot, verdict */
	const struct tw_span_rest *rest;
	uint32_t bytes_n;
	/* The scanner copies these four in one piece from what it knows of a template. */
	uint8_t kind,
	    status; /* enum tw_kind (unknown → UNSPECIFIED), enum tw_status (unknown → UNSET) */
	uint8_t flags;
	uint8_t pad;
	uint32_t operation; /* 1 + its place (tw/model/operations.h); 0: the span has no template */
	uint32_t places;    /* the first of its template's differing values, in tw_request.places */
	uint32_t scope;     /* index */
	uint32_t series;    /* metrics: the RED series */
};
_Static_assert(sizeof(struct tw_span) == 96, "a line and a half, however many the mask's words");

#define TW_SPAN_COMMON_AT    offsetof(struct tw_span, kind)
#define TW_SPAN_COMMON_BYTES (offsetof(struct tw_span, operation) - TW_SPAN_COMMON_AT)

/* The spans of one template within one scope: what rules and metrics find for one of them holds
 * for all, if it depends on nothing that differs. */
struct tw_operation {
	struct tw_template *template; /* while a request has the operation */
	uint64_t id, hash;            /* the template's */
	uint64_t scope;               /* the scope's hash */
	uint64_t mask[TW_MASK_WORDS]; /* rules: if matched */
	uint64_t stamp;               /* of its last use, or a little before [scanner] */
	uint32_t series;              /* metrics: if counted */
	bool counted, matched;
	bool differs; /* rules: the mask depends on the single span */
	bool fixed;   /* as in the template */
};
struct tw_operations;

/* Why single spans of a request were not admitted; reported as partial success. */
enum tw_reject {
	TW_REJECT_TRACE_ID, /* zero, or not 16 bytes */
	TW_REJECT_SPAN_ID,  /* zero, or not 8 bytes */
	TW_REJECT_UTF8,     /* a string field is not UTF-8 */
	TW_REJECT_CHILDREN, /* more than TW_SPAN_CHILDREN_MAX attributes, events or links */
	TW_REJECT_SIZE,     /* larger than TW_SPAN_BYTES_MAX */
	TW_REJECT_COUNT
};
extern const char
    *const tw_reject_names[TW_REJECT_COUNT]; /* "invalid_trace_id", … as metric labels */

struct tw_request { /* pooled: arrays keep their memory from request to request */
	struct tw_span *spans;
	struct tw_resource *resources;
	struct tw_scope *scopes;
	struct tw_span_rest *rests;       /* of spans that do not share their template's */
	struct tw_value *values;          /* backs the slots of these and of resources */
	uint64_t (*masks)[TW_MASK_WORDS]; /* rules: spanset bits of span i, if its operation does
	                                     not tell them; read them by tw_span_mask */
	struct tw_operation *operations;  /* places of the table's; NULL: no span has one */
	struct tw_place *places;
	uint32_t span_count, span_cap;
	uint32_t resource_count, resource_cap;
	uint32_t scope_count, scope_cap;
	size_t rest_count, rest_cap;
	size_t value_count, value_cap;
	size_t mask_cap; /* not less than span_count once the scan has ended */
	size_t place_count, place_cap;
	uint64_t span_bytes;  /* of all spans: sum of bytes_n */
	size_t heads_max;     /* no scope's head and its resource's are longer together */
	uint32_t plain_count; /* spans without an operation, at most */
	uint8_t unmatched;    /* 1: a span's operation does not tell its mask, or did not at its
	                         scan */
	/* While its spans may have operations. */
	struct tw_operations *table;
	struct tw_request *older, *newer; /* of these, as they began */
	uint64_t stamp;                   /* when it did */
	uint32_t rejected[TW_REJECT_COUNT];
	char reject_text[160]; /* the first rejected span: field and offset */
	struct tw_arena arena; /* cold pieces that are not contiguous in the body */
};
static inline uint64_t *tw_span_own_mask(const struct tw_request *r, const struct tw_span *s)
{
	return r->masks[s - r->spans];
}
/* The span's own where its operation does not tell it. */
static inline const uint64_t *tw_span_mask(const struct tw_request *r, const struct tw_span *s)
{
	const struct tw_operation *op;

	if (TW_UNLIKELY(s->operation == 0))
		return tw_span_own_mask(r, s);
	op = &r->operations[s->operation - 1];
	return TW_LIKELY(op->matched && !op->differs) ? op->mask : tw_span_own_mask(r, s);
}
void tw_request_init(struct tw_request *r);
void tw_request_deinit(struct tw_request *r);
void tw_request_reset(struct tw_request *r); /* empties; gives memory back past 4 MiB. The
                                                operations may become others' [scanner] */
/* Before the reset of one whose views are not needed any more: gives about so many bytes of them
 * back. false: there is nothing left that takes time to give back. */
bool tw_request_shrink(struct tw_request *r, size_t bytes);
uint32_t tw_request_rejected(const struct tw_request *r); /* spans */
/* Room for so many more rows. Arrays may move; rest and slots pointers of the rows in use move with
 * them. false: no memory. */
bool tw_request_room(struct tw_request *r, uint32_t spans, uint32_t resources, uint32_t scopes);
bool tw_request_room_rests(struct tw_request *r, size_t rests);
bool tw_request_room_values(struct tw_request *r, size_t values);
bool tw_request_room_places(struct tw_request *r, size_t places);
/* A mask for each span that is there; what was in them is lost. */
bool tw_request_room_masks(struct tw_request *r);

#endif
