/*
 * console.h - the last bytes that the guest's console and the engine wrote.
 *
 * A bounded ring: a guest that floods its console costs nothing but its own time. The text is for
 * error messages and the control socket; it is hostile and never reaches the log.
 */
#ifndef HUSK_VMM_CONSOLE_H
#define HUSK_VMM_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>

#define CONSOLE_LOG_MAX (4u << 20) /* bytes that a guest's console may take of a host's disk */

struct console {
	char *ring; /* allocated with the first byte */
	size_t size;
	size_t len, end; /* bytes held; where the next one goes */
	char *text;	 /* the last answer of console_text() */
	/* A file that has all of it, but what is beyond its bound. */
	int log_fd; /* the caller's; -1: none */
	size_t log_left, line_len;
	char line[256]; /* not written yet */
};

/* An empty ring of `size` bytes, to be freed with console_free(). */
void console_init(struct console *c, size_t size);
void console_free(struct console *c);

/* From now on what is put is written to `fd`, too, line by line, with '?' for control characters;
 * CONSOLE_LOG_MAX bytes at most. The caller keeps `fd`. */
void console_log_to(struct console *c, int fd);

/* Appends `len` bytes; the oldest ones give way. */
void console_put(struct console *c, const char *data, size_t len);

/* All that is held, oldest byte first, NUL-terminated: carriage returns are dropped, other control
 * characters but newline and tab become '?'. It belongs to `c` and lives until the next call. */
const char *console_text(struct console *c);

/* The last `lines` lines that are not empty, joined by "; ", into `buf`; "" if there are none. */
void console_last_lines(struct console *c, unsigned lines, char *buf, size_t size);

/* The reason in a Linux kernel's "Kernel panic - not syncing: ...", into `buf`; false if the text
 * has none. */
bool console_panic(struct console *c, char *buf, size_t size);
/* The same for what the agent says before it resets a machine that it cannot serve. */
bool console_agent(struct console *c, char *buf, size_t size);

#endif
