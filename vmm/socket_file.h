/*
 * socket_file.h - a listening Unix socket with a file that has a descriptor and no name.
 */
#ifndef HUSK_VMM_SOCKET_FILE_H
#define HUSK_VMM_SOCKET_FILE_H

#include "lib/error.h"

/* Makes a socket that listens for one connection, and a descriptor (O_PATH) of its file, which a
 * process that inherits it reaches as /proc/self/fd/N, in whatever namespaces it is. Both are
 * O_CLOEXEC. */
int socket_file_listen(int *listener, int *file, struct error *err);

#endif
