// SPDX-License-Identifier: GPL-2.0
/*
 * Prints the mixed-mode placement ids in user space:
 * placement_test ARCH REGION SIZE MAX, with ARCH 0 Turing, 1 Ampere, 2 Ada,
 * 3 Hopper.
 */
#include <stdio.h>
#include <stdlib.h>
#include "placement.h"

int main(int argc, char **argv)
{
	struct placement_list list;

	if (argc != 5)
		return 2;
	placement_mixed(atoi(argv[1]), atoi(argv[2]), atoi(argv[3]),
			atoi(argv[4]), &list);
	for (unsigned int i = 0; i < list.count; i++)
		printf("%s%u", i ? " " : "", list.ids[i]);
	printf("\n");
	return 0;
}
