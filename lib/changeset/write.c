#include "lib/changeset/write.h"
#include "lib/changeset/wire.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <poll.h>
#include <sys/socket.h>

/* Two data records, or the largest entry, always fit. */
#define BUF_SIZE (2 * (size_t)CS_DATA_MAX + 4096)
_Static_assert(BUF_SIZE > WIRE_HEADER + WIRE_ENTRY_MAX, "an entry fits the buffer");

void cs_writer_init(struct cs_writer *w, int fd)
{
	socklen_t len = sizeof(int);
	int type;

	*w = (struct cs_writer){.fd = fd, .buf = xcalloc(1, BUF_SIZE)};
	w->socket = getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0;
	memcpy(w->buf, CS_MAGIC, sizeof(CS_MAGIC) - 1);
	w->len = sizeof(CS_MAGIC) - 1;
}

void cs_writer_free(struct cs_writer *w)
{
	free(w->buf);
	w->buf = NULL;
}

static int flush(struct cs_writer *w)
{
	size_t done = 0;

	while (done < w->len && !w->failed.msg[0]) {
		/* A peer that is gone is an error, not a signal. */
		ssize_t n = w->socket ? send(w->fd, w->buf + done, w->len - done, MSG_NOSIGNAL)
				      : write(w->fd, w->buf + done, w->len - done);

		if (n >= 0) {
			done += (size_t)n;
		} else if (errno != EINTR && (errno != EAGAIN || fd_await(w->fd, POLLOUT) < 0)) {
			error_errno(&w->failed, "write the changeset");
			if (errno == EPIPE || errno == ECONNRESET)
				w->failed.kind = ERR_PEER;
		}
	}
	w->len = 0;
	return w->failed.msg[0] ? -1 : 0;
}

static int fails(const struct cs_writer *w, struct error *err)
{
	if (err)
		*err = w->failed;
	return -1;
}

/* Room for a record whose payload has `len` bytes; its header is there already. NULL on error. */
static unsigned char *record(struct cs_writer *w, enum cs_type type, unsigned flags, size_t len)
{
	unsigned char *p;

	if (len + WIRE_HEADER > BUF_SIZE)
		error_set(&w->failed, "record of %zu bytes is too large", len);
	if (w->failed.msg[0] || (w->len + WIRE_HEADER + len > BUF_SIZE && flush(w) < 0))
		return NULL;
	p = w->buf + w->len;
	p[0] = (unsigned char)type;
	p[1] = (unsigned char)flags;
	put16(p + 2, 0);
	put32(p + 4, (uint32_t)len);
	w->len += WIRE_HEADER + len;
	w->records++;
	return p + WIRE_HEADER;
}

static int put_short(struct cs_writer *w, const struct cs_entry *e, struct error *err)
{
	size_t name = strlen(e->name) + 1, head = e->type == CS_LINK ? 8 : 0;
	unsigned char *p = record(w, e->type, 0, head + name);

	if (!p)
		return fails(w, err);
	if (head)
		put64(p, e->id);
	memcpy(p + head, e->name, name);
	return 0;
}

static size_t xattrs_size(const struct cs_entry *e)
{
	size_t n = 0;

	for (size_t i = 0; i < e->n_xattrs; i++)
		n += WIRE_XATTR + strlen(e->xattrs[i].name) + 1 + e->xattrs[i].len;
	return n;
}

static void put_fixed(unsigned char *p, const struct cs_entry *e, size_t name, size_t target)
{
	put32(p, e->mode);
	put32(p + 4, e->uid);
	put32(p + 8, e->gid);
	put32(p + 12, (uint32_t)e->mtime.tv_nsec);
	put64(p + 16, (uint64_t)e->mtime.tv_sec);
	put32(p + 24, e->major);
	put32(p + 28, e->minor);
	put64(p + 32, e->size);
	put64(p + 40, e->id);
	put64(p + 48, e->origin);
	put64(p + 56, e->origin_fs);
	put16(p + 64, (uint16_t)name);
	put16(p + 66, (uint16_t)target);
	put32(p + 68, (uint32_t)e->n_xattrs);
}

int cs_put_entry(struct cs_writer *w, const struct cs_entry *e, struct error *err)
{
	size_t name = strlen(e->name) + 1, target = e->target ? strlen(e->target) + 1 : 0;
	unsigned char *p;

	if (e->type == CS_LINK || e->type == CS_WHITEOUT)
		return put_short(w, e, err);
	p = record(w, e->type, e->flags, WIRE_FIXED + name + target + xattrs_size(e));
	if (!p)
		return fails(w, err);
	put_fixed(p, e, name, target);
	p += WIRE_FIXED;
	memcpy(p, e->name, name);
	p += name;
	if (target)
		memcpy(p, e->target, target);
	p += target;
	for (size_t i = 0; i < e->n_xattrs; i++) {
		const struct cs_xattr *x = &e->xattrs[i];
		size_t len = strlen(x->name) + 1;

		put16(p, (uint16_t)len);
		put16(p + 2, 0);
		put32(p + 4, (uint32_t)x->len);
		memcpy(p + WIRE_XATTR, x->name, len);
		if (x->len)
			memcpy(p + WIRE_XATTR + len, x->value, x->len);
		p += WIRE_XATTR + len + x->len;
	}
	return 0;
}

int cs_put_leave(struct cs_writer *w, struct error *err)
{
	return record(w, CS_LEAVE, 0, 0) ? 0 : fails(w, err);
}

void *cs_data_begin(struct cs_writer *w, size_t max, size_t *room, struct error *err)
{
	size_t want = max < CS_DATA_MAX ? max : CS_DATA_MAX;

	/* A small file fills what is left of the buffer; a large one begins a new buffer. */
	if (w->failed.msg[0] || (BUF_SIZE - w->len < WIRE_HEADER + 8 + want && flush(w) < 0)) {
		fails(w, err);
		return NULL;
	}
	*room = want;
	return w->buf + w->len + WIRE_HEADER + 8;
}

void cs_data_end(struct cs_writer *w, uint64_t off, size_t len)
{
	unsigned char *p = record(w, CS_DATA, 0, 8 + len);

	if (p)
		put64(p, off);
}

int cs_put_data(struct cs_writer *w, uint64_t off, const void *p, size_t len, struct error *err)
{
	while (len > 0) {
		size_t room;
		void *to = cs_data_begin(w, len, &room, err);

		if (!to)
			return -1;
		memcpy(to, p, room);
		cs_data_end(w, off, room);
		off += room;
		p = (const char *)p + room;
		len -= room;
	}
	return 0;
}

int cs_put_end(struct cs_writer *w, const char *failure, struct error *err)
{
	size_t len = failure ? strnlen(failure, CS_ERROR_MAX) : 0;
	uint64_t before = w->records;
	unsigned char *p = record(w, CS_END, 0, WIRE_END + len);

	if (!p)
		return fails(w, err);
	put64(p, before);
	put32(p + 8, failure ? 1 : 0);
	if (len)
		memcpy(p + WIRE_END, failure, len);
	return flush(w) < 0 ? fails(w, err) : 0;
}
