/*
 * vmm_client.h - husk's side of the control socket of husk-vmm (docs/control-socket.md).
 */
#ifndef HUSK_SHIM_VMM_CLIENT_H
#define HUSK_SHIM_VMM_CLIENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/error.h"
#include "shim/choice.h"

#define VMM_NIC_ID_MAX 15
#define VMM_NICS_MAX 8
#define VMM_QUEUES_MAX 8 /* pairs */

struct vmm_client {
	int sock;
	int intr_fd; /* readable: give up (ERR_INTERRUPTED); -1: none */
	int64_t seq;
};

struct vmm_config {
	const struct choice *choice; /* engine, kernel, QEMU */
	uint64_t mem_bytes;
	unsigned vcpus;
	unsigned readonly_disks, writable_disks; /* slots for disks to be attached (qemu) */
	unsigned nics;				 /* network cards without a TAP (qemu) */
#define VMM_FILE_BYTES_ANY UINT64_MAX
	uint64_t file_bytes;	     /* of the largest writable disk that will be attached */
	const struct oci_spec *spec; /* what it says of the machine's processes: host_policy.h */
	const char *id;		     /* of the container */
	bool debug;
	const char *console_log;	  /* file for all that the guest says; NULL: none */
	int log_fd;			  /* stderr of husk-vmm */
	int lifeline;			  /* read end; the VMM ends when the write end closes */
	int listen_sock;		  /* the control socket, bound and listening */
	const struct host_cgroup *cgroup; /* that it is to be in; NULL: ours */
	int fs_sock; /* connected vhost-user socket of a virtiofsd; -1: no virtio-fs */
};

/* Starts husk-vmm and its machine; does not wait for the guest. The VMM is not a child that needs
 * reaping by the caller for its whole life: it ends by the lifeline. Returns its pid. */
pid_t vmm_spawn(const struct vmm_config *cfg, int intr_fd, struct vmm_client *c, struct error *err);
/* The answer to the start request: the machine runs, or why it does not. */
int vmm_wait_started(struct vmm_client *c, uint64_t deadline_us, struct error *err);
/* *err is that a machine of ours ended in the middle of something (ERR_PEER): the reason takes its
 * place, if it is told soon. */
void vmm_blame(struct vmm_client *c, struct error *err);

/* Connects to the control socket in a container's directory. ERR_NOT_RUNNING if none answers. */
int vmm_connect(int dirfd, struct vmm_client *c, struct error *err);
void vmm_close(struct vmm_client *c);
#define cleanup_vmm __attribute__((cleanup(vmm_close)))

int vmm_attach_block(struct vmm_client *c, const char *serial, int fd, bool readonly,
		     bool discardable, struct error *err);
/* A read-only disk made of a tree (vmm/tree/format.h); file data come from beneath `dir`, which is
 * open for reading or O_PATH, with what is mounted there now. The caller keeps both descriptors. */
int vmm_attach_tree(struct vmm_client *c, const char *serial, int tree, int dir, struct error *err);
/* The file at `path` (any bytes, relative to the tree's root) stays readable for the disk when it
 * is removed or replaced after this returns; nothing happens if the tree has no file there.
 * ERR_NOT_FOUND: no such disk; ERR_INVALID: the disk is not made of a tree. */
int vmm_hold(struct vmm_client *c, const char *serial, const char *path, struct error *err);
/* ERR_NOT_FOUND: there is no such disk. */
int vmm_detach(struct vmm_client *c, const char *serial, struct error *err);
/* The disks that are attached. */
#define VMM_DISKS_MAX 64
struct vmm_disks {
	unsigned n;
	char serials[VMM_DISKS_MAX][21];
};
int vmm_disks(struct vmm_client *c, struct vmm_disks *d, struct error *err);
/* A network card on a TAP. */
struct vmm_nic {
	char id[VMM_NIC_ID_MAX + 1];
	uint8_t mac[6];
	unsigned queues;
	bool vhost;
	const int *fds; /* a TAP's descriptor for each queue; with vhost those of /dev/vhost-net */
};
/* `driver_mac`: the MAC address that the guest's driver sees, which may be another one.
 * ERR_EXISTS: there is a card of this id; ERR_OTHER: the machine has no place for one more. */
int vmm_attach_net(struct vmm_client *c, const struct vmm_nic *n, uint8_t driver_mac[6],
		   struct error *err);
/* The card's TAP is closed when this returns. ERR_NOT_FOUND: there is no such card. */
int vmm_detach_net(struct vmm_client *c, const char *id, struct error *err);
/* The cable is in, or out. */
int vmm_net_link(struct vmm_client *c, const char *id, bool up, struct error *err);

struct vmm_nics {
	bool kvm; /* the machine's engine */
	unsigned vcpus;
	unsigned n;
	struct {
		char id[VMM_NIC_ID_MAX + 1];
		bool up;
		uint8_t mac[6]; /* as the guest's driver sees it */
	} v[VMM_NICS_MAX];
};
/* The cards that the machine has, and what matters for those that it may get. */
int vmm_nics(struct vmm_client *c, struct vmm_nics *n, struct error *err);

/* A stream to a guest port; waits for the guest to be ready, at most timeout_ms. */
int vmm_vsock_connect(struct vmm_client *c, uint32_t port, unsigned timeout_ms, struct error *err);
/* Last lines of the guest's console and the engine's messages, malloc'ed; "" when unknown. */
char *vmm_console(struct vmm_client *c);
/* Marks of the VMM in microseconds of the monotonic clock; 0 when unknown. */
struct vmm_times {
	uint64_t exec, machine, ready;
};
int vmm_times(struct vmm_client *c, struct vmm_times *t, struct error *err);
/* Ends the machine whose control socket is in a container's directory, if it answers; returns when
 * it is gone. */
void vmm_end(int dirfd);

/* A Unix stream socket bound to <dirfd>/vmm.sock and listening. */
int vmm_listen(int dirfd, struct error *err);

#endif
