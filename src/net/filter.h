/* A byte filter between a socket and a protocol: TLS today, others as they come. No filter (NULL)
 * means plain bytes and costs nothing. Belongs to the connection's loop thread. */
#ifndef TW_NET_FILTER_H
#define TW_NET_FILTER_H

#include "tw/base/buf.h"
#include "tw/base/error.h"

struct tw_filter {
	/* Bytes came from the socket: decodes them, calls plain() for what comes out (perhaps
	 * several times, perhaps not at all), and appends to `wire` what must be sent now
	 * (handshake, alerts), also on failure. TW_EINVAL: broken; TW_ECLOSED: closed by the peer
	 * in the protocol's own way; err says why. */
	int (*in)(struct tw_filter *f, const uint8_t *p, size_t n, struct tw_buf *wire,
	          struct tw_error *err);
	/* Encodes plain bytes into `wire`; before the handshake is done they are held back and sent
	 * after it. */
	int (*out)(struct tw_filter *f, const uint8_t *p, size_t n, struct tw_buf *wire,
	           struct tw_error *err);
	/* Begins (a client's first flight) and ends (close notification). */
	int (*start)(struct tw_filter *f, struct tw_buf *wire, struct tw_error *err);
	void (*shutdown)(struct tw_filter *f, struct tw_buf *wire);
	bool (*ready)(const struct tw_filter *f);       /* the handshake is done */
	const char *(*alpn)(const struct tw_filter *f); /* negotiated protocol, "" if none */
	void (*destroy)(struct tw_filter *f);
	/* Set by the connection. */
	void (*plain)(void *ctx, const uint8_t *p, size_t n);
	void *ctx;
};

#endif
