#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "tw/admin.h"
#include "tw/base/mem.h"
#include "tw/net.h"

struct bed {
	struct tw_admin *admin;
	struct tw_registry *registry;
	_Atomic int readiness;
	_Atomic uint32_t scrapes, peeks;
	_Atomic size_t filler; /* bytes of label values on the page */
	const char *status;
};

static enum tw_readiness readiness(void *ctx)
{
	return (enum tw_readiness)atomic_load(&((struct bed *)ctx)->readiness);
}

static void status(void *ctx, struct tw_buf *out)
{
	tw_buf_puts(out, ((struct bed *)ctx)->status);
}

static void collect(void *ctx, struct tw_expo *e)
{
	struct bed *b = ctx;
	static char block[4001];
	uint64_t x = 88172645463325252u;

	if (e->peek)
		atomic_fetch_add(&b->peeks, 1);
	else
		atomic_fetch_add(&b->scrapes, 1);
	tw_expo_family(e, "test_scrapes", TW_TYPE_COUNTER, "Scrapes.");
	tw_expo_u64(e, "test_scrapes", "", NULL, 0, atomic_load(&b->scrapes));
	tw_expo_family(e, "test_filler", TW_TYPE_GAUGE, "Filler.");
	for (size_t n = atomic_load(&b->filler); n >= sizeof(block); n -= sizeof(block)) {
		for (size_t i = 0; i < sizeof(block) - 1; i++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			block[i] = (char)('a' + x % 26);
		}
		struct tw_label l = {"v", tw_slice(block, sizeof(block) - 1)};
		tw_expo_u64(e, "test_filler", "", &l, 1, n);
	}
}

static int setup(void **state)
{
	struct bed *b = calloc(1, sizeof(*b));
	struct tw_error err = {0};

	b->registry = tw_registry_create();
	b->status = "a: 1\n";
	atomic_store(&b->readiness, TW_READY);
	assert_int_equal(tw_registry_add(b->registry, collect, b), 0);
	struct tw_admin_opts o = {.listen = "127.0.0.1:0",
	                          .registry = b->registry,
	                          .clock = &tw_clock_real,
	                          .readiness = readiness,
	                          .status = status,
	                          .ctx = b};
	assert_int_equal(tw_admin_create(&o, &b->admin, &err), 0);
	assert_int_not_equal(tw_admin_port(b->admin), 0);
	assert_int_equal(tw_admin_start(b->admin), 0);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bed *b = *state;

	tw_admin_stop(b->admin);
	tw_admin_destroy(&b->admin);
	assert_null(b->admin);
	tw_registry_destroy(&b->registry);
	free(b);
	return 0;
}

/* ---- a client ---- */

struct answer {
	int status;
	char *head;
	char *body; /* NUL behind it */
	size_t body_n;
	char *all;
};

static int dial(const struct bed *b)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
	                         .sin_port = htons(tw_admin_port(b->admin)),
	                         .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* All that comes until the peer closes. */
static struct answer hear(int fd)
{
	struct answer a = {0};
	size_t n = 0, cap = 1 << 16;

	a.all = malloc(cap + 1);
	for (;;) {
		ssize_t got = recv(fd, a.all + n, cap - n, 0);
		if (got <= 0)
			break;
		n += (size_t)got;
		if (n == cap)
			a.all = realloc(a.all, (cap *= 2) + 1);
	}
	close(fd);
	a.all[n] = '\0';
	assert_int_equal(sscanf(a.all, "HTTP/1.1 %d", &a.status), 1);
	char *end = strstr(a.all, "\r\n\r\n");
	assert_non_null(end);
	end[2] = '\0';
	a.head = a.all;
	a.body = end + 4;
	a.body_n = n - (size_t)(a.body - a.all);
	for (char *c = a.head; *c != '\0'; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c - 'A' + 'a');
	return a;
}

static struct answer ask(const struct bed *b, const char *method, const char *path,
                         const char *headers)
{
	char request[1024];
	int fd = dial(b);

	snprintf(request, sizeof(request),
	         "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n", method, path, headers);
	say(fd, request);
	return hear(fd);
}

