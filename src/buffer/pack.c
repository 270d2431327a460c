#include "pack.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "tw/base/error.h"
#include "tw/model/pb.h"

#define CODE_HEX    0x80u
#define CODE_SHARED 0xc0u
#define CODE_LONG   0xffu
#define SHORT_MAX   0x7fu
#define HEX_MAX     0x3fu /* bytes */
#define SHARED_MIN  5u    /* a shorter text is not worth a reference of three bytes */
#define SHARED_MAX  1024u
#define USE_WINDOW  128u  /* of so many look-ups of a value a quarter must find it, … */
#define USE_SKIP    8192u /* … or so many spans are packed without */

/* ---- numbers ---- */

static uint64_t zigzag(uint64_t v)
{
	return v << 1 ^ (uint64_t)((int64_t)v >> 63);
}

static uint64_t unzigzag(uint64_t v)
{
	return v >> 1 ^ -(v & 1);
}

static uint32_t bytes_of(uint64_t v)
{
	return (71u - (uint32_t)__builtin_clzll(v | 1)) / 8;
}

/* Writes eight bytes of which n count. */
static uint8_t *put_number(uint8_t *p, uint64_t v, uint32_t n)
{
	memcpy(p, &v, 8);
	return p + n;
}

static const uint8_t *get_number(const uint8_t *p, uint64_t *v, uint32_t n)
{
	*v = 0;
	memcpy(v, p, n);
	return p + n;
}

/* ---- hex ---- */

/* Eight lower-case digits as four bytes; false: they are not. */
static inline bool hex8(const uint8_t *p, uint8_t *out)
{
	const uint64_t ones = UINT64_C(0x0101010101010101), high = ones << 7;
	uint64_t x, letter, bad, v;

	memcpy(&x, p, 8);
	/* No byte is above 0x7f, or sums would carry into the next. */
	if (x & high)
		return false;
	letter = (x + ones * (0x80 - 'a')) & high;           /* ≥ 'a' */
	bad = (x + ones * (0x7f - 'f')) & high;              /* > 'f' */
	bad |= ((x + ones * (0x7f - '9')) & high) & ~letter; /* between '9' and 'a' */
	bad |= ~(x + ones * (0x80 - '0')) & high;            /* < '0' */
	if (bad)
		return false;
	v = (x & ones * 0xf) + (letter >> 7) * 9;
	v = (v << 4 | v >> 8) & UINT64_C(0x00ff00ff00ff00ff); /* pairs */
	v = (v | v >> 8) & UINT64_C(0x0000ffff0000ffff);
	v |= v >> 16;
	memcpy(out, &v, 4);
	return true;
}

