/*
 * Theory of operation.
 *
 * A disk is a source of blocks behind a virtio-blk device. Where the two meet depends on whether
 * the engine can plug devices into a running machine:
 *
 *   it can (kvm)     attach makes a device of the disk's kind, with its source, and plugs it; the
 *                    guest finds it when it probes the slot. Detach takes the source away, so that
 *                    the disk has no bytes from then on, and unplugs the device; the place is
 *                    free when the engine says that no driver of the guest uses it any more.
 *   it cannot (qemu) the machine has a fixed number of devices from its start, each an empty slot
 *                    with capacity 0; attach gives a slot a source, detach takes it away.
 *
 * Fixed slots: a disk takes the first free one of the right kind, the read-only ones for read-only
 * disks (the guest then knows that the disk is, VIRTIO_BLK_F_RO being fixed for a device's life);
 * when these are used up a read-only disk may take a writable one, where its source still refuses
 * writes.
 *
 * Serials are unique in a sandbox: the agent finds a disk by nothing else.
 */
#include "vmm/disks.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "vmm/source.h"
#include "vmm/virtio/blk.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

void disks_init(struct disks *d, struct loop *l, struct opener *opener)
{
	*d = (struct disks){.loop = l, .opener = opener, .n = DISKS_PLACES};
}

int disks_init_fixed(struct disks *d, struct loop *l, struct opener *opener, unsigned readonly,
		     unsigned writable, struct error *err)
{
	*d = (struct disks){.loop = l, .opener = opener, .fixed = true};
	while (d->n < readonly + writable) {
		d->dev[d->n] = blk_new(l, d->n < readonly, err);
		if (!d->dev[d->n])
			return -1;
		d->n++;
	}
	return 0;
}

void disks_free(struct disks *d)
{
	for (unsigned i = 0; i < d->n; i++)
		if (d->dev[i])
			d->dev[i]->ops->destroy(d->dev[i]);
	*d = (struct disks){0};
}

static bool attached(const struct disks *d, unsigned i)
{
	return d->dev[i] && blk_attached(d->dev[i]);
}

/* The place that has the disk, or -1. */
static int place_of(const struct disks *d, const char *serial)
{
	for (unsigned i = 0; i < d->n; i++)
		if (attached(d, i) && strcmp(blk_serial(d->dev[i]), serial) == 0)
			return (int)i;
	return -1;
}

static int free_slot(const struct disks *d, bool readonly)
{
	for (int pass = readonly ? 0 : 1; pass < 2; pass++)
		for (unsigned i = 0; i < d->n; i++)
			if (!attached(d, i) && blk_readonly(d->dev[i]) == !pass)
				return (int)i;
	return -1;
}

static int free_place(const struct disks *d)
{
	unsigned used = 0;
	int place = -1;

	for (unsigned i = 0; i < d->n; i++) {
		used += attached(d, i);
		if (!d->dev[i] && place < 0)
			place = (int)i;
	}
	return used < DISKS_MAX ? place : -1;
}

/* The place that a disk of this kind and serial gets, or -1. */
static int find_place(const struct disks *d, const char *serial, bool readonly, struct error *err)
{
	int place;

	if (place_of(d, serial) >= 0)
		return error_kind(err, ERR_EXISTS, "disk %s: attached already", serial);
	place = d->fixed ? free_slot(d, readonly) : free_place(d);
	if (place < 0)
		return error_kind(err, ERR_NO_ROOM, "disk %s: no free %s slot", serial,
				  readonly || !d->fixed ? "disk" : "writable");
	return place;
}

/* Takes the source, also on failure. */
static int plug(struct disks *d, unsigned place, const struct request *r, struct block_source *src,
		struct error *err)
{
	struct virtio_device *dev = blk_new(d->loop, src->readonly, err);

	if (!dev) {
		src->ops->destroy(src);
		return -1;
	}
	blk_limit(dev, &r->rate);
	if (blk_attach(dev, r->serial, src, err) < 0 || engine_plug(d->engine, dev, err) < 0) {
		dev->ops->destroy(dev);
		return -1;
	}
	d->dev[place] = dev;
	return 0;
}

/* Takes the source, also on failure. */
static int fill(struct virtio_device *slot, const struct request *r, struct block_source *src,
		struct error *err)
{
	blk_limit(slot, &r->rate);
	return blk_attach(slot, r->serial, src, err);
}

/* Takes the source, also on failure. */
static int put(struct disks *d, int place, const struct request *r, struct block_source *src,
	       struct error *err)
{
	int rc =
		d->fixed ? fill(d->dev[place], r, src, err) : plug(d, (unsigned)place, r, src, err);

