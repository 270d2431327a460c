/* The generator. A message is either written as an SDK would, or as a random sequence of its
 * fields. */
#include "generate.h"

const char *const generate_keys[KEYS_ALL] = {
    "service.name",
    "http.route",
    "http.response.status_code",
    "http.request.header.aa-tenant-id",
    "http.request.header.bb-tenant-id",
    "",
    "db.system",
    "http.request.header.cc-tenant-id",
    "url.full",
    "k",
    "exception.stacktrace",
    "http.response.status_cod\xc3\xa9",
};

uint64_t rng_next(struct rng *r)
{
	uint64_t z = r->s += UINT64_C(0x9E3779B97F4A7C15);

	z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
	return z ^ z >> 31;
}

uint32_t rng_below(struct rng *r, uint32_t n)
{
	return (uint32_t)((rng_next(r) >> 32) * n >> 32);
}

static bool one_in(struct rng *r, uint32_t n)
{
	return rng_below(r, n) == 0;
}

static void text(struct rng *r, struct pb *b, uint32_t field)
{
	static const char *const pool[] = {
	    "",
	    "a",
	    "GET /cart",
	    "checkout.Checkout/PlaceOrder",
	    "gr\xc3\xbc\xc3\x9f",
	    "\xf0\x9f\x98\x80 and ASCII",
	    "ot=th:8;rv:0123456789abcd,x=y",
	    "frontend.shop.svc.cluster.local",
	    "\x7f\x01\n\"\\",
	    "\xed\x9f\xbf\xee\x80\x80",
	};
	uint8_t bytes[400];
	uint32_t n;

	if (!one_in(r, 8)) {
		pb_str(b, field, pool[rng_below(r, sizeof(pool) / sizeof(pool[0]))]);
		return;
	}
	n = rng_below(r, one_in(r, 4) ? sizeof(bytes) : 70);
	for (uint32_t i = 0; i < n; i++)
		bytes[i] = (uint8_t)(' ' + rng_below(r, 90));
	if (n && one_in(r, 12))
		bytes[rng_below(r, n)] = (uint8_t)(0x80 + rng_below(r, 0x80)); /* rarely UTF-8 */
	pb_bytes(b, field, bytes, n);
}

static void blob(struct rng *r, struct pb *b, uint32_t field, uint32_t n)
{
	uint8_t bytes[64];

	for (uint32_t i = 0; i < n; i++)
		bytes[i] = (uint8_t)rng_next(r);
	pb_bytes(b, field, bytes, n);
}

static void id(struct rng *r, struct pb *b, uint32_t field, uint32_t n)
{
	static const uint8_t zero[16];

	if (one_in(r, 60))
		pb_bytes(b, field, zero, n);
	else
		blob(r, b, field, one_in(r, 60) ? rng_below(r, 40) : n);
}

static uint64_t number(struct rng *r)
{
	return rng_next(r) >> rng_below(r, 64);
}

/* A field that OTLP does not know. */
static void unknown(struct rng *r, struct pb *b)
{
	static const uint32_t fields[] = {17, 18, 100, 1000, 2047, 2048, 262144, (1u << 29) - 1};
	uint32_t field = fields[rng_below(r, sizeof(fields) / sizeof(fields[0]))];

	switch (rng_below(r, 4)) {
	case 0:
		pb_varint(b, field, number(r));
		break;
	case 1:
		pb_fixed64(b, field, rng_next(r));
		break;
	case 2:
		pb_fixed32(b, field, (uint32_t)rng_next(r));
		break;
	default:
		blob(r, b, field, rng_below(r, 30));
	}
}

static void key_value(struct rng *r, struct pb *b, uint32_t field, unsigned depth);

static void value_member(struct rng *r, struct pb *b, unsigned depth)
{
	switch (rng_below(r, depth < 4 ? 9 : 6)) {
	case 0:
		pb_varint(b, 2, rng_below(r, 3));
		break;
	case 1:
		pb_varint(b, 3, number(r));
		break;
	case 2:
		pb_fixed64(b, 4, rng_next(r));
		break;
	case 3:
		blob(r, b, 7, rng_below(r, 20));
		break;
	case 6:
		pb_begin(b, 5);
		for (uint32_t n = rng_below(r, 4); n; n--) {
			pb_begin(b, 1);
			if (!one_in(r, 6))
				value_member(r, b, depth + 1);
			pb_end(b);
		}
		pb_end(b);
		break;
	case 7:
		pb_begin(b, 6);
		for (uint32_t n = rng_below(r, 3); n; n--)
			key_value(r, b, 1, depth + 1);
		pb_end(b);
		break;
	default:
		text(r, b, 1);
	}
}

