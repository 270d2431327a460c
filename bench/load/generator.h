/* Which request is sent when, and what became of it.
 *
 * OPEN (new blocks begin) → ENDING (no new block; every trace that began is finished, and late
 * spans are sent) → done. One thread; the loop waits in epoll for answers, for room in the sockets,
 * and for the next request's time. */
#ifndef TW_LOAD_GENERATOR_H
#define TW_LOAD_GENERATOR_H

#include "conn.h"

#define TW_LOAD_LATENCY_BUCKETS 320

struct tw_load_opts {
	struct tw_workload workload;
	struct tw_load_conn_opts to;
	uint32_t connections, streams;
	double rate; /* spans a second; 0: as fast as they are answered */
	uint64_t duration_ns, warmup_ns;
	uint64_t spans;       /* 0: until the duration is over */
	uint64_t retry_ns;    /* after a retryable refusal; 0: counted, and not sent again */
	bool any_answer;      /* whatever is answered counts as acknowledged */
	int pid;              /* 0: none */
	const char *manifest; /* NULL: none */
};

struct tw_load_totals {
	uint64_t requests, answers, refusals, failures;
	uint64_t spans, acked, error_spans_acked, rejected, given_up;
	uint64_t late_spans, bytes, plain_bytes;
	uint64_t latency[TW_LOAD_LATENCY_BUCKETS];
};

struct tw_load_mark { /* one end of the window that is measured */
	uint64_t at_ns, acked, cpu_ns, own_cpu_ns;
};

struct tw_load_late {
	uint64_t due_ns, block, base_ns;
};

struct tw_load_generator {
	struct tw_load_opts o;
	struct tw_load_names names;
	struct tw_load_packer *packer; /* NULL: nothing is compressed */
	struct tw_load_conn *conns;
	struct tw_load_exchange *x;
	uint32_t x_count, next_x;
	int epoll;
	uint64_t begin_ns;
	uint64_t request;   /* number of the next one */
	uint64_t block_end; /* blocks from here on are not begun */
	uint64_t paced;     /* requests that the rate has let go */
	uint64_t *base_ns;  /* of the blocks that are under way */
	uint32_t base_count;
	struct tw_load_late *late;
	size_t late_begin, late_end, late_cap;
	bool ending;
	volatile const bool *stop; /* set by a signal */
	struct tw_load_totals totals;
	struct tw_load_mark from, to;
};

/* 0, or a tw_err with text: no memory, no connection. */
int tw_load_generator_init(struct tw_load_generator *g, const struct tw_load_opts *o,
                           struct tw_error *err);
/* Until everything is sent and answered. 0, or a tw_err with text: a connection broke. */
int tw_load_generator_run(struct tw_load_generator *g, struct tw_error *err);
void tw_load_generator_deinit(struct tw_load_generator *g);

/* Traces that were sent whole: numbers first_trace to first_trace + this. */
uint64_t tw_load_traces(const struct tw_load_generator *g);
uint64_t tw_load_latency_us(const struct tw_load_totals *t, double quantile);

#endif
