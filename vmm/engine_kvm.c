/*
 * The engine that is the whole machine: husk-vmm on KVM.
 *
 * Theory of operation.
 *
 * The start opens and maps everything, in an order that costs least: memory is loaded before KVM
 * knows of it (KVM follows every change of a mapping), and KVM knows all of it before the process
 * has a second thread (vmm/kvm/vm.h). Then the devices of the start go into their slots, the jail
 * is shut (ready_to_run), and only then are there threads, and a guest that runs.
 *
 * From then on the vCPUs' threads serve registers and ports by themselves (vmm/kvm/vcpu.c,
 * vmm/mmio.c) and the loop hears of them in two cases alone: all are parked, which a pause waits
 * for, and the machine ended. What the guest writes to its serial port goes into a ring under a
 * lock: a flood costs the guest's own time, and never wakes the loop.
 *
 * Its end. A reset, a panic and a triple fault are told apart (describe_end()); a panic's reason is
 * what the guest's kernel wrote last to its serial port. The machine that a guest has reset is not
 * started again: a container ends with its machine. A guest that halts with interrupts off just
 * stands still: the interrupt controllers are KVM's, and so is the wait for what never comes.
 */
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "vmm/arch/arch.h"
#include "vmm/console.h"
#include "vmm/engine.h"
#include "vmm/jail.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/kvm/vm.h"
#include "vmm/mmio.h"

#include <stdio.h>
#include <sys/eventfd.h>

#define SLOTS 24
#define CONSOLE_BYTES 8192

_Static_assert(SLOTS % (4096 / MMIO_SLOT_BYTES) == 0, "memory of KVM's is in pages");

struct kvm {
	struct engine engine; /* first */
	struct loop *loop;
	struct engine_events ev;
	struct vm vm;
	struct arch_vm *arch;
	struct mmio_bus *bus;
	struct vcpus *vcpus;
	struct loop_source *news;
	pthread_mutex_t ports_lock; /* of `ports` and `console` */
	struct arch_ports ports;
	struct console console;
	bool started, ended;
	engine_done_fn done; /* of the pause under way */
	void *done_arg;
	bool has_ready;
	struct vcpu_exits at_ready;
};

static struct kvm *kvm_of(struct engine *e)
{
	return (struct kvm *)e;
}

/* From a vCPU's thread, under ports_lock. */
static void on_console(void *arg, uint8_t byte)
{
	struct kvm *e = arg;
	char c = (char)byte;

	console_put(&e->console, &c, 1);
}

/* ---- the end */

static void describe_failure(struct kvm *e, const struct vcpus_news *n, char *why, size_t size)
{
	char regs[320];

	arch_describe(vcpus_fd(e->vcpus, n->who), regs, sizeof(regs));
	snprintf(why, size, "%s (vCPU %u: %s)",
		 n->end == VCPU_FAILED ? n->text : "guest triple fault", n->who, regs);
}

/* No thread of a vCPU is left. */
static void describe_end(struct kvm *e, const struct vcpus_news *n, char *why, size_t size)
{
	enum vcpu_end end = n->end;
	char reason[128];

	if (end != VCPU_FAILED && console_panic(&e->console, reason, sizeof(reason)))
		snprintf(why, size, "guest kernel panic: %s", reason);
	else if (end == VCPU_RESET && console_agent(&e->console, reason, sizeof(reason)))
		snprintf(why, size, "guest agent: %s", reason);
	else if (end == VCPU_RESET)
		snprintf(why, size, "guest reset");
	else if (end == VCPU_PANIC)
		snprintf(why, size, "guest kernel panic");
	else if (end == VCPU_OFF)
		snprintf(why, size, "guest shutdown");
	else
		describe_failure(e, n, why, size);
}

/* Whoever waits for a pause waits in vain. */
static void fail_pause(struct kvm *e)
{
	engine_done_fn done = e->done;
	struct error err = ERROR_INIT;

	if (!done)
		return;
	e->done = NULL;
	error_kind(&err, ERR_NOT_RUNNING, "the machine has ended");
	done(e->done_arg, &err);
}

static void on_end(struct kvm *e, const struct vcpus_news *n)
{
	char why[ERROR_MSG_MAX];

	vcpus_stop(e->vcpus);
	loop_remove(e->news);
	e->news = NULL;
	describe_end(e, n, why, sizeof(why));
	e->ended = true;
	fail_pause(e);
	e->ev.ended(e->ev.arg, why);
}

/* ---- pause */

static void on_parked(struct kvm *e)
{
	engine_done_fn done = e->done;

	e->done = NULL;
	mmio_pause(e->bus);
	done(e->done_arg, NULL);
}

static int check_state(const struct kvm *e, struct error *err)
{
	if (e->ended)
		return error_kind(err, ERR_NOT_RUNNING, "the machine has ended");
	if (e->done)
		return error_set(err, "a pause or resume is under way");
	return 0;
}

