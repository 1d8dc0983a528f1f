/*
 * boot.h - what PID 1 does before it listens.
 */
#ifndef HUSK_AGENT_BOOT_H
#define HUSK_AGENT_BOOT_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/error.h"

/* CLOCK_BOOTTIME in microseconds: how long the kernel has run. */
uint64_t boot_us(void);

/* Makes sure that descriptors 0 to 2 are open: the console if there is one, else /dev/null. To be
 * called before any other is opened. */
int boot_stdio(struct error *err);

/* Makes the guest a place where containers can be set up: a root that can be pivoted, /proc, /sys,
 * /dev, cgroups with all controllers, loopback, host name, limits. */
int boot_system(struct error *err);

/* True if `word` stands on the kernel's command line. */
bool boot_has_option(const char *word);

/* Says why the guest ends, as urgently as the kernel says why it panics: a machine without a
 * console shows that, too. Descriptors stay open. */
void boot_last_words(const char *text);

/* Resets the machine, which tells the VMM that it is over. Does not return. */
void boot_reset(void) __attribute__((noreturn));

#endif
