/*
 * proto.h - the agent protocol's messages as types (docs/agent-protocol.md, "Control").
 *
 * Pure: text in, struct out, and back. No JSON tree leaves proto.c, and nothing here touches the
 * system. What a request may name (ids, serials, signals, sizes) is checked while parsing.
 */
#ifndef HUSK_AGENT_PROTO_H
#define HUSK_AGENT_PROTO_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/error.h"
#include "netns/config.h"
#include "oci/spec.h"
#include "oci/stats.h"

#define PROTO_VERSION 1
#define PROTO_ID_MAX 255       /* bytes of a container's id */
#define PROTO_SERIAL_MAX 20    /* bytes of a disk's serial (virtio 1.2 §5.2.6) */
#define PROTO_NAME_MAX 15      /* bytes of a process's name */
#define PROTO_LOWERS_MAX 3     /* lower disks of a root */
#define PROTO_TYPE_MAX 15      /* bytes of a filesystem's type */
#define PROTO_MEMBER_MAX 64    /* bytes of the name of a project, a member of the share, a device */
#define PROTO_TOKEN_HEX 32     /* hexadecimal digits of a stream's token */
#define PROTO_SIGNAL_MAX 64    /* SIGRTMAX as the kernel counts */
#define PROTO_PS_MAX 4096      /* processes in one answer of `ps` */
#define PROTO_PS_CMD_MAX 384   /* bytes of a command line in it: FRAME_MAX is never reached */
#define PROTO_READY_MAX 64     /* bytes of what a container says when it is ready */
#define PROTO_CARDS_MAX 32     /* network cards of a guest */
#define PROTO_SYSCTLS_MAX 1024 /* of interfaces, in one `network` */
#define PROTO_SYSCTL_VALUE_MAX 255 /* bytes of a value */
#define PROTO_CGROUP_MAX 1024	   /* bytes of the path of a cgroup below the container's */

enum proto_op {
	OP_HELLO,
	OP_CREATE,
	OP_START,
	OP_EXEC,
	OP_WAIT,
	OP_KILL,
	OP_RESIZE,
	OP_PAUSE,
	OP_RESUME,
	OP_UPDATE,
	OP_PS,
	OP_STATS,
	OP_CHANGES,
	OP_PUSH,
	OP_WATCH,
	OP_RELEASE,
	OP_NETWORK,
	OP_RESOLVER,
	OP_READY,
	OP_DELETE,
	OP_SHUTDOWN,
};

/* The disks that a container's root is made of. */
struct proto_lower {
	char serial[PROTO_SERIAL_MAX + 1];
	char type[PROTO_TYPE_MAX + 1]; /* "erofs", "ext4", "xfs", "squashfs" */
};

struct proto_root {
	struct proto_lower lower[PROTO_LOWERS_MAX]; /* topmost first */
	size_t n_lower;
	char upper[PROTO_SERIAL_MAX + 1]; /* scratch disk; "": read-only root */
	bool index;			  /* hard links of the lower stay together */
};

/* Where the data of a mount of config.json comes from, if it is the host's. */
enum proto_mount_from {
	PROTO_MOUNT_PROJECT,
	PROTO_MOUNT_SHARE,
	PROTO_MOUNT_DISK,
	PROTO_MOUNT_DEVICE,
	PROTO_MOUNT_POD,
	PROTO_MOUNT_NOTIFY, /* the agent's own: no request has it */
};

struct proto_mount {
	size_t index; /* in config.mounts */
	enum proto_mount_from from;
	char name[PROTO_MEMBER_MAX + 1];   /* project, share, device, pod */
	char serial[PROTO_SERIAL_MAX + 1]; /* disk */
	char type[PROTO_TYPE_MAX + 1];	   /* disk */
	uint64_t size;			   /* pod: bytes of the tmpfs; 0: the kernel's default */
	bool writable;
};

/* A block device of config.linux.devices: the disk that stands for it. */
struct proto_device {
	size_t index; /* in config.linux.devices */
	char serial[PROTO_SERIAL_MAX + 1];
};

/* The containers whose namespaces a new one is in; NULL: it is in none's. */
struct proto_join {
	char *ipc, *uts, *pid, *user;
};

/* What `changes` and `push` are about. */
enum proto_what { PROTO_WHAT_ROOT, PROTO_WHAT_PROJECTS, PROTO_WHAT_DISK };

/* Who stops a container. It goes on when nobody does any more. */
enum proto_freezer { PROTO_FREEZE_USER, PROTO_FREEZE_SYNC };

/* Which card a link is, by the address that the card's driver sees. */
struct proto_card {
	unsigned link; /* index of a link of `config` */
	uint8_t mac[6];
};

