#include "verdict.h"

#include "tw/base/error.h"
#include "tw/base/mem.h"

#define CELLS     4u
#define FILL      3u  /* cells; grows past so many a bucket */
#define LINES_MAX 16u /* of a bucket: chance hardly ever asks for more than four */
#define ITEMS_MAX 64u /* that they hold, and one more */
#define BUCKETS   8u  /* at first */

/* Instead of a hash; 0: the cell is free. */
#define MORE  1u /* what else is remembered of the cell before */
#define LINK  2u /* in the last cell: another line */
#define FIRST 3u /* smaller hashes are moved up */

struct about {
	uint64_t rule : 16;
	uint64_t generation : 16; /* the low 16 bits */
	uint64_t asked_s : 30;
	uint64_t keep : 1;    /* then the next cell has more */
	uint64_t unknown : 1; /* the threshold is TW_THRESHOLD_UNKNOWN */
};
struct more {
	uint64_t threshold : 56;
	uint64_t destinations : 8;
};
union cell {
	struct about about;
	struct more more;
	uint64_t link;
};

struct tw_verdict_line { /* entries are the first ones, without a gap; one lies in one line */
	uint64_t hash[CELLS];
	union cell cell[CELLS];
};
_Static_assert(sizeof(struct tw_verdict_line) == 64, "a cache line");

struct item { /* an entry on its way */
	uint64_t hash;
	union cell about, more;
};

int tw_verdicts_init(struct tw_verdicts *v, uint64_t bytes, uint64_t keep_ns)
{
	*v = (struct tw_verdicts){.max = bytes / sizeof(*v->lines)};
	if (v->max < 2 * BUCKETS)
		v->max = 2 * BUCKETS;
	v->level = v->count = BUCKETS;
	v->linked = v->max;
	v->keep_s = keep_ns / 1000000000 + (keep_ns % 1000000000 != 0);
	/* Zeroed by the kernel, not by us: what is not used is not touched. */
	v->memory = tw_calloc(v->max + 1, sizeof(*v->lines));
	if (!v->memory)
		return TW_ENOMEM;
	v->lines = (struct tw_verdict_line *)(((uintptr_t)v->memory + 63) & ~(uintptr_t)63);
	return 0;
}

void tw_verdicts_deinit(struct tw_verdicts *v)
{
	tw_free(v->memory);
	*v = (struct tw_verdicts){0};
}

/* The shard was chosen by the hash's high bits and the table's slot by its low ones: mixed anew. */
static uint64_t mixed(uint64_t hash)
{
	uint64_t m = hash * UINT64_C(0xBF58476D1CE4E5B9);

	return m ^ (m >> 32);
}

static struct tw_verdict_line *bucket_of(const struct tw_verdicts *v, uint64_t hash)
{
	uint64_t m = mixed(hash), i = m & (v->level - 1);

	return &v->lines[i < v->count - v->level ? m & (2 * v->level - 1) : i];
}

static uint64_t stored(uint64_t hash)
{
	return hash < FIRST ? hash + FIRST : hash;
}

const void *tw_verdicts_line(const struct tw_verdicts *v, uint64_t hash)
{
	return bucket_of(v, stored(hash));
}

const void *tw_verdicts_behind(const struct tw_verdicts *v, const void *line)
{
	const struct tw_verdict_line *l = line;
	uint64_t link = l->cell[CELLS - 1].link, none = -(uint64_t)(l->hash[CELLS - 1] != LINK);

	/* Without a branch: a quarter have one. */
	return &v->lines[(link & ~none) | ((uint64_t)(l - v->lines) & none)];
}

/* ---- lines ---- */

static struct tw_verdict_line *next_of(const struct tw_verdicts *v, const struct tw_verdict_line *l)
{
	return l->hash[CELLS - 1] == LINK ? &v->lines[l->cell[CELLS - 1].link] : NULL;
}

