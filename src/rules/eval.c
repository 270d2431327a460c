#include "arith.h"
#include "program.h"

/* The program was verified: no index, jump or depth is checked here. */

/* PCRE2's steps of one match. Measured: the worst patterns then take 0.7 ms compiled, 4 ms
 * interpreted; `.*foo.*` over 30 KB needs some 60,000 interpreted steps and next to none compiled.
 */
#define REGEX_COMPILED_LIMIT    100000u
#define REGEX_INTERPRETED_LIMIT 20000u
#define REGEX_DEPTH_LIMIT       1000u
#define REGEX_HEAP_KIB_LIMIT    1024u
#define JIT_STACK_BYTES         (256u << 10)

struct tw_matcher {
	pcre2_match_data *data; /* NULL: the rules have no regexes */
	pcre2_match_context *context;
	pcre2_jit_stack *stack; /* NULL: PCRE2's own 32 KiB */
	tw_counter errors;
};

/* What code looks at. Either a span with its scope and resource, or a resource alone, or a trace.
 */
struct subject {
	const struct tw_rules *r;
	struct tw_matcher *m;
	const struct tw_span *span;
	const struct tw_scope *scope;
	const struct tw_resource *resource;
	const struct tw_trace_view *trace;
	bool differs; /* something was asked that spans of one operation may answer differently */
	uint32_t bit_count;
	uint16_t bit[TW_BITS_MAX]; /* of a trace: those that are set; see set_bits */
};

static void set_bits(struct subject *s)
{
	s->bit_count = 0;
	for (uint32_t m = 0; m < TW_MASK_WORDS; m++)
		for (uint64_t bits = s->trace->mask[m]; bits; bits &= bits - 1) {
			s->bit[s->bit_count] = (uint16_t)(m * 64 + (uint32_t)__builtin_ctzll(bits));
			TW_ASSERT(s->bit[s->bit_count] < s->r->bit_count);
			s->bit_count++;
		}
}

/* m: for spans and resources; trace: for decisions. Not initialised whole: it is large, and a
 * decision is short. */
static void begin(struct subject *s, const struct tw_rules *r, struct tw_matcher *m,
                  const struct tw_trace_view *trace)
{
	s->r = r;
	s->m = m;
	s->span = NULL;
	s->scope = NULL;
	s->resource = NULL;
	s->trace = trace;
	s->differs = false;
	if (trace)
		set_bits(s);
}

static void *regex_alloc(size_t n, void *ctx)
{
	(void)ctx;
	return tw_alloc(n ? n : 1);
}

static void regex_free(void *p, void *ctx)
{
	(void)ctx;
	tw_free(p);
}

/* The machine may forbid writable code; then no pattern is compiled. */
static bool interpreted(const struct tw_rules *r)
{
	size_t bytes = 0;

	return pcre2_pattern_info(r->regex[0], PCRE2_INFO_JITSIZE, &bytes) != 0 || bytes == 0;
}

static bool matcher_init(struct tw_matcher *m, const struct tw_rules *r)
{
	pcre2_general_context *general =
	    pcre2_general_context_create(regex_alloc, regex_free, NULL);

	if (!general)
		return false;
	m->data = pcre2_match_data_create(1, general);
	m->context = pcre2_match_context_create(general);
	m->stack = pcre2_jit_stack_create(32u << 10, JIT_STACK_BYTES, general);
	pcre2_general_context_free(general);
	if (!m->data || !m->context)
		return false;
	pcre2_set_match_limit(m->context,
	                      interpreted(r) ? REGEX_INTERPRETED_LIMIT : REGEX_COMPILED_LIMIT);
	pcre2_set_depth_limit(m->context, REGEX_DEPTH_LIMIT);
	pcre2_set_heap_limit(m->context, REGEX_HEAP_KIB_LIMIT);
	if (m->stack)
		pcre2_jit_stack_assign(m->context, NULL, m->stack);
	return true;
}

struct tw_matcher *tw_matcher_create(const struct tw_rules *r)
{
	struct tw_matcher *m = tw_calloc(1, sizeof(*m));

	if (m && r->regex_count && !matcher_init(m, r))
		tw_matcher_destroy(&m);
	return m;
}

void tw_matcher_destroy(struct tw_matcher **matcher)
{
	struct tw_matcher *m = *matcher;

	if (!m)
		return;
	pcre2_match_data_free(m->data);
	pcre2_match_context_free(m->context);
	pcre2_jit_stack_free(m->stack);
	tw_free(m);
	*matcher = NULL;
}

uint64_t tw_matcher_errors(const struct tw_matcher *m)
{
	return tw_counter_get(&m->errors);
}

