#include "agent/ps.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <fcntl.h>
#include <string.h>

#define DEPTH_MAX 16		  /* of cgroups that a container may have made */
#define PROCS_FILE_MAX (1u << 20) /* bytes of one cgroup.procs */
#define STAT_FILE_MAX (1u << 20)  /* bytes of /proc/stat */
#define PTS_MAJOR 136
#define PTS_MAJORS 8

struct listing {
	struct proto_ps *list;
	size_t n, size;
	uint64_t boot_s, ticks;
	ps_name_fn name;
	void *arg;
};

static void put_tty(struct proto_ps *p, unsigned nr)
{
	unsigned major = nr >> 8 & 0xfff, minor = (nr & 0xff) | (nr >> 12 & 0xfff00);

	if (major >= PTS_MAJOR && major < PTS_MAJOR + PTS_MAJORS)
		snprintf(p->tty, sizeof(p->tty), "pts/%u", (major - PTS_MAJOR) * 256 + minor);
	else
		snprintf(p->tty, sizeof(p->tty), "?");
}

static char printable(char c)
{
	return (unsigned char)c < ' ' || c == 0x7f ? ' ' : c;
}

int ps_parse_stat(const char *line, uint64_t boot_s, uint64_t ticks, struct proto_ps *p)
{
	/* The name is the process's own choice, parentheses included: its end is the last one. */
	const char *open = strchr(line, '('), *close = strrchr(line, ')');
	unsigned long long utime, stime, start;
	int tty, n = 0;

	if (!open || !close || close < open)
		return -1;
	if (sscanf(line, "%d", &p->pid) != 1 ||
	    sscanf(close + 1,
		   " %*c %d %*d %*d %d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d "
		   "%llu",
		   &p->ppid, &tty, &utime, &stime, &start) != 5)
		return -1;
	put_tty(p, (unsigned)tty);
	p->start_s = boot_s + start / ticks;
	p->cpu_s = (utime + stime) / ticks;
	p->cmd[n++] = '[';
	for (const char *c = open + 1; c < close && n < 64; c++)
		p->cmd[n++] = printable(*c);
	p->cmd[n++] = ']';
	p->cmd[n] = '\0';
	return 0;
}

void ps_parse_cmdline(const char *text, size_t len, char out[PROTO_PS_CMD_MAX + 1])
{
	while (len > 0 && text[len - 1] == '\0')
		len--;
	if (len == 0)
		return;
	if (len > PROTO_PS_CMD_MAX)
		len = PROTO_PS_CMD_MAX;
	for (size_t i = 0; i < len; i++)
		out[i] = printable(text[i]);
	out[len] = '\0';
}

/* The first bytes of a file of /proc/<pid>. -1 when the process is gone. */
static ssize_t read_start(int dir, const char *name, char *buf, size_t size)
{
	cleanup_close int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);

	if (n >= 0)
		buf[n] = '\0';
	return n;
}

/* The effective user, as ps shows it. The directory's owner is not it: that is root when the
 * process is not dumpable. */
static int read_uid(int dir, uint32_t *uid)
{
	char buf[1024], *at;

	if (read_start(dir, "status", buf, sizeof(buf)) < 0)
		return -1;
	at = strstr(buf, "\nUid:");
	return at && sscanf(at, "\nUid: %*u %u", uid) == 1 ? 0 : -1;
}

static int read_process(const struct listing *l, int pid, struct proto_ps *p)
{
	char path[32], buf[1024];
	cleanup_close int dir = -1;
	const char *name;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d", pid);
	dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || read_start(dir, "stat", buf, sizeof(buf)) < 0 ||
	    ps_parse_stat(buf, l->boot_s, l->ticks, p) < 0 || read_uid(dir, &p->uid) < 0)
		return -1;
	n = read_start(dir, "cmdline", buf, sizeof(buf));
	if (n > 0)
		ps_parse_cmdline(buf, (size_t)n, p->cmd);
	name = l->name(l->arg, pid);
	if (name) {
		p->named = true;
		snprintf(p->process, sizeof(p->process), "%s", name);
	}
	return 0;
}

static void add_process(struct listing *l, int pid)
{
	struct proto_ps p = {0};

	if (l->n >= PROTO_PS_MAX || pid <= 0 || read_process(l, pid, &p) < 0)
		return;
	if (l->n == l->size) {
		size_t size = l->size ? l->size * 2 : 16;
		struct proto_ps *list = reallocarray(l->list, size, sizeof(*list));

		if (!list)
			return;
		l->list = list;
		l->size = size;
	}
	l->list[l->n++] = p;
}

static int list_cgroup(struct listing *l, int fd, int depth, struct error *err)
{
	cleanup_free char *text = NULL;
	cleanup_dir DIR *dir = NULL;
	char *at, *end;
	int copy;

	if (file_read(fd, "cgroup.procs", PROCS_FILE_MAX, &text, NULL, err) < 0)
		return -1;
	for (at = text; *at; at = end + 1) {
		add_process(l, (int)strtol(at, &end, 10));
		if (*end != '\n')
			break;
	}
	if (depth == 0)
		return 0;
	copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = copy < 0 ? NULL : fdopendir(copy);
	if (!dir) {
		close_fd(&copy);
		return error_errno(err, "read the cgroup's directory");
	}
	for (struct dirent *e; (e = readdir(dir));) {
		cleanup_close int sub = -1;

		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		sub = openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		/* A cgroup of threads has no list of processes, a removed one is gone. */
		if (sub >= 0)
			list_cgroup(l, sub, depth - 1, NULL);
	}
	return 0;
}

/* As the kernel has it: a difference of two clocks would now and then be another second, and with
 * it the time at which a process began. */
static uint64_t boot_time(void)
{
	cleanup_free char *text = NULL;
	unsigned long long s = 0;
	const char *at;

	if (file_read(AT_FDCWD, "/proc/stat", STAT_FILE_MAX, &text, NULL, NULL) < 0)
		return 0;
	at = strstr(text, "\nbtime ");
	return at && sscanf(at, "\nbtime %llu", &s) == 1 ? s : 0;
}

int ps_list(int cgroup_fd, ps_name_fn name, void *arg, struct proto_ps **list, size_t *n,
	    struct error *err)
{
	struct listing l = {.boot_s = boot_time(),
			    .ticks = (uint64_t)sysconf(_SC_CLK_TCK),
			    .name = name,
			    .arg = arg};

	if (list_cgroup(&l, cgroup_fd, DEPTH_MAX, err) < 0) {
		free(l.list);
		return -1;
	}
	*list = l.list;
	*n = l.n;
	return 0;
}
