// SPDX-License-Identifier: GPL-2.0
/* The driver "nvidia": the PFs, their state, and VFs by the lab's sriov-manage only. */
#include <linux/jiffies.h>
#include "vgpu_sim.h"

bool sim_is_nvidia(const struct sim_gpu *gpu)
{
	return gpu->preset->vendor == PCI_VENDOR_ID_NVIDIA;
}

/* What a rebinding of the PF loses. MIG mode stays, its instances do not. */
void sim_nvidia_forget(struct sim_gpu *gpu)
{
	mutex_lock(&gpu->lock);
	sim_vgpu_destroy_all(gpu);
	memset(gpu->gis, 0, sizeof(gpu->gis));
	gpu->mixed = false;
	gpu->scheduler = SCHED_BEST_EFFORT;
	gpu->time_slice_ns = 0;
	mutex_unlock(&gpu->lock);
}

static int may_cycle(struct sim_gpu *gpu)
{
	int ret = 0;

	mutex_lock(&gpu->lock);
	if (atomic_read(&gpu->sessions) || sim_vgpu_running(gpu))
		ret = -EBUSY;
	mutex_unlock(&gpu->lock);
	return ret ?: sim_fault_write(gpu);
}

/* Whatever sriov_drivers_autoprobe says: the script binds the VFs itself. */
static void bind_vfs(struct sim_gpu *gpu)
{
	unsigned int vf;

	for (vf = 0; vf < gpu->vfs; vf++) {
		struct pci_dev *pdev = pci_get_domain_bus_and_slot(0, SIM_BUS(gpu->index),
								   SIM_VF_OFFSET + vf);

		if (pdev && !pdev->dev.driver && device_attach(&pdev->dev) < 0)
			pci_info(pdev, "not bound\n");
		pci_dev_put(pdev);
	}
}

static int change_vfs(struct sim_gpu *gpu, struct pci_dev *pdev, unsigned int vfs)
{
	unsigned int late = gpu->faults.types_late ? gpu->faults.late_types_ms : 0;
	int ret;

	if (gpu->vfs == vfs)
		return 0;
	if (gpu->vfs && vfs)
		return -EBUSY;
	ret = may_cycle(gpu);
	if (ret)
		return ret;
	if (!vfs) {
		sim_fault_hang(gpu);
		pci_disable_sriov(pdev);
		gpu->vfs = 0;
		sim_nvidia_forget(gpu);
		return 0;
	}
	sim_nvidia_forget(gpu);
	gpu->types_at = jiffies + msecs_to_jiffies(late);
	ret = pci_enable_sriov(pdev, vfs);
	if (ret)
		return ret;
	gpu->vfs = vfs;
	bind_vfs(gpu);
	return 0;
}

/* What sriov-manage does. */
int sim_nvidia_set_vfs(struct sim_gpu *gpu, unsigned int vfs)
{
	struct pci_dev *pdev;
	int ret = -ENODEV;

	if (vfs > gpu->preset->total_vfs)
		return -ERANGE;
	pdev = pci_get_domain_bus_and_slot(0, SIM_BUS(gpu->index), 0);
	if (!pdev)
		return -ENODEV;
	device_lock(&pdev->dev);
	if (gpu->pdev == pdev)
		ret = change_vfs(gpu, pdev, vfs);
	device_unlock(&pdev->dev);
	pci_dev_put(pdev);
	return ret;
}

/* The real driver refuses a count that its own script did not write. */
static int sim_nvidia_sriov(struct pci_dev *pdev, int vfs)
{
	pci_info(pdev, "NVRM: VFs are made with sriov-manage only\n");
	return -EPERM;
}

static int probe_vf(struct sim_gpu *gpu, struct pci_dev *pdev)
{
	struct sim_mdev_parent *parent;
	unsigned int delay = sim_types_delay_ms;

	if (gpu->preset->road == ROAD_VFIO)
		return sim_vfio_probe(gpu, pdev);
	if (gpu->faults.types_late)
		delay = gpu->faults.late_types_ms;
	parent = sim_mdev_parent_add(gpu, pdev, sim_vf_number(pdev), delay);
	if (IS_ERR(parent))
		return PTR_ERR(parent);
	pci_set_drvdata(pdev, parent);
	return 0;
}

static int sim_nvidia_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct sim_gpu *gpu = sim_gpu_of(pdev);
	char text[SIM_IDENTITY];
	int ret;

	if (!gpu)
		return -ENODEV;
	if (pdev->is_virtfn)
		return probe_vf(gpu, pdev);
	ret = pci_enable_device(pdev);
	if (ret)
		return ret;
	if (gpu->preset->road == ROAD_MDEV_PF) {
		gpu->mdev_parent = sim_mdev_parent_add(gpu, pdev, -1, 0);
		if (IS_ERR(gpu->mdev_parent)) {
			ret = PTR_ERR(gpu->mdev_parent);
			gpu->mdev_parent = NULL;
			pci_disable_device(pdev);
			return ret;
		}
	}
	snprintf(text, sizeof(text), "VGPU-SIM preset=%s pf=%s whole=1", gpu->preset->name,
		 gpu->name);
	mutex_lock(&gpu->lock);
	gpu->pdev = pdev;
	sim_identity(gpu, -1, text);
	mutex_unlock(&gpu->lock);
	return 0;
}

static void sim_nvidia_remove(struct pci_dev *pdev)
{
	struct sim_gpu *gpu = sim_gpu_of(pdev);

	if (pdev->is_virtfn) {
		if (gpu->preset->road == ROAD_VFIO)
			sim_vfio_remove(pdev);
		else
			sim_mdev_parent_remove(pci_get_drvdata(pdev));
		return;
	}
	pci_disable_sriov(pdev);
	gpu->vfs = 0;
	if (gpu->mdev_parent)
		sim_mdev_parent_remove(gpu->mdev_parent);
	gpu->mdev_parent = NULL;
	sim_nvidia_forget(gpu);
	mutex_lock(&gpu->lock);
	gpu->pdev = NULL;
	mutex_unlock(&gpu->lock);
	pci_disable_device(pdev);
}

static const struct pci_device_id sim_nvidia_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_NVIDIA, PCI_ANY_ID) },
	{ }
};

static struct pci_driver sim_nvidia_driver = {
	.name = "nvidia",
	.id_table = sim_nvidia_ids,
	.probe = sim_nvidia_probe,
	.remove = sim_nvidia_remove,
	.sriov_configure = sim_nvidia_sriov,
	/* VFIO devices take the group's DMA themselves. */
	.driver_managed_dma = true,
};

int sim_nvidia_init(void)
{
	return pci_register_driver(&sim_nvidia_driver);
}

void sim_nvidia_exit(void)
{
	pci_unregister_driver(&sim_nvidia_driver);
}
