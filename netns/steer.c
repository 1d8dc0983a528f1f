/*
 * A BPF program of type sk_lookup is asked by the kernel which socket a connection is for, before
 * the kernel looks for one itself. This one answers with the only socket of its map for what is
 * TCP, IPv4 and to 127.0.0.1, and leaves all the rest to the kernel. No packet is changed, no rule
 * is made that somebody could see or be hindered by, and the link that holds the program there ends
 * with its descriptor.
 */
#include "netns/steer.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define MEMBER(name) ((int16_t)offsetof(struct bpf_sk_lookup, name))
#define INSN(...) ((struct bpf_insn){__VA_ARGS__})
#define LOAD(reg, member) \
	INSN(.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = (reg), .src_reg = 1, .off = (member))
/* Those jumps lead to the end, `to` instructions on. */
#define UNLESS(reg, value, to)                                                               \
	INSN(.code = BPF_JMP32 | BPF_JNE | BPF_K, .dst_reg = (reg), .imm = (int32_t)(value), \
	     .off = (to))
#define MOV(to, from) INSN(.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = (to), .src_reg = (from))
#define SET(reg, value) INSN(.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = (reg), .imm = (value))
#define CALL(function) INSN(.code = BPF_JMP | BPF_CALL, .imm = (function))

static int bpf(int cmd, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

/* What a kernel without it, or one that does not let us, answers. */
static int cannot(struct error *err, const char *what)
{
	enum error_kind kind =
		errno == EINVAL || errno == ENOSYS || errno == EPERM ? ERR_UNSUPPORTED : ERR_OTHER;

	return error_kind(err, kind, "%s: %s", what, strerror(errno));
}

static int make_map(int listener, struct error *err)
{
	uint32_t key = 0;
	uint64_t value = (uint64_t)listener;
	union bpf_attr make = {.map_type = BPF_MAP_TYPE_SOCKMAP,
			       .key_size = sizeof(key),
			       .value_size = sizeof(value),
			       .max_entries = 1};
	cleanup_close int map = bpf(BPF_MAP_CREATE, &make);
	union bpf_attr put = {.map_fd = (uint32_t)map,
			      .key = (uint64_t)(uintptr_t)&key,
			      .value = (uint64_t)(uintptr_t)&value};

	if (map < 0)
		return cannot(err, "make a map of sockets");
	if (bpf(BPF_MAP_UPDATE_ELEM, &put) < 0)
		return cannot(err, "put the socket into its map");
	return steal_fd(&map);
}

static int load(int map, struct error *err)
{
	const struct bpf_insn insns[] = {
		MOV(6, 1),
		LOAD(2, MEMBER(family)),
		UNLESS(2, AF_INET, 18),
		LOAD(2, MEMBER(protocol)),
		UNLESS(2, IPPROTO_TCP, 16),
		LOAD(2, MEMBER(local_ip4)),
		UNLESS(2, htonl(INADDR_LOOPBACK), 14),
		/* the socket: the value of key 0 */
		INSN(.code = BPF_ST | BPF_MEM | BPF_W, .dst_reg = 10, .off = -4),
		INSN(.code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = 1, .src_reg = BPF_PSEUDO_MAP_FD,
		     .imm = map),
		INSN(.code = 0),
		MOV(2, 10),
		INSN(.code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = 2, .imm = -4),
		CALL(BPF_FUNC_map_lookup_elem),
		INSN(.code = BPF_JMP | BPF_JEQ | BPF_K, .dst_reg = 0, .off = 7),
		MOV(7, 0),
		MOV(1, 6),
		MOV(2, 7),
		SET(3, 0),
		CALL(BPF_FUNC_sk_assign),
		MOV(1, 7),
		CALL(BPF_FUNC_sk_release),
		SET(0, SK_PASS),
		INSN(.code = BPF_JMP | BPF_EXIT),
	};
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_SK_LOOKUP,
		.expected_attach_type = BPF_SK_LOOKUP,
		.insns = (uint64_t)(uintptr_t)insns,
		.insn_cnt = ARRAY_LEN(insns),
		.license = (uint64_t)(uintptr_t) "",
	};
	int prog = bpf(BPF_PROG_LOAD, &attr);

	return prog < 0 ? cannot(err, "load the program that steers localhost") : prog;
}

int netns_steer_localhost(int listener, struct error *err)
{
	cleanup_close int map = make_map(listener, err);
	cleanup_close int prog = map < 0 ? -1 : load(map, err);
	cleanup_close int ns = -1;
	union bpf_attr attach;
	int link;

	if (prog < 0)
		return -1;
	ns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (ns < 0)
		return error_errno(err, "/proc/thread-self/ns/net");
	attach = (union bpf_attr){.link_create = {.prog_fd = (uint32_t)prog,
						  .target_fd = (uint32_t)ns,
						  .attach_type = BPF_SK_LOOKUP}};
	link = bpf(BPF_LINK_CREATE, &attach);
	return link < 0 ? cannot(err, "attach the program that steers localhost") : link;
}
