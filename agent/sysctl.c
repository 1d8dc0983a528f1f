#include "agent/sysctl.h"
#include "agent/namespaces.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "oci/validate.h"

#include <fcntl.h>
#include <string.h>

static bool starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

enum sysctl_home sysctl_home(const char *path)
{
	static const char *const ipc[] = {
		"kernel/msgmax",      "kernel/msgmnb",		"kernel/msgmni",
		"kernel/sem",	      "kernel/shmall",		"kernel/shmmax",
		"kernel/shmmni",      "kernel/shm_rmid_forced", "kernel/msg_next_id",
		"kernel/sem_next_id", "kernel/shm_next_id",	"kernel/auto_msgmni",
	};

	for (size_t i = 0; i < ARRAY_LEN(ipc); i++)
		if (strcmp(path, ipc[i]) == 0)
			return SYSCTL_IPC;
	if (starts(path, "fs/mqueue/"))
		return SYSCTL_IPC;
	if (starts(path, "net/"))
		return SYSCTL_NET;
	if (strcmp(path, "kernel/domainname") == 0 || strcmp(path, "kernel/hostname") == 0)
		return SYSCTL_UTS;
	return SYSCTL_GLOBAL;
}

int sysctl_check(const struct oci_spec *spec, struct error *err)
{
	for (size_t i = 0; i < spec->lnx.n_sysctl; i++) {
		const char *key = spec->lnx.sysctl[i].key;
		cleanup_free char *path = oci_sysctl_path(key);
		enum sysctl_home home;

		if (!path)
			return error_kind(err, ERR_INVALID, "linux.sysctl[\"%s\"]: not a sysctl",
					  key);
		home = sysctl_home(path);
		if ((home == SYSCTL_IPC && ns_own(spec, OCI_NS_IPC)) ||
		    (home == SYSCTL_UTS && ns_own(spec, OCI_NS_UTS)) ||
		    (home == SYSCTL_NET && oci_spec_namespace(spec, OCI_NS_NETWORK)))
			continue;
		return error_kind(err, ERR_INVALID,
				  "linux.sysctl[\"%s\"]: sysctl \"%s\" is not in a separate kernel "
				  "namespace",
				  key, key);
	}
	return 0;
}

static int set(const struct oci_kv *kv, const char *path, struct error *err)
{
	cleanup_free char *file = xasprintf("/proc/sys/%s", path);

	if (file_put(AT_FDCWD, file, kv->value, err) < 0)
		return error_wrap(err, "linux.sysctl[\"%s\"]", kv->key);
	return 0;
}

int sysctl_apply(const struct oci_spec *spec, struct error *err)
{
	for (size_t i = 0; i < spec->lnx.n_sysctl; i++) {
		const struct oci_kv *kv = &spec->lnx.sysctl[i];
		cleanup_free char *path = oci_sysctl_path(kv->key);

		if (path && sysctl_home(path) != SYSCTL_NET && set(kv, path, err) < 0)
			return -1;
	}
	return 0;
}

/* net/<family>/conf/<interface>/..., net/<family>/neigh/<interface>/...: where <interface> begins;
 * NULL: of none. */
static const char *interface_of(const char *path)
{
	static const char *const parts[] = {"/conf/", "/neigh/"};

	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		const char *at = strstr(path, parts[i]);

		if (at)
			return at + strlen(parts[i]);
	}
	return NULL;
}

static bool interface_exists(const char *path, const char *interface)
{
	size_t len = (size_t)(interface - path) + strcspn(interface, "/");
	cleanup_free char *dir = xasprintf("/proc/sys/%.*s", (int)len, path);

	return access(dir, F_OK) == 0;
}

static int set_of_interface(const struct oci_kv *kv, const char *path, const char *interface,
			    bool final, struct error *err)
{
	if (interface_exists(path, interface))
		return set(kv, path, err);
	if (!final)
		return 0;
	return error_kind(err, ERR_NOT_FOUND,
			  "linux.sysctl[\"%s\"]: the container has no interface %.*s", kv->key,
			  (int)strcspn(interface, "/"), interface);
}

int sysctl_apply_net(const struct oci_spec *spec, struct error *err)
{
	for (size_t i = 0; i < spec->lnx.n_sysctl; i++) {
		const struct oci_kv *kv = &spec->lnx.sysctl[i];
		cleanup_free char *path = oci_sysctl_path(kv->key);

		if (path && sysctl_home(path) == SYSCTL_NET && !interface_of(path) &&
		    set(kv, path, err) < 0)
			return -1;
	}
	return sysctl_apply_interfaces(spec, false, err);
}

int sysctl_apply_interfaces(const struct oci_spec *spec, bool final, struct error *err)
{
	for (size_t i = 0; i < spec->lnx.n_sysctl; i++) {
		const struct oci_kv *kv = &spec->lnx.sysctl[i];
		cleanup_free char *path = oci_sysctl_path(kv->key);
		const char *interface =
			path && sysctl_home(path) == SYSCTL_NET ? interface_of(path) : NULL;

		if (interface && set_of_interface(kv, path, interface, final, err) < 0)
			return -1;
	}
	return 0;
}
