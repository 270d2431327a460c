#include "body.h"

#include <math.h>
#include <string.h>

#include "pb_build.h"
#include "tw/base/error.h"
#include "tw/base/mem.h"

#define PAD_MIN   2u
#define PAD_COUNT 61u
#define STEP_NS   100000u /* a span begins this long after its parent, and ends as long before it */
#define SHORT_NS  5000000u /* the shortest trace; up to 67 ms longer */
#define SLOW_NS   UINT64_C(2500000000)

/* ---- digits and skew ---- */

static double *shares(uint32_t count, double zipf)
{
	double *below = tw_alloc(count * sizeof(*below)), sum = 0;

	if (below == NULL)
		return NULL;
	for (uint32_t i = 0; i < count; i++)
		below[i] = sum += pow(i + 1, -zipf);
	for (uint32_t i = 0; i < count; i++)
		below[i] /= sum;
	below[count - 1] = 1;
	return below;
}

static uint32_t pick(const double *below, uint32_t count, uint64_t hash)
{
	double x = (double)(hash >> 11) * 0x1p-53;
	uint32_t low = 0, high = count - 1;

	while (low < high) {
		uint32_t mid = (low + high) / 2;

		if (x < below[mid])
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

bool tw_load_names_init(struct tw_load_names *n, const struct tw_workload *w)
{
	n->families = w->services / w->visits;
	n->digits = tw_alloc(10000 * sizeof(*n->digits));
	n->family_below = shares(n->families, w->zipf);
	n->tenant_below = shares(w->tenants, w->zipf);
	if (!n->digits || !n->family_below || !n->tenant_below)
		return false;
	for (uint32_t i = 0; i < 10000; i++) {
		const char d[4] = {(char)('0' + i / 1000), (char)('0' + i / 100 % 10),
		                   (char)('0' + i / 10 % 10), (char)('0' + i % 10)};

		memcpy(&n->digits[i], d, 4);
	}
	return true;
}

void tw_load_names_deinit(struct tw_load_names *n)
{
	tw_free(n->digits);
	tw_free(n->family_below);
	tw_free(n->tenant_below);
}

/* ---- encoding, once ---- */

/* Into an empty s; the layout's offsets are of s. */
static void encode_span(struct pb *s, struct tw_load_layout *l, bool root, uint32_t kind,
                        uint32_t pad)
{
	static const uint8_t zero[16];
	char query[PAD_MIN + PAD_COUNT];

	memset(query, 'q', sizeof(query));
	query[pad] = '\0';
	pb_clear(s);
	l->trace_id = 2;
	pb_bytes(s, 1, zero, 16);
	l->span_id = (uint32_t)s->n + 2;
	pb_bytes(s, 2, zero, 8);
	l->parent_id = root ? 0 : (uint32_t)s->n + 2;
	if (!root)
		pb_bytes(s, 4, zero, 8);
	pb_str(s, 5, "GET /api/orders/op-0000");
	l->name_digits = (uint32_t)s->n - 4;
	pb_varint(s, 6, kind);
	l->start = (uint32_t)s->n + 1;
	pb_fixed64(s, 7, 0);
	l->end = (uint32_t)s->n + 1;
	pb_fixed64(s, 8, 0);
	pb_attr(s, 9, "http.request.method", "GET");
	pb_attr(s, 9, "http.route", "/api/orders/op-0000");
	l->route_digits = (uint32_t)s->n - 4;
	pb_attr_int(s, 9, "http.response.status_code", 200);
	l->status_code = (uint32_t)s->n - 2;
	pb_attr(s, 9, "server.address", "10.24.7.1");
	pb_attr(s, 9, "request.id", "0123456789abcdef");
	l->request_id = (uint32_t)s->n - 16;
	pb_attr(s, 9, "url.query", query);
	pb_begin(s, 15);
	pb_varint(s, 3, 1); /* patched; a default would not be written */
	pb_end(s);
	pb_fixed32(s, 16, 0x101);
	l->status_from_end = 7;
}

static void encode_head(struct pb *rs)
{
	pb_begin(rs, 1);
	pb_attr(rs, 1, "service.name", "service-0000");
	pb_attr(rs, 1, "tenant.id", "tenant-0000");
	pb_attr(rs, 1, "service.version", "1.4.2");
	pb_attr(rs, 1, "k8s.namespace.name", "shop");
	pb_attr(rs, 1, "telemetry.sdk.language", "go");
	pb_end(rs);
}

static void encode_scope(struct pb *ss)
{
	pb_begin(ss, 1);
	pb_str(ss, 1, "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp");
	pb_str(ss, 2, "0.49.0");
	pb_end(ss);
}

static uint32_t find(const uint8_t *p, size_t n, const char *what)
{
	const uint8_t *hit = memmem(p, n, what, strlen(what));

	TW_ASSERT(hit != NULL);
	return (uint32_t)(hit - p);
}

static bool encode_segment(struct tw_load_body *b, const struct tw_workload *w, uint32_t group)
{
	struct tw_load_segment *seg = &b->segment[group];
	const uint32_t spans = w->request_spans / w->visits, each = w->trace_spans / w->visits;
	struct pb span = {0}, ss = {0}, rs = {0}, out = {0};

	seg->at = tw_alloc(spans * sizeof(*seg->at));
	seg->len = tw_alloc(spans * sizeof(*seg->len));
	if (seg->at == NULL || seg->len == NULL)
		return false;
	encode_scope(&ss);
	for (uint32_t i = 0; i < spans; i++) {
		bool root = group == 0 && i % each == 0;

		encode_span(&span, root ? &b->root : &b->child, root, i % each == 0 ? 2 : 3,
		            PAD_MIN + (group * spans + i) * 37u % PAD_COUNT);
		pb_bytes(&ss, 2, span.p, span.n);
		seg->at[i] = (uint32_t)(ss.n - span.n);
		seg->len[i] = (uint32_t)span.n;
	}
	encode_head(&rs);
	pb_bytes(&rs, 2, ss.p, ss.n);
	pb_bytes(&out, 1, rs.p, rs.n);
	for (uint32_t i = 0; i < spans; i++)
		seg->at[i] += (uint32_t)(out.n - ss.n);
	seg->n = out.n;
	seg->p = tw_alloc(out.n);
	if (seg->p != NULL)
		memcpy(seg->p, out.p, out.n);
	seg->service_digits = find(out.p, out.n, "service-0000") + 8;
	seg->tenant_digits = find(out.p, out.n, "tenant-0000") + 7;
	pb_free(&span);
	pb_free(&ss);
	pb_free(&rs);
	pb_free(&out);
	return seg->p != NULL;
}

bool tw_load_body_init(struct tw_load_body *b, const struct tw_workload *w, bool grpc)
{
	memset(b, 0, sizeof(*b));
	b->prefix_n = grpc ? 5 : 0;
	for (uint32_t g = 0; g < w->visits; g++)
		if (!encode_segment(b, w, g))
			return false;
	return true;
}

void tw_load_body_deinit(struct tw_load_body *b)
{
	for (uint32_t g = 0; g < TW_LOAD_SEGMENTS_MAX; g++) {
		tw_free(b->segment[g].p);
		tw_free(b->segment[g].at);
		tw_free(b->segment[g].len);
	}
}

/* ---- patching, for each sending ---- */

static void put_be64(uint8_t *p, uint64_t v)
{
	v = __builtin_bswap64(v);
	memcpy(p, &v, 8);
}

static void put_hex(uint8_t *p, uint64_t v)
{
	/* Eight digits at once: nibbles into bytes, then + '0', and + 39 more where over 9. */
	for (int half = 0; half < 2; half++) {
		uint64_t x = half == 0 ? v >> 32 : v & UINT32_MAX, over;

		x = ((x << 16) | x) & UINT64_C(0x0000FFFF0000FFFF);
		x = ((x << 8) | x) & UINT64_C(0x00FF00FF00FF00FF);
		x = ((x << 4) | x) & UINT64_C(0x0F0F0F0F0F0F0F0F);
		over = ((x + UINT64_C(0x0606060606060606)) >> 4) & UINT64_C(0x0101010101010101);
		put_be64(p + 8 * half, x + UINT64_C(0x3030303030303030) + over * 39);
	}
}

struct trace {
	struct tw_load_trace_id id;
	uint64_t first_span, hash, start_ns, duration_ns;
	bool error;
};

static void patch_span(uint8_t *p, uint32_t n, const struct tw_load_layout *l,
                       const struct tw_workload *w, const struct tw_load_names *names,
                       const struct trace *t, uint32_t index)
{
	const uint8_t code[2][2] = {{0xC8, 0x01}, {0xF4, 0x03}}; /* 200 and 500 */
	uint64_t span = t->first_span + index, id = tw_load_span_id(w, span);
	uint64_t begin = t->start_ns + (uint64_t)index * STEP_NS;
	uint64_t inside = 2 * (uint64_t)index * STEP_NS, least = 1000;
	uint64_t end = begin + (t->duration_ns > inside + least ? t->duration_ns - inside : least);
	uint32_t op = (uint32_t)(((t->hash + index * TW_LOAD_GOLDEN) >> 32) * w->operations >> 32);
	bool error = t->error && index == tw_load_error_index(w);

	put_be64(p + l->trace_id, t->id.hi);
	put_be64(p + l->trace_id + 8, t->id.lo);
	put_be64(p + l->span_id, id);
	if (l->parent_id != 0)
		put_be64(p + l->parent_id, tw_load_span_id(w, span - 1));
	memcpy(p + l->name_digits, &names->digits[op], 4);
	memcpy(p + l->start, &begin, 8);
	memcpy(p + l->end, &end, 8);
	memcpy(p + l->route_digits, &names->digits[op], 4);
	memcpy(p + l->status_code, code[error], 2);
	put_hex(p + l->request_id, span);
	p[n - l->status_from_end] = error ? 2 : 0;
}

void tw_load_body_begin(struct tw_load_body *b)
{
	b->parts[0] = (struct iovec){b->prefix, b->prefix_n};
	b->part_count = 1;
	b->bytes = b->prefix_n;
	b->spans = b->error_spans = 0;
}

void tw_load_body_add(struct tw_load_body *b, const struct tw_workload *w,
                      const struct tw_load_names *names, uint64_t block, uint32_t group,
                      uint64_t base_ns)
{
	struct tw_load_segment *seg = &b->segment[group];
	const uint32_t traces = w->request_spans / w->trace_spans,
	               each = w->trace_spans / w->visits;
	const uint64_t skew = tw_load_mix(block + TW_LOAD_GOLDEN * w->seed);
	const uint32_t family = pick(names->family_below, names->families, skew);
	const uint32_t tenant = pick(names->tenant_below, w->tenants, tw_load_mix(skew));
	const uint32_t error_group = tw_load_error_index(w) / each;

	memcpy(seg->p + seg->service_digits, &names->digits[family * w->visits + group], 4);
	memcpy(seg->p + seg->tenant_digits, &names->digits[tenant], 4);
	for (uint32_t j = 0; j < traces; j++) {
		uint64_t n = w->first_trace + block * traces + j;
		struct trace t = {.id = tw_load_trace_id(w, n), .hash = tw_load_hash(w, n)};
		enum tw_load_kind kind = tw_load_kind(w, t.hash);

		t.first_span = n * w->trace_spans;
		t.error = kind == TW_LOAD_ERROR;
		t.duration_ns =
		    SHORT_NS + (t.hash & 0x3ffffff) + (kind == TW_LOAD_SLOW ? SLOW_NS : 0);
		t.start_ns = base_ns - t.duration_ns;
		b->error_spans += t.error && group == error_group;
		for (uint32_t k = 0; k < each; k++) {
			uint32_t i = j * each + k;

			patch_span(seg->p + seg->at[i], seg->len[i],
			           group == 0 && k == 0 ? &b->root : &b->child, w, names, &t,
			           group * each + k);
		}
	}
	b->parts[b->part_count++] = (struct iovec){seg->p, seg->n};
	b->bytes += seg->n;
	b->spans += traces * each;
}

void tw_load_body_end(struct tw_load_body *b)
{
	size_t n = b->bytes - b->prefix_n;

	b->prefix[0] = 0;
	for (int i = 0; i < 4; i++)
		b->prefix[1 + i] = (uint8_t)(n >> (24 - 8 * i));
}

int tw_load_body_gather(const struct tw_load_body *b, size_t off, size_t len, struct iovec *out,
                        int max)
{
	int count = 0;

	for (uint32_t i = 0; i < b->part_count && len > 0 && count < max; i++) {
		size_t n = b->parts[i].iov_len;

		if (off >= n) {
			off -= n;
			continue;
		}
		n = n - off < len ? n - off : len;
		out[count++] = (struct iovec){(uint8_t *)b->parts[i].iov_base + off, n};
		len -= n;
		off = 0;
	}
	return count;
}
