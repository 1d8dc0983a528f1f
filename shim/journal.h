/*
 * journal.h - journal.json and the list of hard links of a record (record.h): written, and parsed
 * with the distrust that a file of unknown age and history deserves.
 */
#ifndef HUSK_SHIM_JOURNAL_H
#define HUSK_SHIM_JOURNAL_H

#include "shim/record.h"

#define JOURNAL_MAX (64u << 10) /* bytes of journal.json */

/* The text of journal.json, malloc'ed. */
char *journal_text(const struct record *r, size_t *len, struct error *err);
/* Fills container, rootfs, mknod, block and held of an empty record. ERR_INVALID. */
int journal_parse(const char *text, size_t len, struct record *r, struct error *err);

/* The list: for each name the inode number in decimal, NUL, path, NUL; sorted by inode number as
 * tree_each_link() gives them. */
int links_parse(const char *text, size_t len, struct record *r, struct error *err);
void links_free(struct record *r);

#endif
