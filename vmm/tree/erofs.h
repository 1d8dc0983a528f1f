/*
 * erofs.h - the parts of the EROFS on-disk format (Linux, fs/erofs) that a tree has.
 *
 * Everything on disk is little-endian, and so is every host that husk runs on. An inode is found by
 * its number: it begins at byte 32 * number of the metadata (which begins at block 0).
 */
#ifndef HUSK_VMM_TREE_EROFS_H
#define HUSK_VMM_TREE_EROFS_H

#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "trees are written and mapped as they are: little-endian hosts only"
#endif

#define EROFS_MAGIC 0xe0f5e1e2u
#define EROFS_SUPER_AT 1024u
#define EROFS_BLOCK_BITS 12u
#define EROFS_SLOT 32u
#define EROFS_NO_BLOCK UINT32_MAX /* a hole, or nothing at all */
#define EROFS_NAME_MAX 255u

#define EROFS_COMPAT_SB_CHECKSUM 0x1u
#define EROFS_COMPAT_MTIME 0x2u
#define EROFS_INCOMPAT_CHUNKED 0x4u

struct erofs_super {
	uint32_t magic;
	uint32_t
		checksum; /* CRC32C from here to the end of the block, this field 0, not inverted */
	uint32_t compat;
	uint8_t block_bits;
	uint8_t ext_slots;
	uint16_t root_nid;
	uint64_t inodes;
	uint64_t build_time;
	uint32_t build_nsec;
	uint32_t blocks;
	uint32_t meta_block;
	uint32_t xattr_block;
	uint8_t uuid[16];
	char name[16];
	uint32_t incompat;
	uint16_t compression;
	uint16_t extra_devices;
	uint16_t device_slot;
	uint8_t dir_block_bits;
	uint8_t prefixes;
	uint32_t prefix_start;
	uint64_t packed_nid;
	uint8_t reserved[24];
} __attribute__((packed));
_Static_assert(sizeof(struct erofs_super) == 128, "erofs superblock");

/* Where the content of an inode is. */
enum erofs_layout {
	EROFS_PLAIN = 0,   /* in blocks from `u` on */
	EROFS_INLINE = 2,  /* the same, but its last part follows the inode and its xattrs */
	EROFS_CHUNKED = 4, /* a block number for each chunk follows the inode and its xattrs */
};
#define EROFS_FORMAT(layout) (uint16_t)(1u | (unsigned)(layout) << 1) /* 64-byte inodes */
#define EROFS_FORMAT_LAYOUT(format) ((format) >> 1 & 7u)
#define EROFS_CHUNK_BITS_MASK 0x1fu /* of `u`: chunk size, as a power of two of blocks */
#define EROFS_CHUNK_BITS_MAX 31u

struct erofs_inode {
	uint16_t format;
	uint16_t xattr_count; /* 0, or 1 + (bytes of xattrs - 12) / 4 */
	uint16_t mode;
	uint16_t reserved;
	uint64_t size;
	uint32_t u; /* block, device number, or chunk format */
	uint32_t ino;
	uint32_t uid, gid;
	int64_t mtime;
	uint32_t mtime_nsec;
	uint32_t nlink;
	uint8_t reserved2[16];
};
_Static_assert(sizeof(struct erofs_inode) == 64, "erofs inode");

/* The xattrs of an inode: this, then entries, each padded to 4 bytes. */
struct erofs_xattr_head {
	uint32_t name_filter;
	uint8_t shared;
	uint8_t reserved[7];
};
struct erofs_xattr {
	uint8_t name_len, index;
	uint16_t value_len;
	/* name, value */
};

enum erofs_xattr_index {
	EROFS_XATTR_USER = 1,
	EROFS_XATTR_ACL_ACCESS = 2,
	EROFS_XATTR_ACL_DEFAULT = 3,
	EROFS_XATTR_TRUSTED = 4,
	EROFS_XATTR_SECURITY = 6,
};

/* A directory is blocks of its own: entries, then their names without a NUL, in bytewise order of
 * names. What follows the last name in a block is 0. */
struct erofs_dirent {
	uint64_t nid;
	uint16_t name; /* offset in the block */
	uint8_t type;
	uint8_t reserved;
} __attribute__((packed));
_Static_assert(sizeof(struct erofs_dirent) == 12, "erofs dirent");

enum erofs_type {
	EROFS_REG = 1,
	EROFS_DIR,
	EROFS_CHR,
	EROFS_BLK,
	EROFS_FIFO,
	EROFS_SOCK,
	EROFS_LNK,
};

#endif
