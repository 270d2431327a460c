/* The buffer's parts by themselves, each beside a naive model. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "pack.h"
#include "reclaim.h"
#include "table.h"
#include "tw/base/mem.h"
#include "verdict.h"
#include "wheel.h"

static uint64_t mix(uint64_t x)
{
	x *= UINT64_C(0xBF58476D1CE4E5B9);
	x ^= x >> 31;
	x *= UINT64_C(0x94D049BB133111EB);
	return x ^ x >> 29;
}

static struct tw_pool *pool_of(uint64_t mib, uint32_t shards)
{
	struct tw_buffer_opts o = {.bytes_max = mib << 20};
	struct tw_pool *p = tw_pool_create(&o, shards);

	assert_non_null(p);
	return p;
}

/* ---- pool ---- */

static void pool_reuses_and_bounds(void **state)
{
	struct tw_pool *p = pool_of(8, 1);
	uint32_t slot[9];

	(void)state;
	for (uint32_t i = 0; i < 8; i++) {
		slot[i] = tw_pool_get(p, TW_SEGMENT_BYTES, false);
		assert_int_not_equal(slot[i], TW_SLOT_NONE);
	}
	assert_int_equal(tw_pool_get(p, TW_SEGMENT_BYTES, false), TW_SLOT_NONE);
	slot[8] = tw_pool_get(p, TW_SEGMENT_BYTES, true);
	assert_int_not_equal(slot[8], TW_SLOT_NONE);
	assert_true(tw_pool_over(p));
	assert_int_equal(tw_pool_segments(p), 9);
	tw_pool_put(p, slot[8]); /* over the budget: to the allocator */
	assert_int_equal(tw_pool_segments(p), 8);
	tw_pool_put(p, slot[0]); /* within: kept for the next */
	assert_int_equal(tw_pool_segments(p), 8);
	assert_int_equal(tw_pool_get(p, TW_SEGMENT_BYTES, false), slot[0]);
	/* A larger one takes the place of free ones. */
	tw_pool_put(p, slot[0]);
	tw_pool_put(p, slot[1]);
	assert_int_equal(tw_pool_get(p, 3 * TW_SEGMENT_BYTES, false), TW_SLOT_NONE);
	tw_pool_put(p, slot[2]);
	tw_pool_put(p, slot[3]);
	slot[0] = tw_pool_get(p, 3 * TW_SEGMENT_BYTES, false);
	assert_int_not_equal(slot[0], TW_SLOT_NONE);
	tw_pool_destroy(&p);
	assert_null(p);
}

static void pool_admits_what_fits(void **state)
{
	struct tw_pool *p = pool_of(16, 1); /* 14 MiB may be admitted */
	const uint64_t mib = 1 << 20;

	(void)state;
	assert_true(tw_pool_admit(p, 13 * mib, 100));
	assert_false(tw_pool_admit(p, 2 * mib, 1));
	tw_pool_unadmit(p, 13 * mib, 100);
	assert_true(tw_pool_admit(p, 2 * mib, 1));
	tw_pool_unadmit(p, 2 * mib, 1);
	tw_pool_pin(p, 10 * mib);
	assert_int_equal(tw_pool_pinned(p), 10 * mib);
	assert_false(tw_pool_admit(p, 5 * mib, 1));
	assert_true(tw_pool_admit(p, 3 * mib, 1));
	tw_pool_unadmit(p, 3 * mib, 1);
	tw_pool_unpin(p, 10 * mib);
	assert_true(tw_pool_admit(p, 1000 * mib, 1)); /* alone, however large */
	assert_false(tw_pool_admit(p, 1, 1));
	tw_pool_unadmit(p, 1000 * mib, 1);
	tw_pool_destroy(&p);
}

/* ---- table ---- */

#define N_TABLE 60000u

static bool table_has(const struct tw_table *t, uint64_t hash, uint32_t record)
{
	struct tw_table_probe p = tw_table_probe(t, hash);
	uint32_t i;

	while ((i = tw_table_next(t, &p)) != 0)
		if (i == record)
			return true;
	return false;
}

