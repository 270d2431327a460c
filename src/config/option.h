/* The options as tables: one row gives the key, the field, the check and the default. Private to
 * config. */
#ifndef TW_CONFIG_OPTION_H
#define TW_CONFIG_OPTION_H

#include "tw/base/arena.h"
#include "tw/base/yaml.h"
#include "tw/config.h"

enum tw_option_type {
	TW_OPT_STRING,   /* char *; tw_alloc'ed */
	TW_OPT_ADDRESS,  /* char *; "off" → NULL */
	TW_OPT_BYTES,    /* uint64_t; "auto" → TW_AUTO */
	TW_OPT_DURATION, /* uint64_t, ns; "forever" → TW_NEVER where max allows */
	TW_OPT_COUNT,    /* uint32_t; "auto" → 0 where min is 0 */
	TW_OPT_BOOL,     /* bool */
	TW_OPT_CODING,   /* enum tw_coding */
	TW_OPT_FULL,     /* enum tw_when_full */
	TW_OPT_NAMES,    /* enum tw_metric_names */
	TW_OPT_LEVEL,    /* char *: debug info warn error */
	TW_OPT_SECTION,  /* a map: rows of its own */
	TW_OPT_CUSTOM,   /* read by a function */
};

#define TW_AUTO UINT64_MAX

struct tw_loader;

struct tw_option {
	const char *key;
	enum tw_option_type type;
	size_t offset;                /* of the field, from the section's base */
	uint64_t min, max;            /* of BYTES, DURATION, COUNT */
	const struct tw_option *rows; /* SECTION */
	uint32_t row_count;
	bool (*read)(struct tw_loader *l, const struct tw_node *n, void *base); /* CUSTOM */
};

extern const struct tw_option tw_config_rows[];
extern const uint32_t tw_config_row_count;
extern const struct tw_option tw_dest_rows[];
extern const uint32_t tw_dest_row_count;

#define TW_SETS_MAX 64u

struct tw_graft { /* a --set: a subtree with a source of its own */
	const struct tw_node *node;
	struct tw_source source;
	struct tw_diags diags;
	char name[64];
};

struct tw_loader {
	struct tw_source source; /* the file's */
	struct tw_diags diags;
	struct tw_source *at; /* whose node is being read */
	struct tw_arena arena;
	const struct tw_config_env *env;
	struct tw_graft *grafts; /* [TW_SETS_MAX] */
	uint32_t graft_count;
	struct tw_config *config;
	bool no_memory;
	uint32_t expansions;
};

/* Reads the map n into base by the rows; false: something was wrong (and said). */
bool tw_option_read(struct tw_loader *l, const struct tw_node *n, const struct tw_option *rows,
                    uint32_t count, void *base);
/* A scalar's text with ${env:…} replaced, in the arena; p == NULL: wrong (and said). */
struct tw_slice tw_option_text(struct tw_loader *l, const struct tw_node *n);
/* Says that n is wrong. Returns false. */
bool tw_option_wrong(struct tw_loader *l, const struct tw_node *n, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
char *tw_option_dup(struct tw_loader *l, struct tw_slice s);

/* Readers of custom rows (lists.c). */
bool tw_read_forward(struct tw_loader *l, const struct tw_node *n, void *base);
bool tw_read_headers(struct tw_loader *l, const struct tw_node *n, void *base);
bool tw_read_target(struct tw_loader *l, const struct tw_node *n, void *base);
bool tw_read_dimensions(struct tw_loader *l, const struct tw_node *n, void *base);
bool tw_read_buckets(struct tw_loader *l, const struct tw_node *n, void *base);
bool tw_read_tls(struct tw_loader *l, const struct tw_node *n, void *base);

/* resolve.c: defaults first, "auto" and relations last. */
bool tw_config_defaults(struct tw_loader *l);
bool tw_config_resolve(struct tw_loader *l);
bool tw_dest_defaults(struct tw_loader *l, struct tw_dest_opts *d);

#endif
