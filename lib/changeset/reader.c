#include "lib/changeset/reader.h"
#include "lib/changeset/wire.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <poll.h>

/*
 * The buffer holds any record but DATA whole, so that an entry's strings and values are used where
 * they lie (a FILE's in a copy, because its DATA passes through the buffer while they are in use);
 * DATA is handed on in the pieces in which it comes. Ids are given in order, so that one
 * number says which ones are known; depth, the file whose data may come and where it stands are all
 * the state that there is: memory does not grow with the stream.
 */
#define BUF_SIZE (512u << 10)
_Static_assert(BUF_SIZE > WIRE_HEADER + WIRE_ENTRY_MAX, "an entry fits the buffer");

struct cs_reader {
	int fd;
	unsigned char *buf;
	unsigned char *file; /* the last FILE record: it outlives its data */
	size_t pos, len;     /* what is read and not used: buf[pos .. len) */
	uint64_t records, entries, bytes, max_entries, max_bytes;
	uint64_t last_id;
	unsigned depth;
	bool begun;  /* the magic was there */
	bool ended;  /* END was there */
	bool top_ok; /* "." may come */
	/* The FILE whose DATA may come. */
	bool in_file;
	uint64_t size, data_end;
	size_t piece; /* bytes of the DATA record that are still to come */
	struct cs_xattr xattrs[CS_XATTRS_MAX];
};

struct cs_reader *cs_reader_new(int fd, uint64_t max_entries, uint64_t max_bytes)
{
	struct cs_reader *r = xcalloc(1, sizeof(*r));

	r->fd = fd;
	r->buf = xcalloc(1, BUF_SIZE);
	r->file = xcalloc(1, WIRE_ENTRY_MAX);
	r->max_entries = max_entries && max_entries < CS_ENTRIES_MAX ? max_entries : CS_ENTRIES_MAX;
	r->max_bytes = max_bytes ? max_bytes : UINT64_MAX;
	r->top_ok = true;
	return r;
}

void cs_reader_free(struct cs_reader *r)
{
	if (!r)
		return;
	free(r->buf);
	free(r->file);
	free(r);
}

static int bad(const struct cs_reader *r, const char *what, struct error *err)
{
	return error_kind(err, ERR_PEER, "changeset: record %llu: %s",
			  (unsigned long long)r->records, what);
}

static int fill(struct cs_reader *r, struct error *err)
{
	for (;;) {
		ssize_t n = read(r->fd, r->buf + r->len, BUF_SIZE - r->len);

		if (n > 0) {
			r->len += (size_t)n;
			return 0;
		}
		if (n == 0)
			return error_kind(err, ERR_PEER, "changeset: ends after %llu records",
					  (unsigned long long)r->records);
		if (errno == EINTR || (errno == EAGAIN && fd_await(r->fd, POLLIN) == 0))
			continue;
		if (errno == ETIMEDOUT)
			return error_kind(err, ERR_TIMEOUT,
					  "changeset: stands still after %llu records",
					  (unsigned long long)r->records);
		return error_errno(err, "read the changeset");
	}
}

/* Has at least `n` (at most BUF_SIZE) bytes at pos. */
static int need(struct cs_reader *r, size_t n, struct error *err)
{
	if (r->len - r->pos >= n)
		return 0;
	if (r->pos + n > BUF_SIZE || r->pos == r->len) {
		memmove(r->buf, r->buf + r->pos, r->len - r->pos);
		r->len -= r->pos;
		r->pos = 0;
	}
	while (r->len - r->pos < n)
		if (fill(r, err) < 0)
			return -1;
	return 0;
}

/* A string of `len` bytes with its NUL, and no other one. */
static bool is_string(const unsigned char *p, size_t len)
{
	return len > 0 && memchr(p, 0, len) == p + len - 1;
}

static int check_name(const struct cs_reader *r, const unsigned char *p, size_t len,
		      struct error *err)
{
	const char *s = (const char *)p;

