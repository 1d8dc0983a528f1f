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

/* net/<family>/conf/<interface>/..., net/<family>/neigh/<interface>/... */
static bool of_an_interface(const char *path)
{
	return strstr(path, "/conf/") || strstr(path, "/neigh/");
}

int sysctl_apply_net(const struct oci_spec *spec, bool final, struct error *err)
{
	for (size_t i = 0; i < spec->lnx.n_sysctl; i++) {
		const struct oci_kv *kv = &spec->lnx.sysctl[i];
		cleanup_free char *path = oci_sysctl_path(kv->key);
		struct error e = ERROR_INIT;

		if (!path || sysctl_home(path) != SYSCTL_NET || (final && !of_an_interface(path)) ||
		    set(kv, path, &e) == 0)
			continue;
		if (!final && e.errnum == ENOENT && of_an_interface(path))
			continue;
		if (err)
			*err = e;
		return -1;
	}
	return 0;
}
