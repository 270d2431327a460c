/* The engine: workers, their rings, reload and drain; the only folder that knows every module.
 *
 * Life: create → start → (reload)* → drain → join → destroy. tw_engine_* are called by the main
 * thread unless they say [any]. */
#ifndef TW_ENGINE_H
#define TW_ENGINE_H

#include "tw/config.h"
#include "tw/rules.h"

struct tw_engine;

/* Compiles the rules, binds all ports, opens all destinations; no thread runs yet. report: what is
 * wrong, for a person. TW_EINVAL: rules or configuration; TW_EIO: the machine refused; TW_ENOMEM.
 * config is taken over on success. */
int tw_engine_create(struct tw_config *config, const struct tw_clock *clock, struct tw_engine **out,
                     struct tw_buf *report);
int tw_engine_start(struct tw_engine *e);
/* Compiles the rule file anew and swaps it in; on an error nothing changes, the report says why. */
int tw_engine_reload(struct tw_engine *e, struct tw_buf *report);
void tw_engine_reopen(struct tw_engine *e); /* file destinations */
/* Stops accepting, decides, flushes, at most config drain.most. Returns the spans that were not
 * delivered. Blocks. */
uint64_t tw_engine_drain(struct tw_engine *e);
void tw_engine_abort_drain(struct tw_engine *e); /* a second signal: stop now [any] */
void tw_engine_destroy(struct tw_engine **e);
uint16_t tw_engine_port(const struct tw_engine *e,
                        uint32_t which); /* 0 gRPC, 1 HTTP, 2 admin; as bound */

#endif
