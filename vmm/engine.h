/*
 * engine.h - what runs the vCPUs: QEMU now, our own VMM on KVM next.
 *
 * An engine is started once with a machine description and a fixed set of devices (the slots), and
 * ends once. Everything in the configuration is an fd or a plain number: after the start an engine
 * opens no path.
 */
#ifndef HUSK_VMM_ENGINE_H
#define HUSK_VMM_ENGINE_H

#include "vmm/device.h"

struct engine;

struct engine_config {
	int kernel_fd;	     /* vmlinux */
	int initramfs_fd;    /* uncompressed cpio */
	const char *cmdline; /* what the sandbox adds to the engine's own kernel parameters */
	uint64_t mem_bytes;  /* a multiple of 1 MiB */
	unsigned vcpus;
	const char *qemu; /* path of qemu-system-x86_64 (engine qemu) */
	struct virtio_device **devices;
	unsigned ndevices;
};

struct engine_events {
	/* The machine ended by itself (guest reset, QEMU gone). Called once, from the loop. */
	void (*ended)(void *arg, const char *why);
	void *arg;
};

struct engine *engine_qemu_start(struct loop *l, const struct engine_config *cfg,
				 const struct engine_events *ev, struct error *err);
int engine_pause(struct engine *e, struct error *err);
int engine_resume(struct engine *e, struct error *err);
/* Ends the machine now; returns when its processes are gone. */
void engine_stop(struct engine *e);
void engine_free(struct engine *e);
/* The last bytes of the guest's console and of the engine's own messages, for error messages;
 * NUL-terminated, owned by the engine, changes with the next event. */
const char *engine_console_tail(struct engine *e);

#endif
