#include "lib/log.h"
#include "lib/cleanup.h"

#include <stdarg.h>
#include <string.h>
#include <time.h>

static struct {
	int fd;
	enum log_format format;
	enum log_level max;
	const char *name;
} logger = {STDERR_FILENO, LOG_FMT_TEXT, LOG_LVL_INFO, "husk"};

static const char *const level_names[] = {"error", "warning", "info", "debug"};

void log_setup(int fd, enum log_format format, enum log_level max, const char *name)
{
	logger.fd = fd;
	logger.format = format;
	logger.max = max;
	logger.name = name;
}

bool log_enabled(enum log_level level)
{
	return level <= logger.max;
}

bool log_is_json(void)
{
	return logger.format == LOG_FMT_JSON;
}

uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t log_elapsed(const char *what, uint64_t since_us)
{
	uint64_t now = now_us(), d = now - since_us;

	log_debug("time: %s: %llu.%03llu ms", what, (unsigned long long)(d / 1000),
		  (unsigned long long)(d % 1000));
	return now;
}

/* Appends `s` as the inside of a JSON string; returns the new length. */
static size_t put_escaped(char *buf, size_t n, size_t size, const char *s)
{
	for (; *s && n + 8 < size; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\') {
			buf[n++] = '\\';
			buf[n++] = (char)c;
		} else if (c < ' ') {
			n += (size_t)snprintf(buf + n, size - n, "\\u%04x", c);
		} else {
			buf[n++] = (char)c;
		}
	}
	return n;
}

static size_t format_json(char *buf, size_t size, enum log_level level, const char *msg)
{
	char when[32];
	time_t t = time(NULL);
	struct tm tm;
	size_t n;

	gmtime_r(&t, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	n = (size_t)snprintf(buf, size, "{\"level\":\"%s\",\"msg\":\"", level_names[level]);
	n = put_escaped(buf, n, size - 64, msg);
	n += (size_t)snprintf(buf + n, size - n, "\",\"time\":\"%s\"}\n", when);
	return n;
}

static size_t format_text(char *buf, size_t size, enum log_level level, const char *msg)
{
	const char *word = level == LOG_LVL_INFO ? "" : level_names[level];
	const char *sep = level == LOG_LVL_INFO ? "" : ": ";
	int n = snprintf(buf, size - 1, "%s: %s%s%s", logger.name, word, sep, msg);
	size_t len = n < 0 ? 0 : (size_t)n < size - 1 ? (size_t)n : size - 2;

	buf[len++] = '\n';
	return len;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	char msg[3072], line[4096];
	size_t n;
	va_list ap;

	if (level > logger.max || logger.fd < 0)
		return;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	if (logger.format == LOG_FMT_JSON)
		n = format_json(line, sizeof(line), level, msg);
	else
		n = format_text(line, sizeof(line), level, msg);
	if (write(logger.fd, line, n) < 0)
		return; /* nowhere left to complain */
}
