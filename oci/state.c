#include "oci/state.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <string.h>

static const char *const status_names[] = {
	[OCI_STATUS_CREATING] = "creating", [OCI_STATUS_CREATED] = "created",
	[OCI_STATUS_RUNNING] = "running",   [OCI_STATUS_STOPPED] = "stopped",
	[OCI_STATUS_PAUSED] = "paused",
};

const char *oci_status_name(enum oci_status status)
{
	return (unsigned)status < ARRAY_LEN(status_names) ? status_names[status] : NULL;
}

int oci_status_from_name(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(status_names); i++)
		if (strcmp(status_names[i], name) == 0)
			return (int)i;
	return -1;
}

const char *oci_time(const struct timespec *t, char buf[OCI_TIME_SIZE])
{
	struct tm tm;
	size_t n;

	gmtime_r(&t->tv_sec, &tm);
	n = strftime(buf, OCI_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
	if (t->tv_nsec > 0 && t->tv_nsec < 1000000000) {
		n += (size_t)snprintf(buf + n, OCI_TIME_SIZE - n, ".%09ld", t->tv_nsec);
		while (buf[n - 1] == '0')
			n--;
	}
	buf[n] = 'Z';
	buf[n + 1] = '\0';
	return buf;
}

static void write_annotations(const struct oci_state *s, struct jsonw *w)
{
	if (s->n_annotations == 0)
		return;
	jsonw_key(w, "annotations");
	jsonw_obj(w);
	for (size_t i = 0; i < s->n_annotations; i++)
		jsonw_kstr(w, s->annotations[i].key, s->annotations[i].value);
	jsonw_end_obj(w);
}

void oci_state_write(const struct oci_state *s, struct jsonw *w)
{
	char created[OCI_TIME_SIZE];

	jsonw_obj(w);
	jsonw_kstr(w, "ociVersion", OCI_VERSION);
	jsonw_kstr(w, "id", s->id);
	jsonw_kint(w, "pid", s->pid);
	jsonw_kstr(w, "status", oci_status_name(s->status));
	jsonw_kstr(w, "bundle", s->bundle);
	jsonw_kstr(w, "rootfs", s->rootfs ? s->rootfs : "");
	jsonw_kstr(w, "created", oci_time(&s->created, created));
	write_annotations(s, w);
	jsonw_kstr(w, "owner", s->owner ? s->owner : "");
	if (s->engine)
		jsonw_kstr(w, "engine", s->engine);
	jsonw_end_obj(w);
}

static void write_for_hook(const struct oci_state *s, struct jsonw *w)
{
	jsonw_obj(w);
	jsonw_kstr(w, "ociVersion", OCI_VERSION);
	jsonw_kstr(w, "id", s->id);
	jsonw_kstr(w, "status", oci_status_name(s->status));
	if (s->pid > 0)
		jsonw_kint(w, "pid", s->pid);
	jsonw_kstr(w, "bundle", s->bundle);
	write_annotations(s, w);
	jsonw_end_obj(w);
}

static int finish(struct jsonw *w, char **text, size_t *len, struct error *err)
{
	size_t n;
	const char *s = jsonw_finish(w, &n, err);

	if (!s)
		return -1;
	*text = xstrdup(s);
	if (len)
		*len = n;
	return 0;
}

int oci_state_for_hook(const struct oci_state *s, char **text, size_t *len, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};

	if (jsonw_init(&w, false, err) < 0)
		return -1;
	write_for_hook(s, &w);
	return finish(&w, text, len, err);
}

int oci_state_for_user(const struct oci_state *s, char **text, size_t *len, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};

	if (jsonw_init(&w, true, err) < 0)
		return -1;
	yajl_gen_config(w.gen, yajl_gen_indent_string, "  ");
	oci_state_write(s, &w);
	return finish(&w, text, len, err);
}
