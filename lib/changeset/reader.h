/*
 * reader.h - parses and checks a changeset; knows no file system.
 *
 * Everything that can be wrong in a stream is wrong here: bounds, order, names ("", ".", "..", with
 * a slash or NUL), depth, offsets beyond the size, links to unknown ids. ERR_PEER names the record.
 * The top directory's own attributes come as a DIR entry named "." at the very beginning.
 */
#ifndef HUSK_LIB_CHANGESET_READER_H
#define HUSK_LIB_CHANGESET_READER_H

#include "lib/changeset/changeset.h"
#include "lib/error.h"

struct cs_reader;

/* Reads from `fd` (kept by the caller), in blocks: it may have read beyond the stream's end. */
struct cs_reader *cs_reader_new(int fd, uint64_t max_entries, uint64_t max_bytes);
void cs_reader_free(struct cs_reader *r);

/* The next record into *e (entry, LEAVE, LINK, WHITEOUT). 1, or 0 at a good END; -1 on error. DATA
 * of a FILE entry that was not taken is skipped. */
int cs_next(struct cs_reader *r, struct cs_entry *e, struct error *err);
/* After a FILE entry: the next piece of data. 1, or 0 when there is no more. *buf belongs to r. */
int cs_next_data(struct cs_reader *r, uint64_t *off, const void **buf, size_t *len,
		 struct error *err);

#endif
