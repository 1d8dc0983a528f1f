/*
 * A guest's kernel has to find its devices, disks and root by itself: the initramfs holds the agent
 * and no modules. So an option counts only if it is built in ("=y").
 */
#include "shim/kernel_config.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <fcntl.h>
#include <string.h>

#define CONFIG_MAX (4u << 20)

static const struct {
	const char *name;
	bool needed;
} options[] = {
	/* the machine: without ACPI and PCI, which a microVM does not have */
	{"CONFIG_BLK_DEV_INITRD", true},
	{"CONFIG_VIRTIO_MMIO", true},
	{"CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES", true},
	{"CONFIG_X86_MPPARSE", true},
	{"CONFIG_VIRTIO_BLK", true},
	{"CONFIG_VIRTIO_VSOCKETS", true},
	{"CONFIG_HW_RANDOM_VIRTIO", false},
	{"CONFIG_VIRTIO_BALLOON", false},
	{"CONFIG_VIRTIO_NET", false},
	{"CONFIG_VIRTIO_FS", false},
	{"CONFIG_EARLY_PRINTK", false},
	{"CONFIG_KVM_GUEST", false},
	/* the container's root */
	{"CONFIG_EROFS_FS", true},
	{"CONFIG_OVERLAY_FS", true},
	{"CONFIG_EXT4_FS", true},
	{"CONFIG_TMPFS", true},
	{"CONFIG_DEVTMPFS", true},
	/* the container */
	{"CONFIG_CGROUPS", true},
	{"CONFIG_CGROUP_BPF", true},
	{"CONFIG_MEMCG", true},
	{"CONFIG_CGROUP_PIDS", true},
	{"CONFIG_UTS_NS", true},
	{"CONFIG_IPC_NS", true},
	{"CONFIG_PID_NS", true},
	{"CONFIG_NET_NS", true},
	{"CONFIG_SECCOMP_FILTER", true},
	{"CONFIG_POSIX_MQUEUE", true},
	{"CONFIG_USER_NS", false},
	{"CONFIG_TIME_NS", false},
};

/* The value of `name`: 'y', 'm', or 0 for all else. */
static char value_of(const char *text, const char *name)
{
	size_t len = strlen(name);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, len) != 0 || line[len] != '=')
			continue;
		if ((line[len + 1] == 'y' || line[len + 1] == 'm') &&
		    (line[len + 2] == '\n' || line[len + 2] == '\0'))
			return line[len + 1];
	}
	return 0;
}

char *kernel_config_lacks(const char *text, bool needed)
{
	char *lacks = NULL;

	for (size_t i = 0; i < ARRAY_LEN(options); i++) {
		cleanup_free char *before = NULL;
		char value;

		if (options[i].needed != needed)
			continue;
		value = value_of(text, options[i].name);
		if (value == 'y')
			continue;
		before = lacks;
		lacks = xasprintf("%s%s%s is %s", before ? before : "", before ? ", " : "",
				  options[i].name, value ? "a module" : "missing");
	}
	return lacks;
}

/* config-VERSION for vmlinuz-VERSION, or NULL. */
static char *beside_version(const char *dir, const char *name)
{
	if (strncmp(name, "vmlinuz-", 8) != 0 && strncmp(name, "vmlinux-", 8) != 0)
		return NULL;
	return xasprintf("%s/config-%s", dir, name + 8);
}

int kernel_config_read(const char *path, char **text, struct error *err)
{
	cleanup_free char *real = realpath(path, NULL);
	char *slash = real ? strrchr(real, '/') : NULL;
	char *places[3];
	int r = 0;

	if (!slash)
		return error_errno(err, "%s", path);
	*slash = '\0';
	places[0] = beside_version(real, slash + 1);
	places[1] = xasprintf("%s/.config", real);
	places[2] = xasprintf("%s/config", real);
	for (unsigned i = 0; i < ARRAY_LEN(places); i++) {
		if (r == 0 && places[i] && access(places[i], F_OK) == 0)
			r = file_read(AT_FDCWD, places[i], CONFIG_MAX, text, NULL, err) < 0 ? -1
											    : 1;
		free(places[i]);
	}
	return r;
}
