// SPDX-License-Identifier: GPL-2.0
/* Loading: which GPUs, and what comes up and goes down in which order. */
#include "vgpu_sim.h"

MODULE_DESCRIPTION("GPUs with slices, made in software, for the lab of vgpud");
MODULE_LICENSE("GPL");

static char *gpus = "";
module_param(gpus, charp, 0444);
MODULE_PARM_DESC(gpus, "presets separated by commas: t4, a40-mdev, l40s-vfio, h100-vfio, arc-b, panther-lake, mi, gpu");

unsigned int sim_types_delay_ms = 300;
module_param_named(types_delay_ms, sim_types_delay_ms, uint, 0644);
MODULE_PARM_DESC(types_delay_ms, "how long after its VFs an a40-mdev shows their types");

unsigned int sim_vf_num = 1;
module_param_named(vf_num, sim_vf_num, uint, 0444);
MODULE_PARM_DESC(vf_num, "VFs of each mi, fixed at load");

struct sim_gpu *sim_gpus[SIM_MAX_GPUS];
unsigned int sim_nr_gpus;

static int gpu_new(const struct sim_preset *preset)
{
	struct sim_gpu *gpu = kzalloc(sizeof(*gpu), GFP_KERNEL);

	if (!gpu)
		return -ENOMEM;
	gpu->functions = kvcalloc(2 + preset->total_vfs, sizeof(*gpu->functions), GFP_KERNEL);
	if (!gpu->functions) {
		kfree(gpu);
		return -ENOMEM;
	}
	gpu->preset = preset;
	gpu->index = sim_nr_gpus;
	sim_vf_name(gpu, -1, gpu->name, sizeof(gpu->name));
	spin_lock_init(&gpu->cfg_lock);
	mutex_init(&gpu->lock);
	INIT_LIST_HEAD(&gpu->vgpus);
	gpu->next_id = 1;
	sim_faults_init(gpu);
	sim_gpus[sim_nr_gpus++] = gpu;
	return 0;
}

/* "l40s-vfio,arc-b": all are known before the first is made. */
static int parse_gpus(void)
{
	const char *at = gpus;

	while (*at) {
		size_t len = strcspn(at, ", \n");
		const struct sim_preset *preset = sim_preset_find(at, len);
		int ret;

		if (!preset) {
			pr_err("gpus: no preset \"%.*s\"\n", (int)len, at);
			return -EINVAL;
		}
		if (sim_nr_gpus == SIM_MAX_GPUS) {
			pr_err("gpus: at most %d\n", SIM_MAX_GPUS);
			return -ENOSPC;
		}
		ret = gpu_new(preset);
		if (ret)
			return ret;
		at += len;
		at += strspn(at, ", \n");
	}
	return 0;
}

static void free_gpus(void)
{
	while (sim_nr_gpus) {
		struct sim_gpu *gpu = sim_gpus[--sim_nr_gpus];

		kvfree(gpu->functions);
		kfree(gpu);
		sim_gpus[sim_nr_gpus] = NULL;
	}
}

static const struct {
	int (*init)(void);
	void (*exit)(void);
} parts[] = {
	{ sim_bus_init, sim_bus_exit },
	{ sim_mdev_init, sim_mdev_exit },
	{ sim_nvidia_init, sim_nvidia_exit },
	{ sim_xe_init, sim_xe_exit },
	{ sim_gim_init, sim_gim_exit },
	{ sim_plain_init, sim_plain_exit },
};

static void take_down(unsigned int nr_parts)
{
	unsigned int i;

	for (i = 0; i < sim_nr_gpus; i++)
		sim_faults_stop(sim_gpus[i]);
	sim_debugfs_exit();
	sim_proc_exit();
	for (i = sim_nr_gpus; i > 0; i--)
		sim_bus_remove(sim_gpus[i - 1]);
	while (nr_parts)
		parts[--nr_parts].exit();
	free_gpus();
}

static int __init sim_init(void)
{
	unsigned int i = 0, done = 0;
	int ret = parse_gpus();

	if (ret) {
		free_gpus();
		return ret;
	}
	sim_debugfs_init();
	sim_proc_init();
	for (done = 0; done < ARRAY_SIZE(parts); done++) {
		ret = parts[done].init();
		if (ret)
			goto fail;
	}
	for (i = 0; i < sim_nr_gpus; i++) {
		ret = sim_bus_add(sim_gpus[i]);
		if (ret)
			goto fail;
		sim_debugfs_add(sim_gpus[i]);
	}
	return 0;

fail:
	pr_err("cannot make the GPUs: %d\n", ret);
	take_down(done);
	return ret;
}

static void __exit sim_exit(void)
{
	take_down(ARRAY_SIZE(parts));
}

module_init(sim_init);
module_exit(sim_exit);
