/* Any bytes as a configuration, and as a --set. */
#include "tw/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *get(void *ctx, const char *name)
{
	(void)ctx;
	return name[0] == 'A' ? "value" : NULL;
}

static void load(struct tw_slice text, const char *const *sets, uint32_t count)
{
	struct tw_config_env env = {.get = get, .memory_limit = UINT64_C(1) << 32, .cpus = 2};
	struct tw_config *c;
	struct tw_buf out;
	int rc;

	tw_buf_init(&out, 1u << 20);
	rc = tw_config_load(text, "fuzz", sets, count, &env, &c, &out);
	TW_ASSERT((rc == 0) == (c != NULL));
	TW_ASSERT(rc == 0 || out.n != 0); /* what is refused is said */
	if (c != NULL)
		tw_config_print(c, &out);
	tw_config_destroy(&c);
	tw_buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char set[256];
	const char *sets[1] = {set};
	size_t n = size < sizeof(set) - 1 ? size : sizeof(set) - 1;

	load(tw_slice(data, size), NULL, 0);
	memcpy(set, data, n);
	set[n] = '\0';
	load(tw_slice(NULL, 0), sets, 1);
	return 0;
}
