/* A destination in virtual time: an exporter, a backend that does what a test tells it, and the
 * books of both.
 *
 * Spans are numbered; the backend reads the numbers out of the requests, so that what is lost,
 * doubled or made up shows. After every step sim_check compares the exporter's books with its own.
 */
#ifndef TW_TEST_FORWARD_SIM_H
#define TW_TEST_FORWARD_SIM_H

#include "tw/forward.h"

#define SIM_SPANS_MAX 200000u
#define SIM_SENDS_MAX 16u
#define SIM_MS        TW_NS_PER_MS
#define SIM_S         TW_NS_PER_S

struct sim_answer {
	enum tw_send_outcome outcome;
	uint64_t after_ns;       /* how long the answer takes; 0: from within send */
	uint64_t retry_after_ms; /* UINT64_MAX: not said */
	uint64_t rejected;
	bool delivered; /* the backend has the spans, whatever it says */
	bool busy;      /* send returns false */
};

struct sim_send {
	bool used;
	tw_send_done done;
	void *ctx;
	uint64_t due_ns;
	struct sim_answer answer;
	struct tw_batch batch;
};

struct sim {
	struct tw_exporter *x;
	struct tw_dest_opts opts;
	uint64_t now_ns;
	void (*answer)(struct sim *s, const struct tw_batch *b,
	               struct sim_answer *a); /* a: taken, in 1 ms */
	uint64_t n;                           /* the answer function's own */

	struct sim_send sends[SIM_SENDS_MAX];
	uint64_t in_flight, in_flight_most, attempts, last_attempt_ns, stops;
	uint8_t *seen; /* by span number: how often the backend got it */
	uint64_t got, doubled;

	uint64_t offered, taken, next_span;
	uint64_t rooms;
	uint64_t queue_bytes_max, largest_bound; /* what the queue may hold at most */
	bool at_once;                            /* answers are acted on as they come */
	struct tw_clock clock;
};

void sim_init(struct sim *s); /* defaults; change s->opts and s->answer afterwards */
void sim_start(struct sim *s, uint64_t queue_bytes_max, uint32_t in_flight_max, uint64_t seed);
bool sim_offer(struct sim *s, uint32_t spans, uint32_t span_bytes);
void sim_run(struct sim *s, uint64_t until_ns);  /* moves time from event to event */
void sim_drain(struct sim *s, uint64_t most_ns); /* flushes, and runs until it is empty */
void sim_check(const struct sim *s);
void sim_end(struct sim *s); /* stops, checks, destroys */
uint64_t sim_lost(const struct sim *s, enum tw_lost why);
uint64_t sim_forwarded(const struct sim *s);
uint64_t sim_queued(const struct sim *s);
bool sim_batch_has(const struct tw_batch *b, uint64_t number);

#endif
