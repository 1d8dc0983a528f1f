/*
 * Theory of operation.
 *
 * The namespace and the machine are the state; there is no other to lose. A sync reads both, plans
 * (network_plan.c), acts, and tells the agent the whole configuration of the guest, which the agent
 * compares with the one before. Whatever broke off halfway, the next sync finds and mends: a card
 * whose TAP is gone is taken away and made anew, a TAP goes by itself when nobody has it open, and
 * filters that lead nowhere are replaced by those that are made in their place.
 *
 * One file, "network" in the container's directory, is three things. It is there from the
 * container's start on: before, a sync that follows the namespace does nothing, since engines are
 * still at work there. Its lock serializes syncs: the container's own lock is held by `start` for
 * as long as hooks take. And its text is the configuration that the agent took last, so that it
 * need not be sent, parsed and compared again each time the kernel says that something moved; it is
 * emptied before the agent is told, and written when it has answered.
 *
 * What comes: TAP, wiring, card, agent. What goes: agent (the driver lets the card go), card (which
 * closes the TAP), wiring.
 */
#include "shim/network.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/frame.h"
#include "lib/json.h"
#include "lib/log.h"
#include "netns/dump.h"
#include "netns/netns.h"
#include "netns/tap.h"
#include "shim/agent_client.h"
#include "shim/config_file.h"
#include "shim/network_guest.h"
#include "shim/network_plan.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define FILE_NAME "network"
#define CONNECT_MS 10000
#define CARDS_QEMU_MAX 8
#define CARDS_UNKNOWN 4 /* of a namespace that nobody has filled yet */
#define CARDS_SPARE 2	/* for links that come later */
#define LOCK_RETRY_MS 5
#define TAP_GONE_MS 2000 /* how long a VM that has ended may have its TAPs */

struct sync {
	const struct network_place *place;
	bool first;
	int file; /* "network", locked */
	struct net_config config;
	struct vmm_client vmm;
	struct vmm_nics nics;
	struct network_plan plan;
	bool has_settings;
	enum net_wiring wiring;
	bool vhost;
	bool again;  /* there is more to do when those that go have gone */
	bool failed; /* *err has the first error */
	struct error *err;
};

static void sync_free(struct sync *s)
{
	net_config_free(&s->config);
	network_plan_free(&s->plan);
	vmm_close(&s->vmm);
	close_fd(&s->file);
}
#define cleanup_sync __attribute__((cleanup(sync_free)))

/* ---- the file */

static int lock(const struct sync *s, struct error *err)
{
	while (flock(s->file, LOCK_EX | LOCK_NB) < 0) {
		struct pollfd p = {.fd = s->place->intr_fd, .events = POLLIN};

		if (errno != EINTR && errno != EWOULDBLOCK)
			return error_errno(err, "lock the container's file " FILE_NAME);
		if (poll(&p, 1, LOCK_RETRY_MS) > 0)
			return error_kind(err, ERR_INTERRUPTED, "interrupted");
	}
	return 0;
}

/* Opens and locks it. Returns 0 if there is none, and nothing to be done. */
static int take_file(struct sync *s, struct error *err)
{
	int flags = O_RDWR | O_CLOEXEC | (s->first ? O_CREAT : 0);
	struct stat st;

	s->file = openat(s->place->dirfd, FILE_NAME, flags, 0600);
	if (s->file < 0 && errno == ENOENT && !s->first)
		return 0;
	if (s->file < 0)
		return error_errno(err, "open the container's file " FILE_NAME);
	if (lock(s, err) < 0)
		return -1;
	/* Of a start that failed while we waited. */
	return s->first || (fstat(s->file, &st) == 0 && st.st_nlink > 0);
}

static char *told_last(const struct sync *s)
{
	char *text = NULL;
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", s->file);
	return file_read(AT_FDCWD, path, FRAME_MAX, &text, NULL, NULL) < 0 ? xstrdup("") : text;
}

/* Nothing is told that would be right. The file is not empty any more: there is something to undo.
 */
#define TOLD_NOTHING "-"

/* Whoever is killed meanwhile leaves what nobody was told, but never an empty file. */
static int note_told(const struct sync *s, const char *text, struct error *err)
{
	size_t size = strlen(text);

	if (lseek(s->file, 0, SEEK_SET) < 0)
		return error_errno(err, "write the container's file " FILE_NAME);
	if (write_all(s->file, text, size, err) < 0)
		return -1;
	if (ftruncate(s->file, (off_t)size) < 0)
		return error_errno(err, "write the container's file " FILE_NAME);
	return 0;
}

