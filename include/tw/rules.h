/* The rule file: compiled once, verified, then evaluated without checks.
 *
 * lex → parse → check → compile → verify → eval are separate files that see one another's results
 * only. A compiled program is immutable and shared by all threads; what changes while it runs
 * stands beside it: a tw_matcher per worker (scratch for regexes), a tw_rates per process (budgets;
 * atomics inside).
 *
 * A span is matched when it is scanned: each distinct spanset expression is one bit of mask. A
 * trace is decided from the OR of its spans' bits and the trace's own numbers. Inside one `{ }` &&
 * and || are over one span; a trace-level intrinsic inside `{ }` is a constant at decision time, so
 * an expression over n of them has up to 2^n span-level residues, each a bit. */
#ifndef TW_RULES_H
#define TW_RULES_H

#include "tw/base/buf.h"
#include "tw/base/clock.h"
#include "tw/base/diag.h"
#include "tw/model/trace.h"

struct tw_rules;
struct tw_matcher;
struct tw_rates;

/* Compiles a rule file. Adds the keys that it reads to `keys` (not sealed yet). 0 and *out, or
 * TW_EINVAL with diags, or TW_ENOMEM. Warnings may be there on success. [boot] */
int tw_rules_compile(struct tw_slice source, struct tw_keytab *keys, struct tw_diags *diags,
                     struct tw_rules **out);
void tw_rules_destroy(struct tw_rules **r);

struct tw_wait { /* ns; TW_NEVER: this one does not apply */
	uint64_t root_ns, idle_ns, most_ns;
};
struct tw_wait tw_rules_wait(const struct tw_rules *r);
uint32_t tw_rules_count(const struct tw_rules *r);
const char *tw_rules_name(const struct tw_rules *r, uint16_t rule);
/* The rule as written, on one line, for reports: `keep: all when { status = error }`. */
const char *tw_rules_text(const struct tw_rules *r, uint16_t rule);

struct tw_matcher *tw_matcher_create(const struct tw_rules *r); /* NULL: no memory [boot] */
void tw_matcher_destroy(struct tw_matcher **m);
/* Regex matches that ran into a limit (steps, depth, memory): the comparison was false, for =~ and
 * !~ alike. [any] */
uint64_t tw_matcher_errors(const struct tw_matcher *m);

/* Once per resource, before its spans: fills res->leaf. [owner of m] */
void tw_rules_match_resource(const struct tw_rules *r, struct tw_matcher *m,
                             struct tw_resource *res);
/* Fills mask: the span's spanset bits. [owner of m] */
void tw_rules_match(const struct tw_rules *r, struct tw_matcher *m, const struct tw_resource *res,
                    const struct tw_scope *scope, const struct tw_span *span,
                    uint64_t mask[TW_MASK_WORDS]);
/* What tw_span_mask says of the spans of a request: match_resource for the resources of those that
 * have to be looked at, then match for each of these. [owner of m] */
void tw_rules_match_request(const struct tw_rules *r, struct tw_matcher *m, struct tw_request *req);

/* The same for spans at … at + n − 1 of a request fresh from the scan: in steps. [owner of m] */
void tw_rules_match_spans(const struct tw_rules *r, struct tw_matcher *m, struct tw_request *req,
                          uint32_t at, uint32_t n);

/* Budgets. old: rules of the same name and the same budget share theirs (may be NULL); `old` stays
 * valid, and is destroyed on its own. NULL: no memory. [boot] */
struct tw_rates *tw_rates_create(const struct tw_rules *r, const struct tw_rates *old,
                                 const struct tw_rules *old_rules, uint64_t now_ns);
void tw_rates_destroy(struct tw_rates **rates);

/* The first rule that matches decides; some rule always does. Fills *v whole (destinations = 0xFF).
 * [any] */
void tw_rules_decide(const struct tw_rules *r, struct tw_rates *rates,
                     const struct tw_trace_view *t, uint64_t now_ns, struct tw_verdict *v);

/* A span after its trace was let go: true, and *v, when its own bits match a `keep: all` rule (none
 * of whose trace-level conditions could be undone by the trace's other spans) and no deciding rule
 * before that one. [any] */
bool tw_rules_late(const struct tw_rules *r, const struct tw_trace_view *span_as_trace,
                   struct tw_verdict *v);

/* rules/default.yaml, as text. */
extern const char tw_rules_default[];
extern const size_t tw_rules_default_n;

#endif
