/*
 * write.h - puts records of a changeset into a descriptor: buffered, in big writes.
 *
 * Knows the wire format and nothing else: what it is given is sent. An error sticks: later calls
 * do nothing and fail with the same message.
 */
#ifndef HUSK_LIB_CHANGESET_WRITE_H
#define HUSK_LIB_CHANGESET_WRITE_H

#include "lib/changeset/changeset.h"
#include "lib/error.h"

struct cs_writer {
	int fd;
	bool socket;
	unsigned char *buf;
	size_t len;
	uint64_t records;
	struct error failed;
};

/* `fd` stays the caller's; a full pipe or socket is waited for, also a non-blocking one. */
void cs_writer_init(struct cs_writer *w, int fd);
void cs_writer_free(struct cs_writer *w);

/* Any record with a name: an entry, LINK, WHITEOUT. */
int cs_put_entry(struct cs_writer *w, const struct cs_entry *e, struct error *err);
int cs_put_leave(struct cs_writer *w, struct error *err);
int cs_put_data(struct cs_writer *w, uint64_t off, const void *p, size_t len, struct error *err);

/* Without a copy: room for 1 to `max` (at most CS_DATA_MAX) bytes, of which the caller fills
 * some and says how many. NULL on error. */
void *cs_data_begin(struct cs_writer *w, size_t max, size_t *room, struct error *err);
void cs_data_end(struct cs_writer *w, uint64_t off, size_t len);

/* END with status 0, or with 1 and a text; and writes what is buffered. */
int cs_put_end(struct cs_writer *w, const char *failure, struct error *err);

#endif
