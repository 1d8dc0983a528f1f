/*
 * request.h - a request on the control socket, from JSON text to a typed struct.
 *
 * Pure: it touches no descriptor and knows no state, so that it can be fuzzed. What a request
 * means is in vmm/sandbox.c; the requests are described in docs/control-socket.md.
 */
#ifndef HUSK_VMM_REQUEST_H
#define HUSK_VMM_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/error.h"
#include "lib/log.h"
#include "vmm/ratelimit.h"

#define REQUEST_SERIAL_MAX 20	 /* bytes of a disk's serial (virtio 1.2 §5.2.6.1) */
#define REQUEST_PATH_MAX 4095	 /* bytes of a path in a tree, unescaped */
#define REQUEST_NIC_MAX 15	 /* bytes of a network card's id */
#define REQUEST_CMDLINE_MAX 1024 /* bytes that a sandbox may add to the kernel's parameters */
#define REQUEST_VCPUS_MAX 64
#define REQUEST_MEM_MIN (32ull << 20)
#define REQUEST_FILE_BYTES_MAX (INT64_C(1) << 62)
#define REQUEST_MEM_MAX (1ull << 40)
#define REQUEST_RATE_MAX (1ull << 50) /* bytes or operations, a second or at once */

enum request_op {
	REQUEST_START,
	REQUEST_ATTACH_BLOCK,
	REQUEST_ATTACH_TREE,
	REQUEST_HOLD,
	REQUEST_DETACH,
	REQUEST_ATTACH_NET,
	REQUEST_DETACH_NET,
	REQUEST_NET_LINK,
	REQUEST_VSOCK_CONNECT,
	REQUEST_BALLOON,
	REQUEST_PAUSE,
	REQUEST_RESUME,
	REQUEST_STATUS,
	REQUEST_CONSOLE,
	REQUEST_STATS,
	REQUEST_SHUTDOWN,
};

enum request_engine { REQUEST_ENGINE_KVM, REQUEST_ENGINE_QEMU };

/* Of the 23 slots that the qemu engine has, the vsock and the rng take two; disks, network cards
 * and virtio-fs share the others. */
#define REQUEST_SLOTS_MAX 21
#define REQUEST_DISKS_MAX 16
#define REQUEST_DISKS_DEFAULT 2 /* of each kind */
#define REQUEST_NICS_MAX 8
#define REQUEST_CONFINEMENT_MAX 511 /* bytes of a profile's name, or a label */
#define REQUEST_QUEUES_MAX 8	    /* pairs of a network card */

struct request_start {
	enum request_engine engine;
	char *qemu;    /* absolute path; NULL with engine kvm */
	char *cmdline; /* printable ASCII */
	uint64_t memory;
	unsigned vcpus;
	/* Slots, REQUEST_DISKS_MAX together; engine kvm needs none. */
	unsigned readonly_disks, writable_disks;
	uint64_t file_bytes; /* no file may become larger, no writable one may be attached */
	unsigned nics;	     /* cards that exist from the start; engine kvm needs none */
	enum log_level log_level;
	bool log_json;
	bool console;	   /* a serial console from the first line on */
	bool console_log;  /* and is written to a file: a further descriptor, the last one */
	bool fs;	   /* a fourth descriptor is a virtiofsd's socket */
	bool late_devices; /* engine kvm: rng and balloon are there when the agent asks for them */
	char *apparmor,
		*selinux; /* profile, label that the machine's processes enter; NULL: none */
};

struct request_nic {
	char id[REQUEST_NIC_MAX + 1];
	uint8_t mac[6];
	unsigned queues;		/* pairs */
	bool vhost;			/* vhost-net moves the packets */
	struct ratelimit_config tx, rx; /* from and to the guest */
	bool up;			/* net-link */
};

struct request {
	int64_t seq;
	bool has_seq; /* also when request_parse() failed later on */
	enum request_op op;
	unsigned nfds; /* descriptors that must come with it */
	struct request_start start;
	char serial[REQUEST_SERIAL_MAX + 1]; /* attach-block, attach-tree, hold, detach */
	char *path;			     /* hold: any bytes, relative, no "." or ".." */
	bool readonly, discardable;	     /* attach-block */
	struct ratelimit_config rate;	     /* attach-block, attach-tree */
	struct request_nic nic;		     /* attach-net, detach-net, net-link */
	uint32_t port;			     /* vsock-connect */
	uint64_t target_bytes;		     /* balloon */
	uint64_t timeout_us;		     /* vsock-connect, 0: none */
};

/* Fills *r, to be freed with request_free() whatever this returns. Errors: ERR_INVALID naming the
 * member, ERR_UNSUPPORTED for an operation or engine that is not known. */
int request_parse(const char *text, size_t len, struct request *r, struct error *err);
void request_free(struct request *r);

const char *request_op_name(enum request_op op);

#endif