/* A match that ran into a limit is counted, and then neither =~ nor !~ holds. */
static bool regex_holds(const struct subject *s, const struct tw_leaf *l, const uint8_t *p,
                        uint32_t n)
{
	int rc = pcre2_match(s->r->regex[l->regex], p ? p : (const uint8_t *)"", n, 0, 0,
	                     s->m->data, s->m->context);

	if (TW_UNLIKELY(rc < 0 && rc != PCRE2_ERROR_NOMATCH)) {
		tw_counter_add(&s->m->errors, 1);
		return false;
	}
	return (rc >= 0) == (l->cmp == TW_CMP_RE);
}

static bool scalar_holds(const struct subject *s, const struct tw_leaf *l, const struct tw_value *v)
{
	if (l->cmp >= TW_CMP_RE)
		return v->type == TW_VALUE_STRING && regex_holds(s, l, v->p, v->n);
	return tw_compare((enum tw_cmp)l->cmp, v, &l->lit);
}

/* = =~ < … : for one element at least; != and !~ : for each of them. */
static bool array_holds(const struct subject *s, const struct tw_leaf *l, const struct tw_value *v)
{
	bool each = l->cmp == TW_CMP_NE || l->cmp == TW_CMP_NRE;
	struct tw_slice rest = tw_slice(v->p, v->n);
	struct tw_value e;

	while (tw_value_next(&rest, &e)) {
		if (scalar_holds(s, l, &e) != each)
			return !each;
	}
	return each;
}

static bool value_holds(const struct subject *s, const struct tw_leaf *l, const struct tw_value *v)
{
	return v->type == TW_VALUE_ARRAY ? array_holds(s, l, v) : scalar_holds(s, l, v);
}

static const struct tw_value *slot(uint64_t set, const struct tw_value *slots, uint32_t k)
{
	return set >> k & 1 && slots[k].type != TW_VALUE_NONE ? &slots[k] : NULL;
}

/* The attribute's value, or NULL. A resource alone has no span. */
static const struct tw_value *attribute(const struct subject *s, uint8_t src, uint32_t k)
{
	const struct tw_value *v = NULL;

	if (src != TW_SRC_RESOURCE)
		v = slot(s->span->rest->slots_set, s->span->rest->slots, k);
	if (!v && src != TW_SRC_SPAN)
		v = slot(s->resource->slots_set, s->resource->slots, k);
	return v;
}

static struct tw_value text(const uint8_t *p, size_t n)
{
	return (struct tw_value){.type = TW_VALUE_STRING, .n = (uint32_t)n, .p = p};
}

static uint64_t trace_number(const struct tw_trace_view *t, uint8_t field)
{
	switch (field) {
	case TW_FIELD_TRACE_DURATION:
		return t->end_ns > t->start_ns ? t->end_ns - t->start_ns : 0;
	case TW_FIELD_SPAN_COUNT:
		return t->span_count;
	case TW_FIELD_ERROR_COUNT:
		return t->error_count;
	default:
		return t->bytes;
	}
}

static struct tw_value number(uint64_t n)
{
	if (n > INT64_MAX)
		return (struct tw_value){.type = TW_VALUE_DOUBLE, .d = (double)n};
	return (struct tw_value){.type = TW_VALUE_INT, .i = (int64_t)n};
}

static struct tw_value field(struct subject *s, uint8_t f)
{
	switch (f) {
	case TW_FIELD_NAME:
		return text(s->span->rest->name, s->span->rest->name_n);
	case TW_FIELD_STATUS_MESSAGE:
		return text(s->span->rest->status_message, s->span->rest->status_message_n);
	case TW_FIELD_SCOPE_NAME:
		return text(s->scope->name.p, s->scope->name.n);
	case TW_FIELD_SCOPE_VERSION:
		return text(s->scope->version.p, s->scope->version.n);
	case TW_FIELD_DURATION:
		s->differs = true;
		return number(s->span->duration_ns);
	default:
		return number(trace_number(s->trace, f));
	}
}

static struct tw_value calc(struct subject *s, uint32_t begin, uint32_t count)
{
	struct tw_value stack[TW_CALC_STACK_MAX];
	struct tw_value none = {.type = TW_VALUE_NONE};
	const struct tw_value *v;
	uint32_t top = 0;

