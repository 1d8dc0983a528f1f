/*
 * The localhost of a pod.
 *
 * A CRI runtime forwards a port (`kubectl port-forward`) by entering the pod's network namespace
 * and connecting to localhost there. What listens does so in the guest, behind no interface of that
 * namespace. So one thread in the proxy of the sandbox, which sits there, has every TCP connection
 * to 127.0.0.1 led to a socket of its own (netns/steer.h), and joins what it accepts to a vsock
 * stream, at whose other end the agent connects to the guest's localhost (agent/forward.h).
 *
 * The kernel has accepted a connection before the guest is asked: one that nobody listens for in
 * the guest is reset. Only a pod has this: a namespace that an engine made for one container may be
 * others' too, whose localhost is theirs.
 *
 * What the guest sends is bytes to be passed on. One that lets a connection wait keeps the others
 * waiting, which are its own, for ANSWER_MS each.
 */
#include "shim/forward.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "lib/pump.h"
#include "netns/steer.h"
#include "shim/vmm_client.h"

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#define STACK (512u << 10) /* of address space */
#define AGENT_PORT_FORWARD 1026
#define ANSWER_MS 5000
#define CONNS_MAX 200 /* at one time; the agent has FORWARDS_MAX */

struct conn {
	struct forward *set;
	struct conn *prev, *next;
	struct pump *pump;
};

struct forward {
	pthread_t thread;
	int dirfd, stop, listener, link;
	struct loop *loop;
	struct loop_source *stop_src, *listener_src;
	struct conn *first;
	unsigned n;
};

static void conn_free(struct conn *c)
{
	if (c->next)
		c->next->prev = c->prev;
	if (c->prev)
		c->prev->next = c->next;
	else
		c->set->first = c->next;
	c->set->n--;
	pump_free(c->pump);
	free(c);
}

static void on_end(void *arg)
{
	struct conn *c = arg;

	c->pump = NULL;
	conn_free(c);
}

/* ---- the guest's side */

static int await_answer(int stream, int stop, struct error *err)
{
	struct pollfd p[2] = {{.fd = stream, .events = POLLIN}, {.fd = stop, .events = POLLIN}};
	char answer;
	int n;

	do
		n = poll(p, 2, ANSWER_MS);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return error_kind(err, ERR_TIMEOUT, "the guest does not answer");
	if (p[1].revents)
		return error_kind(err, ERR_INTERRUPTED, "the pod ends");
	if (recv(stream, &answer, 1, MSG_DONTWAIT) != 1)
		return error_kind(err, ERR_NOT_FOUND, "nobody listens");
	return 0;
}

/* A stream to the port of the guest's localhost. */
static int connect_guest(const struct forward *f, uint16_t port, struct error *err)
{
	const uint8_t head[2] = {(uint8_t)(port >> 8), (uint8_t)port};
	cleanup_vmm struct vmm_client vmm = {.sock = -1, .intr_fd = -1};
	cleanup_close int stream = -1;

	if (vmm_connect(f->dirfd, &vmm, err) < 0)
		return -1;
	vmm.intr_fd = f->stop;
	stream = vmm_vsock_connect(&vmm, AGENT_PORT_FORWARD, ANSWER_MS, err);
	if (stream < 0)
		return -1;
	if (send(stream, head, sizeof(head), MSG_NOSIGNAL) != sizeof(head))
		return error_errno(err, "stream to the guest");
	if (await_answer(stream, f->stop, err) < 0)
		return -1;
	set_nonblock(stream, true);
	return steal_fd(&stream);
}

/* ---- the host's */

/* Closed, the connection is reset. */
static void refuse(int tcp)
{
	const struct linger now = {.l_onoff = 1};

	setsockopt(tcp, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

static int join(struct forward *f, int *tcp, struct error *err)
{
	struct sockaddr_in to = {0};
	socklen_t len = sizeof(to);
	struct conn *c;
	int stream;

	if (f->n >= CONNS_MAX)
		return error_set(err, "%u connections are open", f->n);
	if (getsockname(*tcp, (struct sockaddr *)&to, &len) < 0)
		return error_errno(err, "getsockname");
	stream = connect_guest(f, ntohs(to.sin_port), err);
	if (stream < 0)
		return error_wrap(err, "port %u", ntohs(to.sin_port));
	c = xcalloc(1, sizeof(*c));
	c->set = f;
	c->next = f->first;
	if (c->next)
		c->next->prev = c;
	f->first = c;
	f->n++;
	c->pump = pump_new(f->loop, steal_fd(tcp), stream, on_end, c, err);
	if (c->pump)
		return 0;
	conn_free(c);
	return -1;
}

static void on_listener(void *arg, uint32_t events UNUSED)
{
	struct forward *f = arg;
	struct error err = ERROR_INIT;
	cleanup_close int tcp = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (tcp < 0 || join(f, &tcp, &err) == 0)
		return;
	log_debug("forwarded connection: %s", err.msg);
	refuse(tcp);
}

static void on_stop(void *arg, uint32_t events UNUSED)
{
	struct forward *f = arg;

	loop_stop(f->loop, 0);
}

/* ---- the whole */

static void *forward_main(void *arg)
{
	struct forward *f = arg;

	loop_run(f->loop);
	return NULL;
}

static void forward_free(struct forward *f)
{
	close_fd(&f->link);
	while (f->first)
		conn_free(f->first);
	loop_remove(f->listener_src);
	loop_remove(f->stop_src);
	if (f->loop)
		loop_free(f->loop);
	close_fd(&f->listener);
	close_fd(&f->stop);
	free(f);
}

static int listen_somewhere(struct error *err)
{
	const struct sockaddr_in any = {.sin_family = AF_INET,
					.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	cleanup_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&any, sizeof(any)) < 0 ||
	    listen(fd, SOMAXCONN) < 0)
		return error_errno(err, "listen on 127.0.0.1");
	return steal_fd(&fd);
}

static int set_up(struct forward *f, struct error *err)
{
	f->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (f->stop < 0)
		return error_errno(err, "eventfd");
	f->listener = listen_somewhere(err);
	f->link = f->listener < 0 ? -1 : netns_steer_localhost(f->listener, err);
	f->loop = f->link < 0 ? NULL : loop_new(err);
	if (!f->loop)
		return -1;
	f->stop_src = loop_add(f->loop, f->stop, EPOLLIN, on_stop, f, err);
	f->listener_src = loop_add(f->loop, f->listener, EPOLLIN, on_listener, f, err);
	return f->stop_src && f->listener_src ? 0 : -1;
}

static int start_thread(struct forward *f, struct error *err)
{
	pthread_attr_t attr;
	int e;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	e = pthread_create(&f->thread, &attr, forward_main, f);
	pthread_attr_destroy(&attr);
	errno = e;
	return e ? error_errno(err, "pthread_create") : 0;
}

struct forward *forward_start(int dirfd, struct error *err)
{
	struct forward *f = xcalloc(1, sizeof(*f));

	*f = (struct forward){.dirfd = dirfd, .stop = -1, .listener = -1, .link = -1};
	if (set_up(f, err) == 0 && start_thread(f, err) == 0)
		return f;
	forward_free(f);
	return NULL;
}

void forward_stop(struct forward *f)
{
	if (!f)
		return;
	eventfd_write(f->stop, 1);
	pthread_join(f->thread, NULL);
	forward_free(f);
}
