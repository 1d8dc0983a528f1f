/*
 * control.h - the control socket: clients, requests in, answers and events out.
 *
 * What a request does is the handler's business. Each request becomes a call, which the handler
 * finishes once, at once or later. Described in docs/control-socket.md.
 */
#ifndef HUSK_VMM_CONTROL_H
#define HUSK_VMM_CONTROL_H

#include "lib/json.h"
#include "lib/loop.h"
#include "vmm/request.h"

#define CONTROL_CLIENTS_MAX 64
#define CONTROL_CALLS_MAX 64 /* unanswered requests of a client */

struct control;
struct control_call;

struct control_handler {
	/* A valid request. `fds` are exactly req->nfds; the handler takes one by setting it to -1,
	 * the rest is closed when it returns. `req` is the caller's; strings may be stolen. */
	void (*request)(void *arg, struct control_call *call, struct request *req, int *fds);
	/* The boot client hung up. */
	void (*boot_closed)(void *arg);
	void *arg;
};

/* Serves the boot client on `boot` (owned from now on, also on failure). */
struct control *control_new(struct loop *l, int boot, const struct control_handler *h,
			    struct error *err);
/* Frees all, pending calls too: none may be finished afterwards. */
void control_free(struct control *c);

/* Takes clients from listening socket `fd` (owned from now on, also on failure). */
int control_listen(struct control *c, int fd, struct error *err);

/* Begins the answer {"seq":…,"ok":true, to which the caller adds members before control_answer()
 * ends and sends it with `fd` (-1: none; closed in every case). A client that is gone gets
 * nothing. control_ok() is both in one without members. */
int control_begin(struct control_call *call, struct jsonw *w);
void control_answer(struct control_call *call, struct jsonw *w, int fd);
void control_ok(struct control_call *call);
void control_fail(struct control_call *call, const struct error *e);

/* Sends {"event":name} to the boot client, with why and console unless they are NULL. False when
 * there is no boot client any more. */
bool control_event(struct control *c, const char *name, const char *why, const char *console);

/* Waits at most `ms` until all answers and events are out. For the end of the process. */
void control_flush(struct control *c, unsigned ms);

#endif
