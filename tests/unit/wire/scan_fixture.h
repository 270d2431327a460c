/* A scanner with a key table, and spans to feed it. Include behind cmocka.h. */
#ifndef SCAN_FIXTURE_H
#define SCAN_FIXTURE_H

#include "pb_build.h"
#include "tw/base/limits.h"
#include "tw/wire.h"

enum { KEY_SERVICE, KEY_ROUTE, KEY_STATUS, KEY_DB, KEY_EMPTY };

struct fixture {
	struct tw_keytab *keys;
	struct tw_scan_opts o;
	struct tw_request r;
	struct tw_error err;
	struct pb b;
};

static inline void fixture_init(struct fixture *x)
{
	memset(x, 0, sizeof(*x));
	x->keys = tw_keytab_create();
	assert_non_null(x->keys);
	assert_int_equal(tw_keytab_add(x->keys, tw_slice_str("http.route")), KEY_ROUTE);
	assert_int_equal(tw_keytab_add(x->keys, tw_slice_str("http.response.status_code")),
	                 KEY_STATUS);
	assert_int_equal(tw_keytab_add(x->keys, tw_slice_str("db.system")), KEY_DB);
	assert_int_equal(tw_keytab_add(x->keys, tw_slice_str("")), KEY_EMPTY);
	assert_int_equal(tw_keytab_seal(x->keys), 0);
	x->o = (struct tw_scan_opts){
	    .key = {11, 22}, .keys = x->keys, .spans_max = TW_REQUEST_SPANS_MAX};
	tw_request_init(&x->r);
}

static inline void fixture_deinit(struct fixture *x)
{
	tw_request_deinit(&x->r);
	tw_keytab_destroy(&x->keys);
	pb_free(&x->b);
}

static inline int fixture_scan(struct fixture *x)
{
	tw_request_reset(&x->r);
	memset(&x->err, 0, sizeof(x->err));
	/* In memory of exactly its size, so that a sanitizer sees a read past it. */
	return tw_otlp_scan(&x->o, tw_slice(x->b.p, x->b.n), &x->r, &x->err);
}

static const uint8_t fixture_trace_id[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
static const uint8_t fixture_span_id[8] = {0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8};

static inline void put_ids(struct pb *b)
{
	pb_bytes(b, 1, fixture_trace_id, 16);
	pb_bytes(b, 2, fixture_span_id, 8);
}

static inline void open_scope(struct pb *b)
{
	pb_begin(b, 1);
	pb_begin(b, 1);
	pb_attr(b, 1, "service.name", "shop");
	pb_end(b);
	pb_begin(b, 2);
	pb_begin(b, 1);
	pb_str(b, 1, "lib");
	pb_str(b, 2, "1.0");
	pb_end(b);
}

static inline void close_scope(struct pb *b)
{
	pb_end(b);
	pb_end(b);
}

/* A span as an SDK writes it. */
static inline void put_span_full(struct pb *b)
{
	uint8_t parent[8] = {0, 0, 0, 0, 0, 0, 0, 9};

	pb_begin(b, 2);
	put_ids(b);
	pb_str(b, 3, "ot=th:8");
	pb_bytes(b, 4, parent, 8);
	pb_str(b, 5, "GET /cart");
	pb_varint(b, 6, TW_KIND_SERVER);
	pb_fixed64(b, 7, 1000);
	pb_fixed64(b, 8, 1500);
	pb_attr(b, 9, "http.request.method", "GET");
	pb_attr(b, 9, "http.route", "/cart");
	pb_attr_int(b, 9, "http.response.status_code", 500);
	pb_varint(b, 10, 3);
	pb_begin(b, 11);
	pb_fixed64(b, 1, 1200);
	pb_str(b, 2, "exception");
	pb_attr(b, 3, "exception.type", "IOError");
	pb_end(b);
	pb_begin(b, 13);
	put_ids(b);
	pb_end(b);
	pb_begin(b, 15);
	pb_str(b, 2, "boom");
	pb_varint(b, 3, TW_STATUS_ERROR);
	pb_end(b);
	pb_fixed32(b, 16, 0x103);
	pb_end(b);
}

#endif
