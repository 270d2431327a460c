#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tw/base/error.h"
#include "tw/base/log.h"
#include "tw/base/mem.h"

#define WRITERS 3
#define LINES   200

struct fixture {
	struct tw_clock_virtual time;
	struct tw_clock clock;
	int ends[2];
	char text[1 << 16];
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->time = (struct tw_clock_virtual){TW_NS_PER_S, UINT64_C(1700000000123456000)};
	f->clock = tw_clock_virtual(&f->time);
	*state = f;
	return pipe(f->ends);
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	close(f->ends[0]);
	close(f->ends[1]);
	free(f);
	return 0;
}

static void start(struct fixture *f, uint32_t lines_max)
{
	assert_int_equal(
	    tw_log_start_with(&(struct tw_log_options){
	        .fd = f->ends[1], .min = TW_LOG_INFO, .lines_max = lines_max, .clock = &f->clock}),
	    0);
}

/* Everything that was written, once the log has stopped. */
static const char *stop_and_read(struct fixture *f)
{
	size_t n = 0;
	ssize_t got;

	tw_log_stop();
	assert_int_equal(fcntl(f->ends[0], F_SETFL, O_NONBLOCK), 0);
	while (n < sizeof(f->text) - 1 &&
	       (got = read(f->ends[0], f->text + n, sizeof(f->text) - 1 - n)) > 0)
		n += (size_t)got;
	f->text[n] = '\0';
	return f->text;
}

static unsigned count(const char *text, const char *what)
{
	unsigned n = 0;

	for (; (text = strstr(text, what)); text++)
		n++;
	return n;
}

static void line_is_logfmt(void **state)
{
	struct fixture *f = *state;
	char quoted[64];

	start(f, 0);
	TW_LOG(TW_LOG_WARN, "backend said no", "to=%s code=%d", tw_log_quote(quoted, 64, "a b", 3),
	       14);
	TW_LOG(TW_LOG_DEBUG, "not at this level", "n=%d", 1);
	TW_LOG(TW_LOG_ERROR, "alone", "%s", "");
	assert_string_equal(stop_and_read(f),
	                    "ts=2023-11-14T22:13:20.123456Z level=warn msg=\"backend said no\" "
	                    "to=\"a b\" code=14\n"
	                    "ts=2023-11-14T22:13:20.123456Z level=error msg=alone \n");
}

static void unquoted_text_cannot_forge_a_line(void **state)
{
	struct fixture *f = *state;
	const char *text;

	start(f, 0);
	TW_LOG(TW_LOG_INFO, "peer", "name=%s", "x\nts=0 level=error msg=forged\x1b[2J");
	text = stop_and_read(f);
	assert_int_equal(count(text, "\n"), 1);
	assert_null(strchr(text, 0x1b));
}

