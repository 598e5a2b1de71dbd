// SPDX-License-Identifier: GPL-2.0
/*
 * GPU instances of a GPU in MIG mode: of seven compute and eight memory slices,
 * each instance where its profile may start. Callers hold gpu->lock.
 */
#include <linux/seq_file.h>
#include "vgpu_sim.h"

#define COMPUTE_SLICES	7
#define MEMORY_SLICES	8
/* Of the boards with 80 GB. */
#define GB_PER_SLICE	10

static struct sim_gi *slot(struct sim_gpu *gpu, unsigned int id)
{
	return id && id <= SIM_MAX_GIS && gpu->gis[id - 1].type ? &gpu->gis[id - 1] : NULL;
}

static bool carries(struct sim_gpu *gpu, unsigned int id)
{
	struct sim_vgpu *vgpu;

	list_for_each_entry(vgpu, &gpu->vgpus, node)
		if (vgpu->gi == id)
			return true;
	return false;
}

static bool is_free(struct sim_gpu *gpu, unsigned int start, unsigned int size)
{
	unsigned int i;

	for (i = 0; i < SIM_MAX_GIS; i++)
		if (gpu->gis[i].type && placement_overlap(start, size, gpu->gis[i].start,
							  gpu->gis[i].size))
			return false;
	return true;
}

static const struct sim_type *profile_find(struct sim_gpu *gpu, const char *profile)
{
	unsigned int i;

	for (i = 0; i < gpu->preset->nr_types; i++)
		if (gpu->preset->types[i].gi && !strcmp(gpu->preset->types[i].gi, profile))
			return &gpu->preset->types[i];
	return NULL;
}

unsigned int sim_gi_count(struct sim_gpu *gpu, const struct sim_type *type)
{
	unsigned int i, n = 0;

	for (i = 0; i < SIM_MAX_GIS; i++)
		n += gpu->gis[i].type == type;
	return n;
}

bool sim_gi_any(struct sim_gpu *gpu)
{
	unsigned int id;

	for (id = 1; id <= SIM_MAX_GIS; id++)
		if (slot(gpu, id))
			return true;
	return false;
}

/* The lowest number of an instance of the type's profile that carries nothing; 0 for none. */
unsigned int sim_gi_free(struct sim_gpu *gpu, const struct sim_type *type)
{
	unsigned int id;

	for (id = 1; id <= SIM_MAX_GIS; id++)
		if (slot(gpu, id) && slot(gpu, id)->type == type && !carries(gpu, id))
			return id;
	return 0;
}

/* Its number, or an error. */
int sim_gi_create(struct sim_gpu *gpu, const char *profile)
{
	const struct sim_type *type = profile_find(gpu, profile);
	unsigned int compute, gb, size, start, id;

	if (!gpu->mig)
		return -EOPNOTSUPP;
	if (!type || sscanf(profile, "%ug.%ugb", &compute, &gb) != 2)
		return -EINVAL;
	if (sim_gi_count(gpu, type) >= type->gis)
		return -ENOSPC;
	for (id = 1; id <= SIM_MAX_GIS && slot(gpu, id); id++)
		;
	size = gb / GB_PER_SLICE;
	for (start = 0; start + compute <= COMPUTE_SLICES && start + size <= MEMORY_SLICES;
	     start += size) {
		if (id > SIM_MAX_GIS || !is_free(gpu, start, size))
			continue;
		gpu->gis[id - 1] = (struct sim_gi) { .type = type, .start = start, .size = size };
		return id;
	}
	return -ENOSPC;
}

int sim_gi_destroy(struct sim_gpu *gpu, unsigned int id)
{
	if (!slot(gpu, id))
		return -ENOENT;
	if (carries(gpu, id) || gpu->process)
		return -EBUSY;
	gpu->gis[id - 1].type = NULL;
	return 0;
}

/* As many of a profile as wished. */
int sim_gi_set_count(struct sim_gpu *gpu, const char *profile, unsigned int count)
{
	const struct sim_type *type = profile_find(gpu, profile);
	unsigned int before, id;
	int ret = 0;

	if (!gpu->mig)
		return -EOPNOTSUPP;
	if (!type)
		return -EINVAL;
	before = sim_gi_count(gpu, type);
	while (ret >= 0 && sim_gi_count(gpu, type) < count)
		ret = sim_gi_create(gpu, profile);
	if (ret < 0)
		count = before;
	while (sim_gi_count(gpu, type) > count) {
		id = sim_gi_free(gpu, type);
		if (!id)
			return -EBUSY;
		sim_gi_destroy(gpu, id);
	}
	return min(ret, 0);
}

void sim_gi_show(struct seq_file *s, struct sim_gpu *gpu)
{
	unsigned int i;

	for (i = 0; i < SIM_MAX_GIS; i++)
		if (gpu->gis[i].type)
			seq_printf(s, "gi id=%u profile=%u start=%u size=%u name=%s\n", i + 1,
				   gpu->gis[i].type->gi_id, gpu->gis[i].start,
				   gpu->gis[i].size, gpu->gis[i].type->gi);
}
