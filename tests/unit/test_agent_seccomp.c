/* linux.seccomp: the filter is run by an interpreter of classic BPF. */
#include "agent/seccomp.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "bpf.h"

#define NATIVE AUDIT_ARCH_X86_64
#define FUTURE 100000 /* a call that nobody knows yet */

static struct seccomp_prog *compile(const char *seccomp, struct error *err)
{
	cleanup_free char *json = xasprintf(
		"{\"ociVersion\":\"1.2.0\",\"process\":{\"cwd\":\"/\",\"args\":[\"x\"],\"user\":"
		"{\"uid\":0,\"gid\":0}},\"root\":{\"path\":\"r\"},\"linux\":{\"seccomp\":%s}}",
		seccomp);
	cleanup_oci_spec struct oci_spec *s = NULL;

	if (oci_spec_parse(json, strlen(json), &s, err) < 0)
		fail_msg("%s", err->msg);
	return seccomp_prog_compile(s->lnx.seccomp, err);
}

static struct seccomp_prog *must_compile(const char *seccomp)
{
	struct error err = ERROR_INIT;
	struct seccomp_prog *p = compile(seccomp, &err);

	if (!p)
		fail_msg("%s", err.msg);
	return p;
}

static uint32_t call(const struct seccomp_prog *p, int nr, uint64_t arg0, uint64_t arg1)
{
	struct seccomp_data d = {.nr = nr, .arch = NATIVE, .args = {arg0, arg1}};

	return bpf_run(p->insns, p->n, &d);
}

#define ERRNO(e) (SECCOMP_RET_ERRNO | (e))