/* ---- what goes wrong */

/* The first error is the one that is told. Its kind says whether all of them are refusals. */
static void complain(struct sync *s, const struct error *why)
{
	if (!s->failed)
		*s->err = *why;
	else if (why->kind != ERR_UNSUPPORTED)
		s->err->kind = why->kind;
	s->failed = true;
}

static bool may_go_on(const struct sync *s)
{
	return !s->failed || !s->first;
}

/* ---- one link */

static int load_settings(struct sync *s, struct error *err)
{
	cleanup_config_file struct config_file file = {0};

	if (s->has_settings)
		return 0;
	if (config_file_load(&file, err) < 0)
		return -1;
	s->wiring = file.wiring;
	s->vhost = file.vhost_net;
	s->has_settings = true;
	return 0;
}

struct card_fds {
	int v[2 * VMM_QUEUES_MAX];
	unsigned n;
};

static void card_fds_close(struct card_fds *f)
{
	for (unsigned i = 0; i < f->n; i++)
		close_fd(&f->v[i]);
}
#define cleanup_card_fds __attribute__((cleanup(card_fds_close)))

static int open_some(struct card_fds *f, const char *path, unsigned n, const char *mend,
		     struct error *err)
{
	for (unsigned i = 0; i < n; i++) {
		int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);

		if (fd < 0)
			return error_errno(err, "open %s (%s)", path, mend);
		f->v[f->n++] = fd;
	}
	return 0;
}

static int no_room(const struct sync *s, struct error *err)
{
	if (s->nics.kvm)
		return error_kind(err, ERR_UNSUPPORTED,
				  "there is no room for one more network card: a machine has %d at "
				  "most, and its slots are shared with disks",
				  VMM_NICS_MAX);
	return error_kind(err, ERR_UNSUPPORTED,
			  "there is no room for one more network card: engine qemu has %u here, as "
			  "many as disks left when the container was created",
			  s->nics.n);
}

/* A card is known by its address, and a VLAN has its lower link's: the second one gets one of ours,
 * until the guest gives the interface its own. */
static void card_mac(const struct sync *s, const struct net_link *l, uint8_t mac[6])
{
	const uint8_t ours[6] = {0x02,
				 'h',
				 'u',
				 (uint8_t)(l->index >> 16),
				 (uint8_t)(l->index >> 8),
				 (uint8_t)l->index};

	memcpy(mac, l->mac, 6);
	for (unsigned i = 0; i < s->nics.n; i++)
		if (memcmp(s->nics.v[i].mac, l->mac, 6) == 0)
			memcpy(mac, ours, 6);
}

/* The kernel's way is faster; a host that has none does without it. */
static int open_vhost(struct card_fds *f, unsigned queues, struct error *err)
{
	if (access("/dev/vhost-net", F_OK) < 0) {
		log_debug("no /dev/vhost-net, which the configuration file allows: husk-vmm moves "
			  "packets");
		return 0;
	}
	return open_some(f, "/dev/vhost-net", queues, "network.vhost_net of the configuration file",
			 err);
}

static int make_card(struct sync *s, const struct net_link *l, const struct card_fds *f,
		     unsigned queues, struct error *err)
{
	struct vmm_nic nic = {.queues = queues, .vhost = f->n > queues, .fds = f->v};
	unsigned n = s->nics.n;

	network_card_id(l->index, nic.id);
	card_mac(s, l, nic.mac);
	if (n == VMM_NICS_MAX)
		return no_room(s, err);
	if (vmm_attach_net(&s->vmm, &nic, s->nics.v[n].mac, err) < 0)
		return err->kind == ERR_NO_ROOM ? no_room(s, err) : -1;
	memcpy(s->nics.v[n].id, nic.id, sizeof(nic.id));
	s->nics.v[n].up = true;
	s->nics.n++;
	return 0;
}

/* One for each CPU. */
static unsigned queues_of(const struct sync *s)
{
	unsigned most = s->nics.kvm ? VMM_QUEUES_MAX : 1;

	return s->nics.vcpus < most ? s->nics.vcpus : most;
}

static int not_ours(struct error *err)
{
	size_t n = strlen(err->msg);

	snprintf(err->msg + n, sizeof(err->msg) - n,
		 ", and it is not husk's: give it another name, or remove it");
	return -1;
}

