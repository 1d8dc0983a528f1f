/*
 * fs.c - virtio-fs (virtio 1.2 §5.11) with tag "husk": a configuration space, and queues that are
 * virtiofsd's (vhost_user_front.c): no request passes through this process.
 *
 * Queue 0 is for requests with priority, queue 1 for all others; the C virtiofsd has no more.
 */
#include <linux/virtio_fs.h>
#include <stdlib.h>
#include <string.h>

#include "lib/cleanup.h"
#include "vmm/device.h"
#include "vmm/vhost_user_front.h"

#define QUEUES 2
#define TAG "husk"

struct fs {
	struct virtio_device d;
	struct vhost_front *front;
};

static struct fs *fs_of(struct virtio_device *d)
{
	return (struct fs *)d;
}

static uint64_t fs_features(UNUSED struct virtio_device *d)
{
	return 0;
}

static void fs_read_config(UNUSED struct virtio_device *d, uint32_t off, void *buf, uint32_t len)
{
	const struct virtio_fs_config c = {.tag = TAG, .num_request_queues = 1};

	memset(buf, 0, len);
	if (off < sizeof(c))
		memcpy(buf, (const uint8_t *)&c + off,
		       len < sizeof(c) - off ? len : sizeof(c) - off);
}

static int fs_start(struct virtio_device *d, unsigned q, struct error *err)
{
	return vhost_front_start(fs_of(d)->front, d->acked, q, &d->vq[q], err);
}

static void fs_stop(struct virtio_device *d, unsigned q)
{
	vhost_front_stop(fs_of(d)->front, q, &d->vq[q]);
}

static void fs_destroy(struct virtio_device *d)
{
	if (!d)
		return;
	vhost_front_free(fs_of(d)->front);
	free(fs_of(d));
}

static const struct virtio_device_ops fs_ops = {
	.name = "fs",
	.id = VIRTIO_ID_FS,
	.nqueues = QUEUES,
	.features = fs_features,
	.read_config = fs_read_config,
	.start_queue = fs_start,
	.stop_queue = fs_stop,
	.destroy = fs_destroy,
};

struct virtio_device *fs_new(struct loop *l, int sock, void (*lost)(void *arg, const char *why),
			     void *arg, struct error *err)
{
	cleanup_close int own = sock;
	struct fs *f = calloc(1, sizeof(*f));

	if (!f) {
		error_set(err, "out of memory");
		return NULL;
	}
	f->front = vhost_front_new(l, steal_fd(&own), "virtiofsd", lost, arg, err);
	if (!f->front) {
		free(f);
		return NULL;
	}
	f->d.ops = &fs_ops;
	f->d.loop = l;
	for (unsigned i = 0; i < DEVICE_QUEUES_MAX; i++)
		vq_init(&f->d.vq[i]);
	return &f->d;
}
