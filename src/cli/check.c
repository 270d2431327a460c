#include "cli.h"

#include <stdio.h>
#include <string.h>

#include "tw/rules.h"

#define FILE_BYTES_MAX (1u << 20)

/* check_on.c: which rule takes each trace of `traces`. */
int tw_cli_check_on(const struct tw_rules *r, struct tw_keytab *keys, const char *traces);

/* A rule file has `rules:` as a list (or `wait:`) at its top; a configuration has its path there.
 * Looks at the lines only: what is in them is the compilers' business. */
static bool looks_like_rules(struct tw_slice s)
{
	const char *p = (const char *)s.p, *end = p + s.n;

	if (s.n >= 3 && memcmp(p, "\xEF\xBB\xBF", 3) == 0)
		p += 3;
	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = (size_t)((nl != NULL ? nl : end) - p);

		if (n >= 5 && memcmp(p, "wait:", 5) == 0)
			return true;
		if (n >= 6 && memcmp(p, "rules:", 6) == 0) {
			size_t i = 6;

			while (i < n && (p[i] == ' ' || p[i] == '\r'))
				i++;
			return i == n || p[i] == '#' || p[i] == '[';
		}
		p += n + 1;
	}
	return false;
}

static int check_rules(const char *file, struct tw_slice source, const char *on)
{
	struct tw_keytab *keys = tw_keytab_create();
	struct tw_diags diags = {.count = 0};
	struct tw_rules *r = NULL;
	struct tw_buf report;
	int rc = keys != NULL ? tw_rules_compile(source, keys, &diags, &r) : TW_ENOMEM;

	tw_buf_init(&report, 0);
	tw_diags_render(&diags, file, source, &report);
	tw_cli_print(&report);
	tw_buf_deinit(&report);
	if (rc == 0) {
		printf("%s: %u rules, %u attribute keys: good\n", file, tw_rules_count(r),
		       tw_keytab_count(keys));
		if (on != NULL)
			rc = tw_cli_check_on(r, keys, on);
		tw_rules_destroy(&r);
	}
	if (keys != NULL)
		tw_keytab_destroy(&keys);
	return rc;
}

static int check_config(const struct tw_cli_args *a, const char *file, struct tw_slice source)
{
	struct tw_config_env env = tw_cli_env();
	struct tw_config *c = NULL;
	struct tw_buf report, rules;
	int rc;

	tw_buf_init(&report, 0);
	rc = tw_config_load(source, file, a->sets, a->set_count, &env, &c, &report);
	tw_cli_print(&report);
	tw_buf_clear(&report);
	if (rc == 0) {
		tw_config_print(c, &report);
		printf("%s: good; in force would be:\n", file);
		fwrite(report.p, 1, report.n, stdout);
		if (c->rules_path != NULL) {
			tw_buf_init(&rules, 0);
			rc = tw_cli_read(c->rules_path, FILE_BYTES_MAX, &rules)
			         ? check_rules(c->rules_path, tw_buf_slice(&rules), a->on)
			         : TW_EINVAL;
			tw_buf_deinit(&rules);
		} else if (a->on != NULL) {
			rc = check_rules("rules/default.yaml (embedded)",
			                 tw_slice(tw_rules_default, tw_rules_default_n), a->on);
		}
	}
	tw_buf_deinit(&report);
	tw_config_destroy(&c);
	return rc;
}

int tw_cli_check(const struct tw_cli_args *a)
{
	int worst = 0;

	for (uint32_t i = 0; i < a->file_count; i++) {
		struct tw_buf source;
		int rc = TW_EINVAL;

		tw_buf_init(&source, 0);
		if (tw_cli_read(a->files[i], FILE_BYTES_MAX, &source)) {
			struct tw_slice s = tw_buf_slice(&source);

			rc = looks_like_rules(s) ? check_rules(a->files[i], s, a->on)
			                         : check_config(a, a->files[i], s);
		}
		tw_buf_deinit(&source);
		if (rc != 0 && worst == 0)
			worst = tw_cli_exit_code(rc);
	}
	fflush(stdout);
	return worst;
}
