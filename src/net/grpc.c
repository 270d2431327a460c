#include "grpc.h"

#include <sys/param.h>

#include "body.h"

/* How much of a declared length is reserved before it has arrived. */
#define CLAIM_MAX ((size_t)1 << 20)

static int body_error(int rc, size_t max, struct tw_error *err)
{
	if (rc == TW_ELIMIT)
		return tw_error_set(err, rc, 0, "the message is larger than %zu bytes", max);
	if (rc == TW_EFULL)
		return tw_error_set(err, rc, 0, "too many bodies are being held in memory");
	return tw_error_set(err, rc, 0, "out of memory");
}

static int prefix_done(struct tw_grpc_frame *f, struct tw_body *body, size_t max,
                       struct tw_error *err)
{
	const uint8_t *p = f->prefix;
	int rc;

	if (p[0] > 1)
		return tw_error_set(err, TW_EINVAL, 0, "the compressed flag of the message is %u",
		                    p[0]);
	f->compressed = p[0] == 1;
	f->length = (uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4];
	if (f->length > max)
		return body_error(TW_ELIMIT, max, err);
	rc = tw_body_reserve(body, MIN((size_t)f->length, CLAIM_MAX));
	return rc == TW_OK ? TW_OK : body_error(rc, max, err);
}

int tw_grpc_feed(struct tw_grpc_frame *f, const uint8_t *p, size_t n, struct tw_body *body,
                 size_t max, struct tw_error *err)
{
	int rc;

	if (f->prefix_n < TW_GRPC_PREFIX_BYTES) {
		while (n > 0 && f->prefix_n < TW_GRPC_PREFIX_BYTES) {
			f->prefix[f->prefix_n++] = *p++;
			n--;
		}
		if (f->prefix_n < TW_GRPC_PREFIX_BYTES)
			return TW_OK;
		rc = prefix_done(f, body, max, err);
		if (rc != TW_OK)
			return rc;
	}
	if (n > f->length - body->n)
		return tw_error_set(err, TW_EINVAL, body->n,
		                    "more than one message in a unary call");
	rc = tw_body_append(body, p, n, max);
	return rc == TW_OK ? TW_OK : body_error(rc, max, err);
}

int tw_grpc_end(const struct tw_grpc_frame *f, const struct tw_body *body, struct tw_error *err)
{
	if (f->prefix_n == 0)
		return tw_error_set(err, TW_EINVAL, 0, "the call carries no message");
	if (f->prefix_n < TW_GRPC_PREFIX_BYTES)
		return tw_error_set(err, TW_EINVAL, f->prefix_n, "the message's length is cut off");
	if (body->n < f->length)
		return tw_error_set(err, TW_EINVAL, body->n,
		                    "the message is cut off: %zu of %u bytes came", body->n,
		                    f->length);
	return TW_OK;
}

int tw_grpc_timeout_parse(struct tw_slice s, uint64_t *ns)
{
	static const struct {
		char unit;
		uint64_t ns;
	} units[] = {
	    {'H', 3600 * TW_NS_PER_S},
	    {'M', 60 * TW_NS_PER_S},
	    {'S', TW_NS_PER_S},
	    {'m', TW_NS_PER_MS},
	    {'u', 1000},
	    {'n', 1},
	};
	uint64_t v = 0;

	if (s.n < 2 || s.n > 9)
		return TW_EINVAL;
	for (size_t i = 0; i + 1 < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return TW_EINVAL;
		v = v * 10 + (s.p[i] - '0');
	}
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (units[i].unit != (char)s.p[s.n - 1])
			continue;
		/* 99,999,999 hours are more than 64 bits of nanoseconds. */
		if (__builtin_mul_overflow(v, units[i].ns, ns))
			*ns = TW_NEVER;
		return TW_OK;
	}
	return TW_EINVAL;
}

void tw_grpc_message_encode(struct tw_slice s, struct tw_buf *out)
{
	static const char hex[] = "0123456789ABCDEF";

	for (size_t i = 0; i < s.n; i++) {
		uint8_t b = s.p[i];

		if (b >= 0x20 && b <= 0x7e && b != '%') {
			tw_buf_putc(out, (char)b);
			continue;
		}
		tw_buf_putc(out, '%');
		tw_buf_putc(out, hex[b >> 4]);
		tw_buf_putc(out, hex[b & 15]);
	}
}

void tw_grpc_base64_encode(struct tw_slice s, struct tw_buf *out)
{
	static const char digits[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < s.n; i += 3) {
		size_t left = MIN(s.n - i, (size_t)3);
		uint32_t v = (uint32_t)s.p[i] << 16;

		if (left > 1)
			v |= (uint32_t)s.p[i + 1] << 8;
		if (left > 2)
			v |= s.p[i + 2];
		for (size_t k = 0; k <= left; k++)
			tw_buf_putc(out, digits[v >> (18 - 6 * k) & 63]);
	}
}
