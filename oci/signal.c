#include "oci/signal.h"
#include "lib/cleanup.h"

#include <signal.h>
#include <string.h>

#define RT_FIRST                                                 \
	34 /* SIGRTMIN of glibc, which keeps 32 and 33 to itself \
	    */
#define RT_LAST 64

static const struct {
	const char *name;
	int number;
} names[] = {
	{"HUP", SIGHUP},       {"INT", SIGINT},	    {"QUIT", SIGQUIT},	{"ILL", SIGILL},
	{"TRAP", SIGTRAP},     {"ABRT", SIGABRT},   {"IOT", SIGABRT},	{"BUS", SIGBUS},
	{"FPE", SIGFPE},       {"KILL", SIGKILL},   {"USR1", SIGUSR1},	{"SEGV", SIGSEGV},
	{"USR2", SIGUSR2},     {"PIPE", SIGPIPE},   {"ALRM", SIGALRM},	{"TERM", SIGTERM},
	{"STKFLT", SIGSTKFLT}, {"CHLD", SIGCHLD},   {"CLD", SIGCHLD},	{"CONT", SIGCONT},
	{"STOP", SIGSTOP},     {"TSTP", SIGTSTP},   {"TTIN", SIGTTIN},	{"TTOU", SIGTTOU},
	{"URG", SIGURG},       {"XCPU", SIGXCPU},   {"XFSZ", SIGXFSZ},	{"VTALRM", SIGVTALRM},
	{"PROF", SIGPROF},     {"WINCH", SIGWINCH}, {"IO", SIGIO},	{"POLL", SIGIO},
	{"PWR", SIGPWR},       {"SYS", SIGSYS},	    {"UNUSED", SIGSYS}, {"RTMIN", RT_FIRST},
	{"RTMAX", RT_LAST},
};

/* One or two digits and nothing else, or -1. */
static int small_number(const char *s)
{
	size_t n = strlen(s);

	if (n < 1 || n > 2 || strspn(s, "0123456789") != n)
		return -1;
	return atoi(s);
}

static int real_time(const char *s)
{
	int offset = small_number(s + 6);
	int sig = -1;

	if (offset < 0)
		return -1;
	if (strncasecmp(s, "RTMIN+", 6) == 0)
		sig = RT_FIRST + offset;
	else if (strncasecmp(s, "RTMAX-", 6) == 0)
		sig = RT_LAST - offset;
	return sig >= RT_FIRST && sig <= RT_LAST ? sig : -1;
}

static int parse(const char *s)
{
	int n = small_number(s);

	if (n >= 0)
		return n <= RT_LAST ? n : -1;
	if (strncasecmp(s, "SIG", 3) == 0)
		s += 3;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (strcasecmp(names[i].name, s) == 0)
			return names[i].number;
	return strlen(s) > 6 ? real_time(s) : -1;
}

int oci_signal_parse(const char *s, struct error *err)
{
	int n = parse(s);

	return n >= 0 ? n : error_kind(err, ERR_USAGE, "unknown signal \"%.64s\"", s);
}
