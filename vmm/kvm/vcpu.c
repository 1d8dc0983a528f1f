/*
 * Theory of operation.
 *
 * A vCPU's thread is a loop around KVM_RUN. What ends a KVM_RUN is an access that the kernel does
 * not serve by itself (a register of a slot, an I/O port), a signal of ours, or the end of the
 * machine.
 *
 * The loop's thread steers them with `want`. To have it seen it sets immediate_exit in every
 * vCPU's mapping, which makes KVM finish what is pending of an access and return, and sends
 * KICK_SIGNAL, which ends a KVM_RUN that was entered before. The signal's handler does nothing: a
 * signal without immediate_exit would be lost between two KVM_RUNs, and immediate_exit without the
 * signal would not be seen by a guest that sleeps.
 *
 *	RUN     KVM_RUN again
 *	PARK    wait on `go`; the last one to park tells the loop by `event`
 *	STOP    the thread ends
 *
 * immediate_exit is cleared, under the lock, by the thread that leaves the park.
 *
 * Coalesced writes. KVM keeps writes to registers that mean nothing by themselves in a ring that
 * all vCPUs share, and does not exit for them. Every exit for another register first passes on
 * what the ring has, under `ring_lock`, so that writes of one vCPU are seen in their order. `first`
 * moves on only after the write was passed on: who finds the ring empty may rely on it.
 *
 * A vCPU's thread allocates nothing, opens nothing and takes no lock that is held over a system
 * call of another thread, except when a guest resets a device whose queues run (mmio.h).
 */
#include <inttypes.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "vmm/jail.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/mmio.h"

/* syscalls vcpu: ioctl(1==KVM_RUN) write futex rt_sigreturn */
/* pthread_kill() asks for the pid. */
/* syscalls loop: tgkill(2==SIGUSR1) getpid ioctl(1==KVM_KVMCLOCK_CTRL) read write */

#define KICK_SIGNAL SIGUSR1
#define STACK_BYTES (128u << 10)
#define RING_ENTRIES \
	((4096 - sizeof(struct kvm_coalesced_mmio_ring)) / sizeof(struct kvm_coalesced_mmio))

enum want { RUN, PARK, STOP };

struct vcpu {
	struct vcpus *set;
	unsigned index;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	struct vcpu_exits exits; /* written by its thread, atomically */
};

struct vcpus {
	struct vcpus_config cfg;
	int event;
	unsigned threads; /* that were made and not joined */
	pthread_mutex_t lock;
	pthread_cond_t go;
	enum want want; /* under the lock, like what follows */
	unsigned parked;
	enum vcpu_end end; /* of the first that ended the machine */
	unsigned who;
	char text[256];
	pthread_mutex_t ring_lock;
	struct kvm_coalesced_mmio_ring *ring; /* NULL: there is none */
	struct vcpu v[];
};

/* ---- what an exit was for */

static void count(uint64_t *counter)
{
	__atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED);
}

static void tell_loop(struct vcpus *s)
{
	eventfd_write(s->event, 1);
}

/* The first one says how the machine ended. The others go on until they are stopped. */
static void end(struct vcpu *v, enum vcpu_end how, const char *text)
{
	struct vcpus *s = v->set;

	pthread_mutex_lock(&s->lock);
	if (s->end == VCPU_GOES_ON) {
		s->end = how;
		s->who = v->index;
		snprintf(s->text, sizeof(s->text), "%s", text);
	}
	pthread_mutex_unlock(&s->lock);
	tell_loop(s);
}

/* True when the access is to the slots' registers; *off is where. */
static bool in_slots(const struct vcpus *s, uint64_t gpa, uint32_t len, uint64_t *off)
{
	uint64_t bytes = (uint64_t)s->cfg.vm->nslots * MMIO_SLOT_BYTES;

	*off = gpa - arch_slots_gpa();
	return gpa >= arch_slots_gpa() && *off < bytes && len <= bytes - *off;
}

