#include "shim/mountinfo.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define MOUNTINFO_MAX (64u << 20)

#ifndef STATX_MNT_ID
#define STATX_MNT_ID 0x00001000U
#endif

/* ---- lines */

static bool octal(char c)
{
	return c >= '0' && c <= '7';
}

/* A copy of `len` bytes with \ooo resolved, as the kernel's seq_escape() makes them. */
static char *unescape(const char *s, size_t len)
{
	char *out = xcalloc(len + 1, 1);
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (s[i] == '\\' && len - i > 3 && s[i + 1] <= '3' && octal(s[i + 1]) &&
		    octal(s[i + 2]) && octal(s[i + 3])) {
			out[n++] = (char)((s[i + 1] - '0') << 6 | (s[i + 2] - '0') << 3 |
					  (s[i + 3] - '0'));
			i += 3;
		} else {
			out[n++] = s[i];
		}
	}
	return out;
}

/* Cuts the next field off [*p, end): what is between single spaces. */
static bool field(const char **p, const char *end, const char **s, size_t *len)
{
	const char *space;

	if (*p >= end)
		return false;
	space = memchr(*p, ' ', (size_t)(end - *p));
	*s = *p;
	*len = (size_t)((space ? space : end) - *p);
	*p = space ? space + 1 : end;
	return *len > 0;
}

/* A field of decimal digits, up to `stop`. */
static bool number(const char **s, size_t *len, char stop, uint64_t *v)
{
	size_t i = 0;

	*v = 0;
	for (; i < *len && (*s)[i] >= '0' && (*s)[i] <= '9'; i++) {
		if (*v > UINT64_MAX / 10 - 1)
			return false;
		*v = *v * 10 + (uint64_t)((*s)[i] - '0');
	}
	if (i == 0 || (i < *len && (*s)[i] != stop))
		return false;
	i += i < *len;
	*s += i;
	*len -= i;
	return true;
}

/* 36 35 98:0 /root /point rw,noatime shared:1 ... - ext3 /dev/root rw,errors=continue */
static bool parse_line(const char *line, const char *end, uint64_t id, struct mount_entry *m)
{
	const char *root, *point, *own, *type, *source, *options, *s;
	size_t n_root, n_point, n_own, n_type, n_source, n_options = 0, len;
	cleanup_free char *own_options = NULL;
	uint64_t major, minor;

	/* The id is known, the parent of no interest. */
	for (unsigned i = 0; i < 2; i++)
		if (!field(&line, end, &s, &len))
			return false;
	if (!field(&line, end, &s, &len) || !number(&s, &len, ':', &major) ||
	    !number(&s, &len, '\0', &minor) || !field(&line, end, &root, &n_root) ||
	    !field(&line, end, &point, &n_point) || !field(&line, end, &own, &n_own))
		return false;
	do
		if (!field(&line, end, &s, &len))
			return false;
	while (len != 1 || *s != '-');
	if (!field(&line, end, &type, &n_type) || !field(&line, end, &source, &n_source))
		return false;
	if (!field(&line, end, &options, &n_options))
		options = "";
	own_options = xcalloc(n_own + 1, 1);
	memcpy(own_options, own, n_own);
	*m = (struct mount_entry){.id = id,
				  .idmapped = mount_has_option(own_options, "idmapped", NULL),
				  .major = (unsigned)major,
				  .minor = (unsigned)minor,
				  .root = unescape(root, n_root),
				  .point = unescape(point, n_point),
				  .type = unescape(type, n_type),
				  .source = unescape(source, n_source),
				  .options = strndup(options, n_options)};
	if (m->options)
		return true;
	mount_entry_free(m);
	return false;
}

int mountinfo_find(const char *text, size_t len, uint64_t id, struct mount_entry *m,
		   struct error *err)
{
	const char *end = text + len;
	bool children = false;

	*m = (struct mount_entry){0};
	for (const char *p = text; p < end;) {
		const char *nl = memchr(p, '\n', (size_t)(end - p)), *stop = nl ? nl : end, *s = p;
		size_t n = (size_t)(stop - p);
		uint64_t this, parent;
		bool named = number(&s, &n, ' ', &this);

		if (named && this == id && !m->point &&
		    (memchr(p, '\0', (size_t)(stop - p)) || !parse_line(p, stop, id, m)))
			return error_kind(err, ERR_INVALID,
					  "mountinfo: the line of mount %llu is not one",
					  (unsigned long long)id);
		if (named && number(&s, &n, ' ', &parent) && parent == id && this != id)
			children = true;
		p = nl ? nl + 1 : end;
	}
	m->has_children = children;
	return m->point != NULL;
}

