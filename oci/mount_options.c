#include "oci/mount_options.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <linux/mount.h>
#include <string.h>
#include <sys/mount.h>

enum option_kind { SET, CLEAR, REC_SET, REC_CLEAR, PROPAGATION, COPYUP, IDMAP };

struct option {
	const char *name;
	enum option_kind kind;
	uint64_t value;
};

#define ATIME_FLAGS (MS_NOATIME | MS_RELATIME | MS_STRICTATIME)

/* Alphabetical: mount_option_name() is the listing of `husk features`, and find() a search. */
static const struct option options[] = {
	{"acl", SET, MS_POSIXACL},
	{"async", CLEAR, MS_SYNCHRONOUS},
	{"atime", CLEAR, MS_NOATIME},
	{"bind", SET, MS_BIND},
	{"defaults", SET, 0},
	{"dev", CLEAR, MS_NODEV},
	{"diratime", CLEAR, MS_NODIRATIME},
	{"dirsync", SET, MS_DIRSYNC},
	{"exec", CLEAR, MS_NOEXEC},
	{"idmap", IDMAP, MOUNT_IDMAP},
	{"iversion", SET, MS_I_VERSION},
	{"lazytime", SET, MS_LAZYTIME},
	{"loud", CLEAR, MS_SILENT},
	{"mand", SET, MS_MANDLOCK},
	{"noacl", CLEAR, MS_POSIXACL},
	{"noatime", SET, MS_NOATIME},
	{"nodev", SET, MS_NODEV},
	{"nodiratime", SET, MS_NODIRATIME},
	{"noexec", SET, MS_NOEXEC},
	{"noiversion", CLEAR, MS_I_VERSION},
	{"nolazytime", CLEAR, MS_LAZYTIME},
	{"nomand", CLEAR, MS_MANDLOCK},
	{"norelatime", CLEAR, MS_RELATIME},
	{"nostrictatime", CLEAR, MS_STRICTATIME},
	{"nosuid", SET, MS_NOSUID},
	{"nosymfollow", SET, MS_NOSYMFOLLOW},
	{"private", PROPAGATION, MS_PRIVATE},
	{"ratime", REC_CLEAR, MOUNT_ATTR_NOATIME},
	{"rbind", SET, MS_BIND | MS_REC},
	{"rdev", REC_CLEAR, MOUNT_ATTR_NODEV},
	{"rdiratime", REC_CLEAR, MOUNT_ATTR_NODIRATIME},
	{"relatime", SET, MS_RELATIME},
	{"remount", SET, MS_REMOUNT},
	{"rexec", REC_CLEAR, MOUNT_ATTR_NOEXEC},
	{"ridmap", IDMAP, MOUNT_IDMAP_RECURSIVE},
	{"rnoatime", REC_SET, MOUNT_ATTR_NOATIME},
	{"rnodev", REC_SET, MOUNT_ATTR_NODEV},
	{"rnodiratime", REC_SET, MOUNT_ATTR_NODIRATIME},
	{"rnoexec", REC_SET, MOUNT_ATTR_NOEXEC},
	{"rnorelatime", REC_CLEAR, MOUNT_ATTR_RELATIME},
	{"rnostrictatime", REC_CLEAR, MOUNT_ATTR_STRICTATIME},
	{"rnosuid", REC_SET, MOUNT_ATTR_NOSUID},
	{"rnosymfollow", REC_SET, MOUNT_ATTR_NOSYMFOLLOW},
	{"ro", SET, MS_RDONLY},
	{"rprivate", PROPAGATION, MS_PRIVATE | MS_REC},
	{"rrelatime", REC_SET, MOUNT_ATTR_RELATIME},
	{"rro", REC_SET, MOUNT_ATTR_RDONLY},
	{"rrw", REC_CLEAR, MOUNT_ATTR_RDONLY},
	{"rshared", PROPAGATION, MS_SHARED | MS_REC},
	{"rslave", PROPAGATION, MS_SLAVE | MS_REC},
	{"rstrictatime", REC_SET, MOUNT_ATTR_STRICTATIME},
	{"rsuid", REC_CLEAR, MOUNT_ATTR_NOSUID},
	{"rsymfollow", REC_CLEAR, MOUNT_ATTR_NOSYMFOLLOW},
	{"runbindable", PROPAGATION, MS_UNBINDABLE | MS_REC},
	{"rw", CLEAR, MS_RDONLY},
	{"shared", PROPAGATION, MS_SHARED},
	{"silent", SET, MS_SILENT},
	{"slave", PROPAGATION, MS_SLAVE},
	{"strictatime", SET, MS_STRICTATIME},
	{"suid", CLEAR, MS_NOSUID},
	{"symfollow", CLEAR, MS_NOSYMFOLLOW},
	{"sync", SET, MS_SYNCHRONOUS},
	{"tmpcopyup", COPYUP, 0},
	{"unbindable", PROPAGATION, MS_UNBINDABLE},
};

