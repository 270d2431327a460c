#include "shop.h"

static const char *const service_names[TW_SHOP_SERVICES] = {"frontend", "cart", "checkout",
                                                            "payment"};

struct step { /* a span of the shop's one kind of trace */
	uint32_t service;
	int parent; /* step; −1: root */
	int kind;
	const char *name;
	uint32_t share; /* of the trace's duration, percent */
};

static const struct step steps[TW_SHOP_SPANS_A_TRACE] = {
    {0, -1, 2, "GET /checkout", 100}, {0, 0, 3, "cart.Get", 25},
    {1, 1, 2, "cart.Get", 23},        {1, 2, 3, "redis GET", 15},
    {0, 0, 3, "checkout.Place", 60},  {2, 4, 2, "checkout.Place", 58},
    {2, 5, 3, "payment.Charge", 40},  {3, 6, 2, "payment.Charge", 38},
};

/* splitmix64: the same shop every time. */
static uint64_t next(struct tw_shop *s)
{
	uint64_t z = s->seed += 0x9E3779B97F4A7C15u;

	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
	return z ^ (z >> 31);
}

struct trace {
	uint64_t hi, lo, start_ns, ns;
	bool fails;
	uint64_t user;
};

static struct trace make_trace(struct tw_shop *s)
{
	struct trace t = {.hi = next(s), .lo = next(s), .start_ns = s->now_ns};
	uint64_t dice = next(s) % 1000;

	t.ns = (20 + next(s) % 180) * 1000000;
	t.user = next(s) % 5000;
	t.fails = dice < 10;
	if (dice >= 10 && dice < 20) {
		t.ns = (2100 + next(s) % 3000) * 1000000;
		s->slow++;
	}
	s->errors += t.fails;
	s->traces++;
	s->now_ns += 1000000;
	return t;
}

static void put_span(struct tw_buf *b, const struct trace *t, uint32_t i, bool first)
{
	const struct step *p = &steps[i];
	uint64_t ns = t->ns * p->share / 100, start = t->start_ns + (t->ns - ns) / 2;

	tw_buf_printf(b, "%s{\"traceId\":\"%016llx%016llx\",\"spanId\":\"%016llx\",",
	              first ? "" : ",", (unsigned long long)t->hi, (unsigned long long)t->lo,
	              (unsigned long long)(t->lo ^ (i + 1) * 0x1000193u));
	if (p->parent >= 0)
		tw_buf_printf(b, "\"parentSpanId\":\"%016llx\",",
		              (unsigned long long)(t->lo ^ ((unsigned)p->parent + 1) * 0x1000193u));
	tw_buf_printf(b,
	              "\"name\":\"%s\",\"kind\":%d,\"startTimeUnixNano\":\"%llu\","
	              "\"endTimeUnixNano\":\"%llu\",\"attributes\":["
	              "{\"key\":\"http.request.method\",\"value\":{\"stringValue\":\"GET\"}},"
	              "{\"key\":\"user.id\",\"value\":{\"intValue\":\"%llu\"}}]",
	              p->name, p->kind, (unsigned long long)start, (unsigned long long)(start + ns),
	              (unsigned long long)t->user);
	/* A declined card: the payment fails, and with it everything above. */
	if (t->fails && i != 1 && i != 2 && i != 3)
		tw_buf_puts(b, ",\"status\":{\"code\":2,\"message\":\"card declined\"}");
	tw_buf_puts(b, "}");
}

void tw_shop_requests(struct tw_shop *s, uint32_t count, struct tw_buf out[TW_SHOP_SERVICES])
{
	bool first[TW_SHOP_SERVICES] = {true, true, true, true};

	for (uint32_t i = 0; i < TW_SHOP_SERVICES; i++) {
		tw_buf_clear(&out[i]);
		tw_buf_printf(&out[i],
		              "{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"key\":"
		              "\"service.name\",\"value\":{\"stringValue\":\"%s\"}}]},"
		              "\"scopeSpans\":[{\"scope\":{\"name\":\"shop\"},\"spans\":[",
		              service_names[i]);
	}
	for (uint32_t n = 0; n < count; n++) {
		struct trace t = make_trace(s);

		for (uint32_t i = 0; i < TW_SHOP_SPANS_A_TRACE; i++) {
			put_span(&out[steps[i].service], &t, i, first[steps[i].service]);
			first[steps[i].service] = false;
		}
	}
	for (uint32_t i = 0; i < TW_SHOP_SERVICES; i++)
		tw_buf_puts(&out[i], "]}]}]}");
}
