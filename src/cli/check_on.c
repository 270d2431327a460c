/* check --on: groups the spans of a file by trace and says which rule takes each. The decision sees
 * whole traces, without waiting, early decisions or other workers: what the rules mean, not what
 * one run did. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "tw/base/mem.h"
#include "tw/rules.h"
#include "tw/wire.h"

#define TRACES_BYTES_MAX (1u << 30)

int tw_cli_check_on(const struct tw_rules *r, struct tw_keytab *keys, const char *traces);

struct traces {
	struct tw_trace_view *view;
	uint32_t count, cap;
	uint32_t *slot; /* open addressing: index + 1 */
	uint32_t slots;
	struct tw_hash_key key;
};

static bool grow(struct traces *t)
{
	uint32_t slots = t->slots != 0 ? t->slots * 2 : 1024;
	struct tw_trace_view *v = tw_realloc(t->view, slots / 2 * sizeof(*v));
	uint32_t *slot = tw_calloc(slots, sizeof(*slot));

	if (v != NULL)
		t->view = v;
	if (v == NULL || slot == NULL) {
		tw_free(slot);
		return false;
	}
	tw_free(t->slot);
	t->slot = slot;
	t->slots = slots;
	t->cap = slots / 2;
	for (uint32_t i = 0; i < t->count; i++) {
		uint32_t k = (uint32_t)tw_hash_u64x2(t->key, v[i].id.hi, v[i].id.lo) & (slots - 1);

		while (slot[k] != 0)
			k = (k + 1) & (slots - 1);
		slot[k] = i + 1;
	}
	return true;
}

static struct tw_trace_view *find(struct traces *t, struct tw_id128 id)
{
	uint32_t k;

	if (t->count == t->cap && !grow(t))
		return NULL;
	k = (uint32_t)tw_hash_u64x2(t->key, id.hi, id.lo) & (t->slots - 1);
	for (; t->slot[k] != 0; k = (k + 1) & (t->slots - 1))
		if (tw_id_eq(t->view[t->slot[k] - 1].id, id))
			return &t->view[t->slot[k] - 1];
	t->slot[k] = ++t->count;
	t->view[t->count - 1] = (struct tw_trace_view){
	    .id = id,
	    .start_ns = UINT64_MAX,
	    .randomness = id.lo & ((UINT64_C(1) << TW_THRESHOLD_BITS) - 1),
	    .reason = TW_REASON_IDLE,
	};
	return &t->view[t->count - 1];
}

static void fold(struct tw_trace_view *v, const struct tw_request *req, const struct tw_span *s)
{
	const uint64_t *mask = tw_span_mask(req, s);
	struct tw_ot ot;

	for (uint32_t i = 0; i < TW_MASK_WORDS; i++)
		v->mask[i] |= mask[i];
	if (s->start_ns < v->start_ns)
		v->start_ns = s->start_ns;
	if (s->start_ns + s->duration_ns > v->end_ns)
		v->end_ns = s->start_ns + s->duration_ns;
	v->bytes += s->bytes_n;
	v->span_count++;
	v->error_count += s->status == TW_STATUS_ERROR;
	if (s->flags & TW_SPAN_ROOT) {
		v->has_root = true;
		v->reason = TW_REASON_ROOT;
	}
	if (s->flags & TW_SPAN_TRACESTATE) {
		tw_tracestate_parse(tw_slice(s->rest->tracestate, s->rest->tracestate_n), &ot);
		if (ot.has_rv)
			v->randomness = ot.rv;
	}
}

struct reader {
	const struct tw_rules *rules;
	struct tw_matcher *matcher;
	struct tw_scan_opts scan;
	struct tw_request req;
	struct traces traces;
	struct tw_buf proto;
};

