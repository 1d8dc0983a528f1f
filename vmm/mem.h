/*
 * mem.h - guest memory as the devices see it: the one overflow-checked way to a guest address.
 *
 * The memory is a file without a name (engine kvm: ours; engine qemu: QEMU's, shared with us);
 * regions are mapped once. Everything in it belongs to the guest and may change at any time: copy a
 * structure once, then check the copy, then use it.
 */
#ifndef HUSK_VMM_MEM_H
#define HUSK_VMM_MEM_H

#include <stdint.h>

#include "lib/error.h"

#define MEM_REGIONS_MAX 8 /* vhost-user's limit (VHOST_USER_MAX_RAM_SLOTS of old front ends) */

struct mem_region {
	uint64_t gpa;  /* guest physical address of the first byte */
	uint64_t size; /* bytes */
	uint64_t user; /* the same byte's address in the front end (vhost-user); 0 with kvm */
	uint8_t *hva;  /* where it is mapped here */
	void *map;     /* mapping to undo, with its length: may begin before hva */
	uint64_t map_len;
	int fd; /* the file and place that `hva` shows, for those who map it too; -1: not known */
	uint64_t offset;
};

struct guest_mem {
	unsigned n;
	struct mem_region r[MEM_REGIONS_MAX];
};

/* Maps [offset, offset + size) of `fd` (not kept) as guest memory at `gpa`, shared. ERR_PEER when
 * the region wraps around, overlaps another one, is one too many or lies beyond the file's end. */
int mem_add(struct guest_mem *m, uint64_t gpa, uint64_t size, uint64_t user, int fd,
	    uint64_t offset, struct error *err);
void mem_clear(struct guest_mem *m); /* unmaps all */

/* Host address of `len` bytes at guest physical `gpa`; NULL unless all of them lie in one region.
 * len may be 0 (any address inside or at the end of a region). */
void *mem_at(const struct guest_mem *m, uint64_t gpa, uint64_t len);
/* The same for a front-end ("user") address: vhost-user names rings so. */
void *mem_at_user(const struct guest_mem *m, uint64_t user, uint64_t len);

#endif
