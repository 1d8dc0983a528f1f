/*
 * compile - makes husk-vmm's seccomp filters, at build time: compile HEADER LIST.
 *
 * It is built with the rules that `collect` found, so that the values in their conditions are those
 * of the system's headers, and a system call that does not exist is an error of the compiler.
 * HEADER gets the filters as arrays of BPF and the names of all system calls, LIST a text for
 * people: who may make which call, and where it says so.
 *
 * Filters: one for the process with each engine, which every thread has, and on top of it one
 * each for the threads that need less; one each for the opener and QEMU's minder. A call that is
 * not allowed is SECCOMP_RET_TRAP: vmm/jail.c names it and ends the process. Another architecture's
 * calls (and x32's) kill the process outright.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/prctl.h>
#include <linux/vhost.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* What pthread_create() asks of clone(2): these flags and no others. */
#define CLONE_FLAGS_OF_A_THREAD                                                             \
	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM | CLONE_SIGHAND | CLONE_THREAD | \
	 CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)
#define NUMBERS_MAX 600 /* of system calls */

enum {
	ROLE_loop = 1,
	ROLE_vcpu = 2,
	ROLE_block = 4,
	ROLE_net = 8,
	ROLE_qemu = 16,
	ROLE_opener = 32,
	ROLE_minder = 64,
	ROLE_thread = ROLE_loop | ROLE_vcpu | ROLE_block | ROLE_net,
};

struct rule {
	unsigned roles;
	int number;
	const char *name, *where;
	int errnum; /* 0: allowed */
	unsigned nconds;
	struct scmp_arg_cmp cond[6];
};

#define RULE(roles, name, where, errnum, nconds, ...) \
	{roles, SCMP_SYS(name), #name, where, errnum, nconds, {__VA_ARGS__}},

static const struct rule rules[] = {
#include "build/gen/syscalls.inc"
};
#define NRULES (sizeof(rules) / sizeof(rules[0]))

static const struct {
	const char *name;
	unsigned roles;
	const char *what;
} filters[] = {
	{"kvm", ROLE_thread, "husk-vmm with engine kvm"},
	{"qemu", ROLE_thread | ROLE_qemu, "husk-vmm with engine qemu"},
	{"vcpu", ROLE_vcpu, "a vCPU's thread"},
	{"block", ROLE_block, "a disk's thread"},
	{"net", ROLE_net, "a network card's thread"},
	{"opener", ROLE_opener, "the opener"},
	{"minder", ROLE_minder, "the minder of QEMU"},
};
#define NFILTERS (sizeof(filters) / sizeof(filters[0]))

static _Noreturn void fail(const char *where, const char *what, int r)
{
	fprintf(stderr, "%s: syscalls: %s: %s\n", where, what, strerror(-r));
	exit(1);
}

/* The same call may be listed by several, and once without conditions is enough. */
static void add(scmp_filter_ctx ctx, const struct rule *rule)
{
	uint32_t action = rule->errnum ? SCMP_ACT_ERRNO((uint32_t)rule->errnum) : SCMP_ACT_ALLOW;
	int r = seccomp_rule_add_array(ctx, action, rule->number, rule->nconds, rule->cond);

	if (r < 0 && r != -EEXIST)
		fail(rule->where, rule->name, r);
}

/* Whether rule i is the first one that allows its call to one of `roles`. */
static bool first(unsigned i, unsigned roles)
{
	if (!(rules[i].roles & roles) || rules[i].errnum)
		return false;
	for (unsigned j = 0; j < i; j++)
		if ((rules[j].roles & roles) && !rules[j].errnum &&
		    rules[j].number == rules[i].number)
			return false;
	return true;
}

static void print_filter(FILE *out, const char *name, scmp_filter_ctx ctx)
{
	FILE *tmp = tmpfile();
	struct sock_filter f;
	int r;

	if (!tmp)
		fail(name, "tmpfile", -errno);
	r = seccomp_export_bpf(ctx, fileno(tmp));
	if (r < 0)
		fail(name, "export", r);
	rewind(tmp);
	fprintf(out, "static const struct sock_filter filter_%s[] = {\n", name);
	while (fread(&f, sizeof(f), 1, tmp) == 1)
		fprintf(out, "\t{0x%x, %u, %u, 0x%x},\n", f.code, f.jt, f.jf, f.k);
	fprintf(out, "};\n");
	fclose(tmp);
}

static void make_filter(FILE *out, FILE *list, unsigned n)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_TRAP);
	unsigned count = 0;
	int r;

	if (!ctx)
		fail(filters[n].name, "seccomp_init", -ENOMEM);
	r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (r == 0)
		r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (r < 0)
		fail(filters[n].name, "seccomp_attr_set", r);
	for (unsigned i = 0; i < NRULES; i++) {
		if (rules[i].roles & filters[n].roles)
			add(ctx, &rules[i]);
		count += first(i, filters[n].roles);
	}
	fprintf(out, "#define SYSCALLS_%s %u\n", filters[n].name, count);
	fprintf(list, "%s: %u\n", filters[n].what, count);
	for (unsigned i = 0; i < NRULES; i++)
		if (first(i, filters[n].roles))
			fprintf(list, "\t%-16s %s\n", rules[i].name, rules[i].where);
	print_filter(out, filters[n].name, ctx);
	seccomp_release(ctx);
}

/* One string: "read\0write\0...", nothing for a number that is no call. */
static void print_names(FILE *out)
{
	int last = 0;

	for (int i = 0; i < NUMBERS_MAX; i++) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, i);

		last = name ? i : last;
		free(name);
	}
	fprintf(out, "#define SYSCALLS_NAMES %d\nstatic const char syscall_names[] =\n", last + 1);
	for (int i = 0; i <= last; i++) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, i);

		fprintf(out, "\t\"%s\\0\"\n", name ? name : "");
		free(name);
	}
	fprintf(out, "\t;\n");
}

static FILE *create(const char *path)
{
	FILE *f = fopen(path, "w");

	if (!f)
		fail(path, "open", -errno);
	return f;
}

int main(int argc, char **argv)
{
	FILE *out, *list;

	if (argc != 3) {
		fprintf(stderr, "usage: compile HEADER LIST\n");
		return 2;
	}
	out = create(argv[1]);
	list = create(argv[2]);
	fprintf(out, "/* Made by vmm/syscalls from the lists in the sources. */\n");
	for (unsigned n = 0; n < NFILTERS; n++)
		make_filter(out, list, n);
	print_names(out);
	if (fclose(out) != 0 || fclose(list) != 0)
		fail(argv[1], "write", -errno);
	return 0;
}
