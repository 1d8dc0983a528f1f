/*
 * The guest program of the peer "bare QEMU": it says that user space was reached. The bench ends
 * the machine when it hears that, as husk does, since a guest's own reset takes QEMU longer.
 */
#include <fcntl.h>
#include <unistd.h>

int main(void)
{
	int fd = open("/dev/console", O_WRONLY);

	if (write(fd, "up\n", 3) == 3)
		for (;;)
			pause();
	return 1;
}
