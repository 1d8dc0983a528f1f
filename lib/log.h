/*
 * log.h - the logger: text for people, or runc's JSON lines for engines.
 *
 * Text:  husk: error: message            (level info has no level word)
 * JSON:  {"level":"error","msg":"...","time":"2026-01-02T15:04:05Z"}   (runc, --log-format json)
 *
 * The logger is the one piece of global mutable state. It writes with one write(2) per line, so
 * that several processes may share a log file opened with O_APPEND.
 */
#ifndef HUSK_LIB_LOG_H
#define HUSK_LIB_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LVL_ERROR, LOG_LVL_WARN, LOG_LVL_INFO, LOG_LVL_DEBUG };
enum log_format { LOG_FMT_TEXT, LOG_FMT_JSON };

/* `fd` stays the caller's. `name` is the program's name in text lines and must outlive the logger.
 */
void log_setup(int fd, enum log_format format, enum log_level max, const char *name);
bool log_enabled(enum log_level level);
bool log_is_json(void);

void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define log_error(...) log_write(LOG_LVL_ERROR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LVL_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_LVL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LVL_DEBUG, __VA_ARGS__)

/* CLOCK_MONOTONIC in microseconds: the clock of every timestamp in husk. */
uint64_t now_us(void);

/* A debug line "time: <what>: N.NNN ms" with the milliseconds since `since_us`. Returns now_us().
 */
uint64_t log_elapsed(const char *what, uint64_t since_us);

#endif
