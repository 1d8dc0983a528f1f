/*
 * notify.h - sd_notify(3) for a container: who started husk with NOTIFY_SOCKET in its environment
 * is told when the container is ready.
 */
#ifndef HUSK_SHIM_NOTIFY_H
#define HUSK_SHIM_NOTIFY_H

#include "oci/spec.h"
#include "shim/state.h"

/* The socket's name in our environment, or NULL. */
const char *notify_host(void);

/* podman and conmon give a container a socket of the host's by a bind mount on /run/notify: that
 * socket, connected; -1: there is none. */
int notify_open_mounted(const struct oci_spec *spec);
/* In the proxy: passes the container's READY on to that socket, beside the caller. Takes it over;
 * `container` and `dirfd` have to stay. */
void notify_serve(const char *container, int dirfd, int sock);

/* Waits until the container says that it is ready, passes that on with `main_pid` as the process to
 * watch, and returns; also when the container has ended, or intr_fd is readable (-1: none). What
 * fails is a warning: the container runs. */
void notify_wait(const struct container_dir *d, const struct container_state *st, pid_t main_pid,
		 int intr_fd);

/* The same beside the caller, who is the process to watch: returns at once. `d` and `st` have to
 * stay. */
void notify_follow(const struct container_dir *d, const struct container_state *st);

#endif
