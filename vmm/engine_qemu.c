/*
 * The engine that uses QEMU's microvm machine as CPU and RAM.
 *
 * Theory of operation.
 *
 * QEMU gets everything as inherited descriptors and plain numbers: guest memory, a memfd
 * (qemu_machine.c), firmware, kernel and initramfs as /proc/self/fd/N, which it opens
 * before it changes its root; one end of a socket pair for its monitor, for the guest's serial
 * console and for every device; a pipe for its messages. Guest memory reaches our devices by
 * vhost-user. So all that a guest can talk to in QEMU is the CPU, the memory, the timers, the
 * serial port, the registers of virtio-mmio, QEMU's virtio console if one was asked for, and ACPI's
 * two (power button, memory: none to act on).
 *
 * Slots. Device i goes to slot QEMU_SLOT_FIRST + i, said by bus= and not left to the order of
 * options.
 *
 * QEMU's sandbox, from outside in:
 *   - the minder (vmm/minder.c): namespaces of its own, an empty mount namespace once the machine
 *     runs, and death with husk-vmm;
 *   - no_new_privs, RLIMIT_CORE 0, few descriptors, no file larger than guest memory;
 *   - Landlock, where the kernel has it: paths can be read and executed, nothing else;
 *   - -runas: a uid and gid that belong to this VM alone, no supplementary groups; as this is a
 *     change from uid 0, the kernel clears all capability sets but the bounding set, which is
 *     small (vmm/minder.c) and made useless by no_new_privs;
 *   - -chroot: into an empty read-only tmpfs that is mounted nowhere;
 *   - -sandbox: QEMU's seccomp filter without obsolete calls, spawn (fork, exec) and resource
 * control. elevateprivileges=deny is not given: it also forbids the setuid calls of -runas
 * (QEMU 7.2 then dies of SIGSYS), and no_new_privs without capabilities leaves nothing to elevate.
 *
 * A virtio-fs is the one device that is not ours: virtiofsd serves it, over a socket that goes to
 * QEMU. We keep a second descriptor of it, only to learn of its end: a guest waits without bound
 * for an answer of its file system, so that the machine's end, which names the cause, is better.
 *
 * Life. The monitor's answer to its first command means that the machine was built and runs. When
 * the guest resets or shuts down, QEMU says SHUTDOWN, and we kill it: its own orderly end costs
 * time and gives nothing. Whatever else happens shows as the end of a socket; then QEMU has
 * GRACE_US to end by itself, so that we learn its status and its last words, before it is killed.
 * The one report to the owner is made when the minder's pidfd says that no process is left.
 */
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "vmm/console.h"
#include "vmm/engine.h"
#include "vmm/jail.h"
#include "vmm/minder.h"
#include "vmm/qemu_machine.h"
#include "vmm/qmp.h"
#include "vmm/socket_file.h"
#include "vmm/tsc.h"
#include "vmm/vhost_user.h"
#include "vmm/virtio/net.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* syscalls qemu: read close */

#define SLOTS QEMU_SLOTS
#define CONSOLE_BYTES 8192
#define MESSAGES_BYTES 2048
#define GRACE_US 1000000
#define ARGS_MAX (48 + 6 * SLOTS) /* what the machine needs, and up to three options a device */

/* A read or write of the guest is no longer than the queue: 1024 descriptors allow FUSE's most, 1
 * MiB; the default of 128 allows half of it. */
#define FS_DEVICE "vhost-user-fs-device,tag=husk,queue-size=1024"

/* MiB of translated code that QEMU keeps. Its default is an eighth of the host's memory or
 * 1 GiB; a kernel's boot fills 10 to 20 MiB. */
#define TB_MIB 64

/* A device that QEMU connects to, where it inherits the connection of every other one. */
struct card {
	struct qemu *e;
	struct virtio_device *d; /* NULL: no card */
	int listener;
	struct loop_source *src;
};