	return rc < 0 ? error_wrap(err, "disk %s", r->serial) : place;
}

/* What is written behind the limit would be lost (vmm/jail.c). */
static int check_size(const struct disks *d, const struct request *r, int fd, struct error *err)
{
	struct stat st;

	if (r->readonly || !d->file_bytes || fd_stat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    (uint64_t)st.st_size <= d->file_bytes)
		return 0;
	return error_kind(err, ERR_INVALID,
			  "disk %s: larger than the file_bytes of start, %" PRIu64, r->serial,
			  d->file_bytes);
}

int disks_attach_block(struct disks *d, const struct request *r, int *fds, struct error *err)
{
	int place = find_place(d, r->serial, r->readonly, err);
	struct block_source *src;

	if (place < 0 || check_size(d, r, fds[0], err) < 0)
		return -1;
	src = source_file_new(steal_fd(&fds[0]), r->readonly, r->discardable, err);
	if (!src)
		return error_wrap(err, "disk %s", r->serial);
	return put(d, place, r, src, err);
}

int disks_attach_tree(struct disks *d, const struct request *r, int *fds, struct error *err)
{
	int place = find_place(d, r->serial, true, err);
	struct block_source *src;

	if (place < 0)
		return -1;
	src = source_tree_new(steal_fd(&fds[0]), steal_fd(&fds[1]), d->opener, err);
	if (!src)
		return error_wrap(err, "disk %s", r->serial);
	if (put(d, place, r, src, err) < 0)
		return -1;
	d->trees[place] = src;
	return place;
}

int disks_hold(struct disks *d, const struct request *r, struct error *err)
{
	int place = place_of(d, r->serial);

	if (place < 0)
		return error_kind(err, ERR_NOT_FOUND, "disk %s: not attached", r->serial);
	if (!d->trees[place])
		return error_kind(err, ERR_INVALID, "disk %s: not made of a tree: holds no files",
				  r->serial);
	/* Opens one file: short enough for the loop. */
	if (source_tree_hold(d->trees[place], r->path, err) < 0)
		return error_wrap(err, "disk %s", r->serial);
	return 0;
}

int disks_detach(struct disks *d, const char *serial, struct error *err)
{
	int place = place_of(d, serial);

	if (place < 0)
		return error_kind(err, ERR_NOT_FOUND, "disk %s: not attached", serial);
	d->trees[place] = NULL;
	blk_detach(d->dev[place]);
	if (!d->fixed)
		engine_unplug(d->engine, d->dev[place]);
	return 0;
}

bool disks_unplugged(struct disks *d, struct virtio_device *dev)
{
	for (unsigned i = 0; i < d->n; i++) {
		if (d->dev[i] != dev)
			continue;
		d->dev[i] = NULL;
		dev->ops->destroy(dev);
		return true;
	}
	return false;
}

void disks_write_slots(const struct disks *d, struct jsonw *w)
{
	jsonw_key(w, "slots");
	jsonw_arr(w);
	for (unsigned i = 0; i < d->n; i++) {
		jsonw_obj(w);
		jsonw_kstr(w, "serial", attached(d, i) ? blk_serial(d->dev[i]) : NULL);
		jsonw_kbool(w, "readonly", d->dev[i] && blk_readonly(d->dev[i]));
		jsonw_end_obj(w);
	}
	jsonw_end_arr(w);
}

void disks_write_stats(const struct disks *d, struct jsonw *w)
{
	jsonw_key(w, "blocks");
	jsonw_arr(w);
	for (unsigned i = 0; i < d->n; i++) {
		struct blk_stats bs = {0};

		if (!attached(d, i))
			continue;
		blk_stats(d->dev[i], &bs);
		jsonw_obj(w);
		jsonw_kstr(w, "serial", blk_serial(d->dev[i]));
		jsonw_kuint(w, "reads", bs.reads);
		jsonw_kuint(w, "writes", bs.writes);
		jsonw_kuint(w, "read_bytes", bs.read_bytes);
		jsonw_kuint(w, "write_bytes", bs.write_bytes);
		jsonw_kuint(w, "flushes", bs.flushes);
		jsonw_kuint(w, "discards", bs.discards);
		jsonw_kuint(w, "errors", bs.errors);
		jsonw_kuint(w, "throttled", bs.throttled);
		jsonw_kuint(w, "throttled_us", bs.throttled_us);
		jsonw_end_obj(w);
	}
	jsonw_end_arr(w);
}
