/* Generations and the rulebook: numbers that stay, limits, and memory that is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "generation.h"
#include "tw/base/mem.h"

#define TWO_RULES                                                                                  \
	"wait: { root: 1s, idle: 5s, most: 20s }\n"                                                \
	"rules:\n"                                                                                 \
	"  - { name: errors, when: '{ status = error }', keep: all }\n"                            \
	"  - { name: slow, when: '{ span.http.route =~ \"/a.*\" }', keep: 50% }\n"                 \
	"  - { name: some, when: '{ kind = server }', keep: 100 per 1s }\n"                        \
	"  - { name: rest, keep: none }\n"

/* ---- the rulebook ---- */

static void a_name_keeps_its_number(void **state)
{
	struct tw_rulebook b = {.count = 0};

	(void)state;
	assert_int_equal(tw_rulebook_count(&b), 0);
	assert_int_equal(tw_rulebook_id(&b, "errors"), 0);
	assert_int_equal(tw_rulebook_id(&b, "rest"), 1);
	assert_int_equal(tw_rulebook_id(&b, "errors"), 0);
	assert_int_equal(tw_rulebook_id(&b, "error"), 2);
	assert_int_equal(tw_rulebook_count(&b), 3);
	assert_string_equal(tw_rulebook_name(&b, 1), "rest");
	assert_string_equal(tw_rulebook_name(&b, 3), "");
	assert_string_equal(tw_rulebook_name(&b, TW_RULE_NONE), "");
	tw_rulebook_deinit(&b);
	assert_int_equal(tw_rulebook_count(&b), 0);
}

/* The book copies: the rules that a name comes from are gone one day. */
static void the_book_owns_its_names(void **state)
{
	struct tw_rulebook b = {.count = 0};
	char name[] = "errors";

	(void)state;
	assert_int_equal(tw_rulebook_id(&b, name), 0);
	name[0] = 'E';
	assert_string_equal(tw_rulebook_name(&b, 0), "errors");
	tw_rulebook_deinit(&b);
}

static void the_last_number_is_shared(void **state)
{
	struct tw_rulebook b = {.count = 0};
	char name[32];

	(void)state;
	for (uint32_t i = 0; i < TW_RULE_IDS_MAX; i++) {
		snprintf(name, sizeof(name), "rule-%u", i);
		assert_int_equal(tw_rulebook_id(&b, name), i);
	}
	assert_int_equal(tw_rulebook_id(&b, "one more"), TW_RULE_IDS_MAX - 1);
	assert_int_equal(tw_rulebook_id(&b, "and another"), TW_RULE_IDS_MAX - 1);
	assert_int_equal(tw_rulebook_count(&b), TW_RULE_IDS_MAX);
	assert_int_equal(tw_rulebook_id(&b, "rule-7"), 7);
	assert_string_equal(tw_rulebook_name(&b, TW_RULE_IDS_MAX - 1), "rule-1023");
	tw_rulebook_deinit(&b);
}

static void a_name_without_memory(void **state)
{
	struct tw_rulebook b = {.count = 0};

	(void)state;
	assert_int_equal(tw_rulebook_id(&b, "errors"), 0);
	tw_mem_fail_at(1, true);
	assert_int_equal(tw_rulebook_id(&b, "rest"), TW_RULE_NONE);
	assert_int_equal(tw_rulebook_id(&b, "errors"), 0);
	tw_mem_fail_at(0, false);
	assert_int_equal(tw_rulebook_count(&b), 1);
	assert_int_equal(tw_rulebook_id(&b, "rest"), 1);
	tw_rulebook_deinit(&b);
}

/* ---- generations ---- */

struct setup {
	struct tw_metrics_opts metrics;
	struct tw_red *red;
	struct tw_rulebook book;
	struct tw_buf report;
};

