/* check: which files are rules and which are configurations, and what `--on` says of traces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "capture.h"
#include "cli.h"
#include "tw/base/mem.h"

#define RULES                                                                                      \
	"rules:\n"                                                                                 \
	"  - { name: errors, when: '{ status = error }', keep: all }\n"                            \
	"  - { name: slow, when: '{ trace:duration > 2s }', keep: all }\n"                         \
	"  - { name: rest, keep: none }\n"
#define BOM "\xEF\xBB\xBF"

#define SPAN(trace, span, rest)                                                                    \
	"{\"traceId\":\"000000000000000000000000000000" trace                                      \
	"\",\"spanId\":\"00000000000000" span "\",\"name\":\"op\"," rest "}"
#define LINE(spans) "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[" spans "]}]}]}"
#define TIMES(from, to)                                                                            \
	"\"startTimeUnixNano\":\"" from "000000\",\"endTimeUnixNano\":\"" to "000000\""

static int check(struct capture *c, int files, const char *on)
{
	struct tw_cli_args a = {.on = on, .file_count = (uint32_t)files};
	int rc;

	for (int i = 0; i < files; i++)
		a.files[i] = c->path[i];
	capture_begin(c);
	rc = tw_cli_check(&a);
	capture_end(c);
	return rc;
}

static void assert_says(const char *text, const char *what)
{
	if (strstr(text, what) == NULL)
		fail_msg("not said: %s\nin: %s", what, text);
}

/* ---- what is it? ---- */

static void rule_files_are_known(void **state)
{
	static const char *const files[] = {
	    RULES,
	    BOM RULES,
	    "# of the shop\n\n" RULES,
	    "wait: { root: 1s, idle: 5s, most: 20s }\n" RULES,
	    BOM "wait:\n  root: 1s\n" RULES,
	    "rules:  # from the top\n  - { name: a, keep: all }\n",
	    "rules: [ { name: a, keep: all } ]\n",
	    "rules: [\n  { name: a, keep: all } ]\n",
	    "rules:\r\n  - { name: a, keep: all }\r\n",
	};
	struct capture c;

	(void)state;
	capture_init(&c);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		capture_text(&c, 0, files[i]);
		if (check(&c, 1, NULL) != 0)
			fail_msg("%s: %s", files[i], c.err);
		assert_says(c.out, " attribute keys: good\n");
		assert_string_equal(c.err, "");
	}
	capture_deinit(&c);
}

static void configurations_are_known(void **state)
{
	static const char *const files[] = {
	    "",
	    "# nothing\n",
	    "workers: 2\n",
	    BOM "workers: 2\n",
	    "receive:\n  rules: 1\n", /* not at the top, and not an option either */
	};
	struct capture c;

	(void)state;
	capture_init(&c);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		bool good = i + 1 < sizeof(files) / sizeof(files[0]);

		capture_text(&c, 0, files[i]);
		assert_int_equal(check(&c, 1, NULL), good ? TW_EXIT_DONE : TW_EXIT_WRONG);
		if (good)
			assert_says(c.out, ": good; in force would be:\n");
		else
			assert_says(c.err, ":2:3: error: ");
	}
	capture_deinit(&c);
}

static void a_path_of_rules_is_a_configuration(void **state)
{
	static const char *const forms[] = {"rules: %s\n", "rules: '%s'\n", BOM "rules: \"%s\"\n",
	                                    "rules: %s # there\n", "workers: 1\nrules: %s\r\n"};
	char text[256];
	struct capture c;

	(void)state;
	capture_init(&c);
	capture_text(&c, 1, RULES);
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		snprintf(text, sizeof(text), forms[i], c.path[1]);
		capture_text(&c, 0, text);
		if (check(&c, 1, NULL) != 0)
			fail_msg("%s: %s", text, c.err);
		assert_says(c.out, ": good; in force would be:\n");
		assert_says(c.out, "/1: 3 rules, 1 attribute keys: good\n");
	}
	capture_deinit(&c);
}

/* ---- what is wrong ---- */

static void mistakes_are_shown(void **state)
{
	struct capture c;

	(void)state;
	capture_init(&c);
	capture_text(&c, 0, "rules:\n  - { name: a, keep: sometimes }\n");
	assert_int_equal(check(&c, 1, NULL), TW_EXIT_WRONG);
	assert_string_equal(c.out, "");
	assert_says(c.err, "/0:2:22: error: ");
	assert_says(c.err, "\n      - { name: a, keep: sometimes }\n");
	assert_says(c.err, "^~~~~~~~~");

	capture_text(&c, 0, "wrokers: 2\n");
	assert_int_equal(check(&c, 1, NULL), TW_EXIT_WRONG);
	assert_says(c.err, "/0:1:1: error: ");
	assert_says(c.err, "workers");
	capture_deinit(&c);
}