static void done(struct answer *a)
{
	free(a->all);
}

/* ---- the tests ---- */

static void metrics_come_in_the_format_asked_for(void **state)
{
	struct bed *b = *state;
	struct answer a = ask(b, "GET", "/metrics", "");

	assert_int_equal(a.status, 200);
	assert_non_null(strstr(a.head, "content-type: text/plain; version=0.0.4; charset=utf-8"));
	assert_non_null(
	    strstr(a.body, "# TYPE test_scrapes_total counter\ntest_scrapes_total 1\n"));
	assert_null(strstr(a.body, "# EOF"));
	done(&a);
	a = ask(b, "GET", "/metrics?x=1", "Accept: application/openmetrics-text;version=1.0.0\r\n");
	assert_int_equal(a.status, 200);
	assert_non_null(
	    strstr(a.head, "content-type: application/openmetrics-text; version=1.0.0"));
	assert_non_null(strstr(a.body, "# TYPE test_scrapes counter\ntest_scrapes_total 2\n"));
	assert_string_equal(a.body + a.body_n - 6, "# EOF\n");
	done(&a);
}

static void metrics_are_compressed_for_who_takes_it(void **state)
{
	struct bed *b = *state;
	struct tw_error err;
	struct tw_body plain;

	atomic_store(&b->filler, 40010);
	struct answer a = ask(b, "GET", "/metrics", "Accept-Encoding: gzip\r\n");
	assert_int_equal(a.status, 200);
	assert_non_null(strstr(a.head, "content-encoding: gzip"));
	tw_body_init(&plain, NULL);
	assert_int_equal(
	    tw_inflate(TW_CODING_GZIP, tw_slice(a.body, a.body_n), &plain, 1 << 20, &err), 0);
	assert_in_range(plain.n, 40000, 50000);
	assert_memory_equal(plain.p, "# HELP test_scrapes_total ", 26);
	tw_body_deinit(&plain);
	done(&a);
}

static void head_is_get_without_the_page(void **state)
{
	struct bed *b = *state;
	static const char *const paths[] = {"/metrics", "/healthz", "/readyz", "/"};

	for (int i = 0; i < 4; i++) {
		struct answer a = ask(b, "HEAD", paths[i], "");
		assert_int_equal(a.status, 200);
		assert_int_equal(a.body_n, 0);
		done(&a);
	}
	/* Nobody was shown anything: a series' first zero is still to come. */
	assert_int_equal(atomic_load(&b->scrapes), 0);
	assert_int_equal(atomic_load(&b->peeks), 1);
}

static void readiness_has_its_word(void **state)
{
	static const char *const words[] = {"starting\n", "ready\n", "refusing\n", "draining\n"};
	struct bed *b = *state;

	for (int i = 0; i < 4; i++) {
		atomic_store(&b->readiness, i);
		struct answer a = ask(b, "GET", "/readyz", "");
		assert_int_equal(a.status, i == TW_READY ? 200 : 503);
		assert_string_equal(a.body, words[i]);
		done(&a);
		a = ask(b, "GET", "/healthz", "");
		assert_int_equal(a.status, 200);
		assert_string_equal(a.body, "ok\n");
		done(&a);
	}
}

static void what_is_not_there_is_said(void **state)
{
	struct bed *b = *state;
	struct answer a = ask(b, "GET", "/metricsx", "");

	assert_int_equal(a.status, 404);
	done(&a);
	a = ask(b, "POST", "/metrics", "Content-Length: 0\r\n");
	assert_int_equal(a.status, 405);
	assert_non_null(strstr(a.head, "allow: get, head\r\n"));
	done(&a);
	/* The next one is fine. */
	a = ask(b, "GET", "/healthz", "");
	assert_int_equal(a.status, 200);
	done(&a);
}

