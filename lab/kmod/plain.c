// SPDX-License-Identifier: GPL-2.0
/* A GPU without slices and its audio function, both with a driver of the host's. */
#include "vgpu_sim.h"

static void identify(struct sim_gpu *gpu, struct pci_dev *pdev)
{
	char text[SIM_IDENTITY];

	snprintf(text, sizeof(text), "VGPU-SIM preset=%s pf=%s whole=1", gpu->preset->name,
		 gpu->name);
	mutex_lock(&gpu->lock);
	gpu->pdev = pdev;
	sim_identity(gpu, -1, text);
	mutex_unlock(&gpu->lock);
}

static int sim_plain_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct sim_gpu *gpu = sim_gpu_of(pdev);
	int ret;

	if (!gpu)
		return -ENODEV;
	ret = pci_enable_device(pdev);
	if (!ret && !PCI_FUNC(pdev->devfn))
		identify(gpu, pdev);
	return ret;
}

static void sim_plain_remove(struct pci_dev *pdev)
{
	struct sim_gpu *gpu = sim_gpu_of(pdev);

	sim_fault_hang(gpu);
	if (gpu->pdev == pdev)
		gpu->pdev = NULL;
	pci_disable_device(pdev);
}

static const struct pci_device_id sim_amdgpu_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_ATI, 0x73bf) },
	{ }
};

static const struct pci_device_id sim_audio_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_ATI, 0xab28) },
	{ }
};

static struct pci_driver sim_amdgpu_driver = {
	.name = "amdgpu",
	.id_table = sim_amdgpu_ids,
	.probe = sim_plain_probe,
	.remove = sim_plain_remove,
};

static struct pci_driver sim_audio_driver = {
	.name = "snd_hda_intel",
	.id_table = sim_audio_ids,
	.probe = sim_plain_probe,
	.remove = sim_plain_remove,
};

int sim_plain_init(void)
{
	int ret = pci_register_driver(&sim_amdgpu_driver);

	if (ret)
		return ret;
	ret = pci_register_driver(&sim_audio_driver);
	if (ret)
		pci_unregister_driver(&sim_amdgpu_driver);
	return ret;
}

void sim_plain_exit(void)
{
	pci_unregister_driver(&sim_audio_driver);
	pci_unregister_driver(&sim_amdgpu_driver);
}
