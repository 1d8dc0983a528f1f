/*
 * From linux.seccomp to a filter.
 *
 * libseccomp makes the program; we load it ourselves, because every process of the container gets
 * the same one, compiled once, and because there is something to put before it:
 *
 * A profile names the system calls of its day. Newer ones, which its author could not know, get
 * the default action, usually EPERM; but a C library that tries a new call goes on to the old one
 * only after ENOSYS. So calls with a number above all that the profile names get ENOSYS, unless
 * the profile says which errno the default is to be, or lets unnamed calls through (runc does the
 * same). The check stands before libseccomp's program:
 *
 *	ld arch;  jne native, program
 *	ld nr;    jge x32 bit, program;  jle highest, program
 *	ret ERRNO|ENOSYS
 *	program: ...
 *
 * Of linux.seccomp.architectures only the native one goes into the program: the guest's kernel
 * runs nothing else, and three architectures take libseccomp ten times as long (15 ms on a fast
 * machine). A call of an architecture that is listed and left out gets the default action, should
 * there ever be one; of one that is not listed, libseccomp's: the thread is killed.
 *
 * Names that libseccomp does not know are passed over, as in every runtime: profiles are written
 * for more architectures and newer kernels than one's own. So are rules that say what the default
 * says.
 */
#include "agent/seccomp.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <ctype.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define X32_BIT 0x40000000u

static void ctx_freep(scmp_filter_ctx *ctx)
{
	if (*ctx)
		seccomp_release(*ctx);
}
#define cleanup_ctx __attribute__((cleanup(ctx_freep)))

static int action(enum oci_seccomp_action a, const struct oci_opt_u32 *ret, uint32_t *out,
		  struct error *err)
{
	unsigned v = ret->has ? ret->v : EPERM;

	switch (a) {
	case OCI_ACT_KILL_THREAD:
		*out = SCMP_ACT_KILL_THREAD;
		return 0;
	case OCI_ACT_KILL_PROCESS:
		*out = SCMP_ACT_KILL_PROCESS;
		return 0;
	case OCI_ACT_TRAP:
		*out = SCMP_ACT_TRAP;
		return 0;
	case OCI_ACT_ERRNO:
		*out = SCMP_ACT_ERRNO(v);
		return 0;
	case OCI_ACT_TRACE:
		*out = SCMP_ACT_TRACE(v);
		return 0;
	case OCI_ACT_ALLOW:
		*out = SCMP_ACT_ALLOW;
		return 0;
	case OCI_ACT_LOG:
		*out = SCMP_ACT_LOG;
		return 0;
	case OCI_ACT_NOTIFY:
	case OCI_ACT_COUNT:
		break;
	}
	return error_kind(err, ERR_UNSUPPORTED, "action %s is not supported",
			  oci_seccomp_action_name(a));
}

static enum scmp_compare compare_op(enum oci_seccomp_op op)
{
	static const enum scmp_compare ops[OCI_CMP_COUNT] = {
		[OCI_CMP_NE] = SCMP_CMP_NE,
		[OCI_CMP_LT] = SCMP_CMP_LT,
		[OCI_CMP_LE] = SCMP_CMP_LE,
		[OCI_CMP_EQ] = SCMP_CMP_EQ,
		[OCI_CMP_GE] = SCMP_CMP_GE,
		[OCI_CMP_GT] = SCMP_CMP_GT,
		[OCI_CMP_MASKED_EQ] = SCMP_CMP_MASKED_EQ,
	};

	return ops[op];
}

/* "SCMP_ARCH_X86_64" to libseccomp's number; 0 if it has none. */
static uint32_t arch_token(const char *name)
{
	char low[32];
	size_t i;

	if (strncmp(name, "SCMP_ARCH_", 10) != 0)
		return 0;
	for (i = 0; name[10 + i] && i < sizeof(low) - 1; i++)
		low[i] = (char)tolower((unsigned char)name[10 + i]);
	low[i] = '\0';
	return seccomp_arch_resolve_name(low);
}

