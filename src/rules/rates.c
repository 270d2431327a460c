#include "program.h"

/* Budgets.
 *
 * A window is cut into STEPS steps. At each step's begin one thread (whoever comes first; the
 * others go on with the old values, so nobody waits) estimates from the last STEPS steps how much
 * will still arrive, and sets the threshold so that what is left of the budget lasts to the
 * window's end. The hard cap is exact: the window's number and what was taken from it change in one
 * compare-and-swap. Everything else is relaxed: a stale threshold is one that was right a moment
 * ago.
 *
 * By service, each key gets the same share; what a key leaves over goes to the others (the water
 * level below). At most KEYS keys at a time; the rest share one. A key that was silent for a whole
 * window leaves its place. */

#define STEPS      8u
#define SETS       64u
#define WAYS       16u
#define KEYS       (SETS * WAYS)
#define TAKEN_BITS 40u
#define TAKEN_MASK ((UINT64_C(1) << TAKEN_BITS) - 1)

typedef _Atomic uint64_t counter;

struct flow { /* of the budget, or of one key */
	counter threshold;
	counter seen;        /* units since the last step's begin */
	counter past[STEPS]; /* units of the steps before; written by the one who steps */
};

struct key {
	struct flow flow;
	counter taken, cap; /* units of this window */
};

struct budget {
	_Alignas(64) struct tw_budget_spec spec;
	_Atomic uint32_t references;
	uint64_t begin_ns;
	_Alignas(64) counter window; /* number << TAKEN_BITS | units taken */
	counter step;                /* steps since begin; the top bit: somebody is at it */
	struct flow flow;
	counter new_cap; /* for keys that come within the window */
	counter *hash;   /* by_service: [KEYS], 0: free */
	struct key *key; /* by_service: [KEYS + 1], the last is everybody else's */
};

struct tw_rates {
	uint32_t count;
	struct budget *budget[];
};

#define STEPPING (UINT64_C(1) << 63)

static uint64_t get(const counter *c)
{
	return atomic_load_explicit((counter *)(uintptr_t)c, memory_order_relaxed);
}

static void set(counter *c, uint64_t v)
{
	atomic_store_explicit(c, v, memory_order_relaxed);
}

static void add(counter *c, uint64_t n)
{
	atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}

/* ---- once a step ---- */

/* Keep a share p of what comes: all when p ≥ 1. */
static uint64_t threshold_for(double p)
{
	uint64_t share;

	if (p >= 1.0)
		return 0;
	share = (uint64_t)(p * (double)TW_CERTAIN);
	return TW_CERTAIN - (share ? share : 1);
}

/* Units that a window brings, from the last STEPS steps (fewer in the beginning). */
static double per_window(struct flow *f, uint64_t from, uint64_t to)
{
	uint64_t seen = atomic_exchange_explicit(&f->seen, 0, memory_order_relaxed), sum = 0;
	uint64_t known = to < STEPS ? to : STEPS;

	/* What was seen belongs to step `from`; the steps between are empty. */
	set(&f->past[from % STEPS], seen);
	for (uint64_t i = from + 1; i < to && i <= from + STEPS; i++)
		set(&f->past[i % STEPS], 0);
	for (uint32_t i = 0; i < STEPS; i++)
		sum += get(&f->past[i]);
	return (double)sum * STEPS / (double)known;
}

/* The level L for which Σ min(demand, L) = amount: keys that want less leave the rest to the
 * others. */
static double water_level(const double *demand, uint32_t count, double amount)
{
	double level = amount / count, rest;
	uint32_t above = count, last;

	do { /* fewer and fewer keys are above the level: ends */
		last = above;
		above = 0;
		rest = amount;
		for (uint32_t i = 0; i < count; i++) {
			if (demand[i] <= level)
				rest -= demand[i];
			else
				above++;
		}
		if (above)
			level = rest / above;
	} while (above && above < last);
	return level;
}

static uint64_t cap_of(double share)
{
	return share < 1 ? 1 : (uint64_t)(share + 0.999);
}

/* What is left of `share` for the rest of the window, against what will come until then. */
static uint64_t threshold_left(double share, double taken, double demand, double fraction_left)
{
	double left = share > taken ? share - taken : 0, coming = demand * fraction_left;

	return coming > 0 ? threshold_for(left / coming) : 0;
}