static void test_actions(void **state UNUSED)
{
	struct seccomp_prog *p = must_compile(
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":["
		"{\"names\":[\"mkdir\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":99},"
		"{\"names\":[\"rmdir\"],\"action\":\"SCMP_ACT_ERRNO\"},"
		"{\"names\":[\"link\"],\"action\":\"SCMP_ACT_KILL\"},"
		"{\"names\":[\"unlink\"],\"action\":\"SCMP_ACT_KILL_PROCESS\"},"
		"{\"names\":[\"chmod\"],\"action\":\"SCMP_ACT_TRAP\"},"
		"{\"names\":[\"chown\"],\"action\":\"SCMP_ACT_TRACE\",\"errnoRet\":7},"
		"{\"names\":[\"lchown\"],\"action\":\"SCMP_ACT_LOG\"},"
		"{\"names\":[\"no_such_call\",\"getpid\"],\"action\":\"SCMP_ACT_ALLOW\"}]}");

	assert_int_equal(call(p, SYS_mkdir, 0, 0), ERRNO(99));
	assert_int_equal(call(p, SYS_rmdir, 0, 0), ERRNO(EPERM));
	assert_int_equal(call(p, SYS_link, 0, 0), SECCOMP_RET_KILL_THREAD);
	assert_int_equal(call(p, SYS_unlink, 0, 0), SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(call(p, SYS_chmod, 0, 0), SECCOMP_RET_TRAP);
	assert_int_equal(call(p, SYS_chown, 0, 0), SECCOMP_RET_TRACE | 7);
	assert_int_equal(call(p, SYS_lchown, 0, 0), SECCOMP_RET_LOG);
	assert_int_equal(call(p, SYS_getpid, 0, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(call(p, FUTURE, 0, 0), SECCOMP_RET_ALLOW);
	seccomp_prog_free(p);
}

/* All seven operators, on both halves of 64 bits. */
static void test_operators(void **state UNUSED)
{
	static const struct {
		const char *op;
		uint64_t value, two, yes, no;
	} v[] = {
		{"SCMP_CMP_EQ", UINT64_C(0x100000005), 0, UINT64_C(0x100000005), 5},
		{"SCMP_CMP_NE", 5, 0, UINT64_C(0x100000005), 5},
		{"SCMP_CMP_LT", UINT64_C(0x100000000), 0, 7, UINT64_C(0x100000000)},
		{"SCMP_CMP_LE", 5, 0, 5, 6},
		{"SCMP_CMP_GE", UINT64_C(0x100000000), 0, UINT64_C(0x100000000), 9},
		{"SCMP_CMP_GT", 5, 0, UINT64_C(0x300000000), 5},
		{"SCMP_CMP_MASKED_EQ", 0xff00, 0x1200, 0x12fe, 0x13fe},
	};

	for (size_t i = 0; i < ARRAY_LEN(v); i++) {
		cleanup_free char *json = xasprintf(
			"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":["
			"\"personality\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":0,"
			"\"value\":%llu,\"valueTwo\":%llu,\"op\":\"%s\"}]}]}",
			(unsigned long long)v[i].value, (unsigned long long)v[i].two, v[i].op);
		struct seccomp_prog *p = must_compile(json);

		if (call(p, SYS_personality, v[i].yes, 0) != SECCOMP_RET_ALLOW ||
		    call(p, SYS_personality, v[i].no, 0) != ERRNO(EPERM))
			fail_msg("%s", v[i].op);
		seccomp_prog_free(p);
	}
}

static void test_several_arguments(void **state UNUSED)
{
	struct seccomp_prog *p =
		must_compile("{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":["
			     "{\"names\":[\"socket\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":["
			     "{\"index\":0,\"value\":16,\"op\":\"SCMP_CMP_EQ\"},"
			     "{\"index\":1,\"value\":3,\"op\":\"SCMP_CMP_EQ\"}]},"
			     "{\"names\":[\"personality\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":["
			     "{\"index\":0,\"value\":0,\"op\":\"SCMP_CMP_EQ\"},"
			     "{\"index\":0,\"value\":8,\"op\":\"SCMP_CMP_EQ\"}]}]}");

	assert_int_equal(call(p, SYS_socket, 16, 3), SECCOMP_RET_ALLOW);
	assert_int_equal(call(p, SYS_socket, 16, 2), ERRNO(EPERM));
	assert_int_equal(call(p, SYS_socket, 2, 3), ERRNO(EPERM));
	/* the same argument twice: either will do */
	assert_int_equal(call(p, SYS_personality, 0, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(call(p, SYS_personality, 8, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(call(p, SYS_personality, 9, 0), ERRNO(EPERM));
	seccomp_prog_free(p);
}

/* Calls newer than the profile do not exist, unless the profile says what they get. */
static void test_unknown_calls(void **state UNUSED)
{
	struct seccomp_prog *p = must_compile("{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":["
					      "{\"names\":[\"read\",\"statx\"],\"action\":"
					      "\"SCMP_ACT_ALLOW\"}]}");

	assert_int_equal(call(p, SYS_read, 0, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(call(p, SYS_statx, 0, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(call(p, SYS_write, 0, 0), ERRNO(EPERM));
	assert_int_equal(call(p, SYS_statx + 1, 0, 0), ERRNO(ENOSYS));
	assert_int_equal(call(p, FUTURE, 0, 0), ERRNO(ENOSYS));
	seccomp_prog_free(p);

	p = must_compile("{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":1,\"syscalls\":"
			 "[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\"}]}");
	assert_int_equal(call(p, FUTURE, 0, 0), ERRNO(EPERM));
	seccomp_prog_free(p);
}

static void test_architectures(void **state UNUSED)
{
	const char *rules = "\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\"}]}";
	cleanup_free char *listed = xasprintf(
		"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"architectures\":[\"SCMP_ARCH_X86_64\","
		"\"SCMP_ARCH_X86\",\"SCMP_ARCH_X32\"],%s",
		rules);
	cleanup_free char *native = xasprintf(
		"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"architectures\":[\"SCMP_ARCH_X86_64\"],%s",
		rules);
	struct seccomp_data foreign = {.nr = 3, .arch = AUDIT_ARCH_I386};
	struct seccomp_prog *p = must_compile(listed);

	assert_int_equal(bpf_run(p->insns, p->n, &foreign), ERRNO(EPERM));
	assert_int_equal(call(p, SYS_read, 0, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(call(p, 0x40000000 + SYS_read, 0, 0), ERRNO(EPERM));
	seccomp_prog_free(p);
	p = must_compile(native);
	assert_int_equal(bpf_run(p->insns, p->n, &foreign), SECCOMP_RET_KILL_THREAD);
	seccomp_prog_free(p);
}

static void test_refusals(void **state UNUSED)
{
	struct error err = ERROR_INIT;

	assert_null(compile("{\"defaultAction\":\"SCMP_ACT_NOTIFY\"}", &err));
	assert_int_equal(err.kind, ERR_UNSUPPORTED);
	assert_non_null(strstr(err.msg, "linux.seccomp.defaultAction"));
	assert_null(compile("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":["
			    "\"read\"],\"action\":\"SCMP_ACT_NOTIFY\"}]}",
			    &err));
	assert_non_null(strstr(err.msg, "linux.seccomp.syscalls[0].action"));
}

static void test_flags(void **state UNUSED)
{
	struct seccomp_prog *p = must_compile(
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"flags\":[\"SECCOMP_FILTER_FLAG_LOG\","
		"\"SECCOMP_FILTER_FLAG_SPEC_ALLOW\"]}");

	assert_int_equal(p->flags, SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW);
	seccomp_prog_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_actions),	      cmocka_unit_test(test_operators),
		cmocka_unit_test(test_unknown_calls), cmocka_unit_test(test_several_arguments),
		cmocka_unit_test(test_architectures), cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_flags),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