static int attach(struct sync *s, const struct net_link *l, struct error *err)
{
	cleanup_card_fds struct card_fds fds = {.n = 0};
	struct tap_options o = {.owner = s->place->container, .queues = queues_of(s)};
	char holder[256] = "";

	if (load_settings(s, err) < 0)
		return -1;
	o.wiring = s->wiring;
	/* A TAP is made in the namespace that its descriptor was opened in. */
	if (open_some(&fds, "/dev/net/tun", o.queues, "modprobe tun; see 'husk check'", err) < 0)
		return -1;
	if (tap_make(fds.v, l, &o, holder, sizeof(holder), err) < 0)
		return err->kind == ERR_EXISTS && !holder[0] ? not_ours(err) : -1;
	if (s->vhost && s->nics.kvm && open_vhost(&fds, o.queues, err) < 0)
		return -1;
	if (tap_wire(l, &o, err) < 0)
		return -1;
	if (make_card(s, l, &fds, o.queues, err) < 0) {
		tap_unwire(l, NULL);
		return -1;
	}
	return 0;
}

static int set_cable(struct sync *s, unsigned link, bool up, struct error *err)
{
	char id[VMM_NIC_ID_MAX + 1];

	network_card_id(link, id);
	for (unsigned i = 0; i < s->nics.n; i++)
		if (strcmp(s->nics.v[i].id, id) == 0) {
			if (s->nics.v[i].up != up && vmm_net_link(&s->vmm, id, up, err) < 0)
				return -1;
			s->nics.v[i].up = up;
		}
	return 0;
}

/* The link may be gone: then only its index is known. */
static int detach(struct sync *s, unsigned link, struct error *err)
{
	const struct net_link *l = net_config_link(&s->config, link);
	struct net_link gone = {.index = link};
	char id[VMM_NIC_ID_MAX + 1];
	unsigned n = 0;

	network_card_id(link, id);
	if (vmm_detach_net(&s->vmm, id, err) < 0 && err->kind != ERR_NOT_FOUND)
		return -1;
	for (unsigned i = 0; i < s->nics.n; i++)
		if (strcmp(s->nics.v[i].id, id) != 0)
			s->nics.v[n++] = s->nics.v[i];
	s->nics.n = n;
	return tap_unwire(l ? l : &gone, err);
}

/* ---- the guest */

static bool leaves(const struct sync *s, unsigned link)
{
	for (size_t i = 0; i < s->plan.n; i++)
		if (s->plan.v[i].link == link &&
		    (s->plan.v[i].act == NETWORK_DETACH || s->plan.v[i].act == NETWORK_REATTACH))
			return true;
	return false;
}

static bool stays(const void *arg, unsigned link)
{
	const struct sync *s = arg;

	for (unsigned i = 0; i < s->nics.n; i++)
		if (network_card_link(s->nics.v[i].id) == link)
			return !leaves(s, link);
	return false;
}

static char *guest_text(const struct network_guest *g, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};
	const char *text;

	if (jsonw_init(&w, false, err) < 0)
		return NULL;
	jsonw_obj(&w);
	network_guest_write(&w, g);
	jsonw_end_obj(&w);
	text = jsonw_finish(&w, NULL, err);
	return text ? xstrdup(text) : NULL;
}

static int tell(struct sync *s, const struct network_guest *g, struct error *err)
{
	cleanup_agent struct agent_client a = {.sock = -1};
	uint64_t t = now_us();
	int r;

	if (agent_connect(&s->vmm, CONNECT_MS, &a, err) < 0)
		return -1;
	r = agent_network(&a, network_guest_write, g, err);
	log_elapsed("network, in the guest", t);
	return r;
}

/* What is kept of the configuration is the guest's from here on. */
static int tell_guest(struct sync *s, struct error *err)
{
	struct network_guest g = {.config = &s->config, .cards = &s->nics};
	cleanup_free char *text = NULL, *before = told_last(s);
	int r;

	network_guest_read(&g);
	text = guest_text(&g, err);
	r = !text ? -1 : strcmp(text, before) == 0 ? 1 : 0;
	if (r == 0 && (note_told(s, TOLD_NOTHING, err) < 0 || tell(s, &g, err) < 0))
		r = -1;
	network_guest_free(&g);
	return r != 0 ? (r < 0 ? -1 : 0) : note_told(s, text, err);
}

/* ---- a sync */

/* Whether cards go that may be what one more has no room for. */
static bool makes_room(const struct sync *s)
{
	for (size_t i = 0; i < s->plan.n; i++)
		if (s->plan.v[i].act == NETWORK_DETACH)
			return true;
	return false;
}

