/* Destinations that are slow, dead, returning, poisonous; one of two dead. */
#include "scenario_test.h"

#define EVERYTHING                                                                                 \
	"wait: { root: 10ms, idle: 1s, most: 2s }\n"                                               \
	"rules: [ { name: everything, keep: all } ]\n"

static void send_traces(struct sim *s, uint64_t from, uint64_t n)
{
	for (uint64_t i = from; i < from + n; i++) {
		struct sim_span a[2] = {{.trace = i, .span = 1},
		                        {.trace = i, .span = 2, .parent = 1, .service = "other"}};

		sim_send(s, (uint32_t)(i % s->shared.workers), a, 2);
	}
}

static void a_dead_backend_returns(void **state)
{
	struct sim_config c = {.workers = 2, .rules = EVERYTHING};
	struct sim *s = sim_create(&c);

	(void)state;
	s->dest[0].mode = SIM_DOWN;
	send_traces(s, 1, 1000);
	sim_run(s, 60 * SIM_S);
	assert_int_equal(s->dest[0].seen_count, 0);
	assert_int_equal(sim_books(s).dest[0].queued + sim_books(s).dest[0].pending, 2000);
	s->dest[0].mode = SIM_OK;
	sim_run(s, 60 * SIM_S);
	assert_int_equal(s->dest[0].seen_count, 2000);
	assert_int_equal(sim_books(s).dest[0].forwarded, 2000);
	sim_destroy(s);
}

static void a_slow_backend_loses_nothing(void **state)
{
	struct sim_config c = {.workers = 2, .rules = EVERYTHING, .queue_bytes = 1u << 20};
	struct sim *s = sim_create(&c);

	(void)state;
	s->dest[0].mode = SIM_HOLE;
	for (uint64_t k = 0; k < 50; k++) {
		send_traces(s, 1 + k * 100, 100);
		sim_run(s, 500 * SIM_MS);
		s->dest[0].mode = SIM_OK;
		sim_answer_held(s, 0, false); /* late, and asked again */
		s->dest[0].mode = k % 2 == 0 ? SIM_OK : SIM_HOLE;
	}
	s->dest[0].mode = SIM_OK;
	sim_answer_held(s, 0, false);
	sim_run(s, 120 * SIM_S);
	assert_int_equal(s->dest[0].seen_count, 2 * 5000);
	sim_destroy(s);
}

static void one_of_two_is_dead(void **state)
{
	struct sim_config c = {
	    .workers = 1, .rules = EVERYTHING, .dest_count = 2, .queue_bytes = 1u << 20};
	struct sim *s = sim_create(&c);
	struct tw_core_books b;

	(void)state;
	s->dest[1].mode = SIM_DOWN;
	for (uint64_t k = 0; k < 100; k++) {
		send_traces(s, 1 + k * 100, 100);
		sim_run(s, 100 * SIM_MS);
	}
	sim_run(s, 5 * SIM_S);
	/* The living one got everything; the dead one's queue is bounded and what did not fit is
	 * counted. */
	assert_int_equal(s->dest[0].seen_count, 20000);
	b = sim_books(s);
	assert_int_equal(b.dest[1].forwarded, 0);
	assert_true(b.dest[1].lost[TW_LOST_QUEUE_FULL] > 0);
	assert_true(b.dest[1].queued_bytes <= 1u << 20);
	assert_int_equal(s->answer.refused, 0);
	s->dest[1].mode = SIM_OK;
	sim_run(s, 60 * SIM_S);
	b = sim_books(s);
	assert_int_equal(b.dest[1].forwarded + b.dest[1].lost[TW_LOST_QUEUE_FULL], 20000);
	assert_int_equal(s->dest[1].seen_count, b.dest[1].forwarded);
	sim_destroy(s);
}

static void poison_does_not_block(void **state)
{
	struct sim_config c = {.workers = 1, .rules = EVERYTHING};
	struct sim *s = sim_create(&c);

	(void)state;
	s->dest[0].mode = SIM_POISON;
	send_traces(s, 1, 10);
	sim_run(s, SIM_S);
	assert_int_equal(sim_books(s).dest[0].lost[TW_LOST_PERMANENT], 20);
	s->dest[0].mode = SIM_OK;
	send_traces(s, 100, 10);
	sim_run(s, SIM_S);
	assert_int_equal(s->dest[0].seen_count, 20);
	sim_destroy(s);
}

static void retry_for_gives_up(void **state)
{
	struct sim_config c = {.workers = 1, .rules = EVERYTHING, .retry_for_ns = 20 * SIM_S};
	struct sim *s = sim_create(&c);

	(void)state;
	s->dest[0].mode = SIM_DOWN;
	send_traces(s, 1, 10);
	sim_run(s, 120 * SIM_S);
	assert_int_equal(sim_books(s).dest[0].lost[TW_LOST_RETRY_EXHAUSTED], 20);
	sim_destroy(s);
}

/* A socket's sends end in a turn of the loop after the stop: until then the core is not empty, and
 * then they are among what was lost. */
static void what_is_being_sent_at_the_stop_is_lost(void **state)
{
	struct sim_config c = {.workers = 1, .rules = EVERYTHING};
	struct sim *s = sim_create(&c);
	struct tw_core *core = s->shared.cores[0];

	(void)state;
	s->dest[0].mode = SIM_HOLE;
	s->dest[0].stops_late = true;
	send_traces(s, 1, 10);
	sim_run(s, SIM_S);
	assert_int_equal(s->dest[0].held, 1);
	assert_int_equal(sim_drain(s, SIM_S), 0);
	assert_false(tw_core_empty(core));
	sim_answer_held(s, 0, false);
	assert_true(tw_core_empty(core));
	assert_int_equal(tw_core_lost_at_stop(core), 20);
	sim_destroy(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_dead_backend_returns),
	    cmocka_unit_test(a_slow_backend_loses_nothing),
	    cmocka_unit_test(one_of_two_is_dead),
	    cmocka_unit_test(poison_does_not_block),
	    cmocka_unit_test(retry_for_gives_up),
	    cmocka_unit_test(what_is_being_sent_at_the_stop_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
