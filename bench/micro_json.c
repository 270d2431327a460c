/* Nanoseconds per span of tw_otlp_json_decode, over the generator's OTLP/JSON.
 *
 *   micro_json [ROUNDS] */
#include <stdio.h>

#include "micro_bodies.h"
#include "tw/wire.h"

int main(int argc, char **argv)
{
	const struct tw_load_form form = {.json = true};
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 41;
	double *ns = calloc(rounds + 1, sizeof(*ns));
	size_t made = 0;
	struct micro_bodies m;

	if (rounds == 0 || ns == NULL || !micro_bodies_init(&m, &form))
		return 3;
	for (unsigned k = 0; k < rounds; k++) {
		double t0 = micro_now_ns();

		made = 0;
		for (uint32_t i = 0; i < MICRO_BODIES; i++) {
			struct tw_error err;
			struct tw_buf out;

			tw_buf_init(&out, 64u << 20);
			if (tw_otlp_json_decode(tw_buf_slice(&m.body[i]), &out, &err) != 0) {
				fprintf(stderr, "%s\n", err.text);
				return 1;
			}
			made += out.n;
			tw_buf_deinit(&out);
		}
		ns[k] = (micro_now_ns() - t0) / (double)m.spans;
	}
	qsort(ns, rounds, sizeof(ns[0]), micro_compare);
	printf("json: %.1f ns a span (median of %u rounds; best %.1f), %.0f bytes a span become "
	       "%.0f\n",
	       ns[rounds / 2], rounds, ns[0], (double)m.bytes / (double)m.spans,
	       (double)made / (double)m.spans);
	micro_bodies_deinit(&m);
	free(ns);
	return 0;
}
