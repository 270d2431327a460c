#include "generation.h"

#include <stdatomic.h>
#include <string.h>

#include "tw/base/mem.h"

uint16_t tw_rulebook_id(struct tw_rulebook *b, const char *name)
{
	uint32_t count = atomic_load_explicit(&b->count, memory_order_relaxed);

	for (uint32_t i = 0; i < count; i++)
		if (strcmp(b->names[i], name) == 0)
			return (uint16_t)i;
	if (count == TW_RULE_IDS_MAX)
		return TW_RULE_IDS_MAX - 1;
	b->names[count] = tw_strndup(name, strlen(name));
	if (b->names[count] == NULL)
		return TW_RULE_NONE;
	atomic_store_explicit(&b->count, count + 1, memory_order_release);
	return (uint16_t)count;
}

uint32_t tw_rulebook_count(const struct tw_rulebook *b)
{
	return atomic_load_explicit(&((struct tw_rulebook *)(uintptr_t)b)->count,
	                            memory_order_acquire);
}

const char *tw_rulebook_name(const struct tw_rulebook *b, uint16_t id)
{
	return id < tw_rulebook_count(b) ? b->names[id] : "";
}

void tw_rulebook_deinit(struct tw_rulebook *b)
{
	uint32_t count = tw_rulebook_count(b);

	for (uint32_t i = 0; i < count; i++)
		tw_free(b->names[i]);
	atomic_store(&b->count, 0);
}

static int build(struct tw_generation *g, const struct tw_red *red, struct tw_rulebook *book)
{
	uint32_t rules = tw_rules_count(g->rules);
	int rc = tw_red_keys(red, g->keys, g->slot);

	if (rc < 0)
		return rc;
	rc = tw_keytab_seal(g->keys);
	if (rc < 0)
		return rc;
	g->rule_ids = tw_calloc(rules, sizeof(*g->rule_ids));
	g->matchers = tw_calloc(g->workers, sizeof(struct tw_matcher *));
	if (g->rule_ids == NULL || g->matchers == NULL)
		return TW_ENOMEM;
	for (uint32_t i = 0; i < rules; i++) {
		g->rule_ids[i] = tw_rulebook_id(book, tw_rules_name(g->rules, (uint16_t)i));
		if (g->rule_ids[i] == TW_RULE_NONE)
			return TW_ENOMEM;
	}
	for (uint32_t i = 0; i < g->workers; i++) {
		g->matchers[i] = tw_matcher_create(g->rules);
		if (g->matchers[i] == NULL)
			return TW_ENOMEM;
	}
	return 0;
}

int tw_generation_create(struct tw_slice source, const char *file, const struct tw_red *red,
                         uint32_t workers, struct tw_rulebook *book,
                         const struct tw_generation *old, uint64_t now_ns,
                         struct tw_generation **out, struct tw_buf *report)
{
	struct tw_generation *g = tw_calloc(1, sizeof(*g));
	struct tw_diags diags = {.count = 0};
	int rc = TW_ENOMEM;

	*out = NULL;
	if (g == NULL)
		return TW_ENOMEM;
	g->number = old != NULL ? old->number + 1 : 1;
	g->workers = workers;
	g->keys = tw_keytab_create();
	if (g->keys != NULL)
		rc = tw_rules_compile(source, g->keys, &diags, &g->rules);
	tw_diags_render(&diags, file, source, report);
	if (rc == 0) {
		rc = build(g, red, book);
		if (rc == TW_ELIMIT)
			tw_buf_printf(report,
			              "%s: error: rules and metrics.dimensions read more than %u "
			              "attribute keys\n",
			              file, TW_KEYS_MAX);
	}
	if (rc == 0) {
		g->rates = tw_rates_create(g->rules, old != NULL ? old->rates : NULL,
		                           old != NULL ? old->rules : NULL, now_ns);
		if (g->rates == NULL)
			rc = TW_ENOMEM;
	}
	if (rc == TW_ENOMEM)
		tw_buf_printf(report, "%s: error: out of memory\n", file);
	if (rc != 0) {
		tw_generation_destroy(&g);
		return rc == TW_ELIMIT ? TW_EINVAL : rc;
	}
	*out = g;
	return 0;
}

void tw_generation_destroy(struct tw_generation **gp)
{
	struct tw_generation *g = *gp;

	if (g == NULL)
		return;
	for (uint32_t i = 0; g->matchers != NULL && i < g->workers; i++)
		if (g->matchers[i] != NULL)
			tw_matcher_destroy(&g->matchers[i]);
	tw_free(g->matchers);
	tw_free(g->rule_ids);
	if (g->rates != NULL)
		tw_rates_destroy(&g->rates);
	if (g->rules != NULL)
		tw_rules_destroy(&g->rules);
	tw_keytab_destroy(&g->keys);
	tw_free(g);
	*gp = NULL;
}
