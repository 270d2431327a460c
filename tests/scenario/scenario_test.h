/* Short ways to write a scenario. */
#ifndef TW_TESTS_SCENARIO_TEST_H
#define TW_TESTS_SCENARIO_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "sim.h"

#define WAIT "wait: { root: 1s, idle: 5s, most: 20s }\n"
#define ERRORS_ONLY                                                                                \
	WAIT "rules:\n"                                                                            \
	     "  - { name: errors, when: '{ status = error }', keep: all }\n"                       \
	     "  - { name: rest, keep: none }\n"

#endif