static int kvm_pause(struct engine *base, engine_done_fn done, void *arg, struct error *err)
{
	struct kvm *e = kvm_of(base);

	if (check_state(e, err) < 0)
		return -1;
	e->done = done;
	e->done_arg = arg;
	vcpus_pause(e->vcpus);
	return 0;
}

static int kvm_resume(struct engine *base, engine_done_fn done, void *arg, struct error *err)
{
	struct kvm *e = kvm_of(base);

	if (check_state(e, err) < 0)
		return -1;
	if (mmio_resume(e->bus, err) < 0)
		return -1;
	vcpus_resume(e->vcpus);
	done(arg, NULL);
	return 0;
}

static void on_news(void *arg, uint32_t events UNUSED)
{
	struct kvm *e = arg;
	struct vcpus_news n;

	vcpus_news(e->vcpus, &n);
	if (!e->started) {
		e->started = true;
		e->ev.started(e->ev.arg);
	}
	if (n.end != VCPU_GOES_ON)
		on_end(e, &n);
	else if (n.parked && e->done)
		on_parked(e);
}

/* ---- devices */

static int plug(struct kvm *e, struct virtio_device *d, bool hidden, struct error *err)
{
	int slot = hidden ? mmio_plug_hidden(e->bus, d, err) : mmio_plug(e->bus, d, err);
	struct error lazy = ERROR_INIT;

	if (slot < 0)
		return -1;
	/* The device is in its slot, and stays: without this it costs exits, nothing else. */
	if (vm_coalesce(&e->vm, (unsigned)slot, &lazy) < 0)
		log_debug("%s", lazy.msg);
	return 0;
}

static int kvm_plug(struct engine *base, struct virtio_device *d, struct error *err)
{
	return plug(kvm_of(base), d, false, err);
}

static void kvm_reveal(struct engine *base)
{
	mmio_reveal(kvm_of(base)->bus);
}

static void on_unplugged(void *arg, struct virtio_device *d)
{
	struct kvm *e = arg;

	if (e->ev.unplugged)
		e->ev.unplugged(e->ev.arg, d);
}

static void kvm_unplug(struct engine *base, struct virtio_device *d)
{
	struct kvm *e = kvm_of(base);

	mmio_unplug(e->bus, d, on_unplugged, e);
}

/* ---- what it tells */

static pid_t kvm_pid(const struct engine *e UNUSED)
{
	return jail_pid();
}

static const char *kvm_console_tail(struct engine *base)
{
	struct kvm *e = kvm_of(base);
	const char *text;

	pthread_mutex_lock(&e->ports_lock);
	text = console_text(&e->console);
	pthread_mutex_unlock(&e->ports_lock);
	return text;
}

static void kvm_ready(struct engine *base)
{
	struct kvm *e = kvm_of(base);

	vcpus_exits(e->vcpus, &e->at_ready);
	e->has_ready = true;
}

static void write_exits(struct jsonw *w, const char *key, const struct vcpu_exits *x)
{
	const struct {
		const char *name;
		uint64_t n;
	} parts[] = {
		{"total", x->mmio_read + x->mmio_write + x->io + x->interrupted + x->other},
		{"mmio_read", x->mmio_read},
		{"mmio_write", x->mmio_write},
		{"io", x->io},
		{"interrupted", x->interrupted},
		{"other", x->other},
	};

	jsonw_key(w, key);
	jsonw_obj(w);
	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		jsonw_kuint(w, parts[i].name, parts[i].n);
	jsonw_end_obj(w);
}

static void kvm_stats(const struct engine *base, struct jsonw *w)
{
	const struct kvm *e = (const struct kvm *)base;
	struct vcpu_exits now;

	vcpus_exits(e->vcpus, &now);
	write_exits(w, "exits", &now);
	if (e->has_ready)
		write_exits(w, "exits_ready", &e->at_ready);
}

/* ---- start and end */

static void kvm_stop(struct engine *base)
{
	struct kvm *e = kvm_of(base);

	loop_remove(e->news);
	e->news = NULL;
	if (e->vcpus)
		vcpus_stop(e->vcpus);
	e->ended = true;
}

static void kvm_free(struct engine *base)
{
	struct kvm *e = kvm_of(base);

	kvm_stop(base);
	fail_pause(e);
	mmio_free(e->bus);
	vcpus_free(e->vcpus);
	arch_vm_free(e->arch);
	vm_close(&e->vm);
	close_fd(&e->ports.irq_fd);
	console_free(&e->console);
	pthread_mutex_destroy(&e->ports_lock);
	free(e);
}

static const struct engine_ops kvm_ops = {
	.name = "kvm",
	.pause = kvm_pause,
	.resume = kvm_resume,
	.plug = kvm_plug,
	.unplug = kvm_unplug,
	.reveal = kvm_reveal,
	.stop = kvm_stop,
	.free = kvm_free,
	.pid = kvm_pid,
	.console_tail = kvm_console_tail,
	.ready = kvm_ready,
	.stats = kvm_stats,
};

