/*
 * The device filter.
 *
 * cgroup v2 has no devices controller: the kernel runs a BPF program on each mknod (access m)
 * and open (r, w, or both) of a device node, and refuses with EPERM if it returns 0.
 *
 * The rules form a list in which later ones override earlier ones, separately for each kind of
 * access: of "allow c 5:1 rw" followed by "deny c *:* w", r is left. So the program goes through
 * the list from its end, with the accesses that are asked for in a register:
 *
 *	a rule that does not match (type, major, minor) is jumped over;
 *	"allow" takes its accesses off the register; once that is 0, the answer is yes;
 *	"deny": if the register has one of its accesses, the answer is no;
 *	behind the first rule of the list: no.
 *
 * A rule that matches everything with all accesses ends the program: the ones before it cannot
 * matter.
 *
 * Registers: r2 type, r3 accesses left, r4 major, r5 minor, r0 the result, r1 the context.
 */
#include "agent/device_filter.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "oci/device_rules.h"

#include <string.h>
#include <sys/syscall.h>

#define ANY (-1)
#define ACC_M BPF_DEVCG_ACC_MKNOD
#define ACC_R BPF_DEVCG_ACC_READ
#define ACC_W BPF_DEVCG_ACC_WRITE
#define ACC_ALL (ACC_M | ACC_R | ACC_W)

struct rule {
	bool allow;
	char type; /* 'a', 'b', 'c' */
	int64_t major, minor;
	int access;
};

/* What runc lets every container do: make any node, and open these. */
static const struct rule defaults[] = {
	{true, 'c', ANY, ANY, ACC_M}, {true, 'b', ANY, ANY, ACC_M}, {true, 'c', 1, 3, ACC_ALL},
	{true, 'c', 1, 8, ACC_ALL},   {true, 'c', 1, 7, ACC_ALL},   {true, 'c', 5, 0, ACC_ALL},
	{true, 'c', 1, 5, ACC_ALL},   {true, 'c', 1, 9, ACC_ALL},   {true, 'c', 136, ANY, ACC_ALL},
	{true, 'c', 5, 2, ACC_ALL},
};

static int access_of(const char *s)
{
	int a = 0;

	if (!s)
		return ACC_ALL;
	for (; *s; s++)
		a |= *s == 'r' ? ACC_R : *s == 'w' ? ACC_W : *s == 'm' ? ACC_M : 0;
	return a;
}

static struct rule rule_of(const struct oci_device_rule *r)
{
	bool all = r->type == 'a';

	return (struct rule){
		.allow = r->allow,
		.type = r->type,
		.major = !all && r->major.has ? r->major.v : ANY,
		.minor = !all && r->minor.has ? r->minor.v : ANY,
		.access = access_of(r->access),
	};
}

/* ---- instructions */

static void emit(struct device_program *p, struct bpf_insn insn)
{
	p->insns[p->n++] = insn;
}

static struct bpf_insn jump_ne(uint8_t reg, int32_t imm)
{
	return (struct bpf_insn){.code = BPF_JMP | BPF_JNE | BPF_K, .dst_reg = reg, .imm = imm};
}

static struct bpf_insn alu(uint8_t op, uint8_t reg, int32_t imm)
{
	return (struct bpf_insn){.code = BPF_ALU | op | BPF_K, .dst_reg = reg, .imm = imm};
}

static void emit_return(struct device_program *p, int32_t value)
{
	emit(p, (struct bpf_insn){.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = value});
	emit(p, (struct bpf_insn){.code = BPF_JMP | BPF_EXIT});
}

static void emit_load(struct device_program *p, uint8_t reg, size_t offset)
{
	emit(p, (struct bpf_insn){.code = BPF_LDX | BPF_MEM | BPF_W,
				  .dst_reg = reg,
				  .src_reg = 1,
				  .off = (int16_t)offset});
}

static void emit_prologue(struct device_program *p)
{
	/* access_type: the access in the upper half, the type in the lower */
	emit_load(p, 2, offsetof(struct bpf_cgroup_dev_ctx, access_type));
	emit(p, alu(BPF_AND, 2, 0xffff));
	emit_load(p, 3, offsetof(struct bpf_cgroup_dev_ctx, access_type));
	emit(p, alu(BPF_RSH, 3, 16));
	emit_load(p, 4, offsetof(struct bpf_cgroup_dev_ctx, major));
	emit_load(p, 5, offsetof(struct bpf_cgroup_dev_ctx, minor));
}

#define PROLOGUE_INSNS 6
#define RULE_INSNS 8 /* at most */