/* hash_of: crafted hashes too. Inserts, removes and looks up at random while the table grows. */
static void table_run(uint64_t (*hash_of)(uint32_t), uint32_t n, uint32_t full_check)
{
	struct tw_pool *p = pool_of(64, 1);
	struct tw_table t;
	bool *in = calloc(n + 1, sizeof(*in));
	uint32_t count = 0;

	assert_int_equal(tw_table_init(&t, p, 64), 0);
	for (uint32_t step = 0; step < 4 * n; step++) {
		uint32_t i = 1 + (uint32_t)(mix(step) % n), j = 1 + (uint32_t)(mix(step + 77) % n);

		if (!in[i] && mix(step) % 3 > 0) {
			assert_true(tw_table_insert(&t, hash_of(i), i));
			in[i] = true;
			count++;
		} else if (in[i] && mix(step) % 3 == 0) {
			tw_table_remove(&t, hash_of(i), i);
			in[i] = false;
			count--;
		}
		assert_int_equal(table_has(&t, hash_of(j), j), in[j]);
		if (step % full_check == 0)
			for (uint32_t k = 1; k <= n; k++)
				assert_int_equal(table_has(&t, hash_of(k), k), in[k]);
	}
	assert_int_equal(t.count, count);
	assert_true(tw_table_bytes(&t) <= 8 * (uint64_t)count * 8 + 8192);
	tw_table_deinit(&t);
	tw_pool_destroy(&p);
	free(in);
}

static uint64_t hash_good(uint32_t i)
{
	return mix(i);
}
/* What routing by hash leaves to one shard of 256: the same low byte, or the same high one. */
static uint64_t hash_low_same(uint32_t i)
{
	return mix(i) << 8 | 0x5a;
}
static uint64_t hash_high_same(uint32_t i)
{
	return mix(i) >> 8 | UINT64_C(0x5a) << 56;
}
static uint64_t hash_few(uint32_t i)
{
	return mix(i % 40);
}

static void table_grows_in_steps(void **state)
{
	(void)state;
	table_run(hash_good, N_TABLE, 50000);
}
static void table_of_one_shard(void **state)
{
	(void)state;
	table_run(hash_low_same, 5000, 4000);
	table_run(hash_high_same, 5000, 4000);
}
static void table_with_equal_hashes(void **state)
{
	(void)state;
	table_run(hash_few, 400, 100);
}

/* LOAD-04: ids crafted for an unseeded hash, or with constant low bits, spread by the key. */
static void LOAD_04_hash_flood(void **state)
{
	const struct tw_hash_key key = {UINT64_C(0x243F6A8885A308D3), UINT64_C(0x13198A2E03707344)};
	struct tw_pool *p = pool_of(64, 1);

	(void)state;
	for (uint32_t kind = 0; kind < 4; kind++) {
		struct tw_table t;
		uint64_t probes = 0;
		const uint32_t n = 38000;

		assert_int_equal(tw_table_init(&t, p, 64), 0);
		for (uint32_t round = 0; round < 2; round++) {
			for (uint32_t i = 1; i <= n; i++) {
				uint64_t x = kind == 0   ? (uint64_t)i << 56 | i >> 8
				             : kind == 1 ? i
				             : kind == 2
				                 ? (uint64_t)i * UINT64_C(0xF1DE83E19937733D)
				                 : (uint64_t)i << 32;
				uint64_t hash =
				    tw_hash_u64x2(key, kind == 1 ? 0 : x, kind == 1 ? x : 0);
				struct tw_table_probe probe = tw_table_probe(&t, hash);
				uint32_t begin = probe.at;

				if (round == 0) {
					assert_true(tw_table_insert(&t, hash, i));
					continue;
				}
				while (tw_table_next(&t, &probe) != i)
					begin = probe.at; /* another id with the same bits */
				probes += probe.at - begin;
			}
		}
		assert_false(t.moving);
		assert_true(probes < 2 * (uint64_t)n); /* about 1.7 each at this load */
		tw_table_deinit(&t);
	}
	tw_pool_destroy(&p);
}

static void table_full_says_so(void **state)
{
	struct tw_pool *p = pool_of(4, 1);
	struct tw_table t;
	uint32_t n = 0;

	(void)state;
	assert_int_equal(tw_table_init(&t, p, 1024), 0);
	assert_true(tw_pool_reserve_overhead(p, (4 << 20) - 8192, true));
	while (tw_table_insert(&t, mix(n + 1), n + 1))
		n++;
	assert_in_range(n, 860, 875);
	for (uint32_t i = 1; i <= n; i++)
		assert_true(table_has(&t, mix(i), i));
	tw_table_remove(&t, mix(5), 5);
	assert_true(tw_table_insert(&t, mix(5000), 5000));
	tw_table_deinit(&t);
	tw_pool_release_overhead(p, (4 << 20) - 8192);
	tw_pool_destroy(&p);
}

