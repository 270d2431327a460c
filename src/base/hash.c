#include "tw/base/hash.h"

#include <errno.h>
#include <sys/random.h>

#include "tw/base/error.h"

struct tw_hash_key tw_hash_key_random(void)
{
	struct tw_hash_key k;
	ssize_t n;

	do {
		n = getrandom(&k, sizeof(k), 0);
	} while (n < 0 && errno == EINTR);
	/* Reads of up to 256 bytes are never cut short once the pool is ready (getrandom(2)). */
	TW_ASSERT(n == (ssize_t)sizeof(k));
	return k;
}
