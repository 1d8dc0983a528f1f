/*
 * vhost_user.h - the vhost-user transport, back-end side: QEMU drives one of our devices over a
 * Unix socket (QEMU's docs/interop/vhost-user.rst).
 *
 * One socket serves one device. Messages come from QEMU, which a hostile guest may own: every
 * length, index and address is checked, and a broken message ends the connection, not us.
 */
#ifndef HUSK_VMM_VHOST_USER_H
#define HUSK_VMM_VHOST_USER_H

#include "vmm/device.h"

struct vhost_user;

/* Serves `d` (owned by the caller, must outlive the transport) on connected socket `sock` (owned
 * from now on). `closed` is called once when the front end hangs up or breaks the protocol. */
struct vhost_user *vhost_user_new(struct loop *l, int sock, struct virtio_device *d,
				  void (*closed)(void *arg, const char *why), void *arg,
				  struct error *err);
void vhost_user_free(struct vhost_user *v);

#endif