static int load(struct kvm *e, const struct engine_config *cfg, struct arch_entry *entry,
		struct error *err)
{
	cleanup_free char *extra =
		xasprintf("%s%s", cfg->nlate ? "husk.late " : "", cfg->cmdline ? cfg->cmdline : "");
	cleanup_free char *cmdline = arch_cmdline(SLOTS, cfg->console, extra, err);
	struct arch_image img = {.kernel_fd = cfg->kernel_fd,
				 .initramfs_fd = cfg->initramfs_fd,
				 .cmdline = cmdline,
				 .vcpus = cfg->vcpus};

	if (!cmdline)
		return -1;
	log_debug("kernel parameters: %s", cmdline);
	return arch_load(&e->vm.mem, &img, entry, err);
}

static int make_vcpus(struct kvm *e, const struct engine_config *cfg,
		      const struct arch_entry *entry, struct error *err)
{
	const struct vcpus_config vc = {.vm = &e->vm,
					.bus = e->bus,
					.ports = &e->ports,
					.ports_lock = &e->ports_lock,
					.n = cfg->vcpus};

	e->vcpus = vcpus_new(&vc, err);
	if (!e->vcpus)
		return -1;
	for (unsigned i = 0; i < cfg->vcpus; i++)
		if (arch_vcpu_init(e->arch, vcpus_fd(e->vcpus, i), i, entry, err) < 0)
			return error_wrap(err, "vCPU %u", i);
	return 0;
}

/* The serial port's interrupt, which a console for everything needs. */
static int wire_console(struct kvm *e, bool console, struct error *err)
{
	if (!console)
		return 0;
	e->ports.irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (e->ports.irq_fd < 0)
		return error_errno(err, "eventfd");
	return vm_irqfd(&e->vm, arch_console_irq(), e->ports.irq_fd, err);
}

static int make_machine(struct kvm *e, const struct engine_config *cfg, struct error *err)
{
	const struct mmio_kernel k = {.irq = vm_irq, .io = vm_io, .arg = &e->vm};
	struct arch_entry entry;

	if (vm_open(&e->vm, cfg->mem_bytes, SLOTS, err) < 0)
		return -1;
	if (cfg->vcpus > e->vm.vcpus_max)
		return error_kind(err, ERR_UNSUPPORTED, "%u vCPUs: this host's KVM allows %u",
				  cfg->vcpus, e->vm.vcpus_max);
	if (load(e, cfg, &entry, err) < 0 || vm_map(&e->vm, err) < 0)
		return -1;
	/* Interrupt controllers before what is wired to them. */
	e->arch = arch_vm_new(e->vm.kvm, e->vm.vm, cfg->vcpus, err);
	if (!e->arch || wire_console(e, cfg->console, err) < 0)
		return -1;
	e->bus = mmio_new(e->loop, &e->vm.mem, e->vm.pages, SLOTS, &k, err);
	if (!e->bus || make_vcpus(e, cfg, &entry, err) < 0)
		return -1;
	for (unsigned i = 0; i < cfg->ndevices; i++)
		if (plug(e, cfg->devices[i], i >= cfg->ndevices - cfg->nlate, err) < 0)
			return error_wrap(err, "device %s", cfg->devices[i]->ops->name);
	return 0;
}

static int run(struct kvm *e, const struct engine_config *cfg, struct error *err)
{
	int fd = vcpus_event_fd(e->vcpus);

	e->news = loop_add(e->loop, fd, EPOLLIN, on_news, e, err);
	if (!e->news)
		return -1;
	close_fd(&e->vm.kvm); /* the machine is made, and shall be the only one */
	if (cfg->ready_to_run && cfg->ready_to_run(cfg->ready_arg, err) < 0)
		return -1;
	if (vcpus_run(e->vcpus, err) < 0)
		return -1;
	/* The first news are that the machine runs. */
	return eventfd_write(fd, 1) < 0 ? error_errno(err, "eventfd") : 0;
}

struct engine *engine_kvm_start(struct loop *l, const struct engine_config *cfg,
				const struct engine_events *ev, struct error *err)
{
	struct kvm *e = xcalloc(1, sizeof(*e));

	*e = (struct kvm){.engine.ops = &kvm_ops,
			  .loop = l,
			  .ev = *ev,
			  .vm = {.kvm = -1, .vm = -1, .mem_fd = -1},
			  .ports = {.console = on_console, .arg = e, .irq_fd = -1}};
	pthread_mutex_init(&e->ports_lock, NULL);
	console_init(&e->console, CONSOLE_BYTES);
	if (cfg->console_log >= 0)
		console_log_to(&e->console, cfg->console_log);
	console_put(&e->console, "", 0); /* has its memory: vCPUs' threads allocate none */
	if (make_machine(e, cfg, err) < 0 || run(e, cfg, err) < 0) {
		kvm_free(&e->engine);
		return NULL;
	}
	return &e->engine;
}
