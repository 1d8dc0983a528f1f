/*
 * A container's changes, from the guest's overlay to its rootfs directory.
 *
 * They come as a changeset on a stream of the guest's agent, and are applied beneath the rootfs
 * (lib/changeset/apply.h). The guest may be hostile: it can send what a container of its rights
 * could have written into its own root file system, no more than its scratch disk could hold, and
 * nowhere else; and it cannot make us wait for ever, since a stream that stands still ends.
 *
 * The guest is the container's own as long as it lives. When it died, the scratch is read by a
 * fresh one, which mounts it (its file system is the guest's, and hostile to whoever mounts it) and
 * has nothing else: a small husk-vmm without network, with one disk, that ends with this process.
 *
 * Applying a second time what is there already changes nothing, so that whoever is interrupted
 * (power, kill) leaves a record that is still active, and the next one starts again.
 */
#include "shim/writeback.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "shim/spawn.h"
#include "shim/state.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define STALL_S 60		   /* of a stream; ext4 replays its journal in less */
#define OTHERS_MS 60000		   /* for another recovery of the same record */
#define RECOVER_MEM (192ull << 20) /* kernel, agent, and the page cache of one disk */
#define RECOVER_BOOT_S 60
#define RECOVER_END_US 10000000ull
#define SCRATCH "scratch"

/* What is looked at is what is written to: the path may lead elsewhere a moment later. */
static int open_rootfs(const struct record *r, struct error *err)
{
	int fd = rootfs_reopen(&r->rootfs);

	if (fd >= 0)
		return fd;
	return error_kind(
		err, ERR_NOT_FOUND,
		"rootfs %s: not there, or not the one that the container had: its changes "
		"are kept: mount it and run 'husk sync %s'",
		r->rootfs.path, r->container);
}

