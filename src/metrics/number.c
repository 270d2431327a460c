#include "number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t tw_number_u64(char out[TW_NUMBER_CHARS], uint64_t v)
{
	char tmp[24];
	size_t n = sizeof(tmp);

	do {
		tmp[--n] = (char)('0' + v % 10);
		v /= 10;
	} while (v != 0);
	memcpy(out, tmp + n, sizeof(tmp) - n);
	out[sizeof(tmp) - n] = '\0';
	return sizeof(tmp) - n;
}

/* digits of |v| without trailing zeros and without a point; returns the decimal exponent of the
 * first. */
static int shortest(double v, char digits[24], size_t *count)
{
	char text[40];
	size_t n = 0;

	for (int precision = 0; precision <= 16; precision++) {
		snprintf(text, sizeof(text), "%.*e", precision, fabs(v));
		if (strtod(text, NULL) == fabs(v))
			break;
	}
	char *e = strchr(text, 'e');
	for (char *c = text; c < e; c++)
		if (*c >= '0' && *c <= '9')
			digits[n++] = *c;
	while (n > 1 && digits[n - 1] == '0')
		n--;
	*count = n;
	return atoi(e + 1);
}

static size_t plain(char *out, const char *digits, size_t n, int exponent)
{
	size_t k = 0;

	if (exponent < 0) {
		out[k++] = '0';
		out[k++] = '.';
		for (int i = -1; i > exponent; i--)
			out[k++] = '0';
		memcpy(out + k, digits, n);
		return k + n;
	}
	for (size_t i = 0; i < n || (int)i <= exponent; i++) {
		if ((int)i == exponent + 1)
			out[k++] = '.';
		out[k++] = i < n ? digits[i] : '0';
	}
	return k;
}

size_t tw_number_f64(char out[TW_NUMBER_CHARS], double v, int low, int high)
{
	char digits[24];
	size_t n, k = 0;

	if (isnan(v) || isinf(v)) {
		strcpy(out, isnan(v) ? "NaN" : v > 0 ? "+Inf" : "-Inf");
		return strlen(out);
	}
	if (v == 0)
		return tw_number_u64(out, 0);
	int exponent = shortest(v, digits, &n);
	if (v < 0)
		out[k++] = '-';
	if (exponent >= low && exponent < high) {
		k += plain(out + k, digits, n, exponent);
	} else {
		out[k++] = digits[0];
		if (n > 1) {
			out[k++] = '.';
			memcpy(out + k, digits + 1, n - 1);
			k += n - 1;
		}
		k += (size_t)snprintf(out + k, 8, "e%+03d", exponent);
	}
	out[k] = '\0';
	return k;
}

size_t tw_number_scaled(char out[TW_NUMBER_CHARS], unsigned __int128 v, unsigned digits)
{
	char tmp[44]; /* 2^128 has 39 digits */
	size_t n = sizeof(tmp), end = sizeof(tmp);

	for (unsigned i = 0; i < digits; i++, v /= 10) {
		char c = (char)('0' + (unsigned)(v % 10));
		if (c == '0' && n == end)
			continue; /* a trailing zero */
		tmp[--n] = c;
	}
	if (n != end)
		tmp[--n] = '.';
	do {
		tmp[--n] = (char)('0' + (unsigned)(v % 10));
		v /= 10;
	} while (v != 0);
	memcpy(out, tmp + n, end - n);
	out[end - n] = '\0';
	return end - n;
}