	for (uint32_t i = begin; i < begin + count; i++) {
		const struct tw_calc *op = &s->r->calc[i];

		switch (op->op) {
		case TW_CALC_CONST:
			stack[top++] = s->r->consts[op->a];
			break;
		case TW_CALC_ATTRIBUTE:
			v = attribute(s, (uint8_t)op->b, op->a);
			stack[top++] = v ? *v : none;
			break;
		case TW_CALC_FIELD:
			stack[top++] = field(s, (uint8_t)op->a);
			break;
		case TW_CALC_NEGATE:
			stack[top - 1] = tw_arith(TW_CALC_NEGATE, stack[top - 1], none);
			break;
		default:
			top--;
			stack[top - 1] =
			    tw_arith((enum tw_calc_op)op->op, stack[top - 1], stack[top]);
			break;
		}
	}
	return stack[0];
}

/* An array on either side stands for its elements; not on both. */
static bool calc_holds(struct subject *s, const struct tw_leaf *l)
{
	struct tw_value a = calc(s, l->code, l->code_a),
	                b = calc(s, l->code + l->code_a, l->code_b), e;
	bool each = l->cmp == TW_CMP_NE, left = a.type == TW_VALUE_ARRAY;
	struct tw_slice rest;

	if (a.type == TW_VALUE_NONE || b.type == TW_VALUE_NONE)
		return false;
	if (!left && b.type != TW_VALUE_ARRAY)
		return tw_compare((enum tw_cmp)l->cmp, &a, &b);
	rest = left ? tw_slice(a.p, a.n) : tw_slice(b.p, b.n);
	while (tw_value_next(&rest, &e)) {
		if (tw_compare((enum tw_cmp)l->cmp, left ? &e : &a, left ? &b : &e) != each)
			return !each;
	}
	return each;
}

static bool leaf_holds(struct subject *s, const struct tw_leaf *l)
{
	const struct tw_value *v;
	struct tw_value t;

	switch (l->kind) {
	case TW_LEAF_ATTRIBUTE:
		v = attribute(s, l->src, l->slot);
		return v && value_holds(s, l, v);
	case TW_LEAF_HAS:
		return attribute(s, l->src, l->slot) != NULL;
	case TW_LEAF_TEXT:
		t = field(s, l->field);
		return scalar_holds(s, l, &t);
	case TW_LEAF_SPAN_ID:
		s->differs = true;
		return s->span->span_id == l->lo;
	case TW_LEAF_PARENT_ID:
		s->differs = true;
		return s->span->parent_id == l->lo;
	case TW_LEAF_STATUS:
		return l->lo >> s->span->status & 1;
	case TW_LEAF_KIND:
		return l->lo >> s->span->kind & 1;
	case TW_LEAF_ROOT:
		return s->span->flags & TW_SPAN_ROOT;
	case TW_LEAF_DURATION:
		s->differs = true;
		return s->span->duration_ns >= l->lo && s->span->duration_ns <= l->hi;
	default:
		return calc_holds(s, l);
	}
}

/* Runs a segment; out: bits that come out true are set. One switch: the dispatch. */
static void run(struct subject *s, uint32_t pc, uint64_t *out)
{
	uint64_t known[TW_MEMO_MAX / 64], yes[TW_MEMO_MAX / 64];
	const struct tw_insn *code = s->r->code;
	uint32_t memo_words = (s->r->memo_count + 63) / 64;
	bool b;

	for (uint32_t i = 0; i < memo_words; i++)
		known[i] = yes[i] = 0;
	for (;;) {
		const struct tw_insn *in = &code[pc];

		switch (in->op) {
		case TW_OP_END:
			return;
		case TW_OP_SET:
			out[in->a / 64] |= UINT64_C(1) << in->a % 64;
			pc = in->t;
			continue;
		case TW_OP_MEMO:
			if (!(known[in->a / 64] >> in->a % 64 & 1)) {
				pc++;
				continue;
			}
			b = yes[in->a / 64] >> in->a % 64 & 1;
			break;
		case TW_OP_STORE:
			known[in->a / 64] |= UINT64_C(1) << in->a % 64;
			yes[in->a / 64] |= (uint64_t)in->b << in->a % 64;
			pc = in->t;
			continue;
		case TW_OP_STATUS:
			b = in->a >> s->span->status & 1;
			break;
		case TW_OP_KIND:
			b = in->a >> s->span->kind & 1;
			break;
		case TW_OP_ROOT:
			b = s->span->flags & TW_SPAN_ROOT;
			break;
		case TW_OP_DURATION:
			s->differs = true;
			b = s->span->duration_ns >= s->r->leaf[in->a].lo &&
			    s->span->duration_ns <= s->r->leaf[in->a].hi;
			break;
		case TW_OP_RESOURCE:
			b = s->resource->leaf[in->a / 64] >> in->a % 64 & 1;
			break;
		default:
			b = leaf_holds(s, &s->r->leaf[in->a]);
			break;
		}
		pc = b ? in->t : in->f;
	}
}

