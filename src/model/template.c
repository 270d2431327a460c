#include "tw/model/template.h"

#include "tw/base/error.h"
#include "tw/base/mem.h"

void tw_template_put(struct tw_template *t)
{
	TW_ASSERT(t->refs > 0);
	if (--t->refs > 0)
		return;
	tw_free(t->image);
	tw_free(t); /* one allocation: layout and slots lie behind it */
}
