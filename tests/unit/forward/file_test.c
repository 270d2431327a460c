/* The file destination: whole lines, whatever the disk does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "disk.h"
#include "tw/base/mem.h"

struct rig {
	uv_loop_t loop;
	struct disk disk;
	struct tw_file *file;
	struct tw_transport t;
	uint64_t answers;
	enum tw_send_outcome outcome;
	char text[200];
};

static void rig_start(struct rig *r)
{
	struct tw_file_ops ops = disk_ops(&r->disk);
	struct tw_error err;

	assert_int_equal(uv_loop_init(&r->loop), 0);
	r->file = tw_file_create("kept.jsonl", &ops, &err);
	assert_non_null(r->file);
	assert_int_equal(tw_transport_file_create(r->file, &r->loop, &r->t), 0);
}

static void rig_end(struct rig *r)
{
	r->t.stop(r->t.self);
	while (!r->t.stopped(r->t.self))
		uv_run(&r->loop, UV_RUN_ONCE);
	r->t.destroy(r->t.self);
	tw_file_destroy(&r->file);
	assert_null(r->file);
	assert_int_equal(uv_loop_close(&r->loop), 0);
	assert_int_equal(r->disk.closes, r->disk.opens);
	disk_deinit(&r->disk);
}

static void on_done(void *ctx, const struct tw_send_result *res)
{
	struct rig *r = ctx;

	r->answers++;
	r->outcome = res->outcome;
	snprintf(r->text, sizeof(r->text), "%s", res->text);
	assert_true(res->retry_after_ms == UINT64_MAX);
}

/* A request of one span. */
static void request(struct tw_buf *b, uint64_t number)
{
	uint8_t span[64] = {0x0a, 16, 1,  2,  3,  4,  5,  6,  7,    8,
	                    9,    10, 11, 12, 13, 14, 15, 16, 0x12, 8};
	size_t n = 20;
	struct tw_emit_span e = {.resource_key = 1};
	struct tw_emit_patch patch = {.rule = tw_slice_str("errors"),
	                              .reason = tw_slice_str("root")};

	for (int i = 7; i >= 0; i--)
		span[n++] = (uint8_t)(number >> (8 * i));
	memcpy(span + n, "\x2a\x07POST /x", 9);
	n += 9;
	e.bytes = tw_slice(span, n);
	tw_buf_init(b, 0);
	assert_int_equal(tw_emit_trace(b, &e, 1, &patch), 0);
}

static enum tw_send_outcome send_bytes(struct rig *r, struct tw_slice bytes)
{
	struct tw_batch batch = {.request = bytes, .spans = 1};
	uint64_t before = r->answers;

	assert_true(r->t.send(r->t.self, &batch, on_done, r));
	while (r->answers == before)
		uv_run(&r->loop, UV_RUN_ONCE);
	assert_int_equal(r->answers, before + 1);
	return r->outcome;
}

static enum tw_send_outcome send_number(struct rig *r, uint64_t number)
{
	enum tw_send_outcome o;
	struct tw_buf b;

	request(&b, number);
	o = send_bytes(r, tw_buf_slice(&b));
	tw_buf_deinit(&b);
	return o;
}

static void test_lines(void **state)
{
	struct rig r = {0};

	(void)state;
	rig_start(&r);
	for (uint64_t i = 1; i <= 20; i++)
		assert_int_equal(send_number(&r, i), TW_SENT);
	assert_int_equal(disk_lines(&r.disk), 20);
	for (uint64_t i = 1; i <= 20; i++)
		assert_int_equal(disk_count(&r.disk, i), 1);
	rig_end(&r);
}

/* For every write: it fails, once or for a while, with the line cut anywhere by short writes before
 * it. Each batch is sent again until it is taken, and is in the file once. */
