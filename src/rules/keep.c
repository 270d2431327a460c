#include "policy.h"

/* keep: all | none | P% | N [traces|spans|KiB|MiB|GiB] per DURATION [by resource.service.name] */

struct words {
	struct tw_source *source;
	const struct tw_node *node;
	struct tw_slice text;
	size_t at;    /* where the next word is looked for */
	size_t begin; /* the current word's */
	struct tw_slice word;
};

static const char forms[] =
    "expected all, none, a percentage such as 1%, or a budget such as 20 per 1s";

static void next(struct words *w)
{
	while (w->at < w->text.n && (w->text.p[w->at] == ' ' || w->text.p[w->at] == '\n'))
		w->at++;
	w->begin = w->at;
	while (w->at < w->text.n && w->text.p[w->at] != ' ' && w->text.p[w->at] != '\n')
		w->at++;
	w->word = tw_slice(w->text.p + w->begin, w->at - w->begin);
}

static bool is(const struct words *w, const char *s)
{
	return tw_slice_eq(w->word, tw_slice_str(s));
}

static bool complain(struct words *w, const char *text)
{
	tw_diag_scalar(w->source, TW_DIAG_ERROR, w->node, w->begin, w->word.n ? w->word.n : 1, "%s",
	               text);
	return false;
}

static bool at_end(struct words *w)
{
	next(w);
	if (w->word.n == 0)
		return true;
	if (is(w, "by"))
		return complain(w, "`by` behind this form is not supported yet");
	return complain(w, "expected nothing more here");
}

/* A decimal number with up to 12 places: *mantissa / *scale. Returns its bytes, 0: none. */
static size_t decimal(struct tw_slice s, uint64_t *mantissa, uint64_t *scale)
{
	size_t i = 0, digits = 0;
	bool dot = false;

	*mantissa = 0;
	*scale = 1;
	for (; i < s.n; i++) {
		if (s.p[i] == '.' && !dot) {
			dot = true;
			continue;
		}
		if (s.p[i] < '0' || s.p[i] > '9')
			break;
		if (*mantissa > UINT64_C(100000000000000) || *scale >= UINT64_C(1000000000000))
			return 0;
		*mantissa = *mantissa * 10 + (s.p[i] - '0');
		if (dot)
			*scale *= 10;
		digits++;
	}
	return digits ? i : 0;
}

/* T = 2^56 − round(p · 2^56), exactly. */
static uint64_t threshold(uint64_t mantissa, uint64_t scale)
{
	__uint128_t part = ((__uint128_t)mantissa << TW_THRESHOLD_BITS);
	__uint128_t whole = (__uint128_t)scale * 100;
	uint64_t p = (uint64_t)((part + whole / 2) / whole);

	if (p == 0 && mantissa)
		p = 1; /* the smallest share there is */
	return TW_CERTAIN - p;
}

static bool read_share(struct words *w, struct tw_policy_rule *rule)
{
	uint64_t mantissa, scale;
	size_t n = decimal(w->word, &mantissa, &scale);

	if (n == 0 || n + 1 != w->word.n)
		return complain(w, "expected a percentage such as 1% or 0.1%");
	if (mantissa > 100 * scale)
		return complain(w, "a percentage is at most 100%");
	rule->how = TW_KEEP_SHARE;
	rule->threshold = threshold(mantissa, scale);
	return at_end(w);
}

static bool read_unit(struct words *w, struct tw_budget_spec *b)
{
	static const struct {
		const char *name;
		uint8_t unit, shift;
	} units[] = {{"traces", TW_UNIT_TRACES, 0}, {"trace", TW_UNIT_TRACES, 0},
	             {"spans", TW_UNIT_SPANS, 0},   {"span", TW_UNIT_SPANS, 0},
	             {"B", TW_UNIT_BYTES, 0},       {"KiB", TW_UNIT_BYTES, 10},
	             {"MiB", TW_UNIT_BYTES, 20},    {"GiB", TW_UNIT_BYTES, 30}};

	next(w);
	if (is(w, "per"))
		return true;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (!is(w, units[i].name))
			continue;
		b->unit = units[i].unit;
		b->amount <<= units[i].shift;
		next(w);
		return is(w, "per") ||
		       complain(w, "expected `per` and a duration, as in 20 spans per 1s");
	}
	return complain(w,
	                "expected `per`, or a unit: spans, KiB, MiB, GiB (traces when left out)");
}

static bool read_keys(struct words *w, struct tw_budget_spec *b)
{
	next(w);
	if (w->word.n == 0)
		return true;
	if (!is(w, "by"))
		return complain(w, "expected `by resource.service.name` or nothing more");
	next(w);
	if (!is(w, "resource.service.name"))
		return complain(w, w->word.n ? "only `by resource.service.name` is supported yet"
		                             : "expected resource.service.name behind `by`");
	b->by_service = true;
	next(w);
	return w->word.n == 0 || complain(w, "several keys behind `by` are not supported yet");
}

static bool read_budget(struct words *w, struct tw_policy_rule *rule)
{
	struct tw_budget_spec *b = &rule->budget;
	uint64_t scale;
	size_t n = decimal(w->word, &b->amount, &scale);

	if (n != w->word.n || scale != 1 || b->amount == 0 || b->amount >= UINT64_C(1) << 32)
		return complain(w, "a budget is a whole number from 1 to 4294967295");
	if (!read_unit(w, b))
		return false;
	if (b->amount >= UINT64_C(1) << 40)
		return complain(w, "a budget is less than 1024 GiB");
	next(w);
	if (w->word.n == 0 ||
	    tw_duration_parse((const char *)w->word.p, w->word.n, &b->window_ns) != 0)
		return complain(w, "expected a duration such as 1s or 5m");
	if (b->window_ns < TW_NS_PER_MS || b->window_ns > 7 * 24 * 3600 * TW_NS_PER_S)
		return complain(w, "a budget's duration is at least 1ms and at most a week");
	rule->how = TW_KEEP_BUDGET;
	return read_keys(w, b);
}

static bool read_word(struct words *w, struct tw_policy_rule *rule)
{
	static const char *const known[] = {"all", "none", "first"};
	const char *near;

	if (is(w, "all") || is(w, "none")) {
		rule->how = is(w, "all") ? TW_KEEP_ALL : TW_KEEP_NONE;
		return at_end(w);
	}
	if (is(w, "first"))
		return complain(w, "`first N per D by …` is not supported yet");
	near = tw_nearest(w->word, known, 3);
	if (near)
		tw_diag_scalar(w->source, TW_DIAG_ERROR, w->node, w->begin, w->word.n,
		               "%s; did you mean `%s`?", forms, near);
	else
		complain(w, forms);
	return false;
}

bool tw_keep_read(struct tw_source *s, struct tw_policy_rule *rule)
{
	struct words w = {.source = s, .node = rule->keep, .text = rule->keep->value};

	if (rule->keep->kind != TW_NODE_SCALAR) {
		tw_diag_add(s, TW_DIAG_ERROR, rule->keep->begin, 1, "%s", forms);
		return false;
	}
	next(&w);
	if (w.word.n && w.word.p[w.word.n - 1] == '%')
		return read_share(&w, rule);
	if (w.word.n && w.word.p[0] >= '0' && w.word.p[0] <= '9')
		return read_budget(&w, rule);
	return read_word(&w, rule);
}