static void step_keys(struct budget *b, uint64_t from, uint64_t to, bool new_window,
                      double fraction_left)
{
	double demand[KEYS + 1], active[KEYS + 1], level;
	uint32_t count = 0;

	for (uint32_t i = 0; i <= KEYS; i++) {
		if (i < KEYS && get(&b->hash[i]) == 0) {
			demand[i] = 0;
			continue;
		}
		demand[i] = per_window(&b->key[i].flow, from, to);
		if (demand[i] > 0)
			active[count++] = demand[i];
		else if (i < KEYS && new_window)
			set(&b->hash[i], 0);
	}
	level = count ? water_level(active, count, (double)b->spec.amount) : (double)b->spec.amount;
	/* Nobody wants as much as the level when all demands fit: the rest is there for whoever
	 * grows. */
	for (uint32_t i = 0; i <= KEYS; i++) {
		struct key *k = &b->key[i];

		if (new_window)
			set(&k->taken, 0);
		if (demand[i] > 0) {
			set(&k->cap, cap_of(level));
			set(&k->flow.threshold, threshold_left(level, (double)get(&k->taken),
			                                       demand[i], fraction_left));
		}
	}
	set(&b->new_cap, cap_of((double)b->spec.amount / (count + 1)));
}

static void do_step(struct budget *b, uint64_t from, uint64_t to)
{
	bool new_window = from / STEPS != to / STEPS;
	double fraction_left = (double)(STEPS - to % STEPS) / STEPS;
	double demand = per_window(&b->flow, from, to);
	uint64_t taken;

	if (new_window)
		set(&b->window, (to / STEPS) << TAKEN_BITS);
	taken = get(&b->window) & TAKEN_MASK;
	set(&b->flow.threshold,
	    threshold_left((double)b->spec.amount, (double)taken, demand, fraction_left));
	if (b->spec.by_service)
		step_keys(b, from, to, new_window, fraction_left);
}

static void step_if_due(struct budget *b, uint64_t now_ns)
{
	uint64_t to, from = atomic_load_explicit(&b->step, memory_order_acquire);

	if (now_ns < b->begin_ns)
		return;
	to = (uint64_t)((__uint128_t)(now_ns - b->begin_ns) * STEPS / b->spec.window_ns);
	if (to <= from) /* the usual case; also while somebody else is stepping */
		return;
	if (!atomic_compare_exchange_strong_explicit(&b->step, &from, from | STEPPING,
	                                             memory_order_acquire, memory_order_relaxed))
		return;
	do_step(b, from, to);
	atomic_store_explicit(&b->step, to, memory_order_release);
}

/* ---- for every trace ---- */

static uint64_t cost_of(const struct tw_budget_spec *spec, const struct tw_trace_view *t)
{
	switch (spec->unit) {
	case TW_UNIT_SPANS:
		return t->span_count;
	case TW_UNIT_BYTES:
		return t->bytes;
	default:
		return 1;
	}
}

/* The hard cap. The window's number is compared too, so a reservation is never made in one window
 * and counted in the next; two threads cannot both take the last unit. */
static bool reserve(struct budget *b, uint64_t cost)
{
	uint64_t w = get(&b->window);

	do {
		if ((w & TAKEN_MASK) + cost > b->spec.amount)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(
	    &b->window, &w, w + cost, memory_order_relaxed, memory_order_relaxed));
	return true;
}

/* The key's place, KEYS for everybody else's. make: a new one may be taken. */
static uint32_t find_key(const struct budget *b, uint64_t hash, bool make)
{
	uint32_t first = (uint32_t)(hash % SETS) * WAYS;
	uint64_t none;

	if (hash == 0)
		return KEYS;
	for (uint32_t i = first; i < first + WAYS; i++) {
		if (get(&b->hash[i]) == hash)
			return i;
	}
	for (uint32_t i = first; make && i < first + WAYS; i++) {
		none = 0;
		if (get(&b->hash[i]) != 0)
			continue;
		/* Two threads that bring the same new key may take a place each: it then gets two
		 * shares until it is silent for a window. The cap of the whole holds. */
		if (!atomic_compare_exchange_strong_explicit(
		        &b->hash[i], &none, hash, memory_order_relaxed, memory_order_relaxed)) {
			if (none == hash)
				return i;
			continue;
		}
		set(&b->key[i].flow.threshold, 0);
		set(&b->key[i].cap, get(&b->new_cap));
		set(&b->key[i].taken, 0);
		for (uint32_t k = 0; k < STEPS; k++)
			set(&b->key[i].flow.past[k], 0);
		return i;
	}
	return KEYS;
}

static enum tw_take take_by_key(struct budget *b, const struct tw_trace_view *t, uint64_t cost,
                                uint64_t *threshold)
{
	struct key *k = &b->key[find_key(b, t->service_hash, true)];

	add(&k->flow.seen, cost);
	*threshold = get(&k->flow.threshold);
	if (t->randomness < *threshold)
		return TW_TAKE_THRESHOLD;
	if (get(&k->taken) + cost > get(&k->cap) || !reserve(b, cost))
		return TW_TAKE_CAP;
	add(&k->taken, cost);
	return TW_TAKE_KEPT;
}

