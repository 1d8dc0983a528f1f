#include "lib/changeset/xattrs.h"
#include "lib/cleanup.h"

#include <string.h>
#include <sys/xattr.h>

/* Beneath a descriptor's directory in /proc the last component is not followed by the l*xattr
 * calls: the one way to name what cannot be opened (links, devices). */
#define PROC_PATH (sizeof("/proc/self/fd/2147483647/") + CS_NAME_MAX)

static const char *proc_path(const struct xattr_at *at, char p[PROC_PATH])
{
	snprintf(p, PROC_PATH, "/proc/self/fd/%d/%s", at->dirfd, at->name);
	return p;
}

static ssize_t list(const struct xattr_at *at, char *buf, size_t len)
{
	char p[PROC_PATH];

	return at->fd >= 0 ? flistxattr(at->fd, buf, len) : llistxattr(proc_path(at, p), buf, len);
}

static ssize_t get(const struct xattr_at *at, const char *name, void *buf, size_t len)
{
	char p[PROC_PATH];

	return at->fd >= 0 ? fgetxattr(at->fd, name, buf, len)
			   : lgetxattr(proc_path(at, p), name, buf, len);
}

static int set(const struct xattr_at *at, const struct cs_xattr *x)
{
	char p[PROC_PATH];

	return at->fd >= 0 ? fsetxattr(at->fd, x->name, x->value, x->len, 0)
			   : lsetxattr(proc_path(at, p), x->name, x->value, x->len, 0);
}

static int drop(const struct xattr_at *at, const char *name)
{
	char p[PROC_PATH];

	return at->fd >= 0 ? fremovexattr(at->fd, name) : lremovexattr(proc_path(at, p), name);
}

bool xattr_is_carried(const char *name)
{
	if (strncmp(name, "security.", 9) == 0)
		return strcmp(name + 9, "capability") == 0;
	if (strncmp(name, "system.", 7) == 0)
		return strcmp(name + 7, "posix_acl_access") == 0 ||
		       strcmp(name + 7, "posix_acl_default") == 0;
	return true;
}

bool xattr_is_overlays(const char *name)
{
	return strncmp(name, "trusted.overlay.", 16) == 0;
}

static bool is_taken(const char *name)
{
	return xattr_is_carried(name) && !xattr_is_overlays(name);
}

static int reserve(char **p, size_t *room, size_t want, struct error *err)
{
	char *q;

	if (*room >= want)
		return 0;
	q = realloc(*p, want);
	if (!q)
		return error_set(err, "out of memory");
	*p = q;
	*room = want;
	return 0;
}

/* The list of names into l->names; its length. */
static ssize_t read_names(const struct xattr_at *at, struct xattr_list *l, struct error *err)
{
	ssize_t n;

	if (reserve(&l->names, &l->names_room, 1024, err) < 0)
		return -1;
	n = list(at, l->names, l->names_room);
	if (n < 0 && errno == ERANGE) {
		if (reserve(&l->names, &l->names_room, XATTR_LIST_MAX, err) < 0)
			return -1;
		n = list(at, l->names, l->names_room);
	}
	if (n < 0 && (errno == EOPNOTSUPP || errno == ENOENT))
		return 0;
	return n < 0 ? error_errno(err, "list extended attributes of %s", at->name) : n;
}

static int read_value(const struct xattr_at *at, const char *name, struct xattr_list *l,
		      size_t *used, struct error *err)
{
	ssize_t n = get(at, name, l->values + *used, l->values_room - *used);

	if (n < 0 && errno == ERANGE)
		return error_kind(err, ERR_UNSUPPORTED,
				  "%s: more than %u bytes of extended attributes", at->name,
				  CS_XATTR_BYTES_MAX);
	if (n < 0 && errno == ENODATA) /* went away between the two calls */
		return 0;
	if (n < 0)
		return error_errno(err, "read extended attribute %s of %s", name, at->name);
	l->v[l->n++] =
		(struct cs_xattr){.name = name, .value = l->values + *used, .len = (size_t)n};
	*used += (size_t)n;
	return 0;
}

int cs_xattrs_read(const struct xattr_at *at, struct xattr_list *l, struct error *err)
{
	ssize_t len = read_names(at, l, err);
	size_t used = 0, names = 0;

	l->n = 0;
	if (len <= 0)
		return (int)len;
	if (reserve(&l->values, &l->values_room, CS_XATTR_BYTES_MAX, err) < 0)
		return -1;
	for (const char *p = l->names; p < l->names + len; p += strlen(p) + 1) {
		if (!xattr_is_carried(p))
			continue;
		if (l->n == CS_XATTRS_MAX)
			return error_kind(err, ERR_UNSUPPORTED,
					  "%s: more than %d extended attributes", at->name,
					  CS_XATTRS_MAX);
		if (read_value(at, p, l, &used, err) < 0)
			return -1;
		names += strlen(p) + 1;
	}
	if (used + names > CS_XATTR_BYTES_MAX)
		return error_kind(err, ERR_UNSUPPORTED,
				  "%s: more than %u bytes of extended attributes", at->name,
				  CS_XATTR_BYTES_MAX);
	return 0;
}

void cs_xattrs_free(struct xattr_list *l)
{
	free(l->names);
	free(l->values);
	l->names = l->values = NULL;
	l->names_room = l->values_room = l->n = 0;
}

static const struct cs_xattr *find(const struct cs_xattr *v, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(v[i].name, name) == 0)
			return &v[i];
	return NULL;
}

static bool same_value(const struct cs_xattr *a, const struct cs_xattr *b)
{
	return a && b && a->len == b->len &&
	       (a->len == 0 || memcmp(a->value, b->value, a->len) == 0);
}

bool xattrs_equal(const struct cs_xattr *a, size_t n_a, const struct cs_xattr *b, size_t n_b)
{
	for (size_t i = 0; i < n_b; i++)
		if (is_taken(b[i].name) && !same_value(&b[i], find(a, n_a, b[i].name)))
			return false;
	for (size_t i = 0; i < n_a; i++)
		if (is_taken(a[i].name) && !find(b, n_b, a[i].name))
			return false;
	return true;
}

/* What a file system says of an attribute that it will never take. */
static bool never(int errnum)
{
	return errnum == EOPNOTSUPP || errnum == EPERM || errnum == EINVAL || errnum == E2BIG ||
	       errnum == ERANGE;
}

int xattrs_set(const struct xattr_at *at, const struct xattr_list *there,
	       const struct cs_xattr *want, size_t n_want, uint64_t *refused, struct error *err)
{
	for (size_t i = 0; i < there->n; i++)
		if (is_taken(there->v[i].name) && !find(want, n_want, there->v[i].name) &&
		    drop(at, there->v[i].name) < 0 && errno != ENODATA && !never(errno))
			return error_errno(err, "remove extended attribute %s of %s",
					   there->v[i].name, at->name);
	for (size_t i = 0; i < n_want; i++) {
		if (!is_taken(want[i].name) ||
		    same_value(&want[i], find(there->v, there->n, want[i].name)) ||
		    set(at, &want[i]) == 0)
			continue;
		if (!never(errno))
			return error_errno(err, "set extended attribute %s of %s", want[i].name,
					   at->name);
		++*refused;
	}
	return 0;
}
