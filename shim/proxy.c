/*
 * The proxy's work, in its own process (proxy_process.c) or in a foreground `husk exec`.
 *
 * The main thread waits on two things: signals, which become `kill` requests (SIGWINCH becomes
 * `resize`), and the agent's connection, where the answer to `wait` is the end of the process and
 * the end of the connection is the end of the VM. Each stdio stream is moved by a relay thread.
 * At the end the output relays are joined, so that everything the process wrote has been handed on
 * before the status is known to anybody. If the end came any other way than by the agent's answer,
 * nobody would end the streams: then they are shut down, and what has come is handed on.
 *
 * The proxy of the init is also the one that brings the container's changes to its rootfs
 * (writeback.h), as the last thing before the VM ends: when it has gone, engines take the rootfs
 * for what the container left. Until then all signals but SIGKILL wait; after that one, or when the
 * VM died, the record of the changes stays active, and `delete`, the next create on the rootfs or
 * `husk sync` takes them from the scratch disk.
 */
#include "shim/proxy.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/frame.h"
#include "lib/log.h"
#include "shim/forward.h"
#include "shim/mirror.h"
#include "shim/network.h"
#include "shim/notify.h"
#include "shim/oom.h"
#include "shim/paths.h"
#include "shim/pod.h"
#include "shim/relay.h"
#include "shim/state.h"
#include "shim/writeback.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#define KILLED_MS 2000 /* how long the output of a killed process may take */
#define STATUS_VM_GONE (128 + SIGKILL)
#define CONNECT_MS 10000

/* Signals that mean something else to this process than to the guest's. */
static bool forwarded(int sig)
{
	switch (sig) {
	case SIGKILL:
	case SIGSTOP:
	case SIGCHLD:
	case SIGPIPE:
	case SIGSEGV:
	case SIGBUS:
	case SIGFPE:
	case SIGILL:
	case SIGURG: /* runc forwards none of its own runtime's preemption signals */
		return false;
	default:
		return true;
	}
}

static sigset_t forwarded_set(void)
{
	sigset_t set;

	sigemptyset(&set);
	for (int s = 1; s <= SIGRTMAX; s++)
		if (forwarded(s))
			sigaddset(&set, s);
	return set;
}

