#include "shim/console.h"
#include "lib/cleanup.h"
#include "lib/fds.h"

#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>

bool is_socket(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

int socket_connect(const char *path, const char *flag, struct error *err)
{
	cleanup_close int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cleanup_close int at = open(path, O_PATH | O_CLOEXEC);
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	if (s < 0 || at < 0)
		return error_errno(err, "%s %s", flag, path);
	/* Through the open file: paths longer than sun_path work too. */
	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d", at);
	if (connect(s, (struct sockaddr *)&a, sizeof(a)) < 0)
		return error_errno(err, "%s %s", flag, path);
	return steal_fd(&s);
}

int console_connect(const char *path, struct error *err)
{
	return socket_connect(path, "--console-socket", err);
}

int socket_send_fd(int sock, int fd, const char *name, struct error *err)
{
	struct iovec iov = {(char *)name, strlen(name)};

	if (fds_send(sock, &iov, 1, &fd, 1, 0) < 0)
		return error_errno(err, "send a descriptor");
	return 0;
}

int console_make(int sock, unsigned width, unsigned height, struct error *err)
{
	cleanup_close int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	cleanup_close int slave = -1;
	struct winsize ws = {.ws_row = (unsigned short)height, .ws_col = (unsigned short)width};
	struct termios t;
	char name[64];

	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0 ||
	    ptsname_r(master, name, sizeof(name)) != 0)
		return error_errno(err, "make a pty");
	slave = open(name, O_RDWR | O_CLOEXEC); /* becomes the controlling terminal */
	if (slave < 0)
		return error_errno(err, "open %s", name);
	if (width && height)
		ioctl(master, TIOCSWINSZ, &ws);
	if (tcgetattr(slave, &t) == 0) {
		cfmakeraw(&t);
		tcsetattr(slave, TCSANOW, &t);
	}
	if (socket_send_fd(sock, master, name, err) < 0)
		return error_wrap(err, "--console-socket");
	return steal_fd(&slave);
}

/* ---- the caller's terminal */

static struct {
	int fd;
	bool raw;
	struct termios saved;
} tty = {-1, false, {0}};

void tty_raw(int fd)
{
	struct termios t;

	if (tcgetattr(fd, &tty.saved) < 0)
		return;
	t = tty.saved;
	cfmakeraw(&t);
	tty.fd = fd;
	tty.raw = true;
	atexit(tty_restore);
	tcsetattr(fd, TCSANOW, &t);
}

void tty_restore(void)
{
	if (tty.raw)
		tcsetattr(tty.fd, TCSANOW, &tty.saved);
	tty.raw = false;
}
