/*
 * check: what this host offers, as a table, with the command that mends each 'no'.
 */
#include "lib/cleanup.h"
#include "lib/file.h"
#include "shim/kvm_probe.h"
#include "shim/paths.h"
#include "shim/verbs.h"

#include <fcntl.h>
#include <string.h>
#include <sys/statfs.h>

#define CGROUP2_MAGIC 0x63677270

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
	cleanup_free char *text = NULL;
	char found[64] = "";

	if (file_read(AT_FDCWD, "/proc/cpuinfo", 4u << 20, &text, NULL, NULL) < 0)
		text = xstrdup("");
	if (strstr(text, " vmx "))
		strcat(found, "vmx ");
	if (strstr(text, " svm "))
		strcat(found, "svm ");
	row("CPU", found[0] != '\0', false, found[0] ? found : "neither vmx nor svm",
	    "enable virtualisation in the firmware, or nested virtualisation on the machine's "
	    "host");
}

static void kvm_row(void)
{
	struct error err = ERROR_INIT;
	enum kvm_verdict v = kvm_probe(&err);

	row("/dev/kvm", v == KVM_RUNS, false,
	    v == KVM_RUNS	? "runs ordinary guests"
	    : v == KVM_EMULATES ? "opens, but runs guest kernels by instruction emulation: unusable"
				: err.msg,
	    v == KVM_RUNS ? ""
			  : "load kvm_intel or kvm_amd on a host with hardware virtualisation");
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

static void tun_row(void)
{
	cleanup_close int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	row("/dev/net/tun", fd >= 0, false, fd >= 0 ? "opens" : strerror(errno),
	    "not used yet; later for the network: modprobe tun");
}

int cmd_check(const struct globals *g UNUSED, int argc, char **argv, struct error *err)
{
	const struct option_def defs[] = {{0}};
	int first = verb_options(argc, argv, defs, "check", "", 0, 0, err);

	if (first < 0)
		return -1;
	missing = 0;
	row("root", geteuid() == 0, true, geteuid() == 0 ? "uid 0" : "not root",
	    "run husk as root");
	cpu_row();
	kvm_row();
	path_row("QEMU", path_qemu, true);
	printf("%-18s %-4s %s\n", "engine", "",
	       "qemu (TCG): a compatibility mode; QEMU does not call "
	       "TCG a security boundary");
	path_row("husk-vmm", path_vmm, true);
	path_row("kernel", path_kernel, true);
	path_row("initramfs", path_initramfs, true);
	path_row("mkfs.ext4", find_mkfs_ext4, true);
	path_row("data directory", path_data, true);
	tun_row();
	path_row("virtiofsd", path_virtiofsd, false);
	printf("%-18s %-4s %s\n", "cgroups", "", cgroup_version());
	printf("\n%s\n", missing ? "husk cannot run containers here: see the lines marked 'needed'."
				 : "husk can run containers here.");
	return missing ? 1 : 0;
}
