#include "option.h"

#include <stdarg.h>
#include <stdio.h>

#include "tw/base/mem.h"

#define EXPANSIONS_MAX 100u
#define ENV_NAME_MAX   200u

bool tw_option_wrong(struct tw_loader *l, const struct tw_node *n, const char *fmt, ...)
{
	char text[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	tw_diag_add(l->at, TW_DIAG_ERROR, n->begin, n->end > n->begin ? n->end - n->begin : 1, "%s",
	            text);
	return false;
}

char *tw_option_dup(struct tw_loader *l, struct tw_slice s)
{
	char *p = tw_strndup((const char *)s.p, s.n);

	if (p == NULL)
		l->no_memory = true;
	return p;
}

/* ---- ${env:NAME} ---- */

/* Replaces one reference that begins at s[at] (behind "${env:"); appends its value and returns the
 * index behind its brace, or 0 when it is wrong. */
static size_t expand_one(struct tw_loader *l, const struct tw_node *n, struct tw_slice s, size_t at,
                         struct tw_buf *out)
{
	const uint8_t *close = memchr(s.p + at, '}', s.n - at);
	char name[ENV_NAME_MAX + 1];
	const char *fallback, *value;
	size_t len;

	if (close == NULL || (size_t)(close - s.p) - at > 1000) {
		tw_option_wrong(l, n, "${env: without a closing brace");
		return 0;
	}
	len = (size_t)(close - s.p) - at;
	fallback = memmem(s.p + at, len, ":-", 2);
	if (fallback != NULL)
		len = (size_t)((const uint8_t *)fallback - s.p) - at;
	if (len == 0 || len > ENV_NAME_MAX || ++l->expansions > EXPANSIONS_MAX) {
		tw_option_wrong(l, n,
		                "an environment reference needs a name of 1 to %u characters, "
		                "and there may be %u of them",
		                ENV_NAME_MAX, EXPANSIONS_MAX);
		return 0;
	}
	memcpy(name, s.p + at, len);
	name[len] = '\0';
	value = l->env->get(l->env->ctx, name);
	if (value != NULL && value[0] != '\0')
		tw_buf_puts(out, value);
	else if (fallback != NULL)
		tw_buf_put(out, fallback + 2, (size_t)((const char *)close - fallback) - 2);
	else if (value == NULL) {
		tw_option_wrong(l, n,
		                "the environment has no variable %s (a default: ${env:%s:-…})",
		                name, name);
		return 0;
	}
	return (size_t)(close - s.p) + 1;
}

static struct tw_slice expand(struct tw_loader *l, const struct tw_node *n, struct tw_slice s)
{
	struct tw_slice none = {NULL, 0}, r;
	struct tw_buf out;
	uint8_t *copy;

	tw_buf_init(&out, 1u << 20);
	for (size_t i = 0; i < s.n;) {
		if (s.n - i > 6 && memcmp(s.p + i, "${env:", 6) == 0) {
			i = expand_one(l, n, s, i + 6, &out);
			if (i == 0) {
				tw_buf_deinit(&out);
				return none;
			}
		} else {
			tw_buf_putc(&out, (char)s.p[i++]);
		}
	}
	r = tw_buf_slice(&out);
	copy = tw_arena_alloc(&l->arena, r.n + 1);
	if (copy == NULL || out.failed) {
		l->no_memory = true;
		tw_buf_deinit(&out);
		return none;
	}
	if (r.n != 0)
		memcpy(copy, r.p, r.n);
	copy[r.n] = '\0';
	tw_buf_deinit(&out);
	return tw_slice(copy, r.n);
}

struct tw_slice tw_option_text(struct tw_loader *l, const struct tw_node *n)
{
	if (n->kind != TW_NODE_SCALAR) {
		tw_option_wrong(l, n, "a single value is expected here");
		return (struct tw_slice){NULL, 0};
	}
	return expand(l, n, n->value);
}

/* ---- values ---- */

static bool is(struct tw_slice s, const char *word)
{
	return tw_slice_eq(s, tw_slice_str(word));
}

static bool read_bytes(struct tw_loader *l, const struct tw_node *n, const struct tw_option *o,
                       struct tw_slice s, uint64_t *out)
{
	if (is(s, "auto")) {
		*out = TW_AUTO;
		return true;
	}
	if (tw_bytes_parse((const char *)s.p, s.n, out) != 0)
		return tw_option_wrong(l, n, "expected a size such as 64MiB, or auto");
	if (*out < o->min || *out > o->max)
		return tw_option_wrong(l, n, "%s must be from %llu to %llu bytes", o->key,
		                       (unsigned long long)o->min, (unsigned long long)o->max);
	return true;
}

static bool read_duration(struct tw_loader *l, const struct tw_node *n, const struct tw_option *o,
                          struct tw_slice s, uint64_t *out)
{
	if (is(s, "forever") && o->max == TW_NEVER) {
		*out = TW_NEVER;
		return true;
	}
	if (tw_duration_parse((const char *)s.p, s.n, out) != 0)
		return tw_option_wrong(l, n, "expected a duration such as 500ms, 10s or 1h%s",
		                       o->max == TW_NEVER ? ", or forever" : "");
	if (*out < o->min || *out > o->max)
		return tw_option_wrong(l, n, "%s must be from %llu ms to %llu ms", o->key,
		                       (unsigned long long)(o->min / TW_NS_PER_MS),
		                       (unsigned long long)(o->max / TW_NS_PER_MS));
	return true;
}

static bool read_count(struct tw_loader *l, const struct tw_node *n, const struct tw_option *o,
                       struct tw_slice s, uint32_t *out)
{
	uint64_t v = 0;

	if (is(s, "auto") && o->min == 0) {
		*out = 0;
		return true;
	}
	if (s.n == 0 || s.n > 10)
		return tw_option_wrong(l, n, "expected a whole number%s",
		                       o->min == 0 ? ", or auto" : "");
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return tw_option_wrong(l, n, "expected a whole number%s",
			                       o->min == 0 ? ", or auto" : "");
		v = v * 10 + (uint64_t)(s.p[i] - '0');
	}
	if (v < (o->min == 0 ? 1 : o->min) || v > o->max)
		return tw_option_wrong(l, n, "%s must be from %llu to %llu", o->key,
		                       (unsigned long long)(o->min == 0 ? 1 : o->min),
		                       (unsigned long long)o->max);
	*out = (uint32_t)v;
	return true;
}

