// SPDX-License-Identifier: GPL-2.0
/* The driver "xe": VFs by sriov_numvfs, and who gets how much VRAM. */
#include "vgpu_sim.h"

/* What the PF keeps, and the grain of a quota. */
#define VRAM_RESERVED	(128ULL << 20)
#define VRAM_GRAIN	(2ULL << 20)

u64 sim_xe_vram_total(struct sim_gpu *gpu)
{
	u64 fb = (u64)gpu->preset->fb_mib << 20;

	return fb ? fb - VRAM_RESERVED : 0;
}

static u64 vram_used(struct sim_gpu *gpu, const struct sim_xe_node *except)
{
	unsigned int vf;
	u64 sum = 0;

	for (vf = 1; vf <= gpu->preset->total_vfs; vf++)
		if (gpu->xe->nodes[vf] != except)
			sum += gpu->xe->nodes[vf]->vram_quota;
	return sum;
}

/* Under gpu->lock. Any quota by hand ends the fair shares for all VFs. */
int sim_xe_set_vram(struct sim_gpu *gpu, struct sim_xe_node *node, u64 bytes)
{
	if (bytes > sim_xe_vram_total(gpu))
		return -ENOSPC;
	bytes = round_up(bytes, VRAM_GRAIN);
	if (gpu->vfs)
		return -EBUSY;
	if (vram_used(gpu, node) + bytes > sim_xe_vram_total(gpu))
		return -ENOSPC;
	node->vram_quota = bytes;
	gpu->xe->manual = vram_used(gpu, NULL) != 0;
	return 0;
}

/* Under gpu->lock: what the VF's BAR says. */
void sim_xe_identify(struct sim_gpu *gpu, struct sim_xe_node *node)
{
	char text[SIM_IDENTITY], vf[16];

	if (!node->id)
		return;
	sim_vf_name(gpu, node->id - 1, vf, sizeof(vf));
	snprintf(text, sizeof(text),
		 "VGPU-SIM preset=%s pf=%s vf=%s number=%u vram=%llu exec_quantum_ms=%u preempt_timeout_us=%u",
		 gpu->preset->name, gpu->name, vf, node->id, node->vram_quota,
		 node->exec_quantum_ms, node->preempt_timeout_us);
	sim_identity(gpu, node->id - 1, text);
}

/* In a reset of the function; the caller may not sleep. */
void sim_xe_flr(struct sim_gpu *gpu, unsigned int vf)
{
	struct sim_xe *xe = READ_ONCE(gpu->xe);

	if (xe && xe->nodes[vf + 1])
		WRITE_ONCE(xe->nodes[vf + 1]->stopped, false);
}

static void provision(struct sim_gpu *gpu, unsigned int vfs)
{
	u64 fair = round_down(div_u64(sim_xe_vram_total(gpu), vfs), VRAM_GRAIN);
	unsigned int vf;

	mutex_lock(&gpu->lock);
	for (vf = 1; vf <= vfs; vf++) {
		if (!gpu->xe->manual)
			gpu->xe->nodes[vf]->vram_quota = fair;
		sim_xe_identify(gpu, gpu->xe->nodes[vf]);
	}
	mutex_unlock(&gpu->lock);
}

/* Disabling takes the quotas back, whoever had set them. */
static void unprovision(struct sim_gpu *gpu)
{
	unsigned int vf;

	mutex_lock(&gpu->lock);
	gpu->vfs = 0;
	gpu->xe->manual = false;
	for (vf = 1; vf <= gpu->preset->total_vfs; vf++) {
		gpu->xe->nodes[vf]->vram_quota = 0;
		gpu->xe->nodes[vf]->stopped = false;
	}
	mutex_unlock(&gpu->lock);
}

static void disable(struct sim_gpu *gpu, struct pci_dev *pdev)
{
	sim_xe_sysfs_unlink(gpu);
	pci_disable_sriov(pdev);
	unprovision(gpu);
}

static int sim_xe_sriov(struct pci_dev *pdev, int vfs)
{
	struct sim_gpu *gpu = sim_gpu_of(pdev);
	int ret = sim_fault_write(gpu);

	if (ret)
		return ret;
	if (!vfs) {
		sim_fault_hang(gpu);
		disable(gpu, pdev);
		return 0;
	}
	provision(gpu, vfs);
	ret = pci_enable_sriov(pdev, vfs);
	if (ret) {
		unprovision(gpu);
		return ret;
	}
	gpu->vfs = vfs;
	sim_xe_sysfs_link(gpu);
	return vfs;
}

static int sim_xe_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct sim_gpu *gpu = sim_gpu_of(pdev);
	char text[SIM_IDENTITY];
	int ret;

	if (!gpu)
		return -ENODEV;
	ret = pci_enable_device(pdev);
	if (ret)
		return ret;
	/* A VF on the host's own driver is one more GPU of the host. */
	if (pdev->is_virtfn)
		return 0;
	gpu->pdev = pdev;
	ret = sim_xe_sysfs_add(gpu);
	if (ret) {
		gpu->pdev = NULL;
		pci_disable_device(pdev);
		return ret;
	}
	snprintf(text, sizeof(text), "VGPU-SIM preset=%s pf=%s whole=1", gpu->preset->name,
		 gpu->name);
	mutex_lock(&gpu->lock);
	sim_identity(gpu, -1, text);
	mutex_unlock(&gpu->lock);
	return 0;
}

static void sim_xe_remove(struct pci_dev *pdev)
{
	struct sim_gpu *gpu = sim_gpu_of(pdev);

	if (!pdev->is_virtfn) {
		disable(gpu, pdev);
		sim_xe_sysfs_remove(gpu);
		mutex_lock(&gpu->lock);
		gpu->pdev = NULL;
		mutex_unlock(&gpu->lock);
	}
	pci_disable_device(pdev);
}

static const struct pci_device_id sim_xe_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_INTEL, 0xe211) },
	{ PCI_DEVICE(PCI_VENDOR_ID_INTEL, 0xb080) },
	{ }
};

static struct pci_driver sim_xe_driver = {
	.name = "xe",
	.id_table = sim_xe_ids,
	.probe = sim_xe_probe,
	.remove = sim_xe_remove,
	.sriov_configure = sim_xe_sriov,
};

int sim_xe_init(void)
{
	return pci_register_driver(&sim_xe_driver);
}

void sim_xe_exit(void)
{
	pci_unregister_driver(&sim_xe_driver);
}