/* ---- wheel ---- */

#define N_WHEEL 3000u

static void wheel_fires_in_time(void **state)
{
	struct tw_pool *p = pool_of(64, 1);
	struct tw_wheel w;
	static uint64_t due[N_WHEEL]; /* 0: not filed */
	uint64_t now = 0;

	(void)state;
	assert_int_equal(tw_wheel_init(&w, p), 0);
	assert_true(w.next_ms == UINT64_MAX);
	for (uint32_t step = 0; step < 20000; step++) {
		struct tw_wheel_entry e[8];
		uint32_t i = (uint32_t)(mix(step) % N_WHEEL), n;
		uint64_t least = UINT64_MAX;

		if (due[i] == 0) {
			uint64_t want = now + mix(step + 9) % (step % 10 == 0 ? 500000 : 3000);

			due[i] = tw_wheel_put(&w, i + 1, want);
			assert_true(due[i] <= want);
			assert_true(due[i] == want || due[i] > now + 100000);
			due[i] = due[i] == 0 ? UINT64_MAX : due[i];
		}
		now += step % 1000 == 0 ? 400000 : mix(step + 5) % 20;
		while ((n = tw_wheel_take(&w, now, e, 8)) > 0) {
			for (uint32_t k = 0; k < n; k++) {
				uint64_t *filed = &due[e[k].record - 1];

				assert_true(*filed != 0 && (*filed <= now || *filed == UINT64_MAX));
				assert_int_equal(e[k].at_ms,
				                 *filed == UINT64_MAX ? 0 : (uint32_t)*filed);
				*filed = 0;
			}
		}
		for (uint32_t k = 0; k < N_WHEEL; k++)
			if (due[k] != 0 && due[k] < least)
				least = due[k];
		assert_true(least > now);
		assert_true(w.next_ms == least);
	}
	tw_wheel_deinit(&w);
	tw_pool_destroy(&p);
}

static bool is_odd(const void *ctx, const struct tw_wheel_entry *e)
{
	(void)ctx;
	return e->record % 2 != 0;
}

/* What is not stale fires as if nobody had swept; the room of the others is used again. */
static void wheel_is_swept(void **state)
{
	const uint32_t n = 20000;
	struct tw_pool *p = pool_of(64, 1);
	struct tw_wheel w;
	struct tw_wheel_entry e[64];
	uint64_t bytes;
	uint32_t got = 0, k;

	(void)state;
	assert_int_equal(tw_wheel_init(&w, p), 0);
	for (uint32_t i = 1; i <= n; i++)
		(void)tw_wheel_put(&w, i, mix(i) % 500);
	assert_int_equal(w.entries, n);
	bytes = tw_wheel_bytes(&w);
	while (w.entries > n / 2)
		tw_wheel_sweep(&w, 1000, is_odd, NULL);
	assert_int_equal(w.entries, n / 2);
	tw_wheel_sweep(&w, n, is_odd, NULL);
	assert_int_equal(w.entries, n / 2);
	for (uint32_t i = 1; i < n; i += 2)
		(void)tw_wheel_put(&w, i, mix(i) % 500);
	assert_int_equal(tw_wheel_bytes(&w), bytes);
	for (uint64_t ms = 0; ms < 500; ms++) {
		while ((k = tw_wheel_take(&w, ms, e, 64)) > 0) {
			for (uint32_t j = 0; j < k; j++) {
				assert_int_equal(mix(e[j].record) % 500, ms);
				assert_int_equal(e[j].at_ms, ms);
			}
			got += k;
		}
	}
	assert_int_equal(got, n);
	assert_int_equal(w.entries, 0);
	tw_wheel_deinit(&w);
	tw_pool_destroy(&p);
}

/* ---- verdicts ---- */

