#include "arith.h"

#include <math.h>

static struct tw_value of_int(int64_t i)
{
	return (struct tw_value){.type = TW_VALUE_INT, .i = i};
}

static struct tw_value of_double(double d)
{
	return (struct tw_value){.type = TW_VALUE_DOUBLE, .d = d};
}

static double as_double(struct tw_value v)
{
	return v.type == TW_VALUE_INT ? (double)v.i : v.d;
}

static bool is_number(struct tw_value v)
{
	return v.type == TW_VALUE_INT || v.type == TW_VALUE_DOUBLE;
}

/* By squaring; at most 63 rounds. */
static bool int_power(int64_t base, int64_t exponent, int64_t *out)
{
	int64_t result = 1;

	if (exponent < 0)
		return false;
	while (exponent) {
		if ((exponent & 1) && __builtin_mul_overflow(result, base, &result))
			return false;
		exponent >>= 1;
		if (exponent && __builtin_mul_overflow(base, base, &base))
			return false;
	}
	*out = result;
	return true;
}

/* false: the result is no integer. */
static bool int_arith(enum tw_calc_op op, int64_t a, int64_t b, int64_t *out)
{
	switch (op) {
	case TW_CALC_NEGATE:
		return !__builtin_sub_overflow((int64_t)0, a, out);
	case TW_CALC_ADD:
		return !__builtin_add_overflow(a, b, out);
	case TW_CALC_SUB:
		return !__builtin_sub_overflow(a, b, out);
	case TW_CALC_MUL:
		return !__builtin_mul_overflow(a, b, out);
	case TW_CALC_DIV:
		if (a == INT64_MIN && b == -1)
			return false;
		*out = a / b;
		return true;
	case TW_CALC_MOD:
		*out = b == -1 ? 0 : a % b;
		return true;
	case TW_CALC_POW:
		return int_power(a, b, out);
	default:
		return false;
	}
}

struct tw_value tw_arith(enum tw_calc_op op, struct tw_value a, struct tw_value b)
{
	int64_t i;

	if (op == TW_CALC_NEGATE)
		b = of_int(0);
	if (!is_number(a) || !is_number(b))
		return (struct tw_value){.type = TW_VALUE_NONE};
	if (a.type == TW_VALUE_INT && b.type == TW_VALUE_INT) {
		if (b.i == 0 && (op == TW_CALC_DIV || op == TW_CALC_MOD))
			return (struct tw_value){.type = TW_VALUE_NONE};
		if (int_arith(op, a.i, b.i, &i))
			return of_int(i);
	}
	switch (op) {
	case TW_CALC_NEGATE:
		return of_double(-as_double(a));
	case TW_CALC_ADD:
		return of_double(as_double(a) + as_double(b));
	case TW_CALC_SUB:
		return of_double(as_double(a) - as_double(b));
	case TW_CALC_MUL:
		return of_double(as_double(a) * as_double(b));
	case TW_CALC_DIV:
		return of_double(as_double(a) / as_double(b));
	case TW_CALC_MOD:
		return of_double(fmod(as_double(a), as_double(b)));
	case TW_CALC_POW:
		return of_double(pow(as_double(a), as_double(b)));
	default:
		return (struct tw_value){.type = TW_VALUE_NONE};
	}
}

static bool by_order(enum tw_cmp cmp, int order)
{
	switch (cmp) {
	case TW_CMP_EQ:
		return order == 0;
	case TW_CMP_NE:
		return order != 0;
	case TW_CMP_LT:
		return order < 0;
	case TW_CMP_LE:
		return order <= 0;
	case TW_CMP_GT:
		return order > 0;
	case TW_CMP_GE:
		return order >= 0;
	default:
		return false;
	}
}

/* Exact also where the integer has more digits than a double. d is not NaN. */
static int order_int_double(int64_t i, double d)
{
	int64_t whole;

	if (d >= 9223372036854775808.0)
		return -1;
	if (d < -9223372036854775808.0)
		return 1;
	whole = (int64_t)d;
	if (i != whole)
		return i < whole ? -1 : 1;
	return d > (double)whole ? -1 : d < (double)whole ? 1 : 0;
}

static bool compare_numbers(enum tw_cmp cmp, const struct tw_value *a, const struct tw_value *b)
{
	if (a->type == TW_VALUE_INT && b->type == TW_VALUE_INT)
		return by_order(cmp, (a->i > b->i) - (a->i < b->i));
	if ((a->type == TW_VALUE_DOUBLE && isnan(a->d)) ||
	    (b->type == TW_VALUE_DOUBLE && isnan(b->d)))
		return cmp == TW_CMP_NE;
	if (a->type == TW_VALUE_INT)
		return by_order(cmp, order_int_double(a->i, b->d));
	if (b->type == TW_VALUE_INT)
		return by_order(cmp, -order_int_double(b->i, a->d));
	return by_order(cmp, (a->d > b->d) - (a->d < b->d));
}

static bool compare_strings(enum tw_cmp cmp, const struct tw_value *a, const struct tw_value *b)
{
	uint32_t n = a->n < b->n ? a->n : b->n;
	int order;

	if (cmp == TW_CMP_EQ || cmp == TW_CMP_NE) {
		bool same = a->n == b->n && (n == 0 || memcmp(a->p, b->p, n) == 0);

		return same == (cmp == TW_CMP_EQ);
	}
	order = n ? memcmp(a->p, b->p, n) : 0;
	return by_order(cmp, order ? order : (a->n > b->n) - (a->n < b->n));
}

bool tw_compare(enum tw_cmp cmp, const struct tw_value *a, const struct tw_value *b)
{
	if (a->type == TW_VALUE_STRING && b->type == TW_VALUE_STRING)
		return compare_strings(cmp, a, b);
	if (is_number(*a) && is_number(*b))
		return compare_numbers(cmp, a, b);
	if (a->type == TW_VALUE_BOOL && b->type == TW_VALUE_BOOL &&
	    (cmp == TW_CMP_EQ || cmp == TW_CMP_NE))
		return ((!a->i) == (!b->i)) == (cmp == TW_CMP_EQ);
	return false;
}