struct qemu {
	struct engine engine; /* first */
	struct loop *loop;
	struct engine_events ev;
	struct minder minder;
	struct qmp *qmp;
	struct loop_source *exit_src, *status_src, *grace;
	struct {
		int fd;
		struct loop_source *src;
	} in[2]; /* the guest's console, QEMU's messages */
	struct vhost_user *vu[SLOTS];
	unsigned nvu;
	struct card nic[SLOTS]; /* those of the devices that are network cards */
	bool ready;		/* the monitor takes commands */
	int fs_fd;		/* virtiofsd's socket; -1: none */
	struct loop_source *fs_src;
	struct console console, messages;
	bool ended;
	bool killed;		  /* by us, out of patience */
	char guest_end[96];	  /* what the guest did to end the machine, "" if nothing */
	char lost[160];		  /* what broke first, "" if nothing */
	struct error start_error; /* QEMU could not be executed */
	engine_done_fn done;	  /* of the pause or resume under way */
	void *done_arg;
};

enum { IN_CONSOLE, IN_MESSAGES };

static struct qemu *qemu_of(struct engine *e)
{
	return (struct qemu *)e;
}

/* ---- QEMU's command line */

struct args {
	char *v[ARGS_MAX + 1];
	unsigned n;
	int fds[MINDER_FDS_MAX];
	unsigned nfds;
};

static void add(struct args *a, char *option, char *value)
{
	if (a->n + 2 > ARGS_MAX) /* cannot be: the number of slots is bounded */
		abort();
	a->v[a->n++] = option;
	if (value)
		a->v[a->n++] = value;
}

#define ADD(a, option, ...) add(a, xstrdup(option), xasprintf(__VA_ARGS__))

static void args_free(struct args *a)
{
	while (a->n > 0)
		free(a->v[--a->n]);
}

/* The number that `fd` will have in QEMU. */
static int pass(struct args *a, int fd)
{
	a->fds[a->nfds] = fd;
	return MINDER_FD_FIRST + (int)a->nfds++;
}

static const char *qemu_device(const struct virtio_device *d)
{
	switch (d->ops->id) {
	case VIRTIO_ID_BLOCK:
		return "vhost-user-blk,num-queues=1,queue-size=256";
	case VIRTIO_ID_NET: /* behind a netdev: add_device() */
		return "virtio-net-device";
	case VIRTIO_ID_RNG:
		return "vhost-user-rng";
	case VIRTIO_ID_VSOCK:
		return "vhost-user-vsock-device";
	default:
		return NULL;
	}
}

static void machine_args(struct args *a, const struct engine_config *cfg,
			 const struct qemu_machine *m, bool pit, int root)
{
	unsigned long long mib = cfg->mem_bytes >> 20;
	unsigned uid = jail_uid();

	add(a, xstrdup(cfg->qemu), NULL);
	/* rtc=on: the kernel waits for a clock that is not there, and has the time from one that
	 * is. acpi=on, for the second I/O APIC's sake: the guest reads no tables of it. */
	ADD(a, "-M",
	    "microvm,acpi=on,ioapic2=on,pcie=off,usb=off,x-option-roms=off,pic=off,pit=%s,rtc=on,"
	    "isa-serial=on,mem-merge=off,dump-guest-core=off,memory-backend=ram",
	    pit ? "on" : "off");
	ADD(a, "-accel", "tcg,thread=multi,tb-size=%d", TB_MIB);
	/* Without ERMS the guest copies by words: TCG runs "rep movsb" a byte at a time. */
	ADD(a, "-cpu", "max,erms=off,fsrm=off");
	/* Room for two at least: for one processor QEMU translates a locked instruction, which is
	 * Linux's full barrier, without any barrier, as if no device were a process of its own, and
	 * a kick or an interrupt can be lost. The guest is told of those that there are. */
	ADD(a, "-smp", "%u,maxcpus=%u", cfg->vcpus, cfg->vcpus > 1 ? cfg->vcpus : 2);
	ADD(a, "-m", "%lluM", mib);
	ADD(a, "-object",
	    "memory-backend-file,id=ram,share=on,mem-path=/proc/self/fd/%d,size=%lluM",
	    pass(a, m->memory), mib);
	add(a, xstrdup("-nodefaults"), xstrdup("-no-user-config"));
	add(a, xstrdup("-no-reboot"), NULL);
	ADD(a, "-display", "none");
	ADD(a, "-global", "virtio-mmio.force-legacy=false");
	ADD(a, "-bios", "/proc/self/fd/%d", pass(a, m->firmware));
	ADD(a, "-device", "loader,file=/proc/self/fd/%d", pass(a, cfg->kernel_fd));
	if (m->initramfs)
		ADD(a, "-device", "loader,file=/proc/self/fd/%d,addr=0x%llx,force-raw=on",
		    pass(a, cfg->initramfs_fd), (unsigned long long)m->initramfs);
	ADD(a, "-sandbox", "on,obsolete=deny,spawn=deny,resourcecontrol=deny");
	ADD(a, "-runas", "%u:%u", uid, uid);
	ADD(a, "-chroot", "/proc/self/fd/%d", pass(a, root));
}