static int failed(int rc, struct error *err, const char *what)
{
	errno = -rc;
	return error_errno(err, "%s", what);
}

/* One condition set for one call. libseccomp takes one condition an argument: where a profile has
 * several for the same one, each becomes a rule of its own (any of them may match), as in runc. */
static int add_call(scmp_filter_ctx ctx, uint32_t act, int nr, const struct oci_seccomp_rule *r)
{
	struct scmp_arg_cmp cmp[6];
	unsigned seen = 0, twice = 0, n = 0;
	int rc;

	for (size_t i = 0; i < r->n_args; i++) {
		twice |= seen & (1u << r->args[i].index);
		seen |= 1u << r->args[i].index;
	}
	for (size_t i = 0; i < r->n_args; i++) {
		const struct oci_seccomp_arg *a = &r->args[i];
		struct scmp_arg_cmp c = {a->index, compare_op(a->op), a->value, a->value_two};

		if (!twice) {
			cmp[n++] = c;
			continue;
		}
		rc = seccomp_rule_add_array(ctx, act, nr, 1, &c);
		if (rc < 0 && rc != -EEXIST)
			return rc;
	}
	if (twice)
		return 0;
	rc = seccomp_rule_add_array(ctx, act, nr, n, cmp);
	return rc == -EEXIST ? 0 : rc;
}

static int add_rule(scmp_filter_ctx ctx, const struct oci_seccomp *s, size_t i, uint32_t def,
		    struct error *err)
{
	const struct oci_seccomp_rule *r = &s->rules[i];
	uint32_t act;

	if (action(r->action, &r->errno_ret, &act, err) < 0)
		return error_wrap(err, "linux.seccomp.syscalls[%zu].action", i);
	if (act == def)
		return 0;
	for (size_t j = 0; j < r->n_args; j++)
		if (r->args[j].index > 5)
			return error_kind(err, ERR_INVALID,
					  "linux.seccomp.syscalls[%zu].args[%zu].index: %u is "
					  "above 5",
					  i, j, r->args[j].index);
	for (size_t j = 0; j < r->n_names; j++) {
		int nr = seccomp_syscall_resolve_name(r->names[j]);
		int rc = nr == __NR_SCMP_ERROR ? 0 : add_call(ctx, act, nr, r);

		if (rc < 0) {
			failed(rc, err, r->names[j]);
			return error_wrap(err, "linux.seccomp.syscalls[%zu]", i);
		}
	}
	return 0;
}

static int export(scmp_filter_ctx ctx, char **text, size_t *len, struct error *err)
{
	cleanup_close int fd = memfd_create("seccomp", MFD_CLOEXEC);
	int rc;

	if (fd < 0)
		return error_errno(err, "memfd_create");
	rc = seccomp_export_bpf(ctx, fd);
	if (rc < 0)
		return failed(rc, err, "compile the filter");
	if (lseek(fd, 0, SEEK_SET) < 0)
		return error_errno(err, "lseek");
	{
		cleanup_free char *buf = xcalloc(BPF_MAXINSNS + 1, sizeof(struct sock_filter));
		ssize_t n = read(fd, buf, (BPF_MAXINSNS + 1) * sizeof(struct sock_filter));

		if (n <= 0 || (size_t)n % sizeof(struct sock_filter) != 0 ||
		    (size_t)n > BPF_MAXINSNS * sizeof(struct sock_filter))
			return error_set(err, "the filter is larger than %d instructions",
					 BPF_MAXINSNS);
		*len = (size_t)n;
		*text = steal_ptr(&buf);
	}
	return 0;
}