static void verdicts_remember(void **state)
{
	struct tw_verdicts v;
	struct tw_verdict d = {.keep = true,
	                       .rule = 513,
	                       .generation = 70001,
	                       .threshold = 12345,
	                       .destinations = 9},
	                  got;

	(void)state;
	assert_int_equal(tw_verdicts_init(&v, 1 << 16, 10 * UINT64_C(1000000000)), 0);
	assert_false(tw_verdicts_get(&v, 42, 70003, 0, &got));
	tw_verdicts_put(&v, 42, &d, 0);
	d.keep = false;
	d.threshold = TW_THRESHOLD_UNKNOWN;
	tw_verdicts_put(&v, 0, &d, 0);
	assert_int_equal(v.entries, 2);
	assert_true(tw_verdicts_get(&v, 42, 70003, 9, &got)); /* refreshed at 9 */
	assert_true(got.keep && got.rule == 513 && got.generation == 70001 &&
	            got.threshold == 12345 && got.destinations == 9 &&
	            got.reason == TW_REASON_LATE);
	assert_true(tw_verdicts_get(&v, 0, 70003, 9, &got));
	assert_true(!got.keep && got.threshold == TW_THRESHOLD_UNKNOWN);
	assert_true(tw_verdicts_get(&v, 42, 70003, 19, &got));
	assert_false(tw_verdicts_get(&v, 0, 70003, 20, &got)); /* 11 s unasked */
	assert_int_equal(v.entries, 1);
	tw_verdicts_deinit(&v);
}

/* Of kept traces more is remembered: every k-th is one, 0: none. */
static struct tw_verdict verdict_of(uint32_t i, uint32_t k)
{
	return (struct tw_verdict){.keep = k != 0 && i % k == 0,
	                           .rule = (uint16_t)i,
	                           .threshold = i,
	                           .destinations = (uint8_t)i};
}

static bool remembers(struct tw_verdicts *v, uint64_t hash, uint32_t i, uint32_t k, uint64_t now_s)
{
	const struct tw_verdict d = verdict_of(i, k);
	struct tw_verdict got;

	return tw_verdicts_get(v, hash, 0, now_s, &got) && got.keep == d.keep &&
	       got.rule == d.rule &&
	       (!d.keep || (got.threshold == i && got.destinations == (uint8_t)i));
}

static void verdicts_forget_the_oldest(void **state)
{
	const uint32_t lines = 2048, n = 30000;

	(void)state;
	for (uint32_t k = 0; k <= 3; k++) {
		const uint32_t entries = lines * 4 * (k == 0 ? 1 : k) / (k == 0 ? 1 : k + 1);
		struct tw_verdicts v;
		uint32_t recent = 0;

		assert_int_equal(tw_verdicts_init(&v, lines * 64, UINT64_MAX), 0);
		for (uint32_t i = 1; i <= n; i++) {
			const struct tw_verdict d = verdict_of(i, k);

			tw_verdicts_put(&v, mix(i), &d, i);
			/* One that is asked for again and again is never given up. */
			assert_true(remembers(&v, mix(1), 1, k, i));
			assert_true(tw_verdicts_bytes(&v) <= lines * 64);
		}
		assert_true(v.entries <= entries && v.entries > entries / 100 * 86);
		for (uint32_t i = n - entries / 2 + 1; i <= n; i++)
			recent += remembers(&v, mix(i), i, k, n);
		/* Of half as many as have a place; two kept ones fill a bucket. */
		assert_true(recent > entries / 2 / 100 * (k == 1 ? 84 : k == 0 ? 93 : 86));
		tw_verdicts_deinit(&v);
	}
}

/* Nothing is forgotten while a quarter of the lines is free, in tables small and large: a trace
 * whose verdict is gone would be decided a second time. */
static void verdicts_stay_while_there_is_room(void **state)
{
	const uint32_t sizes[] = {30, 100, 500, 3000, 6000, 100000};
	uint64_t id = 0;

	(void)state;
	for (uint32_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		for (uint32_t n = 0; n < 200000; n += sizes[s]) {
			const uint32_t k = n / sizes[s] % 4, size = sizes[s];
			struct tw_verdicts v;

			assert_int_equal(tw_verdicts_init(&v, UINT64_C(1) << 24, UINT64_MAX), 0);
			for (uint32_t i = 0; i < size; i++) {
				const struct tw_verdict d = verdict_of(i, k);

				tw_verdicts_put(&v, mix(id + i), &d, i);
			}
			assert_int_equal(v.entries, size);
			assert_true(tw_verdicts_bytes(&v) < size * (k == 1 ? 60 : 48) + 1024);
			for (uint32_t i = 0; i < size; i++)
				assert_true(remembers(&v, mix(id + i), i, k, size));
			id += size;
			tw_verdicts_deinit(&v);
		}
	}
}