static uint64_t scratch_bytes(const struct record *r)
{
	struct stat st;

	if (r->scratch >= 0 ? fstat(r->scratch, &st) < 0
			    : fstatat(r->dirfd, SCRATCH, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	return (uint64_t)st.st_size;
}

/* Applies what comes on `stream`. */
static int apply(int stream, const struct record *r, int rootfd,
		 const struct writeback_hooks *hooks, struct cs_counts *n, struct error *err)
{
	const struct timeval stall = {.tv_sec = STALL_S};
	/* A name in a directory takes at least 12 bytes of the disk, a byte of data one. */
	uint64_t room = scratch_bytes(r);
	struct cs_apply_options o = {.max_entries = room / 12 + 1,
				     .max_bytes = room + 1,
				     .mknod = r->mknod,
				     .links = r->links,
				     .n_links = r->n_links};

	if (o.max_entries > CS_ENTRIES_MAX)
		o.max_entries = CS_ENTRIES_MAX;
	if (hooks) {
		o.before_replace = hooks->before_replace;
		o.changed = hooks->changed;
		o.arg = hooks->arg;
	}
	setsockopt(stream, SOL_SOCKET, SO_RCVTIMEO, &stall, sizeof(stall));
	return cs_apply(stream, rootfd, &o, n, err);
}

int writeback_live(struct vmm_client *vmm, struct agent_client *a, struct record *r,
		   const struct writeback_hooks *hooks, struct cs_counts *n, struct error *err)
{
	cleanup_close int stream = -1, rootfd = open_rootfs(r, err);
	char token[AGENT_TOKEN_LEN + 1];

	if (rootfd < 0 || agent_changes(a, r->container, "root", NULL, token, err) < 0)
		return -1;
	stream = agent_open_stream(vmm, token, err);
	if (stream < 0 || apply(stream, r, rootfd, hooks, n, err) < 0)
		return error_wrap(err, "rootfs %s", r->rootfs.path);
	return 0;
}

/* ---- recovery */

/* Ends a stream that somebody reads from when intr_fd becomes readable. */
struct breaker {
	pthread_t thread;
	int intr_fd, done_fd, stream;
	bool started, broken;
};

static void *breaker_main(void *arg)
{
	struct breaker *b = arg;
	struct pollfd p[2] = {{.fd = b->intr_fd, .events = POLLIN},
			      {.fd = b->done_fd, .events = POLLIN}};

	while (poll(p, 2, -1) < 0)
		;
	if (p[0].revents) {
		b->broken = true;
		shutdown(b->stream, SHUT_RDWR);
	}
	return NULL;
}

static void breaker_start(struct breaker *b, int stream, int intr_fd)
{
	*b = (struct breaker){.intr_fd = intr_fd, .done_fd = -1, .stream = stream};
	if (intr_fd < 0)
		return;
	b->done_fd = eventfd(0, EFD_CLOEXEC);
	/* Without it an interruption waits for the end of the stream. */
	if (b->done_fd >= 0)
		b->started = pthread_create(&b->thread, NULL, breaker_main, b) == 0;
}

static bool breaker_end(struct breaker *b)
{
	if (b->started) {
		eventfd_write(b->done_fd, 1);
		pthread_join(b->thread, NULL);
	}
	close_fd(&b->done_fd);
	return b->broken;
}

static int receive_disk(struct vmm_client *vmm, const struct record *r, int rootfd, int intr_fd,
			struct cs_counts *n, struct error *err)
{
	cleanup_agent struct agent_client a = {.sock = -1};
	cleanup_close int stream = -1;
	char token[AGENT_TOKEN_LEN + 1];
	struct breaker b;
	int result;

	if (vmm_attach_block(vmm, SCRATCH, r->scratch, false, true, err) < 0 ||
	    agent_connect(vmm, RECOVER_BOOT_S * 1000, &a, err) < 0 ||
	    agent_changes(&a, NULL, "disk", SCRATCH, token, err) < 0)
		return -1;
	stream = agent_open_stream(vmm, token, err);
	if (stream < 0)
		return -1;
	breaker_start(&b, stream, intr_fd);
	result = apply(stream, r, rootfd, NULL, n, err);
	if (breaker_end(&b) && result < 0)
		return error_kind(err, ERR_INTERRUPTED, "interrupted by a signal");
	return result;
}

/* The lifeline is closed: the VM ends by itself. It is our child. */
static void reap(pid_t pid)
{
	int status;

	if (pid > 0)
		spawn_wait(pid, -1, now_us() + RECOVER_END_US, &status, NULL);
}

static int recover_in_guest(const struct record *r, const struct choice_wish *wish, int rootfd,
			    int intr_fd, struct cs_counts *n, struct error *err)
{
	cleanup_choice struct choice choice = {0};
	cleanup_vmm struct vmm_client vmm = {.sock = -1};
	cleanup_close int listen_sock = -1, rd = -1, lifeline = -1;
	struct vmm_config cfg = {.choice = &choice,
				 .mem_bytes = RECOVER_MEM,
				 .vcpus = 1,
				 .writable_disks = 1,
				 .log_fd = STDERR_FILENO,
				 .fs_sock = -1};
	struct stat st;
	pid_t pid;
	int p[2], result;

	if (fstat(r->scratch, &st) < 0)
		return error_errno(err, "scratch disk");
	cfg.file_bytes = (uint64_t)st.st_size;
	if (choice_make(wish, NULL, &choice, err) < 0)
		return -1;
	/* One that was killed in the middle left its socket. */
	if (unlinkat(r->dirfd, "vmm.sock", 0) < 0 && errno != ENOENT)
		return error_errno(err, "unlink vmm.sock");
	listen_sock = vmm_listen(r->dirfd, err);
	if (listen_sock < 0)
		return -1;
	if (pipe2(p, O_CLOEXEC) < 0)
		return error_errno(err, "pipe");
	rd = p[0];
	lifeline = p[1];
	cfg.lifeline = rd;
	cfg.listen_sock = listen_sock;
	pid = vmm_spawn(&cfg, intr_fd, &vmm, err);
	if (pid < 0)
		return -1;
	result = vmm_wait_started(&vmm, now_us() + RECOVER_BOOT_S * 1000000ull, err);
	if (result < 0)
		choice_blame(&choice, err);
	else
		result = receive_disk(&vmm, r, rootfd, intr_fd, n, err);
	close_fd(&lifeline);
	reap(pid);
	unlinkat(r->dirfd, "vmm.sock", 0);
	return result;
}

int writeback_recover_counted(struct record *r, const struct choice_wish *wish, int intr_fd,
			      struct cs_counts *n, struct error *err)
{
	cleanup_close int rootfd = -1;
	uint64_t t = now_us();

	if (r->state == RECORD_APPLIED)
		return 0;
	rootfd = open_rootfs(r, err);
	if (rootfd < 0)
		return -1;
	if (recover_in_guest(r, wish, rootfd, intr_fd, n, err) < 0)
		return error_wrap(err, "recover the changes of container \"%s\" to rootfs %s",
				  r->container, r->rootfs.path);
	log_elapsed("recovery of changes", t);
	/* One that was cut short before may have done it all. */
	r->unchanged = false;
	return record_set_state(r, RECORD_APPLIED, err);
}

int writeback_recover(struct record *r, const struct choice_wish *wish, int intr_fd,
		      struct error *err)
{
	struct cs_counts n = {0};

	return writeback_recover_counted(r, wish, intr_fd, &n, err);
}

/* ---- all records of a rootfs */

static bool same_rootfs(const struct rootfs_id *a, const struct rootfs_id *b)
{
	if (a->ino != b->ino || !a->upper != !b->upper)
		return false;
	return a->upper ? strcmp(a->upper, b->upper) == 0 : strcmp(a->path, b->path) == 0;
}

static int settle(const char *data, const char *name, const struct rootfs_id *id,
		  const struct choice_wish *wish, int intr_fd, struct error *err)
{
	cleanup_record struct record r = {.dirfd = -1, .scratch = -1};
	struct error why = ERROR_INIT;
	bool wanted, gone;
	unsigned wait_ms = 0;

	/* Looked at without the lock first: a lock of ours, however short, would be in the way of
	 * others who delete their containers. */
	if (record_open(data, name, false, 0, &r, &why) < 0) {
		/* Taken away meanwhile; or nobody will ever read it: that should be known. */
		if (why.kind != ERR_NOT_FOUND)
			log_warn("%s: the changes in it are in no rootfs", why.msg);
		return 0;
	}
	wanted = same_rootfs(&r.rootfs, id);
	gone = !wanted && !rootfs_may_return(&r.rootfs);
	/* A VM that is still ending, or somebody else who recovers it: what comes of that belongs
	 * to the rootfs before it is read. */
	if (wanted && !record_is_used(&r))
		wait_ms = OTHERS_MS;
	record_close(&r);
	if (!wanted && !gone)
		return 0;
	if (record_open(data, name, true, wait_ms, &r, &why) < 0) {
		if (wait_ms && why.kind == ERR_TIMEOUT)
			return error_kind(err, ERR_TIMEOUT, "rootfs %s: %s", id->path, why.msg);
		return 0; /* somebody runs it, or took it away meanwhile */
	}
	/* It may be seen under another path now (an overlay that was mounted again). */
	if (wanted && r.state == RECORD_ACTIVE) {
		free(r.rootfs.path);
		r.rootfs.path = xstrdup(id->path);
		if (writeback_recover(&r, wish, intr_fd, err) < 0)
			return -1;
	}
	return record_remove(data, &r, err);
}

int writeback_recover_rootfs(const char *data, const struct rootfs_id *id,
			     const struct choice_wish *wish, int intr_fd, struct error *err)
{
	char **names = record_list(data, err);
	int result = 0;

	if (!names)
		return -1;
	for (char **n = names; *n && result == 0; n++)
		result = settle(data, *n, id, wish, intr_fd, err);
	strv_free(names);
	return result;
}
