/* One request, encoded once; only ids, times, digits and status are written anew for each sending.
 *
 * A body is one ResourceSpans segment per visit; any subset of the segments is a valid
 * ExportTraceServiceRequest; in JSON likewise, in a list. What is compressed is put together and
 * compressed for each sending, as its ids are new. */
#ifndef TW_LOAD_BODY_H
#define TW_LOAD_BODY_H

#include <stddef.h>
#include <sys/uio.h>

#include "pack.h"
#include "workload.h"

#define TW_LOAD_SEGMENTS_MAX 16
#define TW_LOAD_PARTS_MAX    (TW_LOAD_SEGMENTS_MAX + 3) /* prefix, head and tail */
#define TW_LOAD_PREFIX       5u                         /* bytes of gRPC's */

struct tw_load_form {
	bool grpc, json;
	struct tw_load_packer *packer; /* borrowed; NULL: not compressed */
};

struct tw_load_layout {                        /* offsets in a span's bytes */
	uint32_t trace_id, span_id, parent_id; /* parent_id 0: a root */
	uint32_t randomness;                   /* of the tracestate; 0: none */
	uint32_t name_digits, start, end, route_digits, status_code, request_id;
	uint32_t status_from_end;
};

struct tw_load_segment {
	uint8_t *p;
	size_t n;
	uint32_t *at; /* of each span's bytes */
	uint32_t *len;
	uint32_t service_digits, tenant_digits;
};

struct tw_load_body {
	struct tw_load_segment segment[TW_LOAD_SEGMENTS_MAX]; /* by group; 0 has the root */
	struct tw_load_layout root, child;
	struct tw_load_form form;
	uint8_t prefix[TW_LOAD_PREFIX];
	size_t prefix_n;                       /* 0 for HTTP */
	struct iovec parts[TW_LOAD_PARTS_MAX]; /* what this sending is made of */
	uint32_t part_count;
	size_t bytes;            /* of all parts */
	size_t plain_bytes;      /* before compression, without the prefix */
	uint8_t *plain, *packed; /* of a body that is compressed */
	size_t packed_cap;
	uint32_t spans, error_spans;
};

struct tw_load_names {        /* digits, and the skew of services and tenants */
	uint32_t *digits;     /* "0000", "0001", … */
	double *family_below; /* cumulative shares */
	double *tenant_below;
	uint32_t families;
};

bool tw_load_names_init(struct tw_load_names *n, const struct tw_workload *w);
void tw_load_names_deinit(struct tw_load_names *n);

bool tw_load_body_init(struct tw_load_body *b, const struct tw_workload *w,
                       const struct tw_load_form *form);
void tw_load_body_deinit(struct tw_load_body *b);

void tw_load_body_begin(struct tw_load_body *b);
/* Adds group `group` of the block, whose traces began at base_ns (Unix). */
void tw_load_body_add(struct tw_load_body *b, const struct tw_workload *w,
                      const struct tw_load_names *names, uint64_t block, uint32_t group,
                      uint64_t base_ns);
void tw_load_body_end(struct tw_load_body *b);

/* The bytes from off on, at most len, as at most max vectors; returns how many. */
int tw_load_body_gather(const struct tw_load_body *b, size_t off, size_t len, struct iovec *out,
                        int max);

#endif