/* An expired one goes when it is asked for, or for a new one; those beside it stay. */
static void verdicts_expire(void **state)
{
	struct tw_verdicts v;
	struct tw_verdict d = {.keep = true}, got;
	uint64_t count;

	(void)state;
	assert_int_equal(tw_verdicts_init(&v, 1 << 20, 10 * UINT64_C(1000000000)), 0);
	for (uint32_t i = 1; i <= 3000; i++)
		tw_verdicts_put(&v, mix(i), &d, 0);
	for (uint32_t i = 1; i <= 3000; i += 2)
		assert_true(tw_verdicts_get(&v, mix(i), 0, 8, &got));
	for (uint32_t i = 2; i <= 3000; i += 4)
		assert_false(tw_verdicts_get(&v, mix(i), 0, 12, &got));
	assert_int_equal(v.entries, 2250);
	for (uint32_t i = 1; i <= 3000; i += 2)
		assert_true(tw_verdicts_get(&v, mix(i), 0, 12, &got));
	count = v.count;
	for (uint32_t i = 5000; i < 20000; i++)
		tw_verdicts_put(&v, mix(i), &d, 100 + i / 50);
	assert_true(v.count < count * 2); /* at most some 500 live at a time */
	tw_verdicts_deinit(&v);
}

/* ---- records ---- */

static void records_are_reused(void **state)
{
	struct tw_pool *p = pool_of(4, 1);
	struct tw_records r;
	uint32_t i, j, n = 1;

	(void)state;
	assert_int_equal(tw_records_init(&r, p), 0);
	i = tw_records_get(&r);
	tw_record_at(&r, i)->bytes = 7;
	tw_record_at(&r, i)->state = TW_RECORD_OPEN;
	tw_records_put(&r, i);
	assert_int_equal(tw_record_at(&r, i)->state, TW_RECORD_FREE);
	j = tw_records_get(&r);
	assert_int_equal(i, j);
	assert_int_equal(tw_record_at(&r, j)->bytes, 0);
	while (tw_records_get(&r) != TW_RECORD_NONE)
		n++;
	assert_int_equal(n, TW_RECORDS_PER_CHUNK - 1); /* number 0 means none */
	assert_true(tw_records_grow(&r, false));
	for (i = 0; i < TW_RECORDS_PER_CHUNK; i++)
		assert_int_not_equal(tw_records_get(&r), TW_RECORD_NONE);
	tw_records_deinit(&r);
	tw_pool_destroy(&p);
}

/* One with entries in the open segment rests until another one is open, or until many do. */
static void records_rest(void **state)
{
	struct tw_pool *p = pool_of(4, 1);
	struct tw_records r;
	uint32_t i[TW_RECORDS_REST_MAX + 2];
	const uint32_t n = TW_RECORDS_REST_MAX;

	(void)state;
	assert_int_equal(tw_records_init(&r, p), 0);
	for (uint32_t k = 0; k < n + 2; k++)
		i[k] = tw_records_get(&r);
	tw_records_rest(&r, i[0], 7);
	assert_false(tw_records_may_wake(&r, 7));
	assert_int_not_equal(tw_records_get(&r), i[0]);
	for (uint32_t k = 1; k <= n; k++)
		tw_records_rest(&r, i[k], 7);
	assert_int_equal(tw_records_get(&r), i[0]); /* the one that rested longest */
	assert_true(tw_records_may_wake(&r, 8));
	tw_records_rest(&r, i[n + 1], 8); /* the others are free now */
	for (uint32_t k = 1; k <= n; k++)
		assert_int_equal(tw_records_get(&r), i[k]);
	assert_true(tw_records_may_wake(&r, 9));
	tw_records_wake(&r);
	assert_int_equal(tw_records_get(&r), i[n + 1]);
	assert_false(tw_records_may_wake(&r, 10));
	assert_int_equal(r.held, n + 3);
	tw_records_deinit(&r);
	tw_pool_destroy(&p);
}

