#include "tw/net.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tw/base/error.h"
#include "tw/base/mem.h"

#define BACKLOG       1024
#define ADDRESSES_MAX 4 /* of one name: localhost is often two */

struct listener {
	uv_poll_t poll;
	struct tw_acceptor *acceptor;
	struct listener *next;
	int fd;
	uint32_t port_tag;
	uint16_t port;
};

struct tw_acceptor {
	uv_loop_t *loop;
	tw_accept_fn fn;
	void *ctx;
	struct listener *listeners;
	uint32_t open; /* listeners whose handle is not closed yet */
	int spare;     /* a descriptor to give up when there are no more */
	bool stopped;
	tw_counter failures;
};

struct tw_acceptor *tw_acceptor_create(uv_loop_t *loop, tw_accept_fn fn, void *ctx)
{
	struct tw_acceptor *a = tw_calloc(1, sizeof(*a));

	if (a == NULL)
		return NULL;
	a->loop = loop;
	a->fn = fn;
	a->ctx = ctx;
	a->spare = dup(STDERR_FILENO);
	return a;
}

/* ---- accepting ---- */

/* Without a free descriptor the queue cannot be emptied, and the loop would spin on it. The spare
 * one is given up for a moment, so that the peer is closed instead of left hanging. */
static void shed_one(struct tw_acceptor *a, int listen_fd)
{
	int fd;

	if (a->spare < 0)
		return;
	close(a->spare);
	fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0)
		close(fd);
	a->spare = dup(STDERR_FILENO);
}

/* How many at a turn: the loop has other listeners. */
static void accept_some(struct listener *l, unsigned most)
{
	struct tw_acceptor *a = l->acceptor;

	while (most-- > 0) {
		int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			if (!a->fn(a->ctx, fd, l->port_tag))
				close(fd);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			return;
		tw_counter_add(&a->failures, 1);
		if (errno != EMFILE && errno != ENFILE)
			return;
		shed_one(a, l->fd);
	}
}

static void on_readable(uv_poll_t *h, int status, int events)
{
	(void)events;
	if (status == 0)
		accept_some(h->data, 64);
}

/* ---- listening ---- */

/* "HOST:PORT", "[HOST]:PORT", ":PORT". False: neither. */
static bool split_address(const char *address, char *host, size_t cap, char *port, size_t port_cap)
{
	const char *colon = strrchr(address, ':');
	size_t n;

	if (colon == NULL || colon[1] == '\0' || strlen(colon + 1) >= port_cap ||
	    strspn(colon + 1, "0123456789") != strlen(colon + 1) || atol(colon + 1) > 65535)
		return false;
	strcpy(port, colon + 1);
	n = (size_t)(colon - address);
	if (n >= 2 && address[0] == '[' && address[n - 1] == ']') {
		address++;
		n -= 2;
	} else if (memchr(address, ':', n) != NULL) {
		return false;
	}
	if (n >= cap)
		return false;
	memcpy(host, address, n);
	host[n] = '\0';
	return true;
}

static int open_socket(const struct addrinfo *ai)
{
	int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int one = 1, saved;

	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	/* Bound as two sockets where a name means both families; ":PORT" is one socket for both. */
	if (ai->ai_family == AF_INET6) {
		int only = (ai->ai_flags & AI_PASSIVE) == 0;

		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only));
	}
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	saved = errno;
	close(fd);
	return -saved;
}

static uint16_t bound_port(int fd)
{
	struct sockaddr_storage ss;
	socklen_t n = sizeof(ss);

	if (getsockname(fd, (struct sockaddr *)&ss, &n) != 0)
		return 0;
	if (ss.ss_family == AF_INET6)
		return ntohs(((struct sockaddr_in6 *)&ss)->sin6_port);
	return ntohs(((struct sockaddr_in *)&ss)->sin_port);
}

static int listener_add(struct tw_acceptor *a, int fd, uint32_t port_tag)
{
	struct listener *l = tw_calloc(1, sizeof(*l));

	if (l == NULL || uv_poll_init(a->loop, &l->poll, fd) != 0) {
		tw_free(l);
		close(fd);
		return TW_ENOMEM;
	}
	l->acceptor = a;
	l->fd = fd;
	l->port_tag = port_tag;
	l->port = bound_port(fd);
	l->poll.data = l;
	l->next = a->listeners;
	a->listeners = l;
	a->open++;
	uv_poll_start(&l->poll, UV_READABLE, on_readable);
	return TW_OK;
}

