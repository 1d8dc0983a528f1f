/*
 * readspeed seq FILE MIB: reads the file from its beginning, 1 MiB at a time.
 * readspeed rand FILE N: N reads of 4 KiB at random places.
 * Both past the page cache (O_DIRECT); print MB/s. readspeed clock: monotonic microseconds.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define STEP (1u << 20)

static uint64_t clock_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static int usage(void)
{
	fputs("usage: readspeed seq|rand FILE N | clock\n", stderr);
	return 2;
}

int main(int argc, char **argv)
{
	uint64_t bytes = 0, begin, state = 88172645463325252u;
	unsigned long n;
	struct stat st;
	void *buf;
	int fd;

	if (argc == 2 && strcmp(argv[1], "clock") == 0)
		return printf("%llu\n", (unsigned long long)clock_us()) < 0;
	if (argc != 4)
		return usage();
	n = strtoul(argv[3], NULL, 10);
	fd = open(argv[2], O_RDONLY | O_DIRECT);
	if (fd < 0 || fstat(fd, &st) < 0 || posix_memalign(&buf, 4096, STEP) != 0) {
		perror(argv[2]);
		return 1;
	}
	begin = clock_us();
	for (unsigned long i = 0; i < n; i++) {
		bool seq = strcmp(argv[1], "seq") == 0;
		ssize_t r;

		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		r = seq ? pread(fd, buf, STEP, (off_t)i * STEP)
			: pread(fd, buf, 4096,
				(off_t)(state % ((uint64_t)st.st_size / 4096)) * 4096);
		if (r <= 0) {
			perror("read");
			return 1;
		}
		bytes += (uint64_t)r;
	}
	printf("%.3f\n", (double)bytes / (double)(clock_us() - begin));
	return 0;
}
