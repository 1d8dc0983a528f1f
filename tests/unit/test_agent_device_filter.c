/* The device filter: the generated BPF program is run by an interpreter of the few instructions
 * that it may hold. */
#include "agent/device_filter.h"
#include "lib/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define M BPF_DEVCG_ACC_MKNOD
#define R BPF_DEVCG_ACC_READ
#define W BPF_DEVCG_ACC_WRITE
#define DISK 254

static uint64_t load(const struct bpf_cgroup_dev_ctx *ctx, int off)
{
	uint32_t v;

	assert_true(off >= 0 && (size_t)off + sizeof(v) <= sizeof(*ctx));
	memcpy(&v, (const char *)ctx + off, sizeof(v));
	return v;
}

static int interpret(const struct device_program *p, const struct bpf_cgroup_dev_ctx *ctx)
{
	uint64_t r[11] = {0};

	for (size_t pc = 0, steps = 0; steps < 10000; steps++, pc++) {
		const struct bpf_insn *i;

		assert_true(pc < p->n);
		i = &p->insns[pc];
		switch (i->code) {
		case BPF_LDX | BPF_MEM | BPF_W:
			assert_int_equal(i->src_reg, 1);
			r[i->dst_reg] = load(ctx, i->off);
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			r[i->dst_reg] = (uint32_t)r[i->dst_reg] & (uint32_t)i->imm;
			break;
		case BPF_ALU | BPF_RSH | BPF_K:
			r[i->dst_reg] = (uint32_t)r[i->dst_reg] >> i->imm;
			break;
		case BPF_ALU64 | BPF_MOV | BPF_K:
			r[i->dst_reg] = (uint64_t)(int64_t)i->imm;
			break;
		case BPF_ALU64 | BPF_MOV | BPF_X:
			r[i->dst_reg] = r[i->src_reg];
			break;
		case BPF_JMP | BPF_JNE | BPF_K:
			if (r[i->dst_reg] != (uint64_t)(int64_t)i->imm)
				pc += (size_t)i->off;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			if (r[i->dst_reg] == (uint64_t)(int64_t)i->imm)
				pc += (size_t)i->off;
			break;
		case BPF_JMP | BPF_EXIT:
			return (int)r[0];
		default:
			fail_msg("instruction %#x", i->code);
		}
	}
	fail_msg("no end");
	return -1;
}

static bool allowed(const struct device_program *p, char type, unsigned major, unsigned minor,
		    unsigned access)
{
	struct bpf_cgroup_dev_ctx ctx = {
		.access_type =
			access << 16 | (type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR),
		.major = major,
		.minor = minor,
	};

	return interpret(p, &ctx);
}

#define ANY (-1)

static struct oci_device_rule rule(bool allow, char type, int major, int minor, const char *access)
{
	return (struct oci_device_rule){
		.allow = allow,
		.type = type,
		.major = {.has = true, .v = major},
		.minor = {.has = minor != ANY, .v = minor},
		.access = access ? (char *)(uintptr_t)access : NULL,
	};
}

static void test_defaults(void **state UNUSED)
{
	struct device_program p;

	device_program_build(NULL, 0, DISK, NULL, 0, &p);
	assert_true(allowed(&p, 'c', 1, 3, R | W | M));
	assert_true(allowed(&p, 'c', 136, 7, R | W));
	assert_true(allowed(&p, 'c', 5, 2, R | W));
	assert_true(allowed(&p, 'b', 8, 0, M));
	assert_false(allowed(&p, 'c', 1, 1, R));
	assert_false(allowed(&p, 'b', 1, 3, R));
	assert_false(allowed(&p, 'b', 8, 0, M | R));
	assert_false(allowed(&p, 'c', 10, 229, R));
	assert_false(allowed(&p, 'b', DISK, 0, R));
	device_program_free(&p);
}

