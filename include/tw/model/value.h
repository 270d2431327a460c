/* Attribute values as rules and metrics see them, and the table of the keys that they asked for.
 *
 * A key table belongs to one generation of the configuration. At boot or reload, rules and metrics
 * add the keys they read (each add returns the slot number), then it is sealed: a perfect hash,
 * immutable, shared by all threads. The scanner asks it once per attribute. Slot numbers are the
 * same for resource and span attributes: `resource.x` and `span.x` are slot k of the resource and
 * slot k of the span.
 *
 * Values borrow from the request's bytes. */
#ifndef TW_MODEL_VALUE_H
#define TW_MODEL_VALUE_H

#include "tw/base/error.h"
#include "tw/base/hash.h"
#include "tw/base/slice.h"

#define TW_KEYS_MAX         64u /* slots, so that one word says which are set */
#define TW_KEY_SERVICE_NAME 0u  /* "service.name" is slot 0 of every table */

enum tw_value_type {
	TW_VALUE_NONE, /* AnyValue without a value */
	TW_VALUE_STRING,
	TW_VALUE_BOOL,
	TW_VALUE_INT,
	TW_VALUE_DOUBLE,
	TW_VALUE_BYTES,
	TW_VALUE_ARRAY,  /* p, n: the ArrayValue message's payload */
	TW_VALUE_KVLIST, /* p, n: the KeyValueList message's payload */
};

struct tw_value {
	uint32_t type; /* enum tw_value_type */
	uint32_t n;    /* bytes behind p */
	union {
		const uint8_t *p;
		int64_t i; /* also bool: 0 or 1 */
		double d;
	};
};

struct tw_keytab;

struct tw_keytab *tw_keytab_create(void); /* holds service.name; NULL: no memory [boot] */
void tw_keytab_destroy(struct tw_keytab **kt);
/* The slot of key, a new one if it was not there: 0 … TW_KEYS_MAX−1; TW_ELIMIT: full; TW_ENOMEM.
 * Before the seal only. [boot] */
int tw_keytab_add(struct tw_keytab *kt, struct tw_slice key);
int tw_keytab_seal(struct tw_keytab *kt);             /* 0 or TW_ENOMEM [boot] */
uint32_t tw_keytab_count(const struct tw_keytab *kt); /* slots in use [any] */
struct tw_slice tw_keytab_key(const struct tw_keytab *kt, uint32_t slot);
/* The slot of key, or −1. One probe; sealed tables only. [any] */
int tw_keytab_find(const struct tw_keytab *kt, const uint8_t *key, size_t n);

/* Walks the elements of a TW_VALUE_ARRAY: sets *elem, moves *rest on; false at the end or on bytes
 * that are not an ArrayValue. Start with rest = the array's p and n. */
bool tw_value_next(struct tw_slice *rest, struct tw_value *elem);
/* Decodes an AnyValue message's payload. false: malformed. An empty payload is TW_VALUE_NONE. */
bool tw_value_decode(struct tw_slice any, struct tw_value *out);
/* Likewise, on top of what *out holds: an AnyValue that is repeated in its parent merges. */
bool tw_value_merge(struct tw_slice any, struct tw_value *out);

#endif
