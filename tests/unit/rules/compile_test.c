/* Files that are wrong, too large, hostile, or compiled while memory runs out. Messages are in
 * tests/golden. */
#include "rules_case.h"

#include <stdlib.h>

#include "tw/base/mem.h"

static const struct tw_diag *refused(struct rules_case *c, const char *yaml)
{
	int rc = rules_case_try(c, yaml);

	if (rc != TW_EINVAL)
		fail_msg("accepted: %s", yaml);
	assert_null(c->r);
	assert_true(c->diags.errors > 0);
	assert_true(c->diags.count > 0);
	rules_case_close(c);
	return &c->diags.item[0];
}

/* In quotes of all kinds, in a block, behind wide characters: the column is the operand's. */
static void positions(void **state)
{
	static const struct {
		const char *when;
		uint32_t line, column, width;
	} rows[] = {
	    {"'{ statux = error }'", 4, 12, 6},
	    {"'{ name = \"it''s\" && statux = error }'", 4, 30, 6},
	    {"\"{ statux = error }\"", 4, 12, 6},
	    {"\"{ name = \\\"a\\u00e9\\\" && statux = error }\"", 4, 34, 6},
	    {"\"{ name = \\\"\xc3\xa9\xe2\x82\xac\\\" && statux = error }\"", 4, 29, 6},
	    {"'{ name = \"\xc3\xa9\xe2\x82\xac\" && statux = error }'", 4, 27, 6},
	    {"|\n    { statux = error }", 5, 7, 6},
	    {"|\n    { true &&\n      statux = error }", 6, 7, 6},
	    {">-\n    { true &&\n    statux = error }", 6, 5, 6},
	    {"'{ true &&\n      statux = error }'", 5, 7, 6},
	    {"|-\r\n    { true &&\r\n    statux = error }", 6, 5, 6},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char yaml[256];
		struct rules_case c;
		const struct tw_diag *d;

		snprintf(yaml, sizeof(yaml), "rules:\n- name: a\n  keep: all\n  when: %s\n",
		         rows[i].when);
		d = refused(&c, yaml);
		if (d->line != rows[i].line || d->column != rows[i].column ||
		    d->width != rows[i].width)
			fail_msg("%s: at %u:%u+%u", rows[i].when, d->line, d->column, d->width);
	}
}

static void plain_scalar_position(void **state)
{
	struct rules_case c;
	const struct tw_diag *d = refused(
	    &c, "rules:\n- name: a\n  when: ({ true }) && { statux = error }\n  keep: all\n");

	(void)state;
	assert_int_equal(d->line, 3);
	assert_int_equal(d->column, 25);
	assert_int_equal(d->width, 6);
}

static void cfg_03_alias_bomb_and_depth(void **state)
{
	struct rules_case c;
	char deep[1024];

	(void)state;
	assert_non_null(strstr(refused(&c, "a: &a [x, x]\nrules: [*a, *a]\n")->text, "anchors"));
	assert_non_null(strstr(refused(&c, "rules: [*a]\n")->text, "alias"));
	strcpy(deep, "rules: ");
	for (int i = 0; i < 200; i++)
		strcat(deep, "[");
	for (int i = 0; i < 200; i++)
		strcat(deep, "]");
	assert_non_null(strstr(refused(&c, deep)->text, "32 levels"));
	strcpy(deep, "rules: [{name: a, when: '{ ");
	for (int i = 0; i < 300; i++)
		strcat(deep, "(");
	strcat(deep, "' , keep: all}]");
	assert_non_null(strstr(refused(&c, deep)->text, "nested"));
}

static void cfg_08_tabs_bom_crlf_empty_huge(void **state)
{
	static const char bom[] = "\xEF\xBB\xBFrules: [{name: a, keep: all}]\n";
	static const char crlf[] =
	    "rules:\r\n  - name: a\r\n    when: '{ status = error }'\r\n    keep: all\r\n"
	    "  - name: b\r\n    keep: none\r\n";
	struct rules_case c;
	struct tw_diags diags;
	struct tw_rules *r;
	size_t n = (size_t)100 << 20;
	char *huge;

	(void)state;
	assert_non_null(strstr(refused(&c, "rules:\n\t- name: a\n")->text, "tab"));
	rules_case_open(&c, bom);
	rules_case_close(&c);
	assert_int_equal(refused(&c, "\xEF\xBB\xBFruls: []\n")->column, 1);
	rules_case_open(&c, crlf);
	assert_int_equal(tw_rules_count(c.r), 2);
	rules_case_close(&c);
	assert_non_null(strstr(refused(&c, "")->text, "empty"));
	assert_non_null(strstr(refused(&c, "# only a remark\n")->text, "empty"));
	assert_non_null(
	    strstr(refused(&c, "rules: [{name: \"a\xff\", keep: all}]")->text, "UTF-8"));
	huge = malloc(n);
	assert_non_null(huge);
	memset(huge, 'a', n);
	assert_int_equal(rules_case_try(&c, ""), TW_EINVAL);
	assert_int_equal(tw_rules_compile(tw_slice(huge, n), c.keys, &diags, &r), TW_EINVAL);
	assert_non_null(strstr(diags.item[0].text, "1 MiB"));
	rules_case_close(&c);
	free(huge);
}

