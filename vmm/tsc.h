/*
 * tsc.h - how fast this host's time stamp counter runs.
 */
#ifndef HUSK_VMM_TSC_H
#define HUSK_VMM_TSC_H

#include <stdint.h>

/* kHz; 0 if the host has no usable counter. Takes microseconds where the kernel tells, and 2 ms
 * where it has to be measured. */
uint64_t tsc_khz(void);

#endif
