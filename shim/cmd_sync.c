/*
 * sync: brings what a container changed to its rootfs directory, now. A running container's proxy
 * does it; a stopped container has something to bring only when its proxy or VM was killed.
 */
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "shim/lifecycle.h"
#include "shim/mirror.h"
#include "shim/paths.h"
#include "shim/pod.h"
#include "shim/spawn.h"
#include "shim/writeback.h"

#include <poll.h>
#include <stdio.h>

#define WAIT_MS 60000 /* for a proxy that is writing back */

static void tell(const char *id, const struct cs_counts *n)
{
	printf("%s: %llu entries, %llu changed in the rootfs, %llu removed, %llu bytes\n", id,
	       (unsigned long long)n->entries, (unsigned long long)n->changed,
	       (unsigned long long)n->whiteouts, (unsigned long long)n->data_bytes);
	if (n->refused)
		printf("%s: %llu entries refused: see the log\n", id,
		       (unsigned long long)n->refused);
}

static void tell_nothing(const char *id)
{
	printf("%s: nothing to do\n", id);
}

/* The machine of a pod has the scratch disk, and its lock, for longer than the container's proxy
 * lives. */
static int leave_pod(const struct container_dir *d, const struct container_state *st, int intr_fd,
		     struct error *err)
{
	uint64_t end = now_us() + WAIT_MS * 1000ull;

	while (process_alive(st->pid, st->pid_start) && now_us() < end) {
		struct pollfd p = {.fd = intr_fd, .events = POLLIN};

		if (poll(&p, 1, 5) > 0)
			return error_kind(err, ERR_INTERRUPTED, "interrupted by a signal");
	}
	return pod_leave(d, st, err);
}

/* Nobody runs it (any more): what its proxy could not do is done from the scratch disk. */
static int sync_stopped(const struct globals *g, const struct container_dir *d,
			const struct container_state *st, int intr_fd, struct error *err)
{
	cleanup_record struct record r = {.dirfd = -1, .scratch = -1};
	cleanup_free char *data = path_data(err);
	struct error why = ERROR_INIT;
	struct cs_counts n = {0};

	if (!data || (st->sandbox && leave_pod(d, st, intr_fd, err) < 0))
		return -1;
	if (record_open(data, st->record, true, WAIT_MS, &r, &why) < 0) {
		if (why.kind == ERR_NOT_FOUND) {
			tell_nothing(st->id);
			return 0;
		}
		*err = why;
		return -1;
	}
	if (r.state == RECORD_APPLIED) {
		tell_nothing(st->id);
		return 0;
	}
	if (writeback_recover_counted(&r, &g->wish, intr_fd, &n, err) < 0)
		return -1;
	tell(st->id, &n);
	return 0;
}

/* The directory stays unlocked: other commands are not kept waiting. */
int cmd_sync(const struct globals *g, int argc, char **argv, struct error *err)
{
	const struct option_def defs[] = {{0}};
	int first = verb_options(argc, argv, defs, "sync", "ID", 1, 1, err);
	cleanup_container_dir struct container_dir d = {.fd = -1};
	cleanup_state struct container_state st = {0};
	cleanup_close int intr = -1;
	struct cs_counts n = {0};

	if (first < 0 || container_open(g, argv[first], false, &d, &st, err) < 0)
		return -1;
	if (!st.record || !st.started) {
		tell_nothing(st.id);
		return 0;
	}
	intr = interrupt_fd(err);
	if (intr < 0)
		return -1;
	if (st.status == OCI_STATUS_STOPPED)
		return sync_stopped(g, &d, &st, intr, err);
	if (mirror_ask_sync(d.fd, intr, &n, err) == 0) {
		tell(st.id, &n);
		return 0;
	}
	/* It ended while we asked: its proxy has written everything back, or could not. */
	if (err->kind == ERR_NOT_RUNNING)
		return sync_stopped(g, &d, &st, intr, err);
	return -1;
}