static void fail_each_write(int why, uint64_t fail_count, uint64_t truncate_fails, bool zero)
{
	for (uint64_t at = 1; at <= 40; at++) {
		struct rig r = {.disk = {.fail_at = at,
		                         .fail_count = fail_count,
		                         .fail_errno = why,
		                         .most_at_once = 17,
		                         .truncate_fails = truncate_fails,
		                         .zero = zero}};
		uint64_t retries = 0;

		rig_start(&r);
		for (uint64_t i = 1; i <= 5; i++) {
			enum tw_send_outcome o;

			while ((o = send_number(&r, i)) == TW_SEND_RETRY) {
				retries++;
				assert_non_null(strstr(r.text, "kept.jsonl"));
				if (truncate_fails == 0)
					assert_int_equal(disk_lines(&r.disk), i - 1);
			}
			assert_int_equal(o, TW_SENT);
			assert_int_equal(disk_lines(&r.disk), i);
		}
		assert_int_equal(retries >= 1, r.disk.writes >= at);
		for (uint64_t i = 1; i <= 5; i++)
			assert_int_equal(disk_count(&r.disk, i), 1);
		rig_end(&r);
	}
}

static void DISK_01_no_space_at_each_write(void **state)
{
	(void)state;
	fail_each_write(ENOSPC, 0, 0, false);
	fail_each_write(ENOSPC, 5, 0, false);
	fail_each_write(EIO, 0, 0, false);
	fail_each_write(ENOSPC, 0, 0, true);
	/* The half line cannot be taken back at first. */
	fail_each_write(ENOSPC, 0, 3, false);
	fail_each_write(EIO, 2, 2, false);
}

static void DISK_04_short_write(void **state)
{
	(void)state;
	for (size_t most = 1; most < 30; most++) {
		struct rig r = {.disk = {.most_at_once = most, .interrupts = most % 2}};

		rig_start(&r);
		for (uint64_t i = 1; i <= 5; i++)
			assert_int_equal(send_number(&r, i), TW_SENT);
		assert_int_equal(disk_lines(&r.disk), 5);
		for (uint64_t i = 1; i <= 5; i++)
			assert_int_equal(disk_count(&r.disk, i), 1);
		rig_end(&r);
	}
}

/* The log was rotated and the new file may not be made: batches wait until it may. */
static void DISK_06_permission_lost(void **state)
{
	struct rig r = {0};

	(void)state;
	rig_start(&r);
	assert_int_equal(send_number(&r, 1), TW_SENT);
	r.disk.open_errno = EACCES;
	tw_file_reopen(r.file);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(send_number(&r, 2), TW_SEND_RETRY);
		assert_non_null(strstr(r.text, strerror(EACCES)));
	}
	r.disk.open_errno = 0;
	assert_int_equal(send_number(&r, 2), TW_SENT);
	assert_int_equal(disk_lines(&r.disk), 2);
	assert_int_equal(r.disk.opens, 2);
	rig_end(&r);
}

static void DISK_06_permission_lost_for_writing(void **state)
{
	struct rig r = {.disk = {.fail_at = 2, .fail_count = 9, .fail_errno = EACCES}};

	(void)state;
	rig_start(&r);
	assert_int_equal(send_number(&r, 1), TW_SENT);
	for (int i = 0; i < 10; i++)
		assert_int_equal(send_number(&r, 2), TW_SEND_RETRY);
	assert_int_equal(send_number(&r, 2), TW_SENT);
	assert_int_equal(disk_lines(&r.disk), 2);
	rig_end(&r);
}

static void test_not_there_at_the_start(void **state)
{
	struct disk d = {.open_errno = ENOENT};
	struct tw_file_ops ops = disk_ops(&d);
	struct tw_error err;

	(void)state;
	assert_null(tw_file_create("/nowhere/kept.jsonl", &ops, &err));
	assert_int_equal(err.code, TW_EIO);
	assert_non_null(strstr(err.text, "/nowhere/kept.jsonl"));
	assert_null(tw_file_create("/nowhere/kept.jsonl", NULL, &err));
	assert_int_equal(err.code, TW_EIO);
}

