#include "shim/cgroup_host.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define TABLE_MAX (16u << 20) /* bytes of mountinfo: engines have thousands of mounts */
#define UNIT_MAX 255	      /* of systemd: UNIT_NAME_MAX */

/* ---- the kernel's tables */

bool cgroup_names_have(const char *list, char sep, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = list; p; p = strchr(p, sep)) {
		p += *p == sep;
		if (strncmp(p, word, n) == 0 && (p[n] == sep || p[n] == '\0'))
			return true;
	}
	return false;
}

/* Octal escapes of mountinfo, in place. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
		    s[3] >= '0' && s[3] <= '7') {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = '\0';
}

/* What names a hierarchy among the superblock's options: all that is no option of cgroups. */
static char *v1_names(char *options)
{
	static const char *const known[] = {"rw",	"ro",	       "noprefix", "clone_children",
					    "xattr",	"all",	       "none",	   "cpuset_v2_mode",
					    "seclabel", "favordynmods"};
	char *out = xcalloc(1, strlen(options) + 2), *save = NULL;

	for (char *o = strtok_r(options, ",", &save); o; o = strtok_r(NULL, ",", &save)) {
		bool mine = strncmp(o, "release_agent=", 14) != 0;

		for (size_t i = 0; i < ARRAY_LEN(known); i++)
			mine = mine && strcmp(known[i], o) != 0;
		if (!mine)
			continue;
		if (out[0])
			strcat(out, ",");
		strcat(out, o);
	}
	return out;
}

/* Our path in the hierarchy called `names` ("" is v2's), NULL if it is not in the text. */
static char *own_path(const char *self, const char *names)
{
	cleanup_free char *copy = xstrdup(self);
	char *save = NULL;

	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;

		if (!path)
			continue;
		*path++ = '\0';
		if (strcmp(list + 1, names) == 0)
			return xstrdup(path);
	}
	return NULL;
}

/* From the mount's root. A mount whose root is not ours to see (above our namespace's, or somebody
 * else's) is one below which we are at the root. */
static char *below_root(const char *own, const char *root)
{
	size_t n = strcmp(root, "/") == 0 ? 0 : strlen(root);

	if (strncmp(own, root, n) != 0 || (own[n] != '/' && own[n] != '\0'))
		return xstrdup("/");
	return xstrdup(own[n] ? own + n : "/");
}

static void add(struct cgroup_host *h, const struct cgroup_hierarchy *one)
{
	struct cgroup_hierarchy *v = realloc(h->v, (h->n + 1) * sizeof(*v));

	if (!v)
		abort();
	h->v = v;
	v[h->n++] = *one;
}

/* The same hierarchy, if we have it already. */
static struct cgroup_hierarchy *known(const struct cgroup_host *h,
				      const struct cgroup_hierarchy *one)
{
	for (size_t i = 0; i < h->n; i++)
		if (h->v[i].v2 == one->v2 && strcmp(h->v[i].names, one->names) == 0)
			return &h->v[i];
	return NULL;
}

static void free_hierarchy(struct cgroup_hierarchy *one)
{
	free(one->mount);
	free(one->names);
	free(one->own);
}

/* Of two mounts of a hierarchy the first counts, unless the second hides it. */
static void take(struct cgroup_host *h, struct cgroup_hierarchy *one)
{
	struct cgroup_hierarchy *before = known(h, one);

	if (!before) {
		add(h, one);
	} else if (strcmp(before->mount, one->mount) == 0) {
		free_hierarchy(before);
		*before = *one;
	} else {
		free_hierarchy(one);
	}
}

/* id parent major:minor root point options [fields] - type source superoptions */
static void parse_mount(char *line, const char *self, struct cgroup_host *h)
{
	struct cgroup_hierarchy one = {0};
	char *save = NULL, *field[6], *type, *super;
	cleanup_free char *own = NULL;

	for (unsigned i = 0; i < ARRAY_LEN(field); i++) {
		field[i] = strtok_r(i == 0 ? line : NULL, " ", &save);
		if (!field[i])
			return;
	}
	do
		type = strtok_r(NULL, " ", &save);
	while (type && strcmp(type, "-") != 0);
	type = type ? strtok_r(NULL, " ", &save) : NULL;
	if (!type || !strtok_r(NULL, " ", &save))
		return;
	super = strtok_r(NULL, " ", &save);
	one.v2 = strcmp(type, "cgroup2") == 0;
	if (!super || (!one.v2 && strcmp(type, "cgroup") != 0))
		return;
	one.writable =
		!cgroup_names_have(field[5], ',', "ro") && !cgroup_names_have(super, ',', "ro");
	one.names = one.v2 ? xstrdup("") : v1_names(super);
	own = own_path(self, one.names);
	if (!own) {
		free(one.names);
		return;
	}
	unescape(field[3]);
	unescape(field[4]);
	one.mount = xstrdup(field[4]);
	one.own = below_root(own, field[3]);
	take(h, &one);
}

void cgroup_host_parse(const char *mountinfo, const char *self, struct cgroup_host *h)
{
	cleanup_free char *copy = xstrdup(mountinfo);
	char *save = NULL;

	*h = (struct cgroup_host){0};
	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		parse_mount(line, self, h);
}

