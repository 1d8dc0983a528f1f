/*
 * sha256.h - SHA-256 (FIPS 180-4), for names that stand for content.
 */
#ifndef HUSK_LIB_SHA256_H
#define HUSK_LIB_SHA256_H

#include <stddef.h>

#define SHA256_HEX 65 /* 64 digits and a NUL */

/* The digest of `len` bytes in lower-case hexadecimal. */
void sha256_hex(const void *data, size_t len, char hex[SHA256_HEX]);

#endif
