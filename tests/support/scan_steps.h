/* A scan in steps, with others in between. */
#ifndef TW_TESTS_SCAN_STEPS_H
#define TW_TESTS_SCAN_STEPS_H

#include "tw/wire.h"

/* As tw_otlp_scan, in steps of `bytes`. Before the second, third and fourth of them `other` is
 * reset, and the same body scanned into it. reload_at: the step before which the templates' keys
 * are of another generation from then on; 0: never. */
static inline int scan_in_steps(const struct tw_scan_opts *o, struct tw_slice body, size_t bytes,
                                uint32_t reload_at, struct tw_request *other,
                                struct tw_request *out, struct tw_error *err)
{
	struct tw_scan *s = tw_scan_begin(o, body, out);
	struct tw_error ignored;
	int e = TW_SCAN_MORE;

	if (!s)
		return TW_ENOMEM;
	for (uint32_t step = 0; e == TW_SCAN_MORE; step++) {
		if (step > 0 && step == reload_at)
			tw_templates_generation(o->templates, UINT32_MAX);
		if (step > 0 && step < 4) {
			tw_request_reset(other);
			(void)tw_otlp_scan(o, body, other, &ignored);
		}
		e = tw_scan_step(s, bytes, err);
	}
	tw_scan_end(&s);
	return e;
}

#endif