static void long_line_is_cut_and_ended(void **state)
{
	struct fixture *f = *state;
	char big[5000];
	const char *text;

	memset(big, 'y', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	start(f, 0);
	TW_LOG(TW_LOG_INFO, "big", "v=%s", big);
	text = stop_and_read(f);
	assert_in_range(strlen(text), 1900, 2048);
	assert_int_equal(text[strlen(text) - 1], '\n');
}

static void log_from_one_site(int i)
{
	TW_LOG(TW_LOG_INFO, "storm", "i=%d", i);
}

static void site_is_limited_and_says_what_was_left_out(void **state)
{
	struct fixture *f = *state;
	const char *text;

	start(f, 0);
	for (int i = 0; i < 25; i++) /* at once: 0 to 9 pass */
		log_from_one_site(i);
	tw_clock_advance(&f->time, TW_NS_PER_S);
	for (int i = 100; i < 103; i++) /* a second later: one */
		log_from_one_site(i);
	tw_clock_advance(&f->time, 100 * TW_NS_PER_S);
	for (int i = 200; i < 220; i++) /* long after: ten again, no more */
		log_from_one_site(i);
	text = stop_and_read(f);
	assert_int_equal(count(text, "\n"), 21);
	assert_non_null(strstr(text, "i=9\n"));
	assert_null(strstr(text, "i=10\n"));
	assert_non_null(strstr(text, "i=100 left_out=15\n"));
	assert_null(strstr(text, "i=101\n"));
	assert_non_null(strstr(text, "i=200 left_out=2\n"));
	assert_non_null(strstr(text, "i=209\n"));
	assert_null(strstr(text, "i=210\n"));
}

/* Nobody reads the pipe, and it is filled to the brim: the callers go on, the stop comes back. */
static void blocked_reader_blocks_nobody(void **state)
{
	struct fixture *f = *state;
	char junk[4096] = {0};

	assert_int_equal(fcntl(f->ends[1], F_SETFL, O_NONBLOCK), 0);
	while (write(f->ends[1], junk, sizeof(junk)) > 0)
		;
	assert_int_equal(fcntl(f->ends[1], F_SETFL, 0), 0);
	start(f, 4);
	for (int i = 0; i < 100; i++)
		tw_log_at(&(struct tw_log_site){0}, TW_LOG_INFO, "x", "i=%d", i);
	assert_in_range(tw_log_dropped(), 96,
	                97); /* 3 in the ring, and one may be in the thread's hand */
	tw_log_stop();
	assert_int_equal(tw_log_dropped(), 100);
	assert_int_equal(fcntl(f->ends[1], F_GETFL) & O_NONBLOCK, 0); /* it left the flags alone */
}

static void closed_reader_is_no_signal(void **state)
{
	struct fixture *f = *state;

	close(f->ends[0]);
	start(f, 0);
	log_from_one_site(1);
	tw_log_stop();
	f->ends[0] = dup(f->ends[1]);
}

static void refused_memory_drops_and_counts(void **state)
{
	struct fixture *f = *state;

	start(f, 0);
	tw_mem_fail_at(1, true);
	tw_log_at(&(struct tw_log_site){0}, TW_LOG_INFO, "gone", "%s", "");
	tw_mem_fail_at(0, false);
	assert_int_equal(tw_log_dropped(), 1);
	tw_log_at(&(struct tw_log_site){0}, TW_LOG_INFO, "here", "%s", "");
	assert_non_null(strstr(stop_and_read(f), "msg=\"log lines dropped\" lines=1\n"));
	assert_null(strstr(f->text, "gone"));
}

static void outside_start_and_stop_lines_are_ignored(void **state)
{
	struct fixture *f = *state;

	log_from_one_site(1);
	start(f, 0);
	assert_int_equal(tw_log_start(2, TW_LOG_INFO), TW_EINVAL);
	tw_log_stop();
	tw_log_stop();
	log_from_one_site(2);
	start(f, 0);
	assert_string_equal(stop_and_read(f), "");
}

static void *write_lines(void *arg)
{
	for (int i = 0; i < LINES; i++)
		tw_log_at(&(struct tw_log_site){0}, TW_LOG_INFO, "line", "who=%d i=%d",
		          *(const int *)arg, i);
	return NULL;
}

static void many_threads_one_log(void **state)
{
	struct fixture *f = *state;
	pthread_t threads[WRITERS];
	int ids[WRITERS];
	const char *text;

	assert_true(fcntl(f->ends[1], F_SETPIPE_SZ, 1 << 17) > 0);
	start(f, 1024);
	for (int i = 0; i < WRITERS; i++) {
		ids[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, write_lines, &ids[i]), 0);
	}
	for (int i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	text = stop_and_read(f);
	assert_int_equal(tw_log_dropped(), 0);
	assert_int_equal(count(text, "\n"), WRITERS * LINES);
	assert_int_equal(count(text, " level=info msg=line who="), WRITERS * LINES);
}

/* ---- quoting ---- */

static void quote_rows(void **state)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
	    {"plain", "plain"},
	    {"a/b:c", "a/b:c"},
	    {"", "\"\""},
	    {"a b", "\"a b\""},
	    {"a=b", "\"a=b\""},
	    {"say \"x\"", "\"say \\\"x\\\"\""},
	    {"back\\slash", "\"back\\\\slash\""},
	    {"1\n2\r3\t4", "\"1\\n2\\r3\\t4\""},
	    {"\x01\x7f", "\"\\u0001\\u007f\""},
	    {"gr\xC3\xBC\xC3\x9F", "\"gr\xC3\xBC\xC3\x9F\""},
	    {"\xC2\x9B[2J", "\"\\u009b[2J\""}, /* CSI as a C1 control */
	    {"\xF0\x9F\x98\x80", "\"\xF0\x9F\x98\x80\""},
	    {"\xFF", "\"\\ufffd\""},
	    {"\xC0\xAF", "\"\\ufffd\\ufffd\""},            /* overlong */
	    {"\xED\xA0\x80", "\"\\ufffd\\ufffd\\ufffd\""}, /* a surrogate */
	    {"\xE2\x82", "\"\\ufffd\\ufffd\""},            /* cut short */
	};
	char buf[64];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_string_equal(
		    tw_log_quote(buf, sizeof(buf), rows[i].in, (unsigned)strlen(rows[i].in)),
		    rows[i].out);
	assert_string_equal(tw_log_quote(buf, sizeof(buf), NULL, 0), "\"\"");
	assert_string_equal(tw_log_quote(buf, sizeof(buf), "a\0b", 3), "\"a\\u0000b\"");
}

/* At every size: within bounds (the sanitizer watches an exact allocation), ended, quotes closed.
 */
static void quote_cuts_at_every_size(void **state)
{
	static const char in[] = "ab\n\x01\xC3\xBC\xFF tail";
	static const char whole[] = "\"ab\\n\\u0001\xC3\xBC\\ufffd tail\"";

	(void)state;
	for (unsigned cap = 0; cap < 60; cap++) {
		char *buf = malloc(cap + !cap);
		const char *out = tw_log_quote(buf, cap, in, sizeof(in) - 1);
		size_t n = cap ? strlen(out) : 0;

		if (cap > strlen(whole)) {
			assert_string_equal(out, whole);
		} else if (cap >= 8) {
			assert_in_range(n, 5, cap - 1);
			assert_memory_equal(out, whole, n - 4);
			assert_string_equal(out + n - 4, "...\"");
		} else {
			assert_int_equal(n, 0);
		}
		free(buf);
	}
}

#define LOG_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    LOG_TEST(line_is_logfmt),
	    LOG_TEST(unquoted_text_cannot_forge_a_line),
	    LOG_TEST(long_line_is_cut_and_ended),
	    LOG_TEST(site_is_limited_and_says_what_was_left_out),
	    LOG_TEST(blocked_reader_blocks_nobody),
	    LOG_TEST(closed_reader_is_no_signal),
	    LOG_TEST(refused_memory_drops_and_counts),
	    LOG_TEST(outside_start_and_stop_lines_are_ignored),
	    LOG_TEST(many_threads_one_log),
	    cmocka_unit_test(quote_rows),
	    cmocka_unit_test(quote_cuts_at_every_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
