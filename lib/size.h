/*
 * size.h - sizes as people write them.
 */
#ifndef HUSK_LIB_SIZE_H
#define HUSK_LIB_SIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of a number with K, M, G or T behind it, or none, for powers of 1024; false unless that is
 * all of `text` and fits. */
bool size_parse(const char *text, uint64_t *bytes);

/* The same the other way: in the largest unit in which it is whole. Returns `buf`. */
#define SIZE_TEXT 24
const char *size_text(uint64_t bytes, char buf[SIZE_TEXT]);

#endif