	if (!is_string(p, len) || len == 1 || len > CS_NAME_MAX + 1)
		return bad(r, "a name that is empty, too long or has a NUL", err);
	if (strchr(s, '/') || strcmp(s, ".") == 0 || strcmp(s, "..") == 0)
		return bad(r, "a name that is a path", err);
	return 0;
}

static int check_id(struct cs_reader *r, const struct cs_entry *e, struct error *err)
{
	if (e->id == 0)
		return 0;
	if (e->type == CS_DIR)
		return bad(r, "a directory with an id", err);
	if (e->id != r->last_id + 1)
		return bad(r, "an id out of order", err);
	r->last_id = e->id;
	return 0;
}

static int check_numbers(struct cs_reader *r, const struct cs_entry *e, uint32_t nsec,
			 struct error *err)
{
	if (e->mode & ~07777u)
		return bad(r, "a mode that is more than permissions", err);
	if (e->uid == (uid_t)-1 || e->gid == (gid_t)-1)
		return bad(r, "an owner that is nobody", err);
	if (nsec >= 1000000000)
		return bad(r, "a time that is none", err);
	if (e->type == CS_FILE ? e->size > INT64_MAX : e->size != 0)
		return bad(r, "a size that cannot be", err);
	if (e->type == CS_CHAR || e->type == CS_BLOCK) {
		if (e->major > 0xfff || e->minor > 0xfffff)
			return bad(r, "a device number that is too large", err);
	} else if (e->major || e->minor) {
		return bad(r, "a device number of what is no device", err);
	}
	return check_id(r, e, err);
}

static int parse_xattrs(struct cs_reader *r, const unsigned char *p, size_t left,
			struct cs_entry *e, struct error *err)
{
	size_t bytes = 0;

	if (e->n_xattrs > CS_XATTRS_MAX)
		return bad(r, "too many extended attributes", err);
	for (size_t i = 0; i < e->n_xattrs; i++) {
		size_t name, value;

		if (left < WIRE_XATTR)
			return bad(r, "an extended attribute is cut off", err);
		name = get16(p);
		value = get32(p + 4);
		if (name + value > left - WIRE_XATTR)
			return bad(r, "an extended attribute is cut off", err);
		if (!is_string(p + WIRE_XATTR, name) || name == 1 || name > 256)
			return bad(r, "an extended attribute without a good name", err);
		bytes += name + value;
		if (bytes > CS_XATTR_BYTES_MAX)
			return bad(r, "extended attributes that are too large", err);
		r->xattrs[i] = (struct cs_xattr){.name = (const char *)p + WIRE_XATTR,
						 .value = p + WIRE_XATTR + name,
						 .len = value};
		p += WIRE_XATTR + name + value;
		left -= WIRE_XATTR + name + value;
	}
	if (left)
		return bad(r, "bytes after the entry", err);
	e->xattrs = r->xattrs;
	return 0;
}

static int parse_fixed(struct cs_reader *r, const unsigned char *p, struct cs_entry *e,
		       struct error *err)
{
	e->mode = get32(p);
	e->uid = get32(p + 4);
	e->gid = get32(p + 8);
	e->mtime.tv_nsec = get32(p + 12);
	e->mtime.tv_sec = (int64_t)get64(p + 16);
	e->major = get32(p + 24);
	e->minor = get32(p + 28);
	e->size = get64(p + 32);
	e->id = get64(p + 40);
	e->origin = get64(p + 48);
	e->origin_fs = get64(p + 56);
	e->n_xattrs = get32(p + 68);
	return check_numbers(r, e, get32(p + 12), err);
}

static int parse_target(struct cs_reader *r, const unsigned char *p, size_t len, struct cs_entry *e,
			struct error *err)
{
	if (e->type != CS_SYMLINK)
		return len ? bad(r, "a target of what is no symbolic link", err) : 0;
	if (!is_string(p, len) || len == 1 || len > CS_TARGET_MAX + 1)
		return bad(r, "a target that is empty, too long or has a NUL", err);
	e->target = (const char *)p;
	return 0;
}

