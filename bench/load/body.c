#include "body_form.h"

#include <math.h>

#include "tw/base/error.h"
#include "tw/base/mem.h"

#define STEP_NS  100000u  /* a span begins this long after its parent, and ends as long before it */
#define SHORT_NS 5000000u /* the shortest trace; up to 67 ms longer */
#define SLOW_NS  UINT64_C(2500000000)

#define JSON_HEAD "{\"resourceSpans\":["
#define JSON_TAIL "]}"

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

static uint32_t find(const uint8_t *p, size_t n, const char *what)
{
	const uint8_t *hit = memmem(p, n, what, strlen(what));

	TW_ASSERT(hit != NULL);
	return (uint32_t)(hit - p);
}

static void encode(struct tw_load_body *b, const struct tw_workload *w, uint32_t group,
                   struct tw_load_shape *shapes, struct pb *out)
{
	struct tw_load_segment *seg = &b->segment[group];
	const uint32_t spans = w->request_spans / w->visits, each = w->trace_spans / w->visits;

	for (uint32_t i = 0; i < spans; i++) {
		shapes[i].root = group == 0 && i % each == 0;
		shapes[i].tracestate = w->tracestate != 0;
		shapes[i].kind = i % each == 0 ? 2 : 3;
		shapes[i].pad = TW_LOAD_PAD_MIN + (group * spans + i) * 37u % TW_LOAD_PAD_COUNT;
	}
	if (b->form.json)
		tw_load_json_segment(out, b, seg, shapes, spans);
	else
		tw_load_protobuf_segment(out, b, seg, shapes, spans);
	seg->service_digits = find(out->p, out->n, "service-0000") + 8;
	seg->tenant_digits = find(out->p, out->n, "tenant-0000") + 7;
}

static bool encode_segment(struct tw_load_body *b, const struct tw_workload *w, uint32_t group)
{
	struct tw_load_segment *seg = &b->segment[group];
	const uint32_t spans = w->request_spans / w->visits;
	struct tw_load_shape *shapes = tw_alloc(spans * sizeof(*shapes));
	struct pb out = {0};

	seg->at = tw_alloc(spans * sizeof(*seg->at));
	seg->len = tw_alloc(spans * sizeof(*seg->len));
	if (shapes != NULL && seg->at != NULL && seg->len != NULL) {
		encode(b, w, group, shapes, &out);
		seg->n = out.n;
		seg->p = tw_alloc(out.n);
	}
	if (seg->p != NULL)
		memcpy(seg->p, out.p, out.n);
	pb_free(&out);
	tw_free(shapes);
	return seg->p != NULL;
}

/* Room for the body in one piece, and for what it becomes. */
static bool prepare_packing(struct tw_load_body *b, const struct tw_workload *w)
{
	size_t n = sizeof(JSON_HEAD) + sizeof(JSON_TAIL);

	for (uint32_t g = 0; g < w->visits; g++)
		n += b->segment[g].n;
	b->plain = tw_alloc(n);
	b->packed_cap = tw_load_pack_bound(b->form.packer, n);
	b->packed = tw_alloc(b->packed_cap);
	return b->plain != NULL && b->packed != NULL;
}

bool tw_load_body_init(struct tw_load_body *b, const struct tw_workload *w,
                       const struct tw_load_form *form)
{
	memset(b, 0, sizeof(*b));
	b->form = *form;
	b->prefix_n = form->grpc ? TW_LOAD_PREFIX : 0;
	for (uint32_t g = 0; g < w->visits; g++)
		if (!encode_segment(b, w, g))
			return false;
	return form->packer == NULL || prepare_packing(b, w);
}

void tw_load_body_deinit(struct tw_load_body *b)
{
	for (uint32_t g = 0; g < TW_LOAD_SEGMENTS_MAX; g++) {
		tw_free(b->segment[g].p);
		tw_free(b->segment[g].at);
		tw_free(b->segment[g].len);
	}
	tw_free(b->plain);
	tw_free(b->packed);
}

/* ---- patching, for each sending ---- */

struct trace {
	struct tw_load_trace_id id;
	uint64_t first_span, hash, start_ns, duration_ns;
	bool error;
};

static struct tw_load_span span_of(const struct tw_workload *w, const struct tw_load_names *names,
                                   const struct trace *t, uint32_t index)
{
	struct tw_load_span s = {.trace = t->id, .number = t->first_span + index};
	uint64_t inside = 2 * (uint64_t)index * STEP_NS, least = 1000;
	uint32_t op = (uint32_t)(((t->hash + index * TW_LOAD_GOLDEN) >> 32) * w->operations >> 32);

	s.id = tw_load_span_id(w, s.number);
	s.parent = tw_load_span_id(w, s.number - 1); /* not written for a root */
	s.begin_ns = t->start_ns + (uint64_t)index * STEP_NS;
	s.end_ns = s.begin_ns + (t->duration_ns > inside + least ? t->duration_ns - inside : least);
	s.operation = names->digits[op];
	s.error = t->error && index == tw_load_error_index(w);
	return s;
}

static void add_part(struct tw_load_body *b, const void *p, size_t n)
{
	b->parts[b->part_count++] = (struct iovec){(void *)(uintptr_t)p, n};
	b->bytes += n;
}

void tw_load_body_begin(struct tw_load_body *b)
{
	b->part_count = 0;
	b->bytes = 0;
	b->spans = b->error_spans = 0;
	add_part(b, b->prefix, b->prefix_n);
	if (b->form.json)
		add_part(b, JSON_HEAD, sizeof(JSON_HEAD) - 1);
}

/* The span's place in its segment's text, written anew. */
static void patch(struct tw_load_body *b, const struct tw_load_segment *seg, uint32_t i, bool root,
                  const struct tw_load_names *names, const struct tw_load_span *s)
{
	const struct tw_load_layout *l = root ? &b->root : &b->child;

	if (b->form.json)
		tw_load_json_patch(seg->p + seg->at[i], seg->len[i], l, names, s);
	else
		tw_load_protobuf_patch(seg->p + seg->at[i], seg->len[i], l, s);
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
	const uint32_t comma = b->form.json && b->spans == 0; /* what separates it from another */

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
			struct tw_load_span s = span_of(w, names, &t, group * each + k);

			patch(b, seg, j * each + k, group == 0 && k == 0, names, &s);
		}
	}
	add_part(b, seg->p + comma, seg->n - comma);
	b->spans += traces * each;
}

/* All parts but the prefix become one. */
static void pack(struct tw_load_body *b)
{
	size_t n = 0;

	for (uint32_t i = 1; i < b->part_count; i++) {
		memcpy(b->plain + n, b->parts[i].iov_base, b->parts[i].iov_len);
		n += b->parts[i].iov_len;
	}
	n = tw_load_pack(b->form.packer, b->plain, n, b->packed, b->packed_cap);
	b->part_count = 1;
	b->bytes = b->prefix_n;
	add_part(b, b->packed, n);
}

void tw_load_body_end(struct tw_load_body *b)
{
	size_t n;

	if (b->form.json)
		add_part(b, JSON_TAIL, sizeof(JSON_TAIL) - 1);
	b->plain_bytes = b->bytes - b->prefix_n;
	if (b->form.packer != NULL)
		pack(b);
	n = b->bytes - b->prefix_n;
	b->prefix[0] = b->form.packer != NULL;
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