/* One bad file of several is enough, and the others are still looked at. */
static void the_first_mistake_decides(void **state)
{
	struct capture c;

	(void)state;
	capture_init(&c);
	capture_text(&c, 0, RULES);
	capture_text(&c, 1, "rules:\n  - { name: a, keep: sometimes }\n");
	capture_text(&c, 2, "workers: 1\n");
	assert_int_equal(check(&c, 3, NULL), TW_EXIT_WRONG);
	assert_says(c.out, "/0: 3 rules");
	assert_says(c.err, "/1:2:");
	assert_says(c.out, "/2: good");
	capture_deinit(&c);
}

static void files_that_are_not_there(void **state)
{
	struct capture c;

	(void)state;
	capture_init(&c);
	assert_int_equal(check(&c, 1, NULL), TW_EXIT_WRONG);
	assert_says(c.err, "/0: error: No such file or directory\n");
	capture_text(&c, 0, "rules: /nowhere/rules.yaml\n");
	assert_int_equal(check(&c, 1, NULL), TW_EXIT_WRONG);
	assert_says(c.err, "/nowhere/rules.yaml: error: No such file or directory\n");
	capture_text(&c, 0, RULES);
	assert_int_equal(check(&c, 1, c.path[1]), TW_EXIT_WRONG);
	assert_says(c.err, "/1: error: No such file or directory\n");
	capture_deinit(&c);
}

/* ---- --on ---- */

/* Three traces over four lines, their spans mixed; a blank line and Windows line ends between. */
static const char traces[] = LINE(SPAN("01", "01", TIMES("1000", "1500")) "," SPAN(
    "02", "02",
    TIMES(
        "1000",
        "1100"))) "\n"
                  "\n" LINE(SPAN(
                      "03", "03",
                      "\"parentSpanId\":\"0000000000000009\"," TIMES(
                          "5000",
                          "5001"))) "\r\n\r\n" LINE(SPAN("01", "04",
                                                         "\"parentSpanId\":"
                                                         "\"0000000000000001\"," TIMES(
                                                             "1400",
                                                             "1600") ",\"status\":{\"code\":"
                                                                     "2}")) "\n" LINE(SPAN("03",
                                                                                           "05",
                                                                                           TIMES(
                                                                                               "200"
                                                                                               "0",
                                                                                               "210"
                                                                                               "0")));

static void traces_are_put_together(void **state)
{
	struct capture c;

	(void)state;
	capture_init(&c);
	capture_text(&c, 0, RULES);
	capture_text(&c, 1, traces);
	assert_int_equal(check(&c, 1, c.path[1]), TW_EXIT_DONE);
	assert_string_equal(c.err, "");
	assert_says(c.out, "00000000000000000000000000000001 kept   errors               "
	                   "2 spans, 1 errors, 600.000 ms\n");
	assert_says(c.out, "00000000000000000000000000000002 let go rest                 "
	                   "1 spans, 0 errors, 100.000 ms\n");
	assert_says(c.out, "00000000000000000000000000000003 kept   slow                 "
	                   "2 spans, 0 errors, 3001.000 ms\n");
	assert_says(c.out, "\n3 traces:\n"
	                   "  errors               1 kept, 0 let go\n"
	                   "  slow                 1 kept, 0 let go\n"
	                   "  rest                 0 kept, 1 let go\n");
	capture_deinit(&c);
}

static void more_traces_than_the_first_table(void **state)
{
	struct tw_buf text;
	struct capture c;

	(void)state;
	capture_init(&c);
	tw_buf_init(&text, 0);
	/* Every trace comes twice, so a lost place in a grown table makes two of one. */
	for (uint32_t i = 0; i < 10000; i++)
		tw_buf_printf(&text,
		              "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"traceId\":"
		              "\"%032x\",\"spanId\":\"%016x\",\"name\":\"a\"}]}]}]}\n",
		              i % 5000 + 1, i + 1);
	capture_text(&c, 0, "rules:\n  - { name: all, keep: all }\n");
	capture_file(&c, 1, text.p, text.n);
	tw_buf_deinit(&text);
	{
		struct tw_cli_args a = {.on = c.path[1], .files = {c.path[0]}, .file_count = 1};
		char line[160], last[160] = "";
		FILE *f;
		int rc;

		/* More than a capture holds: through a file. */
		f = freopen(c.path[2], "we", stdout);
		assert_non_null(f);
		rc = tw_cli_check(&a);
		f = freopen("/dev/stderr", "we", stdout);
		assert_non_null(f);
		assert_int_equal(rc, 0);
		f = fopen(c.path[2], "re");
		assert_non_null(f);
		while (fgets(line, sizeof(line), f) != NULL) {
			assert_true(strstr(line, "let go") == NULL || line[0] == ' ');
			if (line[0] == '0')
				assert_says(line, " 2 spans, ");
			snprintf(last, sizeof(last), "%s", line);
		}
		fclose(f);
		assert_string_equal(last, "  all                  5000 kept, 0 let go\n");
	}
	capture_deinit(&c);
}