/* Only chunks with such a trace have memory for it; without memory the trace has none. */
static void records_have_randomness_apart(void **state)
{
	struct tw_pool *p = pool_of(4, 1);
	struct tw_records r;
	uint64_t before;
	uint32_t i, j;

	(void)state;
	assert_int_equal(tw_records_init(&r, p), 0);
	i = tw_records_get(&r);
	j = tw_records_get(&r);
	before = tw_budget_used(&p->held);
	(void)tw_mem_fail_at(1, false);
	tw_records_set_rv(&r, i, 5);
	(void)tw_mem_fail_at(0, false);
	assert_false(tw_record_at(&r, i)->has_rv);
	assert_int_equal(tw_budget_used(&p->held), before);
	tw_records_set_rv(&r, i, 6);
	tw_records_set_rv(&r, j, UINT64_MAX >> 8);
	assert_true(tw_record_at(&r, i)->has_rv && tw_record_at(&r, j)->has_rv);
	assert_int_equal(tw_records_rv(&r, i), 6);
	assert_true(tw_records_rv(&r, j) == UINT64_MAX >> 8);
	assert_int_equal(tw_budget_used(&p->held), before + 8 * TW_RECORDS_PER_CHUNK);
	assert_int_equal(tw_records_bytes(&r), tw_budget_used(&p->held));
	tw_records_put(&r, i);
	assert_false(tw_record_at(&r, tw_records_get(&r))->has_rv);
	tw_records_deinit(&r);
	assert_true(tw_budget_used(&p->held) < before);
	tw_pool_destroy(&p);
}

/* ---- the log: what lives in it ---- */

#define ENTRY_BYTES 1000u

struct bare { /* a log with made entries: no request, no heads but one */
	struct tw_pool *pool;
	struct tw_records r;
	struct tw_log l;
};

static void bare_init(struct bare *b)
{
	b->pool = pool_of(64, 1);
	assert_int_equal(tw_records_init(&b->r, b->pool), 0);
	assert_int_equal(tw_log_init(&b->l, b->pool, (struct tw_hash_key){1, 2}), 0);
}

static void bare_deinit(struct bare *b)
{
	tw_log_deinit(&b->l);
	tw_records_deinit(&b->r);
	tw_pool_destroy(&b->pool);
}

static void bare_open(struct bare *b)
{
	uint32_t slot = tw_pool_get(b->pool, TW_SEGMENT_BYTES, true);

	assert_int_not_equal(slot, TW_SLOT_NONE);
	tw_log_close(&b->l);
	tw_log_hold(&b->l, slot);
	tw_log_open(&b->l, slot);
}

static uint32_t bare_begin(struct bare *b)
{
	uint32_t i = tw_records_get(&b->r);

	tw_record_at(&b->r, i)->state = TW_RECORD_OPEN;
	tw_log_hold_trace(&b->l, tw_record_at(&b->r, i));
	return i;
}

static void bare_end(struct bare *b, uint32_t i)
{
	tw_log_drop_trace(&b->l, tw_record_at(&b->r, i));
	tw_records_put(&b->r, i);
	tw_log_reclaim(&b->l);
}

static void bare_append(struct bare *b, uint32_t i, uint64_t span_id)
{
	struct tw_value v = {.type = TW_VALUE_STRING};
	struct tw_resource res = {.slots = &v};
	struct tw_scope sc = {0};
	static const uint8_t bytes[ENTRY_BYTES];
	struct tw_span sp = {.span_id = span_id, .bytes = bytes, .bytes_n = ENTRY_BYTES};
	struct tw_request req = {.spans = &sp,
	                         .span_count = 1,
	                         .resources = &res,
	                         .resource_count = 1,
	                         .scopes = &sc,
	                         .scope_count = 1};

	tw_log_begin(&b->l, &req);
	assert_true(tw_log_fits(&b->l, tw_log_need(&b->l, &req, &sp)));
	tw_log_append(&b->l, &req, &sp, tw_record_at(&b->r, i), i);
	tw_record_count(tw_record_at(&b->r, i), false);
}

/* Ids of the chain, newest first, are first, first − step … */
static void bare_check(struct bare *b, uint32_t i, uint64_t first, uint64_t step, uint32_t n)
{
	uint64_t link = tw_record_at(&b->r, i)->head;

	for (uint32_t k = 0; k < n; k++) {
		const struct tw_entry *e = tw_entry_at(&b->l, link);

		assert_int_equal(e->span_id, first - k * step);
		assert_int_equal(e->record, i);
		link = e->word & TW_LINK_MASK;
	}
	assert_int_equal(link, 0);
}

