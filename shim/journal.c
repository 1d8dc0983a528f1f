#include "shim/journal.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/json.h"

#include <inttypes.h>
#include <limits.h>
#include <string.h>

#define JOURNAL_VERSION 1
#define CONTAINER_MAX 1024

/* ---- paths: file names are bytes, JSON is UTF-8. What is not plain ASCII becomes %XX. */

static char *escape(const char *path)
{
	char *out = xcalloc(strlen(path) * 3 + 1, 1), *o = out;

	for (const unsigned char *s = (const unsigned char *)path; *s; s++) {
		if (*s > ' ' && *s < 0x7f && *s != '%')
			*o++ = (char)*s;
		else
			o += sprintf(o, "%%%02x", *s);
	}
	return out;
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* NULL if it is not an absolute path as escape() writes it. */
static char *unescape(const char *text)
{
	char *out = xcalloc(strlen(text) + 1, 1), *o = out;

	for (const char *s = text; *s; s++) {
		int hi = 0, lo = (unsigned char)*s;

		if (*s == '%') {
			hi = hex(s[1]);
			lo = hi < 0 ? -1 : hex(s[2]);
			s += 2;
		}
		if (hi < 0 || lo < 0 || (hi << 4 | lo) == 0 || o - out >= PATH_MAX) {
			free(out);
			return NULL;
		}
		*o++ = (char)(hi << 4 | lo);
	}
	if (out[0] == '/')
		return out;
	free(out);
	return NULL;
}

/* ---- journal.json. Numbers are text: JSON's are not sure to have 64 bits. */

static void put_number(struct jsonw *w, const char *key, uint64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, v);
	jsonw_kstr(w, key, text);
}

static bool parse_number(const char *text, uint64_t *v)
{
	char *end;

	if (!text || *text < '0' || *text > '9')
		return false;
	errno = 0;
	*v = strtoull(text, &end, 10);
	return *end == '\0' && errno == 0;
}

char *journal_text(const struct record *r, size_t *len, struct error *err)
{
	cleanup_free char *path = escape(r->rootfs.path);
	cleanup_free char *upper = r->rootfs.upper ? escape(r->rootfs.upper) : NULL;
	cleanup_jsonw struct jsonw w = {0};
	const char *text;

	if (jsonw_init(&w, true, err) < 0)
		return NULL;
	jsonw_obj(&w);
	jsonw_kint(&w, "version", JOURNAL_VERSION);
	jsonw_kstr(&w, "container", r->container);
	jsonw_kstr(&w, "path", path);
	jsonw_kstr(&w, "upper", upper);
	put_number(&w, "dev", r->rootfs.dev);
	put_number(&w, "ino", r->rootfs.ino);
	put_number(&w, "born", r->rootfs.born);
	jsonw_kbool(&w, "mounted", r->rootfs.mounted);
	jsonw_kbool(&w, "mknod", r->mknod);
	jsonw_kbool(&w, "block", r->block);
	jsonw_kstr(&w, "held", r->held);
	put_number(&w, "read", r->read);
	jsonw_end_obj(&w);
	text = jsonw_finish(&w, len, err);
	return text ? xstrdup(text) : NULL;
}

static int parse_rootfs(yajl_val v, struct rootfs_id *id, struct error *err)
{
	const char *path = json_str(v, "path"), *upper = json_str(v, "upper");

	id->path = path ? unescape(path) : NULL;
	if (!id->path)
		return error_kind(err, ERR_INVALID, "path: missing, or not a path");
	id->upper = upper ? unescape(upper) : NULL;
	if (upper && !id->upper)
		return error_kind(err, ERR_INVALID, "upper: not a path");
	if (!parse_number(json_str(v, "dev"), &id->dev) ||
	    !parse_number(json_str(v, "ino"), &id->ino) ||
	    !parse_number(json_str(v, "born"), &id->born))
		return error_kind(err, ERR_INVALID, "dev, ino, born: missing, or no numbers");
	id->mounted = json_bool(v, "mounted", false);
	return 0;
}