static void one_connection_serves_many_requests(void **state)
{
	struct bed *b = *state;
	int fd = dial(b);

	for (int i = 0; i < 3; i++)
		say(fd, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
	say(fd, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	struct answer a = hear(fd);
	assert_non_null(strstr(a.body, "test_scrapes_total 1\n"));
	assert_non_null(strstr(a.body, "test_scrapes_total 3\n"));
	assert_string_equal(a.body + a.body_n - 3, "ok\n");
	done(&a);
}

static void IN_21_status_page_is_escaped(void **state)
{
	struct bed *b = *state;

	b->status = "Services\nname: <script>alert('1')</script>&\"\nurl: http://x:1/\n\nbad\n";
	struct answer a = ask(b, "GET", "/", "");
	assert_int_equal(a.status, 200);
	assert_non_null(strstr(a.head, "content-type: text/html; charset=utf-8"));
	assert_null(strstr(a.body, "<script"));
	assert_non_null(strstr(a.body, "<tr><td>name</td><td>&lt;script&gt;alert(&#39;1&#39;)"
	                               "&lt;/script&gt;&amp;&quot;</td></tr>"));
	assert_non_null(strstr(a.body, "<tr><th colspan=\"2\">Services</th></tr>"));
	assert_non_null(strstr(a.body, "<td>url</td><td>http://x:1/</td>"));
	assert_non_null(strstr(a.body, "<strong>ready</strong>"));
	done(&a);
}

/* Readers that ask for the page and take nothing of it hold up nobody. */
static void LOAD_08_slow_scrapers(void **state)
{
	enum { SLOW = 100 };
	struct bed *b = *state;
	int fd[SLOW];

	/* All together less than the bound on large pages. */
	atomic_store(&b->filler, 600000);
	for (int i = 0; i < SLOW; i++) {
		char first[1024];
		fd[i] = dial(b);
		say(fd[i], "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
		/* Its answer has begun. */
		assert_true(recv(fd[i], first, sizeof(first), 0) > 0);
		assert_memory_equal(first, "HTTP/1.1 200", 12);
	}
	struct answer a = ask(b, "GET", "/metrics", "");
	assert_int_equal(a.status, 200);
	assert_in_range(a.body_n, 590000, 650000);
	done(&a);
	for (int i = 0; i < SLOW; i++) {
		if (i % 50 == 0) {
			char rest[4096];
			size_t n = 0;
			for (ssize_t got; (got = recv(fd[i], rest, sizeof(rest), 0)) > 0;)
				n += (size_t)got;
			assert_in_range(n, 590000, 650000); /* a slow one gets all of it */
		}
		close(fd[i]);
	}
}

/* What slow readers of large pages can pin is bounded; others are told to come again, and small
 * answers go on. */
static void LOAD_08_slow_scrapers_memory_is_bounded(void **state)
{
	enum { SLOW = 12 };
	struct bed *b = *state;
	unsigned refused = 0, taken = 0;
	int fd[SLOW];

	atomic_store(&b->filler, 20 << 20);
	for (int i = 0; i < SLOW; i++) {
		char first[2048];
		fd[i] = dial(b);
		say(fd[i], "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
		ssize_t n = recv(fd[i], first, sizeof(first) - 1, 0);
		assert_true(n > 12);
		first[n] = '\0';
		taken += strncmp(first, "HTTP/1.1 200", 12) == 0;
		refused += strncmp(first, "HTTP/1.1 503", 12) == 0 &&
		           strcasestr(first, "retry-after: 1\r\n") != NULL;
	}
	assert_int_equal(taken, 3); /* of 20 MiB each, 64 MiB in all */
	assert_int_equal(refused, SLOW - 3);
	struct answer a = ask(b, "GET", "/readyz", "");
	assert_int_equal(a.status, 200);
	done(&a);
	for (int i = 0; i < SLOW; i++)
		close(fd[i]);
	/* The room comes back when the server has seen them go. */
	for (int status = 503; status == 503;) {
		a = ask(b, "GET", "/metrics", "");
		status = a.status;
		if (status != 503) {
			assert_int_equal(status, 200);
			assert_in_range(a.body_n, 20 << 20, 22 << 20);
		}
		done(&a);
	}
}

static void a_taken_port_is_said(void **state)
{
	struct bed *b = *state;
	struct tw_error err = {0};
	struct tw_admin *second;
	char address[32];

	snprintf(address, sizeof(address), "127.0.0.1:%u", tw_admin_port(b->admin));
	struct tw_admin_opts o = {.listen = address,
	                          .registry = b->registry,
	                          .clock = &tw_clock_real,
	                          .readiness = readiness,
	                          .ctx = b};
	assert_int_equal(tw_admin_create(&o, &second, &err), TW_EIO);
	assert_null(second);
	assert_non_null(strstr(err.text, "address already in use"));
}

static void it_may_end_before_it_began(void **state)
{
	struct bed *b = *state;
	struct tw_admin *a;
	struct tw_error err;
	struct tw_admin_opts o = {.listen = "127.0.0.1:0",
	                          .registry = b->registry,
	                          .clock = &tw_clock_real,
	                          .readiness = readiness,
	                          .ctx = b};

	assert_int_equal(tw_admin_create(&o, &a, &err), 0);
	tw_admin_stop(a);
	tw_admin_destroy(&a);
	assert_null(a);
}

static void it_ends_with_readers_on_it(void **state)
{
	struct bed *b = *state;
	char first[64];
	int fd[3];

	atomic_store(&b->filler, 10 << 20);
	for (int i = 0; i < 3; i++) {
		fd[i] = dial(b);
		say(fd[i], "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
		assert_true(recv(fd[i], first, sizeof(first), 0) > 0);
	}
	tw_admin_stop(b->admin);
	for (int i = 0; i < 3; i++)
		close(fd[i]);
}

static void MEM_01_create_fails_cleanly(void **state)
{
	struct bed *b = *state;
	struct tw_admin_opts o = {.listen = "127.0.0.1:0",
	                          .registry = b->registry,
	                          .clock = &tw_clock_real,
	                          .readiness = readiness,
	                          .ctx = b};
	uint64_t failures = 0;

	tw_admin_stop(b->admin); /* the count of allocations is the process's */
	for (uint64_t n = 1; n <= 20; n++) {
		struct tw_error err = {0};
		struct tw_admin *a;
		tw_mem_fail_at(n, false);
		int rc = tw_admin_create(&o, &a, &err);
		tw_mem_fail_at(0, false);
		if (rc != 0) {
			failures++;
			assert_null(a);
			assert_true(strlen(err.text) > 0);
		}
		tw_admin_destroy(&a);
	}
	assert_in_range(failures, 3, 19);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(metrics_come_in_the_format_asked_for, setup, teardown),
	    cmocka_unit_test_setup_teardown(metrics_are_compressed_for_who_takes_it, setup,
	                                    teardown),
	    cmocka_unit_test_setup_teardown(head_is_get_without_the_page, setup, teardown),
	    cmocka_unit_test_setup_teardown(readiness_has_its_word, setup, teardown),
	    cmocka_unit_test_setup_teardown(what_is_not_there_is_said, setup, teardown),
	    cmocka_unit_test_setup_teardown(one_connection_serves_many_requests, setup, teardown),
	    cmocka_unit_test_setup_teardown(IN_21_status_page_is_escaped, setup, teardown),
	    cmocka_unit_test_setup_teardown(LOAD_08_slow_scrapers, setup, teardown),
	    cmocka_unit_test_setup_teardown(LOAD_08_slow_scrapers_memory_is_bounded, setup,
	                                    teardown),
	    cmocka_unit_test_setup_teardown(a_taken_port_is_said, setup, teardown),
	    cmocka_unit_test_setup_teardown(it_may_end_before_it_began, setup, teardown),
	    cmocka_unit_test_setup_teardown(it_ends_with_readers_on_it, setup, teardown),
	    cmocka_unit_test_setup_teardown(MEM_01_create_fails_cleanly, setup, teardown),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("admin", tests, NULL, NULL);
}