/* Somebody shortens the file under us (copytruncate) just when a line was cut: taking it back must
 * not lengthen the file. */
static void test_shortened_by_somebody_else(void **state)
{
	struct rig r = {.disk = {.most_at_once = 17, .truncate_fails = 1}};

	(void)state;
	rig_start(&r);
	assert_int_equal(send_number(&r, 1), TW_SENT);
	r.disk.fail_errno = ENOSPC;
	r.disk.fail_at = r.disk.writes + 2;
	assert_int_equal(send_number(&r, 2), TW_SEND_RETRY);
	r.disk.n = 0;
	assert_int_equal(send_number(&r, 2), TW_SENT);
	assert_int_equal(disk_lines(&r.disk), 1);
	rig_end(&r);
}

static void test_garbage_is_permanent(void **state)
{
	struct rig r = {0};

	(void)state;
	rig_start(&r);
	assert_int_equal(send_bytes(&r, tw_slice("\x0a\x7f", 2)), TW_SEND_PERMANENT);
	assert_int_equal(r.disk.n, 0);
	assert_int_equal(send_number(&r, 1), TW_SENT);
	rig_end(&r);
}

/* A pipe: nothing can be taken back, and it must not hang in the attempt. */
static void test_pipe(void **state)
{
	struct rig r = {
	    .disk = {.pipe = true, .most_at_once = 17, .fail_at = 2, .fail_errno = EPIPE}};

	(void)state;
	rig_start(&r);
	assert_int_equal(send_number(&r, 1), TW_SEND_RETRY);
	assert_int_equal(send_number(&r, 1), TW_SENT);
	rig_end(&r);
}

static void test_stop_answers_all(void **state)
{
	struct rig r = {.disk = {.most_at_once = 1}};
	struct tw_batch batch = {.spans = 1};
	struct tw_buf b;
	uint64_t sent = 0;

	(void)state;
	rig_start(&r);
	request(&b, 1);
	batch.request = tw_buf_slice(&b);
	while (r.t.send(r.t.self, &batch, on_done, &r))
		sent++;
	assert_true(sent >= 4);
	r.t.stop(r.t.self);
	assert_false(r.t.send(r.t.self, &batch, on_done, &r));
	while (!r.t.stopped(r.t.self))
		uv_run(&r.loop, UV_RUN_ONCE);
	assert_int_equal(r.answers, sent);
	assert_true(disk_lines(&r.disk) <= sent);
	rig_end(&r);
	tw_buf_deinit(&b);
}

/* ---- the real disk ---- */

static uint64_t lines_of(const char *path)
{
	struct disk d = {0};
	FILE *f = fopen(path, "r");
	uint64_t lines;

	assert_non_null(f);
	d.p = calloc(1, 1 << 20);
	d.n = fread(d.p, 1, 1 << 20, f);
	fclose(f);
	lines = disk_lines(&d);
	free(d.p);
	return lines;
}

