/*
 * mountinfo.h - /proc/self/mountinfo (proc(5)), and the layers that an overlay's options name.
 */
#ifndef HUSK_SHIM_MOUNTINFO_H
#define HUSK_SHIM_MOUNTINFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/error.h"

struct mount_entry {
	uint64_t id;
	unsigned major, minor;
	bool has_children; /* something is mounted beneath it */
	bool idmapped;	   /* it shows other ids than its file system has */
	/* octal escapes are resolved in all but `options`, where they tell a comma of a value from
	 * one between options */
	char *root, *point, *type, *source;
	char *options; /* of the superblock */
};

/* The mount with that id in a text of `len` bytes. 1, 0: none, -1 with ERR_INVALID: its line is not
 * one of mountinfo. */
int mountinfo_find(const char *text, size_t len, uint64_t id, struct mount_entry *m,
		   struct error *err);
/* The mount that an open file (O_PATH will do) is on, by the kernel's own table; as above. */
int mountinfo_of(int fd, struct mount_entry *m, struct error *err);
void mount_entry_free(struct mount_entry *m);
#define cleanup_mount_entry __attribute__((cleanup(mount_entry_free)))

/* True if `options` has `name` (without a value, or with that one unless NULL). */
bool mount_has_option(const char *options, const char *name, const char *value);

/* What an overlay is made of. */
struct overlay_layers {
	char **lowers; /* topmost first */
	size_t n;
	char *upper; /* NULL: none */
};

#define OVERLAY_LAYERS_MAX 500 /* the kernel's own limit */

/* Reads overlayfs's options. False if they say something else than plain directories one over the
 * other: relative paths (the directory that they were relative to is not known), layers that hold
 * data only, redirects, metadata-only copies, user xattrs, casefolding. */
bool overlay_parse(const char *options, struct overlay_layers *l);
void overlay_layers_free(struct overlay_layers *l);

#endif
