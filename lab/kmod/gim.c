// SPDX-License-Identifier: GPL-2.0
/* The driver "gim": its VFs are made at probe, as many as vf_num says, and stay. */
#include "vgpu_sim.h"

static ssize_t accelerator_partition_profile_show(struct device *dev,
						  struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", sim_gpu_of(to_pci_dev(dev))->vfs > 1 ? "CPX" : "SPX");
}
static DEVICE_ATTR_RO(accelerator_partition_profile);

static ssize_t memory_partition_mode_show(struct device *dev, struct device_attribute *attr,
					  char *buf)
{
	return sysfs_emit(buf, "%s\n", sim_gpu_of(to_pci_dev(dev))->vfs > 1 ? "NPS4" : "NPS1");
}
static DEVICE_ATTR_RO(memory_partition_mode);

static struct attribute *sim_gim_attrs[] = {
	&dev_attr_accelerator_partition_profile.attr,
	&dev_attr_memory_partition_mode.attr,
	NULL
};

static const struct attribute_group sim_gim_group = { .attrs = sim_gim_attrs };

static void identify(struct sim_gpu *gpu, unsigned int vfs)
{
	char text[SIM_IDENTITY], name[16];
	unsigned int vf;

	mutex_lock(&gpu->lock);
	for (vf = 0; vf < vfs; vf++) {
		sim_vf_name(gpu, vf, name, sizeof(name));
		snprintf(text, sizeof(text), "VGPU-SIM preset=%s pf=%s vf=%s number=%u fb_mib=%u",
			 gpu->preset->name, gpu->name, name, vf, gpu->preset->fb_mib / vfs);
		sim_identity(gpu, vf, text);
	}
	mutex_unlock(&gpu->lock);
}

static int sim_gim_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct sim_gpu *gpu = sim_gpu_of(pdev);
	unsigned int vfs;
	int ret;

	if (!gpu || pdev->is_virtfn)
		return -ENODEV;
	vfs = clamp(sim_vf_num, 1U, gpu->preset->total_vfs);
	ret = pci_enable_device(pdev);
	if (ret)
		return ret;
	gpu->pdev = pdev;
	identify(gpu, vfs);
	ret = pci_enable_sriov(pdev, vfs);
	if (ret)
		goto disable;
	gpu->vfs = vfs;
	ret = device_add_group(&pdev->dev, &sim_gim_group);
	if (ret)
		goto disable_vfs;
	return 0;

disable_vfs:
	pci_disable_sriov(pdev);
	gpu->vfs = 0;
disable:
	gpu->pdev = NULL;
	pci_disable_device(pdev);
	return ret;
}

static void sim_gim_remove(struct pci_dev *pdev)
{
	struct sim_gpu *gpu = sim_gpu_of(pdev);

	device_remove_group(&pdev->dev, &sim_gim_group);
	sim_fault_hang(gpu);
	pci_disable_sriov(pdev);
	mutex_lock(&gpu->lock);
	gpu->vfs = 0;
	gpu->pdev = NULL;
	mutex_unlock(&gpu->lock);
	pci_disable_device(pdev);
}

/* The PF only: a guest's VF has another id, which "gim" does not drive. */
static const struct pci_device_id sim_gim_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_ATI, 0x74a1) },
	{ }
};

/* No sriov_configure, as the real one: a write to sriov_numvfs answers ENOENT. */
static struct pci_driver sim_gim_driver = {
	.name = "gim",
	.id_table = sim_gim_ids,
	.probe = sim_gim_probe,
	.remove = sim_gim_remove,
};

int sim_gim_init(void)
{
	return pci_register_driver(&sim_gim_driver);
}

void sim_gim_exit(void)
{
	pci_unregister_driver(&sim_gim_driver);
}