enum tw_take tw_rates_take(struct tw_rates *rates, uint16_t budget, const struct tw_trace_view *t,
                           uint64_t now_ns, uint64_t *threshold)
{
	struct budget *b = rates->budget[budget];
	uint64_t cost = cost_of(&b->spec, t);

	step_if_due(b, now_ns);
	if (b->spec.by_service)
		return take_by_key(b, t, cost, threshold);
	add(&b->flow.seen, cost);
	*threshold = get(&b->flow.threshold);
	if (t->randomness < *threshold)
		return TW_TAKE_THRESHOLD;
	return reserve(b, cost) ? TW_TAKE_KEPT : TW_TAKE_CAP;
}

uint64_t tw_rates_threshold(const struct tw_rates *rates, uint16_t budget,
                            const struct tw_trace_view *t)
{
	const struct budget *b = rates->budget[budget];
	uint64_t cost = cost_of(&b->spec, t);
	const struct key *k;

	if ((get(&b->window) & TAKEN_MASK) + cost > b->spec.amount)
		return TW_CERTAIN;
	if (!b->spec.by_service)
		return get(&b->flow.threshold);
	k = &b->key[find_key(b, t->service_hash, false)];
	return get(&k->taken) + cost > get(&k->cap) ? TW_CERTAIN : get(&k->flow.threshold);
}

/* ---- their life ---- */

static void budget_put(struct budget *b)
{
	if (!b || atomic_fetch_sub_explicit(&b->references, 1, memory_order_acq_rel) != 1)
		return;
	tw_free(b->hash);
	tw_free(b->key);
	tw_free(b);
}

static struct budget *budget_new(const struct tw_budget_spec *spec, uint64_t now_ns)
{
	struct budget *b = tw_alloc_aligned(64, sizeof(*b));

	if (!b)
		return NULL;
	memset(b, 0, sizeof(*b));
	b->spec = *spec;
	b->begin_ns = now_ns;
	atomic_init(&b->references, 1);
	set(&b->new_cap, spec->amount);
	if (!spec->by_service)
		return b;
	b->hash = tw_calloc(KEYS, sizeof(*b->hash));
	b->key = tw_calloc(KEYS + 1, sizeof(*b->key));
	if (!b->hash || !b->key) {
		budget_put(b);
		return NULL;
	}
	set(&b->key[KEYS].cap, spec->amount);
	return b;
}

static bool same_spec(const struct tw_budget_spec *a, const struct tw_budget_spec *b)
{
	return a->amount == b->amount && a->window_ns == b->window_ns && a->unit == b->unit &&
	       a->by_service == b->by_service;
}

/* The budget of the old rule with this name, if it is the same one: both programs then draw on it.
 */
static struct budget *inherited(const struct tw_rules *r, const struct tw_rule *rule,
                                const struct tw_rates *old, const struct tw_rules *old_rules)
{
	if (!old || !old_rules)
		return NULL;
	for (uint32_t i = 0; i < old_rules->rule_count; i++) {
		const struct tw_rule *o = &old_rules->rule[i];

		if (o->keep != TW_KEEP_BUDGET || strcmp(o->name, rule->name) != 0)
			continue;
		if (!same_spec(&old_rules->budget[o->budget], &r->budget[rule->budget]))
			return NULL;
		return old->budget[o->budget];
	}
	return NULL;
}

struct tw_rates *tw_rates_create(const struct tw_rules *r, const struct tw_rates *old,
                                 const struct tw_rules *old_rules, uint64_t now_ns)
{
	struct tw_rates *rates =
	    tw_calloc(1, sizeof(*rates) + r->budget_count * sizeof(rates->budget[0]));

	if (!rates)
		return NULL;
	rates->count = r->budget_count;
	for (uint32_t i = 0; i < r->rule_count; i++) {
		const struct tw_rule *rule = &r->rule[i];
		struct budget *b;

		if (rule->keep != TW_KEEP_BUDGET)
			continue;
		b = inherited(r, rule, old, old_rules);
		if (b)
			atomic_fetch_add_explicit(&b->references, 1, memory_order_relaxed);
		else
			b = budget_new(&r->budget[rule->budget], now_ns);
		if (!b) {
			tw_rates_destroy(&rates);
			return NULL;
		}
		rates->budget[rule->budget] = b;
	}
	return rates;
}

void tw_rates_destroy(struct tw_rates **rates)
{
	struct tw_rates *r = *rates;

	if (!r)
		return;
	for (uint32_t i = 0; i < r->count; i++)
		budget_put(r->budget[i]);
	tw_free(r);
	*rates = NULL;
}
