/*
 * Theory of operation.
 *
 * A sandbox is a machine and what it is connected to. Its vsock and its random generator are there
 * from the start, with engine kvm also its balloon and a virtio-fs if there is a virtiofsd (QEMU
 * has its own front end for that one); disks come and go (disks.c), with an engine that cannot plug
 * devices in by slots that it has from its start.
 *
 * Nothing needs random numbers (the boot has its seed, vmm/arch) and the balloon before a container
 * runs, and to find them costs a guest some 90 exits. With `late_devices` their slots look empty
 * until the agent asks for them, by a connection to VSOCK_PORT_LATE.
 *
 * States: NEW -> STARTING -> RUNNING <-> PAUSED -> OVER. Once OVER the loop ends; what was asked
 * and is not answered yet is answered first, for at most FLUSH_MS.
 */
#include "vmm/sandbox.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "vmm/disks.h"
#include "vmm/engine.h"
#include "vmm/jail.h"
#include "vmm/nics.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/vsock.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#define FLUSH_MS 2000
#define FS_GRACE_US 200000

enum state { NEW, STARTING, RUNNING, PAUSED, OVER };

struct sandbox {
	struct loop *loop;
	struct control *control;
	struct opener *opener; /* of files in trees */
	struct engine *engine;
	int console_log; /* a file, or -1 */
	enum state state;
	struct virtio_device *vsock, *rng;
	struct virtio_device *balloon, *fs; /* with engine kvm; fs: or NULL */
	char fs_lost[256];		    /* why virtiofsd is lost */
	struct disks disks;
	struct nics nics;
	struct control_call *start_call; /* until the machine runs */
	struct control_call *state_call; /* a pause or resume under way */
	enum state next_state;		 /* when it is done */
	bool ready;
	uint64_t exec_us, machine_us, ready_us;
	unsigned vcpus;
	uint64_t
		start_cpu_us; /* that the loop's thread took from its fork to the machine's start */
};

/* ---- life of the machine */

static void over(struct sandbox *s, int code)
{
	s->state = OVER;
	loop_stop(s->loop, code);
}

void sandbox_end(struct sandbox *s, const char *why)
{
	struct error e = ERROR_INIT;

	if (s->state == OVER)
		return;
	log_debug("sandbox ends: %s", why);
	if (s->engine)
		engine_stop(s->engine);
	if (s->start_call) {
		error_kind(&e, ERR_NOT_RUNNING, "the sandbox ends: %s", why);
		control_fail(s->start_call, &e);
		s->start_call = NULL;
	}
	over(s, 0);
}

static void on_started(void *arg)
{
	struct sandbox *s = arg;

	s->state = RUNNING;
	s->machine_us = now_us();
	log_elapsed("machine runs", s->exec_us);
	if (s->start_call)
		control_ok(s->start_call);
	s->start_call = NULL;
}

static void on_ended(void *arg, const char *why)
{
	struct sandbox *s = arg;
	struct error e = ERROR_INIT;

	error_set(&e, "%s", why);
	if (s->start_call)
		control_fail(s->start_call, &e);
	s->start_call = NULL;
	/* Told once: by whoever made the sandbox while it still listens, and here afterwards. */
	if (!control_event(s->control, "ended", e.msg, engine_console_tail(s->engine)))
		log_info("the machine ended: %s", e.msg);
	over(s, 1);
}

static void on_ready(void *arg)
{
	struct sandbox *s = arg;

	s->ready = true;
	s->ready_us = now_us();
	log_elapsed("agent listens", s->exec_us);
	engine_ready(s->engine);
	control_event(s->control, "ready", NULL, NULL);
}

static void on_late(void *arg)
{
	struct sandbox *s = arg;

	engine_reveal(s->engine);
}

static void on_unplugged(void *arg, struct virtio_device *d)
{
	struct sandbox *s = arg;

	if (!disks_unplugged(&s->disks, d) && !nics_unplugged(&s->nics, d))
		log_debug("device %s: unplugged", d->ops->name);
}

