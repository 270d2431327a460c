/* What lies in a segment: heads and entries, and how they refer to one another.
 *
 * Blocks follow one another without a gap, each aligned to four bytes, and begin with a word that
 * says what they are and how long. Offsets count from the segment's begin. Plain data: whoever
 * holds the segment may read it. */
#ifndef TW_BUFFER_ENTRY_H
#define TW_BUFFER_ENTRY_H

#include "tw/base/slice.h"

#define TW_SEGMENT_MAGIC 0x67735774u /* "tWsg" */

/* Blocks are aligned to four bytes, not to eight: two bytes less a span. */
typedef uint64_t __attribute__((aligned(4))) tw_word;

struct tw_segment_header {
	uint32_t magic, version;
	uint64_t capacity;
	uint64_t base_ns; /* packed spans count their start from here */
};

/* The first word of a block: what kind of block, and for an entry the link to the trace's span
 * before it. */
#define TW_BLOCK_ENTRY     (UINT64_C(1) << 63)
#define TW_BLOCK_PACKED    (UINT64_C(1) << 56) /* of entries: a struct tw_packed */
#define TW_HEAD_KIND       (UINT64_C(7) << 59) /* of heads: */
#define TW_HEAD_RESOURCE   (UINT64_C(0) << 59)
#define TW_HEAD_SCOPE      (UINT64_C(1) << 59)
#define TW_HEAD_TEMPLATE   (UINT64_C(2) << 59) /* a struct tw_layout */
#define TW_HEAD_OPERATION  (UINT64_C(3) << 59) /* a struct tw_log_operation */
#define TW_HEAD_TEXT       (UINT64_C(4) << 59)
#define TW_LINK_OFF_BITS   28u
#define TW_LINK_BITS       51u
#define TW_LINK_MASK       ((UINT64_C(1) << TW_LINK_BITS) - 1)
#define TW_ENTRY_KIND(w)   ((uint8_t)((w) >> 51 & 7))
#define TW_ENTRY_STATUS(w) ((uint8_t)((w) >> 54 & 3))

struct tw_entry {     /* the digest; the span's bytes follow */
	tw_word word; /* link | kind << 51 | status << 54 | flags */
	uint32_t record;
	uint32_t bytes_n;
	uint32_t scope_off;
	uint32_t series;
	tw_word span_id, parent_id;
	tw_word start_ns, duration_ns;
};
_Static_assert(sizeof(struct tw_entry) == 56, "the digest");

struct tw_packed { /* begins as struct tw_entry does; pack.h */
	tw_word word;
	uint32_t record;
	uint32_t form; /* offset of the operation / 4, then size / 4 */
	uint8_t bytes[];
};
#define TW_PACKED_OFF_BITS 18u /* of a segment of 1 MiB */
/* A longer span is not packed: packed anew it may be as long as it came, and 64 KiB at most. */
#define TW_PACKED_SPAN_MAX 60000u

struct tw_head {      /* the bytes follow; of a text, behind the word */
	tw_word word; /* length in the low half */
	tw_word hash;
	uint32_t resource_off; /* of a scope */
};

static inline uint64_t tw_entry_word(uint8_t kind, uint8_t status)
{
	return TW_BLOCK_ENTRY | (uint64_t)(kind & 7) << 51 | (uint64_t)(status & 3) << 54;
}
static inline uint64_t tw_align4(uint64_t n)
{
	return (n + 3) & ~UINT64_C(3);
}
static inline uint64_t tw_entry_size(uint32_t bytes_n)
{
	return tw_align4(sizeof(struct tw_entry) + (uint64_t)bytes_n);
}
static inline uint32_t tw_entry_bytes(const struct tw_entry *e)
{
	return e->word & TW_BLOCK_PACKED
	           ? ((const struct tw_packed *)e)->form >> TW_PACKED_OFF_BITS << 2
	           : (uint32_t)tw_entry_size(e->bytes_n);
}
/* Of these, the span's own and the padding. */
static inline uint32_t tw_entry_span_bytes(const struct tw_entry *e)
{
	return tw_entry_bytes(e) - (uint32_t)(e->word & TW_BLOCK_PACKED ? sizeof(struct tw_packed)
	                                                                : sizeof(struct tw_entry));
}
static inline uint64_t tw_head_size(uint64_t n)
{
	return tw_align4(sizeof(struct tw_head) + n);
}
static inline uint64_t tw_text_size(uint64_t n)
{
	return tw_align4(sizeof(tw_word) + n);
}
/* Of any head, by its first word. */
static inline uint64_t tw_head_size_of(uint64_t word)
{
	uint32_t n = (uint32_t)word;

	return (word & TW_HEAD_KIND) == TW_HEAD_TEXT ? tw_text_size(n) : tw_head_size(n);
}
static inline uint32_t tw_block_bytes(const tw_word *word)
{
	return *word & TW_BLOCK_ENTRY ? tw_entry_bytes((const struct tw_entry *)word)
	                              : (uint32_t)tw_head_size_of(*word);
}
static inline uint64_t tw_link(uint32_t slot, uint64_t off)
{
	return (uint64_t)slot << TW_LINK_OFF_BITS | off >> 2;
}
static inline uint32_t tw_link_slot(uint64_t link)
{
	return (uint32_t)((link & TW_LINK_MASK) >> TW_LINK_OFF_BITS);
}
static inline uint64_t tw_link_off(uint64_t link)
{
	return (link & ((UINT64_C(1) << TW_LINK_OFF_BITS) - 1)) << 2;
}
static inline struct tw_head *tw_head_at(const uint8_t *segment, uint32_t off)
{
	return (struct tw_head *)(uintptr_t)(segment + off);
}
static inline uint32_t tw_packed_operation(const struct tw_packed *e)
{
	return (e->form & ((1u << TW_PACKED_OFF_BITS) - 1)) << 2;
}
static inline struct tw_slice tw_head_bytes(const struct tw_head *h)
{
	return tw_slice(h + 1, (uint32_t)h->word);
}
static inline struct tw_slice tw_text_at(const uint8_t *segment, uint32_t off)
{
	const tw_word *w = (const tw_word *)(uintptr_t)(segment + off);

	return tw_slice(w + 1, (uint32_t)*w);
}

#endif
