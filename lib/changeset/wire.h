/*
 * wire.h - numbers of a changeset as they lie in the stream. For write.c and reader.c.
 */
#ifndef HUSK_LIB_CHANGESET_WIRE_H
#define HUSK_LIB_CHANGESET_WIRE_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define WIRE_HEADER 8 /* u8 type, u8 flags, u16 zero, u32 length */
#define WIRE_FIXED 72 /* of an entry, before the name */
#define WIRE_XATTR 8  /* of an xattr, before its name */
#define WIRE_END 12   /* of END, before the text */

/* An entry at its largest, without the header. */
#define WIRE_ENTRY_MAX                                                                         \
	(WIRE_FIXED + CS_NAME_MAX + 1 + CS_TARGET_MAX + 1 + CS_XATTRS_MAX * (WIRE_XATTR + 1) + \
	 CS_XATTR_BYTES_MAX)

static inline void put16(unsigned char *p, uint16_t v)
{
	v = htole16(v);
	memcpy(p, &v, sizeof(v));
}

static inline void put32(unsigned char *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof(v));
}

static inline void put64(unsigned char *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof(v));
}

static inline uint16_t get16(const unsigned char *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return le16toh(v);
}

static inline uint32_t get32(const unsigned char *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static inline uint64_t get64(const unsigned char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

#endif