static void channel_args(struct args *a, int qmp, int console)
{
	ADD(a, "-chardev", "socket,id=qmp,fd=%d", pass(a, qmp));
	ADD(a, "-mon", "chardev=qmp,mode=control");
	ADD(a, "-chardev", "socket,id=console,mux=on,fd=%d", pass(a, console));
	ADD(a, "-serial", "chardev:console");
}

/* ---- the end */

static void read_in(struct qemu *e, unsigned i)
{
	char buf[4096];

	while (e->in[i].fd >= 0) {
		ssize_t n = read(e->in[i].fd, buf, sizeof(buf));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			loop_remove(e->in[i].src);
			e->in[i].src = NULL;
			close_fd(&e->in[i].fd);
			return;
		}
		console_put(&e->console, buf, (size_t)n);
		if (i == IN_MESSAGES)
			console_put(&e->messages, buf, (size_t)n);
		/* One turn of a flood is enough, unless this is the last chance. */
		if (!e->ended && n < (ssize_t)sizeof(buf))
			return;
	}
}

static void on_console(void *arg, uint32_t events UNUSED)
{
	read_in(arg, IN_CONSOLE);
}

static void on_message(void *arg, uint32_t events UNUSED)
{
	read_in(arg, IN_MESSAGES);
}

/* The kernel's or the agent's own word about the end, if the console has it. */
static void find_panic(struct qemu *e)
{
	char reason[64];

	if (strncmp(e->guest_end, "guest", 5) != 0)
		return;
	if (console_panic(&e->console, reason, sizeof(reason)))
		snprintf(e->guest_end, sizeof(e->guest_end), "guest kernel panic: %s", reason);
	else if (console_agent(&e->console, reason, sizeof(reason)))
		snprintf(e->guest_end, sizeof(e->guest_end), "guest agent: %s", reason);
}

static void describe_end(struct qemu *e, int status, char *why, size_t size)
{
	char last[512], how[128];

	find_panic(e);
	if (e->guest_end[0]) {
		snprintf(why, size, "%s", e->guest_end);
		return;
	}
	if (e->start_error.msg[0]) {
		snprintf(why, size, "qemu: %.1024s", e->start_error.msg);
		return;
	}
	console_last_lines(&e->messages, 2, last, sizeof(last));
	if (e->killed)
		snprintf(how, sizeof(how), "was given up");
	else if (status > 128)
		snprintf(how, sizeof(how), "was killed by signal %d (%s)", status - 128,
			 strsignal(status - 128));
	else
		snprintf(how, sizeof(how), "ended with status %d", status);
	if (last[0])
		snprintf(why, size, "qemu %s: %s", how, last);
	else if (e->killed || status <= 128)
		snprintf(why, size, "qemu %s: %s", how, e->lost[0] ? e->lost : "no message");
	else
		snprintf(why, size, "qemu %s", how);
}

static void drop(struct loop_source **src)
{
	loop_remove(*src);
	*src = NULL;
}

static void drop_sources(struct qemu *e)
{
	drop(&e->exit_src);
	drop(&e->status_src);
	drop(&e->grace);
	drop(&e->fs_src);
}

static void on_status(void *arg, uint32_t events)
{
	struct qemu *e = arg;
	struct error err = ERROR_INIT;
	int r;

	while ((r = minder_status(&e->minder, &err)) > 0)
		log_debug("qemu: pid %d", (int)e->minder.program);
	if (r < 0)
		e->start_error = err;
	if (events & EPOLLHUP)
		drop(&e->status_src);
}

