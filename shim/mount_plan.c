#include "shim/mount_plan.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/json.h"
#include "oci/mount_options.h"
#include "oci/unsupported.h"
#include "shim/device_plan.h"
#include "shim/mount_source.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#ifndef STATX_MNT_ID
#define STATX_MNT_ID 0x00001000U
#endif

#define PLAN_FILE "mounts.json"
#define PLAN_TEXT_MAX (16u << 20)
#define PLAN_MOUNTS_MAX 65536
#define NAME_LEN_MAX 64

/* ---- making it */

/* mounts.json and the agent's protocol are JSON, which can only say UTF-8. */
static bool is_utf8(const char *s)
{
	while (*s) {
		unsigned char c = (unsigned char)*s++;
		unsigned more = c < 0x80 ? 0 : c < 0xc2 ? 4 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;

		if (c > 0xf4 || more == 4)
			return false;
		while (more--)
			if (((unsigned char)*s++ & 0xc0) != 0x80)
				return false;
	}
	return true;
}

static bool is_readonly(const struct mount_options *o)
{
	return (o->flags & MS_RDONLY) || (o->rec_set & MOUNT_ATTR_RDONLY);
}

static bool may_project(const struct mount_source *s, bool writable)
{
	if (!is_utf8(s->path))
		return false;
	if (S_ISREG(s->st.st_mode))
		return s->st.st_size <= PROJECT_FILE_MAX;
	return !writable && mount_source_is_small_tree(s);
}

static void plan_bind(struct planned_mount *m, const struct oci_mount *from,
		      const struct mount_source *s)
{
	const char *device = mount_source_device(s);

	if (strcmp(from->destination, "/dev/shm") == 0 && mount_source_is_shm(s, &m->bytes)) {
		m->from = MOUNT_FROM_POD;
		m->name = xasprintf("shm-%llx", (unsigned long long)s->st.st_dev);
		return;
	}
	if (device) {
		m->from = MOUNT_FROM_DEVICE;
		m->name = xstrdup(device);
		return;
	}
	m->from = may_project(s, m->writable) ? MOUNT_FROM_PROJECT : MOUNT_FROM_SHARE;
	m->name = xasprintf("m%zu", m->index);
}

static int plan_volume(struct planned_mount *m, const struct oci_mount *from,
		       const struct mount_source *s, struct error *err)
{
	m->from = MOUNT_FROM_DISK;
	m->type = xstrdup(from->type);
	if (strcmp(from->type, "erofs") == 0 || strcmp(from->type, "squashfs") == 0)
		m->writable = false;
	snprintf(m->serial, sizeof(m->serial), "vol%zu", m->index);
	m->fd = mount_source_open_disk(s, m->writable, err);
	return m->fd < 0 ? -1 : 0;
}

static int plan_mount(struct planned_mount *m, const struct oci_spec *spec,
		      const struct oci_mount *from, const char *bundle, struct error *err)
{
	cleanup_mount_options struct mount_options o = MOUNT_OPTIONS_INIT;
	cleanup_mount_source struct mount_source s = {.fd = -1};

	mount_options_parse(from->options, from->n_options, &o);
	if (mount_source_open(from->source, bundle, &s, err) < 0)
		return -1;
	m->writable = !is_readonly(&o);
	m->recursive = (o.flags & MS_REC) != 0;
	m->dir = S_ISDIR(s.st.st_mode);
	if (oci_mount_is_volume(from)) {
		if (plan_volume(m, from, &s, err) < 0)
			return -1;
	} else {
		plan_bind(m, from, &s);
		if (m->from != MOUNT_FROM_DEVICE && m->from != MOUNT_FROM_POD)
			m->fd = steal_fd(&s.fd);
	}
	if (m->from == MOUNT_FROM_SHARE)
		oci_mount_idmap(spec, from, &m->idmap);
	m->source = steal_ptr(&s.path);
	return m->from == MOUNT_FROM_PROJECT ? mount_identity(m->fd, m->identity, err) : 0;
}

void mount_plan_count(struct mount_plan *p, const struct planned_mount *m)
{
	p->projects += m->from == MOUNT_FROM_PROJECT;
	p->shares += m->from == MOUNT_FROM_SHARE;
	p->writable_disks += m->from == MOUNT_FROM_DISK && m->writable;
	p->readonly_disks += m->from == MOUNT_FROM_DISK && !m->writable;
}

