/*
 * loop.h - one epoll loop: handlers for file descriptors and timers, all in one thread.
 *
 * Used by husk-vmm (control socket, vhost-user, vsock) and by the agent. A handler may add and
 * remove any source, its own included: a removed source is not called again, and its memory is
 * freed once the current round is over.
 */
#ifndef HUSK_LIB_LOOP_H
#define HUSK_LIB_LOOP_H

#include <stdint.h>
#include <sys/epoll.h>

#include "lib/error.h"

struct loop;
struct loop_source;

typedef void (*loop_fn)(void *arg, uint32_t events);

struct loop *loop_new(struct error *err);
void loop_free(struct loop *l); /* removes every source; closes no watched fd */

/* Watches `fd` (not owned) for EPOLL* `events`. NULL on error. */
struct loop_source *loop_add(struct loop *l, int fd, uint32_t events, loop_fn fn, void *arg,
			     struct error *err);
void loop_set(struct loop_source *s, uint32_t events); /* 0: watched for nothing but errors */
void loop_remove(struct loop_source *s);	       /* NULL is allowed */

/* Calls `fn` once, `us` microseconds from now. The source removes itself after the call. */
struct loop_source *loop_timer(struct loop *l, uint64_t us, loop_fn fn, void *arg,
			       struct error *err);

/* Runs until loop_stop(), whose `code` it returns. */
int loop_run(struct loop *l);
void loop_stop(struct loop *l, int code);

#endif
