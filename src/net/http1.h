/* HTTP/1.1 of a server's connection: the state that parser and replies share. Loop's thread. */
#ifndef TW_NET_HTTP1_H
#define TW_NET_HTTP1_H

#include <llhttp.h>

#include "server_private.h"

#define TW_H1_EXTENSION_BYTES_MAX 4096u /* chunk extensions of one request, together */

struct tw_h1 {
	llhttp_t parser;
	struct tw_conn *conn;
	struct tw_request *r; /* the request being read or answered; at most one */
	struct tw_buf line;   /* method, target, or a field's name and value, as pieces arrive */
	size_t name_n;        /* of line: the name's length */
	uint64_t head_ns;     /* the request's first byte */
	uint32_t extension_bytes;
	uint32_t hosts;
	int refuse; /* HTTP status that a callback has stopped the parser with */
	bool first; /* nothing has been answered on this connection */
	bool head_done;
	bool message_done; /* the request is read whole */
	bool answered;
	bool keep_alive; /* as the request wants it */
	bool must_close;
	bool expect_continue; /* 100 is still owed */
	bool bad_expect;
};

/* Appends the answer to conn->out. */
void tw_h1_write(struct tw_h1 *h, const struct tw_reply *reply, bool close);

#endif