void sandbox_lost(struct sandbox *s, const char *why)
{
	if (s->state == OVER)
		return;
	if (!s->engine) {
		log_error("%s", why);
		over(s, 1);
		return;
	}
	engine_stop(s->engine);
	on_ended(s, why);
}

static void out_of_fs_grace(void *arg, uint32_t events UNUSED)
{
	struct sandbox *s = arg;

	sandbox_lost(s, s->fs_lost);
}

/* The guest would wait for an answer without bound. When the whole sandbox ends, virtiofsd may be
 * first: our own end then comes within the time of grace. */
static void on_fs_lost(void *arg, const char *why)
{
	struct sandbox *s = arg;

	snprintf(s->fs_lost, sizeof(s->fs_lost), "%s", why);
	if (!loop_timer(s->loop, FS_GRACE_US, out_of_fs_grace, s, NULL))
		out_of_fs_grace(s, 0);
}

/* Those that engine kvm alone has; `fs` is virtiofsd's socket, or -1. */
static int make_kvm_devices(struct sandbox *s, int fs, struct error *err)
{
	s->balloon = balloon_new(s->loop, err);
	if (!s->balloon)
		return -1;
	if (fs < 0)
		return 0;
	s->fs = fs_new(s->loop, fs, on_fs_lost, s, err);
	return s->fs ? 0 : -1;
}

static int make_devices(struct sandbox *s, const struct request_start *r, int *fds,
			struct error *err)
{
	s->vsock = vsock_new(s->loop, err);
	if (!s->vsock)
		return -1;
	vsock_on_ready(s->vsock, on_ready, on_late, s);
	s->rng = rng_new(s->loop, err);
	if (!s->rng)
		return -1;
	if (r->engine == REQUEST_ENGINE_QEMU) {
		if (disks_init_fixed(&s->disks, s->loop, s->opener, r->readonly_disks,
				     r->writable_disks, err) < 0)
			return -1;
		return nics_init_fixed(&s->nics, s->loop, r->nics, err);
	}
	disks_init(&s->disks, s->loop, s->opener);
	nics_init(&s->nics, s->loop);
	return make_kvm_devices(s, r->fs ? steal_fd(&fds[3]) : -1, err);
}

static int check_fs(int fd, struct error *err)
{
	struct sockaddr_un a = {0};
	socklen_t len = sizeof(a);
	int type = 0;
	socklen_t type_len = sizeof(type);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len) < 0 || type != SOCK_STREAM ||
	    getpeername(fd, (struct sockaddr *)&a, &len) < 0 || a.sun_family != AF_UNIX)
		return error_kind(
			err, ERR_INVALID,
			"start: the fourth descriptor is no connected Unix stream socket");
	return 0;
}

static int close_jail(void *arg, struct error *err)
{
	const struct request_start *r = arg;
	const struct jail_config cfg = {.engine_qemu = r->engine == REQUEST_ENGINE_QEMU,
					.file_bytes = r->file_bytes,
					.apparmor = r->apparmor,
					.selinux = r->selinux};

	return jail_close(&cfg, err);
}

