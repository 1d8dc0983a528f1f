#include "shim/choice.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "shim/annotations.h"
#include "shim/config_file.h"
#include "shim/paths.h"

#include <fcntl.h>
#include <string.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif

#define PARAMETERS_MAX 1000 /* what husk-vmm takes, less what husk adds */

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

static int engine_of(const struct choice_wish *wish, const struct choice_ask *ask,
		     const struct config_file *file, struct choice *c, struct error *err)
{
	const char *env = getenv("HUSK_ENGINE");
	int r;

	*c = (struct choice){0};
	if (wish->engine)
		r = obey(wish->engine, "--engine", c, err);
	else if (ask->engine)
		r = obey(ask->engine, "annotations[\"" ENGINE_ANNOTATION "\"]", c, err);
	else if (ask->vm && ask->vm->hypervisor_path)
		r = obey("qemu", "vm.hypervisor.path", c, err);
	else if (env && env[0])
		r = obey(env, "HUSK_ENGINE", c, err);
	else if (file->engine)
		r = obey(file->engine, "the configuration file", c, err);
	else
		choose(c), r = 0;
	if (r == 0 && choice_is_kvm(c) && ask->vm && ask->vm->hypervisor_path)
		return error_kind(
			err, ERR_UNSUPPORTED,
			"vm.hypervisor.path: \"%s\": %s asks for engine kvm, which has no "
			"hypervisor but husk-vmm",
			ask->vm->hypervisor_path, c->said_by ? c->said_by : "auto");
	return r;
}

static char *usable(const char *path, int mode, const char *said_by, struct error *err)
{
	if (access(path, mode) == 0)
		return xstrdup(path);
	error_errno(err, "%s (from %s)", path, said_by);
	return NULL;
}

/* A path that config.json names: on the list, or the one that it would be anyway. */
static char *listed(const char *path, int mode, const char *said_by, const struct config_list *list,
		    const char *list_name, const char *usual, struct error *err)
{
	if (!(usual && strcmp(path, usual) == 0) && !config_list_has(list, path)) {
		error_kind(err, ERR_UNSUPPORTED,
			   "%s: \"%s\": this host does not let config.json name it: its "
			   "administrator can, with \"vm\": {\"%s\": [...]} in %s",
			   said_by, path, list_name, config_file_name());
		return NULL;
	}
	return usable(path, mode, said_by, err);
}

static char *kernel_of(const struct choice_wish *wish, const struct choice_ask *ask,
		       const struct config_file *file, struct error *err)
{
	const char *env = getenv("HUSK_KERNEL");

	if (wish->kernel)
		return usable(wish->kernel, R_OK, "--kernel", err);
	if (ask->kernel)
		return listed(ask->kernel, R_OK, "annotations[\"" KERNEL_ANNOTATION "\"]",
			      &file->kernels, "kernels", file->kernel, err);
	if (ask->vm && ask->vm->kernel_path)
		return listed(ask->vm->kernel_path, R_OK, "vm.kernel.path", &file->kernels,
			      "kernels", file->kernel, err);
	if (!(env && env[0]) && file->kernel)
		return usable(file->kernel, R_OK, "the configuration file", err);
	return path_kernel(err);
}

static char *qemu_of(const struct choice_ask *ask, const struct config_file *file,
		     struct error *err)
{
	const char *env = getenv("HUSK_QEMU");

	if (ask->vm && ask->vm->hypervisor_path)
		return listed(ask->vm->hypervisor_path, X_OK, "vm.hypervisor.path",
			      &file->hypervisors, "hypervisors", file->qemu, err);
	if (!(env && env[0]) && file->qemu)
		return usable(file->qemu, X_OK, "the configuration file", err);
	return path_qemu(err);
}

static int add_parameter(char **to, const char *p, size_t i, struct error *err)
{
	char *longer;

	for (const char *s = p; *s; s++)
		if (*s < ' ' || *s > '~')
			return error_kind(err, ERR_INVALID,
					  "vm.kernel.parameters[%zu]: not printable ASCII", i);
	longer = *to ? xasprintf("%s %s", *to, p) : xstrdup(p);
	free(*to);
	*to = longer;
	if (strlen(longer) > PARAMETERS_MAX)
		return error_kind(err, ERR_INVALID,
				  "vm.kernel.parameters: more than %d bytes in all",
				  PARAMETERS_MAX);
	return 0;
}

/* What the section vm says beside the kernel's path. */
static int boot_of(const struct choice_ask *ask, const struct config_file *file, struct choice *c,
		   struct error *err)
{
	const struct oci_vm *vm = ask->vm;

	if (vm && vm->kernel_initrd) {
		c->initrd = listed(vm->kernel_initrd, R_OK, "vm.kernel.initrd", &file->initrds,
				   "initrds", NULL, err);
		if (!c->initrd)
			return -1;
	}
	for (size_t i = 0; vm && i < vm->n_kernel_parameters; i++)
		if (add_parameter(&c->parameters, vm->kernel_parameters[i], i, err) < 0)
			return -1;
	return 0;
}

static const struct choice_ask nothing;

int choice_engine(const struct choice_wish *wish, const struct choice_ask *ask, struct choice *c,
		  struct error *err)
{
	cleanup_config_file struct config_file file = {0};

	/* In any case: that it is wrong should be known before it is needed. */
	if (config_file_load(&file, err) < 0)
		return -1;
	return engine_of(wish, ask ? ask : &nothing, &file, c, err);
}

char *choice_kernel(const struct choice_wish *wish, struct error *err)
{
	cleanup_config_file struct config_file file = {0};

	return config_file_load(&file, err) < 0 ? NULL : kernel_of(wish, &nothing, &file, err);
}

char *choice_qemu(struct error *err)
{
	cleanup_config_file struct config_file file = {0};

	return config_file_load(&file, err) < 0 ? NULL : qemu_of(&nothing, &file, err);
}

int choice_make(const struct choice_wish *wish, const struct choice_ask *ask, struct choice *c,
		struct error *err)
{
	cleanup_config_file struct config_file file = {0};

	*c = (struct choice){0};
	if (!ask)
		ask = &nothing;
	if (config_file_load(&file, err) < 0 || engine_of(wish, ask, &file, c, err) < 0)
		return -1;
	c->kernel = kernel_of(wish, ask, &file, err);
	if (!c->kernel || boot_of(ask, &file, c, err) < 0)
		return -1;
	if (choice_is_kvm(c))
		return 0;
	c->qemu = qemu_of(ask, &file, err);
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
	free(c->initrd);
	free(c->parameters);
	free(c->qemu);
	c->kernel = c->initrd = c->parameters = c->qemu = NULL;
}
