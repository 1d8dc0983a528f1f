/*
 * The guest program of the peer "bare QEMU": it proves that user space was reached, and ends the
 * machine by the quickest way that QEMU has (isa-debug-exit), so that the comparison is with
 * nothing but QEMU and the kernel.
 */
#include <sys/io.h>
#include <unistd.h>

int main(void)
{
	if (ioperm(0xf4, 4, 1) == 0)
		outb(0x10, 0xf4);
	for (;;)
		pause();
}
