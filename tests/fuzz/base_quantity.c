/* Durations and sizes: any bytes. What parses must parse again, printed in the smallest unit. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tw/base/clock.h"
#include "tw/base/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(const char *unit, int (*parse)(const char *, size_t, uint64_t *), const char *s,
                  size_t n)
{
	char text[32];
	uint64_t v, again;

	if (parse(s, n, &v))
		return;
	TW_ASSERT(v <= INT64_MAX);
	snprintf(text, sizeof(text), "%" PRIu64 "%s", v, unit);
	TW_ASSERT(parse(text, strlen(text), &again) == 0);
	TW_ASSERT(again == v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	check("ns", tw_duration_parse, (const char *)data, n);
	check("B", tw_bytes_parse, (const char *)data, n);
	return 0;
}
