/* Protobuf → OTLP/JSON, by the tables of the schema: fields in the order of their numbers, repeats
 * merged. */
#include "json_text.h"
#include "put.h"
#include "tw/base/limits.h"
#include "tw/wire.h"

#define FIELDS_MAX 16u

struct seen {                 /* of one field of a message */
	struct tw_slice last; /* payload of a LEN field */
	uint64_t scalar;      /* the last value of the others */
	uint32_t count;
};

struct encoder {
	struct tw_buf *out;
	unsigned values; /* AnyValue messages we are in */
	int code;        /* what went wrong: TW_EINVAL, TW_ENOMEM */
};

static bool encode_message(struct encoder *e, enum wire_message_id m, struct tw_slice bytes);

static bool fail(struct encoder *e, int code)
{
	e->code = code;
	return false;
}

/* The next field of message m that is in its table: *payload or *scalar. false: the end, or e->code
 * is set. */
static bool next_field(struct encoder *e, enum wire_message_id m, struct tw_slice *rest,
                       const struct wire_field **f, struct tw_slice *payload, uint64_t *scalar)
{
	const uint8_t *p = rest->p, *end = rest->n ? p + rest->n : p, *q;
	uint32_t tag, n;

	while (p < end) {
		p = tw_pb_tag(p, end, &tag);
		q = p ? tw_pb_skip(p, end, tag) : NULL;
		if (!q)
			return fail(e, TW_EINVAL);
		*f = wire_field(m, tag >> 3);
		if (!*f) {
			p = q;
			continue;
		}
		if (wire_pb_type(*f) != (tag & 7))
			return fail(e, TW_EINVAL);
		if ((tag & 7) == TW_PB_LEN) {
			p = tw_pb_len(p, end, &n);
			*payload = tw_slice(p, n);
		} else if ((tag & 7) == TW_PB_VARINT) {
			tw_pb_varint(p, end, scalar);
		} else {
			*scalar = (tag & 7) == TW_PB_I64 ? tw_pb_le64(p) : tw_pb_le32(p);
		}
		*rest = tw_slice(q, (size_t)(end - q));
		return true;
	}
	return false;
}

static void put_scalar(struct tw_buf *out, const struct wire_field *f, uint64_t v)
{
	double d;

	switch ((enum wire_type)f->type) {
	case WIRE_BOOL:
		tw_buf_puts(out, v ? "true" : "false");
		break;
	case WIRE_INT32:
		json_put_i64(out, (int32_t)(uint32_t)v);
		break;
	case WIRE_UINT32:
	case WIRE_FIXED32:
		json_put_u64(out, (uint32_t)v);
		break;
	case WIRE_INT64:
		put_char(out, '"');
		json_put_i64(out, (int64_t)v);
		put_char(out, '"');
		break;
	case WIRE_FIXED64:
		put_char(out, '"');
		json_put_u64(out, v);
		put_char(out, '"');
		break;
	default:
		memcpy(&d, &v, 8);
		json_put_double(out, d);
	}
}

static bool put_payload(struct encoder *e, const struct wire_field *f, struct tw_slice s)
{
	switch ((enum wire_type)f->type) {
	case WIRE_STRING:
		json_put_string(e->out, s);
		return true;
	case WIRE_HEX:
		json_put_hex(e->out, s);
		return true;
	case WIRE_BYTES:
		json_put_base64(e->out, s);
		return true;
	default:
		return encode_message(e, f->child, s);
	}
}

static bool put_list(struct encoder *e, enum wire_message_id m, const struct wire_field *f,
                     struct tw_slice bytes)
{
	struct tw_slice payload;
	const struct wire_field *g;
	uint64_t scalar;
	bool more = false;

	put_char(e->out, '[');
	while (next_field(e, m, &bytes, &g, &payload, &scalar)) {
		if (g != f)
			continue;
		if (more)
			put_char(e->out, ',');
		more = true;
		if (!put_payload(e, f, payload))
			return false;
	}
	put_char(e->out, ']');
	return !e->code;
}

