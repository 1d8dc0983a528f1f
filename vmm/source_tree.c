/*
 * The image of a tree as a block source.
 *
 * A request is cut where the metadata end and at every extent: metadata are copied from the mapped
 * tree, a piece of a file is read with preadv2() straight into the request's buffers. Where the
 * file ends before its last block does, zeros follow.
 *
 * Files are opened when they are first read, beneath the directory's descriptor: no symlink is
 * followed, no "..", nothing outside (vmm/opener.c). The last CACHE_FDS stay open.
 * An opened file must be a regular one with the inode number that it had when the tree was made.
 *
 * A file that became shorter reads as zeros behind its end. One that is gone, was replaced or
 * cannot be read is an I/O error of the requests that need it. Either is logged once a file, for
 * the first LOGGED_MAX files.
 *
 * Held files (source_tree_hold) have descriptors of their own, which are never closed before the
 * source is: they may be added by another thread while a request runs, so their table has a lock.
 * Everything else belongs to the thread that reads.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "vmm/opener.h"
#include "vmm/source.h"
#include "vmm/tree/image.h"

/* syscalls block: preadv2 fstat close */

#define CACHE_FDS 256u
#define CACHE_BUCKETS 512u /* a power of two */
#define HELD_MAX 16384u	   /* files of one source */
#define LOGGED_MAX 32u	   /* files that are complained about */
#define IOV_BATCH 64u
#define NO_SLOT UINT16_MAX

/* An open file: in the list of its bucket, and in the list from newest to oldest. */
struct slot {
	uint32_t file;
	int fd;
	uint16_t next_in_bucket;
	uint16_t newer, older;
};

struct held {
	uint32_t file;
	int fd;
};

struct tree_source {
	struct block_source s;
	struct tree *tree;
	const uint8_t *meta;
	uint64_t meta_len;
	int dir;
	struct opener *opener; /* NULL: this process may open files itself */

	struct slot slot[CACHE_FDS];
	uint16_t bucket[CACHE_BUCKETS];
	uint16_t newest, oldest, unused; /* unused: a list by next_in_bucket */

	uint32_t logged[LOGGED_MAX];
	unsigned n_logged;

	pthread_mutex_t lock; /* of what follows */
	struct held *held;    /* sorted by file */
	size_t n_held;
};

static struct tree_source *tree_of(struct block_source *s)
{
	return (struct tree_source *)s;
}

/* ---- opening files */

/* The file's descriptor, or -errno; ESTALE: it is another file. */
static int open_file(const struct tree_source *t, uint32_t file)
{
	cleanup_free char *path = tree_file_text(t->tree, file);
	cleanup_close int fd = -1;
	struct stat st;

	if (!path)
		return -EIO;
	fd = t->opener ? opener_open(t->opener, t->dir, path) : opener_open_here(t->dir, path);
	if (fd < 0)
		return fd;
	if (fd_stat(fd, &st) < 0)
		return -errno;
	if (!tree_inodes_unstable(t->tree) && st.st_ino != tree_file_ino(t->tree, file))
		return -ESTALE;
	return steal_fd(&fd);
}

/* ---- the cache of open files */

static uint16_t *bucket_of(struct tree_source *t, uint32_t file)
{
	return &t->bucket[(file * 2654435761u) >> 16 & (CACHE_BUCKETS - 1)];
}

static void list_remove(struct tree_source *t, uint16_t i)
{
	const struct slot *s = &t->slot[i];

	*(s->newer == NO_SLOT ? &t->newest : &t->slot[s->newer].older) = s->older;
	*(s->older == NO_SLOT ? &t->oldest : &t->slot[s->older].newer) = s->newer;
}

static void list_push(struct tree_source *t, uint16_t i)
{
	struct slot *s = &t->slot[i];

	s->newer = NO_SLOT;
	s->older = t->newest;
	*(t->newest == NO_SLOT ? &t->oldest : &t->slot[t->newest].newer) = i;
	t->newest = i;
}

static void bucket_remove(struct tree_source *t, uint16_t i)
{
	uint16_t *at = bucket_of(t, t->slot[i].file);

	while (*at != i)
		at = &t->slot[*at].next_in_bucket;
	*at = t->slot[i].next_in_bucket;
}

static int cache_find(struct tree_source *t, uint32_t file)
{
	uint16_t i = *bucket_of(t, file);

	while (i != NO_SLOT && t->slot[i].file != file)
		i = t->slot[i].next_in_bucket;
	if (i == NO_SLOT)
		return -1;
	if (t->newest != i) {
		list_remove(t, i);
		list_push(t, i);
	}
	return t->slot[i].fd;
}

/* Closes the file that was not used for the longest time. */
static void cache_evict(struct tree_source *t)
{
	uint16_t i = t->oldest;

	list_remove(t, i);
	bucket_remove(t, i);
	close(t->slot[i].fd);
	t->slot[i].next_in_bucket = t->unused;
	t->unused = i;
}

