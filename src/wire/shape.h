/* What the scanner has learnt of the spans of one name, kind and parenthood, with a trace state or
 * without one: its shapes.
 *
 * A shape is a trie of nodes: each is a run of fields that must be there byte for byte, or one
 * field of which only the value may differ; nodes that may stand in the same place are chained by
 * `alt`, and every path ends in a leaf, whose template is made when it is first needed. A cache has
 * one owner. Memory: bytes_max in all for shapes and nodes; what is not used goes first. Time:
 * learning is paid from a credit that spans earn, so a stream that never repeats itself costs a
 * bounded part more, and a shape that mostly misses is not asked for a while. */
#ifndef TW_WIRE_SHAPE_H
#define TW_WIRE_SHAPE_H

#include "scan.h"
#include "tw/model/operations.h"

#define SHAPE_SLOTS      16384u
#define SHAPE_SEEN       4096u
#define SCOPES_SEEN      256u
#define CROWD_WINDOW     8192u /* spans; where a quarter of so many displaces an operation, … */
#define CROWD_REST       (UINT64_C(160) << 20) /* … so many bytes are read without templates */
#define SHAPE_NODES_MAX  128u
#define SHAPE_ALTS_MAX   12u  /* nodes in one place */
#define SHAPE_DEPTH_MAX  64u  /* nodes of a path */
#define SHAPE_FIELDS_MAX 128u /* fields behind the prefix */
#define NODE_BYTES_MAX   192u /* of a run: SCAN_SLACK_BYTES covers it */
#define NODE_PAD         64u  /* a comparison reads so far behind */
#define CHAIN_MAX        8u   /* shapes in one slot */

enum node_kind {
	NODE_BYTES = TW_PART_BYTES,
	NODE_TEXT = TW_PART_TEXT,
	NODE_INT = TW_PART_INT,
	NODE_RAW = TW_PART_RAW,
	NODE_FIELD = TW_PART_FIELD,
	NODE_LEAF,
	NODE_STATE, /* of an image only: the trace state */
};

struct node {
	struct node *next;            /* behind it, where it is there; of a leaf nothing */
	struct node *alt;             /* else this one, in its place */
	struct node *all;             /* of the shape, to free them */
	struct tw_template *template; /* of a leaf; NULL: none */
	uint32_t version; /* of a leaf: the shape's when the template was made; 0: never */
	uint8_t kind;
	uint8_t raw; /* RAW: bytes that differ; its bytes[] are none */
	uint16_t n;  /* as in struct tw_part; bytes[] are the part's */
	uint8_t bytes[];
};

struct shape {
	struct shape *chain;
	uint64_t hash;
	struct node *root, *all;
	uint32_t version;
	uint32_t nodes;
	uint32_t hits, misses; /* halved now and then */
	uint32_t off;          /* so many more spans it is not asked */
	uint32_t bytes;        /* of it and its nodes */
	bool used;
	bool has_parent, has_state;
	uint8_t kind;
	uint8_t name_n;
	uint8_t name[];
};

/* How the spans of a template look: pieces that are compared under a mask, whatever parts they are
 * of, and between them values whose length is not always the same. Owned by the template; others
 * than the cache never see it. */
struct image_piece {
	uint16_t n;      /* bytes of the span */
	uint8_t steps;   /* of IMAGE_STEP bytes that are compared */
	uint8_t values;  /* in it, of a fixed length */
	uint8_t kind;    /* enum node_kind of the value behind it; NODE_LEAF: the span ends */
	uint8_t raw;     /* as in struct node, of that value; its bytes: */
	uint16_t key_n;  /* bytes of the image … */
	uint32_t key_at; /* … from here on */
};
struct tw_image {
	struct tw_template *template;
	uint64_t id;                          /* its */
	struct tw_image *next;                /* in its slot */
	uint32_t hits;                        /* since somebody looked */
	uint8_t common[TW_SPAN_COMMON_BYTES]; /* of its spans' views */
	uint16_t value_count;
	uint8_t start_at; /* of the eight bytes of start, if there were no trace state; end's are
	                     behind its tag */
	bool has_parent, has_state;
	bool shared; /* its spans share the template's rest */
	bool linked;
	uint32_t pieces_at, places_at; /* bytes from its begin */
	uint32_t slot;                 /* where it is, if it is linked */
	uint32_t elastic;              /* a bit for each value that stands between pieces */
	/* Of all pieces by 32: the span's bytes, then a mask of what has to be equal: all of a
	 * byte, or of a text that may differ, its high bit. Then the pieces, a struct tw_place for
	 * each value (its `at` from the piece's begin), keys. */
	_Alignas(64) uint8_t block[];
};
#define IMAGE_STEP 64u
#define IMAGES_MAX 8u /* in one slot */

static inline const struct image_piece *image_pieces(const struct tw_image *im)
{
	return (const struct image_piece *)(const void *)((const uint8_t *)im + im->pieces_at);
}
static inline const struct tw_place *image_places(const struct tw_image *im)
{
	return (const struct tw_place *)(const void *)((const uint8_t *)im + im->places_at);
}

_Static_assert(offsetof(struct tw_image, block) == 64, "what is read of each lies in one line");

