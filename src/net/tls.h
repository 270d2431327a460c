/* TLS for outgoing connections: a byte filter over OpenSSL with memory BIOs. The context (struct
 * tw_tls) is immutable and shared by threads; a filter belongs to one connection. */
#ifndef TW_NET_TLS_H
#define TW_NET_TLS_H

#include "filter.h"
#include "tw/net.h"

/* host is checked against the certificate unless the options name another; alpn is the one protocol
 * offered. NULL: no memory. */
struct tw_filter *tw_tls_filter_create(struct tw_tls *t, const char *host, const char *alpn);

#endif
