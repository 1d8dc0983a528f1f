/*
 * husk-agent - PID 1 of the guest.
 *
 * It listens on vsock and says so, makes the guest ready (boot.c) while the host reacts to that,
 * and serves the host's requests (docs/agent-protocol.md) until the host ends the machine. It never
 * exits: a failure that leaves nothing to serve is told on the console in one line, and resets the
 * machine.
 *
 * With the kernel parameter husk.late the host holds back devices that no start of a container
 * needs (the balloon). They are asked for when the first container had LATE_US to start.
 *
 * Signals cannot harm it: the kernel drops those that PID 1 has no handler for, SIGPIPE included.
 *
 * Only the host may connect. A container could reach these ports too, through the guest's own
 * CID or the loopback one, and would be root of the guest then: such a peer is turned away.
 */
#include "agent/boot.h"
#include "agent/server.h"
#include "lib/cleanup.h"
#include "lib/log.h"

#include <linux/vm_sockets.h>
#include <sys/socket.h>

#define PORT_LATE 1022 /* of the host, as the next */
#define PORT_READY 1023
#define PORT_CONTROL 1024
#define PORT_STREAM 1025
#define PORT_FORWARD 1026

#define LATE_US 1000000

/* Bytes from the host that may wait in one connection. Measured: a fifth less CPU per byte than
 * with the kernel's 256 KiB. Never less than the host's own buffer (VSOCK_BUF_BYTES in
 * vmm/virtio/vsock.h): the kernel sends no more ahead than it would take itself, and would wait
 * for a credit that the host gives only when its larger buffer runs low. */
#define RECEIVE_BUF (1u << 20)

static void __attribute__((noreturn)) fatal(const struct error *err)
{
	if (getpid() != 1) {
		log_error("%s", err->msg);
		exit(EXIT_FAILURE);
	}
	boot_last_words(err->msg);
	boot_reset();
}

static bool peer_is_host(int conn)
{
	struct sockaddr_vm peer = {0};
	socklen_t len = sizeof(peer);

	return getpeername(conn, (struct sockaddr *)&peer, &len) == 0 &&
	       peer.svm_family == AF_VSOCK && peer.svm_cid == VMADDR_CID_HOST;
}

static int listen_on(unsigned port, struct error *err)
{
	struct sockaddr_vm addr = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port};
	uint64_t bytes = RECEIVE_BUF;
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return error_errno(err, "vsock");
	/* Connections take it over from here. */
	if (setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_MAX_SIZE, &bytes, sizeof(bytes)) < 0 ||
	    setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &bytes, sizeof(bytes)) < 0 ||
	    bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 128) < 0) {
		error_errno(err, "listen on vsock port %u", port);
		close(fd);
		return -1;
	}
	return fd;
}

/* A request for a connection that the host refuses, and learns something by. */
struct mark {
	int fd;
	struct loop_source *src;
	struct loop *loop;
	struct server *server;
};

static void mark_end(struct mark *m)
{
	loop_remove(m->src);
	m->src = NULL;
	close_fd(&m->fd);
}

static void on_ready_mark(void *arg, uint32_t events UNUSED)
{
	mark_end(arg);
}

/* `refused` is called when the host has seen it. */
static int mark_send(struct mark *m, unsigned port, loop_fn refused, struct error *err)
{
	struct sockaddr_vm addr = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return error_errno(err, "vsock");
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 && errno != EINPROGRESS &&
	    errno != ECONNRESET) {
		error_errno(err, "tell the host, by port %u", port);
		close(fd);
		return -1;
	}
	m->fd = fd;
	m->src = loop_add(m->loop, fd, EPOLLOUT, refused, m, err);
	return m->src ? 0 : -1;
}

/* The late devices are in their slots. */
static void on_late_mark(void *arg, uint32_t events UNUSED)
{
	struct mark *m = arg;
	struct error err = ERROR_INIT;

	mark_end(m);
	if (server_probe_slots(m->server, &err) < 0)
		log_error("late devices: %s", err.msg);
}

static void on_late_time(void *arg, uint32_t events UNUSED)
{
	struct error err = ERROR_INIT;

	if (mark_send(arg, PORT_LATE, on_late_mark, &err) < 0)
		log_error("late devices: %s", err.msg);
}

static int serve(struct loop *loop, struct mark *ready, uint64_t start_us, struct error *err)
{
	struct server *server = server_new(loop, err);
	int control, stream, forward;

	*ready = (struct mark){.fd = -1, .loop = loop, .server = server};
	if (!server)
		return -1;
	control = listen_on(PORT_CONTROL, err);
	stream = control < 0 ? -1 : listen_on(PORT_STREAM, err);
	if (stream < 0 || server_listen(server, control, stream, peer_is_host, err) < 0)
		return -1;
	forward = listen_on(PORT_FORWARD, err);
	if (forward < 0 || server_forward(server, forward, err) < 0)
		return -1;
	server_set_times(server, start_us, boot_us());
	return mark_send(ready, PORT_READY, on_ready_mark, err);
}

int main(void)
{
	uint64_t start_us = boot_us();
	struct error err = ERROR_INIT;
	struct mark ready, late;
	struct loop *loop;

	log_setup(STDERR_FILENO, LOG_FMT_TEXT, LOG_LVL_ERROR, "husk-agent");
	if (getpid() != 1) {
		error_set(&err, "this is PID 1 of a husk guest, and nothing to be started by hand");
		fatal(&err);
	}
	if (boot_stdio(&err) < 0)
		fatal(&err);
	loop = loop_new(&err);
	if (!loop || serve(loop, &ready, start_us, &err) < 0 || boot_system(&err) < 0)
		fatal(&err);
	if (boot_has_option("husk.debug"))
		log_setup(STDERR_FILENO, LOG_FMT_TEXT, LOG_LVL_DEBUG, "husk-agent");
	late = (struct mark){.fd = -1, .loop = loop, .server = ready.server};
	if (boot_has_option("husk.late") && !loop_timer(loop, LATE_US, on_late_time, &late, &err))
		fatal(&err);
	log_debug("started at %llu us, ready at %llu us", (unsigned long long)start_us,
		  (unsigned long long)boot_us());
	loop_run(loop);
	error_set(&err, "the event loop ended");
	fatal(&err);
}