static void act(struct sync *s, const struct network_action *a)
{
	const struct net_link *l = net_config_link(&s->config, a->link);
	struct error why = ERROR_INIT;
	int r = 0;

	switch (a->act) {
	case NETWORK_ATTACH:
		r = attach(s, l, &why);
		if (r == 0)
			r = set_cable(s, a->link, a->up, &why);
		break;
	case NETWORK_MTU:
		r = tap_set_mtu(l, &why);
		break;
	case NETWORK_CABLE:
		r = set_cable(s, a->link, a->up, &why);
		break;
	case NETWORK_DETACH: /* when the guest has let it go */
	case NETWORK_REATTACH:
		break;
	}
	if (r == 0)
		return;
	if (why.kind == ERR_UNSUPPORTED && makes_room(s)) {
		s->again = true;
		return;
	}
	error_wrap(&why, "network interface %s", l->name);
	/* Something was tried, which is not a refusal's way. */
	if (why.kind == ERR_UNSUPPORTED && !s->first)
		why.kind = ERR_OTHER;
	complain(s, &why);
}

static void detach_all(struct sync *s)
{
	for (size_t i = 0; i < s->plan.n; i++) {
		const struct network_action *a = &s->plan.v[i];
		struct error why = ERROR_INIT;

		if (a->act != NETWORK_DETACH && a->act != NETWORK_REATTACH)
			continue;
		s->again = s->again || a->act == NETWORK_REATTACH;
		if (detach(s, a->link, &why) < 0)
			complain(s, &why);
	}
}

/* The start fails: nothing of ours stays. */
static void take_back(struct sync *s)
{
	/* Also when it is an interrupt that ended it. */
	s->vmm.intr_fd = -1;
	for (size_t i = 0; i < s->plan.n; i++)
		if (s->plan.v[i].act == NETWORK_ATTACH)
			detach(s, s->plan.v[i].link, &(struct error)ERROR_INIT);
	unlinkat(s->place->dirfd, FILE_NAME, 0);
}

/* False: there are no cards, and none to come, and there never was anything to tell. */
static bool concerns_guest(const struct sync *s)
{
	for (size_t i = 0; i < s->config.n_links; i++)
		switch (network_fit(&s->config, &s->config.links[i], NULL)) {
		case NETWORK_FIT_CARD:
		case NETWORK_FIT_REFUSED:
			return true;
		case NETWORK_FIT_NOT:
		case NETWORK_FIT_LOOPBACK:
			break;
		}
	return network_used(s->place->dirfd);
}

/* Returns 1 if there is more to do. */
static int sync_once(struct sync *s, struct error *err)
{
	s->again = false;
	net_config_free(&s->config);
	s->config = (struct net_config){0};
	network_plan_free(&s->plan);
	if (netns_dump(&s->config, err) < 0)
		return -1;
	if (!concerns_guest(s))
		return 0;
	if (s->vmm.sock < 0 && vmm_connect(s->place->dirfd, &s->vmm, err) < 0)
		return -1;
	s->vmm.intr_fd = s->place->intr_fd;
	if (vmm_nics(&s->vmm, &s->nics, err) < 0)
		return -1;
	network_plan_make(&s->config, &s->nics, s->place->container, &s->plan);
	tap_hide(&s->config);
	for (size_t i = 0; i < s->plan.n_refused; i++)
		complain(s, &s->plan.refused[i]);
	if (s->plan.n > 0 && may_go_on(s) && note_told(s, TOLD_NOTHING, err) < 0)
		return -1;
	for (size_t i = 0; i < s->plan.n && may_go_on(s); i++)
		act(s, &s->plan.v[i]);
	if (may_go_on(s)) {
		struct error why = ERROR_INIT;

		network_reduce(&s->config, stays, s);
		if (tell_guest(s, &why) < 0)
			complain(s, &why);
	}
	if (may_go_on(s))
		detach_all(s);
	if (s->failed && s->first)
		take_back(s);
	return s->again;
}

int network_sync(const struct network_place *p, bool first, struct error *err)
{
	struct error why = ERROR_INIT;
	cleanup_sync struct sync s = {.place = p,
				      .first = first,
				      .file = -1,
				      .vmm = {.sock = -1, .intr_fd = -1},
				      .err = &why};
	cleanup_netns int home = -1;
	cleanup_free char *path = xasprintf("/proc/%d/ns/net", (int)p->pid);
	uint64_t t = now_us();
	int r = take_file(&s, &why);

	if (r > 0)
		r = netns_enter(path, &home, &why);
	else if (r == 0)
		return 0;
	/* What another one had to go for comes in the second round. */
	for (int round = 0; r >= 0 && round < 2; round++) {
		r = sync_once(&s, &why);
		if (r <= 0)
			break;
	}
	log_elapsed("network", t);
	if (r >= 0 && !s.failed)
		return 0;
	if (first && s.file >= 0)
		unlinkat(p->dirfd, FILE_NAME, 0);
	if (err)
		*err = why;
	return -1;
}

