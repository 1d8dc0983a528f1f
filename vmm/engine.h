/*
 * engine.h - what runs the vCPUs: QEMU now, our own VMM on KVM next.
 *
 * An engine is started once with a machine description and a fixed set of devices (the slots), and
 * ends once. Everything in the configuration is an fd or a plain number: after the start an engine
 * opens no path.
 */
#ifndef HUSK_VMM_ENGINE_H
#define HUSK_VMM_ENGINE_H

#include <sys/types.h>

#include "vmm/device.h"

struct engine;

struct engine_config {
	int kernel_fd;	     /* vmlinux */
	int initramfs_fd;    /* uncompressed cpio */
	const char *cmdline; /* what the sandbox adds to the engine's own kernel parameters */
	uint64_t mem_bytes;  /* a multiple of 1 MiB */
	unsigned vcpus;
	const char *qemu; /* path of qemu-system-x86_64 (engine qemu) */
	int fs_fd; /* connected vhost-user socket of a virtiofsd, or -1; kept by the caller */
	struct virtio_device **devices;
	unsigned ndevices;
};

struct engine_events {
	/* The vCPUs run. Called at most once, before `ended`, from the loop. */
	void (*started)(void *arg);
	/* The machine ended by itself (guest reset, QEMU gone) or could not be started; its
	 * processes are gone. Called once, from the loop. `why` ends with the engine's own last
	 * message where there is one. The engine must not be freed in there. */
	void (*ended)(void *arg, const char *why);
	void *arg;
};

/* Called once, from the loop, when a pause or resume is done; `err` is NULL when it succeeded. */
typedef void (*engine_done_fn)(void *arg, const struct error *err);

/* Starts a machine: the processes exist when this returns, the rest comes as an event. */
struct engine *engine_qemu_start(struct loop *l, const struct engine_config *cfg,
				 const struct engine_events *ev, struct error *err);
/* The vCPUs stop (run on) and the devices' queues with them. Not called again before it is done. */
int engine_pause(struct engine *e, engine_done_fn done, void *arg, struct error *err);
int engine_resume(struct engine *e, engine_done_fn done, void *arg, struct error *err);
/* Ends the machine now; returns when its processes are gone. No event follows. */
void engine_stop(struct engine *e);
void engine_free(struct engine *e);
/* The host's pid of the process that runs the vCPUs; 0 while it is not known. */
pid_t engine_pid(const struct engine *e);
/* The last bytes of the guest's console and of the engine's own messages, for error messages;
 * NUL-terminated, owned by the engine, changes with the next event. */
const char *engine_console_tail(struct engine *e);

#endif
