#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/tree/erofs.h"
#include "vmm/tree/format.h"
#include "vmm/tree/xattr.h"

#define LIST_FIRST 256u
#define LIST_MAX 65536u /* XATTR_LIST_MAX of the kernel */
#define BODY_MAX (TREE_XATTR_MAX + sizeof(struct erofs_xattr_head))

static const struct prefix {
	const char *text;
	uint8_t index;
	bool whole; /* the name is nothing more */
} prefixes[] = {
	{"user.", EROFS_XATTR_USER, false},
	{"system.posix_acl_access", EROFS_XATTR_ACL_ACCESS, true},
	{"system.posix_acl_default", EROFS_XATTR_ACL_DEFAULT, true},
	{"trusted.", EROFS_XATTR_TRUSTED, false},
	{"security.", EROFS_XATTR_SECURITY, false},
};

struct item {
	const char *full; /* the name */
	const char *rest; /* the part that is stored */
	uint8_t index;
};

int xattrs_init(struct xattrs *x, struct error *err)
{
	x->body = malloc(BODY_MAX);
	x->list = malloc(LIST_MAX);
	if (!x->body || !x->list)
		return error_set(err, "out of memory");
	return 0;
}

void xattrs_free(struct xattrs *x)
{
	free(x->body);
	free(x->list);
}

/* Most files have none or few: the kernel need not find a large buffer for each. */
static ssize_t list_names(const struct xattrs *x, int dirfd, const char *name)
{
	static const size_t room[] = {LIST_FIRST, LIST_MAX};
	ssize_t r = -1;

	for (size_t i = 0; i < ARRAY_LEN(room); i++) {
		r = name ? llistxattr(name, x->list, room[i]) : flistxattr(dirfd, x->list, room[i]);
		if (r >= 0 || errno != ERANGE)
			break;
	}
	return r;
}

static ssize_t get_value(int dirfd, const char *name, const char *attr, void *buf, size_t room)
{
	if (!name)
		return fgetxattr(dirfd, attr, buf, room);
	return lgetxattr(name, attr, buf, room);
}

static int by_name(const void *va, const void *vb)
{
	const struct item *a = va, *b = vb;

	if (a->index != b->index)
		return a->index < b->index ? -1 : 1;
	return strcmp(a->rest, b->rest);
}

/* 1: belongs into the image, 0: does not. What an overlay on the host keeps to itself would be
 * taken by the guest's overlay for its own. */
static int wanted(struct xattrs *x, const char *full, struct item *it, struct error *err)
{
	static const char overlay[] = "overlay.";

	for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
		const struct prefix *p = &prefixes[i];
		size_t n = strlen(p->text);

		if (strncmp(full, p->text, n) == 0 && (!p->whole || !full[n])) {
			*it = (struct item){full, full + n, p->index};
			break;
		}
	}
	if (!it->full) {
		if (!x->warned)
			log_warn("xattr %s cannot be in the guest's root: left out", full);
		x->warned = true;
		return 0;
	}
	if (it->index != EROFS_XATTR_TRUSTED || strncmp(it->rest, overlay, strlen(overlay)) != 0)
		return 1;
	if (!x->upper)
		return 0;
	it->rest += strlen(overlay);
	if (strcmp(it->rest, "redirect") == 0 || strcmp(it->rest, "metacopy") == 0)
		return error_kind(err, ERR_UNSUPPORTED,
				  "xattr %s means only something to its own overlay", full);
	if (strcmp(it->rest, "opaque") != 0 && strcmp(it->rest, "whiteout") != 0)
		return 0;
	it->rest -= strlen(overlay);
	return 1;
}

static int collect(struct xattrs *x, size_t bytes, struct item **items, size_t *n,
		   struct error *err)
{
	size_t count = 0;

	for (size_t i = 0; i < bytes; i += strlen(x->list + i) + 1)
		count++;
	*items = calloc(count, sizeof(**items));
	if (!*items)
		return error_set(err, "out of memory");
	for (size_t i = 0; i < bytes; i += strlen(x->list + i) + 1) {
		int r;

		(*items)[*n] = (struct item){0};
		r = wanted(x, x->list + i, &(*items)[*n], err);
		if (r < 0)
			return -1;
		*n += (size_t)r;
	}
	if (*n)
		qsort(*items, *n, sizeof(**items), by_name);
	return 0;
}

static int too_much(struct error *err)
{
	return error_kind(err, ERR_UNSUPPORTED, "xattrs of more than %u bytes (TREE_XATTR_MAX)",
			  TREE_XATTR_MAX);
}

static int add(struct xattrs *x, int dirfd, const char *name, const struct item *it,
	       struct error *err)
{
	size_t name_len = strlen(it->rest), head = sizeof(struct erofs_xattr) + name_len;
	struct erofs_xattr e = {.name_len = (uint8_t)name_len, .index = it->index};
	uint8_t *p = x->body + x->len;
	size_t end;
	ssize_t r;

	if (name_len > UINT8_MAX || head > BODY_MAX - x->len)
		return too_much(err);
	r = get_value(dirfd, name, it->full, p + head, BODY_MAX - x->len - head);
	if (r == 0 && BODY_MAX - x->len == head) /* no room: only the size was asked for */
		r = get_value(dirfd, name, it->full, NULL, 0);
	if (r < 0 && (errno == ENODATA || errno == ENOENT))
		return 0;
	if (r < 0 && errno != ERANGE && errno != E2BIG)
		return error_errno(err, "xattr %s", it->full);
	if (r < 0 || r > UINT16_MAX || (size_t)r > BODY_MAX - x->len - head)
		return too_much(err);
	e.value_len = (uint16_t)r;
	memcpy(p, &e, sizeof(e));
	memcpy(p + sizeof(e), it->rest, name_len);
	end = x->len + head + (size_t)r;
	while (end % 4) {
		if (end == BODY_MAX)
			return too_much(err);
		x->body[end++] = 0;
	}
	x->len = (uint32_t)end;
	return 0;
}

int xattrs_read(struct xattrs *x, int dirfd, const char *name, struct error *err)
{
	cleanup_free struct item *items = NULL;
	size_t n = 0;
	ssize_t r;

	x->len = 0;
	r = list_names(x, dirfd, name);
	if (r == 0 || (r < 0 && (errno == EOPNOTSUPP || errno == ENOENT)))
		return 0;
	if (r < 0)
		return error_errno(err, "list of xattrs");
	if (collect(x, (size_t)r, &items, &n, err) < 0)
		return -1;
	x->len = sizeof(struct erofs_xattr_head);
	memset(x->body, 0, x->len);
	for (size_t i = 0; i < n; i++)
		if (add(x, dirfd, name, &items[i], err) < 0)
			return -1;
	if (x->len == sizeof(struct erofs_xattr_head))
		x->len = 0;
	return 0;
}
