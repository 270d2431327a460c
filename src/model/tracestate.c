/* The `ot` member of W3C tracestate: consistent probability sampling.
 *
 * tracestate is a list `key=value,key=value`; the value of `ot` is itself a list `k:v;k:v` in which
 * `th` is the rejection threshold and `rv` the explicit randomness. Nothing but `th` is ever
 * changed. */
#include <math.h>

#include "tw/base/limits.h"
#include "tw/model/trace.h"

#define HEX_DIGITS 14u

struct member { /* of tracestate, or a sub-key of ot */
	struct tw_slice key, value, whole;
};

static bool is_ows(uint8_t c)
{
	return c == ' ' || c == '\t';
}

static struct tw_slice trim(struct tw_slice s)
{
	while (s.n && is_ows(s.p[0])) {
		s.p++;
		s.n--;
	}
	while (s.n && is_ows(s.p[s.n - 1]))
		s.n--;
	return s;
}

/* Cuts the piece before `sep` off *rest, and splits it at `mid`. false: *rest was used up. */
static bool next_member(struct tw_slice *rest, char sep, char mid, struct member *m)
{
	const uint8_t *cut, *eq;
	struct tw_slice s;

	if (!rest->p)
		return false;
	cut = rest->n ? memchr(rest->p, sep, rest->n) : NULL;
	s = tw_slice(rest->p, cut ? (size_t)(cut - rest->p) : rest->n);
	*rest = cut ? tw_slice(cut + 1, rest->n - s.n - 1) : tw_slice(NULL, 0);
	m->whole = s = trim(s);
	eq = s.n ? memchr(s.p, mid, s.n) : NULL;
	m->key = tw_slice(s.p, eq ? (size_t)(eq - s.p) : s.n);
	m->value = eq ? tw_slice(eq + 1, s.n - m->key.n - 1) : tw_slice(NULL, 0);
	return true;
}

static bool is(struct tw_slice s, const char *word)
{
	return tw_slice_eq(s, tw_slice_str(word));
}

static bool sub_key_valid(const struct member *m)
{
	if (!m->key.n || m->key.p[0] < 'a' || m->key.p[0] > 'z' || !m->value.p)
		return false;
	for (size_t i = 1; i < m->key.n; i++)
		if (!((m->key.p[i] >= 'a' && m->key.p[i] <= 'z') ||
		      (m->key.p[i] >= '0' && m->key.p[i] <= '9')))
			return false;
	for (size_t i = 0; i < m->value.n; i++) {
		uint8_t c = m->value.p[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      c == '.' || c == '_' || c == '-'))
			return false;
	}
	return true;
}

/* digits_min … 14 lower-case hex digits, padded with zeros on the right. */
static bool parse_hex(struct tw_slice s, size_t digits_min, uint64_t *out)
{
	uint64_t v = 0;

	if (s.n < digits_min || s.n > HEX_DIGITS)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = s.p[i];

		if (c >= '0' && c <= '9')
			v = v << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			v = v << 4 | (uint64_t)(c - 'a' + 10);
		else
			return false;
	}
	*out = v << (4 * (HEX_DIGITS - s.n));
	return true;
}

static void parse_sub_key(const struct member *m, struct tw_ot *out)
{
	uint64_t v;

	if (!sub_key_valid(m)) {
		out->malformed = true;
	} else if (is(m->key, "th")) {
		out->malformed |= out->has_th;
		if (!parse_hex(m->value, 1, &v)) {
			out->malformed = true;
		} else if (!out->has_th) {
			out->has_th = true;
			out->th = v;
		}
	} else if (is(m->key, "rv")) {
		out->malformed |= out->has_rv;
		if (!parse_hex(m->value, HEX_DIGITS, &v)) {
			out->malformed = true;
		} else if (!out->has_rv) {
			out->has_rv = true;
			out->rv = v;
		}
	}
}

struct scan {               /* what one walk over a tracestate found */
	struct tw_slice ot; /* the value of the first ot member */
	bool has_ot;
	uint32_t members; /* not empty */
	struct tw_ot parsed;
};

