/*
 * check: what this host offers, as a table, with the command that mends each 'no'.
 */
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "lib/size.h"
#include "netns/dump.h"
#include "netns/netns.h"
#include "netns/tap.h"
#include "shim/annotations.h"
#include "shim/config_file.h"
#include "shim/kernel_config.h"
#include "shim/kvm_probe.h"
#include "shim/machine_size.h"
#include "shim/paths.h"
#include "shim/scratch.h"
#include "shim/verbs.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <sys/wait.h>

#define CGROUP2_MAGIC 0x63677270
#define SHMEM_ENABLED "/sys/kernel/mm/transparent_hugepage/shmem_enabled"

static int missing;

static void row(const char *what, bool ok, bool needed, const char *value, const char *mend)
{
	printf("%-18s %-4s %s\n", what, ok ? "yes" : "no", value);
	if (ok)
		return;
	if (mend && mend[0])
		printf("%-18s %-4s   %s%s\n", "", "", needed ? "needed: " : "", mend);
	if (needed)
		missing++;
}

/* A file or program that one of the path_*() functions finds. */
static void path_row(const char *what, char *(*find)(struct error *), bool needed)
{
	struct error err = ERROR_INIT;
	cleanup_free char *path = find(&err);

	row(what, path != NULL, needed, path ? path : "not found", err.msg);
}

static char *find_mkfs_ext4(struct error *err)
{
	return path_program("mkfs.ext4", "e2fsprogs", err);
}

static void cpu_row(void)
{
	const char *has = choice_cpu_extension();

	row("CPU", has, false, has ? has : "neither vmx nor svm",
	    "enable virtualisation in the firmware, or nested virtualisation on the machine's "
	    "host");
}

static enum kvm_verdict kvm_row(void)
{
	struct error err = ERROR_INIT;
	uint64_t begun = now_us();
	enum kvm_verdict v = kvm_probe(&err);

	log_elapsed("does /dev/kvm run guests", begun);
	row("/dev/kvm", v == KVM_RUNS, false,
	    v == KVM_RUNS	? "runs ordinary guests"
	    : v == KVM_EMULATES ? "opens, but runs guest kernels by instruction emulation: unusable"
				: err.msg,
	    v == KVM_RUNS ? ""
			  : "load kvm_intel or kvm_amd on a host with hardware virtualisation");
	return v;
}

/* Guests of engine kvm get them unless the host denies them to all shared memory. */
static void huge_pages_row(void)
{
	cleanup_free char *text = NULL;
	bool has = file_read(AT_FDCWD, SHMEM_ENABLED, 256, &text, NULL, NULL) == 0;
	bool ok = has && !strstr(text, "[deny]");

	row("huge pages", ok, false,
	    ok	  ? "a guest's memory has them"
	    : has ? "denied to a guest's memory: guests start slower"
		  : "not in this host's kernel: guests start slower",
	    has ? "echo never >" SHMEM_ENABLED " (\"never\" leaves it to the file system)" : "");
}

/* Which one would run a container, and why. Returns whether that is QEMU. */
static bool engine_row(const struct choice_wish *wish, enum kvm_verdict kvm)
{
	struct error err = ERROR_INIT;
	cleanup_free char *value = NULL;
	struct choice c;

	if (choice_engine(wish, NULL, &c, &err) < 0) {
		row("engine", false, true, err.msg, "");
		return false;
	}
	if (!choice_is_kvm(&c)) {
		value = xasprintf("qemu without KVM (%s%s): a compatibility mode; QEMU does not "
				  "call this a security boundary",
				  c.automatic ? "" : "from ",
				  c.automatic ? c.why_not_kvm : c.said_by);
		row("engine", true, false, value, "");
		return true;
	}
	value = xasprintf("kvm (%s%s)", c.automatic ? "" : "from ",
			  c.automatic ? "the host runs guests on hardware" : c.said_by);
	row("engine", kvm == KVM_RUNS || (!c.automatic && kvm == KVM_EMULATES), true, value,
	    "this host's KVM runs no guests: mend it as said above, or use --engine qemu");
	if (kvm == KVM_EMULATES && !c.automatic)
		printf("%-18s %-4s   %s\n", "", "",
		       "only a kernel made for such a KVM gets anywhere (--kernel); others: "
		       "--engine qemu");
	return false;
}

static void qemu_row(bool needed)
{
	path_row("QEMU", choice_qemu, needed);
}

