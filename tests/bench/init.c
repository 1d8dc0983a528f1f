/*
 * The guest program of the peers "bare QEMU". It says that user space was reached; then it either
 * ends the machine itself, by the one way that a microvm has (a reset, which -no-reboot makes the
 * end of QEMU), or waits for the bench to end QEMU from outside, as husk does.
 */
#include <fcntl.h>
#include <sys/reboot.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int fd = open("/dev/console", O_WRONLY);

	(void)argv;
	if (write(fd, "up\n", 3) != 3)
		return 1;
	if (argc > 1)
		reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}