void proxy_hold_signals(void)
{
	sigset_t set = forwarded_set();

	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int signal_fd(void)
{
	sigset_t set = forwarded_set();

	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void handle_signals(int sfd, struct agent_client *a, const struct proxy_job *job)
{
	struct signalfd_siginfo si;

	while (read(sfd, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGWINCH && job->tty_fd >= 0)
			agent_send_size(a, job->container, job->process, job->tty_fd);
		else
			agent_send_kill(a, job->container, job->process, (int)si.ssi_signo, NULL);
	}
}

/* The end of a process. */
struct ending {
	int status;
	bool killed; /* by the host */
	bool clean;  /* nothing in the root was changed */
	bool oom;    /* the guest's kernel has killed a process of the container for memory */
};

/* Takes what the agent sent. Returns 0 while the process runs, 1 when it has ended, -1 when nothing
 * more can be known of it. */
static int handle_agent(struct frame_buf *in, int sock, int64_t wait_seq, struct ending *end)
{
	struct error err = ERROR_INIT;
	char *text;
	size_t len;

	if (frame_buf_fill(in, sock, &err) < 0) {
		log_error("the VM ended: %s", err.msg);
		return -1;
	}
	while (frame_buf_next(in, &text, &len, &err) > 0) {
		struct agent_msg m;

		if (agent_msg_parse(text, len, &m, &err) < 0)
			break;
		frame_buf_done(in);
		if (m.seq == wait_seq && m.has_status) {
			*end = (struct ending){.status = m.status,
					       .killed = m.killed,
					       .clean = m.clean,
					       .oom = m.oom || end->oom};
			agent_msg_free(&m);
			return 1;
		}
		end->oom = end->oom || (m.seq < 0 && strcmp(m.event, "oom") == 0);
		if (m.seq == wait_seq)
			error_set(&err, "%s", m.failed ? m.error.msg : "no status of the process");
		agent_msg_free(&m);
		if (err.msg[0])
			break;
	}
	if (!err.msg[0])
		return 0;
	log_error("%s", err.msg);
	return -1;
}

/* Waits for the end of the process. False when it can never be known. */
static bool watch(struct agent_client *a, const struct proxy_job *job, int sfd, struct ending *end)
{
	struct frame_buf in = {0};
	struct error err = ERROR_INIT;
	int64_t wait_seq;
	int r = 0;

	if (agent_send_wait(a, job->container, job->process, &wait_seq, &err) < 0) {
		log_error("%s", err.msg);
		return false;
	}
	while (r == 0) {
		struct pollfd p[2] = {{.fd = a->sock, .events = POLLIN},
				      {.fd = sfd, .events = POLLIN}};

		if (poll(p, 2, -1) < 0)
			continue;
		if (p[1].revents)
			handle_signals(sfd, a, job);
		if (p[0].revents)
			r = handle_agent(&in, a->sock, wait_seq, end);
	}
	frame_buf_free(&in);
	return r > 0;
}

static int start_relays(struct proxy_job *job, struct relay *in, struct relay out[2],
			struct error *err)
{
	int console = job->streams[STREAM_CONSOLE];

	/* splice(2) to a socket that blocks may wait with the pipe's lock held, see relay.c */
	for (unsigned i = 0; i < STREAMS; i++)
		if (job->streams[i] >= 0)
			set_nonblock(job->streams[i], true);
	if (console >= 0) {
		int tty_in = job->tty_fd >= 0 ? job->tty_fd : STDIN_FILENO;
		int tty_out = job->tty_fd > STDERR_FILENO ? job->tty_fd : STDOUT_FILENO;

		if (relay_start(in, tty_in, console, true, err) < 0 ||
		    relay_start(&out[0], console, tty_out, false, err) < 0)
			return -1;
		return 0;
	}
	if (job->streams[STREAM_STDIN] >= 0 &&
	    relay_start(in, STDIN_FILENO, job->streams[STREAM_STDIN], true, err) < 0)
		return -1;
	if (job->streams[STREAM_STDOUT] >= 0 &&
	    relay_start(&out[0], job->streams[STREAM_STDOUT], STDOUT_FILENO, false, err) < 0)
		return -1;
	if (job->streams[STREAM_STDERR] >= 0 &&
	    relay_start(&out[1], job->streams[STREAM_STDERR], STDERR_FILENO, false, err) < 0)
		return -1;
	return 0;
}

/* The agent kills the process; the streams end when what has come has been read. */
static void abandon(struct agent_client *a, const struct proxy_job *job)
{
	agent_close(a);
	for (unsigned i = 0; i < STREAMS; i++)
		if (job->streams[i] >= 0)
			shutdown(job->streams[i], SHUT_RDWR);
}

/* `vmm` NULL: there is nothing to write back. */
static int write_back(const struct proxy_job *job, struct vmm_client *vmm, struct agent_client *a,
		      struct error *err)
{
	struct container_dir d = {
		.fd = job->dirfd, .id = (char *)job->container, .path = (char *)job->container};
	cleanup_state struct container_state st = {0};
	cleanup_record struct record r = {.dirfd = -1, .scratch = -1};
	cleanup_free char *data = path_data(err);
	struct cs_counts n = {0};
	uint64_t t = now_us();

	if (!data || state_load(&d, &st, err) < 0)
		return -1;
	if (!st.record)
		return 0;
	if (record_open(data, st.record, false, 0, &r, err) < 0 ||
	    (vmm && writeback_live(vmm, a, &r, NULL, &n, err) < 0))
		return -1;
	r.unchanged = n.changed == 0;
	if (!vmm)
		return record_set_state(&r, RECORD_APPLIED, err);
	log_debug("write-back: %llu entries, %llu changed, %llu bytes",
		  (unsigned long long)n.entries, (unsigned long long)n.changed,
		  (unsigned long long)n.data_bytes);
	log_elapsed("write-back", t);
	return record_set_state(&r, RECORD_APPLIED, err);
}

/* The init has ended: what the container changed goes to the host. `end` NULL: nothing is known of
 * it, most likely since its VM died. */
static void settle(const struct proxy_job *job, struct mirror *mirror, const struct ending *end)
{
	cleanup_vmm struct vmm_client vmm = {.sock = -1, .intr_fd = -1};
	cleanup_agent struct agent_client a = {.sock = -1, .intr_fd = -1};
	bool mounts = faccessat(job->dirfd, "mounts.json", F_OK, 0) == 0;
	struct error err = ERROR_INIT;
	int r;

	if (job->scratch < 0 && !mounts) {
		mirror_stop(mirror, NULL, NULL);
		return;
	}
	if (end && end->clean && !mounts) {
		mirror_stop(mirror, NULL, NULL);
		if (write_back(job, NULL, NULL, &err) < 0)
			log_warn("container \"%s\": %s", job->container, err.msg);
		return;
	}
	r = vmm_connect(job->dirfd, &vmm, &err);
	if (r == 0)
		r = agent_connect(&vmm, CONNECT_MS, &a, &err);
	/* Processes that outlive an init without a pid namespace of its own write no more. */
	if (r == 0)
		agent_kill(&a, job->container, "", SIGKILL, true, NULL);
	mirror_stop(mirror, r == 0 ? &vmm : NULL, r == 0 ? &a : NULL);
	/* Of a VM that died has been told; its record speaks for itself. */
	if (job->scratch < 0 || (r < 0 && !end))
		return;
	if (r == 0)
		r = write_back(job, &vmm, &a, &err);
	if (r == 0)
		return;
	log_error("container \"%s\": its changes are not in its rootfs yet: %s: they are kept: "
		  "'husk sync %s', 'husk delete %s' or its next start bring them there",
		  job->container, err.msg, job->container, job->container);
	/* What is in the guest's memory only has to get to the scratch disk. */
	if (a.sock >= 0 && job->role == OCI_POD_SINGLE)
		agent_shutdown(&a, NULL);
	else if (a.sock >= 0)
		agent_delete(&a, job->container, NULL);
}

/* What a process wrote is handed on before its status is told, unless the host killed it: then a
 * reader that does not read must not keep it "running". */
static void join_outputs(struct relay out[2], bool killed)
{
	for (int i = 0; i < 2; i++)
		if (!killed)
			relay_join(&out[i]);
		else if (!relay_join_within(&out[i], KILLED_MS))
			log_warn("output of a killed process that nobody reads is dropped");
}

/* NULL: it is not followed; the namespace of a pod is by its sandbox's proxy. */
static struct network *follow_network(const struct proxy_job *job)
{
	struct error err = ERROR_INIT;
	struct network *n;

	if (job->role == OCI_POD_JOINS)
		return NULL;
	n = network_follow(job->container, job->dirfd, &err);
	if (!n)
		log_warn("container \"%s\": its network namespace is not followed: %s",
			 job->container, err.msg);
	return n;
}

/* Kubernetes' port-forward connects to the localhost of a pod's namespace. */
static struct forward *forward_localhost(const struct proxy_job *job)
{
	struct error err = ERROR_INIT;
	struct forward *f;

	if (job->role != OCI_POD_SANDBOX)
		return NULL;
	f = forward_start(job->dirfd, &err);
	if (!f)
		log_warn("container \"%s\": connections to its pod's localhost are not forwarded: "
			 "%s",
			 job->container, err.msg);
	return f;
}

/* A pod's VM ends with its sandbox, and all that is in it. */
static void end_vm(const struct proxy_job *job, struct network *network)
{
	uint64_t t = now_us();

	if (job->role == OCI_POD_JOINS)
		return;
	if (job->role == OCI_POD_SANDBOX) {
		pod_close(job->dirfd);
		pod_end_members(job->dirfd, job->container);
		t = log_elapsed("end of the pod's containers", t);
	}
	network_stop(network);
	vmm_end(job->dirfd);
	t = log_elapsed("end of the VM", t);
	network_end(network);
	log_elapsed("end of the network", t);
}

/* Engines look for it in the cgroup, and are to see it before they see the end. */
static void tell_oom(const struct proxy_job *job)
{
	struct container_dir d = {
		.fd = job->dirfd, .id = (char *)job->container, .path = (char *)job->container};
	cleanup_state struct container_state st = {0};
	struct error err = ERROR_INIT;
	uint64_t t = now_us();

	if (state_load(&d, &st, &err) < 0 || oom_relay(&st.cgroup, &err) < 0)
		log_warn("container \"%s\": that it ran out of memory is not in its cgroup: %s",
			 job->container, err.msg);
	log_elapsed("out of memory, told", t);
}

int proxy_run(struct proxy_job *job)
{
	cleanup_agent struct agent_client a = {.sock = job->agent_sock, .intr_fd = -1};
	/* Relays may sit in a read of our stdin, or in a write to somebody who does not read, until
	 * this process exits: they outlive us. */
	struct relay *in = xcalloc(1, sizeof(*in)), *out = xcalloc(2, sizeof(*out));
	struct error err = ERROR_INIT;
	struct mirror *mirror = NULL;
	struct network *network = NULL;
	struct forward *forward = NULL;
	cleanup_close int sfd = -1;
	struct ending end = {.status = STATUS_VM_GONE};
	uint64_t t = now_us();
	bool ended = false;

	proxy_hold_signals();
	sfd = signal_fd();
	if (job->init) {
		mirror = mirror_start(job->container, job->dirfd, &err);
		if (!mirror)
			log_warn("container \"%s\": not kept alike with the host: %s",
				 job->container, err.msg);
		network = follow_network(job);
		forward = forward_localhost(job);
		if (job->notify_sock >= 0)
			notify_serve(job->container, job->dirfd, job->notify_sock);
	}
	err = (struct error)ERROR_INIT;
	/* Before anything is typed. */
	agent_send_size(&a, job->container, job->process, job->tty_fd);
	if (start_relays(job, in, out, &err) < 0)
		log_error("%s", err.msg);
	else
		ended = watch(&a, job, sfd, &end);
	if (!ended)
		abandon(&a, job);
	t = log_elapsed("process (as the proxy saw it)", t);
	/* The connection stays open until the output is over: its end would kill the process. */
	join_outputs(out, end.killed);
	t = log_elapsed("rest of the output", t);
	if (job->init) {
		settle(job, mirror, ended ? &end : NULL);
		forward_stop(forward);
		end_vm(job, network);
		if (end.oom)
			tell_oom(job);
	}
	return end.status;
}
