#include "agent/stats.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#define FILE_MAX_BYTES 65536

/* ---- texts */

uint64_t stats_number(const char *text)
{
	if (strncmp(text, "max", 3) == 0)
		return STATS_NONE;
	return *text >= '0' && *text <= '9' ? strtoull(text, NULL, 10) : 0;
}

bool stats_key(const char *text, const char *key, uint64_t *value)
{
	size_t n = strlen(key);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, n) != 0 || line[n] != ' ')
			continue;
		*value = stats_number(line + n + 1);
		return true;
	}
	return false;
}

void stats_parse_memory(const char *text, struct stats *s)
{
	const char *line = text;

	while (*line && s->n_raw < STATS_KEYS_MAX) {
		struct stats_key *k = &s->raw[s->n_raw];
		size_t n = strcspn(line, " \n");

		if (n > 0 && n <= STATS_KEY_MAX && line[n] == ' ') {
			memcpy(k->name, line, n);
			k->name[n] = '\0';
			k->value = stats_number(line + n + 1);
			s->n_raw++;
		}
		line += strcspn(line, "\n");
		line += *line == '\n';
	}
}

/* The number behind " key=" in a line. */
static uint64_t member(const char *line, size_t len, const char *key)
{
	size_t n = strlen(key);

	for (size_t i = 0; i + n + 2 <= len; i++)
		if (line[i] == ' ' && strncmp(line + i + 1, key, n) == 0 && line[i + 1 + n] == '=')
			return stats_number(line + i + n + 2);
	return 0;
}

void stats_parse_io(const char *text, struct stats *s)
{
	for (const char *line = text; *line;) {
		size_t len = strcspn(line, "\n");
		struct stats_disk d = {0};
		int used = 0;

		if (sscanf(line, "%" SCNu64 ":%" SCNu64 "%n", &d.major, &d.minor, &used) == 2 &&
		    s->n_disks < STATS_LIST_MAX) {
			d.read_bytes = member(line, len, "rbytes");
			d.write_bytes = member(line, len, "wbytes");
			d.reads = member(line, len, "rios");
			d.writes = member(line, len, "wios");
			s->disks[s->n_disks++] = d;
		}
		line += len;
		line += *line == '\n';
	}
}

static bool parse_pressure(const char *text, const char *which, struct stats_pressure *p)
{
	const char *line = strstr(text, which);
	unsigned v[6];
	uint64_t total;

	if (!line ||
	    sscanf(line + strlen(which), " avg10=%u.%2u avg60=%u.%2u avg300=%u.%2u total=%" SCNu64,
		   &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &total) != 7)
		return false;
	*p = (struct stats_pressure){.avg10 = v[0] * 100 + v[1],
				     .avg60 = v[2] * 100 + v[3],
				     .avg300 = v[4] * 100 + v[5],
				     .total_us = total};
	return true;
}

void stats_parse_psi(const char *text, struct stats_psi *p)
{
	p->has = parse_pressure(text, "some", &p->some);
	parse_pressure(text, "full", &p->full);
}

void stats_parse_interfaces(const char *text, struct stats *s)
{
	for (const char *line = text; *line;) {
		struct stats_interface d = {0};
		const char *colon = strchr(line, ':');
		size_t len = strcspn(line, "\n"), n;

		while (*line == ' ') {
			line++;
			len--;
		}
		n = colon ? (size_t)(colon - line) : 0;
		if (colon && n > 0 && n < len && n <= STATS_INTERFACE_MAX &&
		    s->n_interfaces < STATS_LIST_MAX &&
		    sscanf(colon + 1,
			   "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
			   " %*u %*u %*u %*u %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64,
			   &d.rx_bytes, &d.rx_packets, &d.rx_errors, &d.rx_dropped, &d.tx_bytes,
			   &d.tx_packets, &d.tx_errors, &d.tx_dropped) == 8) {
			memcpy(d.name, line, n);
			if (strcmp(d.name, "lo") != 0)
				s->interfaces[s->n_interfaces++] = d;
		}
		line += len;
		line += *line == '\n';
	}
}

size_t stats_parse_list(const char *text, uint16_t *out)
{
	size_t n = 0;

	while (*text >= '0' && *text <= '9') {
		char *end;
		unsigned long first = strtoul(text, &end, 10), last = first;

		if (*end == '-')
			last = strtoul(end + 1, &end, 10);
		for (unsigned long i = first; i <= last && i <= UINT16_MAX; i++)
			if (n < STATS_CPUS_MAX)
				out[n++] = (uint16_t)i;
		text = end + (*end == ',');
	}
	return n;
}

/* ---- the cgroup's files */