/* One word of a list; the index, or −1 (and said). */
static int read_word(struct tw_loader *l, const struct tw_node *n, struct tw_slice s,
                     const char *const *words, uint32_t count, const char *all)
{
	for (uint32_t i = 0; i < count; i++)
		if (is(s, words[i]))
			return (int)i;
	tw_option_wrong(l, n, "expected %s", all);
	return -1;
}

static bool read_string(struct tw_loader *l, struct tw_slice s, char **field)
{
	char *p = tw_option_dup(l, s);

	if (p == NULL)
		return false;
	tw_free(*field);
	*field = p;
	return true;
}

static bool read_words(struct tw_loader *l, const struct tw_node *n, const struct tw_option *o,
                       struct tw_slice s, void *field)
{
	static const char *const codings[] = {"none", "gzip", "zstd"};
	static const char *const fulls[] = {"refuse", "drop"};
	static const char *const names[] = {"otel", "tempo", "both"};
	static const char *const levels[] = {"debug", "info", "warn", "error"};
	static const char *const bools[] = {"false", "true"};
	static const enum tw_coding coding[] = {TW_CODING_IDENTITY, TW_CODING_GZIP, TW_CODING_ZSTD};
	int i;

	switch (o->type) {
	case TW_OPT_CODING:
		i = read_word(l, n, s, codings, 3, "none, gzip or zstd");
		if (i >= 0)
			*(enum tw_coding *)field = coding[i];
		return i >= 0;
	case TW_OPT_FULL:
		i = read_word(l, n, s, fulls, 2, "refuse or drop");
		if (i >= 0)
			*(enum tw_when_full *)field = i == 0 ? TW_FULL_REFUSE : TW_FULL_DROP;
		return i >= 0;
	case TW_OPT_NAMES:
		i = read_word(l, n, s, names, 3, "otel, tempo or both");
		if (i >= 0)
			*(enum tw_metric_names *)field = (enum tw_metric_names)(i + 1);
		return i >= 0;
	case TW_OPT_LEVEL:
		i = read_word(l, n, s, levels, 4, "debug, info, warn or error");
		return i >= 0 && read_string(l, s, field);
	default:
		i = read_word(l, n, s, bools, 2, "true or false");
		if (i >= 0)
			*(bool *)field = i == 1;
		return i >= 0;
	}
}