static void setup_init(struct setup *s, uint32_t dimensions)
{
	static char *keys[TW_DIMENSIONS_MAX] = {"http.method", "http.route"};

	*s = (struct setup){.metrics = {.names = TW_NAMES_OTEL,
	                                .bucket_ns = {TW_NS_PER_S},
	                                .bucket_count = 1,
	                                .series_max = 10,
	                                .dimension_count = dimensions}};
	memcpy(s->metrics.dimensions, keys, sizeof(keys));
	s->red = tw_red_create(&s->metrics, 1, (struct tw_hash_key){1, 2});
	assert_non_null(s->red);
	tw_buf_init(&s->report, 0);
}

static void setup_deinit(struct setup *s)
{
	tw_buf_deinit(&s->report);
	tw_red_destroy(&s->red);
	tw_rulebook_deinit(&s->book);
}

static int create(struct setup *s, const char *rules, const struct tw_generation *old,
                  struct tw_generation **out)
{
	tw_buf_clear(&s->report);
	*out = (struct tw_generation *)s; /* must be overwritten, whatever comes */
	return tw_generation_create(tw_slice_str(rules), "r.yaml", s->red, 3, &s->book, old,
	                            TW_NS_PER_S, out, &s->report);
}

static const char *said(struct setup *s)
{
	tw_buf_putc(&s->report, '\0');
	s->report.n--;
	return (const char *)s->report.p;
}

static void a_whole_generation(void **state)
{
	struct tw_generation *g;
	struct setup s;

	(void)state;
	setup_init(&s, 2);
	assert_int_equal(create(&s, TWO_RULES, NULL, &g), 0);
	assert_int_equal(s.report.n, 0);
	assert_int_equal(g->number, 1);
	assert_int_equal(g->workers, 3);
	for (uint32_t i = 0; i < 3; i++) {
		assert_non_null(g->matchers[i]);
		assert_true(i == 0 || g->matchers[i] != g->matchers[i - 1]);
	}
	assert_int_equal(tw_rules_count(g->rules), 4);
	for (uint16_t i = 0; i < 4; i++)
		assert_string_equal(tw_rulebook_name(&s.book, g->rule_ids[i]),
		                    tw_rules_name(g->rules, i));
	/* service.name, the rules' key and the dimensions; http.route is both. */
	assert_int_equal(tw_keytab_count(g->keys), 3);
	assert_int_equal(g->slot[0], tw_keytab_find(g->keys, (const uint8_t *)"http.method", 11));
	assert_int_equal(g->slot[1], tw_keytab_find(g->keys, (const uint8_t *)"http.route", 10));
	tw_generation_destroy(&g);
	assert_null(g);
	setup_deinit(&s);
}

static void numbers_rise_and_rules_keep_theirs(void **state)
{
	struct tw_generation *a, *b, *c;
	struct setup s;

	(void)state;
	setup_init(&s, 0);
	assert_int_equal(create(&s, TWO_RULES, NULL, &a), 0);
	assert_int_equal(create(&s,
	                        "rules:\n  - { name: rest, when: '{ status = error }', keep: all "
	                        "}\n  - { name: new, keep: none }\n",
	                        a, &b),
	                 0);
	assert_int_equal(b->number, 2);
	assert_int_equal(b->rule_ids[0], a->rule_ids[3]);
	assert_int_equal(b->rule_ids[1], 4);
	tw_generation_destroy(&a);
	assert_int_equal(create(&s, TWO_RULES, b, &c), 0);
	assert_int_equal(c->number, 3);
	assert_int_equal(c->rule_ids[3], b->rule_ids[0]);
	assert_int_equal(tw_rulebook_count(&s.book), 5);
	tw_generation_destroy(&b);
	tw_generation_destroy(&c);
	setup_deinit(&s);
}

static void wrong_rules(void **state)
{
	struct tw_generation *g;
	struct setup s;

	(void)state;
	setup_init(&s, 0);
	assert_int_equal(create(&s, "rules:\n  - { name: a, keep: sometimes }\n", NULL, &g),
	                 TW_EINVAL);
	assert_null(g);
	assert_non_null(strstr(said(&s), "r.yaml:2:"));
	assert_non_null(strstr(said(&s), "error:"));
	assert_int_equal(tw_rulebook_count(&s.book), 0);
	setup_deinit(&s);
}

