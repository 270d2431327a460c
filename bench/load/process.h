/* What /proc says about the server under load. */
#ifndef TW_LOAD_PROCESS_H
#define TW_LOAD_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

/* CPU time, user and system, of all its threads, in ns; the clock tick is its resolution. 0: no
 * such process. */
uint64_t tw_load_process_cpu_ns(int pid);
/* The largest resident set so far, bytes. 0: unknown. */
uint64_t tw_load_process_peak_bytes(int pid);

#endif
