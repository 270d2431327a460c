/* The small codings of gRPC: base64 for binary metadata, percent-encoding for grpc-message. */
#include "tw/wire.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t tw_base64_encode(const uint8_t *p, size_t n, char *out, size_t cap)
{
	size_t need = n / 3 * 4 + (n % 3 ? n % 3 + 1 : 0), k = 0;

	if (need > cap)
		return 0;
	for (size_t i = 0; i < n; i += 3) {
		uint32_t left = n - i < 3 ? (uint32_t)(n - i) : 3;
		uint32_t v = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
		             (left > 2 ? p[i + 2] : 0);

		for (uint32_t j = 0; j <= left; j++)
			out[k++] = alphabet[v >> (18 - 6 * j) & 63];
	}
	return k;
}

/* The six bits of a digit, of the standard or the URL alphabet; 64: none. */
static uint32_t digit(uint8_t c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26u;
	if (c >= '0' && c <= '9')
		return c - '0' + 52u;
	if (c == '+' || c == '-')
		return 62;
	return c == '/' || c == '_' ? 63 : 64;
}

int tw_base64_decode(struct tw_slice s, uint8_t *out, size_t cap, size_t *n)
{
	size_t k = 0, pad = 0;
	uint32_t v = 0, bits = 0;

	while (pad < 2 && s.n && s.p[s.n - 1] == '=') {
		s.n--;
		pad++;
	}
	if (s.n % 4 == 1 || (pad && (s.n + pad) % 4))
		return TW_EINVAL;
	if (s.n / 4 * 3 + (s.n % 4 ? s.n % 4 - 1 : 0) > cap)
		return TW_ELIMIT;
	for (size_t i = 0; i < s.n; i++) {
		uint32_t d = digit(s.p[i]);

		if (d == 64)
			return TW_EINVAL;
		v = v << 6 | d;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			out[k++] = (uint8_t)(v >> bits);
		}
	}
	*n = k;
	return 0;
}

static bool is_plain(uint8_t c)
{
	return c >= 0x20 && c <= 0x7e && c != '%';
}

size_t tw_percent_encode(struct tw_slice s, char *out, size_t cap)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t k = 0;

	for (size_t i = 0; i < s.n; i++) {
		if (is_plain(s.p[i])) {
			if (k + 1 > cap)
				break;
			out[k++] = (char)s.p[i];
		} else {
			if (k + 3 > cap)
				break;
			out[k++] = '%';
			out[k++] = hex[s.p[i] >> 4];
			out[k++] = hex[s.p[i] & 15];
		}
	}
	return k;
}

static int hex_value(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

size_t tw_percent_decode(struct tw_slice s, char *out, size_t cap)
{
	size_t k = 0;

	for (size_t i = 0; i < s.n && k < cap; i++) {
		int high, low;

		if (s.p[i] == '%' && i + 2 < s.n && (high = hex_value(s.p[i + 1])) >= 0 &&
		    (low = hex_value(s.p[i + 2])) >= 0) {
			out[k++] = (char)(high << 4 | low);
			i += 2;
		} else {
			out[k++] = (char)s.p[i];
		}
	}
	return k;
}
