#include "shim/root_disks.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "shim/paths.h"
#include "shim/state.h"
#include "shim/writeback.h"

#include <string.h>
#include <sys/statvfs.h>

#define SCRATCH_SERIAL "scratch"
#define SERIAL_SIZE 21
#define LOCK_MS 10000	     /* for the VM that had the scratch to end */
#define UNKNOWN_LOCK_MS 1000 /* the same; it may be of a namesake that runs */

/* On a file system that is mounted read-only nothing that was written could stay. */
static bool is_readonly(int dirfd)
{
	struct statvfs fs;

	return fstatvfs(dirfd, &fs) == 0 && (fs.f_flag & ST_RDONLY);
}

int root_disks_open(struct root_disks *d, const char *path, bool hooks, struct error *err)
{
	uint64_t t = now_us();

	d->record = (struct record){.dirfd = -1, .scratch = -1};
	if (rootfs_open(path, hooks, &d->rootfs, err) < 0)
		return error_wrap(err, "root.path");
	if (d->writable && is_readonly(d->rootfs.dirfd)) {
		log_debug("rootfs %s: is mounted read-only: so is the container's root", path);
		d->writable = false;
	}
	log_elapsed("look at the rootfs", t);
	return writeback_recover_rootfs(d->data, &d->rootfs.id, d->wish, d->intr_fd, err);
}

int root_disks_make_record(struct root_disks *d, const char *name, const char *container,
			   const struct oci_spec *spec, uint64_t bytes, struct error *err)
{
	uint64_t t = now_us();

	if (!d->writable)
		return 0;
	if (record_make(d->data, name, container, &d->rootfs, bytes, oci_spec_may_mknod(spec),
			d->intr_fd, &d->record, err) < 0)
		return -1;
	log_elapsed("scratch disk and record", t);
	return 0;
}

/* A disk's serial in a VM that others' disks are in, too. */
static void disk_serial(const char *name, const char *tag, char serial[SERIAL_SIZE])
{
	cleanup_free char *text = xasprintf("%s%s%s", name, tag ? "." : "", tag ?: "");

	snprintf(serial, SERIAL_SIZE, "%s", text);
}

static void tag_disks(struct root_disks *d)
{
	for (unsigned i = 0; i < d->rootfs.n_disks; i++) {
		char name[SERIAL_SIZE];

		memcpy(name, d->rootfs.disks[i].serial, sizeof(name));
		disk_serial(name, d->tag, d->rootfs.disks[i].serial);
	}
}

int root_disks_build(struct root_disks *d, struct error *err)
{
	uint64_t t = now_us();
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	d->record.read = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	if (rootfs_build(&d->rootfs, d->data, err) < 0)
		return error_wrap(err, "root.path");
	tag_disks(d);
	if (d->writable && record_keep_rootfs(&d->record, &d->rootfs, err) < 0)
		return -1;
	log_elapsed("rootfs as disks", t);
	return 0;
}

int root_disks_attach(const struct root_disks *d, struct vmm_client *vmm, struct error *err)
{
	char scratch[SERIAL_SIZE];

	for (unsigned i = 0; i < d->rootfs.n_disks; i++) {
		const struct rootfs_disk *disk = &d->rootfs.disks[i];
		int r = disk->device >= 0
				? vmm_attach_block(vmm, disk->serial, disk->device, true, false,
						   err)
				: vmm_attach_tree(vmm, disk->serial, disk->tree, disk->dir, err);

		if (r < 0)
			return -1;
	}
	if (!d->writable)
		return 0;
	disk_serial(SCRATCH_SERIAL, d->tag, scratch);
	return vmm_attach_block(vmm, scratch, d->record.scratch, false, false, err);
}

char *root_disks_text(const struct root_disks *d, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};
	char scratch[SERIAL_SIZE];
	const char *text;
	size_t len;

	disk_serial(SCRATCH_SERIAL, d->tag, scratch);
	if (jsonw_init(&w, false, err) < 0)
		return NULL;
	jsonw_obj(&w);
	jsonw_key(&w, "lower");
	jsonw_arr(&w);
	for (unsigned i = 0; i < d->rootfs.n_disks; i++) {
		jsonw_obj(&w);
		jsonw_kstr(&w, "serial", d->rootfs.disks[i].serial);
		jsonw_kstr(&w, "type", d->rootfs.disks[i].type);
		jsonw_end_obj(&w);
	}
	jsonw_end_arr(&w);
	jsonw_kstr(&w, "upper", d->writable ? scratch : NULL);
	jsonw_kbool(&w, "index", d->rootfs.index);
	jsonw_end_obj(&w);
	text = jsonw_finish(&w, &len, err);
	return text ? xstrdup(text) : NULL;
}

void root_disks_free(struct root_disks *d)
{
	rootfs_free(&d->rootfs);
	record_close(&d->record);
}

/* ---- the end */

static int settle(const char *data, const char *name, bool started, unsigned wait_ms,
		  const struct choice_wish *wish, int intr_fd, struct error *err)
{
	cleanup_record struct record r = {.dirfd = -1, .scratch = -1};
	struct error why = ERROR_INIT;

	if (!started)
		return record_discard(data, name, err);
	if (record_open(data, name, true, wait_ms, &r, &why) < 0) {
		if (why.kind == ERR_NOT_FOUND)
			return record_discard(data, name, err);
		if (err)
			*err = why;
		return -1;
	}
	if (r.state != RECORD_APPLIED && writeback_recover(&r, wish, intr_fd, err) < 0)
		return -1;
	return record_remove(data, &r, err);
}

int root_changes_settle(const char *record, const char *container, bool started, bool force,
			const struct choice_wish *wish, int intr_fd, struct error *err)
{
	cleanup_free char *data = record ? path_data(err) : NULL;
	struct error why = ERROR_INIT;
	uint64_t t = now_us();

	if (!record)
		return 0;
	if (!data)
		return -1;
	if (settle(data, record, started, LOCK_MS, wish, intr_fd, &why) == 0) {
		log_elapsed("record of changes", t);
		return 0;
	}
	if (force) {
		log_warn("container \"%s\": %s: its changes are kept in %s/changes/%s, and go to "
			 "its rootfs when the next container is made on it",
			 container, why.msg, data, record);
		return 0;
	}
	if (err)
		*err = why;
	return error_wrap(
		err,
		"container \"%s\": what it changed cannot be brought to its rootfs ('husk "
		"delete --force' keeps that in %s/changes/%s and goes on)",
		container, data, record);
}

static bool is_of(const char *data, const char *name, const char *container)
{
	cleanup_record struct record r = {.dirfd = -1, .scratch = -1};

	return record_open(data, name, false, 0, &r, NULL) == 0 &&
	       strcmp(r.container, container) == 0;
}

int root_changes_settle_unknown(const char *container, const struct choice_wish *wish, int intr_fd,
				struct error *err)
{
	cleanup_free char *data = path_data(err);
	char **names = data ? record_list(data, err) : NULL;
	struct error why = ERROR_INIT;

	if (!names)
		return -1;
	for (char **n = names; *n; n++)
		if (is_of(data, *n, container) &&
		    settle(data, *n, true, UNKNOWN_LOCK_MS, wish, intr_fd, &why) < 0)
			log_warn("container \"%s\": %s: its changes are kept in %s/changes/%s",
				 container, why.msg, data, *n);
	strv_free(names);
	return 0;
}
