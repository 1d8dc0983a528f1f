/*
 * Every object is read by a table of its keys: what takes a value, and where it goes. What may be
 * known of the file as a whole is looked at when all of it was read.
 */
#include "shim/config_file.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/size.h"
#include "shim/choice.h"
#include "shim/scratch.h"

#include <fcntl.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#define MIB (UINT64_C(1) << 20)
#define KEYS_MAX 32

#define TEXT_(n) #n
#define TEXT(n) TEXT_(n)
#define VCPUS_MAX_TEXT TEXT(MACHINE_VCPUS_MAX)
#define LIST_MAX_TEXT TEXT(CONFIG_LIST_MAX)

/* `name` is the key's whole name, for messages. */
typedef int (*take_fn)(yajl_val v, const char *name, void *to, struct error *err);

struct key {
	const char *key;
	take_fn take;
	size_t offset; /* of what is taken, in struct config_file */
};

#define AT(member) offsetof(struct config_file, member)

/* ---- values */

/* An error that names key and value. */
static int wrong(yajl_val v, const char *name, struct error *err, const char *must)
{
	if (YAJL_IS_STRING(v))
		return error_kind(err, ERR_INVALID, "%s: \"%.200s\": %s", name, YAJL_GET_STRING(v),
				  must);
	return error_kind(err, ERR_INVALID, "%s: %.40s: %s", name,
			  YAJL_IS_NUMBER(v)   ? YAJL_GET_NUMBER(v)
			  : YAJL_IS_TRUE(v)   ? "true"
			  : YAJL_IS_FALSE(v)  ? "false"
			  : YAJL_IS_OBJECT(v) ? "an object"
			  : YAJL_IS_ARRAY(v)  ? "a list"
					      : "null",
			  must);
}

static int take_path(yajl_val v, const char *name, void *to, struct error *err)
{
	if (!YAJL_IS_STRING(v) || YAJL_GET_STRING(v)[0] != '/')
		return wrong(v, name, err, "must be an absolute path");
	*(char **)to = xstrdup(YAJL_GET_STRING(v));
	return 0;
}

static int take_engine(yajl_val v, const char *name, void *to, struct error *err)
{
	if (!YAJL_IS_STRING(v) || !choice_is_word(YAJL_GET_STRING(v)))
		return wrong(v, name, err, "must be " CHOICE_WORDS);
	*(char **)to = xstrdup(YAJL_GET_STRING(v));
	return 0;
}

/* A number of bytes, or a text with a unit, between the two; a whole number of MiB comes out. */
static int take_bytes(yajl_val v, const char *name, uint64_t min, uint64_t max, uint64_t *to,
		      struct error *err)
{
	char low[SIZE_TEXT], high[SIZE_TEXT];
	uint64_t n = 0;

	if (!(YAJL_IS_STRING(v) && size_parse(YAJL_GET_STRING(v), &n)) &&
	    !(YAJL_IS_INTEGER(v) && YAJL_GET_INTEGER(v) > 0 && (n = (uint64_t)YAJL_GET_INTEGER(v))))
		return wrong(v, name, err,
			     "must be a number of bytes, or one with K, M, G or T in quotation "
			     "marks");
	if (n < min || n > max)
		return error_kind(err, ERR_INVALID, "%s: %" PRIu64 " bytes: must be from %s to %s",
				  name, n, size_text(min, low), size_text(max, high));
	*to = (n + MIB - 1) / MIB * MIB;
	return 0;
}

static int take_memory(yajl_val v, const char *name, void *to, struct error *err)
{
	return take_bytes(v, name, MACHINE_MEM_MIN, MACHINE_MEM_MAX, to, err);
}

static int take_scratch(yajl_val v, const char *name, void *to, struct error *err)
{
	return take_bytes(v, name, SCRATCH_MIN, SCRATCH_MAX, to, err);
}

static int take_vcpus(yajl_val v, const char *name, void *to, struct error *err)
{
	if (!YAJL_IS_INTEGER(v) || YAJL_GET_INTEGER(v) < 1 ||
	    YAJL_GET_INTEGER(v) > MACHINE_VCPUS_MAX)
		return wrong(v, name, err, "must be a number from 1 to " VCPUS_MAX_TEXT);
	*(unsigned *)to = (unsigned)YAJL_GET_INTEGER(v);
	return 0;
}

