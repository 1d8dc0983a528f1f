/*
 * pump.h - bytes between two stream sockets, both ways, each with the other's back-pressure.
 */
#ifndef HUSK_LIB_PUMP_H
#define HUSK_LIB_PUMP_H

#include "lib/error.h"
#include "lib/loop.h"

struct pump;
typedef void (*pump_end_fn)(void *arg);

/* Takes `a` and `b` over (non-blocking; also when it fails). An end of file is handed on as one;
 * once both ways have ended, or one socket has failed, everything is closed and freed, and `end`
 * called, which may not call pump_free(). */
struct pump *pump_new(struct loop *loop, int a, int b, pump_end_fn end, void *arg,
		      struct error *err);
/* Ends it without a call of `end`. NULL is allowed. */
void pump_free(struct pump *p);

#endif