const char *mount_option_name(size_t i)
{
	return i < ARRAY_LEN(options) ? options[i].name : NULL;
}

static const struct option *find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(options); i++)
		if (strcmp(options[i].name, name) == 0)
			return &options[i];
	return NULL;
}

/* The words that are for the filesystem, joined by commas. */
static char *join_data(char *const *opts, size_t n)
{
	size_t len = 0;
	char *data, *p;

	for (size_t i = 0; i < n; i++)
		if (opts[i][0] && !find(opts[i]))
			len += strlen(opts[i]) + 1;
	if (len == 0)
		return NULL;
	data = p = xcalloc(len, 1);
	for (size_t i = 0; i < n; i++) {
		if (!opts[i][0] || find(opts[i]))
			continue;
		if (p != data)
			*p++ = ',';
		p = stpcpy(p, opts[i]);
	}
	return data;
}

/* The access time modes exclude each other; the last one asked for holds. */
static void set_flags(struct mount_options *o, unsigned long flags)
{
	if (flags & ATIME_FLAGS)
		o->flags &= ~(unsigned long)ATIME_FLAGS;
	o->flags |= flags;
	o->clear_flags &= ~flags;
}

/* In mount_setattr(2) the access time is a small number, not bits of its own (relatime is 0), and
 * whoever changes it has to clear all of it. Taking back one mode means relatime, the kernel's
 * default, unless another one was asked for. */
static void set_recursive_atime(struct mount_options *o, const struct option *opt)
{
	uint64_t now = o->rec_set & MOUNT_ATTR__ATIME;

	o->rec_clear |= MOUNT_ATTR__ATIME;
	if (opt->kind == REC_SET)
		o->rec_set = (o->rec_set & ~(uint64_t)MOUNT_ATTR__ATIME) | opt->value;
	else if (now == opt->value)
		o->rec_set &= ~(uint64_t)MOUNT_ATTR__ATIME;
}

static void set_recursive(struct mount_options *o, const struct option *opt)
{
	if (opt->value == MOUNT_ATTR_RELATIME || (opt->value & MOUNT_ATTR__ATIME)) {
		set_recursive_atime(o, opt);
	} else if (opt->kind == REC_SET) {
		o->rec_set |= opt->value;
		o->rec_clear &= ~opt->value;
	} else {
		o->rec_set &= ~opt->value;
		o->rec_clear |= opt->value;
	}
}

static void apply(struct mount_options *o, const struct option *opt)
{
	switch (opt->kind) {
	case SET:
		set_flags(o, (unsigned long)opt->value);
		break;
	case CLEAR:
		o->flags &= ~(unsigned long)opt->value;
		o->clear_flags |= (unsigned long)opt->value;
		break;
	case REC_SET:
	case REC_CLEAR:
		set_recursive(o, opt);
		break;
	case PROPAGATION:
		o->propagation[o->n_propagation++] = (unsigned long)opt->value;
		break;
	case COPYUP:
		o->tmpcopyup = true;
		break;
	case IDMAP:
		o->idmap = (enum mount_idmap)opt->value;
		break;
	}
}

void mount_options_parse(char *const *opts, size_t n, struct mount_options *out)
{
	*out = (struct mount_options)MOUNT_OPTIONS_INIT;
	out->propagation = xcalloc(n, sizeof(*out->propagation));
	for (size_t i = 0; i < n; i++) {
		const struct option *opt = find(opts[i]);

		if (opt)
			apply(out, opt);
	}
	out->data = join_data(opts, n);
}

void mount_options_free(struct mount_options *o)
{
	free(o->propagation);
	free(o->data);
	*o = (struct mount_options)MOUNT_OPTIONS_INIT;
}