/* The highest number that the profile names, or -1. */
static int64_t highest_call(const struct oci_seccomp *s)
{
	int64_t max = -1;

	for (size_t i = 0; i < s->n_rules; i++)
		for (size_t j = 0; j < s->rules[i].n_names; j++) {
			int nr = seccomp_syscall_resolve_name(s->rules[i].names[j]);

			if (nr >= 0 && nr > max)
				max = nr;
		}
	return max;
}

static bool wants_enosys(const struct oci_seccomp *s)
{
	return !s->default_errno_ret.has && s->default_action != OCI_ACT_ALLOW &&
	       s->default_action != OCI_ACT_LOG && s->default_action != OCI_ACT_TRACE;
}

#define PROLOGUE_INSNS 6

/* The prologue of the head of this file. */
static void prologue(uint32_t highest, struct sock_filter f[PROLOGUE_INSNS])
{
	const unsigned nr = offsetof(struct seccomp_data, nr);
	const unsigned arch = offsetof(struct seccomp_data, arch);
	const struct sock_filter insns[PROLOGUE_INSNS] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, arch),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, seccomp_arch_native(), 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, nr),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, highest, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
	};

	memcpy(f, insns, sizeof(insns));
}

/* See the head of this file: the list is only looked at for what is left out of it. */
static int set_arches(scmp_filter_ctx ctx, const struct oci_seccomp *s, uint32_t def,
		      struct error *err)
{
	int rc;

	for (size_t i = 0; i < s->n_architectures; i++) {
		if (arch_token(s->architectures[i]) == seccomp_arch_native())
			continue;
		rc = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, def);
		return rc < 0 ? failed(rc, err, "linux.seccomp.architectures") : 0;
	}
	return 0;
}

static struct seccomp_prog *assemble(const struct oci_seccomp *s, scmp_filter_ctx ctx,
				     struct error *err)
{
	int64_t highest = wants_enosys(s) ? highest_call(s) : -1;
	size_t n = highest >= 0 ? PROLOGUE_INSNS : 0, len = 0;
	cleanup_free char *body = NULL;
	struct seccomp_prog *p;

	if (export(ctx, &body, &len, err) < 0)
		return NULL;
	if (n + len / sizeof(struct sock_filter) > BPF_MAXINSNS) {
		error_set(err, "the filter is larger than %d instructions", BPF_MAXINSNS);
		return NULL;
	}
	p = xcalloc(1, sizeof(*p));
	p->n = (unsigned short)(n + len / sizeof(struct sock_filter));
	p->insns = xcalloc(p->n, sizeof(*p->insns));
	if (n)
		prologue((uint32_t)highest, p->insns);
	memcpy(p->insns + n, body, len);
	p->flags = s->flags;
	return p;
}

struct seccomp_prog *seccomp_prog_compile(const struct oci_seccomp *s, struct error *err)
{
	cleanup_ctx scmp_filter_ctx ctx = NULL;
	struct seccomp_prog *p;
	uint32_t def;

	if (action(s->default_action, &s->default_errno_ret, &def, err) < 0) {
		error_wrap(err, "linux.seccomp.defaultAction");
		return NULL;
	}
	ctx = seccomp_init(def);
	if (!ctx) {
		error_set(err, "linux.seccomp: cannot make a filter");
		return NULL;
	}
	if (set_arches(ctx, s, def, err) < 0)
		return NULL;
	for (size_t i = 0; i < s->n_rules; i++)
		if (add_rule(ctx, s, i, def, err) < 0)
			return NULL;
	p = assemble(s, ctx, err);
	if (!p)
		error_wrap(err, "linux.seccomp");
	return p;
}

void seccomp_prog_free(struct seccomp_prog *p)
{
	if (!p)
		return;
	free(p->insns);
	free(p);
}

int seccomp_prog_load(const struct seccomp_prog *p, struct error *err)
{
	struct sock_fprog prog = {.len = p->n, .filter = p->insns};

	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, p->flags, &prog) != 0)
		return error_errno(err, "linux.seccomp: load the filter");
	return 0;
}