int mount_plan_make(const struct oci_spec *spec, const char *bundle, struct mount_plan *p,
		    struct error *err)
{
	*p = (struct mount_plan){.v = xcalloc(spec->n_mounts + spec->lnx.n_devices + 1,
					      sizeof(*p->v)),
				 .mknod = oci_spec_may_mknod(spec)};
	for (size_t i = 0; i < spec->n_mounts; i++) {
		const struct oci_mount *from = &spec->mounts[i];
		struct planned_mount *m = &p->v[p->n];

		if (!oci_mount_is_bind(from) && !oci_mount_is_volume(from))
			continue;
		*m = (struct planned_mount){.index = i, .fd = -1};
		p->n++;
		if (plan_mount(m, spec, from, bundle, err) < 0) {
			mount_plan_free(p);
			return error_wrap(err, "mounts[%zu].source: %s", i, from->destination);
		}
		mount_plan_count(p, m);
	}
	if (device_plan_add(spec, p, err) < 0) {
		mount_plan_free(p);
		return -1;
	}
	return 0;
}

const char *mount_plan_field(const struct planned_mount *m, char text[MOUNT_FIELD_LEN])
{
	snprintf(text, MOUNT_FIELD_LEN, "%s[%zu]", m->device ? "linux.devices" : "mounts",
		 m->index);
	return text;
}

void mount_plan_tag(struct mount_plan *p, const char *tag)
{
	for (size_t i = 0; i < p->n; i++) {
		struct planned_mount *m = &p->v[i];
		char *plain = m->from == MOUNT_FROM_DISK ? m->serial : m->name, *tagged;

		if (m->from != MOUNT_FROM_DISK && m->from != MOUNT_FROM_SHARE)
			continue;
		tagged = xasprintf("%s.%s", plain, tag);
		if (m->from == MOUNT_FROM_SHARE) {
			free(m->name);
			m->name = tagged;
			continue;
		}
		snprintf(m->serial, sizeof(m->serial), "%s", tagged);
		free(tagged);
	}
}

int mount_plan_check_disks(const struct mount_plan *p, unsigned root_disks, unsigned max,
			   struct error *err)
{
	unsigned room = max - root_disks;
	char field[MOUNT_FIELD_LEN];

	for (size_t i = 0; i < p->n; i++)
		if (p->v[i].from == MOUNT_FROM_DISK && room-- == 0)
			return error_kind(err, ERR_UNSUPPORTED,
					  "%s: %s: this microVM has %u disks, %u of them for "
					  "its root: there is no room for this %s",
					  mount_plan_field(&p->v[i], field), p->v[i].source, max,
					  root_disks, p->v[i].device ? "device" : "volume");
	return 0;
}

void mount_plan_free(struct mount_plan *p)
{
	for (size_t i = 0; i < p->n; i++) {
		free(p->v[i].name);
		free(p->v[i].source);
		free(p->v[i].type);
		oci_idmap_free(&p->v[i].idmap);
		close_fd(&p->v[i].fd);
	}
	free(p->v);
	*p = (struct mount_plan){0};
}

/* ---- for the agent */

static void write_mount(struct jsonw *w, const struct planned_mount *m)
{
	jsonw_obj(w);
	jsonw_kint(w, "mount", (int64_t)m->index);
	switch (m->from) {
	case MOUNT_FROM_PROJECT:
		jsonw_kstr(w, "from", "project");
		jsonw_kstr(w, "name", m->name);
		jsonw_kbool(w, "writable", m->writable);
		break;
	case MOUNT_FROM_SHARE:
		jsonw_kstr(w, "from", "share");
		jsonw_kstr(w, "name", m->name);
		break;
	case MOUNT_FROM_DISK:
		jsonw_kstr(w, "from", "disk");
		jsonw_kstr(w, "serial", m->serial);
		jsonw_kstr(w, "type", m->type);
		break;
	case MOUNT_FROM_DEVICE:
		jsonw_kstr(w, "from", "device");
		jsonw_kstr(w, "name", m->name);
		break;
	case MOUNT_FROM_POD:
		jsonw_kstr(w, "from", "pod");
		jsonw_kstr(w, "name", m->name);
		jsonw_kint(w, "size", (int64_t)m->bytes);
		break;
	}
	jsonw_end_obj(w);
}

char *mount_plan_text(const struct mount_plan *p, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};
	const char *text;

	if (jsonw_init(&w, false, err) < 0)
		return NULL;
	jsonw_arr(&w);
	for (size_t i = 0; i < p->n; i++)
		if (!p->v[i].device)
			write_mount(&w, &p->v[i]);
	jsonw_end_arr(&w);
	text = jsonw_finish(&w, NULL, err);
	return text ? xstrdup(text) : NULL;
}