static int take_line(struct reader *rd, struct tw_slice line, struct tw_error *err)
{
	int rc;

	tw_buf_clear(&rd->proto);
	tw_request_reset(&rd->req);
	rc = tw_otlp_json_decode(line, &rd->proto, err);
	if (rc == 0)
		rc = tw_otlp_scan(&rd->scan, tw_buf_slice(&rd->proto), &rd->req, err);
	if (rc != 0)
		return rc;
	tw_rules_match_request(rd->rules, rd->matcher, &rd->req);
	for (uint32_t i = 0; i < rd->req.span_count; i++) {
		struct tw_trace_view *v = find(&rd->traces, rd->req.spans[i].trace_id);

		if (v == NULL)
			return tw_error_set(err, TW_ENOMEM, 0, "out of memory");
		fold(v, &rd->req, &rd->req.spans[i]);
	}
	return 0;
}

static int take_file(struct reader *rd, const char *path)
{
	struct tw_buf text;
	struct tw_error err;
	uint32_t number = 0;
	int rc = 0;

	tw_buf_init(&text, 0);
	if (!tw_cli_read(path, TRACES_BYTES_MAX, &text))
		rc = TW_EINVAL;
	for (size_t at = 0; rc == 0 && at < text.n;) {
		const uint8_t *nl = memchr(text.p + at, '\n', text.n - at);
		size_t n = (nl != NULL ? (size_t)(nl - text.p) : text.n) - at;

		number++;
		if (n > 0 && !(n == 1 && text.p[at] == '\r'))
			rc = take_line(rd, tw_slice(text.p + at, n), &err);
		if (rc != 0)
			fprintf(stderr, "%s:%u: error: %s\n", path, number, err.text);
		at += n + 1;
	}
	tw_buf_deinit(&text);
	return rc;
}

static int report(struct reader *rd)
{
	uint32_t rules = tw_rules_count(rd->rules);
	uint64_t *kept = tw_calloc(2 * (size_t)rules, sizeof(*kept));
	struct tw_rates *rates = tw_rates_create(rd->rules, NULL, NULL, 0);

	if (kept == NULL || rates == NULL) {
		tw_free(kept);
		if (rates != NULL)
			tw_rates_destroy(&rates);
		return TW_ENOMEM;
	}
	for (uint32_t i = 0; i < rd->traces.count; i++) {
		const struct tw_trace_view *t = &rd->traces.view[i];
		struct tw_verdict v;

		tw_rules_decide(rd->rules, rates, t, t->end_ns, &v);
		kept[2 * v.rule + v.keep]++;
		printf("%016llx%016llx %-6s %-20s %u spans, %u errors, %.3f ms\n",
		       (unsigned long long)t->id.hi, (unsigned long long)t->id.lo,
		       v.keep ? "kept" : "let go", tw_rules_name(rd->rules, v.rule), t->span_count,
		       t->error_count, (double)(t->end_ns - t->start_ns) / 1e6);
	}
	printf("\n%u traces:\n", rd->traces.count);
	for (uint32_t i = 0; i < rules; i++)
		printf("  %-20s %llu kept, %llu let go\n", tw_rules_name(rd->rules, (uint16_t)i),
		       (unsigned long long)kept[2 * i + 1], (unsigned long long)kept[2 * i]);
	tw_free(kept);
	tw_rates_destroy(&rates);
	return 0;
}

int tw_cli_check_on(const struct tw_rules *r, struct tw_keytab *keys, const char *traces)
{
	struct reader rd = {.rules = r};
	int rc = tw_keytab_seal(keys);

	if (rc != 0)
		return rc;
	rd.matcher = tw_matcher_create(r);
	rd.scan = (struct tw_scan_opts){.key = {1, 2}, .keys = keys, .spans_max = UINT32_MAX};
	rd.traces.key = (struct tw_hash_key){3, 4};
	tw_request_init(&rd.req);
	tw_buf_init(&rd.proto, 0);
	rc = rd.matcher != NULL ? take_file(&rd, traces) : TW_ENOMEM;
	if (rc == 0)
		rc = report(&rd);
	if (rd.matcher != NULL)
		tw_matcher_destroy(&rd.matcher);
	tw_request_deinit(&rd.req);
	tw_buf_deinit(&rd.proto);
	tw_free(rd.traces.view);
	tw_free(rd.traces.slot);
	return rc;
}
