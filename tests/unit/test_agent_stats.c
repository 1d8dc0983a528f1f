/* The kernel's texts about a cgroup. */
#include "agent/stats.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "tests/unit/tmpdir.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void numbers(void **state)
{
	uint64_t v = 7;

	(void)state;
	assert_int_equal(stats_number("12\n"), 12);
	assert_true(stats_number("max\n") == STATS_NONE);
	assert_int_equal(stats_number(""), 0);
	assert_int_equal(stats_number("-3"), 0);
	assert_true(stats_key("a 1\nab 2\nb 3\n", "ab", &v));
	assert_int_equal(v, 2);
	assert_true(stats_key("a 1\nab 2\nb 3", "b", &v));
	assert_int_equal(v, 3);
	assert_false(stats_key("a 1\n", "b", &v));
	assert_false(stats_key("", "b", &v));
	assert_int_equal(v, 3);
}

static void memory_stat(void **state)
{
	cleanup_free struct stats *s = xcalloc(1, sizeof(*s));
	cleanup_free char *many = xcalloc(1, 8192);

	(void)state;
	stats_parse_memory("anon 1\nfile 2\n\nno_number\nlast 3", s);
	assert_int_equal(s->n_raw, 3);
	assert_string_equal(s->raw[0].name, "anon");
	assert_string_equal(s->raw[2].name, "last");
	assert_int_equal(s->raw[2].value, 3);
	for (size_t n = 0, i = 0; i < 300; i++)
		n += (size_t)sprintf(many + n, "key%zu %zu\n", i, i);
	stats_parse_memory(many, s);
	assert_int_equal(s->n_raw, STATS_KEYS_MAX);
}

static void io_stat(void **state)
{
	cleanup_free struct stats *s = xcalloc(1, sizeof(*s));

	(void)state;
	stats_parse_io("254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=9 dios=9\n"
		       "8:16 \n254:32 wios=7\nx\n",
		       s);
	assert_int_equal(s->n_disks, 3);
	assert_int_equal(s->disks[0].read_bytes, 4096);
	assert_int_equal(s->disks[0].write_bytes, 8192);
	assert_int_equal(s->disks[0].reads, 1);
	assert_int_equal(s->disks[0].writes, 2);
	assert_int_equal(s->disks[1].major, 8);
	assert_int_equal(s->disks[1].writes, 0); /* not the next line's */
	assert_int_equal(s->disks[2].writes, 7);
}

static void pressure(void **state)
{
	struct stats_psi p = {0};

	(void)state;
	stats_parse_psi("some avg10=1.02 avg60=12.34 avg300=100.00 total=5\n"
			"full avg10=0.00 avg60=0.00 avg300=0.50 total=18446744073709551615\n",
			&p);
	assert_true(p.has);
	assert_int_equal(p.some.avg10, 102);
	assert_int_equal(p.some.avg60, 1234);
	assert_int_equal(p.some.avg300, 10000);
	assert_int_equal(p.full.avg300, 50);
	assert_true(p.full.total_us == UINT64_MAX);
	p = (struct stats_psi){0};
	stats_parse_psi("", &p);
	assert_false(p.has);
}

static void interfaces(void **state)
{
	cleanup_free struct stats *s = xcalloc(1, sizeof(*s));

	(void)state;
	stats_parse_interfaces(
		"Inter-|   Receive                                                |  Transmit\n"
		" face |bytes    packets errs drop fifo frame compressed multicast|bytes    "
		"packets "
		"errs drop fifo colls carrier compressed\n"
		"    lo:     100       1    0    0    0     0          0         0      100       "
		"1 "
		"   0    0    0     0       0          0\n"
		"  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"
		"  broken: 1 2\n",
		s);
	assert_int_equal(s->n_interfaces, 1);
	assert_string_equal(s->interfaces[0].name, "eth0");
	assert_int_equal(s->interfaces[0].rx_bytes, 1);
	assert_int_equal(s->interfaces[0].rx_dropped, 4);
	assert_int_equal(s->interfaces[0].tx_bytes, 9);
	assert_int_equal(s->interfaces[0].tx_dropped, 12);
}

static void lists(void **state)
{
	static uint16_t out[STATS_CPUS_MAX];

	(void)state;
	assert_int_equal(stats_parse_list("0-2,5\n", out), 4);
	assert_int_equal(out[2], 2);
	assert_int_equal(out[3], 5);
	assert_int_equal(stats_parse_list("\n", out), 0);
	assert_int_equal(stats_parse_list("0-99999999", out), STATS_CPUS_MAX);
	assert_int_equal(stats_parse_list("3-1", out), 0);
}

static void put(int dir, const char *name, const char *text)
{
	assert_int_equal(file_write_atomic(dir, name, text, strlen(text), 0600, NULL), 0);
}

/* Swap counts memory, too; files that are not there are zeros. */
static void a_cgroup(void **state)
{
	cleanup_free struct stats *s = xcalloc(1, sizeof(*s));
	const struct tmpdir *t = *state;
	int dir = open(t->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	stats_collect(dir, s);
	assert_int_equal(s->n_disks + s->n_hugetlb + s->n_raw, 0);
	assert_false(s->cpu_psi.has);
	put(dir, "cpu.stat", "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_throttled 1\n");
	put(dir, "cpuset.cpus.effective", "0-1\n");
	put(dir, "memory.current", "1000\n");
	put(dir, "memory.max", "2000\n");
	put(dir, "memory.swap.current", "10\n");
	put(dir, "memory.swap.max", "50\n");
	put(dir, "memory.stat", "file 300\nkernel 20\n");
	put(dir, "memory.events", "low 0\nmax 4\noom_kill 1\n");
	put(dir, "pids.current", "3\n");
	put(dir, "pids.max", "max\n");
	put(dir, "hugetlb.2MB.current", "4194304\n");
	put(dir, "hugetlb.2MB.rsvd.current", "1\n");
	put(dir, "hugetlb.2MB.events", "max 2\n");
	stats_collect(dir, s);
	close(dir);
	assert_int_equal(s->cpu_ns, 5000);
	assert_int_equal(s->cpu_kernel_ns, 2000);
	assert_int_equal(s->throttled_periods, 1);
	assert_int_equal(s->n_cpus, 2);
	assert_int_equal(s->memory.usage, 1000);
	assert_int_equal(s->memory.failcnt, 4);
	assert_int_equal(s->swap.usage, 1010);
	assert_int_equal(s->swap.limit, 2050);
	assert_int_equal(s->cache, 300);
	assert_int_equal(s->kernel.usage, 20);
	assert_int_equal(s->pids, 3);
	assert_int_equal(s->pids_limit, 0);
	assert_int_equal(s->n_hugetlb, 1);
	assert_string_equal(s->hugetlb[0].size, "2MB");
	assert_int_equal(s->hugetlb[0].usage, 4194304);
	assert_int_equal(s->hugetlb[0].failcnt, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers),
		cmocka_unit_test(memory_stat),
		cmocka_unit_test(io_stat),
		cmocka_unit_test(pressure),
		cmocka_unit_test(interfaces),
		cmocka_unit_test(lists),
		cmocka_unit_test_setup_teardown(a_cgroup, tmpdir_make, tmpdir_remove),
	};

	return cmocka_run_group_tests_name("agent stats", tests, NULL, NULL);
}