int journal_parse(const char *text, size_t len, struct record *r, struct error *err)
{
	cleanup_json yajl_val v = json_parse(text, len, err);
	const char *container, *held;

	if (!v)
		return -1;
	if (json_int(v, "version", 0) != JOURNAL_VERSION)
		return error_kind(err, ERR_INVALID, "version: not %d", JOURNAL_VERSION);
	container = json_str(v, "container");
	if (!container || !container[0] || strlen(container) > CONTAINER_MAX)
		return error_kind(err, ERR_INVALID, "container: missing, or not an id");
	held = json_str(v, "held");
	if (held && (strlen(held) >= sizeof(r->held) ||
		     strspn(held, "abcdefghijklmnopqrstuvwxyz0123456789.") != strlen(held)))
		return error_kind(err, ERR_INVALID, "held: not the serial of a disk");
	if (json_get(v, "read") && !parse_number(json_str(v, "read"), &r->read))
		return error_kind(err, ERR_INVALID, "read: not a number");
	if (parse_rootfs(v, &r->rootfs, err) < 0) {
		rootfs_id_free(&r->rootfs);
		return -1;
	}
	snprintf(r->held, sizeof(r->held), "%s", held ? held : "");
	r->container = xstrdup(container);
	r->mknod = json_bool(v, "mknod", false);
	r->block = json_bool(v, "block", false);
	return 0;
}

/* ---- links */

static bool good_path(const char *path)
{
	if (strlen(path) >= PATH_MAX)
		return false;
	for (const char *s = path;; s++) {
		size_t n = strcspn(s, "/");

		if (n == 0 || n > NAME_MAX || (n == 1 && s[0] == '.') ||
		    (n == 2 && s[0] == '.' && s[1] == '.'))
			return false;
		s += n;
		if (!*s)
			return true;
	}
}

static void *grow(void *v, size_t n, size_t size)
{
	void *p;

	/* at 1, 2, 4, 8, ... */
	if (n & (n - 1))
		return v;
	p = xcalloc(n ? n * 2 : 1, size);
	if (v)
		memcpy(p, v, n * size);
	free(v);
	return p;
}

static int add_link(struct record *r, uint64_t ino, const char *path, struct error *err)
{
	struct cs_link_group *g = r->n_links ? &r->links[r->n_links - 1] : NULL;

	if (!g || g->ino != ino) {
		if (g && g->ino > ino)
			return error_kind(err, ERR_INVALID, "inode numbers are not in order");
		r->links = grow(r->links, r->n_links, sizeof(*r->links));
		g = &r->links[r->n_links++];
		*g = (struct cs_link_group){.ino = ino};
	}
	g->paths = grow(g->paths, g->n, sizeof(*g->paths));
	g->paths[g->n++] = xstrdup(path);
	return 0;
}

int links_parse(const char *text, size_t len, struct record *r, struct error *err)
{
	const char *p = text, *end = text + len;

	while (p < end) {
		const char *path = memchr(p, '\0', (size_t)(end - p));
		const char *stop = path ? memchr(path + 1, '\0', (size_t)(end - path - 1)) : NULL;
		uint64_t ino;

		if (!stop || !parse_number(p, &ino) || !good_path(path + 1)) {
			links_free(r);
			return error_kind(err, ERR_INVALID, "byte %zu: not a name of an inode",
					  (size_t)(p - text));
		}
		if (add_link(r, ino, path + 1, err) < 0) {
			links_free(r);
			return -1;
		}
		p = stop + 1;
	}
	return 0;
}

void links_free(struct record *r)
{
	for (size_t i = 0; i < r->n_links; i++) {
		for (size_t k = 0; k < r->links[i].n; k++)
			free(r->links[i].paths[k]);
		free(r->links[i].paths);
	}
	free(r->links);
	r->links = NULL;
	r->n_links = 0;
}