static void cache_add(struct tree_source *t, uint32_t file, int fd)
{
	uint16_t *head = bucket_of(t, file), i;

	if (t->unused == NO_SLOT)
		cache_evict(t);
	i = t->unused;
	t->unused = t->slot[i].next_in_bucket;
	t->slot[i] = (struct slot){.file = file, .fd = fd, .next_in_bucket = *head};
	*head = i;
	list_push(t, i);
}

/* ---- held files */

/* Where `file` is in the table, or belongs. */
static size_t held_at(const struct tree_source *t, uint32_t file)
{
	size_t low = 0, high = t->n_held;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (t->held[mid].file < file)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static int held_find(struct tree_source *t, uint32_t file)
{
	int fd = -1;
	size_t i;

	pthread_mutex_lock(&t->lock);
	i = held_at(t, file);
	if (i < t->n_held && t->held[i].file == file)
		fd = t->held[i].fd;
	pthread_mutex_unlock(&t->lock);
	return fd;
}

static int held_add(struct tree_source *t, uint32_t file, int *fd, struct error *err)
{
	size_t i = held_at(t, file);
	struct held *more;

	if (i < t->n_held && t->held[i].file == file)
		return 0;
	if (t->n_held == HELD_MAX)
		return error_kind(
			err, ERR_UNSUPPORTED,
			"more than %u files of one root are replaced on the host while it runs "
			"(HELD_MAX)",
			HELD_MAX);
	more = realloc(t->held, (t->n_held + 1) * sizeof(*more));
	if (!more)
		return error_set(err, "out of memory");
	t->held = more;
	memmove(more + i + 1, more + i, (t->n_held - i) * sizeof(*more));
	more[i] = (struct held){file, steal_fd(fd)};
	t->n_held++;
	return 0;
}

int source_tree_hold(struct block_source *s, const char *path, struct error *err)
{
	struct tree_source *t = tree_of(s);
	cleanup_close int fd = -1;
	uint32_t file = 0;
	int r = tree_lookup(t->tree, path, &file);

	if (r == 0 || (r > 0 && held_find(t, file) >= 0))
		return 0;
	if (r > 0)
		r = fd = open_file(t, file);
	if (r == -EMFILE)
		return error_set(
			err,
			"hold %s: no descriptor is left (RLIMIT_NOFILE); raise the limit of open "
			"files",
			path);
	if (r < 0) {
		errno = -r;
		return error_errno(err, "hold %s", path);
	}
	pthread_mutex_lock(&t->lock);
	r = held_add(t, file, &fd, err);
	pthread_mutex_unlock(&t->lock);
	return r < 0 ? error_wrap(err, "hold %s", path) : 0;
}

/* ---- reading */

/* The first complaint about a file is logged. */
static void complain(struct tree_source *t, uint32_t file, const char *why)
{
	cleanup_free char *text = NULL;

	for (unsigned i = 0; i < t->n_logged; i++)
		if (t->logged[i] == file)
			return;
	if (t->n_logged == LOGGED_MAX)
		return;
	t->logged[t->n_logged++] = file;
	text = tree_file_text(t->tree, file);
	if (text)
		replace_controls(text, '?');
	log_warn("root: %s: %s%s", text ? text : "(corrupt tree)", why,
		 t->n_logged == LOGGED_MAX ? "; more such files are not reported" : "");
}

static const char *open_reason(int errnum)
{
	if (errnum == ESTALE)
		return "is another file now than when the container was created: cannot be read";
	if (errnum == ENOENT)
		return "was removed since the container was created: cannot be read";
	return strerror(errnum);
}

static int fd_of(struct tree_source *t, uint32_t file)
{
	int fd = held_find(t, file);

	if (fd < 0)
		fd = cache_find(t, file);
	if (fd >= 0)
		return fd;
	fd = open_file(t, file);
	while (fd == -EMFILE && t->oldest != NO_SLOT) { /* live with fewer than the cache wants */
		cache_evict(t);
		fd = open_file(t, file);
	}
	if (fd < 0) {
		complain(t, file, open_reason(-fd));
		return fd;
	}
	cache_add(t, file, fd);
	return fd;
}

/* Where in the request's buffers the next byte goes. */
struct cursor {
	const struct iovec *iov;
	unsigned n;
	uint64_t skip; /* in iov[0] */
};

/* The next at most `len` bytes as buffers of their own: how many bytes `out` has. */
static uint64_t cursor_peek(const struct cursor *c, uint64_t len, struct iovec *out, unsigned *n)
{
	uint64_t sum = 0, skip = c->skip;

	*n = 0;
	for (unsigned i = 0; i < c->n && *n < IOV_BATCH && sum < len; i++, skip = 0) {
		uint64_t part = c->iov[i].iov_len - skip;

		if (part > len - sum)
			part = len - sum;
		if (!part)
			continue;
		out[*n].iov_base = (uint8_t *)c->iov[i].iov_base + skip;
		out[(*n)++].iov_len = part;
		sum += part;
	}
	return sum;
}

static void cursor_move(struct cursor *c, uint64_t len)
{
	while (c->n && len >= c->iov->iov_len - c->skip) {
		len -= c->iov->iov_len - c->skip;
		c->skip = 0;
		c->iov++;
		c->n--;
	}
	c->skip += len;
}

/* From memory; NULL: zeros. */
static void fill(struct cursor *c, const uint8_t *from, uint64_t len)
{
	struct iovec iov[IOV_BATCH];
	unsigned n;

	while (len) {
		uint64_t sum = cursor_peek(c, len, iov, &n);

		for (unsigned i = 0; i < n; i++) {
			if (from)
				memcpy(iov[i].iov_base, from, iov[i].iov_len);
			else
				memset(iov[i].iov_base, 0, iov[i].iov_len);
			from = from ? from + iov[i].iov_len : NULL;
		}
		cursor_move(c, sum);
		len -= sum;
	}
}

static int read_file(struct tree_source *t, uint32_t file, uint64_t off, struct cursor *c,
		     uint64_t len)
{
	int fd = fd_of(t, file);

	if (fd < 0)
		return -EIO;
	while (len) {
		struct iovec iov[IOV_BATCH];
		unsigned n;
		ssize_t r;

		cursor_peek(c, len, iov, &n);
		r = preadv2(fd, iov, (int)n, (off_t)off, 0);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0) {
			complain(t, file, strerror(errno));
			return -EIO;
		}
		if (r == 0) {
			complain(t, file, "became shorter: reads as zeros behind its end");
			fill(c, NULL, len);
			return 0;
		}
		cursor_move(c, (uint64_t)r);
		off += (uint64_t)r;
		len -= (uint64_t)r;
	}
	return 0;
}

