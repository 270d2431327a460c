/* AnyValue payloads as values. */
#include "tw/model/pb.h"
#include "tw/model/value.h"

static void set_slice(struct tw_value *v, enum tw_value_type type, const uint8_t *p, uint32_t n)
{
	v->type = type;
	v->n = n;
	v->p = p;
}

/* Decodes the length-delimited members of the oneof; `field` is their number. */
static void set_payload(struct tw_value *v, uint32_t field, const uint8_t *p, uint32_t n)
{
	switch (field) {
	case 1:
		set_slice(v, TW_VALUE_STRING, p, n);
		break;
	case 5:
		set_slice(v, TW_VALUE_ARRAY, p, n);
		break;
	case 6:
		set_slice(v, TW_VALUE_KVLIST, p, n);
		break;
	case 7:
		set_slice(v, TW_VALUE_BYTES, p, n);
		break;
	default:
		break;
	}
}

static void set_varint(struct tw_value *v, enum tw_value_type type, int64_t i)
{
	v->type = type;
	v->n = 0;
	v->i = i;
}

bool tw_value_merge(struct tw_slice any, struct tw_value *out)
{
	const uint8_t *p = any.p, *end = any.n ? any.p + any.n : any.p;

	while (p < end) {
		uint32_t tag, n;
		uint64_t u;

		p = tw_pb_tag(p, end, &tag);
		if (!p)
			return false;
		switch (tag) {
		case TW_PB_TAG(1, TW_PB_LEN):
		case TW_PB_TAG(5, TW_PB_LEN):
		case TW_PB_TAG(6, TW_PB_LEN):
		case TW_PB_TAG(7, TW_PB_LEN):
			p = tw_pb_len(p, end, &n);
			if (!p)
				return false;
			set_payload(out, tag >> 3, p, n);
			p += n;
			break;
		case TW_PB_TAG(2, TW_PB_VARINT):
			p = tw_pb_varint(p, end, &u);
			set_varint(out, TW_VALUE_BOOL, u != 0);
			break;
		case TW_PB_TAG(3, TW_PB_VARINT):
			p = tw_pb_varint(p, end, &u);
			set_varint(out, TW_VALUE_INT, (int64_t)u);
			break;
		case TW_PB_TAG(4, TW_PB_I64):
			if (end - p < 8)
				return false;
			u = tw_pb_le64(p);
			out->type = TW_VALUE_DOUBLE;
			out->n = 0;
			memcpy(&out->d, &u, 8);
			p += 8;
			break;
		default:
			/* One of the oneof's fields with another wire type is malformed, as it is
			 * to the Go and C readers behind us. */
			if (tag >> 3 <= 7)
				return false;
			p = tw_pb_skip(p, end, tag);
		}
		if (!p)
			return false;
	}
	return true;
}

bool tw_value_decode(struct tw_slice any, struct tw_value *out)
{
	*out = (struct tw_value){.type = TW_VALUE_NONE};
	return tw_value_merge(any, out);
}

bool tw_value_next(struct tw_slice *rest, struct tw_value *elem)
{
	const uint8_t *p = rest->p, *end = rest->n ? p + rest->n : p;

	while (p < end) {
		uint32_t tag, n;

		p = tw_pb_tag(p, end, &tag);
		if (!p)
			return false;
		if (tag == TW_PB_TAG(1, TW_PB_LEN)) {
			p = tw_pb_len(p, end, &n);
			if (!p)
				return false;
			*rest = tw_slice(p + n, (size_t)(end - p) - n);
			return tw_value_decode(tw_slice(p, n), elem);
		}
		p = tag >> 3 == 1 ? NULL : tw_pb_skip(p, end, tag);
		if (!p)
			return false;
	}
	*rest = tw_slice(end, 0);
	return false;
}
