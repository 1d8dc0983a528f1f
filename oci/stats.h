/*
 * stats.h - the figures of a container as `events` tells them: runc's JSON (types/events.go), which
 * is also what the agent sends (docs/agent-protocol.md, `stats`).
 *
 * One writer for both, and a reader that takes nothing for granted: its input comes from a guest.
 * Numbers that are zero are left out where runc leaves them out. A limit that is none is
 * UINT64_MAX. Times of processors are nanoseconds, of pressure microseconds, sizes bytes.
 */
#ifndef HUSK_OCI_STATS_H
#define HUSK_OCI_STATS_H

#include "lib/error.h"
#include "lib/json.h"

#define STATS_KEY_MAX 63       /* bytes of a name in memory.stat */
#define STATS_KEYS_MAX 256     /* of them */
#define STATS_LIST_MAX 256     /* disks, sizes of pages, interfaces */
#define STATS_CPUS_MAX 1024    /* processors, memory nodes */
#define STATS_INTERFACE_MAX 15 /* bytes of its name */
#define STATS_PAGE_SIZE_MAX 15 /* bytes of "1GB" */
#define STATS_NONE UINT64_MAX

/* Shares of time in hundredths of a percent over 10, 60 and 300 s; the whole time. */
struct stats_pressure {
	uint32_t avg10, avg60, avg300;
	uint64_t total_us;
};

struct stats_psi {
	bool has; /* the kernel tells it */
	struct stats_pressure some, full;
};

struct stats_memory {
	uint64_t limit, usage, max, failcnt;
};

struct stats_key {
	char name[STATS_KEY_MAX + 1];
	uint64_t value;
};

struct stats_disk {
	uint64_t major, minor; /* in the guest */
	uint64_t read_bytes, write_bytes, reads, writes;
};

struct stats_hugetlb {
	char size[STATS_PAGE_SIZE_MAX + 1]; /* "2MB" */
	uint64_t usage, max, failcnt;
};

struct stats_interface {
	char name[STATS_INTERFACE_MAX + 1];
	uint64_t rx_bytes, rx_packets, rx_errors, rx_dropped;
	uint64_t tx_bytes, tx_packets, tx_errors, tx_dropped;
};

struct stats {
	uint64_t cpu_ns, cpu_kernel_ns, cpu_user_ns;
	uint64_t periods, throttled_periods, throttled_ns;
	struct stats_psi cpu_psi, memory_psi, io_psi;
	uint16_t cpus[STATS_CPUS_MAX], mems[STATS_CPUS_MAX];
	size_t n_cpus, n_mems;
	uint64_t cache;			  /* bytes of files in memory */
	struct stats_memory memory, swap; /* swap: with memory, as cgroup v1 counts */
	struct stats_memory kernel;
	struct stats_key raw[STATS_KEYS_MAX]; /* memory.stat */
	size_t n_raw;
	uint64_t pids, pids_limit; /* limit 0: none */
	struct stats_disk disks[STATS_LIST_MAX];
	size_t n_disks;
	struct stats_hugetlb hugetlb[STATS_LIST_MAX];
	size_t n_hugetlb;
	struct stats_interface interfaces[STATS_LIST_MAX];
	size_t n_interfaces;
};

/* The object, as a value in `w`. */
void stats_write(const struct stats *s, struct jsonw *w);
/* ERR_INVALID names the member. */
int stats_read(yajl_val v, struct stats *s, struct error *err);

#endif