static inline int hex_digit(uint8_t c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Sixteen as eight bytes. */
#ifdef __SSE2__
static inline bool hex16(const uint8_t *p, uint8_t *out)
{
	__m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
	__m128i digit = _mm_sub_epi8(x, _mm_set1_epi8('0'));
	__m128i letter = _mm_sub_epi8(x, _mm_set1_epi8('a'));
	__m128i is_digit = _mm_cmpeq_epi8(_mm_min_epu8(digit, _mm_set1_epi8(9)), digit);
	__m128i is_letter = _mm_cmpeq_epi8(_mm_min_epu8(letter, _mm_set1_epi8(5)), letter);
	__m128i v;

	if (_mm_movemask_epi8(_mm_or_si128(is_digit, is_letter)) != 0xffff)
		return false;
	letter = _mm_and_si128(_mm_add_epi8(letter, _mm_set1_epi8(10)), is_letter);
	v = _mm_or_si128(_mm_and_si128(digit, is_digit), letter);
	/* Of each pair the first digit is the higher one. */
	v = _mm_or_si128(_mm_slli_epi16(v, 4), _mm_srli_epi16(v, 8));
	v = _mm_and_si128(v, _mm_set1_epi16(0xff));
	_mm_storel_epi64((__m128i *)(void *)out, _mm_packus_epi16(v, v));
	return true;
}
#else
static inline bool hex16(const uint8_t *p, uint8_t *out)
{
	return hex8(p, out) && hex8(p + 8, out + 4);
}
#endif

/* Packs n digits into n / 2 bytes; false: it is something else. */
static inline bool hex_pack(const uint8_t *p, uint32_t n, uint8_t *out)
{
	for (; n >= 16; n -= 16, p += 16, out += 8)
		if (!hex16(p, out))
			return false;
	for (; n >= 8; n -= 8, p += 8, out += 4)
		if (!hex8(p, out))
			return false;
	for (; n >= 2; n -= 2, p += 2) {
		int a = hex_digit(p[0]), b = hex_digit(p[1]);

		if (a < 0 || b < 0)
			return false;
		*out++ = (uint8_t)(a << 4 | b);
	}
	return n == 0;
}

static uint8_t *hex_unpack(const uint8_t *p, uint32_t n, uint8_t *out)
{
	static const char digits[] = "0123456789abcdef";

	for (uint32_t i = 0; i < n; i++) {
		*out++ = (uint8_t)digits[p[i] >> 4];
		*out++ = (uint8_t)digits[p[i] & 15];
	}
	return out;
}

/* ---- texts ---- */

static inline uint8_t *put_size(uint8_t *to, uint32_t n)
{
	if (TW_LIKELY(n <= SHORT_MAX)) {
		*to++ = (uint8_t)n;
	} else {
		*to++ = CODE_LONG;
		*to++ = (uint8_t)n;
		*to++ = (uint8_t)(n >> 8);
	}
	return to;
}

/* Sixteen bytes at a time: behind a span with a template the body goes on, and so does the segment.
 */
static inline uint8_t *put_raw(uint8_t *to, const uint8_t *p, uint32_t n)
{
	to = put_size(to, n);
	for (uint32_t i = 0; i < n; i += 16)
		memcpy(to + i, p + i, 16);
	return to + n;
}

static uint8_t *put_exact(uint8_t *to, const uint8_t *p, uint32_t n)
{
	to = put_size(to, n);
	memcpy(to, p, n);
	return to + n;
}

static inline uint8_t *put_text(uint8_t *to, const uint8_t *p, uint32_t n)
{
	if (TW_LIKELY(n == 16)) { /* a span's id, half a trace's */
		if (TW_UNLIKELY(!hex16(p, to + 1)))
			return put_raw(to, p, n);
		*to = CODE_HEX | 8;
		return to + 9;
	}
	if (n % 2 == 0 && n >= 4 && n <= 2 * HEX_MAX && hex_pack(p, n, to + 1)) {
		*to = (uint8_t)(CODE_HEX | n / 2);
		return to + 1 + n / 2;
	}
	return put_raw(to, p, n);
}

static uint8_t *put_shared(uint8_t *to, uint32_t off)
{
	uint32_t v = off >> 2;

	to[0] = (uint8_t)(CODE_SHARED | v >> 16);
	to[1] = (uint8_t)v;
	to[2] = (uint8_t)(v >> 8);
	return to + 3;
}

/* A text by its code: returns the position behind it. Of a hex one *text is the packed bytes, two
 * digits each. */
enum text_form { TEXT_RAW, TEXT_HEX, TEXT_SHARED };

static const uint8_t *get_text(const uint8_t *segment, const uint8_t *p, struct tw_slice *text,
                               enum text_form *form)
{
	uint32_t c = *p++;

	*form = TEXT_RAW;
	if (c == CODE_LONG) {
		c = p[0] | (uint32_t)p[1] << 8;
		p += 2;
	} else if (c >= CODE_SHARED) {
		uint32_t off = ((c & 3) << 16 | p[0] | (uint32_t)p[1] << 8) << 2;

		*form = TEXT_SHARED;
		*text = tw_text_at(segment, off);
		return p + 2;
	} else if (c >= CODE_HEX) {
		*form = TEXT_HEX;
		c -= CODE_HEX;
	}
	*text = tw_slice(p, c);
	return p + c;
}

/* As it came. */
static inline uint32_t text_bytes(struct tw_slice text, enum text_form form)
{
	return (uint32_t)text.n * (form == TEXT_HEX ? 2 : 1);
}

static inline uint64_t word_at(const uint8_t *p, uint32_t at)
{
	uint64_t v;

	memcpy(&v, p + at, 8);
	return v;
}

static inline uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Of texts of up to TW_TEXT_HASHED bytes every byte counts; longer ones that have the same length
 * and ends share a place. n ≥ SHARED_MIN. */
static inline uint64_t text_hash(const struct tw_log *l, struct tw_slice text)
{
	const uint8_t *p = text.p;
	uint64_t k0 = l->key.k0, k1 = l->key.k1, a, b, c, d, e;
	uint32_t n = (uint32_t)text.n;

	if (n < 8) {
		uint32_t x, y;

		memcpy(&x, p, 4);
		memcpy(&y, p + n - 4, 4);
		a = x;
		b = c = d = e = y;
	} else {
		/* Three words from the begin and two from the end, one on another where it is
		 * short. */
		a = word_at(p, 0);
		b = word_at(p, least(8, n - 8));
		c = word_at(p, least(16, n - 8));
		d = word_at(p, n - least(16, n));
		e = word_at(p, n - 8);
	}
	/* Products of what nobody outside knows, so that nothing cancels out whatever a sender
	 * makes of them. */
	return tw_fold(tw_fold(a ^ k0, b ^ k1) ^ c,
	               tw_fold(d ^ k1, e ^ k0) ^ n * UINT64_C(0x9E3779B97F4A7C15));
}
_Static_assert(TW_TEXT_HASHED == 40, "five words");

static __attribute__((noinline)) void not_shared(struct tw_log *l, struct tw_text_use *use,
                                                 uint64_t trace, struct tw_slice text,
                                                 uint64_t hash)
{
	uint64_t *seen = &l->seen[hash % TW_LOG_TEXTS];

	if (*seen >> 32 != hash >> 32) {
		*seen = (hash >> 32 << 32) | (uint32_t)trace;
	} else if ((uint32_t)*seen != (uint32_t)trace && l->text_count < TW_TEMPLATE_VALUES_MAX) {
		use->found++;
		l->text[l->text_count++] = (struct tw_log_text){text, hash};
	}
}

/* Is the text in the segment? Values that prove to differ nearly always are not looked up, and only
 * what a second trace has shown gets a place there. use: of the value; templates whose hashes are
 * near to one another share counts. */
static inline uint32_t find_shared(struct tw_log *l, struct tw_text_use *use, uint64_t trace,
                                   struct tw_slice text)
{
	uint64_t hash;
	uint32_t off;

	if (use->skip > 0) {
		use->skip--;
		return 0;
	}
	if (TW_UNLIKELY(++use->asked == USE_WINDOW)) {
		use->skip = use->found < USE_WINDOW / 4 ? USE_SKIP : 0;
		use->asked = use->found = 0;
	}
	hash = text_hash(l, text);
	off = tw_log_find_text(l, text, hash);
	if (TW_LIKELY(off != 0)) {
		use->found++;
		return off;
	}
	not_shared(l, use, trace, text, hash);
	return 0;
}

/* ---- packing ---- */

static inline uint8_t *put_fixed(uint8_t *p, struct tw_segment_header *h, uint64_t span_id,
                                 bool has_parent, uint64_t parent_id, uint64_t start_ns,
                                 uint64_t duration_ns)
{
	uint32_t start_n, duration_n = bytes_of(duration_ns);
	uint64_t start;

	/* The first one packed sets the base, also one that began in 1970. */
	if (TW_UNLIKELY(h->base_ns == 0))
		h->base_ns = start_ns | 1;
	start = zigzag(start_ns - h->base_ns);
	start_n = bytes_of(start);
	p = put_number(p, span_id, 8);
	p = put_number(p, parent_id, has_parent * 8u); /* as random as spans are: no branch */
	*p++ = (uint8_t)(start_n | duration_n << 4);
	p = put_number(p, start, start_n);
	return put_number(p, duration_ns, duration_n);
}

/* Ends an entry that begins at e and whose bytes end at p. */
static uint32_t finish(struct tw_packed *e, uint8_t *p, uint32_t operation)
{
	uint32_t size = (uint32_t)tw_align4((uint64_t)(p - (uint8_t *)e));

	e->form = operation >> 2 | size >> 2 << TW_PACKED_OFF_BITS;
	return size;
}

/* Writes span sp behind e. Returns the entry's size; 0: it is not worth it. Texts that come again
 * are left in l->text. */
static inline uint32_t pack(struct tw_log *l, const struct tw_request *req,
                            const struct tw_span *sp, struct tw_packed *e,
                            const struct tw_op_slot *op)
{
	const struct tw_place *place = req->places + sp->places;
	uint64_t kinds = op->kinds;
	uint8_t *p;

	p = put_fixed(e->bytes, (struct tw_segment_header *)l->seg->mem, sp->span_id,
	              op->has_parent, sp->parent_id, sp->start_ns, sp->duration_ns);
	if (!op->fixed) {
		memcpy(p, &sp->series, 4);
		p += 4;
	}
	for (uint32_t i = 0; i < op->value_count; i++, place++, kinds >>= 2) {
		const uint8_t *v = sp->bytes + place->at;
		uint32_t n = place->n, shared;

		if (TW_LIKELY((kinds & 3) == TW_PART_TEXT - 1)) {
			shared = n - SHARED_MIN <= SHARED_MAX - SHARED_MIN
			             ? find_shared(l, &op->uses[i], sp->hash, tw_slice(v, n))
			             : 0;
			p = shared ? put_shared(p, shared) : put_text(p, v, n);
		} else if ((kinds & 3) == TW_PART_FIELD - 1) {
			p = put_raw(p, v, n);
		} else {
			memcpy(p, v, 16); /* of a number: ten bytes at most */
			p += n;
		}
	}
	/* Does it leave a quarter at least? Spans that consist of values of their own are better
	 * copied: what packing saved would not pay for putting them together again. */
	if (TW_UNLIKELY((uint64_t)(p - (uint8_t *)e) * 4 >
	                (sizeof(struct tw_entry) + sp->bytes_n) * 3)) {
		l->text_count = 0;
		return 0;
	}
	return finish(e, p, op->off);
}

static __attribute__((noinline)) void put_texts(struct tw_log *l)
{
	while (l->text_count > 0) {
		const struct tw_log_text *t = &l->text[--l->text_count];

		(void)tw_log_put_text(l, t->text, t->hash);
	}
}

void tw_log_append(struct tw_log *l, const struct tw_request *req, const struct tw_span *sp,
                   struct tw_record *rec, uint32_t record)
{
	struct tw_segment *g = l->seg;
	const struct tw_op_slot *op = NULL;
	uint32_t size = 0, off, head = sizeof(struct tw_packed);
	uint64_t word;
	struct tw_entry *e;

	if (TW_LIKELY(sp->operation != 0 && l->crowded == 0) &&
	    (TW_LIKELY(tw_log_roomy(l, sp)) ||
	     (sp->bytes_n <= TW_PACKED_SPAN_MAX && tw_log_fits(l, tw_log_need(l, req, sp))))) {
		op = tw_log_known(l, req, sp);
		if (TW_UNLIKELY(!op))
			op = tw_log_operation(l, req, sp);
	}
	if (TW_LIKELY(op != NULL))
		size = pack(l, req, sp, (struct tw_packed *)(g->mem + g->used), op);
	if (TW_LIKELY(size != 0)) {
		word = op->word;
	} else {
		word = tw_entry_word(sp->kind, sp->status);
		size = tw_log_append_whole(l, req, sp);
		head = sizeof(struct tw_entry);
		rec->whole += rec->whole < TW_RECORD_WHOLE_MAX;
	}
	off = g->used;
	e = (struct tw_entry *)(g->mem + off);
	e->word = word | rec->head;
	e->record = record;
	g->used = off + size;
	l->live += size;
	rec->stored += size;
	l->span_bytes += size - head;
	rec->head = tw_link(l->open, off);
	if (TW_UNLIKELY(l->text_count > 0))
		put_texts(l);
}

/* ---- unpacking ---- */

void tw_unpack_head(const uint8_t *segment, const struct tw_packed *e, struct tw_unpacked *u)
{
	const struct tw_segment_header *h = (const struct tw_segment_header *)segment;
	const uint8_t *p = e->bytes;
	uint64_t start, duration;
	uint32_t n;

	u->op = (const struct tw_log_operation *)(tw_head_at(segment, tw_packed_operation(e)) + 1);
	u->layout = (const struct tw_layout *)(tw_head_at(segment, u->op->template_off) + 1);
	p = get_number(p, &u->span_id, 8);
	u->parent_id = 0;
	if (u->layout->has_parent)
		p = get_number(p, &u->parent_id, 8);
	n = *p++;
	p = get_number(p, &start, n & 15);
	p = get_number(p, &duration, n >> 4);
	u->start_ns = h->base_ns + unzigzag(start);
	u->duration_ns = duration;
	u->series = u->op->series;
	if (u->series == TW_SERIES_DIFFERS) {
		memcpy(&u->series, p, 4);
		p += 4;
	}
	u->values = p;
}

static uint32_t varint_size(uint32_t v)
{
	return v < 0x80 ? 1 : 2; /* spans with a template have no more than 2^16 bytes */
}

/* Lengths are below 2^14: nothing longer has a template. */
static uint8_t *put_length(uint8_t *p, uint32_t n)
{
	if (n < 0x80) {
		*p++ = (uint8_t)n;
		return p;
	}
	*p++ = (uint8_t)(n | 0x80);
	*p++ = (uint8_t)(n >> 7);
	return p;
}

static uint8_t *put_be64(uint8_t *p, uint64_t v)
{
	v = __builtin_bswap64(v);
	memcpy(p, &v, 8);
	return p + 8;
}

/* A text as it came; returns where it ends. */
static uint8_t *unpack_bytes(struct tw_slice text, enum text_form form, uint8_t *p)
{
	if (form == TEXT_HEX)
		return hex_unpack(text.p, (uint32_t)text.n, p);
	memcpy(p, text.p, text.n);
	return p + text.n;
}

static uint8_t *unpack_state(const uint8_t *segment, const uint8_t **from, uint8_t *p)
{
	struct tw_slice text;
	enum text_form form;

	*from = get_text(segment, *from, &text, &form);
	*p++ = TW_PB_TAG(3, TW_PB_LEN);
	*p++ = (uint8_t)text_bytes(text, form);
	return unpack_bytes(text, form, p);
}

static uint8_t *unpack_prefix(const uint8_t *segment, const struct tw_unpacked *u,
                              struct tw_id128 id, const uint8_t **from, uint8_t *p)
{
	uint64_t end_ns = u->start_ns + u->duration_ns;

	*p++ = TW_PB_TAG(1, TW_PB_LEN);
	*p++ = 16;
	p = put_be64(put_be64(p, id.hi), id.lo);
	*p++ = TW_PB_TAG(2, TW_PB_LEN);
	*p++ = 8;
	p = put_be64(p, u->span_id);
	if (u->layout->has_state)
		p = unpack_state(segment, from, p);
	if (u->layout->has_parent) {
		*p++ = TW_PB_TAG(4, TW_PB_LEN);
		*p++ = 8;
		p = put_be64(p, u->parent_id);
	}
	*p++ = TW_PB_TAG(5, TW_PB_LEN);
	*p++ = (uint8_t)u->layout->name_n;
	memcpy(p, tw_layout_name(u->layout), u->layout->name_n);
	p += u->layout->name_n;
	if (u->layout->kind != TW_KIND_ABSENT) {
		*p++ = TW_PB_TAG(6, TW_PB_VARINT);
		*p++ = u->layout->kind;
	}
	*p++ = TW_PB_TAG(7, TW_PB_I64);
	memcpy(p, &u->start_ns, 8);
	p += 8;
	*p++ = TW_PB_TAG(8, TW_PB_I64);
	memcpy(p, &end_ns, 8);
	return p + 8;
}

/* The attribute's tag, its length and the key up to the value's tag; value_n bytes follow behind
 * the value's length, which is written, too. */
static uint8_t *put_attribute(uint8_t *p, const struct tw_layout *l, const struct tw_part *part,
                              uint32_t value_n)
{
	*p++ = TW_PB_TAG(9, TW_PB_LEN);
	p = put_length(p, part->n + varint_size(value_n) + value_n);
	memcpy(p, tw_layout_bytes(l, part->at), part->n);
	return put_length(p + part->n, value_n);
}

static uint8_t *unpack_text(const uint8_t *segment, const struct tw_unpacked *u,
                            const struct tw_part *part, const uint8_t **from, uint8_t *p)
{
	struct tw_slice text;
	enum text_form form;
	uint32_t n;

	*from = get_text(segment, *from, &text, &form);
	n = text_bytes(text, form);
	p = put_attribute(p, u->layout, part, 1 + varint_size(n) + n);
	*p++ = TW_PB_TAG(1, TW_PB_LEN);
	return unpack_bytes(text, form, put_length(p, n));
}

static uint32_t varint_bytes(const uint8_t *p)
{
	uint32_t n = 1;

	while (*p++ & 0x80)
		n++;
	return n;
}

static uint8_t *unpack_int(const struct tw_unpacked *u, const struct tw_part *part,
                           const uint8_t **from, uint8_t *p)
{
	uint32_t n = varint_bytes(*from);

	p = put_attribute(p, u->layout, part, 1 + n);
	*p++ = TW_PB_TAG(3, TW_PB_VARINT);
	memcpy(p, *from, n);
	*from += n;
	return p + n;
}

static uint8_t *unpack_field(const uint8_t *segment, const struct tw_unpacked *u,
                             const struct tw_part *part, const uint8_t **from, uint8_t *p)
{
	struct tw_slice payload;
	enum text_form form;

	*from = get_text(segment, *from, &payload, &form);
	memcpy(p, tw_layout_bytes(u->layout, part->at), part->n);
	p = put_length(p + part->n, (uint32_t)payload.n);
	memcpy(p, payload.p, payload.n);
	return p + payload.n;
}

/* Of the attribute, its tag and length among it; value_n: of the value's message. */
static uint32_t attribute_size(const struct tw_part *part, uint32_t value_n)
{
	uint32_t n = part->n + varint_size(value_n) + value_n;

	return 1 + varint_size(n) + n;
}

static uint32_t value_size(const uint8_t *segment, const struct tw_part *part, const uint8_t **from)
{
	struct tw_slice text;
	enum text_form form;
	uint32_t n;

	switch (part->kind) {
	case TW_PART_INT:
		n = varint_bytes(*from);
		*from += n;
		return attribute_size(part, 1 + n);
	case TW_PART_RAW:
		*from += part->n;
		return part->n;
	default:
		*from = get_text(segment, *from, &text, &form);
		n = text_bytes(text, form);
		return part->kind == TW_PART_TEXT ? attribute_size(part, 1 + varint_size(n) + n)
		                                  : part->n + varint_size(n) + n;
	}
}

/* A trace state's, which has none in the layout: a tag, a length, a text. */
static const struct tw_part state_part = {.kind = TW_PART_FIELD, .n = 1};

uint32_t tw_unpacked_size(const uint8_t *segment, const struct tw_packed *e)
{
	struct tw_unpacked u;
	const uint8_t *from;
	uint32_t n;

	tw_unpack_head(segment, e, &u);
	from = u.values;
	n = u.layout->has_state ? value_size(segment, &state_part, &from) : 0;
	n += 18 + 10 + (u.layout->has_parent ? 10u : 0u) + 2u + u.layout->name_n +
	     (u.layout->kind != TW_KIND_ABSENT ? 2u : 0u) + 18;
	for (uint32_t i = 0; i < u.layout->part_count; i++) {
		const struct tw_part *part = &u.layout->part[i];

		n += part->kind == TW_PART_BYTES ? part->n : value_size(segment, part, &from);
	}
	return n;
}

uint32_t tw_unpack(const uint8_t *segment, const struct tw_packed *e, struct tw_id128 trace_id,
                   uint8_t *out)
{
	struct tw_unpacked u;
	const uint8_t *from;
	uint8_t *p;

	tw_unpack_head(segment, e, &u);
	from = u.values;
	p = unpack_prefix(segment, &u, trace_id, &from, out);
	for (uint32_t i = 0; i < u.layout->part_count; i++) {
		const struct tw_part *part = &u.layout->part[i];

		switch (part->kind) {
		case TW_PART_TEXT:
			p = unpack_text(segment, &u, part, &from, p);
			break;
		case TW_PART_INT:
			p = unpack_int(&u, part, &from, p);
			break;
		case TW_PART_FIELD:
			p = unpack_field(segment, &u, part, &from, p);
			break;
		case TW_PART_RAW:
			memcpy(p, from, part->n);
			from += part->n;
			p += part->n;
			break;
		default:
			memcpy(p, tw_layout_bytes(u.layout, part->at), part->n);
			p += part->n;
			break;
		}
	}
	return (uint32_t)(p - out);
}

/* ---- moving ---- */

struct piece { /* a differing value as it lies in an entry */
	const uint8_t *p;
	uint32_t n;
	struct tw_slice shared; /* its text, if that lies elsewhere in the segment; else empty */
};

/* The part's value at `from`. Returns where it ends. */
static const uint8_t *piece_at(const uint8_t *segment, const struct tw_part *part,
                               const uint8_t *from, struct piece *piece)
{
	const uint8_t *end;
	struct tw_slice text;
	enum text_form form;

	piece->shared.n = 0;
	if (part->kind == TW_PART_INT) {
		end = from + varint_bytes(from);
	} else if (part->kind == TW_PART_RAW) {
		end = from + part->n;
	} else {
		end = get_text(segment, from, &text, &form);
		if (form == TEXT_SHARED)
			piece->shared = text;
	}
	piece->p = from;
	piece->n = (uint32_t)(end - from);
	return end;
}

/* Returns how many. */
static uint32_t pieces(const uint8_t *segment, const struct tw_unpacked *u,
                       struct piece piece[TW_TEMPLATE_VALUES_MAX])
{
	const uint8_t *p = u->values;
	uint32_t n = 0;

	if (u->layout->has_state)
		p = piece_at(segment, &state_part, p, &piece[n++]);
	for (uint32_t i = 0; i < u->layout->part_count; i++) {
		const struct tw_part *part = &u->layout->part[i];

		if (part->kind != TW_PART_BYTES)
			p = piece_at(segment, part, p, &piece[n++]);
	}
	return n;
}

/* Room that the entry takes at most, the texts that it refers to among it. */
static uint64_t repack_need(const struct tw_packed *e, const struct piece *piece, uint32_t n)
{
	uint64_t need = tw_entry_bytes((const struct tw_entry *)e) + 32;

	for (uint32_t i = 0; i < n; i++)
		if (piece[i].shared.n > 0)
			need += tw_text_size(piece[i].shared.n) + 2 * piece[i].shared.n;
	return need;
}

uint32_t tw_repack(struct tw_log *l, const uint8_t *segment, const struct tw_packed *from,
                   uint32_t *size)
{
	struct piece piece[TW_TEMPLATE_VALUES_MAX];
	uint32_t off[TW_TEMPLATE_VALUES_MAX], operation, n;
	struct tw_segment *g = &l->pool->slots[l->open];
	struct tw_unpacked u;
	struct tw_packed *e;
	uint8_t *p;

	tw_unpack_head(segment, from, &u);
	n = pieces(segment, &u, piece);
	operation = tw_log_copy_operation(l, segment, tw_packed_operation(from),
	                                  repack_need(from, piece, n));
	if (operation == 0)
		return 0;
	/* Texts first: they lie before the entry. */
	for (uint32_t i = 0; i < n; i++)
		off[i] = piece[i].shared.n > 0
		             ? tw_log_put_text(l, piece[i].shared, text_hash(l, piece[i].shared))
		             : 0;
	e = (struct tw_packed *)(g->mem + g->used);
	e->word = from->word;
	e->record = from->record;
	p = put_fixed(e->bytes, (struct tw_segment_header *)l->seg->mem, u.span_id,
	              u.layout->has_parent, u.parent_id, u.start_ns, u.duration_ns);
	if (u.op->series == TW_SERIES_DIFFERS) {
		memcpy(p, &u.series, 4);
		p += 4;
	}
	for (uint32_t i = 0; i < n; i++) {
		if (off[i] != 0) {
			p = put_shared(p, off[i]);
		} else if (piece[i].shared.n > 0) {
			p = put_exact(p, piece[i].shared.p, (uint32_t)piece[i].shared.n);
		} else {
			memcpy(p, piece[i].p, piece[i].n);
			p += piece[i].n;
		}
	}
	*size = finish(e, p, operation);
	return g->used;
}
