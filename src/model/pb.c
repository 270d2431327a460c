/* The long forms of varints. */
#include "tw/model/pb.h"

const uint8_t *tw_pb_varint_long(const uint8_t *p, const uint8_t *end, uint64_t *v)
{
	uint64_t x = 0;

	for (unsigned shift = 0; shift < 63; shift += 7) {
		if (p >= end)
			return NULL;
		x |= (uint64_t)(*p & 0x7f) << shift;
		if (*p++ < 0x80) {
			*v = x;
			return p;
		}
	}
	if (p >= end || *p > 1)
		return NULL;
	*v = x | (uint64_t)*p << 63;
	return p + 1;
}

const uint8_t *tw_pb_u32_long(const uint8_t *p, const uint8_t *end, uint32_t *v)
{
	uint32_t x = 0;

	for (unsigned shift = 0; shift < 28; shift += 7) {
		if (p >= end)
			return NULL;
		x |= (uint32_t)(*p & 0x7f) << shift;
		if (*p++ < 0x80) {
			*v = x;
			return p;
		}
	}
	if (p >= end || *p > 0x0f)
		return NULL;
	*v = x | (uint32_t)*p << 28;
	return p + 1;
}