/* Returns true if no rule before this one can matter. */
static bool emit_rule(struct device_program *p, const struct rule *r)
{
	size_t jumps[3], n = 0;

	if (r->type != 'a') {
		jumps[n++] = p->n;
		emit(p, jump_ne(2, r->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR));
	}
	if (r->major != ANY) {
		jumps[n++] = p->n;
		emit(p, jump_ne(4, (int32_t)r->major));
	}
	if (r->minor != ANY) {
		jumps[n++] = p->n;
		emit(p, jump_ne(5, (int32_t)r->minor));
	}
	if (n == 0 && r->access == ACC_ALL) {
		emit_return(p, r->allow);
		return true;
	}
	if (r->allow) {
		emit(p, alu(BPF_AND, 3, ACC_ALL & ~r->access));
		emit(p, jump_ne(3, 0));
		p->insns[p->n - 1].off = 2;
	} else {
		emit(p, (struct bpf_insn){
				.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = 0, .src_reg = 3});
		emit(p, alu(BPF_AND, 0, r->access));
		emit(p,
		     (struct bpf_insn){.code = BPF_JMP | BPF_JEQ | BPF_K, .dst_reg = 0, .off = 2});
	}
	emit_return(p, r->allow);
	for (size_t i = 0; i < n; i++)
		p->insns[jumps[i]].off = (int16_t)(p->n - jumps[i] - 1);
	return false;
}

/* What the rules say of the host's number, for the guest's. */
static struct rule rule_of_alias(const struct oci_device_rule *rules, size_t n,
				 const struct device_alias *a)
{
	static const struct {
		char letter;
		int access;
	} kinds[] = {{'r', ACC_R}, {'w', ACC_W}, {'m', ACC_M}};
	struct rule r = {.allow = true, .type = 'b', .major = a->major, .minor = a->minor};

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (oci_device_allowed(rules, n, 'b', a->host_major, a->host_minor,
				       kinds[i].letter))
			r.access |= kinds[i].access;
	return r;
}

void device_program_build(const struct oci_device_rule *rules, size_t n, unsigned disk_major,
			  const struct device_alias *aliases, size_t n_aliases,
			  struct device_program *out)
{
	size_t max = n + ARRAY_LEN(defaults) + 1 + n_aliases, k = 0;
	cleanup_free struct rule *list = xcalloc(max, sizeof(*list));
	bool done = false;

	for (size_t i = 0; i < n; i++)
		list[k++] = rule_of(&rules[i]);
	memcpy(list + k, defaults, sizeof(defaults));
	k += ARRAY_LEN(defaults);
	if (disk_major)
		list[k++] = (struct rule){false, 'b', disk_major, ANY, ACC_R | ACC_W};
	for (size_t i = 0; i < n_aliases; i++) {
		struct rule r = rule_of_alias(rules, n, &aliases[i]);

		if (r.access)
			list[k++] = r;
	}
	out->insns = xcalloc(PROLOGUE_INSNS + RULE_INSNS * k + 2, sizeof(*out->insns));
	out->n = 0;
	emit_prologue(out);
	while (k > 0 && !done)
		done = emit_rule(out, &list[--k]);
	if (!done)
		emit_return(out, 0);
}

void device_program_free(struct device_program *p)
{
	free(p->insns);
	p->insns = NULL;
	p->n = 0;
}

/* ---- the kernel */

static int bpf(int cmd, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

static int load(const struct device_program *p, struct error *err)
{
	cleanup_free char *log = NULL;
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
		.insns = (uint64_t)(uintptr_t)p->insns,
		.insn_cnt = (uint32_t)p->n,
		.license = (uint64_t)(uintptr_t) "",
	};
	int fd = bpf(BPF_PROG_LOAD, &attr);

	if (fd >= 0)
		return fd;
	log = xcalloc(1, 65536);
	attr.log_buf = (uint64_t)(uintptr_t)log;
	attr.log_size = 65536;
	attr.log_level = 1;
	fd = bpf(BPF_PROG_LOAD, &attr);
	return fd >= 0 ? fd : error_errno(err, "load the device filter: %.200s", log);
}

int device_filter_attach(int cgroup_fd, const struct device_program *p, int *prog_fd,
			 struct error *err)
{
	cleanup_close int fd = load(p, err);
	union bpf_attr attr = {
		.target_fd = (uint32_t)cgroup_fd,
		.attach_bpf_fd = (uint32_t)fd,
		.attach_type = BPF_CGROUP_DEVICE,
		.attach_flags = BPF_F_ALLOW_MULTI,
	};

	if (fd < 0)
		return -1;
	if (*prog_fd >= 0) {
		attr.attach_flags |= BPF_F_REPLACE;
		attr.replace_bpf_fd = (uint32_t)*prog_fd;
	}
	if (bpf(BPF_PROG_ATTACH, &attr) < 0)
		return error_errno(err, "attach the device filter");
	close_fd(prog_fd);
	*prog_fd = steal_fd(&fd);
	return 0;
}
