/* A changeset of arbitrary bytes: whatever the reader hands on keeps the promises of changeset.h.
 * The first byte says how much of the files' data is taken. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/changeset/reader.h"
#include "lib/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Of all bytes handed on: each one is looked at, which AddressSanitizer judges. */
static volatile uint64_t sum;

static void expect(bool ok)
{
	if (!ok)
		abort();
}

static void check_entry(const struct cs_entry *e, unsigned depth)
{
	size_t bytes = 0;

	if (e->type == CS_LEAVE)
		return;
	expect(e->name[0] && strlen(e->name) <= CS_NAME_MAX && !strchr(e->name, '/'));
	expect(strcmp(e->name, "..") != 0);
	expect(strcmp(e->name, ".") != 0 || (e->type == CS_DIR && depth == 0));
	expect((e->mode & ~07777u) == 0 && e->mtime.tv_nsec < 1000000000);
	expect(e->n_xattrs <= CS_XATTRS_MAX);
	expect((e->type == CS_SYMLINK) == (e->target != NULL));
	expect(!e->target || (e->target[0] && strlen(e->target) <= CS_TARGET_MAX));
	for (size_t i = 0; i < e->n_xattrs; i++) {
		expect(e->xattrs[i].name[0]);
		bytes += strlen(e->xattrs[i].name) + e->xattrs[i].len;
		for (size_t k = 0; k < e->xattrs[i].len; k++)
			sum += ((const unsigned char *)e->xattrs[i].value)[k];
	}
	expect(bytes <= CS_XATTR_BYTES_MAX);
}

static bool take_data(struct cs_reader *r, const struct cs_entry *e, uint8_t how)
{
	uint64_t off, end = 0;
	const void *buf;
	size_t len;
	int got;

	for (int i = 0; i < how; i++) {
		got = cs_next_data(r, &off, &buf, &len, NULL);
		if (got <= 0)
			return got == 0;
		expect(len > 0 && off >= end && off + len <= e->size);
		for (size_t k = 0; k < len; k++)
			sum += ((const unsigned char *)buf)[k];
		end = off + len;
	}
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_close int fd = memfd_create("fuzz", MFD_CLOEXEC);
	struct error err = ERROR_INIT;
	uint64_t last_id = 0, n = 0;
	struct cs_reader *r;
	struct cs_entry e;
	unsigned depth = 0;
	int got = 1;

	if (size < 1 || fd < 0 || write(fd, data + 1, size - 1) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return 0;
	r = cs_reader_new(fd, 1000, 1 << 20);
	while ((got = cs_next(r, &e, &err)) > 0) {
		check_entry(&e, depth);
		expect(++n <= 2000);
		if (e.type == CS_LINK)
			expect(e.id > 0 && e.id <= last_id);
		else if (e.id)
			expect(e.id == ++last_id);
		if (e.type == CS_DIR && strcmp(e.name, ".") != 0)
			expect(++depth <= CS_DEPTH_MAX);
		if (e.type == CS_LEAVE)
			expect(depth-- > 0);
		if (e.type == CS_FILE && !take_data(r, &e, data[0]))
			break;
	}
	expect(got >= 0 || err.msg[0]);
	expect(got != 0 || depth == 0);
	cs_reader_free(r);
	return 0;
}
