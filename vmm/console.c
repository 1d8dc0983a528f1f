#include "vmm/console.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <string.h>

void console_init(struct console *c, size_t size)
{
	*c = (struct console){.size = size, .log_fd = -1};
}

void console_log_to(struct console *c, int fd)
{
	c->log_fd = fd;
	c->log_left = CONSOLE_LOG_MAX;
}

static void log_line(struct console *c)
{
	static const char full[] = "(this file is full)\n";

	if (c->line_len > c->log_left) {
		write_all(c->log_fd, full, sizeof(full) - 1, NULL);
		c->log_left = 0;
	} else if (write_all(c->log_fd, c->line, c->line_len, NULL) < 0) {
		c->log_left = 0; /* nobody is there to be told */
	} else {
		c->log_left -= c->line_len;
	}
	c->line_len = 0;
}

static void log_bytes(struct console *c, const char *data, size_t len)
{
	for (size_t i = 0; i < len && c->log_left > 0; i++) {
		unsigned char b = (unsigned char)data[i];

		if (b == '\r')
			continue;
		c->line[c->line_len++] =
			(b < ' ' && b != '\n' && b != '\t') || b == 0x7f ? '?' : (char)b;
		if (b == '\n' || c->line_len == sizeof(c->line))
			log_line(c);
	}
}

void console_free(struct console *c)
{
	if (c->line_len > 0 && c->log_left > 0)
		log_line(c);
	free(c->ring);
	free(c->text);
	*c = (struct console){.size = c->size, .log_fd = -1};
}

void console_put(struct console *c, const char *data, size_t len)
{
	if (!c->ring)
		c->ring = xcalloc(1, c->size);
	if (c->log_fd >= 0)
		log_bytes(c, data, len);
	if (len > c->size) {
		data += len - c->size;
		len = c->size;
	}
	c->len = c->len + len < c->size ? c->len + len : c->size;
	while (len > 0) {
		size_t n = c->size - c->end < len ? c->size - c->end : len;

		memcpy(c->ring + c->end, data, n);
		data += n;
		len -= n;
		c->end += n;
		if (c->end == c->size)
			c->end = 0;
	}
}

const char *console_text(struct console *c)
{
	size_t n = 0;

	free(c->text);
	c->text = xcalloc(1, c->len + 1);
	for (size_t i = 0; i < c->len; i++) {
		char b = c->ring[(c->end + c->size - c->len + i) % c->size];

		if (b == '\r')
			continue;
		if ((unsigned char)b < ' ' && b != '\n' && b != '\t')
			b = '?';
		c->text[n++] = b;
	}
	c->text[n] = '\0';
	return c->text;
}

void console_last_lines(struct console *c, unsigned lines, char *buf, size_t size)
{
	const char *text = console_text(c), *end = text + strlen(text), *from = end;
	size_t n = 0;

	while (from > text && lines > 0) {
		const char *eol = from;

		while (from > text && from[-1] != '\n')
			from--;
		if (from < eol)
			lines--;
		if (lines > 0 && from > text)
			from--;
	}
	buf[0] = '\0';
	for (const char *p = from; p < end && n + 1 < size;) {
		size_t len = strcspn(p, "\n");

		if (len > 0)
			n += (size_t)snprintf(buf + n, size - n, "%s%.*s", n ? "; " : "", (int)len,
					      p);
		p += len + (p + len < end);
	}
}

static bool find_line(struct console *c, const char *mark, char *buf, size_t size)
{
	const char *p = strstr(console_text(c), mark);

	if (!p)
		return false;
	p += strlen(mark);
	snprintf(buf, size, "%.*s", (int)strcspn(p, "\n"), p);
	return true;
}

bool console_panic(struct console *c, char *buf, size_t size)
{
	return find_line(c, "Kernel panic - not syncing: ", buf, size);
}

bool console_agent(struct console *c, char *buf, size_t size)
{
	return find_line(c, "husk-agent: fatal: ", buf, size);
}
