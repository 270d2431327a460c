/* Any text as OTLP/JSON, and as the answers of a backend.
 *
 * Holds: what is decoded is well-formed protobuf, and its JSON decodes to the same bytes' JSON;
 * output stays in proportion. White space behind a text, which decides how far from its end it is
 * read the short way, changes nothing. */
#include <stdio.h>
#include <stdlib.h>

#include "tw/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static void check_decoded(struct tw_slice bytes)
{
	struct tw_buf one, two, back;
	struct tw_error err;

	tw_buf_init(&one, 0);
	tw_buf_init(&two, 0);
	tw_buf_init(&back, 0);
	CHECK(tw_otlp_json_encode(bytes, &one, &err) == 0);
	CHECK(tw_otlp_json_decode(tw_buf_slice(&one), &back, &err) == 0);
	CHECK(tw_otlp_json_encode(tw_buf_slice(&back), &two, &err) == 0);
	CHECK(tw_slice_eq(tw_buf_slice(&one), tw_buf_slice(&two)));
	tw_buf_deinit(&one);
	tw_buf_deinit(&two);
	tw_buf_deinit(&back);
}

static void check_answers(struct tw_slice s)
{
	struct tw_export_result result;
	char text[64];
	uint64_t retry;

	for (int json = 0; json < 2; json++) {
		tw_reply_parse_export(s, json, &result);
		CHECK(memchr(result.message, '\0', sizeof(result.message)));
	}
	tw_reply_parse_status(s, text, sizeof(text), &retry);
	CHECK(memchr(text, '\0', sizeof(text)));
	tw_health_parse(s, text, sizeof(text));
	CHECK(memchr(text, '\0', sizeof(text)));
}

/* The same with white space behind it. */
static void check_padded(const uint8_t *data, size_t size, int want, struct tw_slice bytes)
{
	uint8_t *padded = malloc(size + 2048);
	struct tw_error err = {0};
	struct tw_buf out;

	if (!padded)
		abort();
	memcpy(padded, data, size);
	memset(padded + size, ' ', 2048);
	tw_buf_init(&out, 0);
	CHECK(tw_otlp_json_decode(tw_slice(padded, size + 2048), &out, &err) == want);
	CHECK(want || tw_slice_eq(tw_buf_slice(&out), bytes));
	tw_buf_deinit(&out);
	free(padded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tw_error err = {0};
	struct tw_buf out;
	int e;

	tw_buf_init(&out, 4 * size + 1024);
	e = tw_otlp_json_decode(tw_slice(data, size), &out, &err);
	if (e == 0)
		check_decoded(tw_buf_slice(&out));
	else
		CHECK(err.code == TW_EINVAL && err.text[0] && err.offset <= size);
	check_padded(data, size, e, tw_buf_slice(&out));
	tw_buf_deinit(&out);
	check_answers(tw_slice(data, size));
	return 0;
}
