/* The binary, called rightly and wrongly: exit codes 0, 1 and 2, and which stream speaks. */
#include <fcntl.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

extern char **environ;

struct said {
	int code;
	char out[8192], err[8192];
};

static void take(int fd, char *to, size_t cap)
{
	ssize_t n = pread(fd, to, cap - 1, 0);

	assert_true(n >= 0);
	to[n] = '\0';
	close(fd);
}

static int scratch(void)
{
	char path[] = "/tmp/traceweir-unit-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	assert_true(fd >= 0);
	unlink(path);
	return fd;
}

/* argv[0] is filled in. closed: the standard streams are closed instead. */
static void call(char **argv, bool closed, struct said *s)
{
	posix_spawn_file_actions_t actions;
	int out = scratch(), err = scratch(), status;
	pid_t pid;

	argv[0] = TW_BINARY;
	posix_spawn_file_actions_init(&actions);
	if (closed) {
		for (int fd = 0; fd < 3; fd++)
			posix_spawn_file_actions_addclose(&actions, fd);
	} else {
		posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
		posix_spawn_file_actions_adddup2(&actions, out, 1);
		posix_spawn_file_actions_adddup2(&actions, err, 2);
	}
	assert_int_equal(posix_spawn(&pid, TW_BINARY, &actions, NULL, argv, environ), 0);
	posix_spawn_file_actions_destroy(&actions);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	s->code = WEXITSTATUS(status);
	take(out, s->out, sizeof(s->out));
	take(err, s->err, sizeof(s->err));
}

static void assert_says(const char *text, const char *what)
{
	if (strstr(text, what) == NULL)
		fail_msg("not said: %s\nin: %s", what, text);
}

/* ---- called wrongly ---- */

