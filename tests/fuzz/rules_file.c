/* Rule files: any bytes. What compiles is matched against a span with all kinds of values and
 * decides a trace. */
#include <stdint.h>
#include <string.h>

#include "tw/base/error.h"
#include "tw/rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const uint8_t array[] = {0x0a, 0x03, 0x0a, 0x01, 'a', 0x0a, 0x02, 0x18, 0x07, 0x0a, 0x00};

static struct tw_value value(uint32_t k)
{
	switch (k % 7) {
	case 0:
		return (struct tw_value){
		    .type = TW_VALUE_STRING, .n = 6, .p = (const uint8_t *)"banana"};
	case 1:
		return (struct tw_value){.type = TW_VALUE_INT, .i = INT64_MIN + (k > 9)};
	case 2:
		return (struct tw_value){.type = TW_VALUE_DOUBLE, .d = 1e300};
	case 3:
		return (struct tw_value){.type = TW_VALUE_BOOL, .i = 1};
	case 4:
		return (struct tw_value){.type = TW_VALUE_ARRAY, .n = sizeof(array), .p = array};
	case 5:
		return (struct tw_value){.type = TW_VALUE_NONE};
	default:
		return (struct tw_value){
		    .type = TW_VALUE_BYTES, .n = 2, .p = (const uint8_t *)"\xff\x00"};
	}
}

static void decide(const struct tw_rules *r, const uint64_t mask[TW_MASK_WORDS])
{
	struct tw_trace_view t = {.start_ns = 1,
	                          .end_ns = 2000000001,
	                          .bytes = 300,
	                          .span_count = 3,
	                          .error_count = 1,
	                          .has_root = true,
	                          .service_hash = 5};
	struct tw_rates *rates = tw_rates_create(r, NULL, NULL, 0);
	struct tw_verdict v;

	if (!rates)
		return;
	memcpy(t.mask, mask, sizeof(t.mask));
	for (uint64_t i = 0; i < 20; i++) {
		t.randomness = i << 51;
		tw_rules_decide(r, rates, &t, i * 100000000, &v);
		TW_ASSERT(v.rule < tw_rules_count(r));
	}
	tw_rules_late(r, &t, &v);
	tw_rates_destroy(&rates);
}

static void match(const struct tw_rules *r, uint32_t slots)
{
	struct tw_value on_span[TW_KEYS_MAX], on_resource[TW_KEYS_MAX];
	struct tw_resource resource = {.slots = on_resource};
	struct tw_scope scope = {0};
	uint64_t masks[1][TW_MASK_WORDS];
	struct tw_span_rest rest = {
	    .slots = on_span, .name = (const uint8_t *)"GET /", .name_n = 5};
	struct tw_span span = {.rest = &rest,
	                       .span_id = 1,
	                       .duration_ns = 3000000000,
	                       .kind = TW_KIND_SERVER,
	                       .status = TW_STATUS_ERROR,
	                       .flags = TW_SPAN_ROOT};
	struct tw_request q = {.spans = &span,
	                       .masks = masks,
	                       .resources = &resource,
	                       .scopes = &scope,
	                       .span_count = 1,
	                       .plain_count = 1,
	                       .resource_count = 1,
	                       .scope_count = 1};
	struct tw_matcher *m = tw_matcher_create(r);

	if (!m)
		return;
	for (uint32_t k = 0; k < slots; k++) {
		on_span[k] = value(k);
		on_resource[k] = value(k + 3);
		rest.slots_set |= (uint64_t)(k % 3 != 0) << k;
		resource.slots_set |= (uint64_t)(k % 2) << k;
	}
	tw_rules_match_request(r, m, &q);
	decide(r, tw_span_mask(&q, &span));
	tw_matcher_destroy(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct tw_keytab *keys = tw_keytab_create();
	struct tw_diags diags;
	struct tw_rules *r;
	struct tw_buf report;

	if (!keys)
		return 0;
	tw_buf_init(&report, 0);
	if (tw_rules_compile(tw_slice(data, n), keys, &diags, &r) == 0) {
		match(r, tw_keytab_count(keys));
		tw_rules_destroy(&r);
	}
	tw_diags_render(&diags, "fuzz", tw_slice(data, n), &report);
	tw_buf_deinit(&report);
	tw_keytab_destroy(&keys);
	return 0;
}
