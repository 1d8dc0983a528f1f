/* Weights of cgroup v2 for the specification's values, which are those of v1: as runc translates
 * them, since engines check what they see against it. */
#include "oci/weights.h"

/* ---- cpu.weight: a curve through (2, 1), (1024, 100) and (262144, 10000) */

static double log2_of(uint64_t v)
{
	double x = (double)v, r = 0, bit = 1;

	while (x >= 2) {
		x /= 2;
		r += 1;
	}
	for (int i = 0; i < 40; i++) {
		x *= x;
		bit /= 2;
		if (x >= 2) {
			x /= 2;
			r += bit;
		}
	}
	return r;
}

static double exp10_of(double v)
{
	double x = v * 2.302585092994045684 / 1024, term = 1, sum = 1;

	for (int i = 1; i < 8; i++) {
		term *= x / i;
		sum += term;
	}
	for (int i = 0; i < 10; i++)
		sum *= sum;
	return sum;
}

unsigned oci_cpu_weight(uint64_t shares)
{
	double l, w;
	unsigned n;

	if (shares <= 2)
		return 1;
	if (shares >= 262144)
		return 10000;
	l = log2_of(shares);
	w = exp10_of((l * l + 125 * l) / 612 - 7.0 / 34);
	n = (unsigned)w;
	/* upwards, but for what is only rounding */
	return w - n > 1e-6 ? n + 1 : n;
}

unsigned oci_io_weight(unsigned weight)
{
	if (weight < 10)
		return 1;
	if (weight > 1000)
		return 10000;
	return 1 + (weight - 10) * 9999 / 990;
}
