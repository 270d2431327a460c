/* MEM-01: the n-th allocation fails, for n = 1 … 200 and as far as the path goes: at start-up, on
 * the way of a request through sockets, framing, inflating, scanning, buffering and the file, and
 * on reload. Nothing may crash, leak or be left half done: a start that fails fails whole, a
 * request is answered or its connection closed, and the next one is served. */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <cmocka.h>
#include <zlib.h>

#include "pb_build.h"
#include "tw/base/mem.h"
#include "tw/engine.h"

#define TRIES            200
#define PATH_ALLOCATIONS 16 /* about as many as a request takes */
#define ROUNDS           4

static const char *no_env(void *ctx, const char *name)
{
	(void)ctx, (void)name;
	return NULL;
}

static const struct tw_config_env env = {.get = no_env, .memory_limit = 256u << 20, .cpus = 2};
static char dir[] = "/tmp/traceweir-test-XXXXXX";
static char rules_path[64], out_path[64], rules_set[80], file_set[96];

static const char *const sets[] = {
    "receive.otlp_grpc=127.0.0.1:0",
    "receive.otlp_http=127.0.0.1:0",
    "admin.listen=127.0.0.1:0",
    "memory_max=32MiB",
    "workers=2",
    "forward.0.name=kept",
    "forward.0.batch_age=1ms",
    "forward.0.backoff_first=1ms",
    "forward.0.backoff_most=5ms",
    "buffer.bytes_max=4MiB",
    "verdicts.bytes_max=64KiB",
    "metrics.series_max=100",
    rules_set,
    file_set,
};

static int group_setup(void **state)
{
	static const char rules[] =
	    "wait: { root: 10ms, idle: 20ms, most: 1s }\n"
	    "rules:\n"
	    "  - { name: slow, when: '{ duration > 1s && name =~ \"a.*\" }', keep: 5 per 1s }\n"
	    "  - { name: rest, keep: all }\n";
	FILE *f;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(rules_path, sizeof(rules_path), "%s/rules.yaml", dir);
	snprintf(out_path, sizeof(out_path), "%s/kept.jsonl", dir);
	snprintf(rules_set, sizeof(rules_set), "rules=%s", rules_path);
	snprintf(file_set, sizeof(file_set), "forward.0.file=%s", out_path);
	f = fopen(rules_path, "w");
	assert_non_null(f);
	fwrite(rules, 1, sizeof(rules) - 1, f);
	fclose(f);
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	unlink(rules_path);
	unlink(out_path);
	rmdir(dir);
	return 0;
}

/* 0 and a started engine, or an error and nothing. */
static int begin(struct tw_engine **out)
{
	struct tw_config *c = NULL;
	struct tw_buf report;
	int rc;

	*out = NULL;
	tw_buf_init(&report, 0);
	rc = tw_config_load(tw_slice(NULL, 0), "test", sets, sizeof(sets) / sizeof(*sets), &env, &c,
	                    &report);
	if (rc == 0) {
		rc = tw_engine_create(c, &tw_clock_real, out, &report);
		if (rc != 0)
			tw_config_destroy(&c);
	} else {
		assert_null(c);
	}
	tw_buf_deinit(&report);
	if (rc == 0 && (rc = tw_engine_start(*out)) != 0)
		tw_engine_destroy(out);
	return rc;
}

static void MEM_01_allocation_fails_at_start(void **state)
{
	struct tw_engine *e;
	uint64_t n = 1;
	int rc;

	(void)state;
	for (int sticky = 0; sticky < 2; sticky++) {
		uint32_t failed = 0;

		for (n = 1; n < 100000; n += n < TRIES ? 1 : n) {
			uint64_t asked;

			tw_mem_fail_at(n, sticky);
			rc = begin(&e);
			asked = tw_mem_fail_at(0, false);
			if (rc == 0)
				tw_engine_destroy(&e);
			else
				failed++;
			assert_null(e);
			if (asked < n) {
				assert_int_equal(rc, 0);
				break;
			}
		}
		/* Some may be done without; most may not. */
		assert_true(failed > TRIES / 2);
	}
	assert_int_equal(begin(&e), 0);
	tw_engine_destroy(&e);
}