int mountinfo_of(int fd, struct mount_entry *m, struct error *err)
{
	cleanup_free char *text = NULL;
	struct statx sx;
	size_t len;

	*m = (struct mount_entry){0};
	if (statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_MNT_ID, &sx) < 0)
		return error_errno(err, "statx");
	if (!(sx.stx_mask & STATX_MNT_ID))
		return error_kind(
			err, ERR_UNSUPPORTED,
			"this kernel does not tell mounts by number: 5.8 or later is needed");
	if (file_read(AT_FDCWD, "/proc/thread-self/mountinfo", MOUNTINFO_MAX, &text, &len, err) < 0)
		return -1;
	return mountinfo_find(text, len, sx.stx_mnt_id, m, err);
}

void mount_entry_free(struct mount_entry *m)
{
	free(m->root);
	free(m->point);
	free(m->type);
	free(m->source);
	free(m->options);
	*m = (struct mount_entry){0};
}

/* ---- options */

/* Cuts the next option off *p: name and value (malloc'ed, escapes resolved; "" when there is none).
 */
static bool next_option(const char **p, char **name, char **value)
{
	const char *s = *p;
	size_t n = strcspn(s, ","), k;

	if (!*s)
		return false;
	for (k = 0; k < n && s[k] != '='; k++)
		;
	*name = unescape(s, k);
	*value = unescape(s + (k < n ? k + 1 : n), k < n ? n - k - 1 : 0);
	*p = s + n + (s[n] == ',');
	return true;
}

bool mount_has_option(const char *options, const char *name, const char *value)
{
	char *n, *v;
	bool found = false;

	while (!found && next_option(&options, &n, &v)) {
		found = strcmp(n, name) == 0 && (!value || strcmp(v, value) == 0);
		free(n);
		free(v);
	}
	return found;
}

/* ---- overlay */

static bool add_lower(struct overlay_layers *l, char *path)
{
	if (path[0] != '/' || l->n >= OVERLAY_LAYERS_MAX) {
		free(path);
		return false;
	}
	if (!l->lowers)
		l->lowers = xcalloc(OVERLAY_LAYERS_MAX + 1, sizeof(*l->lowers));
	l->lowers[l->n++] = path;
	return true;
}

/* Overlayfs's own escape: a backslash before any byte. Stops at `stop`; NULL if the text ends in
 * the middle of an escape. */
static char *ovl_unescape(const char **p, char stop)
{
	char *out = xcalloc(strlen(*p) + 1, 1);
	const char *s = *p;
	size_t n = 0;

	while (*s && *s != stop) {
		if (*s == '\\' && !*++s) {
			free(out);
			return NULL;
		}
		out[n++] = *s++;
	}
	*p = s;
	return out;
}

/* A:B:C; "::" begins layers that hold data only. */
static bool add_lowers(struct overlay_layers *l, const char *value)
{
	for (;;) {
		char *path = ovl_unescape(&value, ':');

		if (!path || !add_lower(l, path))
			return false;
		if (!*value)
			return true;
		value++;
	}
}

static bool take_upper(struct overlay_layers *l, const char *value)
{
	free(l->upper);
	l->upper = ovl_unescape(&value, '\0');
	return l->upper && l->upper[0] == '/';
}

static bool take_option(struct overlay_layers *l, const char *name, const char *value)
{
	static const char *const never[] = {"userxattr", "datadir", "datadir+", "casefold"};

	for (size_t i = 0; i < ARRAY_LEN(never); i++)
		if (strcmp(name, never[i]) == 0)
			return false;
	if (strcmp(name, "lowerdir") == 0)
		return add_lowers(l, value);
	if (strcmp(name, "lowerdir+") == 0)
		return add_lower(l, xstrdup(value));
	if (strcmp(name, "upperdir") == 0)
		return take_upper(l, value);
	if (strcmp(name, "metacopy") == 0 || strcmp(name, "redirect_dir") == 0)
		return strcmp(value, "on") != 0;
	return true;
}

bool overlay_parse(const char *options, struct overlay_layers *l)
{
	char *name, *value;
	bool ok = true;

	*l = (struct overlay_layers){0};
	while (ok && next_option(&options, &name, &value)) {
		ok = take_option(l, name, value);
		free(name);
		free(value);
	}
	if (ok && l->n > 0)
		return true;
	overlay_layers_free(l);
	return false;
}

void overlay_layers_free(struct overlay_layers *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->lowers[i]);
	free(l->lowers);
	free(l->upper);
	*l = (struct overlay_layers){0};
}