/* The minder is gone, and with it all that it started. */
static void on_exit_of_minder(void *arg, uint32_t events UNUSED)
{
	struct qemu *e = arg;
	char why[ERROR_MSG_MAX];
	int status = minder_wait(&e->minder);

	e->ended = true;
	on_status(e, 0);
	read_in(e, IN_CONSOLE);
	read_in(e, IN_MESSAGES);
	describe_end(e, status, why, sizeof(why));
	drop_sources(e);
	e->ev.ended(e->ev.arg, why);
}

static void out_of_grace(void *arg, uint32_t events UNUSED)
{
	struct qemu *e = arg;

	e->grace = NULL;
	e->killed = true;
	minder_kill(&e->minder);
}

/* A connection to QEMU ended that should live as long as QEMU. */
static void lost(struct qemu *e, const char *what, const char *why)
{
	if (e->ended || e->lost[0])
		return;
	snprintf(e->lost, sizeof(e->lost), "%s: %s", what, why);
	e->grace = loop_timer(e->loop, GRACE_US, out_of_grace, e, NULL);
	if (!e->grace)
		minder_kill(&e->minder);
}

static void device_closed(void *arg, const char *why)
{
	lost(arg, "device", why);
}

static void fs_closed(void *arg, uint32_t events UNUSED)
{
	struct qemu *e = arg;

	drop(&e->fs_src);
	if (!e->guest_end[0])
		snprintf(e->guest_end, sizeof(e->guest_end), "virtiofsd has ended");
	/* When the whole sandbox ends, virtiofsd may be first: our own end then comes within the
	 * time of grace. */
	lost(e, "virtiofsd", "has ended");
}

/* ---- the monitor */

static void link_answered(void *arg, const struct qmp_msg *m UNUSED, const struct error *err)
{
	const struct qemu *e = arg;

	if (err && !e->ended)
		log_warn("qemu: set_link: %s", err->msg);
}

/* Of the card that is device i. QEMU starts and stops the rings of a vhost-user card by it. */
static int set_link(struct qemu *e, unsigned i, struct error *err)
{
	char args[QMP_ARGUMENTS_MAX];

	snprintf(args, sizeof(args), "\"name\":\"net%u\",\"up\":%s", i,
		 net_link(e->nic[i].d) ? "true" : "false");
	return qmp_execute_with(e->qmp, "set_link", args, link_answered, e, err);
}

static int qemu_link(struct engine *base, struct virtio_device *d, struct error *err)
{
	struct qemu *e = qemu_of(base);

	for (unsigned i = 0; i < SLOTS; i++)
		if (e->nic[i].d == d && e->ready)
			return set_link(e, i, err);
	return 0;
}

static void qmp_ready(void *arg)
{
	struct qemu *e = arg;

	minder_seal(&e->minder);
	e->ready = true;
	/* QEMU's cards begin with their link up. */
	for (unsigned i = 0; i < SLOTS; i++)
		if (e->nic[i].d && set_link(e, i, NULL) < 0)
			log_warn("qemu: link of device %u: not set", i);
	e->ev.started(e->ev.arg);
}

static void qmp_event(void *arg, const struct qmp_msg *m)
{
	struct qemu *e = arg;

	log_debug("qemu: %s %s", m->event, m->reason);
	if (strcmp(m->event, "SHUTDOWN") != 0 && strcmp(m->event, "GUEST_PANICKED") != 0)
		return;
	if (strncmp(m->reason, "guest-", 6) == 0)
		snprintf(e->guest_end, sizeof(e->guest_end), "guest %s", m->reason + 6);
	else if (m->reason[0] == '\0')
		snprintf(e->guest_end, sizeof(e->guest_end), "guest panic");
	else
		snprintf(e->guest_end, sizeof(e->guest_end), "qemu shut down (%s)", m->reason);
	minder_kill(&e->minder);
}

static void qmp_closed(void *arg, const char *why)
{
	lost(arg, "monitor", why);
}

static void qmp_answered(void *arg, const struct qmp_msg *m UNUSED, const struct error *err)
{
	struct qemu *e = arg;
	engine_done_fn done = e->done;

	e->done = NULL;
	done(e->done_arg, err);
}

