/* The status page: plain HTML, complete in itself, nothing from outside and no script. */
#include <string.h>

#include "routes.h"

static void escape(struct tw_buf *out, struct tw_slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		switch (s.p[i]) {
		case '&':
			tw_buf_puts(out, "&amp;");
			break;
		case '<':
			tw_buf_puts(out, "&lt;");
			break;
		case '>':
			tw_buf_puts(out, "&gt;");
			break;
		case '"':
			tw_buf_puts(out, "&quot;");
			break;
		case '\'':
			tw_buf_puts(out, "&#39;");
			break;
		default:
			tw_buf_putc(out, (char)s.p[i]);
			break;
		}
	}
}

/* "key: value" is a row of two cells; any other line is a heading. */
static void row(struct tw_buf *out, struct tw_slice line)
{
	const uint8_t *colon = memchr(line.p, ':', line.n);

	if (colon == NULL) {
		tw_buf_puts(out, "<tr><th colspan=\"2\">");
		escape(out, line);
		tw_buf_puts(out, "</th></tr>\n");
		return;
	}
	size_t key = (size_t)(colon - line.p), from = key + 1;
	while (from < line.n && line.p[from] == ' ')
		from++;
	tw_buf_puts(out, "<tr><td>");
	escape(out, tw_slice(line.p, key));
	tw_buf_puts(out, "</td><td>");
	escape(out, tw_slice(line.p + from, line.n - from));
	tw_buf_puts(out, "</td></tr>\n");
}

static void rows(struct tw_buf *out, struct tw_slice text)
{
	while (text.n > 0) {
		const uint8_t *end = memchr(text.p, '\n', text.n);
		size_t n = end != NULL ? (size_t)(end - text.p) : text.n;
		size_t used = end != NULL ? n + 1 : n;

		if (n > 0)
			row(out, tw_slice(text.p, n));
		text = tw_slice(text.p + used, text.n - used);
	}
}

void tw_admin_status_page(const struct tw_admin_opts *o, struct tw_buf *out)
{
	struct tw_buf lines;

	tw_buf_init(&lines, PAGE_BYTES_MAX / 8);
	if (o->status != NULL)
		o->status(o->ctx, &lines);
	tw_buf_puts(out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
	                 "<title>traceweir</title>\n<style>\n"
	                 "body{font:15px/1.5 system-ui,sans-serif;margin:2em;max-width:60em}\n"
	                 "td,th{padding:.1em 1em .1em 0;text-align:left;vertical-align:top}\n"
	                 "td+td{font-family:ui-monospace,monospace}th{padding-top:1em}\n"
	                 "</style></head>\n<body>\n<h1>traceweir</h1>\n<p>State: <strong>");
	tw_buf_puts(out, tw_admin_readiness_name(o->readiness(o->ctx)));
	tw_buf_puts(out, "</strong>. <a href=\"/metrics\">/metrics</a> "
	                 "<a href=\"/healthz\">/healthz</a> <a href=\"/readyz\">/readyz</a></p>\n"
	                 "<table>\n");
	rows(out, tw_buf_slice(&lines));
	tw_buf_puts(out, "</table>\n</body></html>\n");
	if (lines.failed)
		out->failed = true;
	tw_buf_deinit(&lines);
}
