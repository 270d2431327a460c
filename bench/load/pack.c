#include "pack.h"

#include <libdeflate.h>
#include <string.h>
#include <zstd.h>

#include "tw/base/error.h"
#include "tw/base/mem.h"

#define LEVEL 1 /* the load must not be what is measured */

struct tw_load_packer {
	enum tw_load_coding coding;
	struct libdeflate_compressor *gzip;
	ZSTD_CCtx *zstd;
};

static const char *const names[] = {"none", "gzip", "zstd"};

bool tw_load_coding_parse(const char *name, enum tw_load_coding *c)
{
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i], name) == 0) {
			*c = (enum tw_load_coding)i;
			return true;
		}
	return false;
}

const char *tw_load_coding_name(enum tw_load_coding c)
{
	return names[c];
}

struct tw_load_packer *tw_load_packer_create(enum tw_load_coding c)
{
	struct tw_load_packer *p = tw_calloc(1, sizeof(*p));

	if (p == NULL)
		return NULL;
	p->coding = c;
	if (c == TW_LOAD_GZIP)
		p->gzip = libdeflate_alloc_compressor(LEVEL);
	else
		p->zstd = ZSTD_createCCtx();
	if (p->gzip == NULL && p->zstd == NULL)
		tw_load_packer_destroy(&p);
	return p;
}

void tw_load_packer_destroy(struct tw_load_packer **p)
{
	if (*p == NULL)
		return;
	libdeflate_free_compressor((*p)->gzip);
	ZSTD_freeCCtx((*p)->zstd);
	tw_free(*p);
	*p = NULL;
}

size_t tw_load_pack_bound(const struct tw_load_packer *p, size_t n)
{
	return p->coding == TW_LOAD_GZIP ? libdeflate_gzip_compress_bound(p->gzip, n)
	                                 : ZSTD_compressBound(n);
}

size_t tw_load_pack(struct tw_load_packer *p, const uint8_t *in, size_t n, uint8_t *out, size_t cap)
{
	size_t got = p->coding == TW_LOAD_GZIP ? libdeflate_gzip_compress(p->gzip, in, n, out, cap)
	                                       : ZSTD_compressCCtx(p->zstd, out, cap, in, n, LEVEL);

	TW_ASSERT(got > 0 && !ZSTD_isError(got));
	return got;
}
