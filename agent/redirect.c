/*
 * redirect.c - a port that is somewhere else.
 *
 * The name server of a container is 127.0.0.11, port 53. If the agent were bound to it, a container
 * could not serve names itself: bind(2) to port 53 of all addresses would fail. (Docker's own is at
 * a port of the kernel's choice, by rules of netfilter; those would be seen, and be in the way of a
 * container's own, and of all of its packets.)
 *
 * So small BPF programs at the root of the cgroups change the port where a process names its peer,
 * and change it back where the kernel does: connect(2) and sendto(2) on the way there, recvfrom(2)
 * and getpeername(2) on the way back. Sockets of IPv6 reach the address as ::ffff:127.0.0.11 (their
 * sendto(2) gets to the program of IPv4). Packets themselves are never looked at.
 */
#include "agent/redirect.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <stddef.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>

#define INSNS_MAX 24

struct program {
	struct bpf_insn insns[INSNS_MAX];
	unsigned n;
};

static void emit(struct program *p, struct bpf_insn insn)
{
	p->insns[p->n++] = insn;
}

/* Goes on if the member of the context is `value`; the end's distance is filled in by finish(). */
static void require(struct program *p, size_t member, uint32_t value)
{
	emit(p, (struct bpf_insn){.code = BPF_LDX | BPF_MEM | BPF_W,
				  .dst_reg = 2,
				  .src_reg = 1,
				  .off = (int16_t)member});
	emit(p, (struct bpf_insn){
			.code = BPF_JMP32 | BPF_JNE | BPF_K, .dst_reg = 2, .imm = (int32_t)value});
}

static void finish(struct program *p)
{
	for (unsigned i = 0; i < p->n; i++)
		if (p->insns[i].code == (BPF_JMP32 | BPF_JNE | BPF_K))
			p->insns[i].off = (int16_t)(p->n - i - 1);
	emit(p, (struct bpf_insn){.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 1});
	emit(p, (struct bpf_insn){.code = BPF_JMP | BPF_EXIT});
}

static void make(struct program *p, bool ipv6, struct in_addr address, uint16_t from, uint16_t to)
{
	const size_t ip6 = offsetof(struct bpf_sock_addr, user_ip6);

	*p = (struct program){0};
	if (ipv6) {
		require(p, ip6, 0);
		require(p, ip6 + 4, 0);
		require(p, ip6 + 8, htonl(0xffff));
		require(p, ip6 + 12, address.s_addr);
	} else {
		require(p, offsetof(struct bpf_sock_addr, user_ip4), address.s_addr);
	}
	require(p, offsetof(struct bpf_sock_addr, user_port), htons(from));
	emit(p, (struct bpf_insn){
			.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 2, .imm = htons(to)});
	emit(p, (struct bpf_insn){.code = BPF_STX | BPF_MEM | BPF_W,
				  .dst_reg = 1,
				  .src_reg = 2,
				  .off = offsetof(struct bpf_sock_addr, user_port)});
	finish(p);
}

static int bpf(int cmd, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

static int install(int cgroup, enum bpf_attach_type type, const struct program *p,
		   struct error *err)
{
	union bpf_attr load = {
		.prog_type = BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
		.expected_attach_type = type,
		.insns = (uint64_t)(uintptr_t)p->insns,
		.insn_cnt = p->n,
		.license = (uint64_t)(uintptr_t) "",
	};
	cleanup_close int fd = bpf(BPF_PROG_LOAD, &load);
	union bpf_attr attach = {
		.target_fd = (uint32_t)cgroup,
		.attach_bpf_fd = (uint32_t)fd,
		.attach_type = type,
		.attach_flags = BPF_F_ALLOW_MULTI,
	};

	if (fd < 0)
		return error_errno(err, "load the program that redirects a port");
	if (bpf(BPF_PROG_ATTACH, &attach) < 0)
		return error_errno(err, "attach the program that redirects a port");
	return 0;
}

int redirect_port(struct in_addr address, uint16_t from, uint16_t to, struct error *err)
{
	static const struct {
		enum bpf_attach_type type;
		bool ipv6, back;
	} places[] = {
		{BPF_CGROUP_INET4_CONNECT, false, false},
		{BPF_CGROUP_INET6_CONNECT, true, false},
		{BPF_CGROUP_UDP4_SENDMSG, false, false},
		{BPF_CGROUP_UDP4_RECVMSG, false, true},
		{BPF_CGROUP_UDP6_RECVMSG, true, true},
		{BPF_CGROUP_INET4_GETPEERNAME, false, true},
		{BPF_CGROUP_INET6_GETPEERNAME, true, true},
	};
	cleanup_close int cgroup = -1;

	/* A test's machine is not to be changed. */
	if (getpid() != 1)
		return error_kind(err, ERR_UNSUPPORTED, "a port is redirected in guests alone");
	cgroup = open("/sys/fs/cgroup", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (cgroup < 0)
		return error_errno(err, "/sys/fs/cgroup");
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		bool back = places[i].back;
		struct program p;

		make(&p, places[i].ipv6, address, back ? to : from, back ? from : to);
		if (install(cgroup, places[i].type, &p, err) < 0)
			return -1;
	}
	return 0;
}