static int execute(struct qemu *e, const char *command, engine_done_fn done, void *arg,
		   struct error *err)
{
	if (e->ended)
		return error_kind(err, ERR_NOT_RUNNING, "the machine has ended");
	if (e->done)
		return error_set(err, "a pause or resume is under way");
	e->done = done;
	e->done_arg = arg;
	if (qmp_execute(e->qmp, command, qmp_answered, e, err) < 0) {
		e->done = NULL;
		return -1;
	}
	return 0;
}

static int qemu_pause(struct engine *e, engine_done_fn done, void *arg, struct error *err)
{
	return execute(qemu_of(e), "stop", done, arg, err);
}

static int qemu_resume(struct engine *e, engine_done_fn done, void *arg, struct error *err)
{
	return execute(qemu_of(e), "cont", done, arg, err);
}

/* ---- the start */

static int pair(int sv[2], struct error *err)
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return error_errno(err, "socketpair");
	return 0;
}

static int watch_in(struct qemu *e, unsigned i, int fd, loop_fn fn, struct error *err)
{
	e->in[i].fd = fd;
	set_nonblock(fd, true);
	e->in[i].src = loop_add(e->loop, fd, EPOLLIN, fn, e, err);
	return e->in[i].src ? 0 : -1;
}

/* Our ends and QEMU's ends of everything that connects us. */
struct wires {
	int qmp[2], console[2], device[SLOTS][2], messages[2], root;
};

static void close_wires(struct wires *w)
{
	for (int i = 0; i < 2; i++) {
		close_fd(&w->qmp[i]);
		close_fd(&w->console[i]);
		close_fd(&w->messages[i]);
		for (int s = 0; s < SLOTS; s++)
			close_fd(&w->device[s][i]);
	}
	close_fd(&w->root);
}

static int lay_wires(struct wires *w, const struct engine_config *cfg, struct error *err)
{
	memset(w, 0xff, sizeof(*w)); /* all -1 */
	if (pair(w->qmp, err) < 0 || pair(w->console, err) < 0)
		return -1;
	for (unsigned i = 0; i < cfg->ndevices; i++) {
		int *fd = w->device[i];

		if ((cfg->devices[i]->ops->id == VIRTIO_ID_NET
			     ? socket_file_listen(&fd[0], &fd[1], err)
			     : pair(fd, err)) < 0)
			return -1;
	}
	if (pipe2(w->messages, O_CLOEXEC) < 0)
		return error_errno(err, "pipe");
	w->root = minder_empty_root(err);
	return w->root < 0 ? -1 : 0;
}

