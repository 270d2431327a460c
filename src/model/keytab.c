/* The key table: filled at boot or reload, sealed into a perfect hash, immutable from then on. */
#include "tw/model/keytab.h"
#include "tw/base/mem.h"

/* Seeds tried for a table of one size before it is doubled. 64 keys in 256 cells need some 3,000.
 */
#define SEEDS_PER_SIZE 50000u
#define CELLS_MIN_LOG2 4u
#define CELLS_MAX_LOG2 20u

struct tw_keytab *tw_keytab_create(void)
{
	struct tw_keytab *kt = tw_calloc(1, sizeof(*kt));

	if (!kt)
		return NULL;
	if (tw_keytab_add(kt, tw_slice_str("service.name")) != (int)TW_KEY_SERVICE_NAME)
		tw_keytab_destroy(&kt);
	return kt;
}

void tw_keytab_destroy(struct tw_keytab **kt)
{
	if (!*kt)
		return;
	for (uint32_t i = 0; i < (*kt)->count; i++)
		tw_free((void *)(uintptr_t)(*kt)->keys[i].p);
	tw_free((*kt)->cells);
	tw_free(*kt);
	*kt = NULL;
}

int tw_keytab_add(struct tw_keytab *kt, struct tw_slice key)
{
	char *copy;

	TW_ASSERT(!kt->cells);
	for (uint32_t i = 0; i < kt->count; i++)
		if (tw_slice_eq(kt->keys[i], key))
			return (int)i;
	if (kt->count == TW_KEYS_MAX || key.n >= UINT32_MAX)
		return TW_ELIMIT;
	copy = tw_strndup(key.n ? (const char *)key.p : "", key.n);
	if (!copy)
		return TW_ENOMEM;
	kt->keys[kt->count] = tw_slice(copy, key.n);
	kt->lengths |= UINT64_C(1) << (key.n & 63);
	return (int)kt->count++;
}

/* Files every key under kt->seed; false when two different summaries meet in a cell. */
static bool place(struct tw_keytab *kt)
{
	uint32_t cells = 1u << (64 - kt->shift);

	for (uint32_t i = 0; i < cells; i++)
		kt->cells[i].n = UINT32_MAX;
	memset(kt->next, 0, sizeof(kt->next));
	for (uint32_t i = 0; i < kt->count; i++) {
		struct tw_slice key = kt->keys[i];
		struct tw_keysum s = tw_keysum(key.p, key.n);
		struct tw_keycell *c = &kt->cells[tw_keytab_cell(kt, s, key.n)];

		if (c->n == UINT32_MAX) {
			*c = (struct tw_keycell){s.a, s.b, (uint32_t)key.n, i};
		} else if (c->n == key.n && c->a == s.a && c->b == s.b) {
			kt->next[i] = (uint8_t)(c->slot + 1);
			c->slot = i;
		} else {
			return false;
		}
	}
	return true;
}

static bool find_seed(struct tw_keytab *kt)
{
	uint64_t x = UINT64_C(0x9E3779B97F4A7C15);

	for (uint32_t tries = 0; tries < SEEDS_PER_SIZE; tries++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		kt->seed = x | 1;
		if (place(kt))
			return true;
	}
	return false;
}

int tw_keytab_seal(struct tw_keytab *kt)
{
	uint32_t log2 = CELLS_MIN_LOG2;

	TW_ASSERT(!kt->cells);
	while ((1u << log2) < kt->count * 4)
		log2++;
	for (;; log2++) {
		TW_ASSERT(log2 <= CELLS_MAX_LOG2);
		kt->cells = tw_alloc(sizeof(*kt->cells) << log2);
		if (!kt->cells)
			return TW_ENOMEM;
		kt->shift = 64 - log2;
		if (find_seed(kt))
			return 0;
		tw_free(kt->cells);
	}
}

uint32_t tw_keytab_count(const struct tw_keytab *kt)
{
	return kt->count;
}

struct tw_slice tw_keytab_key(const struct tw_keytab *kt, uint32_t slot)
{
	TW_ASSERT(slot < kt->count);
	return kt->keys[slot];
}

int tw_keytab_find(const struct tw_keytab *kt, const uint8_t *key, size_t n)
{
	TW_ASSERT(kt->cells);
	return tw_keytab_probe(kt, key, n);
}
