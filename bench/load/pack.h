/* Compression of bodies. One thread; the contexts are made once and serve every body. */
#ifndef TW_LOAD_PACK_H
#define TW_LOAD_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tw_load_coding { TW_LOAD_PLAIN, TW_LOAD_GZIP, TW_LOAD_ZSTD };

/* false: no such coding. */
bool tw_load_coding_parse(const char *name, enum tw_load_coding *c);
const char *tw_load_coding_name(enum tw_load_coding c); /* as HTTP and gRPC call it */

struct tw_load_packer;
struct tw_load_packer *tw_load_packer_create(enum tw_load_coding c); /* NULL: no memory */
void tw_load_packer_destroy(struct tw_load_packer **p);
/* The most that n bytes become. */
size_t tw_load_pack_bound(const struct tw_load_packer *p, size_t n);
/* Returns how many bytes `in` has become at `out`, which has room for the bound. */
size_t tw_load_pack(struct tw_load_packer *p, const uint8_t *in, size_t n, uint8_t *out,
                    size_t cap);

#endif
