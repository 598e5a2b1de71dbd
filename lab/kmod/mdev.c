// SPDX-License-Identifier: GPL-2.0
/* NVIDIA's mdev parents: the PF of a t4, each VF of an a40-mdev some time after it was made. */
#include <linux/vfio.h>
#include "vgpu_sim.h"

struct sim_mdev_type {
	struct mdev_type type;
	struct sim_mdev_parent *owner;
	const struct sim_type *sim;
	char number[12];
};

struct sim_mdev_parent {
	struct mdev_parent parent;
	struct sim_gpu *gpu;
	struct pci_dev *pdev;
	int vf;
	bool registered;
	struct delayed_work work;
	struct mdev_type **list;
	struct sim_mdev_type types[];
};

struct sim_gpu *sim_mdev_gpu(struct mdev_type *type, int *vf, const struct sim_type **sim_type)
{
	struct sim_mdev_type *t = container_of(type, struct sim_mdev_type, type);

	*vf = t->owner->vf;
	*sim_type = t->sim;
	return t->owner->gpu;
}

unsigned int sim_mdev_available(struct mdev_type *type)
{
	const struct sim_type *sim;
	struct sim_gpu *gpu;
	unsigned int left;
	int vf;

	gpu = sim_mdev_gpu(type, &vf, &sim);
	mutex_lock(&gpu->lock);
	if (vf < 0)
		left = sim_vgpu_available(gpu, sim);
	else
		left = !sim_vgpu_of_vf(gpu, vf) && sim_vgpu_creatable(gpu, sim);
	mutex_unlock(&gpu->lock);
	return left;
}

ssize_t sim_mdev_description(struct mdev_type *type, char *buf)
{
	const struct sim_type *sim;
	const char *size = "1280x1024";
	int vf, heads = 1, frl = 60;

	sim_mdev_gpu(type, &vf, &sim);
	switch (sim->name[strlen(sim->name) - 1]) {
	case 'Q':
		heads = 4;
		size = sim->fb_mib < 2048 ? "5120x2880" : "7680x4320";
		break;
	case 'B':
		heads = 4;
		frl = 45;
		size = "5120x2880";
		break;
	case 'C':
		size = "4096x2160";
		break;
	}
	return sysfs_emit(buf, "num_heads=%d, frl_config=%d, framebuffer=%uM, max_resolution=%s, max_instance=%u\n",
			  heads, frl, sim->fb_mib, size, sim->max);
}

static void register_parent(struct work_struct *work)
{
	struct sim_mdev_parent *p = container_of(to_delayed_work(work), struct sim_mdev_parent,
						 work);
	int ret;

	ret = mdev_register_parent(&p->parent, &p->pdev->dev, &sim_mdev_driver, p->list,
				   p->gpu->preset->nr_types);
	if (ret)
		pci_err(p->pdev, "no mdev parent: %d\n", ret);
	p->registered = !ret;
}

static void free_parent(struct sim_mdev_parent *p)
{
	kfree(p->list);
	kfree(p);
}

struct sim_mdev_parent *sim_mdev_parent_add(struct sim_gpu *gpu, struct pci_dev *pdev, int vf,
					    unsigned int delay_ms)
{
	unsigned int i, n = gpu->preset->nr_types;
	struct sim_mdev_parent *p = kzalloc(struct_size(p, types, n), GFP_KERNEL);

	if (!p)
		return ERR_PTR(-ENOMEM);
	p->list = kcalloc(n, sizeof(*p->list), GFP_KERNEL);
	if (!p->list) {
		kfree(p);
		return ERR_PTR(-ENOMEM);
	}
	p->gpu = gpu;
	p->pdev = pdev;
	p->vf = vf;
	for (i = 0; i < n; i++) {
		struct sim_mdev_type *t = &p->types[i];

		t->owner = p;
		t->sim = &gpu->preset->types[i];
		snprintf(t->number, sizeof(t->number), "%u", t->sim->id);
		t->type.sysfs_name = t->number;
		t->type.pretty_name = t->sim->name;
		p->list[i] = &t->type;
	}
	INIT_DELAYED_WORK(&p->work, register_parent);
	if (delay_ms)
		schedule_delayed_work(&p->work, msecs_to_jiffies(delay_ms));
	else
		register_parent(&p->work.work);
	return p;
}

void sim_mdev_parent_remove(struct sim_mdev_parent *p)
{
	cancel_delayed_work_sync(&p->work);
	if (p->registered)
		mdev_unregister_parent(&p->parent);
	free_parent(p);
}

int sim_mdev_init(void)
{
	return mdev_register_driver(&sim_mdev_driver);
}

void sim_mdev_exit(void)
{
	mdev_unregister_driver(&sim_mdev_driver);
}