static void add_device(struct args *a, const struct virtio_device *d, unsigned i, int fd)
{
	uint8_t mac[6];

	if (d->ops->id != VIRTIO_ID_NET) {
		ADD(a, "-chardev", "socket,id=dev%u,fd=%d", i, fd);
		ADD(a, "-device", "%s,chardev=dev%u,bus=virtio-mmio-bus.%u", qemu_device(d), i,
		    QEMU_SLOT_FIRST + i);
		return;
	}
	net_mac(d, mac);
	/* A netdev takes a socket that it connected itself, by path, and no other. */
	ADD(a, "-chardev", "socket,id=dev%u,path=/proc/self/fd/%d", i, fd);
	ADD(a, "-netdev", "vhost-user,id=net%u,chardev=dev%u", i, i);
	ADD(a, "-device",
	    "%s,netdev=net%u,bus=virtio-mmio-bus.%u,mac=%02x:%02x:%02x:%02x:%02x:%02x",
	    qemu_device(d), i, QEMU_SLOT_FIRST + i, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

static int spawn(struct qemu *e, const struct engine_config *cfg, const struct wires *w,
		 const struct qemu_machine *machine, bool pit, struct error *err)
{
	struct args a = {0};
	struct minder_config mc;
	int r;

	machine_args(&a, cfg, machine, pit, w->root);
	channel_args(&a, w->qmp[1], w->console[1]);
	for (unsigned i = 0; i < cfg->ndevices; i++)
		add_device(&a, cfg->devices[i], i, pass(&a, w->device[i][1]));
	if (cfg->fs_fd >= 0) {
		ADD(&a, "-chardev", "socket,id=fs,fd=%d", pass(&a, cfg->fs_fd));
		ADD(&a, "-device", FS_DEVICE ",chardev=fs,bus=virtio-mmio-bus.%u",
		    QEMU_SLOT_FIRST + cfg->ndevices);
	}
	if (cfg->console) {
		ADD(&a, "-device", "virtio-serial-device,max_ports=1,bus=virtio-mmio-bus.%u",
		    QEMU_SLOT_FIRST + qemu_machine_slots(cfg) - 1);
		ADD(&a, "-device", "virtconsole,chardev=console");
	}
	if (log_enabled(LOG_LVL_DEBUG))
		for (unsigned i = 0; i < a.n; i++)
			log_debug("qemu: argument: %s", a.v[i]);
	mc = (struct minder_config){.path = cfg->qemu,
				    .argv = a.v,
				    .fds = a.fds,
				    .nfds = a.nfds,
				    .output_fd = w->messages[1],
				    .file_bytes = cfg->mem_bytes,
				    .apparmor = cfg->apparmor,
				    .selinux = cfg->selinux};
	r = minder_start(&e->minder, &mc, err);
	args_free(&a);
	return r;
}

static void on_card_connects(void *arg, uint32_t events UNUSED)
{
	struct card *c = arg;
	struct qemu *e = c->e;
	unsigned i = (unsigned)(c - e->nic);
	int fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC);
	struct error err = ERROR_INIT;

	if (fd < 0)
		return;
	drop(&c->src);
	close_fd(&c->listener);
	e->vu[i] = vhost_user_new(e->loop, fd, c->d, device_closed, e, &err);
	if (!e->vu[i])
		lost(e, "network card", err.msg);
}

static int await_card(struct qemu *e, unsigned i, struct virtio_device *d, int listener,
		      struct error *err)
{
	struct card *c = &e->nic[i];

	*c = (struct card){.e = e, .d = d, .listener = listener};
	c->src = loop_add(e->loop, listener, EPOLLIN, on_card_connects, c, err);
	return c->src ? 0 : -1;
}

static int connect_devices(struct qemu *e, const struct engine_config *cfg, struct wires *w,
			   struct error *err)
{
	for (unsigned i = 0; i < cfg->ndevices; i++) {
		int fd = steal_fd(&w->device[i][0]);

		e->nvu++;
		if (cfg->devices[i]->ops->id == VIRTIO_ID_NET) {
			if (await_card(e, i, cfg->devices[i], fd, err) < 0)
				return error_wrap(err, "device %u", i);
			continue;
		}
		e->vu[i] = vhost_user_new(e->loop, fd, cfg->devices[i], device_closed, e, err);
		if (!e->vu[i])
			return error_wrap(err, "device %u", i);
	}
	return 0;
}

static int connect_qemu(struct qemu *e, struct wires *w, struct error *err)
{
	const struct qmp_handler h = {
		.ready = qmp_ready, .event = qmp_event, .closed = qmp_closed, .arg = e};

	e->exit_src = loop_add(e->loop, e->minder.pidfd, EPOLLIN, on_exit_of_minder, e, err);
	e->status_src = loop_add(e->loop, e->minder.status_fd, EPOLLIN, on_status, e, err);
	if (!e->exit_src || !e->status_src)
		return -1;
	if (watch_in(e, IN_CONSOLE, steal_fd(&w->console[0]), on_console, err) < 0 ||
	    watch_in(e, IN_MESSAGES, steal_fd(&w->messages[0]), on_message, err) < 0)
		return -1;
	e->qmp = qmp_new(e->loop, steal_fd(&w->qmp[0]), &h, err);
	return e->qmp ? 0 : -1;
}

static int watch_fs(struct qemu *e, int fd, struct error *err)
{
	if (fd < 0)
		return 0;
	e->fs_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (e->fs_fd < 0)
		return error_errno(err, "virtiofsd's socket");
	/* QEMU reads it; all that we see of it is its end. */
	e->fs_src = loop_add(e->loop, e->fs_fd, EPOLLRDHUP, fs_closed, e, err);
	return e->fs_src ? 0 : -1;
}

static int check_config(const struct engine_config *cfg, struct error *err)
{
	unsigned slots = qemu_machine_slots(cfg);

	if (slots > SLOTS)
		return error_set(err, "%u devices are more than %d slots", slots, SLOTS);
	for (unsigned i = 0; i < cfg->ndevices; i++)
		if (!qemu_device(cfg->devices[i]))
			return error_kind(err, ERR_UNSUPPORTED, "device %s: not with engine qemu",
					  cfg->devices[i]->ops->name);
	if (access(cfg->qemu, X_OK) == 0)
		return 0;
	if (errno == ENOENT)
		return error_kind(err, ERR_NOT_FOUND,
				  "%s: not found: install Debian package qemu-system-x86",
				  cfg->qemu);
	return error_errno(err, "%s", cfg->qemu);
}

static void qemu_stop(struct engine *base)
{
	struct qemu *e = qemu_of(base);

	drop_sources(e);
	if (!e->ended && e->minder.pid > 0) {
		minder_kill(&e->minder);
		minder_wait(&e->minder);
	}
	e->ended = true;
}

static void qemu_free(struct engine *base)
{
	struct qemu *e = qemu_of(base);

	qemu_stop(base);
	for (unsigned i = 0; i < e->nvu; i++) {
		vhost_user_free(e->vu[i]);
		if (e->nic[i].d) {
			drop(&e->nic[i].src);
			close_fd(&e->nic[i].listener);
		}
	}
	qmp_free(e->qmp);
	for (unsigned i = 0; i < ARRAY_LEN(e->in); i++) {
		loop_remove(e->in[i].src);
		close_fd(&e->in[i].fd);
	}
	close_fd(&e->fs_fd);
	minder_free(&e->minder);
	console_free(&e->console);
	console_free(&e->messages);
	free(e);
}

static pid_t qemu_pid(const struct engine *e)
{
	return ((const struct qemu *)e)->minder.program;
}

static const char *qemu_console_tail(struct engine *base)
{
	struct qemu *e = qemu_of(base);

	if (!e->ended) {
		read_in(e, IN_CONSOLE);
		read_in(e, IN_MESSAGES);
	}
	return console_text(&e->console);
}

static const struct engine_ops qemu_ops = {
	.name = "qemu",
	.pause = qemu_pause,
	.resume = qemu_resume,
	.link = qemu_link,
	.stop = qemu_stop,
	.free = qemu_free,
	.pid = qemu_pid,
	.console_tail = qemu_console_tail,
};

struct engine *engine_qemu_start(struct loop *l, const struct engine_config *cfg,
				 const struct engine_events *ev, struct error *err)
{
	struct qemu *e;
	struct wires w;
	struct qemu_machine machine;
	uint64_t khz = tsc_khz();
	int r;

	if (check_config(cfg, err) < 0)
		return NULL;
	if (!khz)
		log_warn("no usable time stamp counter: the guest measures its own, which fails on "
			 "a busy host");
	e = xcalloc(1, sizeof(*e));
	*e = (struct qemu){
		.engine.ops = &qemu_ops, .loop = l, .ev = *ev, .in = {{.fd = -1}, {.fd = -1}}};
	e->fs_fd = -1;
	e->minder = (struct minder){.pidfd = -1, .status_fd = -1};
	console_init(&e->console, CONSOLE_BYTES);
	if (cfg->console_log >= 0)
		console_log_to(&e->console, cfg->console_log);
	console_init(&e->messages, MESSAGES_BYTES);
	r = lay_wires(&w, cfg, err);
	if (qemu_machine_make(cfg, khz, &machine, r == 0 ? err : NULL) < 0)
		r = -1;
	if (r == 0)
		r = spawn(e, cfg, &w, &machine, !khz, err);
	qemu_machine_close(&machine);
	if (r == 0)
		r = connect_qemu(e, &w, err);
	if (r == 0)
		r = connect_devices(e, cfg, &w, err);
	if (r == 0)
		r = watch_fs(e, cfg->fs_fd, err);
	close_wires(&w);
	/* The minder has all that it needs to start QEMU. */
	if (r == 0 && cfg->ready_to_run)
		r = cfg->ready_to_run(cfg->ready_arg, err);
	if (r < 0) {
		qemu_free(&e->engine);
		return NULL;
	}
	return &e->engine;
}