/* Its spans share its rest. */
static inline bool template_is_shared(const struct tw_template *t)
{
	return t->fixed && !t->layout.has_state;
}

struct missed;
/* Takes spans as long as they look like most and fit into what can be read at once; those that have
 * no image go to scan_span. Returns where it stopped, perhaps at p; NULL: *error says why. */
typedef const uint8_t *scan_run_fn(struct scan *s, const uint8_t *p, const uint8_t *end,
                                   uint32_t scope, int *error);
/* One span along its shape's trie. true: recognised, *v is filled, and all of it is counted. false:
 * nothing happened; *missed tells what to learn. otlp_templated.c has both in two ways. */
typedef bool scan_known_fn(struct scan *s, struct tw_span *v, const uint8_t *p, const uint8_t *end,
                           struct missed *missed);
scan_run_fn scan_run, scan_run_avx2;
scan_known_fn scan_known, scan_known_avx2;

struct tw_templates {
	struct tw_hash_key key;
	size_t bytes, bytes_max;
	uint64_t spans, learns;     /* the credit */
	uint64_t window, displaced; /* spans, and operations' own, when the window began */
	uint64_t rest;              /* bytes that are read without */
	struct tw_operations *operations;
	scan_run_fn *run;
	scan_known_fn *known;
	uint32_t generation; /* of the keys */
	uint32_t hand;       /* of the clock that evicts */
	struct shape *shapes[SHAPE_SLOTS];
	struct tw_image *images[SHAPE_SLOTS];
	uint16_t seen[SHAPE_SEEN];
	/* What the hash of a scope's and its resource's heads was that began so. */
	struct scope_seen {
		uint64_t begun, hash;
	} scopes[SCOPES_SEEN];
	struct tw_template_stats stats;
};

/* The fields that come before the parts, as they lie in a span. */
struct prefix {
	uint64_t hash;                                 /* of the shape */
	const uint8_t *trace_id, *span_id, *parent_id; /* parent_id NULL: none */
	const uint8_t *state;                          /* the trace state; NULL: none */
	const uint8_t *name;
	const uint8_t *start, *end;
	const uint8_t *rest; /* behind it */
	uint32_t name_n, state_n;
	uint8_t kind;
};

struct missed {
	struct prefix x;
	struct shape *shape;
	bool learn;
};

/* shape.c */
struct shape *shape_add(struct tw_templates *t, const struct prefix *x);
static inline struct shape **shape_slot(struct tw_templates *t, uint64_t hash)
{
	return &t->shapes[hash % SHAPE_SLOTS];
}
static inline uint32_t image_slot(uint64_t hash)
{
	return (uint32_t)(hash % SHAPE_SLOTS);
}
struct node *node_new(struct tw_templates *t, struct shape *sh, uint8_t kind, const uint8_t *bytes,
                      uint32_t n);
void shapes_evict(struct tw_templates *t);
/* Hits of its images since somebody asked. */
uint32_t shape_hits(struct shape *sh);
/* None of its images is found any more. */
void shape_unlink(struct tw_templates *t, struct shape *sh);
/* The leaf gives its template up. */
void shape_drop(struct tw_templates *t, struct shape *sh, struct node *leaf);

void image_unlink(struct tw_templates *t, struct tw_image *im); /* NULL: nothing */

/* shape_image.c: the span of the template, which v views and whose values are at `place`, did not
 * look like the image: makes one that it does, too. */
void shape_image(struct tw_templates *t, struct shape *sh, struct tw_template *template,
                 const struct tw_span *v, const struct prefix *x, const struct tw_place *place);

/* The span at `span`, which the generic scanner has admitted, was not recognised: learns it.
 * shape: its own, or NULL. */
void shape_learn(struct tw_templates *t, const struct tw_keytab *keys, struct shape *shape,
                 const struct prefix *x, const uint8_t *end);

/* The template of a path without its leaf; NULL: it can have none, or no memory. */
struct tw_template *shape_template(struct tw_templates *t, const struct tw_keytab *keys,
                                   const struct shape *sh, struct node *const *path,
                                   uint32_t depth);

/* ---- a span's fields behind the prefix (fields.c) ---- */
enum field_class {
	FIELD_SAME,  /* has to be there byte for byte */
	FIELD_TEXT,  /* an attribute with a string, */
	FIELD_INT,   /* an integer, */
	FIELD_RAW,   /* or something of one length, that may differ */
	FIELD_CHILD, /* an event or a link: always differs */
};
struct field {
	const uint8_t *at; /* its tag */
	uint32_t n;        /* all of it */
	uint8_t class;
	uint8_t raw;           /* RAW: bytes of the value */
	int8_t slot;           /* of an attribute's key; −1: nobody reads it, or no attribute */
	const uint8_t *key;    /* TEXT, INT: from the key's tag … */
	uint32_t key_n;        /* … to the value's tag */
	const uint8_t *status; /* the payload of field 15, */
	uint32_t status_n;     /* NULL: it is another one */
};
/* The field at p; NULL: none that a template may have. */
const uint8_t *field_read(const struct tw_keytab *keys, const uint8_t *p, const uint8_t *end,
                          struct field *f);

#endif