static int take_wiring(yajl_val v, const char *name, void *to, struct error *err)
{
	static const char *const words[] = {
		[NET_WIRING_AUTO] = "auto", [NET_WIRING_TC] = "tc", [NET_WIRING_BRIDGE] = "bridge"};
	const char *word = YAJL_GET_STRING(v);

	for (unsigned i = 0; word && i < ARRAY_LEN(words); i++)
		if (strcmp(word, words[i]) == 0) {
			*(enum net_wiring *)to = (enum net_wiring)i;
			return 0;
		}
	return wrong(v, name, err, "must be \"auto\", \"tc\" or \"bridge\"");
}

static int take_bool(yajl_val v, const char *name, void *to, struct error *err)
{
	if (!YAJL_IS_TRUE(v) && !YAJL_IS_FALSE(v))
		return wrong(v, name, err, "must be true or false");
	*(bool *)to = YAJL_IS_TRUE(v);
	return 0;
}

/* Members that begin with `prefix`. */
static int take_list(yajl_val v, const char *name, const char *prefix, struct config_list *l,
		     struct error *err)
{
	if (!YAJL_IS_ARRAY(v) || v->u.array.len > CONFIG_LIST_MAX)
		return wrong(v, name, err, "must be a list of at most " LIST_MAX_TEXT);
	l->given = true;
	l->v = xcalloc(v->u.array.len + 1, sizeof(*l->v));
	for (size_t i = 0; i < v->u.array.len; i++) {
		yajl_val member = v->u.array.values[i];
		const char *s = YAJL_GET_STRING(member);
		char its_name[64], must[64];

		if (!s || strncmp(s, prefix, strlen(prefix)) != 0) {
			snprintf(its_name, sizeof(its_name), "%s[%zu]", name, i);
			snprintf(must, sizeof(must), "must be a string that begins with %s",
				 prefix);
			return wrong(member, its_name, err, must);
		}
		l->v[l->n++] = xstrdup(s);
	}
	return 0;
}

static int take_names(yajl_val v, const char *name, void *to, struct error *err)
{
	return take_list(v, name, "io.husk.", to, err);
}

static int take_paths(yajl_val v, const char *name, void *to, struct error *err)
{
	return take_list(v, name, "/", to, err);
}

/* ---- objects */

static int unknown(const char *in, const char *key, const struct key *keys, struct error *err)
{
	cleanup_free char *known = xstrdup("");

	for (const struct key *k = keys; k->key; k++) {
		char *more = xasprintf("%s%s%s", known,
				       k == keys  ? ""
				       : k[1].key ? ", "
						  : " and ",
				       k->key);

		free(known);
		known = more;
	}
	return error_kind(err, ERR_INVALID, "%s%s\"%.200s\": no such key: there are %s", in,
			  in[0] ? ": " : "", key, known);
}

/* The members of `v`, which is called `in` ("": the whole file). */
static int take_object(yajl_val v, const char *in, const struct key *keys, void *config,
		       struct error *err)
{
	bool seen[KEYS_MAX] = {0};

	if (!YAJL_IS_OBJECT(v))
		return in[0] ? wrong(v, in, err, "must be an object")
			     : error_kind(err, ERR_INVALID, "must be an object");
	for (size_t i = 0; i < v->u.object.len; i++) {
		const char *key = v->u.object.keys[i];
		const struct key *k = keys;
		char name[128];

		while (k->key && strcmp(k->key, key) != 0)
			k++;
		if (!k->key)
			return unknown(in, key, keys, err);
		snprintf(name, sizeof(name), "%s%s%s", in, in[0] ? "." : "", key);
		if (seen[k - keys])
			return error_kind(err, ERR_INVALID, "%s: is there twice", name);
		seen[k - keys] = true;
		if (k->take(v->u.object.values[i], name, (char *)config + k->offset, err) < 0)
			return -1;
	}
	return 0;
}

static int take_network(yajl_val v, const char *name, void *to, struct error *err)
{
	static const struct key keys[] = {
		{"wiring", take_wiring, AT(wiring)}, {"vhost_net", take_bool, AT(vhost_net)}, {0}};

	return take_object(v, name, keys, to, err);
}

static int take_memories(yajl_val v, const char *name, void *to, struct error *err)
{
	static const struct key keys[] = {{"default", take_memory, AT(memory.def)},
					  {"maximum", take_memory, AT(memory.max)},
					  {"pod", take_memory, AT(memory.pod)},
					  {0}};

	return take_object(v, name, keys, to, err);
}

