#include "conn.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int connect_to(const char *host, const char *port, struct tw_error *err)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list, *a;
	int fd = -1, one = 1, rc = getaddrinfo(host, port, &hints, &list);

	if (rc != 0)
		return tw_error_set(err, TW_EIO, 0, "%s: %s", host, gai_strerror(rc));
	for (a = list; a != NULL; a = a->ai_next) {
		fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0)
			break;
		if (fd >= 0)
			close(fd);
		fd = -1;
	}
	freeaddrinfo(list);
	if (fd < 0)
		return tw_error_set(err, TW_EIO, 0, "%s:%s: %s", host, port, strerror(errno));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	return fd;
}

int tw_load_conn_open(struct tw_load_conn *c, const struct tw_load_conn_opts *o,
                      struct tw_load_exchange *x, uint32_t count, struct tw_error *err)
{
	memset(c, 0, sizeof(*c));
	c->opts = *o;
	c->x = x;
	c->count = count;
	c->fd = connect_to(o->host, o->port, err);
	if (c->fd < 0)
		return c->fd;
	for (uint32_t i = 0; i < count; i++)
		x[i].conn = c;
	if (!o->http && tw_load_h2_open(c) != 0)
		return tw_error_set(err, TW_ENOMEM, 0, "no memory for a session");
	return 0;
}

void tw_load_conn_close(struct tw_load_conn *c)
{
	if (c->h2 != NULL)
		nghttp2_session_del(c->h2);
	if (c->fd >= 0)
		close(c->fd);
}

bool tw_load_conn_room(const struct tw_load_conn *c)
{
	return c->out_end + TW_LOAD_PARTS_MAX + 1 < TW_LOAD_VECS &&
	       c->small_n + 32768 < TW_LOAD_SMALL;
}

void tw_load_conn_put(struct tw_load_conn *c, const void *p, size_t n)
{
	struct tw_load_out *last = c->out_end > c->out_begin ? &c->out[c->out_end - 1] : NULL;
	uint8_t *at = c->small + c->small_n;

	TW_ASSERT(n <= TW_LOAD_SMALL - c->small_n);
	memcpy(at, p, n);
	c->small_n += n;
	if (last != NULL && last->x == NULL && (uint8_t *)last->v.iov_base + last->v.iov_len == at)
		last->v.iov_len += n;
	else
		c->out[c->out_end++] = (struct tw_load_out){{at, n}, NULL};
}

void tw_load_conn_put_body(struct tw_load_conn *c, struct tw_load_exchange *x, size_t n)
{
	struct iovec v[TW_LOAD_PARTS_MAX];
	int count = tw_load_body_gather(&x->body, x->queued, n, v, TW_LOAD_PARTS_MAX);

	for (int i = 0; i < count; i++)
		c->out[c->out_end++] = (struct tw_load_out){v[i], x};
	x->queued += n;
	x->unwritten += n;
}

/* The place is free when nothing points into its body any more. */
void tw_load_conn_answered(struct tw_load_exchange *x)
{
	if (x->state == TW_LOAD_BUSY && x->closed && x->unwritten == 0)
		x->state = TW_LOAD_ANSWERED;
}

int tw_load_conn_submit(struct tw_load_conn *c, struct tw_load_exchange *x)
{
	x->state = TW_LOAD_BUSY;
	x->queued = x->unwritten = x->reply_n = 0;
	x->closed = x->broken = false;
	x->http_status = x->grpc_status = -1;
	return c->opts.http ? tw_load_h1_submit(c, x) : tw_load_h2_submit(c, x);
}

int tw_load_conn_read(struct tw_load_conn *c)
{
	uint8_t buf[16384];

	for (;;) {
		ssize_t n = recv(c->fd, buf, sizeof(buf), 0);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : TW_EIO;
		if (n == 0)
			return TW_ECLOSED;
		if (c->opts.http ? tw_load_h1_read(c, buf, (size_t)n) != 0
		                 : nghttp2_session_mem_recv(c->h2, buf, (size_t)n) < 0)
			return TW_EINVAL;
		if ((size_t)n < sizeof(buf))
			return 0;
	}
}

static void written(struct tw_load_conn *c, size_t n)
{
	while (n > 0) {
		struct tw_load_out *o = &c->out[c->out_begin];
		size_t part = o->v.iov_len < n ? o->v.iov_len : n;

		o->v.iov_base = (uint8_t *)o->v.iov_base + part;
		o->v.iov_len -= part;
		n -= part;
		if (o->x != NULL) {
			o->x->unwritten -= part;
			tw_load_conn_answered(o->x);
		}
		if (o->v.iov_len == 0)
			c->out_begin++;
	}
	if (c->out_begin == c->out_end)
		c->out_begin = c->out_end = 0, c->small_n = 0;
}

static ssize_t write_once(struct tw_load_conn *c)
{
	struct iovec v[TW_LOAD_VECS];
	struct msghdr m = {.msg_iov = v, .msg_iovlen = c->out_end - c->out_begin};

	for (uint32_t i = c->out_begin; i < c->out_end; i++)
		v[i - c->out_begin] = c->out[i].v;
	return sendmsg(c->fd, &m, MSG_NOSIGNAL);
}

int tw_load_conn_write(struct tw_load_conn *c)
{
	for (;;) {
		ssize_t n;

		if (tw_load_conn_room(c) &&
		    (c->opts.http ? tw_load_h1_fill(c) : tw_load_h2_fill(c)) != 0)
			return TW_EIO;
		c->want_write = c->out_begin < c->out_end;
		if (!c->want_write)
			return 0;
		n = write_once(c);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : TW_EIO;
		written(c, (size_t)n);
	}
}