static int listen_all(struct tw_acceptor *a, struct addrinfo *list, const char *address,
                      uint32_t port_tag, struct tw_error *err)
{
	unsigned bound = 0;
	int failed = 0;

	for (struct addrinfo *ai = list; ai != NULL && bound < ADDRESSES_MAX; ai = ai->ai_next) {
		/* With port 0 every socket would get a port of its own. */
		int fd = open_socket(ai);

		if (fd < 0) {
			failed = failed == 0 || fd == -EADDRINUSE ? -fd : failed;
			continue;
		}
		if (listener_add(a, fd, port_tag) != TW_OK)
			return tw_error_set(err, TW_ENOMEM, 0, "out of memory");
		bound++;
		if (tw_acceptor_port(a, port_tag) != 0 && (ai->ai_flags & AI_PASSIVE) != 0)
			break;
		if (strtol(strrchr(address, ':') + 1, NULL, 10) == 0)
			break;
	}
	/* One family of two missing on this machine is usual; the port being taken is not. */
	if (bound == 0 || failed == EADDRINUSE)
		return tw_error_set(err, TW_EIO, 0, "cannot listen on %s: %s", address,
		                    failed == EADDRINUSE ? "address already in use"
		                                         : strerror(failed));
	return TW_OK;
}

int tw_acceptor_listen(struct tw_acceptor *a, const char *address, uint32_t port_tag,
                       struct tw_error *err)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	struct addrinfo any = {0}, *list = NULL;
	struct sockaddr_in6 any6 = {.sin6_family = AF_INET6};
	char host[256], port[8];
	int rc;

	if (!split_address(address, host, sizeof(host), port, sizeof(port)))
		return tw_error_set(err, TW_EINVAL, 0,
		                    "\"%s\" is not an address like 127.0.0.1:4317", address);
	if (host[0] == '\0') {
		any6.sin6_port = htons((uint16_t)atoi(port));
		any = (struct addrinfo){.ai_flags = AI_PASSIVE,
		                        .ai_family = AF_INET6,
		                        .ai_addr = (struct sockaddr *)&any6,
		                        .ai_addrlen = sizeof(any6)};
		rc = listen_all(a, &any, address, port_tag, err);
		if (rc == TW_OK)
			return rc;
		/* A machine without IPv6. */
		hints.ai_family = AF_INET;
		hints.ai_flags = AI_PASSIVE;
	}
	hints.ai_flags |= AI_NUMERICSERV;
	rc = getaddrinfo(host[0] != '\0' ? host : NULL, port, &hints, &list);
	if (rc != 0)
		return tw_error_set(err, TW_EIO, 0, "cannot listen on %s: %s", address,
		                    gai_strerror(rc));
	rc = listen_all(a, list, address, port_tag, err);
	freeaddrinfo(list);
	return rc;
}

uint16_t tw_acceptor_port(const struct tw_acceptor *a, uint32_t port_tag)
{
	for (const struct listener *l = a->listeners; l != NULL; l = l->next)
		if (l->port_tag == port_tag)
			return l->port;
	return 0;
}

uint64_t tw_acceptor_failures(const struct tw_acceptor *a)
{
	return tw_counter_get(&a->failures);
}

/* ---- the end ---- */

static void on_closed(uv_handle_t *h)
{
	struct listener *l = h->data;

	close(l->fd);
	l->fd = -1;
	l->acceptor->open--;
}

void tw_acceptor_stop(struct tw_acceptor *a)
{
	if (a->stopped)
		return;
	a->stopped = true;
	for (struct listener *l = a->listeners; l != NULL; l = l->next) {
		/* Who is in the queue has connected; closing the listener would reset it. */
		accept_some(l, BACKLOG);
		uv_poll_stop(&l->poll);
		uv_close((uv_handle_t *)&l->poll, on_closed);
	}
}

void tw_acceptor_destroy(struct tw_acceptor **ap)
{
	struct tw_acceptor *a = *ap;

	*ap = NULL;
	if (a == NULL)
		return;
	TW_ASSERT(a->open == 0);
	while (a->listeners != NULL) {
		struct listener *l = a->listeners;

		a->listeners = l->next;
		tw_free(l);
	}
	if (a->spare >= 0)
		close(a->spare);
	tw_free(a);
}
