/* YAML as a tree whose nodes know where they stand in the file.
 *
 * Only what rule files and configurations need: one document, maps, sequences and scalars. Anchors,
 * aliases, tags, a second document, more than TW_YAML_DEPTH_MAX levels and more than
 * TW_YAML_BYTES_MAX bytes are errors. */
#ifndef TW_BASE_YAML_H
#define TW_BASE_YAML_H

#include "tw/base/arena.h"
#include "tw/base/diag.h"
#include "tw/base/error.h"

#define TW_YAML_BYTES_MAX (1u << 20)
#define TW_YAML_DEPTH_MAX 32u

enum tw_node_kind { TW_NODE_SCALAR, TW_NODE_MAP, TW_NODE_SEQ };
enum tw_node_style { TW_STYLE_PLAIN, TW_STYLE_SINGLE, TW_STYLE_DOUBLE, TW_STYLE_BLOCK };

struct tw_node {
	enum tw_node_kind kind;
	enum tw_node_style style; /* of a scalar */
	uint32_t begin, end;      /* bytes of the file */
	struct tw_slice value;    /* of a scalar, after YAML's escapes and folding */
	struct tw_node *key;      /* in a map: this node is the value of that key */
	struct tw_node *first, *last, *next;
};

/* The document's root in *out (NULL: nothing but comments), allocated in `arena`. 0, TW_EINVAL with
 * a diagnostic, or TW_ENOMEM. */
int tw_yaml_parse(struct tw_source *s, struct tw_arena *arena, struct tw_node **out);

/* The byte of the file behind byte `at` of a scalar's value. */
size_t tw_yaml_byte(const struct tw_source *s, const struct tw_node *scalar, size_t at);

/* A diagnostic about bytes at … at + width − 1 of a scalar's value. */
void tw_diag_scalar(struct tw_source *s, enum tw_severity severity, const struct tw_node *scalar,
                    size_t at, size_t width, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));

#endif
