#include "vmm/console.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <string.h>

void console_init(struct console *c, size_t size)
{
	*c = (struct console){.size = size};
}

void console_free(struct console *c)
{
	free(c->ring);
	free(c->text);
	*c = (struct console){.size = c->size};
}

void console_put(struct console *c, const char *data, size_t len)
{
	if (!c->ring)
		c->ring = xcalloc(1, c->size);
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
		c->end = (c->end + n) % c->size;
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