/* Free cells at the end of a line, before its link; the first of them in *at. */
static uint32_t room(const struct tw_verdict_line *l, uint32_t *at)
{
	uint32_t end = CELLS - (l->hash[CELLS - 1] == LINK), n = 0;

	while (n < end && l->hash[n] != 0)
		n++;
	*at = n;
	return end - n;
}

static bool has_line(const struct tw_verdicts *v)
{
	return v->free != 0 || v->count < v->linked;
}

/* An empty one; the caller has seen that there is one. */
static uint64_t take_line(struct tw_verdicts *v)
{
	uint64_t i = v->free;

	if (i == 0)
		return --v->linked;
	v->free = v->lines[i].cell[0].link;
	v->lines[i] = (struct tw_verdict_line){0};
	return i;
}

static uint32_t cells_of(union cell about)
{
	return about.about.keep ? 2 : 1;
}

static void write_at(struct tw_verdict_line *l, uint32_t at, const struct item *it)
{
	l->hash[at] = it->hash;
	l->cell[at] = it->about;
	if (it->about.about.keep) {
		l->hash[at + 1] = MORE;
		l->cell[at + 1] = it->more;
	}
}

static bool expired(const struct tw_verdicts *v, struct about a, uint64_t now_s)
{
	return now_s - a.asked_s > v->keep_s;
}

/* ---- buckets as lists, for what happens now and then ---- */

/* Takes the entries out of a bucket, and its lines back; leaves out what has expired. Returns how
 * many. */
static uint32_t gather(struct tw_verdicts *v, struct tw_verdict_line *b, uint64_t now_s,
                       struct item *item)
{
	struct tw_verdict_line *l = b, *next;
	uint32_t n = 0;

	for (; l; l = next) {
		next = next_of(v, l);
		for (uint32_t i = 0; i < CELLS && l->hash[i] >= FIRST;) {
			uint32_t cells = cells_of(l->cell[i]);

			if (expired(v, l->cell[i].about, now_s)) {
				v->entries--;
				v->cells -= cells;
			} else {
				item[n++] = (struct item){.hash = l->hash[i],
				                          .about = l->cell[i],
				                          .more = l->cell[i + cells - 1]};
			}
			i += cells;
		}
		if (l != b) {
			*l = (struct tw_verdict_line){.cell = {{.link = v->free}}};
			v->free = (uint64_t)(l - v->lines);
		}
	}
	*b = (struct tw_verdict_line){0};
	return n;
}

static uint32_t cells_in(const struct item *item, uint32_t n)
{
	uint32_t cells = 0;

	for (uint32_t i = 0; i < n; i++)
		cells += cells_of(item[i].about);
	return cells;
}

/* Puts items into an empty bucket, the first ones first. Returns how many found a place. */
static uint32_t scatter(struct tw_verdicts *v, struct tw_verdict_line *b, const struct item *item,
                        uint32_t n)
{
	struct tw_verdict_line *l = b;
	uint32_t i = 0, left = cells_in(item, n);

	for (uint32_t lines = 1;; lines++) {
		bool link = left > CELLS && lines < LINES_MAX && has_line(v);
		uint32_t at = 0, end = CELLS - link;

		while (i < n && at + cells_of(item[i].about) <= end) {
			write_at(l, at, &item[i]);
			at += cells_of(item[i++].about);
		}
		if (!link)
			return i;
		left -= at;
		l->hash[CELLS - 1] = LINK;
		l->cell[CELLS - 1].link = take_line(v);
		l = &v->lines[l->cell[CELLS - 1].link];
	}
}

/* The one asked for last comes first. */
static void sort(struct item *item, uint32_t n)
{
	for (uint32_t i = 1; i < n; i++) {
		struct item it = item[i];
		uint32_t k = i;

		for (; k > 0 && item[k - 1].about.about.asked_s < it.about.about.asked_s; k--)
			item[k] = item[k - 1];
		item[k] = it;
	}
}

