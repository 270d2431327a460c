/* What the spans of one operation have in common: the bytes that are always the same, and where
 * the values stand that are not.
 *
 * `wire` learns templates and recognises their spans; `rules` and `metrics` remember per operation
 * what they found; `buffer` writes a template once a segment and of each span only what differs.
 * Nobody else looks inside.
 *
 * Only spans in the form that every SDK writes have one: trace id, span id, trace state or none,
 * parent id or none, name, kind or none, start and end, in the order of their numbers and in their
 * short forms; then the parts of the layout. Life: made by a scanner's cache; when that drops it,
 * it lives on until the requests that may have spans of it were reset (tw/model/operations.h).
 * Immutable but for the scanner's own; others may read it while their request lives. */
#ifndef TW_MODEL_TEMPLATE_H
#define TW_MODEL_TEMPLATE_H

#include "tw/model/value.h"

#define TW_TEMPLATE_VALUES_MAX 32u        /* values that differ, of one span */
#define TW_TEMPLATE_SPAN_MAX   UINT16_MAX /* bytes of a span with a template */
#define TW_TEMPLATE_NAME_MAX   127u       /* of its name, of its trace state */
#define TW_KIND_ABSENT         0xffu

enum tw_part_kind {
	TW_PART_BYTES, /* always the same */
	TW_PART_TEXT,  /* an attribute whose value is a string that differs */
	TW_PART_INT,   /* an attribute whose value is an integer that differs */
	TW_PART_RAW,   /* so many bytes as they come: a double, a bool */
	TW_PART_FIELD, /* a length-delimited field as it comes: an event, a link */
};

struct tw_part {
	uint8_t kind; /* enum tw_part_kind */
	uint8_t pad;
	uint16_t n;  /* BYTES: how many; TEXT, INT: those from the key's tag to the value's tag;
	                FIELD:  the tag's; RAW: how many are not in the layout */
	uint32_t at; /* of these bytes, from the layout's begin */
};

/* Position independent, so that it can be copied into a segment: the parts, then the bytes that
 * they refer to, the name first. */
struct tw_layout {
	uint32_t size; /* of all of it */
	uint16_t part_count;
	uint16_t value_count; /* the trace state, and parts that are not BYTES */
	uint8_t name_n;
	uint8_t kind; /* the byte behind its tag; TW_KIND_ABSENT: there is no such field */
	bool has_parent;
	bool has_state; /* a trace state of 1 to TW_TEMPLATE_NAME_MAX bytes: the first value that
	                   differs, a TEXT without a part */
	struct tw_part part[];
};

/* Where a value that differs lies in its span: from the span's begin. Of an attribute the string's
 * bytes or the integer's varint; of a field its payload. */
struct tw_place {
	uint16_t at, n;
};

/* What few ask of a span, and what is mostly the same in all spans of a template: those share the
 * template's, others have their own in the request, of which the slots may still be the
 * template's. */
struct tw_span_rest {
	uint64_t slots_set; /* bit k: slots[k] is valid */
	struct tw_value
	    *slots; /* indexed by slot; entries not in slots_set do not exist; NULL when it is 0 */
	const uint8_t *name;
	const uint8_t *tracestate;
	const uint8_t *status_message;
	uint32_t name_n, tracestate_n, status_message_n;
	uint32_t w3c_flags;
};

struct tw_image; /* how its spans look in bytes: the scanner's */

struct tw_template {
	/* The scanner's own, apart from what others often read. */
	uint64_t hash;          /* keyed hash of the layout; immutable */
	uint64_t id;            /* no other one has or had it; immutable */
	struct tw_image *image; /* one allocation, the template's; NULL: none yet */
	uint32_t image_bytes;
	uint32_t bytes; /* of both */
	struct tw_template *next_dropped;
	uint64_t dropped_at; /* a request that began later has no span of it */
	/* Immutable. */
	_Alignas(64) struct tw_span_rest rest; /* its spans', if it is fixed and they have no trace
	                                          state; else without the values that differ */
	uint8_t kind, status;                  /* as in tw_span */
	/* What packing needs, in one line with the layout's head. */
	_Alignas(64) uint64_t kinds; /* of the differing values, the first in the low bits: two
	                                bits each, enum tw_part_kind − 1 */
	bool fixed;                  /* no value that somebody reads from a slot differs */
	uint8_t pad[3];
	struct tw_layout layout; /* the last: it has no fixed size. Behind it: */
};

/* Of the differing values: the slot of each; TW_KEYS_MAX: none. And the kind of the i-th's part. */
static inline const uint8_t *tw_template_slot_of(const struct tw_template *t)
{
	return (const uint8_t *)&t->layout + t->layout.size;
}
static inline enum tw_part_kind tw_template_kind(const struct tw_template *t, uint32_t i)
{
	return (enum tw_part_kind)((t->kinds >> 2 * i & 3) + 1);
}
static inline const uint8_t *tw_layout_bytes(const struct tw_layout *l, uint32_t at)
{
	return (const uint8_t *)l + at;
}
static inline const uint8_t *tw_layout_name(const struct tw_layout *l)
{
	return (const uint8_t *)(l->part + l->part_count);
}

#endif