/* A segment goes when all that began in it or before are gone, without anybody looking into it. */
static void log_dies_by_age(void **state)
{
	struct bare b;
	uint32_t i, j, k;

	(void)state;
	bare_init(&b);
	i = bare_begin(&b);
	bare_append(&b, i, 1);
	bare_open(&b);
	j = bare_begin(&b);
	bare_append(&b, j, 2);
	bare_append(&b, i, 3);
	bare_open(&b);
	k = bare_begin(&b);
	bare_append(&b, k, 4);
	bare_append(&b, j, 5);
	assert_int_equal(b.l.segments, 4); /* and the reserve */
	bare_end(&b, j);
	assert_int_equal(b.l.segments, 4);
	bare_end(&b, i);
	assert_int_equal(b.l.segments, 2);
	bare_check(&b, k, 4, 1, 1);
	bare_open(&b);
	assert_int_equal(b.l.segments, 3);
	bare_end(&b, k);
	assert_int_equal(b.l.segments, 2);
	assert_int_equal(b.l.live, 0);
	assert_int_equal(b.l.span_bytes, 0);
	bare_deinit(&b);
}

/* A trace that is held while so many segments come and go that numbers are met again holds its
 * segment; those after it are found by looking, also those that nothing lives in. */
static void log_outlived_by_one(void **state)
{
	struct bare b;
	uint32_t i, looks = 100;
	uint64_t moved;

	(void)state;
	bare_init(&b);
	i = bare_begin(&b);
	bare_append(&b, i, 1);
	for (uint32_t n = 0; n < 3 * TW_LOG_NUMBERS; n++) {
		uint32_t j, victim;

		bare_open(&b);
		j = bare_begin(&b);
		for (uint32_t k = 0; k < 10; k++)
			bare_append(&b, j, 10 + k);
		bare_check(&b, j, 19, 1, 10);
		bare_end(&b, j);
		if (n % 20 != 19)
			continue;
		while ((victim = tw_log_victim(&b.l, &b.r, 4, TW_SEGMENT_BYTES, &looks)) !=
		       TW_SLOT_NONE) {
			assert_true(tw_log_compact(&b.l, &b.r, victim, &moved));
			tw_log_unhold(&b.l, victim);
			tw_pool_put(b.pool, victim);
		}
		assert_true(looks > 0);
		looks = 100;
		assert_int_equal(b.l.segments, 2);
		bare_check(&b, i, 1, 1, 1);
	}
	bare_end(&b, i);
	bare_open(&b);
	tw_log_reclaim(&b.l);
	assert_int_equal(b.l.segments, 2);
	assert_int_equal(b.l.live, 0);
	bare_deinit(&b);
}

/* Entries of traces that are gone name records that others have now, which began before or after
 * the segment was closed, in it or not. What is moved is the living's, in its order. */
static void log_compacts_after_reuse(void **state)
{
	struct bare b;
	uint32_t longs[20], shorts[20], victim, looks = 1;
	uint64_t moved, live;

	(void)state;
	bare_init(&b);
	for (uint32_t k = 0; k < 20; k++) {
		longs[k] = bare_begin(&b);
		bare_append(&b, longs[k], 100 * k + 1);
	}
	/* Records that are used again and again within one segment. */
	for (uint32_t round = 0; round < 20; round++) {
		for (uint32_t k = 0; k < 20; k++) {
			shorts[k] = bare_begin(&b);
			bare_append(&b, shorts[k], 5000 + k);
			bare_append(&b, shorts[k], 5100 + k);
		}
		bare_append(&b, longs[round], 100 * round + 2);
		for (uint32_t k = 0; k < 20 && round < 19; k++)
			bare_end(&b, shorts[k]);
	}
	bare_open(&b);
	for (uint32_t k = 0; k < 20; k++) {
		bare_append(&b, longs[k], 100 * k + 3);
		bare_append(&b, shorts[k], 5200 + k);
	}
	live = b.l.live;
	/* Somebody who looks believes that all of the shorts' entries live, as their records do. */
	assert_int_equal(tw_log_victim(&b.l, &b.r, 4, TW_SEGMENT_BYTES, &looks), TW_SLOT_NONE);
	victim = b.l.oldest;
	assert_true(tw_log_compact(&b.l, &b.r, victim, &moved));
	assert_int_equal(moved, 80 * tw_entry_size(ENTRY_BYTES));
	assert_int_equal(b.l.live, live);
	tw_log_unhold(&b.l, victim);
	tw_pool_put(b.pool, victim);
	for (uint32_t k = 0; k < 20; k++) {
		bare_check(&b, longs[k], 100 * k + 3, 1, 3);
		bare_check(&b, shorts[k], 5200 + k, 100, 3);
		assert_int_equal(tw_record_at(&b.r, longs[k])->stored,
		                 3 * tw_entry_size(ENTRY_BYTES));
	}
	/* Others have the records now: nothing of the segment lives. */
	bare_open(&b);
	for (uint32_t k = 0; k < 19; k++) {
		bare_end(&b, longs[k]);
		bare_end(&b, shorts[k]);
	}
	bare_end(&b, shorts[19]);
	for (uint32_t k = 0; k < 20; k++)
		bare_append(&b, bare_begin(&b), 9000 + k);
	assert_int_equal(b.l.segments, 3);
	looks = 1;
	victim = tw_log_victim(&b.l, &b.r, 4, TW_SEGMENT_BYTES, &looks);
	assert_int_equal(victim, b.l.oldest);
	assert_true(tw_log_compact(&b.l, &b.r, victim, &moved));
	assert_int_equal(moved, 3 * tw_entry_size(ENTRY_BYTES));
	tw_log_unhold(&b.l, victim);
	tw_pool_put(b.pool, victim);
	bare_check(&b, longs[19], 1903, 1, 3);
	bare_deinit(&b);
}

