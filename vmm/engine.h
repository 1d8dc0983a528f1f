/*
 * engine.h - what runs the vCPUs: our own VMM on KVM (engine_kvm.c), or QEMU (engine_qemu.c).
 *
 * An engine is started once with a machine description and the devices that exist from the start,
 * and ends once. Everything in the configuration is an fd or a plain number: after the start an
 * engine opens no path.
 *
 * Each engine's own structure begins with a struct engine; the functions below call through its
 * table. All of them, and all events, belong to the loop's thread.
 */
#ifndef HUSK_VMM_ENGINE_H
#define HUSK_VMM_ENGINE_H

#include <sys/types.h>

#include "lib/json.h"
#include "vmm/device.h"

struct engine;

struct engine_config {
	int kernel_fd;	     /* vmlinux; engine kvm: a bzImage too */
	int initramfs_fd;    /* uncompressed cpio; engine kvm: whatever the kernel unpacks */
	const char *cmdline; /* what the sandbox adds to the engine's own kernel parameters */
	uint64_t mem_bytes;  /* a multiple of 1 MiB */
	unsigned vcpus;
	bool console;	  /* a console for all that the guest says, from the first line on */
	int console_log;  /* a file for all of the console (console.h), or -1; kept by the caller */
	const char *qemu; /* path of qemu-system-x86_64 (engine qemu) */
	const char *apparmor, *selinux; /* for QEMU; NULL: none */
	int fs_fd; /* connected vhost-user socket of a virtiofsd, or -1; kept by the caller */
	struct virtio_device **devices;
	unsigned ndevices;
	unsigned nlate; /* so many of the last of them are hidden until engine_reveal() (kvm) */
	/* Called when everything that the machine is made of is open and mapped, before the first
	 * thread is made and the guest runs its first instruction: shuts the jail. NULL: none. */
	int (*ready_to_run)(void *arg, struct error *err);
	void *ready_arg;
};

struct engine_events {
	/* The vCPUs run. Called at most once, before `ended`, from the loop. */
	void (*started)(void *arg);
	/* The machine ended by itself (guest reset, QEMU gone) or could not be started; its
	 * processes are gone. Called once, from the loop. `why` ends with the engine's own last
	 * message where there is one. The engine must not be freed in there. */
	void (*ended)(void *arg, const char *why);
	/* A device that was unplugged is not the engine's any more: destroy it. */
	void (*unplugged)(void *arg, struct virtio_device *d);
	void *arg;
};

/* Called once, from the loop, when a pause or resume is done; `err` is NULL when it succeeded. */
typedef void (*engine_done_fn)(void *arg, const struct error *err);

struct engine_ops {
	const char *name; /* "kvm", "qemu" */
	int (*pause)(struct engine *e, engine_done_fn done, void *arg, struct error *err);
	int (*resume)(struct engine *e, engine_done_fn done, void *arg, struct error *err);
	/* NULL: the devices are those of the start. */
	int (*plug)(struct engine *e, struct virtio_device *d, struct error *err);
	void (*unplug)(struct engine *e, struct virtio_device *d);
	void (*reveal)(struct engine *e); /* may be NULL */
	/* The link of a network card changed; NULL: the guest sees its configuration space. */
	int (*link)(struct engine *e, struct virtio_device *d, struct error *err);
	void (*stop)(struct engine *e);
	void (*free)(struct engine *e);
	pid_t (*pid)(const struct engine *e);
	const char *(*console_tail)(struct engine *e);
	/* The guest's agent listens: what counts takes note. May be NULL. */
	void (*ready)(struct engine *e);
	/* Adds members to an answer to `stats`; may be NULL. */
	void (*stats)(const struct engine *e, struct jsonw *w);
};

struct engine {
	const struct engine_ops *ops;
};

/* Starts a machine: the processes exist when this returns, the rest comes as an event. */
struct engine *engine_qemu_start(struct loop *l, const struct engine_config *cfg,
				 const struct engine_events *ev, struct error *err);
/* The vCPUs are threads of this process. */
struct engine *engine_kvm_start(struct loop *l, const struct engine_config *cfg,
				const struct engine_events *ev, struct error *err);

static inline const char *engine_name(const struct engine *e)
{
	return e->ops->name;
}

/* Whether devices may come and go while the machine runs. */
static inline bool engine_hotplugs(const struct engine *e)
{
	return e->ops->plug;
}

/* Puts a device into a free slot, where the guest finds it when it probes the slot (at boot, or
 * when its driver is bound again). The device stays the caller's to destroy, but not before
 * `unplugged`, or the engine's free. Fails when no slot is free. */
static inline int engine_plug(struct engine *e, struct virtio_device *d, struct error *err)
{
	return e->ops->plug(e, d, err);
}

/* Takes it out again as soon as no driver uses it: at once when the guest has unbound it (or never
 * found it), else when the guest resets it. Then comes `unplugged`, from the loop, later. */
static inline void engine_unplug(struct engine *e, struct virtio_device *d)
{
	e->ops->unplug(e, d);
}

/* The late devices of the start are where a probe of their slots finds them, from now on. */
static inline void engine_reveal(struct engine *e)
{
	if (e->ops->reveal)
		e->ops->reveal(e);
}

/* The link of a network card (net.h) went up or down: sees to it that the guest learns of it. */
static inline int engine_link(struct engine *e, struct virtio_device *d, struct error *err)
{
	return e->ops->link ? e->ops->link(e, d, err) : 0;
}

/* The vCPUs stop (run on) and the devices' queues with them. Not called again before it is done. */
static inline int engine_pause(struct engine *e, engine_done_fn done, void *arg, struct error *err)
{
	return e->ops->pause(e, done, arg, err);
}

static inline int engine_resume(struct engine *e, engine_done_fn done, void *arg, struct error *err)
{
	return e->ops->resume(e, done, arg, err);
}

/* Ends the machine now; returns when its processes (or threads) are gone. No event follows. */
static inline void engine_stop(struct engine *e)
{
	e->ops->stop(e);
}

static inline void engine_free(struct engine *e)
{
	if (e)
		e->ops->free(e);
}

/* The host's pid of the process that runs the vCPUs; 0 while it is not known. */
static inline pid_t engine_pid(const struct engine *e)
{
	return e->ops->pid(e);
}

/* The last bytes of the guest's console and of the engine's own messages, for error messages;
 * NUL-terminated, owned by the engine, changes with the next event. */
static inline const char *engine_console_tail(struct engine *e)
{
	return e->ops->console_tail(e);
}

static inline void engine_ready(struct engine *e)
{
	if (e->ops->ready)
		e->ops->ready(e);
}

static inline void engine_stats(const struct engine *e, struct jsonw *w)
{
	if (e->ops->stats)
		e->ops->stats(e, w);
}

#endif