void tw_rules_match_resource(const struct tw_rules *r, struct tw_matcher *m,
                             struct tw_resource *res)
{
	struct subject s;

	begin(&s, r, m, NULL);
	s.resource = res;

	memset(res->leaf, 0, sizeof(res->leaf));
	res->matched = true;
	if (r->resource_bit_count)
		run(&s, r->resource_begin, res->leaf);
}

void tw_rules_match(const struct tw_rules *r, struct tw_matcher *m, const struct tw_resource *res,
                    const struct tw_scope *scope, const struct tw_span *span,
                    uint64_t mask[TW_MASK_WORDS])
{
	struct subject s;

	begin(&s, r, m, NULL);
	s.span = span;
	s.scope = scope;
	s.resource = res;

	memset(mask, 0, TW_MASK_WORDS * sizeof(*mask));
	run(&s, r->span_begin, mask);
}

/* The resource is looked at when the first of its spans is: where all operations are known, never.
 */
static void match_span(struct subject *s, const struct tw_request *req, const struct tw_span *span,
                       uint64_t mask[TW_MASK_WORDS])
{
	struct tw_resource *res = &req->resources[req->scopes[span->scope].resource];

	if (!res->matched)
		tw_rules_match_resource(s->r, s->m, res);
	s->span = span;
	s->scope = &req->scopes[span->scope];
	s->resource = res;
	memset(mask, 0, TW_MASK_WORDS * sizeof(*mask));
	run(s, s->r->span_begin, mask);
}

/* The first span of an operation speaks for all, unless its run asked for something that differs
 * between them: what was asked before that is the same for each, so each run asks for it. */
static void match_operation(struct subject *s, const struct tw_request *req,
                            struct tw_operation *op, const struct tw_span *span)
{
	s->differs = !op->fixed;
	match_span(s, req, span, op->mask);
	op->differs = s->differs;
	op->matched = true;
	if (op->differs)
		memcpy(tw_span_own_mask(req, span), op->mask, sizeof(op->mask));
}

void tw_rules_match_spans(const struct tw_rules *r, struct tw_matcher *m, struct tw_request *req,
                          uint32_t at, uint32_t n)
{
	struct subject s;

	begin(&s, r, m, NULL);
	for (uint32_t i = at; i < at + n; i++) {
		const struct tw_span *span = &req->spans[i];
		struct tw_operation *op;

		if (TW_UNLIKELY(span->operation == 0)) {
			match_span(&s, req, span, tw_span_own_mask(req, span));
			continue;
		}
		op = &req->operations[span->operation - 1];
		if (TW_UNLIKELY(!op->matched))
			match_operation(&s, req, op, span);
		else if (TW_UNLIKELY(op->differs))
			match_span(&s, req, span, tw_span_own_mask(req, span));
	}
}

void tw_rules_match_request(const struct tw_rules *r, struct tw_matcher *m, struct tw_request *req)
{
	if (req->plain_count == 0 && !req->unmatched)
		return; /* all spans are of operations whose mask is known */
	for (uint32_t i = 0; i < req->resource_count; i++)
		req->resources[i].matched = false;
	tw_rules_match_spans(r, m, req, 0, req->span_count);
}

/* ---- decisions ---- */

static bool trace_leaf_holds(struct subject *s, const struct tw_leaf *l)
{
	const struct tw_trace_view *t = s->trace;
	uint64_t n;

	switch (l->kind) {
	case TW_LEAF_TRACE_NUMBER:
		n = trace_number(t, l->field);
		return n >= l->lo && n <= l->hi;
	case TW_LEAF_TRACE_ID:
		return t->id.hi == l->lo && t->id.lo == l->hi;
	case TW_LEAF_TRACE_HAS_ROOT:
		return t->has_root;
	case TW_LEAF_TRACE_BIT:
		return t->mask[l->lo / 64] >> l->lo % 64 & 1;
	default:
		return calc_holds(s, l);
	}
}

static bool filter_holds(struct subject *s, const struct tw_filter *f)
{
	uint32_t values = 0;
	uint16_t bit;

	for (uint32_t i = 0; i < f->leaves; i++)
		values |= (uint32_t)trace_leaf_holds(s, &s->r->leaf[f->leaf[i]]) << i;
	bit = f->bit[values];
	if (bit >= TW_FILTER_TRUE)
		return bit == TW_FILTER_TRUE;
	return s->trace->mask[bit / 64] >> bit % 64 & 1;
}