/* ---- requests ---- */

static void build(struct pb *b, uint64_t seed)
{
	uint8_t id[16] = {0};

	memcpy(id, &seed, 8);
	id[15] = 1;
	pb_clear(b);
	pb_begin(b, 1);
	pb_begin(b, 1);
	pb_attr(b, 1, "service.name", "shop");
	pb_end(b);
	pb_begin(b, 2);
	for (int i = 0; i < 20; i++) {
		pb_begin(b, 2);
		pb_bytes(b, 1, id, 16);
		id[0] ^= (uint8_t)(i + 1);
		pb_bytes(b, 2, id, 8);
		id[0] ^= (uint8_t)(i + 1);
		pb_str(b, 5, "op");
		pb_varint(b, 6, 2);
		pb_fixed64(b, 7, 1750000000000000000u);
		pb_fixed64(b, 8, 1750000000001000000u);
		pb_end(b);
	}
	pb_end(b);
	pb_end(b);
}

static int dial(uint16_t port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct timeval t = {.tv_sec = 60};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t)), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static size_t read_to_end(int fd, uint8_t *p, size_t cap)
{
	size_t n = 0;
	ssize_t got;

	while (n < cap && (got = recv(fd, p + n, cap - n, 0)) > 0)
		n += (size_t)got;
	return n;
}

/* The status of the answer to one OTLP/HTTP request; 0: the connection was closed without one. */
static int post(uint16_t port, const struct pb *b, const char *more)
{
	char head[400], answer[4096];
	int fd = dial(port), status = 0;
	size_t n;

	snprintf(head, sizeof(head),
	         "POST /v1/traces HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-protobuf\r\n"
	         "Connection: close\r\n%sContent-Length: %zu\r\n\r\n",
	         more, b->n);
	(void)!send(fd, head, strlen(head), MSG_NOSIGNAL);
	(void)!send(fd, b->p, b->n, MSG_NOSIGNAL);
	n = read_to_end(fd, (uint8_t *)answer, sizeof(answer) - 1);
	answer[n] = '\0';
	if (n >= 12 && memcmp(answer, "HTTP/1.1 ", 9) == 0)
		status = atoi(answer + 9);
	close(fd);
	return status;
}

static void h2_frame(struct pb *f, uint8_t kind, uint8_t flags, uint32_t stream, const void *p,
                     size_t n)
{
	uint8_t head[9] = {(uint8_t)(n >> 16),
	                   (uint8_t)(n >> 8),
	                   (uint8_t)n,
	                   kind,
	                   flags,
	                   (uint8_t)(stream >> 24),
	                   (uint8_t)(stream >> 16),
	                   (uint8_t)(stream >> 8),
	                   (uint8_t)stream};

	pb_raw(f, head, 9);
	pb_raw(f, p, n);
}

static void field(struct pb *b, const char *name, const char *value)
{
	pb_byte(b, 0);
	pb_byte(b, (uint8_t)strlen(name));
	pb_raw(b, name, strlen(name));
	pb_byte(b, (uint8_t)strlen(value));
	pb_raw(b, value, strlen(value));
}

/* One OTLP/gRPC request; true: something was answered or the connection was closed, in its time. */
static bool call(uint16_t port, const struct pb *b)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	uint8_t prefix[5] = {0, 0, 0, (uint8_t)(b->n >> 8), (uint8_t)b->n}, answer[8192];
	struct pb out = {0}, head = {0}, data = {0};
	int fd = dial(port);
	ssize_t got;

	field(&head, ":method", "POST");
	field(&head, ":scheme", "http");
	field(&head, ":path", "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
	field(&head, "content-type", "application/grpc");
	field(&head, "te", "trailers");
	pb_raw(&data, prefix, 5);
	pb_raw(&data, b->p, b->n);
	pb_raw(&out, preface, sizeof(preface) - 1);
	h2_frame(&out, 4, 0, 0, NULL, 0);
	h2_frame(&out, 1, 4, 1, head.p, head.n);
	h2_frame(&out, 0, 1, 1, data.p, data.n);
	(void)!send(fd, out.p, out.n, MSG_NOSIGNAL);
	shutdown(fd, SHUT_WR);
	/* To the end: the peer closes once all is answered. */
	do
		got = recv(fd, answer, sizeof(answer), 0);
	while (got > 0);
	close(fd);
	pb_free(&out);
	pb_free(&head);
	pb_free(&data);
	return got == 0 || errno == ECONNRESET;
}