int cgroup_host_read(struct cgroup_host *h, struct error *err)
{
	cleanup_free char *mounts = NULL, *self = NULL;

	*h = (struct cgroup_host){0};
	if (file_read(AT_FDCWD, "/proc/thread-self/mountinfo", TABLE_MAX, &mounts, NULL, err) < 0)
		return -1;
	/* A kernel without cgroups has no such file. */
	if (file_read(AT_FDCWD, "/proc/self/cgroup", TABLE_MAX, &self, NULL, NULL) < 0)
		return 0;
	cgroup_host_parse(mounts, self, h);
	for (size_t i = 0; i < h->n; i++) {
		struct cgroup_hierarchy *one = &h->v[i];
		cleanup_free char *path = xasprintf("%s/cgroup.controllers", one->mount);
		char *text;

		if (!one->v2 || file_read(AT_FDCWD, path, TABLE_MAX, &text, NULL, NULL) < 0)
			continue;
		text[strcspn(text, "\n")] = '\0';
		free(one->names);
		one->names = text;
	}
	return 0;
}

void cgroup_host_free(struct cgroup_host *h)
{
	for (size_t i = 0; i < h->n; i++)
		free_hierarchy(&h->v[i]);
	free(h->v);
	*h = (struct cgroup_host){0};
}

/* ---- look-ups */

bool cgroup_host_is_v2(const struct cgroup_host *h)
{
	for (size_t i = 0; i < h->n; i++)
		if (!h->v[i].v2)
			return false;
	return h->n > 0;
}

bool cgroup_hierarchy_has(const struct cgroup_hierarchy *h, const char *controller)
{
	if (h->v2)
		return cgroup_names_have(h->names, ' ', controller);
	return cgroup_names_have(h->names, ',',
				 strcmp(controller, "io") == 0 ? "blkio" : controller);
}

const struct cgroup_hierarchy *cgroup_host_find(const struct cgroup_host *h, const char *controller)
{
	for (size_t i = 0; i < h->n; i++)
		if (cgroup_hierarchy_has(&h->v[i], controller))
			return &h->v[i];
	return NULL;
}

const struct cgroup_hierarchy *cgroup_host_of(const struct cgroup_host *h, const char *path)
{
	const struct cgroup_hierarchy *best = NULL;

	/* v2 may be mounted over a directory that v1's mounts are in. */
	for (size_t i = 0; i < h->n; i++) {
		size_t n = strlen(h->v[i].mount);

		if (strncmp(path, h->v[i].mount, n) == 0 && (path[n] == '/' || path[n] == '\0') &&
		    (!best || n > strlen(best->mount)))
			best = &h->v[i];
	}
	return best;
}

/* ---- paths */

char *cgroup_path_clean(const char *path)
{
	cleanup_free char *copy = xstrdup(path);
	char *out = xcalloc(1, strlen(path) + 2), *save = NULL;

	for (char *part = strtok_r(copy, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
		if (strcmp(part, ".") == 0)
			continue;
		if (strcmp(part, "..") == 0) {
			*(strrchr(out, '/') ?: out) = '\0';
			continue;
		}
		strcat(out, "/");
		strcat(out, part);
	}
	if (!out[0])
		strcpy(out, "/");
	return out;
}

char *cgroup_path_in(const struct cgroup_hierarchy *h, const char *path, bool beside)
{
	cleanup_free char *clean = cgroup_path_clean(path);
	cleanup_free char *base = xstrdup(path[0] == '/' ? "" : h->own);
	size_t n;

	if (beside && strrchr(base, '/'))
		*strrchr(base, '/') = '\0';
	n = strlen(base);
	if (n > 0 && base[n - 1] == '/')
		base[n - 1] = '\0';
	return xasprintf("%s%s%s", h->mount, base, strcmp(clean, "/") == 0 ? "" : clean);
}

/* A name of systemd's alphabet; what has others would have to be escaped, and be found again. */
static int check_unit(const char *unit, const char *path, struct error *err)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789:_.-\\@";

	if (unit[0] && strlen(unit) <= UNIT_MAX && strspn(unit, letters) == strlen(unit))
		return 0;
	return error_kind(
		err, ERR_INVALID,
		"linux.cgroupsPath: \"%.200s\": \"%.100s\" is no name of a unit of systemd",
		path ? path : "", unit);
}

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n > m && strcmp(s + n - m, end) == 0;
}

int cgroup_path_systemd(const char *path, const char *id, char **slice, char **unit,
			struct error *err)
{
	cleanup_free char *copy = path ? xstrdup(path) : xasprintf("system.slice:husk:%s", id);
	char *prefix = strchr(copy, ':'), *name = prefix ? strchr(prefix + 1, ':') : NULL;

	if (!name)
		return error_kind(err, ERR_INVALID,
				  "linux.cgroupsPath: \"%.200s\": expected cgroupsPath to be of "
				  "format \"slice:prefix:name\" for systemd cgroups",
				  path);
	*prefix++ = '\0';
	*name++ = '\0';
	if (ends_with(name, ".slice"))
		return error_kind(err, ERR_UNSUPPORTED,
				  "linux.cgroupsPath: \"%.200s\": a container cannot be a slice of "
				  "systemd: give it a name that does not end with .slice",
				  path);
	*slice = xstrdup(copy[0] ? copy : "system.slice");
	*unit = xasprintf("%s%s%s.scope", prefix, prefix[0] ? "-" : "", name);
	if (name[0] && ends_with(*slice, ".slice") && check_unit(*slice, path, err) == 0 &&
	    check_unit(*unit, path, err) == 0)
		return 0;
	if (!name[0] || !ends_with(*slice, ".slice"))
		error_kind(err, ERR_INVALID,
			   "linux.cgroupsPath: \"%.200s\": expected cgroupsPath to be of format "
			   "\"slice:prefix:name\" for systemd cgroups, as in "
			   "\"system.slice:husk:name\"",
			   path ? path : "");
	free(*slice);
	free(*unit);
	*slice = *unit = NULL;
	return -1;
}
