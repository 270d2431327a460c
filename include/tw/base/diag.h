/* Where a mistake is, and what to say about it. Positions are byte offsets into the file until they
 * are reported. */
#ifndef TW_BASE_DIAG_H
#define TW_BASE_DIAG_H

#include "tw/base/buf.h"

enum tw_severity { TW_DIAG_ERROR, TW_DIAG_WARNING };
struct tw_diag {
	enum tw_severity severity;
	uint32_t line, column; /* 1-based; column in characters */
	uint32_t width;        /* characters to underline, ≥ 1 */
	char text[240];
};
struct tw_diags {
	struct tw_diag item[32];
	uint32_t count, errors, left_out;
};
/* file:line:column: error: text, the source line, a caret. Appends to out. */
void tw_diags_render(const struct tw_diags *d, const char *file, struct tw_slice source,
                     struct tw_buf *out);

struct tw_source {
	struct tw_slice text; /* the whole file */
	struct tw_diags *diags;
};

/* Adds one diagnostic about the bytes at … at + width − 1; past 32 it only counts. */
void tw_diag_add(struct tw_source *s, enum tw_severity severity, size_t at, size_t width,
                 const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* True while another diagnostic would be kept: saves finding out where it is. */
bool tw_diag_room(const struct tw_source *s);

/* In the file's order. */
void tw_diags_sort(struct tw_diags *d);

/* The candidate nearest to word, or NULL when none is near enough to suggest. */
const char *tw_nearest(struct tw_slice word, const char *const *candidates, uint32_t count);

#endif
