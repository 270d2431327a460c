/* A blocking HTTP/1.1 request to this machine, for the demo. Private to cli. */
#ifndef TW_CLI_HTTP_H
#define TW_CLI_HTTP_H

#include "tw/base/buf.h"

/* body.n == 0: GET, else POST as application/json. The answer's body goes into `answer`. Returns
 * the HTTP status, or −1. */
int tw_http_local(uint16_t port, const char *path, struct tw_slice body, struct tw_buf *answer);

#endif