/* Every limit says what it is. */
static void limits(void **state)
{
	const int most = 64 * (int)TW_MASK_WORDS;
	struct rules_case c;
	struct tw_buf b;
	char text[64];

	(void)state;
	tw_buf_init(&b, 0);
	tw_buf_puts(&b, "rules:\n");
	for (int i = 0; i < most + 15; i++)
		tw_buf_printf(&b, "  - {name: r%d, when: '{ name = \"op%d\" }', keep: all}\n", i,
		              i);
	tw_buf_puts(&b, "  - {name: rest, keep: none}\n");
	tw_buf_putc(&b, '\0');
	snprintf(text, sizeof(text), "ask %d different things of a span, and %d", most + 15, most);
	assert_non_null(strstr(refused(&c, (const char *)b.p)->text, text));
	tw_buf_clear(&b);
	tw_buf_puts(&b, "rules:\n");
	for (int i = 0; i < 64; i++)
		tw_buf_printf(&b, "  - {name: r%d, when: '{ span.key%d = 1 }', keep: all}\n", i, i);
	tw_buf_puts(&b, "  - {name: rest, keep: none}\n");
	tw_buf_putc(&b, '\0');
	assert_non_null(strstr(refused(&c, (const char *)b.p)->text, "64 keys"));
	tw_buf_clear(&b);
	tw_buf_puts(&b, "rules:\n  - name: a\n    keep: all\n    when: '{ true");
	for (int i = 0; i < 3000; i++)
		tw_buf_puts(&b, " && true");
	tw_buf_puts(&b, " }'\n");
	tw_buf_putc(&b, '\0');
	assert_non_null(strstr(refused(&c, (const char *)b.p)->text, "too large"));
	tw_buf_deinit(&b);
}

/* More mistakes than there is room for are counted. */
static void many_mistakes(void **state)
{
	struct rules_case c;
	struct tw_buf b;

	(void)state;
	tw_buf_init(&b, 0);
	tw_buf_puts(&b, "rules:\n");
	for (int i = 0; i < 50; i++)
		tw_buf_printf(&b, "  - {name: r%d, when: '{ statux = error }', keep: all}\n", i);
	tw_buf_putc(&b, '\0');
	refused(&c, (const char *)b.p);
	assert_int_equal(c.diags.count, 32);
	assert_int_equal(c.diags.errors, 50);
	assert_int_equal(c.diags.left_out, 18);
	tw_buf_deinit(&b);
}

/* MEM-01: whichever allocation fails, it is said and nothing leaks. libyaml and the regex compiler
 * allocate on their own. */
static void mem_01_allocation_fails(void **state)
{
	static const char yaml[] = "rules:\n"
	                           "  - {name: a, when: '{ .x =~ \"a.*\" && span.y + 1 > 2 || "
	                           "trace:rootService = \"s\" }', keep: all}\n"
	                           "  - {name: b, when: '{ resource.z != nil } && { name = \"n\" "
	                           "}', keep: 5 per 1s by resource.service.name}\n"
	                           "  - {name: c, keep: 1%}\n";
	uint64_t most;

	(void)state;
	for (int sticky = 0; sticky < 2; sticky++) {
		for (most = 1;; most++) {
			struct tw_keytab *keys = tw_keytab_create();
			struct tw_diags diags;
			struct tw_rules *r = NULL;
			struct tw_matcher *m = NULL;
			struct tw_rates *rates = NULL;
			uint64_t made;
			int rc;

			assert_non_null(keys);
			tw_mem_fail_at(most, sticky);
			rc = tw_rules_compile(tw_slice_str(yaml), keys, &diags, &r);
			if (rc == 0) {
				m = tw_matcher_create(r);
				rates = tw_rates_create(r, NULL, NULL, 0);
			}
			made = tw_mem_fail_at(0, false);
			if (rc != 0) {
				assert_int_equal(rc, TW_ENOMEM);
				assert_null(r);
			}
			tw_rates_destroy(&rates);
			tw_matcher_destroy(&m);
			tw_rules_destroy(&r);
			tw_keytab_destroy(&keys);
			if (made < most)
				break;
		}
		assert_true(most > 20);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(positions),
	    cmocka_unit_test(plain_scalar_position),
	    cmocka_unit_test(cfg_03_alias_bomb_and_depth),
	    cmocka_unit_test(cfg_08_tabs_bom_crlf_empty_huge),
	    cmocka_unit_test(limits),
	    cmocka_unit_test(many_mistakes),
	    cmocka_unit_test(mem_01_allocation_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
