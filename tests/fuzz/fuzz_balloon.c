/*
 * Balloon requests over guest memory that the input fills: two regions in two files, the second of
 * which nobody but the balloon may shorten, move or grow. Includes the device's source to serve its
 * queues without a loop.
 *
 * Input: a byte that names the queue, a byte of options, then guest memory: ring of 16, then what
 * its descriptors point to.
 */
#include "vmm/virtio/balloon.c"

#include <sys/mman.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define RAM 0x8000u
#define AVAIL 0x100u
#define USED 0x140u
#define HIGH 0x100000000u /* where the second region lies */

static void require(bool what)
{
	if (!what)
		abort();
}

static void make_memory(struct guest_mem *m)
{
	for (unsigned i = 0; i < 2; i++) {
		int fd = memfd_create("guest", MFD_CLOEXEC);

		require(fd >= 0 && ftruncate(fd, 2 * RAM) == 0);
		require(mem_add(m, i ? HIGH : 0, RAM, 0, fd, i ? 0x2000 : 0, NULL) == 0);
		m->r[i].fd = fd;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct guest_mem mem;
	struct balloon *b;
	struct virtqueue *q;
	struct stat st;
	unsigned i;

	log_setup(2, LOG_FMT_TEXT, LOG_LVL_ERROR, "fuzz");
	if (mem.n == 0)
		make_memory(&mem);
	if (len < 2)
		return 0;
	memset(mem.r[0].hva, 0, RAM);
	memset(mem.r[1].hva, 'x', RAM);
	memcpy(mem.r[0].hva, data + 2, len - 2 < RAM ? len - 2 : RAM);
	b = balloon_of(balloon_new(NULL, NULL));
	i = data[0] % QUEUES;
	q = &b->d.vq[i];
	q->indirect = data[1] & 1;
	q->event_idx = data[1] & 2;
	require(vq_setup(q, &mem, 16, mem.r[0].hva, mem.r[0].hva + AVAIL, mem.r[0].hva + USED, 0,
			 NULL) == 0);
	for (unsigned round = 0; round < 4; round++) {
		b->punches = 0;
		serve(b, i);
		require(b->n == 0);
		require(b->punches <= PUNCHES_PER_ROUND + RANGES_MAX);
	}
	b->d.ops->write_config(&b->d, data[1], data, (uint32_t)len);
	require(b->num_pages == 0);
	for (i = 0; i < 2; i++)
		require(fstat(mem.r[i].fd, &st) == 0 && st.st_size == 2 * RAM);
	b->d.ops->destroy(&b->d);
	return 0;
}
