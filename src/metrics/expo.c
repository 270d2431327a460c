/* The two text formats of one sample: Prometheus 0.0.4 and OpenMetrics 1.0.0. */
#include <string.h>

#include "expo.h"
#include "label.h"
#include "number.h"

void tw_expo_escape(struct tw_buf *out, struct tw_slice value)
{
	size_t from = 0, i = 0;

	while (i < value.n) {
		uint8_t c = value.p[i];
		const char *instead = NULL;
		size_t step = 1;

		if (c == '\n')
			instead = "\\n";
		else if (c == '"')
			instead = "\\\"";
		else if (c == '\\')
			instead = "\\\\";
		else if (c == 0 || c >= 0x80) {
			step = tw_utf8_step(value.p + i, value.n - i);
			if (step == 0) {
				instead = TW_UTF8_REPLACEMENT;
				step = 1;
			}
		}
		if (instead != NULL) {
			tw_buf_put(out, value.p + from, i - from);
			tw_buf_puts(out, instead);
			from = i + step;
		}
		i += step;
	}
	if (value.n > from)
		tw_buf_put(out, value.p + from, value.n - from);
}

static const char *type_word(const struct tw_expo *e, enum tw_metric_type type)
{
	switch (type) {
	case TW_TYPE_COUNTER:
		return "counter";
	case TW_TYPE_HISTOGRAM:
		return "histogram";
	case TW_TYPE_INFO:
		/* 0.0.4 has no such type; a gauge that is always 1 stands for it. */
		return e->format == TW_EXPO_OPENMETRICS ? "info" : "gauge";
	case TW_TYPE_GAUGE:
		break;
	}
	return "gauge";
}

static const char *type_suffix(enum tw_metric_type type)
{
	return type == TW_TYPE_COUNTER ? "_total" : type == TW_TYPE_INFO ? "_info" : "";
}

static void put_help(struct tw_expo *e, const char *help)
{
	for (; *help != '\0'; help++) {
		if (*help == '\n')
			tw_buf_puts(e->out, "\\n");
		else if (*help == '\\')
			tw_buf_puts(e->out, "\\\\");
		else if (*help == '"' && e->format == TW_EXPO_OPENMETRICS)
			tw_buf_puts(e->out, "\\\"");
		else
			tw_buf_putc(e->out, *help);
	}
}

void tw_expo_family(struct tw_expo *e, const char *name, enum tw_metric_type type, const char *help)
{
	/* In 0.0.4 a family is named like its samples, in OpenMetrics without their suffix. */
	const char *suffix = e->format == TW_EXPO_OPENMETRICS ? "" : type_suffix(type);

	e->type = type;
	tw_buf_puts(e->out, "# HELP ");
	tw_buf_puts(e->out, name);
	tw_buf_puts(e->out, suffix);
	tw_buf_putc(e->out, ' ');
	put_help(e, help);
	tw_buf_puts(e->out, "\n# TYPE ");
	tw_buf_puts(e->out, name);
	tw_buf_puts(e->out, suffix);
	tw_buf_putc(e->out, ' ');
	tw_buf_puts(e->out, type_word(e, type));
	tw_buf_putc(e->out, '\n');
}

static void put_sample(struct tw_expo *e, const char *name, const char *suffix,
                       const struct tw_label *labels, uint32_t n, const char *value, size_t value_n)
{
	tw_buf_puts(e->out, name);
	tw_buf_puts(e->out, suffix[0] == '\0' ? type_suffix(e->type) : suffix);
	for (uint32_t i = 0; i < n; i++) {
		tw_buf_putc(e->out, i == 0 ? '{' : ',');
		tw_buf_puts(e->out, labels[i].name);
		tw_buf_puts(e->out, "=\"");
		tw_expo_escape(e->out, labels[i].value);
		tw_buf_putc(e->out, '"');
	}
	if (n > 0)
		tw_buf_putc(e->out, '}');
	tw_buf_putc(e->out, ' ');
	tw_buf_put(e->out, value, value_n);
	tw_buf_putc(e->out, '\n');
}

void tw_expo_u64(struct tw_expo *e, const char *name, const char *suffix,
                 const struct tw_label *labels, uint32_t n, uint64_t value)
{
	char text[TW_NUMBER_CHARS];
	size_t text_n = tw_number_u64(text, value);

	put_sample(e, name, suffix, labels, n, text, text_n);
}

void tw_expo_f64(struct tw_expo *e, const char *name, const char *suffix,
                 const struct tw_label *labels, uint32_t n, double value)
{
	char text[TW_NUMBER_CHARS];
	size_t text_n = tw_number_f64(text, value, -4, 21);

	put_sample(e, name, suffix, labels, n, text, text_n);
}

void tw_expo_end(struct tw_expo *e)
{
	if (e->format == TW_EXPO_OPENMETRICS)
		tw_buf_puts(e->out, "# EOF\n");
}
