/*
 * elf.h - which bytes of an ELF64 kernel go where. It only reads the file's headers.
 */
#ifndef HUSK_VMM_ELF_H
#define HUSK_VMM_ELF_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/error.h"

#define ELF_SEGMENTS_MAX 16

struct elf_segment {
	uint64_t offset; /* in the file */
	uint64_t bytes;	 /* there; not 0 */
	uint64_t gpa;	 /* physical address of the first */
	uint64_t vaddr;	 /* the kernel's own address of it */
	bool writable;
};

struct elf_plan {
	uint64_t entry; /* e_entry; lies in a segment */
	uint64_t begin,
		end; /* physical addresses that the kernel takes, with what it wants zeroed */
	unsigned n;
	struct elf_segment s[ELF_SEGMENTS_MAX];
};

/* Plans the loading of `fd`, an x86-64 executable of `file_bytes` bytes: every segment lies in the
 * file and within [0, UINT64_MAX]; segments may overlap. ERR_INVALID says what is wrong with it. */
int elf_plan(int fd, uint64_t file_bytes, struct elf_plan *plan, struct error *err);

/* Calls `page` with the number of each page of `s` that Linux will patch when it boots, as its
 * section .altinstructions says; several times, or never, if there is no such section. A hint: a
 * file may say anything, but each number is below s->bytes / 4096. */
void elf_patched_pages(int fd, const struct elf_segment *s,
		       void (*page)(void *arg, uint64_t number), void *arg);

#endif
