/*
 * copy_up.h - mount option tmpcopyup: a tmpfs that begins with what it covers.
 */
#ifndef HUSK_AGENT_COPY_UP_H
#define HUSK_AGENT_COPY_UP_H

#include "lib/error.h"

#define COPY_UP_DEPTH_MAX 256 /* levels of directories */

/* Copies what is in directory src_fd (may be O_PATH) into directory dst_fd: directories, files,
 * links, device nodes, with owner, mode, times and extended attributes. Mounts below it are not
 * entered. Hard links become files of their own. */
int copy_up(int src_fd, int dst_fd, struct error *err);

#endif
