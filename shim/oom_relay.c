/*
 * How an OOM kill in the guest becomes one on the host.
 *
 * Theory of operation. Engines learn of it from the kernel alone: an eventfd on memory.oom_control
 * (v1), or oom_kill in memory.events (v2), of the very cgroup that the container's pid is in. Only
 * the host's OOM killer counts there. In v1 it tells a cgroup and those below it, and in v2 a
 * cgroup with processes in it can have none below it with a memory limit: so there is no child
 * cgroup in which somebody could be killed instead.
 *
 * So when the container has ended, and its machine has gone, the proxy is alone in the cgroup. It
 * makes a victim, a child with the highest oom_score_adj that there is; lowers the cgroup's limit
 * to what is in use and a little more; and has the victim take memory until the kernel kills it.
 * Then the limit is put back. What the kernel could reclaim instead (page cache) it reclaims first;
 * swap is off meanwhile, or the victim would fill that.
 *
 * It is not done while the machine runs: between reading what is in use and setting the limit a
 * guest can take more memory than any margin is worth.
 */
#include "shim/oom.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define MIB (1024ull * 1024)
#define MARGIN (16 * MIB) /* what lies beneath the limit before the victim takes it */
#define STEP MIB
#define MOST (4096 * MIB) /* that the victim takes: far above any cache that the kernel keeps */
#define VICTIM_MS 5000
#define ROUND_MS 50
#define TEXT_MAX 65536

/* The files of one version that matter. */
struct kind {
	const char *limit, *usage, *kills, *swap, *no_swap;
	/* of memory.stat: what cannot be reclaimed without swap */
	const char *held[4];
};

static const struct kind kinds[] = {
	{"memory.max",
	 "memory.current",
	 "memory.events",
	 "memory.swap.max",
	 "0",
	 {"anon", "shmem", "kernel", NULL}},
	{"memory.limit_in_bytes",
	 "memory.usage_in_bytes",
	 "memory.oom_control",
	 "memory.swappiness",
	 "0",
	 {"rss", "shmem", NULL, NULL}},
};

static uint64_t number_in(int dir, const char *file)
{
	cleanup_free char *text = NULL;

	return file_read(dir, file, TEXT_MAX, &text, NULL, NULL) < 0 ? 0 : strtoull(text, NULL, 10);
}

/* The number behind `key` in a file of "key number" lines; 0 if it is not there. */
static uint64_t keyed_number(int dir, const char *file, const char *key)
{
	cleanup_free char *text = NULL;
	size_t n = strlen(key);

	if (file_read(dir, file, TEXT_MAX, &text, NULL, NULL) < 0)
		return 0;
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, n) == 0 && line[n] == ' ')
			return strtoull(line + n + 1, NULL, 10);
	}
	return 0;
}

/* ---- the victim: a child of a process with threads, so that it makes system calls alone */

static void volunteer(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "1000", 4) != 4)
		_exit(1);
	close(fd);
}

static _Noreturn void be_victim(int go)
{
	char c;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	volunteer();
	if (read(go, &c, 1) != 1)
		_exit(1);
	for (uint64_t taken = 0; taken < MOST; taken += STEP)
		/* every page is written, and is not the others' zero page */
		if (mmap(NULL, STEP, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0) == MAP_FAILED)
			_exit(2);
	_exit(3);
}

static int make_victim(pid_t *pid, int *go, struct error *err)
{
	cleanup_close int rd = -1, wr = -1;

	if (pipe_make(&rd, &wr, err) < 0)
		return -1;
	*pid = fork();
	if (*pid < 0)
		return error_errno(err, "fork");
	if (*pid == 0)
		be_victim(rd);
	*go = steal_fd(&wr);
	return 0;
}

/* In rounds of ours: while the machine stands still the kernel kills nobody. */
static void await_victim(pid_t pid)
{
	cleanup_close int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	unsigned waited = 0;

	while (pidfd >= 0 && waited < VICTIM_MS && poll(&p, 1, ROUND_MS) == 0)
		waited += ROUND_MS;
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* ---- the limit */

static int put_number(int dir, const char *file, uint64_t n, struct error *err)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
	return file_put(dir, file, text, err);
}

/* As low as it goes without anybody else's being in danger. */
static int lower_limit(int dir, const struct kind *k, struct error *err)
{
	uint64_t usage = number_in(dir, k->usage), held = MARGIN;

	for (size_t i = 0; i < ARRAY_LEN(k->held) && k->held[i]; i++)
		held += keyed_number(dir, "memory.stat", k->held[i]);
	/* v1 refuses what it cannot reclaim. */
	if (held < usage && put_number(dir, k->limit, held, NULL) == 0)
		return 0;
	return put_number(dir, k->limit, usage + MARGIN / 2, err);
}

static int sacrifice(int dir, const struct kind *k, struct error *err)
{
	cleanup_close int go = -1;
	pid_t pid;
	int r;

	if (make_victim(&pid, &go, err) < 0)
		return -1;
	r = lower_limit(dir, k, err);
	if (r == 0 && write(go, "", 1) != 1)
		r = error_errno(err, "the victim");
	close_fd(&go);
	await_victim(pid);
	return r;
}

static int relay_in(int dir, const struct kind *k, struct error *err)
{
	cleanup_free char *limit = NULL, *swap = NULL;
	uint64_t before = keyed_number(dir, k->kills, "oom_kill");
	int r;

	if (file_read(dir, k->limit, 64, &limit, NULL, err) < 0)
		return -1;
	/* Not every kernel has swap. */
	if (file_read(dir, k->swap, 64, &swap, NULL, NULL) == 0)
		file_put(dir, k->swap, k->no_swap, NULL);
	r = sacrifice(dir, k, err);
	if (swap)
		file_put(dir, k->swap, swap, NULL);
	if (file_put(dir, k->limit, limit, r == 0 ? err : NULL) < 0)
		r = -1;
	if (r == 0 && keyed_number(dir, k->kills, "oom_kill") == before)
		return error_set(err, "the kernel did not kill for memory");
	return r;
}

int oom_relay(const struct host_cgroup *cg, struct error *err)
{
	for (char **d = cg->dirs; d && *d; d++) {
		cleanup_close int dir = open(*d, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		for (size_t i = 0; dir >= 0 && i < ARRAY_LEN(kinds); i++)
			if (faccessat(dir, kinds[i].limit, W_OK, 0) == 0)
				return relay_in(dir, &kinds[i], err) < 0 ? error_wrap(err, "%s", *d)
									 : 0;
	}
	return 0;
}
