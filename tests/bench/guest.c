/*
 * The guest program of the bench "kvm". It says that user space was reached in every way that one
 * of the VMMs can show: a byte on the serial port, a connection to the host. Then, by BENCH among
 * the kernel's parameters:
 *
 *	off	ends the machine, by a reset
 *	disk	reads /dev/vda, and writes a line of figures to the serial port
 *	(none)	waits to be ended from outside
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define COM1 0x3f8
#define MARK 0x16 /* in no message of anybody */
#define PORT_READY 1023

#define CHUNK (1u << 20)
#define READ_BYTES (256ull << 20)
#define RANDOM_READS 4000

static sigjmp_buf no_port;

static void on_fault(int sig)
{
	siglongjmp(no_port, sig);
}

/* The serial port of a PC, without a driver: there may be none, and no right to it. */
static void to_serial_port(const char *s)
{
	signal(SIGSEGV, on_fault);
	if (sigsetjmp(no_port, 1))
		return;
	/* A kernel without ioperm(2) may let everybody use every port. */
	(void)!ioperm(COM1, 1, 1);
	for (; *s; s++)
		outb((unsigned char)*s, COM1);
}

/* What husk's agent does when it listens. */
static void by_vsock(void)
{
	const struct sockaddr_vm host = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = PORT_READY};
	int s = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (s >= 0)
		(void)!connect(s, (const struct sockaddr *)&host, sizeof(host));
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Past the guest's own page cache. -1 if there is no such disk. */
static int read_disk(char *buf, double *mb_s, double *ops_s)
{
	int fd = open("/dev/vda", O_RDONLY | O_DIRECT);
	double t = seconds();
	uint32_t rnd = 1;

	if (fd < 0)
		return -1;
	for (uint64_t at = 0; at < READ_BYTES; at += CHUNK)
		if (pread(fd, buf, CHUNK, (off_t)at) != (ssize_t)CHUNK)
			return -1;
	*mb_s = (double)READ_BYTES / 1e6 / (seconds() - t);
	t = seconds();
	for (int i = 0; i < RANDOM_READS; i++) {
		rnd = rnd * 1664525 + 1013904223;
		if (pread(fd, buf, 4096, (off_t)(rnd % (READ_BYTES / 4096)) * 4096) != 4096)
			return -1;
	}
	*ops_s = RANDOM_READS / (seconds() - t);
	return 0;
}

static void bench_disk(void)
{
	double mb_s = 0, ops_s = 0;
	char *buf = aligned_alloc(4096, CHUNK);
	char line[64];

	mkdir("/dev", 0755);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	/* Once for the host's page cache. */
	if (!buf || read_disk(buf, &mb_s, &ops_s) < 0 || read_disk(buf, &mb_s, &ops_s) < 0)
		snprintf(line, sizeof(line), "<none>\n");
	else
		snprintf(line, sizeof(line), "<%.0f %.0f>\n", mb_s, ops_s);
	to_serial_port(line);
}

int main(void)
{
	const char mark[] = {MARK, '\0'};
	const char *what = getenv("BENCH");

	to_serial_port(mark);
	by_vsock();
	if (what && strcmp(what, "off") == 0)
		reboot(RB_AUTOBOOT);
	if (what && strcmp(what, "disk") == 0)
		bench_disk();
	for (;;)
		pause();
}