static int enter(struct cs_reader *r, bool top, struct error *err)
{
	if (top)
		return 0;
	if (r->depth >= CS_DEPTH_MAX)
		return bad(r, "directories too deep", err);
	r->depth++;
	return 0;
}

static int parse_entry(struct cs_reader *r, const unsigned char *p, size_t len, struct cs_entry *e,
		       struct error *err)
{
	size_t name, target;
	bool top;

	if (len < WIRE_FIXED)
		return bad(r, "an entry is cut off", err);
	if (e->flags & ~(e->type == CS_DIR ? CS_OPAQUE | CS_ATTRS : CS_NAMELESS))
		return bad(r, "unknown flags", err);
	name = get16(p + 64);
	target = get16(p + 66);
	if (name + target > len - WIRE_FIXED)
		return bad(r, "an entry is cut off", err);
	if (parse_fixed(r, p, e, err) < 0)
		return -1;
	if (e->type != CS_DIR && e->flags && (!e->id || !e->origin || r->depth != 0))
		return bad(r, "a nameless entry of no lower file", err);
	p += WIRE_FIXED;
	top = e->type == CS_DIR && name == 2 && memcmp(p, ".", 2) == 0;
	if (top && !r->top_ok)
		return bad(r, "the top directory is not the first", err);
	if (!top && check_name(r, p, name, err) < 0)
		return -1;
	e->name = (const char *)p;
	if (parse_target(r, p + name, target, e, err) < 0 ||
	    parse_xattrs(r, p + name + target, len - WIRE_FIXED - name - target, e, err) < 0)
		return -1;
	r->in_file = e->type == CS_FILE;
	r->size = e->size;
	r->data_end = 0;
	return e->type == CS_DIR ? enter(r, top, err) : 0;
}

static int parse_link(struct cs_reader *r, const unsigned char *p, size_t len, struct cs_entry *e,
		      struct error *err)
{
	if (len < 8)
		return bad(r, "a link is cut off", err);
	e->id = get64(p);
	if (e->id == 0 || e->id > r->last_id)
		return bad(r, "a link to an unknown id", err);
	e->name = (const char *)p + 8;
	return check_name(r, p + 8, len - 8, err);
}

static int parse_end(struct cs_reader *r, const unsigned char *p, size_t len, struct error *err)
{
	if (len < WIRE_END || len > WIRE_END + CS_ERROR_MAX)
		return bad(r, "an end of a wrong length", err);
	if (get64(p) != r->records)
		return bad(r, "an end that counts other records", err);
	if (get32(p + 8) != 0)
		return error_kind(err, ERR_PEER, "changeset: the sender says: %.*s",
				  (int)(len - WIRE_END), (const char *)p + WIRE_END);
	if (r->depth != 0)
		return bad(r, "an end inside a directory", err);
	r->ended = true;
	return 0;
}

static int parse(struct cs_reader *r, const unsigned char *p, size_t len, struct cs_entry *e,
		 struct error *err)
{
	if (e->flags && (e->type == CS_LEAVE || e->type >= CS_LINK))
		return bad(r, "unknown flags", err);
	switch (e->type) {
	case CS_DIR:
	case CS_FILE:
	case CS_SYMLINK:
	case CS_FIFO:
	case CS_SOCKET:
	case CS_CHAR:
	case CS_BLOCK:
		return parse_entry(r, p, len, e, err);
	case CS_LINK:
		return parse_link(r, p, len, e, err);
	case CS_WHITEOUT:
		e->name = (const char *)p;
		return check_name(r, p, len, err);
	case CS_LEAVE:
		if (len != 0 || r->depth == 0)
			return bad(r, "a wrong leave", err);
		r->depth--;
		return 0;
	case CS_END:
		return parse_end(r, p, len, err);
	case CS_DATA:
		break;
	}
	return bad(r, "unknown type", err);
}