/* Fills an empty bucket. What finds no place is forgotten: what was not asked for longest. */
static void fill(struct tw_verdicts *v, struct tw_verdict_line *b, struct item *item, uint32_t n,
                 uint64_t now_s)
{
	uint32_t placed = scatter(v, b, item, n);

	if (TW_LIKELY(placed == n))
		return;
	(void)gather(v, b, now_s, item);
	sort(item, n);
	placed = scatter(v, b, item, n);
	v->entries -= n - placed;
	v->cells -= cells_in(item + placed, n - placed);
}

/* Moves those entries of a line to an empty one that are not at home in bucket `at` any more. */
static void divide(struct tw_verdict_line *from, struct tw_verdict_line *to, uint64_t at,
                   uint64_t mask)
{
	const struct tw_verdict_line old = *from;
	uint32_t left = 0, gone = 0;

	*from = (struct tw_verdict_line){0};
	for (uint32_t i = 0, cells; i < CELLS && old.hash[i] >= FIRST; i += cells) {
		bool stays = (mixed(old.hash[i]) & mask) == at;
		struct tw_verdict_line *l = stays ? from : to;
		uint32_t *n = stays ? &left : &gone;

		cells = cells_of(old.cell[i]);
		for (uint32_t k = 0; k < cells; k++) {
			l->hash[*n] = old.hash[i + k];
			l->cell[(*n)++] = old.cell[i + k];
		}
	}
}

/* One bucket more: the next one in turn gives it the entries that are its now. */
static void grow(struct tw_verdicts *v, uint64_t now_s)
{
	const uint64_t at = v->count - v->level, mask = 2 * v->level - 1;
	struct tw_verdict_line *from = &v->lines[at], *to = &v->lines[v->count++];
	struct item item[ITEMS_MAX], gone[ITEMS_MAX];
	uint32_t n, left = 0, go = 0;

	/* What is divided next: buckets come one after the other, lines behind them do not. */
	__builtin_prefetch(from + 4, 1);
	__builtin_prefetch(tw_verdicts_behind(v, from + 2), 1);
	if (v->count == 2 * v->level)
		v->level = v->count;
	if (from->hash[CELLS - 1] != LINK) {
		divide(from, to, at, mask);
		return;
	}
	n = gather(v, from, now_s, item);
	for (uint32_t i = 0; i < n; i++)
		if ((mixed(item[i].hash) & mask) == at)
			item[left++] = item[i];
		else
			gone[go++] = item[i];
	fill(v, from, item, left, now_s);
	fill(v, to, gone, go, now_s);
}

/* ---- one entry ---- */

static struct tw_verdict_line *find(const struct tw_verdicts *v, uint64_t hash, uint32_t *at)
{
	struct tw_verdict_line *l = bucket_of(v, hash);

	do {
		for (uint32_t i = 0; i < CELLS; i++)
			if (l->hash[i] == hash) {
				*at = i;
				return l;
			}
		l = next_of(v, l);
	} while (TW_UNLIKELY(l != NULL));
	return NULL;
}

static void forget(struct tw_verdicts *v, struct tw_verdict_line *l, uint32_t at)
{
	uint32_t cells = cells_of(l->cell[at]), end = CELLS - (l->hash[CELLS - 1] == LINK);

	for (uint32_t i = at; i < end; i++) {
		bool any = i + cells < end;

		l->hash[i] = any ? l->hash[i + cells] : 0;
		l->cell[i] = any ? l->cell[i + cells] : (union cell){0};
	}
	v->entries--;
	v->cells -= cells;
}

/* Anything expired in the bucket's first line? */
static bool is_stale(const struct tw_verdicts *v, const struct tw_verdict_line *b, uint64_t now_s)
{
	bool any = false;

	for (uint32_t i = 0; i < CELLS; i++)
		any |= b->hash[i] >= FIRST && expired(v, b->cell[i].about, now_s);
	return any;
}

static bool is_full(const struct tw_verdicts *v)
{
	return v->cells > FILL * v->count;
}