/* What the kernel cannot do, where the configuration that it was built with lies beside it. */
static void kernel_config_row(const char *path)
{
	struct error err = ERROR_INIT;
	cleanup_free char *text = NULL, *needed = NULL, *wanted = NULL;
	int r = kernel_config_read(path, &text, &err);

	if (r <= 0) {
		printf("%-18s %-4s %s\n", "kernel's options", "",
		       r < 0 ? err.msg : "not known: no configuration lies beside the kernel");
		return;
	}
	needed = kernel_config_lacks(text, true);
	row("kernel's options", !needed, true, needed ? needed : "all that containers need",
	    "a kernel that has these built in: 'make kernel' builds one");
	wanted = kernel_config_lacks(text, false);
	if (wanted)
		printf("%-18s %-4s   some containers need more: %s\n", "", "", wanted);
}

static void kernel_row(const struct choice_wish *wish)
{
	struct error err = ERROR_INIT;
	cleanup_free char *path = choice_kernel(wish, &err);

	row("kernel", path, true, path ? path : "not found", err.msg);
	if (path)
		kernel_config_row(path);
}

static const char *cgroup_version(void)
{
	struct statfs st;

	if (statfs("/sys/fs/cgroup", &st) == 0 && st.f_type == CGROUP2_MAGIC)
		return "v2 (unified)";
	if (access("/sys/fs/cgroup/unified", F_OK) == 0)
		return "v1 and v2 (hybrid)";
	if (access("/sys/fs/cgroup/memory", F_OK) == 0)
		return "v1";
	return "none mounted";
}

static bool tun_row(void)
{
	cleanup_close int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	row("/dev/net/tun", fd >= 0, false, fd >= 0 ? "opens" : strerror(errno),
	    "containers with a network interface need it: modprobe tun");
	return fd >= 0;
}

/* A link in a network namespace of this process's own, wired as a container's would be. */
static int try_wiring(enum net_wiring wiring, struct error *err)
{
	cleanup_close int tun = -1, tap = -1;
	struct ifreq ifr = {.ifr_name = "check", .ifr_flags = IFF_TAP | IFF_NO_PI};
	const struct tap_options o = {.owner = "check", .queues = 1, .wiring = wiring};
	cleanup_net_config struct net_config c = {0};
	const struct net_link *l;
	char holder[64];

	if (netns_new(err) < 0)
		return -1;
	tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (tun < 0 || tap < 0 || ioctl(tun, TUNSETIFF, &ifr) < 0)
		return error_errno(err, "make a TAP");
	if (netns_dump(&c, err) < 0)
		return -1;
	l = net_config_link_named(&c, "check");
	if (!l)
		return error_set(err, "a TAP that was made is not there");
	if (tap_make(&tap, l, &o, holder, sizeof(holder), err) < 0)
		return -1;
	return tap_wire(l, &o, err);
}

/* In a process of its own, which the namespace goes with. What is wrong is written to a pipe. */
static bool wiring_works(enum net_wiring wiring, struct error *err)
{
	int reader = -1, writer = -1, status;
	struct error why = ERROR_INIT;
	ssize_t n;
	pid_t pid;

	if (pipe_make(&reader, &writer, err) < 0)
		return false;
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		if (try_wiring(wiring, &why) < 0)
			write_all(writer, why.msg, strlen(why.msg), NULL);
		_exit(0);
	}
	close_fd(&writer);
	n = pid < 0 ? -1 : read(reader, why.msg, sizeof(why.msg) - 1);
	close_fd(&reader);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (n > 0)
		error_set(err, "%s", why.msg);
	else if (n < 0)
		error_errno(err, "look at the network");
	return n == 0;
}

static void wiring_row(bool has_tun)
{
	struct error tc = ERROR_INIT, bridge = ERROR_INIT;
	bool has_tc;

	if (!has_tun || geteuid() != 0) {
		row("network wiring", false, false, "not tried", "");
		return;
	}
	has_tc = wiring_works(NET_WIRING_TC, &tc);
	if (has_tc || !wiring_works(NET_WIRING_BRIDGE, &bridge))
		row("network wiring", has_tc, false, has_tc ? "tc" : tc.msg,
		    "containers with a network interface need it: modprobe -a sch_ingress "
		    "cls_u32 act_mirred");
	else
		printf("%-18s %-4s bridges, since tc does not do: %s\n%-18s %-4s   macvlan and "
		       "ipvlan need tc: modprobe -a sch_ingress cls_u32 act_mirred\n",
		       "network wiring", "yes", tc.msg, "", "");
}