static void wrong_calls(void **state)
{
	static const struct {
		char *argv[6]; /* [0] is the binary */
		const char *says;
	} rows[] = {
	    {{NULL}, "a command is missing"},
	    {{NULL, ""}, "unknown command"},
	    {{NULL, "frobnicate"}, "unknown command frobnicate"},
	    {{NULL, "Run"}, "unknown command Run"},
	    {{NULL, "--frobnicate"}, "unknown command --frobnicate"},
	    {{NULL, "check"}, "check what?"},
	    {{NULL, "check", "--set", "workers=1"}, "check what?"},
	    {{NULL, "check", "a.yaml", "--on"}, "a value is missing after --on"},
	    {{NULL, "check", "a.yaml", "--config", "b.yaml"}, "unexpected option --config"},
	    {{NULL, "run", "extra"}, "unexpected argument extra"},
	    {{NULL, "run", "-"}, "unexpected argument -"},
	    {{NULL, "run", "--config"}, "a value is missing after --config"},
	    {{NULL, "run", "--set"}, "a value is missing after --set"},
	    {{NULL, "run", "--frob"}, "unknown option --frob"},
	    {{NULL, "run", "-c", "x"}, "unknown option -c"},
	    {{NULL, "run", "--configuration", "x"}, "unknown option --configuration"},
	    {{NULL, "run", "--set", "workers=1", "--sets"}, "unknown option --sets"},
	    {{NULL, "run", "--on", "t.jsonl"}, "unexpected option --on"},
	    {{NULL, "demo", "extra"}, "unexpected argument extra"},
	    {{NULL, "demo", "--on=t.jsonl"}, "unexpected option --on"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *argv[7] = {NULL};
		struct said s;

		memcpy(argv, rows[i].argv, sizeof(rows[i].argv));
		call(argv, false, &s);
		assert_says(s.err, rows[i].says);
		assert_says(s.err, "usage:");
		assert_string_equal(s.out, "");
		assert_int_equal(s.code, 2);
	}
}

static void too_many_of_them(void **state)
{
	static char option[] = "--set=workers=1", file[] = "a.yaml";
	char *argv[70] = {NULL};
	struct said s;

	(void)state;
	argv[1] = "run";
	for (int i = 2; i < 67; i++)
		argv[i] = option;
	call(argv, false, &s);
	assert_says(s.err, "too many --set");
	assert_int_equal(s.code, 2);
	argv[1] = "check";
	for (int i = 2; i < 67; i++)
		argv[i] = file;
	call(argv, false, &s);
	assert_says(s.err, "too many files");
	assert_int_equal(s.code, 2);
}

/* ---- what it was given is wrong ---- */

static void wrong_input(void **state)
{
	static const struct {
		char *argv[6];
		const char *says;
	} rows[] = {
	    {{NULL, "check", "/nowhere/a.yaml"}, "/nowhere/a.yaml: error: No such file"},
	    {{NULL, "check", "/dev/null", "--set=workers=0"}, "workers"},
	    {{NULL, "check", "/dev/null", "--set", "wrokers=1"}, "wrokers"},
	    {{NULL, "run", "--config", "/nowhere/c.yaml"}, "/nowhere/c.yaml: error: No such file"},
	    {{NULL, "run", "--config=/nowhere/c.yaml"}, "/nowhere/c.yaml: error: No such file"},
	    {{NULL, "run", "--config="}, ": error: No such file"},
	    {{NULL, "run", "--set", "workers"}, "KEY.PATH=VALUE"},
	    {{NULL, "run", "--set=receive.otlp_grpc=nonsense"}, "receive.otlp_grpc"},
	    {{NULL, "run", "--set", "rules=/nowhere/r.yaml"}, "/nowhere/r.yaml"},
	    {{NULL, "demo", "--set", "nokey=1"}, "nokey"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *argv[7] = {NULL};
		struct said s;

		memcpy(argv, rows[i].argv, sizeof(rows[i].argv));
		call(argv, false, &s);
		assert_says(s.err, rows[i].says);
		assert_null(strstr(s.err, "usage:"));
		assert_int_equal(s.code, 1);
	}
}

/* ---- called rightly ---- */

static void help_and_version(void **state)
{
	static char *const words[] = {"--help", "-h", "help"};
	char *version[3] = {NULL, "--version", NULL};
	struct said s;
	unsigned a, b, c;
	char rest;

	(void)state;
	for (int i = 0; i < 3; i++) {
		char *argv[3] = {NULL, words[i], NULL};

		call(argv, false, &s);
		assert_int_equal(s.code, 0);
		assert_says(s.out, "usage:");
		assert_says(s.out, "exit codes:");
		assert_string_equal(s.err, "");
	}
	call(version, false, &s);
	assert_int_equal(s.code, 0);
	assert_int_equal(sscanf(s.out, "traceweir %u.%u.%u%c", &a, &b, &c, &rest), 4);
	assert_int_equal(rest, '\n');
	assert_string_equal(s.err, "");
}

static void an_option_either_way(void **state)
{
	char *spaced[6] = {NULL, "check", "--set", "workers=3", "/dev/null", NULL};
	char *joined[5] = {NULL, "check", "/dev/null", "--set=workers=3", NULL};
	char *standard[4] = {NULL, "check", "-", NULL}; /* standard input: nothing, all defaults */
	struct said s;

	(void)state;
	call(spaced, false, &s);
	assert_int_equal(s.code, 0);
	assert_says(s.out, "\nworkers: 3\n");
	call(joined, false, &s);
	assert_int_equal(s.code, 0);
	assert_says(s.out, "\nworkers: 3\n");
	call(standard, false, &s);
	assert_int_equal(s.code, 0);
	assert_says(s.out, "-: good; in force would be:\n");
}

/* As some supervisors start their children. */
static void without_standard_streams(void **state)
{
	char *good[4] = {NULL, "check", "/dev/null", NULL};
	char *bad[4] = {NULL, "check", "/nowhere", NULL};
	struct said s;

	(void)state;
	call(good, true, &s);
	assert_int_equal(s.code, 0);
	call(bad, true, &s);
	assert_int_equal(s.code, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(wrong_calls),          cmocka_unit_test(too_many_of_them),
	    cmocka_unit_test(wrong_input),          cmocka_unit_test(help_and_version),
	    cmocka_unit_test(an_option_either_way), cmocka_unit_test(without_standard_streams),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