/* Processor time of this thread; a vCPU's is not the start's. */
static uint64_t cpu_us(void)
{
	struct timespec t = {0};

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static int start(struct sandbox *s, const struct request_start *r, int *fds, struct error *err)
{
	const struct engine_events ev = {
		.started = on_started, .ended = on_ended, .unplugged = on_unplugged, .arg = s};
	struct virtio_device *devices[4 + DISKS_PLACES + NICS_MAX];
	struct engine_config cfg = {.kernel_fd = fds[1],
				    .initramfs_fd = fds[2],
				    .cmdline = r->cmdline,
				    .mem_bytes = r->memory,
				    .vcpus = r->vcpus,
				    .console = r->console,
				    .console_log = -1,
				    .qemu = r->qemu,
				    .apparmor = r->apparmor,
				    .selinux = r->selinux,
				    .fs_fd = r->fs ? fds[3] : -1,
				    .devices = devices,
				    .ready_to_run = close_jail,
				    .ready_arg = (void *)(uintptr_t)r};

	log_setup(STDERR_FILENO, r->log_json ? LOG_FMT_JSON : LOG_FMT_TEXT, r->log_level,
		  "husk-vmm");
	if (r->fs && check_fs(fds[3], err) < 0)
		return -1;
	if (control_listen(s->control, steal_fd(&fds[0]), err) < 0 ||
	    make_devices(s, r, fds, err) < 0)
		return -1;
	if (r->console_log)
		cfg.console_log = s->console_log = steal_fd(&fds[3 + r->fs]);
	s->disks.file_bytes = r->file_bytes;
	s->vcpus = r->vcpus;
	devices[cfg.ndevices++] = s->vsock;
	if (s->fs)
		devices[cfg.ndevices++] = s->fs;
	devices[cfg.ndevices++] = s->rng;
	if (s->balloon) {
		devices[cfg.ndevices++] = s->balloon;
		cfg.nlate = r->late_devices ? 2 : 0; /* these two, with engine kvm */
	}
	for (unsigned i = 0; s->disks.fixed && i < s->disks.n; i++)
		devices[cfg.ndevices++] = s->disks.dev[i];
	for (unsigned i = 0; s->nics.fixed && i < s->nics.n; i++)
		devices[cfg.ndevices++] = s->nics.place[i].dev;
	s->engine = r->engine == REQUEST_ENGINE_QEMU ? engine_qemu_start(s->loop, &cfg, &ev, err)
						     : engine_kvm_start(s->loop, &cfg, &ev, err);
	if (!s->engine)
		return -1;
	s->disks.engine = s->nics.engine = s->engine;
	s->start_cpu_us = cpu_us();
	log_elapsed("engine started", s->exec_us);
	return 0;
}

static void op_start(struct sandbox *s, struct control_call *call, const struct request *r,
		     int *fds)
{
	struct error e = ERROR_INIT;

	/* Only the boot client can come first: the listening socket comes with its start. */
	if (s->state != NEW) {
		error_kind(&e, ERR_INVALID, "start: the machine was started already");
		control_fail(call, &e);
		return;
	}
	s->state = STARTING;
	if (start(s, &r->start, fds, &e) == 0) {
		s->start_call = call;
		return;
	}
	control_fail(call, &e);
	over(s, 1);
}

/* ---- disks */

static void op_attach(struct sandbox *s, struct control_call *call, const struct request *r,
		      int *fds)
{
	struct error e = ERROR_INIT;
	struct jsonw w;
	int slot = r->op == REQUEST_ATTACH_TREE ? disks_attach_tree(&s->disks, r, fds, &e)
						: disks_attach_block(&s->disks, r, fds, &e);

	if (slot < 0) {
		control_fail(call, &e);
		return;
	}
	if (control_begin(call, &w) < 0)
		return;
	jsonw_kint(&w, "slot", slot);
	control_answer(call, &w, -1);
}

static void op_hold(struct sandbox *s, struct control_call *call, const struct request *r)
{
	struct error e = ERROR_INIT;

	if (disks_hold(&s->disks, r, &e) < 0)
		control_fail(call, &e);
	else
		control_ok(call);
}

static void op_detach(struct sandbox *s, struct control_call *call, const struct request *r)
{
	struct error e = ERROR_INIT;

	if (disks_detach(&s->disks, r->serial, &e) < 0)
		control_fail(call, &e);
	else
		control_ok(call);
}

/* ---- network cards */

static void op_attach_net(struct sandbox *s, struct control_call *call, const struct request *r,
			  int *fds)
{
	struct error e = ERROR_INIT;
	uint8_t mac[6];
	struct jsonw w;

	if (nics_attach(&s->nics, r, fds, mac, &e) < 0) {
		control_fail(call, &e);
		return;
	}
	if (control_begin(call, &w) < 0)
		return;
	nics_write_mac(&w, mac);
	control_answer(call, &w, -1);
}

static void op_net(struct sandbox *s, struct control_call *call, const struct request *r)
{
	struct error e = ERROR_INIT;
	int rc;

	if (r->op == REQUEST_DETACH_NET)
		rc = nics_detach(&s->nics, r->nic.id, &e);
	else
		rc = nics_link(&s->nics, r->nic.id, r->nic.up, &e);
	if (rc < 0)
		control_fail(call, &e);
	else
		control_ok(call);
}

/* ---- memory */

static void op_balloon(struct sandbox *s, struct control_call *call, const struct request *r)
{
	struct error e = ERROR_INIT;

	if (!s->balloon) {
		error_kind(&e, ERR_UNSUPPORTED, "balloon: engine %s has none",
			   engine_name(s->engine));
		control_fail(call, &e);
		return;
	}
	balloon_set_target(s->balloon, r->target_bytes);
	control_ok(call);
}

/* ---- streams */

static void on_connected(void *arg, int fd, const struct error *err)
{
	struct control_call *call = arg;
	struct jsonw w;

	if (fd < 0)
		control_fail(call, err);
	else if (control_begin(call, &w) == 0)
		control_answer(call, &w, fd);
	else
		close(fd);
}

static void op_vsock_connect(struct sandbox *s, struct control_call *call, const struct request *r)
{
	struct error e = ERROR_INIT;

	if (vsock_connect(s->vsock, r->port, r->timeout_us, on_connected, call, &e) < 0)
		control_fail(call, &e);
}

/* ---- state */

static void on_state(void *arg, const struct error *err)
{
	struct sandbox *s = arg;
	struct control_call *call = s->state_call;

	s->state_call = NULL;
	if (err) {
		control_fail(call, err);
		return;
	}
	s->state = s->next_state;
	control_ok(call);
}

static void op_state(struct sandbox *s, struct control_call *call, enum state wanted)
{
	struct error e = ERROR_INIT;
	int r;

	if (s->state == wanted && !s->state_call) {
		control_ok(call);
		return;
	}
	if (s->state_call) {
		error_set(&e, "a pause or resume is under way");
		control_fail(call, &e);
		return;
	}
	s->state_call = call;
	s->next_state = wanted;
	r = wanted == PAUSED ? engine_pause(s->engine, on_state, s, &e)
			     : engine_resume(s->engine, on_state, s, &e);
	if (r < 0) {
		s->state_call = NULL;
		control_fail(call, &e);
	}
}

static void write_status(struct sandbox *s, struct jsonw *w)
{
	jsonw_kstr(w, "engine", engine_name(s->engine));
	jsonw_kint(w, "pid", jail_pid());
	jsonw_kint(w, "engine_pid", engine_pid(s->engine));
	jsonw_kstr(w, "state", s->state == PAUSED ? "paused" : "running");
	jsonw_kbool(w, "ready", s->ready);
	disks_write_slots(&s->disks, w);
	nics_write_status(&s->nics, w);
	jsonw_kint(w, "vcpus", s->vcpus);
	jsonw_key(w, "times_us");
	jsonw_obj(w);
	jsonw_kint(w, "exec", (int64_t)s->exec_us);
	jsonw_kint(w, "machine", (int64_t)s->machine_us);
	jsonw_kint(w, "start_cpu", (int64_t)s->start_cpu_us);
	if (s->ready)
		jsonw_kint(w, "ready", (int64_t)s->ready_us);
	jsonw_end_obj(w);
}

static void write_console(struct sandbox *s, struct jsonw *w)
{
	jsonw_kstr(w, "text", engine_console_tail(s->engine));
}

static void write_balloon(struct sandbox *s, struct jsonw *w)
{
	struct balloon_stats b;

	if (!s->balloon)
		return;
	balloon_stats(s->balloon, &b);
	jsonw_key(w, "balloon");
	jsonw_obj(w);
	jsonw_kuint(w, "target_bytes", b.target);
	jsonw_kuint(w, "actual_bytes", b.actual);
	jsonw_kuint(w, "reported_bytes", b.reported);
	jsonw_end_obj(w);
}

static void write_stats(struct sandbox *s, struct jsonw *w)
{
	struct vsock_stats vs = {0};

	vsock_stats(s->vsock, &vs);
	jsonw_key(w, "vsock");
	jsonw_obj(w);
	jsonw_kuint(w, "conns", vs.conns);
	jsonw_kuint(w, "tx_bytes", vs.tx_bytes);
	jsonw_kuint(w, "rx_bytes", vs.rx_bytes);
	jsonw_end_obj(w);
	disks_write_stats(&s->disks, w);
	nics_write_stats(&s->nics, w);
	write_balloon(s, w);
	engine_stats(s->engine, w);
}

static void op_report(struct sandbox *s, struct control_call *call,
		      void (*write)(struct sandbox *, struct jsonw *))
{
	struct jsonw w;

	if (control_begin(call, &w) < 0)
		return;
	write(s, &w);
	control_answer(call, &w, -1);
}

static void op_shutdown(struct sandbox *s, struct control_call *call)
{
	sandbox_end(s, "shutdown was asked for");
	control_ok(call);
}

/* ---- requests */

static void on_request(void *arg, struct control_call *call, struct request *r, int *fds)
{
	struct sandbox *s = arg;
	struct error e = ERROR_INIT;

	if (r->op == REQUEST_START) {
		op_start(s, call, r, fds);
		return;
	}
	if (r->op == REQUEST_SHUTDOWN && s->state != OVER) {
		op_shutdown(s, call);
		return;
	}
	if (s->state == NEW || s->state == OVER || !s->engine) {
		error_kind(&e, ERR_NOT_RUNNING, "%s: the machine %s", request_op_name(r->op),
			   s->state == OVER ? "has ended" : "was not started");
		control_fail(call, &e);
		return;
	}
	switch (r->op) {
	case REQUEST_ATTACH_BLOCK:
	case REQUEST_ATTACH_TREE:
		op_attach(s, call, r, fds);
		break;
	case REQUEST_HOLD:
		op_hold(s, call, r);
		break;
	case REQUEST_DETACH:
		op_detach(s, call, r);
		break;
	case REQUEST_ATTACH_NET:
		op_attach_net(s, call, r, fds);
		break;
	case REQUEST_DETACH_NET:
	case REQUEST_NET_LINK:
		op_net(s, call, r);
		break;
	case REQUEST_VSOCK_CONNECT:
		op_vsock_connect(s, call, r);
		break;
	case REQUEST_BALLOON:
		op_balloon(s, call, r);
		break;
	case REQUEST_PAUSE:
		op_state(s, call, PAUSED);
		break;
	case REQUEST_RESUME:
		op_state(s, call, RUNNING);
		break;
	case REQUEST_STATUS:
		op_report(s, call, write_status);
		break;
	case REQUEST_CONSOLE:
		op_report(s, call, write_console);
		break;
	case REQUEST_STATS:
		op_report(s, call, write_stats);
		break;
	case REQUEST_START:
	case REQUEST_SHUTDOWN:
		break;
	}
}

static void on_boot_closed(void *arg)
{
	struct sandbox *s = arg;

	/* Nobody else can start a machine. Later the lifeline decides. */
	if (s->state == NEW) {
		log_error("the boot socket was closed before a start");
		over(s, 1);
	}
}

struct sandbox *sandbox_new(struct loop *l, struct opener *opener, uint64_t exec_us)
{
	struct sandbox *s = xcalloc(1, sizeof(*s));

	*s = (struct sandbox){.loop = l, .opener = opener, .exec_us = exec_us, .console_log = -1};
	return s;
}

int sandbox_serve(struct sandbox *s, int boot, struct error *err)
{
	const struct control_handler h = {
		.request = on_request, .boot_closed = on_boot_closed, .arg = s};

	s->control = control_new(s->loop, boot, &h, err);
	return s->control ? 0 : -1;
}

static void destroy(struct virtio_device *d)
{
	if (d)
		d->ops->destroy(d);
}

void sandbox_free(struct sandbox *s)
{
	/* The engine's end fails what waits for it, and the vsock's what waits for the guest. */
	engine_free(s->engine);
	close_fd(&s->console_log);
	destroy(s->vsock);
	destroy(s->rng);
	destroy(s->balloon);
	destroy(s->fs);
	disks_free(&s->disks);
	nics_free(&s->nics);
	if (s->control)
		control_flush(s->control, FLUSH_MS);
	control_free(s->control);
	free(s);
}
