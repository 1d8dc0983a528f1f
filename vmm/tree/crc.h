/* crc.h - CRC32C (Castagnoli), by the processor's instruction where it has one. */
#ifndef HUSK_VMM_TREE_CRC_H
#define HUSK_VMM_TREE_CRC_H

#include <stddef.h>
#include <stdint.h>

/* Goes on from `crc`; begins with ~0. Not inverted at the end, as EROFS wants it. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

#endif
