/* Guest memory: regions of shared memory and the checked way into them. */
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/file.h"
#include "vmm/mem.h"

/* syscalls loop: fstat mmap(2!&PROT_EXEC) munmap */

#define HUGE_PAGE (2u << 20)

static bool overlap(uint64_t a, uint64_t b, uint64_t size_a, uint64_t size_b)
{
	return a < b ? b - a < size_a : a - b < size_b;
}

/* A region is refused that wraps around, overlaps another one, or lies beyond the end of its file
 * (touching it would be SIGBUS). */
static int check_region(const struct guest_mem *m, const struct mem_region *n, int fd,
			uint64_t offset, struct error *err)
{
	struct stat st;
	uint64_t end;

	if (m->n >= MEM_REGIONS_MAX)
		return error_kind(err, ERR_PEER, "guest memory: more than %d regions",
				  MEM_REGIONS_MAX);
	if (n->size == 0 || __builtin_add_overflow(n->gpa, n->size, &end) ||
	    __builtin_add_overflow(n->user, n->size, &end) ||
	    __builtin_add_overflow(offset, n->size, &end) || end > INT64_MAX)
		return error_kind(err, ERR_PEER,
				  "guest memory: region 0x%" PRIx64 "+0x%" PRIx64
				  " is out of range",
				  n->gpa, n->size);
	for (unsigned i = 0; i < m->n; i++) {
		const struct mem_region *o = &m->r[i];

		if (overlap(n->gpa, o->gpa, n->size, o->size) ||
		    ((n->user || o->user) && overlap(n->user, o->user, n->size, o->size)))
			return error_kind(err, ERR_PEER,
					  "guest memory: region 0x%" PRIx64 "+0x%" PRIx64
					  " overlaps another",
					  n->gpa, n->size);
	}
	if (fd_stat(fd, &st) < 0)
		return error_errno(err, "guest memory: fstat");
	if (!S_ISREG(st.st_mode) || end > (uint64_t)st.st_size)
		return error_kind(err, ERR_PEER,
				  "guest memory: region 0x%" PRIx64 "+0x%" PRIx64
				  " does not lie in its file",
				  n->gpa, n->size);
	return 0;
}

/* Maps it where nothing else lies near: what runs over an edge ends there. `r->map` and
 * `r->map_len` include that room. Address and offset agree within a huge page, so that there can be
 * huge pages. */
static int map_region(struct mem_region *r, int fd, uint64_t skip, struct error *err)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), from = r->offset - skip;
	uint64_t bytes = (r->size + skip + page - 1) & ~(page - 1);
	uint8_t *at;

	r->map_len = bytes + 2 * page + 2 * HUGE_PAGE;
	r->map = mmap(NULL, r->map_len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		      0);
	if (r->map == MAP_FAILED)
		return error_errno(err, "guest memory: room for 0x%" PRIx64 " bytes", r->size);
	at = (uint8_t *)r->map + page;
	at += -(uintptr_t)at & (HUGE_PAGE - 1);
	at += from & (HUGE_PAGE - 1);
	if (mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd,
		 (off_t)from) == MAP_FAILED) {
		error_errno(err, "guest memory: map 0x%" PRIx64 "+0x%" PRIx64, r->gpa, r->size);
		munmap(r->map, r->map_len);
		return -1;
	}
	/* A core dump of ours is no place for what the guest holds. */
	madvise(at, bytes, MADV_DONTDUMP);
	r->hva = at + skip;
	return 0;
}

int mem_add(struct guest_mem *m, uint64_t gpa, uint64_t size, uint64_t user, int fd,
	    uint64_t offset, struct error *err)
{
	struct mem_region r = {.gpa = gpa, .size = size, .user = user, .fd = -1, .offset = offset};
	uint64_t skip = offset & ((uint64_t)sysconf(_SC_PAGESIZE) - 1);

	if (check_region(m, &r, fd, offset, err) < 0)
		return -1;
	if (map_region(&r, fd, skip, err) < 0)
		return -1;
	m->r[m->n++] = r;
	return 0;
}

void mem_clear(struct guest_mem *m)
{
	for (unsigned i = 0; i < m->n; i++)
		munmap(m->r[i].map, m->r[i].map_len);
	memset(m, 0, sizeof(*m));
}

void *mem_at(const struct guest_mem *m, uint64_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < m->n; i++) {
		const struct mem_region *r = &m->r[i];
		uint64_t off = gpa - r->gpa;

		if (gpa >= r->gpa && off <= r->size && len <= r->size - off)
			return r->hva + off;
	}
	return NULL;
}

void *mem_at_user(const struct guest_mem *m, uint64_t user, uint64_t len)
{
	for (unsigned i = 0; i < m->n; i++) {
		const struct mem_region *r = &m->r[i];
		uint64_t off = user - r->user;

		if (user >= r->user && off <= r->size && len <= r->size - off)
			return r->hva + off;
	}
	return NULL;
}