static void any_value(struct rng *r, struct pb *b, uint32_t field, unsigned depth)
{
	pb_begin(b, field);
	if (one_in(r, 30))
		value_member(r, b, depth);
	if (!one_in(r, 20))
		value_member(r, b, depth);
	if (one_in(r, 40))
		unknown(r, b);
	pb_end(b);
}

static void key_value(struct rng *r, struct pb *b, uint32_t field, unsigned depth)
{
	const char *key = generate_keys[rng_below(r, KEYS_ALL)];

	pb_begin(b, field);
	if (one_in(r, 30))
		any_value(r, b, 2, depth);
	if (!one_in(r, 40))
		pb_str(b, 1, key);
	if (!one_in(r, 20))
		any_value(r, b, 2, depth);
	if (one_in(r, 60))
		pb_str(b, 1, key);
	if (one_in(r, 60))
		unknown(r, b);
	if (one_in(r, 60))
		pb_varint(b, 3, number(r));
	pb_end(b);
}

/* Values in values, some past the limit of 32. */
static void deep(struct rng *r, struct pb *b)
{
	uint32_t levels = 25 + rng_below(r, 12);

	pb_begin(b, 9);
	pb_str(b, 1, "http.route");
	pb_begin(b, 2);
	for (uint32_t i = 1; i < levels; i++) {
		pb_begin(b, 5);
		pb_begin(b, 1);
	}
	pb_varint(b, 3, levels);
	for (uint32_t i = 1; i < levels; i++) {
		pb_end(b);
		pb_end(b);
	}
	pb_end(b);
	pb_end(b);
}

static void event(struct rng *r, struct pb *b)
{
	pb_begin(b, 11);
	for (uint32_t n = rng_below(r, 5); n; n--) {
		switch (rng_below(r, 5)) {
		case 0:
			pb_fixed64(b, 1, number(r));
			break;
		case 1:
			text(r, b, 2);
			break;
		case 2:
			pb_varint(b, 4, number(r));
			break;
		case 3:
			unknown(r, b);
			break;
		default:
			key_value(r, b, 3, 1);
		}
	}
	pb_end(b);
}

static void span_link(struct rng *r, struct pb *b)
{
	pb_begin(b, 13);
	for (uint32_t n = rng_below(r, 6); n; n--) {
		switch (rng_below(r, 6)) {
		case 0:
			id(r, b, 1, 16);
			break;
		case 1:
			id(r, b, 2, 8);
			break;
		case 2:
			text(r, b, 3);
			break;
		case 3:
			key_value(r, b, 4, 1);
			break;
		case 4:
			pb_varint(b, 5, number(r));
			break;
		default:
			pb_fixed32(b, 6, (uint32_t)number(r));
		}
	}
	pb_end(b);
}

static void status(struct rng *r, struct pb *b)
{
	pb_begin(b, 15);
	for (uint32_t n = rng_below(r, 4); n; n--) {
		switch (rng_below(r, 5)) {
		case 0:
			text(r, b, 2);
			break;
		case 1:
			unknown(r, b);
			break;
		default:
			pb_varint(b, 3, one_in(r, 6) ? number(r) : rng_below(r, 4));
		}
	}
	pb_end(b);
}

static void span_field(struct rng *r, struct pb *b, uint32_t field)
{
	switch (field) {
	case 1:
		id(r, b, 1, 16);
		break;
	case 2:
		id(r, b, 2, 8);
		break;
	case 4:
		id(r, b, 4, 8);
		break;
	case 3:
	case 5:
		text(r, b, field);
		break;
	case 6:
		pb_varint(b, 6, one_in(r, 10) ? number(r) : rng_below(r, 7));
		break;
	case 7:
	case 8:
		pb_fixed64(b, field,
		           one_in(r, 4) ? number(r)
		                        : UINT64_C(1700000000000000000) + rng_below(r, 1000000000));
		break;
	case 9:
		key_value(r, b, 9, 1);
		break;
	case 11:
		event(r, b);
		break;
	case 13:
		span_link(r, b);
		break;
	case 15:
		status(r, b);
		break;
	case 16:
		pb_fixed32(b, 16, one_in(r, 3) ? (uint32_t)rng_next(r) : 0x100 | rng_below(r, 4));
		break;
	case 17:
		unknown(r, b);
		break;
	default:
		pb_varint(b, field, number(r));
	}
}