static void vhost_row(void)
{
	cleanup_config_file struct config_file file = {0};
	struct error err = ERROR_INIT;
	bool ok;

	if (config_file_load(&file, &err) < 0 || !file.vhost_net)
		return;
	ok = access("/dev/vhost-net", R_OK | W_OK) == 0;
	row("/dev/vhost-net", ok, false, ok ? "is there" : strerror(errno),
	    "packets go by husk-vmm without it, slower: modprobe vhost_net");
}

/* ---- the host's settings */

static const char *amount(uint64_t said, uint64_t otherwise, char buf[SIZE_TEXT])
{
	return size_text(said ? said : otherwise, buf);
}

static void list_row(const char *what, const struct config_list *l)
{
	printf("%-18s %-4s %s:", "", "", what);
	for (size_t i = 0; i < l->n; i++)
		printf(" %s", l->v[i]);
	printf("%s\n", l->n ? "" : " none");
}

static void annotations_row(const struct config_file *f)
{
	bool any = false;

	printf("%-18s %-4s ", "annotations", "");
	for (const char *const *name = annotation_names; *name; name++)
		if (annotation_allowed(f, *name)) {
			printf("%s%s", any ? ", " : "", *name);
			any = true;
		}
	printf("%s (%s)\n", any ? "" : "none", f->annotations.given ? "the file" : "the default");
}

/* What containers get that say nothing, and what they may say. */
static void settings_rows(void)
{
	cleanup_config_file struct config_file f = {0};
	struct error err = ERROR_INIT;
	char a[SIZE_TEXT], b[SIZE_TEXT], c[SIZE_TEXT];
	struct host_size host;

	host_size(&host);
	if (config_file_load(&f, &err) < 0) {
		row("configuration", false, true, "the file cannot be used", err.msg);
		return;
	}
	printf("%-18s %-4s %s\n", "configuration", "",
	       f.path ? f.path : "no " CONFIG_FILE ": what is built in");
	printf("%-18s %-4s memory %s%s, a pod's %s%s, at most %s%s\n", "machines", "",
	       amount(f.memory.def, SIZE_MEMORY_DEFAULT, a), f.memory.def ? " (the file)" : "",
	       amount(f.memory.pod, SIZE_MEMORY_POD, b), f.memory.pod ? " (the file)" : "",
	       amount(f.memory.max, host.mem_bytes >> 20 << 20, c),
	       f.memory.max ? " (the file)" : " (the host's)");
	printf("%-18s %-4s vCPUs %u%s, a pod's %u%s, at most %u%s\n", "", "",
	       f.vcpus.def ? f.vcpus.def : 1, f.vcpus.def ? " (the file)" : "",
	       f.vcpus.pod ? f.vcpus.pod : SIZE_VCPUS_POD, f.vcpus.pod ? " (the file)" : "",
	       f.vcpus.max ? f.vcpus.max : host.cpus,
	       f.vcpus.max ? " (the file)" : " (the host's)");
	printf("%-18s %-4s %s%s, at most %s%s\n", "scratch disks", "",
	       amount(f.scratch.def, SCRATCH_DEFAULT, a), f.scratch.def ? " (the file)" : "",
	       amount(f.scratch.max, SCRATCH_MAX, b), f.scratch.max ? " (the file)" : "");
	printf("%-18s %-4s %s\n", "guests' consoles", "", f.console ? f.console : "not kept");
	annotations_row(&f);
	printf("%-18s %-4s what config.json may name\n", "section vm", "");
	list_row("kernels", &f.kernels);
	list_row("initrds", &f.initrds);
	list_row("hypervisors", &f.hypervisors);
}

int cmd_check(const struct globals *g, int argc, char **argv, struct error *err)
{
	const struct option_def defs[] = {{0}};
	int first = verb_options(argc, argv, defs, "check", "", 0, 0, err);

	if (first < 0)
		return -1;
	missing = 0;
	row("root", geteuid() == 0, true, geteuid() == 0 ? "uid 0" : "not root",
	    "run husk as root");
	cpu_row();
	qemu_row(engine_row(&g->wish, kvm_row()));
	huge_pages_row();
	path_row("husk-vmm", path_vmm, true);
	kernel_row(&g->wish);
	path_row("initramfs", path_initramfs, true);
	path_row("mkfs.ext4", find_mkfs_ext4, true);
	path_row("data directory", path_data, true);
	wiring_row(tun_row());
	vhost_row();
	path_row("virtiofsd", path_virtiofsd, false);
	printf("%-18s %-4s %s\n", "cgroups", "", cgroup_version());
	settings_rows();
	printf("\n%s\n", missing ? "husk cannot run containers here: see the lines marked 'needed'."
				 : "husk can run containers here.");
	return missing ? 1 : 0;
}
