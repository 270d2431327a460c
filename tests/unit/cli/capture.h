/* What a call writes to the standard streams, and files for it to read. */
#ifndef TW_TESTS_CLI_CAPTURE_H
#define TW_TESTS_CLI_CAPTURE_H

#include <stdbool.h>
#include <stddef.h>

#define CAPTURE_FILES_MAX 4

struct capture {
	char dir[64];
	char path[CAPTURE_FILES_MAX][96]; /* 0 … 3 in dir */
	int saved[2];                     /* the process's own stdout and stderr */
	char out[16384], err[16384];      /* of the last call; NUL-terminated */
};

void capture_init(struct capture *c);
void capture_deinit(struct capture *c);
void capture_file(struct capture *c, int i, const void *p, size_t n);
void capture_text(struct capture *c, int i, const char *text);
void capture_begin(struct capture *c);
void capture_end(struct capture *c);

#endif