/* What one step at `off` did, in bytes, or -errno. */
static int64_t read_step(struct tree_source *t, struct cursor *c, uint64_t off, uint64_t left)
{
	struct tree_piece p;
	uint64_t data = 0;
	int r;

	if (off < t->meta_len) {
		left = left < t->meta_len - off ? left : t->meta_len - off;
		fill(c, t->meta + off, left);
		return (int64_t)left;
	}
	r = tree_piece(t->tree, off, &p);
	if (r < 0)
		return r;
	left = left < p.bytes ? left : p.bytes;
	if (p.file_off < p.size)
		data = p.size - p.file_off < left ? p.size - p.file_off : left;
	if (data) {
		r = read_file(t, p.file, p.file_off, c, data);
		if (r < 0)
			return r;
	}
	fill(c, NULL, left - data);
	return (int64_t)left;
}

static int tree_readv(struct block_source *s, const struct iovec *iov, unsigned n, uint64_t off)
{
	struct cursor c = {iov, n, 0};
	uint64_t left = 0;

	for (unsigned i = 0; i < n; i++)
		left += iov[i].iov_len;
	if (off > s->bytes || left > s->bytes - off)
		return -EIO;
	while (left) {
		int64_t r = read_step(tree_of(s), &c, off, left);

		if (r < 0)
			return (int)r;
		off += (uint64_t)r;
		left -= (uint64_t)r;
	}
	return 0;
}

/* ---- the source */

static int tree_writev(UNUSED struct block_source *s, UNUSED const struct iovec *iov,
		       UNUSED unsigned n, UNUSED uint64_t off)
{
	return -EROFS;
}

static int tree_flush(UNUSED struct block_source *s)
{
	return 0;
}

static void tree_destroy(struct block_source *s)
{
	struct tree_source *t = tree_of(s);

	while (t->oldest != NO_SLOT)
		cache_evict(t);
	for (size_t i = 0; i < t->n_held; i++)
		close(t->held[i].fd);
	free(t->held);
	pthread_mutex_destroy(&t->lock);
	close_fd(&t->dir);
	tree_free(t->tree);
	free(t);
}

static const struct block_source_ops tree_ops = {
	.readv = tree_readv,
	.writev = tree_writev,
	.flush = tree_flush,
	.destroy = tree_destroy,
};

struct block_source *source_tree_new(int tree, int dir, struct opener *opener, struct error *err)
{
	cleanup_close int own_dir = dir;
	struct tree *mapped = tree_open(tree, false, err);
	struct tree_source *t;

	if (!mapped)
		return NULL;
	t = xcalloc(1, sizeof(*t));
	t->s = (struct block_source){
		.ops = &tree_ops,
		.bytes = tree_image_bytes(mapped),
		.readonly = true,
	};
	t->tree = mapped;
	t->meta = tree_meta(mapped, &t->meta_len);
	t->dir = steal_fd(&own_dir);
	t->opener = opener;
	t->newest = t->oldest = NO_SLOT;
	memset(t->bucket, 0xff, sizeof(t->bucket));
	for (uint16_t i = 0; i < CACHE_FDS; i++)
		t->slot[i].next_in_bucket = i + 1u < CACHE_FDS ? (uint16_t)(i + 1) : NO_SLOT;
	pthread_mutex_init(&t->lock, NULL);
	return &t->s;
}
