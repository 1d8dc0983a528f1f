/*
 * proxy_view.h - what the host finds as the container's files in the mount namespace of its pid.
 */
#ifndef HUSK_SHIM_PROXY_VIEW_H
#define HUSK_SHIM_PROXY_VIEW_H

#include "lib/error.h"

/* Moves the calling thread into a mount namespace of its own whose root is the container's rootfs
 * directory; `dirfd` is the container's directory, which has its state. The process's other threads
 * keep theirs. */
int view_enter(int dirfd, struct error *err);

#endif
