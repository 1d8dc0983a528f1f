/*
 * console.h - terminals on the host: the pty for --console-socket, and the caller's own in raw
 * mode.
 */
#ifndef HUSK_SHIM_CONSOLE_H
#define HUSK_SHIM_CONSOLE_H

#include <stdbool.h>

#include "lib/error.h"

/* Connects to the Unix socket at `path`, which `flag` ("--console-socket") has named. */
int socket_connect(const char *path, const char *flag, struct error *err);
/* Sends a descriptor with a name for it, in runc's form. */
int socket_send_fd(int sock, int fd, const char *name, struct error *err);

/* Connects to the Unix socket that `--console-socket` names. */
int console_connect(const char *path, struct error *err);

/* Makes a pty of `width` x `height` cells (0: unknown), sends its master over the connected
 * socket (SCM_RIGHTS, as runc does) and returns the slave in raw mode: the line discipline that
 * counts is the guest's. The calling process must lead a session; the slave becomes its
 * controlling terminal, so that it hears of size changes. */
int console_make(int sock, unsigned width, unsigned height, struct error *err);

bool is_socket(int fd);

/* Puts the terminal `fd` into raw mode; it is put back by tty_restore(), which runs at every exit
 * of this process but SIGKILL. Does nothing if `fd` is no terminal. */
void tty_raw(int fd);
void tty_restore(void);

#endif
