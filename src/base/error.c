#include "tw/base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int tw_error_set(struct tw_error *e, int code, uint64_t offset, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return code;
	e->code = code;
	e->offset = offset;
	va_start(ap, fmt);
	if (vsnprintf(e->text, sizeof(e->text), fmt, ap) < 0)
		e->text[0] = '\0';
	va_end(ap);
	return code;
}

const char *tw_err_name(int code)
{
	static const char *const names[] = {
	    [-TW_OK] = "ok",
	    [-TW_EINVAL] = "invalid",
	    [-TW_ELIMIT] = "limit",
	    [-TW_EFULL] = "full",
	    [-TW_ENOMEM] = "memory",
	    [-TW_EIO] = "io",
	    [-TW_EUNSUP] = "unsupported",
	    [-TW_ECLOSED] = "closed",
	};
	int last = (int)(sizeof(names) / sizeof(names[0])) - 1;

	return code <= 0 && code >= -last ? names[-code] : "unknown";
}

void tw_assert_failed(const char *file, int line, const char *expr)
{
	fprintf(stderr, "%s:%d: cannot happen: !(%s)\n", file, line, expr);
	abort();
}
