// SPDX-License-Identifier: GPL-2.0
/*
 * Placement ids of time-sliced vGPUs, in units of one GB of nominal
 * framebuffer, by the rule of NVIDIA's open kernel driver: the framebuffer is
 * halved again and again; where there are p parts, types with room for 2p
 * instances take both ends of each part, types whose count lies between p and
 * 2p take the outer end.
 */
#include "placement.h"

#define MAX_PARTS 24

static bool denied(enum placement_arch arch, unsigned int region,
		   unsigned int size, unsigned int id)
{
	if (region != 48 || size != 1)
		return false;
	if (arch == ARCH_AMPERE)
		return id == 8 || id == 32;
	if (arch == ARCH_ADA || arch == ARCH_HOPPER)
		return id % 6 == 2 || id % 6 == 3;
	return false;
}

static bool is_power_of_two(unsigned int n)
{
	return n && !(n & (n - 1));
}

static unsigned int power_of_two_below(unsigned int n)
{
	unsigned int p = 1;

	while (p * 2 < n)
		p *= 2;
	return p;
}

struct walk {
	enum placement_arch arch;
	unsigned int region;
	unsigned int size;
	unsigned int max;
	struct placement_list *out;
};

static void add(struct walk *w, unsigned int id)
{
	unsigned int i = w->out->count;

	if (i == PLACEMENT_MAX || denied(w->arch, w->region, w->size, id))
		return;
	/* Sorted, each once. */
	while (i > 0 && w->out->ids[i - 1] > id)
		i--;
	if (i > 0 && w->out->ids[i - 1] == id)
		return;
	for (unsigned int j = w->out->count; j > i; j--)
		w->out->ids[j] = w->out->ids[j - 1];
	w->out->ids[i] = id;
	w->out->count++;
}

/* One part [lo, hi) of "parts"; the depth is at most log2(MAX_PARTS). */
static void halve(struct walk *w, unsigned int lo, unsigned int hi,
		  unsigned int parts, bool left)
{
	unsigned int middle = lo + (hi - lo) / 2;

	if (parts > MAX_PARTS)
		return;
	if (w->max == 2 * parts) {
		add(w, lo);
		add(w, hi - w->size);
	} else if (!is_power_of_two(w->max) &&
		   power_of_two_below(w->max) == parts) {
		add(w, left ? lo : hi - w->size);
	}
	halve(w, lo, middle, parts * 2, true);
	halve(w, middle, hi, parts * 2, false);
}

/* How many of one size a GPU carries when all are of that size. */
unsigned int placement_max_instances(unsigned int region, unsigned int size,
				     unsigned int limit)
{
	unsigned int n = region / size;

	return n > limit ? limit : n;
}

/* The ids of a size where sizes are mixed. */
void placement_mixed(enum placement_arch arch, unsigned int region,
		     unsigned int size, unsigned int max,
		     struct placement_list *out)
{
	struct walk w = { arch, region, size, max, out };

	out->count = 0;
	if (max == 1)
		add(&w, 0);
	else
		halve(&w, 0, region, 1, true);
}

/* The ids of a size where all vGPUs of the GPU have that size. */
void placement_equal(unsigned int size, unsigned int max,
		     struct placement_list *out)
{
	out->count = max > PLACEMENT_MAX ? PLACEMENT_MAX : max;
	for (unsigned int j = 0; j < out->count; j++)
		out->ids[j] = j * size;
}

bool placement_overlap(unsigned int a, unsigned int a_size, unsigned int b,
		       unsigned int b_size)
{
	return a < b + b_size && b < a + a_size;
}
