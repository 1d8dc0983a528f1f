/* Guest memory: what is inside a region is found, nothing else is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "vmm/mem.h"

#define MIB (UINT64_C(1) << 20)

static int file_of(uint64_t bytes)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

static void finds_what_lies_inside(void **state)
{
	cleanup_close int fd = file_of(4 * MIB);
	struct guest_mem m = {0};
	uint8_t *a, *b;

	(void)state;
	assert_int_equal(mem_add(&m, 0, MIB, 0x5000000, fd, 0, NULL), 0);
	assert_int_equal(mem_add(&m, 8 * MIB, 2 * MIB, 0x9000000, fd, MIB, NULL), 0);
	a = mem_at(&m, 0, MIB);
	b = mem_at(&m, 8 * MIB, 2 * MIB);
	assert_non_null(a);
	assert_non_null(b);
	assert_ptr_equal(mem_at(&m, 100, 1), a + 100);
	assert_ptr_equal(mem_at(&m, MIB - 1, 1), a + MIB - 1);
	assert_ptr_equal(mem_at(&m, MIB, 0), a + MIB);
	assert_ptr_equal(mem_at_user(&m, 0x5000000 + 7, 8), a + 7);
	assert_ptr_equal(mem_at_user(&m, 0x9000000 + 2 * MIB - 8, 8), b + 2 * MIB - 8);
	a[MIB - 1] = 0x5a;
	b[0] = 0xa5;
	assert_int_equal(pread(fd, &a[0], 2, MIB - 1), 2);
	assert_int_equal(a[0], 0x5a);
	assert_int_equal(a[1], 0xa5);
	mem_clear(&m);
	assert_null(mem_at(&m, 0, 1));
}

static void refuses_what_lies_outside(void **state)
{
	cleanup_close int fd = file_of(2 * MIB);
	struct guest_mem m = {0};

	(void)state;
	assert_int_equal(mem_add(&m, MIB, MIB, 0x5000000, fd, 0, NULL), 0);
	assert_null(mem_at(&m, MIB - 1, 1));
	assert_null(mem_at(&m, MIB - 1, 2));
	assert_null(mem_at(&m, 2 * MIB - 1, 2));
	assert_null(mem_at(&m, 2 * MIB, 1));
	assert_null(mem_at(&m, 2 * MIB + 1, 0));
	assert_null(mem_at(&m, MIB, UINT64_MAX));
	assert_null(mem_at(&m, UINT64_MAX, 1));
	assert_null(mem_at(&m, MIB + 16, UINT64_MAX - MIB));
	assert_null(mem_at_user(&m, MIB, 1));
	assert_null(mem_at_user(&m, 0x5000000 - 1, 1));
	assert_null(mem_at_user(&m, 0x5000000 + MIB, 1));
	mem_clear(&m);
}

/* Regions side by side are two all the same. */
static void nothing_spans_two_regions(void **state)
{
	cleanup_close int fd = file_of(2 * MIB);
	struct guest_mem m = {0};

	(void)state;
	assert_int_equal(mem_add(&m, 0, MIB, 0x10000000, fd, MIB, NULL), 0);
	assert_int_equal(mem_add(&m, MIB, MIB, 0x20000000, fd, 0, NULL), 0);
	assert_null(mem_at(&m, MIB - 4, 8));
	assert_non_null(mem_at(&m, MIB - 4, 4));
	assert_non_null(mem_at(&m, MIB, 4));
	mem_clear(&m);
}

static void refuses_bad_regions(void **state)
{
	cleanup_close int fd = file_of(4 * MIB);
	struct guest_mem m = {0};
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(mem_add(&m, 0, MIB, 0x5000000, fd, 0, NULL), 0);
	assert_int_equal(mem_add(&m, MIB, 0, 0, fd, 0, &err), -1);
	assert_int_equal(mem_add(&m, UINT64_MAX - 4096, MIB, 0, fd, 0, &err), -1);
	assert_int_equal(mem_add(&m, 4 * MIB, MIB, UINT64_MAX - 4096, fd, 0, &err), -1);
	assert_int_equal(mem_add(&m, 4 * MIB, MIB, 0, fd, UINT64_MAX - 4096, &err), -1);
	assert_int_equal(mem_add(&m, 4 * MIB, INT64_MAX, 0, fd, 4096, &err), -1);
	/* overlaps in the guest's addresses, then in the front end's */
	assert_int_equal(mem_add(&m, MIB - 1, MIB, 0x9000000, fd, 0, &err), -1);
	assert_int_equal(mem_add(&m, 4 * MIB, MIB, 0x5000000 + MIB - 1, fd, 0, &err), -1);
	assert_int_equal(err.kind, ERR_PEER);
	/* the file ends first */
	assert_int_equal(mem_add(&m, 4 * MIB, MIB, 0x9000000, fd, 3 * MIB + 1, &err), -1);
	assert_int_equal(m.n, 1);
	mem_clear(&m);
}

static void offsets_need_no_alignment(void **state)
{
	cleanup_close int fd = file_of(MIB);
	struct guest_mem m = {0};

	(void)state;
	assert_int_equal(pwrite(fd, "x", 1, 5000), 1);
	assert_int_equal(mem_add(&m, 0, 8192, 0, fd, 5000, NULL), 0);
	assert_int_equal(*(char *)mem_at(&m, 0, 1), 'x');
	mem_clear(&m);
}

static void has_a_limit_of_regions(void **state)
{
	cleanup_close int fd = file_of(MIB);
	struct guest_mem m = {0};

	(void)state;
	for (unsigned i = 0; i < MEM_REGIONS_MAX; i++)
		assert_int_equal(mem_add(&m, i * MIB, MIB, 0, fd, 0, NULL), 0);
	assert_int_equal(mem_add(&m, 100 * MIB, MIB, 0, fd, 0, NULL), -1);
	mem_clear(&m);
}

static void refuses_what_is_no_memory(void **state)
{
	struct guest_mem m = {0};
	int p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_int_equal(mem_add(&m, 0, MIB, 0, p[0], 0, NULL), -1);
	assert_int_equal(mem_add(&m, 0, MIB, 0, -1, 0, NULL), -1);
	close(p[0]);
	close(p[1]);
}

static void nothing_lies_beside_it(void **state)
{
	cleanup_close int fd = file_of(8 * MIB), null = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	struct guest_mem m = {0};

	(void)state;
	assert_int_equal(mem_add(&m, 0, MIB, 0, fd, 0, NULL), 0);
	assert_int_equal(mem_add(&m, 2 * MIB, 3 * MIB, 0, fd, 3 * MIB, NULL), 0);
	for (unsigned i = 0; i < m.n; i++) {
		uint8_t *edge[] = {m.r[i].hva - 1, m.r[i].hva + m.r[i].size};

		for (unsigned k = 0; k < 2; k++) { /* as the kernel sees it */
			assert_int_equal(read(null, edge[k], 1), -1);
			assert_int_equal(errno, EFAULT);
		}
		assert_int_equal(((uintptr_t)m.r[i].hva ^ m.r[i].offset) & (2 * MIB - 1), 0);
	}
	mem_clear(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_what_lies_inside),
		cmocka_unit_test(refuses_what_lies_outside),
		cmocka_unit_test(nothing_spans_two_regions),
		cmocka_unit_test(refuses_bad_regions),
		cmocka_unit_test(offsets_need_no_alignment),
		cmocka_unit_test(nothing_lies_beside_it),
		cmocka_unit_test(has_a_limit_of_regions),
		cmocka_unit_test(refuses_what_is_no_memory),
	};

	return cmocka_run_group_tests_name("mem", tests, NULL, NULL);
}
