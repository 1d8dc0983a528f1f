/*
 * Theory of operation.
 *
 * QEMU's TCG hands the host's time stamp counter to the guest as it is, but says nothing of its
 * frequency. A guest that measures it against an emulated timer gets it wrong on a busy host, or
 * finds no counter at all and does not go on. So we find out and say it on the guest's command line
 * (tsc_early_khz).
 *
 * Some processors and hypervisors tell by CPUID. Elsewhere the counter is measured against
 * CLOCK_MONOTONIC_RAW (which no time server slews), to some 10 parts in a million. (Linux would
 * publish its own figure in the page of a perf event, but the first perf event of a host costs 10
 * ms.)
 */
#include "vmm/tsc.h"

#include <cpuid.h>
#include <time.h>
#include <x86intrin.h>

#define MEASURE_NS 2000000
#define KHZ_MIN 100000 /* what is slower or faster than that is no counter */
#define KHZ_MAX 100000000

/* Leaf 0x15 (Intel SDM vol. 2, CPUID): crystal clock and its ratio to the counter. Leaf 0x40000010:
 * what VMware began and several hypervisors took over. */
static uint64_t from_cpuid(void)
{
	unsigned a, b, c, d;

	if (__get_cpuid(0x15, &a, &b, &c, &d) && a && b && c)
		return (uint64_t)c * b / a / 1000;
	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 31))
		return 0;
	__cpuid(0x40000000, a, b, c, d);
	if (a < 0x40000010)
		return 0;
	__cpuid(0x40000010, a, b, c, d);
	return a;
}

/* The counter and the clock at one moment: the pair of several that lie closest together. */
static void sample(uint64_t *cycles, uint64_t *ns)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 8; i++) {
		struct timespec ts;
		uint64_t before = __rdtsc(), after;

		clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
		after = __rdtsc();
		if (after - before < best) {
			best = after - before;
			*cycles = before + best / 2;
			*ns = (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
		}
	}
}

static uint64_t measured(void)
{
	uint64_t c0, c1, t0, t1;

	sample(&c0, &t0);
	do
		sample(&c1, &t1);
	while (t1 - t0 < MEASURE_NS);
	return (c1 - c0) * 1000000 / (t1 - t0);
}

uint64_t tsc_khz(void)
{
	uint64_t khz = from_cpuid();

	if (khz < KHZ_MIN || khz > KHZ_MAX)
		khz = measured();
	return khz < KHZ_MIN || khz > KHZ_MAX ? 0 : khz;
}
