#include "shim/paths.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <limits.h>
#include <string.h>

#define DATA_DIR "/var/lib/husk"

static char *own_dir(void)
{
	char buf[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", buf, sizeof(buf) - 1);
	char *slash;

	if (n <= 0)
		return xstrdup(".");
	buf[n] = '\0';
	slash = strrchr(buf, '/');
	if (slash)
		*slash = '\0';
	return xstrdup(buf);
}

static char *own_part(const char *env, const char *name, const char *mend, struct error *err)
{
	const char *given = getenv(env);
	cleanup_free char *dir = own_dir();
	cleanup_free char *beside = xasprintf("%s/%s", dir, name);
	cleanup_free char *libexec = xasprintf("%s/../libexec/husk/%s", dir, name);

	if (given && given[0]) {
		if (access(given, R_OK) == 0)
			return xstrdup(given);
		error_errno(err, "%s (from %s)", given, env);
		return NULL;
	}
	if (access(beside, R_OK) == 0)
		return steal_ptr(&beside);
	if (access(libexec, R_OK) == 0)
		return steal_ptr(&libexec);
	error_set(err, "%s: not found beside husk (%s) or in %s/../libexec/husk: %s", name, dir,
		  dir, mend);
	return NULL;
}

char *path_vmm(struct error *err)
{
	return own_part("HUSK_VMM", "husk-vmm", "build it with 'make'", err);
}

char *path_kernel(struct error *err)
{
	return own_part("HUSK_KERNEL", "vmlinux", "build it with 'make kernel'", err);
}

char *path_initramfs(struct error *err)
{
	return own_part("HUSK_INITRAMFS", "initramfs.cpio", "build it with 'make'", err);
}

char *path_program(const char *name, const char *package, struct error *err)
{
	const char *path = getenv("PATH");
	cleanup_free char *list =
		xasprintf("%s:/usr/sbin:/usr/bin:/sbin:/bin", path ? path : "/usr/local/bin");
	char *save = NULL;

	for (char *dir = strtok_r(list, ":", &save); dir; dir = strtok_r(NULL, ":", &save)) {
		cleanup_free char *p = xasprintf("%s/%s", dir, name);

		if (dir[0] == '/' && access(p, X_OK) == 0)
			return steal_ptr(&p);
	}
	error_set(err, "%s: not found: install it with 'apt-get install %s'", name, package);
	return NULL;
}

char *path_qemu(struct error *err)
{
	const char *given = getenv("HUSK_QEMU");

	if (given && given[0]) {
		if (access(given, X_OK) == 0)
			return xstrdup(given);
		error_errno(err,
			    "%s (from HUSK_QEMU): install it with 'apt-get install "
			    "qemu-system-x86'",
			    given);
		return NULL;
	}
	return path_program("qemu-system-x86_64", "qemu-system-x86", err);
}

char *path_virtiofsd(struct error *err)
{
	const char *given = getenv("HUSK_VIRTIOFSD");
	const char *path = given && given[0] ? given : "/usr/lib/qemu/virtiofsd";

	if (access(path, X_OK) == 0)
		return xstrdup(path);
	error_errno(err, "%s%s: install it with 'apt-get install qemu-system-common'", path,
		    path == given ? " (from HUSK_VIRTIOFSD)" : "");
	return NULL;
}

char *path_data(struct error *err)
{
	const char *given = getenv("HUSK_DATA");
	const char *dir = given && given[0] ? given : DATA_DIR;

	if (mkdir_p(dir, 0700, err) < 0)
		return NULL;
	return xstrdup(dir);
}
