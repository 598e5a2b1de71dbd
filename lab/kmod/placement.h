/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where time-sliced vGPUs of a size may start. Pure: the same file compiles in
 * user space (placement_test.c).
 */
#ifndef VGPU_SIM_PLACEMENT_H
#define VGPU_SIM_PLACEMENT_H

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <stdbool.h>
#endif

#define PLACEMENT_MAX 48

enum placement_arch {
	ARCH_TURING,
	ARCH_AMPERE,
	ARCH_ADA,
	ARCH_HOPPER,
};

struct placement_list {
	unsigned int count;
	unsigned int ids[PLACEMENT_MAX];
};

unsigned int placement_max_instances(unsigned int region, unsigned int size,
				     unsigned int limit);
void placement_mixed(enum placement_arch arch, unsigned int region,
		     unsigned int size, unsigned int max,
		     struct placement_list *out);
void placement_equal(unsigned int size, unsigned int max,
		     struct placement_list *out);
bool placement_overlap(unsigned int a, unsigned int a_size, unsigned int b,
		       unsigned int b_size);

#endif
