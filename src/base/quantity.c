/* Durations and sizes as people write them. Exact integer arithmetic: 0.1s is 100,000,000 ns. */
#include <string.h>
#include <stdbool.h>

#include "tw/base/clock.h"
#include "tw/base/error.h"

#define FRACTION_DIGITS_MAX 18

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit duration_units[] = {
    {"ns", 1},
    {"us", 1000},
    {"\xC2\xB5s", 1000}, /* µ, the micro sign */
    {"\xCE\xBCs", 1000}, /* μ, the Greek letter */
    {"ms", TW_NS_PER_MS},
    {"s", TW_NS_PER_S},
    {"m", 60 * TW_NS_PER_S},
    {"h", 3600 * TW_NS_PER_S},
    {"d", 86400 * TW_NS_PER_S},
    {"w", 7 * 86400 * TW_NS_PER_S},
    {NULL, 0},
};

static const struct unit byte_units[] = {
    {"B", 1},
    {"KiB", UINT64_C(1) << 10},
    {"MiB", UINT64_C(1) << 20},
    {"GiB", UINT64_C(1) << 30},
    {"TiB", UINT64_C(1) << 40},
    {"kB", UINT64_C(1000)},
    {"MB", UINT64_C(1000000)},
    {"GB", UINT64_C(1000000000)},
    {"TB", UINT64_C(1000000000000)},
    {NULL, 0},
};

struct text {
	const char *p;
	const char *end;
};

struct decimal {
	uint64_t whole;
	uint64_t fraction; /* in units of 1 / scale */
	uint64_t scale;
	bool bare; /* there was no '.' */
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_separator(char c)
{
	return is_digit(c) || c == '.' || c == ' ';
}

static int take_whole(struct text *t, uint64_t *whole)
{
	uint64_t v = 0;

	if (t->p == t->end || !is_digit(*t->p))
		return TW_EINVAL;
	for (; t->p < t->end && is_digit(*t->p); t->p++) {
		if (v > INT64_MAX / 10) /* times ten, plus a digit, still fits in 64 bits */
			return TW_ELIMIT;
		v = v * 10 + (uint64_t)(*t->p - '0');
	}
	*whole = v;
	return 0;
}

static int take_decimal(struct text *t, struct decimal *d)
{
	int digits = 0;
	int rc = take_whole(t, &d->whole);

	d->fraction = 0;
	d->scale = 1;
	d->bare = true;
	if (rc || t->p == t->end || *t->p != '.')
		return rc;
	d->bare = false;
	for (t->p++; t->p < t->end && is_digit(*t->p); t->p++, digits++) {
		if (digits == FRACTION_DIGITS_MAX)
			return TW_EINVAL;
		d->fraction = d->fraction * 10 + (uint64_t)(*t->p - '0');
		d->scale *= 10;
	}
	return digits ? 0 : TW_EINVAL;
}

/* The unit's name goes on up to the next number or space. */
static uint64_t take_unit(struct text *t, const struct unit *units)
{
	const char *start = t->p;
	size_t n;

	while (t->p < t->end && !is_separator(*t->p))
		t->p++;
	n = (size_t)(t->p - start);
	for (const struct unit *u = units; u->name; u++) {
		if (strlen(u->name) == n && memcmp(u->name, start, n) == 0)
			return u->factor;
	}
	return 0;
}

/* A fraction must come out whole: 0.5ns is a mistake and not 0. */
static int add_scaled(const struct decimal *d, uint64_t factor, uint64_t *sum)
{
	__uint128_t part = (__uint128_t)d->fraction * factor;
	__uint128_t v = (__uint128_t)d->whole * factor + *sum;

	if (part % d->scale)
		return TW_EINVAL;
	v += part / d->scale;
	if (v > INT64_MAX)
		return TW_ELIMIT;
	*sum = (uint64_t)v;
	return 0;
}

int tw_duration_parse(const char *s, size_t n, uint64_t *ns)
{
	struct text t = {s, s + n};
	struct decimal d;
	uint64_t sum = 0;
	int rc;

	if (n == 1 && *s == '0') {
		*ns = 0;
		return 0;
	}
	do {
		uint64_t factor;

		rc = take_decimal(&t, &d);
		if (rc)
			return rc;
		factor = take_unit(&t, duration_units);
		if (!factor)
			return TW_EINVAL;
		rc = add_scaled(&d, factor, &sum);
		if (rc)
			return rc;
	} while (t.p < t.end);
	*ns = sum;
	return 0;
}

int tw_bytes_parse(const char *s, size_t n, uint64_t *bytes)
{
	struct text t = {s, s + n};
	struct decimal d;
	uint64_t factor, sum = 0;
	int rc = take_decimal(&t, &d);

	if (rc)
		return rc;
	if (t.p == t.end) {
		factor = d.bare;
	} else {
		t.p += *t.p == ' ';
		factor = take_unit(&t, byte_units);
	}
	if (!factor || t.p < t.end)
		return TW_EINVAL;
	rc = add_scaled(&d, factor, &sum);
	if (!rc)
		*bytes = sum;
	return rc;
}
