/* The OTLP trace messages as tables: one row per field, for everything that is not hot.
 *
 * The checker, the paths of error messages and both directions of JSON walk these tables; the
 * scanner knows the same numbers by heart. Fields that no row names are unknown: skipped, and kept
 * in the bytes. */
#ifndef TW_WIRE_SCHEMA_H
#define TW_WIRE_SCHEMA_H

#include "tw/base/slice.h"
#include "tw/model/pb.h"

enum wire_type {
	WIRE_STRING,
	WIRE_BYTES, /* base64 in JSON */
	WIRE_HEX,   /* bytes, hex in JSON: ids */
	WIRE_MESSAGE,
	WIRE_BOOL,
	WIRE_INT32, /* and enums: numbers in JSON */
	WIRE_UINT32,
	WIRE_INT64,   /* decimal strings in JSON */
	WIRE_FIXED64, /* likewise, unsigned */
	WIRE_FIXED32,
	WIRE_DOUBLE,
};

enum wire_message_id {
	WIRE_REQUEST, /* ExportTraceServiceRequest */
	WIRE_RESOURCE_SPANS,
	WIRE_RESOURCE,
	WIRE_ENTITY_REF,
	WIRE_SCOPE_SPANS,
	WIRE_SCOPE,
	WIRE_SPAN,
	WIRE_EVENT,
	WIRE_LINK,
	WIRE_STATUS,
	WIRE_KEY_VALUE,
	WIRE_ANY_VALUE,
	WIRE_ARRAY_VALUE,
	WIRE_KVLIST,
	WIRE_RESPONSE, /* ExportTraceServiceResponse */
	WIRE_PARTIAL_SUCCESS,
	WIRE_MESSAGE_COUNT
};

enum { WIRE_REPEATED = 1, WIRE_ONEOF = 2 };

struct wire_field {
	uint8_t number;
	uint8_t type; /* enum wire_type */
	uint8_t flags;
	uint8_t child; /* enum wire_message_id of a WIRE_MESSAGE */
	uint8_t json_n;
	uint8_t tag_n;           /* bytes of the tag */
	const char *json, *name; /* in JSON; in .proto */
	const char *key;         /* the JSON name in quotes, a colon behind it, then zeros */
};

#define WIRE_KEY_ROOM 32u /* readable bytes at `key`, and more than any key has */

#define WIRE_NUMBER_MAX 16u
#define WIRE_ROWS_MAX   16u
struct wire_message {
	const struct wire_field *fields; /* in the order of their numbers */
	uint8_t count;
};

extern const struct wire_message wire_messages[WIRE_MESSAGE_COUNT];

/* The field with this number, or NULL. The numbers of each message are consecutive. */
static inline const struct wire_field *wire_field(enum wire_message_id m, uint32_t number)
{
	const struct wire_message *msg = &wire_messages[m];
	uint32_t row = number - msg->fields[0].number;

	return row < msg->count ? &msg->fields[row] : NULL;
}

static inline enum tw_pb_type wire_pb_type(const struct wire_field *f)
{
	static const uint8_t types[] = {
	    [WIRE_STRING] = TW_PB_LEN,    [WIRE_BYTES] = TW_PB_LEN,    [WIRE_HEX] = TW_PB_LEN,
	    [WIRE_MESSAGE] = TW_PB_LEN,   [WIRE_BOOL] = TW_PB_VARINT,  [WIRE_INT32] = TW_PB_VARINT,
	    [WIRE_UINT32] = TW_PB_VARINT, [WIRE_INT64] = TW_PB_VARINT, [WIRE_FIXED64] = TW_PB_I64,
	    [WIRE_FIXED32] = TW_PB_I32,   [WIRE_DOUBLE] = TW_PB_I64,
	};

	return (enum tw_pb_type)types[f->type];
}

#endif
