/*
 * choice.h - which engine runs a container's machine, and which kernel.
 *
 * Said by, the first one that says anything: the command line (--engine, --kernel), the container's
 * annotations io.husk.engine and io.husk.kernel, the section vm of its config.json, the environment
 * (HUSK_ENGINE, HUSK_KERNEL), the host's configuration file (config_file.h). What config.json names
 * must be on the configuration file's lists. Else, or when it says "auto": kvm where KVM runs
 * guests on hardware, that is where the CPU has VMX or SVM and /dev/kvm opens; qemu, without KVM,
 * everywhere else. A host may have a /dev/kvm and no such CPU: its KVM is for guest kernels made
 * for it, and an ordinary one gets nowhere.
 */
#ifndef HUSK_SHIM_CHOICE_H
#define HUSK_SHIM_CHOICE_H

#include <stdbool.h>

#include "oci/spec.h"

#define CHOICE_WORDS "auto, kvm or qemu"

/* Of the command line; NULL: not given. */
struct choice_wish {
	const char *engine, *kernel;
};

/* Of a container's config.json; NULL: not said. */
struct choice_ask {
	const char *engine, *kernel; /* annotations */
	const struct oci_vm *vm;
};

struct choice {
	const char *engine;   /* "kvm" or "qemu" */
	bool automatic;	      /* nobody named it */
	const char *said_by;  /* who named it; NULL if automatic */
	char why_not_kvm[96]; /* automatic, and it is qemu: the reason */
	char *kernel;	      /* path of the guest's kernel */
	char *initrd;	      /* path of the initramfs; NULL: husk's own */
	char *parameters;     /* for the kernel, on top of the engine's; NULL: none */
	char *qemu;	      /* path of QEMU; NULL: engine kvm */
};

bool choice_is_word(const char *word);
bool choice_is_kvm(const struct choice *c);

/* The engine alone. `ask` NULL: for no container. Errors name who said what cannot be. */
int choice_engine(const struct choice_wish *wish, const struct choice_ask *ask, struct choice *c,
		  struct error *err);
/* And its programs and files, which must be there. To be freed with choice_free(), whatever this
 * returns. */
int choice_make(const struct choice_wish *wish, const struct choice_ask *ask, struct choice *c,
		struct error *err);
/* The paths alone, malloc'ed. */
char *choice_kernel(const struct choice_wish *wish, struct error *err);
char *choice_qemu(struct error *err);
/* Says in the log what was chosen; that it is not KVM, in a log that is kept, for all to see. */
void choice_say(const struct choice *c, bool log_is_kept);
/* A VM that did not start: says what else there is, if it was chosen automatically. Returns -1. */
int choice_blame(const struct choice *c, struct error *err);
void choice_free(struct choice *c);
#define cleanup_choice __attribute__((cleanup(choice_free)))

/* Which of the virtualisation extensions the CPU has: "vmx", "svm"; NULL: none. */
const char *choice_cpu_extension(void);

#endif
