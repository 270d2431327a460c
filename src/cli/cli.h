/* The commands. Private to cli. */
#ifndef TW_CLI_CLI_H
#define TW_CLI_CLI_H

#include "tw/base/buf.h"
#include "tw/config.h"

enum { /* exit codes; README lists them */
       TW_EXIT_DONE = 0,
       TW_EXIT_WRONG = 1,       /* what it was given is wrong */
       TW_EXIT_USAGE = 2,       /* it was called wrongly */
       TW_EXIT_MACHINE = 3,     /* port taken, no memory, disk */
       TW_EXIT_UNDELIVERED = 4, /* stopped with something not delivered */
};

#define TW_CLI_SETS_MAX 64u

struct tw_cli_args {
	const char *config; /* --config */
	const char *on;     /* --on */
	const char *sets[TW_CLI_SETS_MAX];
	uint32_t set_count;
	const char *files[64];
	uint32_t file_count;
};

/* Reads a whole file; "-" is standard input. False, and a message on stderr, when it cannot. */
bool tw_cli_read(const char *path, size_t bytes_max, struct tw_buf *out);
/* The process's environment for tw_config_load. */
struct tw_config_env tw_cli_env(void);
void tw_cli_print(const struct tw_buf *b); /* to stderr */
/* Loads --config and --set; NULL and *exit_code when something is wrong (and said). */
struct tw_config *tw_cli_config(const struct tw_cli_args *a, int *exit_code);
int tw_cli_exit_code(int err); /* tw_err → exit code */

int tw_cli_run(const struct tw_cli_args *a);
int tw_cli_check(const struct tw_cli_args *a);
int tw_cli_demo(const struct tw_cli_args *a);

/* Runs an engine until SIGTERM or SIGINT (run.c); demo calls it in pieces. */
struct tw_engine;
void tw_cli_block_signals(void);
int tw_cli_serve(struct tw_engine *e, const struct tw_config *c);

#endif
