#include "http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static bool write_all(int fd, const void *data, size_t n)
{
	const char *p = data;

	while (n > 0) {
		ssize_t w = write(fd, p, n);

		if (w <= 0)
			return false;
		p += w;
		n -= (size_t)w;
	}
	return true;
}

static bool talk(int fd, const char *path, struct tw_slice body, struct tw_buf *raw)
{
	char head[512];
	int n = snprintf(head, sizeof(head),
	                 "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
	                 "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
	                 body.n != 0 ? "POST" : "GET", path, body.n);
	ssize_t got = 1;

	if (!write_all(fd, head, (size_t)n) || !write_all(fd, body.p, body.n))
		return false;
	while (got > 0 && tw_buf_grow(raw, 65536)) {
		got = read(fd, raw->p + raw->n, 65536);
		if (got > 0)
			raw->n += (size_t)got;
	}
	return got == 0;
}

/* Chunked or not: what stands behind the head. */
static void take_body(struct tw_slice raw, const char *head_end, struct tw_buf *answer)
{
	const char *p = head_end + 4, *end = (const char *)raw.p + raw.n;
	bool chunked =
	    memmem(raw.p, (size_t)(head_end - (const char *)raw.p), "chunked", 7) != NULL;

	if (!chunked) {
		tw_buf_put(answer, p, (size_t)(end - p));
		return;
	}
	while (p < end) {
		char *rest;
		unsigned long n = strtoul(p, &rest, 16);
		const char *data = memmem(rest, (size_t)(end - rest), "\r\n", 2);

		if (n == 0 || data == NULL || n > (unsigned long)(end - data - 2))
			return;
		tw_buf_put(answer, data + 2, n);
		p = data + 2 + n + 2;
	}
}

int tw_http_local(uint16_t port, const char *path, struct tw_slice body, struct tw_buf *answer)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
	                         .sin_port = htons(port),
	                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), status = -1;
	struct tw_buf raw;
	const char *end;

	if (fd < 0)
		return -1;
	tw_buf_init(&raw, 64u << 20);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0 && talk(fd, path, body, &raw)) {
		tw_buf_putc(&raw, '\0');
		end = raw.failed ? NULL : memmem(raw.p, raw.n, "\r\n\r\n", 4);
		if (end != NULL && sscanf((const char *)raw.p, "HTTP/1.1 %d", &status) == 1) {
			raw.n--;
			take_body(tw_buf_slice(&raw), end, answer);
		}
	}
	tw_buf_deinit(&raw);
	close(fd);
	return status;
}
