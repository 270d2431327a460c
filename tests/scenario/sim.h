/* Several cores in one thread and in virtual time, with destinations that follow a script. */
#ifndef TW_TESTS_SIM_H
#define TW_TESTS_SIM_H

#include "core.h"

#define SIM_MS       TW_NS_PER_MS
#define SIM_S        TW_NS_PER_S
#define SIM_SEEN_MAX 65536u

enum sim_mode { SIM_OK, SIM_DOWN, SIM_HOLE, SIM_POISON };

struct sim_span {
	uint64_t trace;        /* low 64 bits of the id; the high ones are made from it */
	uint64_t span, parent; /* parent 0: root */
	const char *service, *name;
	uint64_t start_ns, duration_ns;
	int kind, status;
	const char *attr; /* value of the attribute "shape", or NULL */
};

struct sim_seen { /* a span that a destination took */
	uint64_t trace, span;
	char rule[24], reason[16];
};

struct sim_dest {
	enum sim_mode mode;
	struct sim_seen *seen;
	uint32_t seen_count;
	bool stops_late;      /* held sends do not end within stop, as over a socket */
	uint32_t sends, held; /* held: sends that SIM_HOLE never answered */
	tw_send_done done[64];
	void *done_ctx[64];
};

struct sim_answer {
	uint32_t ok, malformed, too_large, refused, open;
	uint64_t rejected;
};

struct sim {
	struct tw_clock_virtual time;
	struct tw_clock clock;
	struct tw_core_shared shared;
	struct tw_rulebook book;
	struct tw_budget views;
	struct tw_metrics_opts metrics;
	struct tw_dest_opts dests[TW_DESTINATIONS_MAX];
	struct sim_dest dest[TW_DESTINATIONS_MAX];
	struct sim_answer answer;
	uint64_t sent; /* spans that were offered to cores */
};

struct sim_config {
	uint32_t workers;
	const char *rules;
	uint32_t dest_count;      /* 0: one */
	uint64_t buffer_bytes;    /* 0: 64 MiB */
	uint64_t queue_bytes;     /* 0: 4 MiB */
	uint32_t trace_spans_max; /* 0: 32,000 */
	uint64_t verdict_keep_ns; /* 0: 1 h */
	uint64_t retry_for_ns;    /* 0: never gives up */
	enum tw_coding coding;    /* of what goes out */
};

struct sim *sim_create(const struct sim_config *c);
void sim_destroy(struct sim *s);
/* One request to a core; true: acknowledged before the return. */
bool sim_send(struct sim *s, uint32_t core, const struct sim_span *spans, uint32_t n);
bool sim_send_bytes(struct sim *s, uint32_t core, const void *p, size_t n);
/* A request like sim_send's, as bytes. */
void sim_encode(struct tw_buf *out, const struct sim_span *spans, uint32_t n);
/* Rings and ticks until nothing moves, without time passing. */
void sim_settle(struct sim *s);
/* Lets time pass in steps of 10 ms, settling after each. */
void sim_run(struct sim *s, uint64_t ns);
void sim_reload(struct sim *s, const char *rules);
/* Decides and flushes everything as the process does when it leaves; returns the spans lost. */
uint64_t sim_drain(struct sim *s, uint64_t most_ns);
/* Lets a held destination answer: takes (ok) or asks for a retry. */
void sim_answer_held(struct sim *s, uint32_t dest, bool ok);

uint32_t sim_seen_spans(const struct sim *s, uint32_t dest, uint64_t trace);
const struct sim_seen *sim_seen(const struct sim *s, uint32_t dest, uint64_t trace, uint64_t span);
/* Sums of all workers' published books. */
struct tw_core_books sim_books(const struct sim *s);
/* Asserts DESIGN's equations on the books. */
void sim_check_books(const struct sim *s);
uint64_t sim_rule_traces(const struct sim *s, const char *rule, enum tw_reason reason, bool kept);

#endif