static void pack(const struct pb *plain, struct pb *out)
{
	uint8_t buf[8192];
	z_stream z = {.next_in = plain->p,
	              .avail_in = (unsigned)plain->n,
	              .next_out = buf,
	              .avail_out = sizeof(buf)};

	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	pb_clear(out);
	pb_raw(out, buf, sizeof(buf) - z.avail_out);
	deflateEnd(&z);
}

/* The n-th allocation fails while a request of this kind is taken: was it refused? The next one is
 * served. */
static bool fail_one(struct tw_engine *e, int kind, uint64_t n, struct pb *b, struct pb *packed,
                     uint64_t *sent)
{
	int status = 200;

	build(b, 1 + (*sent)++);
	pack(b, packed);
	tw_mem_fail_at(n, false);
	if (kind == 0)
		status = post(tw_engine_port(e, 1), b, "");
	else if (kind == 1)
		status = post(tw_engine_port(e, 1), packed, "Content-Encoding: gzip\r\n");
	else
		assert_true(call(tw_engine_port(e, 0), b));
	tw_mem_fail_at(0, false);
	assert_true(status == 200 || status == 503 || status == 0);
	build(b, 1 + (*sent)++);
	assert_int_equal(post(tw_engine_port(e, 1), b, ""), 200);
	return status != 200;
}

static void MEM_01_allocation_fails_on_the_request_path(void **state)
{
	struct pb b = {0}, packed = {0};
	struct tw_engine *e;
	uint32_t refused = 0;
	uint64_t sent = 0;

	(void)state;
	assert_int_equal(begin(&e), 0);
	for (int kind = 0; kind < 3; kind++) {
		for (uint64_t n = 1; n <= TRIES; n++) {
			/* Threads that end older connections allocate and free, too: the n-th one
			 * is the request's only now and then. */
			for (int round = 0; round < (n <= PATH_ALLOCATIONS ? ROUNDS : 1); round++)
				refused += fail_one(e, kind, n, &b, &packed, &sent);
		}
	}
	assert_true(refused > 10);
	assert_int_equal(tw_engine_drain(e), 0);
	tw_engine_destroy(&e);
	pb_free(&b);
	pb_free(&packed);
}

static void MEM_01_allocation_fails_on_reload(void **state)
{
	struct pb b = {0};
	struct tw_engine *e;
	uint32_t failed = 0;

	(void)state;
	assert_int_equal(begin(&e), 0);
	for (uint64_t n = 1; n <= TRIES; n++) {
		struct tw_buf report;

		tw_buf_init(&report, 0);
		tw_mem_fail_at(n, false);
		failed += tw_engine_reload(e, &report) != 0;
		tw_mem_fail_at(0, false);
		tw_buf_deinit(&report);
		build(&b, n);
		assert_int_equal(post(tw_engine_port(e, 1), &b, ""), 200);
	}
	assert_true(failed > 10);
	{
		struct tw_buf report;

		tw_buf_init(&report, 0);
		assert_int_equal(tw_engine_reload(e, &report), 0);
		tw_buf_deinit(&report);
	}
	assert_int_equal(tw_engine_drain(e), 0);
	tw_engine_destroy(&e);
	pb_free(&b);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(MEM_01_allocation_fails_at_start),
	    cmocka_unit_test(MEM_01_allocation_fails_on_the_request_path),
	    cmocka_unit_test(MEM_01_allocation_fails_on_reload),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