/* ---- before and after */

bool network_started(int dirfd)
{
	return faccessat(dirfd, FILE_NAME, F_OK, 0) == 0;
}

bool network_used(int dirfd)
{
	struct stat st;

	return fstatat(dirfd, FILE_NAME, &st, 0) == 0 && st.st_size > 0;
}

/* The first process's, or ours: an engine may live in a namespace that is not the first process's.
 */
static bool is_host_netns(const struct stat *st)
{
	static const char *const paths[] = {"/proc/1/ns/net", "/proc/self/ns/net"};
	struct stat host;

	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		if (stat(paths[i], &host) == 0 && st->st_ino == host.st_ino &&
		    st->st_dev == host.st_dev)
			return true;
	}
	return false;
}

int network_check_path(const char *path, struct error *err)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_errno(err, "%s", path);
	if (ioctl(fd, NS_GET_NSTYPE) != CLONE_NEWNET)
		return error_kind(err, ERR_INVALID, "%s: not a network namespace", path);
	if (is_host_netns(&st))
		return error_kind(err, ERR_UNSUPPORTED,
				  "%s: is the host's own network namespace, which a microVM cannot "
				  "share: give the container one of its own",
				  path);
	return 0;
}

unsigned network_cards(const char *path, unsigned free_slots)
{
	cleanup_net_config struct net_config c = {0};
	cleanup_netns int home = -1;
	unsigned most = free_slots < CARDS_QEMU_MAX ? free_slots : CARDS_QEMU_MAX, n = 0;
	unsigned unknown = most < CARDS_UNKNOWN ? most : CARDS_UNKNOWN;

	/* What is wrong with it is said by whoever needs it. */
	if (!path || netns_enter(path, &home, NULL) < 0 || netns_dump(&c, NULL) < 0)
		return unknown;
	for (size_t i = 0; i < c.n_links; i++)
		n += network_fit(&c, &c.links[i], NULL) == NETWORK_FIT_CARD;
	n += CARDS_SPARE;
	return n < most ? n : most;
}

/* How many TAPs the container has. Those links are unwired. */
static int unwire(const char *owner, struct error *err)
{
	cleanup_net_config struct net_config c = {0};
	unsigned n = 0;
	int r = netns_dump(&c, err);

	for (size_t i = 0; i < c.n_links; i++) {
		const char *whose = network_tap_owner(&c, c.links[i].index);

		if (!whose || !network_owns(whose, owner))
			continue;
		n++;
		if (tap_unwire(&c.links[i], err) < 0)
			r = -1;
	}
	return r < 0 ? -1 : (int)n;
}

int network_undo(const char *path, const char *container, struct error *err)
{
	cleanup_netns int home = -1;
	struct error why = ERROR_INIT;
	uint64_t end = now_us() + TAP_GONE_MS * 1000;
	int n;

	if (netns_enter(path, &home, &why) < 0) {
		if (why.errnum == ENOENT || why.errnum == ESRCH)
			return 0;
		if (err)
			*err = why;
		return -1;
	}
	/* The VM's end closes its TAPs, maybe a moment after it was told. */
	while ((n = unwire(container, err)) > 0 && now_us() < end)
		poll(NULL, 0, 1);
	return n < 0 ? -1 : tap_unwire_dead(err);
}

void network_let_go(int dirfd)
{
	cleanup_vmm struct vmm_client vmm = {.sock = -1};
	struct vmm_nics nics;

	if (!network_used(dirfd) || vmm_connect(dirfd, &vmm, NULL) < 0 ||
	    vmm_nics(&vmm, &nics, NULL) < 0)
		return;
	for (unsigned i = 0; i < nics.n; i++)
		vmm_detach_net(&vmm, nics.v[i].id, NULL);
}

void network_clean(int dirfd, const char *path, const char *container)
{
	struct error err = ERROR_INIT;

	if (path && network_used(dirfd) && network_undo(path, container, &err) < 0)
		log_warn("network namespace %s: what husk made there is not undone: %s", path,
			 err.msg);
	unlinkat(dirfd, FILE_NAME, 0);
}