static bool condition_holds(struct subject *s, const struct tw_rule *rule)
{
	const struct tw_insn *in = &s->r->code[rule->when];

	while (in->op == TW_OP_FILTER)
		in = &s->r->code[filter_holds(s, &s->r->filter[in->a]) ? in->t : in->f];
	return in->a;
}

/* The first rule from `from` on whose condition holds; rule_count: none. */
static uint32_t next_rule(struct subject *s, uint32_t from)
{
	const struct tw_rules *r = s->r;

	for (uint32_t w = from / 64; w < r->rule_words; w++) {
		uint64_t rules = r->candidates[w];

		for (uint32_t b = 0; b < s->bit_count; b++)
			rules |= r->candidates[(size_t)(s->bit[b] + 1) * r->rule_words + w];
		if (w == from / 64)
			rules &= ~UINT64_C(0) << from % 64;
		for (; rules; rules &= rules - 1) {
			uint32_t i = w * 64 + (uint32_t)__builtin_ctzll(rules);

			if (condition_holds(s, &r->rule[i]))
				return i;
		}
	}
	return r->rule_count;
}

/* The threshold under which a trace that passed the rules before `from` would have been kept all
 * the same. */
static uint64_t threshold_behind(struct subject *s, const struct tw_rates *rates, uint32_t from)
{
	uint64_t loosest = TW_CERTAIN, t;

	for (uint32_t i = from; (i = next_rule(s, i)) < s->r->rule_count; i++) {
		const struct tw_rule *rule = &s->r->rule[i];

		if (rule->keep == TW_KEEP_NONE)
			return loosest;
		if (rule->keep != TW_KEEP_BUDGET)
			return rule->threshold < loosest ? rule->threshold : loosest;
		t = tw_rates_threshold(rates, rule->budget, s->trace);
		if (t < loosest)
			loosest = t;
	}
	return loosest;
}

static void answer(struct tw_verdict *v, uint32_t rule, bool keep, uint64_t threshold)
{
	v->rule = (uint16_t)rule;
	v->keep = keep;
	v->threshold = threshold < TW_CERTAIN ? threshold : TW_THRESHOLD_UNKNOWN;
}

void tw_rules_decide(const struct tw_rules *r, struct tw_rates *rates,
                     const struct tw_trace_view *t, uint64_t now_ns, struct tw_verdict *v)
{
	struct subject s;
	bool capped = false; /* a spent window sent it on: its probability is not known */
	uint64_t in_force, behind;

	begin(&s, r, NULL, t);
	*v = (struct tw_verdict){
	    .reason = t->reason, .generation = t->generation, .destinations = 0xFF};
	for (uint32_t i = 0; (i = next_rule(&s, i)) < r->rule_count; i++) {
		const struct tw_rule *rule = &r->rule[i];

		switch (rule->keep) {
		case TW_KEEP_ALL:
			answer(v, i, true, 0);
			return;
		case TW_KEEP_NONE:
			answer(v, i, false, TW_CERTAIN);
			return;
		case TW_KEEP_SHARE:
			answer(v, i, t->randomness >= rule->threshold,
			       capped ? TW_THRESHOLD_UNKNOWN : rule->threshold);
			return;
		default:
			break;
		}
		switch (tw_rates_take(rates, rule->budget, t, now_ns, &in_force)) {
		case TW_TAKE_KEPT:
			behind = threshold_behind(&s, rates, i + 1);
			if (behind < in_force)
				in_force = behind;
			answer(v, i, true, capped ? TW_THRESHOLD_UNKNOWN : in_force);
			return;
		case TW_TAKE_CAP:
			capped = true;
			break;
		default:
			break;
		}
	}
	TW_ASSERT(!"the last rule decides every trace"); /* verified */
}

bool tw_rules_late(const struct tw_rules *r, const struct tw_trace_view *span_as_trace,
                   struct tw_verdict *v)
{
	struct subject s;

	begin(&s, r, NULL, span_as_trace);
	for (uint32_t i = 0; (i = next_rule(&s, i)) < r->rule_count; i++) {
		const struct tw_rule *rule = &r->rule[i];

		if (!rule->alone || rule->keep == TW_KEEP_BUDGET)
			continue;
		if (rule->keep != TW_KEEP_ALL)
			return false; /* it stands before; it let the trace go, or would have */
		*v = (struct tw_verdict){.keep = true,
		                         .reason = TW_REASON_LATE,
		                         .rule = (uint16_t)i,
		                         .generation = span_as_trace->generation,
		                         .threshold = 0,
		                         .destinations = 0xFF};
		return true;
	}
	return false;
}