/* Rules that read `count` keys of their own. */
static void key_rules(struct tw_buf *b, uint32_t count)
{
	tw_buf_clear(b);
	tw_buf_puts(b, "rules:\n");
	for (uint32_t i = 0; i < count; i++)
		tw_buf_printf(b, "  - { name: r%u, when: '{ span.k%02u = 1 }', keep: all }\n", i,
		              i);
	tw_buf_puts(b, "  - { name: rest, keep: none }\n");
	tw_buf_putc(b, '\0');
}

/* The dimensions need room in the key table, too; that is the operator's to mend, so it is an error
 * of the input. */
static void too_many_keys_with_the_dimensions(void **state)
{
	struct tw_generation *g;
	struct tw_buf rules;
	struct setup s;

	(void)state;
	tw_buf_init(&rules, 0);
	setup_init(&s, 2);
	key_rules(&rules, TW_KEYS_MAX - 3);
	assert_int_equal(create(&s, (char *)rules.p, NULL, &g), 0);
	tw_generation_destroy(&g);
	key_rules(&rules, TW_KEYS_MAX - 2);
	assert_int_equal(create(&s, (char *)rules.p, NULL, &g), TW_EINVAL);
	assert_null(g);
	assert_non_null(strstr(said(&s), "r.yaml: error: rules and metrics.dimensions read more "
	                                 "than 64 attribute keys"));
	tw_buf_deinit(&rules);
	setup_deinit(&s);
}

/* The n-th allocation fails: TW_ENOMEM and nothing left behind, or it was not needed. */
static void every_allocation_fails(void **state)
{
	uint64_t refused = 0;
	struct tw_generation *old, *g;
	struct setup s;

	(void)state;
	setup_init(&s, 2);
	assert_int_equal(create(&s, TWO_RULES, NULL, &old), 0);
	for (int sticky = 0; sticky < 2; sticky++) {
		for (uint64_t n = 1; n <= 100; n++) {
			int rc;

			/* A fresh book: its names are to be allocated, too. */
			tw_rulebook_deinit(&s.book);
			tw_mem_fail_at(n, sticky != 0);
			rc = create(&s, TWO_RULES, old, &g);
			tw_mem_fail_at(0, false);
			assert_true(rc == 0 || rc == TW_ENOMEM);
			refused += rc != 0;
			if (rc != 0)
				assert_null(g);
			else
				tw_generation_destroy(&g);
		}
	}
	assert_true(refused > 20);
	/* And after all that, a good one. */
	assert_int_equal(create(&s, TWO_RULES, old, &g), 0);
	assert_int_equal(g->number, 2);
	tw_generation_destroy(&g);
	tw_generation_destroy(&old);
	setup_deinit(&s);
}

/* A single refused allocation is said in words; the report's own memory may be what was refused
 * only when everything is. */
static void out_of_memory_is_said(void **state)
{
	struct tw_generation *g;
	struct setup s;

	(void)state;
	setup_init(&s, 0);
	assert_true(tw_buf_grow(&s.report, 4096)); /* not the report's */
	tw_mem_fail_at(2, true);
	assert_int_equal(create(&s, TWO_RULES, NULL, &g), TW_ENOMEM);
	tw_mem_fail_at(0, false);
	assert_string_equal(said(&s), "r.yaml: error: out of memory\n");
	setup_deinit(&s);
}

static void destroying_nothing(void **state)
{
	struct tw_generation *g = NULL;

	(void)state;
	tw_generation_destroy(&g);
	assert_null(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_name_keeps_its_number),
	    cmocka_unit_test(the_book_owns_its_names),
	    cmocka_unit_test(the_last_number_is_shared),
	    cmocka_unit_test(a_name_without_memory),
	    cmocka_unit_test(a_whole_generation),
	    cmocka_unit_test(numbers_rise_and_rules_keep_theirs),
	    cmocka_unit_test(wrong_rules),
	    cmocka_unit_test(too_many_keys_with_the_dimensions),
	    cmocka_unit_test(every_allocation_fails),
	    cmocka_unit_test(out_of_memory_is_said),
	    cmocka_unit_test(destroying_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
