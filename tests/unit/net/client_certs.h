/* Certificates made for one test run, in a temporary folder. */
#ifndef TW_TEST_CLIENT_CERTS_H
#define TW_TEST_CLIENT_CERTS_H

#include <stdbool.h>

struct certs {
	char dir[64];
	char ca[96], other_ca[96];           /* two authorities */
	char cert[96], key[96];              /* localhost and 127.0.0.1, by ca */
	char stranger[96], stranger_key[96]; /* example.test, by ca */
	char expired[96], expired_key[96];   /* localhost, by ca, of yesterday */
};

bool certs_make(struct certs *c);
void certs_remove(struct certs *c);

#endif