/* The open trace whose spans came first is found, whatever was moved, kept or given back. */
static void log_tells_the_eldest(void **state)
{
	struct bare b;
	uint32_t i[40], blocks_of_one = 0;
	uint64_t blocks = UINT64_MAX, moved;

	(void)state;
	bare_init(&b);
	assert_int_equal(tw_log_eldest(&b.l, &b.r, &blocks), TW_RECORD_NONE);
	for (uint32_t k = 0; k < 40; k++) {
		i[k] = bare_begin(&b);
		bare_append(&b, i[k], k);
		if (k % 10 == 9)
			bare_open(&b);
	}
	assert_int_equal(tw_log_eldest(&b.l, &b.r, &blocks), i[0]);
	assert_int_equal(tw_log_eldest(&b.l, &b.r, &blocks), i[0]);
	bare_end(&b, i[0]);
	tw_record_at(&b.r, i[1])->state = TW_RECORD_KEPT;
	assert_int_equal(tw_log_eldest(&b.l, &b.r, &blocks), i[2]);
	for (uint32_t k = 2; k < 9; k++)
		bare_end(&b, i[k]);
	/* Its segment is moved away while the search stands in it. */
	assert_int_equal(tw_log_eldest(&b.l, &b.r, &blocks), i[9]);
	assert_true(tw_log_compact(&b.l, &b.r, b.l.oldest, &moved));
	assert_int_equal(tw_log_eldest(&b.l, &b.r, &blocks), i[10]);
	for (uint32_t k = 10; k < 40; k++)
		bare_end(&b, i[k]);
	/* In bounds. */
	while (blocks = 1, tw_log_eldest(&b.l, &b.r, &blocks) == TW_RECORD_NONE)
		assert_true(++blocks_of_one < 100);
	blocks = UINT64_MAX;
	assert_int_equal(tw_log_eldest(&b.l, &b.r, &blocks), i[9]);
	bare_end(&b, i[9]);
	assert_int_equal(tw_log_eldest(&b.l, &b.r, &blocks), TW_RECORD_NONE);
	i[0] = bare_begin(&b);
	bare_append(&b, i[0], 7);
	assert_int_equal(tw_log_eldest(&b.l, &b.r, &blocks), i[0]);
	bare_deinit(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(pool_reuses_and_bounds),
	    cmocka_unit_test(pool_admits_what_fits),
	    cmocka_unit_test(table_grows_in_steps),
	    cmocka_unit_test(table_of_one_shard),
	    cmocka_unit_test(table_with_equal_hashes),
	    cmocka_unit_test(LOAD_04_hash_flood),
	    cmocka_unit_test(table_full_says_so),
	    cmocka_unit_test(wheel_fires_in_time),
	    cmocka_unit_test(wheel_is_swept),
	    cmocka_unit_test(verdicts_remember),
	    cmocka_unit_test(verdicts_forget_the_oldest),
	    cmocka_unit_test(records_are_reused),
	    cmocka_unit_test(verdicts_stay_while_there_is_room),
	    cmocka_unit_test(verdicts_expire),
	    cmocka_unit_test(records_rest),
	    cmocka_unit_test(records_have_randomness_apart),
	    cmocka_unit_test(log_dies_by_age),
	    cmocka_unit_test(log_outlived_by_one),
	    cmocka_unit_test(log_compacts_after_reuse),
	    cmocka_unit_test(log_tells_the_eldest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
