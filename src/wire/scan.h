/* What the two halves of the scanner share: the spine (requests, resources, scopes) and the span.
 */
#ifndef TW_WIRE_SCAN_H
#define TW_WIRE_SCAN_H

#include "check.h"
#include "tw/model/keytab.h"
#include "tw/wire.h"

/* Behind a span that takes the short way, so many bytes can be read: it looks at its end only now
 * and then. */
#define SCAN_SLACK_BYTES 320u

struct scan {
	const struct tw_keytab *keys;
	size_t behind; /* as in tw_scan_opts */
	struct tw_request *r;
	struct tw_templates *templates; /* NULL: none */
	struct tw_hash_key key;
	const uint8_t *safe;  /* from any byte up to this one, 64 can be read; NULL: from none */
	const uint8_t *slack; /* likewise, SCAN_SLACK_BYTES */
	uint32_t key_count;
	uint32_t spans_seen, spans_max;
	uint32_t groups_seen;
	/* Of the open scope, 0 before its first span: the hash of what came before that, and what
	 * its hash is taken for. */
	uint64_t scope_begun, scope_hash;
	/* The head of a resource that was hashed last, and its hash. */
	struct tw_slice resource_head;
	uint64_t resource_hash;
	enum wire_message_id root; /* what [body, body_end) is */
	const uint8_t *body, *body_end;
};

/* Attributes as they are collected: the first of a key wins. */
struct scan_slots {
	struct tw_value *slot;
	uint64_t set;
};

static inline void scan_take(struct scan_slots *a, int slot, struct tw_value v)
{
	if (slot >= 0 && !(a->set >> slot & 1)) {
		a->set |= UINT64_C(1) << slot;
		a->slot[slot] = v;
	}
}

/* A KeyValue that is known to be well-formed. */
void scan_key_value(const struct scan *s, const uint8_t *p, const uint8_t *end,
                    struct scan_slots *a);

static inline enum tw_status scan_status_of(uint64_t code)
{
	return (uint32_t)code < TW_STATUS_COUNT ? (enum tw_status)(uint32_t)code : TW_STATUS_UNSET;
}
struct scan_status {
	const uint8_t *message;
	uint32_t message_n;
	uint8_t status;
};
/* A Status that is known to be well-formed, on top of what *out holds. */
void scan_status(const uint8_t *p, const uint8_t *end, struct scan_status *out);

/* The span [p, end), whose tag is at `at`: appended to the request, or counted as rejected.
 * TW_EINVAL: malformed; TW_ENOMEM. */
int scan_span(struct scan *s, const uint8_t *at, const uint8_t *p, const uint8_t *end,
              uint32_t scope);

/* Counts `spans` as rejected, and describes the first one. at: a byte of the body, as wire_path
 * wants it. */
void scan_reject(struct scan *s, enum tw_reject why, uint32_t spans, const uint8_t *at,
                 unsigned levels, const char *text);

#endif
