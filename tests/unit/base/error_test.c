#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tw/base/error.h"

static void set_returns_code_and_writes_sentence(void **state)
{
	struct tw_error e;

	(void)state;
	assert_int_equal(tw_error_set(&e, TW_ELIMIT, 17, "%d is more than %s", 9, "eight"),
	                 TW_ELIMIT);
	assert_int_equal(e.code, TW_ELIMIT);
	assert_int_equal(e.offset, 17);
	assert_string_equal(e.text, "9 is more than eight");
}

static void set_accepts_null(void **state)
{
	(void)state;
	assert_int_equal(tw_error_set(NULL, TW_EIO, 0, "x"), TW_EIO);
}

static void set_truncates_long_text(void **state)
{
	char text[1000];
	struct tw_error e;

	(void)state;
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	tw_error_set(&e, TW_EINVAL, 0, "%s", text);
	assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
}

static void every_code_has_its_own_name(void **state)
{
	(void)state;
	for (int a = TW_OK; a >= TW_ECLOSED; a--) {
		assert_string_not_equal(tw_err_name(a), "unknown");
		for (int b = a - 1; b >= TW_ECLOSED; b--)
			assert_string_not_equal(tw_err_name(a), tw_err_name(b));
	}
	assert_string_equal(tw_err_name(TW_EINVAL), "invalid");
	assert_string_equal(tw_err_name(TW_ECLOSED - 1), "unknown");
	assert_string_equal(tw_err_name(1), "unknown");
}

static void failed_assertion_says_where_and_aborts(void **state)
{
	char text[512];
	int status, ends[2];
	ssize_t n;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(ends), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct rlimit none = {0, 0};

		setrlimit(RLIMIT_CORE, &none);
		signal(SIGABRT, SIG_DFL);
		dup2(ends[1], STDERR_FILENO);
		tw_assert_failed("some.c", 42, "a == b");
	}
	close(ends[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	n = read(ends[0], text, sizeof(text) - 1);
	close(ends[0]);
	assert_true(n > 0);
	text[n] = '\0';
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	assert_non_null(strstr(text, "some.c:42"));
	assert_non_null(strstr(text, "a == b"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(set_returns_code_and_writes_sentence),
	    cmocka_unit_test(set_accepts_null),
	    cmocka_unit_test(set_truncates_long_text),
	    cmocka_unit_test(every_code_has_its_own_name),
	    cmocka_unit_test(failed_assertion_says_where_and_aborts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
