#include "shim/choice.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "shim/config_file.h"
#include "shim/paths.h"

#include <fcntl.h>
#include <string.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif

bool choice_is_word(const char *word)
{
	return strcmp(word, "auto") == 0 || strcmp(word, "kvm") == 0 || strcmp(word, "qemu") == 0;
}

#ifdef __x86_64__
const char *choice_cpu_extension(void)
{
	unsigned a, b, c, d;

	if (__get_cpuid(1, &a, &b, &c, &d) && c & (1u << 5))
		return "vmx";
	if (__get_cpuid(0x80000001, &a, &b, &c, &d) && c & (1u << 2))
		return "svm";
	return NULL;
}
#else
/* Elsewhere there is no /dev/kvm without them. */
const char *choice_cpu_extension(void)
{
	return "virtualisation";
}
#endif

bool choice_is_kvm(const struct choice *c)
{
	return c->engine[0] == 'k';
}

static bool kvm_opens(struct error *err)
{
	cleanup_close int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		error_errno(err, "/dev/kvm");
	return fd >= 0;
}

static void choose(struct choice *c)
{
	struct error err = ERROR_INIT;

	c->automatic = true;
	c->engine = "qemu";
	if (!choice_cpu_extension())
		snprintf(c->why_not_kvm, sizeof(c->why_not_kvm), "the CPU has neither vmx nor svm");
	else if (!kvm_opens(&err))
		snprintf(c->why_not_kvm, sizeof(c->why_not_kvm), "%.90s", err.msg);
	else
		c->engine = "kvm";
}

/* One that is named is taken, also on a host whose KVM runs kernels made for it alone. */
static int obey(const char *word, const char *said_by, struct choice *c, struct error *err)
{
	struct error why = ERROR_INIT;

	if (!choice_is_word(word))
		return error_kind(err, ERR_USAGE, "%s: \"%.200s\": must be " CHOICE_WORDS, said_by,
				  word);
	if (strcmp(word, "auto") == 0) {
		choose(c);
		return 0;
	}
	if (strcmp(word, "kvm") == 0 && !kvm_opens(&why))
		return error_set(err,
				 "%s: engine kvm: %s: load kvm_intel or kvm_amd, or use --engine "
				 "qemu",
				 said_by, why.msg);
	c->said_by = said_by;
	c->engine = word[0] == 'k' ? "kvm" : "qemu";
	return 0;
}

static int engine_of(const struct choice_wish *wish, const char *annotation,
		     const struct config_file *file, struct choice *c, struct error *err)
{
	const char *env = getenv("HUSK_ENGINE");

	*c = (struct choice){0};
	if (wish->engine)
		return obey(wish->engine, "--engine", c, err);
	if (annotation)
		return obey(annotation, "annotations[\"" ENGINE_ANNOTATION "\"]", c, err);
	if (env && env[0])
		return obey(env, "HUSK_ENGINE", c, err);
	if (file->engine)
		return obey(file->engine, "the configuration file", c, err);
	choose(c);
	return 0;
}

static char *usable(const char *path, int mode, const char *said_by, struct error *err)
{
	if (access(path, mode) == 0)
		return xstrdup(path);
	error_errno(err, "%s (from %s)", path, said_by);
	return NULL;
}

static char *kernel_of(const struct choice_wish *wish, const struct config_file *file,
		       struct error *err)
{
	const char *env = getenv("HUSK_KERNEL");

	if (wish->kernel)
		return usable(wish->kernel, R_OK, "--kernel", err);
	if (!(env && env[0]) && file->kernel)
		return usable(file->kernel, R_OK, "the configuration file", err);
	return path_kernel(err);
}

static char *qemu_of(const struct config_file *file, struct error *err)
{
	const char *env = getenv("HUSK_QEMU");

	if (!(env && env[0]) && file->qemu)
		return usable(file->qemu, X_OK, "the configuration file", err);
	return path_qemu(err);
}

int choice_engine(const struct choice_wish *wish, const char *annotation, struct choice *c,
		  struct error *err)
{
	cleanup_config_file struct config_file file = {0};

	/* In any case: that it is wrong should be known before it is needed. */
	if (config_file_load(&file, err) < 0)
		return -1;
	return engine_of(wish, annotation, &file, c, err);
}

char *choice_kernel(const struct choice_wish *wish, struct error *err)
{
	cleanup_config_file struct config_file file = {0};

	return config_file_load(&file, err) < 0 ? NULL : kernel_of(wish, &file, err);
}

char *choice_qemu(struct error *err)
{
	cleanup_config_file struct config_file file = {0};

	return config_file_load(&file, err) < 0 ? NULL : qemu_of(&file, err);
}

int choice_make(const struct choice_wish *wish, const char *annotation, struct choice *c,
		struct error *err)
{
	cleanup_config_file struct config_file file = {0};

	*c = (struct choice){0};
	if (config_file_load(&file, err) < 0 || engine_of(wish, annotation, &file, c, err) < 0)
		return -1;
	c->kernel = kernel_of(wish, &file, err);
	if (!c->kernel)
		return -1;
	if (choice_is_kvm(c))
		return 0;
	c->qemu = qemu_of(&file, err);
	return c->qemu ? 0 : -1;
}

void choice_say(const struct choice *c, bool log_is_kept)
{
	if (c->why_not_kvm[0])
		log_write(log_is_kept ? LOG_LVL_INFO : LOG_LVL_DEBUG,
			  "engine qemu without KVM, a compatibility mode: %s", c->why_not_kvm);
	else
		log_debug("engine %s (from %s)", c->engine, c->said_by ? c->said_by : "the host");
}

int choice_blame(const struct choice *c, struct error *err)
{
	if (err && c->automatic && choice_is_kvm(c)) {
		size_t n = strlen(err->msg);

		snprintf(err->msg + n, sizeof(err->msg) - n,
			 ": KVM of this host does not do it: see 'husk check'; --engine qemu "
			 "runs without it");
	}
	return -1;
}

void choice_free(struct choice *c)
{
	free(c->kernel);
	free(c->qemu);
	c->kernel = c->qemu = NULL;
}