struct proto_sysctl {
	char *name; /* "net/ipv4/conf/eth0/rp_filter": below /proc/sys, of an interface */
	char *value;
};

struct proto_network {
	struct net_config config;
	struct proto_card *cards; /* each link and each address once */
	size_t n_cards;
	struct proto_sysctl *sysctls;
	size_t n_sysctls;
	bool resolver;
};

struct proto_request {
	bool has_seq; /* set even when parsing failed later: the error can be answered */
	int64_t seq;
	enum proto_op op;
	/* NULL: `hello`, `shutdown`, `release`, `network`, `resolver`, `changes` of a disk */
	char *container;
	char process[PROTO_NAME_MAX + 1];
	struct oci_spec *config;    /* create */
	struct proto_root root;	    /* create */
	struct proto_mount *mounts; /* create; each index once, within config.mounts */
	size_t n_mounts;
	struct proto_device *devices; /* create; the same for config.linux.devices */
	size_t n_devices;
	struct proto_join join;		   /* create; of types that config has */
	bool notify;			   /* create: the container has a notification socket */
	struct oci_process *spec;	   /* exec */
	char *cgroup;			   /* exec: below the container's; NULL: that one */
	struct oci_resources *resources;   /* update; NULL: the last one is undone */
	enum proto_freezer by;		   /* pause, resume */
	int signal;			   /* kill: 1..PROTO_SIGNAL_MAX */
	bool all;			   /* kill */
	uint16_t width, height;		   /* resize: character cells */
	enum proto_what what;		   /* changes, push */
	char serial[PROTO_SERIAL_MAX + 1]; /* release; changes: of a disk */
	bool detached;			   /* release: the host has detached it */
	char share[PROTO_MEMBER_MAX + 1];  /* release: a member of the share; "": a disk */
	struct proto_network *network;	   /* network */
};

/* Parses `len` bytes. Errors are ERR_INVALID and name the member; *r is then to be freed, too.
 * Without `has_seq` no answer is possible. */
int proto_parse(const char *text, size_t len, struct proto_request *r, struct error *err);
void proto_request_free(struct proto_request *r);
#define cleanup_proto_request __attribute__((cleanup(proto_request_free)))

/* One line of `ps`. The strings are part of the struct: a process has no say in their length. */
struct proto_ps {
	int pid, ppid;
	uint32_t uid;
	uint64_t start_s; /* seconds since the epoch */
	uint64_t cpu_s;	  /* user and system time, seconds */
	char tty[16];	  /* "pts/0", or "?" */
	char cmd[PROTO_PS_CMD_MAX + 1];
	bool named; /* `process` is set: one that a client of ours made */
	char process[PROTO_NAME_MAX + 1];
};

enum proto_reply_type {
	REPLY_OK,
	REPLY_ERROR,
	REPLY_HELLO,
	REPLY_PROCESS, /* create, exec */
	REPLY_WAIT,
	REPLY_PS,
	REPLY_STATS,
	REPLY_READY,
	REPLY_STREAM, /* changes, push, resolver */
};

struct proto_reply {
	enum proto_reply_type type;
	int64_t seq;
	/* REPLY_ERROR */
	const struct error *error;
	/* REPLY_READY */
	const char *ready;
	/* REPLY_HELLO */
	const char *kernel;
	uint64_t kernel_us, agent_us;
	/* REPLY_PROCESS; an absent stream is "" */
	int pid;
	const char *process;
	char in[PROTO_TOKEN_HEX + 1], out[PROTO_TOKEN_HEX + 1], err[PROTO_TOKEN_HEX + 1];
	char console[PROTO_TOKEN_HEX + 1];
	/* REPLY_WAIT */
	int status, signal;
	bool oom, killed, clean;
	/* REPLY_PS */
	const struct proto_ps *ps;
	size_t n_ps;
	/* REPLY_STATS: processors and memory of the guest */
	const struct stats *stats;
	uint64_t cpus, memory;
	/* REPLY_STREAM; `result` is "" for all but `push` */
	char stream[PROTO_TOKEN_HEX + 1], result[PROTO_TOKEN_HEX + 1];
};

/* The message's text, malloc'ed, not framed. */
int proto_reply_text(const struct proto_reply *r, char **text, size_t *len, struct error *err);
/* The event {"event":event,"container":id}, in the same way; with "name" unless that is NULL. */
int proto_event_text(const char *event, const char *id, const char *name, char **text, size_t *len,
		     struct error *err);

/* A token between its 16 bytes and its PROTO_TOKEN_HEX digits. proto_token_parse() takes lower-case
 * digits only and returns -1 on anything else. */
void proto_token_text(const unsigned char token[16], char text[PROTO_TOKEN_HEX + 1]);
int proto_token_parse(const char text[PROTO_TOKEN_HEX], unsigned char token[16]);

#endif
