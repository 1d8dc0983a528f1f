#include "shim/config_file.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/json.h"
#include "shim/choice.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static int take_path(const char *key, const char *value, char **to, struct error *err)
{
	if (value[0] != '/')
		return error_kind(err, ERR_INVALID, "%s: \"%.200s\": must be an absolute path", key,
				  value);
	*to = xstrdup(value);
	return 0;
}

static int take_engine(const char *value, char **to, struct error *err)
{
	if (!choice_is_word(value))
		return error_kind(err, ERR_INVALID, "engine: \"%.200s\": must be %s", value,
				  CHOICE_WORDS);
	*to = xstrdup(value);
	return 0;
}

static int take_wiring(yajl_val v, struct config_file *c, struct error *err)
{
	static const char *const words[] = {
		[NET_WIRING_AUTO] = "auto", [NET_WIRING_TC] = "tc", [NET_WIRING_BRIDGE] = "bridge"};
	const char *word = YAJL_GET_STRING(v);

	for (unsigned i = 0; word && i < ARRAY_LEN(words); i++)
		if (strcmp(word, words[i]) == 0) {
			c->wiring = (enum net_wiring)i;
			return 0;
		}
	return error_kind(err, ERR_INVALID,
			  "network.wiring: must be \"auto\", \"tc\" or "
			  "\"bridge\"");
}

static int take_network(yajl_val v, struct config_file *c, struct error *err)
{
	if (c->has_network)
		return error_kind(err, ERR_INVALID, "network: is there twice");
	if (!YAJL_IS_OBJECT(v))
		return error_kind(err, ERR_INVALID, "network: must be an object");
	c->has_network = true;
	for (size_t i = 0; i < v->u.object.len; i++) {
		const char *key = v->u.object.keys[i];
		yajl_val member = v->u.object.values[i];

		if (strcmp(key, "wiring") == 0) {
			if (take_wiring(member, c, err) < 0)
				return -1;
		} else if (strcmp(key, "vhost_net") == 0) {
			if (!YAJL_IS_TRUE(member) && !YAJL_IS_FALSE(member))
				return error_kind(err, ERR_INVALID,
						  "network.vhost_net: must be true or false");
			c->vhost_net = YAJL_IS_TRUE(member);
		} else {
			return error_kind(err, ERR_INVALID,
					  "network: \"%.200s\": no such key: there are wiring and "
					  "vhost_net",
					  key);
		}
	}
	return 0;
}

static int take(struct config_file *c, const char *key, yajl_val v, struct error *err)
{
	char **to = strcmp(key, "engine") == 0	 ? &c->engine
		    : strcmp(key, "kernel") == 0 ? &c->kernel
		    : strcmp(key, "qemu") == 0	 ? &c->qemu
						 : NULL;

	if (strcmp(key, "network") == 0)
		return take_network(v, c, err);
	if (!to)
		return error_kind(err, ERR_INVALID,
				  "\"%.200s\": no such key: there are engine, kernel, qemu and "
				  "network",
				  key);
	if (!YAJL_IS_STRING(v))
		return error_kind(err, ERR_INVALID, "%s: must be a string", key);
	if (*to)
		return error_kind(err, ERR_INVALID, "%s: is there twice", key);
	if (to == &c->engine)
		return take_engine(YAJL_GET_STRING(v), to, err);
	return take_path(key, YAJL_GET_STRING(v), to, err);
}

int config_file_parse(const char *text, size_t len, struct config_file *c, struct error *err)
{
	cleanup_config_file struct config_file got = {0};
	cleanup_json yajl_val v = json_parse(text, len, err);

	if (!v)
		return -1;
	if (!YAJL_IS_OBJECT(v))
		return error_kind(err, ERR_INVALID, "must be an object");
	for (size_t i = 0; i < v->u.object.len; i++)
		if (take(&got, v->u.object.keys[i], v->u.object.values[i], err) < 0)
			return -1;
	*c = got;
	got = (struct config_file){0};
	return 0;
}

static int check_owner(int fd, struct error *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_errno(err, "stat");
	if (!S_ISREG(st.st_mode))
		return error_kind(err, ERR_INVALID, "not a regular file");
	if (st.st_uid != 0)
		return error_kind(err, ERR_INVALID,
				  "belongs to user %u: refused: it must be root's (chown root)",
				  (unsigned)st.st_uid);
	if (st.st_mode & 022)
		return error_kind(err, ERR_INVALID,
				  "others than root may write it (mode %04o): refused (chmod "
				  "go-w)",
				  (unsigned)st.st_mode & 07777);
	return 0;
}

int config_file_load(struct config_file *c, struct error *err)
{
	const char *given = getenv("HUSK_CONFIG");
	const char *path = given && given[0] ? given : CONFIG_FILE;
	/* Not blocked by a fifo. */
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	cleanup_free char *text = NULL;
	char self[32];
	size_t len;

	*c = (struct config_file){0};
	if (fd < 0 && errno == ENOENT && path != given)
		return 0;
	if (fd < 0)
		return error_errno(err, "%s%s", path, path == given ? " (from HUSK_CONFIG)" : "");
	/* What is read is what was looked at. */
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	if (check_owner(fd, err) < 0 ||
	    file_read(AT_FDCWD, self, CONFIG_FILE_MAX, &text, &len, err) < 0 ||
	    config_file_parse(text, len, c, err) < 0)
		return error_wrap(err, "%s", path);
	return 0;
}

void config_file_free(struct config_file *c)
{
	free(c->engine);
	free(c->kernel);
	free(c->qemu);
	*c = (struct config_file){0};
}
