/*
 * state.h - the containers' directories: <root>/<id>/ with state.json and the VM's control socket.
 *
 * The directory itself is the lock (flock), so that a lock can never be left behind. state.json is
 * replaced atomically, only under the lock. What it cannot hold is derived when it is read: a
 * container whose proxy (pid and start time) is gone is stopped, whatever the file says. So no
 * crash at any moment leaves a state that cannot be read, or a container that cannot be deleted.
 */
#ifndef HUSK_SHIM_STATE_H
#define HUSK_SHIM_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/error.h"
#include "oci/spec.h"
#include "oci/state.h"
#include "shim/host_cgroup.h"

struct container_state {
	char *id;
	char *bundle; /* absolute */
	char *rootfs; /* absolute */
	struct timespec created;
	enum oci_status status;
	pid_t pid; /* of the init's proxy; 0: none */
	uint64_t pid_start;
	pid_t vmm_pid; /* of husk-vmm; 0: none */
	uint64_t vmm_start;
	pid_t share_pid; /* of what minds virtiofsd; 0: none */
	uint64_t share_start;
	char *engine; /* of its VM: "kvm", "qemu" */
	char *record; /* name of its record of changes (record.h); NULL: its root is read-only */
	struct host_cgroup cgroup; /* on the host */
	bool started;		   /* its process may have run */
	bool is_sandbox;	   /* of a pod: others may join its VM */
	char *sandbox; /* the container whose VM this one joined; NULL: it has its own */
	char *tag;     /* with `sandbox`: what ends the names of its disks and shares in the VM */
	char *config;  /* text of config.json as it was at create: exec and hooks need it */
};

/* One container's directory, open and (maybe) locked. */
struct container_dir {
	char *path;
	char *id;
	int fd;
	bool locked;
	bool noted; /* dir_note() */
};

/* runc's rule for ids: [A-Za-z0-9_+.-]+, not "." or "..", at most 1024 bytes. */
int id_check(const char *id, struct error *err);

/* Makes <root>/<id> and locks it. ERR_EXISTS when it is there. */
int dir_make(const char *root, const char *id, struct container_dir *d, struct error *err);
/* Opens it; `lock`: waits at most `wait_ms` for the lock (a create may be in progress). When the
 * machine stood still, so did who has the lock: that does not count.
 * ERR_NOT_FOUND when there is none ("does not exist", the words that callers match). */
int dir_open(const char *root, const char *id, bool lock, unsigned wait_ms, struct container_dir *d,
	     struct error *err);
/* Notes this process as one that may have the lock for as long as hooks and the guest please, and
 * that ends what it does in good order at SIGTERM; until it lets the lock go. */
void dir_note(struct container_dir *d);
/* Sends `sig` to who noted itself, if it is still at it. False: nobody is. */
bool dir_interrupt(const struct container_dir *d, int sig);
/* Lets others in while the directory stays open, and back. */
void dir_unlock(struct container_dir *d);
int dir_lock(struct container_dir *d, unsigned wait_ms, struct error *err);
void dir_close(struct container_dir *d);
#define cleanup_container_dir __attribute__((cleanup(dir_close)))
/* Removes all files of the directory and the directory. The lock must be held. */
int dir_remove(struct container_dir *d, struct error *err);

int state_save(const struct container_dir *d, const struct container_state *s, struct error *err);
/* ERR_NOT_FOUND when there is no state.json (create was killed very early). */
int state_load(const struct container_dir *d, struct container_state *s, struct error *err);
void state_free(struct container_state *s);
#define cleanup_state __attribute__((cleanup(state_free)))

bool process_alive(pid_t pid, uint64_t start);

/* The view of it that oci/state.h writes; valid as long as both arguments are. `spec` may be NULL.
 */
struct oci_state state_view(const struct container_state *s, const struct oci_spec *spec);
/* Writes `pid` to the file that an engine named, atomically. */
int pid_file_write(const char *path, pid_t pid, struct error *err);

/* The container whose init's proxy that is, of the root that has the directory `dirfd` in it;
 * malloc'ed, NULL if there is none. */
char *state_of_pid(int dirfd, pid_t pid);

/* Names of the containers below `root`, sorted; NULL-terminated (strv_free). */
char **state_list(const char *root, struct error *err);
/* Those names in a directory that are wanted, in the same way; none if it does not exist. */
char **dir_list(const char *path, bool (*wanted)(const char *name), struct error *err);
void strv_free(char **v);

#endif