/* What engines send: nothing first, then some devices. */
static void test_deny_all_then_one(void **state UNUSED)
{
	const struct oci_device_rule rules[] = {rule(false, 'a', ANY, ANY, "rwm"),
						rule(true, 'c', 10, 229, "r"),
						rule(true, 'c', 10, 229, "w")};
	struct device_program p;

	device_program_build(rules, ARRAY_LEN(rules), DISK, NULL, 0, &p);
	assert_true(allowed(&p, 'c', 10, 229, R));
	assert_true(allowed(&p, 'c', 10, 229, W));
	assert_true(allowed(&p, 'c', 10, 229, R | W)); /* of two rules */
	assert_false(allowed(&p, 'c', 10, 230, R));
	assert_true(allowed(&p, 'c', 1, 5, R));
	device_program_free(&p);
}

/* A privileged container: everything but the guest's own disks. */
static void test_allow_all_spares_disks(void **state UNUSED)
{
	const struct oci_device_rule rules[] = {rule(true, 'a', ANY, ANY, NULL)};
	struct device_program p;

	device_program_build(rules, 1, DISK, NULL, 0, &p);
	assert_true(allowed(&p, 'c', 10, 229, R | W | M));
	assert_true(allowed(&p, 'b', 7, 0, R | W));
	assert_true(allowed(&p, 'b', DISK, 16, M));
	assert_false(allowed(&p, 'b', DISK, 16, R));
	assert_false(allowed(&p, 'b', DISK, 0, W | M));
	assert_true(allowed(&p, 'c', DISK, 16, R));
	device_program_free(&p);
}

/* A number of the host's that is one of the guest's own disks. */
static void test_rules_cannot_name_guest_disks(void **state UNUSED)
{
	const struct oci_device_rule rules[] = {rule(true, 'b', DISK, ANY, "rwm"),
						rule(true, 'b', DISK, 32, "r")};
	struct device_program p;

	device_program_build(rules, ARRAY_LEN(rules), DISK, NULL, 0, &p);
	assert_false(allowed(&p, 'b', DISK, 32, R));
	assert_false(allowed(&p, 'b', DISK, 16, R));
	device_program_free(&p);
}

static void test_a_given_disk_has_the_rights_of_its_host_number(void **state UNUSED)
{
	const struct oci_device_rule rules[] = {rule(false, 'a', ANY, ANY, "rwm"),
						rule(true, 'b', 7, ANY, "r"),
						rule(true, 'b', 7, 3, "w"),
						rule(true, 'b', DISK, 0, "rwm")};
	const struct device_alias aliases[] = {
		{7, 3, DISK, 32}, {7, 4, DISK, 48}, {8, 0, DISK, 64}};
	struct device_program p;

	device_program_build(rules, ARRAY_LEN(rules), DISK, aliases, ARRAY_LEN(aliases), &p);
	assert_true(allowed(&p, 'b', DISK, 32, R | W));
	assert_true(allowed(&p, 'b', DISK, 48, R));
	assert_false(allowed(&p, 'b', DISK, 48, W));
	assert_false(allowed(&p, 'b', DISK, 64, R));
	assert_false(allowed(&p, 'b', DISK, 0, R));
	device_program_free(&p);
}

static void test_later_rules_override_by_access(void **state UNUSED)
{
	const struct oci_device_rule rules[] = {rule(true, 'c', 4, ANY, "rw"),
						rule(false, 'c', 4, 64, "w")};
	struct device_program p;

	device_program_build(rules, ARRAY_LEN(rules), 0, NULL, 0, &p);
	assert_true(allowed(&p, 'c', 4, 63, R | W));
	assert_true(allowed(&p, 'c', 4, 64, R));
	assert_false(allowed(&p, 'c', 4, 64, W));
	assert_false(allowed(&p, 'c', 4, 64, R | W));
	device_program_free(&p);
}

static void test_major_wildcard(void **state UNUSED)
{
	struct oci_device_rule r = rule(true, 'c', ANY, 9, "rw");
	struct device_program p;

	device_program_build(&r, 1, 0, NULL, 0, &p);
	assert_true(allowed(&p, 'c', 42, 9, R));
	assert_false(allowed(&p, 'c', 42, 8, R));
	device_program_free(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_deny_all_then_one),
		cmocka_unit_test(test_allow_all_spares_disks),
		cmocka_unit_test(test_rules_cannot_name_guest_disks),
		cmocka_unit_test(test_a_given_disk_has_the_rights_of_its_host_number),
		cmocka_unit_test(test_later_rules_override_by_access),
		cmocka_unit_test(test_major_wildcard),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
