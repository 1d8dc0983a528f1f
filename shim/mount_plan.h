/*
 * mount_plan.h - how each mount of config.json gets its data: docs/rootfs.md, "Mounts".
 */
#ifndef HUSK_SHIM_MOUNT_PLAN_H
#define HUSK_SHIM_MOUNT_PLAN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/error.h"
#include "oci/idmap.h"
#include "oci/spec.h"

/* What is small enough to be projected. */
#define PROJECT_FILE_MAX (1u << 20) /* bytes of a file */
#define PROJECT_DIR_BYTES (1u << 20)
#define PROJECT_DIR_ENTRIES 256
#define PROJECT_DIR_DEPTH 8
/* How far a projected directory may grow; beyond that its updates stop with an error in the log. */
#define PROJECT_GROWN_BYTES (32u << 20)
#define PROJECT_GROWN_ENTRIES 16384

enum mount_from {
	MOUNT_FROM_PROJECT,
	MOUNT_FROM_SHARE,
	MOUNT_FROM_DISK,
	MOUNT_FROM_DEVICE,
	MOUNT_FROM_POD, /* a tmpfs of the guest's that all who have this source share */
};

#define MOUNT_IDENTITY_LEN 44

struct planned_mount {
	size_t index; /* in config.mounts, or (with `device`) in config.linux.devices */
	enum mount_from from;
	bool device;			   /* a disk that the container sees as a device node */
	char *name;			   /* project, member of the share, device ("null"), pod */
	char *source;			   /* absolute, links resolved */
	char identity[MOUNT_IDENTITY_LEN]; /* project: which file or directory `source` was */
	bool dir, writable;
	char serial[21];	/* disk */
	char *type;		/* disk: file system */
	int fd;			/* disk: open; project, share: O_PATH of the source; -1 */
	bool recursive;		/* share: with the mounts beneath it (rbind) */
	struct oci_idmap idmap; /* share: mappings of its ids, if it has any */
	uint64_t bytes;		/* pod: size of the tmpfs */
};

struct mount_plan {
	struct planned_mount *v;
	size_t n;
	unsigned projects, shares, readonly_disks, writable_disks;
	bool mknod; /* device nodes may be made in shares */
};

/* Decides for every mount that needs something of the host. Errors name mounts[i]. Relative sources
 * are below the bundle. */
int mount_plan_make(const struct oci_spec *spec, const char *bundle, struct mount_plan *p,
		    struct error *err);
/* For a VM that others' mounts are in, too: names of shares and serials of disks end with this. */
void mount_plan_tag(struct mount_plan *p, const char *tag);
/* A machine has `max` disks; `root_disks` of them are the root file system's. Engine qemu's are
 * slots that exist from its start, engine kvm's come and go: of its 24 slots some are for other
 * devices. */
#define DISKS_MAX_QEMU 16
#define DISKS_MAX_KVM 16
int mount_plan_check_disks(const struct mount_plan *p, unsigned root_disks, unsigned max,
			   struct error *err);
void mount_plan_free(struct mount_plan *p);
/* Adds a member to the counts. */
void mount_plan_count(struct mount_plan *p, const struct planned_mount *m);
/* "mounts[3]", "linux.devices[0]": the field of config.json, for errors. */
#define MOUNT_FIELD_LEN 48
const char *mount_plan_field(const struct planned_mount *m, char text[MOUNT_FIELD_LEN]);
#define cleanup_mount_plan __attribute__((cleanup(mount_plan_free)))

/* The member `mounts` of the agent's `create` (docs/agent-protocol.md), malloc'ed. */
char *mount_plan_text(const struct mount_plan *p, struct error *err);
/* The member `devices` of the same. */
char *mount_plan_devices_text(const struct mount_plan *p, struct error *err);
/* Keeps what the proxy needs of it, the projects, as mounts.json in the container's directory;
 * there is no such file if there are none. */
int mount_plan_save(const struct mount_plan *p, int dirfd, struct error *err);
int mount_plan_load(struct mount_plan *p, int dirfd, struct error *err);
/* What is open as `fd`, as text: the number of its mount and its inode number. A path may lead
 * elsewhere later; this does not. */
int mount_identity(int fd, char text[MOUNT_IDENTITY_LEN], struct error *err);
/* The parser of that file; pure. */
int mount_plan_parse(const char *text, size_t len, struct mount_plan *p, struct error *err);

#endif
