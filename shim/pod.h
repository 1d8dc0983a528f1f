/*
 * pod.h - containers that share a microVM: docs/pods.md.
 */
#ifndef HUSK_SHIM_POD_H
#define HUSK_SHIM_POD_H

#include "oci/pod.h"
#include "shim/state.h"
#include "shim/vmm_client.h"

/* The container whose VM another one joins. */
struct sandbox {
	struct container_dir dir;
	struct container_state state;
};

/* Opens the sandbox that `pod` names. Errors name the annotation: it does not exist
 * (ERR_NOT_FOUND), has stopped (ERR_NOT_RUNNING), is no sandbox (ERR_INVALID). */
int sandbox_open(const char *root, const struct oci_pod *pod, struct sandbox *s, struct error *err);
void sandbox_close(struct sandbox *s);
#define cleanup_sandbox __attribute__((cleanup(sandbox_close)))

/* Whether the sandbox of a container that joined one still makes its VM run. */
bool sandbox_runs(const struct container_dir *member, const char *sandbox);

/* The network namespace of a joiner has to be the sandbox's. */
int pod_check_network(const struct sandbox *s, const struct oci_spec *spec, struct error *err);
/* Whose namespaces a joiner's are: the member `join` of the agent's `create`, malloc'ed. Each path
 * has to be one of a container of this pod. */
char *pod_join_text(const char *root, const struct sandbox *s, const struct oci_spec *spec,
		    struct error *err);

/* Ends the names of what is a joiner's in a VM that it shares; malloc'ed. */
char *pod_tag(void);
/* Makes the VM of the sandbox that of the container in this directory. */
int pod_link(const struct container_dir *d, const char *sandbox, struct error *err);
/* True if the directory is of a container that joined a pod, whatever its state says. */
bool pod_is_joiner(int dirfd);

/* Takes a joiner out of the VM: what is left of its processes, its disks, its shares. Nothing to do
 * is no error, nor is a VM that has gone. */
int pod_leave(const struct container_dir *d, const struct container_state *st, struct error *err);
/* The first of it, for a container whose state may not be known. */
void pod_kill(const struct container_dir *d);

/* The sandbox is about to end: nobody may join it any more. */
void pod_close(int dirfd);
/* Then: ends those that joined it, and waits until their proxies have brought their changes to
 * their rootfs, as long as they get on with it. */
void pod_end_members(int dirfd, const char *sandbox);

/* Those that joined a sandbox and run, as they are now. `dirfd`: the sandbox's directory. */
struct pod_member {
	char *id;
	pid_t pid; /* of its proxy */
	uint64_t pid_start;
};
struct pod_members {
	struct pod_member *v;
	size_t n;
};
struct pod_members *pod_members(int dirfd, const char *sandbox);
void pod_members_free(struct pod_members *list);
/* Processor time (clock ticks) that their proxies have used. */
uint64_t pod_members_ticks(const struct pod_members *list);
static inline void pod_members_freep(struct pod_members **list)
{
	pod_members_free(*list);
}
#define cleanup_pod_members __attribute__((cleanup(pod_members_freep)))

/* Processor time that a process has used, in clock ticks; 0 if that cannot be told. */
uint64_t process_ticks(pid_t pid);

#endif