static void real_start(struct rig *r, char *dir, char *path, size_t cap)
{
	struct tw_error err;

	strcpy(dir, "/tmp/tw-file-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, cap, "%s/kept.jsonl", dir);
	assert_int_equal(uv_loop_init(&r->loop), 0);
	r->file = tw_file_create(path, NULL, &err);
	assert_non_null(r->file);
	assert_int_equal(tw_transport_file_create(r->file, &r->loop, &r->t), 0);
}

static void test_reopen_follows_the_name(void **state)
{
	char dir[64], path[96], rotated[96];
	struct rig r = {0};

	(void)state;
	real_start(&r, dir, path, sizeof(path));
	snprintf(rotated, sizeof(rotated), "%s/kept.jsonl.1", dir);
	assert_int_equal(send_number(&r, 1), TW_SENT);
	assert_int_equal(rename(path, rotated), 0);
	assert_int_equal(send_number(&r, 2), TW_SENT);
	tw_file_reopen(r.file);
	assert_int_equal(send_number(&r, 3), TW_SENT);
	assert_int_equal(lines_of(rotated), 2);
	assert_int_equal(lines_of(path), 1);
	rig_end(&r);
	unlink(path);
	unlink(rotated);
	rmdir(dir);
}

/* The kernel's own refusal in the middle of a line; its signal must not end the process. */
static void DISK_01_file_size_limit(void **state)
{
	struct rlimit was, low;
	char dir[64], path[96];
	uint64_t sent = 0;
	struct rig r = {0};

	(void)state;
	real_start(&r, dir, path, sizeof(path));
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	low = was;
	low.rlim_cur = 2000;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	while (send_number(&r, sent + 1) == TW_SENT)
		assert_true(++sent < 100);
	assert_int_equal(r.outcome, TW_SEND_RETRY);
	assert_true(sent > 0);
	assert_int_equal(lines_of(path), sent);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
	assert_int_equal(send_number(&r, sent + 1), TW_SENT);
	assert_int_equal(lines_of(path), sent + 1);
	rig_end(&r);
	unlink(path);
	rmdir(dir);
}

/* ---- exporters over it ---- */

#define WORKERS 3u
#define TRACES  400u

struct worker {
	struct tw_file *file;
	uint64_t first;
	uint64_t forwarded, retries;
};

static void offer_until_taken(struct tw_exporter *x, uv_loop_t *loop, uint64_t number)
{
	uint8_t span[32] = {0x12, 8};
	struct tw_emit_span e = {.bytes = tw_slice(span, 10)};
	struct tw_emit_patch patch = {.reason = tw_slice_str("root")};

	for (int i = 0; i < 8; i++)
		span[2 + i] = (uint8_t)(number >> (56 - 8 * i));
	while (tw_exporter_offer(x, &e, 1, &patch, 0, tw_now(&tw_clock_real)) == TW_OFFER_FULL) {
		uv_run(loop, UV_RUN_NOWAIT);
		tw_exporter_tick(x, tw_now(&tw_clock_real));
	}
}

static void worker_main(void *arg)
{
	struct worker *w = arg;
	struct tw_dest_opts opts = {.name = (char *)(uintptr_t) "kept",
	                            .retry_for_ns = TW_NEVER,
	                            .batch_bytes = 300,
	                            .backoff_first_ns = TW_NS_PER_MS / 10,
	                            .backoff_most_ns = TW_NS_PER_MS};
	struct tw_exporter_config c = {.opts = &opts,
	                               .queue_bytes_max = 4000,
	                               .seed = w->first,
	                               .in_flight_max = 4,
	                               .clock = &tw_clock_real};
	struct tw_exporter *x;
	uv_loop_t loop;

	assert_int_equal(uv_loop_init(&loop), 0);
	assert_int_equal(tw_transport_file_create(w->file, &loop, &c.transport), 0);
	x = tw_exporter_create(&c);
	assert_non_null(x);
	for (uint64_t i = 0; i < TRACES; i++)
		offer_until_taken(x, &loop, w->first + i);
	tw_exporter_flush(x, tw_now(&tw_clock_real));
	while (!tw_exporter_empty(x)) {
		uv_run(&loop, UV_RUN_NOWAIT);
		tw_exporter_tick(x, tw_now(&tw_clock_real));
	}
	w->forwarded = tw_counter_get(&tw_exporter_stats(x)->forwarded);
	w->retries = tw_counter_get(&tw_exporter_stats(x)->retries);
	tw_exporter_stop(x);
	while (!tw_exporter_stopped(x))
		uv_run(&loop, UV_RUN_ONCE);
	tw_exporter_destroy(&x);
	assert_int_equal(uv_loop_close(&loop), 0);
}

/* Several workers write one file on a disk that fails now and then: every span is in it once, in
 * whole lines. */
static void test_workers_share_a_failing_disk(void **state)
{
	struct disk d = {.most_at_once = 50,
	                 .fail_at = 40,
	                 .fail_count = 60,
	                 .fail_errno = ENOSPC,
	                 .truncate_fails = 3};
	struct tw_file_ops ops = disk_ops(&d);
	struct worker w[WORKERS];
	uv_thread_t threads[WORKERS];
	struct tw_file *f = tw_file_create("kept.jsonl", &ops, NULL);
	uint64_t retries = 0;

	(void)state;
	assert_non_null(f);
	for (uint32_t i = 0; i < WORKERS; i++) {
		w[i] = (struct worker){.file = f, .first = (i + 1) * 1000000};
		assert_int_equal(uv_thread_create(&threads[i], worker_main, &w[i]), 0);
	}
	for (uint32_t i = 0; i < WORKERS; i++) {
		if (i % 2)
			tw_file_reopen(f);
		assert_int_equal(uv_thread_join(&threads[i]), 0);
	}
	tw_file_destroy(&f);
	disk_lines(&d);
	for (uint32_t i = 0; i < WORKERS; i++) {
		assert_int_equal(w[i].forwarded, TRACES);
		retries += w[i].retries;
		for (uint64_t n = 0; n < TRACES; n++)
			assert_int_equal(disk_count(&d, w[i].first + n), 1);
	}
	assert_true(retries > 0);
	assert_int_equal(d.opens, d.closes);
	disk_deinit(&d);
}

/* Creation fails at every allocation without a trace; a job that finds no memory is told to come
 * back. */
static void MEM_01_allocation_fails(void **state)
{
	(void)state;
	for (uint64_t n = 1; n < 50; n++) {
		struct disk d = {0};
		struct tw_file_ops ops = disk_ops(&d);
		struct tw_error err;
		struct tw_file *f;

		tw_mem_fail_at(n, false);
		f = tw_file_create("kept.jsonl", &ops, &err);
		tw_mem_fail_at(0, false);
		if (!f)
			assert_int_equal(err.code, TW_ENOMEM);
		tw_file_destroy(&f);
		assert_int_equal(d.opens, d.closes);
		disk_deinit(&d);
	}
	for (uint64_t n = 1; n < 50; n++) {
		struct rig r = {0};
		enum tw_send_outcome o;
		struct tw_buf b;

		rig_start(&r);
		request(&b, 1);
		tw_mem_fail_at(n, false);
		o = send_bytes(&r, tw_buf_slice(&b));
		tw_mem_fail_at(0, false);
		assert_true(o == TW_SENT || o == TW_SEND_RETRY);
		assert_int_equal(disk_lines(&r.disk), o == TW_SENT);
		if (o == TW_SEND_RETRY)
			assert_int_equal(send_bytes(&r, tw_buf_slice(&b)), TW_SENT);
		else
			assert_true(n > 1);
		assert_int_equal(disk_lines(&r.disk), 1);
		tw_buf_deinit(&b);
		rig_end(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_lines),
	    cmocka_unit_test(DISK_01_no_space_at_each_write),
	    cmocka_unit_test(DISK_01_file_size_limit),
	    cmocka_unit_test(DISK_04_short_write),
	    cmocka_unit_test(DISK_06_permission_lost),
	    cmocka_unit_test(DISK_06_permission_lost_for_writing),
	    cmocka_unit_test(test_not_there_at_the_start),
	    cmocka_unit_test(test_shortened_by_somebody_else),
	    cmocka_unit_test(test_garbage_is_permanent),
	    cmocka_unit_test(test_pipe),
	    cmocka_unit_test(test_stop_answers_all),
	    cmocka_unit_test(test_reopen_follows_the_name),
	    cmocka_unit_test(test_workers_share_a_failing_disk),
	    cmocka_unit_test(MEM_01_allocation_fails),
	};
	return cmocka_run_group_tests_name("forward_file", tests, NULL, NULL);
}
