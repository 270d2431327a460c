#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"

static const char usage[] =
    "traceweir: tail-based sampling and RED metrics for OpenTelemetry traces\n"
    "\n"
    "usage:\n"
    "  traceweir run [--config FILE] [--set KEY.PATH=VALUE]...\n"
    "      receive, count, sample and forward until SIGTERM; SIGHUP reloads the rules\n"
    "  traceweir check FILE... [--on TRACES.jsonl]\n"
    "      check rule files and configurations; --on: say which rule takes each trace\n"
    "  traceweir demo\n"
    "      run, send a small shop's traffic through, report what was kept and why\n"
    "  traceweir --version | --help\n"
    "\n"
    "exit codes: 0 done, 1 input is wrong, 2 called wrongly, 3 the machine refused,\n"
    "            4 stopped with something not delivered\n";

static int wrong_usage(const char *what, const char *arg)
{
	fprintf(stderr, "traceweir: %s%s%s\n\n%s", what, arg != NULL ? " " : "",
	        arg != NULL ? arg : "", usage);
	return TW_EXIT_USAGE;
}

/* `--name VALUE` or `--name=VALUE`; *i moves past what was taken. 1: taken, 0: another option, −1:
 * no value. */
static int option(const char *name, int argc, char **argv, int *i, const char **value)
{
	size_t n = strlen(name);

	if (strncmp(argv[*i], name, n) != 0)
		return 0;
	if (argv[*i][n] == '=') {
		*value = argv[*i] + n + 1;
		return 1;
	}
	if (argv[*i][n] != '\0')
		return 0;
	if (*i + 1 >= argc)
		return -1;
	*value = argv[++*i];
	return 1;
}

static int parse(int argc, char **argv, struct tw_cli_args *a)
{
	for (int i = 2; i < argc; i++) {
		const char *v;
		int got;

		if ((got = option("--config", argc, argv, &i, &v)) > 0) {
			a->config = v;
		} else if (got == 0 && (got = option("--on", argc, argv, &i, &v)) > 0) {
			a->on = v;
		} else if (got == 0 && (got = option("--set", argc, argv, &i, &v)) > 0) {
			if (a->set_count == TW_CLI_SETS_MAX)
				return wrong_usage("too many --set", NULL);
			a->sets[a->set_count++] = v;
		} else if (got < 0) {
			return wrong_usage("a value is missing after", argv[i]);
		} else if (argv[i][0] == '-' && argv[i][1] != '\0') {
			return wrong_usage("unknown option", argv[i]);
		} else if (a->file_count == sizeof(a->files) / sizeof(a->files[0])) {
			return wrong_usage("too many files", NULL);
		} else {
			a->files[a->file_count++] = argv[i];
		}
	}
	return 0;
}

/* With a standard stream closed, the first socket would get its number: logs would go to a peer,
 * and libuv refuses to close it. */
static void hold_standard_streams(void)
{
	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			(void)open("/dev/null", O_RDWR); /* takes the lowest free number: fd */
}

int main(int argc, char **argv)
{
	struct tw_cli_args a = {.config = NULL};
	int rc;

	hold_standard_streams();
	if (argc < 2)
		return wrong_usage("a command is missing", NULL);
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	    strcmp(argv[1], "help") == 0) {
		fputs(usage, stdout);
		return TW_EXIT_DONE;
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("traceweir %s\n", TW_VERSION);
		return TW_EXIT_DONE;
	}
	rc = parse(argc, argv, &a);
	if (rc != 0)
		return rc;
	if (strcmp(argv[1], "check") == 0) {
		if (a.config != NULL)
			return wrong_usage("unexpected option", "--config");
		return a.file_count != 0 ? tw_cli_check(&a) : wrong_usage("check what?", NULL);
	}
	if (a.on != NULL)
		return wrong_usage("unexpected option", "--on");
	if (a.file_count != 0)
		return wrong_usage("unexpected argument", a.files[0]);
	if (strcmp(argv[1], "run") == 0)
		return tw_cli_run(&a);
	if (strcmp(argv[1], "demo") == 0)
		return tw_cli_demo(&a);
	return wrong_usage("unknown command", argv[1]);
}
