/*
 * opener.h - opens the files of trees for a jailed husk-vmm.
 *
 * A tree's disk reads the files of the container's rootfs on demand, and those belong to anyone;
 * husk-vmm, once jailed, is nobody. The opener is a process of its own that can do one thing: given
 * a directory's descriptor and a relative path, open the regular file there, for reading, and
 * nothing that is not beneath the directory. What it opens for a hostile husk-vmm is what the
 * container may read anyway.
 */
#ifndef HUSK_VMM_OPENER_H
#define HUSK_VMM_OPENER_H

#include "lib/error.h"
#include "vmm/tree/format.h"

/* Bytes of a path, with its NUL: as deep and with names as long as a tree can have them. */
#define OPENER_PATH_MAX ((TREE_DEPTH_MAX + 1) * 256)

struct opener;

/* Forks it; call while the process has one thread and is not jailed yet. It ends with this
 * process, or with opener_free(). */
struct opener *opener_start(struct error *err);
void opener_free(struct opener *o);
/* Hangs up when it has ended. */
int opener_fd(const struct opener *o);

/* The file at `path` (relative; no symbolic link is followed) beneath directory `dir`: a
 * descriptor, or -errno; -ESTALE: it is no regular file. Any thread may call. */
int opener_open(struct opener *o, int dir, const char *path);
/* The same, by this process itself; `path` is changed. */
int opener_open_here(int dir, char *path);

#endif