static void pass_on_collected(struct vcpus *s)
{
	struct kvm_coalesced_mmio_ring *r = s->ring;
	uint32_t first;

	if (!r)
		return;
	first = __atomic_load_n(&r->first, __ATOMIC_ACQUIRE);
	if (first == __atomic_load_n(&r->last, __ATOMIC_ACQUIRE))
		return;
	pthread_mutex_lock(&s->ring_lock);
	first = r->first;
	while (first != __atomic_load_n(&r->last, __ATOMIC_ACQUIRE)) {
		const struct kvm_coalesced_mmio *w = &r->coalesced_mmio[first % RING_ENTRIES];
		uint64_t off;

		if (w->len <= sizeof(w->data) && in_slots(s, w->phys_addr, w->len, &off))
			mmio_write(s->cfg.bus, off, w->data, w->len);
		first = (first + 1) % RING_ENTRIES;
		__atomic_store_n(&r->first, first, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&s->ring_lock);
}

static void serve_mmio(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	uint32_t len =
		run->mmio.len <= sizeof(run->mmio.data) ? run->mmio.len : sizeof(run->mmio.data);
	uint64_t off;
	bool ours = in_slots(v->set, run->mmio.phys_addr, len, &off);

	count(run->mmio.is_write ? &v->exits.mmio_write : &v->exits.mmio_read);
	pass_on_collected(v->set);
	if (run->mmio.is_write && ours)
		mmio_write(v->set->cfg.bus, off, run->mmio.data, len);
	else if (!run->mmio.is_write && ours)
		mmio_read(v->set->cfg.bus, off, run->mmio.data, len);
	else if (!run->mmio.is_write)
		memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
}

static bool serve_io(struct vcpu *v)
{
	const struct vcpus_config *c = &v->set->cfg;
	enum arch_end e;

	count(&v->exits.io);
	pthread_mutex_lock(c->ports_lock);
	e = arch_io(c->ports, v->run);
	pthread_mutex_unlock(c->ports_lock);
	if (e == ARCH_GOES_ON)
		return true;
	end(v, e == ARCH_PANIC ? VCPU_PANIC : VCPU_RESET, "");
	return false;
}

static void end_by_event(struct vcpu *v)
{
	uint32_t type = v->run->system_event.type;
	char text[64];

	snprintf(text, sizeof(text), "KVM: unknown system event %u", type);
	end(v,
	    type == KVM_SYSTEM_EVENT_RESET	? VCPU_RESET
	    : type == KVM_SYSTEM_EVENT_SHUTDOWN ? VCPU_OFF
	    : type == KVM_SYSTEM_EVENT_CRASH	? VCPU_PANIC
						: VCPU_FAILED,
	    text);
}

static void end_by_failure(struct vcpu *v)
{
	const struct kvm_run *run = v->run;
	char text[160];

	switch (run->exit_reason) {
	case KVM_EXIT_FAIL_ENTRY:
		snprintf(text, sizeof(text),
			 "KVM: the processor refused to enter the guest: 0x%llx",
			 (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		snprintf(text, sizeof(text), "KVM: internal error %u%s", run->internal.suberror,
			 run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION
				 ? " (an instruction that it cannot emulate)"
				 : "");
		break;
	default:
		snprintf(text, sizeof(text), "KVM: unexpected exit %u", run->exit_reason);
	}
	end(v, VCPU_FAILED, text);
}

static void end_by_error(struct vcpu *v, int errnum)
{
	const char *name = strerrorname_np(errnum);
	char text[64];

	snprintf(text, sizeof(text), "KVM_RUN: %s", name ? name : "unknown error");
	end(v, VCPU_FAILED, text);
}

/* False when this vCPU cannot go on. */
static bool serve_exit(struct vcpu *v)
{
	switch (v->run->exit_reason) {
	case KVM_EXIT_MMIO:
		serve_mmio(v);
		return true;
	case KVM_EXIT_IO:
		return serve_io(v);
	case KVM_EXIT_INTR:
		count(&v->exits.interrupted);
		return true;
	default:
		break;
	}
	count(&v->exits.other);
	if (v->run->exit_reason == KVM_EXIT_SYSTEM_EVENT)
		end_by_event(v);
	else if (v->run->exit_reason == KVM_EXIT_SHUTDOWN)
		end(v, VCPU_SHUTDOWN, "");
	else
		end_by_failure(v);
	return false;
}

/* ---- the threads */

/* Parks for as long as that is wanted. False: the thread is to end. */
static bool obey(struct vcpu *v, bool may_run)
{
	struct vcpus *s = v->set;
	bool parked = false, stop;

	pass_on_collected(s);
	pthread_mutex_lock(&s->lock);
	while (s->want == PARK || (!may_run && s->want != STOP)) {
		if (s->want == PARK && !parked) {
			parked = true;
			if (++s->parked == s->cfg.n)
				tell_loop(s);
		} else if (s->want == RUN && parked) {
			parked = false;
			s->parked--;
		}
		pthread_cond_wait(&s->go, &s->lock);
	}
	s->parked -= parked;
	stop = s->want == STOP;
	v->run->immediate_exit = stop;
	pthread_mutex_unlock(&s->lock);
	return !stop;
}

static void *vcpu_main(void *arg)
{
	struct vcpu *v = arg;
	bool goes_on = true;
	char name[16];

	snprintf(name, sizeof(name), "vcpu%u", v->index);
	pthread_setname_np(pthread_self(), name);
	jail_thread(JAIL_VCPU);
	while (goes_on) {
		if (ioctl(v->fd, KVM_RUN, 0) == 0) {
			goes_on = serve_exit(v);
		} else if (errno == EINTR || errno == EAGAIN) {
			count(&v->exits.interrupted);
			if (!obey(v, true))
				return NULL;
		} else {
			end_by_error(v, errno);
			goes_on = false;
		}
	}
	/* Nothing more of this vCPU; but whoever waits for all to park waits for it too. */
	obey(v, false);
	return NULL;
}

static void kick_all(struct vcpus *s, enum want want)
{
	pthread_mutex_lock(&s->lock);
	s->want = want;
	for (unsigned i = 0; i < s->cfg.n; i++)
		s->v[i].run->immediate_exit = want != RUN;
	pthread_cond_broadcast(&s->go);
	if (want == PARK && s->parked == s->cfg.n) /* nobody has left the park yet */
		tell_loop(s);
	pthread_mutex_unlock(&s->lock);
	for (unsigned i = 0; want != RUN && i < s->threads; i++)
		pthread_kill(s->v[i].thread, KICK_SIGNAL);
}

void vcpus_pause(struct vcpus *s)
{
	kick_all(s, PARK);
}

void vcpus_resume(struct vcpus *s)
{
	/* Tells a guest's watchdog that it did not run; guests without kvmclock have none. */
	for (unsigned i = 0; i < s->cfg.n; i++)
		ioctl(s->v[i].fd, KVM_KVMCLOCK_CTRL, 0);
	kick_all(s, RUN);
}

void vcpus_stop(struct vcpus *s)
{
	kick_all(s, STOP);
	mmio_wake_all(s->cfg.bus);
	while (s->threads > 0)
		pthread_join(s->v[--s->threads].thread, NULL);
}

int vcpus_run(struct vcpus *s, struct error *err)
{
	pthread_attr_t attr;
	int r = 0;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	while (r == 0 && s->threads < s->cfg.n) {
		r = pthread_create(&s->v[s->threads].thread, &attr, vcpu_main, &s->v[s->threads]);
		s->threads += r == 0;
	}
	pthread_attr_destroy(&attr);
	if (r == 0)
		return 0;
	errno = r;
	return error_errno(err, "thread of vCPU %u", s->threads);
}

/* ---- life */

static void on_kick(int sig UNUSED)
{
}

static int make_vcpu(struct vcpus *s, unsigned i, struct error *err)
{
	const struct vm *m = s->cfg.vm;
	struct vcpu *v = &s->v[i];
	void *p;

	v->fd = ioctl(m->vm, KVM_CREATE_VCPU, i);
	if (v->fd < 0)
		return error_errno(err, "make vCPU %u", i);
	p = mmap(NULL, m->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (p == MAP_FAILED)
		return error_errno(err, "vCPU %u: map", i);
	v->run = p;
	if (i == 0 && m->ring_page && (m->ring_page + 1) * 4096ul <= m->run_bytes)
		s->ring = (void *)((uint8_t *)p + m->ring_page * 4096ul);
	return 0;
}

struct vcpus *vcpus_new(const struct vcpus_config *cfg, struct error *err)
{
	struct vcpus *s = xcalloc(1, sizeof(*s) + cfg->n * sizeof(s->v[0]));
	struct sigaction a = {.sa_handler = on_kick};

	/* Here: once the jail is closed it is too late. */
	sigemptyset(&a.sa_mask);
	sigaction(KICK_SIGNAL, &a, NULL);
	s->cfg = *cfg;
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->ring_lock, NULL);
	pthread_cond_init(&s->go, NULL);
	for (unsigned i = 0; i < cfg->n; i++) {
		s->v[i].set = s;
		s->v[i].index = i;
		s->v[i].fd = -1;
	}
	s->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->event < 0) {
		error_errno(err, "eventfd");
		vcpus_free(s);
		return NULL;
	}
	for (unsigned i = 0; i < cfg->n; i++) {
		if (make_vcpu(s, i, err) < 0) {
			vcpus_free(s);
			return NULL;
		}
	}
	return s;
}

void vcpus_free(struct vcpus *s)
{
	if (!s)
		return;
	if (s->threads)
		vcpus_stop(s);
	for (unsigned i = 0; i < s->cfg.n; i++) {
		if (s->v[i].run)
			munmap(s->v[i].run, s->cfg.vm->run_bytes);
		close_fd(&s->v[i].fd);
	}
	close_fd(&s->event);
	pthread_cond_destroy(&s->go);
	pthread_mutex_destroy(&s->ring_lock);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

int vcpus_fd(const struct vcpus *s, unsigned i)
{
	return s->v[i].fd;
}

int vcpus_event_fd(const struct vcpus *s)
{
	return s->event;
}

void vcpus_news(struct vcpus *s, struct vcpus_news *out)
{
	eventfd_t n;

	eventfd_read(s->event, &n);
	pthread_mutex_lock(&s->lock);
	out->parked = s->want == PARK && s->parked == s->cfg.n;
	out->end = s->end;
	out->who = s->who;
	out->text = s->text;
	pthread_mutex_unlock(&s->lock);
}

void vcpus_exits(const struct vcpus *s, struct vcpu_exits *out)
{
	*out = (struct vcpu_exits){0};
	for (unsigned i = 0; i < s->cfg.n; i++) {
		const struct vcpu_exits *e = &s->v[i].exits;

		out->mmio_read += __atomic_load_n(&e->mmio_read, __ATOMIC_RELAXED);
		out->mmio_write += __atomic_load_n(&e->mmio_write, __ATOMIC_RELAXED);
		out->io += __atomic_load_n(&e->io, __ATOMIC_RELAXED);
		out->interrupted += __atomic_load_n(&e->interrupted, __ATOMIC_RELAXED);
		out->other += __atomic_load_n(&e->other, __ATOMIC_RELAXED);
	}
}