/* malloc'ed; "" if it is not there. */
static char *text_of(int dir, const char *name)
{
	char *text = NULL;

	return file_read(dir, name, FILE_MAX_BYTES, &text, NULL, NULL) == 0 ? text : xstrdup("");
}

static uint64_t number_in(int dir, const char *name)
{
	cleanup_free char *text = text_of(dir, name);

	return stats_number(text);
}

static uint64_t key_in(int dir, const char *name, const char *key)
{
	cleanup_free char *text = text_of(dir, name);
	uint64_t v = 0;

	stats_key(text, key, &v);
	return v;
}

static void collect_psi(int dir, const char *name, struct stats_psi *p)
{
	cleanup_free char *text = text_of(dir, name);

	stats_parse_psi(text, p);
}

static void collect_cpu(int dir, struct stats *s)
{
	cleanup_free char *stat = text_of(dir, "cpu.stat");
	cleanup_free char *cpus = text_of(dir, "cpuset.cpus.effective");
	cleanup_free char *mems = text_of(dir, "cpuset.mems.effective");
	const struct {
		const char *key;
		uint64_t *to;
		unsigned times;
	} keys[] = {{"usage_usec", &s->cpu_ns, 1000},
		    {"user_usec", &s->cpu_user_ns, 1000},
		    {"system_usec", &s->cpu_kernel_ns, 1000},
		    {"nr_periods", &s->periods, 1},
		    {"nr_throttled", &s->throttled_periods, 1},
		    {"throttled_usec", &s->throttled_ns, 1000}};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		if (stats_key(stat, keys[i].key, keys[i].to))
			*keys[i].to *= keys[i].times;
	s->n_cpus = stats_parse_list(cpus, s->cpus);
	s->n_mems = stats_parse_list(mems, s->mems);
	collect_psi(dir, "cpu.pressure", &s->cpu_psi);
}

/* Swap with memory, as runc tells it of cgroup v2 too: engines subtract. */
static void collect_memory(int dir, struct stats *s)
{
	cleanup_free char *stat = text_of(dir, "memory.stat");

	stats_parse_memory(stat, s);
	stats_key(stat, "file", &s->cache);
	stats_key(stat, "kernel", &s->kernel.usage);
	s->kernel.limit = STATS_NONE;
	s->memory = (struct stats_memory){.limit = number_in(dir, "memory.max"),
					  .usage = number_in(dir, "memory.current"),
					  .max = number_in(dir, "memory.peak"),
					  .failcnt = key_in(dir, "memory.events", "max")};
	s->swap = (struct stats_memory){.limit = number_in(dir, "memory.swap.max"),
					.usage = number_in(dir, "memory.swap.current"),
					.failcnt = key_in(dir, "memory.swap.events", "fail")};
	s->swap.usage += s->memory.usage;
	if (s->swap.limit != STATS_NONE)
		s->swap.limit = s->memory.limit == STATS_NONE ? STATS_NONE
							      : s->swap.limit + s->memory.limit;
	collect_psi(dir, "memory.pressure", &s->memory_psi);
}

static void collect_hugetlb(int dir, struct stats *s)
{
	cleanup_close int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_dir DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
	const struct dirent *e;

	if (!d)
		return;
	copy = -1;
	while ((e = readdir(d)) && s->n_hugetlb < STATS_LIST_MAX) {
		struct stats_hugetlb *h = &s->hugetlb[s->n_hugetlb];
		char name[64];
		int n = 0;

		if (sscanf(e->d_name, "hugetlb.%15[0-9KMGB].current%n", h->size, &n) != 1 ||
		    n == 0 || e->d_name[n])
			continue;
		snprintf(name, sizeof(name), "hugetlb.%s.events", h->size);
		h->usage = number_in(dir, e->d_name);
		h->failcnt = key_in(dir, name, "max");
		s->n_hugetlb++;
	}
}

void stats_collect(int cgroup_fd, struct stats *s)
{
	cleanup_free char *io = text_of(cgroup_fd, "io.stat");
	cleanup_free char *links = text_of(AT_FDCWD, "/proc/net/dev");
	uint64_t limit = number_in(cgroup_fd, "pids.max");

	memset(s, 0, sizeof(*s));
	collect_cpu(cgroup_fd, s);
	collect_memory(cgroup_fd, s);
	s->pids = number_in(cgroup_fd, "pids.current");
	s->pids_limit = limit == STATS_NONE ? 0 : limit;
	stats_parse_io(io, s);
	collect_psi(cgroup_fd, "io.pressure", &s->io_psi);
	collect_hugetlb(cgroup_fd, s);
	stats_parse_interfaces(links, s);
}