static int take_processors(yajl_val v, const char *name, void *to, struct error *err)
{
	static const struct key keys[] = {{"default", take_vcpus, AT(vcpus.def)},
					  {"maximum", take_vcpus, AT(vcpus.max)},
					  {"pod", take_vcpus, AT(vcpus.pod)},
					  {0}};

	return take_object(v, name, keys, to, err);
}

static int take_scratches(yajl_val v, const char *name, void *to, struct error *err)
{
	static const struct key keys[] = {{"default", take_scratch, AT(scratch.def)},
					  {"maximum", take_scratch, AT(scratch.max)},
					  {0}};

	return take_object(v, name, keys, to, err);
}

static int take_vm(yajl_val v, const char *name, void *to, struct error *err)
{
	static const struct key keys[] = {{"kernels", take_paths, AT(kernels)},
					  {"initrds", take_paths, AT(initrds)},
					  {"hypervisors", take_paths, AT(hypervisors)},
					  {0}};

	return take_object(v, name, keys, to, err);
}

static const struct key top[] = {{"engine", take_engine, AT(engine)},
				 {"kernel", take_path, AT(kernel)},
				 {"qemu", take_path, AT(qemu)},
				 {"memory", take_memories, 0},
				 {"vcpus", take_processors, 0},
				 {"scratch", take_scratches, 0},
				 {"console", take_path, AT(console)},
				 {"annotations", take_names, AT(annotations)},
				 {"vm", take_vm, 0},
				 {"network", take_network, 0},
				 {0}};

/* ---- the whole */

static int within(const char *name, const char *key, uint64_t v, uint64_t max, struct error *err)
{
	return v <= max || max == 0 ? 0
				    : error_kind(err, ERR_INVALID,
						 "%s.%s: %" PRIu64 ": is more than %s.maximum, "
						 "%" PRIu64,
						 name, key, v, name, max);
}

static int check(const struct config_file *c, struct error *err)
{
	if (within("memory", "default", c->memory.def, c->memory.max, err) < 0 ||
	    within("memory", "pod", c->memory.pod, c->memory.max, err) < 0 ||
	    within("vcpus", "default", c->vcpus.def, c->vcpus.max, err) < 0 ||
	    within("vcpus", "pod", c->vcpus.pod, c->vcpus.max, err) < 0)
		return -1;
	return within("scratch", "default", c->scratch.def, c->scratch.max, err);
}

int config_file_parse(const char *text, size_t len, struct config_file *c, struct error *err)
{
	cleanup_config_file struct config_file got = {0};
	cleanup_json yajl_val v = json_parse(text, len, err);

	if (!v || take_object(v, "", top, &got, err) < 0 || check(&got, err) < 0)
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

const char *config_file_name(void)
{
	const char *given = getenv("HUSK_CONFIG");

	return given && given[0] ? given : CONFIG_FILE;
}

int config_file_load(struct config_file *c, struct error *err)
{
	const char *path = config_file_name();
	bool named = strcmp(path, CONFIG_FILE) != 0;
	/* Not blocked by a fifo. */
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	cleanup_free char *text = NULL;
	char self[32];
	size_t len;

	*c = (struct config_file){0};
	if (fd < 0 && errno == ENOENT && !named)
		return 0;
	if (fd < 0)
		return error_errno(err, "%s%s", path, named ? " (from HUSK_CONFIG)" : "");
	/* What is read is what was looked at. */
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	if (check_owner(fd, err) < 0 ||
	    file_read(AT_FDCWD, self, CONFIG_FILE_MAX, &text, &len, err) < 0 ||
	    config_file_parse(text, len, c, err) < 0)
		return error_wrap(err, "%s", path);
	c->path = xstrdup(path);
	return 0;
}

static void list_free(struct config_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
}

void config_file_free(struct config_file *c)
{
	free(c->path);
	free(c->engine);
	free(c->kernel);
	free(c->qemu);
	free(c->console);
	list_free(&c->annotations);
	list_free(&c->kernels);
	list_free(&c->initrds);
	list_free(&c->hypervisors);
	*c = (struct config_file){0};
}

bool config_list_has(const struct config_list *l, const char *name)
{
	for (size_t i = 0; i < l->n; i++)
		if (fnmatch(l->v[i], name, FNM_PATHNAME | FNM_PERIOD) == 0)
			return true;
	return false;
}