static int begin(struct cs_reader *r, struct error *err)
{
	if (r->begun)
		return 0;
	if (need(r, sizeof(CS_MAGIC) - 1, err) < 0)
		return -1;
	if (memcmp(r->buf + r->pos, CS_MAGIC, sizeof(CS_MAGIC) - 1) != 0)
		return error_kind(err, ERR_PEER, "changeset: does not begin with " CS_MAGIC);
	r->pos += sizeof(CS_MAGIC) - 1;
	r->begun = true;
	return 0;
}

int cs_next(struct cs_reader *r, struct cs_entry *e, struct error *err)
{
	const unsigned char *p;
	uint32_t len;
	int got;

	if (r->ended)
		return 0;
	do {
		uint64_t off;
		const void *data;
		size_t n;

		got = r->in_file ? cs_next_data(r, &off, &data, &n, err) : 0;
	} while (got > 0);
	if (got < 0 || begin(r, err) < 0 || need(r, WIRE_HEADER, err) < 0)
		return -1;
	p = r->buf + r->pos;
	*e = (struct cs_entry){.type = p[0], .flags = p[1]};
	len = get32(p + 4);
	if (e->type == CS_DATA)
		return bad(r, "data of no file", err);
	if (get16(p + 2) != 0 || len > WIRE_ENTRY_MAX)
		return bad(r, "a header that is none", err);
	if (need(r, WIRE_HEADER + len, err) < 0)
		return -1;
	r->in_file = false;
	p = r->buf + r->pos + WIRE_HEADER;
	if (e->type == CS_FILE)
		p = memcpy(r->file, p, len);
	if (parse(r, p, len, e, err) < 0)
		return -1;
	r->pos += WIRE_HEADER + len;
	r->top_ok = false;
	if (r->ended)
		return 0;
	r->records++;
	if (e->type != CS_LEAVE && ++r->entries > r->max_entries)
		return bad(r, "more entries than are allowed", err);
	return 1;
}

/* The header of the next DATA record. 1, or 0 if what comes is something else. */
static int next_data_record(struct cs_reader *r, struct error *err)
{
	const unsigned char *p;
	uint32_t len;
	uint64_t off;

	if (need(r, WIRE_HEADER, err) < 0)
		return -1;
	p = r->buf + r->pos;
	if (p[0] != CS_DATA)
		return 0;
	len = get32(p + 4);
	if (p[1] != 0 || get16(p + 2) != 0 || len <= 8 || len > CS_DATA_MAX + 8)
		return bad(r, "data of a wrong length", err);
	if (need(r, WIRE_HEADER + 8, err) < 0)
		return -1;
	off = get64(r->buf + r->pos + WIRE_HEADER);
	len -= 8;
	if (off < r->data_end || off > r->size || len > r->size - off)
		return bad(r, "data out of order or beyond the size", err);
	if (len > r->max_bytes - r->bytes)
		return bad(r, "more data than is allowed", err);
	r->bytes += len;
	r->pos += WIRE_HEADER + 8;
	r->piece = len;
	r->data_end = off;
	r->records++;
	return 1;
}

int cs_next_data(struct cs_reader *r, uint64_t *off, const void **buf, size_t *len,
		 struct error *err)
{
	size_t n;

	if (!r->in_file)
		return 0;
	if (r->piece == 0) {
		int got = next_data_record(r, err);

		if (got <= 0)
			return got;
	}
	if (need(r, 1, err) < 0)
		return -1;
	n = r->len - r->pos < r->piece ? r->len - r->pos : r->piece;
	*off = r->data_end;
	*buf = r->buf + r->pos;
	*len = n;
	r->pos += n;
	r->piece -= n;
	r->data_end += n;
	return 1;
}