static void a_bad_line_is_named(void **state)
{
	static const char *const bad[] = {"{", "x", "{\"resourceSpans\":7}"};
	struct capture c;

	(void)state;
	capture_init(&c);
	capture_text(&c, 0, RULES);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char text[1024];

		snprintf(text, sizeof(text), "%s\n\n%s\n",
		         LINE(SPAN("01", "01", TIMES("1000", "1500"))), bad[i]);
		capture_text(&c, 1, text);
		assert_int_equal(check(&c, 1, c.path[1]), TW_EXIT_WRONG);
		assert_says(c.err, "/1:3: error: ");
		assert_null(strstr(c.out, "traces:"));
	}
	capture_deinit(&c);
}

/* A configuration's rules, be they a file's or the built-in ones, are put on the traces, too. */
static void on_with_a_configuration(void **state)
{
	char text[256];
	struct capture c;

	(void)state;
	capture_init(&c);
	capture_text(&c, 1, traces);
	capture_text(&c, 2, RULES);
	snprintf(text, sizeof(text), "rules: %s\n", c.path[2]);
	capture_text(&c, 0, text);
	assert_int_equal(check(&c, 1, c.path[1]), TW_EXIT_DONE);
	assert_says(c.out, "\n3 traces:\n");
	capture_text(&c, 0, "workers: 1\n");
	assert_int_equal(check(&c, 1, c.path[1]), TW_EXIT_DONE);
	assert_says(c.out, "rules/default.yaml (embedded): 3 rules, 1 attribute keys: good\n");
	assert_says(c.out, "\n3 traces:\n");
	capture_deinit(&c);
}

/* ---- memory ---- */

static void every_allocation_fails(void **state)
{
	bool injected = true;
	uint64_t refused = 0;
	struct capture c;

	(void)state;
	capture_init(&c);
	capture_text(&c, 0, RULES);
	capture_text(&c, 1, traces);
	for (uint64_t n = 1; injected; n++) {
		int rc;

		tw_mem_fail_at(n, false);
		rc = check(&c, 1, c.path[1]);
		injected = tw_mem_fail_at(0, false) >= n;
		/* A file that was not read is said to be wrong; the rest is the machine's. */
		assert_true(rc == TW_EXIT_DONE || rc == TW_EXIT_MACHINE || rc == TW_EXIT_WRONG);
		if (rc == TW_EXIT_WRONG)
			assert_says(c.err, "memory");
		if (rc == TW_EXIT_DONE)
			assert_says(c.out, "\n3 traces:\n");
		refused += rc != TW_EXIT_DONE;
	}
	assert_true(refused > 10);
	capture_deinit(&c);
}

static void exit_codes(void **state)
{
	(void)state;
	assert_int_equal(tw_cli_exit_code(0), 0);
	assert_int_equal(tw_cli_exit_code(TW_EINVAL), 1);
	assert_int_equal(tw_cli_exit_code(TW_ELIMIT), 1);
	assert_int_equal(tw_cli_exit_code(TW_EIO), 3);
	assert_int_equal(tw_cli_exit_code(TW_ENOMEM), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(rule_files_are_known),
	    cmocka_unit_test(configurations_are_known),
	    cmocka_unit_test(a_path_of_rules_is_a_configuration),
	    cmocka_unit_test(mistakes_are_shown),
	    cmocka_unit_test(the_first_mistake_decides),
	    cmocka_unit_test(files_that_are_not_there),
	    cmocka_unit_test(traces_are_put_together),
	    cmocka_unit_test(more_traces_than_the_first_table),
	    cmocka_unit_test(a_bad_line_is_named),
	    cmocka_unit_test(on_with_a_configuration),
	    cmocka_unit_test(every_allocation_fails),
	    cmocka_unit_test(exit_codes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