/* No line is left: the one not asked for longest gives its cell, if it has as many. */
static bool replace(struct tw_verdicts *v, struct tw_verdict_line *b, const struct item *it)
{
	struct tw_verdict_line *oldest = NULL;
	uint32_t at = 0;

	for (struct tw_verdict_line *l = b; l; l = next_of(v, l))
		for (uint32_t i = 0; i < CELLS && l->hash[i] >= FIRST; i += cells_of(l->cell[i]))
			if (!oldest || l->cell[i].about.asked_s < oldest->cell[at].about.asked_s) {
				oldest = l;
				at = i;
			}
	if (!oldest || cells_of(oldest->cell[at]) != cells_of(it->about))
		return false;
	v->entries--;
	v->cells -= cells_of(it->about);
	write_at(oldest, at, it);
	return true;
}

static __attribute__((noinline)) void rebuild(struct tw_verdicts *v, struct tw_verdict_line *b,
                                              const struct item *it, uint64_t now_s)
{
	struct item item[ITEMS_MAX];

	/* First: of those asked for in the same second it is the last to go. */
	item[0] = *it;
	fill(v, b, item, 1 + gather(v, b, now_s, item + 1), now_s);
}

void tw_verdicts_add(struct tw_verdicts *v, uint64_t hash, const struct tw_verdict *d,
                     uint64_t now_s)
{
	const struct item it = {
	    .hash = stored(hash),
	    .about = {.about = {.rule = d->rule,
	                        .generation = (uint16_t)d->generation,
	                        .asked_s = (uint32_t)now_s,
	                        .keep = d->keep,
	                        .unknown = d->threshold >> 56 != 0}},
	    .more = {.more = {d->threshold & (UINT64_MAX >> 8), d->destinations}}};
	struct tw_verdict_line *b = bucket_of(v, it.hash), *l = b;
	uint32_t at;

	v->entries++;
	v->cells += cells_of(it.about);
	/* When the table would have to grow for it, what has expired goes first. */
	if (TW_UNLIKELY(is_full(v)) && is_stale(v, b, now_s)) {
		rebuild(v, b, &it, now_s);
		return;
	}
	while (l && room(l, &at) < cells_of(it.about))
		l = next_of(v, l);
	if (TW_LIKELY(l != NULL))
		write_at(l, at, &it);
	else if (has_line(v) || !replace(v, b, &it))
		rebuild(v, b, &it, now_s);
	if (is_full(v) && v->count < v->linked)
		grow(v, now_s);
}

void tw_verdicts_put(struct tw_verdicts *v, uint64_t hash, const struct tw_verdict *d,
                     uint64_t now_s)
{
	uint32_t at;
	struct tw_verdict_line *l = find(v, stored(hash), &at);

	if (l)
		forget(v, l, at);
	tw_verdicts_add(v, hash, d, now_s);
}

bool tw_verdicts_get(struct tw_verdicts *v, uint64_t hash, uint32_t newest, uint64_t now_s,
                     struct tw_verdict *d)
{
	uint32_t at;
	struct tw_verdict_line *l = find(v, stored(hash), &at);
	struct about *a;

	if (TW_LIKELY(!l))
		return false;
	a = &l->cell[at].about;
	if (expired(v, *a, now_s)) {
		forget(v, l, at);
		return false;
	}
	a->asked_s = now_s;
	*d =
	    (struct tw_verdict){.keep = a->keep,
	                        .reason = TW_REASON_LATE,
	                        .rule = a->rule,
	                        .generation = newest - (uint16_t)((uint16_t)newest - a->generation),
	                        .threshold = TW_THRESHOLD_UNKNOWN};
	if (a->keep) {
		d->destinations = l->cell[at + 1].more.destinations;
		if (!a->unknown)
			d->threshold = l->cell[at + 1].more.threshold;
	}
	return true;
}

uint64_t tw_verdicts_bytes(const struct tw_verdicts *v)
{
	return (v->count + v->max - v->linked) * sizeof(*v->lines);
}