static bool read_scalar(struct tw_loader *l, const struct tw_node *n, const struct tw_option *o,
                        void *field)
{
	struct tw_slice s = tw_option_text(l, n);

	if (s.p == NULL)
		return false;
	switch (o->type) {
	case TW_OPT_STRING:
		if (s.n == 0)
			return tw_option_wrong(l, n, "%s must not be empty", o->key);
		return read_string(l, s, field);
	case TW_OPT_ADDRESS:
		if (is(s, "off")) {
			tw_free(*(char **)field);
			*(char **)field = NULL;
			return true;
		}
		if (memchr(s.p, ':', s.n) == NULL)
			return tw_option_wrong(l, n, "expected HOST:PORT, or off");
		return read_string(l, s, field);
	case TW_OPT_BYTES:
		return read_bytes(l, n, o, s, field);
	case TW_OPT_DURATION:
		return read_duration(l, n, o, s, field);
	case TW_OPT_COUNT:
		return read_count(l, n, o, s, field);
	default:
		return read_words(l, n, o, s, field);
	}
}

/* ---- maps ---- */

static bool unknown_key(struct tw_loader *l, const struct tw_node *key,
                        const struct tw_option *rows, uint32_t count)
{
	const char *names[64];
	const char *near;

	for (uint32_t i = 0; i < count; i++)
		names[i] = rows[i].key;
	near = tw_nearest(key->value, names, count);
	if (near != NULL)
		return tw_option_wrong(l, key, "unknown key '%.*s'; did you mean '%s'?",
		                       (int)(key->value.n > 60 ? 60 : key->value.n),
		                       (const char *)key->value.p, near);
	return tw_option_wrong(l, key, "unknown key '%.*s'",
	                       (int)(key->value.n > 60 ? 60 : key->value.n),
	                       (const char *)key->value.p);
}

static struct tw_source *source_of(struct tw_loader *l, const struct tw_node *n)
{
	/* The last one counts where several set the same place. */
	for (uint32_t i = l->graft_count; i-- > 0;)
		if (l->grafts[i].node == n || l->grafts[i].node == n->key)
			return &l->grafts[i].source;
	return l->at;
}

static bool is_empty(const struct tw_node *n)
{
	return n->kind == TW_NODE_SCALAR && n->style == TW_STYLE_PLAIN &&
	       (n->value.n == 0 || is(n->value, "~") || is(n->value, "null"));
}

static bool read_row(struct tw_loader *l, const struct tw_node *n, const struct tw_option *o,
                     void *base)
{
	void *field = (char *)base + o->offset;

	if (o->type == TW_OPT_SECTION)
		return is_empty(n) || tw_option_read(l, n, o->rows, o->row_count, base);
	if (o->type == TW_OPT_CUSTOM)
		return o->read(l, n, base);
	return read_scalar(l, n, o, field);
}

static bool repeated(const struct tw_node *map, const struct tw_node *n)
{
	for (const struct tw_node *p = map->first; p != n; p = p->next)
		if (tw_slice_eq(p->key->value, n->key->value))
			return true;
	return false;
}

bool tw_option_read(struct tw_loader *l, const struct tw_node *map, const struct tw_option *rows,
                    uint32_t count, void *base)
{
	struct tw_source *before = l->at;
	bool good = true;

	if (map->kind != TW_NODE_MAP)
		return tw_option_wrong(l, map, "expected keys and values here");
	for (const struct tw_node *n = map->first; n != NULL; n = n->next) {
		uint32_t i = 0;

		l->at = source_of(l, n);
		while (i < count && !is(n->key->value, rows[i].key))
			i++;
		if (i == count)
			good = unknown_key(l, n->key, rows, count) && good;
		else if (repeated(map, n))
			good = tw_option_wrong(l, n->key, "'%s' is here twice", rows[i].key);
		else
			good = read_row(l, n, &rows[i], base) && good;
		l->at = before;
	}
	return good && !l->no_memory;
}
