/*
 * sandbox.h - one sandbox: its devices, its engine, and what the requests of the control socket do.
 */
#ifndef HUSK_VMM_SANDBOX_H
#define HUSK_VMM_SANDBOX_H

#include "vmm/control.h"

struct opener;
struct sandbox;

/* `opener` opens the files of trees (kept by the caller); `exec_us` is when the program began
 * (monotonic microseconds). */
struct sandbox *sandbox_new(struct loop *l, struct opener *opener, uint64_t exec_us);
void sandbox_free(struct sandbox *s);

/* Takes requests from the boot client on `boot` (owned from now on, also on failure). From then on
 * the sandbox ends the loop: code 0 after an orderly end, 1 when the machine ended by itself or
 * could not be started. */
int sandbox_serve(struct sandbox *s, int boot, struct error *err);

/* The machine ends by something that broke: the boot client is told `why`. */
void sandbox_lost(struct sandbox *s, const char *why);
/* Ends the machine and the loop: the lifeline ended or a signal came. */
void sandbox_end(struct sandbox *s, const char *why);

#endif