static void scan_state(struct tw_slice tracestate, struct scan *sc)
{
	struct tw_slice rest = tracestate;
	struct member m;

	memset(sc, 0, sizeof(*sc));
	if (!tracestate.n)
		return;
	while (next_member(&rest, ',', '=', &m)) {
		if (!m.whole.n)
			continue;
		if (++sc->members > TW_TRACESTATE_MEMBERS_MAX) {
			sc->parsed.malformed = true;
			return;
		}
		if (!is(m.key, "ot"))
			continue;
		if (sc->has_ot || !m.value.n || m.value.n > TW_TRACESTATE_OT_MAX) {
			sc->parsed.malformed = true;
			continue;
		}
		sc->has_ot = true;
		sc->ot = m.value;
	}
	rest = sc->ot;
	while (next_member(&rest, ';', ':', &m))
		parse_sub_key(&m, &sc->parsed);
}

void tw_tracestate_parse(struct tw_slice tracestate, struct tw_ot *out)
{
	struct scan sc;

	scan_state(tracestate, &sc);
	*out = sc.parsed;
}

uint64_t tw_threshold_from_ratio(double p)
{
	if (!(p > 0))
		return TW_THRESHOLD_NEVER;
	if (p >= 1)
		return 0;
	return TW_THRESHOLD_NEVER - (uint64_t)nearbyint(ldexp(p, TW_THRESHOLD_BITS));
}

struct out {
	uint8_t *p;
	size_t n, cap;
};

static void put(struct out *o, struct tw_slice s)
{
	TW_ASSERT(s.n <= o->cap - o->n);
	if (s.n)
		memcpy(o->p + o->n, s.p, s.n);
	o->n += s.n;
}

/* `th:` and the digits; zeros on the right are left out, those on the left count. */
static void put_th(struct out *o, uint64_t threshold)
{
	char text[3 + HEX_DIGITS] = "th:";
	size_t n = HEX_DIGITS;

	for (size_t i = 0; i < HEX_DIGITS; i++)
		text[3 + i] = "0123456789abcdef"[threshold >> (4 * (HEX_DIGITS - 1 - i)) & 15];
	while (n > 1 && text[3 + n - 1] == '0')
		n--;
	put(o, tw_slice(text, 3 + n));
}

/* The value of ot; its length within *o. */
static size_t put_ot(struct out *o, struct tw_slice ot, uint64_t threshold)
{
	size_t begin = o->n;
	struct member m;

	if (threshold < TW_THRESHOLD_NEVER)
		put_th(o, threshold);
	while (next_member(&ot, ';', ':', &m)) {
		if (is(m.key, "th"))
			continue;
		if (o->n > begin)
			put(o, tw_slice(";", 1));
		put(o, m.whole);
	}
	return o->n - begin;
}

static size_t as_it_was(struct tw_slice tracestate, uint8_t *out)
{
	if (tracestate.n)
		memmove(out, tracestate.p, tracestate.n);
	return tracestate.n;
}

size_t tw_tracestate_write(struct tw_slice tracestate, uint64_t threshold, uint8_t *out, size_t cap)
{
	struct out o = {out, 0, cap};
	struct tw_slice rest = tracestate;
	struct member m;
	struct scan sc;
	size_t ot_n;

	TW_ASSERT(cap >= tracestate.n + 24);
	scan_state(tracestate, &sc);
	if (sc.parsed.malformed)
		return as_it_was(tracestate, out);
	if (!sc.has_ot && threshold < TW_THRESHOLD_NEVER && sc.members == TW_TRACESTATE_MEMBERS_MAX)
		return as_it_was(tracestate, out);
	put(&o, tw_slice("ot=", 3));
	ot_n = put_ot(&o, sc.ot, threshold);
	if (ot_n > TW_TRACESTATE_OT_MAX)
		return as_it_was(tracestate, out);
	if (!ot_n)
		o.n = 0;
	while (tracestate.n && next_member(&rest, ',', '=', &m)) {
		if (!m.whole.n || is(m.key, "ot"))
			continue;
		if (o.n)
			put(&o, tw_slice(",", 1));
		put(&o, m.whole);
	}
	return o.n;
}
