/*
 * nics.h - the network cards of a sandbox. See nics.c.
 */
#ifndef HUSK_VMM_NICS_H
#define HUSK_VMM_NICS_H

#include "lib/json.h"
#include "vmm/engine.h"
#include "vmm/request.h"

#define NICS_MAX 8 /* attached, or not let go yet by the guest */

struct nics {
	struct loop *loop;
	struct engine *engine; /* NULL before the machine is started */
	/* Every place has a device (an engine that cannot plug), or those that are in use have. */
	bool fixed;
	unsigned n; /* places */
	struct {
		struct virtio_device *dev;
		char id[REQUEST_NIC_MAX + 1]; /* "": not attached */
	} place[NICS_MAX];
};

/* For an engine that hotplugs: places, and no device yet. */
void nics_init(struct nics *n, struct loop *l);
/* For one that does not: `count` cards without a cable. The machine's devices are those of the
 * first `count` places. */
int nics_init_fixed(struct nics *n, struct loop *l, unsigned count, struct error *err);
/* After the engine's end. */
void nics_free(struct nics *n);

/* What the requests do (docs/control-socket.md). The first takes the descriptors by setting them
 * to -1, and says which address the guest's driver sees. */
int nics_attach(struct nics *n, const struct request *r, int *fds, uint8_t mac[6],
		struct error *err);
int nics_detach(struct nics *n, const char *id, struct error *err);
int nics_link(struct nics *n, const char *id, bool up, struct error *err);

/* The engine's `unplugged`: false if the device is not a card. */
bool nics_unplugged(struct nics *n, const struct virtio_device *dev);

/* The member `mac` of an answer. */
void nics_write_mac(struct jsonw *w, const uint8_t mac[6]);
/* Members of the answers to `status` and `stats`. */
void nics_write_status(const struct nics *n, struct jsonw *w);
void nics_write_stats(const struct nics *n, struct jsonw *w);

#endif