/* A message that comes more than once is the message of all its bytes. */
static bool put_merged(struct encoder *e, enum wire_message_id m, const struct wire_field *f,
                       struct tw_slice bytes)
{
	struct tw_slice payload;
	const struct wire_field *g;
	struct tw_buf all;
	uint64_t scalar;
	bool ok;

	tw_buf_init(&all, 0);
	while (next_field(e, m, &bytes, &g, &payload, &scalar))
		if (g == f)
			put_bytes(&all, payload.p, payload.n);
	ok = all.failed ? fail(e, TW_ENOMEM) : !e->code && put_payload(e, f, tw_buf_slice(&all));
	tw_buf_deinit(&all);
	return ok;
}

/* proto3 leaves out what has its default, unless it is a oneof's. */
static bool is_default(const struct wire_field *f, const struct seen *s)
{
	if (!s->count)
		return true;
	if ((f->flags & (WIRE_ONEOF | WIRE_REPEATED)) || f->type == WIRE_MESSAGE)
		return false;
	return wire_pb_type(f) == TW_PB_LEN ? s->last.n == 0 : s->scalar == 0;
}

static bool put_field(struct encoder *e, enum wire_message_id m, const struct wire_field *f,
                      const struct seen *s, struct tw_slice bytes)
{
	put_char(e->out, '"');
	put_bytes(e->out, f->json, f->json_n);
	put_bytes(e->out, "\":", 2);
	if (f->flags & WIRE_REPEATED)
		return put_list(e, m, f, bytes);
	if (wire_pb_type(f) != TW_PB_LEN) {
		put_scalar(e->out, f, s->scalar);
		return true;
	}
	if (f->type == WIRE_MESSAGE && s->count > 1 && !(f->flags & WIRE_ONEOF))
		return put_merged(e, m, f, bytes);
	return put_payload(e, f, s->last);
}

static bool encode_message(struct encoder *e, enum wire_message_id m, struct tw_slice bytes)
{
	const struct wire_message *msg = &wire_messages[m];
	const struct wire_field *f, *chosen = NULL; /* of a oneof */
	struct seen seen[FIELDS_MAX];
	struct tw_slice rest = bytes, payload = {NULL, 0};
	uint64_t scalar = 0;
	bool more = false;

	if (m == WIRE_ANY_VALUE && ++e->values > TW_NEST_MAX)
		return fail(e, TW_EINVAL);
	memset(seen, 0, sizeof(seen[0]) * msg->count);
	while (next_field(e, m, &rest, &f, &payload, &scalar)) {
		struct seen *s = &seen[f - msg->fields];

		s->count++;
		s->last = payload;
		s->scalar = scalar;
		if (f->flags & WIRE_ONEOF)
			chosen = f;
	}
	if (e->code)
		return false;
	put_char(e->out, '{');
	for (uint32_t i = 0; i < msg->count; i++) {
		f = &msg->fields[i];
		if (is_default(f, &seen[i]) || ((f->flags & WIRE_ONEOF) && f != chosen))
			continue;
		if (more)
			put_char(e->out, ',');
		more = true;
		if (!put_field(e, m, f, &seen[i], bytes))
			return false;
	}
	put_char(e->out, '}');
	e->values -= m == WIRE_ANY_VALUE;
	return true;
}

int tw_otlp_json_encode(struct tw_slice request, struct tw_buf *out, struct tw_error *err)
{
	struct encoder e = {.out = out};
	size_t before = out->n;

	if (encode_message(&e, WIRE_REQUEST, request) && !out->failed)
		return 0;
	out->n = before;
	if (e.code == TW_EINVAL)
		return tw_error_set(err, TW_EINVAL, 0, "not an OTLP trace request");
	return tw_error_set(err, TW_ENOMEM, 0, "no memory for the text");
}