static void span(struct rng *r, struct pb *b)
{
	pb_begin(b, 2);
	if (one_in(r, 3)) { /* any order, with gaps and repeats */
		for (uint32_t n = rng_below(r, 30); n; n--)
			span_field(r, b, 1 + rng_below(r, 17));
		if (!one_in(r, 4)) {
			id(r, b, 2, 8);
			id(r, b, 1, 16);
		}
	} else {
		for (uint32_t f = 1; f <= 16; f++) {
			uint32_t n = f == 9               ? rng_below(r, 10)
			             : f == 11 || f == 13 ? rng_below(r, 5) / 4
			                                  : 1;

			if ((f == 3 || f == 10 || f == 12 || f == 14) && !one_in(r, 4))
				n = 0;
			while (n--)
				span_field(r, b, f);
		}
		if (one_in(r, 10))
			span_field(r, b, 1 + rng_below(r, 17));
	}
	if (one_in(r, 200))
		deep(r, b);
	if (one_in(r, 2000))
		for (uint32_t n = 1020 + rng_below(r, 10); n; n--)
			pb_bytes(b, one_in(r, 300) ? 9 : 11, NULL, 0);
	pb_end(b);
}

static void scope(struct rng *r, struct pb *b)
{
	pb_begin(b, 1);
	for (uint32_t n = rng_below(r, 5); n; n--) {
		switch (rng_below(r, 6)) {
		case 0:
		case 1:
			text(r, b, 1);
			break;
		case 2:
			text(r, b, 2);
			break;
		case 3:
			pb_varint(b, 4, number(r));
			break;
		case 4:
			unknown(r, b);
			break;
		default:
			key_value(r, b, 3, 1);
		}
	}
	pb_end(b);
}

static void scope_spans(struct rng *r, struct pb *b)
{
	pb_begin(b, 2);
	if (!one_in(r, 5))
		scope(r, b);
	for (uint32_t n = rng_below(r, 6); n; n--) {
		span(r, b);
		if (one_in(r, 25))
			scope(r, b);
		if (one_in(r, 25))
			text(r, b, 3);
	}
	if (one_in(r, 3))
		text(r, b, 3);
	if (one_in(r, 20))
		unknown(r, b);
	pb_end(b);
}

static void resource(struct rng *r, struct pb *b)
{
	pb_begin(b, 1);
	for (uint32_t n = rng_below(r, 6); n; n--) {
		switch (rng_below(r, 10)) {
		case 0:
			pb_varint(b, 2, number(r));
			break;
		case 1:
			unknown(r, b);
			break;
		case 2:
			pb_begin(b, 3);
			for (uint32_t f = 1; f <= 4; f++)
				if (one_in(r, 2))
					text(r, b, f);
			pb_end(b);
			break;
		default:
			key_value(r, b, 1, 1);
		}
	}
	pb_end(b);
}

static void resource_spans(struct rng *r, struct pb *b)
{
	pb_begin(b, 1);
	if (!one_in(r, 5))
		resource(r, b);
	for (uint32_t n = rng_below(r, 4); n; n--) {
		scope_spans(r, b);
		if (one_in(r, 15))
			resource(r, b);
		if (one_in(r, 15))
			unknown(r, b);
	}
	if (one_in(r, 3))
		text(r, b, 3);
	pb_end(b);
}

void generate_request(struct rng *r, struct pb *b)
{
	pb_clear(b);
	for (uint32_t n = 1 + rng_below(r, 3); n; n--)
		resource_spans(r, b);
	if (one_in(r, 30))
		unknown(r, b);
}

static void cut_or_repeat(struct rng *r, struct pb *b)
{
	size_t at = rng_below(r, (uint32_t)b->n), n = 1 + rng_below(r, 12);
	uint8_t piece[16];

	if (n > b->n - at)
		n = b->n - at;
	if (one_in(r, 2)) {
		memmove(b->p + at, b->p + at + n, b->n - at - n);
		b->n -= n;
		return;
	}
	memcpy(piece, b->p + at, n);
	pb_raw(b, piece, n);
	memmove(b->p + at + n, b->p + at, b->n - at - n);
	memcpy(b->p + at, piece, n);
}

void generate_mutate(struct rng *r, struct pb *b)
{
	static const uint8_t nasty[] = {0x00, 0x7f, 0x80, 0xff, 0x0a, 0x0b, 0x0c, 0x0e, 0x12, 0x4a};

	for (uint32_t n = 1 + rng_below(r, 3); n && b->n; n--) {
		uint32_t at = rng_below(r, (uint32_t)b->n);

		switch (rng_below(r, 6)) {
		case 0:
			b->p[at] ^= (uint8_t)(1u << rng_below(r, 8));
			break;
		case 1:
			b->p[at]++; /* of a length: one too long */
			break;
		case 2:
			b->p[at]--;
			break;
		case 3:
			b->p[at] = nasty[rng_below(r, sizeof(nasty))];
			break;
		case 4:
			cut_or_repeat(r, b);
			break;
		default:
			if (one_in(r, 3))
				b->n = at;
			else
				b->p[at] |= 0x80;
		}
	}
}