char *mount_plan_devices_text(const struct mount_plan *p, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};
	const char *text;

	if (jsonw_init(&w, false, err) < 0)
		return NULL;
	jsonw_arr(&w);
	for (size_t i = 0; i < p->n; i++) {
		if (!p->v[i].device)
			continue;
		jsonw_obj(&w);
		jsonw_kint(&w, "device", (int64_t)p->v[i].index);
		jsonw_kstr(&w, "serial", p->v[i].serial);
		jsonw_end_obj(&w);
	}
	jsonw_end_arr(&w);
	text = jsonw_finish(&w, NULL, err);
	return text ? xstrdup(text) : NULL;
}

/* ---- for the proxy */

int mount_identity(int fd, char text[MOUNT_IDENTITY_LEN], struct error *err)
{
	struct statx sx;

	if (statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_INO | STATX_MNT_ID, &sx) < 0)
		return error_errno(err, "statx");
	snprintf(text, MOUNT_IDENTITY_LEN, "%" PRIu64 ":%" PRIu64, (uint64_t)sx.stx_mnt_id,
		 (uint64_t)sx.stx_ino);
	return 0;
}

int mount_plan_save(const struct mount_plan *p, int dirfd, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};
	const char *text;
	size_t len;

	if (p->projects == 0)
		return 0;
	if (jsonw_init(&w, false, err) < 0)
		return -1;
	jsonw_obj(&w);
	jsonw_key(&w, "projects");
	jsonw_arr(&w);
	for (size_t i = 0; i < p->n; i++) {
		const struct planned_mount *m = &p->v[i];

		if (m->from != MOUNT_FROM_PROJECT)
			continue;
		jsonw_obj(&w);
		jsonw_kint(&w, "mount", (int64_t)m->index);
		jsonw_kstr(&w, "name", m->name);
		jsonw_kstr(&w, "source", m->source);
		jsonw_kstr(&w, "identity", m->identity);
		jsonw_kbool(&w, "dir", m->dir);
		jsonw_kbool(&w, "writable", m->writable);
		jsonw_end_obj(&w);
	}
	jsonw_end_arr(&w);
	jsonw_end_obj(&w);
	text = jsonw_finish(&w, &len, err);
	if (!text || file_write_atomic(dirfd, PLAN_FILE, text, len, 0600, err) < 0)
		return error_wrap(err, PLAN_FILE);
	return 0;
}

static bool is_name(const char *s)
{
	size_t n = strlen(s);

	return n > 0 && n <= NAME_LEN_MAX && strcmp(s, ".") != 0 && strcmp(s, "..") != 0 &&
	       strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.") == n;
}

static int read_project(yajl_val v, struct planned_mount *m)
{
	const char *name = json_str(v, "name"), *source = json_str(v, "source");
	const char *identity = json_str(v, "identity");
	int64_t index;

	if (!name || !is_name(name) || !source || source[0] != '/' || !identity ||
	    strlen(identity) >= MOUNT_IDENTITY_LEN || !json_get_int(v, "mount", &index) ||
	    index < 0 || index > PLAN_MOUNTS_MAX)
		return -1;
	*m = (struct planned_mount){.index = (size_t)index,
				    .from = MOUNT_FROM_PROJECT,
				    .name = xstrdup(name),
				    .source = xstrdup(source),
				    .dir = json_bool(v, "dir", false),
				    .writable = json_bool(v, "writable", false),
				    .fd = -1};
	snprintf(m->identity, sizeof(m->identity), "%s", identity);
	return 0;
}

int mount_plan_parse(const char *text, size_t len, struct mount_plan *p, struct error *err)
{
	cleanup_json yajl_val v = json_parse(text, len, err);
	yajl_val list = json_get(v, "projects");

	*p = (struct mount_plan){0};
	if (!v)
		return -1;
	if (!YAJL_IS_ARRAY(list) || list->u.array.len > PLAN_MOUNTS_MAX)
		return error_kind(err, ERR_INVALID, "has no list of projects");
	p->v = xcalloc(list->u.array.len + 1, sizeof(*p->v));
	for (size_t i = 0; i < list->u.array.len; i++) {
		if (read_project(list->u.array.values[i], &p->v[p->n]) < 0) {
			mount_plan_free(p);
			return error_kind(err, ERR_INVALID, "projects[%zu]: not a project", i);
		}
		mount_plan_count(p, &p->v[p->n++]);
	}
	return 0;
}

int mount_plan_load(struct mount_plan *p, int dirfd, struct error *err)
{
	cleanup_free char *text = NULL;
	size_t len;

	*p = (struct mount_plan){0};
	if (faccessat(dirfd, PLAN_FILE, F_OK, 0) < 0 && errno == ENOENT)
		return 0;
	if (file_read(dirfd, PLAN_FILE, PLAN_TEXT_MAX, &text, &len, err) < 0)
		return -1;
	if (mount_plan_parse(text, len, p, err) < 0)
		return error_wrap(err, PLAN_FILE);
	return 0;
}
