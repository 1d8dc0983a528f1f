/*
 * disks.h - the disks of a sandbox: which source is behind which device. See disks.c.
 */
#ifndef HUSK_VMM_DISKS_H
#define HUSK_VMM_DISKS_H

#include "lib/json.h"
#include "vmm/engine.h"
#include "vmm/request.h"

#define DISKS_MAX 16	/* attached at once, with an engine that hotplugs */
#define DISKS_PLACES 20 /* and those that a guest has not let go yet */

struct opener;

struct disks {
	struct loop *loop;
	struct opener *opener; /* of files in trees */
	struct engine *engine; /* NULL before the machine is started */
	/* Every place has a device (an engine that cannot plug), or those that are in use have. */
	bool fixed;
	unsigned n;	     /* places */
	uint64_t file_bytes; /* of the largest writable disk; 0: any */
	struct virtio_device *dev[DISKS_PLACES];
	struct block_source *trees[DISKS_PLACES]; /* the place's source, if made of a tree */
};

/* For an engine that hotplugs: places, and no device yet. */
void disks_init(struct disks *d, struct loop *l, struct opener *opener);
/* For one that does not: the slots of both kinds, empty. The machine's devices are d->dev. */
int disks_init_fixed(struct disks *d, struct loop *l, struct opener *opener, unsigned readonly,
		     unsigned writable, struct error *err);
/* After the engine's end. */
void disks_free(struct disks *d);

/* What the requests do (docs/control-socket.md). The first two take descriptors by setting them to
 * -1 and return the place. */
int disks_attach_block(struct disks *d, const struct request *r, int *fds, struct error *err);
int disks_attach_tree(struct disks *d, const struct request *r, int *fds, struct error *err);
int disks_hold(struct disks *d, const struct request *r, struct error *err);
int disks_detach(struct disks *d, const char *serial, struct error *err);

/* The engine's `unplugged`: false if the device is not a disk. */
bool disks_unplugged(struct disks *d, struct virtio_device *dev);

/* Members of the answers to `status` and `stats`. */
void disks_write_slots(const struct disks *d, struct jsonw *w);
void disks_write_stats(const struct disks *d, struct jsonw *w);

#endif
